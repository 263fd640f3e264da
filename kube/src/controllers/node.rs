//! This machine as a node object: its labels, its state, and the approval of kubelets' serving
//! certificates.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::{Context, Controller, Inputs, Many, One, OneExt, Outputs, Wanted};
use futures::StreamExt;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::watcher;
use model::kube as kinds;

use super::Room;
use super::kubelet::{CREDENTIALS_LIFE, machine_kubeconfig};
use crate::objects::{self, csr, meta, status};

/// Inputs of [`NodeMeta`].
#[derive(Inputs)]
pub struct MetaIn {
    #[input(id = "nodename")]
    nodename: One<kinds::Nodename>,
    labels: Many<kinds::NodeLabelSpec>,
    annotations: Many<kinds::NodeAnnotationSpec>,
    taints: Many<kinds::NodeTaintSpec>,
    cordoned: Many<kinds::NodeCordonedSpec>,
    #[input(id = "k8s-certs")]
    secrets: One<kinds::KubernetesSecret>,
    #[input(id = "kubelet")]
    kubeconfig: One<kinds::KubeletKubeconfig>,
    /// Wakes this controller when somebody changes the node object.
    statuses: Many<kinds::NodeStatus>,
}

/// Labels, annotates, taints and cordons this machine's node object.
pub struct NodeMeta {
    /// Shared.
    pub room: Room,
}

impl Controller for NodeMeta {
    const NAME: &'static str = "k8s.NodeApplyController";
    type In = MetaIn;

    fn outputs() -> Outputs {
        Outputs::new()
    }

