//! `mounts`: what is mounted on nodes, and how full it is.

use clap::Args;

use crate::session::Session;
use crate::table::Table;

/// List mounts.
#[derive(Debug, Args)]
pub struct Mounts {}

/// Hundredths of a gigabyte.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn gigabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e9)
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn percent(used: u64, size: u64) -> String {
    format!("{:.2}%", used as f64 * 100.0 / size as f64)
}

impl Mounts {
    /// Lists each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let rows = session.collect(false, async |node| Ok(node.client.machine().mounts(()).await?.into_inner().messages)).await;
        let mut table = Table::new(&["NODE", "FILESYSTEM", "SIZE(GB)", "USED(GB)", "AVAILABLE(GB)", "PERCENT USED", "MOUNTED ON"]);
        for (node, messages) in &rows.found {
            // What has no size (proc, control groups) is not about space.
            for m in messages.iter().flat_map(|m| &m.stats).filter(|m| m.size > 0) {
                let used = m.size.saturating_sub(m.available);
                table.row([
                    node.name.clone(),
                    m.filesystem.clone(),
                    gigabytes(m.size),
                    gigabytes(used),
                    gigabytes(m.available),
                    percent(used, m.size),
                    m.mounted_on.clone(),
                ]);
            }
        }
        print!("{table}");
        rows.finish()
    }
}
