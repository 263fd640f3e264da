//! The checks, in the order in which they are told.

use std::collections::BTreeSet;

use super::causes::{Cause, Diagnosis, causes, describe, describe_etcd, of_node};
use super::facts::{ClusterFacts, KubeFacts, MIN_DISK, MIN_MEMORY_CONTROL_PLANE, MIN_MEMORY_WORKER, NodeFacts, Role};

const API_SERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is told by its `text`")]
pub enum Check {
    EtcdHealthy,
    EtcdConsistent,
    EtcdMembersAreControlPlanes,
    ApiReady,
    MemorySizes,
    DiskSizes,
    NoDiagnostics,
    KubeletHealthy,
    BootFinished,
    NodesReport,
    StaticPodsRunning,
    ComponentsReady,
    NodesReady,
    ProxyReady,
    DnsReady,
    Schedulable,
}

impl Check {
    /// All, in order.
    pub const ALL: [Self; 16] = [
        Self::EtcdHealthy,
        Self::EtcdConsistent,
        Self::EtcdMembersAreControlPlanes,
        Self::ApiReady,
        Self::MemorySizes,
        Self::DiskSizes,
        Self::NoDiagnostics,
        Self::KubeletHealthy,
        Self::BootFinished,
        Self::NodesReport,
        Self::StaticPodsRunning,
        Self::ComponentsReady,
        Self::NodesReady,
        Self::ProxyReady,
        Self::DnsReady,
        Self::Schedulable,
    ];

    /// What is waited for, as it is printed after "waiting for ".
    pub fn text(self) -> &'static str {
        match self {
            Self::EtcdHealthy => "etcd to be healthy",
            Self::EtcdConsistent => "etcd members to be consistent across nodes",
            Self::EtcdMembersAreControlPlanes => "etcd members to be control plane nodes",
            Self::ApiReady => "apid to be ready",
            Self::MemorySizes => "all nodes memory sizes",
            Self::DiskSizes => "all nodes disk sizes",
            Self::NoDiagnostics => "no diagnostics",
            Self::KubeletHealthy => "kubelet to be healthy",
            Self::BootFinished => "all nodes to finish boot sequence",
            Self::NodesReport => "all k8s nodes to report",
            Self::StaticPodsRunning => "all control plane static pods to be running",
            Self::ComponentsReady => "all control plane components to be ready",
            Self::NodesReady => "all k8s nodes to report ready",
            Self::ProxyReady => "kube-proxy to report ready",
            Self::DnsReady => "coredns to report ready",
            Self::Schedulable => "all k8s nodes to report schedulable",
        }
    }
}

/// Why a check fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The check.
    pub check: Check,
    /// The node; `None` for the cluster as a whole.
    pub node: Option<String>,
    /// The cause it follows from.
    pub cause: Cause,
    /// What was found.
    pub found: String,
    /// What to do next.
    pub next_step: String,
}

/// How a check ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Pass,
    /// It does not apply.
    Skip {
        /// Why not.
        reason: String,
    },
    /// Something is not well; at least one failure.
    Fail(Vec<Failure>),
}

/// Every check with its verdict, in order.
pub fn check_all(facts: &ClusterFacts) -> Vec<(Check, Verdict)> {
    Check::ALL.into_iter().map(|which| (which, check(which, facts))).collect()
}

/// Whether no check failed.
pub fn is_healthy(verdicts: &[(Check, Verdict)]) -> bool {
    !verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Fail(_)))
}

/// What is wrong in few words: the causes, and failures that no cause explains, once each.
pub fn summary(facts: &ClusterFacts, verdicts: &[(Check, Verdict)]) -> Vec<Diagnosis> {
    let mut list = causes(facts);
    let failures = verdicts.iter().flat_map(|(_, verdict)| match verdict {
        Verdict::Fail(failures) => failures.as_slice(),
        _ => &[],
    });
    for failure in failures {
        // A consequence of something known is not a cause of its own; nor is a failure that another check told already.
        let known = match failure.cause {
            Cause::Other => list.iter().any(|d| d.node == failure.node || d.node.is_none() || failure.node.is_none()),
            cause => list.iter().any(|d| d.cause == cause && (d.node == failure.node || d.node.is_none() || failure.node.is_none())),
        };
        if !known {
            let Failure { cause, node, found, next_step, .. } = failure.clone();
            list.push(Diagnosis { cause, node, found, next_step });
        }
    }
    list
}

