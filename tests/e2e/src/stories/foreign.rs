//! The machine API of a real cluster in foreign eyes: a client on grpc-go, and the peer's own CLI where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cluster::{COMMAND, Cluster, Node};
use crate::command;

/// Its build takes minutes where Go's caches are cold.
const BUILD: Duration = Duration::from_secs(600);
const RUN: Duration = Duration::from_secs(180);

/// What the peer's CLI has to print for each of its commands; `CP` and `WORKER` stand for addresses, `NAME` for the worker's name.
const PEER: [(&[&str], &str); 10] = [
    (&["-n", "CP,WORKER", "version"], "Tag:"),
    (&["-n", "WORKER", "services"], "kubelet"),
    (&["-n", "WORKER", "get", "members"], "NAME"),
    (&["-n", "WORKER", "get", "hostname", "-o", "yaml"], "hostname: NAME"),
    (&["-n", "CP", "etcd", "members"], "CP"),
    (&["-n", "CP", "etcd", "status"], "CP"),
    (&["-n", "WORKER", "logs", "kubelet", "--tail", "5"], "WORKER"),
    (&["-n", "WORKER", "containers"], "kubelet"),
    (&["-n", "WORKER", "memory"], "WORKER"),
    (&["-n", "CP", "health", "--wait-timeout", "30s"], ""),
];

/// Both of them.
pub fn clients(cluster: &Cluster, nodes: &[Node]) -> anyhow::Result<()> {
    let control_plane = nodes.iter().find(|n| n.control_plane).context("no control plane")?;
    let worker = nodes.iter().find(|n| !n.control_plane).context("no worker")?;
    grpc_go(cluster, worker).context("the client on grpc-go")?;
    let Some(peer) = std::env::var_os("PEER_CTL").filter(|p| !p.is_empty()) else {
        println!("  without the peer's CLI: PEER_CTL names none");
        return Ok(());
    };
    for (args, expected) in PEER {
        let fill = |text: &str| text.replace("CP", &control_plane.address).replace("WORKER", &worker.address).replace("NAME", &worker.name);
        let args: Vec<String> = args.iter().map(|a| fill(a)).collect();
        let mut command = Command::new(&peer);
        command.env("TALOSCONFIG", cluster.directory().join("talosconfig")).args(&args);
        let text = command::run(&mut command, COMMAND)?.success().with_context(|| format!("the peer's CLI: {}", args.join(" ")))?;
        ensure!(text.contains(&fill(expected)), "the peer's CLI printed for {}: {text}", args.join(" "));
    }
    println!("  the peer's CLI did {} commands", PEER.len());
    Ok(())
}

fn grpc_go(cluster: &Cluster, worker: &Node) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let out: PathBuf = root.join("target/foreign");
    command::run(Command::new(root.join("tests/foreign/build.sh")).arg(&out), BUILD)?.success().context("building it")?;
    let mut command = Command::new(out.join("foreign"));
    command.arg("-talosconfig").arg(cluster.directory().join("talosconfig")).args(["-node", &worker.address, "-dead", "10.5.255.250"]);
    let report = command::run(&mut command, RUN)?.success()?;
    let last = report.lines().last().unwrap_or_default();
    ensure!(last.contains(" 0 failed"), "{report}");
    println!("  grpc-go: {last}");
    Ok(())
}
