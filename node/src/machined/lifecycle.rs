//! Runs the sequences of [`super::sequence`] on the real node.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::machine as pb;
use async_trait::async_trait;
use engine::Table;
use model::services::{SequenceStatus, ServiceRequest, ServiceStatus};
use tonic::Status;

use super::events::Events;
use super::sequence::{self, End, Hands, Journal, JournalFile, Sequence, Step};
use crate::init::client::Client;
use crate::init::protocol;

/// The sequences of this node.
pub(crate) struct Lifecycle {
    hands: std::sync::Arc<RealHands>,
    journal: JournalFile,
    running: Mutex<Option<(Sequence, tokio::task::JoinHandle<()>)>>,
}

/// What a sequence acts with.
pub(crate) struct RealHands {
    /// `init`.
    pub(crate) init: Client,
    /// The event stream.
    pub(crate) events: Events,
    /// What is asked of services.
    pub(crate) requests: Table<ServiceRequest>,
    /// How they fare.
    pub(crate) statuses: Table<ServiceStatus>,
    /// Where the stage is told.
    pub(crate) status: Table<SequenceStatus>,
    /// containerd's socket.
    pub(crate) containerd: PathBuf,
    /// Drains the Kubernetes node and leaves etcd.
    pub(crate) cluster: std::sync::Arc<dyn Farewell>,
}

/// How a node leaves its cluster.
#[async_trait]
pub(crate) trait Farewell: Send + Sync {
    /// Cordons the node and evicts its pods.
    async fn drain(&self) -> Result<(), String>;
    /// Removes this node's member from etcd.
    async fn leave_etcd(&self) -> Result<(), String>;
    /// Tells the other nodes.
    async fn goodbye(&self) -> Result<(), String>;
}

impl Lifecycle {
    /// Goes on with a sequence that was under way when `machined` ended.
    pub(crate) fn new(hands: RealHands, journal: &Path) -> Self {
        let lifecycle = Self { hands: std::sync::Arc::new(hands), journal: JournalFile::at(journal), running: Mutex::new(None) };
        if let Some(journal) = lifecycle.journal.read() {
            tracing::info!(sequence = journal.sequence.name(), done = journal.done, "going on with the sequence");
            lifecycle.start(journal);
        }
        lifecycle
    }

    /// Begins a sequence; the id that its events carry.
    pub(crate) fn begin(&self, sequence: Sequence) -> Result<String, Status> {
        let actor = uuid::Uuid::new_v4().to_string();
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((under_way, task)) = &*running {
                if !sequence.takes_over(under_way) {
                    return Err(Status::failed_precondition(format!("a {} sequence is under way already", under_way.name())));
                }
                task.abort();
            }
            *running = None;
        }
        let journal = Journal { sequence, actor: actor.clone(), done: 0 };
        self.journal.write(&journal).map_err(|e| Status::internal(format!("writing the sequence journal: {e}")))?;
        self.start(journal);
        Ok(actor)
    }

    fn start(&self, journal: Journal) {
        let (hands, file, sequence) = (self.hands.clone(), self.journal.clone(), journal.sequence.clone());
        let task = tokio::spawn(async move {
            hands.sequence_event(&journal, pb::sequence_event::Action::Start);
            sequence::run(journal.clone(), &file, hands.as_ref()).await;
            hands.sequence_event(&journal, pb::sequence_event::Action::Stop);
        });
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some((sequence, task));
    }
}

impl RealHands {
    fn sequence_event(&self, journal: &Journal, action: pb::sequence_event::Action) {
        let event = pb::SequenceEvent { sequence: journal.sequence.name().into(), action: action.into(), error: None };
        self.events.publish("machine.SequenceEvent", &event, &journal.actor);
    }

