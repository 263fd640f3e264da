//! What a network card can do and is told to do, as ethtool shows it.

use std::collections::BTreeMap;

use resource::proto::{DecodeError, Wire};
use resource::yaml::{Node, YamlError};
use resource::{Field, Form, message, resource, text_enum};

use super::{Duplex, PortType};

/// What a network card shall be set to; the id is the link's.
#[resource(type = "EthernetSpecs.net.talos.dev", namespace = "network")]
pub struct EthernetSpec {
    #[field(1, omit_empty)]
    pub rings: EthernetRingsSpec,
    #[field(2, omit_empty)]
    pub features: BTreeMap<String, bool>,
    #[field(3, omit_empty)]
    pub channels: EthernetChannelsSpec,
    #[field(4, omit_empty)]
    pub wake_on_lan: Vec<WolMode>,
}

/// What a network card is set to, and what it could be.
#[resource(
    type = "EthernetStatuses.net.talos.dev",
    namespace = "network",
    aliases("ethtool"),
    columns("Link" = "{.linkState}", "Speed" = "{.speedMbit}")
)]
pub struct EthernetStatus {
    #[field(1, omit_empty)]
    pub link_state: Option<bool>,
    #[field(2, omit_empty)]
    pub speed_mbit: i64,
    #[field(3)]
    pub port: PortType,
    #[field(4)]
    pub duplex: Duplex,
    #[field(5, omit_empty)]
    pub our_modes: Vec<String>,
    #[field(6, omit_empty)]
    pub peer_modes: Vec<String>,
    #[field(7, omit_empty)]
    pub rings: Option<EthernetRingsStatus>,
    #[field(8, omit_empty)]
    pub features: EthernetFeatures,
    #[field(9, omit_empty)]
    pub channels: Option<EthernetChannelsStatus>,
    #[field(10, yaml = "wakeOnLAN", omit_empty)]
    pub wake_on_lan: Vec<WolMode>,
}

/// Sizes of the rings that shall be set.
#[message]
pub struct EthernetRingsSpec {
    #[field(1, omit_empty)]
    pub rx: Option<u32>,
    #[field(4, omit_empty)]
    pub tx: Option<u32>,
    #[field(2, yaml = "rx-mini", omit_empty)]
    pub rx_mini: Option<u32>,
    #[field(3, yaml = "rx-jumbo", omit_empty)]
    pub rx_jumbo: Option<u32>,
    #[field(5, yaml = "rx-buf-len", omit_empty)]
    pub rx_buf_len: Option<u32>,
    #[field(6, yaml = "cqe-size", omit_empty)]
    pub cqe_size: Option<u32>,
    #[field(7, yaml = "tx-push", omit_empty)]
    pub tx_push: Option<bool>,
    #[field(8, yaml = "rx-push", omit_empty)]
    pub rx_push: Option<bool>,
    #[field(9, yaml = "tx-push-buf-len", omit_empty)]
    pub tx_push_buf_len: Option<u32>,
    #[field(10, yaml = "tcp-data-split", omit_empty)]
    pub tcp_data_split: Option<bool>,
}

/// Sizes of the rings, and their limits.
#[message]
pub struct EthernetRingsStatus {
    #[field(1, yaml = "rx-max", omit_empty)]
    pub rx_max: Option<u32>,
    #[field(2, yaml = "rx-mini-max", omit_empty)]
    pub rx_mini_max: Option<u32>,
    #[field(3, yaml = "rx-jumbo-max", omit_empty)]
    pub rx_jumbo_max: Option<u32>,
    #[field(4, yaml = "tx-max", omit_empty)]
    pub tx_max: Option<u32>,
    #[field(5, yaml = "tx-push-buf-len-max", omit_empty)]
    pub tx_push_buf_len_max: Option<u32>,
    #[field(6, omit_empty)]
    pub rx: Option<u32>,
    #[field(7, yaml = "rx-mini", omit_empty)]
    pub rx_mini: Option<u32>,
    #[field(8, yaml = "rx-jumbo", omit_empty)]
    pub rx_jumbo: Option<u32>,
    #[field(9, omit_empty)]
    pub tx: Option<u32>,
    #[field(10, yaml = "rx-buf-len", omit_empty)]
    pub rx_buf_len: Option<u32>,
    #[field(11, yaml = "cqe-size", omit_empty)]
    pub cqe_size: Option<u32>,
    #[field(12, yaml = "tx-push", omit_empty)]
    pub tx_push: Option<bool>,
    #[field(13, yaml = "rx-push", omit_empty)]
    pub rx_push: Option<bool>,
    #[field(14, yaml = "tx-push-buf-len", omit_empty)]
    pub tx_push_buf_len: Option<u32>,
    #[field(15, yaml = "tcp-data-split", omit_empty)]
    pub tcp_data_split: Option<bool>,
}

/// Numbers of queues that shall be set.
#[message]
pub struct EthernetChannelsSpec {
    #[field(1, omit_empty)]
    pub rx: Option<u32>,
    #[field(2, omit_empty)]
    pub tx: Option<u32>,
    #[field(3, omit_empty)]
    pub other: Option<u32>,
    #[field(4, omit_empty)]
    pub combined: Option<u32>,
}

/// Numbers of queues, and their limits.
#[message]
pub struct EthernetChannelsStatus {
    #[field(1, yaml = "rx-max", omit_empty)]
    pub rx_max: Option<u32>,
    #[field(2, yaml = "tx-max", omit_empty)]
    pub tx_max: Option<u32>,
    #[field(3, yaml = "other-max", omit_empty)]
    pub other_max: Option<u32>,
    #[field(4, yaml = "combined-max", omit_empty)]
    pub combined_max: Option<u32>,
    #[field(5, omit_empty)]
    pub rx: Option<u32>,
    #[field(6, omit_empty)]
    pub tx: Option<u32>,
    #[field(7, omit_empty)]
    pub other: Option<u32>,
    #[field(8, omit_empty)]
    pub combined: Option<u32>,
}

/// One feature of a network card and how it stands: `on`, `off`, with `[fixed]` where it cannot be changed.
#[message]
pub struct EthernetFeatureStatus {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub status: String,
}

/// Features in the order in which the kernel lists them. A list on the wire, a mapping from name to status in YAML.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EthernetFeatures(pub Vec<EthernetFeatureStatus>);

impl Field for EthernetFeatures {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.0.put(number, out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        Vec::take(wire).map(Self)
    }
    fn merge(&mut self, wire: Wire<'_>) -> Result<(), DecodeError> {
        self.0.merge(wire)
    }
    fn is_default(&self) -> bool {
        self.0.is_empty()
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::Map(self.0.iter().map(|feature| (feature.name.clone().into(), feature.status.as_str().into())).collect())
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        let features = BTreeMap::<String, String>::read_yaml(node)?;
        Ok(Self(features.into_iter().map(|(name, status)| EthernetFeatureStatus { name, status }).collect()))
    }
}

/// What may wake the machine over the network, by the kernel's bit.
#[text_enum(name = "WOLMode")]
pub enum WolMode {
    #[text(1)]
    Phy,
    #[text(2)]
    Unicast,
    #[text(4)]
    Multicast,
    #[text(8)]
    Broadcast,
    #[text(32)]
    Magic,
    #[text(64)]
    MagicSecure,
    #[text(128)]
    Filter,
}
