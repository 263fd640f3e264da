//! The life of one service as a state machine: `step(state, event) → (state, actions)`, without IO and without a clock of its own.
//!
//! The driver (`driver.rs`) carries the actions out and feeds their results back as events. So every rule about when a service
//! starts, stops, is adopted, restarts or gives up is here and is tested here.

use std::time::Duration;

use model::services::Restart;

/// Shortest wait before a service that ended is started again.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest wait before a service that ended is started again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A run at least this long proves the service well: the next failure starts again from the shortest wait.
const PROVEN_AFTER: Duration = Duration::from_secs(60);

/// A point on a monotonic clock, as the time since an arbitrary start.
pub type Instant = Duration;

/// What a service is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Known, and nothing asked of it yet.
    Initialized,
    /// Wanted, and waiting for its conditions.
    Waiting {
        /// The conditions that are not met, for people.
        conditions: Vec<String>,
    },
    /// Getting ready what the start needs: the image, directories.
    Preparing,
    /// Being started.
    Starting,
    /// Running since this instant.
    Running {
        /// When it started (or was adopted).
        since: Instant,
    },
    /// Asked to end, and killed at `kill_at` when it has not.
    Stopping {
        /// When to kill it.
        kill_at: Instant,
        /// Whether it has been killed already.
        killed: bool,
    },
    /// Ended, and started again at this instant.
    Backoff {
        /// When to start it again.
        until: Instant,
    },
    /// Ended as it should.
    Finished,
    /// Ended for good, not as it should.
    Failed,
}

/// What is wanted of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// It shall run, in the form with this hash of its specification.
    Run {
        /// Identifies the specification; a change restarts the service.
        hash: u64,
    },
    /// It shall not run.
    Stop,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What is wanted changed.
    Want(Want),
    /// A person asked for a restart.
    Restart,
    /// The service was found running from before, in the form with this hash.
    Adopted {
        /// The specification it runs with.
        hash: u64,
    },
    /// The conditions were looked at; these are not met.
    Conditions(Vec<String>),
    /// The preparation ended.
    Prepared(Result<(), String>),
    /// The start ended.
    Started(Result<(), String>),
    /// The process or container ended; `Ok` with exit code 0.
    Exited(Result<(), String>),
    /// Time passed.
    Tick,
}

/// What the driver shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Prepare; answer with [`Event::Prepared`].
    Prepare,
    /// Start; answer with [`Event::Started`].
    Start,
    /// Ask it to end.
    Terminate,
    /// End it by force.
    Kill,
    /// Tell [`Event::Tick`] at this instant.
    WakeAt(Instant),
    /// Note this for people: the state's name is the event's state.
    Note(String),
}

/// One service.
#[derive(Debug, Clone)]
pub struct Machine {
    state: State,
    /// `None` until somebody said what is wanted: that is not the same as wanting it stopped.
    want: Option<Want>,
    running_hash: Option<u64>,
    failures: u32,
    restart: Restart,
    stop_timeout: Duration,
}

