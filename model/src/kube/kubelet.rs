//! The kubelet: what it shall run with, and how it fares.

use std::collections::BTreeMap;

use resource::{Value, message, resource};

use super::ArgValues;

/// How the kubelet shall run, as configured.
#[resource(type = "KubeletConfigs.kubernetes.talos.dev", namespace = "k8s", ids("kubelet"), sensitive)]
pub struct KubeletConfig {
    #[field(1)]
    pub image: String,
    #[field(2, yaml = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    #[field(3)]
    pub cluster_domain: String,
    #[field(15, omit_empty)]
    pub extra_args: BTreeMap<String, ArgValues>,
    #[field(5, omit_empty)]
    pub extra_mounts: Vec<Mount>,
    #[field(6, omit_empty)]
    pub extra_config: Value,
    #[field(7)]
    pub cloud_provider_external: bool,
    #[field(8)]
    pub default_runtime_seccomp_enabled: bool,
    #[field(9)]
    pub skip_node_registration: bool,
    #[field(10, yaml = "staticPodListURL")]
    pub static_pod_list_url: String,
    #[field(11)]
    pub disable_manifests_directory: bool,
    #[field(12, yaml = "enableFSQuotaMonitoring")]
    pub enable_fs_quota_monitoring: bool,
    #[field(13, omit_empty)]
    pub credential_provider_config: Value,
    #[field(16, omit_empty)]
    pub register_with_taints: BTreeMap<String, String>,
}

/// How the kubelet shall run, in full.
#[resource(type = "KubeletSpecs.kubernetes.talos.dev", namespace = "k8s", sensitive)]
pub struct KubeletSpec {
    #[field(1)]
    pub image: String,
    #[field(2, omit_empty)]
    pub args: Vec<String>,
    #[field(3, omit_empty)]
    pub extra_mounts: Vec<Mount>,
    #[field(4, omit_empty)]
    pub expected_nodename: String,
    #[field(5)]
    pub config: Value,
    #[field(6, omit_empty)]
    pub credential_provider_config: Value,
}

/// The kubelet that runs.
#[resource(
    type = "KubeletStatuses.kubernetes.talos.dev",
    namespace = "k8s",
    columns("Image" = "{.image}")
)]
pub struct KubeletStatus {
    #[field(1)]
    pub image: String,
}

/// The kubelet's own access to the cluster has changed.
#[resource(
    type = "KubeletKubeconfigs.kubernetes.talos.dev",
    namespace = "k8s",
    columns("Hash" = "{.hash}"),
    ids("kubelet")
)]
pub struct KubeletKubeconfig {
    #[field(1)]
    pub hash: String,
}

/// Exists while the kubelet may run; torn down before it stops.
#[resource(type = "KubeletLifecycles.kubernetes.talos.dev", namespace = "k8s", ids("kubelet"))]
pub struct KubeletLifecycle {}

/// A mount of an OCI runtime specification.
#[message]
pub struct Mount {
    #[field(1)]
    pub destination: String,
    #[field(2)]
    pub type_: String,
    #[field(3)]
    pub source: String,
    #[field(4)]
    pub options: Vec<String>,
    #[field(5, yaml = "uidmappings")]
    pub uid_mappings: Vec<IdMapping>,
    #[field(6, yaml = "gidmappings")]
    pub gid_mappings: Vec<IdMapping>,
}

/// A range of user or group ids in a container, and what they are outside.
#[message]
pub struct IdMapping {
    #[field(1, yaml = "containerid")]
    pub container_id: u32,
    #[field(2, yaml = "hostid")]
    pub host_id: u32,
    #[field(3)]
    pub size: u32,
}
