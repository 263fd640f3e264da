//! What the three control-plane pods have in common.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::paths::{POD_CONFIG, POD_SECRETS};

/// A host directory mounted into a control-plane pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Volume name, a DNS label.
    pub name: String,
    /// Directory or file on the node.
    pub host_path: String,
    /// Where the pod sees it.
    pub mount_path: String,
    /// Whether the pod may only read it.
    pub read_only: bool,
}

/// Compute resources of a container: `cpu` and `memory` quantities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Requested.
    pub requests: BTreeMap<String, String>,
    /// Upper bounds.
    pub limits: BTreeMap<String, String>,
}

/// What differs between control-plane pods by configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodInput {
    /// Image reference with tag.
    pub image: String,
    /// Complete argument list, `--name=value` each.
    pub args: Vec<String>,
    /// User's environment.
    pub environment: BTreeMap<String, String>,
    /// User's volumes.
    pub extra_volumes: Vec<Volume>,
    /// User's compute resources.
    pub resources: Resources,
    /// Version of the component's configuration resource.
    pub config_version: String,
    /// Version of the rendered configuration files, where the pod has some.
    pub config_file_version: String,
    /// Version of the rendered secrets.
    pub secrets_version: String,
}

impl PodInput {
    pub(crate) fn command(&self, component: &str) -> Vec<String> {
        std::iter::once(format!("/usr/local/bin/{component}")).chain(self.args.iter().cloned()).collect()
    }

    /// The user's environment, and a limit for Go's heap where the container has a memory limit:
    /// without it the collector learns of the limit from the OOM killer.
    pub(crate) fn env(&self) -> Vec<Value> {
        let mut env: BTreeMap<&str, String> = BTreeMap::new();
        if let Some(limit) = self.resources.limits.get("memory").and_then(|q| go_memory_limit(q)) {
            env.insert("GOMEMLIMIT", limit);
        }
        for (name, value) in &self.environment {
            env.insert(name, value.clone());
        }
        env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    }

    pub(crate) fn resources(&self, cpu: &str, memory: &str) -> Value {
        let mut requests: BTreeMap<&str, &str> = BTreeMap::from([("cpu", cpu), ("memory", memory)]);
        for (name, quantity) in &self.resources.requests {
            requests.insert(name, quantity);
        }
        let mut resources = json!({"requests": requests});
        if !self.resources.limits.is_empty() {
            resources["limits"] = json!(self.resources.limits);
        }
        resources
    }

    pub(crate) fn extend_volumes(&self, volumes: &mut Vec<Value>, mounts: &mut Vec<Value>) {
        for volume in &self.extra_volumes {
            volumes.push(host_path(&volume.name, &volume.host_path));
            mounts.push(mount(&volume.name, &volume.mount_path, volume.read_only));
        }
    }
}

pub(crate) struct HttpProbe {
    pub(crate) path: &'static str,
    pub(crate) port: u16,
}

pub(crate) struct Probes {
    pub(crate) startup: HttpProbe,
    pub(crate) liveness: HttpProbe,
    pub(crate) readiness: Option<HttpProbe>,
}

impl Probes {
    pub(crate) fn insert_into(&self, container: &mut Map<String, Value>) {
        // Every second while starting: a pod is known to be up when it is up, not ten seconds
        // later. Three minutes cover a slow machine that restores a large store.
        container.insert("startupProbe".into(), probe(&self.startup, 1, 15, 180));
        container.insert("livenessProbe".into(), probe(&self.liveness, 10, 15, 8));
        if let Some(readiness) = &self.readiness {
            container.insert("readinessProbe".into(), probe(readiness, 2, 15, 3));
        }
    }
}

fn probe(http: &HttpProbe, period: u32, timeout: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"scheme": "HTTPS", "host": "localhost", "path": http.path, "port": http.port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "successThreshold": 1,
        "failureThreshold": failures,
    })
}

pub(crate) fn host_path(name: &str, path: &str) -> Value {
    json!({"name": name, "hostPath": {"path": path}})
}

pub(crate) fn mount(name: &str, path: &str, read_only: bool) -> Value {
    json!({"name": name, "mountPath": path, "readOnly": read_only})
}

pub(crate) fn secrets_volume(component: &str) -> Value {
    host_path("secrets", &format!("{POD_SECRETS}/{component}"))
}

pub(crate) fn secrets_mount(component: &str) -> Value {
    mount("secrets", &format!("{POD_SECRETS}/{component}"), true)
}

pub(crate) fn own_volumes(component: &str) -> Vec<Value> {
    vec![secrets_volume(component), host_path("config", &format!("{POD_CONFIG}/{component}"))]
}

