//! Mounts as data: a [`MountPlan`] says what a tree should hold, [`MountPlan::apply`] makes it so below a root.
//!
//! Targets are paths inside that root (`/dev`), sources are paths as the caller sees them. A plan stops at its first failing step and
//! names it; what was mounted stays, since the mount namespace the caller made goes with its processes.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags},
    sys::stat::{Mode, SFlag, makedev, mknod},
};

use crate::{Error, Result, error::During, error::show, image};

/// Mount flags, of which any set may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent flags of the kernel")]
pub struct Flags {
    /// Nothing can be written.
    pub read_only: bool,
    /// set-user-id bits have no effect.
    pub no_suid: bool,
    /// Device nodes have no effect.
    pub no_dev: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
}

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags { read_only: false, no_suid: false, no_dev: false, no_exec: false };
    /// nosuid, nodev, noexec: for file systems of data and kernel interfaces.
    pub const DATA: Flags = Flags { read_only: false, no_suid: true, no_dev: true, no_exec: true };
    /// nosuid, nodev: for file systems that hold programs.
    pub const PLAIN: Flags = Flags { read_only: false, no_suid: true, no_dev: true, no_exec: false };

    /// The same and read-only.
    pub const fn ro(self) -> Flags {
        Flags { read_only: true, ..self }
    }

    fn bits(self) -> MsFlags {
        let mut bits = MsFlags::empty();
        bits.set(MsFlags::MS_RDONLY, self.read_only);
        bits.set(MsFlags::MS_NOSUID, self.no_suid);
        bits.set(MsFlags::MS_NODEV, self.no_dev);
        bits.set(MsFlags::MS_NOEXEC, self.no_exec);
        bits
    }
}

/// How mounts pass between copies of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// In both directions.
    Shared,
    /// From the master only.
    Slave,
    /// Not at all.
    Private,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the arguments of the calls that the variants name")]
pub enum Step {
    /// A directory with its parents; an existing one keeps its mode.
    Dir { path: PathBuf, mode: u32 },
    /// A file with contents, replaced when it is there.
    File { path: PathBuf, contents: Vec<u8>, mode: u32 },
    /// An empty file to mount on, unless there is one.
    Touch { path: PathBuf },
    /// A symbolic link, replaced when it is there.
    Symlink { path: PathBuf, to: PathBuf },
    /// A character device.
    CharDevice { path: PathBuf, major: u64, minor: u64, mode: u32 },
    /// A new file system.
    Mount { fstype: String, source: String, target: PathBuf, flags: Flags, data: String },
    /// A directory or file that is there already, at a second place.
    Bind { source: PathBuf, target: PathBuf, flags: Flags, recursive: bool },
    /// An overlay whose writable side is `upper`, with `work` on the same file system.
    Overlay { lower: PathBuf, upper: PathBuf, work: PathBuf, target: PathBuf },
    /// An EROFS image file, read-only.
    Erofs { image: PathBuf, target: PathBuf },
    /// The propagation of a mount point and all below it.
    Propagate { target: PathBuf, how: Propagation },
}

/// Steps, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountPlan {
    steps: Vec<Step>,
}

