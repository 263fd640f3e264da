//! `machined`'s side of `edge`: resources become what `edge` should do, what it sees becomes resources.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cluster::affiliate::{self, Sealed};
use cluster::membership::{PRESENCE, RAW, UNHEARD_BY, is_control_plane};
use cluster::seal::Sealer;
use engine::{Context, Controller, Inputs, Many, Marks, One, OneExt, Outputs, Runtime, Wanted};
use model::cluster::{Affiliate, DiscoveryConfig, Identity, Member};
use model::host::{MachineConfig, MachineResetSignal, MachineType};
use model::kube::{KubePrismConfig, KubePrismStatus};
use model::net::{DnsResolveCache, HostDnsConfig, HostnameStatus, NodeAddress, ResolverStatus, StaticHost};

use super::discovery::PORT;
use super::link::{self, Balancer, Discovery, Dns, Heartbeat, Name, Peer, Seen, Server, Target};

/// What the heartbeats' key is derived for.
const HEARTBEAT_PURPOSE: &str = "heartbeat v1";
/// What an affiliate that speaks heartbeats has in the name of its system.
const SPEAKS_HEARTBEATS: &str = "orlop";
/// The id of the load balancer's configuration, and of its status.
const PRISM_STATUS: &str = "k8s-loadbalancer";

/// Registers both directions. `socket` is where `edge` finds `machined`: [`link::SOCKET`].
#[must_use]
pub(crate) fn register(runtime: Runtime, server: &Server, socket: PathBuf) -> Runtime {
    runtime
        .register(EdgeController { server: server.clone(), socket, sealed: Mutex::default() })
        .register(EdgeStatusController { server: server.clone() })
}

/// Tells `edge` what to do.
pub(crate) struct EdgeController {
    server: Server,
    socket: PathBuf,
    /// The last affiliate that was sealed, and what came of it: sealing again would look like a change to all members.
    sealed: Mutex<Option<(Affiliate, [u8; 32], Sealed)>>,
}

#[derive(Inputs)]
pub(crate) struct In {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "machine-type")]
    machine_type: One<MachineType>,
    #[input(id = "k8s-loadbalancer-config")]
    prism: One<KubePrismConfig>,
    #[input(id = "config")]
    host_dns: One<HostDnsConfig>,
    #[input(id = "resolvers")]
    resolvers: One<ResolverStatus>,
    hosts: Many<StaticHost>,
    members: Many<Member>,
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
    #[input(id = "default")]
    address: One<NodeAddress>,
    #[input(id = "cluster")]
    discovery: One<DiscoveryConfig>,
    #[input(id = "local")]
    identity: One<Identity>,
    affiliates: Many<Affiliate>,
    #[input(id = "machine")]
    reset: One<MachineResetSignal>,
}

impl Controller for EdgeController {
    const NAME: &'static str = "edge.ConfigController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new()
    }

    async fn reconcile(&self, ctx: &Context, input: In) -> engine::Result<Wanted> {
        if !ctx.is_running("link") {
            let (server, socket) = (self.server.clone(), self.socket.clone());
            ctx.spawn("link", async move { Ok(server.serve(&socket).await?) });
        }
        let settled = ctx.settled();
        let balancer = balancer(&input, settled);
        let dns = dns(&input);
        let sealer = sealer(&input)?;
        let discovery = match &sealer {
            Some(sealer) => Some(discovery(&input, self.seal(&input, sealer)?)),
            // Discovery is off, or not known to be on.
            None => settled.then(Discovery::default),
        };
        let heartbeat = match &sealer {
            Some(sealer) => Some(Heartbeat { key: sealer.derive(HEARTBEAT_PURPOSE)?.to_vec(), peers: peers(&input) }),
            None => settled.then(Heartbeat::default),
        };
        self.server.want(|wanted| {
            if balancer.is_some() {
                wanted.balancer = balancer;
            }
            if dns.is_some() {
                wanted.dns = dns;
            }
            if let Some(mut discovery) = discovery {
                if let Some(before) = wanted.discovery.take() {
                    discovery.forget = before.forget;
                    discovery.leaving |= before.leaving;
                }
                wanted.discovery = Some(discovery);
            }
            if heartbeat.is_some() {
                wanted.heartbeat = heartbeat;
            }
        });
        Ok(Wanted::new())
    }
}

