//! Starting a program with everything about it decided beforehand.
//!
//! [`Spawn`] is data; [`Spawn::start`] copies the process with clone3(2), so that the child is named by a pidfd from its first moment, may
//! start in new namespaces, and is in its control groups before it runs an instruction of its own.
//!
//! The one idea to know for reading this file: the caller may have threads, and after clone3 the child has one thread and a copy of memory
//! in which any lock may be held for ever. So between clone3 and execve the child calls nothing but async-signal-safe functions and
//! allocates nothing; whatever it needs is laid out by the parent before (`child.rs`).

mod child;

use std::{
    ffi::{CString, OsStr},
    fs::File,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use serde::{Deserialize, Serialize};

use self::child::{Prepared, c_path, c_strings, clone, verdict};
use crate::{
    Error, Result,
    caps::Cap,
    error::During,
    ns::Kind,
    poll,
    process::{Exit, PidFd},
};

/// Where a standard descriptor of the child goes.
#[derive(Debug, Default)]
pub enum Stdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// The parent's own.
    Inherit,
    /// This one.
    Fd(OwnedFd),
}

/// The user a program runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A resource that a limit can be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the kernel's own, documented in getrlimit(2)")]
pub enum Resource {
    OpenFiles,
    Processes,
    Core,
    LockedMemory,
    Stack,
}

/// A resource limit. Where the kernel refuses to raise the hard limit, the child gets as much as the present hard limit allows, and a
/// warning says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is limited.
    pub resource: Resource,
    /// The limit in force.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

/// A program to start.
#[derive(Debug)]
pub struct Spawn {
    program: PathBuf,
    argv: Vec<Vec<u8>>,
    env: Vec<Vec<u8>>,
    cwd: Option<PathBuf>,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    fds: Vec<(OwnedFd, RawFd)>,
    namespaces: Vec<Kind>,
    cgroups: Vec<PathBuf>,
    user: Option<User>,
    limits: Vec<Limit>,
    oom_score_adj: Option<i32>,
    no_new_privs: bool,
    new_session: bool,
    death_signal: Option<Signal>,
    drop_bounding: Vec<Cap>,
}

/// A started program.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's PID namespace.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: PidFd,
    /// What of the wishes the kernel granted only in part, in words.
    pub warnings: Vec<String>,
}

impl Child {
    /// Waits for the end, at most `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<Option<Exit>> {
        self.pidfd.wait(timeout)
    }
}

impl Spawn {
    /// The program at `program` (a path; PATH is not searched), with its own path as argv\[0\], an empty environment, `/dev/null` for
    /// input and the caller's output and error output.
    pub fn new(program: impl AsRef<Path>) -> Spawn {
        let program = program.as_ref().to_owned();
        Spawn {
            argv: vec![program.as_os_str().as_bytes().to_vec()],
            program,
            env: Vec::new(),
            cwd: None,
            stdin: Stdio::Null,
            stdout: Stdio::Inherit,
            stderr: Stdio::Inherit,
            fds: Vec::new(),
            namespaces: Vec::new(),
            cgroups: Vec::new(),
            user: None,
            limits: Vec::new(),
            oom_score_adj: None,
            no_new_privs: false,
            new_session: false,
            death_signal: None,
            drop_bounding: Vec::new(),
        }
    }

    /// The whole argument vector, argv\[0\] included.
    pub fn argv<S: AsRef<OsStr>>(mut self, argv: impl IntoIterator<Item = S>) -> Spawn {
        self.argv = argv.into_iter().map(|arg| arg.as_ref().as_bytes().to_vec()).collect();
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Spawn {
        self.argv.push(arg.as_ref().as_bytes().to_vec());
        self
    }

    /// One more environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Spawn {
        self.env.push([key.as_ref().as_bytes(), b"=", value.as_ref().as_bytes()].concat());
        self
    }

