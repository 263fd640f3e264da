//! BGP: instances and their peers.

use std::net::IpAddr;

use ipnet::IpNet;
use resource::{Duration, Timestamp, message, resource, text_enum};

use super::RoutingTable;

/// A BGP speaker that shall run.
#[resource(
    type = "BGPInstanceConfigs.net.talos.dev",
    namespace = "network",
    columns(
        "Local ASN" = "{.localASN}",
        "Router ID" = "{.routerID}",
        "VRF" = "{.vrf}",
        "Neighbors" = "{.neighbors}"
    )
)]
pub struct BgpInstanceConfig {
    #[field(1, yaml = "localASN")]
    pub local_asn: u32,
    #[field(2, yaml = "routerID", omit_empty)]
    pub router_id: Option<IpAddr>,
    #[field(3, omit_empty)]
    pub route_source: Option<IpAddr>,
    #[field(4, omit_empty)]
    pub advertise_links: Vec<String>,
    #[field(5, omit_empty)]
    pub multipath: bool,
    #[field(6, omit_empty)]
    pub max_paths: u8,
    #[field(7, omit_empty)]
    pub neighbors: Vec<BgpNeighborConfigSpec>,
    #[field(8, omit_empty)]
    pub vrf: String,
    #[field(9, omit_empty)]
    pub vrf_table: RoutingTable,
    #[field(10, omit_empty)]
    pub import_routes: Vec<BgpImportRouteSpec>,
    #[field(11)]
    pub install_routes: bool,
}

/// A BGP session.
#[resource(
    type = "BGPPeerStatuses.net.talos.dev",
    namespace = "network",
    columns(
        "Instance" = "{.instance}",
        "Peer" = "{.peer}",
        "Peer AS" = "{.peerASN}",
        "State" = "{.state}",
        "Since" = "{.since}",
        "Received" = "{.received}"
    )
)]
pub struct BgpPeerStatus {
    #[field(1)]
    pub peer: String,
    #[field(2, yaml = "localASN")]
    pub local_asn: u32,
    #[field(3, yaml = "peerASN")]
    pub peer_asn: u32,
    #[field(4)]
    pub state: BgpSessionState,
    #[field(5, yaml = "routerID", omit_empty)]
    pub router_id: Option<IpAddr>,
    #[field(6, omit_empty)]
    pub since: Timestamp,
    #[field(7)]
    pub received: u32,
    #[field(8)]
    pub advertised: u32,
    #[field(9)]
    pub accepted: u32,
    #[field(10, omit_empty)]
    pub bfd_state: String,
    #[field(11)]
    pub instance: String,
}

/// A neighbour of a BGP speaker.
#[message]
pub struct BgpNeighborConfigSpec {
    #[field(1, omit_empty)]
    pub address: Option<IpAddr>,
    #[field(2, omit_empty)]
    pub link: String,
    #[field(3, yaml = "peerASN", omit_empty)]
    pub peer_asn: u32,
    #[field(4, omit_empty)]
    pub hold_time: Duration,
    #[field(5, omit_empty)]
    pub bfd: Option<BgpBfdConfigSpec>,
    #[field(6, yaml = "localASN", omit_empty)]
    pub local_asn: u32,
    #[field(7, omit_empty)]
    pub passive: bool,
}

/// Failure detection for a neighbour.
#[message]
pub struct BgpBfdConfigSpec {
    #[field(1, omit_empty)]
    pub transmit_interval: Duration,
    #[field(2, omit_empty)]
    pub receive_interval: Duration,
    #[field(3, omit_empty)]
    pub detect_multiplier: u8,
}

/// Routes taken over from another speaker.
#[message]
pub struct BgpImportRouteSpec {
    #[field(1)]
    pub bgp_instance: String,
    #[field(2)]
    pub prefixes: Vec<IpNet>,
}

/// State of a BGP session, as RFC 4271 has it.
#[text_enum(name = "BGPSessionState")]
pub enum BgpSessionState {
    #[text(0, "UNKNOWN")]
    Unknown,
    #[text(1, "IDLE")]
    Idle,
    #[text(2, "CONNECT")]
    Connect,
    #[text(3, "ACTIVE")]
    Active,
    #[text(4, "OPEN_SENT")]
    OpenSent,
    #[text(5, "OPEN_CONFIRM")]
    OpenConfirm,
    #[text(6, "ESTABLISHED")]
    Established,
}
