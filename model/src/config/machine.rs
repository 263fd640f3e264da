//! What a configuration means, for those who act on it: documents only, with defaults filled in.
//!
//! [`MachineConfig::get`] and [`MachineConfig::all`] give documents as they are; the methods below give what controllers want to know, with defaults.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::docs::cluster::{DiscoveryIdentityConfig, DiscoveryServiceConfig};
use super::docs::container::ImageCacheConfig;
use super::docs::host::{EnvironmentConfig, SysctlConfig, SysfsConfig, UdevRulesConfig};
use super::docs::kube::{
    ExtraArgs, KubeAdmissionControlConfig, KubeAggregatorCaConfig, KubeApiServerCaConfig, KubeApiServerConfig, KubeAuditPolicyConfig,
    KubeClusterConfig, KubeControllerManagerConfig, KubeCoreDnsConfig, KubeEtcdEncryptionConfig, KubeFlannelCniConfig, KubeNetworkConfig,
    KubeNodeConfig, KubePrismConfig, KubeProxyConfig, KubeSchedulerConfig, KubeServiceAccountConfig, KubeletConfig,
};
use super::docs::net::{AutoHostname, HostDns, HostnameConfig, ResolverConfig, TimeSyncConfig};
use super::documents::{Doc, Document};
use super::legacy::devices::Device;
use super::legacy::root::{Disk, ExtraMount, ExtraVolume, File, LogDestination, SeccompProfile, SortAlgorithm};
use super::types::{Any, AnyMap, Duration, Secret, SubnetFilter, Url};

/// Version of Kubernetes when a configuration names none.
pub const DEFAULT_KUBERNETES_VERSION: &str = "v1.37.1";
/// etcd's image when a configuration names none.
pub const DEFAULT_ETCD_IMAGE: &str = "registry.k8s.io/etcd:v3.7.3";
/// CoreDNS's image when a configuration names none.
pub const DEFAULT_COREDNS_IMAGE: &str = "registry.k8s.io/coredns/coredns:v1.15.0";

/// The role of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum MachineType {
    /// Not known yet.
    #[default]
    Unknown,
    /// The control plane that starts the cluster, in old configurations.
    Init,
    /// Runs the control plane.
    ControlPlane,
    /// Runs workloads only.
    Worker,
}

impl MachineType {
    /// The word in YAML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Init => "init",
            Self::ControlPlane => "controlplane",
            Self::Worker => "worker",
        }
    }

    /// Reads the word in YAML; `join` and nothing mean a worker.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "init" => Some(Self::Init),
            "controlplane" => Some(Self::ControlPlane),
            "worker" | "join" | "" => Some(Self::Worker),
            _ => None,
        }
    }

    /// Whether it runs the control plane.
    #[must_use]
    pub const fn is_control_plane(self) -> bool {
        matches!(self, Self::Init | Self::ControlPlane)
    }
}

impl std::fmt::Display for MachineType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A certificate, with its key where this machine holds it. PEM text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CaPem {
    /// The certificate.
    pub cert: String,
    /// The private key; empty where the machine does not issue.
    pub key: Secret,
}

/// What only the root document says (an internal document).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Base {
    /// Whether there was a root document.
    pub present: bool,
    /// The role.
    pub machine_type: MachineType,
    /// Log more.
    pub debug: bool,
    /// Token with which machines join (trustd).
    pub token: Secret,
    /// Authority of the machine API.
    pub ca: Option<CaPem>,
    /// Authorities accepted besides, PEM.
    pub accepted_cas: Vec<String>,
    /// Extra names and addresses in the certificate of the machine API.
    pub cert_sans: Vec<String>,
    /// Bootstrap token of Kubernetes, `id.secret`.
    pub bootstrap_token: Secret,
    /// etcd.
    pub etcd: Etcd,
    /// Whether a cloud provider outside Kubernetes is used.
    pub external_cloud_provider: bool,
    /// How long administrators' kubeconfigs are valid.
    pub admin_cert_lifetime: Duration,
    /// Project quotas on EPHEMERAL.
    pub disk_quota: bool,
    /// How node addresses are ordered.
    pub node_address_sort: Option<SortAlgorithm>,
    /// Where service logs are sent.
    pub log_destinations: Vec<LogDestination>,
    /// Seccomp profiles for pods.
    pub seccomp_profiles: Vec<SeccompProfile>,
    /// Extra files.
    pub files: Vec<File>,
    /// Extra disks.
    pub disks: Vec<Disk>,
    /// Links that are found by a selector or otherwise have no document form.
    pub devices: Vec<Device>,
    /// Extra mounts of the kubelet.
    pub kubelet_mounts: Vec<ExtraMount>,
    /// Extra volumes of control plane pods, by `apiServer`, `controllerManager`, `scheduler`.
    pub extra_volumes: BTreeMap<&'static str, Vec<ExtraVolume>>,
}