    /// All of the caller's environment.
    pub fn inherit_env(mut self) -> Spawn {
        self.env.extend(std::env::vars_os().map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat()));
        self
    }

    /// The working directory.
    pub fn cwd(mut self, path: impl AsRef<Path>) -> Spawn {
        self.cwd = Some(path.as_ref().to_owned());
        self
    }

    /// Standard input.
    pub fn stdin(mut self, stdin: Stdio) -> Spawn {
        self.stdin = stdin;
        self
    }

    /// Standard output.
    pub fn stdout(mut self, stdout: Stdio) -> Spawn {
        self.stdout = stdout;
        self
    }

    /// Standard error output.
    pub fn stderr(mut self, stderr: Stdio) -> Spawn {
        self.stderr = stderr;
        self
    }

    /// Gives the child `fd` as descriptor `number` (3 or more). Every other descriptor of the caller is closed in it.
    pub fn fd(mut self, fd: OwnedFd, number: RawFd) -> Spawn {
        self.fds.push((fd, number));
        self
    }

    /// Starts it in new namespaces of these kinds. With [`Kind::Pid`] it is PID 1 there.
    pub fn namespaces(mut self, kinds: &[Kind]) -> Spawn {
        self.namespaces.extend_from_slice(kinds);
        self
    }

    /// Directories of control groups (one per hierarchy) to be in from the start.
    pub fn cgroups(mut self, dirs: impl IntoIterator<Item = PathBuf>) -> Spawn {
        self.cgroups.extend(dirs);
        self
    }

    /// The user to run as.
    pub fn user(mut self, user: User) -> Spawn {
        self.user = Some(user);
        self
    }

    /// One more limit.
    pub fn limit(mut self, limit: Limit) -> Spawn {
        self.limits.push(limit);
        self
    }

    /// The out-of-memory score adjustment. Lowering it needs CAP_SYS_RESOURCE: without, a warning says so.
    pub fn oom_score_adj(mut self, value: i32) -> Spawn {
        self.oom_score_adj = Some(value);
        self
    }

    /// It and its children can gain no rights by execve.
    pub fn no_new_privs(mut self) -> Spawn {
        self.no_new_privs = true;
        self
    }

    /// In a session of its own.
    pub fn new_session(mut self) -> Spawn {
        self.new_session = true;
        self
    }

    /// The signal it gets when the *thread* that starts it ends.
    pub fn death_signal(mut self, signal: Signal) -> Spawn {
        self.death_signal = Some(signal);
        self
    }

    /// Capabilities to take out of its bounding set.
    pub fn drop_bounding(mut self, caps: &[Cap]) -> Spawn {
        self.drop_bounding.extend_from_slice(caps);
        self
    }

    /// Starts it: returns once the program runs (or the reason why it could not be run is known).
    pub fn start(self) -> Result<Child> {
        let program = self.program.clone();
        let prepared = Prepared::new(self)?;
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).during(|| "make a pipe".into())?;

        // No handler of the caller's may run in the child, where it would act on the caller's behalf.
        let mut before = SigSet::empty();
        nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))
            .during(|| "block signals".into())?;
        let cloned = clone(&prepared, writer.as_raw_fd());
        let restored = nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        let (pid, pidfd) = cloned?;
        restored.during(|| "restore the signal mask".into())?;
        drop(writer);

        match verdict(&reader, &program) {
            Ok(warnings) => Ok(Child { pid, pidfd, warnings }),
            Err(error) => {
                // It has ended or is stuck before execve: either way it is not wanted, and only we know of it.
                let _ = pidfd.signal(Signal::SIGKILL);
                let _ = pidfd.wait(Duration::from_secs(5));
                Err(error)
            }
        }
    }
}

/// Takes over the descriptor `number` that whoever started this program gave it by [`Spawn::fd`]; `None` when it did not.
///
/// Each is given out once, and only one that came through execve: Rust opens every descriptor of its own close-on-exec, an inherited one is
/// not. From now on it is close-on-exec too.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    if !(3..64).contains(&number) || TAKEN.fetch_or(1 << number, Ordering::SeqCst) & (1 << number) != 0 {
        return None;
    }
    // SAFETY: F_GETFD and F_SETFD of any number are harmless: a bad one answers EBADF.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: as above; then, the descriptor is open, was not opened by this program (it would be close-on-exec), and is given out this
    // once only.
    unsafe {
        libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        Some(OwnedFd::from_raw_fd(number))
    }
}

/// A pipe for a child's output: the end to read from, which never blocks, and the end to give away.
pub fn output_pipe() -> Result<(File, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).during(|| "make a pipe".into())?;
    poll::never_block(&reader)?;
    Ok((File::from(reader), writer))
}

