//! `memory`: how the nodes' memory is used.

use clap::Args;

use crate::session::Session;
use crate::table::Table;

/// Show memory usage in MB.
#[derive(Debug, Args)]
pub struct Memory {
    /// Show every field.
    #[arg(long, short)]
    verbose: bool,
    /// Talk to a node in maintenance mode.
    #[arg(long, short)]
    insecure: bool,
}

impl Memory {
    /// Shows each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let rows = session.collect(self.insecure, async |node| Ok(node.client.machine().memory(()).await?.into_inner().messages)).await;
        let mut table = Table::new(&["NODE", "TOTAL", "USED", "FREE", "SHARED", "BUFFERS", "CACHE", "AVAILABLE"]);
        for (node, messages) in &rows.found {
            for m in messages.iter().filter_map(|m| m.meminfo.as_ref()) {
                if self.verbose {
                    println!("{}: {m:#?}", node.name);
                    continue;
                }
                let used = m.memtotal.saturating_sub(m.memfree + m.cached + m.buffers);
                let cells = [m.memtotal, used, m.memfree, m.shmem, m.buffers, m.cached, m.memavailable];
                table.row(std::iter::once(node.name.clone()).chain(cells.iter().map(|kib| (kib / 1024).to_string())));
            }
        }
        if !self.verbose {
            print!("{table}");
        }
        rows.finish()
    }
}
