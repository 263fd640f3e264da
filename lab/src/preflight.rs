//! What a host must have before a cluster is made on it: looked up first ([`Host::look`]), judged by a pure function ([`judge`]), so that a
//! refusal names every number at once.

use std::path::Path;

use sys::{cgroup::Layout, host, netlink::Netlink, ns};

use crate::{Refusal, Role};

const MIB: u64 = 1 << 20;

/// What a node takes of a host. Measured on idle nodes, with a margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Memory in bytes.
    pub memory: u64,
    /// inotify instances of root.
    pub inotify: u64,
    /// Disk space in bytes.
    pub disk: u64,
}

/// What a node of this role takes.
pub fn demand(role: Role) -> Demand {
    match role {
        // Proportional set sizes in MiB: API server 319, controller manager 138, kubelet 129, scheduler 104, kube-proxy 96, two CoreDNS 92,
        // etcd 54, containerd and shims 85, ours 42. inotify: kubelet 5, containerd 2, kube-proxy 1, machined 1 (the API server's 8 and the
        // controller manager's 4 are other users').
        Role::ControlPlane => Demand { memory: 1100 * MIB, inotify: 10, disk: 500 * MIB },
        Role::Worker => Demand { memory: 400 * MIB, inotify: 10, disk: 300 * MIB },
    }
}

/// What a host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The caller is root.
    pub root: bool,
    /// Free memory in bytes.
    pub memory: u64,
    /// Free space in bytes where the cluster is to live.
    pub disk: u64,
    /// Where that is.
    pub place: String,
    /// Nothing can be executed there.
    pub noexec: bool,
    /// inotify instances root has, and may have.
    pub inotify: (u64, u64),
    /// How many files a process may open at most.
    pub open_files: u64,
    /// Namespaces the kernel lacks.
    pub missing_namespaces: Vec<&'static str>,
    /// File systems the kernel lacks.
    pub missing_filesystems: Vec<&'static str>,
    /// Kinds of links the kernel lacks.
    pub missing_links: Vec<&'static str>,
    /// What is wrong with control groups.
    pub cgroups: Option<String>,
}

impl Host {
    /// Looks at this host; `place` is where clusters live (or its first ancestor that is there).
    pub fn look(place: &Path) -> Host {
        let there = place.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let limit = |key| host::sysctl(key).ok().and_then(|value| value.parse().ok()).unwrap_or(u64::MAX);
        Host {
            root: host::is_root(),
            memory: host::meminfo("MemAvailable").unwrap_or(u64::MAX),
            disk: host::space(there).map_or(u64::MAX, |space| space.available),
            place: there.display().to_string(),
            noexec: sys::mount::mount_of(there).is_ok_and(|mount| mount.options.split(',').any(|option| option == "noexec")),
            inotify: (host::inotify_instances(0) as u64, limit("fs.inotify.max_user_instances")),
            open_files: host::open_files_limit().map_or(u64::MAX, |(_, hard)| hard),
            missing_namespaces: ns::Kind::ALL.iter().filter(|kind| !kind.supported()).map(|kind| kind.name()).collect(),
            missing_filesystems: ["overlay", "erofs", "tmpfs", "mqueue", "proc", "sysfs", "devpts"]
                .into_iter()
                .filter(|name| !host::has_filesystem(name))
                .collect(),
            missing_links: missing_links(),
            cgroups: Layout::detect().err().map(|error| error.to_string()),
        }
    }
}

/// Asks the kernel in a network namespace of a thread's own, which goes with the thread. Without the right to make one, nothing is known to
/// be missing.
fn missing_links() -> Vec<&'static str> {
    let probe = || -> sys::Result<Vec<&'static str>> {
        ns::unshare(&[ns::Kind::Net])?;
        let netlink = Netlink::open()?;
        let mut missing = Vec::new();
        for kind in ["bridge", "veth", "vxlan"] {
            if !netlink.knows_kind(kind)? {
                missing.push(kind);
            }
        }
        Ok(missing)
    };
    std::thread::spawn(probe).join().ok().and_then(Result::ok).unwrap_or_default()
}

