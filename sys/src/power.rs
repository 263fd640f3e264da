//! The end of a machine, or of a PID namespace.

use nix::sys::reboot::RebootMode;

use crate::{Error, Result};

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum End {
    /// Start again. In a PID namespace its init is killed with SIGHUP, which its parent sees.
    Reboot,
    /// Switch off. In a PID namespace: SIGINT.
    PowerOff,
    /// Stop without switching off. In a PID namespace: SIGINT as well.
    Halt,
}

/// Calls reboot(2); returns only when it was refused. Writes nothing back: call [`sync`] first.
///
/// Outside a PID namespace of its own this ends the machine, so it is refused for any process but PID 1.
pub fn end(how: End) -> Error {
    if nix::unistd::getpid().as_raw() != 1 {
        return Error::Invalid(format!("only PID 1 may {how:?} the machine"));
    }
    let mode = match how {
        End::Reboot => RebootMode::RB_AUTOBOOT,
        End::PowerOff => RebootMode::RB_POWER_OFF,
        End::Halt => RebootMode::RB_HALT_SYSTEM,
    };
    match nix::sys::reboot::reboot(mode) {
        Ok(never) => match never {},
        Err(errno) => Error::raw(format!("reboot(2) for {how:?}"), errno as i32),
    }
}

/// Makes Ctrl-Alt-Del send SIGINT to PID 1 in place of an immediate reset.
pub fn catch_ctrl_alt_del() -> Result<()> {
    nix::sys::reboot::set_cad_enabled(false).map_err(|errno| Error::raw("catch Ctrl-Alt-Del", errno as i32))
}

/// Writes all file systems back. May take as long as the disks take.
pub fn sync() {
    nix::unistd::sync();
}
