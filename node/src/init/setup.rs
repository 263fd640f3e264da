//! The first milliseconds: mounts and directories, as data.
//!
//! In container mode whoever started us has set up the root with `/proc`, `/sys`, `/dev`, the control groups and `/var`, and taken rights
//! away; what is missing here is the node's own. On a machine everything is ours to mount.
//!
//! No step is fatal: a node that comes up with less can say over its API what is missing, a PID 1 that ended cannot.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use sys::{
    cgroup::Layout,
    mount::{self, Flags, MountPlan, Propagation, Step},
};

/// Directories: path, mode, owner and group. Modes are the compatible ones.
const DIRECTORIES: &[(&str, u32, u32)] = &[
    ("/system/etc", 0o755, 0),
    ("/system/config", 0o700, 0),
    ("/system/secrets", 0o711, 0),
    ("/system/state", 0o700, 0),
    ("/system/resolved", 0o755, 0),
    ("/system/run", 0o751, 0),
    ("/system/run/machined", 0o771, 50),
    ("/system/run/apid", 0o750, 50),
    ("/system/run/trustd", 0o750, 51),
    ("/system/run/edge", 0o750, 53),
    ("/run/containerd", 0o711, 0),
    ("/run/orlop", 0o700, 0),
    ("/run/orlop/platform", 0o700, 0),
    ("/run/log", 0o755, 0),
    ("/run/lock", 0o755, 0),
];

/// Directories in /var, once it is there.
const VAR_DIRECTORIES: &[(&str, u32, u32)] = &[
    ("/var/lib/containerd", 0o711, 0),
    ("/var/lib/etcd", 0o700, 60),
    ("/var/lib/kubelet", 0o700, 0),
    ("/var/lib/cni", 0o700, 0),
    ("/var/log", 0o755, 0),
    ("/var/log/audit", 0o700, 0),
    ("/var/log/containers", 0o755, 0),
    ("/var/log/pods", 0o755, 0),
    ("/var/mnt", 0o755, 0),
    ("/var/system/overlays", 0o700, 0),
    ("/var/system/state", 0o700, 0),
];

/// Directories of the root that workloads write to: an overlay each, with its writable side in /var.
pub const OVERLAYS: &[&str] = &["/opt", "/etc/cni", "/etc/kubernetes", "/usr/libexec/kubernetes"];

/// What came of the setup.
pub struct Outcome {
    /// True in container mode.
    pub container: bool,
    /// The layout of control groups, where there is one.
    pub layout: Option<Layout>,
    /// What did not work, in words.
    pub problems: Vec<String>,
}

/// Does all of it.
pub fn run() -> Outcome {
    let container = std::env::var_os("PLATFORM").is_some_and(|platform| platform == "container");
    let mut setup = Setup { problems: Vec::new() };
    if !container {
        machine_mounts().steps().iter().for_each(|step| setup.step(step.clone()));
    }
    setup.temporary();
    setup.directories(DIRECTORIES);
    if container {
        setup.keep_platform_files();
        setup.image_cache();
        setup.var();
        setup.boot_id();
    }
    // Workloads' mounts are to reach pods and back.
    setup.try_to("share the mounts", mount::propagate(Path::new("/"), Propagation::Shared));
    let layout = setup.cgroups();
    setup.limits();
    Outcome { container, layout, problems: setup.problems }
}

/// The kernel's own file systems on a machine. In the initramfs and after it, a step that finds its work done is fine.
fn machine_mounts() -> MountPlan {
    let device = Flags { no_suid: true, no_exec: true, ..Flags::NONE };
    MountPlan::new()
        .mount("proc", "/proc", Flags::DATA, "")
        .mount("sysfs", "/sys", Flags::DATA, "")
        .mount("devtmpfs", "/dev", Flags { no_suid: true, ..Flags::NONE }, "mode=755")
        .dir("/dev/pts", 0o755)
        .dir("/dev/shm", 0o1777)
        .dir("/dev/mqueue", 0o1777)
        .mount("devpts", "/dev/pts", device, "newinstance,ptmxmode=0666,mode=0620,gid=5")
        .mount("tmpfs", "/dev/shm", Flags::DATA, "mode=1777")
        .mount("mqueue", "/dev/mqueue", Flags::DATA, "")
        .mount("cgroup2", "/sys/fs/cgroup", Flags::DATA, "nsdelegate")
        .mount("securityfs", "/sys/kernel/security", Flags::DATA, "")
        .mount("bpf", "/sys/fs/bpf", Flags::DATA, "mode=700")
        .mount("efivarfs", "/sys/firmware/efi/efivars", Flags::DATA.ro(), "")
}

struct Setup {
    problems: Vec<String>,
}

impl Setup {
    fn try_to<E: std::fmt::Display>(&mut self, what: &str, result: Result<(), E>) {
        if let Err(error) = result {
            self.problems.push(format!("could not {what}: {error}"));
        }
    }

