//! The control plane's components: what each shall run with.

use std::collections::BTreeMap;

use resource::{Value, message, resource};

/// How the API server shall run.
#[resource(type = "APIServerConfigs.kubernetes.talos.dev", namespace = "controlplane", sensitive)]
pub struct ApiServerConfig {
    #[field(1)]
    pub image: String,
    #[field(2)]
    pub cloud_provider: String,
    #[field(3)]
    pub control_plane_endpoint: String,
    #[field(4)]
    pub etcd_servers: Vec<String>,
    #[field(5)]
    pub local_port: i64,
    #[field(6, yaml = "serviceCIDR")]
    pub service_cidr: Vec<String>,
    #[field(13)]
    pub extra_args: BTreeMap<String, ArgValues>,
    #[field(16, omit_empty)]
    pub args: Vec<String>,
    #[field(8)]
    pub extra_volumes: Vec<ExtraVolume>,
    #[field(9)]
    pub environment_variables: BTreeMap<String, String>,
    #[field(11)]
    pub advertised_address: String,
    #[field(12)]
    pub resources: Resources,
    #[field(14)]
    pub startup_probes_enabled: bool,
    #[field(15)]
    pub use_authentication_config: bool,
}

/// How the controller manager shall run.
#[resource(type = "ControllerManagerConfigs.kubernetes.talos.dev", namespace = "controlplane")]
pub struct ControllerManagerConfig {
    #[field(1)]
    pub enabled: bool,
    #[field(2)]
    pub image: String,
    #[field(3)]
    pub cloud_provider: String,
    #[field(4, yaml = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    #[field(5, yaml = "serviceCIDRs")]
    pub service_cidrs: Vec<String>,
    #[field(10, omit_empty)]
    pub extra_args: BTreeMap<String, ArgValues>,
    #[field(11, omit_empty)]
    pub args: Vec<String>,
    #[field(7)]
    pub extra_volumes: Vec<ExtraVolume>,
    #[field(8)]
    pub environment_variables: BTreeMap<String, String>,
    #[field(9)]
    pub resources: Resources,
    #[field(12, yaml = "nodeCIDRMaskSizeIPv4")]
    pub node_cidr_mask_size_ipv4: i64,
    #[field(13, yaml = "nodeCIDRMaskSizeIPv6")]
    pub node_cidr_mask_size_ipv6: i64,
}

/// How the scheduler shall run.
#[resource(type = "SchedulerConfigs.kubernetes.talos.dev", namespace = "controlplane")]
pub struct SchedulerConfig {
    #[field(1)]
    pub enabled: bool,
    #[field(2)]
    pub image: String,
    #[field(8, omit_empty)]
    pub extra_args: BTreeMap<String, ArgValues>,
    #[field(9, omit_empty)]
    pub args: Vec<String>,
    #[field(7)]
    pub config: Value,
    #[field(4)]
    pub extra_volumes: Vec<ExtraVolume>,
    #[field(5)]
    pub environment_variables: BTreeMap<String, String>,
    #[field(6)]
    pub resources: Resources,
}

/// Admission plug-ins of the API server and their configuration.
#[resource(type = "AdmissionControlConfigs.kubernetes.talos.dev", namespace = "controlplane", ids("admission-control"))]
pub struct AdmissionControlConfig {
    #[field(1)]
    pub config: Vec<AdmissionPluginSpec>,
}

/// What the API server logs about requests.
#[resource(type = "AuditPolicyConfigs.kubernetes.talos.dev", namespace = "controlplane", ids("audit-policy"), sensitive)]
pub struct AuditPolicyConfig {
    #[field(1)]
    pub config: Value,
}

/// How the API server authenticates callers.
#[resource(type = "AuthenticationConfigs.kubernetes.talos.dev", namespace = "controlplane", ids("authentication-config"), sensitive)]
pub struct AuthenticationConfig {
    #[field(1)]
    pub config: Value,
}

/// How the API server authorises callers.
#[resource(type = "AuthorizationConfigs.kubernetes.talos.dev", namespace = "controlplane", ids("authorization"), sensitive)]
pub struct AuthorizationConfig {
    #[field(1)]
    pub image: String,
    #[field(2)]
    pub config: Vec<AuthorizationAuthorizersSpec>,
}

/// How the API server encrypts what it keeps in etcd, as a whole file.
#[resource(type = "EtcdEncryptionConfigs.kubernetes.talos.dev", namespace = "k8s", ids("k8s"), sensitive)]
pub struct EtcdEncryptionConfig {
    #[field(1, secret)]
    pub configuration: String,
}

/// The values of one command line flag, which may stand several times.
#[message]
pub struct ArgValues {
    #[field(1)]
    pub values: Vec<String>,
}

/// A directory of the host that a component sees.
#[message]
pub struct ExtraVolume {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub host_path: String,
    #[field(3)]
    pub mount_path: String,
    #[field(4)]
    pub readonly: bool,
}

/// What a component asks for and is limited to, in Kubernetes' notation.
#[message]
pub struct Resources {
    #[field(1)]
    pub requests: BTreeMap<String, String>,
    #[field(2)]
    pub limits: BTreeMap<String, String>,
}

/// One admission plug-in.
#[message]
pub struct AdmissionPluginSpec {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub configuration: Value,
}

/// One authoriser.
#[message]
pub struct AuthorizationAuthorizersSpec {
    #[field(1)]
    pub type_: String,
    #[field(2)]
    pub name: String,
    #[field(3)]
    pub webhook: Value,
}
