//! The root document: what remains of it in the newest format, and what it was before.

use std::collections::BTreeMap;

use super::{InstallTarget, Options};
use crate::config::docs::net::HostDns;
use crate::config::legacy::devices::{KubeSpan, Network};
use crate::config::legacy::root::{
    Admission, ApiServer, CertKey, Cluster, ClusterControlPlane, ClusterNetwork, Cni, CniName, ControllerManager, Disabled, Discovery,
    DiscoveryRegistries, DiscoveryServiceRegistry, Etcd, Features, HostDnsFeature, Install, KubePrism, Kubelet, Machine, Proxy, Registries,
    RegistryMirror, Root, RootVersion, Scheduler,
};
use crate::config::legacy::translate::DEFAULT_DISCOVERY_ENDPOINT;
use crate::config::machine::{MachineType, default_audit_policy};
use crate::config::secrets::Bundle;
use crate::config::types::{Any, AnyMap, Secret};

/// The label that keeps control planes out of external load balancers.
pub(super) const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// An authority as a machine of that type holds it: workers have no key.
fn authority(pair: Option<&CertKey>, with_key: bool) -> Option<CertKey> {
    pair.map(|p| CertKey { crt: p.crt.clone(), key: if with_key { p.key.clone() } else { Secret::default() } })
}

/// The root document of the newest format.
pub(super) fn small(secrets: &Bundle, options: &Options, machine_type: MachineType) -> Root {
    let control_plane = machine_type.is_control_plane();
    let features = Features { disk_quota_support: Some(true), ..Features::default() };
    let etcd = control_plane.then(|| Etcd { ca: secrets.certs.etcd.clone(), ..Etcd::default() });
    Root {
        version: Some(RootVersion::V1Alpha1),
        debug: Some(false),
        persist: Some(true),
        machine: Some(Machine {
            type_: machine_type.as_str().to_owned(),
            token: secrets.trustd.token.clone(),
            ca: authority(secrets.certs.os.as_ref(), control_plane),
            cert_sans: options.additional_sans.clone(),
            features: Some(features),
            ..Machine::default()
        }),
        cluster: Some(Cluster { token: secrets.secrets.bootstrap_token.clone(), etcd, ..Cluster::default() }),
    }
}

/// The root document that holds everything.
pub(super) fn whole(secrets: &Bundle, options: &Options, machine_type: MachineType) -> Root {
    let contract = options.contract;
    let control_plane = machine_type.is_control_plane();
    let mut root = small(secrets, options, machine_type);
    if let Some(machine) = &mut root.machine {
        machine.kubelet = Some(Kubelet {
            image: options.image("ghcr.io/siderolabs/kubelet"),
            default_runtime_seccomp_profile_enabled: contract.after(1).then_some(true),
            disable_manifests_directory: contract.after(2).then_some(true),
            ..Kubelet::default()
        });
        let span = options.kubespan && !contract.after(12);
        let kubespan = span.then(|| KubeSpan { enabled: Some(true), ..KubeSpan::default() });
        machine.network = Some(Network { kubespan, ..Network::default() });
        machine.install = options.install.as_ref().map(|i| install(i, options));
        machine.registries = registries(options);
        machine.features = Some(features(options));
        if control_plane && contract.after(7) {
            machine.node_labels = BTreeMap::from([(EXCLUDE_LABEL.to_owned(), String::new())]);
        }
    }
    root.cluster = Some(cluster(secrets, options, control_plane));
    root
}

fn install(target: &InstallTarget, options: &Options) -> Install {
    Install {
        disk: target.disk.clone(),
        image: target.image.clone(),
        wipe: Some(false),
        grub_use_uki_cmdline: options.contract.after(11).then_some(true),
        ..Install::default()
    }
}

fn registries(options: &Options) -> Option<Registries> {
    if options.registry_mirrors.is_empty() {
        return None;
    }
    let mut mirrors: BTreeMap<String, RegistryMirror> = BTreeMap::new();
    for (registry, url) in &options.registry_mirrors {
        mirrors.entry(registry.clone()).or_default().endpoints.push(url.clone());
    }
    Some(Registries { mirrors, config: BTreeMap::new() })
}

fn features(options: &Options) -> Features {
    let contract = options.contract;
    let old = !contract.after(11);
    Features {
        rbac: old.then_some(true),
        stable_hostname: (old && contract.after(1)).then_some(true),
        apid_check_ext_key_usage: (old && contract.after(2)).then_some(true),
        disk_quota_support: contract.after(4).then_some(true),
        kube_prism: contract.after(5).then_some(KubePrism { enabled: Some(true), port: Some(7445) }),
        host_dns: contract.after(6).then(|| {
            let HostDns { enabled, forward_kube_dns_to_host, resolve_member_names } = host_dns(contract.after(7));
            HostDnsFeature { enabled, forward_kube_dns_to_host, resolve_member_names }
        }),
        ..Features::default()
    }
}

