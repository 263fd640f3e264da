//! From clone3 to execve.
//!
//! Between the two the child calls nothing but async-signal-safe functions and allocates nothing, for the reason given in the module above:
//! [`Prepared`] holds all it needs, and what goes wrong it tells the parent through a pipe.

use std::{
    cell::Cell,
    ffi::CString,
    fs::OpenOptions,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
    ptr,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{Limit, Resource, Spawn, Stdio, User};
use crate::{Error, Result, caps::Cap, error::During, poll, process::PidFd};

/// How long a child may take from clone to execve.
const EXEC_DEADLINE: Duration = Duration::from_secs(20);

/// What the child was doing when something went wrong.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Step {
    Exec = 0,
    Session,
    DeathSignal,
    Cgroup,
    Descriptors,
    Cwd,
    Limit,
    Oom,
    Bounding,
    User,
    NoNewPrivs,
}

const STEPS: [&str; 11] = [
    "execute it",
    "start a session",
    "set the death signal",
    "join the control group",
    "arrange descriptors",
    "change the working directory",
    "set a resource limit",
    "set the out-of-memory score",
    "drop a capability",
    "change the user",
    "set no_new_privs",
];

/// A report of the child: kind (0 warning, 1 fatal), step, errno.
const REPORT: usize = 6;

pub(super) fn verdict(reader: &OwnedFd, program: &Path) -> Result<Vec<String>> {
    let begin = Instant::now();
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 64 * REPORT];
    loop {
        let left = EXEC_DEADLINE.saturating_sub(begin.elapsed());
        if !poll::readable(reader.as_fd(), left)? {
            let what = format!("start {}", program.display());
            return Err(Error::Deadline { what, seconds: EXEC_DEADLINE.as_secs_f64() });
        }
        match nix::unistd::read(reader, &mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::raw("hear from a child", errno as i32)),
        }
    }
    let mut warnings = Vec::new();
    for report in bytes.chunks_exact(REPORT) {
        let step = STEPS.get(usize::from(report[1])).copied().unwrap_or("start it");
        let errno = i32::from_ne_bytes([report[2], report[3], report[4], report[5]]);
        let error = Error::raw(format!("start {}: could not {step}", program.display()), errno);
        if report[0] == 1 {
            return Err(error);
        }
        warnings.push(error.to_string());
    }
    Ok(warnings)
}

/// Everything the child needs, laid out so that it need not allocate.
pub(super) struct Prepared {
    program: CString,
    _argv: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    _env: Vec<CString>,
    env: Vec<*const libc::c_char>,
    cwd: Option<CString>,
    /// Source and target; sources stay open through `_owned`.
    fds: Vec<(RawFd, RawFd)>,
    /// The highest target.
    highest: RawFd,
    /// Scratch for the child: the sources, moved out of the way of the targets.
    moved: Vec<Cell<RawFd>>,
    _owned: Vec<OwnedFd>,
    cgroups: Vec<OwnedFd>,
    flags: u64,
    user: Option<User>,
    limits: Vec<(libc::c_int, libc::rlimit)>,
    oom: Option<Vec<u8>>,
    no_new_privs: bool,
    new_session: bool,
    death_signal: Option<Signal>,
    drop_bounding: Vec<Cap>,
}

