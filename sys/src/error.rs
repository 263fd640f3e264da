//! The one error of this crate: what was tried, and what the kernel said.

use std::{io, path::Path};

/// A request that the kernel (or a file of its) refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file operation failed.
    #[error("{what}: {source}")]
    Os {
        /// What was tried, on what.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel lacks something that is needed here.
    #[error("{feature} is missing in this kernel: {hint}")]
    Missing {
        /// The feature, by the name kernel documentation uses.
        feature: &'static str,
        /// What to do about it.
        hint: String,
    },
    /// A wait ended at its deadline.
    #[error("{what}: not done after {seconds:.1} s")]
    Deadline {
        /// What was waited for.
        what: String,
        /// The length of the wait in seconds.
        seconds: f64,
    },
    /// The caller asked for something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// What the kernel answered could not be understood.
    #[error("{what}: unexpected answer: {found}")]
    Malformed {
        /// What was read.
        what: String,
        /// What stood there.
        found: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The kernel's error number, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Error::Os { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// True when the kernel's answer was "no such file, process or link".
    pub fn is_not_found(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV))
    }

    pub(crate) fn last_os(what: impl Into<String>) -> Error {
        Error::Os { what: what.into(), source: io::Error::last_os_error() }
    }

    pub(crate) fn raw(what: impl Into<String>, errno: i32) -> Error {
        Error::Os { what: what.into(), source: io::Error::from_raw_os_error(errno) }
    }
}

/// Adds what was tried to an error of `std::io` or `nix`.
pub(crate) trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Os { what: what(), source })
    }
}

impl<T> During<T> for nix::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Os { what: what(), source: errno.into() })
    }
}

/// A path in an error message.
pub(crate) fn show(path: &Path) -> std::path::Display<'_> {
    path.display()
}
