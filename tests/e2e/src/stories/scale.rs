//! A cluster grows from 1+1 to 3+2, loses a control plane without goodbye and goes on, and shrinks to 1+1 again: what leaves is in no list
//! any more, and the host is as it was before.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::faults::vanish;
use crate::cluster::Cluster;
use crate::command::eventually;
use crate::host::Host;
use crate::{Outcome, World};

/// How long one change of the number of nodes may take.
const SCALE: Duration = Duration::from_secs(300);
/// What the cluster may be silent for after a control plane is lost.
const SILENCE: Duration = Duration::from_secs(20);

/// The whole story.
pub fn story(world: &World) -> anyhow::Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped("needs root: nodes are made of namespaces".into()));
    }
    std::fs::create_dir_all(&world.state)?;
    let before = Host::look(&world.state);
    let cluster = Cluster::create(world, "scale", 1, 1)?;
    scale(&cluster, 3, 2)?;
    lose_one(&cluster).context("a control plane that is lost without goodbye")?;
    scale(&cluster, 1, 1)?;
    cluster.destroy()?;
    eventually("nothing of the cluster to be left", Duration::from_secs(10), || {
        let left = Host::look(&world.state).differences(&before);
        ensure!(left.is_empty(), "{}", left.join("; "));
        Ok(())
    })?;
    Ok(Outcome::Passed)
}

/// Changes the number of nodes, and looks whether everybody agrees about who is there.
fn scale(cluster: &Cluster, control_planes: usize, workers: usize) -> anyhow::Result<()> {
    let begin = Instant::now();
    let counts = [control_planes.to_string(), workers.to_string()];
    let args = ["cluster", "scale", "--name", &cluster.name, "--controlplanes", &counts[0], "--workers", &counts[1]];
    cluster.ctl_long(&args, SCALE)?;
    println!("  scaled to {control_planes}+{workers} in {:.1} s", begin.elapsed().as_secs_f64());
    let all = control_planes + workers;
    cluster.ctl(&["health"]).context("health")?;
    let nodes = cluster.nodes()?;
    ensure!(nodes.len() == all && nodes.iter().all(|n| n.condition == "running"), "cluster show told {nodes:?}");
    cluster.wait_ready(all, Duration::from_secs(5))?;
    for node in &nodes {
        let members = cluster.ctl(&["-n", &node.address, "get", "members"])?;
        ensure!(members.lines().count() == all + 1 && nodes.iter().all(|n| members.contains(&n.name)), "{} knows {members}", node.name);
    }
    let first = nodes.iter().find(|n| n.control_plane).context("no control plane")?;
    let members = cluster.ctl(&["-n", &first.address, "etcd", "members"])?;
    ensure!(members.lines().count() == control_planes + 1, "etcd has {members}");
    Ok(())
}

/// One of three control planes is gone: the API answers on, etcd has its majority, and `cluster show` marks what is missing.
fn lose_one(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes = cluster.nodes()?;
    let mut control_planes = nodes.iter().filter(|n| n.control_plane);
    let (first, lost) = (control_planes.next().context("no control plane")?, control_planes.next().context("one control plane")?);
    vanish(lost)?;
    let begin = Instant::now();
    eventually("the Kubernetes API to take a change", SILENCE, || {
        let stamp = format!("stamp={}", begin.elapsed().as_millis());
        cluster.kubectl(&["annotate", "--overwrite", "namespace", "default", &stamp])
    })?;
    let status = cluster.ctl(&["-n", &first.address, "etcd", "status"])?;
    ensure!(status.lines().count() == 2, "etcd of {}: {status}", first.name);
    let shown = cluster.ctl(&["cluster", "show", "--name", &cluster.name])?;
    ensure!(shown.contains(&format!("{} is gone: ", lost.name)), "cluster show told {shown}");
    Ok(())
}
