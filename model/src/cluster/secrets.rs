//! Keys and certificates of the node's own API.

use std::net::IpAddr;

use resource::{PemCert, PemPair, resource};

/// The CA of the node's API, and the token by which others join.
#[resource(type = "OSRootSecrets.secrets.talos.dev", namespace = "secrets", ids("os"), sensitive)]
pub struct OsRootSecret {
    #[field(1, yaml = "issuingCA")]
    pub issuing_ca: Option<PemPair>,
    #[field(5, yaml = "acceptedCAs")]
    pub accepted_cas: Vec<PemCert>,
    #[field(2, yaml = "certSANIPs")]
    pub cert_san_ips: Vec<IpAddr>,
    #[field(3, yaml = "certSANDNSNames")]
    pub cert_san_dns_names: Vec<String>,
    #[field(4, secret)]
    pub token: String,
}

/// The CA of the maintenance API.
#[resource(type = "MaintenanceRootSecrets.secrets.talos.dev", namespace = "secrets", ids("maintenance"), sensitive)]
pub struct MaintenanceRootSecret {
    #[field(1)]
    pub ca: Option<PemPair>,
}

/// Certificates of the node's API.
#[resource(type = "ApiCertificates.secrets.talos.dev", namespace = "secrets", ids("api"), sensitive)]
pub struct ApiCertificate {
    #[field(4, yaml = "acceptedCAs")]
    pub accepted_cas: Vec<PemCert>,
    #[field(2)]
    pub client: Option<PemPair>,
    #[field(3)]
    pub server: Option<PemPair>,
    #[field(5)]
    pub skip_verifying_client_cert: bool,
}

/// Certificates of the service that signs for joining nodes.
#[resource(type = "TrustdCertificates.secrets.talos.dev", namespace = "secrets", ids("trustd"), sensitive)]
pub struct TrustdCertificate {
    #[field(3, yaml = "acceptedCAs")]
    pub accepted_cas: Vec<PemCert>,
    #[field(2)]
    pub server: Option<PemPair>,
}

/// Names and addresses that certificates are made for.
#[resource(type = "CertSANs.secrets.talos.dev", namespace = "secrets", ids("api", "maintenance", "k8s"), sensitive)]
pub struct CertSan {
    #[field(1)]
    pub ips: Vec<IpAddr>,
    #[field(2)]
    pub dns_names: Vec<String>,
    #[field(3)]
    pub fqdn: String,
}
