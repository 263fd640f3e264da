//! The root document, said in documents. Where a document says the same thing, the document wins.

use std::collections::BTreeMap;

use base64::Engine as _;
use ipnet::IpNet;

use super::root::{Cert, CertKey, Cluster, Features, Key, LegacyResources, Machine, Registries, Root};
use super::{devices, links, root};
use crate::config::docs::cluster::{DiscoveryIdentityConfig, DiscoveryServiceConfig};
use crate::config::docs::container::{
    CriBaseRuntimeSpecConfig, CriCustomizationConfig, ImageCacheConfig, LocalImageCache, PemPair, RegistryAuthConfig, RegistryEndpoint,
    RegistryMirrorConfig, RegistryTlsConfig,
};
use crate::config::docs::host::{
    DiskSelector, EnvironmentConfig, InstallProvisioning, InstallerImage, KernelModuleConfig, SysctlConfig, SysfsConfig, UdevRulesConfig,
    UnattendedInstallConfig,
};
use crate::config::docs::kube::{
    AuthorizerType, KubeAdmissionControlConfig, KubeAggregatorCaConfig, KubeApiServerCaConfig, KubeApiServerConfig, KubeAuditPolicyConfig,
    KubeAuthorizerConfig, KubeClusterConfig, KubeControllerManagerConfig, KubeCoreDnsConfig, KubeCredentialProviderConfig,
    KubeEtcdEncryptionConfig, KubeExternalManifestConfig, KubeFlannelCniConfig, KubeInlineManifestConfig, KubeNetworkConfig,
    KubeNodeConfig, KubePrismConfig, KubeProxyConfig, KubeSchedulerConfig, KubeServiceAccountConfig, KubeStaticPodConfig,
    KubeTalosApiAccessConfig, KubeletConfig, NodeIp, Resources, ServiceAccountIssuer,
};
use crate::config::docs::net::{
    AutoHostname, HostDns, HostnameConfig, KubeSpanConfig, KubeSpanFilters, Nameserver, NtpConfig, ResolverConfig, SearchDomains,
    StaticHostConfig, TimeSyncConfig,
};
use crate::config::docs::storage::{Encryption, EncryptionKey, TpmKey, VolumeConfig};
use crate::config::machine::{Base, CaPem, DEFAULT_KUBERNETES_VERSION, Etcd, MachineConfig, MachineType, default_audit_policy};
use crate::config::types::{Any, AnyMap, Cel, Duration, Pem, Secret, SecretMap, Url};
use crate::config::{Config, Doc, Document};

/// The label that makes a node a control plane.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// The discovery service of the format's authors.
pub const DEFAULT_DISCOVERY_ENDPOINT: &str = "https://discovery.talos.dev/";

/// What a configuration means.
#[must_use]
pub fn machine(config: &Config) -> MachineConfig {
    let mut documents: Vec<Document> = config.documents.iter().map(|d| d.value.clone()).collect();
    let base = config.root.as_ref().map(|root| {
        let mut out = Out { documents: &mut documents };
        let root = &root.value;
        let base = base(root);
        machine_documents(root, &base, &mut out);
        if let Some(cluster) = &root.cluster {
            cluster_documents(root, cluster, &base, &mut out);
        }
        base
    });
    MachineConfig { bytes: config.bytes(), documents, base: base.unwrap_or_default() }
}

/// Where documents are added that the configuration does not have itself.
struct Out<'a> {
    documents: &'a mut Vec<Document>,
}

impl Out<'_> {
    fn has<D: Doc>(&self) -> bool {
        self.documents.iter().any(|d| D::of(d).is_some())
    }
    /// Adds a document of a kind without names, unless there is one.
    fn single<D: Doc>(&mut self, document: D) {
        if !self.has::<D>() {
            self.documents.push(document.into_document());
        }
    }
    /// Adds a document about a link, unless another document configures that link.
    fn link(&mut self, document: Document) {
        let claimed = |d: &Document| d.kind().is_link && d.name() == document.name();
        if !(document.kind().is_link && self.documents.iter().any(claimed)) {
            self.add(document);
        }
    }
    /// Adds a document with a name, unless there is one of that name.
    fn named<D: Doc>(&mut self, document: D) {
        self.add(document.into_document());
    }
    fn add(&mut self, document: Document) {
        if !self.documents.iter().any(|d| d.id() == document.id()) {
            self.documents.push(document);
        }
    }
}

