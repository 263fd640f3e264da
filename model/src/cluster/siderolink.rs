//! The link to a management plane.

use std::net::SocketAddr;

use resource::resource;

/// How to reach the management plane.
#[resource(
    type = "SiderolinkConfigs.siderolink.talos.dev",
    namespace = "config",
    columns("API Endpoint" = "{.apiEndpoint}", "Tunnel" = "{.tunnel}"),
    ids("siderolink"),
    sensitive
)]
pub struct SiderolinkConfig {
    #[field(1)]
    pub api_endpoint: String,
    #[field(2)]
    pub host: String,
    #[field(3, secret)]
    pub join_token: String,
    #[field(4)]
    pub insecure: bool,
    #[field(5)]
    pub tunnel: bool,
}

/// Whether the management plane is reached.
#[resource(
    type = "SiderolinkStatuses.siderolink.talos.dev",
    namespace = "config",
    columns("Host" = "{.host}", "Connected" = "{.connected}"),
    ids("siderolink-status")
)]
pub struct SiderolinkStatus {
    #[field(1)]
    pub host: String,
    #[field(2)]
    pub connected: bool,
    #[field(3)]
    pub link_name: String,
    #[field(4)]
    pub grpc_tunnel: bool,
}

/// A tunnel to the management plane over gRPC.
#[resource(
    type = "SiderolinkTunnels.siderolink.talos.dev",
    namespace = "config",
    columns(
        "API Endpoint" = "{.apiEndpoint}",
        "Link name" = "{.linkName}",
        "MTU" = "{.mtu}",
        "Node address" = "{.nodeAddress}"
    ),
    ids("siderolink-tunnel"),
    sensitive
)]
pub struct SiderolinkTunnel {
    #[field(1)]
    pub api_endpoint: String,
    #[field(2)]
    pub link_name: String,
    #[field(3)]
    pub mtu: i64,
    #[field(4)]
    pub node_address: Option<SocketAddr>,
}
