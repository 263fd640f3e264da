//! Links: what the kernel has, and what is wanted.

use ipnet::IpNet;
use resource::{Duration, HardwareAddr, message, resource, text_enum, text_flags};

use super::{BondMasterSpec, ConfigLayer, LinkType, RoutingTable};

/// A link that the kernel has.
#[resource(
    type = "LinkStatuses.net.talos.dev",
    namespace = "network",
    aliases("link", "links"),
    columns(
        "Alias" = "{.alias}",
        "Type" = "{.type}",
        "Kind" = "{.kind}",
        "Hw Addr" = "{.hardwareAddr}",
        "Oper State" = "{.operationalState}",
        "Link State" = "{.linkState}"
    )
)]
pub struct LinkStatus {
    #[field(31, omit_empty)]
    pub alias: String,
    #[field(32, omit_empty)]
    pub alt_names: Vec<String>,
    #[field(1)]
    pub index: u32,
    #[field(2)]
    pub type_: LinkType,
    #[field(3)]
    pub link_index: u32,
    #[field(4)]
    pub flags: LinkFlags,
    #[field(5)]
    pub hardware_addr: HardwareAddr,
    #[field(30)]
    pub permanent_addr: HardwareAddr,
    #[field(6)]
    pub broadcast_addr: HardwareAddr,
    #[field(7)]
    pub mtu: u32,
    #[field(8)]
    pub queue_disc: String,
    #[field(9, omit_empty)]
    pub master_index: u32,
    #[field(10)]
    pub operational_state: OperationalState,
    #[field(11)]
    pub kind: String,
    #[field(12)]
    pub slave_kind: String,
    #[field(13, omit_empty)]
    pub bus_path: String,
    #[field(14, yaml = "pciID", omit_empty)]
    pub pci_id: String,
    #[field(15, omit_empty)]
    pub driver: String,
    #[field(16, omit_empty)]
    pub driver_version: String,
    #[field(17, omit_empty)]
    pub firmware_version: String,
    #[field(18, yaml = "productID", omit_empty)]
    pub product_id: String,
    #[field(19, yaml = "vendorID", omit_empty)]
    pub vendor_id: String,
    #[field(20, omit_empty)]
    pub product: String,
    #[field(21, omit_empty)]
    pub vendor: String,
    #[field(22)]
    pub link_state: bool,
    #[field(23, omit_empty)]
    pub speed_mbit: i64,
    #[field(24)]
    pub port: PortType,
    #[field(25)]
    pub duplex: Duplex,
    #[field(26, omit_empty)]
    pub vlan: VlanSpec,
    #[field(27, omit_empty)]
    pub bridge_master: BridgeMasterSpec,
    #[field(28, omit_empty)]
    pub bond_master: BondMasterSpec,
    #[field(33, omit_empty)]
    pub vrf_master: VrfMasterSpec,
    #[field(29, omit_empty)]
    pub wireguard: WireguardSpec,
    #[field(34, omit_empty)]
    pub veth: VethSpec,
}

/// A link that shall be there, or be set so.
#[resource(type = "LinkSpecs.net.talos.dev", namespace = "network", sensitive)]
pub struct LinkSpec {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub logical: bool,
    #[field(3)]
    pub up: bool,
    #[field(4)]
    pub mtu: u32,
    #[field(5)]
    pub kind: String,
    #[field(6)]
    pub type_: LinkType,
    #[field(15, omit_empty)]
    pub hardware_addr: HardwareAddr,
    #[field(7, omit_empty)]
    pub parent_name: String,
    #[field(8, inline)]
    pub bond_slave: BondSlave,
    #[field(9, omit_empty)]
    pub bridge_slave: BridgeSlave,
    #[field(18, omit_empty)]
    pub vrf_slave: VrfSlave,
    #[field(10, omit_empty)]
    pub vlan: VlanSpec,
    #[field(11, omit_empty)]
    pub bond_master: BondMasterSpec,
    #[field(12, omit_empty)]
    pub bridge_master: BridgeMasterSpec,
    #[field(17, omit_empty)]
    pub vrf_master: VrfMasterSpec,
    #[field(13, omit_empty)]
    pub wireguard: WireguardSpec,
    #[field(19, omit_empty)]
    pub veth: VethSpec,
    #[field(14)]
    pub layer: ConfigLayer,
    #[field(16, omit_empty)]
    pub multicast: Option<bool>,
}

/// A further name for a link; the id is the link's.
#[resource(
    type = "LinkAliasSpecs.net.talos.dev",
    namespace = "network",
    columns("Alias" = "{.alias}")
)]
pub struct LinkAliasSpec {
    #[field(1)]
    pub alias: String,
}

/// A request to read the links again, by counting up.
#[resource(type = "LinkRefreshes.net.talos.dev", namespace = "network")]
pub struct LinkRefresh {
    #[field(1)]
    pub generation: i64,
}

/// A link's place in a bond.
#[message]
pub struct BondSlave {
    #[field(1, omit_empty)]
    pub master_name: String,
    #[field(2, omit_empty)]
    pub slave_index: i64,
}

