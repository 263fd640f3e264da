//! Figures of nodes and clusters. Each is made with a name and a state directory of its own, and destroyed in the end.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::SysconfVar,
};
use serde_json::Value;

use super::{Bench, Values, wire::Door};
use crate::{
    cmd::Cmd,
    ctx::{say, spell},
    spec::Spec,
};

const NAME: &str = "bench";
/// How often a node that has nothing yet is started.
const BOOTS: usize = 5;
/// How often a cluster is made.
const CREATES: usize = 3;
/// Between two questions to a node that is starting.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a start, or an image, may take before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a control plane has to come to rest before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(30);
/// Ours among the processes of a control plane.
const OURS: [&str; 5] = ["init", "machined", "apid", "trustd", "edge"];

/// Clusters of benches; there is one at a time.
struct Cluster<'a> {
    bench: &'a Bench<'a>,
    state: PathBuf,
}

impl<'a> Cluster<'a> {
    /// Nothing is made yet; what an interrupted bench left is destroyed.
    fn new(bench: &'a Bench) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "nodes are made of namespaces: run it as root");
        let cluster = Self { bench, state: bench.dir.join("clusters") };
        cluster.destroy()?;
        Ok(cluster)
    }

    fn command(&self, label: &str, args: &[&str]) -> Result<Cmd> {
        let ctl = self.bench.binaries.join("orlopctl");
        Ok(Cmd::new(self.bench.ctx, label, ctl)?.log_to(self.bench.dir.join(format!("{label}.log"))).set(|c| {
            c.current_dir(&self.bench.ctx.repo).env("TALOSCONFIG", self.talosconfig()).args(args);
        }))
    }

    fn talosconfig(&self) -> PathBuf {
        self.state.join(NAME).join("talosconfig")
    }

    /// Makes it; how long that took. Waits for health unless told otherwise.
    fn create(&self, control_planes: u32, workers: u32, wait: bool) -> Result<Duration> {
        let (control_planes, workers, wait) = (control_planes.to_string(), workers.to_string(), wait.to_string());
        let out = |name: &str| self.bench.out.join(name).display().to_string();
        let start = Instant::now();
        self.command("create", &["cluster", "create", "--name", NAME, "--controlplanes", &control_planes, "--workers", &workers])?
            .set(|c| {
                c.arg("--state").arg(&self.state).args(["--root", &out("root.erofs"), "--image-cache", &out("image-cache")]);
                c.args(["--wait", &wait]);
            })
            .deadline(Duration::from_secs(10 * 60))
            .run()?;
        Ok(start.elapsed())
    }

    fn destroy(&self) -> Result<()> {
        if !self.state.join(NAME).is_dir() {
            return Ok(());
        }
        self.command("destroy", &["cluster", "destroy", "--name", NAME])?
            .set(|c| {
                c.arg("--state").arg(&self.state);
            })
            .deadline(Duration::from_secs(3 * 60))
            .run()
    }

    /// The first node's address, and its PID 1 as the host names it.
    fn first(&self) -> Result<(String, u32)> {
        let shown = self
            .command("show", &["cluster", "show", "--name", NAME, "-o", "json"])?
            .set(|c| {
                c.arg("--state").arg(&self.state);
            })
            .output()?;
        let shown: Value = serde_json::from_str(&shown).context("reading what cluster show printed")?;
        let node = &shown["nodes"][0];
        let pid = node["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let (address, pid) = node["address"].as_str().zip(pid).with_context(|| format!("cluster show told no running node: {shown}"))?;
        Ok((address.to_owned(), pid))
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.destroy() {
            say(format!("the bench's cluster is still there: {error:#}"));
        }
    }
}

/// A control plane that has nothing yet: until its API answers, then until all images of the cache can be used.
pub(super) fn fresh_node(bench: &Bench) -> Result<Vec<Values>> {
    let (mut boots, mut imports) = (Vec::new(), Vec::new());
    for round in 1..=BOOTS {
        let cluster = Cluster::new(bench)?;
        let (address, init, ready) = boot(&cluster)?;
        boots.push(ready);
        let import = import(&cluster, &address, init)?;
        imports.push(import);
        say(format!("[{round}/{BOOTS}] the API answers after {ready:.0} ms; images pulled in {import:.0} ms"));
    }
    Ok(vec![("boot.api_ready_ms", boots), ("node.image_import_ms", imports)])
}

/// Starts a node; its address, its PID 1, and the milliseconds from the start of that to the first answer.
fn boot(cluster: &Cluster) -> Result<(String, u32, f64)> {
    let created = thread::scope(|scope| {
        let create = scope.spawn(|| cluster.create(1, 0, false));
        let answered = first_answer(&cluster.talosconfig());
        create.join().map_err(|_| anyhow::anyhow!("the thread that creates the cluster panicked"))??;
        answered
    });
    let answered = created?;
    let (address, init) = cluster.first()?;
    let ready = answered.saturating_sub(started(init)?);
    Ok((address, init, ready.as_secs_f64() * 1000.0))
}

/// When, after the host's boot, a node first answered. Questions do not wait for each other: one that is lost on the way to a
/// node without a network yet must not delay the ones after it.
fn first_answer(talosconfig: &Path) -> Result<Duration> {
    let start = Instant::now();
    let door = loop {
        match Door::of(talosconfig) {
            Ok(door) => break door,
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(PAUSE),
        }
    };
    let (send, answers) = std::sync::mpsc::channel();
    let mut last = None;
    while start.elapsed() < PATIENCE {
        let (door, send) = (door.clone(), send.clone());
        thread::spawn(move || send.send(door.version().map(|()| since_boot())));
        match answers.recv_timeout(PAUSE) {
            Ok(Ok(when)) => return when,
            Ok(Err(error)) => {
                last = Some(error);
                thread::sleep(PAUSE);
            }
            Err(_) => {}
        }
    }
    bail!("the node did not answer within {}: {}", spell(PATIENCE), last.map_or_else(|| "no word".into(), |error| format!("{error:#}")))
}

fn since_boot() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

/// When, after the host's boot, a process was started: to 10 ms.
fn started(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("looking for PID 1 of the node")?;
    // The name stands in brackets and may hold anything. The 22nd field is the 20th after it (proc(5)).
    let ticks = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse::<u32>().ok());
    let per_second = nix::unistd::sysconf(SysconfVar::CLK_TCK)?.and_then(|n| i32::try_from(n).ok()).unwrap_or(100);
    Ok(Duration::from_secs_f64(f64::from(ticks.context("reading its start time")?) / f64::from(per_second)))
}