pub(super) fn c_strings(strings: Vec<Vec<u8>>) -> Result<(Vec<CString>, Vec<*const libc::c_char>)> {
    let owned = strings
        .into_iter()
        .map(|bytes| {
            CString::new(bytes).map_err(|error| {
                let text = String::from_utf8_lossy(&error.into_vec()).into_owned();
                Error::Invalid(format!("an argument or environment variable holds a zero byte: {text:?}"))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let pointers = owned.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
    Ok((owned, pointers))
}

pub(super) fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Invalid(format!("the path {path:?} holds a zero byte")))
}

fn standard(stdio: Stdio, number: RawFd, write: bool, owned: &mut Vec<OwnedFd>) -> Result<(RawFd, RawFd)> {
    let fd = match stdio {
        Stdio::Inherit => return Ok((number, number)),
        Stdio::Fd(fd) => fd,
        Stdio::Null => OpenOptions::new().read(!write).write(write).open("/dev/null").during(|| "open /dev/null".into())?.into(),
    };
    let raw = fd.as_raw_fd();
    owned.push(fd);
    Ok((raw, number))
}

impl Prepared {
    pub(super) fn new(spawn: Spawn) -> Result<Prepared> {
        let (argv_owned, argv) = c_strings(spawn.argv)?;
        let (env_owned, env) = c_strings(spawn.env)?;
        let mut owned = Vec::new();
        let mut fds = vec![
            standard(spawn.stdin, 0, false, &mut owned)?,
            standard(spawn.stdout, 1, true, &mut owned)?,
            standard(spawn.stderr, 2, true, &mut owned)?,
        ];
        for (fd, number) in spawn.fds {
            if fds.iter().any(|(_, taken)| *taken == number) || number < 3 {
                return Err(Error::Invalid(format!("descriptor {number} of a child is asked for twice or is a standard one")));
            }
            fds.push((fd.as_raw_fd(), number));
            owned.push(fd);
        }
        let cgroups = spawn
            .cgroups
            .iter()
            .map(|dir| {
                let path = dir.join("cgroup.procs");
                let file = OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC).open(&path);
                file.map(OwnedFd::from).during(|| format!("open the control group {}", dir.display()))
            })
            .collect::<Result<Vec<_>>>()?;
        let flags = spawn.namespaces.iter().fold(0, |flags, kind| flags | u64::from(kind.flag().bits().unsigned_abs()));
        Ok(Prepared {
            program: c_path(&spawn.program)?,
            _argv: argv_owned,
            argv,
            _env: env_owned,
            env,
            cwd: spawn.cwd.as_deref().map(c_path).transpose()?,
            highest: fds.iter().map(|(_, target)| *target).fold(2, RawFd::max),
            moved: vec![Cell::new(-1); fds.len()],
            fds,
            _owned: owned,
            cgroups,
            flags,
            user: spawn.user,
            limits: spawn.limits.iter().map(raw_limit).collect(),
            oom: spawn.oom_score_adj.map(|value| value.to_string().into_bytes()),
            no_new_privs: spawn.no_new_privs,
            new_session: spawn.new_session,
            death_signal: spawn.death_signal,
            drop_bounding: spawn.drop_bounding,
        })
    }
}

#[allow(clippy::unnecessary_cast, reason = "the type of RLIMIT_* differs between C libraries")]
fn raw_limit(limit: &Limit) -> (libc::c_int, libc::rlimit) {
    let resource = match limit.resource {
        Resource::OpenFiles => libc::RLIMIT_NOFILE as libc::c_int,
        Resource::Processes => libc::RLIMIT_NPROC as libc::c_int,
        Resource::Core => libc::RLIMIT_CORE as libc::c_int,
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK as libc::c_int,
        Resource::Stack => libc::RLIMIT_STACK as libc::c_int,
    };
    (resource, libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard.max(limit.soft) })
}

pub(super) fn clone(prepared: &Prepared, report: RawFd) -> Result<(i32, PidFd)> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers; zero means "unused" for each.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = prepared.flags | u64::from(libc::CLONE_PIDFD.unsigned_abs());
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    // SAFETY: without CLONE_VM this behaves as fork: the child gets a copy of memory and goes on here on its copy of the stack. It calls
    // only `child`, which keeps to async-signal-safe functions and never returns. No wrapper exists in nix.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        // SAFETY: we are the child of clone3, with a single thread and signals blocked, as `child` demands.
        unsafe { child(prepared, report) }
    }
    if pid < 0 {
        let error = Error::last_os("start a process (clone3)");
        return Err(match error.raw_os_error() {
            Some(libc::ENOSYS) => Error::Missing { feature: "clone3(2)", hint: "Linux 5.3 or newer is needed".into() },
            Some(libc::EPERM) => Error::Missing { feature: "the right to make namespaces", hint: "run it as root".into() },
            _ => error,
        });
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that is ours alone.
    let pidfd = PidFd::from_fd(unsafe { OwnedFd::from_raw_fd(pidfd) });
    Ok((i32::try_from(pid).unwrap_or(-1), pidfd))
}