/// etcd's settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Etcd {
    /// Image; empty for the default.
    pub image: String,
    /// Authority.
    pub ca: Option<CaPem>,
    /// Extra arguments.
    pub extra_args: ExtraArgs,
    /// Prefixes of addresses to announce; `!` excludes.
    pub advertised_subnets: Vec<SubnetFilter>,
    /// Prefixes of addresses to listen on.
    pub listen_subnets: Vec<SubnetFilter>,
}

/// How the host name is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostnameSource {
    /// This name.
    Static(String),
    /// A name made from the machine's identity.
    Stable,
    /// A name made from the first address (old configurations).
    FromAddress,
    /// Only what the platform or DHCP says.
    Off,
}

/// A configuration, ready to act on.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineConfig {
    /// The user's bytes.
    pub bytes: Arc<[u8]>,
    /// All documents, those that stand for keys of the root document included.
    pub documents: Vec<Document>,
    /// What only the root document says.
    pub base: Base,
}

impl MachineConfig {
    /// The document of a kind without names.
    #[must_use]
    pub fn get<D: Doc>(&self) -> Option<&D> {
        self.documents.iter().find_map(D::of)
    }

    /// All documents of a kind, in order.
    pub fn all<D: Doc>(&self) -> impl Iterator<Item = &D> {
        self.documents.iter().filter_map(D::of)
    }

