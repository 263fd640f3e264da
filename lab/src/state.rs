//! What is written down about a cluster.
//!
//! `state.json` is written by whoever holds the cluster's lock; each keeper writes only its own `status.json`. Both are replaced whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    net::Ipv4Addr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sys::process::ProcessRef;

use crate::{Error, Request, Result, Role, error::During, file};

/// The form of `state.json` this program writes.
const VERSION: u32 = 1;
/// How long to wait for another process that works on the cluster.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How far a cluster has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Being made, or left half-made.
    Creating,
    /// Made.
    Ready,
    /// Being removed, or left half-removed.
    Destroying,
}

/// A cluster as written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// The form of this file.
    pub version: u32,
    /// The cluster's name.
    pub name: String,
    /// The provisioner that made it.
    pub provisioner: String,
    /// How far it has come.
    pub phase: Phase,
    /// What was asked for.
    pub request: Request,
    /// Its network.
    pub subnet: Ipv4Net,
    /// The address of its gateway: there the API server of the cluster answers on port 6443, load-balanced over the control planes.
    pub gateway: Ipv4Addr,
    /// The port of 127.0.0.1 on the host that leads to the same.
    pub kubernetes_port: u16,
    /// The gateway's process.
    pub gateway_process: Option<ProcessRef>,
    /// Its nodes.
    pub nodes: Vec<NodeState>,
}

/// A node as written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// Its name, which is its host name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its address in the cluster's network.
    pub address: Ipv4Addr,
    /// The port of 127.0.0.1 on the host that leads to its machine API.
    pub api_port: u16,
    /// A limit of its memory in bytes.
    pub memory: Option<u64>,
    /// A limit of its processor time, in thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Its keeper's process.
    pub keeper: Option<ProcessRef>,
}

impl ClusterState {
    /// The address of the Kubernetes API inside the cluster: `https://GATEWAY:6443`.
    pub fn endpoint(&self) -> String {
        format!("https://{}:6443", self.gateway)
    }

    /// The address of the Kubernetes API for programs on the host: `https://127.0.0.1:PORT`.
    pub fn host_endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.kubernetes_port)
    }

    /// The addresses of the control planes' machine APIs for programs on the host: `127.0.0.1:PORT`.
    pub fn api_endpoints(&self) -> Vec<String> {
        self.nodes_of(Role::ControlPlane).map(|node| format!("127.0.0.1:{}", node.api_port)).collect()
    }

    /// Its nodes of this role.
    pub fn nodes_of(&self, role: Role) -> impl Iterator<Item = &NodeState> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Result<&NodeState> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| self.no_node(name))
    }

    pub(crate) fn node_mut(&mut self, name: &str) -> Result<&mut NodeState> {
        let missing = self.no_node(name);
        self.nodes.iter_mut().find(|node| node.name == name).ok_or(missing)
    }

    fn no_node(&self, name: &str) -> Error {
        let there = self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
        Error::NoNode { cluster: self.name.clone(), node: name.to_owned(), there }
    }
}

/// What a keeper writes about its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The keeper.
    pub keeper: ProcessRef,
    /// The node's PID 1, as the host names it.
    pub init: Option<ProcessRef>,
    /// How often this keeper has started the node.
    pub starts: u32,
    /// When it last did, in milliseconds of Unix time.
    pub started_ms: u64,
    /// The node's condition when this was written.
    pub condition: NodeCondition,
    /// What is not as it should be, but does not hinder.
    pub warnings: Vec<String>,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeCondition {
    /// It runs.
    Running,
    /// It was switched off.
    Off,
    /// It ended by itself; why.
    Failed(String),
    /// Nothing of it runs, and nobody said why: its keeper was killed, or the host was restarted.
    Gone,
}

impl std::fmt::Display for NodeCondition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NodeCondition::Running => f.write_str("running"),
            NodeCondition::Off => f.write_str("off"),
            NodeCondition::Failed(why) => write!(f, "failed: {why}"),
            NodeCondition::Gone => f.write_str("gone"),
        }
    }
}

/// A node as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeView {
    /// What is written down.
    pub node: NodeState,
    /// How it is now.
    pub condition: NodeCondition,
    /// Its PID 1 on the host, while it runs.
    pub pid: Option<i32>,
    /// What its keeper wrote last.
    pub status: Option<NodeStatus>,
    /// Its console file.
    pub console: PathBuf,
}

