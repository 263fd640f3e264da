//! Files that follow from the network: /etc/hosts, /etc/resolv.conf, /etc/hostname, and the resolv.conf of pods.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use engine::{Context, Controller, Inputs, Many, One, OneExt, Outputs, Wanted};
use model::host::EtcFileSpec;
use model::net::{HostDnsConfig, HostnameStatus, NodeAddress, ResolverSpec, ResolverStatus, StaticHost};

use crate::hands::Hands;
use crate::resolver::HOST_DNS;

/// As many name servers as the C library reads (`MAXNS`).
const MAX_SERVERS: usize = 3;

/// The node's own files.
pub(crate) struct EtcFileController;

#[derive(Inputs)]
pub(crate) struct In {
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
    #[input(id = "default")]
    address: One<NodeAddress>,
    #[input(id = "resolvers")]
    resolvers: One<ResolverStatus>,
    #[input(id = "resolvers")]
    resolver_spec: One<ResolverSpec>,
    #[input(id = "config")]
    host_dns: One<HostDnsConfig>,
    hosts: Many<StaticHost>,
}

impl Controller for EtcFileController {
    const NAME: &'static str = "network.EtcFileController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().shared::<EtcFileSpec>()
    }

    async fn reconcile(&self, _: &Context, input: In) -> engine::Result<Wanted> {
        let mut wanted = Wanted::new();
        if let Some(resolvers) = input.resolvers.spec() {
            // Without a configuration (in maintenance) there is no host DNS.
            let host_dns = input.host_dns.spec().is_some_and(|dns| dns.enabled);
            let servers = if host_dns { vec![HOST_DNS.into()] } else { resolvers.dns_servers.clone() };
            let search = search_domains(resolvers, input.resolver_spec.spec(), input.hostname.spec());
            wanted.add("resolv.conf", file(&resolv_conf(&servers, &search)));
        }
        if let Some(hostname) = input.hostname.spec()
            && let Some(address) = input.address.spec().and_then(|list| list.addresses.first())
        {
            wanted.add("hosts", file(&hosts(hostname, address.addr(), &input.hosts)));
        }
        if let Some(hostname) = input.hostname.spec() {
            wanted.add("hostname", file(&format!("{}\n", hostname.hostname)));
        }
        Ok(wanted)
    }
}

fn file(text: &str) -> EtcFileSpec {
    EtcFileSpec { contents: text.as_bytes().to_vec().into(), mode: 0o644, ..EtcFileSpec::default() }
}

/// The configured search domains, and the node's own domain unless that was switched off.
fn search_domains(resolvers: &ResolverStatus, spec: Option<&ResolverSpec>, hostname: Option<&HostnameStatus>) -> Vec<String> {
    let mut search = resolvers.search_domains.clone();
    let own = hostname.map(|hostname| hostname.domainname.clone()).unwrap_or_default();
    if !own.is_empty() && !search.contains(&own) && !spec.is_some_and(|spec| spec.search_domains_overridden) {
        search.push(own);
    }
    search
}

fn resolv_conf(servers: &[IpAddr], search: &[String]) -> String {
    let mut text = String::new();
    for server in servers.iter().take(MAX_SERVERS) {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "\nsearch {}", search.join(" "));
    }
    text
}

fn hosts(hostname: &HostnameStatus, address: IpAddr, statics: &Many<StaticHost>) -> String {
    let mut text = String::from("127.0.0.1 localhost\n");
    let name = &hostname.hostname;
    if hostname.domainname.is_empty() {
        let _ = writeln!(text, "{address} {name}");
    } else {
        let _ = writeln!(text, "{address} {name}.{} {name}", hostname.domainname);
    }
    text.push_str("::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n");
    for host in statics.iter() {
        for address in &host.spec.addresses {
            let _ = writeln!(text, "{address} {}", &*host.meta.id);
        }
    }
    text
}

/// The resolv.conf that pods start from. Never 127.0.0.53: in a pod that is the pod itself.
pub(crate) struct PodResolvConfController {
    pub(crate) hands: Arc<dyn Hands>,
    pub(crate) path: PathBuf,
}

#[derive(Inputs)]
pub(crate) struct PodIn {
    #[input(id = "resolvers")]
    resolvers: One<ResolverStatus>,
    #[input(id = "resolvers")]
    resolver_spec: One<ResolverSpec>,
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
    #[input(id = "config")]
    host_dns: One<HostDnsConfig>,
}