/// Text out of base64; text that is no base64 is taken as it is.
fn pem(base64: &str) -> String {
    let compact: String = base64.split_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(compact).ok();
    bytes.and_then(|b| String::from_utf8(b).ok()).unwrap_or_else(|| base64.to_owned())
}

fn ca_pem(ca: &CertKey) -> CaPem {
    let key = if ca.key.is_empty() { Secret::default() } else { Secret::new(pem(ca.key.expose())) };
    CaPem { cert: pem(&ca.crt), key }
}

fn accepted(certs: &[Cert]) -> impl Iterator<Item = String> {
    certs.iter().map(|c| pem(&c.crt))
}

fn base(root: &Root) -> Base {
    let machine = root.machine.clone().unwrap_or_default();
    let cluster = root.cluster.clone().unwrap_or_default();
    let features = machine.features.clone().unwrap_or_default();
    let etcd = cluster.etcd.unwrap_or_default();
    let volumes = [
        ("apiServer", cluster.api_server.map(|c| c.extra_volumes)),
        ("controllerManager", cluster.controller_manager.map(|c| c.extra_volumes)),
        ("scheduler", cluster.scheduler.map(|c| c.extra_volumes)),
    ];
    let lifetime = cluster.admin_kubeconfig.and_then(|c| c.cert_lifetime);
    Base {
        present: true,
        machine_type: MachineType::parse(&machine.type_).unwrap_or_default(),
        debug: root.debug.unwrap_or(false),
        token: machine.token,
        ca: machine.ca.as_ref().map(ca_pem),
        accepted_cas: accepted(&machine.accepted_cas).collect(),
        cert_sans: machine.cert_sans,
        bootstrap_token: cluster.token,
        etcd: Etcd {
            image: etcd.image,
            ca: etcd.ca.as_ref().map(ca_pem),
            extra_args: etcd.extra_args,
            advertised_subnets: etcd.subnet.into_iter().chain(etcd.advertised_subnets).collect(),
            listen_subnets: etcd.listen_subnets,
        },
        external_cloud_provider: cluster.external_cloud_provider.and_then(|c| c.enabled).unwrap_or(false),
        admin_cert_lifetime: lifetime.unwrap_or(Duration::from_secs(8760 * 3600)),
        disk_quota: features.disk_quota_support.unwrap_or(false),
        node_address_sort: features.node_address_sort_algorithm,
        log_destinations: machine.logging.map(|l| l.destinations).unwrap_or_default(),
        seccomp_profiles: machine.seccomp_profiles.unwrap_or_default(),
        files: machine.files.into_iter().filter(|f| f.path != CRI_PART).collect(),
        disks: machine.disks,
        devices: machine.network.and_then(|n| n.interfaces).unwrap_or_default().into_iter().filter(|d| !links::has_documents(d)).collect(),
        kubelet_mounts: machine.kubelet.map(|k| k.extra_mounts).unwrap_or_default(),
        extra_volumes: volumes.into_iter().filter_map(|(k, v)| v.filter(|v| !v.is_empty()).map(|v| (k, v))).collect(),
    }
}

/// The file that once customised the container runtime.
const CRI_PART: &str = "/etc/cri/conf.d/20-customization.part";

