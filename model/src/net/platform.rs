//! Network configuration that the platform supplies, and devices of the legacy configuration.

use std::net::IpAddr;

use resource::{YamlText, resource};

use super::{AddressSpec, HostnameSpec, LinkSpec, OperatorSpec, ProbeSpec, ResolverSpec, RouteSpec, TimeServerSpec};
use crate::host::PlatformMetadata;

/// Network configuration from the platform: as fetched now, and as it was kept from last time.
#[resource(type = "PlatformConfigs.net.talos.dev", namespace = "network", ids("active", "cached"))]
pub struct PlatformConfig {
    #[field(1)]
    pub addresses: Vec<AddressSpec>,
    #[field(2)]
    pub links: Vec<LinkSpec>,
    #[field(3)]
    pub routes: Vec<RouteSpec>,
    #[field(4)]
    pub hostnames: Vec<HostnameSpec>,
    #[field(5)]
    pub resolvers: Vec<ResolverSpec>,
    #[field(6)]
    pub time_servers: Vec<TimeServerSpec>,
    #[field(7)]
    pub operators: Vec<OperatorSpec>,
    #[field(8, yaml = "externalIPs")]
    pub external_ips: Vec<IpAddr>,
    #[field(9, omit_empty)]
    pub probes: Vec<ProbeSpec>,
    #[field(10, omit_empty)]
    pub metadata: Option<PlatformMetadata>,
}

/// A device of the legacy network configuration. The wire holds it as YAML text, as the configuration has it.
#[resource(type = "DeviceConfigSpecs.net.talos.dev", namespace = "network", sensitive)]
pub struct DeviceConfigSpec {
    #[field(1, secret)]
    pub device: YamlText,
}
