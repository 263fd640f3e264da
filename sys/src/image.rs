//! Image files as file systems: EROFS straight from the file where the kernel can (6.12 and newer), else through a loop device that
//! frees itself at the last unmount.

use std::{
    fs::{File, OpenOptions},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result,
    error::{During, show},
    mount::{self, Flags},
};

/// How an image was mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// From the file itself.
    File,
    /// Through a loop device.
    Loop,
}

/// Mounts the EROFS image in the file `image` read-only at `target`.
pub fn mount_erofs(image: &Path, target: &Path) -> Result<()> {
    mount_erofs_via(image, target).map(drop)
}

/// The same, and says how.
pub fn mount_erofs_via(image: &Path, target: &Path) -> Result<Via> {
    let file = File::open(image).during(|| format!("open the image {}", show(image)))?;
    let source = image.to_str().ok_or_else(|| Error::Invalid(format!("the path of the image {} is not UTF-8", show(image))))?;
    let flags = Flags { read_only: true, no_suid: true, no_dev: true, no_exec: false };
    match mount::mount("erofs", source, target, flags, "") {
        Ok(()) => return Ok(Via::File),
        // ENOTBLK: this kernel wants a block device. EINVAL may mean the same in early versions, or a bad image: the loop device will tell.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTBLK | libc::EINVAL)) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            return Err(Error::Missing { feature: "EROFS", hint: "use a kernel with CONFIG_EROFS_FS (or load the module erofs)".into() });
        }
        Err(error) => return Err(error),
    }
    mount_by_loop(&file, image, target, flags).map(|()| Via::Loop)
}

fn mount_by_loop(file: &File, image: &Path, target: &Path, flags: Flags) -> Result<()> {
    let (device, _hold) = attach(file, image)?;
    // The loop device frees itself once `_hold` and the mount are gone.
    mount::mount("erofs", &device.to_string_lossy(), target, flags, "")
}

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` of linux/loop.h, of which only the descriptor and the flags matter here.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const _: () = assert!(size_of::<LoopInfo64>() == 232 && size_of::<LoopConfig>() == 304);

/// Attaches `file` to a free loop device, read-only and self-freeing. Gives its path and an open descriptor that keeps it attached.
fn attach(file: &File, image: &Path) -> Result<(PathBuf, File)> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").map_err(|source| Error::Os {
        what: format!("this kernel mounts {} only through a loop device; open /dev/loop-control", show(image)),
        source,
    })?;
    // Another process may take the device between the two calls: try again.
    for _ in 0..64 {
        // SAFETY: this ioctl takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(Error::last_os("find a free loop device"));
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).open(&path).during(|| format!("open {}", show(&path)))?;
        // SAFETY: plain integers and byte arrays; all zeroes is a valid value.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = file.as_raw_fd().unsigned_abs();
        config.info.flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
        // SAFETY: LOOP_CONFIGURE reads one struct loop_config, whose layout is asserted above, through a pointer that lives through the
        // call.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) } == 0 {
            return Ok((path, device));
        }
        let error = Error::last_os(format!("attach {} to {}", show(image), show(&path)));
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error);
        }
    }
    Err(Error::Invalid("no loop device could be had: other programs took each free one first".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_image_is_named() {
        let error = mount_erofs(Path::new("/no/such/root.erofs"), Path::new("/mnt")).unwrap_err();
        assert!(error.to_string().contains("/no/such/root.erofs") && error.is_not_found(), "{error}");
    }

    /// Both ways, with any EROFS image named by ORLOP_TEST_EROFS.
    #[test]
    fn an_image_is_mounted_from_its_file_and_through_a_loop_device_that_frees_itself() {
        let Some(image) =
            std::env::var_os("ORLOP_TEST_EROFS").map(|path| std::fs::canonicalize(path).unwrap()).filter(|_| crate::host::is_root())
        else {
            eprintln!("skipped: needs root, and an image named by ORLOP_TEST_EROFS");
            return;
        };
        let test = move || {
            crate::ns::unshare(&[crate::ns::Kind::Mount]).unwrap();
            mount::propagate(Path::new("/"), mount::Propagation::Private).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let entries = || {
                let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
                names.sort();
                names
            };
            let backed = || {
                let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
                let files: Vec<String> =
                    disks.filter_map(|disk| std::fs::read_to_string(disk.path().join("loop/backing_file")).ok()).collect();
                files.iter().filter(|file| file.trim() == image.to_string_lossy()).count()
            };
            let before = backed();
            let via = mount_erofs_via(&image, dir.path()).unwrap();
            eprintln!("mounted via {via:?}");
            let by_file = entries();
            assert!(!by_file.is_empty());
            assert!(std::fs::write(dir.path().join("x"), "y").is_err());
            assert!(mount::unmount(dir.path(), false).unwrap());
            let file = File::open(&image).unwrap();
            mount_by_loop(&file, &image, dir.path(), Flags { read_only: true, ..Flags::NONE }).unwrap();
            assert_eq!(entries(), by_file);
            assert_eq!(backed(), before + 1);
            assert!(mount::unmount(dir.path(), false).unwrap());
            crate::process::wait_until("free the loop device", std::time::Duration::from_secs(5), || backed() == before).unwrap();
        };
        std::thread::spawn(test).join().unwrap();
    }
}