fn machine_documents(root: &Root, base: &Base, out: &mut Out<'_>) {
    let Some(machine) = &root.machine else { return };
    network_documents(machine, out);
    install_document(machine, out);
    for file in machine.files.iter().filter(|f| f.path == CRI_PART) {
        out.named(CriCustomizationConfig { name: "20-customization".to_owned(), content: file.content.clone() });
    }
    if !machine.env.is_empty() {
        out.single(EnvironmentConfig { variables: machine.env.clone() });
    }
    if let Some(time) = &machine.time {
        let ntp = (!time.servers.is_empty()).then(|| NtpConfig { servers: time.servers.clone(), use_nts: None });
        out.single(TimeSyncConfig { enabled: time.disabled.map(|d| !d), boot_timeout: time.boot_timeout, ntp, ptp: None });
    }
    if !machine.sysctls.is_empty() {
        out.single(SysctlConfig { params: machine.sysctls.clone() });
    }
    if !machine.sysfs.is_empty() {
        out.single(SysfsConfig { params: machine.sysfs.clone() });
    }
    if let Some(udev) = machine.udev.as_ref().filter(|u| !u.rules.is_empty()) {
        out.single(UdevRulesConfig { rules: udev.rules.clone() });
    }
    for module in machine.kernel.iter().flat_map(|k| &k.modules) {
        out.named(KernelModuleConfig { name: module.name.clone(), parameters: module.parameters.clone() });
    }
    if !machine.base_runtime_spec_overrides.is_empty() {
        out.single(CriBaseRuntimeSpecConfig { overrides: machine.base_runtime_spec_overrides.clone() });
    }
    if let Some(registries) = &machine.registries {
        registry_documents(registries, out);
    }
    encryption_documents(machine, out);
    if let Some(features) = &machine.features {
        feature_documents(features, base, out);
    }
    for (i, pod) in machine.pods.iter().enumerate() {
        let name = pod.get("metadata").and_then(|m| m.get("name")).and_then(Any::as_str).map_or_else(|| format!("pod-{i}"), str::to_owned);
        out.named(KubeStaticPodConfig { name, pod: pod.clone() });
    }
}

fn network_documents(machine: &Machine, out: &mut Out<'_>) {
    let network = machine.network.clone().unwrap_or_default();
    let stable = machine.features.as_ref().and_then(|f| f.stable_hostname) == Some(true);
    if !network.hostname.is_empty() {
        out.single(HostnameConfig { auto: None, hostname: network.hostname });
    } else if stable {
        out.single(HostnameConfig { auto: Some(AutoHostname::Stable), hostname: String::new() });
    }
    let host_dns = machine.features.as_ref().and_then(|f| f.host_dns.as_ref()).map(|h| HostDns {
        enabled: h.enabled,
        forward_kube_dns_to_host: h.forward_kube_dns_to_host,
        resolve_member_names: h.resolve_member_names,
    });
    let search = (!network.search_domains.is_empty() || network.disable_search_domain.is_some())
        .then_some(SearchDomains { domains: network.search_domains, disable_default: network.disable_search_domain });
    if host_dns.is_some() || search.is_some() || !network.nameservers.is_empty() {
        let nameserver = |address| Nameserver { address: Some(address), ..Nameserver::default() };
        let nameservers = network.nameservers.into_iter().map(nameserver).collect();
        out.single(ResolverConfig { nameservers, search_domains: search, host_dns });
    }
    for entry in network.extra_host_entries {
        if let Some(ip) = entry.ip {
            out.named(StaticHostConfig { name: ip.to_string(), hostnames: entry.aliases });
        }
    }
    if let Some(span) = network.kubespan {
        out.single(kube_span(span));
    }
    for document in links::documents(network.interfaces.as_deref().unwrap_or_default()) {
        out.link(document);
    }
}

fn kube_span(span: devices::KubeSpan) -> KubeSpanConfig {
    KubeSpanConfig {
        enabled: span.enabled,
        advertise_kubernetes_networks: span.advertise_kubernetes_networks,
        allow_down_peer_bypass: span.allow_down_peer_bypass,
        harvest_extra_endpoints: span.harvest_extra_endpoints,
        mtu: span.mtu,
        filters: span
            .filters
            .map(|f| KubeSpanFilters { endpoints: f.endpoints, exclude_advertised_networks: f.exclude_advertised_networks }),
    }
}

