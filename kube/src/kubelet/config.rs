//! KubeletConfiguration: the user's map, what the node decides, and what its host allows.

use std::collections::BTreeMap;

use model::config::validate::PROTECTED_KUBELET;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::paths;

/// A user's configuration that cannot be honoured.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A field that the node owns.
    #[error("kubelet configuration: field `{field}` is set by the node and cannot be configured; remove it")]
    Protected {
        /// The field.
        field: String,
    },
    /// A taint that does not parse.
    #[error("taint {key}: {value:?} is not `[value:]Effect` with effect NoSchedule, PreferNoSchedule or NoExecute")]
    Taint {
        /// The taint's key.
        key: String,
        /// What was found.
        value: String,
    },
}

/// What the kernel and the host let a node do; a container node shares its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLimits {
    /// The node is a container on a host's kernel.
    pub container: bool,
    /// The host has cgroup v1 controllers only.
    pub cgroup_v1: bool,
    /// Scores below zero for the OOM killer may be set (CAP_SYS_RESOURCE).
    pub oom_score: bool,
}

impl Default for HostLimits {
    /// A machine of its own.
    fn default() -> Self {
        Self { container: false, cgroup_v1: false, oom_score: true }
    }
}

/// What the configuration depends on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KubeletConfig {
    /// The user's fields.
    pub extra: Map<String, Value>,
    /// Where the static pods are served.
    pub static_pod_url: String,
    /// Addresses of the cluster's DNS service.
    pub cluster_dns: Vec<String>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Pods without a seccomp profile get the runtime's.
    pub seccomp_default: bool,
    /// Taints at registration: key → `[value:]Effect`.
    pub taints: BTreeMap<String, String>,
    /// A control-plane machine reserves more for itself.
    pub control_plane: bool,
    /// Project quotas measure ephemeral storage.
    pub quota_monitoring: bool,
    /// What the host allows.
    pub limits: HostLimits,
}

impl KubeletConfig {
    /// The configuration file's content.
    ///
    /// # Errors
    /// A field that the node owns, or a taint that does not parse.
    pub fn build(&self) -> Result<Value, ConfigError> {
        if let Some(field) = PROTECTED_KUBELET.iter().find(|field| self.extra.contains_key(**field)) {
            return Err(ConfigError::Protected { field: (*field).to_owned() });
        }
        let mut config = self.base();
        if self.limits.container {
            merge(&mut config, container_knobs());
            // The node's own cgroups are laid out by its host: the kubelet has nothing to move.
            if let Some(config) = config.as_object_mut() {
                config.remove("kubeletCgroups");
                config.remove("systemCgroups");
            }
        }
        if self.limits.cgroup_v1 {
            merge(&mut config, json!({"failCgroupV1": false}));
        }
        if !self.limits.oom_score {
            merge(&mut config, json!({"oomScoreAdj": 0}));
        }
        if self.quota_monitoring {
            merge(&mut config, json!({"featureGates": {"LocalStorageCapacityIsolationFSQuotaMonitoring": true}}));
        }
        let taints = self.taints()?;
        if !taints.is_empty() {
            config["registerWithTaints"] = json!(taints);
        }
        if !self.static_pod_url.is_empty() {
            config["staticPodURL"] = json!(self.static_pod_url);
        }
        merge(&mut config, Value::Object(self.extra.clone()));
        Ok(config)
    }

    fn base(&self) -> Value {
        let memory = if self.control_plane { "512Mi" } else { "384Mi" };
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "0.0.0.0",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": paths::KUBELET_CLIENT_CA},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/",
            "clusterDNS": self.cluster_dns,
            "clusterDomain": self.cluster_domain,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "failSwapOn": false,
            // The pods come over loopback from this machine: asking every second costs nothing
            // and saves up to 20 s at start.
            "httpCheckFrequency": "1s",
            "kubeletCgroups": "/podruntime/kubelet",
            "logging": {"format": "json"},
            "oomScoreAdj": -450,
            "port": 10250,
            "protectKernelDefaults": true,
            "resolvConf": paths::POD_RESOLV_CONF,
            "rotateCertificates": true,
            "seccompDefault": self.seccomp_default,
            "serializeImagePulls": false,
            "serverTLSBootstrap": true,
            "shutdownGracePeriod": "30s",
            "shutdownGracePeriodCriticalPods": "10s",
            "streamingConnectionIdleTimeout": "5m",
            "systemCgroups": "/system",
            "systemReserved": {
                "cpu": "50m",
                "ephemeral-storage": "256Mi",
                "memory": memory,
                "pid": "100",
            },
            "tlsMinVersion": "VersionTLS13",
        })
    }

    fn taints(&self) -> Result<Vec<Value>, ConfigError> {
        self.taints
            .iter()
            .map(|(key, text)| {
                let (value, effect) = parse_taint(text).ok_or_else(|| ConfigError::Taint { key: key.clone(), value: text.clone() })?;
                let mut taint = json!({"key": key, "effect": effect});
                if !value.is_empty() {
                    taint["value"] = json!(value);
                }
                Ok(taint)
            })
            .collect()
    }
}

