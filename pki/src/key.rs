//! Private keys: Ed25519, ECDSA P-256 and P-384, RSA; in the PEM forms that configurations use.

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use zeroize::Zeroizing;

use crate::der::{Reader, bits, octets, oid, seq, tlv, uint};
use crate::{Error, pem};

const ID_ED25519: [u64; 4] = [1, 3, 101, 112];
const ID_EC: [u64; 6] = [1, 2, 840, 10045, 2, 1];
const ID_P256: [u64; 7] = [1, 2, 840, 10045, 3, 1, 7];
const ID_P384: [u64; 5] = [1, 3, 132, 0, 34];
const ID_RSA: [u64; 7] = [1, 2, 840, 113549, 1, 1, 1];
const ECDSA_SHA256: [u64; 7] = [1, 2, 840, 10045, 4, 3, 2];
const ECDSA_SHA384: [u64; 7] = [1, 2, 840, 10045, 4, 3, 3];
const RSA_SHA256: [u64; 7] = [1, 2, 840, 113549, 1, 1, 11];

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256, with SHA-256.
    P256,
    /// ECDSA on P-384, with SHA-384.
    P384,
    /// RSA, with SHA-256.
    Rsa,
}

/// A private key. `Debug` shows only its kind; the memory is wiped when it goes.
#[derive(Clone)]
pub struct PrivateKey(Material);

#[derive(Clone)]
enum Material {
    Ed25519 { seed: Zeroizing<Vec<u8>> },
    Ec { algorithm: Algorithm, private: Zeroizing<Vec<u8>>, public: Vec<u8> },
    Rsa { pkcs1: Zeroizing<Vec<u8>> },
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({:?}, REDACTED)", self.algorithm())
    }
}

impl PrivateKey {
    /// Makes a key: Ed25519 or ECDSA. RSA takes seconds and has [`PrivateKey::generate_rsa`].
    ///
    /// # Errors
    /// When the system gives no random numbers, or for RSA.
    pub fn generate(algorithm: Algorithm) -> Result<Self, Error> {
        let random = SystemRandom::new();
        match algorithm {
            Algorithm::Ed25519 => {
                let mut seed = Zeroizing::new(vec![0; 32]);
                random.fill(&mut seed).map_err(|_| Error::Random)?;
                Ok(Self(Material::Ed25519 { seed }))
            }
            Algorithm::P256 | Algorithm::P384 => {
                let pkcs8 = EcdsaKeyPair::generate_pkcs8(ecdsa(algorithm), &random).map_err(|_| Error::Random)?;
                Self::from_pkcs8(pkcs8.as_ref())
            }
            Algorithm::Rsa => Err(Error::key("a request for an RSA key of no given size")),
        }
    }

