//! The links of the root document, said in documents. Links that are found by a selector, or left alone, have no such form and stay as they are.

use super::devices::{Bond, Bridge, Device, DhcpOptions, Route, Vip, Vlan, Wireguard};
use crate::config::Document;
use crate::config::docs::net::{
    AdSelect, ArpAllTargets, ArpValidate, BondConfig, BondMode, BridgeConfig, BridgeStp, BridgeVlan, ClientIdentifier, CommonLink,
    Dhcp4Config, Dhcp6Config, DummyLinkConfig, FailOverMac, HCloudVipConfig, LacpRate, Layer2VipConfig, LinkAddress, LinkConfig, LinkRoute,
    PrimaryReselect, VlanConfig, WireguardConfig, WireguardPeer, XmitHashPolicy,
};
use crate::config::documents::Doc;
use crate::config::schema::Flat;
use crate::config::types::NetOrIp;

/// Whether a link has a document form.
pub(super) fn has_documents(device: &Device) -> bool {
    let members_selected = device.bond.as_ref().is_some_and(|b| !b.device_selectors.is_empty());
    let foreign_vip = device.vip.iter().chain(device.vlans.iter().filter_map(|v| v.vip.as_ref())).any(|v| v.equinix_metal.is_some());
    !device.interface.is_empty() && device.device_selector.is_none() && device.ignore != Some(true) && !members_selected && !foreign_vip
}

/// The documents of all links that have a document form.
pub(super) fn documents(devices: &[Device]) -> Vec<Document> {
    let mut out = Vec::new();
    for device in devices.iter().filter(|d| has_documents(d)) {
        let name = &device.interface;
        let link = common(device.mtu, device.addresses.iter().chain(&device.cidr), &device.routes);
        out.push(main_document(device, devices, link));
        dhcp(name, device.dhcp, device.dhcp_options.as_ref(), &mut out);
        out.extend(device.vip.as_ref().and_then(|vip| shared_address(name, vip)));
        for vlan in &device.vlans {
            vlan_documents(name, vlan, &mut out);
        }
    }
    out
}

fn common<'a>(mtu: Option<u32>, addresses: impl Iterator<Item = &'a NetOrIp>, routes: &[Route]) -> CommonLink {
    let address = |a: &NetOrIp| LinkAddress { address: Some(a.clone()), route_priority: None };
    let route = |r: &Route| LinkRoute {
        destination: r.network.as_ref().and_then(NetOrIp::net),
        gateway: r.gateway,
        source: r.source,
        metric: r.metric,
        mtu: r.mtu,
        table: None,
    };
    CommonLink {
        up: Some(true),
        mtu,
        addresses: addresses.map(address).collect(),
        routes: routes.iter().map(route).collect(),
        multicast: None,
    }
}

fn main_document(device: &Device, all: &[Device], link: CommonLink) -> Document {
    let name = device.interface.clone();
    let link = Flat(link);
    if let Some(bond) = &device.bond {
        return self::bond(name, bond, link).into_document();
    }
    if let Some(bridge) = &device.bridge {
        return self::bridge(name, bridge, all, link).into_document();
    }
    if let Some(wireguard) = &device.wireguard {
        return self::wireguard(name, wireguard, link).into_document();
    }
    if device.dummy == Some(true) {
        return DummyLinkConfig { name, hardware_addr: None, link }.into_document();
    }
    LinkConfig { name, link }.into_document()
}