/// One check.
pub fn check(which: Check, facts: &ClusterFacts) -> Verdict {
    let judge = Judge { which, facts };
    match which {
        Check::EtcdHealthy | Check::EtcdConsistent | Check::EtcdMembersAreControlPlanes if !facts.has_etcd => {
            skip("the cluster has no etcd of its own")
        }
        Check::EtcdHealthy => judge.etcd_healthy(),
        Check::EtcdConsistent => judge.etcd_consistent(),
        Check::EtcdMembersAreControlPlanes => judge.etcd_members(),
        Check::ApiReady => judge.each_node(|_, _| None),
        Check::MemorySizes => judge.each_node(|_, node| memory(node)),
        Check::DiskSizes => judge.each_node(|_, node| disk(node)),
        Check::NoDiagnostics => judge.diagnostics(),
        // Of all nodes, not of control planes alone: Kubernetes itself takes 40 s to notice a worker's.
        Check::KubeletHealthy => judge.each_node(|_, node| {
            let up = node.services.get("kubelet").is_some_and(super::facts::ServiceFacts::up);
            (!up).then(|| {
                (
                    Cause::KubeletStopped,
                    format!("the kubelet {}", describe(node, "kubelet")),
                    format!("see `orlopctl -n {} logs kubelet`", node.address),
                )
            })
        }),
        Check::BootFinished => judge.each_node(|_, node| boot(node)),
        Check::NodesReport => judge.kubernetes(|judge, kube| judge.nodes_report(kube)),
        Check::StaticPodsRunning => judge.each_control_plane(|_, node| static_pods(node, false)),
        Check::ComponentsReady => judge.each_control_plane(|_, node| static_pods(node, true)),
        Check::NodesReady if facts.cni_none => skip("the pod network is not the cluster's own"),
        Check::NodesReady => judge.kubernetes(|judge, kube| {
            judge.kube_nodes(kube, |node| {
                (!node.ready).then(|| format!("node {} is not ready: {}", node.name, or(&node.reason, "it does not say why")))
            })
        }),
        Check::ProxyReady => {
            judge.kubernetes(
                |judge, kube| {
                    if kube.has_proxy { judge.pods(kube, "kube-proxy", Cause::Other) } else { skip("there is no kube-proxy") }
                },
            )
        }
        Check::DnsReady if facts.cni_none => skip("the pod network is not the cluster's own"),
        Check::DnsReady => {
            judge.kubernetes(
                |judge, kube| {
                    if kube.has_dns { judge.pods(kube, "kube-dns", Cause::CoreDnsBroken) } else { skip("there is no CoreDNS") }
                },
            )
        }
        Check::Schedulable => judge
            .kubernetes(|judge, kube| judge.kube_nodes(kube, |node| node.unschedulable.then(|| format!("node {} is cordoned", node.name)))),
    }
}

type Finding = (Cause, String, String);

struct Judge<'a> {
    which: Check,
    facts: &'a ClusterFacts,
}

