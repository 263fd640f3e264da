//! Who this node is: an id that lives as long as the node's STATE, and what follows from it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use engine::{Context, Controller, Outputs, Wanted};
use model::cluster::Identity;
use model::host::EtcFileSpec;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

/// The file in STATE.
pub const FILE: &str = "node-identity.yaml";
/// The id of the one identity.
pub const LOCAL: &str = "local";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Loads the identity from STATE, or makes one and keeps it there.
pub struct IdentityController {
    /// Where STATE is mounted.
    pub state: PathBuf,
}

impl Controller for IdentityController {
    const NAME: &'static str = "cluster.NodeIdentityController";
    type In = ();

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<Identity>().shared::<EtcFileSpec>()
    }

    async fn reconcile(&self, ctx: &Context, (): ()) -> engine::Result<Wanted> {
        if !self.state.is_dir() {
            // It is a mount of its own on a machine; nothing announces directories.
            ctx.wake_after(std::time::Duration::from_secs(1));
            return Ok(Wanted::unchanged().waiting_for(format!("{} (the volume STATE)", self.state.display())));
        }
        let node_id = load_or_make(&self.state.join(FILE))?;
        let machine_id =
            EtcFileSpec { contents: format!("{}\n", machine_id(&node_id)).into_bytes().into(), mode: 0o444, ..EtcFileSpec::default() };
        Ok(Wanted::new().with(LOCAL, Identity { node_id }).with("machine-id", machine_id))
    }
}

fn load_or_make(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => {
            if let Some(id) = parse(&text) {
                return Ok(id);
            }
            // A torn or foreign file: an identity that nobody can read is none.
            tracing::warn!(path = %path.display(), "no nodeId in this file; this node gets a new identity");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io::Error::new(error.kind(), format!("read {}: {error}", path.display()))),
    }
    let id = make()?;
    let fresh = path.with_extension("new");
    let mut file = fs::File::create(&fresh)?;
    file.write_all(format!("nodeId: {id}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    if let Some(parent) = path.parent() {
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(id)
}

fn parse(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("nodeId:"))?.trim().trim_matches(['"', '\'']);
    let ok = (8..=256).contains(&value.len()) && value.bytes().all(|byte| DIGITS.contains(&byte));
    ok.then(|| value.to_owned())
}

/// 32 random bytes in base 62.
fn make() -> io::Result<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the kernel gave no random bytes"))?;
    Ok(base62(&bytes))
}

/// A big-endian number in base 62, 43 digits for 32 bytes.
fn base62(bytes: &[u8; 32]) -> String {
    let mut number = bytes.to_vec();
    let mut digits = Vec::with_capacity(43);
    for _ in 0..43 {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        digits.push(char::from(DIGITS[rest as usize]));
    }
    digits.iter().rev().collect()
}

/// The inverse of [`base62`]; `None` for ids made otherwise.
fn from_base62(text: &str) -> Option<[u8; 32]> {
    if text.len() != 43 {
        return None;
    }
    let mut number = [0u8; 32];
    for digit in text.bytes() {
        let mut carry = u32::try_from(DIGITS.iter().position(|known| *known == digit)?).ok()?;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            *byte = value.to_be_bytes()[3];
            carry = value >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

/// The machine id (machine-id(5)): the first 16 bytes of the node id as hexadecimal digits; for an id made otherwise, of its SHA-256.
fn machine_id(node_id: &str) -> String {
    match from_base62(node_id) {
        Some(bytes) => hex::encode(&bytes[..16]),
        None => hex::encode(&Sha256::digest(node_id.as_bytes())[..16]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(state: &Path) -> Wanted {
        IdentityController { state: state.to_owned() }.reconcile(&Context::detached(), ()).await.unwrap()
    }

    #[tokio::test]
    async fn the_identity_is_made_once_and_kept() {
        let state = tempfile::tempdir().unwrap();
        let first = run(state.path()).await.get::<Identity>(LOCAL).unwrap().clone();
        let again = run(state.path()).await;
        assert_eq!(again.get::<Identity>(LOCAL), Some(&first));
        let machine_id = again.get::<EtcFileSpec>("machine-id").unwrap().contents.to_text().into_owned();
        assert_eq!(machine_id.trim().len(), 32);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(run(other.path()).await.get::<Identity>(LOCAL), Some(&first));
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn without_state_nothing_is_made() {
        let wanted = run(Path::new("/nonexistent/state")).await;
        assert!(wanted.keeps_all() && wanted.waiting().unwrap().contains("STATE"));
    }

    #[tokio::test]
    async fn a_torn_file_is_replaced() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join(FILE), "nod").unwrap();
        let made = run(state.path()).await.get::<Identity>(LOCAL).unwrap().node_id.clone();
        assert!(fs::read_to_string(state.path().join(FILE)).unwrap().contains(&made));
        fs::write(state.path().join(FILE), "nodeId: \"0123456789abc\"\n").unwrap();
        assert_eq!(run(state.path()).await.get::<Identity>(LOCAL).unwrap().node_id, "0123456789abc");
    }

    #[test]
    fn base_62_is_a_number() {
        let mut one = [0; 32];
        one[31] = 61;
        assert_eq!(base62(&one), format!("{}z", "0".repeat(42)));
        one[31] = 62;
        assert_eq!(base62(&one), format!("{}10", "0".repeat(41)));
        for bytes in [[0; 32], [0xff; 32], one] {
            assert_eq!(from_base62(&base62(&bytes)), Some(bytes));
        }
        assert_eq!(from_base62(&"z".repeat(43)), None, "too large for 32 bytes");
        assert_eq!(machine_id(&base62(&[0xab; 32])), "ab".repeat(16));
    }
}
