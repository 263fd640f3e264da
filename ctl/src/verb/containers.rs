//! `containers`: what containerd runs.

use api::common::ContainerDriver;
use api::machine as pb;
use clap::Args;

use crate::session::Session;
use crate::table::Table;

/// List containers.
#[derive(Debug, Args)]
pub struct Containers {
    /// Those of pods.
    #[arg(long, short)]
    kubernetes: bool,
}

/// The namespace and the driver that a request names.
pub fn place(kubernetes: bool) -> (String, i32) {
    if kubernetes { ("k8s.io".into(), ContainerDriver::Cri.into()) } else { ("system".into(), ContainerDriver::Containerd.into()) }
}

impl Containers {
    /// Lists each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let (namespace, driver) = place(self.kubernetes);
        let rows = session
            .collect(false, async |node| {
                let request = pb::ContainersRequest { namespace: namespace.clone(), driver };
                Ok(node.client.machine().containers(request).await?.into_inner().messages)
            })
            .await;
        let mut table = Table::new(&["NODE", "NAMESPACE", "ID", "IMAGE", "PID", "STATUS"]);
        for (node, messages) in &rows.found {
            for c in messages.iter().flat_map(|m| &m.containers) {
                let inner = c.id != c.pod_id && self.kubernetes;
                let id = if inner { format!("└─ {}", c.id) } else { c.id.clone() };
                table.row([node.name.clone(), c.namespace.clone(), id, c.image.clone(), c.pid.to_string(), c.status.clone()]);
            }
        }
        print!("{table}");
        rows.finish()
    }
}
