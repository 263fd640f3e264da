//! An affiliate as it travels: the protobuf message that members seal for each other, and the resource it becomes.

use std::net::{IpAddr, SocketAddr};

use api::sidero::discovery::client as wire;
use ipnet::IpNet;
use model::cluster::{Affiliate, ControlPlane, KubeSpanAffiliate};
use model::host::MachineRole;
use prost::Message;

use crate::seal::{SealError, Sealer};

/// Why an affiliate could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AffiliateError {
    /// It does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What opened is no affiliate.
    #[error("what affiliate {id} registered opens with this cluster's secret but is no affiliate: {reason}")]
    Malformed {
        /// The id it is registered under.
        id: String,
        /// What is wrong.
        reason: String,
    },
}

/// An affiliate ready to register: its sealed data and endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The data.
    pub data: Vec<u8>,
    /// One per endpoint.
    pub endpoints: Vec<Vec<u8>>,
}

/// The bytes of an affiliate before sealing: equal for equal affiliates.
#[must_use]
pub fn encode(affiliate: &Affiliate) -> Vec<u8> {
    let mesh = &affiliate.kubespan;
    let kubespan = (!mesh.public_key.is_empty()).then(|| wire::KubeSpan {
        public_key: mesh.public_key.clone(),
        address: mesh.address.map(octets).unwrap_or_default(),
        additional_addresses: mesh.additional_addresses.iter().map(prefix).collect(),
        exclude_advertised_addresses: mesh.exclude_advertised_networks.iter().map(prefix).collect(),
    });
    wire::Affiliate {
        node_id: affiliate.node_id.clone(),
        addresses: affiliate.addresses.iter().copied().map(octets).collect(),
        hostname: affiliate.hostname.clone(),
        nodename: affiliate.nodename.clone(),
        machine_type: affiliate.machine_type.to_string(),
        operating_system: affiliate.operating_system.clone(),
        kubespan,
        control_plane: affiliate
            .control_plane
            .as_ref()
            .map(|control_plane| wire::ControlPlane { api_server_port: u32::try_from(control_plane.port).unwrap_or(0) }),
    }
    .encode_to_vec()
}

/// Seals an affiliate for the discovery servers.
///
/// # Errors
/// When the kernel gives no random bytes, or an endpoint does not fit.
pub fn seal(affiliate: &Affiliate, sealer: &Sealer) -> Result<Sealed, SealError> {
    let endpoint = |address: &SocketAddr| {
        let message = wire::Endpoint { ip: octets(address.ip()), port: u32::from(address.port()) };
        sealer.seal_endpoint(&message.encode_to_vec())
    };
    Ok(Sealed {
        data: sealer.seal(&encode(affiliate))?,
        endpoints: affiliate.kubespan.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?,
    })
}

/// Opens what the affiliate `id` registered. Endpoints that do not open are left out: they may be others' additions.
///
/// # Errors
/// When the data is not this cluster's, is no affiliate, or another's than its id says.
pub fn open(id: &str, data: &[u8], endpoints: &[Vec<u8>], sealer: &Sealer) -> Result<Affiliate, AffiliateError> {
    let malformed = |reason: String| AffiliateError::Malformed { id: id.to_owned(), reason };
    let plain = sealer.open(data)?;
    let message = wire::Affiliate::decode(plain.as_slice()).map_err(|error| malformed(error.to_string()))?;
    if message.node_id != id {
        return Err(malformed(format!("it names itself {:?}", message.node_id)));
    }
    let machine_type =
        message.machine_type.parse::<MachineRole>().map_err(|_| malformed(format!("machine type {:?}", message.machine_type)))?;
    let mut affiliate = Affiliate {
        node_id: message.node_id,
        addresses: message.addresses.iter().filter_map(|bytes| address(bytes)).collect(),
        hostname: message.hostname,
        nodename: message.nodename,
        operating_system: message.operating_system,
        machine_type,
        control_plane: message.control_plane.map(|control_plane| ControlPlane { port: i64::from(control_plane.api_server_port) }),
        ..Affiliate::default()
    };
    if let Some(mesh) = message.kubespan {
        let opened = endpoints.iter().filter_map(|sealed| {
            let endpoint = wire::Endpoint::decode(sealer.open_endpoint(sealed).ok()?.as_slice()).ok()?;
            Some(SocketAddr::new(address(&endpoint.ip)?, u16::try_from(endpoint.port).ok()?))
        });
        affiliate.kubespan = KubeSpanAffiliate {
            public_key: mesh.public_key,
            address: address(&mesh.address),
            additional_addresses: mesh.additional_addresses.iter().filter_map(net).collect(),
            exclude_advertised_networks: mesh.exclude_advertised_addresses.iter().filter_map(net).collect(),
            endpoints: opened.collect(),
        };
    }
    Ok(affiliate)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// 4 or 16 bytes; more are a zone, which means nothing on another machine.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    bytes.first_chunk::<16>().map(|v6| IpAddr::from(*v6))
}

