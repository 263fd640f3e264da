//! The namespaces provisioner: clusters without a daemon, from the kernel's own parts.
//!
//! ```text
//! host                      cluster's network namespace (bridge orlop0: 10.5.0.1)
//! 127.0.0.1:26443 ─gateway─ 10.5.0.1:6443 ─► control planes' 6443
//! 127.0.0.1:25000 ─gateway──────────────────► node 1: 10.5.0.2:50000
//!                           keeper of node 1 ─ PID 1 of node 1 in mount, PID, network, UTS, IPC and cgroup namespaces; eth0 on the bridge
//! ```
//!
//! The gateway holds the cluster's network namespace and a mount namespace in which the root image is mounted once for all nodes; keepers
//! live in both, so each of them keeps them alive too. Every process of a cluster is in the control group `orlop/NAME-HASH` from its first
//! instruction: that, and not what is written down, is what `destroy` goes by, so it leaves nothing even when `create` was killed before it
//! wrote a line.
//!
//! A killed keeper takes its node with it (as pulling a plug would), since a node that nobody watches could be neither rebooted nor
//! stopped.

pub mod gateway;
pub mod keeper;
pub mod node;

use std::{
    ffi::OsString,
    fs,
    io::{ErrorKind, Read},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use sys::{
    Signal,
    cgroup::{Group, Layout},
    netlink::Netlink,
    poll,
    process::{PidFd, ProcessRef, wait_until},
    spawn::{Child, Spawn, Stdio, output_pipe},
};

use crate::{
    ClusterState, ClusterView, ConfigFor, Error, NodeCondition, NodeRequest, NodeState, NodeView, Provisioner, Request, Result,
    error::During,
    file,
    preflight::{self, Host},
    request::{choose_subnet, free_address, free_port, node_name, port_is_free},
    state::{self, Lock, NodeStatus, Paths, Phase},
};

/// The hidden verb of a keeper: cluster directory, node.
pub const KEEPER_VERB: &str = "__keeper";
/// The hidden verb of a gateway: cluster directory.
pub const GATEWAY_VERB: &str = "__gateway";
/// The hidden verb of a node's first steps: cluster directory, node.
pub const NODE_VERB: &str = "__node";

/// Where keepers and the gateway are in the cluster's control group. No node is called so: names have no underscore.
const LAB_GROUP: &str = "_lab";
/// On this descriptor a started helper says `ok`, or what went wrong.
pub(crate) const READY_FD: i32 = 3;
/// On this descriptor a gateway gets the network namespace of a cluster that is there already.
pub(crate) const NET_FD: i32 = 4;

const START_PATIENCE: Duration = Duration::from_secs(30);
const KILL_PATIENCE: Duration = Duration::from_secs(60);
/// First ports tried for the machine APIs and for the Kubernetes API.
const API_PORTS: u16 = 25000;
const KUBERNETES_PORTS: u16 = 26443;

/// The provisioner.
pub struct Namespaces {
    base: PathBuf,
    progress: Box<dyn Fn(&str)>,
}

impl Namespaces {
    /// Clusters live in `base`, each in a directory of its name.
    pub fn new(base: impl Into<PathBuf>) -> Namespaces {
        let base = base.into();
        Namespaces { base: std::path::absolute(&base).unwrap_or(base), progress: Box::new(|_| {}) }
    }

    /// Tells what is being done, a line at a time.
    pub fn on_progress(mut self, tell: impl Fn(&str) + 'static) -> Namespaces {
        self.progress = Box::new(tell);
        self
    }

    /// The directory of a cluster, also for the caller's own files (secrets, client configurations); `destroy` removes it.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.paths(name).dir
    }

    fn paths(&self, name: &str) -> Paths {
        Paths::new(&self.base, name)
    }

    fn tell(&self, line: &str) {
        tracing::info!("{line}");
        (self.progress)(line);
    }

    /// The cluster's lock and state; of a cluster that is not there no lock either.
    fn hold(&self, name: &str) -> Result<(Lock, ClusterState)> {
        self.load(name)?;
        let lock = Lock::take(&self.base, name)?;
        Ok((lock, self.load(name)?))
    }

    fn load(&self, name: &str) -> Result<ClusterState> {
        crate::request::check_name("cluster", name, 40)?;
        match state::load(&self.paths(name), name)? {
            Some(state) => Ok(state),
            None => Err(self.no_cluster(name)),
        }
    }

    fn no_cluster(&self, name: &str) -> Error {
        let names = self.list().unwrap_or_default();
        let there = if names.iter().any(|there| there == name) {
            "only its directory is there: finish it (cluster create) or remove it (cluster destroy)".to_owned()
        } else if names.is_empty() {
            "there is none at all: make one (cluster create)".to_owned()
        } else {
            format!("there are: {}", names.join(", "))
        };
        Error::NoCluster { name: name.to_owned(), dir: self.base.clone(), there }
    }

    fn taken_subnets(&self, except: &str) -> Vec<(Ipv4Net, String)> {
        let others = self.list().unwrap_or_default().into_iter().filter(|name| name != except);
        let clusters = others.filter_map(|name| Some((state::load(&self.paths(&name), &name).ok()??.subnet, format!("cluster {name}"))));
        clusters.chain(host_subnets()).collect()
    }

    fn promised_ports(&self) -> Vec<u16> {
        let states = self.list().unwrap_or_default().into_iter().filter_map(|name| state::load(&self.paths(&name), &name).ok()?);
        states.flat_map(|state| state.nodes.iter().map(|node| node.api_port).chain([state.kubernetes_port]).collect::<Vec<_>>()).collect()
    }

    /// Settles names, addresses and ports, and writes them down before anything is made.
    fn reserve(&self, request: &Request) -> Result<ClusterState> {
        let paths = self.paths(&request.name);
        if let Some(state) = state::load(&paths, &request.name)? {
            return resume(state, request);
        }
        let roles: Vec<_> = request.nodes.iter().map(|node| node.role).collect();
        let refusals = preflight::judge(&Host::look(&self.base), &roles);
        if !refusals.is_empty() {
            return Err(Error::Host(refusals));
        }
        // Two programs that make different clusters must not choose the same network or port.
        let everybody = Lock::take(&self.base, "_reserve")?;
        let subnet = choose_subnet(request.subnet, &self.taken_subnets(&request.name))?;
        let mut promised = self.promised_ports();
        let kubernetes_port = match request.kubernetes_port {
            Some(port) if promised.contains(&port) || !port_is_free(port) => {
                return Err(Error::BadRequest(format!("port {port} of 127.0.0.1 is in use: choose another, or none to get a free one")));
            }
            Some(port) => port,
            None => free_port(KUBERNETES_PORTS, &promised)?,
        };
        promised.push(kubernetes_port);
        let gateway = subnet.hosts().next().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let mut state = ClusterState {
            version: state::version(),
            name: request.name.clone(),
            provisioner: "namespaces".into(),
            phase: Phase::Creating,
            request: request.clone(),
            subnet,
            gateway,
            kubernetes_port,
            gateway_process: None,
            nodes: Vec::new(),
        };
        for node in &request.nodes {
            enlist(&mut state, node, &mut promised)?;
        }
        fs::create_dir_all(&paths.dir).during(|| format!("make the directory {}", paths.dir.display()))?;
        // It holds secrets: the nodes' configurations, and whatever the caller keeps there.
        fs::set_permissions(&paths.dir, fs::Permissions::from_mode(0o700)).during(|| format!("close {} to others", paths.dir.display()))?;
        state::save(&paths, &state)?;
        everybody.remove();
        Ok(state)
    }

    /// Writes a node's files, unless they are there.
    fn prepare(&self, state: &ClusterState, node: &NodeState, config: ConfigFor<'_>) -> Result<()> {
        let paths = self.paths(&state.name).node(&node.name);
        for dir in [&paths.dir, &paths.var(), &paths.root()] {
            fs::create_dir_all(dir).during(|| format!("make the directory {}", dir.display()))?;
        }
        if !paths.config().exists() {
            let bytes = config(state, node).map_err(|error| Error::NoConfig { node: node.name.clone(), why: error.to_string() })?;
            file::replace(&paths.config(), &bytes, 0o600).during(|| format!("write {}", paths.config().display()))?;
        }
        let resolvers = format!("nameserver {}\n", state.gateway);
        for (name, contents) in [("hostname", format!("{}\n", node.name)), ("resolv.conf", resolvers)] {
            file::replace(&paths.file(name), contents.as_bytes(), 0o644).during(|| format!("write {name} of {}", node.name))?;
        }
        Ok(())
    }

    /// Starts what does not run of the gateway and of these nodes, all keepers at once.
    fn bring_up(&self, state: &mut ClusterState, names: &[String]) -> Result<()> {
        let paths = self.paths(&state.name);
        self.end_strays(state)?;
        self.ensure_gateway(state)?;
        let mut starting = Vec::new();
        for name in names {
            if keeper_stays(&paths, state.node(name)?)? {
                continue;
            }
            self.tell(&format!("starting node {name}"));
            let node_paths = paths.node(name);
            let keeper =
                self.helper(state, &[KEEPER_VERB.as_ref(), paths.dir.as_os_str(), name.as_ref()], &node_paths.keeper_log(), None)?;
            state.node_mut(name)?.keeper = ProcessRef::of(keeper.child.pid);
            starting.push((name.clone(), keeper));
        }
        state::save(&paths, state)?;
        for (name, keeper) in starting {
            keeper.wait(&format!("node {name}"))?;
        }
        Ok(())
    }

    /// Ends helpers that nobody wrote down, since who started them was killed before that. A keeper takes its node with it.
    fn end_strays(&self, state: &ClusterState) -> Result<()> {
        let known: Vec<i32> = state
            .nodes
            .iter()
            .filter_map(|node| node.keeper.as_ref())
            .chain(&state.gateway_process)
            .filter(|process| process.alive())
            .map(|process| process.pid)
            .collect();
        for pid in self.group(&state.name)?.child(LAB_GROUP).processes() {
            if let (false, Ok(stray)) = (known.contains(&pid), PidFd::open(pid)) {
                tracing::warn!(pid, "ending a helper that is not written down");
                stray.signal(Signal::SIGKILL)?;
                stray.ended(KILL_PATIENCE)?;
            }
        }
        Ok(())
    }

    fn ensure_gateway(&self, state: &mut ClusterState) -> Result<()> {
        if state.gateway_process.as_ref().is_some_and(ProcessRef::alive) {
            return Ok(());
        }
        let paths = self.paths(&state.name);
        fs::create_dir_all(paths.root()).during(|| format!("make the directory {}", paths.root().display()))?;
        // Nodes that outlived their gateway keep the network: the new gateway joins them there.
        let held = state.nodes.iter().filter_map(|node| node.keeper.as_ref()).find_map(|keeper| {
            let _pin = keeper.open()?;
            sys::ns::Namespace::of(sys::ns::Kind::Net, keeper.pid).ok()
        });
        self.tell("starting the gateway");
        let gateway = self.helper(state, &[GATEWAY_VERB.as_ref(), paths.dir.as_os_str()], &paths.gateway_log(), held)?;
        state.gateway_process = ProcessRef::of(gateway.child.pid);
        state::save(&paths, state)?;
        gateway.wait("the gateway")
    }

    /// Starts this program again as a keeper or gateway, in the cluster's control group from the first instruction.
    fn helper(&self, state: &ClusterState, args: &[&std::ffi::OsStr], log: &Path, network: Option<sys::ns::Namespace>) -> Result<Helper> {
        let group = self.group(&state.name)?.child(LAB_GROUP);
        group.create()?;
        let (reader, writer) = output_pipe()?;
        let output = fs::OpenOptions::new().append(true).create(true).open(log).during(|| format!("open {}", log.display()))?;
        let second = output.try_clone().during(|| format!("open {}", log.display()))?;
        let argv: Vec<OsString> = [OsString::from("orlopctl")].into_iter().chain(args.iter().map(OsString::from)).collect();
        let mut spawn = Spawn::new("/proc/self/exe")
            .argv(argv)
            .cwd("/")
            .new_session()
            .stdout(Stdio::Fd(output.into()))
            .stderr(Stdio::Fd(second.into()))
            .fd(writer, READY_FD)
            .cgroups(group.dirs())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if let Some(network) = network {
            let fd = std::os::fd::AsFd::as_fd(&network).try_clone_to_owned().during(|| "duplicate a descriptor".into())?;
            spawn = spawn.fd(fd, NET_FD);
        }
        Ok(Helper { child: spawn.start()?, ready: reader, log: log.to_owned() })
    }

    /// The path of a cluster's control group, in each hierarchy of the host. It holds a hash of where clusters live, so that clusters of one name in
    /// two places never meet.
    pub fn control_group(&self, name: &str) -> PathBuf {
        let place = self.paths(name).dir;
        let bytes = place.as_os_str().as_encoded_bytes();
        // FNV-1a.
        let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        Path::new("orlop").join(format!("{name}-{hash:08x}"))
    }

    fn group(&self, name: &str) -> Result<Group> {
        Ok(Layout::detect()?.group(self.control_group(name)))
    }

    fn node_group(&self, cluster: &str, node: &str) -> Result<Group> {
        Ok(self.group(cluster)?.child(node))
    }

    /// Kills what is left of a node and removes its control group.
    fn clear_node(&self, state: &ClusterState, node: &NodeState) -> Result<()> {
        if let Some(keeper) = node.keeper.as_ref().and_then(ProcessRef::open) {
            keeper.signal(Signal::SIGKILL)?;
            keeper.ended(KILL_PATIENCE)?;
        }
        let group = self.node_group(&state.name, &node.name)?;
        group.kill(KILL_PATIENCE)?;
        Ok(group.remove(KILL_PATIENCE)?)
    }

    /// Tells the gateway that the list of nodes has changed.
    fn refresh_gateway(&self, state: &ClusterState) -> Result<()> {
        if let Some(gateway) = state.gateway_process.as_ref().and_then(ProcessRef::open) {
            gateway.signal(Signal::SIGHUP)?;
        }
        Ok(())
    }

    fn names(state: &ClusterState, wanted: &[String]) -> Result<Vec<String>> {
        if wanted.is_empty() {
            return Ok(state.nodes.iter().map(|node| node.name.clone()).collect());
        }
        wanted.iter().map(|name| state.node(name).map(|node| node.name.clone())).collect()
    }
}

