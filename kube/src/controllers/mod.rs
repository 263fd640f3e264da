//! Controllers of the room: thin, each a pure function of this crate between its inputs and outputs.

pub mod certificates;
pub mod config;
pub mod endpoints;
pub mod etcd;
pub mod kubelet;
pub mod manifests;
pub mod node;
pub mod pods;
pub mod rendering;

use std::sync::Arc;

use engine::Runtime;

use crate::etcd::control::EtcdControl;
use crate::files::Files;
use crate::kubelet::config::HostLimits;
use crate::static_pods::StaticPodServer;

/// What the room's controllers share.
#[derive(Clone)]
pub struct Room {
    /// Files of the machine.
    pub files: Arc<dyn Files>,
    /// What the host allows.
    pub limits: HostLimits,
    /// What the machine API asks of etcd.
    pub etcd: EtcdControl,
    /// Where the kubelet fetches static pods.
    pub static_pods: StaticPodServer,
}

impl Room {
    /// Starts what the room serves.
    ///
    /// # Errors
    /// No local port for static pods.
    pub async fn start(files: Arc<dyn Files>, limits: HostLimits) -> std::io::Result<Self> {
        let static_pods = StaticPodServer::start(files.as_ref()).await?;
        let etcd = EtcdControl::new(Arc::clone(&files));
        Ok(Self { files, limits, etcd, static_pods })
    }

    /// Registers every controller of the room.
    #[must_use]
    pub fn register(&self, runtime: Runtime) -> Runtime {
        runtime
            .register(config::ConfigController { room: self.clone() })
            .register(config::RootSecrets)
            .register(certificates::CertSans)
            .register(certificates::DynamicCerts { room: self.clone() })
            .register(certificates::KubernetesSecrets { room: self.clone() })
            .register(certificates::EtcdSecrets { room: self.clone() })
            .register(rendering::RenderSecrets { room: self.clone() })
            .register(rendering::RenderConfigs { room: self.clone() })
            .register(rendering::RenderEtcd { room: self.clone() })
            .register(pods::ControlPlanePods::default())
            .register(pods::ServeStaticPods { room: self.clone() })
            .register(pods::PodStatuses)
            .register(kubelet::NodeIps)
            .register(kubelet::Nodenames)
            .register(kubelet::KubeletSpecs { room: self.clone() })
            .register(kubelet::KubeletService { room: self.clone() })
            .register(etcd::EtcdSpecs)
            .register(etcd::Membership { room: self.clone() })
            .register(endpoints::DiscoveryEndpoints)
            .register(endpoints::ClusterEndpoints { room: self.clone(), seen: Arc::default() })
            .register(endpoints::KubePrismEndpoints)
            .register(endpoints::KubePrism)
            .register(manifests::Manifests::default())
            .register(manifests::ApplyManifests)
            .register(node::NodeMeta { room: self.clone() })
            .register(node::NodeStatuses { room: self.clone(), seen: Arc::default() })
            .register(node::ApproveServing)
    }
}
