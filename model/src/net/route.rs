//! Routes and routing rules.

use std::net::IpAddr;

use ipnet::IpNet;
use resource::{message, resource, text_enum, text_flags};

use super::{ConfigLayer, Family, Scope};

/// A route that the kernel has.
#[resource(
    type = "RouteStatuses.net.talos.dev",
    namespace = "network",
    aliases("route", "routes"),
    columns(
        "Destination" = "{.dst}",
        "Gateway" = "{.gateway}",
        "Link" = "{.outLinkName}",
        "Metric" = "{.priority}"
    )
)]
pub struct RouteStatus {
    #[field(1)]
    pub family: Family,
    #[field(2)]
    pub dst: Option<IpNet>,
    #[field(3)]
    pub src: Option<IpAddr>,
    #[field(4)]
    pub gateway: Option<IpAddr>,
    #[field(5, omit_empty)]
    pub out_link_index: u32,
    #[field(6, omit_empty)]
    pub out_link_name: String,
    #[field(7)]
    pub table: RoutingTable,
    #[field(8)]
    pub priority: u32,
    #[field(9)]
    pub scope: Scope,
    #[field(10)]
    pub type_: RouteType,
    #[field(11)]
    pub flags: RouteFlags,
    #[field(12)]
    pub protocol: RouteProtocol,
    #[field(13, omit_empty)]
    pub mtu: u32,
    #[field(14, omit_empty)]
    pub next_hops: Vec<RouteNextHop>,
}

/// A route that shall be there.
#[resource(type = "RouteSpecs.net.talos.dev", namespace = "network")]
pub struct RouteSpec {
    #[field(1)]
    pub family: Family,
    #[field(2)]
    pub dst: Option<IpNet>,
    #[field(3)]
    pub src: Option<IpAddr>,
    #[field(4)]
    pub gateway: Option<IpAddr>,
    #[field(5, omit_empty)]
    pub out_link_name: String,
    #[field(6)]
    pub table: RoutingTable,
    #[field(7, omit_empty)]
    pub priority: u32,
    #[field(8)]
    pub scope: Scope,
    #[field(9)]
    pub type_: RouteType,
    #[field(10)]
    pub flags: RouteFlags,
    #[field(11)]
    pub protocol: RouteProtocol,
    #[field(12)]
    pub layer: ConfigLayer,
    #[field(13, omit_empty)]
    pub mtu: u32,
    #[field(14, omit_empty)]
    pub next_hops: Vec<RouteNextHop>,
}

/// A routing rule that shall be there.
#[resource(type = "RoutingRuleSpecs.net.talos.dev", namespace = "network")]
pub struct RoutingRuleSpec {
    #[field(1)]
    pub family: Family,
    #[field(2)]
    pub src: Option<IpNet>,
    #[field(3)]
    pub dst: Option<IpNet>,
    #[field(4)]
    pub table: RoutingTable,
    #[field(5)]
    pub priority: u32,
    #[field(6)]
    pub action: RoutingRuleAction,
    #[field(7, omit_empty)]
    pub iif_name: String,
    #[field(8, omit_empty)]
    pub oif_name: String,
    #[field(9, omit_empty)]
    pub fw_mark: u32,
    #[field(10, omit_empty)]
    pub fw_mask: u32,
    #[field(11)]
    pub layer: ConfigLayer,
}

/// A routing rule that the kernel has.
#[resource(
    type = "RoutingRuleStatuses.net.talos.dev",
    namespace = "network",
    aliases("routingrule", "routingrules"),
    columns("Src" = "{.src}", "Dst" = "{.dst}", "Table" = "{.table}", "Priority" = "{.priority}")
)]
pub struct RoutingRuleStatus {
    #[field(1)]
    pub family: Family,
    #[field(2)]
    pub src: Option<IpNet>,
    #[field(3)]
    pub dst: Option<IpNet>,
    #[field(4)]
    pub table: RoutingTable,
    #[field(5)]
    pub priority: u32,
    #[field(6)]
    pub action: RoutingRuleAction,
    #[field(7, omit_empty)]
    pub iif_name: String,
    #[field(8, omit_empty)]
    pub oif_name: String,
    #[field(9, omit_empty)]
    pub fw_mark: u32,
    #[field(10, omit_empty)]
    pub fw_mask: u32,
}

/// One of several ways that a route may take.
#[message]
pub struct RouteNextHop {
    #[field(1)]
    pub gateway: Option<IpAddr>,
    #[field(2, omit_empty)]
    pub out_link_name: String,
    #[field(3, omit_empty)]
    pub weight: u32,
}

/// A routing table, by number; four have names.
#[text_enum(bare)]
pub enum RoutingTable {
    #[text(0)]
    Unspec,
    #[text(253)]
    Default,
    #[text(254)]
    Main,
    #[text(255)]
    Local,
}

/// What a route does with packets (`RTN_*`).
#[text_enum]
pub enum RouteType {
    #[text(0)]
    Unspec,
    #[text(1)]
    Unicast,
    #[text(2)]
    Local,
    #[text(3)]
    Broadcast,
    #[text(4)]
    Anycast,
    #[text(5)]
    Multicast,
    #[text(6)]
    Blackhole,
    #[text(7)]
    Unreachable,
    #[text(8)]
    Prohibit,
    #[text(9)]
    Throw,
    #[text(10)]
    Nat,
    #[text(11)]
    Xresolve,
}

/// State of a route in the kernel (`RTM_F_*`, `RTNH_F_*`).
#[text_flags]
pub enum RouteFlags {
    #[text(256)]
    Notify,
    #[text(512)]
    Cloned,
    #[text(1024)]
    Equalize,
    #[text(2048)]
    Prefix,
    #[text(4096, "lookup_table")]
    LookupTable,
    #[text(8192, "fib_match")]
    FibMatch,
    #[text(16384)]
    Offload,
    #[text(32768)]
    Trap,
}

/// Who made a route (`RTPROT_*`).
#[text_enum]
pub enum RouteProtocol {
    #[text(0)]
    Unspec,
    #[text(1)]
    Redirect,
    #[text(2)]
    Kernel,
    #[text(3)]
    Boot,
    #[text(4)]
    Static,
    #[text(9)]
    Ra,
    #[text(10)]
    Mrt,
    #[text(11)]
    Zebra,
    #[text(12)]
    Bird,
    #[text(13)]
    DnRouted,
    #[text(14)]
    Xorp,
    #[text(15)]
    Ntk,
    #[text(16)]
    Dhcp,
    #[text(17)]
    Mrtd,
    #[text(18)]
    Keepalived,
    #[text(42)]
    Babel,
    #[text(99)]
    Openr,
    #[text(186)]
    Bgp,
    #[text(187)]
    Isis,
    #[text(188)]
    Ospf,
    #[text(189)]
    Rip,
    #[text(192)]
    Eigrp,
}

/// What a routing rule does with packets (`FR_ACT_*`).
#[text_enum]
pub enum RoutingRuleAction {
    #[text(0)]
    Unspec,
    #[text(1)]
    Unicast,
    #[text(6)]
    Blackhole,
    #[text(7)]
    Unreachable,
    #[text(8)]
    Prohibit,
}
