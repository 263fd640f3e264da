//! What a thing is: every resource kind and configuration document. Pure, no IO.
//!
//! A kind lives in the module of the room that acts on it; `kinds()` of each room lists its kinds, and [`registry`] joins the lists.
//! The configuration's documents are in [`config`]. What makes a cluster healthy, and what the cause is when it is not, is in [`health`].

pub mod cluster;
pub mod config;
pub mod health;
pub mod host;
pub mod kube;
pub mod net;
pub mod services;
pub mod storage;

use resource::{Entry, Namespace, Registry, ResourceDefinition};

/// Every kind that a node knows.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::new().with::<Namespace>().with::<ResourceDefinition>();
    let rooms: [fn() -> Vec<Entry>; 6] = [net::kinds, storage::kinds, kube::kinds, cluster::kinds, host::kinds, services::kinds];
    rooms.into_iter().for_each(|kinds| registry.extend(kinds()));
    registry
}

/// Every namespace that a node has, and what it is for.
pub const NAMESPACES: &[(&str, &str)] = &[
    ("meta", "What the store says about itself: its namespaces and kinds."),
    ("cluster", "Who belongs to the cluster, after all sources are joined."),
    ("cluster-raw", "Who belongs to the cluster, as each source says."),
    ("config", "The configuration, and settings that derive from it alone."),
    ("containers", "Containers that the configuration asks for."),
    ("controlplane", "Components of the Kubernetes control plane."),
    ("cri", "The container runtime."),
    ("etcd", "etcd."),
    ("files", "Generated files."),
    ("hardware", "What the machine is made of."),
    ("k8s", "This machine as a node of Kubernetes."),
    ("kubespan", "The WireGuard mesh between members."),
    ("network", "The network, after the layers of configuration are merged."),
    ("network-config", "What each layer of configuration wants of the network."),
    ("perf", "Load of processors and memory."),
    ("runtime", "The running system."),
    ("secrets", "Keys, certificates and tokens."),
    ("security", "Which images may run."),
    ("storage", "Logical volumes and RAID."),
];
