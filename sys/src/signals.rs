//! Signals as something to read, for loops that poll.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

use crate::{Error, Result, error::During};

/// A descriptor from which the blocked signals of the process can be read.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks `signals` for the calling thread and reads them from now on. Call it before any thread is started, since threads
    /// inherit the mask and a thread without it would take the signal's default action.
    pub fn block(signals: &[Signal]) -> Result<Signals> {
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block().during(|| "block signals".into())?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Signals).during(|| "open a signalfd".into())
    }

    /// The next pending signal, and the pid of its sender (0 when the kernel or a process outside of the PID namespace sent it).
    pub fn take(&mut self) -> Result<Option<(Signal, u32)>> {
        match self.0.read_signal() {
            Ok(Some(info)) => {
                let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                Ok(Signal::try_from(number).ok().map(|signal| (signal, info.ssi_pid)))
            }
            Ok(None) => Ok(None),
            Err(errno) => Err(Error::raw("read a signalfd", errno as i32)),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes the process ignore `signal` (children started through [`crate::spawn`] get the default back).
pub fn ignore(signal: Signal) -> Result<()> {
    // SAFETY: SIG_IGN installs no handler, so no code of ours can run at an unexpected point.
    unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn) }.map(drop).during(|| format!("ignore {signal}"))
}