fn install_document(machine: &Machine, out: &mut Out<'_>) {
    let Some(install) = &machine.install else { return };
    let mut conditions: Vec<String> = Vec::new();
    if !install.disk.is_empty() {
        conditions.push(format!("disk.dev_path == {:?}", install.disk));
    }
    if let Some(selector) = &install.disk_selector {
        let texts = [
            ("dev_path", &selector.name),
            ("model", &selector.model),
            ("serial", &selector.serial),
            ("modalias", &selector.modalias),
            ("uuid", &selector.uuid),
            ("wwid", &selector.wwid),
            ("bus_path", &selector.bus_path),
        ];
        conditions
            .extend(texts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(field, text)| format!("glob({text:?}, disk.{field})")));
        conditions.extend(selector.size.as_ref().map(|size| {
            let text = size.as_str().trim();
            let operator: String = text.chars().take_while(|c| "<>=".contains(*c)).collect();
            let bytes = crate::config::types::Size::new(text.trim_start_matches(['<', '>', '=', ' '])).map(|s| s.bytes()).unwrap_or(0);
            format!("disk.size {} {bytes}u", if operator.is_empty() { "==" } else { &operator })
        }));
        conditions.extend(selector.type_.map(|kind| match kind {
            root::DiskType::Nvme => "disk.transport == \"nvme\"".to_owned(),
            root::DiskType::Sd => "disk.transport == \"mmc\"".to_owned(),
            root::DiskType::Hdd => "disk.rotational".to_owned(),
            root::DiskType::Ssd => "!disk.rotational".to_owned(),
        }));
    }
    if conditions.is_empty() {
        return;
    }
    let selector = DiskSelector { matches: Cel::new(conditions.join(" && ")).ok() };
    out.single(UnattendedInstallConfig {
        reboot: None,
        installer: (!install.image.is_empty()).then(|| InstallerImage { image: install.image.clone() }),
        provisioning: Some(InstallProvisioning { disk_selector: Some(selector), wipe: Some(install.wipe.unwrap_or(false)) }),
    });
}

fn registry_documents(registries: &Registries, out: &mut Out<'_>) {
    for (name, mirror) in &registries.mirrors {
        let endpoint = |url: &Url| RegistryEndpoint { url: url.clone(), override_path: mirror.override_path };
        let endpoints = mirror.endpoints.iter().map(endpoint).collect();
        out.named(RegistryMirrorConfig { name: name.clone(), endpoints, skip_fallback: mirror.skip_fallback });
    }
    for (name, settings) in &registries.config {
        if let Some(tls) = &settings.tls {
            out.named(RegistryTlsConfig {
                name: name.clone(),
                client_identity: tls.client_identity.as_ref().map(pem_pair),
                ca: Pem::new(pem(&tls.ca)).ok(),
                insecure_skip_verify: tls.insecure_skip_verify,
            });
        }
        if let Some(auth) = &settings.auth {
            out.named(RegistryAuthConfig {
                name: name.clone(),
                username: auth.username.clone(),
                password: auth.password.clone(),
                auth: auth.auth.clone(),
                identity_token: auth.identity_token.clone(),
            });
        }
    }
}

fn pem_pair(pair: &CertKey) -> PemPair {
    let CaPem { cert, key } = ca_pem(pair);
    PemPair { cert: Pem::new(cert).unwrap_or_default(), key }
}

fn encryption_documents(machine: &Machine, out: &mut Out<'_>) {
    let Some(encryption) = &machine.system_disk_encryption else { return };
    for (name, settings) in [("STATE", &encryption.state), ("EPHEMERAL", &encryption.ephemeral)] {
        let Some(settings) = settings else { continue };
        let key = |k: &root::LegacyEncryptionKey| EncryptionKey {
            slot: k.slot,
            static_: k.static_.clone(),
            node_id: k.node_id.clone(),
            kms: k.kms.clone(),
            tpm: k.tpm.as_ref().map(|t| TpmKey { options: None, check_secureboot_status_on_enroll: t.check_secureboot_status_on_enroll }),
            lock_to_state: None,
        };
        let encryption = Encryption {
            provider: settings.provider,
            keys: settings.keys.iter().map(key).collect(),
            cipher: settings.cipher,
            key_size: settings.key_size,
            block_size: settings.block_size,
            options: settings.options.clone(),
            allow_discards: None,
        };
        let existing = out.documents.iter_mut().find_map(|d| match d {
            Document::Volume(v) if v.name == name => Some(v),
            _ => None,
        });
        match existing {
            Some(volume) => {
                volume.encryption.get_or_insert(encryption);
            }
            None => out.named(VolumeConfig { name: name.to_owned(), encryption: Some(encryption), ..VolumeConfig::default() }),
        }
    }
}