/// The machine's own DNS.
pub(super) fn host_dns(forward: bool) -> HostDns {
    HostDns { enabled: Some(true), forward_kube_dns_to_host: forward.then_some(true), resolve_member_names: None }
}

fn cluster(secrets: &Bundle, options: &Options, control_plane: bool) -> Cluster {
    let contract = options.contract;
    let network = ClusterNetwork {
        cni: (!options.flannel).then(|| Cni { name: Some(CniName::None), ..Cni::default() }),
        dns_domain: options.dns_domain.clone(),
        pod_subnets: options.pod_subnets.clone(),
        service_subnets: options.service_subnets.clone(),
    };
    let common = Cluster {
        id: secrets.cluster.id.clone(),
        secret: secrets.cluster.secret.clone(),
        control_plane: Some(ClusterControlPlane { endpoint: Some(options.endpoint.clone()), local_api_server_port: options.api_port }),
        cluster_name: if control_plane || contract.after(7) { options.cluster_name.clone() } else { String::new() },
        network: Some(network),
        token: secrets.secrets.bootstrap_token.clone(),
        ca: authority(secrets.certs.k8s.as_ref(), control_plane),
        discovery: discovery(options),
        ..Cluster::default()
    };
    if !control_plane {
        return common;
    }
    Cluster {
        aescbc_encryption_secret: secrets.secrets.aescbc_encryption_secret.clone(),
        secretbox_encryption_secret: secrets.secrets.secretbox_encryption_secret.clone(),
        aggregator_ca: secrets.certs.k8s_aggregator.clone(),
        service_account: secrets.certs.k8s_service_account.clone(),
        api_server: Some(api_server(options)),
        controller_manager: Some(ControllerManager {
            image: options.image("registry.k8s.io/kube-controller-manager"),
            ..ControllerManager::default()
        }),
        proxy: Some(Proxy { image: options.image("registry.k8s.io/kube-proxy"), ..Proxy::default() }),
        scheduler: Some(Scheduler { image: options.image("registry.k8s.io/kube-scheduler"), ..Scheduler::default() }),
        etcd: Some(Etcd { ca: secrets.certs.etcd.clone(), ..Etcd::default() }),
        allow_scheduling_on_control_planes: options.schedule_on_control_planes.then_some(true),
        ..common
    }
}

fn discovery(options: &Options) -> Option<Discovery> {
    let endpoint = options.discovery.as_ref()?;
    let own = (endpoint.as_str() != DEFAULT_DISCOVERY_ENDPOINT).then(|| endpoint.clone());
    Some(Discovery {
        enabled: Some(true),
        registries: Some(DiscoveryRegistries {
            kubernetes: options.contract.after(1).then_some(Disabled { disabled: Some(true) }),
            service: Some(DiscoveryServiceRegistry { disabled: None, endpoint: own }),
        }),
    })
}

fn api_server(options: &Options) -> ApiServer {
    let contract = options.contract;
    let own_host = (!contract.after(11)).then(|| options.endpoint.host().to_owned());
    let pod_security = Admission { name: "PodSecurity".to_owned(), configuration: pod_security() };
    ApiServer {
        image: options.image("registry.k8s.io/kube-apiserver"),
        cert_sans: own_host.into_iter().chain(options.additional_sans.iter().cloned()).collect(),
        disable_pod_security_policy: (!contract.after(11)).then_some(true),
        admission_control: contract.after(0).then(|| vec![pod_security]),
        audit_policy: if contract.after(2) { default_audit_policy() } else { AnyMap::new() },
        ..ApiServer::default()
    }
}

/// The default configuration of the admission plugin PodSecurity.
pub(super) fn pod_security() -> AnyMap {
    let value = serde_json::json!({
        "apiVersion": "pod-security.admission.config.k8s.io/v1alpha1",
        "kind": "PodSecurityConfiguration",
        "defaults": {
            "enforce": "baseline", "enforce-version": "latest",
            "audit": "restricted", "audit-version": "latest",
            "warn": "restricted", "warn-version": "latest",
        },
        "exemptions": { "namespaces": ["kube-system"], "runtimeClasses": [], "usernames": [] },
    });
    match value {
        Any::Object(map) => map,
        _ => AnyMap::new(),
    }
}
