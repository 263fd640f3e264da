//! What the machine API asks of etcd: start a cluster here, leave it, look at it.
//!
//! Requests are notes in a journal on /run; the membership controller acts on them. So a request
//! survives a kill of the brain, and asking twice is asking once.

use std::sync::{Arc, Mutex, PoisonError};

use engine::Waker;
use thiserror::Error;

use super::client::{Credentials, EtcdClient, EtcdError, MemberStatus};
use super::membership::{DataDir, Journal, Leave, Member};
use crate::files::{Files, WantedFile};
use crate::paths::{ETCD_DATA, JOURNAL};

/// Why a request is refused.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The data directory holds a member's data.
    #[error("etcd data directory {ETCD_DATA} is not empty: this machine is a member already; a bootstrap is asked for once per cluster")]
    NotEmpty,
    /// The journal or the data directory cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
    /// etcd's answer.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Certificates are not there yet.
    #[error("etcd's certificates are not there yet; the machine waits for its host name, addresses and clock")]
    NoCredentials,
    /// There is nobody to hand leadership to.
    #[error("this member leads and no other member with a vote exists to hand leadership to")]
    NoSuccessor,
}

/// A handle for the machine API and for the membership controller. Cheap to clone.
#[derive(Clone)]
pub struct EtcdControl {
    files: Arc<dyn Files>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    waker: Option<Waker>,
    credentials: Option<Credentials>,
    step: String,
}

fn journal_path() -> String {
    format!("{JOURNAL}/etcd.json")
}

