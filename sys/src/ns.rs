//! Namespaces: entering, leaving, naming.

use std::{
    fs::{self, File},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::sched::{self, CloneFlags};

use crate::{Error, Result, error::During};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Mounts.
    Mount,
    /// Process ids.
    Pid,
    /// The network.
    Net,
    /// Host name.
    Uts,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// The view of control groups.
    Cgroup,
}

impl Kind {
    /// The flag of clone(2), unshare(2) and setns(2).
    pub fn flag(self) -> CloneFlags {
        match self {
            Kind::Mount => CloneFlags::CLONE_NEWNS,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Net => CloneFlags::CLONE_NEWNET,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        }
    }

    /// The name in `/proc/PID/ns`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mount => "mnt",
            Kind::Pid => "pid",
            Kind::Net => "net",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
            Kind::Cgroup => "cgroup",
        }
    }

    /// Every kind this module knows.
    pub const ALL: [Kind; 6] = [Kind::Mount, Kind::Pid, Kind::Net, Kind::Uts, Kind::Ipc, Kind::Cgroup];

    /// True when the running kernel has this kind.
    pub fn supported(self) -> bool {
        Path::new("/proc/self/ns").join(self.name()).exists()
    }
}

/// Leaves the present namespaces of these kinds for new ones. [`Kind::Pid`] takes effect for children only; [`Kind::Mount`] needs a
/// process of one thread.
pub fn unshare(kinds: &[Kind]) -> Result<()> {
    let flags = kinds.iter().fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
    sched::unshare(flags).during(|| format!("unshare {}", names(kinds)))
}

fn names(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
}

/// An open namespace: it lives at least as long as this.
#[derive(Debug)]
pub struct Namespace {
    kind: Kind,
    file: File,
}

impl Namespace {
    /// The calling thread's own.
    pub fn own(kind: Kind) -> Result<Namespace> {
        Namespace::open(kind, &Path::new("/proc/thread-self/ns").join(kind.name()))
    }

    /// That of a process. Hold a [`crate::process::PidFd`] of it to be sure whose it is.
    pub fn of(kind: Kind, pid: i32) -> Result<Namespace> {
        Namespace::open(kind, &PathBuf::from(format!("/proc/{pid}/ns/{}", kind.name())))
    }

    fn open(kind: Kind, path: &Path) -> Result<Namespace> {
        let file = File::open(path).during(|| format!("open the namespace {}", path.display()))?;
        Ok(Namespace { kind, file })
    }

    /// Wraps a descriptor known to be a namespace of this kind.
    pub fn from_fd(kind: Kind, fd: OwnedFd) -> Namespace {
        Namespace { kind, file: File::from(fd) }
    }

    /// Moves the calling thread (for mounts: the one-thread process) into it.
    pub fn enter(&self) -> Result<()> {
        sched::setns(&self.file, self.kind.flag()).during(|| format!("enter a {} namespace", self.kind.name()))
    }

    /// Runs `work` inside it and comes back, also when `work` fails. Not for [`Kind::Pid`] and [`Kind::Mount`].
    ///
    /// When the way back is barred the error says so; the thread must then end.
    pub fn within<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if matches!(self.kind, Kind::Pid | Kind::Mount) {
            return Err(Error::Invalid(format!("a {} namespace cannot be left again", self.kind.name())));
        }
        let home = Namespace::own(self.kind)?;
        self.enter()?;
        let result = work();
        home.enter()?;
        result
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The identity of a process's namespace, such as `net:[4026531840]`; `None` when the process is gone.
pub fn id(kind: Kind, pid: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{}", kind.name())).ok()?;
    Some(link.to_string_lossy().into_owned())
}
