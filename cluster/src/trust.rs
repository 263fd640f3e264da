//! Trust: the root secrets of a configuration, and the certificates of the node's own API that follow from them.
//!
//! A control plane signs for itself. A worker holds no CA key: it asks a control plane's trustd through a [`Join`]. Without a
//! configuration the API is served with a certificate of an authority made in memory.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use engine::{Context, Controller, Inputs, One, OneExt as _, Outputs, Wanted};
use model::cluster::{ApiCertificate, CertSan, OsRootSecret, TrustdCertificate};
use model::host::{ApiServiceConfig, MachineConfig, MachineRole, MachineType, MaintenanceServiceRequest};
use model::kube::Endpoint;
use model::net::{HostnameStatus, NodeAddress};
use pki::{Algorithm, Ca, Csr, Issued, Name, PrivateKey, San, profile};
use resource::{PemCert, PemPair};

/// Certificates live for 24 hours and are made anew after half of that.
const RENEW_AFTER: Duration = Duration::from_secs(12 * 3600);
/// How long a worker waits before it asks again for a certificate.
const JOIN_AGAIN: Duration = Duration::from_secs(2);
/// How long one attempt may take: the control planes that discovery finds meanwhile are asked in the next.
const JOIN_ATTEMPT: Duration = Duration::from_secs(6);

fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

fn pair(issued: &Issued) -> PemPair {
    PemPair::new(issued.cert.as_bytes().to_vec(), issued.key.as_bytes().to_vec())
}

fn bundle(certs: &[PemCert]) -> String {
    certs.iter().map(|c| String::from_utf8_lossy(&c.crt.0).trim_end().to_owned() + "\n").collect()
}

/// The root secrets of the node's own API.
#[derive(Debug, Default)]
pub struct RootSecrets;

/// The configuration.
#[derive(Inputs)]
pub struct RootIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
}

fn root_secret(config: &model::config::MachineConfig) -> OsRootSecret {
    let base = &config.base;
    let pem = |text: &str| PemCert { crt: text.as_bytes().to_vec().into() };
    let mut accepted: Vec<String> = base.ca.iter().map(|ca| ca.cert.clone()).collect();
    accepted.extend(base.accepted_cas.iter().cloned());
    let (ips, names): (Vec<San>, Vec<San>) = base.cert_sans.iter().map(|s| San::parse(s)).partition(|s| matches!(s, San::Ip(_)));
    // A worker's configuration holds the authority's certificate without its key.
    let issuing = base.ca.as_ref().filter(|ca| !ca.key.expose().is_empty());
    OsRootSecret {
        issuing_ca: issuing.map(|ca| PemPair::new(ca.cert.as_bytes().to_vec(), ca.key.expose().as_bytes().to_vec())),
        accepted_cas: accepted.iter().map(|text| pem(text)).collect(),
        cert_san_ips: ips.into_iter().filter_map(|s| if let San::Ip(ip) = s { Some(ip) } else { None }).collect(),
        cert_san_dns_names: names.into_iter().filter_map(|s| if let San::Dns(name) = s { Some(name) } else { None }).collect(),
        token: base.token.expose().to_owned(),
    }
}

impl Controller for RootSecrets {
    const NAME: &'static str = "secrets.RootOSController";
    type In = RootIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<OsRootSecret>()
    }

    async fn reconcile(&self, _: &Context, input: RootIn) -> engine::Result<Wanted> {
        let config = input.config.spec().and_then(MachineConfig::machine).filter(|c| c.is_complete());
        Ok(Wanted::new().maybe("os", config.map(root_secret)))
    }
}

/// The names and addresses that the API's certificate is for.
#[derive(Debug, Default)]
pub struct ApiSans;

/// Where the node can be reached.
#[derive(Inputs)]
pub struct SansIn {
    #[input(id = "os")]
    root: One<OsRootSecret>,
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
    #[input(id = "accumulative")]
    addresses: One<NodeAddress>,
    /// Without those of pods and services, once the configuration says which these are: they come and go.
    #[input(id = "accumulative-no-k8s")]
    own_addresses: One<NodeAddress>,
}

