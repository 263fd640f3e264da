//! System services, as clients of the wire see them.

use std::net::IpAddr;

use resource::{message, resource};

/// A system service, and how it fares.
#[resource(
    type = "Services.v1alpha1.talos.dev",
    namespace = "runtime",
    aliases("svc"),
    columns("Running" = "{.running}", "Healthy" = "{.healthy}", "Health Unknown" = "{.unknown}")
)]
pub struct Service {
    #[field(1)]
    pub running: bool,
    #[field(2)]
    pub healthy: bool,
    #[field(3)]
    pub unknown: bool,
}

/// The main process of a service; callers on the node's socket are known by it.
#[resource(
    type = "ServicePIDs.runtime.talos.dev",
    namespace = "runtime",
    columns("PID" = "{.pid}")
)]
pub struct ServicePid {
    #[field(1)]
    pub pid: i32,
    #[field(2)]
    pub mount_namespace: String,
}

/// How the node's API shall listen.
#[resource(type = "APIServiceConfigs.runtime.talos.dev", namespace = "runtime", ids("apid"))]
pub struct ApiServiceConfig {
    #[field(1)]
    pub listen_address: String,
    #[field(2)]
    pub node_routing_disabled: bool,
    #[field(3)]
    pub readonly_role_mode: bool,
    #[field(4)]
    pub skip_verifying_client_cert: bool,
}

/// How the maintenance API shall listen.
#[resource(type = "MaintenanceServiceConfigs.runtime.talos.dev", namespace = "runtime", ids("maintenance"))]
pub struct MaintenanceServiceConfig {
    #[field(1)]
    pub listen_address: String,
    #[field(2)]
    pub reachable_addresses: Vec<IpAddr>,
}

/// The maintenance API shall run.
#[resource(type = "MaintenanceServiceRequests.runtime.talos.dev", namespace = "runtime", ids("maintenance"))]
pub struct MaintenanceServiceRequest {}

/// Configuration of an extension's service.
#[resource(type = "ExtensionServiceConfigs.runtime.talos.dev", namespace = "runtime", sensitive)]
pub struct ExtensionServiceConfig {
    #[field(1, omit_empty)]
    pub files: Vec<ExtensionServiceConfigFile>,
    #[field(2, omit_empty, secret)]
    pub environment: Vec<String>,
}

/// Which version of it the service has.
#[resource(type = "ExtensionServiceConfigStatuses.runtime.talos.dev", namespace = "runtime")]
pub struct ExtensionServiceConfigStatus {
    #[field(1)]
    pub spec_version: String,
}

/// One file of it.
#[message]
pub struct ExtensionServiceConfigFile {
    #[field(1, secret)]
    pub content: String,
    #[field(2)]
    pub mount_path: String,
}
