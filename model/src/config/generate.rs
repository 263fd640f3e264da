//! Generated configurations: from a secrets bundle and a few options to the configuration of a control plane or worker.
//!
//! Pure: the same secrets and options give the same bytes. Which style comes out (documents, or everything in the root) and which settings it
//! has depends on the [`Contract`], the version of the format that the machines understand.

mod documents;
mod root;

use std::fmt;

use ipnet::IpNet;

use super::machine::{DEFAULT_KUBERNETES_VERSION, MachineType};
use super::patch::Patch;
use super::problem::Problems;
use super::secrets::Bundle;
use super::types::Url;
use super::{Config, Parsed, schema};

/// A version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contract {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
}

impl Contract {
    /// The newest.
    pub const CURRENT: Self = Self { major: 1, minor: 15 };

    /// Reads `v1.12`, `1.12` or `v1.12.3`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?);
        let minor = minor.split(['-', '+']).next()?.parse().ok()?;
        Some(Self { major, minor })
    }

    /// Whether it is later than 1.`minor`.
    #[must_use]
    pub const fn after(self, minor: u16) -> bool {
        self.major > 1 || (self.major == 1 && self.minor > minor)
    }

    /// Whether everything has its own document.
    #[must_use]
    pub const fn has_documents(self) -> bool {
        self.after(13)
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}", self.major, self.minor)
    }
}

/// What to generate for.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Name of the cluster.
    pub cluster_name: String,
    /// URL of the Kubernetes API.
    pub endpoint: Url,
    /// Version of the format.
    pub contract: Contract,
    /// Version of Kubernetes, with or without `v`.
    pub kubernetes_version: String,
    /// Where to install; none for machines that are not installed (containers, clouds).
    pub install: Option<InstallTarget>,
    /// Extra names and addresses for the certificates of the machine API and of the Kubernetes API.
    pub additional_sans: Vec<String>,
    /// Domain of services.
    pub dns_domain: String,
    /// Pod networks.
    pub pod_subnets: Vec<IpNet>,
    /// Service networks.
    pub service_subnets: Vec<IpNet>,
    /// URL of the discovery service; none for no discovery.
    pub discovery: Option<Url>,
    /// Turn the mesh between nodes on.
    pub kubespan: bool,
    /// Pods on control planes.
    pub schedule_on_control_planes: bool,
    /// Deploy flannel as pod network.
    pub flannel: bool,
    /// Port of kube-apiserver, if it is not 6443.
    pub api_port: Option<u16>,
    /// Mirrors of image registries: registry and URL.
    pub registry_mirrors: Vec<(String, Url)>,
}

/// Where to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallTarget {
    /// Disk, such as /dev/sda.
    pub disk: String,
    /// Installer image; empty for the machine's own.
    pub image: String,
}

impl Options {
    /// The defaults for a cluster with that name and endpoint, of the newest format, for machines that are not installed.
    #[must_use]
    pub fn new(cluster_name: impl Into<String>, endpoint: Url) -> Self {
        let net = |text: &str| text.parse::<IpNet>().into_iter().collect();
        Self {
            cluster_name: cluster_name.into(),
            endpoint,
            contract: Contract::CURRENT,
            kubernetes_version: DEFAULT_KUBERNETES_VERSION.to_owned(),
            install: None,
            additional_sans: Vec::new(),
            dns_domain: "cluster.local".to_owned(),
            pod_subnets: net("10.244.0.0/16"),
            service_subnets: net("10.96.0.0/12"),
            discovery: Url::new(super::legacy::translate::DEFAULT_DISCOVERY_ENDPOINT).ok(),
            kubespan: false,
            schedule_on_control_planes: false,
            flannel: true,
            api_port: None,
            registry_mirrors: Vec::new(),
        }
    }

    fn image(&self, name: &str) -> String {
        format!("{name}:v{}", self.kubernetes_version.strip_prefix('v').unwrap_or(&self.kubernetes_version))
    }
}

/// Generates the configuration of a machine.
#[must_use]
pub fn generate(secrets: &Bundle, options: &Options, machine_type: MachineType) -> Config {
    let root = if options.contract.has_documents() {
        root::small(secrets, options, machine_type)
    } else {
        root::whole(secrets, options, machine_type)
    };
    let documents = documents::all(secrets, options, machine_type);
    let parsed = |value: super::Document| Parsed { node: value.encode(), value };
    let mut config = Config { root: Some(Parsed { node: schema::encode_section(&root), value: root }), ..Config::default() };
    config.documents = documents.into_iter().map(parsed).collect();
    config
}

/// Generates the configuration of a machine and applies patches to it.
///
/// # Errors
/// All problems of the first patch that does not fit.
pub fn generate_patched(secrets: &Bundle, options: &Options, machine_type: MachineType, patches: &[Patch]) -> Result<Config, Problems> {
    super::patch::apply(&generate(secrets, options, machine_type), patches)
}
