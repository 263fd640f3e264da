//! Name resolution: which DNS servers are asked, how host DNS works, and names with fixed addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use engine::{Context, Controller, Inputs, Many, Marks, One, OneExt, Outputs, Wanted};
use model::config::docs::net::{DnsProtocol as ConfigProtocol, ResolverConfig, StaticHostConfig};
use model::host::MachineConfig;
use model::net::{
    AddressSpec, ConfigLayer, DnsProtocol, Family, HostDnsConfig, NameServerSpec, PlatformConfig, ResolverSpec, ResolverStatus, Scope,
    StaticHost,
};

use crate::layers::{CONFIG, in_order, prefix};

/// Where the node itself asks host DNS.
pub const HOST_DNS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
/// Where pods' DNS asks host DNS.
pub const HOST_DNS_FOR_PODS: Ipv4Addr = Ipv4Addr::new(169, 254, 116, 108);
/// The same by IPv6.
pub const HOST_DNS_FOR_PODS_V6: Ipv6Addr = Ipv6Addr::new(0xfd54, 0x616c, 0x6f73, 0, 0x204f, 0x5320, 0x444e, 0x0531);
const DNS_PORT: u16 = 53;
/// Who is asked when nobody says anything else.
const DEFAULT_SERVERS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8))];
const ID: &str = "resolvers";

/// What each source says about DNS servers.
pub(crate) struct ResolverConfigController;

#[derive(Inputs)]
pub(crate) struct ConfigIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "active")]
    platform: One<PlatformConfig>,
}

impl Controller for ResolverConfigController {
    const NAME: &'static str = "network.ResolverConfigController";
    type In = ConfigIn;

    fn outputs() -> Outputs {
        Outputs::new().shared_in::<ResolverSpec>(CONFIG)
    }

    async fn reconcile(&self, _: &Context, input: ConfigIn) -> engine::Result<Wanted> {
        let mut wanted = Wanted::new();
        let mut add = |spec: ResolverSpec| wanted.add_in(CONFIG, prefix(spec.layer, ID), spec, Marks::default());
        add(ResolverSpec { dns_servers: DEFAULT_SERVERS.to_vec(), layer: ConfigLayer::Default, ..ResolverSpec::default() });
        if let Some(spec) = input.platform.spec().and_then(|platform| platform.resolvers.first()) {
            add(ResolverSpec { layer: ConfigLayer::Platform, ..spec.clone() });
        }
        let machine = input.config.spec().and_then(|config| config.machine());
        if let Some(config) = machine.and_then(|machine| machine.get::<ResolverConfig>())
            && let Some(spec) = configured(config)
        {
            add(spec);
        }
        Ok(wanted)
    }
}

fn configured(config: &ResolverConfig) -> Option<ResolverSpec> {
    let name_servers: Vec<NameServerSpec> = config
        .nameservers
        .iter()
        .map(|server| NameServerSpec {
            addr: server.address,
            protocol: match server.protocol {
                None | Some(ConfigProtocol::Do53) => DnsProtocol::Do53,
                Some(ConfigProtocol::DoT) => DnsProtocol::Dot,
                Some(ConfigProtocol::DoH) => DnsProtocol::Doh,
            },
            tls_server_name: server.tls_server_name.clone(),
        })
        .collect();
    let plain = |server: &NameServerSpec| (server.protocol == DnsProtocol::Do53).then_some(server.addr).flatten();
    let search = config.search_domains.as_ref();
    let spec = ResolverSpec {
        dns_servers: name_servers.iter().filter_map(plain).collect(),
        name_servers: if name_servers.iter().all(|server| server.protocol == DnsProtocol::Do53) { Vec::new() } else { name_servers },
        layer: ConfigLayer::Configuration,
        search_domains: search.map(|search| search.domains.clone()).unwrap_or_default(),
        search_domains_overridden: search.is_some_and(|search| search.disable_default == Some(true)),
    };
    let says =
        !spec.dns_servers.is_empty() || !spec.name_servers.is_empty() || !spec.search_domains.is_empty() || spec.search_domains_overridden;
    says.then_some(spec)
}

/// The servers of the last layer that names any, and the same for search domains.
pub(crate) struct ResolverMergeController;

