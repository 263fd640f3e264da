//! Bootstrap manifests: what a new cluster needs inside Kubernetes before it can run pods.
//!
//! Pure: settings in, lists of objects out, each list under an id whose sort order is the order of
//! application. Applying them: [`crate::apply`].

pub mod coredns;
pub mod flannel;
pub mod proxy;
pub mod rbac;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::control_plane::pod::Resources;

/// What the manifests depend on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ManifestInput {
    /// URL of the API server as seen from nodes: the local balancer's, where there is one.
    pub server: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// Certificate authorities of the API server, PEM.
    pub api_server_ca: Vec<u8>,
    /// First half of the bootstrap token.
    pub bootstrap_token_id: String,
    /// Second half of the bootstrap token.
    pub bootstrap_token_secret: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Pod networks, at most one per family.
    pub pod_cidrs: Vec<String>,
    /// kube-proxy, unless switched off.
    pub proxy: Option<ProxyInput>,
    /// CoreDNS, unless switched off.
    pub coredns: Option<CoreDnsInput>,
    /// flannel, when it is the pod network.
    pub flannel: Option<FlannelInput>,
    /// Pods may reach the machine API.
    pub api_access: bool,
    /// Addresses of the control-plane machines are announced to pods as service `talos`.
    pub api_service_port: u16,
    /// Objects from the configuration: name → objects.
    pub inline: BTreeMap<String, Vec<Value>>,
}

/// kube-proxy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyInput {
    /// Image reference.
    pub image: String,
    /// `nftables`, `iptables` or `ipvs`.
    pub mode: String,
    /// The user's KubeProxyConfiguration fields.
    pub config: Map<String, Value>,
    /// The user's arguments.
    pub extra_args: Vec<String>,
    /// The user's compute resources.
    pub resources: Resources,
    /// The node is a container: settings of the shared kernel stay as they are.
    pub container: bool,
    /// Scores below zero for the OOM killer may be set.
    pub oom_score: bool,
}

/// CoreDNS.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CoreDnsInput {
    /// Image reference.
    pub image: String,
    /// IPv4 address of the service; empty when there is none.
    pub service_ip: String,
    /// IPv6 address of the service; empty when there is none.
    pub service_ip6: String,
}

/// flannel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FlannelInput {
    /// Image reference.
    pub image: String,
    /// Back end, `vxlan` by default.
    pub backend: String,
    /// UDP port of the back end; 0: its default.
    pub port: u16,
    /// MTU of the tunnel; 0: found out.
    pub mtu: u32,
    /// More settings of the back end.
    pub backend_extra: Map<String, Value>,
    /// The user's arguments.
    pub extra_args: Vec<String>,
    /// The user's compute resources.
    pub resources: Resources,
    /// Host of the API server as flanneld reaches it before services work.
    pub api_host: String,
    /// Port of the same.
    pub api_port: String,
}

/// One list of objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its id; they are applied in the order of their ids.
    pub id: String,
    /// The objects.
    pub objects: Vec<Value>,
}

impl Manifest {
    fn new(id: impl Into<String>, objects: Vec<Value>) -> Self {
        Self { id: id.into(), objects }
    }
}

/// All manifests, sorted by id.
pub fn render(input: &ManifestInput) -> Vec<Manifest> {
    let mut manifests = vec![
        Manifest::new(
            "00-kubelet-bootstrapping-token",
            vec![rbac::bootstrap_token(&input.bootstrap_token_id, &input.bootstrap_token_secret)],
        ),
        Manifest::new("01-csr-approver-role-binding", vec![rbac::csr_approver()]),
        Manifest::new("01-csr-node-bootstrap", vec![rbac::node_bootstrapper()]),
        Manifest::new("01-csr-renewal-role-binding", vec![rbac::csr_renewal()]),
        Manifest::new("11-kube-config-in-cluster", vec![kubeconfig_in_cluster(input)]),
        Manifest::new("11-talos-node-rbac-template", rbac::node_reader()),
    ];
    if let Some(flannel) = &input.flannel {
        manifests.push(Manifest::new("05-flannel", flannel::objects(flannel, &input.pod_cidrs)));
    }
    if let Some(proxy) = &input.proxy {
        manifests.push(Manifest::new("10-kube-proxy", proxy::objects(proxy, &input.pod_cidrs)));
    }
    if let Some(coredns) = &input.coredns {
        manifests.push(Manifest::new("11-core-dns", coredns::objects(coredns, &input.cluster_domain)));
        manifests.push(Manifest::new("11-core-dns-svc", vec![coredns::service(coredns)]));
    }
    if input.api_access {
        manifests.push(Manifest::new("13-talos-service-account-crd", rbac::service_account_access(input.api_service_port)));
    }
    for (name, objects) in &input.inline {
        manifests.push(Manifest::new(format!("99-{name}"), objects.clone()));
    }
    for manifest in &mut manifests {
        order(&mut manifest.objects);
    }
    manifests.sort_by(|a, b| a.id.cmp(&b.id));
    manifests
}