/// Becomes another program: the same process, the same descriptors (but those marked close-on-exec), the given environment. Returns only
/// when it could not.
pub fn become_program(program: &Path, argv: &[&OsStr], env: &[(std::ffi::OsString, std::ffi::OsString)]) -> Error {
    let prepare = || -> Result<(CString, Vec<CString>, Vec<CString>)> {
        let argv = c_strings(argv.iter().map(|arg| arg.as_bytes().to_vec()).collect())?.0;
        let env = c_strings(env.iter().map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat()).collect())?.0;
        Ok((c_path(program)?, argv, env))
    };
    match prepare() {
        Err(error) => error,
        Ok((path, argv, env)) => match nix::unistd::execve(&path, &argv, &env) {
            Ok(never) => match never {},
            Err(errno) => Error::raw(format!("become {}", program.display()), errno as i32),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn output(spawn: Spawn) -> (String, Option<Exit>) {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let child = spawn.stdout(Stdio::Fd(writer)).start().unwrap();
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        (text, child.wait(Duration::from_secs(10)).unwrap())
    }

    fn shell(script: &str) -> Spawn {
        Spawn::new("/bin/sh").arg("-c").arg(script).env("PATH", "/usr/bin:/bin")
    }

    #[test]
    fn exit_codes_and_signals_are_told_apart() {
        assert_eq!(output(shell("exit 7")).1, Some(Exit::Code(7)));
        assert_eq!(output(shell("kill -9 $$")).1, Some(Exit::Signal(9)));
    }

    #[test]
    fn the_environment_is_what_was_given() {
        let (text, _) = output(Spawn::new("/usr/bin/env").env("A", "1").env("B", "two words"));
        assert_eq!(text, "A=1\nB=two words\n");
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let error = Spawn::new("/no/such/program").start().unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }

    #[test]
    fn descriptors_arrive_where_asked_and_no_others() {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let leak = File::open("/dev/null").unwrap();
        // The leaked one is without close-on-exec, as C code may leave it.
        nix::fcntl::fcntl(&leak, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let (text, exit) = output(shell("echo hello >&7; ls /proc/self/fd").fd(writer, 7));
        assert_eq!(exit, Some(Exit::Code(0)));
        let mut sent = String::new();
        File::from(reader).read_to_string(&mut sent).unwrap();
        assert_eq!(sent, "hello\n");
        // 3 is the directory that ls itself reads.
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "7"]);
    }

    #[test]
    fn swapped_descriptors_do_not_overwrite_each_other() {
        let (out_reader, out_writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let (err_reader, err_writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let child = shell("echo out; echo err >&2").stdout(Stdio::Fd(out_writer)).stderr(Stdio::Fd(err_writer)).start().unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        File::from(out_reader).read_to_string(&mut out).unwrap();
        File::from(err_reader).read_to_string(&mut err).unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
        assert_eq!(child.wait(Duration::from_secs(10)).unwrap(), Some(Exit::Code(0)));
    }

    #[test]
    fn ignored_signals_are_back_to_default() {
        // The test program ignores SIGPIPE, as every Rust program does.
        let (text, _) = output(shell("grep SigIgn /proc/self/status"));
        assert_eq!(text.trim(), "SigIgn:\t0000000000000000");
    }

    #[test]
    fn a_limit_below_the_present_one_is_set() {
        let limit = Limit { resource: Resource::OpenFiles, soft: 77, hard: 99 };
        let (text, _) = output(shell("ulimit -Sn; ulimit -Hn").limit(limit));
        assert_eq!(text, "77\n99\n");
    }

    #[test]
    fn an_unreachable_limit_is_a_warning_and_clamped() {
        if crate::caps::effective(Cap::SysResource) {
            eprintln!("skipped: with CAP_SYS_RESOURCE every limit can be reached");
            return;
        }
        let (_, hard) = crate::host::open_files_limit().unwrap();
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let limit = Limit { resource: Resource::OpenFiles, soft: hard + 1, hard: hard + 1 };
        let child = shell("ulimit -Sn").limit(limit).stdout(Stdio::Fd(writer)).start().unwrap();
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text.trim(), hard.to_string());
        assert_eq!(child.warnings.len(), 1, "{:?}", child.warnings);
        assert_eq!(child.wait(Duration::from_secs(10)).unwrap(), Some(Exit::Code(0)));
    }

    #[test]
    fn as_another_user_without_rights_in_its_own_pid_namespace() {
        if !crate::host::is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let user = User { uid: 65534, gid: 65534, groups: vec![100] };
        let script = "echo $$; id -u; id -G; grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status";
        let spawn = shell(script).user(user).no_new_privs().drop_bounding(&[Cap::SysTime]).namespaces(&[Kind::Pid]);
        let (text, _) = output(spawn);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["1", "65534", "65534 100"]);
        assert_eq!(lines[3], "CapEff:\t0000000000000000");
        let bounding = u64::from_str_radix(lines[4].trim_start_matches("CapBnd:\t"), 16).unwrap();
        assert_eq!(bounding & (1 << 25), 0);
        assert_eq!(lines[5], "NoNewPrivs:\t1");
    }

    #[test]
    fn ended_children_do_not_linger_after_a_failed_start() {
        for _ in 0..3 {
            assert!(Spawn::new("/etc/passwd").start().is_err());
        }
        let me = i32::try_from(std::process::id()).unwrap();
        let zombies: Vec<_> =
            crate::process::all().into_iter().filter(|p| p.parent == me && p.state == 'Z' && p.name == "passwd").collect();
        assert!(zombies.is_empty(), "{zombies:?}");
    }
}
