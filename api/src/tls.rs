//! TLS as every connection of ours uses it: HTTP/2 by ALPN, the ring provider, certificates from PEM.
//!
//! What this is not: issuing certificates (`pki`), or deciding what a client certificate may do (`node`).

use std::{error::Error, sync::Arc};

use base64::Engine as _;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

/// Why certificates or keys could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text is no PEM, or holds no certificate.
    #[error("{what}: expected PEM with at least one CERTIFICATE, found {found}")]
    NoCertificate {
        /// Which input.
        what: &'static str,
        /// What was there instead.
        found: String,
    },
    /// The text holds no private key that can be read.
    #[error("{what}: expected a PEM private key (PKCS#8, SEC1 or PKCS#1): {reason}")]
    NoKey {
        /// Which input.
        what: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// The parts do not go together, or use an algorithm that is not supported.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[source] rustls::Error),
    /// An accepted CA certificate cannot anchor trust.
    #[error("CA certificate cannot be used: {0}")]
    Anchor(String),
    /// A fingerprint is not the base64 form of 32 bytes.
    #[error("fingerprint {0:?}: expected the base64 form of a SHA-256 (44 characters)")]
    Fingerprint(String),
}

/// A certificate chain with its private key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Identity {
    /// Reads both from PEM. Ed25519 keys may carry the label `ED25519 PRIVATE KEY`, as the peer writes it.
    ///
    /// # Errors
    /// When either holds no readable item.
    pub fn from_pem(crt: &[u8], key: &[u8]) -> Result<Identity, TlsError> {
        let chain = certificates("certificate", crt)?;
        let text = String::from_utf8_lossy(key).replace("ED25519 PRIVATE KEY", "PRIVATE KEY");
        let key =
            PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|e| TlsError::NoKey { what: "private key", reason: e.to_string() })?;
        Ok(Identity { chain, key })
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

/// The certificates of a PEM bundle, in its order; `what` names it in errors.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = || {
        let head: String = String::from_utf8_lossy(pem).chars().take(30).collect();
        if head.trim().is_empty() { "nothing".to_owned() } else { format!("{head:?}") }
    };
    let list = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::NoCertificate { what, found: format!("{} ({e})", found()) })?;
    if list.is_empty() {
        return Err(TlsError::NoCertificate { what, found: found() });
    }
    Ok(list)
}

/// Trust anchors of a PEM bundle.
///
/// # Errors
/// When the bundle holds no certificate, or one that cannot be an anchor.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for cert in certificates("CA", pem)? {
        store.add(cert).map_err(|e| TlsError::Anchor(e.to_string()))?;
    }
    Ok(store)
}

/// The cryptography all of ours uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

const ALPN: &[u8] = b"h2";

fn client_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(TlsError::Unusable)
}

/// A client that trusts `roots` and shows `identity` when it has one.
///
/// # Errors
/// When certificate and key do not go together.
pub fn client(roots: RootCertStore, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = client_builder()?.with_root_certificates(roots);
    let mut config = match identity.cloned() {
        Some(id) => builder.with_client_auth_cert(id.chain, id.key).map_err(TlsError::Unusable)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// A client that trusts no CA: it accepts any certificate whose public key has one of these fingerprints
/// ([`fingerprint`]), or any at all when the list is empty. For nodes in maintenance mode.
///
/// # Errors
/// When a fingerprint is malformed.
pub fn insecure_client(fingerprints: &[String]) -> Result<Arc<ClientConfig>, TlsError> {
    let accepted = fingerprints
        .iter()
        .map(|f| {
            let raw = base64::engine::general_purpose::STANDARD.decode(f.trim()).ok();
            raw.and_then(|r| <[u8; 32]>::try_from(r).ok()).ok_or_else(|| TlsError::Fingerprint(f.clone()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let verifier = Pinned { accepted, provider: provider() };
    let mut config = client_builder()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Base64 of the SHA-256 of a certificate's public key (its DER SubjectPublicKeyInfo).
///
/// # Errors
/// When the certificate cannot be parsed.
pub fn fingerprint(cert: &CertificateDer<'_>) -> Result<String, rustls::Error> {
    Ok(base64::engine::general_purpose::STANDARD.encode(spki_hash(cert)?))
}

fn spki_hash(cert: &CertificateDer<'_>) -> Result<[u8; 32], rustls::Error> {
    let parsed = ParsedCertificate::try_from(cert)?;
    Ok(Sha256::digest(parsed.subject_public_key_info().as_ref()).into())
}

#[derive(Debug)]
struct Pinned {
    accepted: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.accepted.is_empty() || self.accepted.contains(&spki_hash(cert)?) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(format!(
            "the server's key has the fingerprint {}, which is not among the {} accepted; compare it with the one on the node's console",
            fingerprint(cert)?,
            self.accepted.len()
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A server that shows `identity`; with `clients` it demands a client certificate that chains to one of
/// them and passes `check` (called with the leaf, in DER).
///
/// TLS 1.3 only, and no session resumption: a resumed session would keep the roles of a certificate that
/// has expired or whose CA is no longer accepted.
///
/// # Errors
/// When certificate and key do not go together, or `clients` is empty.
pub fn server(identity: &Identity, clients: Option<(RootCertStore, LeafCheck)>) -> Result<Arc<ServerConfig>, TlsError> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]).map_err(TlsError::Unusable)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((roots, check)) => {
            let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|e| TlsError::Anchor(e.to_string()))?;
            builder.with_client_cert_verifier(Arc::new(Checked { inner, check }))
        }
    };
    let id = identity.clone();
    let mut config = builder.with_single_cert(id.chain, id.key).map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// A further demand on a client's leaf certificate (DER) after its chain was found good.
pub type LeafCheck = fn(&CertificateDer<'_>) -> Result<(), String>;

#[derive(Debug)]
struct Checked {
    inner: Arc<dyn ClientCertVerifier>,
    check: LeafCheck,
}

impl ClientCertVerifier for Checked {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(leaf, intermediates, now)?;
        (self.check)(leaf)
            .map_err(|reason| CertificateError::Other(OtherError(Arc::from(Box::<dyn Error + Send + Sync>::from(reason)))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
