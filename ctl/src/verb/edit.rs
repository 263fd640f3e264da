//! `edit`: the nodes' configuration in the user's editor.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Args;

use super::apply_config::How;
use super::patch::{Kind, active};
use crate::files;
use crate::session::{Node, Session};

/// Edit the configuration of nodes with $EDITOR.
#[derive(Debug, Args)]
pub struct Edit {
    /// What to edit.
    #[arg(value_enum)]
    kind: Kind,
    #[command(flatten)]
    how: How,
}

/// Runs the editor on a file; `$EDITOR` may hold arguments.
fn open_editor(file: &Path) -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let editor = variable("TALOS_EDITOR").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".into());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(file).status();
    let status = status.with_context(|| format!("starting the editor {program:?}: set EDITOR to one that is installed"))?;
    if !status.success() {
        bail!("the editor {program:?} ended with {status}: nothing was applied");
    }
    Ok(())
}

impl Edit {
    /// Edits one node after the other.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let Kind::MachineConfig = self.kind;
        for node in session.nodes(false)? {
            self.on(&node).await.with_context(|| format!("node {}", node.name))?;
        }
        Ok(())
    }

    async fn on(&self, node: &Node) -> anyhow::Result<()> {
        let before = active(node).await?;
        // It holds secrets: only its owner may read it, and it goes once it was applied.
        let file: PathBuf = std::env::temp_dir().join(format!("orlopctl-edit-{}.yaml", std::process::id()));
        files::write_private(&file, before.as_bytes())?;
        let edited = open_editor(&file).and_then(|()| std::fs::read(&file).with_context(|| format!("reading {}", file.display())));
        let edited = match edited {
            Ok(bytes) if bytes != before.as_bytes() => bytes,
            unchanged => {
                std::fs::remove_file(&file)?;
                unchanged?;
                println!("{}: not changed", node.name);
                return Ok(());
            }
        };
        self.how.apply(node, edited).await.with_context(|| format!("what was edited is kept in {}", file.display()))?;
        Ok(std::fs::remove_file(&file)?)
    }
}
