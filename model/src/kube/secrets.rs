//! Keys, certificates and tokens of Kubernetes and etcd.

use std::net::IpAddr;

use resource::{PemCert, PemKey, PemPair, Url, Value, resource};

/// What all secrets of Kubernetes are made from.
#[resource(type = "KubernetesRootSecrets.secrets.talos.dev", namespace = "secrets", ids("k8s"), sensitive)]
pub struct KubernetesRootSecret {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub endpoint: Option<Url>,
    #[field(3, yaml = "local_endpoint")]
    pub local_endpoint: Option<Url>,
    #[field(4, yaml = "certSANs")]
    pub cert_sans: Vec<String>,
    #[field(14, yaml = "apiServerIPs")]
    pub api_server_ips: Vec<IpAddr>,
    #[field(6)]
    pub dns_domain: String,
    #[field(7, yaml = "issuingCA")]
    pub issuing_ca: Option<PemPair>,
    #[field(15, yaml = "acceptedCAs")]
    pub accepted_cas: Vec<PemCert>,
    #[field(9, yaml = "aggregatorCA")]
    pub aggregator_ca: Option<PemPair>,
    #[field(17, yaml = "acceptedAggregatorCAs")]
    pub accepted_aggregator_cas: Vec<PemCert>,
    #[field(8)]
    pub service_account: Option<PemKey>,
    #[field(18)]
    pub service_account_accepted_keys: Vec<PemKey>,
    #[field(19, yaml = "issuerURL")]
    pub issuer_url: String,
    #[field(20)]
    pub accepted_issuers: Vec<String>,
    #[field(21)]
    pub api_audiences: Vec<String>,
    #[field(10, yaml = "aesCBCEncryptionSecret", secret)]
    pub aes_cbc_encryption_secret: String,
    #[field(11, yaml = "bootstrapTokenID")]
    pub bootstrap_token_id: String,
    #[field(12, secret)]
    pub bootstrap_token_secret: String,
    #[field(13, secret)]
    pub secretbox_encryption_secret: String,
    #[field(16, secret)]
    pub etcd_encryption_config: Value,
}

/// Access of the control plane's components.
#[resource(type = "KubernetesSecrets.secrets.talos.dev", namespace = "secrets", ids("k8s-certs"), sensitive)]
pub struct KubernetesSecret {
    #[field(4, secret)]
    pub scheduler_kubeconfig: String,
    #[field(5, secret)]
    pub controller_manager_kubeconfig: String,
    #[field(6, secret)]
    pub localhost_admin_kubeconfig: String,
    #[field(7, secret)]
    pub admin_kubeconfig: String,
}

/// Certificates of the control plane that depend on its addresses.
#[resource(type = "KubernetesDynamicCerts.secrets.talos.dev", namespace = "secrets", ids("k8s-dynamic-certs"), sensitive)]
pub struct KubernetesDynamicCert {
    #[field(1)]
    pub api_server: Option<PemPair>,
    #[field(2)]
    pub api_server_kubelet_client: Option<PemPair>,
    #[field(3)]
    pub front_proxy: Option<PemPair>,
}

/// How the kubelet joins.
#[resource(type = "KubeletSecrets.secrets.talos.dev", namespace = "secrets", ids("kubelet"), sensitive)]
pub struct KubeletSecret {
    #[field(1)]
    pub endpoint: Option<Url>,
    #[field(6, yaml = "endpointTLSServerName", omit_empty)]
    pub endpoint_tls_server_name: String,
    #[field(5, yaml = "acceptedCAs")]
    pub accepted_cas: Vec<PemCert>,
    #[field(3, yaml = "bootstrapTokenID")]
    pub bootstrap_token_id: String,
    #[field(4, secret)]
    pub bootstrap_token_secret: String,
}

/// The CA of etcd.
#[resource(type = "EtcdRootSecrets.secrets.talos.dev", namespace = "secrets", ids("etcd"), sensitive)]
pub struct EtcdRootSecret {
    #[field(1, yaml = "etcdCA")]
    pub etcd_ca: Option<PemPair>,
}

/// Certificates of etcd.
#[resource(type = "EtcdSecrets.secrets.talos.dev", namespace = "secrets", ids("etcd"), sensitive)]
pub struct EtcdSecret {
    #[field(1)]
    pub etcd: Option<PemPair>,
    #[field(2)]
    pub etcd_peer: Option<PemPair>,
    #[field(3)]
    pub etcd_admin: Option<PemPair>,
    #[field(4, yaml = "etcdAPIServer")]
    pub etcd_api_server: Option<PemPair>,
}
