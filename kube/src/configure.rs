//! From the machine configuration to the resources that the rest of the room works on.
//!
//! Pure. Here and nowhere else is known which document a setting comes from.

use std::collections::BTreeMap;

use model::config::MachineConfig;
use model::config::docs::kube as docs;
use model::kube as kinds;
use resource::{PemCert, PemKey, PemPair, Url, Value};
use serde_json::json;

use crate::args::{ArgError, ExtraArgs};
use crate::control_plane::apiserver::ApiServerArgs;
use crate::control_plane::controller_manager::ControllerManagerArgs;
use crate::control_plane::{files, scheduler};
use crate::kubelet::config::HostLimits;
use crate::manifests::{ProxyInput, proxy};

/// flannel's image: no document names one.
pub const FLANNEL_IMAGE: &str = "ghcr.io/siderolabs/flannel:v0.28.10";
/// Where a pod finds the machine's trust anchors.
const CA_ROOTS: &str = "/etc/ssl/certs";

/// What is wrong with a configuration that parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigureError {
    /// An argument.
    #[error(transparent)]
    Arg(#[from] ArgError),
    /// A manifest that is no YAML.
    #[error("KubeInlineManifestConfig/{name}: the manifest is no YAML: {reason}")]
    Manifest {
        /// The document's name.
        name: String,
        /// Why.
        reason: String,
    },
}

fn extra_args(args: &docs::ExtraArgs) -> ExtraArgs {
    args.iter().map(|(name, values)| (name.clone(), values.values().to_vec())).collect()
}

fn arg_values(args: &ExtraArgs) -> BTreeMap<String, kinds::ArgValues> {
    args.iter().map(|(name, values)| (name.clone(), kinds::ArgValues { values: values.clone() })).collect()
}

/// A resource's arguments as the merging takes them.
pub fn from_arg_values(args: &BTreeMap<String, kinds::ArgValues>) -> ExtraArgs {
    args.iter().map(|(name, values)| (name.clone(), values.values.clone())).collect()
}

fn resources(resources: Option<&docs::Resources>) -> kinds::Resources {
    resources.map_or_else(kinds::Resources::default, |resources| kinds::Resources {
        requests: resources.requests.clone(),
        limits: resources.limits.clone(),
    })
}

fn any(map: &model::config::AnyMap) -> Value {
    Value::from(serde_json::Value::Object(map.clone()))
}

/// A JSON object back from a resource's field; empty when it holds anything else.
pub fn object(value: &Value) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::Value::from(value) {
        serde_json::Value::Object(map) => map,
        _ => serde_json::Map::new(),
    }
}

fn volumes(config: &MachineConfig, component: &str) -> Vec<kinds::ExtraVolume> {
    config
        .base
        .extra_volumes
        .get(component)
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, volume)| kinds::ExtraVolume {
            name: format!("extra-{index}"),
            host_path: volume.host_path.clone(),
            mount_path: volume.mount_path.clone(),
            readonly: volume.readonly.unwrap_or(false),
        })
        .collect()
}

fn cidrs(nets: &[ipnet::IpNet]) -> Vec<String> {
    nets.iter().map(ToString::to_string).collect()
}

/// URL of the API server for this machine's own components: the local balancer's where there is
/// one, else (on control planes) the local server's, else the cluster's.
pub fn local_endpoint(config: &MachineConfig) -> String {
    if let Some(port) = config.kube_prism_port() {
        format!("https://127.0.0.1:{port}")
    } else if config.runs_kubernetes() {
        format!("https://localhost:{}", config.api_port())
    } else {
        endpoint(config)
    }
}

fn endpoint(config: &MachineConfig) -> String {
    config.endpoint().map(|url| url.as_str().to_owned()).unwrap_or_default()
}

