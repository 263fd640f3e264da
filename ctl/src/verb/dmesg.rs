//! `dmesg`: the kernel's log.

use api::machine as pb;
use clap::Args;

use super::logs::print_lines;
use crate::session::Session;

/// Print the kernel's log.
#[derive(Debug, Args)]
pub struct Dmesg {
    /// Go on printing what is added.
    #[arg(long, short)]
    follow: bool,
    /// Only new messages, with --follow.
    #[arg(long)]
    tail: bool,
    /// Talk to a node in maintenance mode.
    #[arg(long, short)]
    insecure: bool,
}

impl Dmesg {
    /// Prints each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let several = session.names().len() > 1;
        session
            .each(self.insecure, async |node| {
                let request = pb::DmesgRequest { follow: self.follow, tail: self.tail };
                let stream = node.client.machine().dmesg(request).await?.into_inner();
                print_lines(stream, several.then_some(node.name.as_str())).await
            })
            .await
    }
}