    fn step(&mut self, step: Step) {
        if let Step::Mount { target, .. } = &step
            && mount::is_mount_point(target)
        {
            return;
        }
        self.try_to("set up the node", MountPlan::new().step(step).apply(Path::new("/")));
    }

    fn temporary(&mut self) {
        for (path, mode, size) in [("/run", 0o755, "20%"), ("/tmp", 0o1777, "20%"), ("/system", 0o755, "10%")] {
            if !mount::is_mount_point(Path::new(path)) {
                self.try_to("mount a tmpfs", MountPlan::new().tmpfs(path, mode, size).apply(Path::new("/")));
            }
        }
    }

    fn directories(&mut self, list: &[(&str, u32, u32)]) {
        for (path, mode, owner) in list {
            let make = || -> io::Result<()> {
                fs::create_dir_all(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))?;
                if *owner != 0 { chown(path, Some(*owner), Some(*owner)) } else { Ok(()) }
            };
            self.try_to(&format!("make {path}"), make());
        }
    }

    /// The platform's host name and resolvers, before anything is mounted over them.
    fn keep_platform_files(&mut self) {
        for name in ["hostname", "resolv.conf"] {
            let to = format!("/run/orlop/platform/{name}");
            if Path::new(&to).exists() {
                continue;
            }
            match fs::copy(format!("/etc/{name}"), &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => self.problems.push(format!("could not keep /etc/{name}: {error}")),
                _ => {}
            }
        }
    }

    /// The image cache, unless it is where it belongs already.
    fn image_cache(&mut self) {
        let target = Path::new("/system/imagecache");
        let Some(source) = std::env::var_os("ORLOP_IMAGE_CACHE").filter(|source| !source.is_empty()) else { return };
        if Path::new(&source) == target || mount::is_mount_point(target) {
            return;
        }
        let plan = MountPlan::new().dir(target, 0o755).bind(source, target, Flags::PLAIN.ro());
        self.try_to("mount the image cache", plan.apply(Path::new("/")));
    }

    fn var(&mut self) {
        self.directories(VAR_DIRECTORIES);
        if !mount::is_mount_point(Path::new("/system/state")) {
            self.try_to(
                "keep /system/state in /var",
                mount::bind(Path::new("/var/system/state"), Path::new("/system/state"), Flags::PLAIN, false),
            );
        }
        for target in OVERLAYS {
            let result = overlay(target);
            self.try_to(&format!("make {target} writable"), result);
        }
    }

    /// A boot id of the node's own: the host's would be the same after a reboot of the node, and clients tell boots apart by it.
    fn boot_id(&mut self) {
        let own = Path::new("/run/orlop/boot-id");
        if own.exists() {
            return;
        }
        let place = Path::new("/proc/sys/kernel/random/boot_id");
        let made = fs::read_to_string("/proc/sys/kernel/random/uuid").and_then(|id| fs::write(own, id));
        self.try_to("make a boot id", made);
        self.try_to("show the node its own boot id", mount::bind(own, place, Flags::PLAIN, false));
    }

    fn cgroups(&mut self) -> Option<Layout> {
        match Layout::detect() {
            Ok(layout) => {
                self.try_to("make room for control groups", layout.make_room("init"));
                Some(layout)
            }
            Err(error) => {
                self.problems.push(error.to_string());
                None
            }
        }
    }

    fn limits(&mut self) {
        let files = sys::host::raise_open_files(1 << 20).map(drop);
        self.try_to("raise the limit of open files", files);
    }
}

/// Mounts the overlay of one of [`OVERLAYS`]; also for `machined`, when /var comes later.
pub fn overlay(target: &str) -> sys::Result<()> {
    let target = Path::new(target);
    if mount::MountInfo::all()?.iter().any(|found| found.target == target && found.fstype == "overlay") {
        return Ok(());
    }
    let name = target.to_string_lossy().trim_start_matches('/').replace('/', "-");
    let (upper, work) = (format!("/var/system/overlays/{name}-diff"), format!("/var/system/overlays/{name}-work"));
    MountPlan::new()
        .dir(&upper, 0o755)
        .dir(&work, 0o700)
        .step(Step::Overlay { lower: target.into(), upper: upper.into(), work: work.into(), target: target.into() })
        .apply(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contracted_directory_is_made() {
        let made: Vec<&str> = DIRECTORIES.iter().chain(VAR_DIRECTORIES).map(|(path, ..)| *path).collect();
        for path in [
            "/system/secrets",
            "/system/run/machined",
            "/system/run/edge",
            "/run/orlop",
            "/var/lib/etcd",
            "/var/system/overlays",
            "/system/state",
        ] {
            assert!(made.contains(&path), "{path}");
        }
    }

    #[test]
    fn a_parent_comes_before_its_children() {
        for list in [DIRECTORIES, VAR_DIRECTORIES] {
            for (index, (path, ..)) in list.iter().enumerate() {
                assert!(!list[..index].iter().any(|(earlier, ..)| earlier.starts_with(&format!("{path}/"))), "{path}");
            }
        }
    }
}
