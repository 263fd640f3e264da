//! `apply-config`: gives nodes a configuration.

use std::time::Duration;

use anyhow::Context as _;
use api::machine as pb;
use clap::{Args, ValueEnum};
use pb::apply_configuration_request::Mode as Wire;

use crate::patches;
use crate::session::{Node, Session, read_file};

/// When a configuration takes effect, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Auto,
    NoReboot,
    Staged,
    Try,
}

/// Apply a configuration to nodes.
#[derive(Debug, Args)]
pub struct ApplyConfig {
    /// The file; `-` for the standard input.
    #[arg(long, short)]
    file: Option<String>,
    /// Patches applied before sending: text, @FILE or FILE.
    #[arg(long, short = 'p')]
    config_patch: Vec<String>,
    /// Talk to a node in maintenance mode.
    #[arg(long, short)]
    insecure: bool,
    #[command(flatten)]
    how: How,
}

/// How a configuration is applied, whoever made it.
#[derive(Debug, Args)]
pub struct How {
    /// Only report what would change.
    #[arg(long)]
    dry_run: bool,
    /// How to apply.
    #[arg(long, short, value_enum, default_value = "auto")]
    mode: Mode,
    /// How long a configuration is tried in mode try.
    #[arg(long, default_value = "1m", value_parser = crate::duration)]
    timeout: Duration,
}

impl How {
    /// Applies to one node and prints what it says.
    pub async fn apply(&self, node: &Node, data: Vec<u8>) -> anyhow::Result<()> {
        let mode = match self.mode {
            Mode::Auto => Wire::Auto,
            Mode::NoReboot => Wire::NoReboot,
            Mode::Staged => Wire::Staged,
            Mode::Try => Wire::Try,
        };
        let seconds = i64::try_from(self.timeout.as_secs()).unwrap_or(i64::MAX);
        let request = pb::ApplyConfigurationRequest {
            data,
            mode: mode.into(),
            dry_run: self.dry_run,
            try_mode_timeout: (self.mode == Mode::Try).then_some(prost_types::Duration { seconds, nanos: 0 }),
        };
        let answer = node.client.machine().apply_configuration(request).await?.into_inner();
        for message in answer.messages {
            message.warnings.iter().for_each(|w| eprintln!("{}: warning: {w}", node.name));
            println!("{}: {}", node.name, if message.mode_details.is_empty() { "applied" } else { &message.mode_details });
        }
        Ok(())
    }
}

impl ApplyConfig {
    /// Applies to each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let path = self.file.as_deref().context("give the configuration with --file FILE")?;
        let data = self.patched(read_file(path)?, path)?;
        session.each(self.insecure, async |node| self.how.apply(&node, data.clone()).await).await
    }

    fn patched(&self, bytes: Vec<u8>, path: &str) -> anyhow::Result<Vec<u8>> {
        if self.config_patch.is_empty() {
            // The node checks it, and keeps the bytes as they are.
            return Ok(bytes);
        }
        patches::patched(&bytes, path, &patches::read(&self.config_patch)?)
    }
}
