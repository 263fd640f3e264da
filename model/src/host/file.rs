//! Files below /etc that are generated.

use resource::{StringBytes, resource};

/// A file below `/etc` that shall be there; the id is its path there.
#[resource(type = "EtcFileSpecs.files.talos.dev", namespace = "files", sensitive)]
pub struct EtcFileSpec {
    #[field(1, secret)]
    pub contents: StringBytes,
    #[field(2)]
    pub mode: u32,
    #[field(3, yaml = "selinux_label")]
    pub selinux_label: String,
}

/// A file below `/etc` that is there.
#[resource(type = "EtcFileStatuses.files.talos.dev", namespace = "files")]
pub struct EtcFileStatus {
    #[field(1)]
    pub spec_version: String,
}
