//! Services: what shall run on a node (`ServiceSpec`) and how it fares (`ServiceStatus`).
//!
//! This is where the rooms meet: `kube` wants a kubelet by writing a [`ServiceSpec`], `host` makes it run and says so in a
//! [`ServiceStatus`] and in the compatible `Services.v1alpha1.talos.dev`. Kinds of Orlop's own, so their type ends in `orlop.dev`.

use resource::{Duration, Timestamp, message, resource, text_enum};

/// One service that shall run on this node. The id is the service's.
#[resource(type = "ServiceSpecs.orlop.dev", namespace = "runtime", columns("Runner" = "{.runner}", "Restart" = "{.restart}"))]
pub struct ServiceSpec {
    /// What runs it.
    #[field(1)]
    pub runner: Runner,
    /// The program and its arguments; empty in a container means the image's own.
    #[field(2)]
    pub args: Vec<String>,
    /// Environment, as `NAME=value`.
    #[field(3, omit_empty)]
    pub env: Vec<String>,
    /// The container, when `runner` is one.
    #[field(4, omit_empty)]
    pub container: Option<Container>,
    /// What must be true before it starts.
    #[field(5, omit_empty)]
    pub depends: Vec<Condition>,
    /// How its health is found out; without it the health is unknown.
    #[field(6, omit_empty)]
    pub health: Option<HealthCheck>,
    /// What follows when it ends by itself.
    #[field(7)]
    pub restart: Restart,
    /// How long it may take to end when asked; then it is killed. Zero means 10 s.
    #[field(8, omit_empty)]
    pub stop_timeout: Duration,
    /// Its score for the kernel's out-of-memory killer, −1000 to 1000.
    #[field(9, omit_empty)]
    pub oom_score_adj: i32,
    /// Its cgroup, as a path below the node's root, such as `podruntime/kubelet`.
    #[field(10)]
    pub cgroup: String,
    /// What the API may ask of it.
    #[field(11, omit_empty)]
    pub control: Control,
    /// Only its main process is told to end; its children live on (containerd's shims).
    #[field(12, omit_empty)]
    pub main_process_only: bool,
    /// Changes when something outside of this specification changed that the service reads at start (a file's hash).
    #[field(13, omit_empty)]
    pub revision: String,
}

/// What runs a service.
#[text_enum]
pub enum Runner {
    /// A process that `init` spawns.
    #[text(0, "process")]
    Process,
    /// A container of containerd's namespace `system`.
    #[text(1, "container")]
    Container,
    /// Nothing: the service is a part of another process; only its health is looked at.
    #[text(2, "part")]
    Part,
}

/// What follows when a service ends by itself.
#[text_enum]
pub enum Restart {
    /// It is started again, always.
    #[text(0, "always")]
    Always,
    /// It is not started again.
    #[text(1, "never")]
    Never,
    /// It is started again until it ends with success.
    #[text(2, "untilSuccess")]
    UntilSuccess,
}

/// A container's own settings. All service containers share the node's network namespace and may do what root may.
#[message]
pub struct Container {
    /// The image.
    #[field(1)]
    pub image: String,
    /// What is mounted into it.
    #[field(2, omit_empty)]
    pub mounts: Vec<Mount>,
    /// User id inside.
    #[field(3, omit_empty)]
    pub uid: u32,
    /// Group id inside.
    #[field(4, omit_empty)]
    pub gid: u32,
    /// All capabilities and devices, writable /sys and cgroups, the node's PID namespace (the kubelet).
    #[field(5, omit_empty)]
    pub privileged: bool,
    /// The capabilities it keeps when it is not privileged, such as `CAP_NET_BIND_SERVICE`.
    #[field(6, omit_empty)]
    pub capabilities: Vec<String>,
}

/// One mount of a container.
#[message]
pub struct Mount {
    /// Path inside the container.
    #[field(1)]
    pub destination: String,
    /// Path on the node, or the kind's name for special file systems.
    #[field(2)]
    pub source: String,
    /// File system; empty means a bind mount.
    #[field(3, omit_empty)]
    pub fs: String,
    /// Mount options, such as `rbind`, `rshared`, `ro`.
    #[field(4, omit_empty)]
    pub options: Vec<String>,
}

/// Something that must be true before a service starts.
#[message]
pub struct Condition {
    /// What is looked at.
    #[field(1)]
    pub on: ConditionOn,
    /// The service's id, the part of the network (`addresses`, `connectivity`, `hostname`, `etcfiles`), or the path.
    #[field(2, omit_empty)]
    pub name: String,
}

/// What a condition looks at.
#[text_enum]
pub enum ConditionOn {
    /// A service runs and, where it has a health check, is healthy.
    #[text(0, "service")]
    Service,
    /// A part of the network is ready.
    #[text(1, "network")]
    Network,
    /// The clock is in sync.
    #[text(2, "time")]
    Time,
    /// The Kubernetes API answers through the node's own balancer.
    #[text(3, "kubernetes")]
    Kubernetes,
}

impl Condition {
    /// The service with this id is up.
    #[must_use]
    pub fn service(id: &str) -> Self {
        Self { on: ConditionOn::Service, name: id.to_owned() }
    }

