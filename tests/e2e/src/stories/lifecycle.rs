//! A node's life: its start and its reset while `machined` is killed again and again, reboot, shutdown, start.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;

use crate::cluster::{Cluster, Node};
use crate::command::{self, eventually};
use crate::host::Host;
use crate::{Outcome, World, process};

const WAIT: Duration = Duration::from_secs(120);
/// How long anything that ends a node may take.
const ENDING: Duration = Duration::from_secs(150);

/// The whole story.
pub fn story(world: &World) -> anyhow::Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped("needs root: nodes are made of namespaces".into()));
    }
    std::fs::create_dir_all(&world.state)?;
    let before = Host::look(&world.state);
    let cluster = created_under_fire(world)?;
    cluster.wait_ready(2, WAIT)?;
    rebooted(&cluster).context("reboot")?;
    shut_down(&cluster).context("shutdown and start")?;
    reset_under_fire(&cluster).context("reset")?;
    refused(&cluster).context("what a container node refuses")?;
    cluster.destroy()?;
    eventually("nothing of the cluster to be left", Duration::from_secs(10), || {
        let left = Host::look(&world.state).differences(&before);
        ensure!(left.is_empty(), "{}", left.join("; "));
        Ok(())
    })?;
    Ok(Outcome::Passed)
}

/// How often `machined` of a node is killed at most while it starts or ends: more than it takes to be at every step once, and
/// fewer than would keep it from ever taking one.
const MOST: u32 = 12;

/// Kills `machined` of these nodes at random moments while `during` goes on; how often it did is the second value.
fn under_fire<T>(cluster: &Cluster, of: impl Fn(&Node) -> bool + Sync, during: impl FnOnce() -> T) -> (T, u32) {
    let (over, kills) = (AtomicBool::new(false), AtomicU32::new(0));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..MOST {
                // The first one at once: an ending may take less than a second.
                sleep(Duration::from_millis(rand::random_range(50..if round == 0 { 150 } else { 2000 })));
                if over.load(Ordering::Relaxed) {
                    break;
                }
                for node in cluster.nodes().unwrap_or_default().iter().filter(|n| n.pid > 0 && of(n)) {
                    let machined = process::of_node(node.pid).into_iter().find(|p| p.name == "machined");
                    if machined.is_some_and(|m| m.signal(Signal::SIGKILL).is_ok()) {
                        kills.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let result = during();
        over.store(true, Ordering::Relaxed);
        result
    });
    (result, kills.load(Ordering::Relaxed))
}

/// Boot and bootstrap.
fn created_under_fire(world: &World) -> anyhow::Result<Cluster> {
    let (cluster, child) = Cluster::begin(world, "life", 1, 1)?;
    let (said, kills) = under_fire(&cluster, |_| true, || command::finish(child, "cluster create", Duration::from_secs(300)));
    said?.success().context("cluster create while machined is killed")?;
    ensure!(kills > 5, "machined was killed {kills} times only");
    println!("  created while machined was killed {kills} times");
    Ok(cluster)
}

fn worker(cluster: &Cluster) -> anyhow::Result<Node> {
    cluster.nodes()?.into_iter().find(|n| !n.control_plane).context("no worker")
}

fn boot_id(cluster: &Cluster, node: &Node) -> anyhow::Result<String> {
    cluster.ctl(&["-n", &node.address, "read", "/proc/sys/kernel/random/boot_id"])
}

fn rebooted(cluster: &Cluster) -> anyhow::Result<()> {
    let node = worker(cluster)?;
    let before = boot_id(cluster, &node)?;
    cluster.ctl_long(&["-n", &node.address, "reboot"], ENDING)?;
    let after = boot_id(cluster, &node)?;
    ensure!(before != after, "the boot id is {after} before and after");
    ready_again(cluster, &node)
}

/// The node's object was not Ready for a while, or is from before; what counts is a lease that its kubelet renewed after the boot.
fn ready_again(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let renewed = || -> anyhow::Result<String> {
        let lease = cluster.kubectl_json(&["get", "lease", "-n", "kube-node-lease", &node.name])?;
        Ok(lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned())
    };
    let then = renewed()?;
    eventually("the kubelet to renew its lease", WAIT, || {
        let now = renewed()?;
        ensure!(now != then, "the last time is {now}");
        Ok(())
    })?;
    cluster.wait_ready(2, WAIT)
}

fn off(cluster: &Cluster) -> anyhow::Result<()> {
    eventually("the node to be off", Duration::from_secs(30), || {
        let node = worker(cluster)?;
        ensure!(node.condition == "off", "it is {}", node.condition);
        Ok(())
    })
}

fn shut_down(cluster: &Cluster) -> anyhow::Result<()> {
    let node = worker(cluster)?;
    cluster.ctl_long(&["-n", &node.address, "shutdown"], ENDING)?;
    off(cluster)?;
    started(cluster, &node)
}

fn started(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    cluster.ctl(&["cluster", "start", "--name", &cluster.name])?;
    eventually("its machine API to answer", WAIT, || cluster.ctl(&["-n", &node.address, "version"]))?;
    ready_again(cluster, node)
}

/// What the kubelet and containerd keep on the node, seen from the host.
fn kept(cluster: &Cluster, node: &Node) -> anyhow::Result<Vec<String>> {
    let var = cluster.directory().join("nodes").join(&node.name).join("var");
    let pki = var.join("lib/kubelet/pki");
    Ok(std::fs::read_dir(&pki).map(|d| d.filter_map(Result::ok).map(|e| e.path().display().to_string()).collect()).unwrap_or_default())
}

fn reset_under_fire(cluster: &Cluster) -> anyhow::Result<()> {
    let node = worker(cluster)?;
    ensure!(!kept(cluster, &node)?.is_empty(), "the kubelet of {} keeps no certificates where they are looked for", node.name);
    let reset = || cluster.ctl_long(&["-n", &node.address, "reset"], ENDING);
    let (result, kills) = under_fire(cluster, |n| n.name == node.name, reset);
    ensure!(kills > 0, "the reset was over before machined was killed once");
    // The call itself may break with machined; then the node never heard it and is asked once more, in peace.
    if let Err(error) = result {
        println!("  reset while machined was killed {kills} times: {error:#}");
        cluster.ctl_long(&["-n", &node.address, "reset"], ENDING)?;
    }
    off(cluster)?;
    let left = kept(cluster, &node)?;
    ensure!(left.is_empty(), "the reset left {left:?}");
    started(cluster, &node)
}

/// What the node is not able to do says so, and why.
fn refused(cluster: &Cluster) -> anyhow::Result<()> {
    let node = worker(cluster)?;
    let said = cluster.try_ctl(&["-n", &node.address, "rollback"])?;
    ensure!(said.code != Some(0) && said.err.contains("not supported in container mode"), "rollback: {said:?}");
    Ok(())
}
