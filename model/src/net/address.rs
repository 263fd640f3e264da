//! Addresses of links, and the lists of the node's own addresses that are derived from them.

use std::net::IpAddr;

use ipnet::IpNet;
use resource::{HardwareAddr, resource, text_enum, text_flags};

use super::ConfigLayer;

/// An address that a link has.
#[resource(
    type = "AddressStatuses.net.talos.dev",
    namespace = "network",
    aliases("address", "addresses"),
    columns("Address" = "{.address}", "Link" = "{.linkName}")
)]
pub struct AddressStatus {
    #[field(1)]
    pub address: Option<IpNet>,
    #[field(2, omit_empty)]
    pub local: Option<IpAddr>,
    #[field(3, omit_empty)]
    pub broadcast: Option<IpAddr>,
    #[field(4, omit_empty)]
    pub anycast: Option<IpAddr>,
    #[field(5, omit_empty)]
    pub multicast: Option<IpAddr>,
    #[field(6)]
    pub link_index: u32,
    #[field(7)]
    pub link_name: String,
    #[field(8)]
    pub family: Family,
    #[field(9)]
    pub scope: Scope,
    #[field(10)]
    pub flags: AddressFlags,
    #[field(11)]
    pub priority: u32,
}

/// An address that a link shall have.
#[resource(type = "AddressSpecs.net.talos.dev", namespace = "network")]
pub struct AddressSpec {
    #[field(1)]
    pub address: Option<IpNet>,
    #[field(2)]
    pub link_name: String,
    #[field(3)]
    pub family: Family,
    #[field(4)]
    pub scope: Scope,
    #[field(5)]
    pub flags: AddressFlags,
    #[field(6, yaml = "announceWithARP", omit_empty)]
    pub announce_with_arp: bool,
    #[field(8, omit_empty)]
    pub priority: u32,
    #[field(7)]
    pub layer: ConfigLayer,
}

/// The link-layer address by which the machine is known: that of its first physical link.
#[resource(type = "HardwareAddresses.net.talos.dev", namespace = "network")]
pub struct HardwareAddress {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub hardware_addr: HardwareAddr,
}

/// A list of the node's own addresses: all current ones, one default, those that never went, or those that are routed, with or
/// without Kubernetes' own.
#[resource(
    type = "NodeAddresses.net.talos.dev",
    namespace = "network",
    columns("Addresses" = "{.addresses}", "SortAlgorithm" = "{.sortAlgorithm}"),
    ids("default", "current", "accumulative", "routed")
)]
pub struct NodeAddress {
    #[field(1)]
    pub addresses: Vec<IpNet>,
    #[field(2)]
    pub sort_algorithm: AddressSortAlgorithm,
}

/// A filter that gives further lists of node addresses: only, or without, some subnets.
#[resource(
    type = "NodeAddressFilters.net.talos.dev",
    namespace = "network",
    columns("Include Subnets" = "{.includeSubnets}", "Exclude Subnets" = "{.excludeSubnets}")
)]
pub struct NodeAddressFilter {
    #[field(1)]
    pub include_subnets: Vec<IpNet>,
    #[field(2)]
    pub exclude_subnets: Vec<IpNet>,
}

/// How lists of node addresses are sorted.
#[resource(
    type = "NodeAddressSortAlgorithms.net.talos.dev",
    namespace = "network",
    columns("Algorithm" = "{.algorithm}"),
    ids("default")
)]
pub struct NodeAddressSortAlgorithm {
    #[field(1)]
    pub algorithm: AddressSortAlgorithm,
}

/// A host name of `/etc/hosts`; the id is the name.
#[resource(
    type = "StaticHosts.net.talos.dev",
    namespace = "network",
    columns("Addresses" = "{.addresses}")
)]
pub struct StaticHost {
    #[field(1)]
    pub addresses: Vec<IpAddr>,
}

/// An address family, by the kernel's number (`AF_*`).
#[text_enum]
pub enum Family {
    #[text(2)]
    Inet4,
    #[text(10)]
    Inet6,
}

/// How far an address or route reaches, by the kernel's number (`RT_SCOPE_*`).
#[text_enum]
pub enum Scope {
    #[text(0)]
    Global,
    #[text(200)]
    Site,
    #[text(253)]
    Link,
    #[text(254)]
    Host,
    #[text(255)]
    Nowhere,
}

/// State of an address in the kernel (`IFA_F_*`).
#[text_flags]
pub enum AddressFlags {
    #[text(1)]
    Temporary,
    #[text(2)]
    NoDad,
    #[text(4)]
    Optimistic,
    #[text(8)]
    DadFailed,
    #[text(16)]
    HomeAddress,
    #[text(32)]
    Deprecated,
    #[text(64)]
    Tentative,
    #[text(128)]
    Permanent,
    #[text(256, "mngmtmpaddr")]
    ManageTempAddress,
    #[text(512)]
    NoPrefixRoute,
    #[text(1024)]
    McAutoJoin,
    #[text(2048)]
    StablePrivacy,
}

/// How node addresses are sorted: as text, or global ones first and the longer prefix before the shorter.
#[text_enum]
pub enum AddressSortAlgorithm {
    #[text(0)]
    V1,
    #[text(1)]
    V2,
}
