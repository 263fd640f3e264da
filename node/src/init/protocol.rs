//! What `init` and `machined` say to each other.
//!
//! Messages are postcard, one per packet of a SOCK_SEQPACKET socket at [`SOCKET`], root only. `machined` sends [`Request`]s with a number
//! of its own; `init` answers each with a [`Reply`] of that number and tells [`Event`]s in between. The two always come from one binary of
//! one image, so the form has no versions; a `machined` that is replaced live by one that speaks otherwise is told so by
//! [`Refusal::NotUnderstood`].

use std::fmt;

use serde::{Deserialize, Serialize};
pub use sys::{
    power::End,
    process::{Exit, ProcessRef},
    spawn::{Limit, User},
};

/// Where `init` listens.
pub const SOCKET: &str = "/system/run/init.sock";

/// The longest message either side sends, in bytes.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// A process to start and keep watch over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct UnitSpec {
    /// Its name: letters, digits, `-`, `_` and `.`; the name of its log too.
    pub id: String,
    /// The path of the program.
    pub program: String,
    /// All arguments, argv\[0\] included.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The working directory; `/` by default.
    pub cwd: Option<String>,
    /// The control group, relative to the node's root group, such as `system/containerd`. Made when missing.
    pub cgroup: Option<String>,
    /// The name of the log (`/var/log/NAME.log`) in place of the id.
    pub log: Option<String>,
    /// The out-of-memory score adjustment; as much of it as the kernel lets us.
    pub oom_score_adj: Option<i32>,
    /// Resource limits; as much of them as the kernel lets us.
    pub limits: Vec<Limit>,
    /// The user to run as; root by default.
    pub user: Option<User>,
    /// Whether it and its children can gain no rights by execve.
    pub no_new_privs: bool,
    /// For `machined` alone: `init` keeps it and gives it back, so that after a restart it knows what this unit was started for.
    pub note: String,
}

/// What `machined` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// All units. Answer: [`Reply::Units`].
    List,
    /// Start a unit. A unit of this id that has ended is replaced. Answer: [`Reply::Started`].
    Spawn(Box<UnitSpec>),
    /// Send a signal. Answer: [`Reply::Done`].
    Signal {
        /// The unit.
        unit: String,
        /// The signal's number.
        signal: i32,
        /// To every process in its control group, and not to its main process only.
        everyone: bool,
    },
    /// Forget a unit that has ended. Answer: [`Reply::Done`], also when it is not known.
    Forget {
        /// The unit.
        unit: String,
    },
    /// Where logs go from now on. Answer: [`Reply::Done`].
    Logs(LogPlace),
    /// End the node. Answer: [`Reply::Done`], then nothing more.
    End(End),
}

/// Where `init` writes logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogPlace {
    /// `/var/log`, once /var is mounted; what was written to /run before is carried over.
    Var,
    /// `/run/log`, so that /var can be unmounted.
    Run,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::List`].
    Units(Vec<UnitStatus>),
    /// To [`Request::Spawn`].
    Started {
        /// The process, as named in the node's PID namespace.
        process: ProcessRef,
        /// What of the specification the kernel granted only in part, in words.
        warnings: Vec<String>,
    },
    /// It is done.
    Done,
    /// It is not.
    Refused(Refusal),
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A unit of this id runs, as this pid.
    Running(i32),
    /// There is no running unit of this id.
    NotRunning,
    /// The specification cannot be carried out; why.
    Invalid(String),
    /// The kernel refused; what it said.
    Failed(String),
    /// The node is ending.
    Ending,
    /// The message could not be decoded.
    NotUnderstood,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Running(pid) => write!(f, "a unit of this id runs already as process {pid}"),
            Refusal::NotRunning => write!(f, "no unit of this id is running"),
            Refusal::Invalid(why) | Refusal::Failed(why) => write!(f, "{why}"),
            Refusal::Ending => write!(f, "the node is ending"),
            Refusal::NotUnderstood => {
                write!(f, "init does not understand the request: init and machined are of different builds; reboot the node")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// A unit as `init` sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Its id.
    pub id: String,
    /// Its process (the last one, if it has ended).
    pub process: ProcessRef,
    /// When it was started, in milliseconds of Unix time.
    pub started_ms: u64,
    /// How and when (milliseconds of Unix time) it ended; `None` while it runs.
    pub ended: Option<(Exit, u64)>,
    /// Its control group.
    pub cgroup: Option<String>,
    /// The note of its specification.
    pub note: String,
}

/// What `init` tells unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A unit ended.
    Exited {
        /// The unit.
        unit: String,
        /// The pid it had.
        pid: i32,
        /// How it ended.
        exit: Exit,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// Somebody outside (the platform, a key, a power button) asked for the end of the node. `machined` should stop everything in order and
    /// then ask for [`Request::End`]; when it does not within two minutes, `init` ends the node by itself.
    EndAsked(End),
}

/// A packet to `init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToInit {
    /// Chosen by `machined`, given back in the answer.
    pub number: u64,
    /// The request.
    pub request: Request,
}

/// A packet from `init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromInit {
    /// The answer to the request of this number.
    Reply(u64, Reply),
    /// Something happened.
    Event(Event),
}

/// True when `id` can name a unit (and a file).
pub fn valid_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !id.is_empty() && id.len() <= 64 && !id.starts_with('.') && id.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_leave_the_log_directory() {
        for good in ["apid", "ext-foo.bar", "a_1"] {
            assert!(valid_id(good), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "../x", "a b", "ä", &"x".repeat(65)] {
            assert!(!valid_id(bad), "{bad}");
        }
    }

    #[test]
    fn packets_survive_the_wire_and_garbage_is_an_error() {
        let packet = ToInit {
            number: 7,
            request: Request::Spawn(Box::new(UnitSpec {
                id: "apid".into(),
                program: "/usr/bin/orlop".into(),
                argv: vec!["apid".into()],
                ..UnitSpec::default()
            })),
        };
        let bytes = postcard::to_stdvec(&packet).unwrap();
        assert_eq!(postcard::from_bytes::<ToInit>(&bytes).unwrap(), packet);
        for cut in 0..bytes.len() {
            assert!(postcard::from_bytes::<ToInit>(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(postcard::from_bytes::<ToInit>(&[0, 99]).is_err());
    }
}
