//! What is asked for, and how names, addresses and ports follow from it.

use std::{
    fmt,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{ClusterState, Error, Result};

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It runs etcd and the control plane.
    ControlPlane,
    /// It runs workloads.
    Worker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::ControlPlane => "controlplane",
            Role::Worker => "worker",
        })
    }
}

/// A node to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRequest {
    /// Its role.
    pub role: Role,
    /// Its name; `CLUSTER-ROLE-NUMBER` by default.
    pub name: Option<String>,
    /// A limit of its memory in bytes.
    pub memory: Option<u64>,
    /// A limit of its processor time, in thousandths of a processor.
    pub cpu_millis: Option<u64>,
}

impl NodeRequest {
    /// A node without a name or limits of its own.
    pub fn new(role: Role) -> NodeRequest {
        NodeRequest { role, name: None, memory: None, cpu_millis: None }
    }
}

/// A cluster to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its name: lower-case letters, digits and `-`.
    pub name: String,
    /// Its network; the first free one of 10.5.0.0/24, 10.5.1.0/24 … by default.
    pub subnet: Option<Ipv4Net>,
    /// Its nodes.
    pub nodes: Vec<NodeRequest>,
    /// The root of every node: an EROFS image, or a directory.
    pub root: PathBuf,
    /// The image cache that every node sees, a directory.
    pub image_cache: Option<PathBuf>,
    /// The port on 127.0.0.1 that leads to the Kubernetes API; a free one by default.
    pub kubernetes_port: Option<u16>,
    /// The MTU of the cluster's network; the kernel's default when not given.
    pub mtu: Option<u32>,
}

impl Request {
    /// A cluster of so many nodes without anything particular.
    pub fn new(name: impl Into<String>, controlplanes: usize, workers: usize, root: impl Into<PathBuf>) -> Request {
        let of = |role, count| std::iter::repeat_with(move || NodeRequest::new(role)).take(count);
        Request {
            name: name.into(),
            subnet: None,
            nodes: of(Role::ControlPlane, controlplanes).chain(of(Role::Worker, workers)).collect(),
            root: root.into(),
            image_cache: None,
            kubernetes_port: None,
            mtu: None,
        }
    }

    /// Checks what can be checked without looking at the host.
    pub fn check(&self) -> Result<()> {
        check_name("cluster", &self.name, 40)?;
        for node in self.nodes.iter().filter_map(|node| node.name.as_ref()) {
            check_name("node", node, 63)?;
        }
        if !self.nodes.iter().any(|node| node.role == Role::ControlPlane) {
            return Err(Error::BadRequest(format!(
                "cluster {:?} was asked for without a control plane: it needs at least one (--controlplanes 1)",
                self.name
            )));
        }
        if let Some(subnet) = self.subnet {
            check_subnet(subnet, self.nodes.len())?;
        }
        for path in [Some(&self.root), self.image_cache.as_ref()].into_iter().flatten() {
            if !path.exists() {
                return Err(Error::BadRequest(format!("{} is not there: build it first (make images), or name another", path.display())));
            }
        }
        Ok(())
    }
}

/// A name that can be part of a host name and of a path.
pub fn check_name(what: &str, name: &str, longest: usize) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.is_empty() && name.len() <= longest && name.bytes().all(allowed) && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err(Error::BadRequest(format!(
        "{name:?} cannot be the name of a {what}: it takes 1 to {longest} lower-case letters, digits and '-', and no '-' at either end"
    )))
}

fn check_subnet(subnet: Ipv4Net, nodes: usize) -> Result<()> {
    let room = subnet.hosts().count().saturating_sub(1);
    if subnet.addr() != subnet.network() {
        return Err(Error::BadRequest(format!("{subnet} is an address in a network, not a network: say {}", subnet.trunc())));
    }
    if subnet.prefix_len() < 16 || room < nodes {
        return Err(Error::BadRequest(format!(
            "the network {subnet} cannot hold the cluster: its length must be 16 to 28 bits, with room for {nodes} nodes and the gateway (a /24 holds 253)"
        )));
    }
    if !subnet.addr().is_private() {
        return Err(Error::BadRequest(format!(
            "{subnet} is not a private network: choose one within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
        )));
    }
    Ok(())
}

/// Chooses the network: the one asked for, unless somebody uses it, else the first free /24 of 10.5.0.0/16. `taken` are networks with their
/// users.
pub(crate) fn choose_subnet(wanted: Option<Ipv4Net>, taken: &[(Ipv4Net, String)]) -> Result<Ipv4Net> {
    let user = |subnet: Ipv4Net| taken.iter().find(|(other, _)| other.contains(&subnet) || subnet.contains(other));
    let mut candidates = (0..=255u8).filter_map(|third| Ipv4Net::new(Ipv4Addr::new(10, 5, third, 0), 24).ok());
    let free = candidates.find(|subnet| user(*subnet).is_none());
    match (wanted, free) {
        (Some(wanted), free) => match user(wanted) {
            None => Ok(wanted),
            Some((other, by)) => {
                let hint = free.map_or("choose another (--cidr)".to_owned(), |free| format!("choose another, such as --cidr {free}"));
                Err(Error::BadRequest(format!("the network {wanted} is in use: {by} has {other}; {hint}")))
            }
        },
        (None, Some(free)) => Ok(free),
        (None, None) => Err(Error::BadRequest("all of 10.5.0.0/16 is in use: name a network (--cidr)".into())),
    }
}