impl EtcdControl {
    /// Over the machine's files.
    pub fn new(files: Arc<dyn Files>) -> Self {
        Self { files, shared: Arc::default() }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_waker(&self, waker: Waker) {
        self.shared().waker = Some(waker);
    }

    pub(crate) fn set_credentials(&self, credentials: Option<Credentials>) {
        self.shared().credentials = credentials;
    }

    pub(crate) fn set_step(&self, step: String) {
        self.shared().step = step;
    }

    /// What the membership sequence does or waits for, for people.
    pub fn step(&self) -> String {
        self.shared().step.clone()
    }

    /// The journal; one that does not read is taken for a new one, since its directory is emptied
    /// at boot.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn journal(&self) -> Result<Journal, ControlError> {
        let text = self.files.read(&journal_path()).map_err(|source| ControlError::Io { what: "reading etcd's journal", source })?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default())
    }

    /// Replaces the journal and wakes the controller.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&self, journal: &Journal) -> Result<(), ControlError> {
        let contents =
            serde_json::to_vec(journal).map_err(|error| ControlError::Io { what: "writing etcd's journal", source: error.into() })?;
        self.files
            .write(&WantedFile { path: journal_path(), contents, owner: 0, mode: 0o600 })
            .map_err(|source| ControlError::Io { what: "writing etcd's journal", source })?;
        if let Some(waker) = &self.shared().waker {
            waker.wake();
        }
        Ok(())
    }

    /// What the data directory holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn data(&self) -> Result<DataDir, ControlError> {
        let list = |dir: &str| self.files.list(dir).map_err(|source| ControlError::Io { what: "reading etcd's data directory", source });
        if list(&format!("{ETCD_DATA}/member/wal"))?.iter().any(|name| name.ends_with(".wal")) {
            return Ok(DataDir::Initialized);
        }
        Ok(if list(ETCD_DATA)?.is_empty() { DataDir::Empty } else { DataDir::Partial })
    }

    /// Asks for a new cluster that starts on this machine. Asked again before etcd has started, it
    /// is the same request.
    ///
    /// # Errors
    /// [`ControlError::NotEmpty`] when this machine is a member.
    pub fn bootstrap(&self) -> Result<(), ControlError> {
        if self.data()? == DataDir::Initialized {
            return Err(ControlError::NotEmpty);
        }
        let mut journal = self.journal()?;
        if journal.leave.take().is_some() {
            journal.initial = None;
        }
        journal.bootstrap = true;
        self.note(&journal)
    }

    /// Asks this machine to leave the cluster. Whether it has left is [`EtcdControl::has_left`].
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn leave(&self) -> Result<(), ControlError> {
        let mut journal = self.journal()?;
        if journal.leave.is_none() {
            journal.leave = Some(Leave::default());
            journal.bootstrap = false;
        }
        self.note(&journal)
    }

    /// Gives up asking the cluster: what follows is leaving without its consent. For a reset that
    /// must not wait longer.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn abandon(&self) -> Result<(), ControlError> {
        let mut journal = self.journal()?;
        journal.leave = Some(Leave { abandoned: true, ..journal.leave.unwrap_or_default() });
        self.note(&journal)
    }

    /// Whether leaving is through: nothing of etcd is left here.
    ///
    /// # Errors
    /// The journal or the data directory cannot be read.
    pub fn has_left(&self) -> Result<bool, ControlError> {
        let leave = self.journal()?.leave.unwrap_or_default();
        Ok((leave.removed || leave.abandoned) && self.data()? == DataDir::Empty)
    }

    /// A connection to this machine's own member.
    ///
    /// # Errors
    /// It does not run or its certificates are not there.
    pub async fn client(&self) -> Result<EtcdClient, ControlError> {
        self.client_of(&["https://127.0.0.1:2379".to_owned()]).await
    }

    /// A connection to the first of these client URLs that answers.
    ///
    /// # Errors
    /// None answers, or certificates are not there.
    pub async fn client_of(&self, endpoints: &[String]) -> Result<EtcdClient, ControlError> {
        let credentials = self.shared().credentials.clone().ok_or(ControlError::NoCredentials)?;
        Ok(EtcdClient::connect(endpoints, &credentials).await?)
    }

    /// All members.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn members(&self) -> Result<Vec<Member>, ControlError> {
        Ok(self.client().await?.members().await?)
    }

    /// State of this machine's member.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn status(&self) -> Result<MemberStatus, ControlError> {
        Ok(self.client().await?.status().await?)
    }

    /// Takes a member off the list: one that is gone for good.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn remove_member(&self, id: u64) -> Result<(), ControlError> {
        Ok(self.client().await?.remove(id).await?)
    }

    /// Hands leadership to another member, if this one leads. To whom, or `None` when it does not.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn forfeit_leadership(&self) -> Result<Option<Member>, ControlError> {
        let mut client = self.client().await?;
        let status = client.status().await?;
        if status.leader != status.id {
            return Ok(None);
        }
        let members = client.members().await?;
        let successor = members.into_iter().find(|member| member.id != status.id && !member.learner).ok_or(ControlError::NoSuccessor)?;
        client.move_leader(successor.id).await?;
        Ok(Some(successor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::LinuxFiles;

    fn is_root() -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
    }

    #[test]
    fn requests_survive_and_a_member_refuses_to_bootstrap() {
        if !is_root() {
            eprintln!("skipped: files of root can be made by root only");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let control = || EtcdControl::new(Arc::new(LinuxFiles::below(dir.path())));
        assert_eq!(control().data().unwrap(), DataDir::Empty);
        control().bootstrap().unwrap();
        control().bootstrap().unwrap();
        assert!(control().journal().unwrap().bootstrap);
        let wal = dir.path().join("var/lib/etcd/member/wal");
        std::fs::create_dir_all(&wal).unwrap();
        assert_eq!(control().data().unwrap(), DataDir::Partial);
        std::fs::write(wal.join("0000000000000000-0000000000000000.wal"), "x").unwrap();
        assert_eq!(control().data().unwrap(), DataDir::Initialized);
        assert!(matches!(control().bootstrap(), Err(ControlError::NotEmpty)));
        control().leave().unwrap();
        assert!(!control().has_left().unwrap());
        control().abandon().unwrap();
        std::fs::remove_dir_all(dir.path().join("var/lib/etcd")).unwrap();
        assert!(control().has_left().unwrap());
    }

    #[test]
    fn a_torn_journal_is_a_new_one() {
        if !is_root() {
            eprintln!("skipped: files of root can be made by root only");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/orlop/journal");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("etcd.json"), "{\"boot").unwrap();
        let control = EtcdControl::new(Arc::new(LinuxFiles::below(dir.path())));
        assert_eq!(control.journal().unwrap(), Journal::default());
    }
}
