//! Chains of the node's firewall.

use ipnet::IpNet;
use resource::{message, resource, text_enum};

/// A chain of the node's own nftables table.
#[resource(
    type = "NfTablesChains.net.talos.dev",
    namespace = "network",
    aliases("chain", "chains"),
    columns("Type" = "{.type}", "Hook" = "{.hook}", "Priority" = "{.priority}", "Policy" = "{.policy}")
)]
pub struct NfTablesChain {
    #[field(1)]
    pub type_: String,
    #[field(2)]
    pub hook: NfTablesChainHook,
    #[field(3)]
    pub priority: NfTablesChainPriority,
    #[field(5)]
    pub policy: NfTablesVerdict,
    #[field(4)]
    pub rules: Vec<NfTablesRule>,
}

/// One rule: all its matches must hold for its actions to happen.
#[message]
pub struct NfTablesRule {
    #[field(8, yaml = "matchIIfName", omit_empty)]
    pub match_iif_name: Option<NfTablesIfNameMatch>,
    #[field(1, yaml = "matchOIfName", omit_empty)]
    pub match_oif_name: Option<NfTablesIfNameMatch>,
    #[field(3, omit_empty)]
    pub match_mark: Option<NfTablesMark>,
    #[field(11, omit_empty)]
    pub match_conntrack_state: Option<NfTablesConntrackStateMatch>,
    #[field(5, omit_empty)]
    pub match_source_address: Option<NfTablesAddressMatch>,
    #[field(6, omit_empty)]
    pub match_destination_address: Option<NfTablesAddressMatch>,
    #[field(7, omit_empty)]
    pub match_layer4: Option<NfTablesLayer4Match>,
    #[field(10, omit_empty)]
    pub match_limit: Option<NfTablesLimitMatch>,
    #[field(9, yaml = "clampMSS", omit_empty)]
    pub clamp_mss: Option<NfTablesClampMss>,
    #[field(4, omit_empty)]
    pub set_mark: Option<NfTablesMark>,
    #[field(12, omit_empty)]
    pub anonymous_counter: bool,
    #[field(2, omit_empty)]
    pub verdict: Option<NfTablesVerdict>,
}

/// Matches the name of a link.
#[message]
pub struct NfTablesIfNameMatch {
    #[field(3)]
    pub interface_name: Vec<String>,
    #[field(2)]
    pub operator: MatchOperator,
}

/// Matches or sets the packet's mark.
#[message]
pub struct NfTablesMark {
    #[field(1, omit_empty)]
    pub mask: u32,
    #[field(2, omit_empty)]
    pub xor: u32,
    #[field(3, omit_empty)]
    pub value: u32,
}

/// Matches the state of the connection.
#[message]
pub struct NfTablesConntrackStateMatch {
    #[field(1)]
    pub states: Vec<ConntrackState>,
}

/// Matches an address.
#[message]
pub struct NfTablesAddressMatch {
    #[field(1, omit_empty)]
    pub include_subnets: Vec<IpNet>,
    #[field(2, omit_empty)]
    pub exclude_subnets: Vec<IpNet>,
    #[field(3, omit_empty)]
    pub invert: bool,
}

/// Matches protocol, ports and ICMP types.
#[message]
pub struct NfTablesLayer4Match {
    #[field(1)]
    pub protocol: IpProtocol,
    #[field(2, omit_empty)]
    pub match_source_port: Option<NfTablesPortMatch>,
    #[field(3, omit_empty)]
    pub match_destination_port: Option<NfTablesPortMatch>,
    #[field(4, yaml = "matchICMPType", omit_empty)]
    pub match_icmp_type: Option<NfTablesIcmpTypeMatch>,
}

/// Matches ranges of ports.
#[message]
pub struct NfTablesPortMatch {
    #[field(1, omit_empty)]
    pub ranges: Vec<PortRange>,
}

/// A range of ports, both ends included.
#[message]
pub struct PortRange {
    #[field(1)]
    pub lo: u16,
    #[field(2)]
    pub hi: u16,
}

/// Matches ICMP types by number.
#[message]
pub struct NfTablesIcmpTypeMatch {
    #[field(1)]
    pub types: Vec<u32>,
}

/// Matches while packets come no faster than this.
#[message]
pub struct NfTablesLimitMatch {
    #[field(1)]
    pub packet_rate_per_second: u64,
}

/// Sets the segment size of TCP connections to fit this MTU.
#[message]
pub struct NfTablesClampMss {
    #[field(1)]
    pub mtu: u16,
}

/// Where in a packet's way a chain is hooked.
#[text_enum]
pub enum NfTablesChainHook {
    #[text(0)]
    Prerouting,
    #[text(1)]
    Input,
    #[text(2)]
    Forward,
    #[text(3)]
    Output,
    #[text(4)]
    Postrouting,
}

/// Where among the chains of a hook a chain comes.
#[text_enum]
pub enum NfTablesChainPriority {
    #[text(-400, "conntrack-defrag")]
    ConntrackDefrag,
    #[text(-300)]
    Raw,
    #[text(-225, "selinux-first")]
    SelinuxFirst,
    #[text(-200)]
    Conntrack,
    #[text(-150)]
    Mangle,
    #[text(-100, "nat-dest")]
    NatDest,
    #[text(0)]
    Filter,
    #[text(50)]
    Security,
    #[text(100, "nat-source")]
    NatSource,
    #[text(225, "selinux-last")]
    SelinuxLast,
    #[text(300, "conntrack-helper")]
    ConntrackHelper,
}

/// What happens to a packet.
#[text_enum]
pub enum NfTablesVerdict {
    #[text(0)]
    Drop,
    #[text(1)]
    Accept,
}

/// Whether a match is turned around.
#[text_enum]
pub enum MatchOperator {
    #[text(0, "==")]
    Equal,
    #[text(1, "!=")]
    NotEqual,
}

/// State of a connection, by the kernel's bit.
#[text_enum]
pub enum ConntrackState {
    #[text(1)]
    Invalid,
    #[text(2)]
    Established,
    #[text(4)]
    Related,
    #[text(8)]
    New,
}

/// A protocol above IP, by its number.
#[text_enum(name = "Protocol")]
pub enum IpProtocol {
    #[text(1)]
    Icmp,
    #[text(6)]
    Tcp,
    #[text(17)]
    Udp,
    #[text(58)]
    IcmpV6,
}
