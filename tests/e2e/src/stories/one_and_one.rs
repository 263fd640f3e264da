//! One control plane and one worker: pods run on both, find and reach each other, every process of ours and below us may be killed, and in
//! the end nothing is left on the host.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{foreign, kills};
use crate::cluster::{Cluster, Node};
use crate::command::{self, eventually};
use crate::host::Host;
use crate::{Outcome, World};

const WAIT: Duration = Duration::from_secs(90);

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
    forward(&cluster).context("port-forward")?;
    foreign::clients(&cluster, &nodes)?;
    kills::survive(&cluster, &nodes)?;
    reach(&cluster).context("pods reaching each other after the kills")?;

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

/// A local port that leads to a pod.
fn forward(cluster: &Cluster) -> anyhow::Result<()> {
    let mut child = command::start(&mut cluster.kubectl_command(&["port-forward", "pod/on-worker", ":8080"]))?;
    // Kept open: kubectl dies of a closed output when it reports the connection.
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let answer = (|| {
        let mut line = String::new();
        output.read_line(&mut line)?;
        let port =
            line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).with_context(|| format!("kubectl said {line:?}"))?;
        let mut stream = TcpStream::connect(("127.0.0.1", port.parse::<u16>()?))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /forwarded HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.contains("host=on-worker path=/forwarded"), "the pod answered {answer:?}");
        Ok(())
    })();
    child.kill()?;
    child.wait()?;
    answer
}
