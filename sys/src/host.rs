//! Small facts and settings of the host (or of the namespaces one is in).

use std::{fs, path::PathBuf};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    statvfs::statvfs,
};

use crate::{Error, Result, error::During};

/// Sets the host name of this UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).during(|| format!("set the host name to {name:?}"))
}

/// The host name of this UTS namespace.
pub fn hostname() -> Result<String> {
    Ok(nix::unistd::gethostname().during(|| "read the host name".into())?.to_string_lossy().into_owned())
}

/// Sets the NIS domain name of this UTS namespace.
pub fn set_domainname(name: &str) -> Result<()> {
    // SAFETY: the pointer and the length describe one live byte slice; the kernel copies it.
    if unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) } == 0 {
        return Ok(());
    }
    Err(Error::last_os(format!("set the domain name to {name:?}")))
}

/// The file of a sysctl: `net.ipv4.ip_forward` → `/proc/sys/net/ipv4/ip_forward`. As in sysctl(8), the first separator found says
/// whether `.` or `/` separates, so that interface names with dots can be written with slashes.
pub fn sysctl_path(key: &str) -> Result<PathBuf> {
    let separated_by_dots = key.find(['.', '/']).is_none_or(|at| key.as_bytes().get(at) == Some(&b'.'));
    let path: String = if separated_by_dots {
        key.chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect()
    } else {
        key.to_owned()
    };
    if path.is_empty() || path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Error::Invalid(format!("{key:?} is no sysctl: expected names separated by dots, such as net.ipv4.ip_forward")));
    }
    Ok(PathBuf::from("/proc/sys").join(path))
}

/// Reads a sysctl, without the trailing newline.
pub fn sysctl(key: &str) -> Result<String> {
    let path = sysctl_path(key)?;
    let text = fs::read_to_string(&path).during(|| format!("read sysctl {key}"))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a sysctl.
pub fn set_sysctl(key: &str, value: &str) -> Result<()> {
    let path = sysctl_path(key)?;
    fs::write(&path, value).during(|| format!("write {value:?} to sysctl {key}"))
}

/// Raises the soft limit of open files to `wanted`, and the hard limit with it where the kernel lets us. Gives the soft limit reached.
pub fn raise_open_files(wanted: u64) -> Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).during(|| "read the limit of open files".into())?;
    if soft >= wanted {
        return Ok(soft);
    }
    if hard < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    let reached = wanted.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, reached, hard).during(|| format!("raise the limit of open files to {reached}"))?;
    Ok(reached)
}

/// The limits of open files of this process: soft, hard.
pub fn open_files_limit() -> Result<(u64, u64)> {
    getrlimit(Resource::RLIMIT_NOFILE).during(|| "read the limit of open files".into())
}

/// True when the kernel says that something keeps its clock synchronised (adjtimex(2), read only).
pub fn clock_synced() -> Result<bool> {
    /// `STA_UNSYNC`: nobody keeps the clock.
    const UNSYNCHRONISED: libc::c_int = 0x40;
    // SAFETY: timex is plain integers; all zeroes is a value, and modes = 0 asks to change nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours and outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(Error::last_os("read the state of the clock"));
    }
    Ok(state != libc::TIME_ERROR && timex.status & UNSYNCHRONISED == 0)
}

/// Sets the file mode creation mask of this process.
pub fn set_umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}

/// Space of a file system in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What an unprivileged user may still fill.
    pub available: u64,
}

/// The space of the file system that holds `path`.
pub fn space(path: &std::path::Path) -> Result<Space> {
    let stat = statvfs(path).during(|| format!("ask for the space of {}", path.display()))?;
    let unit = stat.fragment_size();
    Ok(Space { total: stat.blocks() * unit, available: stat.blocks_available() * unit })
}

/// A field of `/proc/meminfo` in bytes, such as `MemAvailable`.
pub fn meminfo(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// True when `/proc/filesystems` lists the file system type.
pub fn has_filesystem(name: &str) -> bool {
    fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.lines().any(|line| line.split_ascii_whitespace().last() == Some(name)))
}

/// True when the caller is root in its user namespace.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// How many inotify instances user id `uid` holds now, counted over all processes the caller may look into.
pub fn inotify_instances(uid: u32) -> usize {
    use std::os::unix::fs::MetadataExt;
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    processes
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == uid))
        .filter_map(|entry| fs::read_dir(entry.path().join("fd")).ok())
        .flat_map(|fds| fds.flatten())
        .filter(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_paths() {
        let path = |key| sysctl_path(key).map(|path| path.display().to_string());
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding").unwrap(), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding").unwrap(), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
        for bad in ["", "net/../kernel/panic", "net..x", "/etc/passwd"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_inotify_instance_is_counted() {
        let uid = nix::unistd::getuid().as_raw();
        let before = inotify_instances(uid);
        let _watchers: Vec<_> = (0..3).map(|_| crate::inotify::Watcher::new().unwrap()).collect();
        // Other processes come and go, so only a lower bound is certain: our own three.
        let own = fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .filter(|fd| fs::read_link(fd.path()).is_ok_and(|t| t.as_os_str() == "anon_inode:inotify"))
            .count();
        assert!(own >= 3);
        assert!(inotify_instances(uid) >= 3, "before: {before}");
    }

    #[test]
    fn the_clock_can_be_asked() {
        clock_synced().unwrap();
    }

    #[test]
    fn memory_is_known() {
        assert!(meminfo("MemTotal").unwrap() > 1 << 20);
        assert_eq!(meminfo("MemTot"), None);
    }
}
