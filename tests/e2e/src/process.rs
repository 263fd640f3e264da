//! Processes of a node, found from the host by their descent from the node's PID 1.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::eventually;

/// A process as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id on the host.
    pub pid: i32,
    /// The file name part of its argv[0].
    pub name: String,
    parent: i32,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let first = String::from_utf8_lossy(command.split(|b| *b == 0).next()?).into_owned();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:"))?.trim().parse().ok()?;
        let name = Path::new(&first).file_name()?.to_string_lossy().into_owned();
        Some(Self { pid, name, parent })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.pid), signal).with_context(|| format!("{signal} to {} ({})", self.name, self.pid))
    }
}

/// All descendants of a node's PID 1.
pub fn of_node(init: i32) -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok).filter_map(|e| e.file_name().to_str()?.parse().ok());
    let all: BTreeMap<i32, Process> = pids.filter_map(|pid| Some((pid, Process::read(pid)?))).collect();
    let descends = |process: &Process| {
        let mut at = process.parent;
        while at != init {
            match all.get(&at) {
                Some(parent) if parent.parent != at => at = parent.parent,
                _ => return false,
            }
        }
        true
    };
    all.values().filter(|process| descends(process)).cloned().collect()
}

/// The one process of that name on the node, once it is there.
pub fn find(init: i32, name: &str) -> anyhow::Result<Process> {
    eventually(&format!("a process {name} below {init}"), Duration::from_secs(30), || {
        let mut found = of_node(init).into_iter().filter(|p| p.name == name);
        found.next().with_context(|| format!("no process {name} among the descendants of {init}"))
    })
}
