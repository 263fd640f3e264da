//! The documents of generated configurations, in their order.

use std::collections::BTreeMap;

use serde_json::json;

use super::root::{EXCLUDE_LABEL, host_dns, pod_security};
use super::{InstallTarget, Options};
use crate::config::docs::cluster::{DiscoveryIdentityConfig, DiscoveryServiceConfig};
use crate::config::docs::container::{PemPair, RegistryEndpoint, RegistryMirrorConfig};
use crate::config::docs::host::{DiskSelector, InstallProvisioning, InstallerImage, SecurityProfileConfig, UnattendedInstallConfig};
use crate::config::docs::kube::{
    AuthorizerType, KubeAdmissionControlConfig, KubeAggregatorCaConfig, KubeApiServerCaConfig, KubeApiServerConfig, KubeAuditPolicyConfig,
    KubeAuthenticationConfig, KubeAuthorizerConfig, KubeClusterConfig, KubeControllerManagerConfig, KubeCoreDnsConfig,
    KubeEtcdEncryptionConfig, KubeFlannelCniConfig, KubeNetworkConfig, KubeNodeConfig, KubePrismConfig, KubeProxyConfig,
    KubeSchedulerConfig, KubeServiceAccountConfig, KubeletConfig, ServiceAccountIssuer,
};
use crate::config::docs::net::{AutoHostname, HostnameConfig, KubeSpanConfig, ResolverConfig};
use crate::config::docs::storage::{FilesystemTrimConfig, VolumeConfig, VolumeMount};
use crate::config::legacy::root::CertKey;
use crate::config::legacy::translate::CONTROL_PLANE_LABEL;
use crate::config::machine::{MachineType, default_audit_policy};
use crate::config::secrets::Bundle;
use crate::config::types::{Any, AnyMap, Cel, Duration, Pem, SecretMap};
use crate::config::{Doc, Document};

/// All documents beside the root.
pub(super) fn all(secrets: &Bundle, options: &Options, machine_type: MachineType) -> Vec<Document> {
    let mut out = Vec::new();
    let contract = options.contract;
    if contract.has_documents() {
        machine(secrets, options, &mut out);
    }
    if contract.after(11) {
        out.push(HostnameConfig { auto: Some(AutoHostname::Stable), hostname: String::new() }.into_document());
    }
    if contract.after(12) && options.kubespan {
        out.push(KubeSpanConfig { enabled: Some(true), ..KubeSpanConfig::default() }.into_document());
    }
    if contract.has_documents() {
        kubernetes(secrets, options, machine_type, &mut out);
    }
    out
}

fn machine(secrets: &Bundle, options: &Options, out: &mut Vec<Document>) {
    let mut add = |document: Document| out.push(document);
    if let Some(endpoint) = &options.discovery {
        add(DiscoveryServiceConfig { name: "default".to_owned(), endpoint: endpoint.clone() }.into_document());
    }
    add(DiscoveryIdentityConfig { cluster_id: secrets.cluster.id.clone(), cluster_secret: secrets.cluster.secret.clone() }.into_document());
    if let Some(target) = &options.install {
        add(install(target).into_document());
    }
    for (registry, url) in &options.registry_mirrors {
        let endpoints = vec![RegistryEndpoint { url: url.clone(), override_path: None }];
        add(RegistryMirrorConfig { name: registry.clone(), endpoints, skip_fallback: None }.into_document());
    }
    add(ResolverConfig { host_dns: Some(host_dns(true)), ..ResolverConfig::default() }.into_document());
    let mount = VolumeMount { secure: Some(true), disable_access_time: None };
    add(VolumeConfig { name: "EPHEMERAL".to_owned(), mount: Some(mount), ..VolumeConfig::default() }.into_document());
    add(FilesystemTrimConfig { interval: Some(Duration::from_secs(168 * 3600)) }.into_document());
    add(SecurityProfileConfig { workload_isolation: Some(true) }.into_document());
}

fn install(target: &InstallTarget) -> UnattendedInstallConfig {
    let selector = DiskSelector { matches: Cel::new(format!("disk.dev_path == {:?}", target.disk)).ok() };
    UnattendedInstallConfig {
        reboot: None,
        installer: (!target.image.is_empty()).then(|| InstallerImage { image: target.image.clone() }),
        provisioning: Some(InstallProvisioning { disk_selector: Some(selector), wipe: Some(false) }),
    }
}

fn pair(ca: &CertKey) -> PemPair {
    PemPair { cert: Pem::new(ca.cert_pem()).unwrap_or_default(), key: ca.key_pem() }
}

