//! `edge`: the data plane of the node itself: API load balancer, host DNS, image registry, discovery and heartbeats.
//!
//! It is a process of its own because it parses bytes from the network and because it must outlive `machined`: it holds no keys of the
//! machine (one derived key authenticates heartbeats), has no rights, and keeps doing what it was last told. It reads no resources:
//! `machined` tells it everything over one socket (`link`), and the same way hears what is seen.
//!
//! Start it as root: it binds the privileged DNS port, then enters its sandbox as user 53.

mod balancer;
pub(crate) mod brain;
mod discovery;
mod dns;
pub(crate) mod link;
mod pulse;
mod race;
mod registry;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use balancer::Balancer;
use cluster::heartbeat::{Observation, Presence};
use dns::Dns;
use link::{Seen, Wanted};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The node's own address of host DNS.
const DNS_NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
/// The address of host DNS for cluster DNS; `machined` puts it on `lo`.
const DNS_PODS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 116, 108));
const DNS_PORT: u16 = 53;
const REGISTRY_PORT: u16 = 3172;
/// Ends the process so that it is started again with the right to bind low ports.
const EXIT_REBIND: u8 = 75;

/// What is opened before the rights are given up.
struct Opened {
    registry: std::net::TcpListener,
    heartbeat: std::net::UdpSocket,
    /// Pairs for host DNS by address, until it is known whether they are wanted.
    dns: BTreeMap<SocketAddr, (std::net::UdpSocket, std::net::TcpListener)>,
}

/// Runs until the process is killed. Returns only when it cannot do its work: with the reason on standard error.
pub(crate) fn run() -> ExitCode {
    crate::log::start();
    match begin() {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("edge cannot start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> anyhow::Result<ExitCode> {
    let opened = open()?;
    let mut sandbox = sys::sandbox::Sandbox::new().read(registry::ROOT).listen_anywhere().connect_anywhere();
    if nix::unistd::geteuid().is_root() {
        sandbox = sandbox.user(link::USER, link::USER);
    }
    for warning in sandbox.enter()?.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
    Ok(runtime.block_on(serve(opened, PathBuf::from(link::SOCKET), PathBuf::from(registry::ROOT))))
}

fn open() -> anyhow::Result<Opened> {
    let explain = |what: &'static str| move |error: io::Error| anyhow::anyhow!("{what}: {error}; is another process listening there?");
    let registry = socket::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, REGISTRY_PORT))).map_err(explain("listen on 127.0.0.1:3172"))?;
    let heartbeat = any(discovery::PORT, socket::datagram).map_err(explain("bind UDP port 50002"))?;
    let mut dns = BTreeMap::new();
    for address in [DNS_NODE, DNS_PODS] {
        let address = SocketAddr::new(address, DNS_PORT);
        match socket::datagram(address).and_then(|udp| Ok((udp, socket::listen(address)?))) {
            Ok(pair) => drop(dns.insert(address, pair)),
            Err(error) => tracing::warn!(%address, %error, "host DNS cannot listen here"),
        }
    }
    Ok(Opened { registry, heartbeat, dns })
}

/// Opens a socket for all addresses of both families, or of IPv4 where the kernel has no IPv6.
fn any<T>(port: u16, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).or_else(|_| open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
}

/// The parts that run, and what they were told.
struct Edge {
    balancer: Arc<Balancer>,
    balancing: Mutex<Option<(SocketAddr, JoinHandle<()>)>>,
    dns: Arc<Dns>,
    /// Host DNS sockets not in use yet.
    spare: Mutex<BTreeMap<SocketAddr, (std::net::UdpSocket, std::net::TcpListener)>>,
    resolving: Mutex<BTreeMap<SocketAddr, [JoinHandle<()>; 2]>>,
    client: Arc<discovery::Client>,
    server: Arc<discovery::Server>,
    discovering: Mutex<Option<JoinHandle<()>>>,
    pulse: watch::Sender<pulse::Settings>,
    observed: Arc<watch::Sender<Vec<Observation>>>,
    seen: watch::Sender<Option<Seen>>,
    left: watch::Sender<bool>,
    /// Asks for the end of the process.
    quit: watch::Sender<Option<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(opened: Opened, link: PathBuf, cache: PathBuf) -> ExitCode {
    let (registry, heartbeat) = match (TcpListener::from_std(opened.registry), UdpSocket::from_std(opened.heartbeat)) {
        (Ok(registry), Ok(heartbeat)) => (registry, heartbeat),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "edge cannot use its sockets");
            return ExitCode::FAILURE;
        }
    };
    let dns = Dns::new();
    let lookup: balancer::Lookup = {
        let dns = dns.clone();
        Arc::new(move |host| {
            let dns = dns.clone();
            Box::pin(async move { dns.lookup(&host).await })
        })
    };
    let edge = Arc::new(Edge {
        balancer: Balancer::new(lookup),
        balancing: Mutex::default(),
        client: discovery::Client::new(dns.clone()),
        dns,
        spare: Mutex::new(opened.dns),
        resolving: Mutex::default(),
        server: discovery::Server::new(),
        discovering: Mutex::default(),
        pulse: watch::Sender::default(),
        observed: Arc::default(),
        seen: watch::Sender::new(None),
        left: watch::Sender::new(false),
        quit: watch::Sender::new(None),
    });
    let (told, goodbyes) = mpsc::unbounded_channel();
    let mut parts = tokio::task::JoinSet::new();
    parts.spawn(registry::serve(registry, cache));
    parts.spawn(edge.balancer.clone().check());
    parts.spawn(pulse::run(heartbeat, edge.pulse.subscribe(), edge.observed.clone(), told));
    parts.spawn(edge.clone().goodbyes(goodbyes));
    parts.spawn(edge.clone().report());
    let applying = edge.clone();
    parts.spawn(link::follow(link, edge.seen.subscribe(), move |wanted| applying.apply(&wanted)));
    tracing::info!("edge runs; the registry listens on {}", registry::ADDRESS);

    let mut quit = edge.quit.subscribe();
    tokio::select! {
        ended = parts.join_next() => {
            // None of them ends by itself: this is a panic, and the process must start afresh.
            tracing::error!(?ended, "a part of edge ended");
            ExitCode::FAILURE
        }
        code = quit.wait_for(Option::is_some) => {
            ExitCode::from(code.ok().and_then(|code| *code).unwrap_or(1))
        }
    }
}

