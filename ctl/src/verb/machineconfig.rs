//! `machineconfig`: configuration files, without a node.

use clap::{Args, Subcommand};

use super::r#gen::GenConfig;
use crate::session::read_file;
use crate::{files, patches};

/// Generate and patch configuration files.
#[derive(Debug, Args)]
pub struct MachineConfig {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The same as `gen config`.
    #[command(alias = "generate")]
    Gen {
        /// Overwrite existing files.
        #[arg(long, short)]
        force: bool,
        #[command(flatten)]
        config: Box<GenConfig>,
    },
    /// Patch a configuration file.
    Patch {
        /// The file; `-` for the standard input.
        file: String,
        /// The patch: text, @FILE or FILE; may be given several times.
        #[arg(long, short, required = true)]
        patch: Vec<String>,
        /// Where to write the result; the standard output without it.
        #[arg(long, short)]
        output: Option<std::path::PathBuf>,
    },
}

impl MachineConfig {
    /// Does what is asked.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Gen { force, config } => config.run(force),
            Command::Patch { file, patch, output } => {
                let patched = patches::patched(&read_file(&file)?, &file, &patches::read(&patch)?)?;
                match output {
                    Some(path) => files::write_private(&path, &patched),
                    None => files::print(&patched),
                }
            }
        }
    }
}
