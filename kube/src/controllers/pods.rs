//! Static pods: made, served to the kubelet, and observed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::{Context, Controller, Inputs, Many, One, OneExt, Outputs, Wanted};
use model::host::MachineConfig;
use model::kube as kinds;
use resource::Value;

use super::Room;
use crate::configure;
use crate::control_plane::pod::{PodInput, Resources, Volume};
use crate::control_plane::{apiserver, controller_manager, scheduler};
use crate::paths::{API_SERVER, CONTROLLER_MANAGER, SCHEDULER};

/// Inputs of [`ControlPlanePods`].
#[derive(Inputs)]
pub struct PodsIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "kube-apiserver")]
    api_server: One<kinds::ApiServerConfig>,
    #[input(id = "kube-controller-manager")]
    controller_manager: One<kinds::ControllerManagerConfig>,
    #[input(id = "kube-scheduler")]
    scheduler: One<kinds::SchedulerConfig>,
    #[input(id = "static-pods")]
    secrets: One<kinds::SecretStatus>,
    #[input(id = "static-pods")]
    configs: One<kinds::ConfigStatus>,
    #[input(id = "k8s-certs")]
    access: One<kinds::KubernetesSecret>,
    /// What was wanted before.
    pods: Many<kinds::StaticPod>,
}

/// Makes the control plane's pods once their files are there, and those of the configuration.
///
/// kube-controller-manager and kube-scheduler come when an API server is ready for the first time:
/// earlier they find their rights missing and end, and the kubelet then waits ten seconds before it
/// starts them again.
#[derive(Default)]
pub struct ControlPlanePods {
    ready: Arc<AtomicBool>,
}

impl ControlPlanePods {
    /// Whether the pods that need the API server may come. Pods that came stay.
    fn may_follow(&self, ctx: &Context, input: &PodsIn) -> bool {
        if self.ready.load(Ordering::Relaxed) || input.pods.get(CONTROLLER_MANAGER).is_some() || input.pods.get(SCHEDULER).is_some() {
            return true;
        }
        if let Some(access) = input.access.spec() {
            let (ready, kubeconfig) = (Arc::clone(&self.ready), access.localhost_admin_kubeconfig.clone());
            ctx.spawn("api-server-ready", async move {
                let client = crate::objects::client(&kubeconfig).await?;
                while !is_ready(&client).await {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                ready.store(true, Ordering::Relaxed);
                Ok(())
            });
        }
        false
    }
}

async fn is_ready(client: &kube::Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    crate::objects::ask("ask the API server whether it is ready", client.request_text(request)).await.is_ok()
}

impl Controller for ControlPlanePods {
    const NAME: &'static str = "k8s.ControlPlaneStaticPodController";
    type In = PodsIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::StaticPod>()
    }

    async fn reconcile(&self, ctx: &Context, input: PodsIn) -> engine::Result<Wanted> {
        let Some(config) = input.config.spec().and_then(MachineConfig::machine) else {
            return Ok(Wanted::unknown("the machine configuration"));
        };
        let mut wanted = Wanted::new();
        for (name, pod) in configure::static_pods(config) {
            wanted = wanted.with(name, kinds::StaticPod { pod });
        }
        if !config.runs_kubernetes() {
            return Ok(wanted);
        }
        let (Some(secrets), Some(configs)) = (input.secrets.spec(), input.configs.spec()) else {
            return Ok(Wanted::unknown("files of the control plane's pods"));
        };
        let versions = Versions { secrets: &secrets.version, files: &configs.version };
        if let Some(resource) = &input.api_server {
            let spec = &resource.spec;
            let pod = apiserver::static_pod(
                &versions.input(
                    resource.meta.version.to_string(),
                    true,
                    (&spec.image, &spec.args, &spec.environment_variables, &spec.extra_volumes, &spec.resources),
                ),
                u16::try_from(spec.local_port).unwrap_or(6443),
                spec.startup_probes_enabled,
            );
            wanted = wanted.with(API_SERVER, kinds::StaticPod { pod: Value::from(pod) });
        }
        if !self.may_follow(ctx, &input) {
            return Ok(wanted.waiting_for("an API server that is ready"));
        }
        if let Some(resource) = &input.controller_manager {
            let spec = &resource.spec;
            let pod = controller_manager::static_pod(&versions.input(
                resource.meta.version.to_string(),
                false,
                (&spec.image, &spec.args, &spec.environment_variables, &spec.extra_volumes, &spec.resources),
            ));
            wanted = wanted.with(CONTROLLER_MANAGER, kinds::StaticPod { pod: Value::from(pod) });
        }
        if let Some(resource) = &input.scheduler {
            let spec = &resource.spec;
            let pod = scheduler::static_pod(&versions.input(
                resource.meta.version.to_string(),
                true,
                (&spec.image, &spec.args, &spec.environment_variables, &spec.extra_volumes, &spec.resources),
            ));
            wanted = wanted.with(SCHEDULER, kinds::StaticPod { pod: Value::from(pod) });
        }
        Ok(wanted)
    }
}

struct Versions<'a> {
    secrets: &'a str,
    files: &'a str,
}

type Parts<'a> = (&'a String, &'a Vec<String>, &'a BTreeMap<String, String>, &'a Vec<kinds::ExtraVolume>, &'a kinds::Resources);

