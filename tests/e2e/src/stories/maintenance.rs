//! Nodes without a configuration, or with a bad one, say why and wait for a good one; given it, they become a cluster.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cluster::Cluster;
use crate::command::{Said, eventually};
use crate::host::Host;
use crate::{Outcome, World};

const WAIT: Duration = Duration::from_secs(60);
const NAME: &str = "maint";

/// A node as its maintenance API is reached from the host.
struct Bare<'a> {
    cluster: &'a Cluster,
    name: String,
    /// 127.0.0.1 and the port that leads to it.
    place: String,
}

impl Bare<'_> {
    fn try_ask(&self, args: &[&str]) -> anyhow::Result<Said> {
        let mut all = args.to_vec();
        all.extend(["--insecure", "--nodes", &self.place]);
        self.cluster.try_ctl(&all)
    }

    fn ask(&self, args: &[&str]) -> anyhow::Result<String> {
        self.try_ask(args)?.success().with_context(|| format!("{}: {}", self.name, args.join(" ")))
    }

    fn console(&self) -> anyhow::Result<String> {
        self.cluster.ctl(&["cluster", "logs", "--name", NAME, &self.name])
    }

    /// The newest fingerprint that its console shows: what proves that the one who answers is this node.
    fn fingerprint(&self) -> anyhow::Result<String> {
        let console = self.console()?;
        let line = console.lines().rev().find_map(|l| l.split_once("--cert-fingerprint ")).context("no fingerprint on the console")?;
        Ok(line.1.split_whitespace().next().unwrap_or_default().to_owned())
    }

    fn config(&self) -> String {
        self.cluster.directory().join(format!("{}.yaml", self.name)).display().to_string()
    }

    fn denied(&self, args: &[&str], words: &[&str]) -> anyhow::Result<()> {
        let said = self.try_ask(args)?;
        ensure!(said.code != Some(0), "{} should have been refused, and said {}", args.join(" "), said.out);
        ensure!(words.iter().all(|w| said.err.contains(w)), "{}: expected {words:?}, found {}", args.join(" "), said.err);
        Ok(())
    }
}

/// The whole story.
pub fn story(world: &World) -> anyhow::Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped("needs root: nodes are made of namespaces".into()));
    }
    fs::create_dir_all(&world.state)?;
    let before = Host::look(&world.state);
    let (cluster, said) = Cluster::create_with(world, NAME, &["--skip-injecting-config"])?;
    let nodes = bare(&cluster)?;
    ensure!(nodes.len() == 2, "one control plane and one worker were asked for");
    for node in &nodes {
        ensure!(said.contains(&node.place) && said.contains(&node.config()), "create did not say how to go on with {}: {said}", node.name);
        says_why(node, "no configuration was found")?;
    }
    bad_user_data(&nodes[1]).context("a node that was given a bad configuration")?;
    for node in &nodes {
        is_closed(node).context("what nobody may who is not known")?;
        refuses(node).context("configurations that it does not take")?;
        let print = node.fingerprint()?;
        let applied = node.ask(&["apply-config", "--cert-fingerprint", &print, "--file", &node.config()])?;
        ensure!(applied.contains("Applied configuration"), "{applied}");
        eventually("the maintenance API to end", WAIT, || {
            let said = node.try_ask(&["version"])?;
            ensure!(said.code != Some(0), "{} still serves everybody", node.name);
            Ok(())
        })?;
    }
    cluster.ctl_long(&["cluster", "scale", "--name", NAME], Duration::from_secs(200)).context("making a cluster of them")?;
    cluster.wait_ready(2, WAIT)?;
    keeps_it(&cluster, &nodes[1])?;
    cluster.destroy()?;
    eventually("nothing of the cluster to be left", Duration::from_secs(10), || {
        let left = Host::look(&world.state).differences(&before);
        ensure!(left.is_empty(), "{}", left.join("; "));
        Ok(())
    })?;
    Ok(Outcome::Passed)
}

