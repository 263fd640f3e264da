//! `processes`: what runs on nodes.

use clap::{Args, ValueEnum};

use crate::session::Session;
use crate::table::{Table, bytes};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    Rss,
    Cpu,
}

/// List processes.
#[derive(Debug, Args)]
pub struct Processes {
    /// The column to sort by.
    #[arg(long, short, value_enum, default_value = "rss")]
    sort: Sort,
}

impl Processes {
    /// Lists each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let rows = session.collect(false, async |node| Ok(node.client.machine().processes(()).await?.into_inner().messages)).await;
        let mut table = Table::new(&["NODE", "PID", "STATE", "THREADS", "CPU-TIME", "VIRTMEM", "RESMEM", "COMMAND"]);
        for (node, messages) in &rows.found {
            let mut all: Vec<_> = messages.iter().flat_map(|m| &m.processes).collect();
            match self.sort {
                Sort::Rss => all.sort_by_key(|p| std::cmp::Reverse(p.resident_memory)),
                Sort::Cpu => all.sort_by(|a, b| b.cpu_time.total_cmp(&a.cpu_time)),
            }
            for p in all {
                let command = if p.args.is_empty() { format!("[{}]", p.command) } else { p.args.clone() };
                table.row([
                    node.name.clone(),
                    p.pid.to_string(),
                    p.state.clone(),
                    p.threads.to_string(),
                    format!("{:.2}", p.cpu_time),
                    bytes(p.virtual_memory),
                    bytes(p.resident_memory),
                    command,
                ]);
            }
        }
        print!("{table}");
        rows.finish()
    }
}
