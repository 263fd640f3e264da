//! Gathering what a health check must know, and telling what it found.
//!
//! The judgement itself is pure and elsewhere (`model::health`). Here is what feeds it: all machines and Kubernetes are asked at once,
//! each question has a deadline, and one that was not answered is a fact too; so a verdict is there within [`LOOK`], whatever is broken.
//! Where answers come from is a trait ([`Sources`]): a control plane, the command line, and tests each have their own.

mod machine;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures::future::join_all;
use model::health::{Check, ClusterFacts, Diagnosis, KubeFacts, NodeFacts, Reach, Role, Verdict, check_all, summary};
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use crate::orlop::cluster::v1::{HealthFinding, HealthReport, HealthVerdict, health_verdict::State};
pub use machine::{Asker, reach};

/// The longest that one look at the whole cluster may take.
pub const LOOK: Duration = Duration::from_secs(8);
/// The longest that the list of machines may take; the machines have what it leaves of [`LOOK`].
const MACHINES: Duration = Duration::from_secs(5);
/// The longest that Kubernetes may take to answer.
const KUBERNETES: Duration = Duration::from_secs(5);
/// The pause between looks at first, while things change fast.
const PAUSE: Duration = Duration::from_millis(500);
/// The pause after a minute.
const LONG_PAUSE: Duration = Duration::from_secs(2);

/// A machine that should be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its node name; empty when only its address is known.
    pub name: String,
    /// Its address.
    pub address: String,
    /// What it does.
    pub role: Role,
}

/// What sort of cluster it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// It has etcd of its own.
    pub has_etcd: bool,
    /// The pod network is somebody else's business.
    pub cni_none: bool,
}

/// Where facts come from.
#[async_trait]
pub trait Sources: Send + Sync {
    /// The machines that should be there.
    async fn machines(&self) -> Vec<Machine>;
    /// One machine's answers.
    async fn machine(&self, machine: &Machine) -> NodeFacts;
    /// What Kubernetes says, or why it could not be asked.
    async fn kubernetes(&self) -> Result<KubeFacts, String>;
    /// What sort of cluster it is.
    fn outline(&self) -> Outline;
}

/// Asks everybody at once. Takes [`LOOK`] at most.
pub async fn gather(sources: &dyn Sources) -> ClusterFacts {
    let Outline { has_etcd, cni_none } = sources.outline();
    let deadline = Instant::now() + LOOK;
    let nodes = async {
        // Without an answer there are no machines, which fails.
        let machines = timeout(MACHINES, sources.machines()).await.unwrap_or_default();
        join_all(machines.iter().map(async |machine| {
            // A source keeps its own deadlines; this one holds whatever it does.
            timeout_at(deadline, sources.machine(machine)).await.unwrap_or_else(|_| unanswered(machine, Reach::Silent))
        }))
        .await
    };
    let kubernetes = async {
        let late = |_| Err(format!("no answer within {} s", KUBERNETES.as_secs()));
        timeout(KUBERNETES, sources.kubernetes()).await.unwrap_or_else(late)
    };
    let (nodes, kubernetes) = tokio::join!(nodes, kubernetes);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    ClusterFacts { nodes, kubernetes, has_etcd, cni_none, now: i64::try_from(now).unwrap_or(i64::MAX) }
}

/// The facts of a machine that did not answer.
#[must_use]
pub fn unanswered(machine: &Machine, reach: Reach) -> NodeFacts {
    let name = if machine.name.is_empty() { machine.address.clone() } else { machine.name.clone() };
    NodeFacts { name, address: machine.address.clone(), role: machine.role, reach, ..NodeFacts::default() }
}

/// Looks again and again until all is well or `wait` is over, and tells each change of a check's state in a line. A look that began in
/// time is finished, so this takes [`LOOK`] longer at most.
pub async fn run(sources: &dyn Sources, wait: Duration, tell: &mut (dyn FnMut(String) + Send)) -> HealthReport {
    let begin = Instant::now();
    let mut told = vec![String::new(); Check::ALL.len()];
    loop {
        let facts = gather(sources).await;
        let verdicts = check_all(&facts);
        for ((check, verdict), told) in verdicts.iter().zip(&mut told) {
            let line = line(*check, verdict);
            if line != *told {
                told.clone_from(&line);
                tell(line);
            }
        }
        let report = report(&facts, &verdicts);
        let pause = if begin.elapsed() < Duration::from_secs(60) { PAUSE } else { LONG_PAUSE };
        if is_healthy(&report) || begin.elapsed() + pause >= wait {
            return report;
        }
        sleep(pause).await;
    }
}

/// A check with its state, as clients print it.
fn line(check: Check, verdict: &Verdict) -> String {
    let state = match verdict {
        Verdict::Pass => "OK".to_owned(),
        Verdict::Skip { reason } => format!("SKIP: {reason}"),
        Verdict::Fail(failures) => {
            let each: Vec<String> = failures
                .iter()
                .map(|f| format!("{}{}: {}", f.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default(), f.cause, f.found))
                .collect();
            each.join("; ")
        }
    };
    format!("waiting for {}: {state}", check.text())
}

/// What was found, in parts.
#[must_use]
pub fn report(facts: &ClusterFacts, verdicts: &[(Check, Verdict)]) -> HealthReport {
    let checks = verdicts.iter().map(|(check, verdict)| {
        let (state, reason, failures) = match verdict {
            Verdict::Pass => (State::Pass, String::new(), Vec::new()),
            Verdict::Skip { reason } => (State::Skip, reason.clone(), Vec::new()),
            Verdict::Fail(failures) => (State::Fail, String::new(), failures.clone()),
        };
        let failures = failures.into_iter().map(|f| HealthFinding {
            node: f.node.unwrap_or_default(),
            cause: f.cause.to_string(),
            found: f.found,
            next_step: f.next_step,
        });
        HealthVerdict { check: check.text().into(), state: state.into(), reason, failures: failures.collect() }
    });
    HealthReport { checks: checks.collect(), causes: summary(facts, verdicts).into_iter().map(finding).collect() }
}

fn finding(diagnosis: Diagnosis) -> HealthFinding {
    HealthFinding {
        node: diagnosis.node.unwrap_or_default(),
        cause: diagnosis.cause.to_string(),
        found: diagnosis.found,
        next_step: diagnosis.next_step,
    }
}

/// Whether there was a check and each passed or does not apply.
#[must_use]
pub fn is_healthy(report: &HealthReport) -> bool {
    !report.checks.is_empty() && report.checks.iter().all(is_passed)
}

/// Whether a check passed or does not apply.
#[must_use]
pub fn is_passed(check: &HealthVerdict) -> bool {
    matches!(check.state(), State::Pass | State::Skip)
}

/// The causes in one line.
#[must_use]
pub fn causes(report: &HealthReport) -> String {
    let each = report.causes.iter().map(|c| match c.node.as_str() {
        "" => c.cause.clone(),
        node => format!("{} on {node}", c.cause),
    });
    each.collect::<Vec<_>>().join(", ")
}
