//! Causes behind failures.

use std::fmt;

use super::facts::{ClusterFacts, MAX_CLOCK_OFFSET, NodeFacts, Reach, Role};

/// What is wrong, at the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The machine is off, gone, or cut off from everybody.
    NodeGone,
    /// The machine's kernel answers and its processes do not.
    NodeFrozen,
    /// Some reach the machine and some do not.
    Partition,
    /// A certificate is past its end.
    CertificateExpired,
    /// The clock is off.
    WrongTime,
    /// No space is left.
    DiskFull,
    /// The machine's API does not run.
    ApidDown,
    /// etcd has no majority: nothing can be changed.
    QuorumLost,
    /// One member of etcd does not run.
    EtcdMemberDown,
    /// etcd was never started on any machine.
    NotBootstrapped,
    /// The API server starts and ends, again and again.
    ApiServerCrashLooping,
    /// The kubelet does not run.
    KubeletStopped,
    /// The cluster's DNS does not run.
    CoreDnsBroken,
    /// The machine is too small.
    TooSmall,
    /// None of the above.
    Other,
}

impl Cause {
    /// In a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::NodeGone => "node gone",
            Self::NodeFrozen => "node frozen",
            Self::Partition => "network partition",
            Self::CertificateExpired => "certificate expired",
            Self::WrongTime => "wrong time",
            Self::DiskFull => "disk full",
            Self::ApidDown => "machine API down",
            Self::QuorumLost => "etcd quorum lost",
            Self::EtcdMemberDown => "etcd member down",
            Self::NotBootstrapped => "not bootstrapped",
            Self::ApiServerCrashLooping => "API server crash-looping",
            Self::KubeletStopped => "kubelet stopped",
            Self::CoreDnsBroken => "cluster DNS broken",
            Self::TooSmall => "machine too small",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// A cause, where, why we think so, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The cause.
    pub cause: Cause,
    /// The node; `None` for the cluster as a whole.
    pub node: Option<String>,
    /// What was found.
    pub found: String,
    /// What to do next.
    pub next_step: String,
}

impl Diagnosis {
    pub(crate) fn new(cause: Cause, node: Option<&NodeFacts>, found: String, next_step: String) -> Self {
        Self { cause, node: node.map(|node| node.name.clone()), found, next_step }
    }
}

/// The causes of what is wrong, gravest first, consequences left out.
pub fn causes(facts: &ClusterFacts) -> Vec<Diagnosis> {
    let mut list: Vec<Diagnosis> = facts.nodes.iter().filter_map(|node| of_node(facts, node)).collect();
    list.extend(partitions(facts));
    list.extend(ghosts(facts));
    if let Some(quorum) = etcd_as_a_whole(facts) {
        // Members that are down are what the loss of the quorum consists of; a machine that is gone
        // stays in the list, since bringing it back is the way out.
        list.retain(|diagnosis| diagnosis.cause != Cause::EtcdMemberDown);
        list.push(quorum);
    }
    list.extend(dns(facts, &list));
    list.sort_by_key(|diagnosis| diagnosis.cause);
    list.dedup();
    list
}

/// The gravest cause on one node, if any.
pub fn of_node(facts: &ClusterFacts, node: &NodeFacts) -> Option<Diagnosis> {
    reach(facts, node).or_else(|| within(facts, node))
}

fn reach(facts: &ClusterFacts, node: &NodeFacts) -> Option<Diagnosis> {
    let name = &node.name;
    let address = &node.address;
    let (cause, found, next) = match &node.reach {
        Reach::Answered | Reach::NotAsked => return None,
        Reach::Refused => (
            Cause::ApidDown,
            format!("{name} ({address}) refuses connections to its API: the machine runs, its service apid does not"),
            format!("look at the console of {name}; `orlopctl services` through another node is no help here, a reboot starts apid"),
        ),
        Reach::Silent => (
            Cause::NodeFrozen,
            format!("{name} ({address}) accepts connections and then says nothing: its processes are stopped or starved"),
            format!("look at the console and the load of {name}; resume it or reboot it"),
        ),
        Reach::CertificateExpired { message } => (
            Cause::CertificateExpired,
            format!("{name} ({address}): {message}"),
            "compare the clocks of both sides; make a new one for the client with `orlopctl gen config --with-secrets FILE --output-types talosconfig`; the node renews its own when its clock is right".to_owned(),
        ),
        Reach::Failed { message } => (
            Cause::Other,
            format!("{name} ({address}) answers its API with an error: {message}"),
            format!("see `orlopctl -n {address} logs machined`"),
        ),
        Reach::Unreachable { message } => return Some(unreachable(facts, node, message)),
    };
    Some(Diagnosis::new(cause, Some(node), found, next))
}

