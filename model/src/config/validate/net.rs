//! Rules of the documents about the network and the cluster's membership.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Report, is_key32};
use crate::config::docs::net::{
    BgpInstanceConfig, BondConfig, BondMode, ClientIdentifier, CommonLink, DnsProtocol, HostnameConfig, ResolverConfig, RoutingRuleConfig,
    RuleAction, TimeSyncConfig, VethConfig, WireguardConfig,
};
use crate::config::documents::Document;

pub(super) fn check(document: &Document, report: &mut Report<'_>) {
    if let Some(link) = common_link(document) {
        link_rules("", link, report);
    }
    match document {
        Document::Vlan(c) => {
            report.require(c.vlan_id.is_none_or(|n| (1..=4094).contains(&n)), "vlanID", format!("{}", c.vlan_id.unwrap_or(0)), "1 to 4094")
        }
        Document::Bond(c) => bond(c, report),
        Document::Vrf(c) => {
            let reserved = c.table.as_ref().is_some_and(|t| matches!(t.number(), 0 | 253..=255));
            report.require(!reserved, "table", "a table of the system", "a number that is not 0, 253, 254 or 255");
        }
        Document::Veth(c) => veth(c, report),
        Document::Wireguard(c) => wireguard(c, report),
        Document::LinkAlias(c) => {
            let fine = !c.name.contains('%') || (c.name.ends_with("%d") && c.name.matches('%').count() == 1);
            report.require(fine, "name", format!("`{}`", c.name), "`%` only in `%d` at the end");
        }
        Document::Dhcp4(c) => duid(c.client_identifier, c.duid_raw.is_some(), report),
        Document::Dhcp6(c) => duid(c.client_identifier, c.duid_raw.is_some(), report),
        Document::Layer2Vip(c) => address_name(&c.name, report),
        Document::HCloudVip(c) => address_name(&c.name, report),
        Document::StaticHost(c) => {
            address_name(&c.name, report);
            report.require(!c.hostnames.is_empty(), "hostnames", "no names", "at least one");
        }
        Document::BlackholeRoute(c) => {
            report.require(c.name.parse::<IpNet>().is_ok(), "name", format!("`{}`", c.name), "a prefix such as 10.0.0.0/8")
        }
        Document::RoutingRule(c) => routing_rule(c, report),
        Document::NetworkRule(c) => {
            let mut ranges: Vec<_> = c.port_selector.iter().flat_map(|p| &p.ports).map(|p| p.range()).collect();
            ranges.sort_unstable();
            let overlap = ranges.windows(2).find(|w| w[0].1 >= w[1].0);
            report.require(overlap.is_none(), "portSelector.ports", "ranges that overlap", "each port once");
        }
        Document::Hostname(c) => hostname(c, report),
        Document::Resolver(c) => resolver(c, report),
        Document::TimeSync(c) => time_sync(c, report),
        Document::KubeSpan(c) => report.require(c.mtu.is_none_or(|m| m >= 1280), "mtu", format!("{}", c.mtu.unwrap_or(0)), "at least 1280"),
        Document::HttpProbe(c) => {
            let scheme = c.url.as_ref().map(|u| u.scheme()).unwrap_or_default();
            report.require(matches!(scheme.as_str(), "http" | "https"), "url", format!("the scheme `{scheme}`"), "http or https");
        }
        Document::BgpInstance(c) => bgp(c, report),
        Document::DiscoveryService(c) => {
            let scheme = c.endpoint.scheme();
            report.require(
                matches!(scheme.as_str(), "http" | "https" | "grpc"),
                "endpoint",
                format!("the scheme `{scheme}`"),
                "http, https or grpc",
            );
        }
        Document::DiscoveryIdentity(c) => {
            report.require(
                is_key32(c.cluster_secret.expose()),
                "clusterSecret",
                "a text that is not 32 bytes in base64",
                "32 random bytes in base64",
            );
        }
        Document::SideroLink(c) => {
            let scheme = c.api_url.scheme();
            report.require(matches!(scheme.as_str(), "https" | "grpc"), "apiUrl", format!("the scheme `{scheme}`"), "https or grpc");
            report.require(
                matches!(c.api_url.path(), "" | "/"),
                "apiUrl",
                format!("the path `{}`", c.api_url.path()),
                "a URL without a path",
            );
        }
        _ => {}
    }
}

fn common_link(document: &Document) -> Option<&CommonLink> {
    Some(match document {
        Document::Link(c) => &c.link,
        Document::DummyLink(c) => &c.link,
        Document::Vlan(c) => &c.link,
        Document::Bond(c) => &c.link,
        Document::Bridge(c) => &c.link,
        Document::Vrf(c) => &c.link,
        Document::Veth(c) => &c.link,
        Document::Wireguard(c) => &c.link,
        _ => return None,
    })
}

