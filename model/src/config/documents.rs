//! The list of all document kinds. A new kind is a struct in `docs/` and a line here.

use super::docs::{cluster, container, host, kube, net, storage};
use super::problem::{Problem, nearest};
use super::schema::{Cx, FieldType, Info, Section, encode_section};
use super::tree::{Data, Node};

/// The only version of documents.
pub const API_VERSION: &str = "v1alpha1";

/// What is known about a kind.
#[derive(Debug)]
pub struct Kind {
    /// Its name in `kind:`.
    pub name: &'static str,
    /// Its key table.
    pub info: &'static Info,
    /// Only control planes may have it.
    pub is_control_plane_only: bool,
    /// Its name is that of a link, which no other document may claim.
    pub is_link: bool,
    /// A kind that may not have a document of the same name.
    pub rival_kind: Option<&'static str>,
}

impl Kind {
    const fn new(name: &'static str, info: &'static Info) -> Self {
        Self { name, info, is_control_plane_only: false, is_link: false, rival_kind: None }
    }
    const fn control_plane(mut self) -> Self {
        self.is_control_plane_only = true;
        self
    }
    const fn link(mut self) -> Self {
        self.is_link = true;
        self
    }
    const fn rival(mut self, kind: &'static str) -> Self {
        self.rival_kind = Some(kind);
        self
    }
    /// Whether documents have names, so that there may be several.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.info.field("name").is_some()
    }
}

/// A type that is a document.
pub trait Doc: Section + FieldType + Clone + 'static {
    /// Its kind.
    const KIND: &'static Kind;
    /// The document, if it is of this kind.
    fn of(document: &Document) -> Option<&Self>;
    /// As a document.
    fn into_document(self) -> Document;
}

macro_rules! documents {
    ($( $variant:ident($ty:ty) = $kind:literal $( $flag:ident $(( $arg:literal ))? ),* ; )*) => {
        /// A document of any kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Document { $( #[doc = concat!("A `", $kind, "`.")] $variant(Box<$ty>), )* }

        /// All kinds.
        pub static KINDS: &[&Kind] = &[ $( <$ty as Doc>::KIND ),* ];

        impl Document {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> &'static Kind {
                match self { $( Self::$variant(_) => <$ty as Doc>::KIND, )* }
            }
            fn decode_body(kind: &str, node: &Node, cx: &mut Cx) -> Option<Self> {
                match kind { $( $kind => <$ty>::decode(node, cx).map(|d| Self::$variant(Box::new(d))), )* _ => None }
            }
            fn encode_body(&self) -> Node {
                match self { $( Self::$variant(d) => encode_section(&**d), )* }
            }
        }

        $( impl Doc for $ty {
            const KIND: &'static Kind = &Kind::new($kind, <$ty as Section>::INFO)$( .$flag($($arg)?) )*;
            fn of(document: &Document) -> Option<&Self> {
                match document { Document::$variant(d) => Some(d), _ => None }
            }
            fn into_document(self) -> Document {
                Document::$variant(Box::new(self))
            }
        } )*
    };
}

