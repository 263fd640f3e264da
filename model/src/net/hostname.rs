//! The node's host name: what is wanted, and what is set.

use resource::resource;

use super::ConfigLayer;

/// The host name in force.
#[resource(
    type = "HostnameStatuses.net.talos.dev",
    namespace = "network",
    aliases("hostname"),
    columns("Hostname" = "{.hostname}", "Domainname" = "{.domainname}")
)]
pub struct HostnameStatus {
    #[field(1)]
    pub hostname: String,
    #[field(2)]
    pub domainname: String,
}

/// A host name that is wanted; the merged one after the layers are weighed.
#[resource(type = "HostnameSpecs.net.talos.dev", namespace = "network", ids("hostname"))]
pub struct HostnameSpec {
    #[field(1)]
    pub hostname: String,
    #[field(2)]
    pub domainname: String,
    #[field(3)]
    pub layer: ConfigLayer,
}