impl MountPlan {
    /// An empty plan.
    pub fn new() -> MountPlan {
        MountPlan::default()
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// One more step.
    pub fn step(mut self, step: Step) -> MountPlan {
        self.steps.push(step);
        self
    }

    /// All steps of `other` after these.
    pub fn then(mut self, other: MountPlan) -> MountPlan {
        self.steps.extend(other.steps);
        self
    }

    /// A directory.
    pub fn dir(self, path: impl Into<PathBuf>, mode: u32) -> MountPlan {
        self.step(Step::Dir { path: path.into(), mode })
    }

    /// A file with contents.
    pub fn file(self, path: impl Into<PathBuf>, contents: impl Into<Vec<u8>>, mode: u32) -> MountPlan {
        self.step(Step::File { path: path.into(), contents: contents.into(), mode })
    }

    /// A symbolic link.
    pub fn symlink(self, path: impl Into<PathBuf>, to: impl Into<PathBuf>) -> MountPlan {
        self.step(Step::Symlink { path: path.into(), to: to.into() })
    }

    /// A new file system of `fstype`, named after its type.
    pub fn mount(self, fstype: &str, target: impl Into<PathBuf>, flags: Flags, data: impl Into<String>) -> MountPlan {
        self.step(Step::Mount { fstype: fstype.into(), source: fstype.into(), target: target.into(), flags, data: data.into() })
    }

    /// A tmpfs with this mode (octal) and at most `size` (as tmpfs(5) takes it: `64m`, `10%`).
    pub fn tmpfs(self, target: impl Into<PathBuf>, mode: u32, size: &str) -> MountPlan {
        self.mount("tmpfs", target, Flags::PLAIN, format!("mode={mode:o},size={size}"))
    }

    /// A bind mount of a single mount point.
    pub fn bind(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>, flags: Flags) -> MountPlan {
        self.step(Step::Bind { source: source.into(), target: target.into(), flags, recursive: false })
    }

    /// A bind mount of a file over a file, both made when missing on the target's side.
    pub fn bind_file(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>, flags: Flags) -> MountPlan {
        let target = target.into();
        self.step(Step::Touch { path: target.clone() }).bind(source, target, flags)
    }

    /// The minimal `/dev` of a node in a container: a tmpfs with the harmless character devices, devpts, shm and mqueue, and no block
    /// device.
    ///
    /// `/dev/console` is the null device: the real one belongs to the host.
    pub fn devices() -> MountPlan {
        let mut plan = MountPlan::new().mount("tmpfs", "/dev", Flags { no_suid: true, ..Flags::NONE }, "mode=755,size=1m");
        for (name, major, minor, mode) in [
            ("null", 1, 3, 0o666),
            ("zero", 1, 5, 0o666),
            ("full", 1, 7, 0o666),
            ("random", 1, 8, 0o666),
            ("urandom", 1, 9, 0o666),
            ("tty", 5, 0, 0o666),
            ("kmsg", 1, 11, 0o640),
            ("console", 1, 3, 0o620),
        ] {
            plan = plan.step(Step::CharDevice { path: Path::new("/dev").join(name), major, minor, mode });
        }
        for (name, to) in [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            plan = plan.symlink(Path::new("/dev").join(name), to);
        }
        plan.dir("/dev/pts", 0o755)
            .dir("/dev/shm", 0o1777)
            .dir("/dev/mqueue", 0o1777)
            .mount("devpts", "/dev/pts", Flags { no_suid: true, no_exec: true, ..Flags::NONE }, "newinstance,ptmxmode=0666,mode=0620,gid=5")
            .mount("tmpfs", "/dev/shm", Flags::DATA, "mode=1777,size=25%")
            .mount("mqueue", "/dev/mqueue", Flags::DATA, "")
    }

    /// Carries the plan out below `root`.
    pub fn apply(&self, root: &Path) -> Result<()> {
        self.steps.iter().try_for_each(|step| step.apply(root))
    }
}

/// `path` as seen from outside of `root`.
pub fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

impl Step {
    fn apply(&self, root: &Path) -> Result<()> {
        match self {
            Step::Dir { path, mode } => make_dir(&inside(root, path), *mode),
            Step::File { path, contents, mode } => write_file(&inside(root, path), contents, *mode),
            Step::Touch { path } => touch(&inside(root, path)),
            Step::Symlink { path, to } => {
                let path = inside(root, path);
                let _ = fs::remove_file(&path);
                std::os::unix::fs::symlink(to, &path).during(|| format!("make the link {}", show(&path)))
            }
            Step::CharDevice { path, major, minor, mode } => char_device(&inside(root, path), *major, *minor, *mode),
            Step::Mount { fstype, source, target, flags, data } => mount(fstype, source, &inside(root, target), *flags, data),
            Step::Bind { source, target, flags, recursive } => bind(source, &inside(root, target), *flags, *recursive),
            Step::Overlay { lower, upper, work, target } => overlay(lower, upper, work, &inside(root, target)),
            Step::Erofs { image, target } => image::mount_erofs(image, &inside(root, target)),
            Step::Propagate { target, how } => propagate(&inside(root, target), *how),
        }
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).during(|| format!("make the directory {}", show(path)))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(|| format!("set the mode of {}", show(path)))
}

fn write_file(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.write_all(contents)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
    };
    write().during(|| format!("write {}", show(path)))
}

