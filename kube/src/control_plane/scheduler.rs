//! kube-scheduler: arguments, configuration file and static pod.

use serde_json::{Map, Value, json};

use super::pod::{self, HttpProbe, PodInput, Probes};
use crate::args::{ArgError, Args, ExtraArgs, Policy};
use crate::paths::{POD_CONFIG, POD_SECRETS, SCHEDULER, SCHEDULER_UID};

const PORT: u16 = 10259;

const POLICIES: &[(&str, Policy)] = &[
    ("config", Policy::Denied),
    ("kubeconfig", Policy::Denied),
    ("authentication-kubeconfig", Policy::Denied),
    ("authorization-kubeconfig", Policy::Denied),
    ("tls-min-version", Policy::Denied),
];

fn kubeconfig() -> String {
    format!("{POD_SECRETS}/{SCHEDULER}/kubeconfig")
}

/// The complete argument list.
///
/// # Errors
/// A flag among `extra` that may not be set.
pub fn args(extra: &ExtraArgs) -> Result<Vec<String>, ArgError> {
    let args = Args::new()
        .with("authentication-kubeconfig", kubeconfig())
        .with("authentication-tolerate-lookup-failure", "false")
        .with("authorization-kubeconfig", kubeconfig())
        .with("bind-address", "127.0.0.1")
        .with("config", format!("{POD_CONFIG}/{SCHEDULER}/scheduler-config.yaml"))
        .with("leader-elect", "true")
        .with("profiling", "false")
        .with("tls-min-version", "VersionTLS13");
    Ok(args.merged(SCHEDULER, extra, POLICIES)?.to_flags())
}

/// The KubeSchedulerConfiguration: the user's map with what the node decides laid over it.
pub fn config(user: &Map<String, Value>) -> Value {
    let mut config = user.clone();
    config.insert("apiVersion".into(), json!("kubescheduler.config.k8s.io/v1"));
    config.insert("kind".into(), json!("KubeSchedulerConfiguration"));
    let connection = config.entry("clientConnection").or_insert_with(|| json!({}));
    if !connection.is_object() {
        *connection = json!({});
    }
    if let Some(connection) = connection.as_object_mut() {
        connection.insert("kubeconfig".into(), json!(kubeconfig()));
    }
    Value::Object(config)
}

/// The static pod. Versions before 1.31 serve `/healthz` only.
pub fn static_pod(input: &PodInput) -> Value {
    let split = pod::minor_of(&input.image).is_none_or(|minor| minor >= 31);
    let (live, ready) = if split { ("/livez", "/readyz") } else { ("/healthz", "/healthz") };
    let mut volumes = pod::own_volumes(SCHEDULER);
    let mut mounts = pod::own_mounts(SCHEDULER);
    input.extend_volumes(&mut volumes, &mut mounts);

    let mut container = Map::new();
    container.insert("name".into(), json!(SCHEDULER));
    container.insert("image".into(), json!(input.image));
    container.insert("command".into(), json!(input.command(SCHEDULER)));
    container.insert("env".into(), json!(input.env()));
    container.insert(
        "ports".into(),
        json!([{
            "name": "https", "containerPort": PORT, "hostPort": PORT, "protocol": "TCP",
        }]),
    );
    container.insert("volumeMounts".into(), json!(mounts));
    container.insert("resources".into(), input.resources("10m", "64Mi"));
    container.insert("securityContext".into(), pod::container_security(&[]));
    Probes {
        startup: HttpProbe { path: live, port: PORT },
        liveness: HttpProbe { path: live, port: PORT },
        readiness: Some(HttpProbe { path: ready, port: PORT }),
    }
    .insert_into(&mut container);
    pod::assemble(SCHEDULER, SCHEDULER_UID, input, Value::Object(container), volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_arguments() {
        assert_eq!(
            args(&ExtraArgs::new()).unwrap().join("\n"),
            "\
--authentication-kubeconfig=/system/secrets/kubernetes/kube-scheduler/kubeconfig
--authentication-tolerate-lookup-failure=false
--authorization-kubeconfig=/system/secrets/kubernetes/kube-scheduler/kubeconfig
--bind-address=127.0.0.1
--config=/system/config/kubernetes/kube-scheduler/scheduler-config.yaml
--leader-elect=true
--profiling=false
--tls-min-version=VersionTLS13"
        );
    }

    #[test]
    fn user_configuration_keeps_its_parts() {
        let user = json!({
            "profiles": [{"schedulerName": "default-scheduler"}],
            "clientConnection": {"qps": 100, "kubeconfig": "/elsewhere"},
            "apiVersion": "wrong/v1",
        });
        assert_eq!(
            config(user.as_object().unwrap()),
            json!({
                "apiVersion": "kubescheduler.config.k8s.io/v1",
                "kind": "KubeSchedulerConfiguration",
                "profiles": [{"schedulerName": "default-scheduler"}],
                "clientConnection": {
                    "qps": 100,
                    "kubeconfig": "/system/secrets/kubernetes/kube-scheduler/kubeconfig",
                },
            })
        );
    }

    #[test]
    fn probe_paths_follow_the_version() {
        let path = |image: &str| {
            let pod = static_pod(&PodInput { image: image.into(), ..Default::default() });
            pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"].clone()
        };
        assert_eq!(path("r/kube-scheduler:v1.30.4"), "/healthz");
        assert_eq!(path("r/kube-scheduler:v1.37.1"), "/readyz");
    }
}