fn link_rules(prefix: &str, link: &CommonLink, report: &mut Report<'_>) {
    for (i, address) in link.addresses.iter().enumerate() {
        let net = address.address.as_ref().and_then(|a| a.net());
        let fine = net.is_none_or(|n| !n.addr().is_unspecified());
        report.require(fine, format!("{prefix}addresses[{i}].address"), "the unspecified address", "an address of the machine");
    }
    for (i, route) in link.routes.iter().enumerate() {
        let path = format!("{prefix}routes[{i}]");
        report.require(
            route.destination.is_some() || route.gateway.is_some(),
            &path,
            "neither destination nor gateway",
            "one of them at least",
        );
        for (key, address) in [("gateway", route.gateway), ("source", route.source)] {
            report.require(address.is_none_or(|a| !a.is_unspecified()), format!("{path}.{key}"), "the unspecified address", "an address");
        }
    }
}

fn bond(c: &BondConfig, report: &mut Report<'_>) {
    report.require(!c.links.is_empty(), "links", "no members", "at least one");
    let mode = c.bond_mode.map_or("", BondMode::as_str);
    if c.bond_mode == Some(BondMode::Lacp) && (c.miimon.is_none() || c.updelay.is_none() || c.downdelay.is_none()) {
        report.warning(
            "bondMode",
            "802.3ad without miimon, updelay and downdelay",
            "all three (such as 100, 200, 200): else a dead member is noticed late",
        );
    }
    let may_prefer = matches!(c.bond_mode, Some(BondMode::ActiveBackup | BondMode::BalanceTlb | BondMode::BalanceAlb));
    if !c.primary.is_empty() {
        report.require(
            may_prefer,
            "primary",
            format!("a preferred member in mode {mode}"),
            "mode active-backup, balance-tlb or balance-alb",
        );
        report.require(
            c.links.contains(&c.primary),
            "primary",
            format!("`{}`, which is no member", c.primary),
            format!("one of {}", c.links.join(", ")),
        );
    } else if c.primary_reselect.is_some() {
        report.warning("primaryReselect", "a rule for a preferred member", "`primary` beside it; alone it does nothing");
    }
}

fn veth(c: &VethConfig, report: &mut Report<'_>) {
    let Some(peer) = &c.peer else { return };
    link_rules("peer.", &peer.link, report);
    report.require(c.name != peer.name, "peer.name", format!("`{}` for both ends", c.name), "two names");
    for (path, name) in [("name", &c.name), ("peer.name", &peer.name)] {
        let fine = name.len() <= 15
            && !matches!(name.as_str(), "." | "..")
            && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"/:".contains(c));
        report.require(fine, path, format!("`{name}`"), "at most 15 letters without `/`, `:` and white space");
    }
}

fn wireguard(c: &WireguardConfig, report: &mut Report<'_>) {
    report.require(is_key32(c.private_key.expose()), "privateKey", "a text that is not 32 bytes in base64", "a WireGuard key");
    for (i, peer) in c.peers.iter().enumerate() {
        let path = format!("peers[{i}]");
        report.require(
            is_key32(&peer.public_key),
            format!("{path}.publicKey"),
            format!("`{}`", peer.public_key),
            "a WireGuard key: 32 bytes in base64",
        );
        let shared = peer.preshared_key.is_empty() || is_key32(peer.preshared_key.expose());
        report.require(shared, format!("{path}.presharedKey"), "a text that is not 32 bytes in base64", "a WireGuard key");
    }
}

fn duid(kind: Option<ClientIdentifier>, given: bool, report: &mut Report<'_>) {
    let wanted = kind == Some(ClientIdentifier::Duid);
    let found = if given { "a DUID" } else { "nothing" };
    report.require(given == wanted, "duidRaw", found, "a DUID with `clientIdentifier: duid`, and only then");
}

fn address_name(name: &str, report: &mut Report<'_>) {
    report.require(name.parse::<IpAddr>().is_ok(), "name", format!("`{name}`"), "an IP address: it is the name of this kind");
}

fn routing_rule(c: &RoutingRuleConfig, report: &mut Report<'_>) {
    let priority = c.name.parse::<u32>().ok().filter(|p| !matches!(p, 0 | 32500 | 32766 | 32767));
    report.require(priority.is_some(), "name", format!("`{}`", c.name), "the priority: a number that is not 0, 32500, 32766 or 32767");
    let acts = c.table.is_some() || !matches!(c.action, None | Some(RuleAction::Unicast));
    report.require(acts, "table", "nothing", "a table, or an action other than unicast");
    report.require(c.fw_mask.is_none() || c.fw_mark.is_some(), "fwMask", "a mask without a mark", "`fwMark` beside it");
}