/// A cluster as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterView {
    /// What is written down.
    pub state: ClusterState,
    /// Its directory.
    pub dir: PathBuf,
    /// True while the gateway runs: without it nothing of the cluster can be reached from the host.
    pub gateway_runs: bool,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
}

/// The places of a cluster's files.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) dir: PathBuf,
}

impl Paths {
    pub(crate) fn new(base: &Path, name: &str) -> Paths {
        Paths { dir: base.join(name) }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// Where the gateway mounts the root that all nodes share (in its own mount namespace).
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub(crate) fn gateway_log(&self) -> PathBuf {
        self.dir.join("gateway.log")
    }

    pub(crate) fn node(&self, node: &str) -> NodePaths {
        NodePaths { dir: self.dir.join("nodes").join(node) }
    }
}

/// The places of a node's files.
#[derive(Debug, Clone)]
pub(crate) struct NodePaths {
    pub(crate) dir: PathBuf,
}

impl NodePaths {
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }
    pub(crate) fn status(&self) -> PathBuf {
        self.dir.join("status.json")
    }
    pub(crate) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }
    pub(crate) fn keeper_log(&self) -> PathBuf {
        self.dir.join("keeper.log")
    }
    pub(crate) fn var(&self) -> PathBuf {
        self.dir.join("var")
    }
    /// Where the node's root is put together (in its own mount namespace).
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Reads the state of a cluster; `None` when there is none.
pub(crate) fn load(paths: &Paths, name: &str) -> Result<Option<ClusterState>> {
    let path = paths.state();
    let damaged = |why: String| Error::Damaged { path: path.clone(), name: name.to_owned(), why };
    let state: Option<ClusterState> = file::read_json(&path).map_err(|error| damaged(error.to_string()))?;
    match state {
        Some(state) if state.version != VERSION => {
            Err(damaged(format!("it is of form {}, and this program knows form {VERSION}", state.version)))
        }
        other => Ok(other),
    }
}

/// Writes the state of a cluster.
pub(crate) fn save(paths: &Paths, state: &ClusterState) -> Result<()> {
    let path = paths.state();
    file::replace_json(&path, state).during(|| format!("write {}", path.display()))
}

/// The form that new clusters are written in.
pub(crate) const fn version() -> u32 {
    VERSION
}

/// The right to change a cluster, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Waits a little for others, then says who they are.
    pub(crate) fn take(base: &Path, name: &str) -> Result<Lock> {
        fs::create_dir_all(base).during(|| format!("make the directory {}", base.display()))?;
        let path = base.join(format!(".{name}.lock"));
        let begin = Instant::now();
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .during(|| format!("open the lock {}", path.display()))?;
            if file.try_lock().is_ok() {
                // The file may have been removed between open and lock: then this lock is of no file that others see.
                let same = fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()));
                if same {
                    let _ = file.set_len(0);
                    let _ = write!(file, "process {}", std::process::id());
                    return Ok(Lock { path, file });
                }
            } else if begin.elapsed() >= LOCK_PATIENCE {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(Error::Busy { name: name.to_owned(), holder, seconds: LOCK_PATIENCE.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets go of it and leaves no file.
    pub(crate) fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Lets go of it.
    pub(crate) fn release(self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_state_says_what_can_be_done() {
        let base = tempfile::tempdir().unwrap();
        let paths = Paths::new(base.path(), "demo");
        assert_eq!(load(&paths, "demo").unwrap(), None);
        fs::create_dir(&paths.dir).unwrap();
        for bad in ["", "{", "{\"version\": 1}", "[]"] {
            fs::write(paths.state(), bad).unwrap();
            let error = load(&paths, "demo").unwrap_err().to_string();
            assert!(error.contains("cluster destroy --name demo"), "{error}");
        }
    }

    #[test]
    fn a_lock_is_held_by_one_and_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let lock = Lock::take(base.path(), "demo").unwrap();
        let path = base.path().to_owned();
        let waiter = std::thread::spawn(move || Lock::take(&path, "demo").unwrap().remove());
        std::thread::sleep(Duration::from_millis(60));
        assert!(!waiter.is_finished());
        lock.remove();
        waiter.join().unwrap();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
