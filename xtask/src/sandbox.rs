//! A node's container runtime on its own: the root image, the image cache and the payload's containerd in
//! mount, PID, network and cgroup namespaces, with the configuration that nodes use, and a client that
//! asks it for things. Used to prove the image cache and to make the containerd seed.
//!
//! On the host it makes one cgroup per hierarchy, by its own name, and removes them. It mounts nothing
//! there: all mounts are made inside and go with the namespaces.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::{Pid, chroot},
};
use serde::{Deserialize, Serialize};

use crate::{
    cmd::Cmd,
    ctx::{Ctx, say},
    registry,
};

/// What to set up and what to ask.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The root image.
    pub(crate) root: PathBuf,
    /// The image cache.
    pub(crate) image_cache: PathBuf,
    /// containerd finds layers in the image cache; otherwise that part of it is hidden.
    pub(crate) layers: bool,
    /// The image cache is served over HTTP, as on a node.
    pub(crate) registry: bool,
    /// containerd's configuration and its registries'.
    pub(crate) config: PathBuf,
    /// The node's /var, which stays.
    pub(crate) var: PathBuf,
    /// The client and its arguments.
    pub(crate) client: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// What the client printed.
    pub(crate) output: String,
    /// From containerd's start to its first answer.
    pub(crate) ready_ms: u128,
    /// Bytes of blobs that the registry sent.
    pub(crate) sent_bytes: u64,
}

/// Runs a job in namespaces of its own; `dir` is for its files and is removed afterwards.
pub(crate) fn run(job: &Job, dir: &Path) -> Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        bail!("this makes namespaces and cgroups; run it as root");
    }
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("rootfs")).with_context(|| format!("making {}", dir.display()))?;
    fs::write(dir.join("job.json"), serde_json::to_vec(job)?).context("writing the job")?;
    let name = format!("orlop-sandbox-{}", std::process::id());
    let cgroups = Cgroups::make(&name)?;
    let result = enter(dir, &name);
    cgroups.remove();
    let log = fs::read_to_string(dir.join("containerd.log")).unwrap_or_default();
    let outcome = result
        .and_then(|()| Ok(serde_json::from_slice(&fs::read(dir.join("outcome.json"))?)?))
        .with_context(|| format!("in the sandbox; containerd's last words:\n{}", tail(&log, 12)));
    fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    outcome
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Runs this program again as PID 1 of new namespaces.
fn enter(dir: &Path, name: &str) -> Result<()> {
    let me = env::current_exe().context("finding this program")?;
    let status = Command::new("unshare")
        .args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "private", "--"])
        .arg(me)
        .args(["sandbox-inside", name])
        .arg(dir)
        .stdin(Stdio::null())
        .status()
        .context("starting unshare; `make setup` installs util-linux")?;
    if !status.success() {
        bail!("the inside failed ({status})");
    }
    Ok(())
}

