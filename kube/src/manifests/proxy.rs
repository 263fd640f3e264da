//! kube-proxy: services.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::flannel::field_env;
use super::{ProxyInput, rbac, resources};
use crate::kubelet::config::merge;

/// All objects.
pub fn objects(input: &ProxyInput, pod_cidrs: &[String]) -> Vec<Value> {
    let config = config(input, pod_cidrs);
    let checksum = checksum(&config);
    let text = serde_json::to_string_pretty(&config).unwrap_or_default();
    vec![
        rbac::account("kube-proxy"),
        rbac::account_binding("kube-proxy", "kube-proxy", "system:node-proxier"),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kube-proxy", "namespace": "kube-system", "labels": {"k8s-app": "kube-proxy"}},
            "data": {"config.yaml": text},
        }),
        daemon_set(input, &checksum),
    ]
}

/// Changes when the configuration file does.
pub fn checksum(config: &Value) -> String {
    hex::encode(Sha256::digest(config.to_string().as_bytes()))
}

/// KubeProxyConfiguration.
pub fn config(input: &ProxyInput, pod_cidrs: &[String]) -> Value {
    let mut config = json!({
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kubeconfig"},
        "clusterCIDR": pod_cidrs.join(","),
        "mode": if input.mode.is_empty() { "nftables" } else { &input.mode },
    });
    if input.container {
        // Connection tracking is sized by host-wide settings that a container node must not write.
        merge(
            &mut config,
            json!({"conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpCloseWaitTimeout": "0s",
                "tcpEstablishedTimeout": "0s",
            }}),
        );
    }
    if !input.oom_score {
        merge(&mut config, json!({"oomScoreAdj": 0}));
    }
    merge(&mut config, Value::Object(input.config.clone()));
    merge(
        &mut config,
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
        }),
    );
    config
}

fn daemon_set(input: &ProxyInput, checksum: &str) -> Value {
    let mut command: Vec<String> =
        vec!["/usr/local/bin/kube-proxy".into(), "--config=/etc/kube-proxy/config.yaml".into(), "--hostname-override=$(NODE_NAME)".into()];
    command.extend(input.extra_args.iter().cloned());
    let mut annotations = Map::new();
    // A changed configuration file restarts the pods.
    annotations.insert("orlop.dev/config-checksum".into(), json!(checksum));
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": "kube-proxy",
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-proxy", "tier": "node"},
        },
        "spec": {
            "selector": {"matchLabels": {"k8s-app": "kube-proxy", "tier": "node"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {
                    "labels": {"k8s-app": "kube-proxy", "tier": "node"},
                    "annotations": annotations,
                },
                "spec": {
                    "serviceAccountName": "kube-proxy",
                    "hostNetwork": true,
                    "priorityClassName": "system-node-critical",
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "tolerations": [
                        {"operator": "Exists", "effect": "NoSchedule"},
                        {"operator": "Exists", "effect": "NoExecute"},
                    ],
                    "containers": [{
                        "name": "kube-proxy",
                        "image": input.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": command,
                        "env": [field_env("NODE_NAME", "spec.nodeName")],
                        "resources": resources(
                            json!({"requests": {"cpu": "50m", "memory": "35Mi"}}),
                            &input.resources,
                        ),
                        "securityContext": {"privileged": true},
                        "volumeMounts": [
                            {"name": "kubeconfig", "mountPath": "/etc/kubernetes", "readOnly": true},
                            {"name": "config", "mountPath": "/etc/kube-proxy", "readOnly": true},
                        ],
                    }],
                    "volumes": [
                        {"name": "kubeconfig", "configMap": {"name": "kubeconfig-in-cluster"}},
                        {"name": "config", "configMap": {"name": "kube-proxy"}},
                    ],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs() -> Vec<String> {
        vec!["10.244.0.0/16".into()]
    }

    #[test]
    fn a_machine_tunes_its_kernel_and_a_container_does_not() {
        let mut input = ProxyInput { oom_score: true, ..Default::default() };
        assert_eq!(
            config(&input, &cidrs()),
            json!({
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "clientConnection": {"kubeconfig": "/etc/kubernetes/kubeconfig"},
                "clusterCIDR": "10.244.0.0/16",
                "mode": "nftables",
            })
        );
        input.container = true;
        input.oom_score = false;
        let container = config(&input, &cidrs());
        assert_eq!(container["oomScoreAdj"], 0);
        assert_eq!(container["conntrack"], json!({"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"}));
    }

    #[test]
    fn a_changed_configuration_changes_the_pods() {
        let checksum = |mode: &str| {
            let objects = objects(&ProxyInput { mode: mode.into(), oom_score: true, ..Default::default() }, &cidrs());
            objects[3]["spec"]["template"]["metadata"]["annotations"]["orlop.dev/config-checksum"].clone()
        };
        assert_ne!(checksum("nftables"), checksum("iptables"));
        assert_eq!(checksum("nftables"), checksum(""));
    }
}
