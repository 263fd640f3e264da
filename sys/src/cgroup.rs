//! Control groups, with the layout as data.
//!
//! A host has either one v2 hierarchy or several v1 hierarchies (with or without an idle v2 one beside). [`Layout`] says which, and is
//! found by reading the mount table or built by a test; everything else is the same code for both. A [`Group`] is one named group in every
//! hierarchy of the layout. Nothing here mounts or changes a mount of the host.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    Error, Result,
    error::{During, show},
    mount::{Flags, MountInfo, MountPlan},
    process::{PidFd, wait_until},
};

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its controllers (`cpu`, `cpuacct`), or its name (`name=systemd`).
    pub controllers: Vec<String>,
}

/// How a host arranges its control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A hierarchy per controller or few.
    V1(Vec<Hierarchy>),
    /// The unified hierarchy.
    V2 {
        /// Where it is mounted.
        mount: PathBuf,
    },
}

/// Controllers a node wants to pass on in the unified hierarchy.
const WANTED: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

impl Layout {
    /// The layout of the mount namespace one is in.
    pub fn detect() -> Result<Layout> {
        Layout::from_mounts(&MountInfo::all()?)
    }

    /// The layout that a mount table shows. With v1 controllers present, they are the layout, and an idle v2 mount beside is left alone.
    pub fn from_mounts(mounts: &[MountInfo]) -> Result<Layout> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in mounts.iter().filter(|mount| mount.fstype == "cgroup") {
            let controllers: Vec<String> = mount
                .super_options
                .split(',')
                .filter(|option| {
                    !matches!(*option, "rw" | "ro" | "none" | "xattr" | "noprefix" | "clone_children")
                        && !option.starts_with("release_agent=")
                })
                .map(str::to_owned)
                .collect();
            let known = hierarchies.iter().any(|known| known.controllers == controllers);
            if !known && !controllers.is_empty() {
                hierarchies.push(Hierarchy { mount: mount.target.clone(), controllers });
            }
        }
        if !hierarchies.is_empty() {
            return Ok(Layout::V1(hierarchies));
        }
        match mounts.iter().find(|mount| mount.fstype == "cgroup2") {
            Some(mount) => Ok(Layout::V2 { mount: mount.target.clone() }),
            None => Err(Error::Missing { feature: "a mounted cgroup hierarchy", hint: "mount cgroup2 on /sys/fs/cgroup".into() }),
        }
    }

    /// The group `path` (relative, such as `orlop/demo/node1`) in every hierarchy.
    pub fn group(&self, path: impl AsRef<Path>) -> Group {
        let path = path.as_ref();
        Group { layout: self.clone(), path: path.strip_prefix("/").unwrap_or(path).to_owned() }
    }

    /// True for the unified hierarchy.
    pub fn is_unified(&self) -> bool {
        matches!(self, Layout::V2 { .. })
    }

    /// Where the hierarchies are mounted.
    pub fn mounts(&self) -> Vec<&Path> {
        match self {
            Layout::V1(hierarchies) => hierarchies.iter().map(|hierarchy| hierarchy.mount.as_path()).collect(),
            Layout::V2 { mount } => vec![mount],
        }
    }

    /// The mounts that show this layout at `/sys/fs/cgroup` of a new root. In a cgroup namespace its own group appears as the root.
    pub fn mount_plan(&self) -> MountPlan {
        let base = Path::new("/sys/fs/cgroup");
        match self {
            Layout::V2 { .. } => MountPlan::new().mount("cgroup2", base, Flags::DATA, ""),
            Layout::V1(hierarchies) => {
                let mut plan = MountPlan::new().mount("tmpfs", base, Flags::DATA, "mode=755,size=1m");
                for hierarchy in hierarchies {
                    let controllers = hierarchy.controllers.join(",");
                    let name = controllers.trim_start_matches("name=").to_owned();
                    let data = if controllers.starts_with("name=") { format!("none,{controllers}") } else { controllers.clone() };
                    let target = base.join(&name);
                    plan = plan.dir(&target, 0o755).mount("cgroup", &target, Flags::DATA, data);
                    // Programs look for a co-mounted controller under its single name too.
                    if hierarchy.controllers.len() > 1 {
                        for controller in &hierarchy.controllers {
                            plan = plan.symlink(base.join(controller), &name);
                        }
                    }
                }
                // Nothing else is to be put there.
                plan
            }
        }
    }

    /// Where the root of this layout is a group that processes are in while it should have children with controllers (v2 forbids that):
    /// moves them to the child `leaf` and passes the controllers on. Does nothing on v1.
    pub fn make_room(&self, leaf: &str) -> Result<()> {
        let Layout::V2 { mount } = self else { return Ok(()) };
        let dir = mount.join(leaf);
        make(&dir)?;
        for pid in pids_in(mount) {
            match fs::write(dir.join("cgroup.procs"), pid.to_string()) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    return Err(Error::Os { what: format!("move process {pid} to {}", show(&dir)), source: error });
                }
                _ => {}
            }
        }
        pass_on(mount)
    }
}

