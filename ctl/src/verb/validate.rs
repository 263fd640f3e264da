//! `validate`: is a configuration file right?

use anyhow::bail;
use clap::{Args, ValueEnum};
use model::config::{Config, Mode, Options};

use crate::patches::show;
use crate::session::read_file;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    Metal,
    Cloud,
    Container,
}

/// Validate a machine configuration.
#[derive(Debug, Args)]
pub struct Validate {
    /// The file; `-` for the standard input.
    #[arg(long, short)]
    config: String,
    /// What kind of machine it is for.
    #[arg(long, short, value_enum)]
    mode: Target,
    /// Leaves `-c` to this verb: elsewhere it is the short form of the flag of this name.
    #[arg(long = "cluster", id = "cluster", hide = true)]
    _cluster: Option<String>,
    /// Treat warnings as errors.
    #[arg(long)]
    strict: bool,
}

impl Validate {
    /// Prints all that is wrong.
    pub fn run(self) -> anyhow::Result<()> {
        let bytes = read_file(&self.config)?;
        let mode = match self.mode {
            Target::Metal => Mode::Metal,
            Target::Cloud => Mode::Cloud,
            Target::Container => Mode::Container,
        };
        let loaded = match Config::load(&bytes) {
            Ok(loaded) => loaded,
            Err(problems) => bail!("{}", show(&problems, &self.config, &bytes)),
        };
        let found = loaded.text.validate(mode, Options { strict: self.strict, local: true });
        if found.refuses() {
            bail!("{}", show(&found, &self.config, &bytes));
        }
        let text = show(&found, &self.config, &bytes);
        if !text.trim().is_empty() {
            eprintln!("{text}");
        }
        println!("{} is valid for {:?} mode", self.config, self.mode);
        Ok(())
    }
}