/// The first address that no node has, after the gateway's.
pub(crate) fn free_address(cluster: &ClusterState) -> Result<Ipv4Addr> {
    let used = |address: &Ipv4Addr| *address == cluster.gateway || cluster.nodes.iter().any(|node| node.address == *address);
    cluster.subnet.hosts().find(|address| !used(address)).ok_or_else(|| {
        Error::BadRequest(format!(
            "the network {} of cluster {:?} is full with {} nodes",
            cluster.subnet,
            cluster.name,
            cluster.nodes.len()
        ))
    })
}

/// The name of a new node: the one asked for, else `CLUSTER-ROLE-N` with the lowest free N.
pub(crate) fn node_name(cluster: &ClusterState, request: &NodeRequest) -> Result<String> {
    let taken = |name: &str| cluster.nodes.iter().any(|node| node.name == name);
    if let Some(name) = &request.name {
        check_name("node", name, 63)?;
        if taken(name) {
            return Err(Error::BadRequest(format!("cluster {:?} has a node {name:?} already: choose another name", cluster.name)));
        }
        return Ok(name.clone());
    }
    let mut number = 1;
    loop {
        let name = format!("{}-{}-{number}", cluster.name, request.role);
        if !taken(&name) {
            return Ok(name);
        }
        number += 1;
    }
}

/// A port on 127.0.0.1 that is free now and not promised to anybody. Below the range from which the kernel takes the ports of outgoing
/// connections.
pub(crate) fn free_port(from: u16, promised: &[u16]) -> Result<u16> {
    (from..from.saturating_add(1000))
        .find(|port| !promised.contains(port) && port_is_free(*port))
        .ok_or_else(|| Error::BadRequest(format!("no port of 127.0.0.1 from {from} to {} is free: end what listens there", from + 999)))
}

/// True when nobody listens on this port of 127.0.0.1.
pub(crate) fn port_is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn bad_requests_teach() {
        let root = std::env::temp_dir();
        let good = Request::new("demo", 1, 1, &root);
        good.check().unwrap();
        let cases = [
            (Request { name: "Demo".into(), ..good.clone() }, "lower-case"),
            (Request { name: String::new(), ..good.clone() }, "1 to 40"),
            (Request { name: "../x".into(), ..good.clone() }, "lower-case"),
            (Request { name: "x".repeat(41), ..good.clone() }, "1 to 40"),
            (Request { nodes: vec![NodeRequest::new(Role::Worker)], ..good.clone() }, "control plane"),
            (Request { subnet: Some(net("10.5.0.7/24")), ..good.clone() }, "say 10.5.0.0/24"),
            (Request { subnet: Some(net("10.5.0.0/31")), ..good.clone() }, "cannot hold"),
            (Request { subnet: Some(net("10.0.0.0/8")), ..good.clone() }, "cannot hold"),
            (Request { subnet: Some(net("8.8.8.0/24")), ..good.clone() }, "private"),
            (Request { root: "/no/such/image".into(), ..good.clone() }, "/no/such/image"),
        ];
        for (request, word) in cases {
            let error = request.check().unwrap_err().to_string();
            assert!(error.contains(word), "{request:?}: {error}");
        }
    }

    #[test]
    fn networks_in_use_are_refused_or_stepped_over() {
        let taken = [(net("10.5.0.0/24"), "cluster demo".to_owned()), (net("10.5.1.0/25"), "eth1".to_owned())];
        assert_eq!(choose_subnet(None, &taken).unwrap(), net("10.5.2.0/24"));
        assert_eq!(choose_subnet(Some(net("10.6.0.0/24")), &taken).unwrap(), net("10.6.0.0/24"));
        let error = choose_subnet(Some(net("10.5.0.128/25")), &taken).unwrap_err().to_string();
        assert!(error.contains("cluster demo") && error.contains("--cidr 10.5.2.0/24"), "{error}");
        assert!(choose_subnet(Some(net("10.5.0.0/16")), &taken).is_err());
        assert!(choose_subnet(None, &[(net("10.0.0.0/8"), "eth0".into())]).is_err());
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!port_is_free(port));
        assert!(free_port(25000, &[]).unwrap() >= 25000);
        let first = free_port(25000, &[]).unwrap();
        assert_ne!(free_port(25000, &[first]).unwrap(), first);
    }
}
