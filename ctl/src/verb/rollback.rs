//! `rollback`: back to the installation before. Container nodes have none, and say so.

use api::machine as pb;
use clap::Args;

use crate::session::Session;

/// Boot the previous installation.
#[derive(Debug, Args)]
pub struct Rollback {}

impl Rollback {
    /// Asks each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        session
            .each(false, async |node| {
                node.client.machine().rollback(pb::RollbackRequest {}).await?;
                println!("{}: boots the previous installation", node.name);
                Ok(())
            })
            .await
    }
}