documents! {
    DiscoveryService(cluster::DiscoveryServiceConfig) = "DiscoveryServiceConfig";
    DiscoveryIdentity(cluster::DiscoveryIdentityConfig) = "DiscoveryIdentityConfig";
    SideroLink(cluster::SideroLinkConfig) = "SideroLinkConfig";
    UnattendedInstall(host::UnattendedInstallConfig) = "UnattendedInstallConfig";
    Resolver(net::ResolverConfig) = "ResolverConfig";
    Volume(storage::VolumeConfig) = "VolumeConfig";
    UserVolume(storage::UserVolumeConfig) = "UserVolumeConfig" rival("ExistingVolumeConfig");
    RawVolume(storage::RawVolumeConfig) = "RawVolumeConfig";
    SwapVolume(storage::SwapVolumeConfig) = "SwapVolumeConfig";
    ExistingVolume(storage::ExistingVolumeConfig) = "ExistingVolumeConfig" rival("UserVolumeConfig");
    ExternalVolume(storage::ExternalVolumeConfig) = "ExternalVolumeConfig";
    Zswap(storage::ZswapConfig) = "ZswapConfig";
    FilesystemTrim(storage::FilesystemTrimConfig) = "FilesystemTrimConfig";
    FilesystemScrub(storage::FilesystemScrubConfig) = "FilesystemScrubConfig";
    LvmVolumeGroup(storage::LvmVolumeGroupConfig) = "LVMVolumeGroupConfig";
    LvmLogicalVolume(storage::LvmLogicalVolumeConfig) = "LVMLogicalVolumeConfig";
    RaidArray(storage::RaidArrayConfig) = "RAIDArrayConfig";
    SecurityProfile(host::SecurityProfileConfig) = "SecurityProfileConfig";
    Hostname(net::HostnameConfig) = "HostnameConfig";
    KubeCluster(kube::KubeClusterConfig) = "KubeClusterConfig";
    KubeNode(kube::KubeNodeConfig) = "KubeNodeConfig";
    Kubelet(kube::KubeletConfig) = "KubeletConfig";
    KubeNetwork(kube::KubeNetworkConfig) = "KubeNetworkConfig";
    KubeApiServerCa(kube::KubeApiServerCaConfig) = "KubeAPIServerCAConfig";
    KubePrism(kube::KubePrismConfig) = "KubePrismConfig";
    KubeAggregatorCa(kube::KubeAggregatorCaConfig) = "KubeAggregatorCAConfig" control_plane;
    KubeAdmissionControl(kube::KubeAdmissionControlConfig) = "KubeAdmissionControlConfig" control_plane;
    KubeAuditPolicy(kube::KubeAuditPolicyConfig) = "KubeAuditPolicyConfig" control_plane;
    KubeAuthentication(kube::KubeAuthenticationConfig) = "KubeAuthenticationConfig" control_plane;
    KubeAuthorizer(kube::KubeAuthorizerConfig) = "KubeAuthorizerConfig" control_plane;
    KubeEtcdEncryption(kube::KubeEtcdEncryptionConfig) = "KubeEtcdEncryptionConfig" control_plane;
    KubeServiceAccount(kube::KubeServiceAccountConfig) = "KubeServiceAccountConfig" control_plane;
    KubeApiServer(kube::KubeApiServerConfig) = "KubeAPIServerConfig" control_plane;
    KubeControllerManager(kube::KubeControllerManagerConfig) = "KubeControllerManagerConfig" control_plane;
    KubeScheduler(kube::KubeSchedulerConfig) = "KubeSchedulerConfig" control_plane;
    KubeProxy(kube::KubeProxyConfig) = "KubeProxyConfig" control_plane;
    KubeFlannelCni(kube::KubeFlannelCniConfig) = "KubeFlannelCNIConfig" control_plane;
    KubeCoreDns(kube::KubeCoreDnsConfig) = "KubeCoreDNSConfig" control_plane;
    KubeCredentialProvider(kube::KubeCredentialProviderConfig) = "KubeCredentialProviderConfig";
    KubeStaticPod(kube::KubeStaticPodConfig) = "KubeStaticPodConfig";
    KubeInlineManifest(kube::KubeInlineManifestConfig) = "KubeInlineManifestConfig";
    KubeExternalManifest(kube::KubeExternalManifestConfig) = "KubeExternalManifestConfig";
    KubeTalosApiAccess(kube::KubeTalosApiAccessConfig) = "KubeTalosAPIAccessConfig" control_plane;
    Link(net::LinkConfig) = "LinkConfig" link;
    DummyLink(net::DummyLinkConfig) = "DummyLinkConfig" link;
    Vlan(net::VlanConfig) = "VLANConfig" link;
    Bond(net::BondConfig) = "BondConfig" link;
    Bridge(net::BridgeConfig) = "BridgeConfig" link;
    Vrf(net::VrfConfig) = "VRFConfig" link;
    Veth(net::VethConfig) = "VethConfig" link;
    Wireguard(net::WireguardConfig) = "WireguardConfig" link;
    LinkAlias(net::LinkAliasConfig) = "LinkAliasConfig";
    Ethernet(net::EthernetConfig) = "EthernetConfig";
    Dhcp4(net::Dhcp4Config) = "DHCPv4Config";
    Dhcp6(net::Dhcp6Config) = "DHCPv6Config";
    Layer2Vip(net::Layer2VipConfig) = "Layer2VIPConfig" rival("HCloudVIPConfig");
    HCloudVip(net::HCloudVipConfig) = "HCloudVIPConfig" rival("Layer2VIPConfig");
    TimeSync(net::TimeSyncConfig) = "TimeSyncConfig";
    StaticHost(net::StaticHostConfig) = "StaticHostConfig";
    BlackholeRoute(net::BlackholeRouteConfig) = "BlackholeRouteConfig";
    RoutingRule(net::RoutingRuleConfig) = "RoutingRuleConfig";
    NetworkDefaultAction(net::NetworkDefaultActionConfig) = "NetworkDefaultActionConfig";
    NetworkRule(net::NetworkRuleConfig) = "NetworkRuleConfig";
    KubeSpan(net::KubeSpanConfig) = "KubeSpanConfig";
    KubeSpanEndpoints(net::KubeSpanEndpointsConfig) = "KubeSpanEndpoints";
    TcpProbe(net::TcpProbeConfig) = "TCPProbeConfig";
    HttpProbe(net::HttpProbeConfig) = "HTTPProbeConfig";
    BgpInstance(net::BgpInstanceConfig) = "BGPInstanceConfig";
    Environment(host::EnvironmentConfig) = "EnvironmentConfig";
    EtcFile(host::EtcFileConfig) = "EtcFileConfig";
    EventSink(host::EventSinkConfig) = "EventSinkConfig";
    ExtensionService(host::ExtensionServiceConfig) = "ExtensionServiceConfig";
    KernelModule(host::KernelModuleConfig) = "KernelModuleConfig";
    KmsgLog(host::KmsgLogConfig) = "KmsgLogConfig";
    Oom(host::OomConfig) = "OOMConfig";
    Sysctl(host::SysctlConfig) = "SysctlConfig";
    Sysfs(host::SysfsConfig) = "SysfsConfig";
    UdevRules(host::UdevRulesConfig) = "UdevRulesConfig";
    WatchdogTimer(host::WatchdogTimerConfig) = "WatchdogTimerConfig";
    TrustedRoots(host::TrustedRootsConfig) = "TrustedRootsConfig";
    PciDriverRebind(host::PciDriverRebindConfig) = "PCIDriverRebindConfig";
    Container(container::ContainerConfig) = "ContainerConfig";
    RegistryMirror(container::RegistryMirrorConfig) = "RegistryMirrorConfig";
    RegistryAuth(container::RegistryAuthConfig) = "RegistryAuthConfig";
    RegistryTls(container::RegistryTlsConfig) = "RegistryTLSConfig";
    ImageCache(container::ImageCacheConfig) = "ImageCacheConfig";
    CriCustomization(container::CriCustomizationConfig) = "CRICustomizationConfig";
    CriBaseRuntimeSpec(container::CriBaseRuntimeSpecConfig) = "CRIBaseRuntimeSpecConfig";
    ImageVerification(container::ImageVerificationConfig) = "ImageVerificationConfig";
}