#[derive(Inputs)]
pub(crate) struct MergeIn {
    #[input(namespace = "network-config")]
    specs: Many<ResolverSpec>,
}

impl Controller for ResolverMergeController {
    const NAME: &'static str = "network.ResolverMergeController";
    type In = MergeIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<ResolverSpec>()
    }

    async fn reconcile(&self, _: &Context, input: MergeIn) -> engine::Result<Wanted> {
        let mut merged: Option<ResolverSpec> = None;
        for (_, spec) in in_order(&input.specs) {
            let into = merged.get_or_insert_with(ResolverSpec::default);
            into.layer = spec.layer;
            if !spec.dns_servers.is_empty() || !spec.name_servers.is_empty() {
                into.dns_servers.clone_from(&spec.dns_servers);
                into.name_servers.clone_from(&spec.name_servers);
            }
            if !spec.search_domains.is_empty() || spec.search_domains_overridden {
                into.search_domains.clone_from(&spec.search_domains);
                into.search_domains_overridden = spec.search_domains_overridden;
            }
        }
        Ok(Wanted::new().maybe(ID, merged))
    }
}

/// What is in force: nothing has to be told to the kernel.
pub(crate) struct ResolverStatusController;

#[derive(Inputs)]
pub(crate) struct StatusIn {
    #[input(id = "resolvers")]
    spec: One<ResolverSpec>,
}

impl Controller for ResolverStatusController {
    const NAME: &'static str = "network.ResolverSpecController";
    type In = StatusIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<ResolverStatus>()
    }

    async fn reconcile(&self, _: &Context, input: StatusIn) -> engine::Result<Wanted> {
        let status = input.spec.spec().map(|spec| ResolverStatus {
            dns_servers: spec.dns_servers.clone(),
            name_servers: spec.name_servers.clone(),
            search_domains: spec.search_domains.clone(),
        });
        Ok(Wanted::new().maybe(ID, status))
    }
}

/// How host DNS shall work, and the address it needs on `lo`.
pub(crate) struct HostDnsConfigController;

#[derive(Inputs)]
pub(crate) struct HostDnsIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
}

impl Controller for HostDnsConfigController {
    const NAME: &'static str = "network.HostDNSConfigController";
    type In = HostDnsIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<HostDnsConfig>().shared_in::<AddressSpec>(CONFIG)
    }

    async fn reconcile(&self, _: &Context, input: HostDnsIn) -> engine::Result<Wanted> {
        let Some(machine) = input.config.spec().and_then(|config| config.machine()) else {
            return Ok(Wanted::unknown("the machine configuration"));
        };
        let wanted = machine.host_dns();
        let enabled = wanted.enabled == Some(true);
        let forward = enabled && wanted.forward_kube_dns_to_host == Some(true);
        let mut config = HostDnsConfig { enabled, ..HostDnsConfig::default() };
        let mut out = Wanted::new();
        if enabled {
            config.resolve_member_names = wanted.resolve_member_names == Some(true);
            config.listen_addresses.push(SocketAddr::from((HOST_DNS, DNS_PORT)));
        }
        if forward {
            config.service_host_dns_address = Some(HOST_DNS_FOR_PODS.into());
            config.listen_addresses.push(SocketAddr::from((HOST_DNS_FOR_PODS, DNS_PORT)));
            let address = ipnet::IpNet::from(IpAddr::from(HOST_DNS_FOR_PODS));
            let spec = AddressSpec {
                address: Some(address),
                link_name: "lo".into(),
                family: Family::Inet4,
                scope: Scope::Host,
                layer: ConfigLayer::Operator,
                ..AddressSpec::default()
            };
            out.add_in(CONFIG, prefix(ConfigLayer::Operator, &format!("lo/{address}")), spec, Marks::default());
        }
        Ok(out.with("config", config))
    }
}

/// Names with fixed addresses, from the configuration's entries for /etc/hosts.
pub(crate) struct StaticHostController;

