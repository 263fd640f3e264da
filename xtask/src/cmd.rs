//! Running other programs: each with a deadline, its output kept in a file, and an error that says
//! what was run, how it ended and what it said last.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::ctx::{Ctx, spell};

/// How much of a failed program's output goes into the error.
const LAST_LINES: usize = 25;

/// A program to run.
pub(crate) struct Cmd {
    name: String,
    inner: Command,
    log: PathBuf,
    deadline: Duration,
}

impl Cmd {
    /// `label` names the file the output is kept in.
    pub(crate) fn new(ctx: &Ctx, label: &str, program: impl AsRef<OsStr>) -> Result<Self> {
        let name = program.as_ref().to_string_lossy().into_owned();
        let log = ctx.cache_dir("logs")?.join(format!("{}.log", label.replace(['/', ' '], "-")));
        Ok(Self { name, inner: Command::new(program), log, deadline: Duration::from_secs(120) })
    }

    /// Arguments, environment, directory: as of [`Command`].
    pub(crate) fn set(mut self, configure: impl FnOnce(&mut Command)) -> Self {
        configure(&mut self.inner);
        self
    }

    /// Killed, with all it started, when it takes longer.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Where the output is kept.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Keeps the output in this file instead.
    pub(crate) fn log_to(mut self, log: PathBuf) -> Self {
        self.log = log;
        self
    }

    /// Runs behind other work of the machine: a build should not make it unusable.
    pub(crate) fn nice(self) -> Self {
        // nice(1) is in coreutils, which every Debian has.
        self.within("nice", |c| {
            c.args(["-n", "10"]);
        })
    }

    /// Runs to the end.
    pub(crate) fn run(self) -> Result<()> {
        self.run_with(None::<fn(&mut std::process::ChildStdin) -> Result<()>>, |_| {})
    }

    /// Runs to the end; `tick` is called a few times a second with the path of the output so far.
    pub(crate) fn run_ticking(self, tick: impl FnMut(&PathBuf)) -> Result<()> {
        self.run_with(None::<fn(&mut std::process::ChildStdin) -> Result<()>>, tick)
    }

    /// Runs to the end while `feed` writes its standard input, on the calling thread.
    pub(crate) fn run_fed(self, feed: impl FnOnce(&mut std::process::ChildStdin) -> Result<()>) -> Result<()> {
        self.run_with(Some(feed), |_| {})
    }

    /// Runs to the end and returns what it printed.
    pub(crate) fn output(mut self) -> Result<String> {
        let error_log = File::create(&self.log).with_context(|| format!("making {}", self.log.display()))?;
        self.inner.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(error_log);
        let child = self.spawn()?;
        // Read on a thread of its own, so that the deadline holds for a silent program too.
        let mut child = child;
        let mut stdout = child.stdout.take().context("no pipe to read from")?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
        });
        let status = self.wait(&mut child, |_| {})?;
        let text = reader.join().map_err(|_| anyhow::anyhow!("the reader of {} panicked", self.name))??;
        self.check(status)?;
        Ok(text)
    }

    /// Runs to the end and returns how it ended. `on_line` gets each line of both outputs as it comes, and
    /// `None` once a second while none comes.
    pub(crate) fn run_lines(mut self, mut on_line: impl FnMut(Option<&str>)) -> Result<ExitStatus> {
        let mut log = File::create(&self.log).with_context(|| format!("making {}", self.log.display()))?;
        let (output, writer) = std::io::pipe().context("making a pipe")?;
        self.inner.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = self.spawn()?;
        // It holds the pipe's other end: with it here the output would never end.
        self.inner = Command::new(&self.name);
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let start = Instant::now();
        let mut ended = None;
        loop {
            let patience = if ended.is_some() { Duration::from_millis(200) } else { Duration::from_secs(1) };
            match lines.recv_timeout(patience) {
                Ok(line) => {
                    writeln!(log, "{line}").with_context(|| format!("writing {}", self.log.display()))?;
                    on_line(Some(&line));
                }
                // What it left running may hold the pipe open: that is no reason to wait.
                Err(_) if ended.is_some() => break,
                Err(RecvTimeoutError::Timeout) => on_line(None),
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(10)),
            }
            if ended.is_none() {
                ended = child.try_wait().with_context(|| format!("waiting for {}", self.name))?;
            }
            if start.elapsed() > self.deadline {
                end_tree(child.id());
                let _ = child.wait();
                bail!("{} took longer than {} and was stopped.{}", self.name, spell(self.deadline), self.last_words());
            }
        }
        ended.with_context(|| format!("{} ended unseen", self.name))
    }

    fn run_with<F>(mut self, feed: Option<F>, tick: impl FnMut(&PathBuf)) -> Result<()>
    where
        F: FnOnce(&mut std::process::ChildStdin) -> Result<()>,
    {
        let log = File::create(&self.log).with_context(|| format!("making {}", self.log.display()))?;
        let errors = log.try_clone().context("duplicating the log's descriptor")?;
        self.inner.stdin(if feed.is_some() { Stdio::piped() } else { Stdio::null() }).stdout(log).stderr(errors);
        let mut child = self.spawn()?;
        let fed = match (feed, child.stdin.take()) {
            (Some(feed), Some(mut stdin)) => feed(&mut stdin),
            _ => Ok(()),
        };
        let status = self.wait(&mut child, tick)?;
        // A program that stopped reading says more by its own output than the broken pipe does.
        self.check(status)?;
        fed
    }

    /// Runs by way of another program; `configure` gives it what stands before the program and its arguments.
    pub(crate) fn within(mut self, program: &str, configure: impl FnOnce(&mut Command)) -> Self {
        let mut outer = Command::new(program);
        configure(&mut outer);
        outer.arg(self.inner.get_program()).args(self.inner.get_args());
        for (key, value) in self.inner.get_envs() {
            match value {
                Some(value) => outer.env(key, value),
                None => outer.env_remove(key),
            };
        }
        if let Some(dir) = self.inner.get_current_dir() {
            outer.current_dir(dir);
        }
        self.inner = outer;
        self
    }

    fn spawn(&mut self) -> Result<Child> {
        match self.inner.spawn() {
            Ok(child) => Ok(child),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("{} is not installed or not in PATH; `make setup` installs what the build needs", self.name)
            }
            Err(error) => Err(error).with_context(|| format!("starting {}", self.name)),
        }
    }

    fn wait(&self, child: &mut Child, mut tick: impl FnMut(&PathBuf)) -> Result<ExitStatus> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait().with_context(|| format!("waiting for {}", self.name))? {
                return Ok(status);
            }
            if start.elapsed() > self.deadline {
                end_tree(child.id());
                let _ = child.wait();
                bail!("{} took longer than {} and was stopped.{}", self.name, spell(self.deadline), self.last_words());
            }
            tick(&self.log);
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let arguments: Vec<_> = self.inner.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        let mut line = arguments.join(" ");
        if line.len() > 300 {
            line.truncate(line.floor_char_boundary(300));
            line.push('…');
        }
        bail!("{} failed ({status}): {} {line}{}", self.name, self.name, self.last_words())
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        if lines.is_empty() {
            return String::from(" It printed nothing.");
        }
        let from = lines.len().saturating_sub(LAST_LINES);
        format!(" Its last words (all of them in {}):\n    {}", self.log.display(), lines[from..].join("\n    "))
    }
}

