//! What a health check knows.

use std::collections::BTreeMap;
use std::time::Duration;

/// How an attempt to reach a node's API ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reach {
    /// It answered.
    Answered,
    /// The machine refused the connection: it runs, its API does not.
    Refused,
    /// No connection within the deadline, or no route.
    Unreachable {
        /// The system's words.
        message: String,
    },
    /// The connection was accepted and then nothing came: the kernel lives, the processes do not.
    Silent,
    /// A certificate is not valid now.
    CertificateExpired {
        /// The TLS layer's words.
        message: String,
    },
    /// It answered with an error.
    Failed {
        /// Its words.
        message: String,
    },
    /// Nobody asked.
    #[default]
    NotAsked,
}

/// What a machine does in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// etcd and the control plane.
    ControlPlane,
    /// Pods only.
    #[default]
    Worker,
}

/// A service of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceFacts {
    /// `Running`, `Failed` and so on.
    pub state: String,
    /// `None` when it has no health check.
    pub healthy: Option<bool>,
    /// The last health message.
    pub message: String,
}

impl ServiceFacts {
    /// Runs, and is not known to be unhealthy.
    pub fn up(&self) -> bool {
        self.state == "Running" && self.healthy != Some(false)
    }
}

/// A member as one node's etcd lists it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EtcdMemberFacts {
    /// Its id.
    pub id: u64,
    /// Its name, the host name of its machine.
    pub name: String,
    /// Whether it has no vote.
    pub learner: bool,
}

/// etcd as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EtcdFacts {
    /// The member list; empty when it could not be had.
    pub members: Vec<EtcdMemberFacts>,
    /// A leader is known.
    pub leader: bool,
    /// Alarms and corruption, in etcd's words.
    pub errors: Vec<String>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its label `k8s-app`.
    pub app: String,
    /// The node it is on; empty when on none.
    pub node: String,
    /// Condition Ready.
    pub ready: bool,
    /// Restarts of its containers, summed.
    pub restarts: u32,
    /// Why a container does not run, such as `CrashLoopBackOff`.
    pub waiting: String,
}

/// A certificate of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateFacts {
    /// What it is for.
    pub name: String,
    /// Its end, seconds since 1970.
    pub not_after: i64,
}

/// One machine, as it answers, and as others see it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeFacts {
    /// Its host name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// What it does.
    pub role: Role,
    /// How asking it ended. Without an answer the fields below say nothing.
    pub reach: Reach,
    /// Machine stage, such as `running`.
    pub stage: String,
    /// Conditions for readiness that are not met: name and reason.
    pub unmet: Vec<(String, String)>,
    /// Memory, bytes; 0 when unknown.
    pub memory: u64,
    /// Size of the file system of /var, bytes; 0 when unknown.
    pub disk: u64,
    /// Free space of the same, bytes.
    pub disk_free: u64,
    /// Diagnostics the node reports: id and message.
    pub diagnostics: Vec<(String, String)>,
    /// Services by id.
    pub services: BTreeMap<String, ServiceFacts>,
    /// The node's clock minus ours, in nanoseconds, if both were read at once.
    pub clock_offset: Option<i128>,
    /// etcd, on control planes.
    pub etcd: Option<EtcdFacts>,
    /// Why etcd did not answer; empty when it did, or was not asked.
    pub etcd_failure: String,
    /// Static pods, on control planes.
    pub static_pods: Vec<PodFacts>,
    /// Its certificates.
    pub certificates: Vec<CertificateFacts>,
    /// Which other nodes it hears from: name → hears.
    pub hears: BTreeMap<String, bool>,
    /// Questions that it did not answer, and why: what they would have filled above says nothing.
    pub unasked: Vec<String>,
}

/// A node object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubeNodeFacts {
    /// Its name.
    pub name: String,
    /// Condition Ready.
    pub ready: bool,
    /// Why not, in the kubelet's words.
    pub reason: String,
    /// Cordoned.
    pub unschedulable: bool,
}

/// What Kubernetes says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KubeFacts {
    /// Node objects.
    pub nodes: Vec<KubeNodeFacts>,
    /// Pods of kube-system.
    pub pods: Vec<PodFacts>,
    /// A DaemonSet kube-proxy exists.
    pub has_proxy: bool,
    /// A Deployment coredns exists.
    pub has_dns: bool,
}

/// Everything.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterFacts {
    /// The machines that should be there.
    pub nodes: Vec<NodeFacts>,
    /// Kubernetes, or why it could not be asked.
    pub kubernetes: Result<KubeFacts, String>,
    /// The cluster has etcd (a certificate authority for it is configured).
    pub has_etcd: bool,
    /// The pod network is somebody else's business.
    pub cni_none: bool,
    /// Now, seconds since 1970.
    pub now: i64,
}

/// Least memory of a control plane, bytes: 2 GiB less what firmware keeps.
pub const MIN_MEMORY_CONTROL_PLANE: u64 = 1848 << 20;
/// Least memory of a worker, bytes: 1 GiB less the same.
pub const MIN_MEMORY_WORKER: u64 = (1024 - 150) << 20;
/// Least size of the disk, bytes.
pub const MIN_DISK: u64 = 6 << 30;
/// From this on a clock is wrong: etcd's leases and TLS bear less than they seem to.
pub const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(2);

impl PodFacts {
    /// Whether it ends again and again.
    pub fn crash_loops(&self) -> bool {
        let again = match self.waiting.as_str() {
            "CrashLoopBackOff" => true,
            "Error" => self.restarts >= 1,
            _ => self.restarts >= 2,
        };
        !self.ready && again
    }
}

impl ClusterFacts {
    /// The control planes.
    pub fn control_planes(&self) -> impl Iterator<Item = &NodeFacts> {
        self.nodes.iter().filter(|node| node.role == Role::ControlPlane)
    }
}

impl NodeFacts {
    /// Whether its etcd runs and answers.
    pub fn etcd_up(&self) -> bool {
        self.etcd_failure.is_empty() && self.services.get("etcd").is_some_and(ServiceFacts::up)
    }

    /// Whether it answered.
    pub fn answered(&self) -> bool {
        self.reach == Reach::Answered
    }

    /// Whether so little disk space is left that writing fails or soon will.
    pub fn disk_full(&self) -> bool {
        self.disk > 0 && self.disk_free < (self.disk / 100).max(64 << 20)
    }
}
