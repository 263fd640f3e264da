//! machined's side: whether a joining worker gets its certificate, and what may stand in it.
//!
//! [`sign`] decides, purely; [`Service`] feeds it with resources and answers trustd over the Unix socket.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use api::{
    orlop::trust::v1::{SignRequest, SignResponse, trust_service_server},
    server::Peer,
};
use jiff::Timestamp;
use model::cluster::{Member, OsRootSecret};
use pki::{Ca, Csr, San, profile};
use resource::{State, StateExt as _};
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use super::server::USER;

/// What a worker asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// The join token it showed.
    pub(crate) token: &'a str,
    /// Its certificate request, PEM.
    pub(crate) csr: &'a str,
    /// The address its connection came from.
    pub(crate) peer: IpAddr,
}

/// What this control plane decides and signs with.
pub(crate) struct Authority<'a> {
    /// The join token.
    pub(crate) token: &'a str,
    /// The CA of the machine API.
    pub(crate) ca: &'a Ca,
    /// Host names, in lower case, that belong to others: control planes, the cluster's endpoint, other members.
    pub(crate) taken: &'a BTreeSet<String>,
}

/// Why a worker gets no certificate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not the token of this cluster.
    #[error("invalid token: expected the machine.token of this cluster's control planes; compare it with the worker's configuration")]
    Token,
    /// The request itself.
    #[error("{0}")]
    Request(#[from] pki::Error),
}

/// Names that stand for services of the cluster: no worker may have them.
const RESERVED: [&str; 4] = ["kubernetes", "talos", "orlop", "maintenance-service.talos.dev"];

/// Signs a worker's request: a server certificate for a day, without organisations (they would be roles), for the address the
/// worker has, loopback, and host names that are nobody else's. Other addresses and names asked for are left out.
///
/// # Errors
/// When the token is wrong, or the request is broken or leaves nothing to sign for.
pub(crate) fn sign(ask: &Ask<'_>, authority: &Authority<'_>, now: Timestamp) -> Result<String, Refusal> {
    if !same(ask.token, authority.token) {
        return Err(Refusal::Token);
    }
    let csr = Csr::from_pem(ask.csr)?;
    let peer = ask.peer.to_canonical();
    let allowed = |san: &San| match san {
        San::Ip(ip) => [peer, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].contains(&ip.to_canonical()),
        San::Dns(name) => may_claim(name, authority.taken),
    };
    Ok(csr.sign(authority.ca, &profile::apid_worker(), allowed, now)?.to_pem())
}

/// Compares in a time that says nothing about where they differ. No token at all is never right.
fn same(given: &str, expected: &str) -> bool {
    let (a, b) = (Sha256::digest(given), Sha256::digest(expected));
    let difference = a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y));
    !expected.is_empty() && difference == 0
}

/// Whether a worker may carry a host name: a plain one that belongs to nobody else.
fn may_claim(name: &str, taken: &BTreeSet<String>) -> bool {
    let name = name.trim_end_matches('.').to_lowercase();
    let plain = |label: &str| {
        let inside = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        (1..=63).contains(&label.len()) && inside && !label.starts_with('-') && !label.ends_with('-')
    };
    let reserved = RESERVED.iter().any(|r| name == *r || name.strip_prefix(r).is_some_and(|rest| rest.starts_with('.')));
    // "A.B" may not be claimed by who may not claim "A": a short name and its long form mean the same node.
    let short = name.split('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(plain) && !reserved && !taken.contains(&name) && !taken.contains(short)
}

/// Answers trustd with the secrets and members that the resources hold.
#[derive(Clone)]
pub(crate) struct Service {
    state: Arc<dyn State>,
}

impl Service {
    /// Over machined's own state.
    pub(crate) fn new(state: Arc<dyn State>) -> Service {
        Service { state }
    }

    async fn answer(&self, request: &SignRequest) -> Result<SignResponse, Status> {
        let peer: IpAddr = request
            .peer_address
            .parse()
            .map_err(|_| Status::invalid_argument(format!("peer address {:?}: expected an IP address", request.peer_address)))?;
        let csr = std::str::from_utf8(&request.csr).map_err(|_| Status::invalid_argument("the certificate request is no PEM"))?;
        let broken = |e: resource::Error| Status::unavailable(e.to_string());
        let not_ready = || Status::unavailable("this control plane has no CA yet; try again in a moment");
        let root = self.state.get_as::<OsRootSecret>("os").await.map_err(broken)?.ok_or_else(not_ready)?;
        let pair = root.spec.issuing_ca.as_ref().ok_or_else(not_ready)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ca = Ca::from_pem(&text(&pair.crt), &text(&pair.key))
            .map_err(|e| Status::internal(format!("this control plane's CA cannot be used: {e}")))?;
        let members = self.state.list_as::<Member>().await.map_err(broken)?;
        let taken = taken(&root.spec, members.iter().map(|m| &m.spec), peer);
        let authority = Authority { token: &root.spec.token, ca: &ca, taken: &taken };
        let ask = Ask { token: &request.token, csr, peer };
        match sign(&ask, &authority, Timestamp::now()) {
            Ok(crt) => {
                tracing::info!(%peer, "signed a worker's certificate");
                let accepted = root.spec.accepted_cas.iter().flat_map(|ca| [&ca.crt[..], b"\n"].concat()).collect();
                Ok(SignResponse { ca: accepted, crt: crt.into_bytes() })
            }
            Err(refusal) => {
                tracing::warn!(%peer, %refusal, "refused a worker's certificate request");
                Err(match refusal {
                    Refusal::Token => Status::unauthenticated(refusal.to_string()),
                    Refusal::Request(_) => Status::invalid_argument(refusal.to_string()),
                })
            }
        }
    }
}

/// Host names that the worker at `peer` may not have.
fn taken<'a>(root: &OsRootSecret, members: impl Iterator<Item = &'a Member>, peer: IpAddr) -> BTreeSet<String> {
    let others = members.filter(|m| !m.addresses.contains(&peer)).map(|m| m.hostname.as_str());
    let names = root.cert_san_dns_names.iter().map(String::as_str).chain(others);
    let mut taken = BTreeSet::new();
    for name in names.filter(|n| !n.is_empty()) {
        let name = name.to_lowercase();
        taken.insert(name.split('.').next().unwrap_or_default().to_owned());
        taken.insert(name);
    }
    taken
}

#[tonic::async_trait]
impl trust_service_server::TrustService for Service {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let caller = request.extensions().get::<Peer>().and_then(|p| p.cred).map(|c| c.uid());
        if !caller.is_some_and(|uid| uid == USER || uid == 0) {
            return Err(Status::permission_denied("not authorized"));
        }
        self.answer(request.get_ref()).await.map(Response::new)
    }
}
