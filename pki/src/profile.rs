//! Every certificate of a cluster: whose name it bears, what it is for, how long it lasts.

use std::time::Duration;

use jiff::Timestamp;

use crate::cert::{days, hours};
use crate::{Algorithm, Ca, Error, Extended, Issued, Name, Request, Roles, San, SignOptions};

/// Lifetime of authorities, and of etcd's certificates: ten years.
pub const LONG: Duration = hours(87600);
/// Lifetime of most Kubernetes certificates and of administrators' certificates: a year.
pub const YEAR: Duration = hours(8760);
/// Lifetime of certificates of the machine API: a day. They are renewed after half of it.
pub const DAY: Duration = days(1);

/// Authority of the machine API.
///
/// # Errors
/// When the system gives no random numbers (so for all here).
pub fn os_ca(now: Timestamp) -> Result<Ca, Error> {
    Ca::generate(&Name::new("", &["talos"]), Algorithm::Ed25519, LONG, now)
}

/// Authority of Kubernetes.
///
/// # Errors
/// When the system gives no random numbers.
pub fn kubernetes_ca(now: Timestamp) -> Result<Ca, Error> {
    Ca::generate(&Name::new("", &["kubernetes"]), Algorithm::P256, LONG, now)
}

/// Authority of etcd.
///
/// # Errors
/// When the system gives no random numbers.
pub fn etcd_ca(now: Timestamp) -> Result<Ca, Error> {
    Ca::generate(&Name::new("", &["etcd"]), Algorithm::P256, LONG, now)
}

/// Authority of the front proxy. Its name is empty, as it always was: certificates find it by its key id.
///
/// # Errors
/// When the system gives no random numbers.
pub fn aggregator_ca(now: Timestamp) -> Result<Ca, Error> {
    Ca::generate(&Name::default(), Algorithm::P256, LONG, now)
}

fn server(name: Name, sans: Vec<San>, lifetime: Duration) -> Request {
    Request { name, sans, extended: vec![Extended::Server], key_encipherment: false, lifetime }
}

fn client(common_name: &str, organizations: &[&str], lifetime: Duration) -> Request {
    Request {
        name: Name::new(common_name, organizations),
        sans: Vec::new(),
        extended: vec![Extended::Client],
        key_encipherment: false,
        lifetime,
    }
}

/// A client of the machine API with roles: what a context of the command line holds.
#[must_use]
pub fn api_client(roles: &Roles, lifetime: Duration) -> Request {
    let names = roles.names();
    client("", &names.iter().map(String::as_str).collect::<Vec<_>>(), lifetime)
}

/// The machine API's server certificate on a control plane. `sans`: the configured ones, the node's addresses, loopback, host name, FQDN.
#[must_use]
pub fn apid_server(fqdn: &str, sans: Vec<San>) -> Request {
    server(Name::new(fqdn, &[]), sans, DAY)
}

/// The certificate with which a control plane's API process speaks to other nodes for its clients.
#[must_use]
pub fn apid_client(fqdn: &str) -> Request {
    client(fqdn, &["os:impersonator"], DAY)
}

/// What trustd grants a worker that asks: a server certificate without roles.
#[must_use]
pub fn apid_worker() -> SignOptions {
    SignOptions { extended: vec![Extended::Server], lifetime: DAY, keep_organizations: false, key_encipherment: false }
}

/// trustd's server certificate.
#[must_use]
pub fn trustd_server(fqdn: &str, sans: Vec<San>) -> Request {
    Request { key_encipherment: true, ..server(Name::new(fqdn, &[]), sans, DAY) }
}

/// The machine API's certificate while there is no configuration, from an authority made for it in memory.
///
/// # Errors
/// When the system gives no random numbers.
pub fn maintenance(mut sans: Vec<San>, now: Timestamp) -> Result<(Ca, Issued), Error> {
    let ca = Ca::generate(&Name::new("", &["talos"]), Algorithm::Ed25519, DAY, now)?;
    sans.push(San::Dns("maintenance-service.talos.dev".to_owned()));
    let issued = ca.issue(&server(Name::new("maintenance-service.talos.dev", &[]), sans, DAY), now)?;
    Ok((ca, issued))
}

/// etcd's server certificate.
#[must_use]
pub fn etcd_server(hostname: &str, mut sans: Vec<San>) -> Request {
    for loopback in ["127.0.0.1", "::1", "localhost"].map(San::parse) {
        if !sans.contains(&loopback) {
            sans.push(loopback);
        }
    }
    etcd_peer(hostname, sans)
}

/// etcd's certificate between members.
#[must_use]
pub fn etcd_peer(hostname: &str, sans: Vec<San>) -> Request {
    Request { extended: vec![Extended::Server, Extended::Client], key_encipherment: false, ..server(Name::new(hostname, &[]), sans, LONG) }
}

/// The machine's own client certificate for etcd.
#[must_use]
pub fn etcd_admin() -> Request {
    client("talos", &[], LONG)
}

/// kube-apiserver's client certificate for etcd.
#[must_use]
pub fn etcd_api_server() -> Request {
    client("kube-apiserver", &[], LONG)
}

/// kube-apiserver's server certificate.
#[must_use]
pub fn kube_api_server(sans: Vec<San>) -> Request {
    server(Name::new("kube-apiserver", &["kube-master"]), sans, YEAR)
}

/// kube-apiserver's client certificate for kubelets.
#[must_use]
pub fn api_server_kubelet_client() -> Request {
    client("apiserver-kubelet-client", &["system:masters"], YEAR)
}

/// The front proxy's client certificate (signed by the aggregator's authority).
#[must_use]
pub fn front_proxy_client() -> Request {
    client("front-proxy-client", &[], YEAR)
}

/// kube-controller-manager's client certificate.
#[must_use]
pub fn controller_manager() -> Request {
    client("system:kube-controller-manager", &["system:kube-controller-manager"], YEAR)
}

/// kube-scheduler's client certificate.
#[must_use]
pub fn scheduler() -> Request {
    client("system:kube-scheduler", &["system:kube-scheduler"], YEAR)
}

/// A Kubernetes administrator's client certificate, for kubeconfigs.
#[must_use]
pub fn kubernetes_admin(lifetime: Duration) -> Request {
    client("admin", &["system:masters"], lifetime)
}

/// The machine's own client certificate for Kubernetes.
#[must_use]
pub fn machine_admin() -> Request {
    client("talos:admin", &["system:masters"], YEAR)
}

/// A node's client certificate: what its kubelet would get by the bootstrap token.
#[must_use]
pub fn kubelet_client(node: &str) -> Request {
    client(&format!("system:node:{node}"), &["system:nodes"], YEAR)
}