fn touch(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::OpenOptions::new().append(true).create(true).open(path).map(drop).during(|| format!("make the empty file {}", show(path)))
}

fn char_device(path: &Path, major: u64, minor: u64, mode: u32) -> Result<()> {
    let permissions = Mode::from_bits_truncate(mode);
    match mknod(path, SFlag::S_IFCHR, permissions, makedev(major, minor)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(errno) => return Err(Error::raw(format!("make the device {}", show(path)), errno as i32)),
    }
    // mknod is subject to the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(|| format!("set the mode of {}", show(path)))
}

/// Mounts a new file system.
pub fn mount(fstype: &str, source: &str, target: &Path, flags: Flags, data: &str) -> Result<()> {
    let data = (!data.is_empty()).then_some(data);
    nix::mount::mount(Some(source), target, Some(fstype), flags.bits(), data).during(|| format!("mount {fstype} on {}", show(target)))
}

/// Mounts what is at `source` at `target` too.
pub fn bind(source: &Path, target: &Path, flags: Flags, recursive: bool) -> Result<()> {
    let none = None::<&str>;
    let mut kind = MsFlags::MS_BIND;
    kind.set(MsFlags::MS_REC, recursive);
    nix::mount::mount(Some(source), target, none, kind, none).during(|| format!("bind {} on {}", show(source), show(target)))?;
    if flags == Flags::NONE {
        return Ok(());
    }
    // A bind mount takes its flags only in a second call.
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags.bits();
    nix::mount::mount(none, target, none, again, none).during(|| format!("set the flags of the bind mount {}", show(target)))
}

/// Mounts an overlay.
pub fn overlay(lower: &Path, upper: &Path, work: &Path, target: &Path) -> Result<()> {
    for path in [lower, upper, work] {
        if path.to_string_lossy().contains([',', ':']) {
            return Err(Error::Invalid(format!("{} cannot be part of an overlay: it holds a comma or colon", show(path))));
        }
    }
    let data = format!("lowerdir={},upperdir={},workdir={}", show(lower), show(upper), show(work));
    mount("overlay", "overlay", target, Flags::NONE, &data)
}

/// Sets the propagation of `target` and all mounts below it.
pub fn propagate(target: &Path, how: Propagation) -> Result<()> {
    let kind = match how {
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Private => MsFlags::MS_PRIVATE,
    };
    let none = None::<&str>;
    nix::mount::mount(none, target, none, kind | MsFlags::MS_REC, none).during(|| format!("make the mounts below {} {how:?}", show(target)))
}

/// Makes `root` (a mount point) the root of this mount namespace and lets go of the old one.
pub fn pivot(root: &Path) -> Result<()> {
    // With the new root put over the old one in place, no directory is needed to receive the old root: pivot_root(2), "pivot_root(".",
    // ".")".
    std::env::set_current_dir(root).during(|| format!("enter {}", show(root)))?;
    nix::unistd::pivot_root(".", ".").during(|| format!("make {} the root", show(root)))?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH).during(|| "let go of the old root".into())?;
    std::env::set_current_dir("/").during(|| "enter the new root".into())
}

/// Unmounts. With `lazy`, at once from the tree and from the kernel when the last user is gone. `Ok(false)` when nothing was mounted there.
pub fn unmount(target: &Path, lazy: bool) -> Result<bool> {
    let flags = MntFlags::UMOUNT_NOFOLLOW | if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match nix::mount::umount2(target, flags) {
        Ok(()) => Ok(true),
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Error::raw(format!("unmount {}", show(target)), errno as i32)),
    }
}