fn hostname(c: &HostnameConfig, report: &mut Report<'_>) {
    use crate::config::docs::net::AutoHostname;
    report.require(c.auto.is_some() || !c.hostname.is_empty(), "", "neither auto nor hostname", "`auto: stable`, or `hostname: …`");
    let both = c.auto == Some(AutoHostname::Stable) && !c.hostname.is_empty();
    report.require(!both, "hostname", "both a name and `auto: stable`", "one of them");
    let first = c.hostname.split('.').next().unwrap_or_default();
    let fine = c.hostname.is_empty() || (c.hostname.len() <= 253 && (1..=63).contains(&first.len()));
    report.require(
        fine,
        "hostname",
        format!("a name of {} letters", c.hostname.len()),
        "at most 253 letters, 1 to 63 of them before the first dot",
    );
}

fn resolver(c: &ResolverConfig, report: &mut Report<'_>) {
    let encrypted = |p: Option<DnsProtocol>| !matches!(p, None | Some(DnsProtocol::Do53));
    for (i, server) in c.nameservers.iter().enumerate() {
        let path = format!("nameservers[{i}].tlsServerName");
        if encrypted(server.protocol) {
            report.require(!server.tls_server_name.is_empty(), path, "nothing", "the name in the server's certificate");
        } else {
            report.require(server.tls_server_name.is_empty(), path, "a name for a plain server", "it with DoT or DoH only");
        }
    }
    if !c.nameservers.is_empty() && c.nameservers.iter().all(|n| encrypted(n.protocol)) {
        report.warning("nameservers", "encrypted servers only", "a plain one too: before the clock is right no certificate is valid");
    }
    if let Some(dns) = c.host_dns.as_ref().filter(|d| d.enabled != Some(true)) {
        for (key, set) in [("forwardKubeDNSToHost", dns.forward_kube_dns_to_host), ("resolveMemberNames", dns.resolve_member_names)] {
            report.require(set != Some(true), format!("hostDNS.{key}"), "`true` while hostDNS is off", "`enabled: true` beside it");
        }
    }
}

fn time_sync(c: &TimeSyncConfig, report: &mut Report<'_>) {
    report.require(c.ntp.is_none() || c.ptp.is_none(), "ptp", "both ntp and ptp", "one of them");
    let Some(ntp) = c.ntp.as_ref().filter(|n| n.use_nts == Some(true)) else { return };
    for (i, server) in ntp.servers.iter().enumerate() {
        report.require(
            server.parse::<IpAddr>().is_err(),
            format!("ntp.servers[{i}]"),
            format!("the address `{server}`"),
            "a name: authentication needs it",
        );
    }
}

fn bgp(c: &BgpInstanceConfig, report: &mut Report<'_>) {
    report.require(c.router_id.is_none_or(|r| r.is_ipv4()), "routerID", "an IPv6 address", "an IPv4 address");
    if c.neighbors.is_empty() {
        report.warning("neighbors", "no neighbours", "at least one: alone it does nothing");
    }
    let mut seen = BTreeSet::new();
    for (i, neighbor) in c.neighbors.iter().enumerate() {
        let path = format!("neighbors[{i}]");
        let one = neighbor.address.is_some() == neighbor.link.is_empty();
        report.require(one, &path, "both or neither of address and link", "exactly one of them");
        let id = neighbor.address.map_or_else(|| neighbor.link.clone(), |a| a.to_string());
        report.require(seen.insert(id.clone()), &path, format!("`{id}` a second time"), "each neighbour once");
        report.require(
            neighbor.bfd.is_none() || c.vrf.is_empty(),
            format!("{path}.bfd"),
            "failure detection in a VRF",
            "it without `vrf` only",
        );
    }
    let mut instances = BTreeSet::new();
    for (i, import) in c.import_routes.iter().enumerate() {
        let path = format!("importRoutes[{i}]");
        report.require(import.bgp_instance != c.name, &path, "routes of itself", "another instance");
        report.require(
            instances.insert(&import.bgp_instance),
            &path,
            format!("`{}` a second time", import.bgp_instance),
            "each instance once",
        );
        for (j, net) in import.prefixes.iter().enumerate() {
            report.require(
                net.addr() == net.network(),
                format!("{path}.prefixes[{j}]"),
                format!("`{net}`, which has host bits"),
                format!("`{}`", net.trunc()),
            );
            let overlap = import.prefixes[..j].iter().any(|other| other.contains(net) || net.contains(other));
            report.require(
                !overlap,
                format!("{path}.prefixes[{j}]"),
                format!("`{net}`, which overlaps another"),
                "prefixes apart from each other",
            );
        }
    }
}