    async fn stop_service(&self, id: &str) -> Result<(), String> {
        if self.statuses.get(id).is_none() {
            return Ok(());
        }
        let mut request = self.requests.get(id).map(|r| r.spec.clone()).unwrap_or_default();
        request.stopped = true;
        self.requests.put("", id, request).map_err(|e| e.to_string())?;
        let over = |s: &ServiceStatus| matches!(s.state.as_str(), "Finished" | "Failed");
        while self.statuses.get(id).is_some_and(|s| !over(&s.spec)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn stop_pods(&self) -> Result<(), String> {
        if !self.containerd.exists() {
            return Ok(());
        }
        let runtime = host::cri::Runtime::connect(&self.containerd).await.map_err(|e| e.message().to_owned())?;
        runtime.stop_all(false).await.map_err(|e| e.message().to_owned())
    }

    async fn finish(&self, end: End) -> Result<(), String> {
        let how = match end {
            End::Reboot => protocol::End::Reboot,
            End::PowerOff => protocol::End::PowerOff,
        };
        self.init.end(how).await.map_err(|e| e.to_string())?;
        // Nothing follows: init ends this process with the others.
        std::future::pending().await
    }
}

/// What belongs to each volume that can be wiped, below `/var`.
fn places(volume: &str) -> &'static [&'static str] {
    match volume {
        "STATE" => &["/var/system/state"],
        "EPHEMERAL" => &["/var/lib", "/var/log", "/var/mnt", "/var/system/overlays"],
        _ => &[],
    }
}

/// Empties directories, and goes on after failures; the first of them.
fn empty(directory: &Path) -> Result<(), String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    let mut failed = Ok(());
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        let result = if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let (Ok(()), Err(error)) = (&failed, result) {
            failed = Err(format!("{}: {error}", path.display()));
        }
    }
    failed
}

#[async_trait]
impl Hands for RealHands {
    async fn act(&self, step: &Step) -> Result<(), String> {
        match step {
            Step::Drain => self.cluster.drain().await,
            Step::LeaveEtcd => self.cluster.leave_etcd().await,
            Step::Goodbye => self.cluster.goodbye().await,
            Step::StopService(id) => self.stop_service(id).await,
            Step::StopPods => self.stop_pods().await,
            Step::Wipe(volumes) => {
                let all = ["STATE", "EPHEMERAL"].map(str::to_owned);
                let chosen = if volumes.is_empty() { &all[..] } else { volumes };
                // Log files are held open by init; what is written from now on goes to /run.
                self.init.logs(protocol::LogPlace::Run).await.map_err(|e| e.to_string())?;
                chosen.iter().flat_map(|v| places(v)).try_for_each(|place| empty(Path::new(place)))
            }
            Step::Finish(end) => self.finish(*end).await,
        }
    }

    fn begin(&self, sequence: &Sequence, step: &Step, actor: &str) {
        tracing::info!(sequence = sequence.name(), step = step.name(), "begins");
        let event = pb::PhaseEvent { phase: step.name(), action: pb::phase_event::Action::Start.into() };
        self.events.publish("machine.PhaseEvent", &event, actor);
        let failures = self.status.get("current").map(|s| s.spec.failures.clone()).unwrap_or_default();
        let status = SequenceStatus { sequence: sequence.name().into(), actor: actor.into(), step: step.name(), failures };
        if let Err(error) = self.status.put("", "current", status) {
            tracing::warn!(%error, "cannot tell the sequence's status");
        }
    }

    fn end(&self, _: &Sequence, step: &Step, actor: &str, result: &Result<(), String>) {
        let event = pb::PhaseEvent { phase: step.name(), action: pb::phase_event::Action::Stop.into() };
        self.events.publish("machine.PhaseEvent", &event, actor);
        if let (Err(reason), Some(status)) = (result, self.status.get("current")) {
            let mut status = status.spec.clone();
            status.failures.push(format!("{}: {reason}", step.name()));
            let _ = self.status.put("", "current", status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiping_goes_on_after_what_it_cannot_remove_and_keeps_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), "x").unwrap();
        std::fs::write(dir.path().join("d"), "x").unwrap();
        empty(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(empty(Path::new("/nowhere/at/all")), Ok(()));
    }

    #[test]
    fn each_volume_has_places_of_its_own() {
        let all: Vec<_> = ["STATE", "EPHEMERAL"].iter().flat_map(|v| places(v)).collect();
        assert!(all.iter().all(|p| p.starts_with("/var/")));
        assert!(!places("EPHEMERAL").iter().any(|p| "/var/system/state".starts_with(p)), "wiping EPHEMERAL alone keeps the configuration");
    }
}