pub(crate) fn own_mounts(component: &str) -> Vec<Value> {
    vec![secrets_mount(component), mount("config", &format!("{POD_CONFIG}/{component}"), true)]
}

pub(crate) fn container_security(add: &[&str]) -> Value {
    let mut capabilities = json!({"drop": ["ALL"]});
    if !add.is_empty() {
        capabilities["add"] = json!(add);
    }
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": capabilities,
        "readOnlyRootFilesystem": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

pub(crate) fn assemble(component: &str, uid: u32, input: &PodInput, container: Value, volumes: Vec<Value>) -> Value {
    let mut annotations = Map::new();
    annotations.insert("talos.dev/config-version".into(), json!(input.config_version));
    annotations.insert("talos.dev/secrets-version".into(), json!(input.secrets_version));
    if !input.config_file_version.is_empty() {
        annotations.insert("talos.dev/config-file-version".into(), json!(input.config_file_version));
    }
    let mut labels = Map::new();
    labels.insert("tier".into(), json!("control-plane"));
    labels.insert("k8s-app".into(), json!(component));
    labels.insert("component".into(), json!(component));
    labels.insert("app.kubernetes.io/name".into(), json!(component));
    labels.insert("app.kubernetes.io/component".into(), json!("control-plane"));
    labels.insert("app.kubernetes.io/managed-by".into(), json!("Orlop"));
    if let Some(version) = tag_of(&input.image).filter(|tag| is_label_value(tag)) {
        labels.insert("app.kubernetes.io/version".into(), json!(version));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": component,
            "namespace": "kube-system",
            "annotations": annotations,
            "labels": labels,
        },
        "spec": {
            "priority": 2_000_000_000,
            "priorityClassName": "system-cluster-critical",
            "hostNetwork": true,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": uid,
                "runAsGroup": uid,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": volumes,
        },
    })
}

/// The tag of an image reference, without a digest.
pub fn tag_of(image: &str) -> Option<&str> {
    let name = image.split('@').next()?;
    let (_, last) = name.rsplit_once('/').unwrap_or(("", name));
    last.split_once(':').map(|(_, tag)| tag)
}

/// The Kubernetes minor version in an image tag such as `v1.37.1`.
pub fn minor_of(image: &str) -> Option<u32> {
    let version = tag_of(image)?.strip_prefix('v')?;
    let mut parts = version.split('.');
    parts.next().filter(|major| *major == "1")?;
    parts.next()?.parse().ok()
}

fn is_label_value(text: &str) -> bool {
    text.len() <= 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// 95 % of a memory quantity, in bytes, as GOMEMLIMIT takes it. `None` for what is no quantity.
fn go_memory_limit(quantity: &str) -> Option<String> {
    let bytes = bytes_of(quantity)?;
    Some((bytes / 100 * 95).to_string())
}

/// Bytes of a Kubernetes quantity (`512Mi`, `1G`, `1.5Gi`, `1000000`, `1e9`). `None` when it is none.
pub fn bytes_of(quantity: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 10] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
    ];
    let quantity = quantity.trim();
    let (number, unit) = UNITS.iter().find_map(|(suffix, unit)| Some((quantity.strip_suffix(suffix)?, *unit))).unwrap_or((quantity, 1));
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let (whole, fraction) = number.split_once('.')?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = 10u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit) / u128::from(scale);
    whole.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert_eq!(tag_of("host:5000/kube-apiserver:v1.37.1@sha256:ab"), Some("v1.37.1"));
        assert_eq!(tag_of("host:5000/kube-apiserver"), None);
        assert_eq!(minor_of("kube-scheduler:v1.37.0-rc.1"), Some(37));
        assert_eq!(minor_of("kube-scheduler:latest"), None);
        assert_eq!(minor_of("kube-scheduler:v2.3.0"), None);
    }

    #[test]
    fn quantities() {
        for (text, bytes) in [
            ("512Mi", Some(536_870_912)),
            ("1.5Gi", Some(1_610_612_736)),
            ("1G", Some(1_000_000_000)),
            ("0.5k", Some(500)),
            ("7", Some(7)),
            ("", None),
            ("lots", None),
            ("1.Gi", None),
            ("99999999999Pi", None),
        ] {
            assert_eq!(bytes_of(text), bytes, "{text}");
        }
    }

    #[test]
    fn memory_limit_sets_the_heap_limit_unless_the_user_did() {
        let mut input = PodInput::default();
        input.resources.limits.insert("memory".into(), "1000000000".into());
        assert_eq!(input.env(), [json!({"name": "GOMEMLIMIT", "value": "950000000"})]);
        input.environment.insert("GOMEMLIMIT".into(), "1GiB".into());
        assert_eq!(input.env(), [json!({"name": "GOMEMLIMIT", "value": "1GiB"})]);
    }
}
