//! Static pods: wanted, rendered, observed.

use resource::{Value, resource};

/// A pod that the kubelet shall run by itself.
#[resource(type = "StaticPods.kubernetes.talos.dev", namespace = "k8s", transparent)]
pub struct StaticPod {
    #[field(1)]
    pub pod: Value,
}

/// A static pod, as the kubelet reports it.
#[resource(
    type = "StaticPodStatuses.kubernetes.talos.dev",
    namespace = "k8s",
    aliases("podstatus"),
    columns("Ready" = "{.conditions[?(@.type==\"Ready\")].status}"),
    transparent
)]
pub struct StaticPodStatus {
    #[field(1, yaml = "podstatus")]
    pub pod_status: Value,
}

/// Where the kubelet fetches static pods.
#[resource(type = "StaticPodServerStatuses.kubernetes.talos.dev", namespace = "k8s", ids("static-pod-server-status"))]
pub struct StaticPodServerStatus {
    #[field(1)]
    pub url: String,
}

/// The control plane's configuration files are written.
#[resource(
    type = "ConfigStatuses.kubernetes.talos.dev",
    namespace = "controlplane",
    columns("Ready" = "{.ready}", "Secrets Version" = "{.version}"),
    ids("static-pods")
)]
pub struct ConfigStatus {
    #[field(1)]
    pub ready: bool,
    #[field(2)]
    pub version: String,
}

/// The control plane's secrets are written.
#[resource(
    type = "SecretStatuses.kubernetes.talos.dev",
    namespace = "controlplane",
    columns("Ready" = "{.ready}", "Secrets Version" = "{.version}"),
    ids("static-pods")
)]
pub struct SecretStatus {
    #[field(1)]
    pub ready: bool,
    #[field(2)]
    pub version: String,
}