/// A keeper or gateway that was started and has not said yet that it is ready.
struct Helper {
    child: Child,
    ready: fs::File,
    log: PathBuf,
}

impl Helper {
    fn wait(mut self, who: &str) -> Result<()> {
        let begin = Instant::now();
        let mut said = Vec::new();
        let mut buffer = [0u8; 4096];
        let failed = |why: String| Err(Error::NotStarted { who: who.to_owned(), why, log: self.log.clone() });
        loop {
            let left = START_PATIENCE.saturating_sub(begin.elapsed());
            if !poll::readable(&self.ready, left)? {
                return failed(format!("it said nothing for {} s", START_PATIENCE.as_secs()));
            }
            match self.ready.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => said.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return failed(error.to_string()),
            }
        }
        match String::from_utf8_lossy(&said).trim() {
            "ok" => Ok(()),
            "" => {
                let exit = self.child.wait(Duration::from_secs(1))?;
                failed(exit.map_or_else(|| "it closed its ears".to_owned(), |exit| format!("it ended at once ({exit})")))
            }
            why => failed(why.to_owned()),
        }
    }
}

/// Goes on with a half-made cluster of the same request.
fn resume(state: ClusterState, request: &Request) -> Result<ClusterState> {
    match state.phase {
        Phase::Ready => Err(Error::Exists { name: state.name, nodes: state.nodes.len() }),
        Phase::Creating if state.request == *request => Ok(state),
        Phase::Creating => {
            let asked = &state.request;
            let difference = format!(
                "{} nodes, root {}, image cache {:?}, network {:?}, port {:?}",
                asked.nodes.len(),
                asked.root.display(),
                asked.image_cache,
                asked.subnet,
                asked.kubernetes_port
            );
            Err(Error::HalfMade { name: state.name, difference })
        }
        Phase::Destroying => Err(Error::HalfMade { name: state.name, difference: "its own removal, which did not finish".into() }),
    }
}

