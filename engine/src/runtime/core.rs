//! The runtime without a driver: every controller's schedule, status and provenance, and the two questions a driver asks.
//!
//! *What is to be done with controller `c` now?* is [`Core::next`]; *do it* is [`Core::run`]. The tokio driver asks once per controller and
//! task, the simulator asks for all of them in an order of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use resource::{Key, Name, Timestamp};

use super::schedule::{Next, Outcome, Pace, Schedule};
use super::settle::Settling;
use super::slot::{Call, Report, Slot};
use super::status::{ControllerStatus, Explanation, Origin, Stored};
use crate::clock::Clock;
use crate::context::{Kept, Spawner};
use crate::graph::{Graph, GraphError};
use crate::store::Store;
use crate::trigger::{Trigger, reason};

/// How many resources' origins are remembered; beyond, an arbitrary one is forgotten for each new one.
const ORIGINS: usize = 65_536;

/// How many resources one explanation tells of.
const EXPLAINED: usize = 256;

pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) graph: Graph,
    pub(crate) clock: Arc<dyn Clock>,
    controllers: Vec<Entry>,
    settling: Mutex<Settling>,
    origins: Mutex<HashMap<Key, Origin>>,
}

struct Entry {
    slot: Slot,
    stop: AtomicBool,
    state: Mutex<State>,
}

struct State {
    schedule: Schedule,
    status: ControllerStatus,
}

impl Core {
    pub(crate) fn new(
        store: Store,
        calls: Vec<Box<dyn Call>>,
        pace: Pace,
        seed: u64,
        spawner: impl Fn() -> Box<dyn Spawner>,
    ) -> Result<Self, GraphError> {
        let graph = Graph::build(calls.iter().map(|c| c.node()).collect())?;
        let clock = store.clock();
        let now = clock.elapsed();
        let mut controllers = Vec::with_capacity(calls.len());
        for (index, call) in calls.into_iter().enumerate() {
            let name = Name::literal(graph.nodes()[index].name);
            let trigger = Arc::new(Trigger::new(Arc::clone(&clock)));
            let kept = Arc::new(Kept::new(name.clone(), Arc::clone(&clock), trigger, spawner()));
            let slot = Slot::new(call, &store, kept);
            let seed = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let status = ControllerStatus { name, ..ControllerStatus::default() };
            let state = Mutex::new(State { schedule: Schedule::new(pace, seed, now), status });
            slot.listen();
            controllers.push(Entry { slot, stop: AtomicBool::new(false), state });
        }
        let settling = Mutex::new(Settling::new(&graph));
        Ok(Self { store, graph, clock, controllers, settling, origins: Mutex::default() })
    }

    pub(crate) fn len(&self) -> usize {
        self.controllers.len()
    }

    pub(crate) fn trigger(&self, c: usize) -> &Arc<Trigger> {
        self.controllers[c].slot.trigger()
    }

    /// Tells a controller to stop after its present run.
    pub(crate) fn stop(&self, c: usize) {
        self.controllers[c].stop.store(true, SeqCst);
        self.trigger(c).wake(reason::OUTSIDE);
    }

    pub(crate) fn stopping(&self, c: usize) -> bool {
        self.controllers[c].stop.load(SeqCst)
    }

    /// Forgets a controller that has stopped.
    pub(crate) fn leave(&self, c: usize) {
        self.controllers[c].slot.unlisten();
        self.controllers[c].slot.kept.abort_all();
    }

    /// What is to be done now. Destroys, on the way, outputs that were only waiting for their last finalizer.
    pub(crate) fn next(&self, c: usize) -> Next {
        let entry = &self.controllers[c];
        let mut state = entry.state();
        if state.schedule.running() {
            return Next::Idle;
        }
        let (flags, since) = entry.slot.trigger().take();
        if flags & !reason::OUTPUT != 0 {
            state.schedule.wake(since);
        }
        if flags & reason::OUTPUT != 0 {
            let report = entry.slot.finish();
            // Something ended: it may be wanted anew, or an input may now be let go. Something failed: the run tells how.
            if !report.removed.is_empty() || report.failure.is_some() {
                state.schedule.wake(since);
            }
            state.status.removed += report.removed.len() as u64;
            state.status.held.clone_from(&report.held);
            self.forget(&report);
        }
        state.schedule.next(self.clock.elapsed())
    }

    /// Runs a controller once.
    pub(crate) async fn run(&self, c: usize) {
        let entry = &self.controllers[c];
        let now = self.clock.elapsed();
        {
            let mut state = entry.state();
            let lag = state.schedule.begin(now);
            let status = &mut state.status;
            status.runs += 1;
            status.lag = lag;
            status.lag_max = status.lag_max.max(lag);
        }
        let began = self.settling().begin(c);
        // A run that is dropped half way must not leave the controller marked as running.
        let mut guard = Unfinished { entry, ended: false };
        let report = match entry.slot.kept.take_failure() {
            Some(failure) => Report { failure: Some(failure), ..Report::default() },
            None => entry.slot.run(began.knew()).await,
        };
        guard.ended = true;
        let answered = report.failure.is_none() && !report.unknown;
        self.record(c, now, report);
        if answered {
            let known = self.settling().answered(&self.graph, c, began, &|other| self.idle(other));
            known.into_iter().for_each(|k| self.trigger(k).wake(reason::SETTLED));
        }
    }

