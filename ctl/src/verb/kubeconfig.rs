//! `kubeconfig`: fetches the admin's kubeconfig and merges it with the user's.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use api::client::Client;
use clap::Args;

use crate::kubefile;
use crate::session::Session;

/// Fetch the admin kubeconfig.
#[derive(Debug, Args)]
pub struct Kubeconfig {
    /// Where to write it: a file, a directory, or `-`; by default $KUBECONFIG or ~/.kube/config.
    path: Option<String>,
    /// Overwrite what conflicts.
    #[arg(long, short)]
    force: bool,
    /// The context's name when merging.
    #[arg(long)]
    force_context_name: Option<String>,
    /// Merge into an existing kubeconfig.
    #[arg(long, short, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    merge: bool,
}

impl Kubeconfig {
    /// Fetches and writes it.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let text = fetch(session).await?;
        if self.path.as_deref() == Some("-") {
            print!("{text}");
            return Ok(());
        }
        let path = destination(self.path.as_deref())?;
        if let (true, Ok(existing)) = (self.merge, std::fs::read_to_string(&path)) {
            let merged = kubefile::merge(&existing, &text, self.force_context_name.as_deref(), self.force)
                .with_context(|| format!("merging into {}", path.display()))?;
            return kubefile::write(&path, &merged);
        }
        if path.exists() && !self.force {
            bail!("{} is there already: give --force to overwrite it, or --merge to add to it", path.display());
        }
        kubefile::write(&path, &text)
    }
}

/// The kubeconfig of the cluster, from one of its control planes.
pub async fn fetch(session: &Session) -> anyhow::Result<String> {
    of(&session.one(false)?.client).await
}

/// The kubeconfig that a control plane makes.
pub async fn of(client: &Client) -> anyhow::Result<String> {
    let mut stream = client.machine().kubeconfig(()).await.map_err(|s| anyhow::anyhow!("{}", s.message()))?.into_inner();
    let mut archive = Vec::new();
    while let Some(part) = stream.message().await? {
        archive.extend_from_slice(&part.bytes);
    }
    unpack(&archive)
}

/// The kubeconfig out of the archive that a node sends.
pub fn unpack(archive: &[u8]) -> anyhow::Result<String> {
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in tar.entries().context("the node's answer is no archive")? {
        let mut entry = entry.context("the node's answer is no archive")?;
        if entry.path()?.as_ref() == Path::new("kubeconfig") {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Ok(text);
        }
    }
    bail!("the node's answer holds no file named kubeconfig")
}

fn destination(given: Option<&str>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        let path = PathBuf::from(path);
        return Ok(if path.is_dir() { path.join("kubeconfig") } else { path });
    }
    if let Some(first) = std::env::var_os("KUBECONFIG").and_then(|all| std::env::split_paths(&all).next()) {
        return Ok(first);
    }
    let home = std::env::var_os("HOME").context("neither KUBECONFIG nor HOME is set: give the file to write")?;
    Ok(PathBuf::from(home).join(".kube/config"))
}