    /// This part of the network is ready.
    #[must_use]
    pub fn network(part: &str) -> Self {
        Self { on: ConditionOn::Network, name: part.to_owned() }
    }

    /// The clock is in sync.
    #[must_use]
    pub fn time() -> Self {
        Self { on: ConditionOn::Time, name: String::new() }
    }

    /// The Kubernetes API answers.
    #[must_use]
    pub fn kubernetes() -> Self {
        Self { on: ConditionOn::Kubernetes, name: String::new() }
    }
}

/// How a service's health is found out.
#[message]
pub struct HealthCheck {
    /// The kind of probe.
    #[field(1)]
    pub probe: Probe,
    /// What is probed: `host:port`, a URL, or a socket's path.
    #[field(2)]
    pub target: String,
    /// Time before the first probe. Zero means 1 s.
    #[field(3, omit_empty)]
    pub initial_delay: Duration,
    /// Time between probes. Zero means 5 s.
    #[field(4, omit_empty)]
    pub period: Duration,
    /// Time a probe may take. Zero means 500 ms.
    #[field(5, omit_empty)]
    pub timeout: Duration,
}

/// A kind of health probe.
#[text_enum]
pub enum Probe {
    /// A TCP connection is accepted.
    #[text(0, "tcp")]
    Tcp,
    /// An HTTP GET answers 200 to 399.
    #[text(1, "http")]
    Http,
    /// A Unix socket accepts a connection.
    #[text(2, "unix")]
    Unix,
    /// The container runtime's API says `RuntimeReady`.
    #[text(3, "cri")]
    Cri,
}

/// What the API may ask of a service.
#[message]
pub struct Control {
    /// Start it after it was stopped.
    #[field(1, omit_empty)]
    pub start: bool,
    /// Stop it until it is started again.
    #[field(2, omit_empty)]
    pub stop: bool,
    /// Restart it.
    #[field(3, omit_empty)]
    pub restart: bool,
}

/// How a service fares. The id is the service's.
#[resource(type = "ServiceStatuses.orlop.dev", namespace = "runtime", columns("State" = "{.state}", "Healthy" = "{.healthy}", "Starts" = "{.starts}"))]
pub struct ServiceStatus {
    /// `Initialized`, `Waiting`, `Preparing`, `Starting`, `Running`, `Stopping`, `Finished` or `Failed`.
    #[field(1)]
    pub state: String,
    /// Whether nothing is known of its health.
    #[field(2)]
    pub unknown: bool,
    /// Whether it is healthy.
    #[field(3)]
    pub healthy: bool,
    /// What the last health probe said.
    #[field(4, omit_empty)]
    pub last_message: String,
    /// When its health last changed.
    #[field(5, omit_empty)]
    pub last_change: Option<Timestamp>,
    /// The newest events, oldest first, 64 at most.
    #[field(6, omit_empty)]
    pub events: Vec<ServiceEvent>,
    /// Its main process in the node's PID namespace; 0 when none.
    #[field(7, omit_empty)]
    pub pid: u32,
    /// How often it was started since the node's boot.
    #[field(8, omit_empty)]
    pub starts: u32,
}

/// Something that happened to a service.
#[message]
pub struct ServiceEvent {
    /// What, for people.
    #[field(1)]
    pub message: String,
    /// The state then.
    #[field(2)]
    pub state: String,
    /// When.
    #[field(3)]
    pub time: Option<Timestamp>,
}

/// What a person asked of a service through the API; the id is the service's. It lasts until the node boots again.
#[resource(type = "ServiceRequests.orlop.dev", namespace = "runtime", columns("Stopped" = "{.stopped}", "Restarts" = "{.restarts}"))]
pub struct ServiceRequest {
    /// It shall stay stopped.
    #[field(1)]
    pub stopped: bool,
    /// How often a restart was asked; each change restarts it once.
    #[field(2)]
    pub restarts: u64,
}

/// A configuration that was applied through the API; the id is `v1alpha1` for the active one, `persistent` for the one to start with.
#[resource(type = "ConfigRequests.orlop.dev", namespace = "config", sensitive)]
pub struct ConfigRequest {
    /// The configuration as the user gave it.
    #[field(1, secret)]
    pub config: resource::Bytes,
    /// How often one was applied since the boot.
    #[field(2)]
    pub generation: u64,
}

/// The sequence that ends this boot; the only id is `current`.
#[resource(type = "SequenceStatuses.orlop.dev", namespace = "runtime", columns("Sequence" = "{.sequence}", "Step" = "{.step}"), ids("current"))]
pub struct SequenceStatus {
    /// `reboot`, `shutdown` or `reset`.
    #[field(1)]
    pub sequence: String,
    /// Who asked for it: the id that its events carry.
    #[field(2)]
    pub actor: String,
    /// The step under way.
    #[field(3)]
    pub step: String,
    /// What failed so far, one line each.
    #[field(4, omit_empty)]
    pub failures: Vec<String>,
}

/// The kinds of this module.
#[must_use]
pub fn kinds() -> Vec<resource::Entry> {
    use resource::Entry;
    vec![
        Entry::of::<ServiceSpec>(),
        Entry::of::<ServiceStatus>(),
        Entry::of::<ServiceRequest>(),
        Entry::of::<ConfigRequest>(),
        Entry::of::<SequenceStatus>(),
    ]
}
