//! `edit`: the nodes' configuration in the user's editor.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Args;
use tempfile::TempDir;

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
        // It goes with its directory once it was applied.
        let (directory, file) = scratch(before.as_bytes())?;
        let edited = open_editor(&file).and_then(|()| std::fs::read(&file).with_context(|| format!("reading {}", file.display())));
        let edited = match edited {
            Ok(bytes) if bytes != before.as_bytes() => bytes,
            unchanged => {
                unchanged?;
                println!("{}: not changed", node.name);
                return Ok(());
            }
        };
        if let Err(error) = self.how.apply(node, edited).await {
            let _ = directory.keep();
            return Err(error.context(format!("what was edited is kept in {}", file.display())));
        }
        Ok(directory.close()?)
    }
}

/// A file with secrets for the editor, in a directory of its own that nobody else may enter: editors leave copies beside their files.
fn scratch(bytes: &[u8]) -> anyhow::Result<(TempDir, PathBuf)> {
    let private = std::fs::Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix("orlopctl-edit-").permissions(private).tempdir();
    let directory = made.with_context(|| format!("creating a directory in {}", std::env::temp_dir().display()))?;
    let file = directory.path().join("machineconfig.yaml");
    files::write_private(&file, bytes)?;
    Ok((directory, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_edited_is_its_owners_alone() {
        let (directory, file) = scratch(b"secret").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(directory.path()), mode(&file)), (0o700, 0o600));
        assert_ne!(scratch(b"secret").unwrap().1, file);
        directory.close().unwrap();
        assert!(!file.exists());
    }
}
