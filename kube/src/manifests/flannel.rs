//! flannel: the pod network.

use serde_json::{Value, json};

use super::{FlannelInput, rbac, resources};
use crate::subnets::families;

/// All objects.
pub fn objects(input: &FlannelInput, pod_cidrs: &[String]) -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "flannel"},
            "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
            ],
        }),
        rbac::account_binding("flannel", "flannel", "flannel"),
        rbac::account("flannel"),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "kube-flannel-cfg",
                "namespace": "kube-system",
                "labels": {"k8s-app": "flannel", "tier": "node"},
            },
            "data": {
                "cni-conf.json": pretty(&cni_config()),
                "net-conf.json": pretty(&net_config(input, pod_cidrs)),
            },
        }),
        daemon_set(input),
    ]
}

/// What the container runtime reads. Port mappings go through nftables: a node has no iptables.
fn cni_config() -> Value {
    json!({
        "name": "cbr0",
        "cniVersion": "1.0.0",
        "plugins": [
            {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
            {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}},
        ],
    })
}

/// What flanneld reads.
fn net_config(input: &FlannelInput, pod_cidrs: &[String]) -> Value {
    let mut backend = json!({"Type": if input.backend.is_empty() { "vxlan" } else { &input.backend }});
    if input.port != 0 {
        backend["Port"] = json!(input.port);
    }
    if input.mtu != 0 {
        backend["MTU"] = json!(input.mtu);
    }
    for (key, value) in &input.backend_extra {
        backend[key] = value.clone();
    }
    let mut config = json!({"Backend": backend, "EnableNFTables": true});
    let (v4, v6) = families(pod_cidrs);
    config["EnableIPv4"] = json!(v4);
    if v6 {
        config["EnableIPv6"] = json!(true);
    }
    for cidr in pod_cidrs {
        let key = if cidr.contains(':') { "IPv6Network" } else { "Network" };
        config[key] = json!(cidr);
    }
    config
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

fn daemon_set(input: &FlannelInput) -> Value {
    let mut args: Vec<String> = vec!["--ip-masq".into(), "--kube-subnet-mgr".into()];
    args.extend(input.extra_args.iter().cloned());
    let mut env = vec![
        field_env("POD_NAME", "metadata.name"),
        field_env("POD_NAMESPACE", "metadata.namespace"),
        json!({"name": "EVENT_QUEUE_DEPTH", "value": "5000"}),
    ];
    if !input.api_host.is_empty() {
        env.push(json!({"name": "KUBERNETES_SERVICE_HOST", "value": input.api_host}));
        env.push(json!({"name": "KUBERNETES_SERVICE_PORT", "value": input.api_port}));
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": "kube-flannel",
            "namespace": "kube-system",
            "labels": {"k8s-app": "flannel", "tier": "node"},
        },
        "spec": {
            "selector": {"matchLabels": {"k8s-app": "flannel", "tier": "node"}},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"k8s-app": "flannel", "tier": "node"}},
                "spec": {
                    "serviceAccountName": "flannel",
                    "hostNetwork": true,
                    "priorityClassName": "system-node-critical",
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "tolerations": [
                        {"operator": "Exists", "effect": "NoSchedule"},
                        {"operator": "Exists", "effect": "NoExecute"},
                    ],
                    "initContainers": [{
                        "name": "install-config",
                        "image": input.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["cp"],
                        "args": ["-f", "/etc/kube-flannel/cni-conf.json", "/etc/cni/net.d/10-flannel.conflist"],
                        "volumeMounts": [
                            {"name": "cni", "mountPath": "/etc/cni/net.d"},
                            {"name": "flannel-cfg", "mountPath": "/etc/kube-flannel/"},
                        ],
                    }],
                    "containers": [{
                        "name": "kube-flannel",
                        "image": input.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["/opt/bin/flanneld"],
                        "args": args,
                        "env": env,
                        "resources": resources(
                            json!({"requests": {"cpu": "100m", "memory": "50Mi"}}),
                            &input.resources,
                        ),
                        "securityContext": {
                            "privileged": false,
                            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]},
                        },
                        "volumeMounts": [
                            {"name": "run", "mountPath": "/run/flannel"},
                            {"name": "flannel-cfg", "mountPath": "/etc/kube-flannel/"},
                        ],
                    }],
                    "volumes": [
                        {"name": "run", "hostPath": {"path": "/run/flannel", "type": "DirectoryOrCreate"}},
                        {"name": "cni", "hostPath": {"path": "/etc/cni/net.d", "type": "DirectoryOrCreate"}},
                        {"name": "flannel-cfg", "configMap": {"name": "kube-flannel-cfg"}},
                    ],
                },
            },
        },
    })
}

pub(crate) fn field_env(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> FlannelInput {
        FlannelInput {
            image: "flannel:v0.28.10".into(),
            backend: "vxlan".into(),
            port: 4789,
            api_host: "127.0.0.1".into(),
            api_port: "7445".into(),
            ..Default::default()
        }
    }

    #[test]
    fn network_configuration() {
        let cidrs = ["10.244.0.0/16".to_owned(), "fd00:244::/56".to_owned()];
        assert_eq!(
            net_config(&input(), &cidrs[..1]),
            json!({
                "Network": "10.244.0.0/16",
                "EnableIPv4": true,
                "EnableNFTables": true,
                "Backend": {"Type": "vxlan", "Port": 4789},
            })
        );
        let dual = net_config(&input(), &cidrs);
        assert_eq!(dual["IPv6Network"], "fd00:244::/56");
        assert_eq!(dual["EnableIPv6"], true);
        let mut tuned = input();
        tuned.mtu = 1370;
        tuned.backend_extra.insert("VNI".into(), json!(7));
        let config = net_config(&tuned, &cidrs[..1]);
        assert_eq!(config["Backend"], json!({"Type": "vxlan", "Port": 4789, "MTU": 1370, "VNI": 7}));
    }

    #[test]
    fn flanneld_reaches_the_api_before_services_work() {
        let set = daemon_set(&input());
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let env = container["env"].as_array().unwrap();
        assert!(env.contains(&json!({"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"})));
        assert!(env.contains(&json!({"name": "KUBERNETES_SERVICE_PORT", "value": "7445"})));
        assert_eq!(container["args"], json!(["--ip-masq", "--kube-subnet-mgr"]));
    }
}
