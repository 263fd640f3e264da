//! Where API servers are, and the node's own load balancer in front of them.

use std::net::IpAddr;

use resource::{message, resource};

/// Addresses of API servers, as one source knows them.
#[resource(
    type = "Endpoints.kubernetes.talos.dev",
    namespace = "controlplane",
    columns("Addresses" = "{.addresses}", "Hosts" = "{.hosts}"),
    ids("kube-apiserver", "discovery", "controlplane")
)]
pub struct Endpoint {
    #[field(1)]
    pub addresses: Vec<IpAddr>,
    #[field(2)]
    pub hosts: Vec<String>,
}

/// The API servers that the local load balancer may use.
#[resource(
    type = "KubePrismEndpoints.kubernetes.talos.dev",
    namespace = "k8s",
    columns("Hosts" = "{.endpoints[*].host}", "Ports" = "{.endpoints[*].port}"),
    ids("k8s-cluster")
)]
pub struct KubePrismEndpoint {
    #[field(1)]
    pub endpoints: Vec<KubePrismServer>,
}

/// How the local load balancer shall work.
#[resource(
    type = "KubePrismConfigs.kubernetes.talos.dev",
    namespace = "k8s",
    columns("Host" = "{.host}", "Port" = "{.port}", "Endpoints" = "{.endpoints}"),
    ids("k8s-loadbalancer-config")
)]
pub struct KubePrismConfig {
    #[field(1)]
    pub host: String,
    #[field(2)]
    pub port: i64,
    #[field(3)]
    pub endpoints: Vec<KubePrismServer>,
}

/// Whether the local load balancer finds an API server.
#[resource(
    type = "KubePrismStatuses.kubernetes.talos.dev",
    namespace = "k8s",
    columns("HOST" = "{.host}", "HEALTHY" = "{.healthy}"),
    ids("k8s-loadbalancer")
)]
pub struct KubePrismStatus {
    #[field(1)]
    pub host: String,
    #[field(2)]
    pub healthy: bool,
}

/// One API server.
#[message]
pub struct KubePrismServer {
    #[field(1)]
    pub host: String,
    #[field(2)]
    pub port: u32,
}
