//! `time`: the nodes' clocks.

use api::time as pb;
use clap::Args;

use crate::session::Session;
use crate::table::Table;

/// Show the nodes' clocks beside a time server's.
#[derive(Debug, Args)]
pub struct Time {
    /// Compare with this server instead of the configured one.
    #[arg(long)]
    check: Option<String>,
}

fn text(at: Option<prost_types::Timestamp>) -> String {
    let nanos = |t: &prost_types::Timestamp| jiff::Timestamp::new(t.seconds, t.nanos).ok();
    at.as_ref().and_then(nanos).map(|t| t.to_string()).unwrap_or_default()
}

impl Time {
    /// Shows each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let rows = session
            .collect(false, async |node| {
                let mut client = node.client.time();
                let answer = match &self.check {
                    Some(server) => client.time_check(pb::TimeRequest { server: server.clone() }).await?,
                    None => client.time(()).await?,
                };
                Ok(answer.into_inner().messages)
            })
            .await;
        let mut table = Table::new(&["NODE", "NTP-SERVER", "NODE-TIME", "NTP-SERVER-TIME"]);
        for (node, messages) in &rows.found {
            for m in messages {
                table.row([node.name.clone(), m.server.clone(), text(m.localtime), text(m.remotetime)]);
            }
        }
        print!("{table}");
        rows.finish()
    }
}
