//! `usage`: how much disk directories of nodes take.

use anyhow::bail;
use api::machine as pb;
use clap::Args;

use crate::session::Session;
use crate::table::{Table, bytes};

/// Show disk usage, directories after what is in them.
#[derive(Debug, Args)]
pub struct Usage {
    /// Absolute paths.
    #[arg(default_value = "/")]
    paths: Vec<String>,
    /// Files too, not only directories.
    #[arg(long, short)]
    all: bool,
    /// How deep to show; 0 for all the way down.
    #[arg(long, short, default_value_t = 0)]
    depth: i32,
    /// Sizes with units.
    #[arg(long, short = 'H')]
    humanize: bool,
    /// Leave out what is smaller; when negative, what is larger than its amount.
    #[arg(long, short, default_value_t = 0, allow_negative_numbers = true)]
    threshold: i64,
}

impl Usage {
    /// Shows each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let request =
            pb::DiskUsageRequest { recursion_depth: self.depth, all: self.all, threshold: self.threshold, paths: self.paths.clone() };
        let rows = session
            .collect(false, async |node| {
                let mut stream = node.client.machine().disk_usage(request.clone()).await?.into_inner();
                let mut all = Vec::new();
                while let Some(info) = stream.message().await? {
                    all.push(info);
                }
                Ok(all)
            })
            .await;
        let mut table = Table::new(&["NODE", "SIZE", "NAME"]);
        let mut unread = 0;
        for (node, infos) in &rows.found {
            for info in infos {
                if info.error.is_empty() {
                    let size = u64::try_from(info.size).unwrap_or_default();
                    // Names relative to their root say little when there are several roots.
                    let name = if self.paths.len() > 1 { &info.name } else { &info.relative_name };
                    table.row([node.name.clone(), if self.humanize { bytes(size) } else { size.to_string() }, name.clone()]);
                } else {
                    unread += 1;
                    eprintln!("{}: {}: {}", node.name, info.name, info.error);
                }
            }
        }
        print!("{table}");
        rows.finish()?;
        if unread > 0 {
            bail!("{unread} paths could not be read");
        }
        Ok(())
    }
}
