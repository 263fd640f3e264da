//! Twelve faults, one after the other, on a cluster of three control planes and a worker. For each, `orlopctl health` names the induced
//! cause within 20 s; then it is healed, and the cluster is healthy again. The last, a machine that is gone, is healed by forgetting it.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cluster::{Cluster, Node};
use crate::command::{self, eventually};
use crate::process::{self, Process};
use crate::vdso::Ahead;
use crate::{Outcome, World};

/// The longest that a verdict on a broken cluster may take.
const VERDICT: Duration = Duration::from_secs(20);
/// How long a fault may take to show at all: some are noticed by probes with a period.
const SHOWS: Duration = Duration::from_secs(45);
/// How long the cluster may take to be healthy again.
const HEALS: Duration = Duration::from_secs(150);

/// Undoes a fault.
type Heal<'a> = Box<dyn FnOnce() -> anyhow::Result<()> + 'a>;

/// The whole story.
pub fn story(world: &World) -> anyhow::Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped("needs root: nodes are made of namespaces".into()));
    }
    std::fs::create_dir_all(&world.state)?;
    let cluster = Cluster::create(world, "faults", 3, 1)?;
    let nodes = cluster.nodes()?;
    let faults = Faults { cluster: &cluster, nodes: &nodes };
    faults.healthy().context("before any fault")?;
    faults.all()?;
    cluster.destroy()?;
    Ok(Outcome::Passed)
}

struct Faults<'a> {
    cluster: &'a Cluster,
    nodes: &'a [Node],
}

