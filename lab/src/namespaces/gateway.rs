//! The gateway: the one way between the host and a cluster's network.
//!
//! It listens on 127.0.0.1 of the host and connects inside the cluster's network namespace, so that nothing of the host's network has to
//! change: its listening sockets stay in the namespace they were made in, while the process itself lives in the cluster's. Inside, it is
//! the address of the cluster's API server.
//!
//! One port per node leads to that node's machine API (50000); one more leads, and the gateway's own port 6443 inside leads, to the API
//! server of any control plane that answers. SIGHUP makes it read the list of nodes again.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::Path,
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use sys::{
    mount::{self, Flags, Propagation},
    netlink::Netlink,
    ns::{self, Kind, Namespace},
    spawn::inherited,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    task::{JoinHandle, LocalSet},
    time::{sleep, timeout},
};

use super::{NET_FD, READY_FD};
use crate::{
    ClusterState, Role,
    state::{self, Paths},
};

/// The bridge's name in the cluster's network namespace.
pub(crate) const BRIDGE: &str = "orlop0";
/// The machine API of a node.
const MACHINE_PORT: u16 = 50000;
/// The API server.
const API_SERVER_PORT: u16 = 6443;
/// Where nodes find each other: a new one knows no other address than the gateway's.
///
/// The port of `trustd` (50001) is not led on: it signs for the address that it sees, and through here it would see the gateway's. A node
/// asks the control planes that it has discovered.
const DISCOVERY_PORT: u16 = 50002;
/// How long a control plane may take to accept before the next one is tried.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How many connections may be open at once.
const MOST_CONNECTIONS: usize = 2048;

type Failure = Box<dyn std::error::Error>;

/// Runs a gateway for the cluster in the directory that is the first argument.
pub fn main(args: &[OsString]) -> ExitCode {
    let mut ready = inherited(READY_FD).map(File::from);
    let mut say = |text: &str| {
        eprintln!("gateway: {text}");
        if let Some(mut ready) = ready.take() {
            let _ = ready.write_all(text.as_bytes());
        }
    };
    let Some(dir) = args.first() else {
        say("the cluster's directory is missing");
        return ExitCode::from(2);
    };
    match prepare(Path::new(dir)).and_then(|gateway| gateway.run(&mut say)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

struct Gateway {
    paths: Paths,
    name: String,
    host: Namespace,
    cluster: Namespace,
}

/// Reads the state and moves into the cluster's namespaces, making them when there are none.
fn prepare(dir: &Path) -> Result<Gateway, Failure> {
    let paths = Paths { dir: dir.to_owned() };
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let state = state::load(&paths, &name)?.ok_or("there is no state.json")?;
    ns::unshare(&[Kind::Mount])?;
    mount::propagate(Path::new("/"), Propagation::Private)?;
    mount_root(&state, &paths.root())?;

    let host = Namespace::own(Kind::Net)?;
    match inherited(NET_FD) {
        Some(fd) => Namespace::from_fd(Kind::Net, fd).enter()?,
        None => ns::unshare(&[Kind::Net])?,
    }
    network(&state)?;
    let cluster = Namespace::own(Kind::Net)?;
    Ok(Gateway { paths, name, host, cluster })
}

fn mount_root(state: &ClusterState, target: &Path) -> Result<(), Failure> {
    let root = &state.request.root;
    if root.is_dir() {
        mount::bind(root, target, Flags::NONE.ro(), true)?;
    } else {
        sys::image::mount_erofs(root, target)?;
    }
    Ok(())
}

/// The loopback link and the bridge with the gateway's address.
fn network(state: &ClusterState) -> Result<(), Failure> {
    let netlink = Netlink::open()?;
    netlink.set_up(netlink.need_link("lo")?.index)?;
    if netlink.link(BRIDGE)?.is_none() {
        netlink.add_bridge(BRIDGE)?;
    }
    let bridge = netlink.need_link(BRIDGE)?;
    if let Some(mtu) = state.request.mtu {
        netlink.set_mtu(bridge.index, mtu)?;
    }
    netlink.add_address(bridge.index, IpAddr::V4(state.gateway), state.subnet.prefix_len())?;
    netlink.set_up(bridge.index)?;
    Ok(())
}

/// Where a listener leads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// To one address.
    One(SocketAddr),
    /// To this port of any control plane that answers.
    ControlPlane(u16),
}

impl Gateway {
    fn run(self, say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        // One thread: which network namespace a thread is in matters here.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.serve(say))
    }

    async fn serve(self, say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let mut reload = signal(SignalKind::hangup())?;
        let mut end = signal(SignalKind::terminate())?;
        let servers = Rc::new(Servers::default());
        let mut listening: BTreeMap<SocketAddr, (Target, JoinHandle<()>)> = BTreeMap::new();
        self.arrange(&servers, &mut listening)?;
        say("ok");
        loop {
            tokio::select! {
                _ = end.recv() => return Ok(()),
                _ = reload.recv() => {
                    if let Err(error) = self.arrange(&servers, &mut listening) {
                        eprintln!("gateway: could not read the nodes again: {error}");
                    }
                }
            }
        }
    }

    /// Makes the listeners what the state says they should be.
    fn arrange(&self, servers: &Rc<Servers>, listening: &mut BTreeMap<SocketAddr, (Target, JoinHandle<()>)>) -> Result<(), Failure> {
        let state = state::load(&self.paths, &self.name)?.ok_or("the state is gone")?;
        *servers.addresses.borrow_mut() = state.nodes_of(Role::ControlPlane).map(|node| node.address).collect();
        let wanted = wanted(&state);
        listening.retain(|address, (target, task)| {
            let keep = wanted.get(address) == Some(target);
            if !keep {
                task.abort();
            }
            keep
        });
        for (address, target) in wanted {
            if listening.contains_key(&address) {
                continue;
            }
            let listener = self.listen(address)?;
            let task = tokio::task::spawn_local(accept(listener, target.clone(), servers.clone()));
            listening.insert(address, (target, task));
        }
        Ok(())
    }

    /// A listener in the namespace that its address belongs to.
    fn listen(&self, address: SocketAddr) -> Result<TcpListener, Failure> {
        let place = if address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) { &self.host } else { &self.cluster };
        let listener = place.within(|| {
            StdListener::bind(address).map_err(|source| sys::Error::Os {
                what: format!("listen on {address} (another program may use the port: see `ss -ltnp`)"),
                source,
            })
        })?;
        listener.set_nonblocking(true)?;
        Ok(TcpListener::from_std(listener)?)
    }
}