/// A link's bridge.
#[message]
pub struct BridgeSlave {
    #[field(1, omit_empty)]
    pub master_name: String,
}

/// A link's VRF.
#[message]
pub struct VrfSlave {
    #[field(1, omit_empty)]
    pub master_name: String,
}

/// A VLAN on its parent link.
#[message]
pub struct VlanSpec {
    #[field(1, yaml = "vlanID")]
    pub vlan_id: u16,
    #[field(2)]
    pub vlan_protocol: VlanProtocol,
}

/// Settings of a bridge.
#[message]
pub struct BridgeMasterSpec {
    #[field(1, omit_empty)]
    pub stp: StpSpec,
    #[field(2, omit_empty)]
    pub vlan: BridgeVlanSpec,
}

/// The spanning tree protocol of a bridge.
#[message]
pub struct StpSpec {
    #[field(1)]
    pub enabled: bool,
}

/// VLAN filtering of a bridge.
#[message]
pub struct BridgeVlanSpec {
    #[field(1)]
    pub filtering_enabled: bool,
}

/// Settings of a VRF.
#[message]
pub struct VrfMasterSpec {
    #[field(1)]
    pub table: RoutingTable,
}

/// The other end of a virtual Ethernet pair.
#[message]
pub struct VethSpec {
    #[field(1, omit_empty)]
    pub peer_name: String,
}

/// Settings of a WireGuard link.
#[message]
pub struct WireguardSpec {
    #[field(1, omit_empty, secret)]
    pub private_key: String,
    #[field(2, omit_empty)]
    pub public_key: String,
    #[field(3)]
    pub listen_port: i64,
    #[field(4)]
    pub firewall_mark: i64,
    #[field(5)]
    pub peers: Vec<WireguardPeer>,
}

/// One peer of a WireGuard link.
#[message]
pub struct WireguardPeer {
    #[field(1)]
    pub public_key: String,
    #[field(2, secret)]
    pub preshared_key: String,
    #[field(3)]
    pub endpoint: String,
    #[field(4)]
    pub persistent_keepalive_interval: Duration,
    #[field(5, yaml = "allowedIPs")]
    pub allowed_ips: Vec<IpNet>,
}

/// State of a link in the kernel (`IFF_*`).
#[text_flags]
pub enum LinkFlags {
    #[text(1, "UP")]
    Up,
    #[text(2, "BROADCAST")]
    Broadcast,
    #[text(4, "DEBUG")]
    Debug,
    #[text(8, "LOOPBACK")]
    Loopback,
    #[text(16, "POINTTOPOINT")]
    Pointtopoint,
    #[text(32, "NOTRAILERS")]
    NoTrailers,
    #[text(64, "RUNNING")]
    Running,
    #[text(128, "NOARP")]
    NoArp,
    #[text(256, "PROMISC")]
    Promisc,
    #[text(512, "ALLMULTI")]
    AllMulti,
    #[text(1024, "MASTER")]
    Master,
    #[text(2048, "SLAVE")]
    Slave,
    #[text(4096, "MULTICAST")]
    Multicast,
    #[text(8192, "PORTSEL")]
    PortSelect,
    #[text(16384, "AUTOMEDIA")]
    AutoMedia,
    #[text(32768, "DYNAMIC")]
    Dynamic,
    #[text(65536, "LOWER_UP")]
    LowerUp,
    #[text(131072, "DORMANT")]
    Dormant,
    #[text(262144, "ECHO")]
    Echo,
}

/// Whether a link works, as RFC 2863 has it.
#[text_enum]
pub enum OperationalState {
    #[text(0)]
    Unknown,
    #[text(1, "notPresent")]
    NotPresent,
    #[text(2)]
    Down,
    #[text(3, "lowerLayerDown")]
    LowerLayerDown,
    #[text(4)]
    Testing,
    #[text(5)]
    Dormant,
    #[text(6)]
    Up,
}

/// The tag that marks a VLAN, by its EtherType.
#[text_enum(name = "VLANProtocol")]
pub enum VlanProtocol {
    #[text(33024, "802.1q")]
    Ieee8021q,
    #[text(34984, "802.1ad")]
    Ieee8021ad,
}

/// The socket of a network card.
#[text_enum(name = "Port")]
pub enum PortType {
    #[text(0, "TwistedPair")]
    TwistedPair,
    #[text(1, "AUI")]
    Aui,
    #[text(2, "MII")]
    Mii,
    #[text(3, "Fibre")]
    Fibre,
    #[text(4, "BNC")]
    Bnc,
    #[text(5, "DirectAttach")]
    DirectAttach,
    #[text(239, "None")]
    None,
    #[text(255, "Other")]
    Other,
}

/// Whether a link sends and receives at once.
#[text_enum]
pub enum Duplex {
    #[text(0, "Half")]
    Half,
    #[text(1, "Full")]
    Full,
    #[text(255, "Unknown")]
    Unknown,
}