/// A container node shares disk, memory and kernel settings with its host: it must not collect
/// images or evict pods because the host's disk is full, has no login manager that would tell it
/// of a shutdown, and finds kernel settings as the host has them.
fn container_knobs() -> Value {
    json!({
        "evictionHard": {
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "protectKernelDefaults": false,
        "shutdownGracePeriod": "0s",
        "shutdownGracePeriodCriticalPods": "0s",
    })
}

/// `[value:]Effect` → (value, effect).
pub fn parse_taint(text: &str) -> Option<(&str, &str)> {
    let (value, effect) = text.rsplit_once(':').unwrap_or(("", text));
    matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute").then_some((value, effect))
}

/// Lays `over` over `base`: maps are merged key by key, everything else is replaced.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> KubeletConfig {
        KubeletConfig {
            static_pod_url: "http://127.0.0.1:40000/".into(),
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            seccomp_default: true,
            control_plane: true,
            ..Default::default()
        }
    }

    #[test]
    fn golden_machine() {
        let mut input = input();
        input.taints.insert("node-role.kubernetes.io/control-plane".into(), "NoSchedule".into());
        assert_eq!(
            input.build().unwrap(),
            json!({
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "address": "0.0.0.0",
                "port": 10250,
                "staticPodURL": "http://127.0.0.1:40000/",
                "authentication": {
                    "anonymous": {"enabled": false},
                    "webhook": {"enabled": true},
                    "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
                },
                "authorization": {"mode": "Webhook"},
                "cgroupRoot": "/",
                "systemCgroups": "/system",
                "kubeletCgroups": "/podruntime/kubelet",
                "cgroupDriver": "cgroupfs",
                "clusterDNS": ["10.96.0.10"],
                "clusterDomain": "cluster.local",
                "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
                "failSwapOn": false,
                "httpCheckFrequency": "1s",
                "logging": {"format": "json"},
                "oomScoreAdj": -450,
                "protectKernelDefaults": true,
                "registerWithTaints": [
                    {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                ],
                "resolvConf": "/system/resolved/resolv.conf",
                "rotateCertificates": true,
                "seccompDefault": true,
                "serializeImagePulls": false,
                "serverTLSBootstrap": true,
                "shutdownGracePeriod": "30s",
                "shutdownGracePeriodCriticalPods": "10s",
                "streamingConnectionIdleTimeout": "5m",
                "systemReserved": {
                    "cpu": "50m", "ephemeral-storage": "256Mi", "memory": "512Mi", "pid": "100",
                },
                "tlsMinVersion": "VersionTLS13",
            })
        );
    }

    #[test]
    fn container_on_cgroup_v1_without_sys_resource() {
        let mut input = input();
        input.control_plane = false;
        input.limits = HostLimits { container: true, cgroup_v1: true, oom_score: false };
        let config = input.build().unwrap();
        for (field, value) in [
            ("failCgroupV1", json!(false)),
            ("oomScoreAdj", json!(0)),
            ("protectKernelDefaults", json!(false)),
            ("imageGCHighThresholdPercent", json!(100)),
            ("shutdownGracePeriod", json!("0s")),
            ("cgroupDriver", json!("cgroupfs")),
        ] {
            assert_eq!(config[field], value, "{field}");
        }
        assert_eq!(config.get("systemCgroups"), None);
        assert_eq!(config["evictionHard"]["nodefs.available"], "0%");
        assert_eq!(config["systemReserved"]["memory"], "384Mi");
        // On a machine, the default thresholds are the kubelet's own.
        let machine = KubeletConfig::default().build().unwrap();
        assert_eq!(machine.get("evictionHard"), None);
        assert_eq!(machine.get("failCgroupV1"), None);
    }

    #[test]
    fn user_fields_win_unless_protected() {
        let mut input = input();
        input.extra.insert("maxPods".into(), json!(50));
        input.extra.insert("systemReserved".into(), json!({"memory": "1Gi"}));
        let config = input.build().unwrap();
        assert_eq!(config["maxPods"], 50);
        assert_eq!(config["systemReserved"]["memory"], "1Gi");
        assert_eq!(config["systemReserved"]["pid"], "100");
        for field in PROTECTED_KUBELET {
            let mut input = KubeletConfig::default();
            input.extra.insert(field.into(), json!(1));
            let text = input.build().unwrap_err().to_string();
            assert!(text.contains(field), "{text}");
        }
    }

    #[test]
    fn taints() {
        assert_eq!(parse_taint("NoSchedule"), Some(("", "NoSchedule")));
        assert_eq!(parse_taint("gpu:NoExecute"), Some(("gpu", "NoExecute")));
        assert_eq!(parse_taint("gpu:Sometimes"), None);
        let mut input = KubeletConfig::default();
        input.taints.insert("k".into(), "Sometimes".into());
        assert!(input.build().unwrap_err().to_string().contains("Sometimes"));
    }
}
