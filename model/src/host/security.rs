//! Which images may run.

use resource::{Timestamp, message, resource};

/// Which images may run, by name and signature.
#[resource(
    type = "ImageVerificationRules.security.talos.dev",
    namespace = "security",
    columns("Pattern" = "{.imagePattern}", "Skip" = "{.skip}", "Deny" = "{.deny}")
)]
pub struct ImageVerificationRule {
    #[field(2, omit_empty)]
    pub image_pattern: String,
    #[field(3)]
    pub skip: bool,
    #[field(4)]
    pub deny: bool,
    #[field(5, omit_empty)]
    pub keyless_verifier: Option<ImageKeylessVerifierSpec>,
    #[field(6, omit_empty)]
    pub public_key_verifier: Option<ImagePublicKeyVerifierSpec>,
}

/// The keys that keyless signatures are checked with.
#[resource(
    type = "TUFTrustedRoots.security.talos.dev",
    namespace = "security",
    columns("Last Refresh" = "{.lastRefreshTime}"),
    ids("trusted_root.json")
)]
pub struct TufTrustedRoot {
    #[field(1, omit_empty)]
    pub last_refresh_time: Timestamp,
    #[field(2, omit_empty)]
    pub json_data: String,
}

/// Who must have signed, by identity.
#[message]
pub struct ImageKeylessVerifierSpec {
    #[field(1)]
    pub issuer: String,
    #[field(2, omit_empty)]
    pub subject: String,
    #[field(3, omit_empty)]
    pub subject_regex: String,
}

/// Who must have signed, by key.
#[message]
pub struct ImagePublicKeyVerifierSpec {
    #[field(1)]
    pub certificate: String,
}