impl Controller for PodResolvConfController {
    const NAME: &'static str = "network.PodResolvConfController";
    type In = PodIn;

    fn outputs() -> Outputs {
        Outputs::new()
    }

    async fn reconcile(&self, _: &Context, input: PodIn) -> engine::Result<Wanted> {
        let (Some(dns), Some(resolvers)) = (input.host_dns.spec(), input.resolvers.spec()) else {
            return Ok(Wanted::new().waiting_for("DNS servers"));
        };
        let service = [dns.service_host_dns_address, dns.service_host_dns_address_v6];
        let own: Vec<IpAddr> = service.into_iter().flatten().collect();
        let servers = if own.is_empty() { resolvers.dns_servers.clone() } else { own };
        let search = search_domains(resolvers, input.resolver_spec.spec(), input.hostname.spec());
        self.hands.write(&self.path, resolv_conf(&servers, &search).as_bytes())?;
        Ok(Wanted::new())
    }
}

#[cfg(test)]
mod tests {
    use engine::one;

    use super::*;
    use crate::hands::fake::FakeHands;

    fn input(dns: HostDnsConfig) -> In {
        In {
            hostname: one("hostname", HostnameStatus { hostname: "cp-1".into(), domainname: "example.org".into() }),
            address: one("default", NodeAddress { addresses: vec!["10.5.0.2/24".parse().unwrap()], ..NodeAddress::default() }),
            resolvers: one("resolvers", resolvers()),
            resolver_spec: None,
            host_dns: one("config", dns),
            hosts: Many::of([("registry", StaticHost { addresses: vec!["10.5.0.9".parse().unwrap()] })]),
        }
    }

    fn resolvers() -> ResolverStatus {
        let servers = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
        ResolverStatus { dns_servers: servers.iter().map(|text| text.parse().unwrap()).collect(), ..ResolverStatus::default() }
    }

    async fn text(input: In, id: &str) -> String {
        let wanted = EtcFileController.reconcile(&Context::detached(), input).await.unwrap();
        wanted.get::<EtcFileSpec>(id).unwrap().contents.to_text().into_owned()
    }

    #[tokio::test]
    async fn resolv_conf_names_host_dns_or_the_servers() {
        let on = HostDnsConfig { enabled: true, ..HostDnsConfig::default() };
        assert_eq!(text(input(on), "resolv.conf").await, "nameserver 127.0.0.53\n\nsearch example.org\n");
        let off = text(input(HostDnsConfig::default()), "resolv.conf").await;
        assert_eq!(off, "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n\nsearch example.org\n");
    }

    #[tokio::test]
    async fn hosts_has_the_node_and_the_static_entries() {
        let text = text(input(HostDnsConfig::default()), "hosts").await;
        assert!(text.contains("10.5.0.2 cp-1.example.org cp-1\n"), "{text}");
        assert!(text.contains("10.5.0.9 registry\n"));
        assert!(text.starts_with("127.0.0.1 localhost\n"));
    }

    #[tokio::test]
    async fn pods_never_get_the_nodes_loopback() {
        let run = async |dns: HostDnsConfig| {
            let hands = Arc::new(FakeHands::default());
            let controller = PodResolvConfController { hands: hands.clone(), path: "/p".into() };
            let input =
                PodIn { resolvers: one("resolvers", resolvers()), resolver_spec: None, hostname: None, host_dns: one("config", dns) };
            controller.reconcile(&Context::detached(), input).await.unwrap();
            let files = hands.files.lock().unwrap();
            files.values().next().unwrap().clone()
        };
        let forward =
            HostDnsConfig { enabled: true, service_host_dns_address: Some("169.254.116.108".parse().unwrap()), ..HostDnsConfig::default() };
        assert_eq!(run(forward).await, "nameserver 169.254.116.108\n");
        let plain = run(HostDnsConfig { enabled: true, ..HostDnsConfig::default() }).await;
        assert!(plain.starts_with("nameserver 10.0.0.1\n") && !plain.contains("127.0.0"), "{plain}");
    }

    #[tokio::test]
    async fn what_is_not_known_is_not_written() {
        let empty = In {
            hostname: None,
            address: None,
            resolvers: None,
            resolver_spec: None,
            host_dns: None,
            hosts: Many::of(Vec::<(&str, _)>::new()),
        };
        assert!(EtcFileController.reconcile(&Context::detached(), empty).await.unwrap().is_empty());
    }
}