    /// Makes an RSA key. Takes seconds.
    ///
    /// # Errors
    /// When `size` (in bits) is not from 2048 to 8192.
    pub fn generate_rsa(size: usize) -> Result<Self, Error> {
        use rsa::pkcs1::EncodeRsaPrivateKey as _;
        if !(2048..=8192).contains(&size) {
            return Err(Error::key(format!("a request for an RSA key of {size} bits (2048 to 8192 are possible)")));
        }
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, size).map_err(|e| Error::key(format!("no RSA key ({e})")))?;
        let der = key.to_pkcs1_der().map_err(|e| Error::key(format!("no RSA key ({e})")))?;
        Ok(Self(Material::Rsa { pkcs1: Zeroizing::new(der.as_bytes().to_vec()) }))
    }

    /// Reads a key in any of the PEM forms: `ED25519 PRIVATE KEY` and `PRIVATE KEY` (PKCS#8), `EC PRIVATE KEY` (SEC 1), `RSA PRIVATE KEY` (PKCS#1).
    /// Other blocks before it are skipped (such as EC PARAMETERS).
    ///
    /// # Errors
    /// When there is no key, or its kind is not supported.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let blocks = pem::decode(text)?;
        let labels: Vec<_> = blocks.iter().map(|b| b.label.clone()).collect();
        let Some(block) = blocks.into_iter().find(|b| b.label.ends_with("PRIVATE KEY")) else {
            return Err(Error::key(format!("PEM blocks {} but no private key", labels.join(", "))));
        };
        let der = Zeroizing::new(block.der);
        match block.label.as_str() {
            "ED25519 PRIVATE KEY" | "PRIVATE KEY" => Self::from_pkcs8(&der),
            "EC PRIVATE KEY" => Self::from_sec1(&der, None),
            "RSA PRIVATE KEY" => Self::from_pkcs1(&der),
            "ENCRYPTED PRIVATE KEY" => Err(Error::key("an encrypted private key: decrypt it first")),
            other => Err(Error::key(format!("a `{other}`, which is not supported"))),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let broken = || Error::key("a broken PKCS#8 structure");
        let mut outer = Reader(Reader(der).expect(0x30).ok_or_else(broken)?);
        outer.expect(0x02).ok_or_else(broken)?;
        let mut id = Reader(outer.expect(0x30).ok_or_else(broken)?);
        let algorithm = tlv(0x06, id.expect(0x06).ok_or_else(broken)?);
        let inner = outer.expect(0x04).ok_or_else(broken)?;
        if algorithm == oid(&ID_ED25519) {
            let seed = Reader(inner).expect(0x04).filter(|s| s.len() == 32).ok_or_else(broken)?;
            return Ok(Self(Material::Ed25519 { seed: Zeroizing::new(seed.to_vec()) }));
        }
        if algorithm == oid(&ID_RSA) {
            return Self::from_pkcs1(inner);
        }
        if algorithm == oid(&ID_EC) {
            let curve = id.expect(0x06).map(|c| tlv(0x06, c));
            return Self::from_sec1(inner, curve);
        }
        Err(Error::key("a key of an unknown kind (Ed25519, ECDSA P-256, P-384 and RSA are known)"))
    }

    fn from_sec1(der: &[u8], curve: Option<Vec<u8>>) -> Result<Self, Error> {
        let broken = || Error::key("a broken EC key");
        let mut key = Reader(Reader(der).expect(0x30).ok_or_else(broken)?);
        key.expect(0x02).ok_or_else(broken)?;
        let private = key.expect(0x04).ok_or_else(broken)?;
        let (mut curve, mut public) = (curve, None);
        while let Some((tag, content)) = key.next() {
            match tag {
                0xa0 => curve = Reader(content).expect(0x06).map(|c| tlv(0x06, c)),
                0xa1 => public = Reader(content).expect(0x03).and_then(|b| b.split_first()).map(|(_, p)| p.to_vec()),
                _ => {}
            }
        }
        let (algorithm, size) = match curve {
            Some(c) if c == oid(&ID_P256) => (Algorithm::P256, 32),
            Some(c) if c == oid(&ID_P384) => (Algorithm::P384, 48),
            _ => return Err(Error::key("an EC key on an unknown curve (P-256 and P-384 are known)")),
        };
        let public = public.ok_or_else(|| Error::key("an EC key without its public part: write it again with `openssl ec`"))?;
        if private.len() > size {
            return Err(broken());
        }
        let mut padded = Zeroizing::new(vec![0; size - private.len()]);
        padded.extend_from_slice(private);
        let key = Self(Material::Ec { algorithm, private: padded, public });
        key.ecdsa_pair().map(|_| key)
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, Error> {
        RsaKeyPair::from_der(der).map_err(|e| Error::key(format!("an RSA key that is refused ({e})")))?;
        Ok(Self(Material::Rsa { pkcs1: Zeroizing::new(der.to_vec()) }))
    }

    /// Its kind.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Material::Ed25519 { .. } => Algorithm::Ed25519,
            Material::Ec { algorithm, .. } => *algorithm,
            Material::Rsa { .. } => Algorithm::Rsa,
        }
    }

    /// Writes it as PEM, in the form that belongs to its kind.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.0 {
            Material::Ed25519 { seed } => {
                let inner = Zeroizing::new(octets(&octets(seed)));
                pem::encode("ED25519 PRIVATE KEY", &Zeroizing::new(seq(&[uint(&[0]), seq(&[oid(&ID_ED25519)]), inner.to_vec()])))
            }
            Material::Ec { algorithm, private, public } => {
                let curve = tlv(0xa0, &curve_id(*algorithm));
                let parts = [uint(&[1]), octets(private), curve, tlv(0xa1, &bits(public))];
                pem::encode("EC PRIVATE KEY", &Zeroizing::new(seq(&parts)))
            }
            Material::Rsa { pkcs1 } => pem::encode("RSA PRIVATE KEY", pkcs1),
        })
    }

    /// The raw public key, as it stands in a certificate's BIT STRING.
    pub(crate) fn public_bits(&self) -> Result<Vec<u8>, Error> {
        match &self.0 {
            Material::Ed25519 { .. } => Ok(self.ed25519_pair()?.public_key().as_ref().to_vec()),
            Material::Ec { public, .. } => Ok(public.clone()),
            Material::Rsa { .. } => Ok(self.rsa_pair()?.public_key().as_ref().to_vec()),
        }
    }

    /// The public key as a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When the key is broken.
    pub fn public_key_info(&self) -> Result<Vec<u8>, Error> {
        let id = match self.algorithm() {
            Algorithm::Ed25519 => seq(&[oid(&ID_ED25519)]),
            Algorithm::Rsa => seq(&[oid(&ID_RSA), tlv(0x05, &[])]),
            ec => seq(&[oid(&ID_EC), curve_id(ec)]),
        };
        Ok(seq(&[id, bits(&self.public_bits()?)]))
    }

    /// The public key as PEM (`PUBLIC KEY`).
    ///
    /// # Errors
    /// When the key is broken.
    pub fn public_pem(&self) -> Result<String, Error> {
        Ok(pem::encode("PUBLIC KEY", &self.public_key_info()?))
    }

    /// The identifier of its signatures.
    pub(crate) fn signature_id(&self) -> Vec<u8> {
        match self.algorithm() {
            Algorithm::Ed25519 => seq(&[oid(&ID_ED25519)]),
            Algorithm::P256 => seq(&[oid(&ECDSA_SHA256)]),
            Algorithm::P384 => seq(&[oid(&ECDSA_SHA384)]),
            Algorithm::Rsa => seq(&[oid(&RSA_SHA256), tlv(0x05, &[])]),
        }
    }

    /// Signs.
    ///
    /// # Errors
    /// When the key is broken or the system gives no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        match &self.0 {
            Material::Ed25519 { .. } => Ok(self.ed25519_pair()?.sign(message).as_ref().to_vec()),
            Material::Ec { .. } => Ok(self.ecdsa_pair()?.sign(&random, message).map_err(|_| Error::Random)?.as_ref().to_vec()),
            Material::Rsa { .. } => {
                let pair = self.rsa_pair()?;
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut out).map_err(|_| Error::Random)?;
                Ok(out)
            }
        }
    }

    fn ed25519_pair(&self) -> Result<Ed25519KeyPair, Error> {
        let Material::Ed25519 { seed } = &self.0 else { return Err(Error::key("another kind of key")) };
        Ed25519KeyPair::from_seed_unchecked(seed).map_err(|e| Error::key(format!("an Ed25519 key that is refused ({e})")))
    }

    fn ecdsa_pair(&self) -> Result<EcdsaKeyPair, Error> {
        let Material::Ec { algorithm, private, public } = &self.0 else { return Err(Error::key("another kind of key")) };
        EcdsaKeyPair::from_private_key_and_public_key(ecdsa(*algorithm), private, public, &SystemRandom::new())
            .map_err(|e| Error::key(format!("an EC key that is refused ({e})")))
    }

    fn rsa_pair(&self) -> Result<RsaKeyPair, Error> {
        let Material::Rsa { pkcs1 } = &self.0 else { return Err(Error::key("another kind of key")) };
        RsaKeyPair::from_der(pkcs1).map_err(|e| Error::key(format!("an RSA key that is refused ({e})")))
    }
}

fn ecdsa(algorithm: Algorithm) -> &'static signature::EcdsaSigningAlgorithm {
    match algorithm {
        Algorithm::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        _ => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
    }
}

fn curve_id(algorithm: Algorithm) -> Vec<u8> {
    match algorithm {
        Algorithm::P384 => oid(&ID_P384),
        _ => oid(&ID_P256),
    }
}