impl<'a> Faults<'a> {
    fn control_plane(&self, index: usize) -> anyhow::Result<&'a Node> {
        self.nodes.iter().filter(|n| n.control_plane).nth(index).context("too few control planes")
    }

    fn worker(&self) -> anyhow::Result<&'a Node> {
        self.nodes.iter().find(|n| !n.control_plane).context("no worker")
    }

    fn all(&self) -> anyhow::Result<()> {
        let worker = self.worker()?;
        let second = self.control_plane(1)?;
        let third = self.control_plane(2)?;
        self.fault("machine API down", Some(worker), || apid_down(worker))?;
        self.fault("kubelet stopped", Some(worker), || stop(worker, "kubelet"))?;
        self.fault("etcd member down", Some(third), || stop(third, "etcd"))?;
        self.fault("etcd quorum lost", None, || {
            let (second, third) = (stop(second, "etcd")?, stop(third, "etcd")?);
            Ok(Box::new(move || second().and(third())))
        })?;
        self.fault("node frozen", Some(worker), || freeze(worker))?;
        self.fault("wrong time", Some(worker), || wrong_time(worker))?;
        self.fault("disk full", Some(worker), || disk_full(worker))?;
        self.fault("network partition", Some(worker), || partition(worker, second))?;
        self.fault("cluster DNS broken", None, || self.break_dns())?;
        self.fault("API server crash-looping", Some(third), || self.crash_loop(third))?;
        self.expired()?;
        self.gone(worker)
    }

    /// One run of `health` and how long it took.
    fn health(&self, wait: &str, limit: Duration) -> anyhow::Result<(Value, Duration)> {
        let begin = Instant::now();
        let args = ["health", "--wait-timeout", wait, "-o", "json"];
        let said = command::run(&mut self.cluster.ctl_command(&args), limit)?;
        let took = begin.elapsed();
        let report: Value = serde_json::from_str(&said.out).with_context(|| format!("health said {:?}, {:?}", said.out, said.err))?;
        ensure!((report["healthy"] == true) == (said.code == Some(0)), "health ended with {:?} after {report}", said.code);
        Ok((report, took))
    }

    fn healthy(&self) -> anyhow::Result<()> {
        let (report, _) = self.health(&format!("{}s", HEALS.as_secs()), HEALS + VERDICT)?;
        ensure!(report["healthy"] == true, "not healthy within {} s: {}", HEALS.as_secs(), causes(&report));
        Ok(())
    }

    /// Induces a fault, expects its cause, heals it.
    fn fault(&self, cause: &str, node: Option<&Node>, induce: impl FnOnce() -> anyhow::Result<Heal<'a>>) -> anyhow::Result<()> {
        let begin = Instant::now();
        let heal = induce().with_context(|| format!("inducing {cause}"))?;
        let named = self.named(cause, node);
        let healed = heal().with_context(|| format!("healing {cause}"));
        let took = named.with_context(|| format!("fault {cause}"))?;
        healed?;
        println!("  {cause}: named in {:.1} s", took.as_secs_f64());
        self.healthy().with_context(|| format!("after {cause} was healed"))?;
        println!("  {cause}: healthy again {:.0} s after it was induced", begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// Waits until `health` finds the cluster broken; its verdict must be there in time and name this cause, and none besides.
    fn named(&self, cause: &str, node: Option<&Node>) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        loop {
            // Never killed before its deadline is over by much: that it keeps it is what is tested.
            let (report, took) = self.health("11s", VERDICT * 2)?;
            ensure!(took <= VERDICT, "the verdict took {:.1} s", took.as_secs_f64());
            let list = report["causes"].as_array().cloned().unwrap_or_default();
            let is_it = |c: &&Value| c["cause"] == cause && node.is_none_or(|node| c["node"] == node.name.as_str());
            if let [found] = list.as_slice()
                && is_it(&found)
            {
                ensure!(found["nextStep"].as_str().is_some_and(|step| !step.is_empty()), "no next step in {found}");
                return Ok(took);
            }
            if begin.elapsed() > SHOWS {
                bail!("health named {} instead", causes(&report));
            }
            sleep(Duration::from_millis(300));
        }
    }

    /// CoreDNS gets an image that nobody has.
    fn break_dns(&self) -> anyhow::Result<Heal<'a>> {
        self.cluster.kubectl(&["-n", "kube-system", "set", "image", "deployment/coredns", "coredns=orlop.test/nothing:v0"])?;
        let cluster = self.cluster;
        Ok(Box::new(move || cluster.kubectl(&["-n", "kube-system", "rollout", "undo", "deployment/coredns"]).map(drop)))
    }

    /// An API server gets an argument that it does not know.
    fn crash_loop(&self, node: &'a Node) -> anyhow::Result<Heal<'a>> {
        let config = self.cluster.ctl(&["-n", &node.address, "get", "machineconfig", "v1alpha1", "-o", "jsonpath={.spec}"])?;
        let file = self.cluster.directory().join("faults-config.yaml");
        std::fs::write(&file, config)?;
        let file = file.display().to_string();
        let patch = "{apiVersion: v1alpha1, kind: KubeAPIServerConfig, extraArgs: {no-such-argument: \"1\"}}";
        self.cluster.ctl(&["-n", &node.address, "apply-config", "--mode", "no-reboot", "-f", &file, "-p", patch])?;
        let (cluster, address) = (self.cluster, node.address.clone());
        Ok(Box::new(move || cluster.ctl(&["-n", &address, "apply-config", "--mode", "no-reboot", "-f", &file]).map(drop)))
    }

    /// A client whose certificate has ended.
    fn expired(&self) -> anyhow::Result<()> {
        let directory = self.cluster.directory();
        let good = directory.join("talosconfig");
        let aside = directory.join("talosconfig.good");
        std::fs::copy(&good, &aside)?;
        let bundle = model::config::secrets::Bundle::parse(&std::fs::read(directory.join("secrets.yaml"))?)
            .map_err(|problems| anyhow::anyhow!("secrets.yaml: {problems}"))?;
        let os = bundle.certs.os.as_ref().context("no certs.os in secrets.yaml")?;
        let (cert, key) = (os.cert_pem(), os.key_pem());
        let ca = pki::Ca::from_pem(&cert, key.expose())?;
        let hour = Duration::from_secs(3600);
        let yesterday = jiff::Timestamp::now() - 24 * hour;
        let roles = [pki::Role::Admin].into_iter().collect();
        let issued = ca.issue(&pki::profile::api_client(&roles, hour), yesterday)?;
        let mut config = model::config::client::ClientConfig::parse(&std::fs::read(&good)?).map_err(|p| anyhow::anyhow!("{p}"))?;
        let current = config.get(None).context("no context")?.clone();
        let context = model::config::client::Context {
            endpoints: current.endpoints.clone(),
            ..model::config::client::Context::from_pem(&cert, &issued.cert, &issued.key)
        };
        config = model::config::client::ClientConfig::single("faults", context);
        std::fs::write(&good, config.encode())?;
        let named = self.named("certificate expired", None);
        std::fs::rename(&aside, &good)?;
        let took = named.context("fault certificate expired")?;
        println!("  certificate expired: named in {:.1} s", took.as_secs_f64());
        self.healthy()
    }

    /// The worker's machine is gone, and nobody says goodbye; one command takes it out.
    fn gone(&self, node: &Node) -> anyhow::Result<()> {
        let alive = self.cluster.try_ctl(&["forget", &node.name])?;
        ensure!(alive.code != Some(0) && alive.err.contains("is alive"), "forgetting a live node said {:?} {:?}", alive.out, alive.err);
        vanish(node)?;
        let took = self.named("node gone", Some(node)).context("fault node gone")?;
        println!("  node gone: named in {:.1} s", took.as_secs_f64());
        let shown: Value = serde_json::from_str(&self.cluster.ctl(&["cluster", "show", "--name", &self.cluster.name, "-o", "json"])?)?;
        let condition =
            shown["nodes"].as_array().into_iter().flatten().find(|n| n["name"] == node.name.as_str()).map(|n| n["condition"].clone());
        ensure!(condition.as_ref().is_some_and(|c| c != "running"), "cluster show says of a node that is gone: {condition:?}");
        let begin = Instant::now();
        let said = self.cluster.ctl(&["forget", &node.name])?;
        println!("  forgotten in {:.1} s", begin.elapsed().as_secs_f64());
        ensure!(["etcd", "Kubernetes", "discovery"].iter().all(|place| said.contains(place)), "forget said {said:?}");
        eventually("every member to have forgotten it", Duration::from_secs(10), || {
            for other in self.nodes.iter().filter(|n| n.control_plane) {
                let members = self.cluster.ctl(&["-n", &other.address, "get", "members"])?;
                ensure!(!members.contains(&node.name), "{} still knows {}", other.name, node.name);
            }
            Ok(())
        })?;
        self.healthy().context("after the node was forgotten")
    }
}

