//! `reboot`, `shutdown`, `reset`: asks, and waits until it is done.

use std::time::Duration;

use anyhow::{Context as _, bail};
use api::machine as pb;
use clap::{Args, ValueEnum};
use tokio::time::{Instant, sleep, timeout};

use crate::session::{Node, Session};

/// Time for one look at a node that may be gone.
const LOOK: Duration = Duration::from_secs(3);

/// How to wait.
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// Wait until it is done.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "30m", value_parser = crate::duration)]
    timeout: Duration,
    /// Print the kernel's log meanwhile.
    #[arg(long)]
    debug: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Default,
    Powercycle,
    Force,
}

/// Reboot nodes.
#[derive(Debug, Args)]
pub struct Reboot {
    /// default, powercycle (no kexec) or force (skip the teardown).
    #[arg(long, short, value_enum, default_value = "default")]
    mode: Mode,
    #[command(flatten)]
    wait: Wait,
}

/// Power nodes off.
#[derive(Debug, Args)]
pub struct Shutdown {
    /// Skip cordon and drain.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wipe {
    All,
    SystemDisk,
    UserDisks,
}

/// Wipe nodes.
#[derive(Debug, Args)]
pub struct Reset {
    /// Cordon, drain and leave etcd first.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    graceful: bool,
    /// Reboot after it instead of powering off.
    #[arg(long)]
    reboot: bool,
    /// Wipe just these system volumes, such as STATE,EPHEMERAL.
    #[arg(long, value_delimiter = ',')]
    system_labels_to_wipe: Vec<String>,
    /// Wipe these disks too.
    #[arg(long, value_delimiter = ',')]
    user_disks_to_wipe: Vec<String>,
    /// all, system-disk or user-disks.
    #[arg(long, value_enum, default_value = "all")]
    wipe_mode: Wipe,
    #[command(flatten)]
    wait: Wait,
}

impl Reboot {
    /// Reboots each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        use pb::reboot_request::Mode as Wire;
        let mode = match self.mode {
            Mode::Default => Wire::Default,
            Mode::Powercycle => Wire::Powercycle,
            Mode::Force => Wire::Force,
        };
        session
            .each(false, async |node| {
                let before = boot_id(&node).await?;
                node.client.machine().reboot(pb::RebootRequest { mode: mode.into() }).await?;
                self.wait.until_rebooted(&node, &before).await
            })
            .await
    }
}

impl Shutdown {
    /// Powers each node off.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        session
            .each(false, async |node| {
                let before = boot_id(&node).await?;
                node.client.machine().shutdown(pb::ShutdownRequest { force: self.force }).await?;
                self.wait.until_gone(&node, &before).await
            })
            .await
    }
}

impl Reset {
    /// Resets each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        use pb::reset_request::WipeMode;
        let mode = match self.wipe_mode {
            Wipe::All => WipeMode::All,
            Wipe::SystemDisk => WipeMode::SystemDisk,
            Wipe::UserDisks => WipeMode::UserDisks,
        };
        let spec = |label: &String| pb::ResetPartitionSpec { label: label.clone(), wipe: true };
        let request = pb::ResetRequest {
            graceful: self.graceful,
            reboot: self.reboot,
            system_partitions_to_wipe: self.system_labels_to_wipe.iter().map(spec).collect(),
            user_disks_to_wipe: self.user_disks_to_wipe.clone(),
            mode: mode.into(),
        };
        session
            .each(false, async |node| {
                let before = boot_id(&node).await?;
                node.client.machine().reset(request.clone()).await?;
                self.wait.until_gone(&node, &before).await
            })
            .await
    }
}

/// What tells one boot of a node from the next.
async fn boot_id(node: &Node) -> anyhow::Result<String> {
    let request = pb::ReadRequest { path: "/proc/sys/kernel/random/boot_id".into() };
    let mut stream = node.client.machine().read(request).await?.into_inner();
    let mut text = Vec::new();
    while let Some(part) = stream.message().await? {
        text.extend_from_slice(&part.bytes);
    }
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

impl Wait {
    async fn until_rebooted(&self, node: &Node, before: &str) -> anyhow::Result<()> {
        if !self.wait {
            return Ok(());
        }
        eprintln!("{}: waiting for the reboot", node.name);
        self.poll(
            node,
            "its boot to change and its API to answer",
            async || matches!(timeout(LOOK, boot_id(node)).await, Ok(Ok(now)) if now != before),
        )
        .await?;
        eprintln!("{}: rebooted", node.name);
        Ok(())
    }

    /// Waits until the boot before is over: the node is down, or up again already. A node without its state comes back as another one,
    /// which does not know us any more.
    async fn until_gone(&self, node: &Node, before: &str) -> anyhow::Result<()> {
        if !self.wait {
            return Ok(());
        }
        eprintln!("{}: waiting until it is down", node.name);
        let mut misses = 0;
        let misses = &mut misses;
        let deadline = Instant::now() + self.timeout;
        while *misses < 2 {
            if Instant::now() > deadline {
                bail!(
                    "{} still answers after {} s; `orlopctl -n {} dmesg` tells what it waits for",
                    node.name,
                    self.timeout.as_secs(),
                    node.name
                );
            }
            match timeout(LOOK, boot_id(node)).await {
                Ok(Ok(now)) if now != before => {
                    eprintln!("{}: started again", node.name);
                    return Ok(());
                }
                Ok(Ok(_)) => *misses = 0,
                _ => *misses += 1,
            }
            sleep(Duration::from_millis(300)).await;
        }
        eprintln!("{}: down", node.name);
        Ok(())
    }

    async fn poll(&self, node: &Node, what: &str, done: impl AsyncFn() -> bool) -> anyhow::Result<()> {
        let poll = async {
            while !done().await {
                sleep(Duration::from_millis(300)).await;
            }
        };
        timeout(self.timeout, poll).await.with_context(|| format!("{}: waited {} s for {what}", node.name, self.timeout.as_secs()))
    }
}
