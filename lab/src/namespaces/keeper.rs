//! The keeper: one small process per node that starts its PID 1, waits, starts it again when it asked to reboot, and keeps what it writes
//! to the console.
//!
//! It lives in the cluster's network namespace and in a mount namespace of its own that holds the shared root. How PID 1 ended says what
//! was wanted: reboot(2) in a PID namespace kills with SIGHUP for a restart and with SIGINT for power-off. SIGTERM to the keeper stops the
//! node in order, a second one at once.

use std::{
    ffi::OsString,
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::AsFd,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use sys::{
    Signal,
    caps::Cap,
    cgroup::{Group, Layout},
    mount::{self, Propagation},
    ns::{self, Kind, Namespace},
    poll::{self, Interest},
    process::{Exit, PidFd, ProcessRef},
    signals::Signals,
    spawn::{Spawn, Stdio, inherited, output_pipe},
};

use super::{NET_FD, NODE_VERB, READY_FD};
use crate::{
    ClusterState, NodeCondition, NodeState, file,
    file::Bounded,
    state::{self, NodePaths, NodeStatus, Paths},
};

/// How much of the console is kept, and as much again of what was before.
const CONSOLE_LIMIT: u64 = 1 << 20;
/// How long the first steps of a node may take.
const SETUP_PATIENCE: Duration = Duration::from_secs(25);
/// File systems that can hold a node's /var: it must carry the upper side of overlays.
const VAR_FILESYSTEMS: [&str; 5] = ["ext4", "xfs", "btrfs", "tmpfs", "f2fs"];

type Failure = Box<dyn std::error::Error>;

/// Keeps the node named by the second argument, of the cluster in the directory named by the first.
pub fn main(args: &[OsString]) -> ExitCode {
    let mut ready = inherited(READY_FD).map(File::from);
    let mut say = |text: &str| {
        eprintln!("keeper: {text}");
        if let Some(mut ready) = ready.take() {
            let _ = ready.write_all(text.as_bytes());
        }
    };
    let [dir, node] = args else {
        say("it takes the cluster's directory and the node's name");
        return ExitCode::from(2);
    };
    match Keeper::prepare(Path::new(dir), &node.to_string_lossy()).and_then(|mut keeper| keeper.run(&mut say)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

struct Keeper {
    cluster: Paths,
    paths: NodePaths,
    node: NodeState,
    group: Group,
    signals: Signals,
    console: Bounded,
    status: NodeStatus,
    /// SIGTERMs so far.
    stops: u32,
}

/// A node's first process.
struct Running {
    init: PidFd,
    output: File,
    output_open: bool,
    since: Instant,
}

impl Keeper {
    fn prepare(dir: &Path, name: &str) -> Result<Keeper, Failure> {
        let cluster = Paths { dir: dir.to_owned() };
        let cluster_name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let state = state::load(&cluster, &cluster_name)?.ok_or("there is no state.json")?;
        let node = state.node(name)?.clone();
        let paths = cluster.node(name);
        let signals = Signals::block(&[Signal::SIGTERM])?;
        join(&state)?;
        let group = super::Namespaces::new(dir.parent().unwrap_or(Path::new("/"))).node_group(&cluster_name, name)?;
        let mut warnings = Vec::new();
        ensure_var(&paths, &mut warnings)?;
        let me = ProcessRef::this().ok_or("cannot read its own start time from /proc")?;
        let status = NodeStatus { keeper: me, init: None, starts: 0, started_ms: 0, condition: NodeCondition::Off, warnings };
        let console = Bounded::open(&paths.console(), CONSOLE_LIMIT)?;
        Ok(Keeper { cluster, paths, node, group, signals, console, status, stops: 0 })
    }

    /// Starts the node, and again as often as it asks for.
    fn run(&mut self, say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        loop {
            let mut running = match self.start() {
                Ok(running) => running,
                Err(error) => {
                    self.note(NodeCondition::Failed(error.to_string()))?;
                    return Err(error);
                }
            };
            say("ok");
            let exit = self.watch(&mut running)?;
            self.drain(&mut running);
            self.status.init = None;
            match (exit, self.stops) {
                (Exit::Signal(libc_signal::SIGHUP), 0) => self.line("reboot"),
                (Exit::Signal(libc_signal::SIGINT), _) | (_, 1..) => {
                    self.line("off");
                    return self.note(NodeCondition::Off);
                }
                (exit, _) => {
                    let why = format!("its first process ended: {exit}");
                    self.line(&why);
                    return self.note(NodeCondition::Failed(why));
                }
            }
            // A node that does nothing but reboot must not eat the host.
            if running.since.elapsed() < Duration::from_secs(2) && self.status.starts > 3 {
                let _ = poll::readable(self.signals.as_fd(), Duration::from_secs(2))?;
            }
        }
    }

    /// Starts PID 1 and waits until it has become the node's init.
    fn start(&mut self) -> Result<Running, Failure> {
        // What the last boot left: empty groups of its pods.
        self.group.kill(Duration::from_secs(20))?;
        self.group.remove(Duration::from_secs(20))?;
        self.group.create()?;
        // Host safety: root in the node may make itself a node for the host's disk, but not open it.
        if let Err(error) = self.group.deny_host_devices() {
            let warning = error.to_string();
            if !self.status.warnings.contains(&warning) {
                self.status.warnings.push(warning);
            }
        }
        if let Some(bytes) = self.node.memory {
            self.group.limit_memory(bytes)?;
        }
        if let Some(millis) = self.node.cpu_millis {
            self.group.limit_cpu(millis)?;
        }
        let (output, writer) = output_pipe()?;
        let second = writer.try_clone()?;
        let (mut report, reporter) = output_pipe()?;
        let network = Namespace::own(Kind::Net)?.as_fd().try_clone_to_owned()?;
        let child = Spawn::new("/proc/self/exe")
            .argv(["orlopctl".as_ref(), NODE_VERB.as_ref(), self.cluster.dir.as_os_str(), self.node.name.as_ref()])
            .cwd("/")
            .new_session()
            .namespaces(&[Kind::Pid, Kind::Mount, Kind::Net, Kind::Uts, Kind::Ipc])
            .cgroups(self.group.dirs())
            .stdout(Stdio::Fd(writer))
            .stderr(Stdio::Fd(second))
            .fd(reporter, READY_FD)
            .fd(network, NET_FD)
            // Host safety: whatever the node does, it cannot set the clock, load modules or touch ports of the machine.
            .drop_bounding(&[Cap::SysTime, Cap::SysModule, Cap::SysRawio])
            .death_signal(Signal::SIGKILL)
            .start()?;
        let mut running = Running { init: child.pidfd, output, output_open: true, since: Instant::now() };
        self.hear(&mut report, &mut running)?;
        self.status.init = ProcessRef::of(child.pid);
        self.status.starts += 1;
        self.status.started_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0));
        self.note(NodeCondition::Running)?;
        Ok(running)
    }

    /// An end without a word is success: the pipe closed with the execve of init.
    fn hear(&mut self, report: &mut File, running: &mut Running) -> Result<(), Failure> {
        let begin = Instant::now();
        let mut said = Vec::new();
        let mut buffer = [0u8; 4096];
        loop {
            let left = SETUP_PATIENCE.saturating_sub(begin.elapsed());
            let ready = poll::wait(&[(report.as_fd(), Interest::Read), (running.output.as_fd(), Interest::Read)], Some(left))?;
            if !ready.contains(&true) {
                running.init.signal(Signal::SIGKILL)?;
                return Err(format!("its first steps took longer than {} s", SETUP_PATIENCE.as_secs()).into());
            }
            self.drain(running);
            match report.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => said.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if said.is_empty() {
            return Ok(());
        }
        running.init.wait(Duration::from_secs(5))?;
        Err(String::from_utf8_lossy(&said).into_owned().into())
    }

    /// Waits for the end of PID 1.
    fn watch(&mut self, running: &mut Running) -> Result<Exit, Failure> {
        loop {
            let mut fds = vec![(running.init.as_fd(), Interest::Read), (self.signals.as_fd(), Interest::Read)];
            if running.output_open {
                fds.push((running.output.as_fd(), Interest::Read));
            }
            poll::wait(&fds, None)?;
            self.drain(running);
            while let Some((Signal::SIGTERM, _)) = self.signals.take()? {
                self.stops += 1;
                running.init.signal(if self.stops == 1 { Signal::SIGTERM } else { Signal::SIGKILL })?;
            }
            if let Some(exit) = running.init.try_wait()? {
                return Ok(exit);
            }
        }
    }

    /// Console output to the console file. A full disk loses output, not the node.
    fn drain(&mut self, running: &mut Running) {
        let mut buffer = [0u8; 16 * 1024];
        while running.output_open {
            match running.output.read(&mut buffer) {
                Ok(0) => running.output_open = false,
                Ok(count) => drop(self.console.append(&buffer[..count])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    running.output_open = error.kind() == ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    fn line(&mut self, text: &str) {
        let _ = self.console.append(format!("[keeper] {text}\n").as_bytes());
    }

    fn note(&mut self, condition: NodeCondition) -> Result<(), Failure> {
        self.status.condition = condition;
        Ok(file::replace_json(&self.paths.status(), &self.status)?)
    }
}

/// The numbers of signals, as patterns.
mod libc_signal {
    pub(super) const SIGHUP: i32 = 1;
    pub(super) const SIGINT: i32 = 2;
}

/// Moves into the cluster's namespaces: its network, and a copy of its mounts.
fn join(state: &ClusterState) -> Result<(), Failure> {
    let gateway = state.gateway_process.as_ref().ok_or("the cluster has no gateway")?;
    // Held open, so that the pid stays the gateway's while its namespaces are opened.
    let _pin = gateway.open().ok_or("the cluster's gateway does not run: start the cluster (cluster start)")?;
    let (network, mounts) = (Namespace::of(Kind::Net, gateway.pid)?, Namespace::of(Kind::Mount, gateway.pid)?);
    mounts.enter()?;
    ns::unshare(&[Kind::Mount])?;
    mount::propagate(Path::new("/"), Propagation::Private)?;
    network.enter()?;
    Ok(())
}

/// /var lies in the cluster's directory where the file system can carry it, else in memory that lives as long as this keeper.
fn ensure_var(paths: &NodePaths, warnings: &mut Vec<String>) -> Result<(), Failure> {
    let var = paths.var();
    let kind = mount::filesystem_of(&var)?;
    if VAR_FILESYSTEMS.contains(&kind.as_str()) {
        return Ok(());
    }
    warnings.push(format!(
        "/var is in memory and lost when the node is stopped: {} is on {kind}, which cannot carry the overlays of containers (one of {} can)",
        var.display(),
        VAR_FILESYSTEMS.join(", ")
    ));
    Ok(mount::mount("tmpfs", "tmpfs", &var, mount::Flags::NONE, "mode=755,size=50%")?)
}

/// The layout of control groups that the node is to see.
pub(super) fn layout() -> Result<Layout, Failure> {
    Ok(Layout::detect()?)
}
