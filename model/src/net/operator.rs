//! Operators: what fetches addresses by itself, such as DHCP, or holds shared ones.

use std::net::IpAddr;

use resource::{message, resource, text_enum};

use super::ConfigLayer;

/// An operator that shall run on a link.
#[resource(type = "OperatorSpecs.net.talos.dev", namespace = "network", sensitive)]
pub struct OperatorSpec {
    #[field(1)]
    pub operator: OperatorKind,
    #[field(2)]
    pub link_name: String,
    #[field(3)]
    pub require_up: bool,
    #[field(4, omit_empty)]
    pub dhcp4: Dhcp4OperatorSpec,
    #[field(5, omit_empty)]
    pub dhcp6: Dhcp6OperatorSpec,
    #[field(6, omit_empty)]
    pub vip: VipOperatorSpec,
    #[field(7)]
    pub layer: ConfigLayer,
}

/// Settings of the DHCPv4 operator.
#[message]
pub struct Dhcp4OperatorSpec {
    #[field(1)]
    pub route_metric: u32,
    #[field(2, omit_empty)]
    pub skip_hostname_request: bool,
    #[field(3, omit_empty)]
    pub client_identifier: ClientIdentifierSpec,
    #[field(4, omit_empty)]
    pub skip_routes: bool,
}

/// Settings of the DHCPv6 operator.
#[message]
pub struct Dhcp6OperatorSpec {
    #[field(2)]
    pub route_metric: u32,
    #[field(3, omit_empty)]
    pub skip_hostname_request: bool,
    #[field(4, omit_empty)]
    pub client_identifier: ClientIdentifierSpec,
}

/// How the node names itself to a DHCP server.
#[message]
pub struct ClientIdentifierSpec {
    #[field(1)]
    pub client_identifier: ClientIdentifier,
    #[field(2, omit_empty)]
    pub duid_raw_hex: String,
}

/// Settings of the operator that holds a shared address.
#[message]
pub struct VipOperatorSpec {
    #[field(1)]
    pub ip: Option<IpAddr>,
    #[field(2, yaml = "gratuitousARP")]
    pub gratuitous_arp: bool,
    #[field(3, omit_empty)]
    pub equinix_metal: VipEquinixMetalSpec,
    #[field(4, omit_empty)]
    pub hcloud: VipHCloudSpec,
}

/// How to move a shared address at Equinix Metal.
#[message]
pub struct VipEquinixMetalSpec {
    #[field(1, yaml = "projectID")]
    pub project_id: String,
    #[field(2, yaml = "deviceID")]
    pub device_id: String,
    #[field(3, secret)]
    pub api_token: String,
}

/// How to move a shared address at Hetzner Cloud.
#[message]
pub struct VipHCloudSpec {
    #[field(1, yaml = "deviceID")]
    pub device_id: i64,
    #[field(2, yaml = "networkID")]
    pub network_id: i64,
    #[field(3, secret)]
    pub api_token: String,
}

/// What an operator does.
#[text_enum(name = "Operator")]
pub enum OperatorKind {
    #[text(0)]
    Dhcp4,
    #[text(1)]
    Dhcp6,
    #[text(2)]
    Vip,
}

/// Which identifier a DHCP client sends.
#[text_enum]
pub enum ClientIdentifier {
    #[text(0)]
    None,
    #[text(1)]
    Mac,
    #[text(2)]
    Duid,
}