/// Adds a node to the list, with a name, an address and a port.
fn enlist(state: &mut ClusterState, request: &NodeRequest, promised: &mut Vec<u16>) -> Result<NodeState> {
    let node = NodeState {
        name: node_name(state, request)?,
        role: request.role,
        address: free_address(state)?,
        api_port: free_port(API_PORTS, promised)?,
        memory: request.memory,
        cpu_millis: request.cpu_millis,
        keeper: None,
    };
    promised.push(node.api_port);
    state.nodes.push(node.clone());
    Ok(node)
}

/// The networks that the host's own addresses are in.
fn host_subnets() -> Vec<(Ipv4Net, String)> {
    let Ok(netlink) = Netlink::open() else { return Vec::new() };
    let links = netlink.links().unwrap_or_default();
    let name = |index| {
        links.iter().find(|link| link.index == index).map_or_else(|| "a link".to_owned(), |link| format!("the host's link {}", link.name))
    };
    let nets = netlink.addresses().unwrap_or_default().into_iter().filter_map(|address| match address.address {
        std::net::IpAddr::V4(v4) => Some((Ipv4Net::new(v4, address.prefix).ok()?.trunc(), name(address.link))),
        std::net::IpAddr::V6(_) => None,
    });
    nets.collect()
}

impl Provisioner for Namespaces {
    fn create(&self, request: &Request, config: ConfigFor<'_>) -> Result<ClusterState> {
        request.check()?;
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let request =
            &Request { root: absolute(&request.root), image_cache: request.image_cache.as_ref().map(absolute), ..request.clone() };
        let lock = Lock::take(&self.base, &request.name)?;
        self.tell("checking the host");
        let mut state = match self.reserve(request) {
            Ok(state) => state,
            Err(error) => {
                if !self.paths(&request.name).dir.exists() {
                    lock.remove();
                }
                return Err(error);
            }
        };
        for node in &state.nodes {
            self.prepare(&state, node, config)?;
        }
        let names = Self::names(&state, &[])?;
        self.bring_up(&mut state, &names)?;
        state.phase = Phase::Ready;
        state::save(&self.paths(&state.name), &state)?;
        lock.release();
        Ok(state)
    }