fn kubernetes(secrets: &Bundle, options: &Options, machine_type: MachineType, out: &mut Vec<Document>) {
    let control_plane = machine_type.is_control_plane();
    out.push(KubeClusterConfig { cluster_name: options.cluster_name.clone(), endpoint: Some(options.endpoint.clone()) }.into_document());
    let mut node = KubeNodeConfig::default();
    if control_plane {
        node.labels = BTreeMap::from([CONTROL_PLANE_LABEL, EXCLUDE_LABEL].map(|label| (label.to_owned(), String::new())));
        if !options.schedule_on_control_planes {
            node.taints = BTreeMap::from([(CONTROL_PLANE_LABEL.to_owned(), "NoSchedule".to_owned())]);
        }
    }
    out.push(node.into_document());
    out.push(
        KubeletConfig {
            image: options.image("ghcr.io/siderolabs/kubelet"),
            default_runtime_seccomp_profile_enabled: Some(true),
            ..KubeletConfig::default()
        }
        .into_document(),
    );
    out.push(
        KubeNetworkConfig {
            dns_domain: options.dns_domain.clone(),
            pod_subnets: options.pod_subnets.clone(),
            service_subnets: options.service_subnets.clone(),
            ..KubeNetworkConfig::default()
        }
        .into_document(),
    );
    if let Some(ca) = &secrets.certs.k8s {
        let pair = pair(ca);
        let (issuing_ca, accepted_cas) = if control_plane { (Some(pair), Vec::new()) } else { (None, vec![pair.cert]) };
        out.push(KubeApiServerCaConfig { issuing_ca, accepted_cas }.into_document());
    }
    out.push(KubePrismConfig { port: Some(7445), tls_server_name: String::new() }.into_document());
    if control_plane {
        control_plane_secrets(secrets, options, out);
        control_plane_parts(options, out);
    }
}

fn control_plane_secrets(secrets: &Bundle, options: &Options, out: &mut Vec<Document>) {
    if let Some(ca) = &secrets.certs.k8s_aggregator {
        out.push(KubeAggregatorCaConfig { issuing_ca: Some(pair(ca)), accepted_cas: Vec::new() }.into_document());
    }
    out.push(KubeAdmissionControlConfig { name: "PodSecurity".to_owned(), configuration: pod_security() }.into_document());
    out.push(KubeAuditPolicyConfig { configuration: default_audit_policy() }.into_document());
    out.push(KubeAuthenticationConfig { configuration: authentication() }.into_document());
    for (name, kind) in [("node", AuthorizerType::Node), ("rbac", AuthorizerType::Rbac)] {
        out.push(KubeAuthorizerConfig { name: name.to_owned(), type_: Some(kind), webhook: AnyMap::new() }.into_document());
    }
    let keys = &secrets.secrets;
    let (provider, name, secret) = if keys.secretbox_encryption_secret.is_empty() {
        ("aescbc", "key1", &keys.aescbc_encryption_secret)
    } else {
        ("secretbox", "key2", &keys.secretbox_encryption_secret)
    };
    if !secret.is_empty() {
        let providers = json!([{ provider: { "keys": [{ "name": name, "secret": secret.expose() }] } }]);
        let config = object(json!({ "resources": [{ "resources": ["secrets"], "providers": providers }] }));
        out.push(KubeEtcdEncryptionConfig { config: SecretMap(config) }.into_document());
    }
    if let Some(key) = &secrets.certs.k8s_service_account {
        let issuer = ServiceAccountIssuer { private_key: key.key_pem(), issuer_url: Some(options.endpoint.clone()) };
        out.push(KubeServiceAccountConfig { issuer: Some(issuer), accepted: None }.into_document());
    }
}

/// Anonymous requests for health only.
fn authentication() -> AnyMap {
    object(json!({
        "anonymous": { "enabled": true, "conditions": [{ "path": "/livez" }, { "path": "/readyz" }, { "path": "/healthz" }] },
        "jwt": [],
    }))
}

fn object(value: Any) -> AnyMap {
    match value {
        Any::Object(map) => map,
        _ => AnyMap::new(),
    }
}

fn control_plane_parts(options: &Options, out: &mut Vec<Document>) {
    out.push(
        KubeApiServerConfig {
            image: options.image("registry.k8s.io/kube-apiserver"),
            api_port: options.api_port,
            cert_extra_sans: options.additional_sans.clone(),
            ..KubeApiServerConfig::default()
        }
        .into_document(),
    );
    let image = options.image("registry.k8s.io/kube-controller-manager");
    out.push(KubeControllerManagerConfig { image, ..KubeControllerManagerConfig::default() }.into_document());
    out.push(
        KubeSchedulerConfig { image: options.image("registry.k8s.io/kube-scheduler"), ..KubeSchedulerConfig::default() }.into_document(),
    );
    out.push(KubeProxyConfig { image: options.image("registry.k8s.io/kube-proxy"), ..KubeProxyConfig::default() }.into_document());
    if options.flannel {
        let backend_type = "vxlan".to_owned();
        out.push(KubeFlannelCniConfig { backend_type, backend_port: Some(4789), ..KubeFlannelCniConfig::default() }.into_document());
    }
    out.push(KubeCoreDnsConfig { enabled: Some(true), image: String::new() }.into_document());
}
