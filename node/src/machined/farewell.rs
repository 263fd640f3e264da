//! How this node leaves its cluster: its Kubernetes node is drained, its etcd member removed, the other nodes told.

use std::time::Duration;

use async_trait::async_trait;
use engine::Store;
use kube_room::etcd::control::EtcdControl;
use kube_room::objects::drain::{self, DrainOptions};
use model::host::MachineConfig;
use model::kube::{KubernetesSecret, Nodename};

use super::lifecycle::Farewell;
use crate::edge::link;

/// How long evictions may take.
const DRAIN: Duration = Duration::from_secs(45);

/// The cluster that this node is in.
pub(crate) struct Cluster {
    /// The resources.
    pub(crate) store: Store,
    /// etcd of this node.
    pub(crate) etcd: EtcdControl,
    /// The link to `edge`.
    pub(crate) edge: link::Server,
}

impl Cluster {
    /// A client of Kubernetes with the rights this node has: the machine's own on a control plane, the kubelet's elsewhere.
    async fn kubernetes(&self) -> Result<Option<kube::Client>, String> {
        let secrets = self.store.kind::<KubernetesSecret>().get("k8s-certs");
        let own = secrets.map(|s| s.spec.localhost_admin_kubeconfig.clone()).filter(|text| !text.is_empty());
        let text = match own {
            Some(text) => text,
            None => match std::fs::read_to_string(kube_room::paths::KUBELET_KUBECONFIG) {
                Ok(text) => text,
                // The node never was in Kubernetes.
                Err(_) => return Ok(None),
            },
        };
        kube_room::objects::client(&text).await.map(Some).map_err(|e| e.to_string())
    }

    fn nodename(&self) -> Option<String> {
        let nodename = self.store.kind::<Nodename>().get("nodename")?;
        (!nodename.spec.skip_node_registration).then(|| nodename.spec.nodename.clone())
    }

    fn is_control_plane(&self) -> bool {
        let config = self.store.kind::<MachineConfig>().get("v1alpha1");
        config.is_some_and(|c| c.spec.machine().is_some_and(|m| m.machine_type().is_control_plane()))
    }
}

#[async_trait]
impl Farewell for Cluster {
    async fn drain(&self) -> Result<(), String> {
        let (Some(name), Some(client)) = (self.nodename(), self.kubernetes().await?) else { return Ok(()) };
        drain::cordon(&client, &name).await.map_err(|e| e.to_string())?;
        let options = DrainOptions { deadline: DRAIN, force: false };
        drain::drain(&client, &name, options).await.map(drop).map_err(|e| e.to_string())
    }

    async fn leave_etcd(&self) -> Result<(), String> {
        if !self.is_control_plane() {
            return Ok(());
        }
        // The last member cannot leave: with it the cluster ends, and its data is wiped.
        if self.etcd.members().await.is_ok_and(|members| members.len() == 1) {
            return Ok(());
        }
        self.etcd.leave().map_err(|e| e.to_string())?;
        while !self.etcd.has_left().map_err(|e| e.to_string())? {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn goodbye(&self) -> Result<(), String> {
        if self.edge.leave().await { Ok(()) } else { Err("the other nodes could not be told; they will miss it within 10 s".into()) }
    }
}