impl EdgeController {
    fn seal(&self, input: &In, sealer: &Sealer) -> engine::Result<Option<Sealed>> {
        let Some(own) = input.identity.spec().and_then(|identity| input.affiliates.get(&identity.node_id)) else { return Ok(None) };
        let key = sealer.derive("sealed with")?;
        let mut cached = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((affiliate, with, sealed)) = cached.as_ref()
            && *affiliate == own.spec
            && *with == key
        {
            return Ok(Some(sealed.clone()));
        }
        let sealed = affiliate::seal(&own.spec, sealer)?;
        *cached = Some((own.spec.clone(), key, sealed.clone()));
        Ok(Some(sealed))
    }
}

fn sealer(input: &In) -> engine::Result<Option<Sealer>> {
    match input.discovery.spec() {
        Some(config) if config.discovery_enabled => Ok(Some(Sealer::new(&config.service_encryption_key.0)?)),
        _ => Ok(None),
    }
}

/// The load balancer; `None` while it is not known whether there shall be one.
fn balancer(input: &In, settled: bool) -> Option<Balancer> {
    let Some(prism) = input.prism.spec() else { return settled.then(Balancer::default) };
    let targets = prism.endpoints.iter().map(|endpoint| Target { host: endpoint.host.clone(), port: endpoint.port }).collect();
    Some(Balancer { listen: format!("{}:{}", prism.host, prism.port), targets })
}

/// Host DNS; `None` while it is not known whether it shall run.
fn dns(input: &In) -> Option<Dns> {
    let config = input.host_dns.spec()?;
    let listen = if config.enabled { config.listen_addresses.iter().map(ToString::to_string).collect() } else { Vec::new() };
    let upstreams = input.resolvers.spec().map(|status| status.dns_servers.iter().map(ToString::to_string).collect()).unwrap_or_default();
    let mut names: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    if config.resolve_member_names {
        for member in input.members.iter() {
            for name in [&*member.meta.id, member.spec.hostname.as_str()] {
                names.insert(name.to_lowercase(), member.spec.addresses.clone());
            }
        }
    }
    if let (Some(hostname), Some(address)) = (input.hostname.spec(), input.address.spec().and_then(|list| list.addresses.first())) {
        names.insert(hostname.hostname.to_lowercase(), vec![address.addr()]);
        if !hostname.domainname.is_empty() {
            names.insert(format!("{}.{}", hostname.hostname, hostname.domainname).to_lowercase(), vec![address.addr()]);
        }
    }
    // What the configuration says wins.
    for host in input.hosts.iter() {
        names.insert(host.meta.id.to_lowercase(), host.spec.addresses.clone());
    }
    let names = names.into_iter().map(|(name, addresses)| Name { name, addresses: addresses.iter().map(ToString::to_string).collect() });
    Some(Dns { listen, upstreams, names: names.collect() })
}

fn own_id(input: &In) -> &str {
    input.identity.spec().map(|identity| identity.node_id.as_str()).unwrap_or_default()
}

fn discovery(input: &In, sealed: Option<Sealed>) -> Discovery {
    let sealed = sealed.unwrap_or(Sealed { data: Vec::new(), endpoints: Vec::new() });
    Discovery {
        cluster: input.discovery.spec().map(|config| config.service_cluster_id.clone()).unwrap_or_default(),
        node: own_id(input).to_owned(),
        data: sealed.data,
        endpoints: sealed.endpoints,
        servers: servers(input),
        serve: serves(input),
        leaving: input.reset.spec().is_some(),
        forget: Vec::new(),
    }
}

fn serves(input: &In) -> bool {
    input.machine_type.spec().is_some_and(|machine_type| is_control_plane(machine_type.role))
}

/// Every control plane: itself, those it knows, and the cluster's endpoint, through which a new node finds the first one.
fn servers(input: &In) -> Vec<String> {
    let own = own_id(input);
    let own_addresses: Vec<IpAddr> = input.affiliates.get(own).map(|affiliate| affiliate.spec.addresses.clone()).unwrap_or_default();
    let place = |host: &str| match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{PORT}"),
        _ => format!("{host}:{PORT}"),
    };
    let mut servers = Vec::new();
    if serves(input) {
        servers.push(place("127.0.0.1"));
    }
    let others = input.affiliates.specs().filter(|affiliate| affiliate.node_id != own && is_control_plane(affiliate.machine_type));
    let mut known: Vec<IpAddr> = own_addresses;
    for affiliate in others {
        if let Some(address) = affiliate.addresses.first() {
            servers.push(place(&address.to_string()));
        }
        known.extend(&affiliate.addresses);
    }
    let endpoint = input.config.spec().and_then(|config| config.machine()).and_then(|machine| machine.endpoint().cloned());
    if let Some(endpoint) = endpoint {
        let host = endpoint.host().trim_matches(['[', ']']);
        // An address that is a known member's is that member; any other (a name, a shared address) is a way of its own.
        if host.parse::<IpAddr>().map_or(!host.is_empty(), |address| !known.contains(&address)) {
            servers.push(place(host));
        }
    }
    servers
}