/// Gone when nobody hears from it, cut off when somebody does.
fn unreachable(facts: &ClusterFacts, node: &NodeFacts, message: &str) -> Diagnosis {
    let (name, address) = (&node.name, &node.address);
    let views: Vec<(&str, bool)> = facts
        .nodes
        .iter()
        .filter(|other| other.answered())
        .filter_map(|other| Some((other.name.as_str(), *other.hears.get(name)?)))
        .collect();
    let hearing: Vec<&str> = views.iter().filter(|(_, hears)| *hears).map(|(by, _)| *by).collect();
    if hearing.is_empty() {
        let others = match views.len() {
            0 => "no other node could be asked".to_owned(),
            count => format!("none of {count} other nodes hears from it"),
        };
        return Diagnosis::new(
            Cause::NodeGone,
            Some(node),
            format!("{name} ({address}) cannot be reached ({message}) and {others}"),
            format!("start the machine; if it is gone for good, `orlopctl forget {name}` takes it out of the cluster at once"),
        );
    }
    Diagnosis::new(
        Cause::Partition,
        Some(node),
        format!("{name} ({address}) cannot be reached from here ({message}), but {} hears from it", hearing.join(", ")),
        format!("look at the network between here and {name}: routes, firewall, links"),
    )
}

fn within(facts: &ClusterFacts, node: &NodeFacts) -> Option<Diagnosis> {
    if !node.answered() {
        return None;
    }
    let (name, address) = (&node.name, &node.address);
    let diagnose = |cause, found, next| Some(Diagnosis::new(cause, Some(node), found, next));
    if let Some(offset) = node.clock_offset
        && offset.unsigned_abs() > MAX_CLOCK_OFFSET.as_nanos()
    {
        return diagnose(
            Cause::WrongTime,
            format!("the clock of {name} is {:.1} s {} ours", seconds(offset), if offset > 0 { "ahead of" } else { "behind" }),
            format!("see `orlopctl -n {address} time`; let the node reach its time servers"),
        );
    }
    if let Some(expired) = node.certificates.iter().find(|c| c.not_after < facts.now) {
        return diagnose(
            Cause::CertificateExpired,
            format!("the certificate {} of {name} ended {} s ago", expired.name, facts.now - expired.not_after),
            format!("the node renews it by itself unless its authority has ended too; see `orlopctl -n {address} logs controller-runtime`"),
        );
    }
    if node.disk_full() {
        return diagnose(
            Cause::DiskFull,
            format!("{name} has {} MiB of {} MiB left on /var", node.disk_free >> 20, node.disk >> 20),
            format!("free space on /var of {name}: data of pods, old logs, unused images"),
        );
    }
    if node.role == Role::ControlPlane && facts.has_etcd && !node.etcd_up() {
        return diagnose(
            Cause::EtcdMemberDown,
            format!("etcd of {name} {}", describe_etcd(node)),
            format!("see `orlopctl -n {address} logs etcd`"),
        );
    }
    if !service_up(node, "kubelet") {
        return diagnose(
            Cause::KubeletStopped,
            format!("the kubelet of {name} {}", describe(node, "kubelet")),
            format!("`orlopctl -n {address} service kubelet start`; then see `orlopctl -n {address} logs kubelet`"),
        );
    }
    crash_looping(node)
}

fn crash_looping(node: &NodeFacts) -> Option<Diagnosis> {
    let pod = node.static_pods.iter().find(|pod| pod.name.starts_with("kube-apiserver") && pod.crash_loops())?;
    Some(Diagnosis::new(
        Cause::ApiServerCrashLooping,
        Some(node),
        format!("{} has restarted {} times and is not ready", pod.name, pod.restarts),
        format!(
            "see why: `orlopctl -n {} logs -k kube-system/{}:kube-apiserver`; a wrong extraArgs is the usual reason",
            node.address, pod.name
        ),
    ))
}

/// Pairs of nodes that both answer us while one does not hear the other.
fn partitions(facts: &ClusterFacts) -> Vec<Diagnosis> {
    let mut list = Vec::new();
    for node in facts.nodes.iter().filter(|node| node.answered()) {
        let deaf: Vec<&str> = facts
            .nodes
            .iter()
            .filter(|other| other.answered() && other.name != node.name)
            .filter(|other| other.hears.get(&node.name) == Some(&false))
            .map(|other| other.name.as_str())
            .collect();
        if !deaf.is_empty() {
            list.push(Diagnosis::new(
                Cause::Partition,
                Some(node),
                format!("{} answers us, but {} does not hear from it", node.name, deaf.join(", ")),
                format!("look at the network between {} and {}", node.name, deaf.join(", ")),
            ));
        }
    }
    list
}