fn fqdn(status: &HostnameStatus) -> String {
    if status.domainname.is_empty() { status.hostname.clone() } else { format!("{}.{}", status.hostname, status.domainname) }
}

fn sans(root: &OsRootSecret, hostname: &HostnameStatus, addresses: &NodeAddress) -> CertSan {
    let own = addresses.addresses.iter().map(ipnet::IpNet::addr);
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    let ips: BTreeSet<IpAddr> = root.cert_san_ips.iter().copied().chain(own).chain(loopback).collect();
    let mut names: Vec<String> = root.cert_san_dns_names.clone();
    names.extend([hostname.hostname.clone(), fqdn(hostname), "localhost".to_owned()]);
    let mut seen = BTreeSet::new();
    names.retain(|n| !n.is_empty() && seen.insert(n.clone()));
    CertSan { ips: ips.into_iter().collect(), dns_names: names, fqdn: fqdn(hostname) }
}

impl Controller for ApiSans {
    const NAME: &'static str = "secrets.APICertSANsController";
    type In = SansIn;

    fn outputs() -> Outputs {
        Outputs::new().shared::<CertSan>()
    }

    async fn reconcile(&self, _: &Context, input: SansIn) -> engine::Result<Wanted> {
        let addresses = input.own_addresses.spec().or(input.addresses.spec());
        let (Some(hostname), Some(addresses)) = (input.hostname.spec(), addresses) else {
            return Ok(Wanted::unknown("the node's host name and addresses"));
        };
        let root = input.root.spec().cloned().unwrap_or_default();
        Ok(Wanted::new().with("api", sans(&root, hostname, addresses)))
    }
}

/// Asks a control plane to sign a worker's certificate.
#[async_trait]
pub trait Join: Send + Sync + 'static {
    /// Asks one of the endpoints; the accepted CAs and the certificate, PEM.
    async fn join(&self, request: JoinRequest) -> Result<(Vec<u8>, Vec<u8>), String>;
}

/// What a worker asks with.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The control planes.
    pub endpoints: Vec<String>,
    /// The join token.
    pub token: String,
    /// The certificate request, PEM.
    pub csr: String,
    /// Who must have signed trustd's certificate, PEM.
    pub accepted_cas: String,
}

/// The certificates of the API.
pub struct ApiCertificates {
    join: Arc<dyn Join>,
    /// The last ones, with what they were made for, and when.
    made: Mutex<Option<(Basis, Duration, ApiCertificate)>>,
}

/// What certificates depend on: a change makes new ones.
#[derive(Debug, Clone, PartialEq)]
struct Basis {
    role: Option<MachineRole>,
    root: OsRootSecret,
    sans: CertSan,
}

impl ApiCertificates {
    /// Certificates; a worker's come through `join`.
    pub fn new(join: Arc<dyn Join>) -> Self {
        Self { join, made: Mutex::new(None) }
    }

    fn kept(&self, basis: &Basis, elapsed: Duration) -> Option<ApiCertificate> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.as_ref()
            .filter(|(for_basis, at, _)| for_basis == basis && elapsed.saturating_sub(*at) < RENEW_AFTER)
            .map(|(_, _, c)| c.clone())
    }

    async fn make(&self, basis: &Basis, endpoints: &[String]) -> Result<ApiCertificate, engine::Error> {
        match (basis.role, &basis.root.issuing_ca) {
            (None, _) => maintenance(&basis.sans),
            (Some(_), Some(ca)) => control_plane(&basis.root, ca, &basis.sans),
            (Some(_), None) => self.worker(basis, endpoints).await,
        }
    }

    async fn worker(&self, basis: &Basis, endpoints: &[String]) -> Result<ApiCertificate, engine::Error> {
        let key = PrivateKey::generate(Algorithm::Ed25519)?;
        let csr = Csr::create(&Name::new(basis.sans.fqdn.clone(), &[]), &all_sans(&basis.sans), &key)?;
        let accepted_cas = bundle(&basis.root.accepted_cas);
        let request = JoinRequest { endpoints: endpoints.to_vec(), token: basis.root.token.clone(), csr, accepted_cas };
        let endpoints = request.endpoints.join(", ");
        let late =
            |_| engine::Error::msg(format!("no control plane of {endpoints} signed a certificate within {} s", JOIN_ATTEMPT.as_secs()));
        let (_, crt) = tokio::time::timeout(JOIN_ATTEMPT, self.join.join(request)).await.map_err(late)?.map_err(engine::Error::msg)?;
        Ok(ApiCertificate {
            accepted_cas: basis.root.accepted_cas.clone(),
            client: None,
            server: Some(PemPair::new(crt, key.to_pem().as_bytes().to_vec())),
            skip_verifying_client_cert: false,
        })
    }
}