/// The inside of the namespaces.
pub(crate) fn inside(ctx: &Ctx, name: &str, dir: &Path) -> Result<()> {
    let job: Job = serde_json::from_slice(&fs::read(dir.join("job.json"))?).context("reading the job")?;
    Cgroups::enter(name)?;
    Cmd::new(ctx, "ip-lo", "ip")?
        .set(|c| {
            c.args(["link", "set", "lo", "up"]);
        })
        .run()?;
    let log = File::create(dir.join("containerd.log")).context("making containerd's log")?;
    let outcome = File::create(dir.join("outcome.json")).context("making the outcome's file")?;
    let rootfs = dir.join("rootfs");
    furnish(&job, &rootfs)?;
    chroot(&rootfs).context("entering the root image")?;
    env::set_current_dir("/").context("entering the root image")?;

    let sent = registry::Sent::default();
    if job.registry {
        let listener = TcpListener::bind("127.0.0.1:3172").context("listening as the node's registry")?;
        let sent = sent.clone();
        std::thread::spawn(move || registry::run(&listener, Path::new("/system/imagecache"), &sent));
    }
    let start = Instant::now();
    let mut containerd = Command::new("/usr/bin/containerd")
        .args(["--config", "/run/config.toml"])
        .env_clear()
        .env("PATH", "/usr/bin:/usr/sbin")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting containerd")?;
    wait_for(Path::new("/run/containerd/containerd.sock"), &mut containerd)?;
    let ready_ms = start.elapsed().as_millis();

    let client = Command::new("/run/client")
        .args(&job.arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting the client")?;
    // Asked to stop, containerd closes its databases; the time limit is for one that does not.
    if let Ok(pid) = i32::try_from(containerd.id()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    wait_for_end(&mut containerd)?;
    if !client.status.success() {
        bail!("the client failed ({}); it printed:\n{}", client.status, String::from_utf8_lossy(&client.stdout));
    }
    let found = Outcome { output: String::from_utf8_lossy(&client.stdout).into_owned(), ready_ms, sent_bytes: sent.bytes() };
    serde_json::to_writer(outcome, &found).context("writing the outcome")
}

/// Puts everything where a node has it.
fn furnish(job: &Job, rootfs: &Path) -> Result<()> {
    let none = None::<&str>;
    let at = |path: &str| rootfs.join(path);
    let attach = |from: &Path, to: &Path, flags: MsFlags| {
        mount(Some(from), to, none, MsFlags::MS_BIND | flags, none)
            .with_context(|| format!("binding {} at {}", from.display(), to.display()))
    };
    mount(Some(&job.root), rootfs, Some("erofs"), MsFlags::MS_RDONLY, none).context("mounting the root image")?;
    for path in ["run", "tmp", "system", "etc/cri/conf.d"] {
        mount(Some("tmpfs"), &at(path), Some("tmpfs"), MsFlags::empty(), none).with_context(|| format!("mounting a tmpfs on {path}"))?;
    }
    attach(&job.var, &at("var"), MsFlags::empty())?;
    attach(Path::new("/dev"), &at("dev"), MsFlags::MS_REC)?;
    attach(Path::new("/sys"), &at("sys"), MsFlags::MS_REC)?;
    mount(Some("proc"), &at("proc"), Some("proc"), MsFlags::empty(), none).context("mounting /proc")?;
    let cache = at("system/imagecache");
    fs::create_dir(&cache).context("making the mount point of the image cache")?;
    attach(&job.image_cache, &cache, MsFlags::empty())?;
    if !job.layers {
        mount(Some("tmpfs"), &cache.join("erofs"), Some("tmpfs"), MsFlags::empty(), none).context("hiding the layers")?;
    }
    let client = at("run/client");
    File::create(&client).context("making a place for the client")?;
    attach(&job.client, &client, MsFlags::empty())?;

    let config = fs::read_to_string(job.config.join("config.toml")).context("reading containerd's configuration")?;
    fs::write(at("run/config.toml"), without_privileges(&config)?).context("writing containerd's configuration")?;
    let hosts = at("etc/cri/conf.d/hosts/_default");
    fs::create_dir_all(&hosts).context("making the directory of registries")?;
    fs::copy(job.config.join("hosts/_default/hosts.toml"), hosts.join("hosts.toml")).context("writing the registries")?;
    Ok(())
}

/// The node's configuration as on a machine that may not lower its OOM scores.
fn without_privileges(config: &str) -> Result<String> {
    let mut changed = config.to_owned();
    for (from, to) in [("oom_score = -999", "oom_score = 0"), ("restrict_oom_score_adj = false", "restrict_oom_score_adj = true")] {
        if !changed.contains(from) {
            bail!("containerd's configuration no longer says `{from}`, which nodes replace too");
        }
        changed = changed.replace(from, to);
    }
    Ok(changed)
}

fn wait_for(socket: &Path, containerd: &mut Child) -> Result<()> {
    let start = Instant::now();
    // The file is there before containerd listens on it: connecting is the test.
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        if let Some(status) = containerd.try_wait().context("waiting for containerd")? {
            bail!("containerd ended ({status})");
        }
        if start.elapsed() > Duration::from_secs(60) {
            bail!("containerd does not listen on {} after 60 s", socket.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn wait_for_end(containerd: &mut Child) -> Result<()> {
    let start = Instant::now();
    while containerd.try_wait().context("waiting for containerd")?.is_none() {
        if start.elapsed() > Duration::from_secs(20) {
            bail!("containerd did not stop within 20 s");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A cgroup in each hierarchy of the host, and a view in which they are the roots.
struct Cgroups {
    made: Vec<PathBuf>,
}

const CGROUPS: &str = "/sys/fs/cgroup";

impl Cgroups {
    fn make(name: &str) -> Result<Self> {
        let mut cgroups = Self { made: Vec::new() };
        for hierarchy in hierarchies()? {
            if let Err(error) = cgroups.make_one(&hierarchy, name) {
                cgroups.remove();
                return Err(error);
            }
        }
        Ok(cgroups)
    }

    fn make_one(&mut self, hierarchy: &Hierarchy, name: &str) -> Result<()> {
        let dir = hierarchy.path.join(name);
        fs::create_dir(&dir).with_context(|| format!("making the cgroup {}", dir.display()))?;
        self.made.push(dir.clone());
        if hierarchy.options.contains("cpuset") {
            // Empty in a new cgroup, and then nothing can be moved into it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let value = fs::read(hierarchy.path.join(file)).with_context(|| format!("reading {file}"))?;
                fs::write(dir.join(file), value).with_context(|| format!("filling {file}"))?;
            }
        }
        Ok(())
    }

    /// Moves this process in, and mounts each hierarchy anew where it is looked for.
    fn enter(name: &str) -> Result<()> {
        let all = hierarchies()?;
        for hierarchy in &all {
            let procs = hierarchy.path.join(name).join("cgroup.procs");
            fs::write(&procs, "0").with_context(|| format!("moving into {}", procs.display()))?;
        }
        unshare(CloneFlags::CLONE_NEWCGROUP).context("making a cgroup namespace")?;
        // A single version-2 hierarchy is mounted over itself; otherwise each below a tmpfs.
        if all.iter().any(|hierarchy| hierarchy.path != Path::new(CGROUPS)) {
            mount(Some("tmpfs"), CGROUPS, Some("tmpfs"), MsFlags::empty(), None::<&str>).context("mounting a tmpfs for cgroups")?;
        }
        for hierarchy in &all {
            fs::create_dir_all(&hierarchy.path).with_context(|| format!("making {}", hierarchy.path.display()))?;
            let options = Some(hierarchy.options.as_str()).filter(|options| !options.is_empty());
            mount(Some("cgroup"), &hierarchy.path, Some(hierarchy.kind.as_str()), MsFlags::empty(), options)
                .with_context(|| format!("mounting {}", hierarchy.path.display()))?;
        }
        Ok(())
    }

    /// Removes them, inner ones first. The processes in them are gone or going.
    fn remove(self) {
        for dir in &self.made {
            let start = Instant::now();
            while remove_cgroup(dir).is_err() && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(20));
            }
            if dir.exists() {
                say(format!("could not remove the cgroup {}", dir.display()));
            }
        }
    }
}

fn remove_cgroup(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    path: PathBuf,
    kind: String,
    options: String,
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    Ok(parse_hierarchies(&fs::read_to_string("/proc/self/mounts").context("reading the mounts")?))
}

/// The cgroup mounts out of /proc/self/mounts. Beside version-1 controllers, an (empty) version-2
/// hierarchy is left alone.
fn parse_hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mounts.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [_, path, kind, options, ..] = words[..] else { continue };
        if !matches!(kind, "cgroup" | "cgroup2") || !path.starts_with(CGROUPS) {
            continue;
        }
        let general = ["rw", "ro", "nosuid", "nodev", "noexec", "relatime"];
        let own: Vec<_> = options.split(',').filter(|option| !general.contains(option)).collect();
        // A named hierarchy has no controller, which must be said when mounting it.
        let named = kind == "cgroup" && own.iter().any(|option| option.starts_with("name="));
        let options = if named { format!("none,{}", own.join(",")) } else { own.join(",") };
        found.push(Hierarchy { path: path.into(), kind: kind.into(), options });
    }
    if found.iter().any(|hierarchy| hierarchy.kind == "cgroup") {
        found.retain(|hierarchy| hierarchy.kind == "cgroup");
    } else {
        found.iter_mut().for_each(|hierarchy| hierarchy.options.clear());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_of_cgroups_are_read() {
        let v1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
            cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let found = parse_hierarchies(v1);
        assert_eq!(found.iter().map(|h| h.options.as_str()).collect::<Vec<_>>(), ["cpu", "none,name=systemd"]);
        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n";
        let found = parse_hierarchies(v2);
        assert_eq!(found, [Hierarchy { path: CGROUPS.into(), kind: "cgroup2".into(), options: String::new() }]);
    }

    #[test]
    fn the_committed_configuration_has_the_values_that_nodes_replace() {
        let ctx = Ctx::new().unwrap();
        let config = fs::read_to_string(ctx.payload().join("containerd/config.toml")).unwrap();
        let changed = without_privileges(&config).unwrap();
        assert!(changed.contains("restrict_oom_score_adj = true") && changed.contains("oom_score = 0"));
        assert!(without_privileges("").is_err());
    }
}
