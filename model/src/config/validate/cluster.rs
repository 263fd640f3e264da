//! Rules across documents.

use super::{Mode, Options};
use crate::config::docs::cluster::{DiscoveryIdentityConfig, DiscoveryServiceConfig};
use crate::config::docs::kube::{KubeApiServerCaConfig, KubeEtcdEncryptionConfig};
use crate::config::docs::net::{DnsProtocol, KubeSpanConfig, ResolverConfig};
use crate::config::legacy::root::{Cluster, Machine};
use crate::config::machine::MachineType;
use crate::config::problem::Problem;
use crate::config::{Config, Doc, Document, ROOT_ID};

/// A key of the root document, and the kind of document that says the same.
type Conflict = (&'static str, &'static str, fn(&Machine, &Cluster) -> bool);

/// What may not be said twice.
const CONFLICTS: &[Conflict] = &[
    ("cluster.discovery", "DiscoveryServiceConfig", |_, c| c.discovery.is_some()),
    ("cluster.id", "DiscoveryIdentityConfig", |_, c| !c.id.is_empty()),
    ("cluster.secret", "DiscoveryIdentityConfig", |_, c| !c.secret.is_empty()),
    ("machine.features.imageCache", "ImageCacheConfig", |m, _| m.features.as_ref().is_some_and(|f| f.image_cache.is_some())),
    ("machine.baseRuntimeSpecOverrides", "CRIBaseRuntimeSpecConfig", |m, _| !m.base_runtime_spec_overrides.is_empty()),
    ("cluster.clusterName", "KubeClusterConfig", |_, c| !c.cluster_name.is_empty()),
    ("cluster.controlPlane.endpoint", "KubeClusterConfig", |_, c| c.control_plane.as_ref().is_some_and(|p| p.endpoint.is_some())),
    ("cluster.network", "KubeNetworkConfig", |_, c| c.network.is_some()),
    ("cluster.network", "KubeFlannelCNIConfig", |_, c| c.network.is_some()),
    ("cluster.apiServer", "KubeAPIServerConfig", |_, c| c.api_server.is_some()),
    ("cluster.controlPlane.localAPIServerPort", "KubeAPIServerConfig", |_, c| {
        c.control_plane.as_ref().is_some_and(|p| p.local_api_server_port.is_some())
    }),
    ("cluster.ca", "KubeAPIServerCAConfig", |_, c| c.ca.is_some()),
    ("cluster.aggregatorCA", "KubeAggregatorCAConfig", |_, c| c.aggregator_ca.is_some()),
    ("cluster.serviceAccount", "KubeServiceAccountConfig", |_, c| c.service_account.is_some()),
    ("cluster.secretboxEncryptionSecret", "KubeEtcdEncryptionConfig", |_, c| !c.secretbox_encryption_secret.is_empty()),
    ("cluster.aescbcEncryptionSecret", "KubeEtcdEncryptionConfig", |_, c| !c.aescbc_encryption_secret.is_empty()),
    ("cluster.controllerManager", "KubeControllerManagerConfig", |_, c| c.controller_manager.is_some()),
    ("machine.controlPlane.controllerManager", "KubeControllerManagerConfig", |m, _| {
        m.control_plane.as_ref().is_some_and(|p| p.controller_manager.is_some())
    }),
    ("cluster.scheduler", "KubeSchedulerConfig", |_, c| c.scheduler.is_some()),
    ("machine.controlPlane.scheduler", "KubeSchedulerConfig", |m, _| m.control_plane.as_ref().is_some_and(|p| p.scheduler.is_some())),
    ("cluster.proxy", "KubeProxyConfig", |_, c| c.proxy.is_some()),
    ("cluster.coreDNS", "KubeCoreDNSConfig", |_, c| c.core_dns.is_some()),
    ("machine.kubelet", "KubeletConfig", |m, _| m.kubelet.is_some()),
    ("machine.kubelet", "KubeCredentialProviderConfig", |m, _| m.kubelet.is_some()),
    ("cluster.allowSchedulingOnControlPlanes", "KubeNodeConfig", |_, c| c.allow_scheduling_on_control_planes.is_some()),
    ("cluster.allowSchedulingOnMasters", "KubeNodeConfig", |_, c| c.allow_scheduling_on_masters.is_some()),
    ("machine.kubelet.nodeIP", "KubeNodeConfig", |m, _| m.kubelet.as_ref().is_some_and(|k| k.node_ip.is_some())),
    ("machine.kubelet.registerWithFQDN", "KubeNodeConfig", |m, _| m.kubelet.as_ref().is_some_and(|k| k.register_with_fqdn.is_some())),
    ("machine.kubelet.skipNodeRegistration", "KubeNodeConfig", |m, _| {
        m.kubelet.as_ref().is_some_and(|k| k.skip_node_registration.is_some())
    }),
    ("machine.nodeLabels", "KubeNodeConfig", |m, _| !m.node_labels.is_empty()),
    ("machine.nodeAnnotations", "KubeNodeConfig", |m, _| !m.node_annotations.is_empty()),
    ("machine.nodeTaints", "KubeNodeConfig", |m, _| !m.node_taints.is_empty()),
    ("machine.features.kubePrism", "KubePrismConfig", |m, _| m.features.as_ref().is_some_and(|f| f.kube_prism.is_some())),
    ("machine.features.kubernetesTalosAPIAccess", "KubeTalosAPIAccessConfig", |m, _| {
        m.features.as_ref().is_some_and(|f| f.kubernetes_talos_api_access.is_some())
    }),
    ("machine.network.hostname", "HostnameConfig", |m, _| m.network.as_ref().is_some_and(|n| !n.hostname.is_empty())),
    ("machine.features.stableHostname", "HostnameConfig", |m, _| m.features.as_ref().is_some_and(|f| f.stable_hostname == Some(true))),
    ("machine.network.nameservers", "ResolverConfig", |m, _| m.network.as_ref().is_some_and(|n| !n.nameservers.is_empty())),
    ("machine.network.searchDomains", "ResolverConfig", |m, _| m.network.as_ref().is_some_and(|n| !n.search_domains.is_empty())),
    ("machine.network.disableSearchDomain", "ResolverConfig", |m, _| m.network.as_ref().is_some_and(|n| n.disable_search_domain.is_some())),
    ("machine.features.hostDNS", "ResolverConfig", |m, _| m.features.as_ref().is_some_and(|f| f.host_dns.is_some())),
    ("machine.time", "TimeSyncConfig", |m, _| m.time.is_some()),
    ("machine.network.kubespan", "KubeSpanConfig", |m, _| m.network.as_ref().is_some_and(|n| n.kubespan.is_some())),
    ("machine.install", "UnattendedInstallConfig", |m, _| m.install.is_some()),
];

