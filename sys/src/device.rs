//! Keeping a control group away from what belongs to the host: its disks, and writing to its kernel log.
//!
//! A node in a container is root and may make any device node. What it may *open* its control group decides: on v1 by the devices
//! controller, on v2 by a small program that the kernel asks at each open (BPF_PROG_TYPE_CGROUP_DEVICE). Making nodes stays allowed, since
//! container runtimes grant just that to every container and fail when they cannot; reading the kernel log too, since kubelet finds
//! out-of-memory kills there.

use std::{
    fs::{self, File},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use crate::{Error, Result, cgroup::Layout, error::During, error::show};

/// Forbids reading and writing of block devices, and writing to the kernel log, to everything in the group `path` of `layout`, now and
/// later.
///
/// # Errors
/// [`Error::Missing`] when the host has no means for it.
pub fn deny_host_devices(layout: &Layout, path: &Path) -> Result<()> {
    match layout {
        Layout::V1(hierarchies) => {
            let devices = hierarchies.iter().find(|hierarchy| hierarchy.controllers.iter().any(|controller| controller == "devices"));
            let Some(devices) = devices else {
                return Err(Error::Missing {
                    feature: "the devices controller",
                    hint: "mount it, or trust the node not to open disks".into(),
                });
            };
            let file = devices.mount.join(path).join("devices.deny");
            ["b *:* rw", "c 1:11 w"]
                .into_iter()
                .try_for_each(|rule| fs::write(&file, rule).during(|| format!("forbid devices ({rule}) by {}", show(&file))))
        }
        Layout::V2 { mount } => attach(&mount.join(path)),
    }
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// An instruction: opcode, registers (destination in the low half), offset, immediate.
const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    code as u64
        | (((source << 4) | destination) as u64) << 8
        | (offset.cast_unsigned() as u64) << 16
        | (immediate.cast_unsigned() as u64) << 32
}

/// The kernel passes `{ access << 16 | type, major, minor }`; type 1 is a block device, access bits are 1 make, 2 read, 4 write.
#[rustfmt::skip]
const PROGRAM: [u64; 15] = [
    instruction(0x61, 2, 1, 0, 0),       // r2 = *(u32 *)(r1 + 0)
    instruction(0xbf, 3, 2, 0, 0),       // r3 = r2
    instruction(0x57, 3, 0, 0, 0xffff),  // r3 &= 0xffff
    instruction(0x15, 3, 0, 6, 1),       // if r3 == 1 goto block
    instruction(0x61, 4, 1, 4, 0),       // r4 = *(u32 *)(r1 + 4)
    instruction(0x55, 4, 0, 7, 1),       // if r4 != 1 goto allow
    instruction(0x61, 4, 1, 8, 0),       // r4 = *(u32 *)(r1 + 8)
    instruction(0x55, 4, 0, 5, 11),      // if r4 != 11 goto allow
    instruction(0x57, 2, 0, 0, 4 << 16), // r2 &= write << 16
    instruction(0x05, 0, 0, 1, 0),       // goto decide
    instruction(0x57, 2, 0, 0, 6 << 16), // block: r2 &= (read | write) << 16
    instruction(0xb7, 0, 0, 0, 0),       // decide: r0 = 0
    instruction(0x55, 2, 0, 1, 0),       // if r2 != 0 goto exit
    instruction(0xb7, 0, 0, 0, 1),       // allow: r0 = 1
    instruction(0x95, 0, 0, 0, 0),       // exit
];

/// The head of `union bpf_attr` for BPF_PROG_LOAD (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach: u32,
}

/// The head of `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T, what: &str) -> Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of a live structure laid out as the command demands, and treats what is beyond as
    // zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match i32::try_from(result) {
        Ok(number) if number >= 0 => Ok(number),
        _ => match Error::last_os(what) {
            error if error.raw_os_error() == Some(libc::ENOSYS) => Err(Error::Missing {
                feature: "BPF for control groups",
                hint: "use a kernel with CONFIG_CGROUP_BPF, or trust the node not to open disks".into(),
            }),
            error => Err(error),
        },
    }
}

fn attach(dir: &Path) -> Result<()> {
    let license = c"Apache-2.0";
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(PROGRAM.len()).unwrap_or(0),
        instructions: PROGRAM.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach: BPF_CGROUP_DEVICE,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load, "load the device program of a control group")?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it. The group keeps the program when it is closed.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let group = File::open(dir).during(|| format!("open the control group {}", show(dir)))?;
    let attach = Attach {
        target: group.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        kind: BPF_CGROUP_DEVICE,
        // Container runtimes attach their own below; all must agree.
        flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attach, "attach the device program to a control group").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mount::MountInfo, process::Exit, spawn::Spawn};
    use std::time::Duration;

    #[test]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        // By hand from the layout in linux/bpf.h: code, registers (source high, destination low), offset, immediate; little-endian.
        assert_eq!(PROGRAM[0].to_le_bytes(), [0x61, 0x12, 0, 0, 0, 0, 0, 0]);
        assert_eq!(PROGRAM[7].to_le_bytes(), [0x55, 0x04, 5, 0, 11, 0, 0, 0]);
        assert_eq!(PROGRAM[10].to_le_bytes(), [0x57, 0x02, 0, 0, 0, 0, 6, 0]);
    }

    #[test]
    fn disks_are_closed_and_the_kernel_log_is_for_reading_only() {
        let disk = fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.path()).find(|path| {
            use std::os::unix::fs::FileTypeExt;
            fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device()) && File::open(path).is_ok()
        });
        let (true, Some(disk)) = (crate::host::is_root(), disk) else {
            eprintln!("skipped: needs root and a disk");
            return;
        };
        let mounts = MountInfo::all().unwrap();
        let v1 = Layout::from_mounts(&mounts).ok().filter(|layout| !layout.is_unified());
        let v2 = mounts.iter().find(|mount| mount.fstype == "cgroup2").map(|mount| Layout::V2 { mount: mount.target.clone() });
        for (index, layout) in v1.into_iter().chain(v2).enumerate() {
            let group = layout.group(format!("orlop-device-{}-{index}", std::process::id()));
            group.create().unwrap();
            let denied = deny_host_devices(&layout, group.path());
            let open = |from: &Path, to: &str| {
                let dd =
                    Spawn::new("/bin/dd").arg(format!("if={}", show(from))).arg(format!("of={to}")).arg("count=1").arg("iflag=nonblock");
                dd.cgroups(group.dirs()).start().unwrap().wait(Duration::from_secs(10)).unwrap()
            };
            let null = Path::new("/dev/null");
            let found = [open(&disk, "/dev/null"), open(Path::new("/dev/zero"), "/dev/null"), open(null, "/dev/kmsg")];
            // Reading the log may find nothing new, so the open alone is tried.
            let read = Spawn::new("/bin/sh").arg("-c").arg("exec 3</dev/kmsg").cgroups(group.dirs()).start().unwrap();
            let read = read.wait(Duration::from_secs(10)).unwrap();
            group.remove(Duration::from_secs(10)).unwrap();
            denied.unwrap();
            assert_eq!(found, [Some(Exit::Code(1)), Some(Exit::Code(0)), Some(Exit::Code(1))], "{layout:?}");
            assert_eq!(read, Some(Exit::Code(0)), "{layout:?}");
        }
    }
}
