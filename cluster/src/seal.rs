//! How discovery data is sealed, so that the servers that carry it learn nothing: AES-256-GCM for an affiliate's data, AES-256-ECB for
//! its endpoints (equal endpoints give equal bytes, so that a server can drop duplicates), and keys for what is ours alone.
//!
//! The formats are the peer's (behaviour of its discovery client): GCM output is nonce (12 bytes), ciphertext, tag (16 bytes), without
//! additional data; an endpoint is one length byte, the message, zeros to a multiple of 16.

use aes::Aes256;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};

/// Size of a cluster's secret and of every key derived from it, in bytes.
pub const KEY_LEN: usize = 32;
const BLOCK: usize = 16;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    /// The secret has the wrong size.
    #[error("the cluster secret is {found} bytes long; expected {KEY_LEN}: check cluster.secret (base64) in the machine configuration")]
    KeyLength {
        /// Size of the secret that was given.
        found: usize,
    },
    /// It was not sealed with this cluster's secret, or was changed on the way.
    #[error("sealed data of {length} bytes does not open with this cluster's secret: another cluster's, or damaged")]
    Foreign {
        /// Size of the sealed bytes.
        length: usize,
    },
    /// An endpoint is too large for its one length byte.
    #[error("an endpoint of {length} bytes does not fit; at most 255 do")]
    TooLong {
        /// Size of the endpoint's message.
        length: usize,
    },
    /// The kernel gave no random bytes.
    #[error("the kernel gave no random bytes")]
    Random,
}

/// A cluster's secret: seals what its members tell each other.
#[derive(Clone)]
pub struct Sealer {
    secret: [u8; KEY_LEN],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// From the cluster secret's 32 bytes.
    pub fn new(secret: &[u8]) -> Result<Self, SealError> {
        let secret = secret.try_into().map_err(|_| SealError::KeyLength { found: secret.len() })?;
        Ok(Self { secret })
    }