/// The kind of that name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.name == name).copied()
}

impl Document {
    /// Its name; empty for a kind without names.
    #[must_use]
    pub fn name(&self) -> String {
        let index = self.kind().info.fields.iter().position(|f| f.key == "name");
        index.and_then(|_| self.encode_body().get("name").and_then(Node::text).map(str::to_owned)).unwrap_or_default()
    }

    /// `Kind` or `Kind/name`.
    #[must_use]
    pub fn id(&self) -> String {
        document_id(self.kind().name, &self.name())
    }

    /// Reads the document at a node that has a `kind`. Notes in `problems` what is wrong.
    pub fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let header = Header::read(node);
        let kind_node = header.kind?;
        let kind_name = kind_node.text().unwrap_or_default();
        let Some(kind) = kind(kind_name) else {
            let near = nearest(kind_name, KINDS.iter().map(|k| k.name));
            let expected = "one of the kinds of documents; kinds are case sensitive";
            problems
                .push(Problem::error("kind", format!("unknown kind {}", kind_node.describe()), expected).at(kind_node.pos).suggest(near));
            return None;
        };
        let id = document_id(kind.name, header.name.unwrap_or_default());
        match header.api_version {
            Some(version) if version.text() == Some(API_VERSION) => {}
            Some(version) => problems.push(
                Problem::error("apiVersion", version.describe(), format!("`{API_VERSION}`"))
                    .at(version.pos)
                    .in_document(&id)
                    .suggest(Some(API_VERSION)),
            ),
            None => {
                problems.push(Problem::error("apiVersion", "nothing", format!("`apiVersion: {API_VERSION}`")).at(node.pos).in_document(&id))
            }
        }
        let mut cx = Cx::new(id);
        let document = Self::decode_body(kind.name, &body(node), &mut cx);
        problems.append(&mut cx.problems);
        document
    }

    /// Writes it, with its header.
    #[must_use]
    pub fn encode(&self) -> Node {
        let mut entries = vec![("apiVersion".to_owned(), Node::string(API_VERSION)), ("kind".to_owned(), Node::string(self.kind().name))];
        if let Data::Map(body) = self.encode_body().data {
            entries.extend(body.into_iter().map(|e| (e.key, e.value)));
        }
        Node::map(entries)
    }
}

/// `Kind` or `Kind/name`.
#[must_use]
pub fn document_id(kind: &str, name: &str) -> String {
    if name.is_empty() { kind.to_owned() } else { format!("{kind}/{name}") }
}

/// The keys that say which document it is.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// `apiVersion`.
    pub api_version: Option<&'a Node>,
    /// `kind`.
    pub kind: Option<&'a Node>,
    /// `name`.
    pub name: Option<&'a str>,
}

impl<'a> Header<'a> {
    /// The header of a document.
    #[must_use]
    pub fn read(node: &'a Node) -> Self {
        Self {
            api_version: node.get("apiVersion"),
            kind: node.get("kind").filter(|n| !n.is_null()),
            name: node.get("name").and_then(Node::text),
        }
    }
}

/// A document without `apiVersion` and `kind`.
#[must_use]
pub fn body(node: &Node) -> Node {
    let entries = node.entries().iter().filter(|e| e.key != "apiVersion" && e.key != "kind").cloned().collect();
    Node { pos: node.pos, data: Data::Map(entries) }
}
