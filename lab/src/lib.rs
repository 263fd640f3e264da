//! Local clusters of real nodes.
//!
//! A [`Provisioner`] turns a [`Request`] into running nodes; what a node's configuration says is the caller's business, who gives its bytes
//! when asked ([`ConfigFor`]). This crate knows of Kubernetes only the two ports that it leads to the outside.
//!
//! The one provisioner here is [`namespaces`]: each node is a tree of processes in namespaces of its own, on a bridge in a network
//! namespace of the cluster's own, watched by one small process (its keeper). There is no central daemon. The host's mounts, links, sysctls
//! and firewall stay as they are.
//!
//! A container node is root on its host and no security boundary.
//!
//! The program that makes clusters must call [`applet`] before anything else: keepers and gateways are that program, started again.

mod error;
mod file;
pub mod namespaces;
pub mod preflight;
pub mod request;
pub mod state;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

pub use error::{Error, Refusal, Result};
pub use request::{NodeRequest, Request, Role};
pub use state::{ClusterState, ClusterView, NodeCondition, NodeState, NodeView};

/// Gives the configuration (bytes as PID 1 gets them) of a node that is about to be made. The cluster's addresses and ports are settled
/// when it is asked.
pub type ConfigFor<'a> =
    &'a mut dyn FnMut(&ClusterState, &NodeState) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;

/// A way to run local clusters. Every operation may be repeated after it failed or its process was killed: it goes on where it was.
pub trait Provisioner {
    /// Makes a cluster and starts its nodes. A half-made one of the same request is finished; a finished one is an error.
    fn create(&self, request: &Request, config: ConfigFor<'_>) -> Result<ClusterState>;

    /// The names of all clusters, half-made ones included.
    fn list(&self) -> Result<Vec<String>>;

    /// What there is of a cluster, in whatever state it is.
    fn show(&self, name: &str) -> Result<ClusterView>;

    /// Adds nodes and starts them.
    fn add(&self, name: &str, nodes: &[NodeRequest], config: ConfigFor<'_>) -> Result<Vec<NodeState>>;

    /// Removes a node with everything it had, at once and without goodbye: draining it first is the caller's business. Fine when it is not
    /// there.
    fn remove(&self, name: &str, node: &str) -> Result<()>;

    /// Starts the nodes that do not run (all, when none is named).
    fn start(&self, name: &str, nodes: &[String]) -> Result<()>;

    /// Switches nodes off (all, when none is named): in order within `grace`, then at once.
    fn stop(&self, name: &str, nodes: &[String], grace: Duration) -> Result<()>;

    /// Removes the cluster with everything it had.
    fn destroy(&self, name: &str) -> Result<()>;
}

/// Where clusters live by default: `$ORLOP_STATE`, else `~/.orlop/clusters`.
pub fn default_dir() -> PathBuf {
    let set = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("ORLOP_STATE").unwrap_or_else(|| set("HOME").unwrap_or_else(|| "/var/lib".into()).join(".orlop").join("clusters"))
}

/// Runs a keeper, a gateway or the first steps of a node when `args` (the whole argument vector) ask for one; `None` for every other call.
/// To be called while the process has one thread: namespaces are entered.
pub fn applet(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    let verb = args.get(1)?.to_str()?;
    let rest = &args[2..];
    match verb {
        namespaces::KEEPER_VERB => Some(namespaces::keeper::main(rest)),
        namespaces::GATEWAY_VERB => Some(namespaces::gateway::main(rest)),
        namespaces::NODE_VERB => Some(namespaces::node::main(rest)),
        _ => None,
    }
}
