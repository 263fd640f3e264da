//! Documents about Kubernetes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::container::PemPair;
use crate::config::schema::{choice, section};
use crate::config::types::{AnyMap, OneOrMany, Pem, Secret, SecretMap, SubnetFilter, Url};

/// Arguments of a program by name, without dashes.
pub type ExtraArgs = BTreeMap<String, OneOrMany>;

section! {
    /// Name of the cluster and endpoint of its API.
    pub struct KubeClusterConfig {
        "clusterName" cluster_name: String [required()] = "Name of the cluster.";
        "endpoint" endpoint: Option<Url> [required()] = "URL under which every node and user reaches the API.";
    }

    /// Pod and service networks.
    pub struct KubeNetworkConfig {
        "dnsDomain" dns_domain: String [default("cluster.local")] = "Domain of services.";
        "podSubnets" pod_subnets: Vec<IpNet> [required(), replace()] = "Pod networks, at most one per family.";
        "serviceSubnets" service_subnets: Vec<IpNet> [required(), replace()] = "Service networks, one per pod network.";
        "nodeCIDRMaskSizeIPv4" node_cidr_mask_size_ipv4: Option<u8> [default("24")] = "Prefix length of a node's part of the IPv4 pod network.";
        "nodeCIDRMaskSizeIPv6" node_cidr_mask_size_ipv6: Option<u8> [default("64")] = "Prefix length of a node's part of the IPv6 pod network.";
    }

    /// kube-apiserver.
    pub struct KubeApiServerConfig {
        "image" image: String [required()] = "Image.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "env" env: BTreeMap<String, String> = "Environment.";
        "resources" resources: Option<Resources> = "Requests and limits.";
        "apiPort" api_port: Option<u16> [default("6443")] = "Port it listens on.";
        "certExtraSANs" cert_extra_sans: Vec<String> = "Extra names and addresses in its certificate.";
        "startupProbes" startup_probes: Option<bool> [default("true")] = "Whether its pod has probes.";
    }

    /// Requests and limits of a pod; only cpu and memory.
    pub struct Resources {
        "requests" requests: BTreeMap<String, String> = "What is reserved.";
        "limits" limits: BTreeMap<String, String> = "What is allowed.";
    }

    /// Authority of the Kubernetes API. With the issuing part, this machine runs kube-apiserver.
    pub struct KubeApiServerCaConfig {
        "issuingCA" issuing_ca: Option<PemPair> = "Certificate and key that issue certificates (control planes).";
        "acceptedCAs" accepted_cas: Vec<Pem> = "Authorities accepted besides.";
    }

    /// Authority of the aggregation layer (front proxy).
    pub struct KubeAggregatorCaConfig {
        "issuingCA" issuing_ca: Option<PemPair> [required()] = "Certificate and key that issue certificates.";
        "acceptedCAs" accepted_cas: Vec<Pem> = "Authorities accepted besides.";
    }

    /// Issuer of service account tokens.
    pub struct KubeServiceAccountConfig {
        "issuer" issuer: Option<ServiceAccountIssuer> [required()] = "Who signs tokens.";
        "accepted" accepted: Option<ServiceAccountAccepted> = "What is accepted besides.";
    }

    /// Who signs tokens.
    pub struct ServiceAccountIssuer {
        "privateKey" private_key: Secret [required()] = "RSA or EC key, as PEM.";
        "issuerURL" issuer_url: Option<Url> [required()] = "The issuer named in tokens.";
    }

    /// Tokens accepted besides.
    pub struct ServiceAccountAccepted {
        "publicKeys" public_keys: Vec<Pem> = "Keys, as PEM.";
        "issuers" issuers: Vec<Url> = "Issuers.";
        "audiences" audiences: Vec<String> [default("the issuers")] = "Audiences.";
    }

    /// Configuration of one admission plugin.
    pub struct KubeAdmissionControlConfig {
        "name" name: String [required()] = "Name of the plugin.";
        "configuration" configuration: AnyMap = "Its configuration.";
    }

    /// Audit policy of the API server.
    pub struct KubeAuditPolicyConfig {
        "configuration" configuration: AnyMap [replace()] = "An audit.k8s.io/v1 Policy.";
    }

    /// Authentication of the API server.
    pub struct KubeAuthenticationConfig {
        "configuration" configuration: AnyMap [replace()] = "An apiserver.config.k8s.io/v1 AuthenticationConfiguration.";
    }

    /// One authorizer; they are asked in the order of the documents.
    pub struct KubeAuthorizerConfig {
        "name" name: String [required()] = "Name.";
        "type" type_: Option<AuthorizerType> [required()] = "Kind.";
        "webhook" webhook: AnyMap = "Settings of a webhook.";
    }

    /// Encryption of secrets in etcd.
    pub struct KubeEtcdEncryptionConfig {
        "config" config: SecretMap = "An apiserver.config.k8s.io/v1 EncryptionConfiguration.";
    }

    /// kube-controller-manager.
    pub struct KubeControllerManagerConfig {
        "enabled" enabled: Option<bool> [default("true")] = "Whether it runs here.";
        "image" image: String [required()] = "Image.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "env" env: BTreeMap<String, String> = "Environment.";
        "resources" resources: Option<Resources> = "Requests and limits.";
    }

    /// kube-scheduler.
    pub struct KubeSchedulerConfig {
        "enabled" enabled: Option<bool> [default("true")] = "Whether it runs here.";
        "image" image: String [required()] = "Image.";
        "config" config: AnyMap [always()] = "Part of a KubeSchedulerConfiguration.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "env" env: BTreeMap<String, String> = "Environment.";
        "resources" resources: Option<Resources> = "Requests and limits.";
    }

    /// kube-proxy.
    pub struct KubeProxyConfig {
        "enabled" enabled: Option<bool> [default("true")] = "Whether it is deployed.";
        "image" image: String [required()] = "Image.";
        "mode" mode: Option<ProxyMode> [default("nftables")] = "How services are implemented.";
        "config" config: AnyMap [always()] = "Part of a KubeProxyConfiguration.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "resources" resources: Option<Resources> = "Requests and limits.";
    }

    /// Flannel as the pod network. Without this document there is no pod network.
    pub struct KubeFlannelCniConfig {
        "backendType" backend_type: String [required()] = "Backend, such as vxlan or host-gw.";
        "backendPort" backend_port: Option<u16> = "Port of the backend.";
        "backendMTU" backend_mtu: Option<u32> = "MTU of the backend.";
        "backendExtraConfig" backend_extra_config: AnyMap = "Further settings of the backend.";
        "resources" resources: Option<Resources> = "Requests and limits.";
        "extraArgs" extra_args: Vec<String> = "Extra arguments.";
        "kubeNetworkPoliciesEnabled" kube_network_policies_enabled: Option<bool> [default("false")] = "Deploy the network policy controller too.";
    }

    /// CoreDNS.
    pub struct KubeCoreDnsConfig {
        "enabled" enabled: Option<bool> [default("true")] = "Whether it is deployed.";
        "image" image: String = "Image.";
    }

    /// kubelet.
    pub struct KubeletConfig {
        "image" image: String [required()] = "Image.";
        "config" config: AnyMap [always()] = "Part of a KubeletConfiguration.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "clusterDNS" cluster_dns: Vec<IpAddr> [default("the tenth address of each service network")] = "DNS servers of pods.";
        "defaultRuntimeSeccompProfileEnabled" default_runtime_seccomp_profile_enabled: Option<bool> = "Use the runtime's seccomp profile by default.";
    }

    /// Registration of the node.
    pub struct KubeNodeConfig {
        "skipNodeRegistration" skip_node_registration: Option<bool> [default("false")] = "Run static pods only, without joining.";
        "registerWithFQDN" register_with_fqdn: Option<bool> [default("false")] = "Use the full host name as node name.";
        "nodeIP" node_ip: Option<NodeIp> [always()] = "Which addresses the node has.";
        "labels" labels: BTreeMap<String, String> = "Labels.";
        "annotations" annotations: BTreeMap<String, String> = "Annotations.";
        "taints" taints: BTreeMap<String, String> = "Taints: key to `[value:]Effect`.";
    }

    /// Which addresses a node has.
    pub struct NodeIp {
        "validSubnets" valid_subnets: Vec<SubnetFilter> = "Prefixes to choose from; `!` excludes.";
    }

    /// Credential providers of the kubelet.
    pub struct KubeCredentialProviderConfig {
        "configuration" configuration: AnyMap [replace()] = "A CredentialProviderConfig.";
    }

    /// Load balancer for the API on 127.0.0.1 of each node.
    pub struct KubePrismConfig {
        "port" port: Option<u16> [required()] = "Port.";
        "tlsServerName" tls_server_name: String = "Server name that clients expect.";
    }

    /// A static pod.
    pub struct KubeStaticPodConfig {
        "name" name: String [required()] = "Name.";
        "pod" pod: AnyMap [required(), replace()] = "The pod.";
    }

    /// A manifest applied at bootstrap.
    pub struct KubeInlineManifestConfig {
        "name" name: String [required()] = "Name.";
        "manifest" manifest: String [required()] = "The manifest.";
    }

    /// A manifest fetched and applied at bootstrap.
    pub struct KubeExternalManifestConfig {
        "name" name: String [required()] = "Name.";
        "headers" headers: BTreeMap<String, String> = "HTTP headers for the request.";
        "url" url: Option<Url> [required()] = "Where it is.";
    }

    /// Lets pods use the machine API through service accounts.
    pub struct KubeTalosApiAccessConfig {
        "allowedRoles" allowed_roles: Vec<String> = "Roles that may be asked for.";
        "allowedKubernetesNamespaces" allowed_kubernetes_namespaces: Vec<String> = "Namespaces that may ask.";
    }
}

choice! {
    /// Kind of authorizer.
    pub enum AuthorizerType { "Node" Node = "Node."; "RBAC" Rbac = "Roles."; "Webhook" Webhook = "A web service."; }
    /// How kube-proxy implements services.
    pub enum ProxyMode { "iptables" Iptables = "iptables."; "ipvs" Ipvs = "IPVS."; "nftables" Nftables = "nftables."; }
}
