//! `cargo xtask test`: every test this machine can run, one after the other, with one summary at the end.
//!
//! A failure does not end the run: what comes after may fail for another reason, and one wants to know both.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    cmd::Cmd,
    compile,
    ctx::{Ctx, Step, say},
    prove,
    report::{Part, Report},
    testlog::{Ended, Reader},
};

/// A cold build of all test programs on two cores that others use too.
const BUILD_DEADLINE: Duration = Duration::from_secs(60 * 60);
/// All test programs.
const RUN_DEADLINE: Duration = Duration::from_secs(45 * 60);
/// All stories.
const STORIES_DEADLINE: Duration = Duration::from_secs(60 * 60);
/// How often a run that says nothing says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The verb. `system` is the system's binary, for the root image in which the image cache is proven; `out` is what stories run on.
pub(crate) fn run(ctx: &Ctx, system: Option<&Path>, out: &Path) -> Result<()> {
    let logs = ctx.repo.join("target/test");
    fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    let mut report = Report::new();
    compile::test(ctx, &mut report)?;
    let out = &out.canonicalize().with_context(|| format!("{} is not there; `make build` makes it", out.display()))?;
    programs(ctx, out, &logs, &mut report)?;
    if nix::unistd::geteuid().is_root() {
        report.step("prove-images", || prove::run(ctx, system));
    } else {
        let skips = vec!["pulling images in namespaces needs root".to_owned()];
        report.add(Part { name: "prove-images".into(), skips, ..Part::default() });
    }
    stories(ctx, out, &logs, &mut report)?;
    say(format!("all that was printed is in {}", logs.display()));
    report.close(&ctx.repo.join("tests/skips"))
}

/// The test programs of all crates.
fn programs(ctx: &Ctx, out: &Path, logs: &Path, report: &mut Report) -> Result<()> {
    let Some(count) = build(ctx, logs.join("build.log"), report)? else {
        return Ok(());
    };
    say(format!("running {count} test programs, then the examples in documentation"));
    let is_root = nix::unistd::geteuid().is_root();
    // Output of tests that pass is wanted too: it says what they left out.
    let mut args = vec!["--no-fail-fast", "--", "--show-output"];
    if is_root {
        args.extend(["--skip", ALONE.1]);
    }
    let cargo = cargo_test(ctx, "cargo-test", &args)?.log_to(logs.join("cargo.log")).deadline(RUN_DEADLINE).set(|c| {
        c.env("ORLOP_TEST_EROFS", out.join("root.erofs"));
    });
    follow(cargo, "cargo test", Reader::default(), report, Some(count))?;
    if is_root { alone(ctx, out, logs, report) } else { Ok(()) }
}

/// A test that wants the real control plane's ports and a node's address: in a network namespace of its own.
const ALONE: (&str, &str) = ("real", "the_real_control_plane_takes_it_all");

fn alone(ctx: &Ctx, out: &Path, logs: &Path, report: &mut Report) -> Result<()> {
    let bin = logs.join("bin");
    let _ = fs::remove_dir_all(&bin);
    fs::create_dir_all(&bin).with_context(|| format!("making {}", bin.display()))?;
    // In _out/bin they stand under the names they are called by.
    for (name, called) in [("etcd", "etcdctl"), ("orlop-kubernetes", "kubectl")] {
        symlink(out.join("bin").join(called), bin.join(name)).with_context(|| format!("linking {name}"))?;
    }
    let cargo = cargo_test(ctx, "cargo-test-alone", &["--test", ALONE.0, "--", "--show-output", ALONE.1])?;
    let cargo = cargo.log_to(logs.join("alone.log")).deadline(RUN_DEADLINE).within("unshare", |c| {
        const SETUP: &str = "ip link set lo up && ip address add 10.5.0.2/32 dev lo && exec \"$0\" \"$@\"";
        c.env("ORLOP_KUBE_BIN", &bin).args(["--net", "--", "sh", "-c", SETUP]);
    });
    follow(cargo, "cargo test", Reader::default(), report, Some(0))
}

