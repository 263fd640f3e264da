//! `version`: of this program, and of nodes.

use api::machine as pb;
use clap::Args;

use crate::session::{Node, Session};

/// The interface level that this build speaks; see ARCHITECTURE.md, "Versions".
pub const INTERFACE: &str = concat!("v1.15.0+orlop.", env!("CARGO_PKG_VERSION"));

/// Print the version of this program and of nodes.
#[derive(Debug, Args)]
pub struct Version {
    /// Print only the version of this program.
    #[arg(long)]
    client: bool,
    /// Print the short version.
    #[arg(long)]
    short: bool,
    /// Talk to a node in maintenance mode.
    #[arg(long, short)]
    insecure: bool,
}

impl Version {
    /// Whether no node is asked.
    pub fn is_local(&self) -> bool {
        self.client
    }

    /// Prints this program's version.
    pub fn print_client(&self) {
        if self.short {
            println!("Client {INTERFACE}");
            return;
        }
        println!("Client:");
        println!("\tTag:         {INTERFACE}");
        println!("\tOrlop:       v{}", env!("CARGO_PKG_VERSION"));
        println!("\tOS/Arch:     {}/{}", std::env::consts::OS, architecture(std::env::consts::ARCH));
    }

    /// Prints the nodes' versions.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        self.print_client();
        println!("Server:");
        session
            .each(self.insecure, async |node| {
                let answer = node.client.machine().version(()).await?.into_inner();
                for message in answer.messages {
                    self.print_server(&node, &message);
                }
                Ok(())
            })
            .await
    }

    fn print_server(&self, node: &Node, message: &pb::Version) {
        let version = message.version.clone().unwrap_or_default();
        if self.short {
            println!("\tNODE:        {}   {}", node.name, version.tag);
            return;
        }
        println!("\tNODE:        {}", node.name);
        println!("\tTag:         {}", version.tag);
        println!("\tSHA:         {}", version.sha);
        println!("\tBuilt:       {}", version.built);
        println!("\tOS/Arch:     {}/{}", version.os, version.arch);
        println!("\tEnabled:     {}", if message.features.is_some_and(|f| f.rbac) { "RBAC" } else { "" });
    }
}

/// The architecture as the field's images name it.
fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