fn feature_documents(features: &Features, base: &Base, out: &mut Out<'_>) {
    if let Some(prism) = features.kube_prism.as_ref().filter(|p| p.enabled == Some(true)) {
        out.single(KubePrismConfig { port: Some(prism.port.unwrap_or(7445)), tls_server_name: String::new() });
    }
    if let Some(cache) = &features.image_cache {
        out.single(ImageCacheConfig { local: Some(LocalImageCache { enabled: cache.local_enabled }) });
    }
    let access = features.kubernetes_talos_api_access.as_ref().filter(|a| a.enabled == Some(true));
    if let Some(access) = access.filter(|_| base.machine_type.is_control_plane()) {
        out.single(KubeTalosApiAccessConfig {
            allowed_roles: access.allowed_roles.clone(),
            allowed_kubernetes_namespaces: access.allowed_kubernetes_namespaces.clone(),
        });
    }
}

fn cluster_documents(root: &Root, cluster: &Cluster, base: &Base, out: &mut Out<'_>) {
    if !cluster.id.is_empty() {
        out.single(DiscoveryIdentityConfig { cluster_id: cluster.id.clone(), cluster_secret: cluster.secret.clone() });
    }
    discovery_document(cluster, out);
    manifest_documents(cluster, out);
    let legacy_kubernetes = cluster.control_plane.is_some() && !out.has::<KubeClusterConfig>();
    if !legacy_kubernetes {
        return;
    }
    let endpoint = cluster.control_plane.as_ref().and_then(|c| c.endpoint.clone());
    out.single(KubeClusterConfig { cluster_name: cluster.cluster_name.clone(), endpoint: endpoint.clone() });
    network_document(cluster, base, out);
    node_documents(root, cluster, base, out);
    let control_plane = base.machine_type.is_control_plane();
    if let Some(ca) = &cluster.ca {
        let pair = pem_pair(ca);
        let own = if control_plane && !pair.key.is_empty() { None } else { Some(pair.cert.clone()) };
        let issuing = own.is_none().then_some(pair);
        let accepted = own.into_iter().chain(accepted(&cluster.accepted_cas).filter_map(|c| Pem::new(c).ok())).collect();
        out.single(KubeApiServerCaConfig { issuing_ca: issuing, accepted_cas: accepted });
    }
    if control_plane {
        secret_documents(cluster, endpoint, out);
        control_plane_documents(root, cluster, out);
    }
}

fn discovery_document(cluster: &Cluster, out: &mut Out<'_>) {
    let Some(discovery) = cluster.discovery.as_ref().filter(|d| d.enabled == Some(true)) else { return };
    let service = discovery.registries.as_ref().and_then(|r| r.service.clone()).unwrap_or_default();
    if service.disabled == Some(true) || out.has::<DiscoveryServiceConfig>() {
        return;
    }
    let default = || Url::new(DEFAULT_DISCOVERY_ENDPOINT).unwrap_or_default();
    out.named(DiscoveryServiceConfig { name: "default".to_owned(), endpoint: service.endpoint.unwrap_or_else(default) });
}

fn network_document(cluster: &Cluster, base: &Base, out: &mut Out<'_>) {
    let network = cluster.network.clone().unwrap_or_default();
    let or = |nets: Vec<IpNet>, default: &str| if nets.is_empty() { default.parse().into_iter().collect() } else { nets };
    out.single(KubeNetworkConfig {
        dns_domain: if network.dns_domain.is_empty() { "cluster.local".to_owned() } else { network.dns_domain },
        pod_subnets: or(network.pod_subnets, "10.244.0.0/16"),
        service_subnets: or(network.service_subnets, "10.96.0.0/12"),
        node_cidr_mask_size_ipv4: None,
        node_cidr_mask_size_ipv6: None,
    });
    if !base.machine_type.is_control_plane() {
        return;
    }
    let cni = network.cni.unwrap_or_default();
    match cni.name.unwrap_or(root::CniName::Flannel) {
        root::CniName::Flannel => {
            let flannel = cni.flannel.unwrap_or_default();
            out.single(KubeFlannelCniConfig {
                backend_type: "vxlan".to_owned(),
                backend_port: Some(4789),
                extra_args: flannel.extra_args,
                kube_network_policies_enabled: flannel.kube_network_policies_enabled,
                ..KubeFlannelCniConfig::default()
            });
        }
        root::CniName::Custom => {
            for (i, url) in cni.urls.into_iter().enumerate() {
                out.named(KubeExternalManifestConfig { name: format!("custom-cni-{i}"), headers: BTreeMap::new(), url: Some(url) });
            }
        }
        root::CniName::None => {}
    }
}

