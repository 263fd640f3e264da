//! System call filters.
//!
//! One profile: what a network daemon of ours (Rust, tokio, TLS) uses once it is set up. Anything else answers EPERM instead of killing, so
//! that a C library's probing of a newer call falls back in peace.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition, SeccompFilter,
    SeccompRule as Rule, TargetArch,
};

use crate::{Error, Result};

/// What a profile allows beyond the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profile {
    /// Netlink sockets, to read addresses and routes.
    pub netlink: bool,
}

/// Calls allowed with any argument.
const PLAIN: &[libc::c_long] = &[
    // memory
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // files
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_flock,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_copy_file_range,
    libc::SYS_memfd_create,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // waiting and time
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // sockets (making one is below)
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
    // threads and signals
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_signalfd4,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // who and where am I
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_capget,
    libc::SYS_getcpu,
];

/// Older forms that x86-64 still has and C libraries still use.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_create,
    libc::SYS_arch_prctl,
    libc::SYS_time,
    libc::SYS_eventfd,
    libc::SYS_rmdir,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

fn arg_is(index: u8, value: u64) -> Result<Rule> {
    let condition = Condition::new(index, Len::Dword, Op::Eq, value).map_err(broken)?;
    Rule::new(vec![condition]).map_err(broken)
}

fn any_of(index: u8, values: &[i32]) -> Result<Vec<Rule>> {
    values.iter().map(|value| arg_is(index, u64::from(value.unsigned_abs()))).collect()
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("the system call filter cannot be built: {error}"))
}

fn architecture() -> Result<TargetArch> {
    TargetArch::try_from(std::env::consts::ARCH).map_err(broken)
}

/// What stands for "a new thread of this process and nothing else": clone(2) with CLONE_THREAD.
fn thread_only() -> Result<Vec<Rule>> {
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let condition = Condition::new(0, Len::Qword, Op::MaskedEq(thread), thread).map_err(broken)?;
    Ok(vec![Rule::new(vec![condition]).map_err(broken)?])
}

fn rules(profile: Profile) -> Result<BTreeMap<i64, Vec<Rule>>> {
    let mut rules: BTreeMap<i64, Vec<Rule>> = PLAIN.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let mut families = vec![libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    if profile.netlink {
        families.push(libc::AF_NETLINK);
    }
    rules.insert(libc::SYS_socket, any_of(0, &families)?);
    rules.insert(libc::SYS_socketpair, any_of(0, &[libc::AF_UNIX])?);
    rules.insert(libc::SYS_clone, thread_only()?);
    // Allowed here, refused by the filter before: see `install`.
    rules.insert(libc::SYS_clone3, Vec::new());
    rules.insert(libc::SYS_prctl, any_of(0, &[libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_GET_DUMPABLE])?);
    // Whether something is a terminal, how much there is to read, (non-)blocking, close-on-exec. Compared as 32 bits: the C libraries
    // differ in the type.
    let ioctls = [0x5401u64, 0x541B, 0x5421, 0x5450, 0x5451, 0x5413];
    rules.insert(libc::SYS_ioctl, ioctls.iter().map(|number| arg_is(1, *number)).collect::<Result<_>>()?);
    // Reading limits; of the own process only.
    rules.insert(libc::SYS_prlimit64, any_of(0, &[0])?);
    rules.insert(libc::SYS_kill, vec![arg_is(0, u64::from(std::process::id()))?]);
    Ok(rules)
}

fn program(rules: BTreeMap<i64, Vec<Rule>>, mismatch: SeccompAction, matched: SeccompAction) -> Result<BpfProgram> {
    let filter = SeccompFilter::new(rules, mismatch, matched, architecture()?).map_err(broken)?;
    BpfProgram::try_from(filter).map_err(broken)
}

/// Puts the calling process (of one thread) under the profile, for good. Needs no_new_privs.
pub fn install(profile: Profile) -> Result<()> {
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    // glibc falls back from clone3 (whose flags no filter can see) to clone only on ENOSYS, and of two filters the stricter answer counts.
    let no_clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let first = program(no_clone3, SeccompAction::Allow, errno(libc::ENOSYS))?;
    let second = program(rules(profile)?, errno(libc::EPERM), SeccompAction::Allow)?;
    // The allowlist does not hold seccomp(2), so it comes second.
    for filter in [&first, &second] {
        seccompiler::apply_filter(filter).map_err(|error| match error {
            seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) if source.raw_os_error() == Some(libc::EINVAL) => {
                Error::Missing { feature: "seccomp filters", hint: format!("use a kernel with CONFIG_SECCOMP_FILTER ({source})") }
            }
            other => broken(other),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_compiles_and_knows_no_execve() {
        let rules = rules(Profile::default()).unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_mount,
            libc::SYS_ptrace,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_chroot,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
        assert!(!program(rules, SeccompAction::Allow, SeccompAction::KillProcess).unwrap().is_empty());
    }
}