    fn aead(&self) -> Result<LessSafeKey, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, &self.secret).map_err(|_| SealError::KeyLength { found: KEY_LEN })?;
        Ok(LessSafeKey::new(key))
    }

    /// Seals an affiliate's data under a fresh random nonce: the same data gives other bytes each time.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut sealed = plain.to_vec();
        self.aead()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .map_err(|_| SealError::Random)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens an affiliate's data.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let foreign = || SealError::Foreign { length: sealed.len() };
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or_else(foreign)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| foreign())?;
        let mut plain = rest.to_vec();
        let length = self.aead()?.open_in_place(nonce, Aad::empty(), &mut plain).map_err(|_| foreign())?.len();
        plain.truncate(length);
        Ok(plain)
    }

    /// Seals one endpoint message.
    pub fn seal_endpoint(&self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let length = u8::try_from(plain.len()).map_err(|_| SealError::TooLong { length: plain.len() })?;
        let mut blocks = vec![0; (1 + plain.len()).div_ceil(BLOCK) * BLOCK];
        blocks[0] = length;
        blocks[1..=plain.len()].copy_from_slice(plain);
        let cipher = Aes256::new(GenericArray::from_slice(&self.secret));
        for block in blocks.chunks_exact_mut(BLOCK) {
            cipher.encrypt_block(GenericArray::from_mut_slice(block));
        }
        Ok(blocks)
    }

    /// Opens one endpoint message. ECB has no tag, so a foreign one may open to nonsense that only its parser refuses.
    pub fn open_endpoint(&self, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let foreign = || SealError::Foreign { length: sealed.len() };
        if sealed.is_empty() || !sealed.len().is_multiple_of(BLOCK) {
            return Err(foreign());
        }
        let mut blocks = sealed.to_vec();
        let cipher = Aes256::new(GenericArray::from_slice(&self.secret));
        for block in blocks.chunks_exact_mut(BLOCK) {
            cipher.decrypt_block(GenericArray::from_mut_slice(block));
        }
        let length = usize::from(blocks[0]);
        let padding = blocks.get(1 + length..).ok_or_else(foreign)?;
        if padding.len() >= BLOCK || padding.iter().any(|&byte| byte != 0) {
            return Err(foreign());
        }
        Ok(blocks[1..=length].to_vec())
    }

    /// A key for one purpose that gives nothing away about the secret or about other purposes' keys (HKDF-SHA-256).
    pub fn derive(&self, purpose: &str) -> Result<[u8; KEY_LEN], SealError> {
        struct Len;
        impl hkdf::KeyType for Len {
            fn len(&self) -> usize {
                KEY_LEN
            }
        }
        let mut key = [0; KEY_LEN];
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"orlop")
            .extract(&self.secret)
            .expand(&[purpose.as_bytes()], Len)
            .and_then(|material| material.fill(&mut key))
            .map_err(|_| SealError::Random)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&[byte; KEY_LEN]).unwrap()
    }

    #[test]
    fn data_opens_with_the_same_secret_only() {
        let sealed = sealer(1).seal(b"hello").unwrap();
        assert_eq!(sealed.len(), 12 + 5 + 16);
        assert_eq!(sealer(1).open(&sealed).unwrap(), b"hello");
        assert_eq!(sealer(2).open(&sealed), Err(SealError::Foreign { length: 33 }));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer(1).open(&changed).is_err(), "byte {at}");
        }
        for length in 0..28 {
            assert!(sealer(1).open(&sealed[..length]).is_err());
        }
        assert_ne!(sealer(1).seal(b"hello").unwrap(), sealed);
    }

    /// NIST's known answer (SP 800-38D test case 14: key, nonce and 16 bytes of plain text all zero).
    #[test]
    fn the_sealed_format_is_nonce_text_tag() {
        let sealed = "000000000000000000000000cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919";
        assert_eq!(sealer(0).open(&hex::decode(sealed).unwrap()).unwrap(), [0; 16]);
    }

    /// The block is FIPS 197's AES-256 example (appendix C.3) as far as its first byte allows: 0x00 is a length of zero, so the
    /// remaining plain text is padding that is not zero, and must be refused.
    #[test]
    fn endpoints_are_single_blocks_of_aes() {
        let key: Vec<u8> = (0..32).collect();
        let sealer = Sealer::new(&key).unwrap();
        let example = hex::decode("8ea2b7ca516745bfeafc49904b496089").unwrap();
        assert!(sealer.open_endpoint(&example).is_err());
        let cipher = Aes256::new(GenericArray::from_slice(&key));
        let mut block = GenericArray::clone_from_slice(&example);
        cipher.decrypt_block(&mut block);
        assert_eq!(hex::encode(block), "00112233445566778899aabbccddeeff");
    }

    #[test]
    fn endpoints_round_trip_and_are_the_same_each_time() {
        for length in [0, 1, 14, 15, 16, 31, 32, 255] {
            let plain = vec![7; length];
            let sealed = sealer(1).seal_endpoint(&plain).unwrap();
            assert_eq!(sealed.len(), (length + 1).div_ceil(16) * 16);
            assert_eq!(sealer(1).seal_endpoint(&plain).unwrap(), sealed);
            assert_eq!(sealer(1).open_endpoint(&sealed).unwrap(), plain);
        }
        assert_eq!(sealer(1).seal_endpoint(&[0; 256]), Err(SealError::TooLong { length: 256 }));
        assert!(sealer(1).open_endpoint(&[]).is_err());
        assert!(sealer(1).open_endpoint(&[0; 15]).is_err());
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_secret() {
        let keys = [sealer(1).derive("a").unwrap(), sealer(1).derive("b").unwrap(), sealer(2).derive("a").unwrap(), [1; KEY_LEN]];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|other| other != key));
        }
        assert_eq!(keys[0], sealer(1).derive("a").unwrap());
        assert_eq!(Sealer::new(&[0; 31]).unwrap_err(), SealError::KeyLength { found: 31 });
    }
}