fn causes(report: &Value) -> String {
    let each = report["causes"].as_array().into_iter().flatten();
    let text: Vec<String> = each.map(|c| format!("{} on {}: {}", c["cause"], c["node"], c["found"])).collect();
    if text.is_empty() { "no cause".into() } else { text.join("; ") }
}

/// Processes that stand still until this is dropped.
struct Still(Vec<Process>);

impl Still {
    fn put(processes: Vec<Process>) -> anyhow::Result<Self> {
        ensure!(!processes.is_empty(), "no process to stop");
        let still = Self(processes);
        still.0.iter().try_for_each(|process| process.signal(Signal::SIGSTOP))?;
        Ok(still)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        for process in &self.0 {
            // What has ended meanwhile needs no waking.
            let _ = process.signal(Signal::SIGCONT);
        }
    }
}

fn until_dropped<'a, T: 'a>(fault: T) -> Heal<'a> {
    Box::new(move || {
        drop(fault);
        Ok(())
    })
}

/// One program of a node stands still.
fn stop<'a>(node: &Node, name: &str) -> anyhow::Result<Heal<'a>> {
    process::find(node.pid, name)?;
    let all = process::of_node(node.pid).into_iter().filter(|p| p.name == name).collect();
    Still::put(all).map(until_dropped)
}

/// apid is killed, and what would start it again stands still.
fn apid_down<'a>(node: &Node) -> anyhow::Result<Heal<'a>> {
    let still = Still::put(vec![process::find(node.pid, "machined")?])?;
    process::find(node.pid, "apid")?.signal(Signal::SIGKILL)?;
    Ok(until_dropped(still))
}

/// Every process of a node stands still; its kernel lives.
fn freeze<'a>(node: &Node) -> anyhow::Result<Heal<'a>> {
    Still::put(process::of_node(node.pid)).map(until_dropped)
}

/// machined's clock, which is what a node is asked for.
fn wrong_time<'a>(node: &Node) -> anyhow::Result<Heal<'a>> {
    let machined = process::find(node.pid, "machined")?;
    // Nobody may be in the middle of what is replaced.
    let still = Still::put(vec![machined.clone()])?;
    sleep(Duration::from_millis(50));
    let ahead = Ahead::put(machined.pid)?;
    drop(still);
    Ok(until_dropped(ahead))
}

/// Does something in a node's mount namespace, on a thread of its own.
fn within(init: i32, act: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<()> {
    let namespace = std::fs::File::open(format!("/proc/{init}/ns/mnt"))?;
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS).context("unshare")?;
        setns(namespace, CloneFlags::CLONE_NEWNS).context("setns")?;
        act()
    });
    thread.join().map_err(|_| anyhow::anyhow!("the thread in the node's mount namespace panicked"))?
}

/// A file system without space is where /var was. Filling the node's own would fill the host's disk.
fn disk_full<'a>(node: &Node) -> anyhow::Result<Heal<'a>> {
    let init = node.pid;
    within(init, || {
        mount(Some("tmpfs"), "/var", Some("tmpfs"), MsFlags::empty(), Some("size=8m"))?;
        let filled = std::fs::write("/var/filler", vec![1; 16 << 20]);
        ensure!(filled.is_err_and(|e| e.kind() == std::io::ErrorKind::StorageFull), "8 MiB took 16");
        Ok(())
    })?;
    Ok(Box::new(move || within(init, || Ok(umount2("/var", MntFlags::MNT_DETACH)?))))
}

/// Two nodes do not reach each other, since one drops what it would send to the other; everybody else reaches both.
fn partition<'a>(node: &Node, other: &Node) -> anyhow::Result<Heal<'a>> {
    let (pid, there) = (node.pid.to_string(), format!("{}/32", other.address));
    let route = move |what: &str| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "--net", "ip", "route", what, "blackhole", &there]);
        command::run(&mut command, Duration::from_secs(10))?.success().map(drop)
    };
    route("add")?;
    Ok(Box::new(move || route("del")))
}

/// The machine ends at once, its keeper with it.
pub fn vanish(node: &Node) -> anyhow::Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid))?;
    let keeper = status.lines().find_map(|l| l.strip_prefix("PPid:")).context("no parent")?.trim().parse()?;
    for pid in [keeper, node.pid] {
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => bail!("killing {pid}: {error}"),
        }
    }
    Ok(())
}
