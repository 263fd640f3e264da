//! `patch`: changes a part of the nodes' configuration.

use anyhow::{Context as _, bail};
use api::cosi::resource as pb;
use clap::{Args, ValueEnum};
use model::config::patch;

use super::apply_config::How;
use crate::patches;
use crate::session::{Node, Session};

/// What can be changed: the configuration alone.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// The machine's configuration.
    #[value(name = "machineconfig", aliases = ["mc", "machineconfigs"])]
    MachineConfig,
}

/// Patch the configuration of nodes.
#[derive(Debug, Args)]
pub struct Patch {
    /// What to patch.
    #[arg(value_enum)]
    kind: Kind,
    /// The patch: text, @FILE or FILE; may be given several times.
    #[arg(long, short)]
    patch: Vec<String>,
    /// A file with a patch.
    #[arg(long)]
    patch_file: Option<String>,
    #[command(flatten)]
    how: How,
}

/// The active configuration of a node.
pub async fn active(node: &Node) -> anyhow::Result<String> {
    let request = pb::GetRequest {
        namespace: "config".into(),
        r#type: "MachineConfigs.config.talos.dev".into(),
        id: "v1alpha1".into(),
        options: None,
    };
    let resource = node.client.state().get(request).await?.into_inner().resource;
    let spec = resource.and_then(|r| r.spec).context("the node's answer holds no configuration")?;
    // The configuration is a text of YAML within YAML.
    let text = resource::yaml::parse(&spec.yaml_spec).context("the node's answer is no YAML")?;
    Ok(text.as_text().context("the node's answer holds no configuration")?.into_owned())
}

impl Patch {
    fn patches(&self) -> anyhow::Result<Vec<patch::Patch>> {
        let all: Vec<String> = self.patch.iter().cloned().chain(self.patch_file.iter().map(|f| format!("@{f}"))).collect();
        if all.is_empty() {
            bail!("no patch: give --patch with its text or @FILE, or --patch-file FILE");
        }
        patches::read(&all)
    }

    /// Patches each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let Kind::MachineConfig = self.kind;
        let all = self.patches()?;
        session
            .each(false, async |node| {
                let before = active(&node).await?;
                let after = patches::patched(before.as_bytes(), "the node's configuration", &all)?;
                self.how.apply(&node, after).await
            })
            .await
    }
}