fn all_sans(sans: &CertSan) -> Vec<San> {
    sans.ips.iter().copied().map(San::Ip).chain(sans.dns_names.iter().cloned().map(San::Dns)).collect()
}

fn maintenance(sans: &CertSan) -> Result<ApiCertificate, engine::Error> {
    let (ca, issued) = profile::maintenance(all_sans(sans), now())?;
    Ok(ApiCertificate {
        accepted_cas: vec![PemCert { crt: ca.certificate().to_pem().into_bytes().into() }],
        client: None,
        server: Some(pair(&issued)),
        skip_verifying_client_cert: true,
    })
}

fn authority(ca: &PemPair) -> Result<Ca, engine::Error> {
    Ok(Ca::from_pem(&String::from_utf8_lossy(&ca.crt.0), &String::from_utf8_lossy(&ca.key.0))?)
}

fn control_plane(root: &OsRootSecret, ca: &PemPair, sans: &CertSan) -> Result<ApiCertificate, engine::Error> {
    let ca = authority(ca)?;
    let server = ca.issue(&profile::apid_server(&sans.fqdn, all_sans(sans)), now())?;
    let client = ca.issue(&profile::apid_client(&sans.fqdn), now())?;
    Ok(ApiCertificate {
        accepted_cas: root.accepted_cas.clone(),
        client: Some(pair(&client)),
        server: Some(pair(&server)),
        skip_verifying_client_cert: false,
    })
}

/// What the API's certificates are made from.
#[derive(Inputs)]
pub struct CertificatesIn {
    #[input(id = "machine-type")]
    machine_type: One<MachineType>,
    #[input(id = "maintenance")]
    maintenance: One<MaintenanceServiceRequest>,
    #[input(id = "os")]
    root: One<OsRootSecret>,
    #[input(id = "api")]
    sans: One<CertSan>,
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    endpoints: engine::Many<Endpoint>,
}

/// The control planes that a worker may ask: those that others found, and the cluster's endpoint.
fn join_endpoints(input: &CertificatesIn) -> Vec<String> {
    let found = input.endpoints.specs().flat_map(|e| e.addresses.iter().map(ToString::to_string).chain(e.hosts.iter().cloned()));
    let mut all: Vec<String> = found.collect();
    let config = input.config.spec().and_then(MachineConfig::machine);
    all.extend(config.and_then(model::config::MachineConfig::endpoint).map(|url| url.host().trim_matches(['[', ']']).to_owned()));
    let mut seen = BTreeSet::new();
    all.retain(|e| seen.insert(e.clone()));
    all
}