/// Builds the test programs; how many there are, or `None` when that fails.
fn build(ctx: &Ctx, log: PathBuf, report: &mut Report) -> Result<Option<usize>> {
    let start = Instant::now();
    let mut step = Step::begin(1, 1, "building the test programs");
    let (mut programs, mut crates, mut said) = (0, 0, Vec::new());
    let status = cargo_test(ctx, "cargo-test-build", &["--no-run"])?.log_to(log).deadline(BUILD_DEADLINE).run_lines(|line| {
        let line = line.unwrap_or_default();
        let word = line.split_whitespace().next();
        match word {
            Some("Executable") => programs += 1,
            Some("Compiling") => crates += 1,
            _ => said.push(line.to_owned()),
        }
        step.tick(&format!("{crates} crates,"));
    })?;
    step.end();
    let mut part = Part { name: "building the test programs".into(), took: start.elapsed(), ..Part::default() };
    if !status.success() {
        let from = said.iter().position(|line| line.starts_with("error")).unwrap_or_default();
        said.iter().skip(from).for_each(|line| println!("{line}"));
        part.failed = 1;
    }
    let built = part.failed == 0;
    report.add(part);
    Ok(built.then_some(programs))
}

fn cargo_test(ctx: &Ctx, label: &str, more: &[&str]) -> Result<Cmd> {
    Ok(Cmd::new(ctx, label, "cargo")?.set(|c| {
        c.current_dir(&ctx.repo).env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
        c.args(["test", "--workspace", "--exclude", "e2e", "--locked"]).args(more);
    }))
}

/// The stories on real clusters.
fn stories(ctx: &Ctx, out: &Path, logs: &Path, report: &mut Report) -> Result<()> {
    say("end-to-end stories on real clusters");
    let e2e = Cmd::new(ctx, "e2e", "cargo")?.log_to(logs.join("e2e.log")).deadline(STORIES_DEADLINE).set(|c| {
        c.current_dir(&ctx.repo).env("CARGO_TERM_COLOR", "never").args(["run", "--quiet", "--locked", "-p", "e2e", "--"]);
        c.arg("--out").arg(out);
    });
    follow(e2e, "stories", Reader::of("stories"), report, None)
}

/// Runs a program whose output the reader understands, tells of each part, prints failures in full, and adds all to the report.
/// `count` is how many parts there are; where nobody knows, every line is printed as it comes.
fn follow(cmd: Cmd, what: &str, mut reader: Reader, report: &mut Report, count: Option<usize>) -> Result<()> {
    let (start, log) = (Instant::now(), cmd.log().display().to_string());
    let (mut done, mut last, mut failed) = (0, Instant::now(), false);
    let mut add = |ended: Ended, report: &mut Report| {
        done += 1;
        failed |= ended.part.failed > 0;
        let position = count.filter(|count| done <= *count).map_or_else(String::new, |count| format!("[{done}/{count}] "));
        if !ended.part.is_empty() {
            say(format!("{position}{}", ended.part.line()));
        }
        if count.is_some() {
            ended.failures.iter().for_each(|line| println!("{line}"));
        }
        report.add(ended.part);
    };
    let status = cmd.run_lines(|line| {
        let Some(line) = line else {
            if last.elapsed() > HEARTBEAT {
                last = Instant::now();
                say(format!("{what} … {}", reader.current_name()));
            }
            return;
        };
        last = Instant::now();
        if count.is_none() {
            println!("{line}");
        }
        if let Some(ended) = reader.line(line, start.elapsed()) {
            add(ended, report);
        }
    });
    if let Some(ended) = reader.end(start.elapsed()) {
        add(ended, report);
    }
    let trouble = match status {
        Ok(status) if status.success() || failed => return Ok(()),
        Ok(status) => format!("ended with {status} though no test failed; what it printed is in {log}"),
        Err(error) => format!("{error:#}"),
    };
    println!("{what} FAILED: {trouble}");
    report.add(Part { name: what.to_owned(), failed: 1, ..Part::default() });
    Ok(())
}
