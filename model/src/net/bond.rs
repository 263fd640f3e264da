//! Bonds: several links as one.

use std::net::IpAddr;

use resource::{message, text_enum};

/// Settings of a bond; the names are the kernel's.
#[message]
pub struct BondMasterSpec {
    #[field(1)]
    pub mode: BondMode,
    #[field(2)]
    pub xmit_hash_policy: BondXmitHashPolicy,
    #[field(3)]
    pub lacp_rate: LacpRate,
    #[field(4)]
    pub arp_validate: ArpValidate,
    #[field(5)]
    pub arp_all_targets: ArpAllTargets,
    #[field(6, omit_empty)]
    pub primary_index: Option<u32>,
    #[field(7)]
    pub primary_reselect: PrimaryReselect,
    #[field(8)]
    pub fail_over_mac: FailOverMac,
    #[field(9, omit_empty)]
    pub ad_select: AdSelect,
    #[field(10, omit_empty)]
    pub miimon: u32,
    #[field(11, omit_empty)]
    pub updelay: u32,
    #[field(12, omit_empty)]
    pub downdelay: u32,
    #[field(13, omit_empty)]
    pub arp_interval: u32,
    #[field(14, omit_empty)]
    pub resend_igmp: u32,
    #[field(15, omit_empty)]
    pub min_links: u32,
    #[field(16, omit_empty)]
    pub lp_interval: u32,
    #[field(17, omit_empty)]
    pub packets_per_slave: u32,
    #[field(18, omit_empty)]
    pub num_peer_notif: u8,
    #[field(19, omit_empty)]
    pub tlb_logical_lb: u8,
    #[field(20, omit_empty)]
    pub all_slaves_active: u8,
    #[field(21, omit_empty)]
    pub use_carrier: bool,
    #[field(22, omit_empty)]
    pub ad_actor_sys_prio: u16,
    #[field(23, omit_empty)]
    pub ad_user_port_key: u16,
    #[field(24, omit_empty)]
    pub peer_notify_delay: u32,
    #[field(25, omit_empty)]
    pub arp_ip_targets: Vec<IpAddr>,
    #[field(26, omit_empty)]
    pub ns_ip6_targets: Vec<IpAddr>,
    #[field(27, omit_empty)]
    pub ad_lacp_active: Option<AdLacpActive>,
    #[field(28, omit_empty)]
    pub missed_max: u8,
    #[field(29, omit_empty)]
    pub primary: String,
}

/// How a bond spreads its traffic.
#[text_enum]
pub enum BondMode {
    #[text(0, "balance-rr")]
    BalanceRr,
    #[text(1, "active-backup")]
    ActiveBackup,
    #[text(2, "balance-xor")]
    BalanceXor,
    #[text(3)]
    Broadcast,
    #[text(4, "802.3ad")]
    Ieee8023ad,
    #[text(5, "balance-tlb")]
    BalanceTlb,
    #[text(6, "balance-alb")]
    BalanceAlb,
}

/// What a bond hashes to choose a link.
#[text_enum]
pub enum BondXmitHashPolicy {
    #[text(0)]
    Layer2,
    #[text(1, "layer3+4")]
    Layer34,
    #[text(2, "layer2+3")]
    Layer23,
    #[text(3, "encap2+3")]
    Encap23,
    #[text(4, "encap3+4")]
    Encap34,
}

/// How often LACP packets are asked for.
#[text_enum(name = "LACPRate")]
pub enum LacpRate {
    #[text(0)]
    Slow,
    #[text(1)]
    Fast,
}

/// Which ARP replies a bond checks.
#[text_enum(name = "ARPValidate")]
pub enum ArpValidate {
    #[text(0)]
    None,
    #[text(1)]
    Active,
    #[text(2)]
    Backup,
    #[text(3)]
    All,
    #[text(4)]
    Filter,
    #[text(5, "filter-active")]
    FilterActive,
    #[text(6, "filter-backup")]
    FilterBackup,
}

/// Whether one ARP target that answers is enough.
#[text_enum(name = "ARPAllTargets")]
pub enum ArpAllTargets {
    #[text(0)]
    Any,
    #[text(1)]
    All,
}

/// When a bond goes back to its primary link.
#[text_enum]
pub enum PrimaryReselect {
    #[text(0)]
    Always,
    #[text(1)]
    Better,
    #[text(2)]
    Failure,
}

/// Whose hardware address a bond takes on failover.
#[text_enum(name = "FailOverMAC")]
pub enum FailOverMac {
    #[text(0)]
    None,
    #[text(1)]
    Active,
    #[text(2)]
    Follow,
}

/// How an 802.3ad bond chooses its aggregator.
#[text_enum(name = "ADSelect")]
pub enum AdSelect {
    #[text(0)]
    Stable,
    #[text(1)]
    Bandwidth,
    #[text(2)]
    Count,
}

/// Whether a bond sends LACP packets unasked.
#[text_enum(name = "ADLACPActive")]
pub enum AdLacpActive {
    #[text(0)]
    Off,
    #[text(1)]
    On,
}
