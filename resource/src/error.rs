//! What a state may answer instead of a resource, and how that crosses gRPC.

use crate::proto::DecodeError;
use crate::{Key, Name, Phase, Version};

/// Why a state refused or failed. Each variant is a decision that a caller can take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such resource.
    #[error("resource {0} does not exist")]
    NotFound(Key),
    /// Created, but it is there.
    #[error("resource {0} exists already")]
    AlreadyExists(Key),
    /// It changed since the caller read it: read again, and decide again.
    #[error("resource {key} changed meanwhile: version {expected} was expected, found {found}")]
    VersionConflict {
        /// Which resource.
        key: Key,
        /// The version that the caller had read.
        expected: Version,
        /// The version it has.
        found: Version,
    },
    /// It belongs to somebody else.
    #[error("resource {key} belongs to {found:?}: {owner:?} may not change it")]
    OwnerConflict {
        /// Which resource.
        key: Key,
        /// Who tried.
        owner: Name,
        /// Whose it is.
        found: Name,
    },
    /// It is in another phase than the caller expects.
    #[error("resource {key} is {found}, expected {expected}")]
    PhaseConflict {
        /// Which resource.
        key: Key,
        /// The phase that the change is for.
        expected: Phase,
        /// The phase it is in.
        found: Phase,
    },
    /// It cannot be destroyed while somebody holds a finalizer on it.
    #[error("resource {key} still has finalizers: {}", join(finalizers))]
    PendingFinalizers {
        /// Which resource.
        key: Key,
        /// Who has not let go yet.
        finalizers: Vec<Name>,
    },
    /// The bookmark is no bookmark of this state.
    #[error("the bookmark is not one that this state gave out: start the watch without it")]
    BadBookmark,
    /// The events after the bookmark (or between two reads) are no longer kept: list again.
    #[error("the watch of {0} fell behind the events that are kept: list again and start a new watch")]
    FellBehind(String),
    /// The kind is not registered.
    #[error("resource type {0:?} is not supported")]
    UnknownKind(String),
    /// The namespace is not registered.
    #[error("namespace {0:?} is not supported")]
    UnknownNamespace(String),
    /// This state does not do that.
    #[error("{0} is not supported here")]
    Unsupported(String),
    /// The caller may not do that.
    #[error("{0}")]
    Denied(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What came over the wire is not what it should be.
    #[error("resource {key} cannot be decoded: {source}")]
    Decode {
        /// Which resource.
        key: Key,
        /// What was wrong.
        source: DecodeError,
    },
    /// The other side could not be reached, or broke off.
    #[error("{0}")]
    Transport(String),
    /// It took longer than the caller allowed.
    #[error("deadline exceeded: {0}")]
    Deadline(String),
    /// What was to be kept could not be written: the disk is full or failing.
    #[error("the state cannot write its log: {0}")]
    Storage(String),
    /// The state is closing down.
    #[error("the state is shutting down")]
    Closed,
}

fn join(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// The gRPC status codes that matter here, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// The caller went away.
    Canceled = 1,
    /// Something else.
    Unknown = 2,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// Out of time.
    DeadlineExceeded = 4,
    /// No such resource.
    NotFound = 5,
    /// It is there already.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// The state is not what the request assumes.
    FailedPrecondition = 9,
    /// Not implemented.
    Unimplemented = 12,
    /// Broken.
    Internal = 13,
    /// Not reachable.
    Unavailable = 14,
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The code with this number; [`Code::Unknown`] for the rest.
    #[must_use]
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Canceled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            9 => Self::FailedPrecondition,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

impl Error {
    /// The status under which the error crosses gRPC. The wire has fewer codes than there are errors, so the text goes along.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::OwnerConflict { .. } | Self::UnknownKind(_) | Self::UnknownNamespace(_) | Self::Denied(_) => Code::PermissionDenied,
            Self::VersionConflict { .. } | Self::PendingFinalizers { .. } | Self::BadBookmark | Self::FellBehind(_) => {
                Code::FailedPrecondition
            }
            Self::PhaseConflict { .. } | Self::Invalid(_) => Code::InvalidArgument,
            Self::Unsupported(_) => Code::Unimplemented,
            Self::Decode { .. } | Self::Storage(_) => Code::Internal,
            Self::Transport(_) | Self::Closed => Code::Unavailable,
            Self::Deadline(_) => Code::DeadlineExceeded,
        }
    }

    /// The error that a status from the other side means. What the wire cannot tell apart becomes the likelier one: a failed
    /// precondition on a change is a version conflict (the versions themselves are unknown), on a watch a bad bookmark.
    #[must_use]
    pub fn from_status(code: Code, message: &str, key: &Key, watching: bool) -> Self {
        match code {
            Code::NotFound => Self::NotFound(key.clone()),
            Code::AlreadyExists => Self::AlreadyExists(key.clone()),
            Code::PermissionDenied => Self::Denied(message.to_owned()),
            Code::FailedPrecondition if watching => Self::BadBookmark,
            Code::FailedPrecondition if message.contains("finalizer") => {
                Self::PendingFinalizers { key: key.clone(), finalizers: Vec::new() }
            }
            Code::FailedPrecondition => Self::VersionConflict { key: key.clone(), expected: Version::UNDEFINED, found: Version::UNDEFINED },
            Code::InvalidArgument => Self::Invalid(message.to_owned()),
            Code::Unimplemented => Self::Unsupported(message.to_owned()),
            Code::DeadlineExceeded => Self::Deadline(message.to_owned()),
            Code::Canceled | Code::Unknown | Code::Internal | Code::Unavailable => Self::Transport(message.to_owned()),
        }
    }

    /// Whether reading again and trying again may help.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::VersionConflict { .. })
    }

    /// Whether there is no such resource.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_cross_the_wire_under_the_documented_codes() {
        let key = Key::new("network", "T", "x");
        let conflict = Error::VersionConflict { key: key.clone(), expected: Version(1), found: Version(2) };
        assert_eq!(conflict.code().number(), 9);
        assert_eq!(Error::AlreadyExists(key.clone()).code().number(), 6);
        assert_eq!(Error::NotFound(key.clone()).code().number(), 5);
        let owner = Error::OwnerConflict { key: key.clone(), owner: "a".into(), found: "b".into() };
        assert_eq!(owner.code().number(), 7);
        let phase = Error::PhaseConflict { key: key.clone(), expected: Phase::Running, found: Phase::TearingDown };
        assert_eq!(phase.code().number(), 3);
        assert_eq!(phase.to_string(), "resource network/T/x is tearingDown, expected running");
        assert_eq!(Error::BadBookmark.code().number(), 9);
        assert_eq!(Error::from_status(Code::FailedPrecondition, "", &key, true), Error::BadBookmark);
        assert!(Error::from_status(Code::from_number(9), "", &key, false).is_conflict());
    }
}
