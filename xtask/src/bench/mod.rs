//! `cargo xtask bench`: speed and memory, as a table and as `target/bench.json`. What each figure is: docs/benchmarks.md.
//!
//! Figures, not tests: a target that is missed is said, and is no failure. What cannot be measured is one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Map, Value, json};

use crate::{
    cmd::Cmd,
    ctx::{Ctx, beside, say, spell},
};

mod cluster;
mod wire;

/// What a figure is called, counted in, and should be at most.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    target: Option<f64>,
}

const fn figure(name: &'static str, unit: &'static str, target: Option<f64>) -> Figure {
    Figure { name, unit, target }
}

/// All figures, in the table's order. The names are stable: others read them.
const FIGURES: [Figure; 13] = [
    figure("boot.api_ready_ms", "ms", Some(500.0)),
    figure("node.rss_mib", "MiB", Some(40.0)),
    figure("bin.system_mb", "MB", Some(25.0)),
    figure("image.root_mb", "MB", Some(60.0)),
    figure("cluster.create_1_1_s", "s", Some(40.0)),
    figure("node.image_import_ms", "ms", Some(1000.0)),
    figure("cluster.create_3_3_s", "s", None),
    figure("ctl.gen_config_ms", "ms", Some(20.0)),
    figure("ctl.version_ms", "ms", Some(10.0)),
    figure("bin.ctl_mb", "MB", Some(20.0)),
    figure("store.get_ns", "ns", None),
    figure("store.update_ns", "ns", None),
    figure("store.create_ns", "ns", None),
];

/// What was measured: values of one figure, one per round.
type Values = (&'static str, Vec<f64>);
type Measure = fn(&Bench) -> Result<Vec<Values>>;

/// What yields figures together. First what is quick; then clusters, one after the other.
const MEASURES: [(&[&str], Measure); 7] = [
    (&["bin.system_mb", "bin.ctl_mb", "image.root_mb"], sizes),
    (&["ctl.gen_config_ms", "ctl.version_ms"], commands),
    (&["store.get_ns", "store.update_ns", "store.create_ns"], store),
    (&["boot.api_ready_ms", "node.image_import_ms"], cluster::fresh_node),
    (&["node.rss_mib"], cluster::memory),
    (&["cluster.create_1_1_s"], cluster::one_and_one),
    (&["cluster.create_3_3_s"], cluster::three_and_three),
];

/// Where everything is that is measured.
struct Bench<'a> {
    ctx: &'a Ctx,
    /// `_out`: root image, image cache, tools.
    out: PathBuf,
    /// The release build of `orlop` and `orlopctl`.
    binaries: PathBuf,
    /// For logs and clusters.
    dir: PathBuf,
}

/// A figure as it came out.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: &'static str,
    values: Vec<f64>,
    load: f64,
}

/// The verb. `choice` holds beginnings of names; all figures when it is empty.
pub(crate) fn run(ctx: &Ctx, out: &Path, binaries: &Path, choice: &[String]) -> Result<()> {
    let chosen = |name: &str| choice.is_empty() || choice.iter().any(|part| name.starts_with(part.as_str()));
    if let Some(part) = choice.iter().find(|part| !FIGURES.iter().any(|figure| figure.name.starts_with(part.as_str()))) {
        let known: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        bail!("no figure begins with {part:?}; expected the beginning of one of: {}", known.join(", "));
    }
    let absolute = |path: &Path| path.canonicalize().with_context(|| format!("{} is not there; `make build` makes it", path.display()));
    let dir = ctx.repo.join("target/bench");
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let bench = Bench { ctx, out: absolute(out)?, binaries: absolute(binaries)?, dir };
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for (names, measure) in MEASURES.iter().filter(|(names, _)| names.iter().any(|name| chosen(name))) {
        say(format!("measuring {}", names.join(", ")));
        let (load, start) = (load(), Instant::now());
        match measure(&bench) {
            Ok(all) => rows.extend(all.into_iter().filter(|(name, _)| chosen(name)).map(|(name, values)| Row { name, values, load })),
            Err(error) => failures.push(format!("{}: {error:#}", names.join(", "))),
        }
        say(format!("measured in {}", spell(start.elapsed())));
    }
    rows.sort_by_key(|row| FIGURES.iter().position(|figure| figure.name == row.name));
    write(&ctx.repo.join("target/bench.json"), &rows)?;
    println!("\n{}\n\n{}", machine(), table(&rows));
    if failures.is_empty() { Ok(()) } else { bail!("not everything could be measured:\n  {}", failures.join("\n  ")) }
}

