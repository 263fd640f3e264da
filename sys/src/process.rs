//! Processes: naming them safely, signalling, waiting, reaping.
//!
//! A pid alone is no name: it is reused. Inside one run a [`PidFd`] names a process; in files a [`ProcessRef`] does,
//! by pid, start time and boot.

use std::{
    fmt, fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, error::During, poll};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It called `exit` with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl Exit {
    /// True for exit code 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// A file descriptor that names a process for as long as it is open, whatever becomes of its pid.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process that has `pid` now.
    pub fn open(pid: i32) -> Result<PidFd> {
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1; nix has no wrapper.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).unwrap_or(-1);
        if fd < 0 {
            return Err(Error::last_os(format!("open a pidfd of process {pid}")));
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wraps a descriptor known to be a pidfd.
    pub fn from_fd(fd: OwnedFd) -> PidFd {
        PidFd(fd)
    }

    /// A second descriptor for the same process.
    pub fn try_clone(&self) -> Result<PidFd> {
        self.0.try_clone().map(PidFd).during(|| "duplicate a pidfd".into())
    }

    /// Sends a signal. `Ok(false)` when the process has ended already.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        self.signal_raw(signal as i32)
    }

    /// Sends a signal by number (real-time signals have no name).
    pub fn signal_raw(&self, signal: i32) -> Result<bool> {
        // SAFETY: an open descriptor, an integer, a null siginfo (the kernel then fills in the default) and no flags.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0) };
        if sent == 0 {
            return Ok(true);
        }
        match Errno::last() {
            Errno::ESRCH => Ok(false),
            errno => Err(Error::raw(format!("send signal {signal}"), errno as i32)),
        }
    }

    /// Waits until the process has ended, at most `timeout`; true when it has. Works for any process, child or not.
    pub fn ended(&self, timeout: Duration) -> Result<bool> {
        poll::readable(self.as_fd(), timeout)
    }

    /// Takes the exit status of an ended *child*; `None` while it runs.
    pub fn try_wait(&self) -> Result<Option<Exit>> {
        match waitid(Id::PIDFd(self.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(status) => Ok(exit_of(status).map(|(_, exit)| exit)),
            Err(Errno::EINTR) => Ok(None),
            Err(errno) => Err(Error::raw("wait for a child", errno as i32)),
        }
    }

    /// Waits for an ended *child*, at most `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<Option<Exit>> {
        if !self.ended(timeout)? {
            return Ok(None);
        }
        self.try_wait()
    }

    /// SIGTERM, then after `grace` SIGKILL; true when the process is gone within `grace` plus five seconds.
    pub fn stop(&self, grace: Duration) -> Result<bool> {
        if !self.signal(Signal::SIGTERM)? || self.ended(grace)? {
            return Ok(true);
        }
        self.signal(Signal::SIGKILL)?;
        self.ended(Duration::from_secs(5))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> OwnedFd {
        pidfd.0
    }
}

fn exit_of(status: WaitStatus) -> Option<(i32, Exit)> {
    match status {
        WaitStatus::Exited(pid, code) => Some((pid.as_raw(), Exit::Code(code))),
        WaitStatus::Signaled(pid, signal, _) => Some((pid.as_raw(), Exit::Signal(signal as i32))),
        _ => None,
    }
}

/// Takes one ended child, whichever it is (for PID 1: orphans too). `None` when there is none now.
///
/// Only for a program whose every child is waited for here: two reapers race.
pub fn reap() -> Option<(i32, Exit)> {
    loop {
        // SAFETY: siginfo_t is plain data for which all zeroes is a value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // waitid(2) itself, not nix's: a death by a real-time signal has no name there and would be an error.
        // SAFETY: `info` is ours and outlives the call.
        let done = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG) };
        if done != 0 {
            match Errno::last() {
                Errno::EINTR => continue,
                _ => return None,
            }
        }
        // SAFETY: waitid has filled the child fields (or left them zero).
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return match (pid, info.si_code) {
            (0, _) => None,
            (pid, libc::CLD_EXITED) => Some((pid, Exit::Code(status))),
            (pid, _) => Some((pid, Exit::Signal(status))),
        };
    }
}

