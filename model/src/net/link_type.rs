//! The kernel's numbers for kinds of link layer (`ARPHRD_*`).

use resource::text_enum;

/// The link layer, by the kernel's number.
#[text_enum]
pub enum LinkType {
    #[text(0)]
    Netrom,
    #[text(1)]
    Ether,
    #[text(2)]
    Eether,
    #[text(3)]
    Ax25,
    #[text(4)]
    Pronet,
    #[text(5)]
    Chaos,
    #[text(6)]
    Ieee802,
    #[text(7)]
    Arcnet,
    #[text(8)]
    Atalk,
    #[text(15)]
    Dlci,
    #[text(19)]
    Atm,
    #[text(23)]
    Metricom,
    #[text(24)]
    Ieee1394,
    #[text(27)]
    Eui64,
    #[text(32)]
    Infiniband,
    #[text(256)]
    Slip,
    #[text(257)]
    Cslip,
    #[text(258)]
    Slip6,
    #[text(259)]
    Cslip6,
    #[text(260)]
    Rsrvd,
    #[text(264)]
    Adapt,
    #[text(270)]
    Rose,
    #[text(271)]
    X25,
    #[text(272)]
    Hwx25,
    #[text(280)]
    Can,
    #[text(512)]
    Ppp,
    #[text(513)]
    Cisco,
    #[text(516)]
    Lapb,
    #[text(517)]
    Ddcmp,
    #[text(518)]
    Rawhdlc,
    #[text(768)]
    Ipip,
    #[text(769)]
    Tunnel6,
    #[text(770)]
    Frad,
    #[text(771)]
    Skip,
    #[text(772)]
    Loopback,
    #[text(773)]
    Localtlk,
    #[text(774)]
    Fddi,
    #[text(775)]
    Bif,
    #[text(776)]
    Sit,
    #[text(777, "ip/ddp")]
    IpDdp,
    #[text(778)]
    Gre,
    #[text(779)]
    Pimreg,
    #[text(780)]
    Hippi,
    #[text(781)]
    Ash,
    #[text(782)]
    Econet,
    #[text(783)]
    Irda,
    #[text(784)]
    Fcpp,
    #[text(785)]
    Fcal,
    #[text(786)]
    Fcpl,
    #[text(787, "fcfb_0")]
    Fcfb0,
    #[text(788, "fcfb_1")]
    Fcfb1,
    #[text(789, "fcfb_2")]
    Fcfb2,
    #[text(790, "fcfb_3")]
    Fcfb3,
    #[text(791, "fcfb_4")]
    Fcfb4,
    #[text(792, "fcfb_5")]
    Fcfb5,
    #[text(793, "fcfb_6")]
    Fcfb6,
    #[text(794, "fcfb_7")]
    Fcfb7,
    #[text(795, "fcfb_8")]
    Fcfb8,
    #[text(796, "fcfb_9")]
    Fcfb9,
    #[text(797, "fcfb_10")]
    Fcfb10,
    #[text(798, "fcfb_11")]
    Fcfb11,
    #[text(799, "fcfb_12")]
    Fcfb12,
    #[text(800)]
    Tr,
    #[text(801, "ieee802.11")]
    Ieee80211,
    #[text(802, "ieee802.11_prism")]
    Ieee80211Prism,
    #[text(803, "ieee802.11_radiotap")]
    Ieee80211Radiotap,
    #[text(804, "ieee802.15.4")]
    Ieee802154,
    #[text(805, "ieee802.15.4_monitor")]
    Ieee802154Monitor,
    #[text(820)]
    Phonet,
    #[text(821, "phonet_pipe")]
    PhonetPipe,
    #[text(822)]
    Caif,
    #[text(823)]
    Ip6gre,
    #[text(824)]
    Netlink,
    #[text(825, "6lowpan")]
    SixLowpan,
    #[text(65534)]
    Nohdr,
    #[text(65535)]
    Void,
}
