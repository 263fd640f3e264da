//! `apply-config`: gives nodes a configuration.

use std::time::Duration;

use anyhow::{Context as _, bail};
use api::machine as pb;
use clap::{Args, ValueEnum};
use model::config::{Config, patch};
use pb::apply_configuration_request::Mode as Wire;

use crate::patches;
use crate::session::{Session, read_file};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
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
    /// Only report what would change.
    #[arg(long)]
    dry_run: bool,
    /// Talk to a node in maintenance mode.
    #[arg(long, short)]
    insecure: bool,
    /// How to apply.
    #[arg(long, short, value_enum, default_value = "auto")]
    mode: Mode,
    /// How long a configuration is tried in mode try.
    #[arg(long, default_value = "1m", value_parser = crate::duration)]
    timeout: Duration,
}

impl ApplyConfig {
    /// Applies to each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let path = self.file.as_deref().context("give the configuration with --file FILE")?;
        let data = self.patched(read_file(path)?, path)?;
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
        session
            .each(self.insecure, async |node| {
                let answer = node.client.machine().apply_configuration(request.clone()).await?.into_inner();
                for message in answer.messages {
                    message.warnings.iter().for_each(|w| eprintln!("{}: warning: {w}", node.name));
                    println!("{}: {}", node.name, if message.mode_details.is_empty() { "applied" } else { &message.mode_details });
                }
                Ok(())
            })
            .await
    }

    fn patched(&self, bytes: Vec<u8>, path: &str) -> anyhow::Result<Vec<u8>> {
        if self.config_patch.is_empty() {
            // The node checks it, and keeps the bytes as they are.
            return Ok(bytes);
        }
        let loaded = match Config::load(&bytes) {
            Ok(loaded) => loaded,
            Err(problems) => bail!("{}", patches::show(&problems, path, &bytes)),
        };
        match patch::apply(&loaded.text, &patches::read(&self.config_patch)?) {
            Ok(config) => Ok(config.encode().into_bytes()),
            Err(problems) => bail!("{problems}"),
        }
    }
}
