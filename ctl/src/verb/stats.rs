//! `stats`: CPU and memory of containers.

use api::machine as pb;
use clap::Args;

use super::containers::place;
use crate::session::Session;
use crate::table::{Table, bytes};

/// Show what containers use.
#[derive(Debug, Args)]
pub struct Stats {
    /// Those of pods.
    #[arg(long, short)]
    kubernetes: bool,
}

impl Stats {
    /// Shows each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let (namespace, driver) = place(self.kubernetes);
        let rows = session
            .collect(false, async |node| {
                let request = pb::StatsRequest { namespace: namespace.clone(), driver };
                Ok(node.client.machine().stats(request).await?.into_inner().messages)
            })
            .await;
        let mut table = Table::new(&["NODE", "NAMESPACE", "ID", "MEMORY", "CPU TIME"]);
        for (node, messages) in &rows.found {
            for s in messages.iter().flat_map(|m| &m.stats) {
                let seconds = format!("{:.1} s", std::time::Duration::from_nanos(s.cpu_usage).as_secs_f64());
                table.row([node.name.clone(), s.namespace.clone(), s.id.clone(), bytes(s.memory_usage), seconds]);
            }
        }
        print!("{table}");
        rows.finish()
    }
}