/// Nodes that Kubernetes still lists and misses, of which no machine is known any more.
fn ghosts(facts: &ClusterFacts) -> Vec<Diagnosis> {
    let Ok(kubernetes) = &facts.kubernetes else { return Vec::new() };
    let known = |name: &str| facts.nodes.iter().any(|node| node.name == name);
    let ghosts = kubernetes.nodes.iter().filter(|node| !node.ready && !known(&node.name));
    let diagnosis = |name: &str| Diagnosis {
        cause: Cause::NodeGone,
        node: Some(name.to_owned()),
        found: format!("Kubernetes still lists {name}, which is not ready, and no such machine is a member"),
        next_step: format!("if the machine is gone for good, `orlopctl forget {name}`"),
    };
    ghosts.map(|node| diagnosis(&node.name)).collect()
}

/// Quorum, from what the members that answer say.
fn etcd_as_a_whole(facts: &ClusterFacts) -> Option<Diagnosis> {
    if !facts.has_etcd {
        return None;
    }
    let up: Vec<&NodeFacts> = facts.control_planes().filter(|node| node.answered() && node.etcd_up()).collect();
    let lists = || up.iter().filter_map(|node| node.etcd.as_ref());
    let voters = lists().map(|etcd| etcd.members.iter().filter(|member| !member.learner).count()).max().unwrap_or(0);
    let answering: Vec<&NodeFacts> = facts.control_planes().filter(|node| node.answered()).collect();
    if answering.is_empty() {
        // Nobody could say.
        return None;
    }
    let waiting = |node: &&NodeFacts| {
        node.services.get("etcd").is_none_or(|etcd| matches!(etcd.state.as_str(), "" | "Waiting" | "Preparing" | "Pre" | "Initialized"))
    };
    if up.is_empty() && answering.iter().all(waiting) && answering.len() == facts.control_planes().count() {
        return Some(Diagnosis::new(
            Cause::NotBootstrapped,
            None,
            "etcd has never been started on any control plane".to_owned(),
            "run `orlopctl bootstrap` against one control plane, once".to_owned(),
        ));
    }
    let expected = if voters > 0 { voters } else { facts.control_planes().count() };
    let majority = expected / 2 + 1;
    let leaderless = !up.is_empty() && lists().all(|etcd| !etcd.leader);
    if expected > 0 && (up.len() < majority && (voters > 0 || expected > 1) || leaderless) {
        return Some(Diagnosis::new(
            Cause::QuorumLost,
            None,
            format!("{} of {expected} members of etcd run, {majority} are needed", up.len()),
            "bring members back; if they are lost for good, restore a snapshot with `orlopctl bootstrap --recover-from`".to_owned(),
        ));
    }
    None
}

fn dns(facts: &ClusterFacts, found: &[Diagnosis]) -> Option<Diagnosis> {
    let kubernetes = facts.kubernetes.as_ref().ok()?;
    if !kubernetes.has_dns || facts.cni_none {
        return None;
    }
    let pods: Vec<_> = kubernetes.pods.iter().filter(|pod| pod.app == "kube-dns").collect();
    let sick = |node: &str| found.iter().any(|diagnosis| diagnosis.node.as_deref() == Some(node));
    // Pods on a machine with a cause of its own are that cause's consequence.
    let broken: Vec<_> = pods.iter().filter(|pod| !pod.ready && !sick(&pod.node)).collect();
    if broken.is_empty() && !pods.is_empty() {
        return None;
    }
    let found = match broken.first() {
        None => "no pod of the cluster's DNS exists".to_owned(),
        Some(pod) if pod.waiting.is_empty() => format!("{} of {} pods are not ready, such as {}", broken.len(), pods.len(), pod.name),
        Some(pod) => format!("{} of {} pods are not ready, such as {} ({})", broken.len(), pods.len(), pod.name, pod.waiting),
    };
    Some(Diagnosis::new(
        Cause::CoreDnsBroken,
        None,
        found,
        "see `kubectl -n kube-system logs -l k8s-app=kube-dns` and the ConfigMap coredns".to_owned(),
    ))
}

fn service_up(node: &NodeFacts, id: &str) -> bool {
    node.services.get(id).is_some_and(super::facts::ServiceFacts::up)
}

pub(crate) fn describe_etcd(node: &NodeFacts) -> String {
    if node.services.get("etcd").is_some_and(super::facts::ServiceFacts::up) && !node.etcd_failure.is_empty() {
        return format!("does not answer: {}", node.etcd_failure);
    }
    describe(node, "etcd")
}

pub(crate) fn describe(node: &NodeFacts, id: &str) -> String {
    match node.services.get(id) {
        None => "is not there".to_owned(),
        Some(service) if service.state != "Running" => format!("is {} instead of Running", service.state),
        Some(service) if service.message.is_empty() => "is unhealthy".to_owned(),
        Some(service) => format!("is unhealthy: {}", service.message),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people, one digit")]
fn seconds(nanoseconds: i128) -> f64 {
    nanoseconds.unsigned_abs() as f64 / 1e9
}
