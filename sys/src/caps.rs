//! Capabilities: asking for them and giving them up for good.

use nix::errno::Errno;

use crate::{Error, Result};

/// A capability (capabilities(7)), by its kernel number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the kernel's own, documented in capabilities(7)")]
pub enum Cap {
    NetBindService = 10,
    NetAdmin = 12,
    SysModule = 16,
    SysRawio = 17,
    SysAdmin = 21,
    SysBoot = 22,
    SysResource = 24,
    SysTime = 25,
    Mknod = 27,
}

/// The highest number the kernel could ever use in its present format.
const HIGHEST: u8 = 63;

/// Takes `caps` out of the bounding set of the calling thread: neither it nor anything it starts can have them again.
pub fn drop_bounding(caps: &[Cap]) -> Result<()> {
    for cap in caps {
        drop_one(*cap as u8)?;
    }
    Ok(())
}

/// Empties the bounding set.
pub(crate) fn drop_whole_bounding() -> Result<()> {
    for number in 0..=HIGHEST {
        match drop_one(number) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()), // past the kernel's last
            other => other?,
        }
    }
    Ok(())
}

fn drop_one(number: u8) -> Result<()> {
    // SAFETY: prctl with integer arguments only.
    if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) } == 0 {
        return Ok(());
    }
    Err(Error::last_os(format!("drop capability {number} from the bounding set")))
}

/// True when the bounding set of the calling thread holds `cap`.
pub fn bounded(cap: Cap) -> bool {
    // SAFETY: prctl with integer arguments only.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, cap as libc::c_ulong, 0, 0, 0) == 1 }
}

/// True when the calling thread has `cap` in effect.
pub fn effective(cap: Cap) -> bool {
    let Ok(sets) = get() else { return false };
    let number = cap as usize;
    sets[number / 32].effective & (1 << (number % 32)) != 0
}

/// Empties the effective, permitted, inheritable and ambient sets of the calling thread.
pub(crate) fn clear() -> Result<()> {
    // SAFETY: prctl with integer arguments only.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let mut header = Header { version: VERSION_3, pid: 0 };
    let none = [Sets::default(); 2];
    // SAFETY: both structures have the layout capset(2) asks for with version 3 and live through the call.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, none.as_ptr()) } == 0 {
        return Ok(());
    }
    Err(Error::raw("give up all capabilities", Errno::last() as i32))
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn get() -> Result<[Sets; 2]> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: version 3 writes exactly two `Sets`; both structures live through the call.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) } == 0 {
        return Ok(sets);
    }
    Err(Error::last_os("read capabilities"))
}