fn peers(input: &In) -> Vec<Peer> {
    let own = own_id(input);
    input
        .affiliates
        .specs()
        .filter(|affiliate| affiliate.node_id != own && affiliate.operating_system.contains(SPEAKS_HEARTBEATS))
        .map(|affiliate| Peer { id: affiliate.node_id.clone(), addresses: affiliate.addresses.iter().map(ToString::to_string).collect() })
        .collect()
}

/// Makes resources of what `edge` sees.
pub(crate) struct EdgeStatusController {
    server: Server,
}

#[derive(Inputs)]
pub(crate) struct StatusIn {
    #[input(id = "cluster")]
    discovery: One<DiscoveryConfig>,
    #[input(id = "local")]
    identity: One<Identity>,
    #[input(id = "k8s-loadbalancer-config")]
    prism: One<KubePrismConfig>,
}

impl Controller for EdgeStatusController {
    const NAME: &'static str = "edge.StatusController";
    type In = StatusIn;

    fn outputs() -> Outputs {
        Outputs::new().shared_in::<Affiliate>(RAW).exclusive::<KubePrismStatus>().exclusive::<DnsResolveCache>()
    }

    async fn reconcile(&self, ctx: &Context, input: StatusIn) -> engine::Result<Wanted> {
        if !ctx.is_running("seen") {
            let (waker, mut seen) = (ctx.waker(), self.server.seen());
            ctx.spawn("seen", async move {
                while seen.changed().await.is_ok() {
                    waker.wake();
                }
                Ok(())
            });
        }
        let seen = self.server.seen().borrow().clone();
        match seen {
            Some(seen) => observed(&seen, &input),
            // edge runs on without us; what it sees it will tell in a moment.
            None => Ok(Wanted::unknown("the process edge")),
        }
    }
}

fn observed(seen: &Seen, input: &StatusIn) -> engine::Result<Wanted> {
    let mut wanted = Wanted::new();
    if let Some(prism) = input.prism.spec() {
        let status = KubePrismStatus { host: format!("{}:{}", prism.host, prism.port), healthy: seen.balancer_healthy };
        wanted.add(PRISM_STATUS, status);
    }
    for address in &seen.dns_listening {
        for protocol in ["udp", "tcp"] {
            wanted.add(format!("{protocol}-{address}"), DnsResolveCache { status: "running".into() });
        }
    }
    let Some(config) = input.discovery.spec().filter(|config| config.discovery_enabled) else { return Ok(wanted) };
    if !seen.affiliates_settled {
        return Ok(wanted.keep_in::<Affiliate>(RAW));
    }
    let sealer = Sealer::new(&config.service_encryption_key.0)?;
    let own = input.identity.spec().map(|identity| identity.node_id.as_str());
    for raw in seen.affiliates.iter().filter(|raw| own != Some(raw.id.as_str())) {
        match affiliate::open(&raw.id, &raw.data, &raw.endpoints, &sealer) {
            Ok(affiliate) => wanted.add_in(RAW, format!("service/{}", raw.id), affiliate, marks(seen, &raw.id)),
            Err(error) => tracing::warn!(%error, "discovery: an affiliate was left out"),
        }
    }
    Ok(wanted)
}

fn marks(seen: &Seen, id: &str) -> Marks {
    let Some(member) = seen.members.iter().find(|member| member.id == id) else { return Marks::default() };
    let presence = match member.presence() {
        link::Presence::Up => "up",
        link::Presence::Unknown => "unknown",
        link::Presence::Silent => "silent",
        link::Presence::Down => "down",
    };
    let marks = Marks::default().annotation(PRESENCE, presence);
    if member.observers.is_empty() { marks } else { marks.annotation(UNHEARD_BY, member.observers.join(",")) }
}

#[cfg(test)]
mod tests {
    use engine::one;
    use model::cluster::ControlPlane;
    use model::host::MachineRole;
    use model::kube::KubePrismServer;
    use resource::Bytes;

    use super::*;

    fn none<T: resource::Spec>() -> Many<T> {
        Many::of(Vec::<(&str, T)>::new())
    }