/// What `/proc/PID/stat` says that is of use here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The pid.
    pub pid: i32,
    /// The short name (`comm`), at most 15 bytes.
    pub name: String,
    /// The state letter: R S D Z T …
    pub state: char,
    /// The parent's pid.
    pub parent: i32,
    /// The start time in clock ticks after boot.
    pub start: u64,
}

impl Stat {
    /// Reads `/proc/PID/stat`; `None` when there is no such process.
    pub fn of(pid: i32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses a line of `/proc/PID/stat` (proc_pid_stat(5)); the name may hold blanks and parentheses.
    pub fn parse(line: &str) -> Option<Stat> {
        let (head, rest) = line.trim_end().rsplit_once(')')?;
        let (pid, name) = head.split_once('(')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Stat {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }
}

/// The id of this boot of the kernel (`/proc/sys/kernel/random/boot_id`); empty where there is none.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// A process as named in a file: never mistaken for another that got its pid later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Its pid in the namespace of the one who wrote this.
    pub pid: i32,
    /// Its start time in clock ticks after boot.
    pub start: u64,
    /// The boot it ran in.
    pub boot: String,
}

impl ProcessRef {
    /// Names the process that has `pid` now.
    pub fn of(pid: i32) -> Option<ProcessRef> {
        Some(ProcessRef { pid, start: Stat::of(pid)?.start, boot: boot_id() })
    }

    /// Names the calling process.
    pub fn this() -> Option<ProcessRef> {
        ProcessRef::of(Pid::this().as_raw())
    }

    /// Opens exactly this process: `None` when it has ended, even if its pid is in use again.
    pub fn open(&self) -> Option<PidFd> {
        if self.boot != boot_id() {
            return None;
        }
        let pidfd = PidFd::open(self.pid).ok()?;
        // The pidfd pins the process, so reading its start time now cannot race with reuse.
        let stat = Stat::of(self.pid)?;
        (stat.start == self.start && stat.state != 'Z').then_some(pidfd)
    }

    /// True while exactly this process runs (a zombie does not).
    pub fn alive(&self) -> bool {
        self.open().is_some_and(|pidfd| !pidfd.ended(Duration::ZERO).unwrap_or(true))
    }

    /// The directory of this process in `/proc`.
    pub fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string())
    }
}

/// All processes of this PID namespace, by pid.
pub fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(Stat::of).collect()
}

/// Sends `signal` to every process of this PID namespace but the caller; the ladder's last rung in PID 1.
///
/// Refused outside PID 1: there it would hit the whole host.
pub fn signal_everyone(signal: Signal) -> Result<()> {
    if Pid::this().as_raw() != 1 {
        return Err(Error::Invalid("signalling every process is for PID 1 alone".into()));
    }
    match nix::sys::signal::kill(Pid::from_raw(-1), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::raw(format!("send {signal} to all processes"), errno as i32)),
    }
}

/// Polls `done` with growing pauses until it is true or `timeout` has passed.
pub fn wait_until(what: &str, timeout: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    while !done() {
        if begin.elapsed() >= timeout {
            return Err(Error::Deadline { what: what.to_owned(), seconds: timeout.as_secs_f64() });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name() {
        let line = "42 (a) b (c)) S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 10 0 0\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { pid: 42, name: "a) b (c)".into(), state: 'S', parent: 7, start: 987654 });
        assert_eq!(Stat::parse("42 (x"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_reused_pid_is_not_the_process() {
        let me = ProcessRef::this().unwrap();
        assert!(me.alive());
        assert!(!ProcessRef { start: me.start + 1, ..me.clone() }.alive());
        assert!(!ProcessRef { boot: "another".into(), ..me }.alive());
    }

    #[test]
    fn signalling_everyone_is_refused_outside_pid_1() {
        assert!(signal_everyone(Signal::SIGCONT).is_err());
    }
}
