//! `read`: the bytes of a file of a node.

use api::machine as pb;
use clap::Args;

use crate::files;
use crate::session::Session;

/// Print a file.
#[derive(Debug, Args)]
pub struct Read {
    /// Its absolute path.
    path: String,
}

impl Read {
    /// Prints it as it is.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let request = pb::ReadRequest { path: self.path };
        let mut stream = session.one(false)?.client.machine().read(request).await?.into_inner();
        while let Some(part) = stream.message().await? {
            files::print(&part.bytes)?;
        }
        Ok(())
    }
}
