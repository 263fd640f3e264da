//! The secrets bundle: everything secret that the configurations of one cluster share. Its keys are all lower case.
//!
//! This is the file; making and checking what is in it is the business of crate `pki`.

use base64::Engine as _;

use super::legacy::root::{CertKey, Key};
use super::problem::Problems;
use super::schema::{Cx, Section, Shape, check_required, decode_section, encode_section, section};
use super::types::Secret;
use super::{Problem, emit, tree};

section! {
    /// Everything secret that the configurations of one cluster share.
    pub struct Bundle {
        "cluster" cluster: BundleCluster [required()] = "Identity of the cluster.";
        "secrets" secrets: BundleSecrets [required()] = "Secrets of Kubernetes.";
        "trustdinfo" trustd: BundleTrustd [required()] = "How machines join.";
        "certs" certs: BundleCerts [required()] = "Authorities and keys.";
    }

    /// Identity of the cluster.
    pub struct BundleCluster {
        "id" id: String [required()] = "32 random bytes in base64, used as text.";
        "secret" secret: Secret [required()] = "32 random bytes in base64: the key of discovery.";
    }

    /// Secrets of Kubernetes.
    pub struct BundleSecrets {
        "bootstraptoken" bootstrap_token: Secret = "Bootstrap token: 6 and 16 letters and digits, with a dot between.";
        "secretboxencryptionsecret" secretbox_encryption_secret: Secret = "Key for secrets in etcd: 32 bytes in base64.";
        "aescbcencryptionsecret" aescbc_encryption_secret: Secret = "Key for secrets in etcd, the old way.";
    }

    /// How machines join.
    pub struct BundleTrustd {
        "token" token: Secret [required()] = "Token: 6 and 16 letters and digits, with a dot between.";
    }

    /// Authorities and keys, PEM in base64.
    pub struct BundleCerts {
        "etcd" etcd: Option<CertKey> = "Authority of etcd.";
        "k8s" k8s: Option<CertKey> = "Authority of Kubernetes.";
        "k8saggregator" k8s_aggregator: Option<CertKey> = "Authority of the front proxy.";
        "k8sserviceaccount" k8s_service_account: Option<Key> = "Key that signs service account tokens.";
        "os" os: Option<CertKey> [required()] = "Authority of the machine API.";
    }
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// All problems of the text, missing keys among them.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problems> {
        let (documents, mut problems) = tree::parse(bytes, 0);
        let [document] = documents.as_slice() else {
            if problems.is_empty() {
                problems.push(Problem::error("", format!("{} documents", documents.len()), "one document: a secrets bundle"));
            }
            return Err(Problems(problems));
        };
        let mut cx = Cx::new("secrets");
        let bundle = decode_section(&document.root, &mut cx);
        if bundle.is_some() {
            check_required(&document.root, &Shape::Section(Self::INFO), &mut cx);
        }
        problems.append(&mut cx.problems);
        match bundle {
            Some(bundle) if problems.is_empty() => Ok(bundle),
            _ => Err(Problems(problems)),
        }
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> String {
        emit::document(&encode_section(self))
    }
}

impl CertKey {
    /// From PEM texts.
    #[must_use]
    pub fn from_pem(cert: &str, key: &str) -> Self {
        Self { crt: to_base64(cert), key: Secret::new(to_base64(key)) }
    }
    /// The certificate as PEM; empty when it is no base64 of a text.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        from_base64(&self.crt)
    }
    /// The key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> Secret {
        Secret::new(from_base64(self.key.expose()))
    }
}

impl Key {
    /// From a PEM text.
    #[must_use]
    pub fn from_pem(key: &str) -> Self {
        Self { key: Secret::new(to_base64(key)) }
    }
    /// The key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> Secret {
        Secret::new(from_base64(self.key.expose()))
    }
}

/// A text in base64; nothing for nothing.
#[must_use]
pub fn to_base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The text out of base64; empty when it is none.
#[must_use]
pub fn from_base64(text: &str) -> String {
    let compact: String = text.split_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(compact).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}