/// Checks what no document can say of itself.
pub(super) fn check(config: &Config, mode: Mode, machine_type: Option<MachineType>, _options: Options, problems: &mut Vec<Problem>) {
    conflicts(config, problems);
    identity(config, problems);
    let meaning = crate::config::legacy::translate::machine(config);
    let resolver = meaning.get::<ResolverConfig>();
    let host_dns = meaning.host_dns();
    let encrypted = resolver.is_some_and(|r| r.nameservers.iter().any(|n| !matches!(n.protocol, None | Some(DnsProtocol::Do53))));
    if encrypted && host_dns.enabled != Some(true) {
        let problem =
            Problem::error("hostDNS.enabled", "an encrypted DNS server without the machine's own DNS", "`hostDNS: {enabled: true}`");
        problems.push(placed::<ResolverConfig>(config, problem));
    }
    if mode == Mode::Container
        && config.is_complete()
        && !(host_dns.enabled == Some(true) && host_dns.forward_kube_dns_to_host == Some(true))
    {
        let expected = "`hostDNS: {enabled: true, forwardKubeDNSToHost: true}` in a ResolverConfig: containers need it";
        problems.push(placed::<ResolverConfig>(config, Problem::error("hostDNS", "a container without the machine's own DNS", expected)));
    }
    let control_plane = machine_type.is_some_and(MachineType::is_control_plane);
    if control_plane && meaning.kubernetes_ca().is_some() && meaning.get::<KubeEtcdEncryptionConfig>().is_none() {
        let expected = "a KubeEtcdEncryptionConfig document (or cluster.secretboxEncryptionSecret), so that secrets are encrypted at rest";
        problems.push(placed::<KubeApiServerCaConfig>(
            config,
            Problem::error("", "a Kubernetes authority without encryption of secrets in etcd", expected),
        ));
    }
    containers(config, problems);
}

