//! `completion`: for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a completion script.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "orlopctl", &mut script);
        crate::files::print(&script)
    }
}