/// One group in every hierarchy of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    layout: Layout,
    path: PathBuf,
}

impl Group {
    /// Its path in each hierarchy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The group `name` below.
    pub fn child(&self, name: impl AsRef<Path>) -> Group {
        Group { layout: self.layout.clone(), path: self.path.join(name) }
    }

    /// Its directory in each hierarchy.
    pub fn dirs(&self) -> Vec<PathBuf> {
        self.layout.mounts().iter().map(|mount| mount.join(&self.path)).collect()
    }

    /// True when it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.dirs().iter().any(|dir| dir.is_dir())
    }

    /// Makes it, with its parents, ready to take processes. May be called again.
    pub fn create(&self) -> Result<()> {
        for mount in self.layout.mounts() {
            let mut dir = mount.to_owned();
            for part in &self.path {
                if self.layout.is_unified() {
                    pass_on(&dir)?;
                }
                let parent = dir.clone();
                dir.push(part);
                make(&dir)?;
                self.fill_cpuset(&parent, &dir)?;
            }
        }
        Ok(())
    }

    /// A new v1 cpuset is empty, and an empty one takes no process: it starts as its parent is.
    fn fill_cpuset(&self, parent: &Path, dir: &Path) -> Result<()> {
        let Layout::V1(hierarchies) = &self.layout else { return Ok(()) };
        let is_cpuset = |hierarchy: &Hierarchy| {
            hierarchy.controllers.iter().any(|controller| controller == "cpuset") && dir.starts_with(&hierarchy.mount)
        };
        if !hierarchies.iter().any(is_cpuset) {
            return Ok(());
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = dir.join(file);
            if fs::read_to_string(&own).is_ok_and(|value| !value.trim().is_empty()) {
                continue;
            }
            let from = parent.join(file);
            let value = fs::read_to_string(&from).during(|| format!("read {}", show(&from)))?;
            fs::write(&own, value.trim()).during(|| format!("write {}", show(&own)))?;
        }
        Ok(())
    }

    /// Moves a process into it, in every hierarchy. 0 means the caller.
    pub fn add(&self, pid: i32) -> Result<()> {
        for dir in self.dirs() {
            let procs = dir.join("cgroup.procs");
            fs::write(&procs, pid.to_string()).during(|| format!("move process {pid} into {}", show(&dir)))?;
        }
        Ok(())
    }

    /// Forbids the host's disks, and writing to its kernel log, to everything in it.
    pub fn deny_host_devices(&self) -> Result<()> {
        crate::device::deny_host_devices(&self.layout, &self.path)
    }

    /// Limits its memory, in bytes.
    pub fn limit_memory(&self, bytes: u64) -> Result<()> {
        let file = match &self.layout {
            Layout::V2 { mount } => mount.join(&self.path).join("memory.max"),
            Layout::V1(hierarchies) => {
                let memory = hierarchies.iter().find(|hierarchy| hierarchy.controllers.iter().any(|controller| controller == "memory"));
                let Some(memory) = memory else {
                    return Err(Error::Missing {
                        feature: "the memory controller",
                        hint: "mount it, or leave the memory limit out".into(),
                    });
                };
                memory.mount.join(&self.path).join("memory.limit_in_bytes")
            }
        };
        fs::write(&file, bytes.to_string()).during(|| format!("limit memory by {}", show(&file)))
    }

    /// Limits its processor time, in thousandths of a processor.
    pub fn limit_cpu(&self, millis: u64) -> Result<()> {
        const PERIOD_US: u64 = 100_000;
        let quota = millis * PERIOD_US / 1000;
        let (file, text) = match &self.layout {
            Layout::V2 { mount } => (mount.join(&self.path).join("cpu.max"), format!("{quota} {PERIOD_US}")),
            Layout::V1(hierarchies) => {
                let cpu = hierarchies.iter().find(|hierarchy| hierarchy.controllers.iter().any(|controller| controller == "cpu"));
                let Some(cpu) = cpu else {
                    return Err(Error::Missing {
                        feature: "the cpu controller",
                        hint: "mount it, or leave the processor limit out".into(),
                    });
                };
                (cpu.mount.join(&self.path).join("cpu.cfs_quota_us"), quota.to_string())
            }
        };
        fs::write(&file, text).during(|| format!("limit processor time by {}", show(&file)))
    }

    /// The processes in it and below, in any hierarchy, as pids of the caller's PID namespace.
    pub fn processes(&self) -> BTreeSet<i32> {
        self.dirs().iter().flat_map(|dir| tree(dir)).flat_map(|dir| pids_in(&dir)).collect()
    }

    /// Kills every process in it and below, and waits until none is left.
    pub fn kill(&self, timeout: Duration) -> Result<()> {
        wait_until(&format!("kill all processes in the control group {}", show(&self.path)), timeout, || {
            if self.layout.is_unified() {
                for dir in self.dirs() {
                    // Linux 5.14 and newer; below, one by one.
                    let _ = fs::write(dir.join("cgroup.kill"), "1");
                }
            }
            let left = self.processes();
            for pid in &left {
                // Opened first and looked up again, so that a pid that was reused meanwhile is not hit.
                if let Ok(pidfd) = PidFd::open(*pid)
                    && self.processes_contain(*pid)
                {
                    let _ = pidfd.signal(Signal::SIGKILL);
                }
            }
            left.is_empty()
        })
    }

    /// True when `/proc/PID/cgroup` shows the process in this group or below. Seen from the hierarchy's mount: paths are relative to its
    /// root.
    fn processes_contain(&self, pid: i32) -> bool {
        let own = format!("/{}", show(&self.path));
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
        text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| {
            // The mount may itself be of a subtree (in a container), so the group's path may come after a prefix.
            path.strip_suffix(&own).is_some() || path.contains(&format!("{own}/"))
        })
    }

    /// Removes it and all below, waiting for dying processes to leave. Does nothing when it is not there.
    pub fn remove(&self, timeout: Duration) -> Result<()> {
        let mut last: Option<(PathBuf, io::Error)> = None;
        let gone = wait_until(&format!("remove the control group {}", show(&self.path)), timeout, || {
            last = None;
            for dir in self.dirs().iter().flat_map(|dir| tree(dir)) {
                match fs::remove_dir(&dir) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => last = Some((dir, error)),
                }
            }
            last.is_none()
        });
        match (gone, last) {
            (Err(_), Some((dir, source))) => {
                let inside = pids_in(&dir).iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
                Err(Error::Os { what: format!("remove the control group {} (processes in it: {inside})", show(&dir)), source })
            }
            (gone, _) => gone,
        }
    }
}