/// Every address to listen on, with where it leads.
fn wanted(state: &ClusterState) -> BTreeMap<SocketAddr, Target> {
    let host = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut all: BTreeMap<_, _> =
        state.nodes.iter().map(|node| (host(node.api_port), Target::One((node.address, MACHINE_PORT).into()))).collect();
    all.insert(host(state.kubernetes_port), Target::ControlPlane(API_SERVER_PORT));
    for port in [API_SERVER_PORT, DISCOVERY_PORT] {
        all.insert((state.gateway, port).into(), Target::ControlPlane(port));
    }
    all
}

/// The control planes, and which of them answered last on each port.
#[derive(Default)]
struct Servers {
    addresses: RefCell<Vec<Ipv4Addr>>,
    good: RefCell<BTreeMap<u16, usize>>,
    open: Cell<usize>,
}

impl Servers {
    /// Connects to the target; of control planes to the one that answered last, else to each in turn.
    async fn connect(&self, target: &Target) -> Option<TcpStream> {
        let port = match target {
            Target::One(address) => return connect(*address).await,
            Target::ControlPlane(port) => *port,
        };
        let addresses = self.addresses.borrow().clone();
        let first = self.good.borrow().get(&port).copied().unwrap_or(0);
        for step in 0..addresses.len() {
            let index = (first + step) % addresses.len();
            if let Some(stream) = connect((addresses[index], port).into()).await {
                self.good.borrow_mut().insert(port, index);
                return Some(stream);
            }
        }
        None
    }
}

async fn connect(address: SocketAddr) -> Option<TcpStream> {
    timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await.ok()?.ok()
}

async fn accept(listener: TcpListener, target: Target, servers: Rc<Servers>) {
    // Said once, not ten times a second.
    let mut complained = false;
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // Out of descriptors, most likely: others must end first.
                if !std::mem::replace(&mut complained, true) {
                    eprintln!("gateway: cannot accept: {error}");
                }
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if servers.open.get() >= MOST_CONNECTIONS {
            if !std::mem::replace(&mut complained, true) {
                eprintln!("gateway: {MOST_CONNECTIONS} connections are open: more are refused");
            }
            continue;
        }
        let (target, servers) = (target.clone(), servers.clone());
        tokio::task::spawn_local(async move {
            servers.open.set(servers.open.get() + 1);
            carry(client, &target, &servers).await;
            servers.open.set(servers.open.get() - 1);
        });
    }
}

async fn carry(mut client: TcpStream, target: &Target, servers: &Servers) {
    // Refused by closing: to the client the gateway is no more than a wire.
    let Some(mut server) = servers.connect(target).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeState, Request, state::Phase};

    #[test]
    fn every_node_and_the_api_server_can_be_reached() {
        let node = |name: &str, role, last: u8, api_port| NodeState {
            name: name.into(),
            role,
            address: Ipv4Addr::new(10, 5, 0, last),
            api_port,
            memory: None,
            cpu_millis: None,
            keeper: None,
        };
        let state = ClusterState {
            version: 1,
            name: "demo".into(),
            provisioner: "namespaces".into(),
            phase: Phase::Ready,
            request: Request::new("demo", 1, 1, ""),
            subnet: "10.5.0.0/24".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 5, 0, 1),
            kubernetes_port: 26443,
            gateway_process: None,
            nodes: vec![node("c", Role::ControlPlane, 2, 25000), node("w", Role::Worker, 3, 25001)],
        };
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let expected = BTreeMap::from([
            (address("127.0.0.1:25000"), Target::One(address("10.5.0.2:50000"))),
            (address("127.0.0.1:25001"), Target::One(address("10.5.0.3:50000"))),
            (address("127.0.0.1:26443"), Target::ControlPlane(API_SERVER_PORT)),
            (address("10.5.0.1:6443"), Target::ControlPlane(6443)),
            (address("10.5.0.1:50002"), Target::ControlPlane(50002)),
        ]);
        assert_eq!(wanted(&state), expected);
    }

    #[test]
    fn a_dead_control_plane_is_passed_over_and_the_next_one_remembered() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let alive = TcpListener::bind("127.0.0.2:0").await.unwrap();
            let good = alive.local_addr().unwrap();
            // Nobody listens on that port of the first one.
            let addresses = vec![Ipv4Addr::new(127, 0, 0, 3), Ipv4Addr::new(127, 0, 0, 2)];
            let servers = Servers { addresses: RefCell::new(addresses), ..Servers::default() };
            assert_eq!(servers.connect(&Target::ControlPlane(good.port())).await.unwrap().peer_addr().unwrap(), good);
            assert_eq!(*servers.good.borrow(), BTreeMap::from([(good.port(), 1)]));
            assert!(servers.connect(&Target::One(([127, 0, 0, 3], good.port()).into())).await.is_none());
        });
    }
}
