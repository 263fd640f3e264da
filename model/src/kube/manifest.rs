//! Manifests that the control plane applies to its cluster.

use std::collections::BTreeMap;

use resource::{Value, message, resource};

use super::Resources;

/// What the manifests are made from that every cluster gets.
#[resource(type = "BootstrapManifestsConfigs.kubernetes.talos.dev", namespace = "controlplane", ids("manifests"))]
pub struct BootstrapManifestsConfig {
    #[field(1, yaml = "string")]
    pub server: String,
    #[field(2)]
    pub cluster_domain: String,
    #[field(3, yaml = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    #[field(4)]
    pub proxy_enabled: bool,
    #[field(5)]
    pub proxy_image: String,
    #[field(6)]
    pub proxy_args: Vec<String>,
    #[field(27)]
    pub proxy_config: Value,
    #[field(29)]
    pub proxy_config_checksum: String,
    #[field(28)]
    pub proxy_resources: Resources,
    #[field(7, yaml = "coreDNSEnabled")]
    pub core_dns_enabled: bool,
    #[field(8, yaml = "coreDNSImage")]
    pub core_dns_image: String,
    #[field(9, yaml = "dnsServiceIP")]
    pub dns_service_ip: String,
    #[field(10, yaml = "dnsServiceIPv6")]
    pub dns_service_ipv6: String,
    #[field(11)]
    pub flannel_enabled: bool,
    #[field(12)]
    pub flannel_image: String,
    #[field(16)]
    pub flannel_extra_args: Vec<String>,
    #[field(17)]
    pub flannel_kube_service_host: String,
    #[field(18)]
    pub flannel_kube_service_port: String,
    #[field(19)]
    pub flannel_kube_network_policies_enabled: bool,
    #[field(20)]
    pub flannel_kube_network_policies_image: String,
    #[field(23)]
    pub flannel_backend_type: String,
    #[field(24)]
    pub flannel_backend_port: u16,
    #[field(22, yaml = "flannelBackendMTU")]
    pub flannel_backend_mtu: u32,
    #[field(26)]
    pub flannel_backend_extra_config: Value,
    #[field(25)]
    pub flannel_resources: Resources,
    #[field(14)]
    pub pod_security_policy_enabled: bool,
    #[field(15, yaml = "talosAPIServiceEnabled")]
    pub talos_api_service_enabled: bool,
    #[field(21)]
    pub cni_name: String,
}

/// Further manifests, by URL or in full.
#[resource(type = "ExtraManifestsConfigs.kubernetes.talos.dev", namespace = "controlplane", ids("extra-manifests"))]
pub struct ExtraManifestsConfig {
    #[field(1)]
    pub extra_manifests: Vec<ExtraManifest>,
}

/// Objects to be applied to the cluster.
#[resource(type = "Manifests.kubernetes.talos.dev", namespace = "controlplane", transparent)]
pub struct Manifest {
    #[field(1)]
    pub items: Vec<SingleManifest>,
}

/// Which manifests were applied.
#[resource(type = "ManifestStatuses.kubernetes.talos.dev", namespace = "controlplane", ids("manifests"))]
pub struct ManifestStatus {
    #[field(1)]
    pub manifests_applied: Vec<String>,
}

/// One object of a manifest.
#[message(transparent)]
pub struct SingleManifest {
    #[field(1)]
    pub object: Value,
}

/// A further manifest.
#[message]
pub struct ExtraManifest {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub url: String,
    #[field(3)]
    pub priority: String,
    #[field(4)]
    pub extra_headers: BTreeMap<String, String>,
    #[field(5)]
    pub inline_manifest: String,
}