/// Pulls every image of the cache over CRI, through the node's own registry and its own containerd; how many milliseconds.
fn import(cluster: &Cluster, address: &str, init: u32) -> Result<f64> {
    let bench = cluster.bench;
    let start = Instant::now();
    let running = |services: &str, id: &str| services.lines().any(|line| line.contains(&format!(" {id} ")) && line.contains("Running"));
    loop {
        let services = cluster.command("services", &["-n", address, "services"])?.output().unwrap_or_default();
        if running(&services, "cri") && running(&services, "edge") {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "cri and edge did not run within {}:\n{services}", spell(PATIENCE));
        thread::sleep(Duration::from_millis(100));
    }
    let spec = Spec::load(bench.ctx)?;
    let images: Vec<&str> = spec.image.iter().map(|image| image.name.as_str()).collect();
    // The client stands beside ctr: both are built with containerd.
    let tools = fs::canonicalize(bench.out.join("bin/ctr")).context("_out/bin/ctr is not there; `make build` makes it")?;
    let said = Cmd::new(bench.ctx, "import", tools.with_file_name("prove-images"))?
        .log_to(bench.dir.join("import.log"))
        .set(|c| {
            c.arg("-socket").arg(format!("/proc/{init}/root/run/containerd/containerd.sock")).args(["-pull", &images.join(",")]);
        })
        .output()?;
    let total = said.split_once("total_ms=").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    total.with_context(|| format!("the client printed no total: {said}"))
}

/// What our own processes take on a control plane at rest, each page shared out among those that share it.
pub(super) fn memory(bench: &Bench) -> Result<Vec<Values>> {
    let cluster = Cluster::new(bench)?;
    let others = count_machined()?;
    cluster.create(1, 0, true)?;
    let (_, init) = cluster.first()?;
    thread::sleep(SETTLE);
    let mut processes = vec![("init".to_owned(), init)];
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).context("listing the node's processes")?;
    processes.extend(children.split_whitespace().filter_map(|pid| Some((name(pid)?, pid.parse().ok()?))));
    let mut total = 0.0;
    for ours in OURS {
        let (_, pid) = processes.iter().find(|(name, _)| name == ours).with_context(|| format!("the node runs no {ours}"))?;
        let mib = pss_kib(*pid)? / 1024.0;
        say(format!("{ours:<9} {mib:>6.1} MiB"));
        total += mib;
    }
    if others > 0 {
        say(format!("{others} other nodes run here: pages of the program that they share with this one are counted to them in part"));
    }
    Ok(vec![("node.rss_mib", vec![total])])
}

fn count_machined() -> Result<usize> {
    let all = fs::read_dir("/proc").context("listing processes")?.flatten();
    Ok(all.filter(|entry| name(&entry.file_name().to_string_lossy()).is_some_and(|name| name == "machined")).count())
}

/// The name a process was started by.
fn name(pid: &str) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let first = line.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(first).rsplit('/').next()?.to_owned())
}

fn pss_kib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| format!("{path} has no Pss"))?;
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).with_context(|| format!("{path}: found {line:?}"))
}

/// The whole of `cluster create`, one control plane and one worker.
pub(super) fn one_and_one(bench: &Bench) -> Result<Vec<Values>> {
    creates(bench, "cluster.create_1_1_s", 1, 1, CREATES)
}

/// The whole of `cluster create`, three of each.
pub(super) fn three_and_three(bench: &Bench) -> Result<Vec<Values>> {
    creates(bench, "cluster.create_3_3_s", 3, 3, 1)
}

fn creates(bench: &Bench, figure: &'static str, control_planes: u32, workers: u32, rounds: usize) -> Result<Vec<Values>> {
    let mut values = Vec::new();
    for round in 1..=rounds {
        let cluster = Cluster::new(bench)?;
        let took = cluster.create(control_planes, workers, true)?;
        say(format!("[{round}/{rounds}] {control_planes}+{workers} in {}; where the time went:", spell(took)));
        let log = fs::read_to_string(bench.dir.join("create.log")).unwrap_or_default();
        log.lines().filter(|line| line.starts_with('[')).for_each(|line| say(format!("    {line}")));
        values.push(took.as_secs_f64());
    }
    Ok(vec![(figure, values)])
}