impl Edge {
    /// Does what `machined` wants now.
    fn apply(&self, wanted: &Wanted) {
        if let Some(balancer) = &wanted.balancer {
            self.apply_balancer(balancer);
        }
        if let Some(dns) = &wanted.dns {
            self.apply_dns(dns);
        }
        if let Some(discovery) = &wanted.discovery {
            self.apply_discovery(discovery);
        }
        if let (Some(heartbeat), Some(discovery)) = (&wanted.heartbeat, &wanted.discovery) {
            let settings = pulse::Settings {
                me: discovery.node.clone(),
                key: heartbeat.key.clone(),
                peers: heartbeat.peers.iter().map(|peer| pulse::peer(&peer.id, &peer.addresses)).collect(),
                leaving: discovery.leaving,
            };
            self.pulse.send_if_modified(|current| std::mem::replace(current, settings.clone()) != settings);
        }
    }

    fn apply_balancer(&self, wanted: &link::Balancer) {
        let targets: Vec<_> = wanted
            .targets
            .iter()
            .filter_map(|target| Some(balancer::Target { host: target.host.clone(), port: u16::try_from(target.port).ok()? }))
            .collect();
        self.balancer.set_targets(&targets);
        let address = wanted.listen.parse::<SocketAddr>().ok();
        let mut running = lock(&self.balancing);
        if running.as_ref().map(|(address, _)| *address) == address {
            return;
        }
        if let Some((_, task)) = running.take() {
            task.abort();
        }
        let Some(address) = address else { return };
        match socket::listen(address).and_then(TcpListener::from_std) {
            Ok(listener) => {
                tracing::info!(%address, "load balancer listens");
                *running = Some((address, tokio::spawn(self.balancer.clone().serve(listener))));
            }
            Err(error) => {
                tracing::error!(%address, %error, "load balancer cannot listen; starting again");
                self.end_soon();
            }
        }
    }

    fn apply_dns(&self, wanted: &link::Dns) {
        let listen: Vec<SocketAddr> = wanted.listen.iter().filter_map(|text| text.parse().ok()).collect();
        let own = |upstream: &SocketAddr| listen.contains(upstream) || upstream.ip() == DNS_NODE || upstream.ip() == DNS_PODS;
        let upstreams = wanted.upstreams.iter().filter_map(|text| text.parse().ok()).map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
        let names = wanted.names.iter().map(|name| {
            let addresses = name.addresses.iter().filter_map(|text| text.parse().ok()).collect();
            (name.name.trim_end_matches('.').to_ascii_lowercase(), addresses)
        });
        // An upstream that is this forwarder would be a loop.
        self.dns.set(dns::Settings { upstreams: upstreams.filter(|upstream| !own(upstream)).collect(), names: names.collect() });

        let mut running = lock(&self.resolving);
        running.retain(|address, tasks| {
            let keep = listen.contains(address);
            if !keep {
                tasks.iter().for_each(JoinHandle::abort);
            }
            keep
        });
        for address in listen {
            if running.contains_key(&address) {
                continue;
            }
            let spare = lock(&self.spare).remove(&address);
            let pair = match spare {
                Some(pair) => Ok(pair),
                None => socket::datagram(address).and_then(|udp| Ok((udp, socket::listen(address)?))),
            };
            let opened = pair.and_then(|(udp, tcp)| Ok((UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?)));
            match opened {
                Ok((udp, tcp)) => {
                    tracing::info!(%address, "host DNS listens");
                    let tasks = [tokio::spawn(self.dns.clone().serve_udp(udp)), tokio::spawn(self.dns.clone().serve_tcp(tcp))];
                    running.insert(address, tasks);
                }
                Err(error) => {
                    tracing::error!(%address, %error, "host DNS cannot listen; starting again");
                    self.end_soon();
                }
            }
        }
        // What is not wanted is free for others.
        lock(&self.spare).clear();
    }

