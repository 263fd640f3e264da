//! What of the host must be the same after a cluster as before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::ClockId;

/// A picture of the host. What may differ by itself (counters, the clock, processes of others) is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    sysctls: BTreeMap<PathBuf, String>,
    ruleset: String,
    ours: BTreeSet<String>,
    disks: BTreeMap<String, u64>,
    clock: Duration,
}

/// By how much the wall clock may run away from the steady one by itself between two pictures: time daemons slew it.
const CLOCK_SLACK: Duration = Duration::from_millis(500);
/// The whole of a disk that nobody uses is looked at, up to this many bytes.
const MOST_OF_A_DISK: u64 = 256 << 20;

/// Kernel settings that the kernel itself changes.
const MOVING: &[&str] = &[
    "random/",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode",
    "fs/aio-nr",
    "fs/quota",
    "kernel/ns_last_pid",
    "pty/nr",
    "net/netfilter/nf_conntrack_count",
];

impl Host {
    /// Takes the picture.
    pub fn look(state: &Path) -> Self {
        let mut cgroups = BTreeSet::new();
        directories(Path::new("/sys/fs/cgroup"), &mut cgroups, 6);
        // Other programs of the host make and remove control groups as well.
        cgroups.retain(|path| path.components().any(|c| c.as_os_str() == "orlop"));
        let mut sysctls = BTreeMap::new();
        values(Path::new("/proc/sys"), &mut sysctls);
        let names = |dir: &str| {
            fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        };
        let ruleset =
            std::process::Command::new("nft").args(["list", "ruleset"]).output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        Self {
            mounts: fs::read_to_string("/proc/self/mounts").unwrap_or_default().lines().map(str::to_owned).collect(),
            links: names("/sys/class/net"),
            cgroups,
            sysctls,
            ruleset: ruleset.unwrap_or_default(),
            ours: processes(state),
            disks: disks(),
            clock: clock(),
        }
    }

    /// What differs from an earlier picture, for people; empty when nothing does.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut sets = |what: &str, now: &BTreeSet<String>, then: &BTreeSet<String>| {
            found.extend(now.difference(then).map(|x| format!("{what} left behind: {x}")));
            found.extend(then.difference(now).map(|x| format!("{what} gone: {x}")));
        };
        sets("mount", &self.mounts, &before.mounts);
        sets("link", &self.links, &before.links);
        sets("process", &self.ours, &before.ours);
        let paths = |set: &BTreeSet<PathBuf>| set.iter().map(|p| p.display().to_string()).collect();
        sets("cgroup", &paths(&self.cgroups), &paths(&before.cgroups));
        for (path, value) in &self.sysctls {
            if let Some(then) = before.sysctls.get(path).filter(|then| *then != value) {
                found.push(format!("sysctl {} changed from {then:?} to {value:?}", path.display()));
            }
        }
        for (disk, sum) in &self.disks {
            if before.disks.get(disk).is_some_and(|then| then != sum) {
                found.push(format!("{disk} was written to"));
            }
        }
        if self.clock.abs_diff(before.clock) > CLOCK_SLACK {
            found.push(format!("the clock was set by {} ms", self.clock.abs_diff(before.clock).as_millis()));
        }
        if self.ruleset != before.ruleset {
            found.push("the nftables rules changed".into());
        }
        found
    }
}

/// How far the wall clock is ahead of the time since boot.
fn clock() -> Duration {
    let now = |clock: ClockId| clock.now().map(Duration::from).unwrap_or_default();
    now(ClockId::CLOCK_REALTIME).saturating_sub(now(ClockId::CLOCK_BOOTTIME))
}

/// A sum over each disk: over all of one that nobody has open, over the boot sector alone (with the partition table) of one in use.
fn disks() -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("/dev/{name}");
        // The kernel opens a disk exclusively only when no file system or mapping does.
        let unused = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_EXCL).open(&path).is_ok();
        let Ok(disk) = fs::File::open(&path) else { continue };
        let mut bytes = Vec::new();
        if disk.take(if unused { MOST_OF_A_DISK } else { 1024 }).read_to_end(&mut bytes).is_ok() {
            let mut sum = std::hash::DefaultHasher::new();
            bytes.hash(&mut sum);
            found.insert(path, sum.finish());
        }
    }
    found
}

fn directories(path: &Path, into: &mut BTreeSet<PathBuf>, depth: usize) {
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            into.insert(entry.path());
            directories(&entry.path(), into, depth - 1);
        }
    }
}

fn values(path: &Path, into: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if MOVING.iter().any(|moving| path.to_string_lossy().contains(moving)) {
            continue;
        }
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            values(&path, into);
        } else if let Ok(value) = fs::read_to_string(&path) {
            into.insert(path, value.trim().to_owned());
        }
    }
}

/// Every process directory with its number.
fn pids() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path())))
}

/// Processes that belong to clusters below the state directory: by what they run, or where their root is.
fn processes(state: &Path) -> BTreeSet<String> {
    let state = state.display().to_string();
    let own = std::process::id();
    let command = |path: &Path| fs::read(path.join("cmdline")).map(|b| String::from_utf8_lossy(&b).replace('\0', " ")).unwrap_or_default();
    pids()
        .filter(|(pid, _)| *pid != own)
        .map(|(pid, path)| (pid, command(&path), fs::read_to_string(path.join("environ")).unwrap_or_default()))
        .filter(|(_, command, environment)| command.contains(&state) || environment.contains(&state))
        .map(|(pid, command, _)| format!("{pid} {command}"))
        .collect()
}