impl Versions<'_> {
    fn input(&self, config_version: String, has_files: bool, parts: Parts<'_>) -> PodInput {
        let (image, args, environment, volumes, resources) = parts;
        PodInput {
            image: image.clone(),
            args: args.clone(),
            environment: environment.clone(),
            extra_volumes: volumes
                .iter()
                .map(|volume| Volume {
                    name: volume.name.clone(),
                    host_path: volume.host_path.clone(),
                    mount_path: volume.mount_path.clone(),
                    read_only: volume.readonly,
                })
                .collect(),
            resources: Resources { requests: resources.requests.clone(), limits: resources.limits.clone() },
            config_version,
            config_file_version: if has_files { self.files.to_owned() } else { String::new() },
            secrets_version: self.secrets.to_owned(),
        }
    }
}

/// Inputs of [`ServeStaticPods`].
#[derive(Inputs)]
pub struct ServeIn {
    pods: Many<kinds::StaticPod>,
}

/// Serves the static pods to the kubelet.
pub struct ServeStaticPods {
    /// Shared.
    pub room: Room,
}

impl Controller for ServeStaticPods {
    const NAME: &'static str = "k8s.StaticPodServerController";
    type In = ServeIn;

    fn outputs() -> Outputs {
        Outputs::new()
    }

    async fn reconcile(&self, ctx: &Context, input: ServeIn) -> engine::Result<Wanted> {
        let pods: BTreeMap<String, serde_json::Value> =
            input.pods.iter().map(|pod| (pod.meta.id.to_string(), serde_json::Value::from(&pod.spec.pod))).collect();
        // A pod missing from the list is stopped. Until it is sure that the list is whole, pods
        // only come to it.
        let whole = ctx.settled();
        let list = self.room.static_pods.merge(pods, whole);
        if whole || !list.is_empty() {
            self.room.static_pods.set(&list);
        }
        Ok(Wanted::new())
    }
}

/// Inputs of [`PodStatuses`].
#[derive(Inputs)]
pub struct StatusIn {
    pods: Many<kinds::StaticPod>,
    #[input(id = "nodename")]
    nodename: One<kinds::Nodename>,
    #[input(id = "k8s-dynamic-certs")]
    certs: One<kinds::KubernetesDynamicCert>,
    #[input(id = "k8s")]
    root: One<kinds::KubernetesRootSecret>,
}

/// Asks the kubelet how the static pods fare.
pub struct PodStatuses;

impl Controller for PodStatuses {
    const NAME: &'static str = "k8s.KubeletStaticPodController";
    type In = StatusIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::StaticPodStatus>()
    }

    async fn reconcile(&self, ctx: &Context, input: StatusIn) -> engine::Result<Wanted> {
        let Some(client) = input.certs.spec().and_then(|certs| certs.api_server_kubelet_client.clone()) else {
            return Ok(Wanted::new());
        };
        if input.pods.is_empty() || input.nodename.is_none() {
            return Ok(Wanted::new());
        }
        let authority = input.root.spec().and_then(|root| root.issuing_ca.clone()).unwrap_or_default();
        let listed = kubelet_pods(&authority.crt, &client.crt, &client.key).await;
        let Ok(listed) = listed else {
            ctx.wake_after(Duration::from_secs(1));
            return Ok(Wanted::unchanged().waiting_for("the kubelet to answer"));
        };
        let mut ready = true;
        let mut wanted = Wanted::new();
        for pod in listed.iter().filter(|pod| is_static(pod)) {
            let name = pod.pointer("/metadata/name").and_then(|v| v.as_str()).unwrap_or_default();
            let namespace = pod.pointer("/metadata/namespace").and_then(|v| v.as_str()).unwrap_or_default();
            let status = pod.get("status").cloned().unwrap_or_default();
            ready &= status
                .pointer("/conditions")
                .and_then(|v| v.as_array())
                .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
            wanted = wanted.with(format!("{namespace}/{name}"), kinds::StaticPodStatus { pod_status: Value::from(status) });
        }
        let all = ready && wanted.len() >= input.pods.len();
        ctx.wake_after(Duration::from_secs(if all { 10 } else { 1 }));
        Ok(wanted)
    }
}

fn is_static(pod: &serde_json::Value) -> bool {
    pod.pointer("/metadata/annotations/kubernetes.io~1config.source")
        .and_then(|source| source.as_str())
        .is_some_and(|source| source == "http" || source == "file")
}

/// The kubelet's own list. Its serving certificate is not checked: it may not be signed yet, and
/// the way there is loopback.
async fn kubelet_pods(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<Vec<serde_json::Value>, crate::objects::KubeError> {
    let kubeconfig = crate::kubeconfig::insecure("https://127.0.0.1:10250", authority, certificate, key);
    let client = crate::objects::client(&kubeconfig).await?;
    let request =
        http::Request::get("/pods").body(Vec::new()).map_err(|error| crate::objects::KubeError::Config { reason: error.to_string() })?;
    let answer: serde_json::Value = crate::objects::ask("list the kubelet's pods", client.request(request)).await?;
    Ok(answer["items"].as_array().cloned().unwrap_or_default())
}