/// The middle of the values; of two middle ones the lower, since noise only adds.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().max(1) - 1) / 2).copied().unwrap_or_default()
}

/// Adds the rows to the file; figures that were not measured now stay as they were.
fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let mut all: Map<String, Value> = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    for row in rows {
        let unit = FIGURES.iter().find(|figure| figure.name == row.name).map_or("", |figure| figure.unit);
        all.insert(row.name.to_owned(), json!({"value": (median(&row.values) * 10.0).round() / 10.0, "unit": unit}));
    }
    let new = beside(path);
    fs::write(&new, format!("{:#}\n", Value::Object(all))).with_context(|| format!("writing {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("putting {} in place", path.display()))
}

fn table(rows: &[Row]) -> String {
    let mut lines =
        vec![format!("{:<22} {:>10} {:<4} {:>8}  {:<9} {:>6}  {}", "FIGURE", "VALUE", "UNIT", "TARGET", "VERDICT", "LOAD", "ROUNDS")];
    for row in rows {
        let Some(figure) = FIGURES.iter().find(|figure| figure.name == row.name) else { continue };
        let value = median(&row.values);
        let (target, verdict) = match figure.target {
            Some(target) if value <= target => (format!("≤ {target}"), "met"),
            Some(target) => (format!("≤ {target}"), "MISSED"),
            None => (String::new(), ""),
        };
        let rounds: Vec<String> = row.values.iter().map(|value| format!("{value:.1}")).collect();
        let rounds = if rounds.len() > 5 { format!("{} rounds", rounds.len()) } else { rounds.join(" ") };
        lines.push(format!("{:<22} {value:>10.1} {:<4} {target:>8}  {verdict:<9} {:>6.1}  {rounds}", figure.name, figure.unit, row.load));
    }
    lines.join("\n")
}

/// The machine, and how busy it is with other things: half of what there is to say about a figure.
fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value.trim().to_owned()));
        value.unwrap_or_else(|| "?".into())
    };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} × {}, {} of memory, Linux {}; load {} (a load above 0 before a bench is someone else's work, and its figures are too high)",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" "),
    )
}

/// The load of the last minute.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn megabytes(path: &Path) -> Result<f64> {
    let bytes = fs::metadata(path).with_context(|| format!("{} is not there; `make build` makes it", path.display()))?.len();
    #[expect(clippy::cast_precision_loss, reason = "no file is that large")]
    Ok(bytes as f64 / 1e6)
}

fn sizes(bench: &Bench) -> Result<Vec<Values>> {
    Ok(vec![
        ("bin.system_mb", vec![megabytes(&bench.binaries.join("orlop"))?]),
        ("bin.ctl_mb", vec![megabytes(&bench.binaries.join("orlopctl"))?]),
        ("image.root_mb", vec![megabytes(&bench.out.join("root.erofs"))?]),
    ])
}

