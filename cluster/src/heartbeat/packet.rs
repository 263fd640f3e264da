//! A heartbeat on the wire: one UDP datagram from one member to one other, authenticated for exactly that pair.
//!
//! Layout: `OHB1`, kind, length of the sender's id, the id, the sender's nonce, the nonce of the receiver it last heard (echo), a count
//! and that many 8-byte tags of members the sender does not hear, and 16 bytes of HMAC-SHA-256 over the receiver's id and all before.

use ring::hmac;
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 4] = b"OHB1";
const MAC_LEN: usize = 16;
/// Members named in one datagram; with more, several datagrams take turns.
pub(super) const MAX_SILENT: usize = 24;
/// Largest datagram that is read, in bytes.
pub const MAX_LEN: usize = 4 + 1 + 1 + 255 + 8 + 8 + 1 + MAX_SILENT * 8 + MAC_LEN;

/// The key all members of a cluster share for heartbeats, derived from the cluster's secret; it opens nothing.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// From the bytes that `Sealer::derive` made.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn tag(&self, receiver: &str, bytes: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(receiver.len() as u64).to_be_bytes());
        context.update(receiver.as_bytes());
        context.update(bytes);
        context.sign()
    }
}

/// A member's short name in lists: the first 8 bytes of its id's SHA-256.
pub(super) type IdTag = [u8; 8];

/// The tag of an id.
pub(super) fn id_tag(id: &str) -> IdTag {
    let mut tag = [0; 8];
    tag.copy_from_slice(&Sha256::digest(id.as_bytes())[..8]);
    tag
}

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// I am here.
    Beat,
    /// I am leaving the cluster.
    Goodbye,
}

/// A datagram's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    pub(super) sender: String,
    pub(super) nonce: u64,
    pub(super) echo: u64,
    pub(super) silent: Vec<IdTag>,
}

impl Packet {
    /// The datagram for `receiver`.
    pub(super) fn encode(&self, key: &Key, receiver: &str) -> Vec<u8> {
        let sender = &self.sender.as_bytes()[..self.sender.len().min(255)];
        let silent = &self.silent[..self.silent.len().min(MAX_SILENT)];
        let mut bytes = Vec::with_capacity(MAX_LEN);
        bytes.extend(MAGIC);
        bytes.push(match self.kind {
            Kind::Beat => 1,
            Kind::Goodbye => 2,
        });
        bytes.push(u8::try_from(sender.len()).unwrap_or(u8::MAX));
        bytes.extend(sender);
        bytes.extend(self.nonce.to_be_bytes());
        bytes.extend(self.echo.to_be_bytes());
        bytes.push(u8::try_from(silent.len()).unwrap_or(0));
        for tag in silent {
            bytes.extend(tag);
        }
        let mac = key.tag(receiver, &bytes);
        bytes.extend(&mac.as_ref()[..MAC_LEN]);
        bytes
    }

    /// Reads a datagram meant for `receiver`; `None` for anything that no holder of the key made for it.
    pub(super) fn decode(bytes: &[u8], key: &Key, receiver: &str) -> Option<Self> {
        if bytes.len() > MAX_LEN {
            return None;
        }
        let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_LEN)?)?;
        let expected = key.tag(receiver, body);
        // Constant time matters little for a MAC an attacker can only try over the network, and costs nothing.
        let differs = expected.as_ref()[..MAC_LEN].iter().zip(mac).fold(0, |sum, (a, b)| sum | (a ^ b));
        let rest = body.strip_prefix(MAGIC).filter(|_| differs == 0)?;
        let (&kind, rest) = rest.split_first()?;
        let kind = match kind {
            1 => Kind::Beat,
            2 => Kind::Goodbye,
            _ => return None,
        };
        let (&length, rest) = rest.split_first()?;
        let (sender, rest) = rest.split_at_checked(usize::from(length))?;
        let sender = std::str::from_utf8(sender).ok()?.to_owned();
        let (nonce, rest) = rest.split_first_chunk::<8>()?;
        let (echo, rest) = rest.split_first_chunk::<8>()?;
        let (&count, rest) = rest.split_first()?;
        let (silent, rest) = rest.as_chunks::<8>();
        if !rest.is_empty() || silent.len() != usize::from(count) {
            return None;
        }
        Some(Self { kind, sender, nonce: u64::from_be_bytes(*nonce), echo: u64::from_be_bytes(*echo), silent: silent.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> Packet {
        Packet { kind: Kind::Beat, sender: "node-a".into(), nonce: 5, echo: 9, silent: vec![id_tag("node-c")] }
    }

    #[test]
    fn only_the_right_key_and_receiver_open_it() {
        let (key, other) = (Key::new(&[1; 32]), Key::new(&[2; 32]));
        let bytes = packet().encode(&key, "node-b");
        assert_eq!(Packet::decode(&bytes, &key, "node-b"), Some(packet()));
        assert_eq!(Packet::decode(&bytes, &key, "node-c"), None, "not for others to replay");
        assert_eq!(Packet::decode(&bytes, &other, "node-b"), None);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert_eq!(Packet::decode(&changed, &key, "node-b"), None, "byte {at}");
            assert_eq!(Packet::decode(&bytes[..at], &key, "node-b"), None, "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(sender in "[ -~]{0,255}", nonce: u64, echo: u64, goodbye: bool, silent in proptest::collection::vec(any::<[u8; 8]>(), 0..=MAX_SILENT)) {
            let key = Key::new(&[1; 32]);
            let packet = Packet { kind: if goodbye { Kind::Goodbye } else { Kind::Beat }, sender, nonce, echo, silent };
            let bytes = packet.encode(&key, "b");
            prop_assert!(bytes.len() <= MAX_LEN);
            prop_assert_eq!(Packet::decode(&bytes, &key, "b"), Some(packet));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(Packet::decode(&bytes, &Key::new(&[1; 32]), "b"), None);
        }
    }
}