/// kube-apiserver; `None` where it does not run.
///
/// # Errors
/// An argument that may not be set.
pub fn api_server(config: &MachineConfig) -> Result<Option<kinds::ApiServerConfig>, ConfigureError> {
    let Some(settings) = config.api_server().filter(|_| config.runs_kubernetes()) else {
        return Ok(None);
    };
    let account = config.get::<docs::KubeServiceAccountConfig>();
    let accepted = account.and_then(|account| account.accepted.as_ref());
    let extra = extra_args(&settings.extra_args);
    let structured = config.get::<docs::KubeAuthenticationConfig>().is_some();
    let service_cidr = cidrs(&config.service_subnets());
    let etcd_servers = vec!["https://localhost:2379".to_owned()];
    let args = ApiServerArgs {
        port: config.api_port(),
        advertise_address: "$(POD_IP)".to_owned(),
        etcd_servers: etcd_servers.clone(),
        service_cidrs: service_cidr.clone(),
        issuer: config.service_account().map(|(_, issuer)| issuer.as_str().to_owned()).unwrap_or_else(|| endpoint(config)),
        accepted_issuers: accepted.map(|accepted| accepted.issuers.iter().map(|url| url.as_str().to_owned()).collect()).unwrap_or_default(),
        audiences: accepted.map(|accepted| accepted.audiences.clone()).unwrap_or_default(),
        cloud_provider: String::new(),
        use_authentication_config: structured,
        extra: extra.clone(),
    }
    .build()?;
    let mut extra_volumes = volumes(config, "apiServer");
    if !extra_volumes.iter().any(|volume| volume.mount_path == CA_ROOTS) {
        extra_volumes.push(kinds::ExtraVolume {
            name: "ca-roots".to_owned(),
            host_path: CA_ROOTS.to_owned(),
            mount_path: CA_ROOTS.to_owned(),
            readonly: true,
        });
    }
    Ok(Some(kinds::ApiServerConfig {
        image: settings.image.clone(),
        cloud_provider: String::new(),
        control_plane_endpoint: endpoint(config),
        etcd_servers,
        local_port: i64::from(config.api_port()),
        service_cidr,
        extra_args: arg_values(&extra),
        args,
        extra_volumes,
        environment_variables: settings.env.clone(),
        advertised_address: "$(POD_IP)".to_owned(),
        resources: resources(settings.resources.as_ref()),
        // A probe without credentials is answered only where anonymous requests to the health
        // paths are let in, which is what the structured configuration does.
        startup_probes_enabled: structured && settings.startup_probes.unwrap_or(true),
        use_authentication_config: structured,
    }))
}

/// kube-controller-manager; `None` where it does not run.
///
/// # Errors
/// An argument that may not be set.
pub fn controller_manager(config: &MachineConfig) -> Result<Option<kinds::ControllerManagerConfig>, ConfigureError> {
    let Some(settings) = config.controller_manager().filter(|_| config.runs_kubernetes()) else {
        return Ok(None);
    };
    let network = config.network();
    let (mask4, mask6) = (network.node_cidr_mask_size_ipv4.unwrap_or(24), network.node_cidr_mask_size_ipv6.unwrap_or(64));
    let extra = extra_args(&settings.extra_args);
    let cloud_provider = cloud_provider(config);
    let input = ControllerManagerArgs {
        cloud_provider: cloud_provider.clone(),
        pod_cidrs: cidrs(&config.pod_subnets()),
        service_cidrs: cidrs(&config.service_subnets()),
        node_mask_v4: mask4,
        node_mask_v6: mask6,
        extra: extra.clone(),
    };
    Ok(Some(kinds::ControllerManagerConfig {
        enabled: true,
        image: settings.image.clone(),
        cloud_provider,
        args: input.build()?,
        pod_cidrs: input.pod_cidrs,
        service_cidrs: input.service_cidrs,
        extra_args: arg_values(&extra),
        extra_volumes: volumes(config, "controllerManager"),
        environment_variables: settings.env.clone(),
        resources: resources(settings.resources.as_ref()),
        node_cidr_mask_size_ipv4: i64::from(mask4),
        node_cidr_mask_size_ipv6: i64::from(mask6),
    }))
}

fn cloud_provider(config: &MachineConfig) -> String {
    if config.base.external_cloud_provider { "external".to_owned() } else { String::new() }
}