    fn list(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.base) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::File { what: format!("list {}", self.base.display()), source: error }),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| crate::request::check_name("cluster", name, 40).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    fn show(&self, name: &str) -> Result<ClusterView> {
        let state = self.load(name)?;
        let paths = self.paths(name);
        let nodes = state.nodes.iter().map(|node| view(&paths, node)).collect();
        let gateway_runs = state.gateway_process.as_ref().is_some_and(ProcessRef::alive);
        Ok(ClusterView { state, dir: paths.dir, gateway_runs, nodes })
    }

    fn add(&self, name: &str, nodes: &[NodeRequest], config: ConfigFor<'_>) -> Result<Vec<NodeState>> {
        let (lock, mut state) = self.hold(name)?;
        let roles: Vec<_> = nodes.iter().map(|node| node.role).collect();
        let refusals = preflight::judge(&Host::look(&self.base), &roles);
        if !refusals.is_empty() {
            return Err(Error::Host(refusals));
        }
        let everybody = Lock::take(&self.base, "_reserve")?;
        let mut promised = self.promised_ports();
        let added = nodes.iter().map(|node| enlist(&mut state, node, &mut promised)).collect::<Result<Vec<_>>>()?;
        state::save(&self.paths(name), &state)?;
        everybody.remove();
        for node in &added {
            self.prepare(&state, node, config)?;
        }
        self.refresh_gateway(&state)?;
        let names: Vec<String> = added.iter().map(|node| node.name.clone()).collect();
        self.bring_up(&mut state, &names)?;
        lock.release();
        Ok(added)
    }

    fn remove(&self, name: &str, node: &str) -> Result<()> {
        let (lock, mut state) = self.hold(name)?;
        if let Ok(found) = state.node(node).cloned() {
            self.tell(&format!("removing node {node}"));
            self.clear_node(&state, &found)?;
            remove_tree(&self.paths(name).node(node).dir)?;
            state.nodes.retain(|other| other.name != node);
            state::save(&self.paths(name), &state)?;
            self.refresh_gateway(&state)?;
        }
        lock.release();
        Ok(())
    }

    fn start(&self, name: &str, nodes: &[String]) -> Result<()> {
        let (lock, mut state) = self.hold(name)?;
        let names = Self::names(&state, nodes)?;
        for node in &names {
            if !self.paths(name).node(node).config().exists() {
                let why = "its configuration was never written: the cluster is half-made".to_owned();
                return Err(Error::NoConfig { node: node.clone(), why });
            }
        }
        self.bring_up(&mut state, &names)?;
        lock.release();
        Ok(())
    }

    fn stop(&self, name: &str, nodes: &[String], grace: Duration) -> Result<()> {
        let (lock, state) = self.hold(name)?;
        let names = Self::names(&state, nodes)?;
        let running: Vec<_> = names.iter().filter_map(|node| Some((node, state.node(node).ok()?.keeper.as_ref()?.open()?))).collect();
        for (node, keeper) in &running {
            self.tell(&format!("stopping node {node}"));
            keeper.signal(Signal::SIGTERM)?;
        }
        let begin = Instant::now();
        for (node, keeper) in &running {
            if !keeper.ended(grace.saturating_sub(begin.elapsed()))? {
                self.tell(&format!("node {node} did not stop within {} s: switching it off", grace.as_secs()));
                // The second one is the hard one.
                keeper.signal(Signal::SIGTERM)?;
                if !keeper.ended(Duration::from_secs(10))? {
                    self.clear_node(&state, state.node(node)?)?;
                }
            }
        }
        lock.release();
        Ok(())
    }

    fn destroy(&self, name: &str) -> Result<()> {
        crate::request::check_name("cluster", name, 40)?;
        let paths = self.paths(name);
        let group = self.group(name)?;
        if !self.base.exists() {
            return Err(self.no_cluster(name));
        }
        let lock = Lock::take(&self.base, name)?;
        if !paths.dir.exists() && !group.exists() {
            // A `create` that was killed at once leaves a lock of nothing.
            lock.remove();
            return Err(self.no_cluster(name));
        }
        // So that a `create` does not take a half-removed cluster for a half-made one.
        if let Ok(Some(mut state)) = state::load(&paths, name) {
            state.phase = Phase::Destroying;
            let _ = state::save(&paths, &state);
        }
        self.tell(&format!("ending all processes of cluster {name}"));
        group.kill(KILL_PATIENCE)?;
        group.remove(KILL_PATIENCE)?;
        remove_empty_parent(&group);
        self.tell("removing its files");
        // Nothing of a cluster is mounted in the host's mount namespace; if somebody did it by hand, it must not be emptied through the
        // mount.
        let mut mounts = sys::mount::MountInfo::all()?;
        mounts.retain(|mount| mount.target.starts_with(&paths.dir) && mount.target != paths.dir);
        for mount in mounts.iter().rev() {
            sys::mount::unmount(&mount.target, true)?;
        }
        remove_tree(&paths.dir)?;
        lock.remove();
        Ok(())
    }
}