/// Its nodes, control planes first.
fn bare(cluster: &Cluster) -> anyhow::Result<Vec<Bare<'_>>> {
    let state: serde_json::Value = serde_json::from_slice(&fs::read(cluster.directory().join("state.json"))?)?;
    let node = |n: &serde_json::Value| {
        let name = n["name"].as_str().context("a node without a name")?.to_owned();
        Ok(Bare { cluster, name, place: format!("127.0.0.1:{}", n["api_port"]) })
    };
    state["nodes"].as_array().context("no nodes")?.iter().map(node).collect()
}

/// It answers whoever asks, and tells the reason by its API, its log and its console.
fn says_why(node: &Bare<'_>, reason: &str) -> anyhow::Result<()> {
    eventually("the maintenance API to answer", WAIT, || node.ask(&["version"]))?;
    let told = eventually("the reason", WAIT, || {
        let told = node.ask(&["get", "diagnostics", "-o", "yaml"])?;
        ensure!(told.contains("maintenance mode") && told.contains(reason), "{told}");
        Ok(told)
    })?;
    ensure!(!told.contains("BEGIN"), "it tells secrets: {told}");
    eventually("its stage", WAIT, || {
        let stage = node.ask(&["get", "machinestatus"])?;
        ensure!(stage.contains("maintenance"), "{stage}");
        Ok(())
    })?;
    ensure!(node.ask(&["logs", "machined"])?.contains(reason), "its log does not tell the reason");
    ensure!(node.console()?.contains(reason), "its console does not tell the reason");
    ensure!(!node.ask(&["dmesg"])?.is_empty(), "no kernel log");
    ensure!(node.ask(&["memory"])?.lines().count() == 2, "one line of memory");
    ensure!(node.ask(&["services"])?.contains("apid"), "no services");
    Ok(())
}

/// The worker is started with a configuration that cannot be.
fn bad_user_data(node: &Bare<'_>) -> anyhow::Result<()> {
    let place = node.cluster.directory().join("nodes").join(&node.name).join("config.yaml");
    node.cluster.ctl(&["cluster", "stop", "--name", NAME, &node.name])?;
    fs::write(&place, fs::read_to_string(node.config())?.replacen("    type:", "    typ:", 1))?;
    node.cluster.ctl(&["cluster", "start", "--name", NAME, &node.name])?;
    says_why(node, "unknown key `typ`")
}

/// Who is not known reads what is no secret.
fn is_closed(node: &Bare<'_>) -> anyhow::Result<()> {
    for kind in ["apicertificates", "osrootsecrets"] {
        node.denied(&["get", kind], &["PermissionDenied"])?;
    }
    node.denied(&["meta", "write", "10", "x"], &["PermissionDenied"])
}

fn refuses(node: &Bare<'_>) -> anyhow::Result<()> {
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let print = node.fingerprint()?;
    let apply =
        |file: &str, print: &str, words: &[&str]| node.denied(&["apply-config", "--cert-fingerprint", print, "--file", file], words);
    // Who answers must be the node whose console one looks at.
    apply(&node.config(), other, &[&print, "not among the 1 accepted"])?;
    let bad = node.cluster.directory().join("bad.yaml").display().to_string();
    let good = fs::read_to_string(node.config())?;
    fs::write(&bad, good.replacen("    type:", "    typ:", 1))?;
    apply(&bad, &print, &["unknown key `typ`", "did you mean `type`?"])?;
    fs::write(&bad, &good[..good.len() / 3])?;
    apply(&bad, &print, &["not valid"])?;
    node.ask(&["version"]).map(drop).context("after refused configurations")
}

/// What was applied is there after a reboot, although the platform gives something else.
fn keeps_it(cluster: &Cluster, node: &Bare<'_>) -> anyhow::Result<()> {
    let worker = cluster.nodes()?.into_iter().find(|n| n.name == node.name).context("no worker")?;
    cluster.ctl_long(&["-n", &worker.address, "reboot"], Duration::from_secs(150))?;
    eventually("the worker to run again", WAIT, || {
        let stage = cluster.ctl(&["-n", &worker.address, "get", "machinestatus"])?;
        ensure!(stage.contains("running"), "{stage}");
        Ok(())
    })
}