/// kube-scheduler; `None` where it does not run.
///
/// # Errors
/// An argument that may not be set.
pub fn kube_scheduler(config: &MachineConfig) -> Result<Option<kinds::SchedulerConfig>, ConfigureError> {
    let Some(settings) = config.scheduler().filter(|_| config.runs_kubernetes()) else {
        return Ok(None);
    };
    let extra = extra_args(&settings.extra_args);
    Ok(Some(kinds::SchedulerConfig {
        enabled: true,
        image: settings.image.clone(),
        args: scheduler::args(&extra)?,
        extra_args: arg_values(&extra),
        config: any(&settings.config),
        extra_volumes: volumes(config, "scheduler"),
        environment_variables: settings.env.clone(),
        resources: resources(settings.resources.as_ref()),
    }))
}

/// Admission plug-ins.
pub fn admission(config: &MachineConfig) -> kinds::AdmissionControlConfig {
    kinds::AdmissionControlConfig {
        config: config
            .admission_plugins()
            .map(|plugin| kinds::AdmissionPluginSpec { name: plugin.name.clone(), configuration: any(&plugin.configuration) })
            .collect(),
    }
}

/// Audit policy.
pub fn audit_policy(config: &MachineConfig) -> kinds::AuditPolicyConfig {
    kinds::AuditPolicyConfig { config: any(&config.audit_policy()) }
}

/// Authentication, where it is structured.
pub fn authentication(config: &MachineConfig) -> Option<kinds::AuthenticationConfig> {
    let settings = config.get::<docs::KubeAuthenticationConfig>()?;
    Some(kinds::AuthenticationConfig { config: any(&settings.configuration) })
}

/// Authorizers, in their order.
pub fn authorization(config: &MachineConfig) -> kinds::AuthorizationConfig {
    let kind = |authorizer: &docs::KubeAuthorizerConfig| match authorizer.type_ {
        Some(docs::AuthorizerType::Node) => "Node",
        Some(docs::AuthorizerType::Rbac) => "RBAC",
        Some(docs::AuthorizerType::Webhook) => "Webhook",
        None => "",
    };
    kinds::AuthorizationConfig {
        image: config.api_server().map(|server| server.image.clone()).unwrap_or_default(),
        config: config
            .all::<docs::KubeAuthorizerConfig>()
            .map(|authorizer| kinds::AuthorizationAuthorizersSpec {
                type_: kind(authorizer).to_owned(),
                name: authorizer.name.clone(),
                webhook: any(&authorizer.webhook),
            })
            .collect(),
    }
}

/// Encryption at rest, as a whole file; `None` when there is none.
pub fn etcd_encryption(config: &MachineConfig) -> Option<kinds::EtcdEncryptionConfig> {
    let body = config.etcd_encryption()?;
    Some(kinds::EtcdEncryptionConfig { configuration: files::encryption(body).to_string() })
}

/// Manifests from the configuration.
pub fn extra_manifests(config: &MachineConfig) -> kinds::ExtraManifestsConfig {
    let inline = config.all::<docs::KubeInlineManifestConfig>().map(|manifest| kinds::ExtraManifest {
        name: manifest.name.clone(),
        priority: "99".to_owned(),
        inline_manifest: manifest.manifest.clone(),
        ..Default::default()
    });
    let external = config.all::<docs::KubeExternalManifestConfig>().map(|manifest| kinds::ExtraManifest {
        name: manifest.name.clone(),
        url: manifest.url.as_ref().map(|url| url.as_str().to_owned()).unwrap_or_default(),
        priority: "99".to_owned(),
        extra_headers: manifest.headers.clone(),
        ..Default::default()
    });
    kinds::ExtraManifestsConfig { extra_manifests: inline.chain(external).collect() }
}

