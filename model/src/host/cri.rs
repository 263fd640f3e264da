//! The container runtime: registries, the image cache, seccomp profiles.

use std::collections::BTreeMap;

use resource::{Base64Bytes, PemPair, Value, message, resource, text_enum};

/// Where the image cache is, and whether it may be used.
#[resource(
    type = "ImageCacheConfigs.cri.talos.dev",
    namespace = "cri",
    columns("Status" = "{.status}", "CopyStatus" = "{.copyStatus}", "Roots" = "{.roots}"),
    ids("image-cache")
)]
pub struct ImageCacheConfig {
    #[field(1)]
    pub status: ImageCacheStatus,
    #[field(3)]
    pub copy_status: ImageCacheCopyStatus,
    #[field(2)]
    pub roots: Vec<String>,
}

/// How image registries are reached.
#[resource(type = "RegistryConfigs.cri.talos.dev", namespace = "cri", ids("registries"), sensitive)]
pub struct RegistryConfig {
    #[field(1, omit_empty)]
    pub mirrors: BTreeMap<String, RegistryMirrorConfig>,
    #[field(2, omit_empty)]
    pub auths: BTreeMap<String, RegistryAuthConfig>,
    #[field(3, omit_empty)]
    pub tls: BTreeMap<String, RegistryTlsConfig>,
}

/// A seccomp profile that pods may use.
#[resource(type = "SeccompProfiles.cri.talos.dev", namespace = "cri")]
pub struct SeccompProfile {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub value: Value,
}

/// What every container's specification starts from.
#[resource(type = "BaseRuntimeSpecConfigs.cri.talos.dev", namespace = "cri", ids("default", "overrides"), transparent)]
pub struct BaseRuntimeSpecConfig {
    #[field(1)]
    pub object: Value,
}

/// A part of the container runtime's own configuration.
#[resource(type = "CustomizationConfigs.cri.talos.dev", namespace = "cri", sensitive)]
pub struct CustomizationConfig {
    #[field(1, secret)]
    pub content: String,
}

/// Where a registry's images may be fetched instead.
#[message]
pub struct RegistryMirrorConfig {
    #[field(1)]
    pub endpoints: Vec<RegistryEndpointConfig>,
    #[field(3, omit_empty)]
    pub skip_fallback: bool,
}

/// One such place.
#[message]
pub struct RegistryEndpointConfig {
    #[field(1)]
    pub endpoint: String,
    #[field(2)]
    pub override_path: bool,
}

/// How to log in to a registry.
#[message]
pub struct RegistryAuthConfig {
    #[field(1, omit_empty)]
    pub username: String,
    #[field(2, omit_empty, secret)]
    pub password: String,
    #[field(3, omit_empty, secret)]
    pub auth: String,
    #[field(4, omit_empty, secret)]
    pub identity_token: String,
}

/// How to trust a registry, and be trusted by it.
#[message]
pub struct RegistryTlsConfig {
    #[field(1, omit_empty)]
    pub client_identity: Option<PemPair>,
    #[field(2, omit_empty)]
    pub ca: Base64Bytes,
    #[field(3, omit_empty)]
    pub insecure_skip_verify: bool,
}

/// Whether the image cache can be used.
#[text_enum]
pub enum ImageCacheStatus {
    #[text(0)]
    Unknown,
    #[text(1)]
    Disabled,
    #[text(2)]
    Preparing,
    #[text(3)]
    Ready,
}

/// How far the copy of the image cache to disk is.
#[text_enum]
pub enum ImageCacheCopyStatus {
    #[text(0)]
    Unknown,
    #[text(1)]
    Skipped,
    #[text(2)]
    Copying,
    #[text(3)]
    Ready,
}
