//! DNS: the servers asked, and the node's own resolver.

use std::net::{IpAddr, SocketAddr};

use resource::{message, resource, text_enum};

use super::ConfigLayer;

/// The DNS servers that are asked.
#[resource(
    type = "ResolverStatuses.net.talos.dev",
    namespace = "network",
    aliases("resolvers"),
    columns("Resolvers" = "{.dnsServers}", "Search Domains" = "{.searchDomains}")
)]
pub struct ResolverStatus {
    #[field(1)]
    pub dns_servers: Vec<IpAddr>,
    #[field(4, omit_empty)]
    pub name_servers: Vec<NameServerSpec>,
    #[field(2)]
    pub search_domains: Vec<String>,
}

/// DNS servers that shall be asked.
#[resource(
    type = "ResolverSpecs.net.talos.dev",
    namespace = "network",
    columns("Layer" = "{.layer}", "Resolvers" = "{.dnsServers}", "Search Domains" = "{.searchDomains}"),
    ids("resolvers")
)]
pub struct ResolverSpec {
    #[field(1)]
    pub dns_servers: Vec<IpAddr>,
    #[field(4, omit_empty)]
    pub name_servers: Vec<NameServerSpec>,
    #[field(2)]
    pub layer: ConfigLayer,
    #[field(3, omit_empty)]
    pub search_domains: Vec<String>,
    #[field(5, omit_empty)]
    pub search_domains_overridden: bool,
}

/// How the node's own resolver shall work.
#[resource(
    type = "HostDNSConfigs.net.talos.dev",
    namespace = "network",
    columns("Enabled" = "{.enabled}"),
    ids("config")
)]
pub struct HostDnsConfig {
    #[field(1)]
    pub enabled: bool,
    #[field(2, omit_empty)]
    pub listen_addresses: Vec<SocketAddr>,
    #[field(3, yaml = "serviceHostDNSAddress", omit_empty)]
    pub service_host_dns_address: Option<IpAddr>,
    #[field(4, omit_empty)]
    pub resolve_member_names: bool,
    #[field(5, yaml = "serviceHostDNSAddressV6", omit_empty)]
    pub service_host_dns_address_v6: Option<IpAddr>,
}

/// Whether the node's own resolver runs; one for each address and protocol it listens on.
#[resource(
    type = "DNSResolveCaches.net.talos.dev",
    namespace = "network",
    columns("Status" = "{.status}")
)]
pub struct DnsResolveCache {
    #[field(1)]
    pub status: String,
}

/// A DNS server that the node's resolver asks, and whether it answers. On the wire of the reference this is a handle within its process and
/// has no protobuf form; here it has one of its own.
#[resource(
    type = "DNSUpstreams.net.talos.dev",
    namespace = "network",
    columns("Healthy" = "{.healthy}", "Address" = "{.addr}")
)]
pub struct DnsUpstream {
    #[field(1)]
    pub addr: String,
    /// `true` or `false`, as text.
    #[field(2)]
    pub healthy: String,
}

/// A DNS server and how to speak to it.
#[message]
pub struct NameServerSpec {
    #[field(1)]
    pub addr: Option<IpAddr>,
    #[field(2)]
    pub protocol: DnsProtocol,
    #[field(3)]
    pub tls_server_name: String,
}

/// How a DNS server is spoken to.
#[text_enum(name = "DNSProtocol")]
pub enum DnsProtocol {
    #[text(0, "Do53")]
    Do53,
    #[text(1, "DoT")]
    Dot,
    #[text(2, "DoH")]
    Doh,
}