/// What people wait for most often: a process each, from start to end.
fn commands(bench: &Bench) -> Result<Vec<Values>> {
    const ROUNDS: usize = 51;
    let ctl = bench.binaries.join("orlopctl");
    let dir = tempfile::tempdir().context("making a directory")?;
    let configs = dir.path().to_string_lossy().into_owned();
    let time = |args: &[&str]| -> Result<Vec<f64>> {
        let command = || timed(Command::new(&ctl).args(args), Duration::from_secs(10)).map(milliseconds);
        // The first one reads the program from the disk.
        command()?;
        (0..ROUNDS).map(|_| command()).collect()
    };
    Ok(vec![
        ("ctl.gen_config_ms", time(&["gen", "config", "bench", "https://10.5.0.1:6443", "--force", "-o", &configs])?),
        ("ctl.version_ms", time(&["version", "--client"])?),
    ])
}

/// The resource store's own benches.
fn store(bench: &Bench) -> Result<Vec<Values>> {
    const DEADLINE: Duration = Duration::from_secs(30 * 60);
    let mut found = Vec::new();
    let status = Cmd::new(bench.ctx, "bench-store", "cargo")?
        .set(|c| {
            c.current_dir(&bench.ctx.repo).args(["bench", "--quiet", "--locked", "-p", "engine", "--bench", "store"]);
        })
        .log_to(bench.dir.join("store.log"))
        .deadline(DEADLINE)
        .run_lines(|line| found.extend(line.and_then(store_line)))?;
    if !status.success() {
        bail!("the store's bench ended with {status}; it printed {}", bench.dir.join("store.log").display());
    }
    Ok(found)
}

/// `store.get_ns 12.3 ns`, if it is one of ours.
fn store_line(line: &str) -> Option<Values> {
    let mut words = line.split_whitespace();
    let (name, value) = (words.next()?, words.next()?.parse().ok()?);
    let figure = FIGURES.iter().find(|figure| figure.name == name)?;
    Some((figure.name, vec![value]))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Runs a program without its output; how long it took.
fn timed(command: &mut Command, limit: Duration) -> Result<Duration> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("starting it")?;
    let pid = child.id();
    let (done, over) = mpsc::channel::<()>();
    // Asking again and again whether it has ended would cost more than some of them take.
    thread::spawn(move || {
        if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout)
            && let Ok(pid) = i32::try_from(pid)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    });
    let status = child.wait().context("waiting for it")?;
    let took = start.elapsed();
    drop(done);
    if !status.success() {
        bail!("{command:?} ended with {status} after {}", spell(took));
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_measured_once() {
        for figure in &FIGURES {
            assert_eq!(MEASURES.iter().filter(|(names, _)| names.contains(&figure.name)).count(), 1, "{}", figure.name);
        }
    }

    #[test]
    fn the_file_keeps_what_was_not_measured_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bench.json");
        write(&path, &[Row { name: "bin.ctl_mb", values: vec![19.96], load: 0.0 }]).unwrap();
        write(&path, &[Row { name: "ctl.version_ms", values: vec![3.0, 1.0, 2.0], load: 0.0 }]).unwrap();
        let all: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(all, json!({"bin.ctl_mb": {"value": 20.0, "unit": "MB"}, "ctl.version_ms": {"value": 2.0, "unit": "ms"}}));
    }

    #[test]
    fn the_table_gives_verdicts() {
        let rows =
            [Row { name: "ctl.version_ms", values: vec![12.0], load: 1.5 }, Row { name: "bin.ctl_mb", values: vec![9.0], load: 1.5 }];
        let text = table(&rows);
        assert!(text.lines().nth(1).unwrap().contains("MISSED") && text.lines().nth(2).unwrap().contains("met"), "{text}");
        assert_eq!(store_line("store.get_ns 12.5 ns"), Some(("store.get_ns", vec![12.5])));
        assert_eq!(store_line("machine.clock_ns 20 ns"), None);
    }

    #[test]
    fn a_program_has_its_time() {
        assert!(timed(Command::new("sleep").arg("0.05"), Duration::from_secs(5)).unwrap() >= Duration::from_millis(50));
        assert!(timed(Command::new("sleep").arg("60"), Duration::from_millis(50)).is_err());
    }
}
