//! `health`: is the cluster well, and if not, what is the cause?

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use tokio::time::{Instant, sleep, timeout};

use crate::kubernetes;
use crate::session::{Node, Session};

/// Time for one look at one node.
const LOOK: Duration = Duration::from_secs(5);

/// Check the cluster's health.
#[derive(Debug, Args)]
pub struct Health {
    /// How long to wait for health.
    #[arg(long, default_value = "20s", value_parser = crate::duration)]
    wait_timeout: Duration,
}

impl Health {
    /// Looks until all is well or the time is over.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.wait_timeout;
        loop {
            let failures = look(session).await?;
            if failures.is_empty() {
                println!("the cluster is healthy");
                return Ok(());
            }
            if Instant::now() > deadline {
                failures.iter().for_each(|f| println!("{f}"));
                bail!("{} checks failed", failures.len());
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

/// What is not well, one line each, all nodes asked at once.
async fn look(session: &Session) -> anyhow::Result<Vec<String>> {
    let nodes = session.nodes(false)?;
    let looks = nodes.iter().map(|node| async move {
        match timeout(LOOK, services(node)).await {
            Ok(Ok(failures)) => failures,
            Ok(Err(status)) => {
                vec![format!("{}: apid: does not answer: {}; is the node on, and port 50000 open?", node.name, status.message())]
            }
            Err(_) => vec![format!("{}: apid: no answer within {} s; is the node on, and port 50000 open?", node.name, LOOK.as_secs())],
        }
    });
    let mut failures: Vec<String> = futures::future::join_all(looks).await.into_iter().flatten().collect();
    if let Some(node) = nodes.first() {
        failures.extend(
            timeout(LOOK, cluster(node))
                .await
                .unwrap_or_else(|_| vec![format!("{}: kubernetes: no answer within {} s", node.name, LOOK.as_secs())]),
        );
    }
    Ok(failures)
}

async fn services(node: &Node) -> Result<Vec<String>, tonic::Status> {
    let services = node.client.machine().service_list(()).await?.into_inner().messages.into_iter().flat_map(|m| m.services);
    let unwell = |s: &api::machine::ServiceInfo| {
        let health = s.health.clone().unwrap_or_default();
        s.state != "Running" || !(health.unknown || health.healthy)
    };
    Ok(services
        .filter(unwell)
        .map(|s| {
            let said = s.health.map(|h| h.last_message).filter(|m| !m.is_empty());
            let last = s.events.and_then(|e| e.events.last().map(|e| e.msg.clone())).unwrap_or_default();
            format!("{}: service {}: {}: {}; see `orlopctl -n {} logs {}`", node.name, s.id, s.state, said.unwrap_or(last), node.name, s.id)
        })
        .collect())
}

async fn cluster(node: &Node) -> Vec<String> {
    let look = async {
        let mut stream = node.client.machine().kubeconfig(()).await?.into_inner();
        let mut archive = Vec::new();
        while let Some(part) = stream.message().await? {
            archive.extend_from_slice(&part.bytes);
        }
        let text = super::kubeconfig::unpack(&archive)?;
        let client = kubernetes::client(&text).await?;
        kubernetes::missing(&client, &[]).await
    };
    match look.await {
        Ok(missing) => missing.into_iter().map(|m| format!("{}: kubernetes: waiting for {m}", node.name)).collect(),
        Err(error) => vec![format!("{}: kubernetes: {error:#}", node.name)],
    }
}