impl Machine {
    /// A service nothing was asked of yet.
    #[must_use]
    pub fn new(restart: Restart, stop_timeout: Duration) -> Self {
        Self { state: State::Initialized, want: None, running_hash: None, failures: 0, restart, stop_timeout }
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes over a changed restart policy and stop time.
    pub fn set_policy(&mut self, restart: Restart, stop_timeout: Duration) {
        self.restart = restart;
        self.stop_timeout = stop_timeout;
    }

    /// Whether the driver has to look at the conditions.
    #[must_use]
    pub fn needs_conditions(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Takes one event at `now`; says what to do.
    pub fn step(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Want(want) => self.wanted(want, now),
            Event::Restart => self.restart_asked(now),
            Event::Adopted { hash } => self.adopted(hash, now),
            Event::Conditions(unmet) => self.conditions(unmet),
            Event::Prepared(result) => self.prepared(result, now),
            Event::Started(result) => self.started(result, now),
            Event::Exited(result) => self.exited(result, now),
            Event::Tick => self.tick(now),
        }
    }

    fn wanted(&mut self, want: Want, now: Instant) -> Vec<Action> {
        let changed = self.want != Some(want);
        self.want = Some(want);
        match (want, &self.state) {
            (Want::Run { .. }, State::Initialized) => self.wait(),
            (Want::Run { .. }, State::Finished | State::Failed) if changed => self.wait(),
            (Want::Run { hash }, State::Running { .. }) if self.running_hash != Some(hash) => {
                self.stop("Stopping to take over a changed specification", now)
            }
            (Want::Run { .. }, State::Backoff { .. }) if changed => self.wait(),
            (Want::Stop, State::Running { .. } | State::Starting) => self.stop("Stopping", now),
            (Want::Stop, State::Waiting { .. } | State::Backoff { .. } | State::Preparing | State::Initialized) => {
                self.state = State::Finished;
                vec![Action::Note("Service is not wanted any more".into())]
            }
            _ => Vec::new(),
        }
    }

    fn restart_asked(&mut self, now: Instant) -> Vec<Action> {
        self.failures = 0;
        match self.state {
            State::Running { .. } => self.stop("Stopping to restart", now),
            State::Backoff { .. } | State::Finished | State::Failed if matches!(self.want, Some(Want::Run { .. })) => self.wait(),
            _ => Vec::new(),
        }
    }

    fn adopted(&mut self, hash: u64, now: Instant) -> Vec<Action> {
        self.running_hash = Some(hash);
        self.state = State::Running { since: now };
        let mut actions = vec![Action::Note("Found running, adopted".into())];
        if let Some(want) = self.want {
            actions.extend(self.wanted(want, now));
        }
        actions
    }

    fn conditions(&mut self, unmet: Vec<String>) -> Vec<Action> {
        let State::Waiting { conditions } = &mut self.state else { return Vec::new() };
        if unmet.is_empty() {
            self.state = State::Preparing;
            return vec![Action::Note("Preparing to start".into()), Action::Prepare];
        }
        if *conditions == unmet {
            return Vec::new();
        }
        let note = format!("Waiting for {}", unmet.join(", "));
        *conditions = unmet;
        vec![Action::Note(note)]
    }

    fn prepared(&mut self, result: Result<(), String>, now: Instant) -> Vec<Action> {
        if self.state != State::Preparing {
            return Vec::new();
        }
        match result {
            Ok(()) => {
                if let Some(Want::Run { hash }) = self.want {
                    self.running_hash = Some(hash);
                }
                self.state = State::Starting;
                vec![Action::Note("Starting".into()), Action::Start]
            }
            Err(reason) => self.back_off(&format!("Preparing failed: {reason}"), now),
        }
    }

    fn started(&mut self, result: Result<(), String>, now: Instant) -> Vec<Action> {
        match (&self.state, result) {
            (State::Starting, Ok(())) => {
                self.state = State::Running { since: now };
                let mut actions = vec![Action::Note("Started".into())];
                if let Some(want) = self.want {
                    actions.extend(self.wanted(want, now));
                }
                actions
            }
            (State::Starting, Err(reason)) => self.back_off(&format!("Starting failed: {reason}"), now),
            // It was asked to stop while it was being started.
            (State::Stopping { .. }, Ok(())) => vec![Action::Terminate],
            (State::Stopping { .. }, Err(reason)) => self.exited(Err(reason), now),
            _ => Vec::new(),
        }
    }

    fn exited(&mut self, result: Result<(), String>, now: Instant) -> Vec<Action> {
        self.running_hash = None;
        let text = match &result {
            Ok(()) => "ended".to_owned(),
            Err(reason) => format!("ended: {reason}"),
        };
        match (&self.state, self.want) {
            (_, None) => {
                self.state = State::Initialized;
                vec![Action::Note(format!("Service {text}"))]
            }
            (State::Stopping { .. }, Some(Want::Run { .. })) => {
                let mut actions = vec![Action::Note(format!("Service {text}"))];
                actions.extend(self.wait());
                actions
            }
            (_, Some(Want::Stop)) => {
                self.state = State::Finished;
                vec![Action::Note(format!("Service {text}"))]
            }
            (State::Running { since }, Some(Want::Run { .. })) => {
                if now.saturating_sub(*since) >= PROVEN_AFTER {
                    self.failures = 0;
                }
                self.after_run(result, now)
            }
            _ => self.after_run(result, now),
        }
    }

    /// What the restart policy makes of a run that nobody asked to end.
    fn after_run(&mut self, result: Result<(), String>, now: Instant) -> Vec<Action> {
        match (self.restart, result) {
            (Restart::Never | Restart::UntilSuccess, Ok(())) => {
                self.state = State::Finished;
                vec![Action::Note("Service ended with success".into())]
            }
            (Restart::Never, Err(reason)) => {
                self.state = State::Failed;
                vec![Action::Note(format!("Service failed: {reason}"))]
            }
            (_, Ok(())) => self.back_off("Service ended by itself", now),
            (_, Err(reason)) => self.back_off(&format!("Service failed: {reason}"), now),
        }
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        match self.state {
            State::Backoff { until } if now >= until => self.wait(),
            State::Backoff { until } => vec![Action::WakeAt(until)],
            State::Stopping { kill_at, killed: false } if now >= kill_at => {
                self.state = State::Stopping { kill_at, killed: true };
                vec![Action::Note("Did not end when asked, killing it".into()), Action::Kill]
            }
            State::Stopping { kill_at, killed: false } => vec![Action::WakeAt(kill_at)],
            _ => Vec::new(),
        }
    }

    fn wait(&mut self) -> Vec<Action> {
        self.state = State::Waiting { conditions: Vec::new() };
        Vec::new()
    }

    fn stop(&mut self, note: &str, now: Instant) -> Vec<Action> {
        let kill_at = now + self.stop_timeout;
        let was_starting = self.state == State::Starting;
        self.state = State::Stopping { kill_at, killed: false };
        let mut actions = vec![Action::Note(note.to_owned())];
        if !was_starting {
            actions.push(Action::Terminate);
        }
        actions.push(Action::WakeAt(kill_at));
        actions
    }

    fn back_off(&mut self, note: &str, now: Instant) -> Vec<Action> {
        let wait = BACKOFF_MIN.saturating_mul(1 << self.failures.min(6)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.running_hash = None;
        let until = now + wait;
        self.state = State::Backoff { until };
        vec![Action::Note(format!("{note}; starting again in {} ms", wait.as_millis())), Action::WakeAt(until)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn machine(restart: Restart) -> Machine {
        Machine::new(restart, 10 * SECOND)
    }

    /// A machine that runs specification 1 since instant 0.
    fn running(restart: Restart) -> Machine {
        let mut m = machine(restart);
        m.step(Event::Want(Want::Run { hash: 1 }), Duration::ZERO);
        m.step(Event::Conditions(vec![]), Duration::ZERO);
        m.step(Event::Prepared(Ok(())), Duration::ZERO);
        m.step(Event::Started(Ok(())), Duration::ZERO);
        assert_eq!(m.state(), &State::Running { since: Duration::ZERO });
        m
    }

    #[test]
    fn it_starts_only_when_its_conditions_are_met() {
        let mut m = machine(Restart::Always);
        assert!(m.step(Event::Want(Want::Run { hash: 1 }), SECOND).is_empty());
        assert!(m.needs_conditions());
        let actions = m.step(Event::Conditions(vec!["time sync".into(), "service cri".into()]), SECOND);
        assert_eq!(actions, [Action::Note("Waiting for time sync, service cri".into())]);
        assert!(m.step(Event::Conditions(vec!["time sync".into(), "service cri".into()]), SECOND).is_empty(), "said once");
        let actions = m.step(Event::Conditions(vec![]), SECOND);
        assert!(actions.contains(&Action::Prepare));
        assert!(m.step(Event::Prepared(Ok(())), SECOND).contains(&Action::Start));
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_a_long_run_forgets_it() {
        let mut m = running(Restart::Always);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let now = SECOND;
            for action in m.step(Event::Exited(Err("exit code 1".into())), now) {
                if let Action::WakeAt(at) = action {
                    waits.push((at - now).as_millis());
                    m.step(Event::Tick, at);
                }
            }
            m.step(Event::Conditions(vec![]), now);
            m.step(Event::Prepared(Ok(())), now);
            m.step(Event::Started(Ok(())), now);
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        let late = SECOND + PROVEN_AFTER;
        let actions = m.step(Event::Exited(Err("exit code 1".into())), late);
        assert!(actions.contains(&Action::WakeAt(late + BACKOFF_MIN)));
    }

    #[test]
    fn an_adopted_service_is_left_alone_when_its_specification_is_the_same() {
        let mut m = machine(Restart::Always);
        m.step(Event::Adopted { hash: 7 }, SECOND);
        // The want arrives after the adoption, as it does when machined starts again.
        let actions = m.step(Event::Want(Want::Run { hash: 7 }), SECOND);
        assert!(actions.is_empty(), "{actions:?}");
        assert_eq!(m.state(), &State::Running { since: SECOND });
        let actions = m.step(Event::Want(Want::Run { hash: 8 }), SECOND);
        assert!(actions.contains(&Action::Terminate));
    }

    #[test]
    fn a_service_that_will_not_end_is_killed_once() {
        let mut m = running(Restart::Always);
        let actions = m.step(Event::Want(Want::Stop), SECOND);
        assert_eq!(actions[1..], [Action::Terminate, Action::WakeAt(11 * SECOND)]);
        assert_eq!(m.step(Event::Tick, 5 * SECOND), [Action::WakeAt(11 * SECOND)]);
        assert!(m.step(Event::Tick, 11 * SECOND).contains(&Action::Kill));
        assert!(m.step(Event::Tick, 12 * SECOND).is_empty());
        m.step(Event::Exited(Err("signal 9".into())), 12 * SECOND);
        assert_eq!(m.state(), &State::Finished);
    }

    #[test]
    fn a_restart_goes_through_stop_and_conditions() {
        let mut m = running(Restart::Always);
        assert!(m.step(Event::Restart, SECOND).contains(&Action::Terminate));
        m.step(Event::Exited(Ok(())), SECOND);
        assert!(m.needs_conditions());
    }

    #[test]
    fn stopping_while_starting_ends_the_process_once_it_is_there() {
        let mut m = machine(Restart::Always);
        m.step(Event::Want(Want::Run { hash: 1 }), SECOND);
        m.step(Event::Conditions(vec![]), SECOND);
        m.step(Event::Prepared(Ok(())), SECOND);
        let actions = m.step(Event::Want(Want::Stop), SECOND);
        assert!(!actions.contains(&Action::Terminate), "there is nothing to signal yet");
        assert_eq!(m.step(Event::Started(Ok(())), SECOND), [Action::Terminate]);
    }

    #[test]
    fn policies_decide_what_follows_an_end() {
        for (restart, result, expected) in [
            (Restart::Never, Ok(()), State::Finished),
            (Restart::Never, Err("x".to_owned()), State::Failed),
            (Restart::UntilSuccess, Ok(()), State::Finished),
            (Restart::UntilSuccess, Err("x".to_owned()), State::Backoff { until: SECOND + BACKOFF_MIN }),
            (Restart::Always, Ok(()), State::Backoff { until: SECOND + BACKOFF_MIN }),
        ] {
            let mut m = running(restart);
            m.step(Event::Exited(result), SECOND);
            assert_eq!(m.state(), &expected, "{restart:?}");
        }
    }
}