fn make(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::Os { what: format!("make the control group {}", show(dir)), source: error })
        }
        _ => Ok(()),
    }
}

/// Lets children of `dir` have the controllers that `dir` itself has.
fn pass_on(dir: &Path) -> Result<()> {
    let words = |file: &str| -> Vec<String> {
        fs::read_to_string(dir.join(file)).map(|text| text.split_ascii_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    };
    let present = words("cgroup.subtree_control");
    let missing: Vec<String> = words("cgroup.controllers")
        .into_iter()
        .filter(|name| WANTED.contains(&name.as_str()) && !present.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let path = dir.join("cgroup.subtree_control");
    if fs::write(&path, missing.join(" ")).is_ok() {
        return Ok(());
    }
    // One that cannot be passed on (cpu, with real-time processes about) must not cost the others.
    let failures: Vec<io::Error> = missing.iter().filter_map(|one| fs::write(&path, one).err()).collect();
    match failures.into_iter().next_back() {
        Some(source) if source.raw_os_error() == Some(libc::EBUSY) => {
            let what = format!(
                "pass controllers on through {} (it has processes of its own, {:?}, which v2 does not allow)",
                show(&path),
                pids_in(dir)
            );
            Err(Error::Os { what, source })
        }
        Some(source) if words("cgroup.subtree_control").is_empty() => {
            Err(Error::Os { what: format!("pass controllers on through {}", show(&path)), source })
        }
        _ => Ok(()),
    }
}

/// A directory and all below it, children first.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut all: Vec<PathBuf> =
        entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).flat_map(|entry| tree(&entry.path())).collect();
    all.push(dir.to_owned());
    all
}

