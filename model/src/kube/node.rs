//! This machine as a node of the cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use resource::resource;

/// The name of this machine's Kubernetes node.
#[resource(
    type = "Nodenames.kubernetes.talos.dev",
    namespace = "k8s",
    columns("Nodename" = "{.nodename}"),
    ids("nodename")
)]
pub struct Nodename {
    #[field(1)]
    pub nodename: String,
    #[field(2)]
    pub hostname_version: String,
    #[field(3)]
    pub skip_node_registration: bool,
}

/// The addresses that the kubelet gives for its node.
#[resource(type = "NodeIPs.kubernetes.talos.dev", namespace = "k8s")]
pub struct NodeIp {
    #[field(1)]
    pub addresses: Vec<IpAddr>,
}

/// Which addresses the kubelet may give.
#[resource(type = "NodeIPConfigs.kubernetes.talos.dev", namespace = "k8s")]
pub struct NodeIpConfig {
    #[field(1, omit_empty)]
    pub valid_subnets: Vec<String>,
    #[field(2)]
    pub exclude_subnets: Vec<String>,
}

/// This machine's node, as the cluster has it.
#[resource(
    type = "NodeStatuses.kubernetes.talos.dev",
    namespace = "k8s",
    columns("Ready" = "{.nodeReady}", "Unschedulable" = "{.unschedulable}")
)]
pub struct NodeStatus {
    #[field(1)]
    pub nodename: String,
    #[field(2)]
    pub node_ready: bool,
    #[field(3)]
    pub unschedulable: bool,
    #[field(4)]
    pub labels: BTreeMap<String, String>,
    #[field(5)]
    pub annotations: BTreeMap<String, String>,
    #[field(6, yaml = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
}

/// A label that the node shall have.
#[resource(
    type = "NodeLabelSpecs.k8s.talos.dev",
    namespace = "k8s",
    columns("Value" = "{.value}"),
    sensitive
)]
pub struct NodeLabelSpec {
    #[field(1)]
    pub key: String,
    #[field(2)]
    pub value: String,
}

/// An annotation that the node shall have.
#[resource(
    type = "NodeAnnotationSpecs.k8s.talos.dev",
    namespace = "k8s",
    columns("Value" = "{.value}"),
    sensitive
)]
pub struct NodeAnnotationSpec {
    #[field(1)]
    pub key: String,
    #[field(2)]
    pub value: String,
}

/// A taint that the node shall have.
#[resource(
    type = "NodeTaintSpecs.k8s.talos.dev",
    namespace = "k8s",
    columns("Effect" = "{.effect}", "Value" = "{.value}"),
    sensitive
)]
pub struct NodeTaintSpec {
    #[field(1)]
    pub key: String,
    #[field(2)]
    pub effect: String,
    #[field(3)]
    pub value: String,
}

/// The node shall take no new pods.
#[resource(type = "NodeCordonedSpecs.k8s.talos.dev", namespace = "k8s", ids("cordoned"), sensitive)]
pub struct NodeCordonedSpec {}