impl Controller for StaticHostController {
    const NAME: &'static str = "network.StaticHostController";
    type In = HostDnsIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<StaticHost>()
    }

    async fn reconcile(&self, _: &Context, input: HostDnsIn) -> engine::Result<Wanted> {
        let mut hosts: BTreeMap<String, StaticHost> = BTreeMap::new();
        for entry in
            input.config.spec().and_then(|config| config.machine()).into_iter().flat_map(|machine| machine.all::<StaticHostConfig>())
        {
            let Ok(address) = entry.name.parse::<IpAddr>() else { continue };
            for name in &entry.hostnames {
                hosts.entry(name.clone()).or_default().addresses.push(address);
            }
        }
        Ok(Wanted::new().all(hosts))
    }
}

#[cfg(test)]
mod tests {
    use engine::one;

    use super::*;

    fn config(text: &str) -> One<MachineConfig> {
        one("v1alpha1", MachineConfig::new(text.as_bytes()))
    }

    async fn merged(text: &str, platform: Option<PlatformConfig>) -> ResolverSpec {
        let platform = platform.and_then(|platform| one("active", platform));
        let wanted = ResolverConfigController.reconcile(&Context::detached(), ConfigIn { config: config(text), platform }).await.unwrap();
        let specs = Many::of(wanted.specs::<ResolverSpec>().map(|(id, spec)| (id.to_owned(), spec.clone())).collect::<Vec<_>>());
        let merged = ResolverMergeController.reconcile(&Context::detached(), MergeIn { specs }).await.unwrap();
        merged.get::<ResolverSpec>(ID).unwrap().clone()
    }

    fn servers(spec: &ResolverSpec) -> Vec<String> {
        spec.dns_servers.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn the_last_layer_that_names_servers_wins() {
        assert_eq!(servers(&merged("", None).await), ["1.1.1.1", "8.8.8.8"]);
        let platform = crate::platform::container("", "nameserver 10.0.0.1\nsearch lab");
        let spec = merged("", Some(platform.clone())).await;
        assert_eq!((servers(&spec), spec.search_domains.as_slice()), (vec!["10.0.0.1".to_owned()], ["lab".to_owned()].as_slice()));
        let text = "apiVersion: v1alpha1\nkind: ResolverConfig\nnameservers:\n  - address: 9.9.9.9\n";
        let spec = merged(text, Some(platform)).await;
        assert_eq!((servers(&spec), spec.search_domains.as_slice()), (vec!["9.9.9.9".to_owned()], ["lab".to_owned()].as_slice()));
    }

    #[tokio::test]
    async fn host_dns_listens_where_it_shall() {
        let run =
            async |text: &str| HostDnsConfigController.reconcile(&Context::detached(), HostDnsIn { config: config(text) }).await.unwrap();
        let unknown = HostDnsConfigController.reconcile(&Context::detached(), HostDnsIn { config: None }).await.unwrap();
        assert!(unknown.keeps_all());
        let off = run("apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: a\n").await;
        assert!(!off.get::<HostDnsConfig>("config").unwrap().enabled);
        assert_eq!(off.specs::<AddressSpec>().count(), 0);
        let text = "apiVersion: v1alpha1\nkind: ResolverConfig\nhostDNS:\n  enabled: true\n  forwardKubeDNSToHost: true\n  resolveMemberNames: true\n";
        let on = run(text).await;
        let dns = on.get::<HostDnsConfig>("config").unwrap();
        let listen: Vec<String> = dns.listen_addresses.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["127.0.0.53:53", "169.254.116.108:53"]);
        assert!(dns.resolve_member_names && dns.service_host_dns_address.is_some());
        let (id, address) = on.specs::<AddressSpec>().next().unwrap();
        assert_eq!((id, address.link_name.as_str()), ("operator/lo/169.254.116.108/32", "lo"));
    }

    #[tokio::test]
    async fn static_hosts_by_name() {
        let text = "apiVersion: v1alpha1\nkind: StaticHostConfig\nname: 10.0.0.1\nhostnames: [a, b]\n---\n\
                    apiVersion: v1alpha1\nkind: StaticHostConfig\nname: fd00::1\nhostnames: [a]\n";
        let wanted = StaticHostController.reconcile(&Context::detached(), HostDnsIn { config: config(text) }).await.unwrap();
        assert_eq!(wanted.get::<StaticHost>("a").unwrap().addresses.len(), 2);
        assert_eq!(wanted.get::<StaticHost>("b").unwrap().addresses.len(), 1);
    }
}