fn pids_in(dir: &Path) -> Vec<i32> {
    fs::read_to_string(dir.join("cgroup.procs"))
        .map(|text| text.lines().filter_map(|line| line.trim().parse().ok()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mount::Step, spawn::Spawn};

    fn mounts(lines: &str) -> Vec<MountInfo> {
        MountInfo::parse(lines)
    }

    const HYBRID: &str = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn both_layouts_are_recognised() {
        let Layout::V1(hierarchies) = Layout::from_mounts(&mounts(HYBRID)).unwrap() else { panic!("v1 expected") };
        let names: Vec<String> = hierarchies.iter().map(|hierarchy| hierarchy.controllers.join("+")).collect();
        assert_eq!(names, ["cpu+cpuacct", "cpuset", "name=systemd"]);

        let unified = mounts("30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!(Layout::from_mounts(&unified).unwrap(), Layout::V2 { mount: "/sys/fs/cgroup".into() });

        let error = Layout::from_mounts(&mounts("1 0 8:1 / / rw - ext4 /dev/sda rw\n")).unwrap_err();
        assert!(error.to_string().contains("mount cgroup2"), "{error}");
    }

    #[test]
    fn a_v1_group_is_made_everywhere_with_its_cpuset_filled_from_the_top() {
        let host = tempfile::tempdir().unwrap();
        let hierarchies: Vec<Hierarchy> = ["cpuset", "memory"]
            .iter()
            .map(|name| Hierarchy { mount: host.path().join(name), controllers: vec![(*name).to_owned()] })
            .collect();
        for hierarchy in &hierarchies {
            fs::create_dir(&hierarchy.mount).unwrap();
        }
        fs::write(host.path().join("cpuset/cpuset.cpus"), "0-3\n").unwrap();
        fs::write(host.path().join("cpuset/cpuset.mems"), "0\n").unwrap();
        let layout = Layout::V1(hierarchies);
        layout.group("orlop/demo/node").create().unwrap();
        for level in ["orlop", "orlop/demo", "orlop/demo/node"] {
            let dir = host.path().join("cpuset").join(level);
            assert_eq!(fs::read_to_string(dir.join("cpuset.cpus")).unwrap(), "0-3", "{level}");
            assert_eq!(fs::read_to_string(dir.join("cpuset.mems")).unwrap(), "0", "{level}");
        }
        assert!(host.path().join("memory/orlop/demo/node").is_dir());
        assert!(!host.path().join("memory/orlop/cpuset.cpus").exists());

        // A narrower set that somebody chose stays.
        fs::write(host.path().join("cpuset/orlop/demo/cpuset.cpus"), "1").unwrap();
        layout.group("orlop/demo/second").create().unwrap();
        assert_eq!(fs::read_to_string(host.path().join("cpuset/orlop/demo/second/cpuset.cpus")).unwrap(), "1");
    }

    #[test]
    fn a_v2_group_gets_its_controllers_from_each_ancestor() {
        let host = tempfile::tempdir().unwrap();
        let mount = host.path().to_owned();
        let layout = Layout::V2 { mount: mount.clone() };
        let group = layout.group("orlop/node");
        fs::write(mount.join("cgroup.controllers"), "cpuset cpu io memory rdma pids misc\n").unwrap();
        fs::write(mount.join("cgroup.subtree_control"), "memory pids\n").unwrap();
        fs::create_dir(mount.join("orlop")).unwrap();
        fs::write(mount.join("orlop/cgroup.controllers"), "memory pids\n").unwrap();
        group.create().unwrap();
        assert_eq!(fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap(), "+cpuset +cpu +io");
        assert_eq!(fs::read_to_string(mount.join("orlop/cgroup.subtree_control")).unwrap(), "+memory +pids");
        // The leaf passes nothing on: processes are to live in it.
        assert!(!mount.join("orlop/node/cgroup.subtree_control").exists());
        group.limit_memory(1 << 30).unwrap();
        assert_eq!(fs::read_to_string(mount.join("orlop/node/memory.max")).unwrap(), "1073741824");
        group.limit_cpu(1500).unwrap();
        assert_eq!(fs::read_to_string(mount.join("orlop/node/cpu.max")).unwrap(), "150000 100000");
    }

    #[test]
    fn the_node_sees_the_same_layout() {
        let plan = Layout::from_mounts(&mounts(HYBRID)).unwrap().mount_plan();
        let data: Vec<(String, String)> = plan
            .steps()
            .iter()
            .filter_map(|step| match step {
                Step::Mount { fstype, data, target, .. } if fstype == "cgroup" => Some((show(target).to_string(), data.clone())),
                _ => None,
            })
            .collect();
        let expected = [("cpu,cpuacct", "cpu,cpuacct"), ("cpuset", "cpuset"), ("systemd", "none,name=systemd")];
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, data)| (format!("/sys/fs/cgroup/{name}"), (*data).to_owned())).collect();
        assert_eq!(data, expected);
        assert!(plan.steps().contains(&Step::Symlink { path: "/sys/fs/cgroup/cpu".into(), to: "cpu,cpuacct".into() }));
        assert!(!plan.steps().iter().any(|step| matches!(step, Step::Mount { fstype, .. } if fstype == "cgroup2")));
    }

    fn real_layouts() -> Vec<Layout> {
        let all = MountInfo::all().unwrap();
        let v1 = Layout::from_mounts(&all).ok();
        let v2 = all.iter().find(|mount| mount.fstype == "cgroup2").map(|mount| Layout::V2 { mount: mount.target.clone() });
        v1.into_iter().chain(v2).collect()
    }

    #[test]
    fn a_process_starts_in_its_group_is_killed_there_and_the_group_goes() {
        if !crate::host::is_root() {
            eprintln!("skipped: needs root to make control groups");
            return;
        }
        for (index, layout) in real_layouts().into_iter().enumerate() {
            let group = layout.group(format!("orlop-test-{}-{index}/inner", std::process::id()));
            if let Err(error) = group.create() {
                eprintln!("skipped: {layout:?}: {error}");
                continue;
            }
            let child = Spawn::new("/bin/sleep").arg("60").cgroups(group.dirs()).start().unwrap();
            assert_eq!(group.processes(), BTreeSet::from([child.pid]), "{layout:?}");
            let parent = layout.group(group.path().parent().unwrap());
            // Reaped by a thread, since `kill` waits until the process is gone from the group.
            let waiter = std::thread::spawn(move || child.wait(Duration::from_secs(10)).unwrap());
            parent.kill(Duration::from_secs(10)).unwrap();
            assert_eq!(waiter.join().unwrap(), Some(crate::process::Exit::Signal(9)));
            parent.remove(Duration::from_secs(10)).unwrap();
            assert!(!parent.exists() && !group.exists());
        }
    }
}