/// What the bootstrap manifests are made from.
pub fn bootstrap_manifests(config: &MachineConfig, limits: HostLimits) -> kinds::BootstrapManifestsConfig {
    let pod_cidrs = cidrs(&config.pod_subnets());
    let dns = config.cluster_dns();
    let dns_of = |v6: bool| dns.iter().find(|ip| ip.is_ipv6() == v6).map(ToString::to_string).unwrap_or_default();
    let mut manifests = kinds::BootstrapManifestsConfig {
        server: local_endpoint_of_all(config),
        cluster_domain: config.dns_domain(),
        dns_service_ip: dns_of(false),
        dns_service_ipv6: dns_of(true),
        cni_name: if config.flannel().is_some() { "flannel".to_owned() } else { "none".to_owned() },
        talos_api_service_enabled: config.get::<docs::KubeTalosApiAccessConfig>().is_some(),
        ..Default::default()
    };
    if let Some(image) = config.core_dns_image() {
        manifests.core_dns_enabled = true;
        manifests.core_dns_image = image.to_owned();
    }
    if let Some(settings) = config.kube_proxy() {
        let mode = match settings.mode {
            Some(docs::ProxyMode::Iptables) => "iptables",
            Some(docs::ProxyMode::Ipvs) => "ipvs",
            Some(docs::ProxyMode::Nftables) | None => "nftables",
        };
        let input = ProxyInput {
            mode: mode.to_owned(),
            config: settings.config.clone(),
            container: limits.container,
            oom_score: limits.oom_score,
            ..Default::default()
        };
        manifests.proxy_enabled = true;
        manifests.proxy_image.clone_from(&settings.image);
        manifests.proxy_args = extra_args(&settings.extra_args)
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| format!("--{name}={value}")))
            .collect();
        let file = proxy::config(&input, &pod_cidrs);
        manifests.proxy_config_checksum = proxy::checksum(&file);
        manifests.proxy_config = Value::from(file);
        manifests.proxy_resources = resources(settings.resources.as_ref());
    }
    if let Some(settings) = config.flannel() {
        manifests.flannel_enabled = true;
        manifests.flannel_image = FLANNEL_IMAGE.to_owned();
        manifests.flannel_extra_args.clone_from(&settings.extra_args);
        manifests.flannel_backend_type.clone_from(&settings.backend_type);
        manifests.flannel_backend_port = settings.backend_port.unwrap_or(0);
        manifests.flannel_backend_mtu = settings.backend_mtu.unwrap_or(0);
        manifests.flannel_backend_extra_config = any(&settings.backend_extra_config);
        manifests.flannel_resources = resources(settings.resources.as_ref());
        manifests.flannel_kube_network_policies_enabled = settings.kube_network_policies_enabled.unwrap_or(false);
        if let Some(port) = config.kube_prism_port() {
            manifests.flannel_kube_service_host = "127.0.0.1".to_owned();
            manifests.flannel_kube_service_port = port.to_string();
        }
    }
    manifests.pod_cidrs = pod_cidrs;
    manifests
}

/// For pods on any machine: the local balancer, or the cluster's endpoint.
fn local_endpoint_of_all(config: &MachineConfig) -> String {
    config.kube_prism_port().map_or_else(|| endpoint(config), |port| format!("https://127.0.0.1:{port}"))
}

/// The kubelet.
pub fn kubelet(config: &MachineConfig, static_pod_url: &str) -> Option<kinds::KubeletConfig> {
    let settings = config.kubelet()?;
    let node = config.node();
    let mounts = config.base.kubelet_mounts.iter().map(|mount| kinds::Mount {
        destination: mount.destination.clone(),
        type_: mount.type_.clone(),
        source: mount.source.clone(),
        options: mount.options.clone(),
        ..Default::default()
    });
    Some(kinds::KubeletConfig {
        image: settings.image.clone(),
        cluster_dns: config.cluster_dns().iter().map(ToString::to_string).collect(),
        cluster_domain: config.dns_domain(),
        extra_args: arg_values(&extra_args(&settings.extra_args)),
        extra_mounts: mounts.collect(),
        extra_config: any(&settings.config),
        cloud_provider_external: config.base.external_cloud_provider,
        default_runtime_seccomp_enabled: settings.default_runtime_seccomp_profile_enabled.unwrap_or(false),
        skip_node_registration: node.skip_node_registration.unwrap_or(false),
        static_pod_list_url: static_pod_url.to_owned(),
        disable_manifests_directory: true,
        enable_fs_quota_monitoring: config.base.disk_quota,
        credential_provider_config: config
            .get::<docs::KubeCredentialProviderConfig>()
            .map(|provider| any(&provider.configuration))
            .unwrap_or_default(),
        register_with_taints: node.taints,
    })
}