/// True when the node's keeper runs and will go on: one that has written down the end of its node is about to end itself, and is waited
/// for.
fn keeper_stays(paths: &Paths, node: &NodeState) -> Result<bool> {
    let Some(keeper) = node.keeper.as_ref().and_then(ProcessRef::open) else { return Ok(false) };
    let status: Option<NodeStatus> = file::read_json(&paths.node(&node.name).status()).ok().flatten();
    let ending = status.is_some_and(|status| Some(&status.keeper) == node.keeper.as_ref() && status.condition != NodeCondition::Running);
    Ok(!(ending && keeper.ended(Duration::from_secs(10))?))
}

/// `orlop` itself, when no other cluster is left in it.
fn remove_empty_parent(group: &Group) {
    for dir in group.dirs() {
        if let Some(parent) = dir.parent() {
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Removes a tree; dying processes may still drop files into it, so a few times if need be.
fn remove_tree(dir: &Path) -> Result<()> {
    let mut last = None;
    let gone = wait_until("remove a directory", Duration::from_secs(10), || match fs::remove_dir_all(dir) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => {
            last = Some(error);
            false
        }
    });
    match (gone, last) {
        (Err(_), Some(source)) => Err(Error::File { what: format!("remove {}", dir.display()), source }),
        (gone, _) => Ok(gone?),
    }
}

fn view(paths: &Paths, node: &NodeState) -> NodeView {
    let paths = paths.node(&node.name);
    let status: Option<NodeStatus> = file::read_json(&paths.status()).ok().flatten();
    let init = status.as_ref().and_then(|status| status.init.as_ref()).filter(|init| init.alive());
    let keeper_runs = node.keeper.as_ref().is_some_and(ProcessRef::alive);
    let condition = match (&status, keeper_runs) {
        (Some(status), true) => status.condition.clone(),
        (Some(NodeStatus { condition: ended @ (NodeCondition::Off | NodeCondition::Failed(_)), .. }), false) => ended.clone(),
        (None, true) if !paths.dir.exists() => {
            NodeCondition::Failed("its files were deleted while it runs: remove the node, or the cluster".into())
        }
        (None, true) => NodeCondition::Running,
        (_, false) => NodeCondition::Gone,
    };
    NodeView { node: node.clone(), condition, pid: init.map(|init| init.pid), status, console: paths.console() }
}