/// A line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// The mount's id.
    pub id: u32,
    /// Its parent's id.
    pub parent: u32,
    /// What of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// The options of this mount point.
    pub options: String,
    /// The type of file system.
    pub fstype: String,
    /// The source as given.
    pub source: String,
    /// The options of the file system.
    pub super_options: String,
}

impl MountInfo {
    /// Parses a whole mountinfo file; lines that do not fit are left out.
    pub fn parse(text: &str) -> Vec<MountInfo> {
        text.lines().filter_map(MountInfo::parse_line).collect()
    }

    fn parse_line(line: &str) -> Option<MountInfo> {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let mut right = right.split(' ');
        Some(MountInfo {
            id: left.first()?.parse().ok()?,
            parent: left.get(1)?.parse().ok()?,
            root: unescape(left.get(3)?).into(),
            target: unescape(left.get(4)?).into(),
            options: (*left.get(5)?).to_owned(),
            fstype: right.next()?.to_owned(),
            source: unescape(right.next()?),
            super_options: right.next().unwrap_or_default().to_owned(),
        })
    }

    /// The mounts of this process's mount namespace, in mount order.
    pub fn all() -> Result<Vec<MountInfo>> {
        let text = fs::read_to_string("/proc/self/mountinfo").during(|| "read /proc/self/mountinfo".into())?;
        Ok(MountInfo::parse(&text))
    }
}

/// Undoes the octal escapes of blanks, tabs, newlines and backslashes.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// True when something is mounted exactly at `path`.
pub fn is_mount_point(path: &Path) -> bool {
    MountInfo::all().is_ok_and(|mounts| mounts.iter().any(|mount| mount.target == path))
}

/// The mount that `path` lies on.
pub fn mount_of(path: &Path) -> Result<MountInfo> {
    let path = path.canonicalize().during(|| format!("resolve {}", show(path)))?;
    let mounts = MountInfo::all()?;
    let depth = |mount: &MountInfo| mount.target.components().count();
    // Of several at one target the last one is on top, and `max_by_key` gives the last of equals.
    let best = mounts.into_iter().filter(|mount| path.starts_with(&mount.target)).max_by_key(depth);
    best.ok_or_else(|| Error::Malformed { what: "/proc/self/mountinfo".into(), found: format!("no mount holds {}", show(&path)) })
}

/// The type of the file system that holds `path` (`ext4`, `xfs`, `tmpfs`, `overlay` …).
pub fn filesystem_of(path: &Path) -> Result<String> {
    mount_of(path).map(|mount| mount.fstype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_with_escapes_and_optional_fields() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:4 - ext3 /dev/root rw,errors=continue\n\
                    37 36 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\nnonsense\n";
        let mounts = MountInfo::parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].target, Path::new("/mnt 2"));
        assert_eq!((mounts[0].id, mounts[0].parent, mounts[0].fstype.as_str()), (36, 35, "ext3"));
        assert_eq!(mounts[1].super_options, "rw,cpu,cpuacct");
    }

    #[test]
    fn a_container_dev_has_no_block_device_and_not_the_hosts_console() {
        for step in MountPlan::devices().steps() {
            if let Step::CharDevice { path, major, minor, .. } = step {
                assert!([(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (1, 11)].contains(&(*major, *minor)), "{path:?}");
            }
        }
    }

    #[test]
    fn targets_stay_below_the_root() {
        assert_eq!(inside(Path::new("/r"), Path::new("/dev")), Path::new("/r/dev"));
        assert_eq!(inside(Path::new("/"), Path::new("/dev")), Path::new("/dev"));
    }

    #[test]
    fn an_overlay_refuses_paths_its_options_cannot_say() {
        let error = overlay(Path::new("/a"), Path::new("/b,c"), Path::new("/d"), Path::new("/e")).unwrap_err();
        assert!(error.to_string().contains("/b,c"), "{error}");
    }
}
