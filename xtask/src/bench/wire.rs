//! The smallest client of the machine API that there is: one connection, one call of `version` over mTLS, HTTP/2 by hand.
//!
//! It asks every few milliseconds whether a node that is starting answers. A process per question, or a client that connects
//! again at its own pace, would measure itself.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

/// For connecting, and for each read.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds and flags of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Where to ask, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Door {
    /// The first endpoint and the identity of a client configuration that orlopctl wrote.
    pub(crate) fn of(talosconfig: &Path) -> Result<Self> {
        let text = fs::read_to_string(talosconfig).with_context(|| format!("reading {}", talosconfig.display()))?;
        Self::parse(&text).with_context(|| talosconfig.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
            pem(value.with_context(|| format!("there is no {name}"))?).with_context(|| format!("in {name}"))
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&field("ca")?)?)?;
        // The format's name for Ed25519 keys is its own; what is in it is PKCS #8.
        let key = String::from_utf8(field("key")?)?.replace("ED25519 PRIVATE KEY", "PRIVATE KEY");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![CertificateDer::from_pem_slice(&field("crt")?)?], PrivateKeyDer::from_pem_slice(key.as_bytes())?)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let list = text.split_once("endpoints:").context("there are no endpoints")?.1;
        let first = list.split_whitespace().map(|word| word.trim_matches(['-', '[', ']', '"', ','])).find(|word| !word.is_empty());
        Ok(Self { address: first.context("there is no endpoint")?.parse().context("the first endpoint")?, tls: Arc::new(tls) })
    }

    /// Asks for the version once; an error when there is no answer.
    pub(crate) fn version(&self) -> Result<()> {
        let tcp = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(self.address.ip());
        let mut stream = StreamOwned::new(ClientConnection::new(self.tls.clone(), name)?, tcp);
        stream.write_all(&request(&self.address.to_string()))?;
        loop {
            let (kind, flags, payload) = frame(&mut stream)?;
            match kind {
                // Five bytes of gRPC's framing, then the message.
                DATA if payload.len() > 5 => {
                    ensure!(payload.windows(3).any(|part| part == b"v1."), "the answer holds no version");
                    return Ok(());
                }
                HEADERS if flags & END_STREAM != 0 => bail!("the call was refused"),
                GOAWAY => bail!("the connection was closed"),
                _ => {}
            }
        }
    }
}

/// A complete `MachineService/Version` call on stream 1.
fn request(authority: &str) -> Vec<u8> {
    let mut headers = vec![0x83, 0x87]; // :method POST, :scheme https (RFC 7541, appendix A)
    literal(&mut headers, &[0x04], "/machine.MachineService/Version");
    literal(&mut headers, &[0x01], authority);
    literal(&mut headers, &[0x0f, 0x10], "application/grpc");
    literal(&mut headers, b"\x00\x02te", "trailers");
    let mut bytes = PREFACE.to_vec();
    push_frame(&mut bytes, SETTINGS, 0, 0, &[]);
    push_frame(&mut bytes, HEADERS, END_HEADERS, 1, &headers);
    // An empty message: not compressed, zero bytes long.
    push_frame(&mut bytes, DATA, END_STREAM, 1, &[0; 5]);
    bytes
}

/// A header that is not indexed: its name's code, then the value, shorter than 127 bytes.
fn literal(headers: &mut Vec<u8>, name: &[u8], value: &str) {
    headers.extend_from_slice(name);
    headers.push(u8::try_from(value.len()).unwrap_or(0x7e));
    headers.extend_from_slice(value.as_bytes());
}

fn push_frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// Kind, flags and payload of the next frame.
fn frame(from: &mut impl Read) -> Result<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    ensure!(length <= 1 << 16, "a frame of {length} bytes");
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload)?;
    Ok((head[3], head[4], payload))
}

/// The PEM in a base64 field.
fn pem(field: &str) -> Result<Vec<u8>> {
    Ok(base64::engine::general_purpose::STANDARD.decode(field.trim_matches(['"', '\'']))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, DATA, END_STREAM, 1, b"hello");
        push_frame(&mut bytes, GOAWAY, 0, 0, &[]);
        let mut from = bytes.as_slice();
        assert_eq!(frame(&mut from).unwrap(), (DATA, END_STREAM, b"hello".to_vec()));
        assert_eq!(frame(&mut from).unwrap(), (GOAWAY, 0, Vec::new()));
        assert!(frame(&mut from).is_err());
    }

    #[test]
    fn a_request_is_preface_settings_headers_and_an_empty_message() {
        let bytes = request("127.0.0.1:1");
        let mut from = bytes.strip_prefix(PREFACE).unwrap();
        assert_eq!(frame(&mut from).unwrap(), (SETTINGS, 0, Vec::new()));
        let (kind, flags, headers) = frame(&mut from).unwrap();
        assert_eq!((kind, flags), (HEADERS, END_HEADERS));
        assert!(headers.windows(31).any(|part| part == b"/machine.MachineService/Version"));
        assert_eq!(frame(&mut from).unwrap(), (DATA, END_STREAM, vec![0; 5]));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(format!("{:#}", Door::parse("contexts: {}").unwrap_err()).contains("there is no ca"));
        assert_eq!(pem("aGk=").unwrap(), b"hi");
        assert!(pem("a b").is_err());
    }
}