    fn apply_discovery(&self, wanted: &link::Discovery) {
        let own = discovery::Own {
            cluster: wanted.cluster.clone(),
            id: wanted.node.clone(),
            data: wanted.data.clone(),
            endpoints: wanted.endpoints.clone(),
            leaving: wanted.leaving,
            forget: wanted.forget.iter().cloned().collect(),
        };
        self.server.set_cluster(&wanted.cluster);
        for id in &wanted.forget {
            self.server.forget(id);
        }
        self.client.set(own, &wanted.servers);
        let mut running = lock(&self.discovering);
        if wanted.serve && running.is_none() {
            match any(discovery::PORT, socket::listen).and_then(TcpListener::from_std) {
                Ok(listener) => {
                    tracing::info!("discovery listens on port {}", discovery::PORT);
                    *running = Some(tokio::spawn(self.server.clone().serve(listener)));
                }
                Err(error) => {
                    tracing::error!(%error, "discovery cannot listen on port {}; starting again", discovery::PORT);
                    self.end_soon();
                }
            }
        } else if !wanted.serve
            && let Some(task) = running.take()
        {
            task.abort();
        }
        if wanted.leaving {
            self.leave_soon();
        }
    }

    /// Says so once the goodbyes had time to go out.
    fn leave_soon(&self) {
        let left = self.left.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1000)).await;
            left.send_replace(true);
        });
    }

    /// Ends the process, so that it is started again with all its rights; not at once, lest it spin.
    fn end_soon(&self) {
        let quit = self.quit.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            quit.send_replace(Some(EXIT_REBIND));
        });
    }

    /// A member that said goodbye is gone for everyone who asks here, too.
    async fn goodbyes(self: Arc<Self>, mut goodbyes: mpsc::UnboundedReceiver<String>) {
        while let Some(id) = goodbyes.recv().await {
            tracing::info!(member = id, "a member said goodbye");
            self.server.forget(&id);
            self.client.forget(&id);
        }
        std::future::pending().await
    }

    /// Tells `machined` what is seen, and each change of it.
    async fn report(self: Arc<Self>) {
        let (mut healthy, mut observed, mut left) = (self.balancer.health(), self.observed.subscribe(), self.left.subscribe());
        // Grace periods of the view end without an event.
        let mut sweep = tokio::time::interval(Duration::from_secs(5));
        loop {
            let seen = self.seen();
            self.hint(&seen);
            self.seen.send_if_modified(|current| current.replace(seen.clone()) != Some(seen));
            tokio::select! {
                _ = healthy.changed() => {}
                _ = observed.changed() => {}
                _ = left.changed() => {}
                () = self.client.changed.notified() => {}
                _ = sweep.tick() => {}
            }
        }
    }

    /// A member that others do not hear either is worth a check of the load balancer's own; the mark itself changes nothing.
    fn hint(&self, seen: &Seen) {
        let settings = self.pulse.borrow();
        for member in seen.members.iter().filter(|member| member.presence() >= link::Presence::Silent) {
            for address in settings.peers.iter().filter(|peer| peer.id == member.id).flat_map(|peer| &peer.addresses) {
                self.balancer.hint_silent(address.ip());
            }
        }
    }

    fn seen(&self) -> Seen {
        let (affiliates, affiliates_settled) = self.client.view();
        let members = self.observed.borrow().iter().map(member).collect();
        Seen {
            balancer_healthy: lock(&self.balancing).is_some() && *self.balancer.health().borrow(),
            dns_listening: lock(&self.resolving).keys().map(ToString::to_string).collect(),
            affiliates: affiliates.into_iter().map(|a| link::Affiliate { id: a.id, data: a.data, endpoints: a.endpoints }).collect(),
            affiliates_settled,
            public_addresses: self.client.public_addresses().iter().map(ToString::to_string).collect(),
            members,
            left: *self.left.borrow(),
        }
    }
}

fn member(seen: &Observation) -> link::Member {
    let presence = match seen.presence {
        Presence::Up => link::Presence::Up,
        Presence::Unknown => link::Presence::Unknown,
        Presence::Silent => link::Presence::Silent,
        Presence::Down => link::Presence::Down,
    };
    link::Member { id: seen.id.clone(), presence: presence.into(), observers: seen.observers.clone() }
}

#[cfg(test)]
mod tests;
