//! `bootstrap`: starts etcd, and with it the cluster, on the first control plane.

use anyhow::Context as _;
use api::common::Data;
use api::machine as pb;
use clap::Args;

use crate::session::Session;

/// Start the cluster on one control plane: once in its life.
#[derive(Debug, Args)]
pub struct Bootstrap {
    /// An etcd snapshot to start from.
    #[arg(long)]
    recover_from: Option<String>,
    /// Do not verify the snapshot's hash (for copies of the database file).
    #[arg(long)]
    recover_skip_hash_check: bool,
}

impl Bootstrap {
    /// Bootstraps the one node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let node = session.one(false)?;
        let mut machine = node.client.machine();
        if let Some(path) = &self.recover_from {
            let bytes = tokio::fs::read(path).await.with_context(|| format!("reading the snapshot {path}"))?;
            let parts: Vec<Data> = bytes.chunks(1 << 20).map(|part| Data { metadata: None, bytes: part.to_owned() }).collect();
            machine.etcd_recover(tokio_stream::iter(parts)).await?;
        }
        let request =
            pb::BootstrapRequest { recover_etcd: self.recover_from.is_some(), recover_skip_hash_check: self.recover_skip_hash_check };
        machine.bootstrap(request).await?;
        Ok(())
    }
}