    /// Whether a controller neither runs nor is about to.
    fn idle(&self, c: usize) -> bool {
        let entry = &self.controllers[c];
        let state = entry.state();
        let schedule = &state.schedule;
        let due = schedule.running() || schedule.woken_since().is_some() || schedule.retry_at().is_some();
        !due && entry.slot.trigger().flags() & !reason::OUTPUT == 0
    }

    fn record(&self, c: usize, began: Duration, report: Report) {
        let entry = &self.controllers[c];
        let (now, wall) = (self.clock.elapsed(), Timestamp::from(self.clock.wall()));
        let mut guard = entry.state();
        let State { schedule, status } = &mut *guard;
        if let Some(at) = report.wake_at {
            schedule.wake_at(at);
        }
        schedule.end(if report.failure.is_some() { Outcome::Failure } else { Outcome::Success }, now);
        status.busy += now.saturating_sub(began);
        status.last_run = Some(wall);
        status.panics += u64::from(report.panicked);
        status.written += report.written.len() as u64;
        status.removed += report.removed.len() as u64;
        let run = status.runs;
        match &report.failure {
            Some(failure) => {
                status.failures += 1;
                status.last_error = Some(failure.clone());
                status.last_error_at = Some(wall);
                let wait = schedule.retry_at().map(|at| at.saturating_sub(now));
                tracing::warn!(controller = %status.name, error = %failure, retry_in = ?wait, "controller failed");
            }
            None => {
                status.last_success = Some(wall);
                status.waiting.clone_from(&report.waiting);
                status.withheld = report.withheld;
                status.held.clone_from(&report.held);
            }
        }
        if !report.inputs.is_empty() {
            status.inputs.clone_from(&report.inputs);
        }
        drop(guard);
        self.forget(&report);
        self.remember(&entry.slot.name, run, wall, report);
    }

    fn remember(&self, controller: &Name, run: u64, at: Timestamp, report: Report) {
        if report.written.is_empty() {
            return;
        }
        let origin = Origin { controller: controller.clone(), run, at, inputs: report.inputs.into() };
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, id, _) in report.written {
            if origins.len() >= ORIGINS
                && let Some(victim) = origins.keys().next().cloned()
            {
                origins.remove(&victim);
            }
            origins.insert(kind.id(id), origin.clone());
        }
    }

    fn forget(&self, report: &Report) {
        if !report.removed.is_empty() {
            let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
            report.removed.iter().for_each(|(kind, id)| drop(origins.remove(&kind.id(id.clone()))));
        }
    }

    fn settling(&self) -> MutexGuard<'_, Settling> {
        self.settling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status of one controller.
    pub(crate) fn status(&self, c: usize) -> ControllerStatus {
        let entry = &self.controllers[c];
        let now = self.clock.elapsed();
        let state = entry.state();
        let mut status = state.status.clone();
        status.failing = state.schedule.failures();
        status.running = state.schedule.running();
        status.retry_in = state.schedule.retry_at().map(|at| at.saturating_sub(now));
        status.wake_in = state.schedule.timer().map(|at| at.saturating_sub(now));
        status.throttled = state.schedule.throttled();
        drop(state);
        let settling = self.settling();
        status.settled = settling.knows(c);
        status.waits_for = settling.waits_for(&self.graph, c).into_iter().map(|u| self.controllers[u].slot.name.clone()).collect();
        status
    }

    /// Why a resource is as it is, going back at most `depth` steps and over at most [`EXPLAINED`] resources.
    pub(crate) fn explain(&self, key: &Key, depth: usize) -> Explanation {
        self.explain_within(key, depth, &mut { EXPLAINED })
    }

    fn explain_within(&self, key: &Key, depth: usize, left: &mut usize) -> Explanation {
        let resource = self.store.get_any(key);
        let stored = resource.map(|r| Stored {
            version: r.meta.version,
            owner: r.meta.owner.clone(),
            phase: r.meta.phase,
            finalizers: r.meta.finalizers.clone(),
            updated: r.meta.updated,
        });
        let origin = self.origins.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let nodes = self.graph.nodes().iter().enumerate();
        let writes = |c: usize| match &stored {
            Some(stored) => stored.owner == *self.graph.nodes()[c].name,
            None => self.graph.nodes()[c].outputs.iter().any(|o| o.kind == key.kind()),
        };
        let writers: Vec<_> = nodes.filter(|(c, _)| writes(*c)).map(|(c, _)| self.status(c)).collect();
        let seen = match &origin {
            Some(origin) => origin.inputs.to_vec(),
            None => writers.iter().flat_map(|w| w.inputs.clone()).collect(),
        };
        let from = seen.iter().flat_map(|i| i.items.iter().map(|(id, _)| i.kind.id(id.clone()))).filter(|k| k != key);
        let mut inputs = Vec::new();
        for key in from {
            if depth == 0 || *left == 0 {
                break;
            }
            *left -= 1;
            inputs.push(self.explain_within(&key, depth - 1, left));
        }
        Explanation { key: key.clone(), stored, origin, writers, inputs }
    }
}

impl Entry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Unfinished<'a> {
    entry: &'a Entry,
    ended: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.entry.state().schedule.end(Outcome::Success, Duration::ZERO);
        }
    }
}
