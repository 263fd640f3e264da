//! File changes as something to read.
//!
//! Instances are scarce (128 per user by default, all containers of a host together): keep one per process.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

use crate::{Error, Result, error::During};

/// One inotify instance.
#[derive(Debug)]
pub struct Watcher(Inotify);

/// What happened to a watched directory or file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The watch, as [`Watcher::watch`] gave it.
    pub watch: WatchDescriptor,
    /// The entry of the directory, where a directory is watched.
    pub name: Option<std::ffi::OsString>,
    /// True when the kernel dropped events: look at everything again.
    pub overflow: bool,
}

impl Watcher {
    /// A new instance. At the limit of instances the error names the limit.
    pub fn new() -> Result<Watcher> {
        match Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) {
            Ok(inotify) => Ok(Watcher(inotify)),
            Err(Errno::EMFILE) => {
                let limit = crate::host::sysctl("fs.inotify.max_user_instances").unwrap_or_default();
                Err(Error::Invalid(format!(
                    "no inotify instance is left: this user may have {limit} (fs.inotify.max_user_instances); end other users of \
                     inotify or raise the limit"
                )))
            }
            Err(errno) => Err(Error::raw("create an inotify instance", errno as i32)),
        }
    }

    /// Watches a file, or the entries of a directory, for any change of content, name or existence.
    pub fn watch(&self, path: &Path) -> Result<WatchDescriptor> {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ATTRIB;
        self.0.add_watch(path, flags).during(|| format!("watch {}", path.display()))
    }

    /// The changes that are there now; empty when there are none.
    pub fn changes(&self) -> Result<Vec<Change>> {
        match self.0.read_events() {
            Ok(events) => Ok(events
                .into_iter()
                .map(|event| Change { watch: event.wd, name: event.name, overflow: event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) })
                .collect()),
            Err(Errno::EAGAIN) => Ok(Vec::new()),
            Err(errno) => Err(Error::raw("read inotify events", errno as i32)),
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