    async fn reconcile(&self, ctx: &Context, input: MetaIn) -> engine::Result<Wanted> {
        let Some(nodename) = input.nodename.spec().filter(|name| !name.skip_node_registration) else {
            return Ok(Wanted::new());
        };
        // What leaves the configuration is taken from the node object; what is merely not known
        // yet must not be.
        if !ctx.settled() || input.statuses.get(&nodename.nodename).is_none() {
            return Ok(Wanted::new().waiting_for("the node object"));
        }
        if input.secrets.is_none() && input.kubeconfig.is_none() {
            return Ok(Wanted::new().waiting_for("access to Kubernetes"));
        }
        let Some(kubeconfig) = machine_kubeconfig(self.room.files.as_ref(), input.secrets.spec())? else {
            return Ok(Wanted::new().waiting_for("access to Kubernetes"));
        };
        let wanted = meta::Wanted {
            labels: input.labels.specs().map(|label| (label.key.clone(), label.value.clone())).collect(),
            annotations: input.annotations.specs().map(|a| (a.key.clone(), a.value.clone())).collect(),
            taints: input.secrets.as_ref().map(|_| {
                let taints = input.taints.specs();
                taints.map(|taint| (taint.key.clone(), (taint.value.clone(), taint.effect.clone()))).collect()
            }),
            cordoned: !input.cordoned.is_empty(),
        };
        let client = objects::client(&kubeconfig).await?;
        match meta::reconcile(&client, &nodename.nodename, &wanted).await {
            Ok(_) => Ok(Wanted::new()),
            Err(error) if error.is_conflict() || error.is_not_found() => {
                ctx.wake_after(Duration::from_secs(1));
                Ok(Wanted::new().waiting_for(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Inputs of [`NodeStatuses`].
#[derive(Inputs)]
pub struct NodeIn {
    #[input(id = "nodename")]
    nodename: One<kinds::Nodename>,
    #[input(id = "k8s-certs")]
    secrets: One<kinds::KubernetesSecret>,
    #[input(id = "kubelet")]
    kubeconfig: One<kinds::KubeletKubeconfig>,
}

/// What is known of a node object: `None` not yet, `Some(None)` that there is none.
pub type Seen = Option<Option<status::NodeState>>;

/// Watches this machine's node object.
pub struct NodeStatuses {
    /// Shared.
    pub room: Room,
    /// What the watch has seen.
    pub seen: Arc<Mutex<Seen>>,
}

impl Controller for NodeStatuses {
    const NAME: &'static str = "k8s.NodeStatusController";
    type In = NodeIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::NodeStatus>()
    }

    async fn reconcile(&self, ctx: &Context, input: NodeIn) -> engine::Result<Wanted> {
        let Some(nodename) = input.nodename.spec().filter(|name| !name.skip_node_registration) else {
            return Ok(Wanted::new());
        };
        let access = input.secrets.is_some() || input.kubeconfig.is_some();
        let kubeconfig = machine_kubeconfig(self.room.files.as_ref(), input.secrets.spec())?;
        let Some(kubeconfig) = kubeconfig.filter(|_| access) else {
            return Ok(Wanted::unchanged().waiting_for("access to Kubernetes"));
        };
        let key = format!("watch/{}", nodename.nodename);
        ctx.cancel_unless(|running| running == key);
        let (seen, waker, name) = (Arc::clone(&self.seen), ctx.waker(), nodename.nodename.clone());
        ctx.spawn(key, async move { watch_node(&kubeconfig, &name, &seen, &|| waker.wake()).await });
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(match seen {
            None => Wanted::unchanged().waiting_for("the API server"),
            Some(None) => Wanted::new(),
            Some(Some(state)) => Wanted::new().with(
                state.name.clone(),
                kinds::NodeStatus {
                    nodename: state.name,
                    node_ready: state.ready,
                    unschedulable: state.unschedulable,
                    labels: state.labels,
                    annotations: state.annotations,
                    pod_cidrs: state.pod_cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect(),
                },
            ),
        })
    }
}

async fn watch_node(kubeconfig: &str, name: &str, seen: &Mutex<Seen>, wake: &(dyn Fn() + Send + Sync)) -> engine::Result<()> {
    let client = objects::client(kubeconfig).await?;
    let api: Api<Node> = Api::all(client);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(api, config));
    let mut listed: Option<status::NodeState> = None;
    let set = |state: Seen| {
        let mut current = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != state {
            *current = state;
            drop(current);
            wake();
        }
    };
    let until = tokio::time::Instant::now() + CREDENTIALS_LIFE;
    loop {
        let event = tokio::time::timeout_at(until, events.next()).await;
        let Ok(Some(event)) = event else { return Ok(()) };
        match event {
            Ok(watcher::Event::Init) => listed = None,
            Ok(watcher::Event::InitApply(node)) => listed = Some(status::of_node(&node)),
            Ok(watcher::Event::InitDone) => set(Some(listed.clone())),
            Ok(watcher::Event::Apply(node)) => set(Some(Some(status::of_node(&node)))),
            Ok(watcher::Event::Delete(_)) => set(Some(None)),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// Inputs of [`ApproveServing`].
#[derive(Inputs)]
pub struct ApproveIn {
    #[input(id = "k8s-certs")]
    secrets: One<kinds::KubernetesSecret>,
}

/// Approves kubelets' serving certificates; on control planes.
pub struct ApproveServing;

impl Controller for ApproveServing {
    const NAME: &'static str = "k8s.ServingCertificateController";
    type In = ApproveIn;

    fn outputs() -> Outputs {
        Outputs::new()
    }

    async fn reconcile(&self, ctx: &Context, input: ApproveIn) -> engine::Result<Wanted> {
        let Some(secrets) = input.secrets.spec() else {
            ctx.cancel("watch");
            return Ok(Wanted::new());
        };
        let kubeconfig = secrets.localhost_admin_kubeconfig.clone();
        ctx.spawn("watch", async move { approve_all(&kubeconfig).await });
        Ok(Wanted::new())
    }
}

/// Decides about each request as it comes; those that came before their node object has the
/// addresses are looked at again.
async fn approve_all(kubeconfig: &str) -> engine::Result<()> {
    const AGAIN: Duration = Duration::from_secs(2);
    let client = objects::client(kubeconfig).await?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let config = watcher::Config::default().fields(&format!("spec.signerName={}", csr::SIGNER));
    let mut events = std::pin::pin!(watcher(api, config));
    let mut pending: BTreeMap<String, CertificateSigningRequest> = BTreeMap::new();
    loop {
        let wait = if pending.is_empty() { Duration::from_secs(1800) } else { AGAIN };
        match tokio::time::timeout(wait, events.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(watcher::Event::Apply(request) | watcher::Event::InitApply(request)))) => {
                let name = request.metadata.name.clone().unwrap_or_default();
                if csr::is_pending(&request) {
                    pending.insert(name, request);
                } else {
                    pending.remove(&name);
                }
            }
            Ok(Some(Ok(watcher::Event::Delete(request)))) => {
                pending.remove(&request.metadata.name.unwrap_or_default());
            }
            Ok(Some(Ok(watcher::Event::Init | watcher::Event::InitDone))) => {}
            Ok(Some(Err(_))) => tokio::time::sleep(Duration::from_millis(500)).await,
            Err(_) if pending.is_empty() => return Ok(()),
            Err(_) => {}
        }
        decide(&client, &mut pending).await;
    }
}

async fn decide(client: &kube::Client, pending: &mut BTreeMap<String, CertificateSigningRequest>) {
    let mut done = Vec::new();
    for (name, request) in pending.iter() {
        match csr::handle(client, request).await {
            Ok(Ok(())) => {
                tracing::info!(request = %name, "serving certificate approved");
                done.push(name.clone());
            }
            // These may change by themselves; a person decides about the others.
            Ok(Err(csr::Refusal::NoNode { .. } | csr::Refusal::NotItsOwn { .. })) => {}
            Ok(Err(refusal)) => {
                tracing::warn!(request = %name, %refusal, "serving certificate not approved");
                done.push(name.clone());
            }
            Err(error) if error.is_not_found() || error.is_conflict() => done.push(name.clone()),
            Err(error) => tracing::debug!(request = %name, %error, "serving certificate not decided"),
        }
    }
    for name in done {
        pending.remove(&name);
    }
}