/// Says what of `host` does not suffice for nodes of these roles.
pub fn judge(host: &Host, roles: &[Role]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |found: String, remedy: &str| refusals.push(Refusal { found, remedy: remedy.to_owned() });
    let sum = |of: fn(Demand) -> u64| roles.iter().map(|role| of(demand(*role))).sum::<u64>();
    let nodes = roles.len();

    if !host.root {
        refuse("you are not root, and nodes in namespaces are made by root".into(), "run it with sudo");
    }
    let memory = sum(|demand| demand.memory);
    if host.memory < memory {
        refuse(
            format!("{} MiB of memory are free, and {nodes} nodes need {} MiB", host.memory / MIB, memory / MIB),
            "end other programs, or ask for fewer nodes (--controlplanes, --workers)",
        );
    }
    let disk = sum(|demand| demand.disk);
    if host.disk < disk {
        refuse(
            format!("{} MiB are free in {}, and {nodes} nodes need {} MiB", host.disk / MIB, host.place, disk / MIB),
            "free some space, or keep clusters elsewhere (--state)",
        );
    }
    if host.noexec {
        refuse(format!("{} is mounted noexec, and containers could run nothing there", host.place), "keep clusters elsewhere (--state)");
    }
    let (used, limit) = host.inotify;
    let inotify = sum(|demand| demand.inotify);
    if used + inotify > limit {
        let remedy = format!(
            "end programs that watch files, ask for fewer nodes, or raise it: sysctl fs.inotify.max_user_instances={}",
            (used + inotify).next_power_of_two().max(512)
        );
        refuse(format!("root has {used} of at most {limit} inotify instances, and {nodes} nodes need {inotify} more"), &remedy);
    }
    if host.open_files < 4096 {
        refuse(
            format!("a process may open {} files at most, and etcd and containerd need 4096", host.open_files),
            "raise the hard limit: ulimit -Hn 20000",
        );
    }
    let lacks = |what: &str, names: &[&str]| format!("this kernel lacks {what}: {}", names.join(", "));
    if !host.missing_namespaces.is_empty() {
        refuse(lacks("namespaces", &host.missing_namespaces), "use a kernel with CONFIG_NAMESPACES and these kinds of them");
    }
    if !host.missing_filesystems.is_empty() {
        refuse(lacks("file systems", &host.missing_filesystems), "load their modules (modprobe), or use a kernel that has them");
    }
    if !host.missing_links.is_empty() {
        refuse(lacks("kinds of links", &host.missing_links), "load their modules (modprobe), or use a kernel that has them");
    }
    if let Some(why) = &host.cgroups {
        refuse(why.clone(), "mount control groups (v2, or v1 with its controllers) below /sys/fs/cgroup");
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roomy() -> Host {
        Host {
            root: true,
            memory: 8 << 30,
            disk: 50 << 30,
            place: "/clusters".into(),
            noexec: false,
            inotify: (10, 128),
            open_files: 20_000,
            missing_namespaces: vec![],
            missing_filesystems: vec![],
            missing_links: vec![],
            cgroups: None,
        }
    }

    #[test]
    fn a_roomy_host_is_fine() {
        assert_eq!(judge(&roomy(), &[Role::ControlPlane, Role::Worker]), []);
    }

    #[test]
    fn every_lack_is_told_with_its_number() {
        let small = Host {
            memory: 100 << 20,
            disk: 5 << 20,
            inotify: (120, 128),
            open_files: 1024,
            root: false,
            noexec: true,
            missing_links: vec!["vxlan"],
            ..roomy()
        };
        let text = judge(&small, &[Role::ControlPlane, Role::Worker]).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for word in [
            "100 MiB of memory",
            "1500 MiB",
            "5 MiB are free in /clusters",
            "120 of at most 128",
            "20 more",
            "max_user_instances=512",
            "1024 files",
            "vxlan",
            "sudo",
            "mounted noexec",
        ] {
            assert!(text.contains(word), "{word} in:\n{text}");
        }
    }

    #[test]
    fn the_limit_counts_what_is_in_use() {
        let host = |used| Host { inotify: (used, 128), ..roomy() };
        assert_eq!(judge(&host(108), &[Role::ControlPlane, Role::Worker]), []);
        assert_eq!(judge(&host(109), &[Role::ControlPlane, Role::Worker]).len(), 1);
    }
}