impl Judge<'_> {
    fn verdict(failures: Vec<Failure>) -> Verdict {
        if failures.is_empty() { Verdict::Pass } else { Verdict::Fail(failures) }
    }

    fn failure(&self, node: Option<&str>, (cause, found, next_step): Finding) -> Failure {
        Failure { check: self.which, node: node.map(str::to_owned), cause, found, next_step }
    }

    fn from(&self, diagnosis: Diagnosis) -> Failure {
        Failure { check: self.which, node: diagnosis.node, cause: diagnosis.cause, found: diagnosis.found, next_step: diagnosis.next_step }
    }

    /// A node that did not answer fails with why; one that did is looked at, and what is found is
    /// put down to the node's own cause where it has one.
    fn look(&self, node: &NodeFacts, finding: impl Fn(&Self, &NodeFacts) -> Option<Finding>) -> Option<Failure> {
        let own = of_node(self.facts, node);
        if !node.answered() {
            return own.map(|diagnosis| self.from(diagnosis));
        }
        let (cause, found, next) = finding(self, node)?;
        Some(match own {
            Some(diagnosis) if cause == Cause::Other => {
                self.failure(Some(&node.name), (diagnosis.cause, format!("{found}; {}", diagnosis.found), diagnosis.next_step))
            }
            _ => self.failure(Some(&node.name), (cause, found, next)),
        })
    }

    fn each_node(&self, finding: impl Fn(&Self, &NodeFacts) -> Option<Finding>) -> Verdict {
        if self.facts.nodes.is_empty() {
            let next = "see `orlopctl get members` on a control plane".to_owned();
            return Verdict::Fail(vec![self.failure(None, (Cause::Other, "no machine is known, so none was asked".to_owned(), next))]);
        }
        Self::verdict(self.facts.nodes.iter().filter_map(|node| self.look(node, &finding)).collect())
    }

    fn each_control_plane(&self, finding: impl Fn(&Self, &NodeFacts) -> Option<Finding>) -> Verdict {
        Self::verdict(self.facts.control_planes().filter_map(|node| self.look(node, &finding)).collect())
    }

    /// What nodes report of themselves, and what no other check would tell.
    fn diagnostics(&self) -> Verdict {
        let mut failures: Vec<Failure> = self
            .facts
            .nodes
            .iter()
            .filter_map(|node| {
                self.look(node, |_, node| {
                    let found = match node.diagnostics.first() {
                        Some((id, message)) => format!("{id}: {message}"),
                        None if node.unasked.is_empty() => return None,
                        None => format!("not answered: {}", node.unasked.join("; ")),
                    };
                    Some((Cause::Other, found, format!("see `orlopctl -n {} get diagnostics`", node.address)))
                })
            })
            .collect();
        let mut own = causes(self.facts);
        own.retain(|d| matches!(d.cause, Cause::WrongTime | Cause::Partition | Cause::CertificateExpired | Cause::NodeGone));
        own.retain(|d| !failures.iter().any(|f| f.node == d.node && f.cause == d.cause));
        failures.extend(own.into_iter().map(|diagnosis| self.from(diagnosis)));
        Self::verdict(failures)
    }

    fn etcd_healthy(&self) -> Verdict {
        let whole = causes(self.facts).into_iter().find(|d| matches!(d.cause, Cause::QuorumLost | Cause::NotBootstrapped));
        if let Some(diagnosis) = whole {
            return Verdict::Fail(vec![self.from(diagnosis)]);
        }
        self.each_control_plane(|_, node| {
            let next = format!("see `orlopctl -n {} logs etcd`", node.address);
            if !node.etcd_up() {
                return Some((Cause::EtcdMemberDown, format!("etcd {}", describe_etcd(node)), next));
            }
            let errors = &node.etcd.as_ref()?.errors;
            (!errors.is_empty()).then(|| (Cause::Other, format!("etcd reports {}", errors.join(", ")), next))
        })
    }

    fn etcd_consistent(&self) -> Verdict {
        let lists: Vec<(&str, BTreeSet<u64>)> = self
            .facts
            .control_planes()
            .filter(|node| node.answered())
            .filter_map(|node| {
                let members = &node.etcd.as_ref().filter(|etcd| !etcd.members.is_empty())?.members;
                Some((node.name.as_str(), members.iter().map(|member| member.id).collect()))
            })
            .collect();
        let Some((first_name, first)) = lists.first() else {
            return self.etcd_healthy();
        };
        let failures = lists
            .iter()
            .filter(|(_, list)| list != first)
            .map(|(name, list)| {
                self.failure(
                    Some(name),
                    (
                        Cause::Partition,
                        format!("{name} lists {} members of etcd, {first_name} lists {}, and they differ", list.len(), first.len()),
                        "see `orlopctl etcd members` on both; a member that is cut off catches up when it is back".to_owned(),
                    ),
                )
            })
            .collect();
        Self::verdict(failures)
    }

    fn etcd_members(&self) -> Verdict {
        let machines: BTreeSet<&str> = self.facts.control_planes().map(|node| node.name.as_str()).collect();
        let Some(etcd) =
            self.facts.control_planes().filter(|n| n.answered()).find_map(|n| n.etcd.as_ref().filter(|etcd| !etcd.members.is_empty()))
        else {
            return self.etcd_healthy();
        };
        // A member that was added and has not started yet has no name.
        let members: BTreeSet<&str> = etcd.members.iter().map(|member| member.name.as_str()).filter(|name| !name.is_empty()).collect();
        let mut failures: Vec<Failure> = members
            .difference(&machines)
            .map(|name| {
                self.failure(
                    Some(name),
                    (
                        Cause::NodeGone,
                        format!("{name} is a member of etcd, but no control plane has that name"),
                        format!("if the machine is gone for good, `orlopctl forget {name}`"),
                    ),
                )
            })
            .collect();
        failures.extend(machines.difference(&members).filter_map(|name| {
            let node = self.facts.nodes.iter().find(|node| node.name == *name)?;
            Some(match of_node(self.facts, node) {
                Some(diagnosis) => self.from(diagnosis),
                None => self.failure(
                    Some(name),
                    (
                        Cause::EtcdMemberDown,
                        format!("control plane {name} is no member of etcd"),
                        format!("see `orlopctl -n {} logs etcd`: it joins by itself when it reaches another member", node.address),
                    ),
                ),
            })
        }));
        Self::verdict(failures)
    }

    /// Needs Kubernetes; when that does not answer, the failure is put down to the gravest cause
    /// on the control plane.
    fn kubernetes(&self, judge: impl Fn(&Self, &KubeFacts) -> Verdict) -> Verdict {
        match &self.facts.kubernetes {
            Ok(kube) => judge(self, kube),
            Err(message) => {
                let found = format!("the Kubernetes API does not answer: {message}");
                let control_planes: BTreeSet<&str> = self.facts.control_planes().map(|node| node.name.as_str()).collect();
                let behind = causes(self.facts)
                    .into_iter()
                    .find(|diagnosis| diagnosis.node.as_deref().is_none_or(|node| control_planes.contains(node)));
                Verdict::Fail(vec![match behind {
                    Some(diagnosis) => self.failure(
                        diagnosis.node.as_deref(),
                        (diagnosis.cause, format!("{found}; {}", diagnosis.found), diagnosis.next_step),
                    ),
                    None => self.failure(
                        None,
                        (Cause::Other, found, "see `orlopctl containers -k` and the logs of kube-apiserver on a control plane".to_owned()),
                    ),
                }])
            }
        }
    }

    fn nodes_report(&self, kube: &KubeFacts) -> Verdict {
        let reporting: BTreeSet<&str> = kube.nodes.iter().map(|node| node.name.as_str()).collect();
        let failures = self
            .facts
            .nodes
            .iter()
            .filter(|node| !reporting.contains(node.name.as_str()))
            .map(|node| match of_node(self.facts, node) {
                Some(diagnosis) => self.from(diagnosis),
                None => self.failure(
                    Some(&node.name),
                    (
                        Cause::Other,
                        format!("{} has not registered with Kubernetes", node.name),
                        format!("see `orlopctl -n {} logs kubelet`", node.address),
                    ),
                ),
            })
            .collect();
        Self::verdict(failures)
    }

    fn kube_nodes(&self, kube: &KubeFacts, finding: impl Fn(&super::facts::KubeNodeFacts) -> Option<String>) -> Verdict {
        let failures = kube
            .nodes
            .iter()
            .filter_map(|node| {
                let found = finding(node)?;
                let machine = self.facts.nodes.iter().find(|machine| machine.name == node.name);
                let behind = machine.and_then(|machine| of_node(self.facts, machine));
                Some(match behind {
                    Some(diagnosis) => {
                        self.failure(Some(&node.name), (diagnosis.cause, format!("{found}; {}", diagnosis.found), diagnosis.next_step))
                    }
                    None => self.failure(Some(&node.name), (Cause::Other, found, format!("see `kubectl describe node {}`", node.name))),
                })
            })
            .collect();
        Self::verdict(failures)
    }

    fn pods(&self, kube: &KubeFacts, app: &str, cause: Cause) -> Verdict {
        let pods: Vec<_> = kube.pods.iter().filter(|pod| pod.app == app).collect();
        if pods.is_empty() {
            let found = format!("no pod of {app} exists");
            let next = format!("see `kubectl -n kube-system get events`; is the image of {app} there?");
            return Verdict::Fail(vec![self.failure(None, (cause, found, next))]);
        }
        let failures = pods
            .iter()
            .filter(|pod| !pod.ready)
            .map(|pod| {
                let machine = self.facts.nodes.iter().find(|machine| machine.name == pod.node);
                let found = match pod.waiting.as_str() {
                    "" => format!("pod {} is not ready", pod.name),
                    waiting => format!("pod {} is not ready: {waiting}", pod.name),
                };
                match machine.and_then(|machine| of_node(self.facts, machine)) {
                    Some(diagnosis) => {
                        self.failure(Some(&pod.node), (diagnosis.cause, format!("{found}; {}", diagnosis.found), diagnosis.next_step))
                    }
                    None => self.failure(
                        (!pod.node.is_empty()).then_some(pod.node.as_str()),
                        (cause, found, format!("see `kubectl -n {} logs {}`", pod.namespace, pod.name)),
                    ),
                }
            })
            .collect();
        Self::verdict(failures)
    }
}

