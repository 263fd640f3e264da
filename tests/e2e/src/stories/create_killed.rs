//! `cluster create` is killed at random moments; `cluster destroy` leaves nothing, and `create` finishes what is half made.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cluster::Cluster;
use crate::command::eventually;
use crate::host::Host;
use crate::{Outcome, World};

/// How often.
const TIMES: u32 = 20;
/// The first seconds are those in which everything is made; after them `create` only waits.
const WITHIN: Duration = Duration::from_millis(2500);

/// The whole story.
pub fn story(world: &World) -> anyhow::Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped("needs root: nodes are made of namespaces".into()));
    }
    std::fs::create_dir_all(&world.state)?;
    let before = Host::look(&world.state);
    for _ in 0..TIMES {
        let after = WITHIN.mul_f64(rand::random::<f64>());
        killed(world, after, &before).with_context(|| format!("create was killed after {} ms", after.as_millis()))?;
    }
    // The last one is not destroyed but created again: before there was a kubeconfig nobody can have used it.
    let (half, mut child) = Cluster::begin(world, "killed", 1, 0)?;
    sleep(Duration::from_millis(300));
    child.kill()?;
    child.wait()?;
    half.leave();
    let cluster = Cluster::create(world, "killed", 1, 0).context("creating again what was half made")?;
    cluster.wait_ready(1, Duration::from_secs(60))?;
    cluster.destroy()?;
    nothing_left(world, &before)?;
    Ok(Outcome::Passed)
}

fn killed(world: &World, after: Duration, before: &Host) -> anyhow::Result<()> {
    let (cluster, mut child) = Cluster::begin(world, "killed", 1, 1)?;
    sleep(after);
    child.kill()?;
    child.wait()?;
    let said = cluster.destroy_whatever()?;
    // Killed before it had written anything: there is nothing to destroy, and destroy says so.
    ensure!(said.code == Some(0) || said.err.contains("there is no cluster"), "destroy failed: {}", said.err);
    nothing_left(world, before)
}

fn nothing_left(world: &World, before: &Host) -> anyhow::Result<()> {
    eventually("nothing of the cluster to be left", Duration::from_secs(10), || {
        let left = Host::look(&world.state).differences(before);
        ensure!(left.is_empty(), "{}", left.join("; "));
        // The lock on what all clusters share is nobody's in particular.
        let shared = world.state.join("._reserve.lock");
        let files: Vec<_> = std::fs::read_dir(&world.state)?.filter_map(Result::ok).map(|e| e.path()).filter(|p| *p != shared).collect();
        ensure!(files.is_empty(), "files left: {files:?}");
        Ok(())
    })
}
