//! Access to the node's API from inside the cluster.

use resource::resource;

/// Which pods may use the node's API, and how.
#[resource(type = "KubernetesAccessConfigs.cluster.talos.dev", namespace = "config", ids("config"))]
pub struct KubernetesAccessConfig {
    #[field(1)]
    pub enabled: bool,
    #[field(2, yaml = "allowedAPIRoles")]
    pub allowed_api_roles: Vec<String>,
    #[field(3)]
    pub allowed_kubernetes_namespaces: Vec<String>,
}
