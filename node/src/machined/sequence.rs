//! The long sequences that end a node's boot: reboot, shutdown, reset.
//!
//! A sequence is a list of steps, made by the pure function [`plan`]. Each step has a deadline; one that fails or is late is noted, and
//! the sequence goes on: it always finishes. What was done is kept in a journal on `/run`, so that a `machined` that was killed
//! half-way goes on where it was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Which sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sequence {
    /// Starts the node again.
    Reboot {
        /// Without telling pods and services to end.
        force: bool,
    },
    /// Powers the node off.
    Shutdown {
        /// Without cordon and drain.
        force: bool,
    },
    /// Wipes the node.
    Reset {
        /// Drain it and leave etcd first.
        graceful: bool,
        /// Start it again afterwards.
        reboot: bool,
        /// The volumes to wipe; all when empty.
        volumes: Vec<String>,
    },
}

/// How a sequence ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// The node starts again.
    Reboot,
    /// The node is off.
    PowerOff,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Cordon the Kubernetes node and evict its pods.
    Drain,
    /// Leave etcd as a member.
    LeaveEtcd,
    /// Tell the other nodes that this one goes.
    Goodbye,
    /// Stop this service.
    StopService(&'static str),
    /// Stop all pods.
    StopPods,
    /// Wipe these volumes; all when empty.
    Wipe(Vec<String>),
    /// End the boot.
    Finish(End),
}

impl Step {
    /// Its name in events and logs.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Drain => "drain".into(),
            Self::LeaveEtcd => "leaveEtcd".into(),
            Self::Goodbye => "goodbye".into(),
            Self::StopService(id) => format!("stopService/{id}"),
            Self::StopPods => "stopPods".into(),
            Self::Wipe(_) => "wipe".into(),
            Self::Finish(_) => "finish".into(),
        }
    }

    /// How long it may take.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Drain => 60,
            Self::LeaveEtcd => 60,
            Self::StopPods => 40,
            Self::StopService(_) => 15,
            Self::Goodbye => 8,
            Self::Wipe(_) => 120,
            Self::Finish(_) => 60,
        })
    }
}

impl Sequence {
    /// Its name on the wire.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Reboot { .. } => "reboot",
            Self::Shutdown { .. } => "shutdown",
            Self::Reset { .. } => "reset",
        }
    }

    /// Whether a running sequence gives way to this one.
    pub(crate) fn takes_over(&self, running: &Self) -> bool {
        match (running, self) {
            // A forced one always wins over one that is not.
            (Self::Reboot { force: false }, Self::Reboot { force: true }) => true,
            (Self::Reset { .. }, _) => false,
            (_, Self::Shutdown { .. }) => !matches!(running, Self::Shutdown { .. }),
            _ => false,
        }
    }
}

/// The steps of a sequence.
pub(crate) fn plan(sequence: &Sequence) -> Vec<Step> {
    match sequence {
        Sequence::Reboot { force: true } => vec![Step::Finish(End::Reboot)],
        Sequence::Reboot { force: false } => {
            vec![Step::StopService("kubelet"), Step::StopPods, Step::StopService("etcd"), Step::Finish(End::Reboot)]
        }
        Sequence::Shutdown { force } => {
            let mut steps = if *force { Vec::new() } else { vec![Step::Drain] };
            steps.extend([Step::StopService("kubelet"), Step::StopPods, Step::StopService("etcd"), Step::Finish(End::PowerOff)]);
            steps
        }
        Sequence::Reset { graceful, reboot, volumes } => {
            let mut steps = if *graceful { vec![Step::Drain] } else { Vec::new() };
            // etcd is left while the API server still runs: the node's lease and its Kubernetes object go with it.
            if *graceful {
                steps.push(Step::LeaveEtcd);
            }
            steps.extend([Step::StopService("kubelet"), Step::StopPods, Step::StopService("etcd"), Step::Goodbye]);
            // Nothing may write to what is wiped.
            steps.extend([Step::StopService("containerd"), Step::Wipe(volumes.clone())]);
            steps.push(Step::Finish(if *reboot { End::Reboot } else { End::PowerOff }));
            steps
        }
    }
}

/// What carries steps out.
#[async_trait]
pub(crate) trait Hands: Send + Sync {
    /// Does one step. It may be done again after a crash, so doing it twice must be as doing it once.
    async fn act(&self, step: &Step) -> Result<(), String>;
    /// Tells that a step begins.
    fn begin(&self, sequence: &Sequence, step: &Step, actor: &str);
    /// Tells how a step ended.
    fn end(&self, sequence: &Sequence, step: &Step, actor: &str, result: &Result<(), String>);
}

/// Where a sequence is: what the journal holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// Which sequence.
    pub(crate) sequence: Sequence,
    /// Who asked for it.
    pub(crate) actor: String,
    /// How many steps are done.
    pub(crate) done: usize,
}

