//! Certificates and kubeconfigs of the control plane and of etcd, issued here from the roots and
//! renewed at half of their life.
//!
//! Each controller reads what it issued before: a certificate is kept as long as it is of the right
//! authority, for the right names, and young enough. So a restart of the brain changes nothing.

use std::net::IpAddr;
use std::time::Duration;

use engine::{Context, Controller, Inputs, One, OneExt, Outputs, Wanted};
use jiff::Timestamp;
use model::cluster::CertSan;
use model::host::TimeStatus;
use model::kube as kinds;
use model::net::{HostnameStatus, NodeAddress};
use pki::{Ca, Certificate, Issued, Request, San};
use resource::PemPair;

use super::Room;
use crate::kubeconfig::{Authorities, Credentials, Kubeconfig};

/// How often certificates are looked at.
const LOOK: Duration = Duration::from_secs(3600);

/// What is wrong with a root secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("{which}: {source}")]
    Pki { which: &'static str, source: pki::Error },
    #[error("{which} has no certificate or key")]
    Missing { which: &'static str },
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn ca(which: &'static str, pair: Option<&PemPair>) -> Result<Ca, CertificateError> {
    let pair = pair.ok_or(CertificateError::Missing { which })?;
    Ca::from_pem(&text(&pair.crt), &text(&pair.key)).map_err(|source| CertificateError::Pki { which, source })
}

fn pair_of(issued: &Issued) -> PemPair {
    PemPair::new(issued.cert.as_bytes().to_vec(), issued.key.as_bytes().to_vec())
}

/// Whether a certificate issued before still serves: same authority, same holder, the same names,
/// and less than half of its life gone.
pub fn still_good(current: &str, authority: &Ca, wanted: &Request, now: Timestamp) -> bool {
    let Ok(certificate) = Certificate::from_pem(current) else {
        return false;
    };
    let usage = wanted.extended.first().copied().unwrap_or(pki::Extended::Client);
    let Ok(identity) = authority.verify(&certificate, usage, now) else {
        return false;
    };
    let mut have = identity.sans.clone();
    let mut want = wanted.sans.clone();
    have.sort();
    have.dedup();
    want.sort();
    want.dedup();
    let life = identity.not_after.as_second() - identity.not_before.as_second();
    let age = now.as_second() - identity.not_before.as_second();
    identity.name == wanted.name && have == want && age < life / 2
}

/// Keeps what is good and issues the rest.
fn keep_or_issue(
    which: &'static str,
    current: Option<&PemPair>,
    authority: &Ca,
    wanted: &Request,
    now: Timestamp,
) -> Result<PemPair, CertificateError> {
    if let Some(current) = current
        && still_good(&text(&current.crt), authority, wanted, now)
    {
        return Ok(current.clone());
    }
    let issued = authority.issue(wanted, now).map_err(|source| CertificateError::Pki { which, source })?;
    Ok(pair_of(&issued))
}

/// A clock that is wrong makes certificates that are not valid yet, or not any more.
pub(crate) fn clock_is_right(room: &Room, time: &One<TimeStatus>) -> bool {
    match time.spec() {
        Some(time) => time.synced || time.sync_disabled,
        // A container node has its host's clock.
        None => room.limits.container,
    }
}

pub(crate) fn now(ctx: &Context) -> Timestamp {
    ctx.now().to_jiff().unwrap_or_else(Timestamp::now)
}

pub(crate) fn addresses(list: &One<NodeAddress>) -> Vec<IpAddr> {
    list.spec().map(|list| list.addresses.iter().map(|net| net.addr()).collect()).unwrap_or_default()
}

/// Inputs of [`CertSans`].
#[derive(Inputs)]
pub struct SansIn {
    #[input(id = "k8s")]
    root: One<kinds::KubernetesRootSecret>,
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
    #[input(id = "accumulative-no-k8s")]
    addresses: One<NodeAddress>,
}

/// Names and addresses of the API server.
pub struct CertSans;

impl Controller for CertSans {
    const NAME: &'static str = "secrets.KubernetesCertSANsController";
    type In = SansIn;

    fn outputs() -> Outputs {
        Outputs::new().shared::<CertSan>()
    }

    async fn reconcile(&self, _: &Context, input: SansIn) -> engine::Result<Wanted> {
        let Some(root) = input.root.spec() else {
            return Ok(Wanted::new());
        };
        let (Some(hostname), Some(_)) = (input.hostname.spec(), input.addresses.spec()) else {
            return Ok(Wanted::unknown("the host name and addresses"));
        };
        Ok(Wanted::new().with("k8s", cert_sans(root, hostname, &addresses(&input.addresses))))
    }
}

/// Everything under which the API server may be asked for.
fn cert_sans(root: &kinds::KubernetesRootSecret, hostname: &HostnameStatus, own: &[IpAddr]) -> CertSan {
    let mut ips: Vec<IpAddr> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for san in &root.cert_sans {
        match San::parse(san) {
            San::Ip(ip) => ips.push(ip),
            San::Dns(name) => names.push(name),
        }
    }
    for name in ["kubernetes", "kubernetes.default", "kubernetes.default.svc"] {
        names.push(name.to_owned());
    }
    names.push(format!("kubernetes.default.svc.{}", root.dns_domain));
    names.push("localhost".to_owned());
    names.push(hostname.hostname.clone());
    names.push(fqdn(hostname));
    ips.extend(&root.api_server_ips);
    ips.extend(own);
    ips.push(IpAddr::from([127, 0, 0, 1]));
    dedup(&mut ips);
    dedup(&mut names);
    CertSan { ips, dns_names: names, fqdn: fqdn(hostname) }
}

fn fqdn(hostname: &HostnameStatus) -> String {
    if hostname.domainname.is_empty() { hostname.hostname.clone() } else { format!("{}.{}", hostname.hostname, hostname.domainname) }
}

fn dedup<T: PartialEq>(list: &mut Vec<T>) {
    let mut kept: Vec<T> = Vec::with_capacity(list.len());
    for item in list.drain(..) {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    *list = kept;
}

fn sans(ips: &[IpAddr], names: &[String]) -> Vec<San> {
    let names = names.iter().filter(|name| !name.is_empty()).map(|name| San::Dns(name.clone()));
    ips.iter().copied().map(San::Ip).chain(names).collect()
}

/// Inputs of [`DynamicCerts`].
#[derive(Inputs)]
pub struct DynamicIn {
    #[input(id = "k8s")]
    root: One<kinds::KubernetesRootSecret>,
    #[input(id = "k8s")]
    sans: One<CertSan>,
    #[input(id = "node")]
    time: One<TimeStatus>,
    #[input(id = "k8s-dynamic-certs")]
    current: One<kinds::KubernetesDynamicCert>,
}

/// The API server's certificate, and those with which it is a client.
pub struct DynamicCerts {
    /// Shared.
    pub room: Room,
}

impl Controller for DynamicCerts {
    const NAME: &'static str = "secrets.KubernetesDynamicCertsController";
    type In = DynamicIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::KubernetesDynamicCert>()
    }

    async fn reconcile(&self, ctx: &Context, input: DynamicIn) -> engine::Result<Wanted> {
        let Some(root) = input.root.spec() else {
            return Ok(Wanted::new());
        };
        let Some(names) = input.sans.spec() else {
            return Ok(Wanted::unknown("names and addresses of the API server"));
        };
        if !clock_is_right(&self.room, &input.time) {
            return Ok(Wanted::unknown("the clock to be in sync"));
        }
        ctx.wake_after(LOOK);
        let now = now(ctx);
        let issuing = ca("the Kubernetes authority", root.issuing_ca.as_ref())?;
        let aggregator = ca("the aggregator's authority", root.aggregator_ca.as_ref())?;
        let current = input.current.spec();
        let server = pki::profile::kube_api_server(sans(&names.ips, &names.dns_names));
        let mut api_server = keep_or_issue("kube-apiserver", current.and_then(|c| c.api_server.as_ref()), &issuing, &server, now)?;
        // Clients that know the root of a chain only need the authority's own certificate with it.
        let leaf = text(&api_server.crt);
        let authority = issuing.certificate().to_pem();
        if !leaf.contains(authority.trim()) {
            api_server.crt = format!("{}\n{authority}", leaf.trim_end()).into_bytes().into();
        }
        let kubelet_client = keep_or_issue(
            "apiserver-kubelet-client",
            current.and_then(|c| c.api_server_kubelet_client.as_ref()),
            &issuing,
            &pki::profile::api_server_kubelet_client(),
            now,
        )?;
        let front_proxy = keep_or_issue(
            "front-proxy-client",
            current.and_then(|c| c.front_proxy.as_ref()),
            &aggregator,
            &pki::profile::front_proxy_client(),
            now,
        )?;
        Ok(Wanted::new().with(
            "k8s-dynamic-certs",
            kinds::KubernetesDynamicCert {
                api_server: Some(api_server),
                api_server_kubelet_client: Some(kubelet_client),
                front_proxy: Some(front_proxy),
            },
        ))
    }
}

/// Inputs of [`KubernetesSecrets`].
#[derive(Inputs)]
pub struct SecretsIn {
    #[input(id = "k8s")]
    root: One<kinds::KubernetesRootSecret>,
    #[input(id = "node")]
    time: One<TimeStatus>,
    #[input(id = "k8s-certs")]
    current: One<kinds::KubernetesSecret>,
}

/// Kubeconfigs of the control plane and of the machine itself.
pub struct KubernetesSecrets {
    /// Shared.
    pub room: Room,
}

impl Controller for KubernetesSecrets {
    const NAME: &'static str = "secrets.KubernetesController";
    type In = SecretsIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::KubernetesSecret>()
    }

    async fn reconcile(&self, ctx: &Context, input: SecretsIn) -> engine::Result<Wanted> {
        let Some(root) = input.root.spec() else {
            return Ok(Wanted::new());
        };
        if !clock_is_right(&self.room, &input.time) {
            return Ok(Wanted::unknown("the clock to be in sync"));
        }
        ctx.wake_after(LOOK);
        let now = now(ctx);
        let issuing = ca("the Kubernetes authority", root.issuing_ca.as_ref())?;
        let local = root.local_endpoint.as_ref().map(|url| url.as_str().to_owned()).unwrap_or_default();
        let global = root.endpoint.as_ref().map(|url| url.as_str().to_owned()).unwrap_or_default();
        let current = input.current.spec().cloned().unwrap_or_default();
        let make =
            |user: &str, server: &str, request: &Request, before: &str| kubeconfig(root, &issuing, user, server, request, before, now);
        Ok(Wanted::new().with(
            "k8s-certs",
            kinds::KubernetesSecret {
                scheduler_kubeconfig: make("system:kube-scheduler", &local, &pki::profile::scheduler(), &current.scheduler_kubeconfig)?,
                controller_manager_kubeconfig: make(
                    "system:kube-controller-manager",
                    &local,
                    &pki::profile::controller_manager(),
                    &current.controller_manager_kubeconfig,
                )?,
                localhost_admin_kubeconfig: make(
                    "talos:admin",
                    &local,
                    &pki::profile::machine_admin(),
                    &current.localhost_admin_kubeconfig,
                )?,
                admin_kubeconfig: make("admin", &global, &pki::profile::kubernetes_admin(pki::profile::YEAR), &current.admin_kubeconfig)?,
            },
        ))
    }
}

/// A kubeconfig with a certificate of its own; the one from before as long as it serves.
fn kubeconfig(
    root: &kinds::KubernetesRootSecret,
    issuing: &Ca,
    user: &str,
    server: &str,
    request: &Request,
    before: &str,
    now: Timestamp,
) -> Result<String, CertificateError> {
    let bundle: String = root.accepted_cas.iter().map(|cert| format!("{}\n", text(&cert.crt).trim_end())).collect();
    let file = |certificate: Vec<u8>, key: Vec<u8>| Kubeconfig {
        cluster: root.name.clone(),
        user: user.to_owned(),
        server: server.to_owned(),
        tls_server_name: String::new(),
        authorities: Authorities::Pem(bundle.clone().into_bytes()),
        credentials: Credentials::Certificate { certificate, key },
    };
    if let Some((certificate, key)) = crate::kubeconfig::certificate_of(before)
        && still_good(&text(&certificate), issuing, request, now)
    {
        let same = file(certificate, key).to_yaml();
        if same == before {
            return Ok(same);
        }
    }
    let issued = issuing.issue(request, now).map_err(|source| CertificateError::Pki { which: "a kubeconfig's certificate", source })?;
    Ok(file(issued.cert.as_bytes().to_vec(), issued.key.as_bytes().to_vec()).to_yaml())
}

/// Inputs of [`EtcdSecrets`].
#[derive(Inputs)]
pub struct EtcdIn {
    #[input(id = "etcd")]
    root: One<kinds::EtcdRootSecret>,
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
    #[input(id = "accumulative-no-k8s")]
    addresses: One<NodeAddress>,
    #[input(id = "node")]
    time: One<TimeStatus>,
    #[input(id = "etcd")]
    current: One<kinds::EtcdSecret>,
}

/// etcd's certificates, and those of its clients.
pub struct EtcdSecrets {
    /// Shared.
    pub room: Room,
}

impl Controller for EtcdSecrets {
    const NAME: &'static str = "secrets.EtcdController";
    type In = EtcdIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::EtcdSecret>()
    }

    async fn reconcile(&self, ctx: &Context, input: EtcdIn) -> engine::Result<Wanted> {
        let Some(root) = input.root.spec() else {
            return Ok(Wanted::new());
        };
        let (Some(hostname), Some(_)) = (input.hostname.spec(), input.addresses.spec()) else {
            return Ok(Wanted::unknown("the host name and addresses"));
        };
        if !clock_is_right(&self.room, &input.time) {
            return Ok(Wanted::unknown("the clock to be in sync"));
        }
        ctx.wake_after(LOOK);
        let now = now(ctx);
        let issuing = ca("etcd's authority", root.etcd_ca.as_ref())?;
        let current = input.current.spec();
        let mut names = vec![hostname.hostname.clone(), fqdn(hostname)];
        dedup(&mut names);
        let names = sans(&addresses(&input.addresses), &names);
        let issue = |which, before: Option<&PemPair>, request: &Request| keep_or_issue(which, before, &issuing, request, now);
        let secret = kinds::EtcdSecret {
            etcd: Some(issue(
                "etcd",
                current.and_then(|c| c.etcd.as_ref()),
                &pki::profile::etcd_server(&hostname.hostname, names.clone()),
            )?),
            etcd_peer: Some(issue(
                "etcd peer",
                current.and_then(|c| c.etcd_peer.as_ref()),
                &pki::profile::etcd_peer(&hostname.hostname, names),
            )?),
            etcd_admin: Some(issue("etcd admin", current.and_then(|c| c.etcd_admin.as_ref()), &pki::profile::etcd_admin())?),
            etcd_api_server: Some(issue(
                "etcd client of kube-apiserver",
                current.and_then(|c| c.etcd_api_server.as_ref()),
                &pki::profile::etcd_api_server(),
            )?),
        };
        Ok(Wanted::new().with("etcd", secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_certificate_is_kept_until_half_of_its_life() {
        let start = 1_800_000_000;
        let authority = pki::profile::kubernetes_ca(at(start)).unwrap();
        let request = pki::profile::kube_api_server(vec![San::parse("10.5.0.2"), San::parse("localhost")]);
        let issued = authority.issue(&request, at(start)).unwrap();
        let year = 8760 * 3600;
        assert!(still_good(&issued.cert, &authority, &request, at(start + 1)));
        assert!(still_good(&issued.cert, &authority, &request, at(start + year / 2 - 10)));
        assert!(!still_good(&issued.cert, &authority, &request, at(start + year / 2 + 10)));
        // Other names, another authority, rubbish: a new one.
        let other = pki::profile::kube_api_server(vec![San::parse("10.5.0.3")]);
        assert!(!still_good(&issued.cert, &authority, &other, at(start + 1)));
        let foreign = pki::profile::kubernetes_ca(at(start)).unwrap();
        assert!(!still_good(&issued.cert, &foreign, &request, at(start + 1)));
        assert!(!still_good("rubbish", &authority, &request, at(start + 1)));
    }

    #[test]
    fn names_of_the_api_server() {
        let root = kinds::KubernetesRootSecret {
            cert_sans: vec!["10.5.0.1".into(), "api.example.org".into()],
            api_server_ips: vec!["10.96.0.1".parse().unwrap()],
            dns_domain: "cluster.local".into(),
            ..Default::default()
        };
        let hostname = HostnameStatus { hostname: "cp-1".into(), domainname: "example.org".into() };
        let sans = cert_sans(&root, &hostname, &["10.5.0.2".parse().unwrap()]);
        let ips: Vec<String> = sans.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.5.0.1", "10.96.0.1", "10.5.0.2", "127.0.0.1"]);
        assert_eq!(
            sans.dns_names,
            [
                "api.example.org",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
                "localhost",
                "cp-1",
                "cp-1.example.org"
            ]
        );
    }
}