/// Which addresses the node may have.
pub fn node_ip(config: &MachineConfig) -> kinds::NodeIpConfig {
    let node = config.node();
    let entries: Vec<String> =
        node.node_ip.iter().flat_map(|ip| ip.valid_subnets.iter()).map(|subnet| subnet.as_str().to_owned()).collect();
    let (exclude_subnets, valid_subnets) = entries.into_iter().partition(|entry| entry.starts_with('!'));
    kinds::NodeIpConfig { valid_subnets, exclude_subnets }
}

/// etcd; `None` where it does not run.
pub fn etcd(config: &MachineConfig) -> Option<kinds::EtcdConfig> {
    let settings = &config.base.etcd;
    if !config.machine_type().is_control_plane() || settings.ca.is_none() {
        return None;
    }
    let split = |list: &[model::config::types::SubnetFilter]| -> (Vec<String>, Vec<String>) {
        list.iter().map(|subnet| subnet.as_str().to_owned()).partition(|entry| !entry.starts_with('!'))
    };
    let (advertise_valid_subnets, advertise_exclude_subnets) = split(&settings.advertised_subnets);
    let (listen_valid_subnets, listen_exclude_subnets) = split(&settings.listen_subnets);
    Some(kinds::EtcdConfig {
        advertise_valid_subnets,
        advertise_exclude_subnets,
        listen_valid_subnets,
        listen_exclude_subnets,
        image: config.etcd_image().to_owned(),
        extra_args: arg_values(&extra_args(&settings.extra_args)),
    })
}

fn pair(cert: &str, key: &str) -> PemPair {
    PemPair::new(cert.as_bytes().to_vec(), key.as_bytes().to_vec())
}

fn pem_cert(cert: &str) -> PemCert {
    PemCert { crt: cert.as_bytes().to_vec().into() }
}

fn url(text: &str) -> Option<Url> {
    if text.is_empty() { None } else { text.parse().ok() }
}

/// Roots of Kubernetes' secrets; `None` where the control plane does not run.
pub fn kubernetes_root(config: &MachineConfig) -> Option<kinds::KubernetesRootSecret> {
    if !config.runs_kubernetes() {
        return None;
    }
    let issuing = config.kubernetes_ca()?;
    let account = config.get::<docs::KubeServiceAccountConfig>();
    let accepted = account.and_then(|account| account.accepted.as_ref());
    let aggregator = config.get::<docs::KubeAggregatorCaConfig>();
    let (id, secret) = bootstrap_token(config);
    Some(kinds::KubernetesRootSecret {
        name: config.cluster_name().to_owned(),
        endpoint: url(&endpoint(config)),
        local_endpoint: url(&local_endpoint(config)),
        cert_sans: cert_sans(config),
        api_server_ips: config.api_service_addresses(),
        dns_domain: config.dns_domain(),
        issuing_ca: Some(pair(&issuing.cert, issuing.key.expose())),
        accepted_cas: config.kubernetes_accepted_cas().iter().map(|cert| pem_cert(cert)).collect(),
        aggregator_ca: config.aggregator_ca().map(|ca| pair(&ca.cert, ca.key.expose())),
        accepted_aggregator_cas: config
            .aggregator_ca()
            .map(|ca| pem_cert(&ca.cert))
            .into_iter()
            .chain(aggregator.into_iter().flat_map(|a| a.accepted_cas.iter().map(|cert| pem_cert(cert.as_str()))))
            .collect(),
        service_account: config.service_account().map(|(key, _)| PemKey { key: key.expose().as_bytes().to_vec().into() }),
        service_account_accepted_keys: accepted
            .map(|accepted| accepted.public_keys.iter().map(|key| PemKey { key: key.as_str().as_bytes().to_vec().into() }).collect())
            .unwrap_or_default(),
        issuer_url: config.service_account().map(|(_, issuer)| issuer.as_str().to_owned()).unwrap_or_default(),
        accepted_issuers: accepted.map(|accepted| accepted.issuers.iter().map(|url| url.as_str().to_owned()).collect()).unwrap_or_default(),
        api_audiences: accepted.map(|accepted| accepted.audiences.clone()).unwrap_or_default(),
        bootstrap_token_id: id,
        bootstrap_token_secret: secret,
        etcd_encryption_config: config.etcd_encryption().map(any).unwrap_or_default(),
        ..Default::default()
    })
}