fn bond(name: String, bond: &Bond, link: Flat<CommonLink>) -> BondConfig {
    BondConfig {
        name,
        link,
        links: bond.interfaces.clone(),
        bond_mode: Some(BondMode::parse(&bond.mode).unwrap_or(BondMode::BalanceRr)),
        miimon: bond.miimon,
        updelay: bond.updelay,
        downdelay: bond.downdelay,
        use_carrier: bond.use_carrier,
        xmit_hash_policy: XmitHashPolicy::parse(&bond.xmit_hash_policy),
        arp_interval: bond.arp_interval,
        arp_validate: ArpValidate::parse(&bond.arp_validate),
        arp_all_targets: ArpAllTargets::parse(&bond.arp_all_targets),
        lacp_rate: LacpRate::parse(&bond.lacp_rate),
        fail_over_mac: FailOverMac::parse(&bond.fail_over_mac),
        ad_select: AdSelect::parse(&bond.ad_select),
        ad_actor_sys_prio: bond.ad_actor_sys_prio,
        ad_user_port_key: bond.ad_user_port_key,
        primary: bond.primary.clone(),
        primary_reselect: PrimaryReselect::parse(&bond.primary_reselect),
        resend_igmp: bond.resend_igmp,
        min_links: bond.min_links,
        lp_interval: bond.lp_interval,
        packets_per_slave: bond.packets_per_slave,
        num_peer_notif: bond.num_peer_notif,
        tlb_logical_lb: bond.tlb_dynamic_lb,
        all_slaves_active: bond.all_slaves_active,
        peer_notif_delay: bond.peer_notify_delay,
        ..BondConfig::default()
    }
}

/// A bridge; its ports may say themselves to which bridge they belong.
fn bridge(name: String, bridge: &Bridge, all: &[Device], link: Flat<CommonLink>) -> BridgeConfig {
    let joining = all.iter().filter(|d| d.bridge_port.as_ref().is_some_and(|p| p.master == name)).map(|d| d.interface.clone());
    let mut links = bridge.interfaces.clone();
    links.extend(joining);
    BridgeConfig {
        links,
        hardware_addr: None,
        stp: Some(BridgeStp { enabled: Some(bridge.stp.as_ref().and_then(|s| s.enabled).unwrap_or(true)) }),
        vlan: bridge.vlan.as_ref().map(|v| BridgeVlan { filtering: v.vlan_filtering }),
        name,
        link,
    }
}

fn wireguard(name: String, wireguard: &Wireguard, link: Flat<CommonLink>) -> WireguardConfig {
    let peer = |p: &super::devices::WireguardPeer| WireguardPeer {
        public_key: p.public_key.clone(),
        endpoint: p.endpoint.clone(),
        persistent_keepalive_interval: p.persistent_keepalive_interval,
        allowed_ips: p.allowed_ips.clone(),
        ..WireguardPeer::default()
    };
    WireguardConfig {
        name,
        private_key: wireguard.private_key.clone(),
        listen_port: wireguard.listen_port,
        firewall_mark: wireguard.firewall_mark,
        peers: wireguard.peers.iter().map(peer).collect(),
        link,
    }
}

fn dhcp(name: &str, on: Option<bool>, options: Option<&DhcpOptions>, out: &mut Vec<Document>) {
    if on != Some(true) {
        return;
    }
    let options = options.cloned().unwrap_or_default();
    if options.ipv4 != Some(false) {
        out.push(Dhcp4Config { name: name.to_owned(), route_metric: options.route_metric, ..Dhcp4Config::default() }.into_document());
    }
    if options.ipv6 == Some(true) {
        let client_identifier = options.duidv6.as_ref().map(|_| ClientIdentifier::Duid);
        let dhcp = Dhcp6Config {
            name: name.to_owned(),
            route_metric: options.route_metric,
            client_identifier,
            duid_raw: options.duidv6,
            ..Dhcp6Config::default()
        };
        out.push(dhcp.into_document());
    }
}

fn shared_address(link: &str, vip: &Vip) -> Option<Document> {
    let (name, link) = (vip.ip?.to_string(), link.to_owned());
    Some(match &vip.hcloud {
        Some(cloud) => HCloudVipConfig { name, link, api_token: cloud.api_token.clone() }.into_document(),
        None => Layer2VipConfig { name, link }.into_document(),
    })
}

fn vlan_documents(parent: &str, vlan: &Vlan, out: &mut Vec<Document>) {
    let name = format!("{parent}.{}", vlan.vlan_id.unwrap_or(0));
    let link = Flat(common(vlan.mtu, vlan.addresses.iter().chain(&vlan.cidr), &vlan.routes));
    out.push(VlanConfig { name: name.clone(), vlan_id: vlan.vlan_id, vlan_mode: None, parent: parent.to_owned(), link }.into_document());
    dhcp(&name, vlan.dhcp, vlan.dhcp_options.as_ref(), out);
    out.extend(vlan.vip.as_ref().and_then(|vip| shared_address(&name, vip)));
}
