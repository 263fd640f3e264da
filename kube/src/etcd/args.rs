//! etcd's arguments and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::args::{ArgError, Args, ExtraArgs, Policy};
use crate::paths::{ETCD_DATA, ETCD_SECRETS};
use crate::subnets::{SubnetFilter, url_host};

/// TCP port for clients.
pub const CLIENT_PORT: u16 = 2379;
/// TCP port for other members.
pub const PEER_PORT: u16 = 2380;
/// TCP port for clients that speak HTTP only (metrics and health).
pub const HTTP_PORT: u16 = 2383;

/// How a member finds its cluster at its very first start; without meaning afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialCluster {
    /// Whether the cluster exists already.
    pub existing: bool,
    /// `name=peer-url`, comma separated, ours included.
    pub members: String,
}

/// What the arguments depend on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EtcdArgs {
    /// Member name: the host name.
    pub name: String,
    /// Addresses under which others reach this member.
    pub advertised: Vec<IpAddr>,
    /// Where other members connect; everywhere when empty.
    pub listen_peer: Vec<IpAddr>,
    /// Where clients connect; everywhere when empty.
    pub listen_client: Vec<IpAddr>,
    /// The user's arguments.
    pub extra: ExtraArgs,
    /// For the first start.
    pub initial: Option<InitialCluster>,
}

impl EtcdArgs {
    /// The complete argument list.
    ///
    /// # Errors
    /// A flag among `extra` that the node sets itself.
    pub fn build(&self) -> Result<Vec<String>, ArgError> {
        let secret = |file: &str| format!("{ETCD_SECRETS}/{file}");
        let listen_peer = self.listen(&self.listen_peer);
        let listen_client = self.listen(&self.listen_client);
        let mut args = Args::new()
            .with("advertise-client-urls", urls(&self.advertised, CLIENT_PORT))
            .with("auto-tls", "false")
            .with("cert-file", secret("server.crt"))
            .with("client-cert-auth", "true")
            .with("data-dir", ETCD_DATA)
            .with("feature-gates", "CompactHashCheck=true,InitialCorruptCheck=true")
            .with("initial-advertise-peer-urls", urls(&self.advertised, PEER_PORT))
            .with("key-file", secret("server.key"))
            .with("listen-client-http-urls", urls(&listen_client, HTTP_PORT))
            .with("listen-client-urls", urls(&listen_client, CLIENT_PORT))
            .with("listen-peer-urls", urls(&listen_peer, PEER_PORT))
            .with("name", self.name.clone())
            .with("peer-auto-tls", "false")
            .with("peer-cert-file", secret("peer.crt"))
            .with("peer-client-cert-auth", "true")
            .with("peer-key-file", secret("peer.key"))
            .with("peer-trusted-ca-file", secret("ca.crt"))
            .with("tls-min-version", "TLS1.3")
            .with("trusted-ca-file", secret("ca.crt"))
            .with("watch-progress-notify-interval", "5s");
        if let Some(initial) = &self.initial {
            let state = if initial.existing { "existing" } else { "new" };
            args = args.with("initial-cluster", initial.members.clone()).with("initial-cluster-state", state);
        }
        // Each flag set above is ours: etcd's identity, place and trust are the node's business.
        let ours = args.clone();
        let policies: Vec<(&str, Policy)> = self
            .extra
            .keys()
            .filter(|name| ours.contains(name) || name.starts_with("initial-cluster"))
            .map(|name| (name.as_str(), Policy::Denied))
            .collect();
        Ok(args.merged("etcd", &self.extra, &policies)?.to_flags())
    }

    /// The address under which this member is found by others, as a peer URL each.
    pub fn peer_urls(&self) -> Vec<String> {
        self.advertised.iter().map(|ip| url(ip, PEER_PORT)).collect()
    }

    /// A cluster of this member alone.
    pub fn alone(&self) -> InitialCluster {
        InitialCluster { existing: false, members: initial_members(&[(self.name.clone(), self.peer_urls())]) }
    }

    /// Everywhere means all IPv4 addresses, or all of both families where the node uses IPv6:
    /// binding `::` fails on a host without IPv6.
    fn listen(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        if !addresses.is_empty() {
            addresses.to_vec()
        } else if self.advertised.iter().any(IpAddr::is_ipv6) {
            vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
        } else {
            vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)]
        }
    }
}

/// One URL of etcd.
pub fn url(address: &IpAddr, port: u16) -> String {
    format!("https://{}:{port}", url_host(address))
}

fn urls(addresses: &[IpAddr], port: u16) -> String {
    let urls: Vec<String> = addresses.iter().map(|ip| url(ip, port)).collect();
    urls.join(",")
}

