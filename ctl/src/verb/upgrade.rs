//! `upgrade`: another version of the operating system. Container nodes get theirs from their image, and say so.

use api::machine as pb;
use clap::Args;

use crate::session::Session;

/// Install another version of the operating system.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The installer's image.
    #[arg(long, short)]
    image: String,
}

impl Upgrade {
    /// Asks each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let request = pb::UpgradeRequest { image: self.image, preserve: true, ..pb::UpgradeRequest::default() };
        session
            .each(false, async |node| {
                for message in node.client.machine().upgrade(request.clone()).await?.into_inner().messages {
                    println!("{}: {}", node.name, message.ack);
                }
                Ok(())
            })
            .await
    }
}
