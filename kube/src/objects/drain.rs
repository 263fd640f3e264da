//! Cordon and drain: a node's pods go elsewhere before the node goes.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::{KubeError, ask, code};

/// The annotation of a node that we cordoned: only what we cordoned is uncordoned by us.
pub const CORDONED: &str = "talos.dev/cordoned";
/// Its value.
pub const CORDONED_VALUE: &str = "true";

/// What draining does with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is evicted.
    Evict,
    /// It stays: its DaemonSet would put it back, or it is the node's own.
    Stay,
    /// It has ended.
    Ended,
}

/// Decides about a pod.
pub fn fate(pod: &Pod) -> Fate {
    let annotations = pod.metadata.annotations.as_ref();
    if annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror")) {
        return Fate::Stay;
    }
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true)) {
        return Fate::Stay;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Fate::Ended;
    }
    Fate::Evict
}

/// How to drain.
#[derive(Debug, Clone, Copy)]
pub struct DrainOptions {
    /// When to give up.
    pub deadline: Duration,
    /// Then delete what could not be evicted, whatever its disruption budget says.
    pub force: bool,
}

/// No new pods shall come to the node.
///
/// # Errors
/// See [`KubeError`]; a node that is not there is not found.
pub async fn cordon(client: &kube::Client, node: &str) -> Result<(), KubeError> {
    let patch = json!({
        "metadata": {"annotations": {CORDONED: CORDONED_VALUE}},
        "spec": {"unschedulable": true},
    });
    patch_node(client, node, &patch).await
}

/// New pods may come to the node again, if it was us who kept them away.
///
/// # Errors
/// See [`KubeError`].
pub async fn uncordon(client: &kube::Client, node: &str) -> Result<bool, KubeError> {
    let api: Api<Node> = Api::all(client.clone());
    let object = ask(format!("get node {node}"), api.get(node)).await?;
    let ours = object.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CORDONED));
    if ours {
        let patch = json!({
            "metadata": {"annotations": {CORDONED: null}},
            "spec": {"unschedulable": false},
        });
        patch_node(client, node, &patch).await?;
    }
    Ok(ours)
}

async fn patch_node(client: &kube::Client, node: &str, patch: &serde_json::Value) -> Result<(), KubeError> {
    let api: Api<Node> = Api::all(client.clone());
    ask(format!("patch node {node}"), api.patch(node, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
}

/// Evicts the node's pods and waits until they are gone.
///
/// # Errors
/// [`KubeError::Drain`] with the pods that were left at the deadline, and why.
pub async fn drain(client: &kube::Client, node: &str, options: DrainOptions) -> Result<usize, KubeError> {
    let started = Instant::now();
    let pods: Api<Pod> = Api::all(client.clone());
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let mut evicted = std::collections::BTreeSet::new();
    loop {
        let listed = ask(format!("list pods on {node}"), pods.list(&on_node)).await?;
        let mut left = Vec::new();
        let late = started.elapsed() >= options.deadline;
        for pod in listed.items.iter().filter(|pod| fate(pod) == Fate::Evict) {
            let (namespace, name) = names(pod);
            let why = if pod.metadata.deletion_timestamp.is_some() && !late {
                "is ending".to_owned()
            } else if late && options.force {
                force(client, &namespace, &name).await
            } else {
                evict(client, &namespace, &name).await
            };
            evicted.insert(format!("{namespace}/{name}"));
            left.push(format!("{namespace}/{name} ({why})"));
        }
        if left.is_empty() {
            return Ok(evicted.len());
        }
        if late {
            return if options.force {
                Ok(evicted.len())
            } else {
                Err(KubeError::Drain { node: node.to_owned(), seconds: options.deadline.as_secs(), left })
            };
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn names(pod: &Pod) -> (String, String) {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

/// Asks for an eviction; why the pod is still there.
async fn evict(client: &kube::Client, namespace: &str, name: &str) -> String {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match ask(format!("evict {namespace}/{name}"), api.evict(name, &EvictParams::default())).await {
        Ok(_) => "is ending".to_owned(),
        Err(KubeError::Api { source, .. }) if code(&source) == Some(429) => "its disruption budget allows no eviction now".to_owned(),
        Err(error) if error.is_not_found() => "is ending".to_owned(),
        Err(error) => error.to_string(),
    }
}

async fn force(client: &kube::Client, namespace: &str, name: &str) -> String {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let now = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
    match ask(format!("delete {namespace}/{name}"), api.delete(name, &now)).await {
        Ok(_) => "was deleted".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Takes a node object away; one that is not there counts as taken away.
///
/// # Errors
/// See [`KubeError`].
pub async fn remove_node(client: &kube::Client, node: &str) -> Result<(), KubeError> {
    let api: Api<Node> = Api::all(client.clone());
    match ask(format!("delete node {node}"), api.delete(node, &DeleteParams::default())).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn fates() {
        let plain = pod(json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}}));
        assert_eq!(fate(&plain), Fate::Evict);
        let mirror = pod(json!({"metadata": {
            "name": "kube-apiserver-cp", "annotations": {"kubernetes.io/config.mirror": "x"},
        }}));
        assert_eq!(fate(&mirror), Fate::Stay);
        let owner = |kind: &str| {
            pod(json!({"metadata": {"name": "a", "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": true,
            }]}}))
        };
        assert_eq!(fate(&owner("DaemonSet")), Fate::Stay);
        assert_eq!(fate(&owner("ReplicaSet")), Fate::Evict);
        let done = pod(json!({"metadata": {"name": "a"}, "status": {"phase": "Succeeded"}}));
        assert_eq!(fate(&done), Fate::Ended);
    }
}