/// `name=url` of each member's each peer URL.
pub fn initial_members(members: &[(String, Vec<String>)]) -> String {
    let parts: Vec<String> = members.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}"))).collect();
    parts.join(",")
}

/// Addresses to advertise: with a filter, each current address it accepts; without, the first
/// routed one.
pub fn advertised(current: &[IpAddr], routed: &[IpAddr], filter: &SubnetFilter) -> Vec<IpAddr> {
    if filter.include.is_empty() {
        routed.iter().find(|ip| filter.accepts(ip)).into_iter().copied().collect()
    } else {
        current.iter().filter(|ip| filter.accepts(ip)).copied().collect()
    }
}

/// Addresses to listen on: with a filter, each current address it accepts and loopback, over which
/// the node's own API server connects; without, none, which means everywhere.
pub fn listen(current: &[IpAddr], filter: &SubnetFilter, with_loopback: bool) -> Vec<IpAddr> {
    if filter.include.is_empty() && filter.exclude.is_empty() {
        return Vec::new();
    }
    let mut addresses: Vec<IpAddr> = current.iter().filter(|ip| filter.accepts(ip)).copied().collect();
    if with_loopback {
        addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> EtcdArgs {
        EtcdArgs { name: "cp-1".into(), advertised: vec!["10.5.0.2".parse().unwrap()], ..Default::default() }
    }

    #[test]
    fn golden_bootstrap() {
        let mut args = args();
        args.initial = Some(args.alone());
        assert_eq!(
            args.build().unwrap().join("\n"),
            "\
--advertise-client-urls=https://10.5.0.2:2379
--auto-tls=false
--cert-file=/system/secrets/etcd/server.crt
--client-cert-auth=true
--data-dir=/var/lib/etcd
--feature-gates=CompactHashCheck=true,InitialCorruptCheck=true
--initial-advertise-peer-urls=https://10.5.0.2:2380
--initial-cluster=cp-1=https://10.5.0.2:2380
--initial-cluster-state=new
--key-file=/system/secrets/etcd/server.key
--listen-client-http-urls=https://0.0.0.0:2383
--listen-client-urls=https://0.0.0.0:2379
--listen-peer-urls=https://0.0.0.0:2380
--name=cp-1
--peer-auto-tls=false
--peer-cert-file=/system/secrets/etcd/peer.crt
--peer-client-cert-auth=true
--peer-key-file=/system/secrets/etcd/peer.key
--peer-trusted-ca-file=/system/secrets/etcd/ca.crt
--tls-min-version=TLS1.3
--trusted-ca-file=/system/secrets/etcd/ca.crt
--watch-progress-notify-interval=5s"
        );
    }

    #[test]
    fn ipv6_listens_on_both_families_and_is_bracketed() {
        let mut args = args();
        args.advertised = vec!["fd00::2".parse().unwrap()];
        let flags = args.build().unwrap();
        assert!(flags.contains(&"--listen-peer-urls=https://[::]:2380".to_owned()));
        assert!(flags.contains(&"--advertise-client-urls=https://[fd00::2]:2379".to_owned()));
    }

    #[test]
    fn own_flags_cannot_be_overridden_and_others_can_be_added() {
        let mut args = args();
        args.extra.insert("quota-backend-bytes".into(), vec!["4294967296".into()]);
        args.extra.insert("listen-metrics-urls".into(), vec!["http://0.0.0.0:2381".into()]);
        let flags = args.build().unwrap();
        assert!(flags.contains(&"--quota-backend-bytes=4294967296".to_owned()));
        for name in ["data-dir", "tls-min-version", "initial-cluster-state", "name"] {
            let mut bad = args.clone();
            bad.extra.insert(name.into(), vec!["x".into()]);
            assert!(bad.build().is_err(), "{name}");
        }
    }

    #[test]
    fn addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let current = [ip("10.5.0.2"), ip("192.168.1.2"), ip("10.5.0.9")];
        let none = SubnetFilter::default();
        assert_eq!(advertised(&current, &[ip("192.168.1.2")], &none), [ip("192.168.1.2")]);
        let ten = SubnetFilter::parse(&["10.0.0.0/8"]).unwrap();
        assert_eq!(advertised(&current, &[], &ten), [ip("10.5.0.2"), ip("10.5.0.9")]);
        assert!(listen(&current, &none, true).is_empty());
        assert_eq!(listen(&current, &ten, true), [ip("10.5.0.2"), ip("10.5.0.9"), ip("127.0.0.1")]);
    }
}
