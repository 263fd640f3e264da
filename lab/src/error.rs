//! What can go wrong with a local cluster, and what to do about it.

use std::{fmt, io, path::PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on a cluster that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such cluster.
    #[error("there is no cluster {name:?} in {dir}; {there}")]
    NoCluster {
        /// The name asked for.
        name: String,
        /// Where was looked.
        dir: PathBuf,
        /// Which clusters there are, in words.
        there: String,
    },
    /// There is no such node.
    #[error("cluster {cluster:?} has no node {node:?}; its nodes are {there}")]
    NoNode {
        /// The cluster.
        cluster: String,
        /// The node asked for.
        node: String,
        /// The nodes it has.
        there: String,
    },
    /// There is a cluster of this name already.
    #[error(
        "there is a cluster {name:?} already, with {nodes} nodes: use it (cluster show --name {name}), bring it back to health (cluster create --reuse --name {name}), or remove it (cluster destroy --name {name}), or choose another --name"
    )]
    Exists {
        /// Its name.
        name: String,
        /// How many nodes it has.
        nodes: usize,
    },
    /// There is a half-made cluster of this name, of another request.
    #[error(
        "a half-made cluster {name:?} is there, and it was asked for with {difference}: ask for the same to finish it, or remove it first (cluster destroy --name {name})"
    )]
    HalfMade {
        /// Its name.
        name: String,
        /// What differs, in words.
        difference: String,
    },
    /// The request cannot be.
    #[error("{0}")]
    BadRequest(String),
    /// The host cannot carry the cluster.
    #[error("this host cannot carry the cluster:{}", Listed(.0))]
    Host(Vec<Refusal>),
    /// Somebody else works on the cluster.
    #[error(
        "another process ({holder}) has been working on cluster {name:?} for the last {seconds} s: wait for it, or end it, then try again"
    )]
    Busy {
        /// The cluster.
        name: String,
        /// Who holds the lock.
        holder: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A file of the cluster cannot be read or written.
    #[error("{what}: {source}")]
    File {
        /// What was tried, on which file.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// The state of a cluster is damaged.
    #[error("{path} is damaged ({why}): the cluster cannot be worked with, but it can be removed (cluster destroy --name {name})")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cluster.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A node, its keeper or the gateway did not start.
    #[error("{who} did not start: {why} (see {log})")]
    NotStarted {
        /// Who.
        who: String,
        /// Its own words, or what was waited for.
        why: String,
        /// Where to read more.
        log: PathBuf,
    },
    /// The caller gave no configuration for a node.
    #[error("no configuration for node {node}: {why}")]
    NoConfig {
        /// The node.
        node: String,
        /// The caller's reason.
        why: String,
    },
    /// Linux refused something.
    #[error(transparent)]
    Sys(#[from] sys::Error),
}

/// One thing that a host lacks: what was found, what is needed, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was found and what is needed.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.found, self.remedy)
    }
}

struct Listed<'a>(&'a [Refusal]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|refusal| write!(f, "\n  - {refusal}"))
    }
}

/// Adds what was tried to an error of a file operation.
pub(crate) trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::File { what: what(), source })
    }
}