fn cert_sans(config: &MachineConfig) -> Vec<String> {
    let mut sans: Vec<String> = config.api_server().map(|server| server.cert_extra_sans.clone()).unwrap_or_default();
    if let Some(endpoint) = config.endpoint() {
        let host = endpoint.host().trim_matches(['[', ']']).to_owned();
        if !sans.contains(&host) {
            sans.push(host);
        }
    }
    sans
}

fn bootstrap_token(config: &MachineConfig) -> (String, String) {
    let token = config.base.bootstrap_token.expose();
    token.split_once('.').map(|(id, secret)| (id.to_owned(), secret.to_owned())).unwrap_or_default()
}

/// Root of etcd's secrets; `None` where etcd does not run.
pub fn etcd_root(config: &MachineConfig) -> Option<kinds::EtcdRootSecret> {
    if !config.machine_type().is_control_plane() {
        return None;
    }
    let ca = config.base.etcd.ca.as_ref()?;
    Some(kinds::EtcdRootSecret { etcd_ca: Some(pair(&ca.cert, ca.key.expose())) })
}

/// How the kubelet joins; `None` without Kubernetes.
pub fn kubelet_secret(config: &MachineConfig) -> Option<kinds::KubeletSecret> {
    config.kubelet()?;
    let (id, secret) = bootstrap_token(config);
    Some(kinds::KubeletSecret {
        endpoint: url(&local_endpoint_of_all(config)),
        endpoint_tls_server_name: config.get::<docs::KubePrismConfig>().map(|prism| prism.tls_server_name.clone()).unwrap_or_default(),
        accepted_cas: config.kubernetes_accepted_cas().iter().map(|cert| pem_cert(cert)).collect(),
        bootstrap_token_id: id,
        bootstrap_token_secret: secret,
    })
}

/// Access of pods to the machine API.
pub fn api_access(config: &MachineConfig) -> kinds::KubernetesAccessConfig {
    config
        .get::<docs::KubeTalosApiAccessConfig>()
        .map(|access| kinds::KubernetesAccessConfig {
            enabled: true,
            allowed_api_roles: access.allowed_roles.clone(),
            allowed_kubernetes_namespaces: access.allowed_kubernetes_namespaces.clone(),
        })
        .unwrap_or_default()
}

/// Static pods from the configuration: id and pod.
pub fn static_pods(config: &MachineConfig) -> Vec<(String, Value)> {
    config
        .all::<docs::KubeStaticPodConfig>()
        .map(|pod| {
            let mut value = json!(pod.pod);
            // What the kubelet asks of a pod it gets over HTTP.
            if value.get("apiVersion").is_none() {
                value["apiVersion"] = json!("v1");
            }
            if value.get("kind").is_none() {
                value["kind"] = json!("Pod");
            }
            (pod.name.clone(), Value::from(value))
        })
        .collect()
}

/// Objects of a manifest's text.
///
/// # Errors
/// The text is no YAML.
pub fn parse_manifest(name: &str, text: &str) -> Result<Vec<serde_json::Value>, ConfigureError> {
    let documents =
        resource::yaml::parse_all(text).map_err(|error| ConfigureError::Manifest { name: name.to_owned(), reason: error.to_string() })?;
    let mut objects = Vec::new();
    for document in &documents {
        match serde_json::Value::from(Value::from(document)) {
            serde_json::Value::Null => {}
            // `kubectl get -o yaml` gives lists.
            serde_json::Value::Object(mut map) if map.get("kind").and_then(|k| k.as_str()) == Some("List") => {
                if let Some(serde_json::Value::Array(items)) = map.remove("items") {
                    objects.extend(items);
                }
            }
            other => objects.push(other),
        }
    }
    Ok(objects)
}

/// Lists of node addresses with and without Kubernetes' own.
pub fn address_filters(config: &MachineConfig) -> [(&'static str, model::net::NodeAddressFilter); 2] {
    let mut kubernetes = config.pod_subnets();
    kubernetes.extend(config.service_subnets());
    [
        ("no-k8s", model::net::NodeAddressFilter { exclude_subnets: kubernetes.clone(), ..Default::default() }),
        ("only-k8s", model::net::NodeAddressFilter { include_subnets: kubernetes, ..Default::default() }),
    ]
}