/// A problem, placed at the document it is about or at the root document.
fn placed<D: Doc>(config: &Config, problem: Problem) -> Problem {
    let own = config.documents.iter().find(|d| D::of(&d.value).is_some());
    match (own, &config.root) {
        (Some(document), _) => {
            let pos = document.node.nearest_at(&problem.path);
            problem.at(pos).in_document(document.value.id())
        }
        (None, Some(root)) => problem.at(root.node.pos).in_document(ROOT_ID),
        (None, None) => problem,
    }
}

fn conflicts(config: &Config, problems: &mut Vec<Problem>) {
    let Some(root) = &config.root else { return };
    let machine = root.value.machine.clone().unwrap_or_default();
    let cluster = root.value.cluster.clone().unwrap_or_default();
    for (path, kind, is_set) in CONFLICTS {
        let Some(document) = config.documents.iter().find(|d| d.value.kind().name == *kind) else { continue };
        if is_set(&machine, &cluster) {
            let found = format!("`{path}` beside the document {} in line {}", document.value.id(), document.node.pos.line);
            let problem = Problem::error(*path, found, "one of them: move the settings into the document and remove the key");
            problems.push(problem.at(root.node.nearest_at(path)).in_document(ROOT_ID));
        }
    }
    let encrypted = machine.system_disk_encryption.unwrap_or_default();
    for (path, name, set) in [
        ("machine.systemDiskEncryption.state", "STATE", encrypted.state.is_some()),
        ("machine.systemDiskEncryption.ephemeral", "EPHEMERAL", encrypted.ephemeral.is_some()),
    ] {
        let twice = config.documents.iter().any(|d| matches!(&d.value, Document::Volume(v) if v.name == name && v.encryption.is_some()));
        if set && twice {
            let problem = Problem::error(path, format!("`{path}` beside the encryption in VolumeConfig/{name}"), "one of them");
            problems.push(problem.at(root.node.nearest_at(path)).in_document(ROOT_ID));
        }
    }
}

fn identity(config: &Config, problems: &mut Vec<Problem>) {
    let meaning = crate::config::legacy::translate::machine(config);
    let services = meaning.all::<DiscoveryServiceConfig>().count();
    if services > 0 && meaning.get::<DiscoveryIdentityConfig>().is_none() {
        let problem = Problem::error(
            "",
            "a discovery service without an identity of the cluster",
            "a DiscoveryIdentityConfig with clusterID and clusterSecret",
        );
        problems.push(placed::<DiscoveryServiceConfig>(config, problem));
    }
    let span = meaning.get::<KubeSpanConfig>().is_some_and(|s| s.enabled == Some(true));
    if span && services == 0 {
        let problem =
            Problem::error("enabled", "KubeSpan without a discovery service", "a DiscoveryServiceConfig: peers find each other by it");
        problems.push(placed::<KubeSpanConfig>(config, problem));
    }
}

/// Containers that wait for each other: all must exist, and no circle.
fn containers(config: &Config, problems: &mut Vec<Problem>) {
    let all = config.documents.iter().filter_map(|d| match &d.value {
        Document::Container(c) => Some((d, c)),
        _ => None,
    });
    let all: Vec<_> = all.collect();
    let waits = |name: &str| -> Vec<String> {
        let found = all.iter().find(|(_, c)| c.name == name);
        found.and_then(|(_, c)| c.depends_on.as_ref()).map(|d| d.containers.clone()).unwrap_or_default()
    };
    for (document, container) in &all {
        let mut report = |found: String, expected: &str| {
            let path = "dependsOn.containers";
            let problem = Problem::error(path, found, expected).at(document.node.nearest_at(path));
            problems.push(problem.in_document(document.value.id()));
        };
        for other in waits(&container.name) {
            if !all.iter().any(|(_, c)| c.name == other) {
                report(format!("the container `{other}`, which no document describes"), "the name of a ContainerConfig");
            }
        }
        let (mut seen, mut open) = (Vec::new(), waits(&container.name));
        while let Some(next) = open.pop() {
            if next == container.name {
                report(format!("a circle: `{}` waits, in the end, for itself", container.name), "an order");
                break;
            }
            if !seen.contains(&next) {
                open.extend(waits(&next));
                seen.push(next);
            }
        }
    }
}