/// Namespaces first, then custom resource definitions, the rest as it came: an object whose
/// namespace or kind comes later in the list could not be created.
pub fn order(objects: &mut [Value]) {
    objects.sort_by_key(|object| match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("CustomResourceDefinition") => 1,
        _ => 2,
    });
}

/// How pods of the node's own network reach the API server: the service account's token and the
/// cluster's authorities, but under the node's address of it, which works before services do.
fn kubeconfig_in_cluster(input: &ManifestInput) -> Value {
    let config = crate::kubeconfig::Kubeconfig {
        cluster: "local".into(),
        user: "service-account".into(),
        server: input.server.clone(),
        tls_server_name: String::new(),
        authorities: crate::kubeconfig::Authorities::File("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt".into()),
        credentials: crate::kubeconfig::Credentials::TokenFile { path: "/var/run/secrets/kubernetes.io/serviceaccount/token".into() },
    };
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kubeconfig-in-cluster", "namespace": "kube-system"},
        "data": {"kubeconfig": config.to_yaml()},
    })
}

pub(crate) fn resources(defaults: Value, user: &Resources) -> Value {
    let mut resources = defaults;
    crate::kubelet::config::merge(&mut resources, json!({"requests": user.requests, "limits": user.limits}));
    if resources["limits"].as_object().is_some_and(Map::is_empty)
        && let Some(map) = resources.as_object_mut()
    {
        map.remove("limits");
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn full() -> ManifestInput {
        ManifestInput {
            server: "https://127.0.0.1:7445".into(),
            cluster_name: "demo".into(),
            api_server_ca: b"ca".to_vec(),
            bootstrap_token_id: "abcdef".into(),
            bootstrap_token_secret: "0123456789abcdef".into(),
            cluster_domain: "cluster.local".into(),
            pod_cidrs: vec!["10.244.0.0/16".into()],
            proxy: Some(ProxyInput { image: "p:v1".into(), ..Default::default() }),
            coredns: Some(CoreDnsInput { image: "c:v1".into(), service_ip: "10.96.0.10".into(), ..Default::default() }),
            flannel: Some(FlannelInput { image: "f:v1".into(), ..Default::default() }),
            api_access: true,
            api_service_port: 50000,
            inline: BTreeMap::from([(
                "mine".into(),
                vec![
                    json!({"kind": "Deployment", "metadata": {"name": "d"}}),
                    json!({"kind": "CustomResourceDefinition", "metadata": {"name": "c"}}),
                    json!({"kind": "Namespace", "metadata": {"name": "n"}}),
                ],
            )]),
        }
    }

    #[test]
    fn ids_in_order() {
        let ids: Vec<String> = render(&full()).into_iter().map(|m| m.id).collect();
        assert_eq!(
            ids,
            [
                "00-kubelet-bootstrapping-token",
                "01-csr-approver-role-binding",
                "01-csr-node-bootstrap",
                "01-csr-renewal-role-binding",
                "05-flannel",
                "10-kube-proxy",
                "11-core-dns",
                "11-core-dns-svc",
                "11-kube-config-in-cluster",
                "11-talos-node-rbac-template",
                "13-talos-service-account-crd",
                "99-mine",
            ]
        );
    }

    #[test]
    fn namespaces_and_definitions_come_first() {
        let manifests = render(&full());
        let kinds: Vec<_> = manifests.last().unwrap().objects.iter().map(|o| o["kind"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds, ["Namespace", "CustomResourceDefinition", "Deployment"]);
    }

    /// Server-side apply needs these four, and a namespace where the kind has one.
    #[test]
    fn every_object_can_be_applied() {
        for manifest in render(&full()) {
            if manifest.id.starts_with("99-") {
                continue;
            }
            for object in &manifest.objects {
                for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
                    let value = object.pointer(pointer).and_then(Value::as_str);
                    assert!(value.is_some_and(|v| !v.is_empty()), "{} {pointer}", manifest.id);
                }
                let kind = object["kind"].as_str().unwrap();
                let cluster_wide = kind.starts_with("ClusterRole") || kind == "CustomResourceDefinition";
                assert_eq!(object.pointer("/metadata/namespace").is_none(), cluster_wide, "{} {kind}", manifest.id);
            }
        }
    }

    #[test]
    fn the_in_cluster_kubeconfig_uses_the_pods_own_token() {
        let manifest = render(&full()).into_iter().find(|m| m.id == "11-kube-config-in-cluster").unwrap();
        let text = manifest.objects[0]["data"]["kubeconfig"].as_str().unwrap();
        assert!(text.contains("server: https://127.0.0.1:7445"), "{text}");
        assert!(text.contains("tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token"), "{text}");
    }

    #[test]
    fn what_is_off_is_absent() {
        let mut input = full();
        input.proxy = None;
        input.coredns = None;
        input.flannel = None;
        input.api_access = false;
        let ids: Vec<String> = render(&input).into_iter().map(|m| m.id).collect();
        assert!(!ids.iter().any(|id| id.contains("proxy") || id.contains("dns") || id.contains("flannel")));
        assert!(!ids.iter().any(|id| id.starts_with("13-")));
    }
}