/// The life of the child up to execve.
///
/// # Safety
/// Only in the child of a clone3 without CLONE_VM. Keeps to async-signal-safe functions: no allocation, no locks, no panics.
unsafe fn child(prepared: &Prepared, report: RawFd) -> ! {
    // SAFETY: all pointers are into `prepared`, which this copy of memory holds; each call below is a plain system call.
    unsafe {
        // Out of the way of every target that `arrange` is going to fill.
        let report = match libc::fcntl(report, libc::F_DUPFD_CLOEXEC, prepared.highest + 1) {
            -1 => report,
            moved => moved,
        };
        let fail = |step: Step| -> ! {
            tell(report, 1, step);
            libc::_exit(127)
        };
        default_signals();
        if prepared.new_session && libc::setsid() < 0 {
            fail(Step::Session);
        }
        for group in &prepared.cgroups {
            if libc::write(group.as_raw_fd(), b"0".as_ptr().cast(), 1) != 1 {
                fail(Step::Cgroup);
            }
        }
        if !arrange(prepared) {
            fail(Step::Descriptors);
        }
        if let Some(cwd) = &prepared.cwd
            && libc::chdir(cwd.as_ptr()) != 0
        {
            fail(Step::Cwd);
        }
        best_effort(prepared, report);
        for cap in &prepared.drop_bounding {
            if libc::prctl(libc::PR_CAPBSET_DROP, *cap as libc::c_ulong, 0, 0, 0) != 0 {
                fail(Step::Bounding);
            }
        }
        if let Some(user) = &prepared.user {
            // Raw system calls: the C library's functions change all threads of a process, by locks and signals.
            if libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr()) != 0
                || libc::syscall(libc::SYS_setresgid, user.gid, user.gid, user.gid) != 0
                || libc::syscall(libc::SYS_setresuid, user.uid, user.uid, user.uid) != 0
            {
                fail(Step::User);
            }
        }
        // After the change of user, which clears it.
        if let Some(signal) = prepared.death_signal
            && libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong, 0, 0, 0) != 0
        {
            fail(Step::DeathSignal);
        }
        if prepared.no_new_privs && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            fail(Step::NoNewPrivs);
        }
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut empty);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, ptr::null_mut());
        libc::execve(prepared.program.as_ptr(), prepared.argv.as_ptr(), prepared.env.as_ptr());
        fail(Step::Exec)
    }
}

/// Writes a report for the parent. Safe after clone3: one write of a few bytes from the stack.
unsafe fn tell(report: RawFd, kind: u8, step: Step) {
    let errno = nix::errno::Errno::last_raw().to_ne_bytes();
    let bytes: [u8; REPORT] = [kind, step as u8, errno[0], errno[1], errno[2], errno[3]];
    // SAFETY: the buffer is live and of the given length; a write to a bad descriptor merely fails.
    unsafe { libc::write(report, bytes.as_ptr().cast(), REPORT) };
}

/// Back to default actions: ignored signals would stay ignored through execve.
unsafe fn default_signals() {
    // The system call itself: C libraries refuse to touch the signals they keep for themselves, which a careless ancestor may have ignored.
    // All zeroes is the kernel's struct sigaction for SIG_DFL with an empty mask (32 bytes where the mask has 64 bits).
    let default = [0u64; 4];
    // SAFETY: SIG_DFL installs no handler; the structure lives through the call; numbers that may not be changed are refused by the kernel.
    unsafe {
        for number in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), ptr::null_mut::<u64>(), 8usize);
        }
    }
}

/// Puts each source at its target and marks everything else to be closed by execve.
unsafe fn arrange(prepared: &Prepared) -> bool {
    let highest = prepared.highest;
    // SAFETY: plain system calls on descriptors.
    unsafe {
        // First all sources out of the way, so that no target overwrites a source that is still needed.
        for ((source, _), moved) in prepared.fds.iter().zip(&prepared.moved) {
            let copy = libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, highest + 1);
            // A parent without standard descriptors passes none on.
            if copy < 0 && !(*source <= 2 && nix::errno::Errno::last_raw() == libc::EBADF) {
                return false;
            }
            moved.set(copy);
        }
        for ((_, target), moved) in prepared.fds.iter().zip(&prepared.moved) {
            let source = moved.get();
            if source >= 0 && libc::dup2(source, *target) < 0 {
                return false;
            }
        }
        for gap in (3..highest).filter(|number| prepared.fds.iter().all(|(_, target)| target != number)) {
            libc::fcntl(gap, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        // Rust opens everything close-on-exec; this is for descriptors that came from elsewhere. Older kernels lack the flag.
        libc::syscall(libc::SYS_close_range, highest + 1, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    true
}

/// Limits and the out-of-memory score: a refusal is a warning.
unsafe fn best_effort(prepared: &Prepared, report: RawFd) {
    // SAFETY: plain system calls on values in `prepared` and on the stack.
    unsafe {
        for (resource, wanted) in &prepared.limits {
            if libc::syscall(libc::SYS_prlimit64, 0, *resource, &raw const *wanted, ptr::null_mut::<libc::rlimit>()) == 0 {
                continue;
            }
            tell(report, 0, Step::Limit);
            let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            if libc::syscall(libc::SYS_prlimit64, 0, *resource, ptr::null::<libc::rlimit>(), &raw mut now) == 0 {
                let most = libc::rlimit { rlim_cur: wanted.rlim_cur.min(now.rlim_max), rlim_max: now.rlim_max };
                libc::syscall(libc::SYS_prlimit64, 0, *resource, &raw const most, ptr::null_mut::<libc::rlimit>());
            }
        }
        if let Some(text) = &prepared.oom {
            let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if file < 0 || libc::write(file, text.as_ptr().cast(), text.len()) < 0 {
                tell(report, 0, Step::Oom);
            }
            if file >= 0 {
                libc::close(file);
            }
        }
    }
}