fn memory(node: &NodeFacts) -> Option<Finding> {
    let least = match node.role {
        Role::ControlPlane => MIN_MEMORY_CONTROL_PLANE,
        Role::Worker => MIN_MEMORY_WORKER,
    };
    (node.memory > 0 && node.memory < least).then(|| {
        (
            Cause::TooSmall,
            format!("{} MiB of memory, at least {} MiB are needed", node.memory >> 20, least >> 20),
            "give the machine more memory".to_owned(),
        )
    })
}

fn disk(node: &NodeFacts) -> Option<Finding> {
    if node.disk_full() {
        return Some((
            Cause::DiskFull,
            format!("{} MiB of {} MiB are left on /var", node.disk_free >> 20, node.disk >> 20),
            format!("free space on /var of {}: data of pods, old logs, unused images", node.name),
        ));
    }
    (node.disk > 0 && node.disk < MIN_DISK).then(|| {
        (
            Cause::TooSmall,
            format!("/var has {} MiB, at least {} MiB are needed", node.disk >> 20, MIN_DISK >> 20),
            "give the machine a larger disk".to_owned(),
        )
    })
}

fn boot(node: &NodeFacts) -> Option<Finding> {
    if node.stage == "running" {
        return None;
    }
    let unmet: Vec<String> = node.unmet.iter().map(|(name, reason)| format!("{name} ({reason})")).collect();
    let waiting = if unmet.is_empty() { String::new() } else { format!("; it waits for {}", unmet.join(", ")) };
    Some((
        Cause::Other,
        format!("the machine is {}{waiting}", or(&node.stage, "in an unknown stage")),
        format!("see `orlopctl -n {} dmesg` and `services`", node.address),
    ))
}

fn static_pods(node: &NodeFacts, ready: bool) -> Option<Finding> {
    for component in [API_SERVER, CONTROLLER_MANAGER, SCHEDULER] {
        let next = format!("see `orlopctl -n {} logs kubelet`", node.address);
        let Some(pod) = node.static_pods.iter().find(|pod| pod.name.starts_with(component)) else {
            // A component may be switched off, but never the API server.
            if component == API_SERVER {
                return Some((Cause::Other, format!("static pod {component} is not there"), next));
            }
            continue;
        };
        if ready && !pod.ready {
            let cause = if component == API_SERVER && pod.crash_loops() { Cause::ApiServerCrashLooping } else { Cause::Other };
            let why = or(&pod.waiting, "not ready");
            return Some((cause, format!("{} is {why} after {} restarts", pod.name, pod.restarts), next));
        }
    }
    None
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

fn skip(reason: &str) -> Verdict {
    Verdict::Skip { reason: reason.to_owned() }
}
