//! Encryption of volumes.

use resource::{Bytes, StringBytes, message, resource, text_enum};

/// The salt that this machine's disk keys are derived with.
#[resource(type = "EncryptionSalts.secrets.talos.dev", namespace = "secrets", ids("salt"), sensitive)]
pub struct EncryptionSalt {
    #[field(1, secret)]
    pub disk_salt: Bytes,
}

/// How a volume is encrypted.
#[message]
pub struct EncryptionSpec {
    #[field(1)]
    pub provider: EncryptionProviderType,
    #[field(2)]
    pub keys: Vec<EncryptionKey>,
    #[field(3, omit_empty)]
    pub cipher: String,
    #[field(4, omit_empty)]
    pub key_size: u64,
    #[field(5, omit_empty)]
    pub block_size: u64,
    #[field(6, omit_empty)]
    pub perf_options: Vec<String>,
    #[field(7, omit_empty)]
    pub allow_discards: bool,
}

/// One key slot of an encrypted volume.
#[message]
pub struct EncryptionKey {
    #[field(1)]
    pub slot: i64,
    #[field(2)]
    pub type_: EncryptionKeyType,
    #[field(6, omit_empty)]
    pub lock_to_state: bool,
    #[field(3, omit_empty, secret)]
    pub static_passphrase: StringBytes,
    #[field(4, omit_empty)]
    pub kms_endpoint: String,
    #[field(5, omit_empty)]
    pub tpm_check_secureboot_status_on_enroll: bool,
    #[field(7, omit_empty)]
    pub pcrs: Vec<i64>,
    #[field(8, omit_empty)]
    pub pub_key_pcrs: Vec<i64>,
}

/// The registers that a key in the TPM is bound to.
#[message]
pub struct TpmEncryptionOptionsInfo {
    #[field(1, omit_empty)]
    pub pcrs: Vec<i64>,
    #[field(2, omit_empty)]
    pub pub_key_pcrs: Vec<i64>,
}

/// What encrypts a volume.
#[text_enum]
pub enum EncryptionProviderType {
    #[text(0)]
    None,
    #[text(1)]
    Luks2,
}

/// Where a key comes from.
#[text_enum]
pub enum EncryptionKeyType {
    #[text(0)]
    Static,
    #[text(1, "nodeID")]
    NodeId,
    #[text(2)]
    Kms,
    #[text(3)]
    Tpm,
}