    fn affiliate(id: &str, role: MachineRole, address: &str) -> (String, Affiliate) {
        let affiliate = Affiliate {
            node_id: id.into(),
            addresses: vec![address.parse().unwrap()],
            nodename: id.into(),
            machine_type: role,
            operating_system: "Talos (v1.15.0+orlop.0.1.0)".into(),
            control_plane: is_control_plane(role).then_some(ControlPlane { port: 6443 }),
            ..Affiliate::default()
        };
        (id.into(), affiliate)
    }

    fn input(role: MachineRole, affiliates: Vec<(String, Affiliate)>) -> In {
        In {
            config: one(
                "v1alpha1",
                MachineConfig::new(
                    b"apiVersion: v1alpha1\nkind: KubeClusterConfig\nclusterName: c\nendpoint: https://10.5.0.2:6443\n".as_slice(),
                ),
            ),
            machine_type: one("machine-type", MachineType { role }),
            prism: None,
            host_dns: None,
            resolvers: None,
            hosts: none(),
            members: none(),
            hostname: None,
            address: None,
            discovery: one(
                "cluster",
                DiscoveryConfig {
                    discovery_enabled: true,
                    service_cluster_id: "c1".into(),
                    service_encryption_key: Bytes(vec![7; 32]),
                    ..DiscoveryConfig::default()
                },
            ),
            identity: one("local", Identity { node_id: "me".into() }),
            affiliates: Many::of(affiliates),
            reset: None,
        }
    }

    #[test]
    fn a_new_worker_finds_the_first_control_plane_by_the_endpoint() {
        let alone = input(MachineRole::Worker, vec![affiliate("me", MachineRole::Worker, "10.5.0.9")]);
        assert_eq!(servers(&alone), ["10.5.0.2:50002"]);
        let others = vec![
            affiliate("me", MachineRole::Worker, "10.5.0.9"),
            affiliate("cp1", MachineRole::ControlPlane, "10.5.0.2"),
            affiliate("cp2", MachineRole::ControlPlane, "10.5.0.3"),
            affiliate("w2", MachineRole::Worker, "10.5.0.10"),
        ];
        assert_eq!(servers(&input(MachineRole::Worker, others)), ["10.5.0.2:50002", "10.5.0.3:50002"], "each once");
    }

    #[test]
    fn a_control_plane_registers_with_itself_first() {
        let own = vec![affiliate("me", MachineRole::ControlPlane, "10.5.0.2")];
        let input = input(MachineRole::ControlPlane, own);
        assert_eq!(servers(&input), ["127.0.0.1:50002"], "the endpoint is this node");
        assert!(serves(&input));
    }

    #[test]
    fn heartbeats_go_to_those_who_speak_them() {
        let mut foreign = affiliate("foreign", MachineRole::Worker, "10.5.0.8");
        foreign.1.operating_system = "Talos (v1.15.0)".into();
        let all = vec![affiliate("me", MachineRole::Worker, "10.5.0.9"), affiliate("cp1", MachineRole::ControlPlane, "10.5.0.2"), foreign];
        let ids: Vec<String> = peers(&input(MachineRole::Worker, all)).into_iter().map(|peer| peer.id).collect();
        assert_eq!(ids, ["cp1"]);
    }

    #[tokio::test]
    async fn what_is_not_known_yet_leaves_edge_alone() {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::new();
        let controller = EdgeController { server: server.clone(), socket: directory.path().join("s"), sealed: Mutex::default() };
        let unknown = || In { discovery: None, config: None, identity: None, ..input(MachineRole::Worker, vec![]) };
        controller.reconcile(&Context::detached_unsettled(), unknown()).await.unwrap();
        assert_eq!(server.wanted_now(), Some(link::Wanted::default()));
        controller.reconcile(&Context::detached(), unknown()).await.unwrap();
        let settled = server.wanted_now().unwrap();
        assert_eq!(settled.balancer, Some(Balancer::default()), "now it is known that there is none");
        assert_eq!(settled.dns, None);
    }

    #[tokio::test]
    async fn equal_affiliates_are_sealed_once() {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::new();
        let controller = EdgeController { server: server.clone(), socket: directory.path().join("s"), sealed: Mutex::default() };
        let run = async |address: &str| {
            let input = input(MachineRole::Worker, vec![affiliate("me", MachineRole::Worker, address)]);
            controller.reconcile(&Context::detached(), input).await.unwrap();
            server.wanted_now().unwrap().discovery.unwrap().data
        };
        let first = run("10.5.0.9").await;
        assert_eq!(run("10.5.0.9").await, first);
        assert_ne!(run("10.5.0.10").await, first);
    }