impl Controller for ApiCertificates {
    const NAME: &'static str = "secrets.APIController";
    const TIMEOUT: Duration = Duration::from_secs(60);
    type In = CertificatesIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<ApiCertificate>()
    }

    async fn reconcile(&self, ctx: &Context, input: CertificatesIn) -> engine::Result<Wanted> {
        let Some(sans) = input.sans.spec() else { return Ok(Wanted::unknown("the names of the API's certificate")) };
        let role = input.machine_type.spec().map(|t| t.role);
        let root = match (role, input.root.spec()) {
            (Some(_), Some(root)) => root.clone(),
            (Some(_), None) => return Ok(Wanted::unknown("the root secrets of the configuration")),
            (None, _) if input.maintenance.is_some() => OsRootSecret::default(),
            (None, _) => return Ok(Wanted::unknown("a configuration, or that there is none")),
        };
        let basis = Basis { role, root, sans: sans.clone() };
        let certificate = match self.kept(&basis, ctx.elapsed()) {
            Some(kept) => kept,
            None => {
                let made = match self.make(&basis, &join_endpoints(&input)).await {
                    Ok(made) => made,
                    Err(error) => {
                        ctx.wake_after(JOIN_AGAIN);
                        return Err(error);
                    }
                };
                *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some((basis, ctx.elapsed(), made.clone()));
                made
            }
        };
        ctx.wake_after(RENEW_AFTER);
        Ok(Wanted::new().with("api", certificate))
    }
}

/// trustd's certificate.
#[derive(Debug, Default)]
pub struct TrustdCertificates {
    made: Mutex<Option<(Basis, Duration, TrustdCertificate)>>,
}

/// What trustd's certificate is made from.
#[derive(Inputs)]
pub struct TrustdIn {
    #[input(id = "machine-type")]
    machine_type: One<MachineType>,
    #[input(id = "os")]
    root: One<OsRootSecret>,
    #[input(id = "api")]
    sans: One<CertSan>,
}

impl Controller for TrustdCertificates {
    const NAME: &'static str = "secrets.TrustdController";
    type In = TrustdIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<TrustdCertificate>()
    }

    async fn reconcile(&self, ctx: &Context, input: TrustdIn) -> engine::Result<Wanted> {
        let (Some(root), Some(sans)) = (input.root.spec(), input.sans.spec()) else {
            return Ok(Wanted::unknown("the root secrets and names"));
        };
        let Some(ca) = &root.issuing_ca else { return Ok(Wanted::new()) };
        let basis = Basis { role: input.machine_type.spec().map(|t| t.role), root: root.clone(), sans: sans.clone() };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = made.as_ref().filter(|(for_basis, at, _)| *for_basis == basis && ctx.elapsed().saturating_sub(*at) < RENEW_AFTER);
        let certificate = match fresh {
            Some((_, _, kept)) => kept.clone(),
            None => {
                let server = authority(ca)?.issue(&profile::trustd_server(&sans.fqdn, all_sans(sans)), now())?;
                TrustdCertificate { accepted_cas: root.accepted_cas.clone(), server: Some(pair(&server)) }
            }
        };
        if fresh.is_none() {
            *made = Some((basis, ctx.elapsed(), certificate.clone()));
        }
        ctx.wake_after(RENEW_AFTER);
        Ok(Wanted::new().with("trustd", certificate))
    }
}

/// How apid shall serve.
#[derive(Debug, Default)]
pub struct ApiService;

/// Whether there is a configuration.
#[derive(Inputs)]
pub struct ServiceIn {
    #[input(id = "machine-type")]
    machine_type: One<MachineType>,
    #[input(id = "maintenance")]
    maintenance: One<MaintenanceServiceRequest>,
}

