//! Facts out of Kubernetes' own JSON.

use serde_json::Value;

use super::facts::{KubeFacts, KubeNodeFacts, PodFacts};

/// What is asked of the API server, in the order [`facts`] takes the answers: nodes, pods of kube-system, whether there is a kube-proxy,
/// whether there is a CoreDNS.
pub const QUESTIONS: [&str; 4] = [
    "/api/v1/nodes?resourceVersion=0",
    "/api/v1/namespaces/kube-system/pods?resourceVersion=0",
    "/apis/apps/v1/namespaces/kube-system/daemonsets?fieldSelector=metadata.name%3Dkube-proxy",
    "/apis/apps/v1/namespaces/kube-system/deployments?fieldSelector=metadata.name%3Dcoredns",
];

/// The answers to [`QUESTIONS`], all of them lists, as facts.
#[must_use]
pub fn facts(answers: &[Value; 4]) -> KubeFacts {
    let [nodes, pods, proxies, dns] = answers;
    KubeFacts {
        nodes: items(nodes).iter().map(node).collect(),
        pods: items(pods).iter().map(pod).collect(),
        has_proxy: !items(proxies).is_empty(),
        has_dns: !items(dns).is_empty(),
    }
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

fn node(object: &Value) -> KubeNodeFacts {
    let ready = condition(&object["status"], "Ready");
    KubeNodeFacts {
        name: text(&object["metadata"]["name"]),
        ready: ready.is_some_and(|c| c["status"] == "True"),
        reason: ready.map(|c| text(&c["message"])).unwrap_or_default(),
        unschedulable: object["spec"]["unschedulable"] == true,
    }
}

/// A pod object, whole or with its status alone.
#[must_use]
pub fn pod(object: &Value) -> PodFacts {
    let metadata = &object["metadata"];
    let mut pod = status(&text(&metadata["namespace"]), &text(&metadata["name"]), &object["status"]);
    pod.app = text(&metadata["labels"]["k8s-app"]);
    pod.node = text(&object["spec"]["nodeName"]);
    pod
}

/// What a pod's status says.
#[must_use]
pub fn status(namespace: &str, name: &str, status: &Value) -> PodFacts {
    let containers =
        || ["initContainerStatuses", "containerStatuses"].into_iter().flat_map(|kind| status[kind].as_array().into_iter().flatten());
    let restarts: u64 = containers().filter_map(|c| c["restartCount"].as_u64()).sum();
    let failed = |c: &'_ Value| c["state"]["terminated"]["exitCode"].as_i64().is_some_and(|code| code != 0);
    let reason = containers()
        .find_map(|c| c["state"]["waiting"]["reason"].as_str())
        .or_else(|| containers().find(|c| failed(c)).and_then(|c| c["state"]["terminated"]["reason"].as_str()));
    PodFacts {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ready: condition(status, "Ready").is_some_and(|c| c["status"] == "True"),
        restarts: u32::try_from(restarts).unwrap_or(u32::MAX),
        waiting: reason.unwrap_or_default().to_owned(),
        ..PodFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_become_facts() {
        let nodes = json!({"items": [{
            "metadata": {"name": "w-1"},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}]},
        }]});
        let pods = json!({"items": [{
            "metadata": {"namespace": "kube-system", "name": "coredns-1", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"nodeName": "w-1"},
            "status": {
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
            },
        }]});
        let facts = facts(&[nodes, pods, json!({"items": []}), json!({"items": [{}]})]);
        assert_eq!((facts.has_proxy, facts.has_dns), (false, true));
        let node = &facts.nodes[0];
        assert!(!node.ready && node.unschedulable && node.reason.contains("stopped posting"));
        let pod = &facts.pods[0];
        assert_eq!((pod.app.as_str(), pod.node.as_str(), pod.ready, pod.restarts), ("kube-dns", "w-1", false, 4));
        assert_eq!(pod.waiting, "CrashLoopBackOff");
    }

    #[test]
    fn a_container_that_has_just_failed_says_so() {
        let json = json!({"containerStatuses": [{"restartCount": 1, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]});
        assert_eq!(status("kube-system", "x", &json).waiting, "Error");
    }

    #[test]
    fn an_answer_that_is_no_list_holds_nothing() {
        assert_eq!(facts(&[json!(null), json!([]), json!("x"), json!({})]), KubeFacts::default());
    }
}