    /// Whether a machine can boot with it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.base.present
    }

    /// The role.
    #[must_use]
    pub fn machine_type(&self) -> MachineType {
        self.base.machine_type
    }

    /// Name of the cluster; empty when the configuration has none.
    #[must_use]
    pub fn cluster_name(&self) -> &str {
        self.get::<KubeClusterConfig>().map_or("", |c| &c.cluster_name)
    }

    /// URL under which everyone reaches the Kubernetes API.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Url> {
        self.get::<KubeClusterConfig>().and_then(|c| c.endpoint.as_ref())
    }

    /// Cluster id and secret, both as text, for discovery.
    #[must_use]
    pub fn discovery_identity(&self) -> Option<&DiscoveryIdentityConfig> {
        self.get()
    }

    /// Discovery service endpoints.
    pub fn discovery_services(&self) -> impl Iterator<Item = &DiscoveryServiceConfig> {
        self.all()
    }

    /// Port of kube-apiserver on this machine.
    #[must_use]
    pub fn api_port(&self) -> u16 {
        self.get::<KubeApiServerConfig>().and_then(|c| c.api_port).unwrap_or(6443)
    }

    /// Whether this machine runs the Kubernetes control plane: it is a control plane and holds the Kubernetes authority with its key.
    #[must_use]
    pub fn runs_kubernetes(&self) -> bool {
        self.machine_type().is_control_plane() && self.kubernetes_ca().is_some_and(|ca| !ca.key.is_empty())
    }

    /// Authority of Kubernetes. On workers the first accepted certificate, without key.
    #[must_use]
    pub fn kubernetes_ca(&self) -> Option<CaPem> {
        let ca = self.get::<KubeApiServerCaConfig>()?;
        match &ca.issuing_ca {
            Some(pair) => Some(CaPem { cert: pair.cert.as_str().to_owned(), key: pair.key.clone() }),
            None => ca.accepted_cas.first().map(|c| CaPem { cert: c.as_str().to_owned(), key: Secret::default() }),
        }
    }

    /// Every certificate by which the Kubernetes API may prove itself: the issuing one, then the accepted ones. PEM.
    #[must_use]
    pub fn kubernetes_accepted_cas(&self) -> Vec<String> {
        let Some(ca) = self.get::<KubeApiServerCaConfig>() else { return Vec::new() };
        let issuing = ca.issuing_ca.iter().map(|p| p.cert.as_str().to_owned());
        issuing.chain(ca.accepted_cas.iter().map(|c| c.as_str().to_owned())).collect()
    }

    /// Authority of the front proxy.
    #[must_use]
    pub fn aggregator_ca(&self) -> Option<CaPem> {
        let pair = self.get::<KubeAggregatorCaConfig>()?.issuing_ca.as_ref()?;
        Some(CaPem { cert: pair.cert.as_str().to_owned(), key: pair.key.clone() })
    }

    /// Key (PEM) that signs service account tokens, and the issuer it stands for.
    #[must_use]
    pub fn service_account(&self) -> Option<(&Secret, &Url)> {
        let issuer = self.get::<KubeServiceAccountConfig>()?.issuer.as_ref()?;
        Some((&issuer.private_key, issuer.issuer_url.as_ref()?))
    }

    /// Body of the EncryptionConfiguration of the API server (without apiVersion and kind).
    #[must_use]
    pub fn etcd_encryption(&self) -> Option<&AnyMap> {
        self.get::<KubeEtcdEncryptionConfig>().map(|c| &*c.config)
    }

    /// Pod networks.
    #[must_use]
    pub fn pod_subnets(&self) -> Vec<IpNet> {
        self.network().pod_subnets
    }

    /// Service networks.
    #[must_use]
    pub fn service_subnets(&self) -> Vec<IpNet> {
        self.network().service_subnets
    }

    /// Domain of services.
    #[must_use]
    pub fn dns_domain(&self) -> String {
        self.network().dns_domain
    }

    /// Networks with their defaults.
    #[must_use]
    pub fn network(&self) -> KubeNetworkConfig {
        let mut network = self.get::<KubeNetworkConfig>().cloned().unwrap_or_default();
        if network.dns_domain.is_empty() {
            "cluster.local".clone_into(&mut network.dns_domain);
        }
        if network.pod_subnets.is_empty() {
            network.pod_subnets.extend("10.244.0.0/16".parse::<IpNet>());
        }
        if network.service_subnets.is_empty() {
            network.service_subnets.extend("10.96.0.0/12".parse::<IpNet>());
        }
        network.node_cidr_mask_size_ipv4.get_or_insert(24);
        network.node_cidr_mask_size_ipv6.get_or_insert(64);
        network
    }

    /// Addresses of the cluster's DNS: the kubelet's own setting, or the tenth address of each service network.
    #[must_use]
    pub fn cluster_dns(&self) -> Vec<IpAddr> {
        let own = self.get::<KubeletConfig>().map(|k| k.cluster_dns.clone()).unwrap_or_default();
        if own.is_empty() { self.service_subnets().iter().filter_map(|n| nth_address(n, 10)).collect() } else { own }
    }

    /// Addresses of the service `kubernetes`: the first of each service network.
    #[must_use]
    pub fn api_service_addresses(&self) -> Vec<IpAddr> {
        self.service_subnets().iter().filter_map(|n| nth_address(n, 1)).collect()
    }

    /// Flannel's settings; none when there is no pod network or another one.
    #[must_use]
    pub fn flannel(&self) -> Option<&KubeFlannelCniConfig> {
        self.get()
    }

    /// kube-proxy's settings, if it is deployed.
    #[must_use]
    pub fn kube_proxy(&self) -> Option<&KubeProxyConfig> {
        self.get::<KubeProxyConfig>().filter(|c| c.enabled != Some(false))
    }

    /// CoreDNS's image, if it is deployed.
    #[must_use]
    pub fn core_dns_image(&self) -> Option<&str> {
        let config = self.get::<KubeCoreDnsConfig>().filter(|c| c.enabled != Some(false))?;
        Some(if config.image.is_empty() { DEFAULT_COREDNS_IMAGE } else { &config.image })
    }

    /// kubelet's settings.
    #[must_use]
    pub fn kubelet(&self) -> Option<&KubeletConfig> {
        self.get()
    }

    /// kube-apiserver's settings.
    #[must_use]
    pub fn api_server(&self) -> Option<&KubeApiServerConfig> {
        self.get()
    }

    /// kube-controller-manager's settings, if it runs here.
    #[must_use]
    pub fn controller_manager(&self) -> Option<&KubeControllerManagerConfig> {
        self.get::<KubeControllerManagerConfig>().filter(|c| c.enabled != Some(false))
    }

    /// kube-scheduler's settings, if it runs here.
    #[must_use]
    pub fn scheduler(&self) -> Option<&KubeSchedulerConfig> {
        self.get::<KubeSchedulerConfig>().filter(|c| c.enabled != Some(false))
    }

    /// Registration of the node.
    #[must_use]
    pub fn node(&self) -> KubeNodeConfig {
        self.get::<KubeNodeConfig>().cloned().unwrap_or_default()
    }

    /// Admission plugins with their configurations.
    pub fn admission_plugins(&self) -> impl Iterator<Item = &KubeAdmissionControlConfig> {
        self.all()
    }

    /// Audit policy: the configured one, or metadata of everything.
    #[must_use]
    pub fn audit_policy(&self) -> AnyMap {
        let own = self.get::<KubeAuditPolicyConfig>().map(|p| p.configuration.clone()).filter(|c| !c.is_empty());
        own.unwrap_or_else(default_audit_policy)
    }

    /// etcd's image.
    #[must_use]
    pub fn etcd_image(&self) -> &str {
        if self.base.etcd.image.is_empty() { DEFAULT_ETCD_IMAGE } else { &self.base.etcd.image }
    }

    /// Port of the local load balancer for the API; none when it is off.
    #[must_use]
    pub fn kube_prism_port(&self) -> Option<u16> {
        self.get::<KubePrismConfig>().and_then(|c| c.port)
    }

    /// The machine's own DNS.
    #[must_use]
    pub fn host_dns(&self) -> HostDns {
        self.get::<ResolverConfig>().and_then(|c| c.host_dns.clone()).unwrap_or_default()
    }

    /// DNS servers, plain ones only.
    #[must_use]
    pub fn nameservers(&self) -> Vec<IpAddr> {
        let resolver = self.get::<ResolverConfig>();
        resolver.map(|c| c.nameservers.iter().filter_map(|n| n.address).collect()).unwrap_or_default()
    }

    /// How the host name is found.
    #[must_use]
    pub fn hostname(&self) -> HostnameSource {
        match self.get::<HostnameConfig>() {
            Some(c) if !c.hostname.is_empty() => HostnameSource::Static(c.hostname.clone()),
            Some(c) if c.auto == Some(AutoHostname::Stable) => HostnameSource::Stable,
            Some(_) => HostnameSource::Off,
            None => HostnameSource::FromAddress,
        }
    }

    /// Time servers; empty when time is not kept in sync. The default server is time.cloudflare.com.
    #[must_use]
    pub fn time_servers(&self) -> Vec<String> {
        let config = self.get::<TimeSyncConfig>();
        if config.is_some_and(|c| c.enabled == Some(false) || c.ptp.is_some()) {
            return Vec::new();
        }
        let servers = config.and_then(|c| c.ntp.as_ref()).map(|n| n.servers.clone()).unwrap_or_default();
        if servers.is_empty() { vec!["time.cloudflare.com".to_owned()] } else { servers }
    }

    /// Kernel parameters by name.
    #[must_use]
    pub fn sysctls(&self) -> BTreeMap<String, String> {
        self.get::<SysctlConfig>().map(|c| c.params.clone()).unwrap_or_default()
    }

    /// Values below /sys by path.
    #[must_use]
    pub fn sysfs(&self) -> BTreeMap<String, String> {
        self.get::<SysfsConfig>().map(|c| c.params.clone()).unwrap_or_default()
    }

    /// Environment of services.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        self.get::<EnvironmentConfig>().map(|c| c.variables.clone()).unwrap_or_default()
    }

    /// Rules of the device manager.
    #[must_use]
    pub fn udev_rules(&self) -> Vec<String> {
        self.get::<UdevRulesConfig>().map(|c| c.rules.clone()).unwrap_or_default()
    }

    /// Whether the local image cache is used.
    #[must_use]
    pub fn image_cache(&self) -> bool {
        self.get::<ImageCacheConfig>().and_then(|c| c.local.as_ref()).and_then(|l| l.enabled).unwrap_or(false)
    }
}

/// Logs the metadata of every request.
#[must_use]
pub fn default_audit_policy() -> AnyMap {
    let rule = AnyMap::from_iter([("level".to_owned(), Any::from("Metadata"))]);
    AnyMap::from_iter([
        ("apiVersion".to_owned(), Any::from("audit.k8s.io/v1")),
        ("kind".to_owned(), Any::from("Policy")),
        ("rules".to_owned(), Any::Array(vec![Any::Object(rule)])),
    ])
}

/// The n-th address of a network, the network's own address being the zeroth.
#[must_use]
pub fn nth_address(net: &IpNet, n: u32) -> Option<IpAddr> {
    let address = match net {
        IpNet::V4(net) => IpAddr::from(std::net::Ipv4Addr::from(u32::from(net.network()).checked_add(n)?)),
        IpNet::V6(net) => IpAddr::from(std::net::Ipv6Addr::from(u128::from(net.network()).checked_add(n.into())?)),
    };
    net.contains(&address).then_some(address)
}