/// Kills a process and all that descend from it. They are not put into a process group of their own,
/// which would be simpler here: Ctrl-C would then end xtask and leave them running.
fn end_tree(top: u32) {
    let parents = parents();
    let mut doomed = vec![top];
    let mut next = 0;
    while let Some(&above) = doomed.get(next) {
        doomed.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        next += 1;
    }
    for pid in doomed.iter().filter_map(|pid| i32::try_from(*pid).ok()) {
        // Gone by itself is as good.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold anything; state and parent follow.
        let (_, rest) = stat.rsplit_once(')')?;
        Some((pid, rest.split_whitespace().nth(1)?.parse().ok()?))
    };
    processes.flatten().filter_map(|entry| parent(entry.file_name().to_str()?.parse().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Ctx;

    fn ctx() -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        let mut ctx = Ctx::new().unwrap();
        ctx.cache = dir.path().to_path_buf();
        (dir, ctx)
    }

    #[test]
    fn a_failure_repeats_the_last_words() {
        let (_dir, ctx) = ctx();
        let error = Cmd::new(&ctx, "t", "sh")
            .unwrap()
            .set(|c| {
                c.args(["-c", "echo first; echo it broke >&2; exit 3"]);
            })
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.contains("it broke") && error.contains('3'), "{error}");
    }

    #[test]
    fn the_deadline_ends_the_children_too() {
        let (dir, ctx) = ctx();
        let marker = dir.path().join("late");
        let script = format!("(sleep 1; touch {}) & sleep 30", marker.display());
        let error = Cmd::new(&ctx, "t", "sh")
            .unwrap()
            .set(|c| {
                c.args(["-c", &script]);
            })
            .deadline(Duration::from_millis(200))
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.contains("longer than 0.2 s"), "{error}");
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!marker.exists());
    }

    #[test]
    fn a_missing_program_says_how_to_get_it() {
        let (_dir, ctx) = ctx();
        let error = Cmd::new(&ctx, "t", "no-such-program-here").unwrap().run().unwrap_err().to_string();
        assert!(error.contains("make setup"), "{error}");
    }

    #[test]
    fn output_and_input_pass() {
        let (_dir, ctx) = ctx();
        let text = Cmd::new(&ctx, "t", "printf")
            .unwrap()
            .set(|c| {
                c.arg("a b");
            })
            .output()
            .unwrap();
        assert_eq!(text, "a b");
        let file = ctx.cache.join("fed");
        let script = format!("cat > {}", file.display());
        Cmd::new(&ctx, "t", "sh")
            .unwrap()
            .set(|c| {
                c.args(["-c", &script]);
            })
            .run_fed(|stdin| Ok(std::io::Write::write_all(stdin, b"fed")?))
            .unwrap();
        assert_eq!(fs::read(file).unwrap(), b"fed");
    }

    #[test]
    fn lines_of_both_outputs_come_in_order_and_children_left_behind_are_not_waited_for() {
        let (_dir, ctx) = ctx();
        let mut lines = Vec::new();
        let start = Instant::now();
        let status = Cmd::new(&ctx, "t", "sh")
            .unwrap()
            .set(|c| {
                c.args(["-c", "echo one; echo two >&2; printf three; sleep 5 & exit 3"]);
            })
            .run_lines(|line| lines.extend(line.map(str::to_owned)))
            .unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(lines[..2], ["one", "two"]);
        assert!(start.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn a_program_runs_by_way_of_another_with_its_own_environment() {
        let (_dir, ctx) = ctx();
        let cmd = Cmd::new(&ctx, "t", "sh").unwrap().set(|c| {
            c.env("INNER", "in").args(["-c", "echo $INNER $OUTER $0 $1", "a"]);
        });
        let cmd = cmd.within("env", |c| {
            c.arg("OUTER=out");
        });
        let text = cmd
            .set(|c| {
                c.arg("b");
            })
            .output()
            .unwrap();
        assert_eq!(text, "in out a b\n");
    }
}