impl Controller for ApiService {
    const NAME: &'static str = "runtime.APIServiceConfigController";
    type In = ServiceIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<ApiServiceConfig>()
    }

    async fn reconcile(&self, _: &Context, input: ServiceIn) -> engine::Result<Wanted> {
        let maintenance = match (input.machine_type.is_some(), input.maintenance.is_some()) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => return Ok(Wanted::unknown("a configuration, or that there is none")),
        };
        let config = ApiServiceConfig {
            listen_address: ":50000".into(),
            node_routing_disabled: maintenance,
            readonly_role_mode: maintenance,
            skip_verifying_client_cert: maintenance,
        };
        Ok(Wanted::new().with("apid", config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::one;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn addresses() -> NodeAddress {
        NodeAddress { addresses: vec!["10.5.0.2/24".parse().unwrap()], ..NodeAddress::default() }
    }

    fn hostname() -> HostnameStatus {
        HostnameStatus { hostname: "cp-1".into(), domainname: "example".into() }
    }

    fn root_with_key() -> OsRootSecret {
        let ca = profile::os_ca(now()).unwrap();
        let crt = ca.certificate().to_pem();
        let key = ca.key().to_pem();
        OsRootSecret {
            issuing_ca: Some(PemPair::new(crt.as_bytes().to_vec(), key.as_bytes().to_vec())),
            accepted_cas: vec![PemCert { crt: crt.into_bytes().into() }],
            token: "abcdef.0123456789abcdef".into(),
            ..OsRootSecret::default()
        }
    }

    struct Refusing(AtomicUsize);

    #[async_trait]
    impl Join for Refusing {
        async fn join(&self, request: JoinRequest) -> Result<(Vec<u8>, Vec<u8>), String> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(format!("no control plane answers at {}", request.endpoints.join(", ")))
        }
    }

    fn input(role: Option<MachineRole>, root: Option<OsRootSecret>) -> CertificatesIn {
        CertificatesIn {
            machine_type: role.and_then(|role| one("machine-type", MachineType { role })),
            maintenance: if role.is_none() { one("maintenance", MaintenanceServiceRequest::default()) } else { None },
            root: root.and_then(|r| one("os", r)),
            sans: one("api", sans(&OsRootSecret::default(), &hostname(), &addresses())),
            config: None,
            endpoints: engine::Many::of([("discovery", Endpoint { addresses: vec!["10.5.0.2".parse().unwrap()], hosts: vec![] })]),
        }
    }

    #[test]
    fn the_certificate_is_for_all_the_node_s_names() {
        let root = OsRootSecret {
            cert_san_ips: vec!["192.0.2.9".parse().unwrap()],
            cert_san_dns_names: vec!["api.example".into()],
            ..OsRootSecret::default()
        };
        let sans = sans(&root, &hostname(), &addresses());
        assert_eq!(sans.dns_names, ["api.example", "cp-1", "cp-1.example", "localhost"]);
        let ips: Vec<String> = sans.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.5.0.2", "127.0.0.1", "192.0.2.9", "::1"]);
    }

    #[tokio::test]
    async fn a_control_plane_signs_for_itself_and_does_not_sign_again_without_need() {
        let controller = ApiCertificates::new(Arc::new(Refusing(AtomicUsize::new(0))));
        let root = root_with_key();
        let first = controller.reconcile(&Context::detached(), input(Some(MachineRole::ControlPlane), Some(root.clone()))).await.unwrap();
        let first = first.get::<ApiCertificate>("api").unwrap().clone();
        assert!(first.client.is_some() && !first.skip_verifying_client_cert);
        let again = controller.reconcile(&Context::detached(), input(Some(MachineRole::ControlPlane), Some(root))).await.unwrap();
        assert_eq!(again.get::<ApiCertificate>("api").unwrap(), &first);
    }

    #[tokio::test]
    async fn a_worker_asks_and_says_whom() {
        let join = Arc::new(Refusing(AtomicUsize::new(0)));
        let controller = ApiCertificates::new(join.clone());
        let root = OsRootSecret { issuing_ca: None, ..root_with_key() };
        let error = controller.reconcile(&Context::detached(), input(Some(MachineRole::Worker), Some(root))).await.unwrap_err();
        assert_eq!(error.to_string(), "no control plane answers at 10.5.0.2");
        assert_eq!(join.0.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn without_a_configuration_the_api_asks_for_no_client_certificate() {
        let controller = ApiCertificates::new(Arc::new(Refusing(AtomicUsize::new(0))));
        let wanted = controller.reconcile(&Context::detached(), input(None, None)).await.unwrap();
        let certificate = wanted.get::<ApiCertificate>("api").unwrap();
        assert!(certificate.skip_verifying_client_cert && certificate.client.is_none());
    }
}