/// The journal's file.
#[derive(Debug, Clone)]
pub(crate) struct JournalFile(PathBuf);

impl JournalFile {
    /// The journal at this path.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The sequence that was under way when `machined` ended. A torn or unreadable journal counts as none: no step is lost that way,
    /// since a sequence is only told as begun once its journal is written.
    pub(crate) fn read(&self) -> Option<Journal> {
        serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()
    }

    /// Writes it in one step.
    pub(crate) fn write(&self, journal: &Journal) -> std::io::Result<()> {
        let partial = self.0.with_extension("part");
        std::fs::write(&partial, serde_json::to_vec(journal)?)?;
        std::fs::rename(partial, &self.0)
    }
}

/// Carries the sequence out from where its journal stands.
pub(crate) async fn run(mut journal: Journal, file: &JournalFile, hands: &dyn Hands) {
    let steps = plan(&journal.sequence);
    for step in steps.iter().skip(journal.done) {
        hands.begin(&journal.sequence, step, &journal.actor);
        let limit = step.deadline();
        let late = || Err(format!("not done within {} s", limit.as_secs()));
        let result = tokio::time::timeout(limit, hands.act(step)).await.unwrap_or_else(|_| late());
        if let Err(reason) = &result {
            tracing::warn!(sequence = journal.sequence.name(), step = step.name(), %reason, "going on without it");
        }
        hands.end(&journal.sequence, step, &journal.actor, &result);
        journal.done += 1;
        if let Err(error) = file.write(&journal) {
            tracing::warn!(%error, "cannot write the sequence journal");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Fake {
        done: Mutex<Vec<String>>,
        hang: Option<Step>,
        fail: Option<Step>,
    }

    #[async_trait]
    impl Hands for Fake {
        async fn act(&self, step: &Step) -> Result<(), String> {
            if self.hang.as_ref() == Some(step) {
                std::future::pending::<()>().await;
            }
            self.done.lock().unwrap().push(step.name());
            if self.fail.as_ref() == Some(step) { Err("broken".into()) } else { Ok(()) }
        }
        fn begin(&self, _: &Sequence, _: &Step, _: &str) {}
        fn end(&self, _: &Sequence, _: &Step, _: &str, _: &Result<(), String>) {}
    }

    fn reset(graceful: bool) -> Sequence {
        Sequence::Reset { graceful, reboot: true, volumes: Vec::new() }
    }

    fn journal(sequence: Sequence, done: usize) -> (tempfile::TempDir, JournalFile, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let file = JournalFile::at(&dir.path().join("sequence.json"));
        (dir, file, Journal { sequence, actor: "a".into(), done })
    }

    #[test]
    fn a_reset_stops_all_writers_before_it_wipes() {
        let names: Vec<_> = plan(&reset(true)).iter().map(Step::name).collect();
        let wipe = names.iter().position(|n| n == "wipe").unwrap();
        for writer in ["stopService/kubelet", "stopPods", "stopService/etcd", "stopService/containerd"] {
            assert!(names.iter().position(|n| n == writer).unwrap() < wipe, "{writer}");
        }
        assert!(names.iter().position(|n| n == "leaveEtcd") < names.iter().position(|n| n == "stopService/etcd"));
        assert!(!plan(&reset(false)).contains(&Step::LeaveEtcd));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_or_fails_does_not_hold_up_the_end() {
        let (_dir, file, j) = journal(reset(true), 0);
        let hands = Fake { hang: Some(Step::Drain), fail: Some(Step::StopPods), ..Fake::default() };
        run(j, &file, &hands).await;
        let done = hands.done.lock().unwrap();
        assert!(!done.contains(&"drain".to_owned()));
        assert_eq!(done.last().unwrap(), "finish");
    }

    #[tokio::test]
    async fn it_goes_on_where_the_journal_stands() {
        let (_dir, file, mut j) = journal(Sequence::Shutdown { force: false }, 2);
        file.write(&j).unwrap();
        j = file.read().unwrap();
        let hands = Fake::default();
        run(j, &file, &hands).await;
        assert_eq!(*hands.done.lock().unwrap(), ["stopPods", "stopService/etcd", "finish"]);
        assert_eq!(file.read().unwrap().done, 5);
    }

    #[test]
    fn a_torn_journal_counts_as_none() {
        let (dir, file, j) = journal(reset(true), 1);
        file.write(&j).unwrap();
        let path = dir.path().join("sequence.json");
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(file.read(), None, "cut at {cut}");
        }
    }

    #[test]
    fn only_stronger_sequences_take_over() {
        let (soft, hard) = (Sequence::Reboot { force: false }, Sequence::Reboot { force: true });
        assert!(hard.takes_over(&soft) && !soft.takes_over(&hard) && !soft.takes_over(&soft));
        assert!(Sequence::Shutdown { force: false }.takes_over(&soft));
        assert!(!hard.takes_over(&reset(true)));
    }
}
