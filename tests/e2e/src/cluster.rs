//! A cluster of a story: made, asked, and gone when the story ends.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::World;
use crate::command::{self, Said, eventually};

/// How long a cluster may take to be made.
const CREATE: Duration = Duration::from_secs(300);
/// How long one may take to be destroyed.
const DESTROY: Duration = Duration::from_secs(120);
/// How long an ordinary command may take.
pub const COMMAND: Duration = Duration::from_secs(60);

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    world: World,
    finished: bool,
}

/// One node as `cluster show` tells it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Whether it is a control plane.
    pub control_plane: bool,
    /// How it is: `running`, `off` and so on.
    pub condition: String,
    /// The process id of its PID 1 on the host; 0 when it does not run.
    pub pid: i32,
}

impl Cluster {
    /// Makes a cluster.
    pub fn create(world: &World, name: &str, control_planes: u32, workers: u32) -> anyhow::Result<Self> {
        let (cluster, child) = Self::begin(world, name, control_planes, workers)?;
        command::finish(child, "cluster create", CREATE)?.success().context("cluster create")?;
        Ok(cluster)
    }

    /// Begins to make a cluster: the command that does it still runs.
    pub fn begin(world: &World, name: &str, control_planes: u32, workers: u32) -> anyhow::Result<(Self, Child)> {
        let cluster = Self { name: name.to_owned(), world: world.clone(), finished: false };
        let counts = [control_planes.to_string(), workers.to_string()];
        let mut command =
            cluster.ctl_command(&["cluster", "create", "--name", name, "--controlplanes", &counts[0], "--workers", &counts[1]]);
        command.arg("--root").arg(world.out.join("root.erofs")).arg("--image-cache").arg(world.out.join("image-cache"));
        let child = command::start(&mut command)?;
        Ok((cluster, child))
    }

    /// Makes a cluster with more arguments of `cluster create`; what that printed comes with it.
    pub fn create_with(world: &World, name: &str, arguments: &[&str]) -> anyhow::Result<(Self, String)> {
        let cluster = Self { name: name.to_owned(), world: world.clone(), finished: false };
        let mut command = cluster.ctl_command(&["cluster", "create", "--name", name]);
        command.arg("--root").arg(world.out.join("root.erofs")).arg("--image-cache").arg(world.out.join("image-cache")).args(arguments);
        let said = command::run(&mut command, CREATE)?.success().context("cluster create")?;
        Ok((cluster, said))
    }

    /// What its story was given.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The directory of its state.
    pub fn directory(&self) -> PathBuf {
        self.world.state.join(&self.name)
    }

    /// An orlopctl command for this cluster, not yet started.
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.world.ctl);
        command.env("ORLOP_STATE", &self.world.state).env("TALOSCONFIG", self.directory().join("talosconfig"));
        command.env("KUBECONFIG", self.directory().join("kubeconfig")).args(args);
        command
    }

    /// A kubectl command for this cluster, not yet started.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.world.kubectl);
        command.env("KUBECONFIG", self.directory().join("kubeconfig")).env("HOME", self.directory()).args(args);
        command
    }

    /// Runs orlopctl whatever it ends with.
    pub fn try_ctl(&self, args: &[&str]) -> anyhow::Result<Said> {
        command::run(&mut self.ctl_command(args), COMMAND)
    }

    /// Runs orlopctl; its output.
    pub fn ctl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.try_ctl(args)?.success().with_context(|| format!("orlopctl {}", args.join(" ")))
    }

    /// Runs orlopctl with more time.
    pub fn ctl_long(&self, args: &[&str], limit: Duration) -> anyhow::Result<String> {
        command::run(&mut self.ctl_command(args), limit)?.success().with_context(|| format!("orlopctl {}", args.join(" ")))
    }

    /// Runs kubectl; its output.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        command::run(&mut self.kubectl_command(args), COMMAND)?.success().with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// Runs kubectl with JSON output.
    pub fn kubectl_json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        let file = self.directory().join("manifest.yaml");
        std::fs::write(&file, manifest)?;
        self.kubectl(&["apply", "-f", &file.display().to_string()]).map(drop)
    }

    /// Its nodes.
    pub fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        let shown: Value = serde_json::from_str(&self.ctl(&["cluster", "show", "--name", &self.name, "-o", "json"])?)?;
        let text =
            |node: &Value, key: &str| node[key].as_str().map(str::to_owned).with_context(|| format!("cluster show: no {key} in {node}"));
        let nodes = shown["nodes"].as_array().context("cluster show: no nodes")?;
        let node = |n: &Value| {
            Ok(Node {
                name: text(n, "name")?,
                address: text(n, "address")?,
                control_plane: text(n, "type")? == "controlplane",
                condition: text(n, "condition")?,
                pid: n["pid"].as_i64().map_or(Ok(0), i32::try_from)?,
            })
        };
        nodes.iter().map(node).collect()
    }

    /// Waits until this many Kubernetes nodes are Ready, and no other is there.
    pub fn wait_ready(&self, count: usize, limit: Duration) -> anyhow::Result<()> {
        eventually(&format!("{count} nodes Ready"), limit, || {
            let nodes = self.kubectl_json(&["get", "nodes"])?;
            let items = nodes["items"].as_array().cloned().unwrap_or_default();
            let is_ready = |n: &&Value| {
                n["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
            };
            let ready = items.iter().filter(is_ready).count();
            ensure!(items.len() == count && ready == count, "found {} nodes, {ready} of them Ready", items.len());
            Ok(())
        })
    }

    /// Waits until a pod runs and is ready.
    pub fn wait_pod(&self, name: &str, limit: Duration) -> anyhow::Result<()> {
        eventually(&format!("pod {name} to be ready"), limit, || {
            let pod = self.kubectl_json(&["get", "pod", name])?;
            let ready = pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
            ensure!(ready, "pod {name} is {}: {}", pod["status"]["phase"], pod["status"]["containerStatuses"]);
            Ok(())
        })
    }

    /// Destroys what there is of it, however that ends.
    pub fn destroy_whatever(mut self) -> anyhow::Result<Said> {
        self.finished = true;
        command::run(&mut self.ctl_command(&["cluster", "destroy", "--name", &self.name]), DESTROY)
    }

    /// Leaves it to somebody else to destroy it.
    pub fn leave(mut self) {
        self.finished = true;
    }

    /// Destroys it, and says when that fails.
    pub fn destroy(mut self) -> anyhow::Result<()> {
        self.finished = true;
        self.ctl_long(&["cluster", "destroy", "--name", &self.name], DESTROY).map(drop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if self.world.keep {
            println!("  kept: ORLOP_STATE={} orlopctl cluster show --name {}", self.world.state.display(), self.name);
            return;
        }
        let args = ["cluster", "destroy", "--name", &self.name];
        if let Err(error) = self.ctl_long(&args, DESTROY) {
            println!("  cleaning up: {error:#}");
        }
    }
}
