//! Where a call goes: a pure function of its metadata, its method and what this node can do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::roles;
use http::HeaderMap;
use tonic::Status;

/// What this node can do with calls for others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routing {
    /// Every call is served here (maintenance mode).
    pub(crate) disabled: bool,
    /// There is a client certificate to call other nodes with (control planes have one).
    pub(crate) can_forward: bool,
    /// This node's addresses.
    pub(crate) local: Vec<IpAddr>,
}

/// Where one call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To this node, replies as they are.
    Local,
    /// To that node, replies as they are.
    One(String),
    /// To each of these (as the caller wrote them), replies merged.
    Many(Vec<String>),
}

/// The most nodes one call may name.
const MAX_NODES: usize = 1024;

/// Decides. `nodes` wins over `node`; a call that came through another apid stays here.
///
/// # Errors
/// The status for the caller.
pub(crate) fn route(headers: &HeaderMap, path: &str, routing: &Routing) -> Result<Route, Status> {
    if routing.disabled || headers.contains_key("proxyfrom") {
        return Ok(Route::Local);
    }
    let nodes = values(headers, "nodes")?;
    let node = values(headers, "node")?;
    if let [first, ..] = &nodes[..] {
        if !routing.can_forward {
            return if nodes.len() == 1 && routing.is_local(first) { Ok(Route::Local) } else { Err(no_forwarding()) };
        }
        if !roles::one_to_many(path) {
            return Err(Status::invalid_argument(format!("one-2-many proxying is not supported for method {path}")));
        }
        if nodes.len() > MAX_NODES {
            return Err(Status::invalid_argument(format!("{} nodes in one call: at most {MAX_NODES} are accepted", nodes.len())));
        }
        return Ok(Route::Many(nodes));
    }
    match <[String; 1]>::try_from(node) {
        Ok([one]) if routing.is_local(&one) => Ok(Route::Local),
        Ok([_]) if !routing.can_forward => Err(no_forwarding()),
        Ok([one]) => Ok(Route::One(one)),
        Err(none) if none.is_empty() => Ok(Route::Local),
        Err(_) => Err(Status::invalid_argument("node metadata must be single-valued")),
    }
}

fn no_forwarding() -> Status {
    Status::permission_denied("no request forwarding")
}

fn values(headers: &HeaderMap, key: &str) -> Result<Vec<String>, Status> {
    let text = |v: &http::HeaderValue| v.to_str().map(str::to_owned);
    headers
        .get_all(key)
        .iter()
        .map(|v| text(v).map_err(|_| Status::invalid_argument(format!("{key} metadata holds characters that no host name has"))))
        .collect()
}

impl Routing {
    /// Whether `target` names this node by address.
    pub(crate) fn is_local(&self, target: &str) -> bool {
        let Ok(ip) = target.parse::<IpAddr>() else { return false };
        ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST || self.local.contains(&ip)
    }
}

/// A node to forward to: a bare address or host name.
///
/// # Errors
/// `Internal`, as the peer answers, when it is empty or has a port.
pub(crate) fn host(target: &str) -> Result<&str, Status> {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    let good = target.parse::<IpAddr>().is_ok() || (!target.is_empty() && target.chars().all(name));
    if good {
        return Ok(target);
    }
    Err(Status::internal(format!("invalid target {target:?}: expected a host name or an address, without a port")))
}