fn node_documents(root: &Root, cluster: &Cluster, base: &Base, out: &mut Out<'_>) {
    let machine = root.machine.clone().unwrap_or_default();
    let kubelet = machine.kubelet.unwrap_or_default();
    let mut labels = machine.node_labels;
    let mut taints = machine.node_taints;
    if base.machine_type.is_control_plane() {
        labels.entry(CONTROL_PLANE_LABEL.to_owned()).or_default();
        if cluster.allow_scheduling_on_control_planes.or(cluster.allow_scheduling_on_masters) != Some(true) {
            taints.entry(CONTROL_PLANE_LABEL.to_owned()).or_insert_with(|| "NoSchedule".to_owned());
        }
    }
    out.single(KubeNodeConfig {
        skip_node_registration: kubelet.skip_node_registration,
        register_with_fqdn: kubelet.register_with_fqdn,
        node_ip: kubelet.node_ip.map(|n| NodeIp { valid_subnets: n.valid_subnets }),
        labels,
        annotations: machine.node_annotations,
        taints,
    });
    out.single(KubeletConfig {
        image: or_image(kubelet.image, "ghcr.io/siderolabs/kubelet"),
        config: kubelet.extra_config,
        extra_args: kubelet.extra_args,
        cluster_dns: kubelet.cluster_dns,
        default_runtime_seccomp_profile_enabled: kubelet.default_runtime_seccomp_profile_enabled,
    });
    if !kubelet.credential_provider_config.is_empty() {
        out.single(KubeCredentialProviderConfig { configuration: kubelet.credential_provider_config });
    }
}

fn or_image(image: String, default: &str) -> String {
    if image.is_empty() { format!("{default}:{DEFAULT_KUBERNETES_VERSION}") } else { image }
}

fn secret_documents(cluster: &Cluster, endpoint: Option<Url>, out: &mut Out<'_>) {
    if let Some(ca) = &cluster.aggregator_ca {
        let accepted_cas = Vec::new();
        out.single(KubeAggregatorCaConfig { issuing_ca: Some(pem_pair(ca)), accepted_cas });
    }
    if let Some(Key { key }) = &cluster.service_account {
        let issuer = ServiceAccountIssuer { private_key: Secret::new(pem(key.expose())), issuer_url: endpoint };
        out.single(KubeServiceAccountConfig { issuer: Some(issuer), accepted: None });
    }
    let secretbox = ("secretbox", "key2", &cluster.secretbox_encryption_secret);
    let aescbc = ("aescbc", "key1", &cluster.aescbc_encryption_secret);
    let mut providers: Vec<Any> = [secretbox, aescbc]
        .into_iter()
        .filter(|(_, _, secret)| !secret.is_empty())
        .map(|(provider, name, secret)| serde_json::json!({ provider: { "keys": [{ "name": name, "secret": secret.expose() }] } }))
        .collect();
    if !providers.is_empty() {
        providers.push(serde_json::json!({ "identity": {} }));
        let rule = serde_json::json!({ "resources": ["secrets"], "providers": providers });
        out.single(KubeEtcdEncryptionConfig { config: SecretMap(AnyMap::from_iter([("resources".to_owned(), Any::Array(vec![rule]))])) });
    }
}

