//! etcd on this node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use resource::resource;

use super::ArgValues;

/// How etcd shall run, as configured.
#[resource(
    type = "EtcdConfigs.etcd.talos.dev",
    namespace = "etcd",
    columns("Image" = "{.image}"),
    ids("etcd")
)]
pub struct EtcdConfig {
    #[field(1, omit_empty)]
    pub advertise_valid_subnets: Vec<String>,
    #[field(2)]
    pub advertise_exclude_subnets: Vec<String>,
    #[field(5, omit_empty)]
    pub listen_valid_subnets: Vec<String>,
    #[field(6)]
    pub listen_exclude_subnets: Vec<String>,
    #[field(3)]
    pub image: String,
    #[field(7)]
    pub extra_args: BTreeMap<String, ArgValues>,
}

/// How etcd shall run, in full.
#[resource(
    type = "EtcdSpecs.etcd.talos.dev",
    namespace = "etcd",
    columns(
        "Name" = "{.name}",
        "AdvertisedAddresses" = "{.advertisedAddresses}",
        "ListenPeerAddresses" = "{.listenPeerAddresses}",
        "ListenClientAddresses" = "{.listenClientAddresses}"
    ),
    ids("etcd")
)]
pub struct EtcdSpec {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub advertised_addresses: Vec<IpAddr>,
    #[field(5)]
    pub listen_peer_addresses: Vec<IpAddr>,
    #[field(6)]
    pub listen_client_addresses: Vec<IpAddr>,
    #[field(3)]
    pub image: String,
    #[field(7)]
    pub extra_args: BTreeMap<String, ArgValues>,
}

/// This machine as a member of etcd.
#[resource(
    type = "EtcdMembers.etcd.talos.dev",
    namespace = "etcd",
    columns("Member ID" = "{.memberID}"),
    ids("local")
)]
pub struct EtcdMember {
    #[field(1, yaml = "memberID")]
    pub member_id: String,
}

/// etcd's certificates are written.
#[resource(
    type = "PKIStatuses.etcd.talos.dev",
    namespace = "etcd",
    columns("Ready" = "{.ready}", "Secrets Version" = "{.version}"),
    ids("etcd")
)]
pub struct PkiStatus {
    #[field(1)]
    pub ready: bool,
    #[field(2)]
    pub version: String,
}
