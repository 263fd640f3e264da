//! Waiting for descriptors, with a deadline, without a runtime.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout},
};

use crate::{Error, Result, error::During};

/// What to wait for on one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, a connection to accept, an end of file, an ended process.
    Read,
    /// Room to write.
    Write,
    /// Both.
    Both,
}

/// Waits until one of `fds` is ready or `timeout` has passed (`None`: no limit). Gives, per descriptor, whether it is ready; an error
/// or hang-up on a descriptor counts as ready, so that the next read or write reports it.
pub fn wait(fds: &[(BorrowedFd<'_>, Interest)], timeout: Option<Duration>) -> Result<Vec<bool>> {
    let begin = Instant::now();
    let mut set: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, interest)| {
            let flags = match interest {
                Interest::Read => PollFlags::POLLIN,
                Interest::Write => PollFlags::POLLOUT,
                Interest::Both => PollFlags::POLLIN | PollFlags::POLLOUT,
            };
            PollFd::new(*fd, flags)
        })
        .collect();
    loop {
        let left = timeout.map(|all| all.saturating_sub(begin.elapsed()));
        // Rounded up, or the last millisecond would be a busy loop.
        let limit = match left {
            None => PollTimeout::NONE,
            Some(left) => {
                let millis = left.as_millis() + u128::from(left.subsec_nanos() % 1_000_000 != 0);
                i32::try_from(millis).ok().and_then(|millis| PollTimeout::try_from(millis).ok()).unwrap_or(PollTimeout::MAX)
            }
        };
        match nix::poll::poll(&mut set, limit) {
            Ok(_) => return Ok(set.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect()),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::raw("poll", errno as i32)),
        }
    }
}

/// Waits until `fd` can be read; false at the deadline.
pub fn readable(fd: impl AsFd, timeout: Duration) -> Result<bool> {
    Ok(wait(&[(fd.as_fd(), Interest::Read)], Some(timeout))?.first().copied().unwrap_or(false))
}

/// Makes reads and writes on `fd` (on its open file, which others may share) return at once.
pub fn never_block(fd: impl AsFd) -> Result<()> {
    let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL).during(|| "read the flags of a descriptor".into())?;
    let flags = nix::fcntl::OFlag::from_bits_retain(flags) | nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(flags)).map(drop).during(|| "make a descriptor non-blocking".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_pipe_times_out_and_a_written_one_does_not() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let begin = Instant::now();
        assert!(!readable(&reader, Duration::from_millis(20)).unwrap());
        assert!(begin.elapsed() >= Duration::from_millis(20));
        nix::unistd::write(&writer, b"x").unwrap();
        assert!(readable(&reader, Duration::from_secs(5)).unwrap());
    }
}
