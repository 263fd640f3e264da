//! Kills, and what must not notice them: containers, a TCP stream from pod to pod, addresses, routes and links.

use std::process::{Child, Command};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;

use crate::cluster::{Cluster, Node};
use crate::command::{self, eventually};
use crate::process;

const WAIT: Duration = Duration::from_secs(120);
/// How often `machined` of each node is killed.
const MACHINED: u32 = 50;
/// What else is killed, twice each, on every node that has it.
const OTHERS: [&str; 6] = ["apid", "trustd", "edge", "containerd", "kubelet", "etcd"];

/// All of them, on a cluster with the pod `on-worker`.
pub fn survive(cluster: &Cluster, nodes: &[Node]) -> anyhow::Result<()> {
    stream(cluster, nodes)?;
    let before = containers(cluster)?;
    let monitors = nodes.iter().map(Monitor::start).collect::<anyhow::Result<Vec<_>>>()?;
    let begin = Instant::now();
    machined(nodes).context("killing machined")?;
    well(cluster, nodes, &before).context("after machined was killed")?;
    println!("  machined killed {MACHINED} times on each node within {:.0} s", begin.elapsed().as_secs_f64());
    for name in OTHERS {
        for round in 1..=2 {
            let begin = Instant::now();
            kill_all(nodes, name)?;
            well(cluster, nodes, &before).with_context(|| format!("after {name} was killed for the {round}. time"))?;
            println!("  {name} killed: all well again after {:.1} s", begin.elapsed().as_secs_f64());
        }
    }
    for monitor in monitors {
        monitor.stop()?;
    }
    Ok(())
}

/// A pod on the control plane that holds one TCP stream to the one on the worker, and ends when it breaks.
fn stream(cluster: &Cluster, nodes: &[Node]) -> anyhow::Result<()> {
    let server = cluster.kubectl_json(&["get", "pod", "on-worker"])?;
    let address = server["status"]["podIP"].as_str().context("on-worker has no address")?.to_owned();
    let node = &nodes.iter().find(|n| n.control_plane).context("no control plane")?.name;
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: stream}}\nspec:\n  nodeName: {node}\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 1\n  tolerations: [{{operator: Exists}}]\n  containers:\n  - {{name: main, image: \
         \"orlop.test/testpod:v1\", args: [stream, \"{address}:9090\"]}}\n"
    ))?;
    cluster.wait_pod("stream", WAIT)
}

/// Pods' containers, and when they started.
fn containers(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let pods = cluster.kubectl_json(&["get", "pods", "-A"])?;
    let mut found = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            found.push(format!("{} {} {}", pod["metadata"]["name"], status["containerID"], status["state"]["running"]["startedAt"]));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn machined(nodes: &[Node]) -> anyhow::Result<()> {
    for _ in 0..MACHINED {
        kill_all(nodes, "machined")?;
        sleep(Duration::from_millis(rand::random_range(30..700)));
    }
    Ok(())
}

/// Kills every process of that name on every node; one that no node has is a mistake of the story.
fn kill_all(nodes: &[Node], name: &str) -> anyhow::Result<()> {
    let mut count = 0;
    for node in nodes {
        if matches!(name, "trustd" | "etcd") && !node.control_plane {
            continue;
        }
        process::find(node.pid, name)?;
        for process in process::of_node(node.pid).iter().filter(|p| p.name == name) {
            process.signal(Signal::SIGKILL)?;
            count += 1;
        }
    }
    ensure!(count > 0, "no process {name} to kill");
    Ok(())
}

/// All is as before: the machine API answers on each node, services are well, nodes Ready, the same containers, the stream unbroken.
fn well(cluster: &Cluster, nodes: &[Node], before: &[String]) -> anyhow::Result<()> {
    for node in nodes {
        eventually(&format!("all services of {} to be well", node.name), WAIT, || {
            let services = cluster.ctl(&["-n", &node.address, "services"])?;
            let unwell: Vec<&str> =
                services.lines().skip(1).filter(|l| !l.contains("Running") || !(l.contains("OK") || l.contains('?'))).collect();
            ensure!(services.lines().count() > 5 && unwell.is_empty(), "not well: {unwell:?} of {services}");
            Ok(())
        })?;
    }
    cluster.wait_ready(nodes.len(), WAIT)?;
    eventually("the same containers to run", WAIT, || {
        let now = containers(cluster)?;
        ensure!(now == before, "containers changed: {before:#?} became {now:#?}");
        Ok(())
    })
}

/// `ip monitor` inside a node: someone else's eyes on addresses, routes and links.
struct Monitor {
    node: String,
    child: Child,
    out: JoinHandle<String>,
    err: JoinHandle<String>,
    begin: Instant,
}

impl Monitor {
    fn start(node: &Node) -> anyhow::Result<Self> {
        let mut command = Command::new("nsenter");
        command.args(["-t", &node.pid.to_string(), "-n", "ip", "monitor", "address", "route", "link"]);
        let mut child = command::start(&mut command)?;
        let out = command::reader(child.stdout.take().context("no output")?);
        let err = command::reader(child.stderr.take().context("no error output")?);
        Ok(Self { node: node.name.clone(), child, out, err, begin: Instant::now() })
    }

    /// Ends it. Anything that went is a failure.
    fn stop(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("ip monitor on {} ended by itself: {status}", self.node);
        }
        self.child.kill()?;
        self.child.wait()?;
        let said = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
        let (text, complaints) = (said(self.out), said(self.err));
        ensure!(complaints.trim().is_empty(), "ip monitor on {} saw not all there was: {complaints}", self.node);
        let gone: Vec<&str> = text.lines().filter(|line| line.starts_with("Deleted")).collect();
        ensure!(gone.is_empty(), "{}: within {} s of kills these went: {gone:#?}", self.node, self.begin.elapsed().as_secs());
        Ok(())
    }
}
