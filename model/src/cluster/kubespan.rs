//! The WireGuard mesh between members.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use resource::{Timestamp, resource, text_enum};

/// How the mesh shall work.
#[resource(type = "KubeSpanConfigs.kubespan.talos.dev", namespace = "config", ids("kubespan"), sensitive)]
pub struct KubeSpanConfig {
    #[field(1)]
    pub enabled: bool,
    #[field(2)]
    pub cluster_id: String,
    #[field(3, secret)]
    pub shared_secret: String,
    #[field(4)]
    pub force_routing: bool,
    #[field(5)]
    pub advertise_kubernetes_networks: bool,
    #[field(6, omit_empty)]
    pub mtu: u32,
    #[field(7, omit_empty)]
    pub endpoint_filters: Vec<String>,
    #[field(8)]
    pub harvest_extra_endpoints: bool,
    #[field(9, omit_empty)]
    pub extra_endpoints: Vec<SocketAddr>,
    #[field(10, omit_empty)]
    pub exclude_advertised_networks: Vec<IpNet>,
}

/// This node's end of the mesh.
#[resource(
    type = "KubeSpanIdentities.kubespan.talos.dev",
    namespace = "kubespan",
    columns("Address" = "{.address}", "PublicKey" = "{.publicKey}"),
    sensitive
)]
pub struct KubeSpanIdentity {
    #[field(1)]
    pub address: Option<IpNet>,
    #[field(2)]
    pub subnet: Option<IpNet>,
    #[field(3, secret)]
    pub private_key: String,
    #[field(4)]
    pub public_key: String,
}

/// A peer that the mesh shall reach.
#[resource(
    type = "KubeSpanPeerSpecs.kubespan.talos.dev",
    namespace = "kubespan",
    columns("Label" = "{.label}", "Endpoints" = "{.endpoints}")
)]
pub struct KubeSpanPeerSpec {
    #[field(1)]
    pub address: Option<IpAddr>,
    #[field(2, yaml = "allowedIPs")]
    pub allowed_ips: Vec<IpNet>,
    #[field(3)]
    pub endpoints: Vec<SocketAddr>,
    #[field(4)]
    pub label: String,
}

/// How a peer of the mesh fares.
#[resource(
    type = "KubeSpanPeerStatuses.kubespan.talos.dev",
    namespace = "kubespan",
    columns(
        "Label" = "{.label}",
        "Endpoint" = "{.endpoint}",
        "State" = "{.state}",
        "Rx" = "{.receiveBytes}",
        "Tx" = "{.transmitBytes}"
    )
)]
pub struct KubeSpanPeerStatus {
    #[field(1)]
    pub endpoint: Option<SocketAddr>,
    #[field(2)]
    pub label: String,
    #[field(3)]
    pub state: KubeSpanPeerState,
    #[field(4)]
    pub receive_bytes: i64,
    #[field(5)]
    pub transmit_bytes: i64,
    #[field(6)]
    pub last_handshake_time: Timestamp,
    #[field(7)]
    pub last_used_endpoint: Option<SocketAddr>,
    #[field(8)]
    pub last_endpoint_change: Timestamp,
}

/// An address by which a peer was reached.
#[resource(
    type = "KubeSpanEndpoints.kubespan.talos.dev",
    namespace = "kubespan",
    columns("Endpoint" = "{.endpoint}", "Affiliate ID" = "{.affiliateID}")
)]
pub struct KubeSpanEndpoint {
    #[field(1, yaml = "affiliateID")]
    pub affiliate_id: String,
    #[field(2)]
    pub endpoint: Option<SocketAddr>,
}

/// Whether a peer answers.
#[text_enum(name = "PeerState")]
pub enum KubeSpanPeerState {
    #[text(0)]
    Unknown,
    #[text(1)]
    Up,
    #[text(2)]
    Down,
}