fn prefix(net: &IpNet) -> wire::IpPrefix {
    wire::IpPrefix { ip: octets(net.addr()), bits: u32::from(net.prefix_len()) }
}

fn net(prefix: &wire::IpPrefix) -> Option<IpNet> {
    IpNet::new(address(&prefix.ip)?, u8::try_from(prefix.bits).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affiliate() -> Affiliate {
        Affiliate {
            node_id: "n1".into(),
            addresses: vec!["10.5.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            hostname: "cp-1.example.org".into(),
            nodename: "cp-1".into(),
            operating_system: "Talos (v1.15.0+orlop.0.1.0)".into(),
            machine_type: MachineRole::ControlPlane,
            control_plane: Some(ControlPlane { port: 6443 }),
            kubespan: KubeSpanAffiliate {
                public_key: "key".into(),
                address: "fd01::1".parse().ok(),
                additional_addresses: vec!["10.244.1.0/24".parse().unwrap()],
                endpoints: vec!["10.5.0.2:51820".parse().unwrap(), "[2001:db8::1]:51820".parse().unwrap()],
                exclude_advertised_networks: vec![],
            },
        }
    }

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&[byte; 32]).unwrap()
    }

    #[test]
    fn an_affiliate_travels_sealed() {
        let sealed = seal(&affiliate(), &sealer(1)).unwrap();
        assert!(sealed.endpoints.iter().all(|endpoint| endpoint.len() <= 32), "as the servers demand");
        let opened = open("n1", &sealed.data, &sealed.endpoints, &sealer(1)).unwrap();
        assert_eq!(opened, affiliate());
        assert!(matches!(open("n1", &sealed.data, &[], &sealer(2)), Err(AffiliateError::Seal(_))));
        let foreign = vec![vec![9; 16]];
        assert!(open("n1", &sealed.data, &foreign, &sealer(1)).unwrap().kubespan.endpoints.is_empty());
    }

    #[test]
    fn nobody_registers_for_another() {
        let sealed = seal(&affiliate(), &sealer(1)).unwrap();
        let error = open("n2", &sealed.data, &[], &sealer(1)).unwrap_err();
        assert!(error.to_string().contains("names itself \"n1\""), "{error}");
        let nonsense = sealer(1).seal(&[0xff; 9]).unwrap();
        assert!(matches!(open("n1", &nonsense, &[], &sealer(1)), Err(AffiliateError::Malformed { .. })));
    }

    /// The field numbers of the peer's message, by hand: 1 node id, 2 address, 5 machine type.
    #[test]
    fn the_message_is_the_peers() {
        let small = Affiliate {
            node_id: "n".into(),
            addresses: vec!["1.2.3.4".parse().unwrap()],
            machine_type: MachineRole::Worker,
            ..Affiliate::default()
        };
        let expected: Vec<u8> = [&[0x0a, 1, b'n', 0x12, 4, 1, 2, 3, 4, 0x2a, 6][..], b"worker"].concat();
        assert_eq!(encode(&small), expected);
    }
}
