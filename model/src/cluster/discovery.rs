//! Who belongs to the cluster, and how members find each other.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use resource::{Bytes, message, resource};

use crate::host::MachineRole;

/// The node's id in discovery.
#[resource(
    type = "Identities.cluster.talos.dev",
    namespace = "cluster",
    columns("ID" = "{.nodeId}")
)]
pub struct Identity {
    #[field(1)]
    pub node_id: String,
}

/// Id and name of the cluster.
#[resource(
    type = "Infos.cluster.talos.dev",
    namespace = "cluster",
    columns("Cluster ID" = "{.clusterId}", "Cluster Name" = "{.clusterName}"),
    ids("current")
)]
pub struct Info {
    #[field(1)]
    pub cluster_id: String,
    #[field(2)]
    pub cluster_name: String,
}

/// Somebody who may be a member, as one source of discovery knows it or, in namespace `cluster`, as all together do.
#[resource(
    type = "Affiliates.cluster.talos.dev",
    namespace = "cluster",
    columns("Hostname" = "{.hostname}", "Machine Type" = "{.machineType}", "Addresses" = "{.addresses}")
)]
pub struct Affiliate {
    #[field(1)]
    pub node_id: String,
    #[field(2)]
    pub addresses: Vec<IpAddr>,
    #[field(3)]
    pub hostname: String,
    #[field(4, omit_empty)]
    pub nodename: String,
    #[field(5)]
    pub operating_system: String,
    #[field(6)]
    pub machine_type: MachineRole,
    #[field(7, omit_empty)]
    pub kubespan: KubeSpanAffiliate,
    #[field(8, omit_empty)]
    pub control_plane: Option<ControlPlane>,
}

/// A member of the cluster.
#[resource(
    type = "Members.cluster.talos.dev",
    namespace = "cluster",
    columns(
        "Hostname" = "{.hostname}",
        "Machine Type" = "{.machineType}",
        "OS" = "{.operatingSystem}",
        "Addresses" = "{.addresses}"
    )
)]
pub struct Member {
    #[field(1)]
    pub node_id: String,
    #[field(2)]
    pub addresses: Vec<IpAddr>,
    #[field(3)]
    pub hostname: String,
    #[field(4)]
    pub machine_type: MachineRole,
    #[field(5)]
    pub operating_system: String,
    #[field(6, omit_empty)]
    pub control_plane: Option<ControlPlane>,
}

/// The annotation of members and affiliates that says whether they are heard: `up`, `unknown`, `silent` (not heard here) or `down` (not
/// heard by others either).
pub const PRESENCE: &str = "orlop.dev/presence";
/// The annotation with who does not hear a member: node ids, separated by commas.
pub const UNHEARD_BY: &str = "orlop.dev/unheard-by";

/// How members find each other.
#[resource(type = "DiscoveryConfigs.cluster.talos.dev", namespace = "config", ids("cluster"), sensitive)]
pub struct DiscoveryConfig {
    #[field(1)]
    pub discovery_enabled: bool,
    #[field(2)]
    pub registry_kubernetes_enabled: bool,
    #[field(3)]
    pub registry_service_enabled: bool,
    #[field(4)]
    pub service_endpoint: String,
    #[field(5, omit_empty)]
    pub service_endpoint_insecure: bool,
    #[field(6, secret)]
    pub service_encryption_key: Bytes,
    #[field(7, yaml = "serviceClusterID")]
    pub service_cluster_id: String,
    #[field(8)]
    pub service_endpoints: Vec<ServiceEndpoint>,
}

/// What a control plane tells about itself.
#[message]
pub struct ControlPlane {
    #[field(1)]
    pub port: i64,
}

/// What an affiliate tells about its end of the mesh.
#[message]
pub struct KubeSpanAffiliate {
    #[field(1)]
    pub public_key: String,
    #[field(2)]
    pub address: Option<IpAddr>,
    #[field(3)]
    pub additional_addresses: Vec<IpNet>,
    #[field(4)]
    pub endpoints: Vec<SocketAddr>,
    #[field(5)]
    pub exclude_advertised_networks: Vec<IpNet>,
}

/// A discovery service.
#[message]
pub struct ServiceEndpoint {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub endpoint: String,
    #[field(3)]
    pub insecure: bool,
}
