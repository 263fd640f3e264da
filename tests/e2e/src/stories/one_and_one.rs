//! One control plane and one worker: pods run on both, find and reach each other, `machined` may be killed at any moment, and in the end
//! nothing is left on the host.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{Cluster, Node};
use crate::command::eventually;
use crate::host::Host;
use crate::{Outcome, World};

const WAIT: Duration = Duration::from_secs(90);
/// How often `machined` of each node is killed.
const KILLS: u32 = 10;

/// A pod that serves, on one node; and a service before the worker's.
fn manifest(nodes: &[Node]) -> String {
    let pod = |name: &str, node: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  nodeName: {node}\n  terminationGracePeriodSeconds: 1\n  \
             tolerations: [{{operator: Exists}}]\n  containers:\n  - {{name: main, image: \"orlop.test/testpod:v1\", args: [serve]}}\n"
        )
    };
    let mut text = String::new();
    for node in nodes {
        text += &pod(if node.control_plane { "on-control-plane" } else { "on-worker" }, &node.name);
    }
    text + "---\napiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec: {selector: {app: on-worker}, ports: [{port: 80, targetPort: 8080}]}\n"
}

/// The whole story.
pub fn story(world: &World) -> anyhow::Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped("needs root: nodes are made of namespaces".into()));
    }
    std::fs::create_dir_all(&world.state)?;
    let before = Host::look(&world.state);
    let cluster = Cluster::create(world, "e2e", 1, 1)?;
    cluster.wait_ready(2, WAIT)?;
    let nodes = cluster.nodes()?;
    ensure!(nodes.len() == 2, "cluster show told {nodes:?}");

    cluster.apply(&manifest(&nodes))?;
    cluster.wait_pod("on-worker", WAIT)?;
    cluster.wait_pod("on-control-plane", WAIT)?;
    reach(&cluster).context("pods reaching each other")?;
    ask(&cluster, &nodes).context("asking the nodes")?;
    survive(&cluster, &nodes).context("killing machined")?;
    reach(&cluster).context("pods reaching each other after machined was killed")?;

    cluster.destroy()?;
    eventually("nothing of the cluster to be left", Duration::from_secs(10), || {
        let left = Host::look(&world.state).differences(&before);
        ensure!(left.is_empty(), "{}", left.join("; "));
        Ok(())
    })?;
    Ok(Outcome::Passed)
}

/// Names, service addresses and pods of other nodes, by exec from the control plane's pod; and logs.
fn reach(cluster: &Cluster) -> anyhow::Result<()> {
    let exec = |args: &[&str]| {
        let mut all = vec!["exec", "on-control-plane", "--", "/testpod"];
        all.extend(args);
        cluster.kubectl(&all)
    };
    eventually("cluster DNS to know the service", WAIT, || exec(&["lookup", "echo.default.svc.cluster.local"]))?;
    let answer = eventually("the service to answer across nodes", WAIT, || exec(&["get", "http://echo.default.svc.cluster.local/"]))?;
    ensure!(answer.contains("on-worker"), "the service answered {answer:?}, expected the name of the worker's pod");
    let logs = cluster.kubectl(&["logs", "on-worker"])?;
    ensure!(logs.contains("serving"), "the pod's log is {logs:?}");
    Ok(())
}

/// The machine API of both nodes through the one endpoint.
fn ask(cluster: &Cluster, nodes: &[Node]) -> anyhow::Result<()> {
    for node in nodes {
        let version = cluster.ctl(&["-n", &node.address, "version"])?;
        ensure!(version.contains("Tag:         v1.15.0+orlop."), "{version}");
        let services = cluster.ctl(&["-n", &node.address, "services"])?;
        ensure!(services.lines().any(|l| l.contains(" kubelet ") && l.contains("Running")), "{services}");
        let members = cluster.ctl(&["-n", &node.address, "get", "members"])?;
        ensure!(nodes.iter().all(|n| members.contains(&n.name)), "members of {}: {members}", node.name);
        let logs = cluster.ctl(&["-n", &node.address, "logs", "kubelet", "--tail", "3"])?;
        ensure!(logs.lines().count() == 3, "three lines of the kubelet's log: {logs:?}");
    }
    let control_plane = nodes.iter().find(|n| n.control_plane).context("no control plane")?;
    let status = cluster.ctl(&["-n", &control_plane.address, "etcd", "status"])?;
    ensure!(status.lines().count() == 2, "one etcd member: {status}");
    Ok(())
}

/// What must be the same whatever happens to `machined`: containers and when they started.
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

/// The host's pid of `machined` on the node whose PID 1 is `init`.
fn machined(init: i32) -> anyhow::Result<i32> {
    let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children"))?;
    let is_machined = |pid: &&str| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"machined\0"));
    let pid =
        children.split_whitespace().find(is_machined).with_context(|| format!("no machined among the children of {init}: {children}"))?;
    Ok(pid.parse()?)
}

/// Kills `machined` of each node again and again; nothing else may notice.
fn survive(cluster: &Cluster, nodes: &[Node]) -> anyhow::Result<()> {
    let before = containers(cluster)?;
    for _ in 0..KILLS {
        for node in nodes {
            let pid = eventually("machined to run", Duration::from_secs(10), || machined(node.pid))?;
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        }
        sleep(Duration::from_millis(rand::random_range(100..900)));
    }
    for node in nodes {
        eventually("the machine API to answer again", Duration::from_secs(20), || cluster.ctl(&["-n", &node.address, "services"]))?;
    }
    cluster.wait_ready(2, WAIT)?;
    let after = containers(cluster)?;
    ensure!(before == after, "containers changed: {before:#?} became {after:#?}");
    Ok(())
}