fn resources(legacy: Option<&LegacyResources>) -> Option<Resources> {
    let text = |(k, v): (&String, &Any)| (k.clone(), v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let map = |m: &BTreeMap<String, Any>| m.iter().map(text).collect();
    legacy.map(|r| Resources { requests: map(&r.requests), limits: map(&r.limits) })
}

fn control_plane_documents(root: &Root, cluster: &Cluster, out: &mut Out<'_>) {
    let own = root.machine.as_ref().and_then(|m| m.control_plane.clone()).unwrap_or_default();
    api_server_documents(cluster, out);
    let manager = cluster.controller_manager.clone().unwrap_or_default();
    let disabled = |d: Option<root::Disabled>| d.and_then(|d| d.disabled).filter(|d| *d).map(|_| false);
    out.single(KubeControllerManagerConfig {
        enabled: disabled(own.controller_manager),
        resources: resources(manager.resources.as_ref()),
        image: or_image(manager.image, "registry.k8s.io/kube-controller-manager"),
        extra_args: manager.extra_args,
        env: manager.env,
    });
    let scheduler = cluster.scheduler.clone().unwrap_or_default();
    out.single(KubeSchedulerConfig {
        enabled: disabled(own.scheduler),
        resources: resources(scheduler.resources.as_ref()),
        image: or_image(scheduler.image, "registry.k8s.io/kube-scheduler"),
        config: scheduler.config,
        extra_args: scheduler.extra_args,
        env: scheduler.env,
    });
    let proxy = cluster.proxy.clone().unwrap_or_default();
    out.single(KubeProxyConfig {
        enabled: proxy.disabled.map(|d| !d),
        image: or_image(proxy.image, "registry.k8s.io/kube-proxy"),
        mode: proxy.mode,
        config: AnyMap::new(),
        extra_args: proxy.extra_args,
        resources: None,
    });
    let dns = cluster.core_dns.clone().unwrap_or_default();
    out.single(KubeCoreDnsConfig { enabled: Some(dns.disabled != Some(true)), image: dns.image });
}

fn api_server_documents(cluster: &Cluster, out: &mut Out<'_>) {
    let server = cluster.api_server.clone().unwrap_or_default();
    for admission in server.admission_control.into_iter().flatten() {
        out.named(KubeAdmissionControlConfig { name: admission.name, configuration: admission.configuration });
    }
    let policy = if server.audit_policy.is_empty() { default_audit_policy() } else { server.audit_policy };
    out.single(KubeAuditPolicyConfig { configuration: policy });
    if !out.has::<KubeAuthorizerConfig>() {
        for (name, kind) in [("node", AuthorizerType::Node), ("rbac", AuthorizerType::Rbac)] {
            out.named(KubeAuthorizerConfig { name: name.to_owned(), type_: Some(kind), webhook: AnyMap::new() });
        }
        for authorizer in server.authorization_config {
            let builtin = matches!(authorizer.type_, Some(AuthorizerType::Node | AuthorizerType::Rbac));
            if !builtin {
                out.named(KubeAuthorizerConfig { name: authorizer.name, type_: authorizer.type_, webhook: authorizer.webhook });
            }
        }
    }
    out.single(KubeApiServerConfig {
        resources: resources(server.resources.as_ref()),
        image: or_image(server.image, "registry.k8s.io/kube-apiserver"),
        extra_args: server.extra_args,
        env: server.env,
        api_port: cluster.control_plane.as_ref().and_then(|c| c.local_api_server_port),
        cert_extra_sans: server.cert_sans,
        startup_probes: None,
    });
}

fn manifest_documents(cluster: &Cluster, out: &mut Out<'_>) {
    for manifest in cluster.inline_manifests.iter().flatten() {
        out.named(KubeInlineManifestConfig { name: manifest.name.clone(), manifest: manifest.contents.clone() });
    }
    let cloud = cluster.external_cloud_provider.iter().filter(|c| c.enabled == Some(true)).flat_map(|c| &c.manifests);
    let extra: Vec<Url> = cluster.extra_manifests.iter().flatten().filter_map(|u| Url::new(u.as_str()).ok()).collect();
    for (i, url) in cloud.chain(&extra).enumerate() {
        let name = format!("legacy-{i}");
        out.named(KubeExternalManifestConfig { name, headers: cluster.extra_manifest_headers.clone(), url: Some(url.clone()) });
    }
}
