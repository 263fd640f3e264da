//! Facts and settings of the running system that have no room of their own.

use std::collections::BTreeMap;

use resource::{Duration, message, resource};

/// Whether the first devices have been found.
#[resource(
    type = "DevicesStatuses.runtime.talos.dev",
    namespace = "runtime",
    columns("Ready" = "{.ready}"),
    ids("devices")
)]
pub struct DevicesStatus {
    #[field(1)]
    pub ready: bool,
}

/// Something that is wrong with the node and that its owner should know.
#[resource(
    type = "Diagnostics.runtime.talos.dev",
    namespace = "runtime",
    columns("Message" = "{.message}")
)]
pub struct Diagnostic {
    #[field(1)]
    pub message: String,
    #[field(2)]
    pub details: Vec<String>,
}

/// Environment variables of all services.
#[resource(
    type = "Environments.runtime.talos.dev",
    namespace = "runtime",
    aliases("env"),
    columns("Variables" = "{.variables}")
)]
pub struct Environment {
    #[field(1)]
    pub variables: Vec<String>,
}

/// Where events are sent.
#[resource(type = "EventSinkConfigs.runtime.talos.dev", namespace = "runtime", ids("event-sink"))]
pub struct EventSinkConfig {
    #[field(1)]
    pub endpoint: String,
}

/// A system extension that is part of the image.
#[resource(
    type = "ExtensionStatuses.runtime.talos.dev",
    namespace = "runtime",
    aliases("extensions"),
    columns("Name" = "{.metadata.name}", "Version" = "{.metadata.version}")
)]
pub struct ExtensionStatus {
    #[field(1)]
    pub image: String,
    #[field(2)]
    pub metadata: ExtensionMetadata,
}

/// A value of the META partition; the id is its key.
#[resource(
    type = "MetaKeys.runtime.talos.dev",
    namespace = "runtime",
    aliases("meta"),
    columns("Value" = "{.value}")
)]
pub struct MetaKey {
    #[field(1)]
    pub value: String,
}

/// Whether the META partition was read.
#[resource(
    type = "MetaLoads.runtime.talos.dev",
    namespace = "runtime",
    columns("Done" = "{.done}"),
    ids("meta-loaded")
)]
pub struct MetaLoad {
    #[field(1)]
    pub done: bool,
}

/// A mount of the system.
#[resource(
    type = "MountStatuses.runtime.talos.dev",
    namespace = "runtime",
    aliases("mounts"),
    no_automatic_aliases,
    columns("Source" = "{.source}", "Target" = "{.target}", "Filesystem Type" = "{.filesystemType}")
)]
pub struct MountStatus {
    #[field(1)]
    pub source: String,
    #[field(2)]
    pub target: String,
    #[field(3)]
    pub filesystem_type: String,
    #[field(4)]
    pub options: Vec<String>,
    #[field(5)]
    pub encrypted: bool,
    #[field(6, omit_empty)]
    pub encryption_providers: Vec<String>,
}

/// A time that memory ran out, and what was killed.
#[resource(
    type = "OOMActions.talos.dev",
    namespace = "runtime",
    columns("Time" = "{.time}", "Score" = "{.score}"),
    sensitive
)]
pub struct OomAction {
    #[field(1, omit_empty)]
    pub trigger_context: String,
    #[field(2, omit_empty)]
    pub score: f64,
    #[field(3, omit_empty)]
    pub processes: Vec<String>,
}

/// What the platform says about this machine.
#[resource(
    type = "PlatformMetadatas.talos.dev",
    namespace = "runtime",
    columns("Platform" = "{.platform}", "Type" = "{.instanceType}", "Region" = "{.region}", "Zone" = "{.zone}"),
    ids("platformmetadata")
)]
pub struct PlatformMetadata {
    #[field(1, omit_empty)]
    pub platform: String,
    #[field(2, omit_empty)]
    pub hostname: String,
    #[field(3, omit_empty)]
    pub region: String,
    #[field(4, omit_empty)]
    pub zone: String,
    #[field(5, omit_empty)]
    pub instance_type: String,
    #[field(6, omit_empty)]
    pub instance_id: String,
    #[field(7, omit_empty)]
    pub provider_id: String,
    #[field(8, omit_empty)]
    pub spot: bool,
    #[field(9, yaml = "internalDNS", omit_empty)]
    pub internal_dns: String,
    #[field(10, yaml = "externalDNS", omit_empty)]
    pub external_dns: String,
    #[field(11, omit_empty)]
    pub tags: BTreeMap<String, String>,
}

/// A component of the system and its licence.
#[resource(
    type = "SBOMItems.talos.dev",
    namespace = "runtime",
    aliases("sbom", "sboms"),
    columns("Version" = "{.version}", "License" = "{.license}", "Extension" = "{.extension}")
)]
pub struct SbomItem {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub version: String,
    #[field(3, omit_empty)]
    pub license: String,
    #[field(4, omit_empty)]
    pub cpes: Vec<String>,
    #[field(5, omit_empty)]
    pub purls: Vec<String>,
    #[field(6, omit_empty)]
    pub extension: bool,
}

/// How the hardware watchdog shall be fed.
#[resource(
    type = "WatchdogTimerConfigs.runtime.talos.dev",
    namespace = "runtime",
    columns("Device" = "{.device}", "Timeout" = "{.timeout}"),
    ids("timer")
)]
pub struct WatchdogTimerConfig {
    #[field(1)]
    pub device: String,
    #[field(2)]
    pub timeout: Duration,
}

/// How the hardware watchdog is fed.
#[resource(
    type = "WatchdogTimerStatuses.runtime.talos.dev",
    namespace = "runtime",
    columns("Device" = "{.device}", "Timeout" = "{.timeout}")
)]
pub struct WatchdogTimerStatus {
    #[field(1)]
    pub device: String,
    #[field(2)]
    pub timeout: Duration,
    #[field(3)]
    pub feed_interval: Duration,
}

/// What an extension says about itself.
#[message]
pub struct ExtensionMetadata {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub version: String,
    #[field(3)]
    pub author: String,
    #[field(4)]
    pub description: String,
    #[field(5)]
    pub compatibility: ExtensionCompatibility,
    #[field(6, omit_empty)]
    pub extra_info: String,
}

/// What an extension works with.
#[message]
pub struct ExtensionCompatibility {
    #[field(1)]
    pub talos: ExtensionConstraint,
}

/// A range of versions.
#[message]
pub struct ExtensionConstraint {
    #[field(1)]
    pub version: String,
}