    #[tokio::test]
    async fn forgetting_and_leaving_survive_other_changes() {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::new();
        let controller = EdgeController { server: server.clone(), socket: directory.path().join("s"), sealed: Mutex::default() };
        server.forget("ghost");
        server.want(|wanted| wanted.discovery.get_or_insert_default().leaving = true);
        controller.reconcile(&Context::detached(), input(MachineRole::Worker, vec![])).await.unwrap();
        let discovery = server.wanted_now().unwrap().discovery.unwrap();
        assert_eq!(
            (discovery.forget.as_slice(), discovery.leaving, discovery.cluster.as_str()),
            (["ghost".to_owned()].as_slice(), true, "c1")
        );
    }

    #[test]
    fn names_of_the_node_its_members_and_the_configuration() {
        let member = |name: &str, address: &str| {
            let member = Member { hostname: format!("{name}.example.org"), addresses: vec![address.parse().unwrap()], ..Member::default() };
            (name.to_owned(), member)
        };
        let input = In {
            host_dns: one(
                "config",
                HostDnsConfig {
                    enabled: true,
                    resolve_member_names: true,
                    listen_addresses: vec!["127.0.0.53:53".parse().unwrap()],
                    ..HostDnsConfig::default()
                },
            ),
            resolvers: one("resolvers", ResolverStatus { dns_servers: vec!["1.1.1.1".parse().unwrap()], ..ResolverStatus::default() }),
            hosts: Many::of([("w-1", StaticHost { addresses: vec!["10.9.9.9".parse().unwrap()] })]),
            members: Many::of([member("W-1", "10.5.0.9"), member("w-2", "10.5.0.10")]),
            hostname: one("hostname", HostnameStatus { hostname: "me".into(), domainname: "lab".into() }),
            address: one("default", NodeAddress { addresses: vec!["10.5.0.4/24".parse().unwrap()], ..NodeAddress::default() }),
            ..input(MachineRole::Worker, vec![])
        };
        let dns = dns(&input).unwrap();
        let names: Vec<String> = dns.names.iter().map(|name| format!("{}={}", name.name, name.addresses.join(","))).collect();
        assert_eq!(
            names,
            ["me=10.5.0.4", "me.lab=10.5.0.4", "w-1=10.9.9.9", "w-1.example.org=10.5.0.9", "w-2=10.5.0.10", "w-2.example.org=10.5.0.10"]
        );
        assert_eq!((dns.listen, dns.upstreams), (vec!["127.0.0.53:53".to_owned()], vec!["1.1.1.1".to_owned()]));
    }

    #[test]
    fn what_edge_sees_becomes_resources() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let (_, w1) = affiliate("w1", MachineRole::Worker, "10.5.0.9");
        let sealed = affiliate::seal(&w1, &sealer).unwrap();
        let foreign = affiliate::seal(&w1, &Sealer::new(&[8; 32]).unwrap()).unwrap();
        let raw = |id: &str, sealed: &Sealed| link::Affiliate { id: id.into(), data: sealed.data.clone(), endpoints: Vec::new() };
        let mut seen = Seen {
            balancer_healthy: true,
            dns_listening: vec!["127.0.0.53:53".into()],
            affiliates: vec![raw("w1", &sealed), raw("me", &sealed), raw("x", &foreign)],
            affiliates_settled: true,
            members: vec![link::Member {
                id: "w1".into(),
                presence: link::Presence::Down.into(),
                observers: vec!["cp2".into(), "me".into()],
            }],
            ..Seen::default()
        };
        let base = input(MachineRole::ControlPlane, vec![]);
        let prism = KubePrismConfig { host: "127.0.0.1".into(), port: 7445, endpoints: vec![KubePrismServer::default()] };
        let status = StatusIn { discovery: base.discovery, identity: base.identity, prism: one("k8s-loadbalancer-config", prism) };
        let wanted = observed(&seen, &status).unwrap();
        assert!(wanted.get::<KubePrismStatus>(PRISM_STATUS).unwrap().healthy);
        assert!(wanted.get::<DnsResolveCache>("udp-127.0.0.53:53").is_some());
        assert_eq!(wanted.get_in::<Affiliate>(RAW, "service/w1"), Some(&w1));
        assert_eq!(wanted.len(), 4, "neither this node's own nor foreign ones");
        assert_eq!(marks(&seen, "w1"), Marks::default().annotation(PRESENCE, "down").annotation(UNHEARD_BY, "cp2,me"));
        seen.affiliates_settled = false;
        assert_eq!(observed(&seen, &status).unwrap().specs::<Affiliate>().count(), 0);
    }
}
