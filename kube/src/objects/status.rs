//! What a node object and a pod say about themselves, in the few words that are looked at.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};

/// A node object's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Condition Ready.
    pub ready: bool,
    /// Why not, in the kubelet's words.
    pub reason: String,
    /// Cordoned.
    pub unschedulable: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its pod networks.
    pub pod_cidrs: Vec<String>,
}

/// Reads a node object.
pub fn of_node(node: &Node) -> NodeState {
    let spec = node.spec.as_ref();
    let ready = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
    let mut pod_cidrs = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    if pod_cidrs.is_empty() {
        pod_cidrs.extend(spec.and_then(|spec| spec.pod_cidr.clone()));
    }
    NodeState {
        name: node.metadata.name.clone().unwrap_or_default(),
        ready: ready.is_some_and(|condition| condition.status == "True"),
        reason: ready
            .filter(|condition| condition.status != "True")
            .and_then(|condition| condition.message.clone().or_else(|| condition.reason.clone()))
            .unwrap_or_default(),
        unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        annotations: node.metadata.annotations.clone().unwrap_or_default(),
        pod_cidrs,
    }
}

/// A pod's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodState {
    /// Condition Ready.
    pub ready: bool,
    /// Restarts of its containers, summed.
    pub restarts: u32,
    /// Why a container waits, such as `CrashLoopBackOff`.
    pub waiting: String,
}

/// Reads a pod.
pub fn of_pod(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    let containers = || {
        status
            .into_iter()
            .flat_map(|status| status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()))
    };
    PodState {
        ready: status
            .and_then(|status| status.conditions.as_ref())
            .is_some_and(|conditions| conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")),
        restarts: containers().map(|container| u32::try_from(container.restart_count).unwrap_or(0)).sum(),
        waiting: containers().find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "spec": {"podCIDR": "10.244.1.0/24", "unschedulable": true},
            "status": {"conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni plugin not initialized"},
            ]},
        }))
        .unwrap();
        let state = of_node(&node);
        assert!(!state.ready && state.unschedulable);
        assert_eq!(state.reason, "cni plugin not initialized");
        assert_eq!(state.pod_cidrs, ["10.244.1.0/24"]);
    }

    #[test]
    fn a_crash_looping_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "status": {"containerStatuses": [{
                "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            }]},
        }))
        .unwrap();
        assert_eq!(of_pod(&pod), PodState { ready: false, restarts: 4, waiting: "CrashLoopBackOff".into() });
    }
}
