//! What the parts of `machined` share: the store's tables they read often, and the handles to the world outside.

use std::path::PathBuf;
use std::sync::Arc;

use engine::{Handle, Store, Table};
use host::logs::Watcher;
use kube_room::etcd::control::EtcdControl;
use model::config::Mode;
use model::host::{MachineConfig, MaintenanceServiceRequest};
use model::net::TimeServerStatus;
use model::services::{ConfigRequest, ServiceRequest, ServiceSpec, ServiceStatus};

use super::events::Events;
use super::lifecycle::Lifecycle;

/// The node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    /// The resources.
    pub(crate) store: Store,
    /// The controllers.
    pub(crate) runtime: Handle,
    /// What happens.
    pub(crate) events: Events,
    /// Growing log files.
    pub(crate) logs: Watcher,
    /// The sequences that end the boot.
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// containerd's socket.
    pub(crate) containerd: PathBuf,
    /// etcd of this node.
    pub(crate) etcd: EtcdControl,
    /// The link to `edge`.
    pub(crate) edge: crate::edge::link::Server,
    /// How configurations are checked here.
    pub(crate) mode: Mode,
    /// Service specifications.
    pub(crate) specs: Table<ServiceSpec>,
    /// How services fare.
    pub(crate) statuses: Table<ServiceStatus>,
    /// What was asked of services.
    pub(crate) requests: Table<ServiceRequest>,
    /// What was asked to be the configuration.
    pub(crate) configs: Table<ConfigRequest>,
    /// The configuration.
    pub(crate) machine_config: Table<MachineConfig>,
    /// The time servers.
    pub(crate) time_servers: Table<TimeServerStatus>,
    /// One configuration is applied at a time.
    pub(crate) applying: Arc<tokio::sync::Mutex<Trial>>,
}

/// A configuration on trial: the one before it, and the task that goes back to that when it is not aborted.
#[derive(Default)]
pub(crate) struct Trial(pub(crate) Option<(Vec<u8>, tokio::task::JoinHandle<()>)>);

impl Node {
    /// Whether the node has no configuration and asks for one.
    pub(crate) fn in_maintenance(&self) -> bool {
        !self.store.kind::<MaintenanceServiceRequest>().list().is_empty()
    }

    /// Whether the configuration makes it a control plane.
    pub(crate) fn is_control_plane(&self) -> bool {
        self.config().is_some_and(|config| config.spec.machine().is_some_and(|machine| machine.machine_type().is_control_plane()))
    }

    /// The active configuration when there is a valid one.
    pub(crate) fn config(&self) -> Option<Arc<resource::Resource<MachineConfig>>> {
        self.machine_config.get(host::acquire::ACTIVE)
    }
}
