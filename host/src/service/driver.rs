//! Drives one service's [`Machine`]: carries out its actions, feeds back what happened, and reports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use model::services::{HealthCheck, ServiceEvent, ServiceSpec, ServiceStatus};
use resource::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::health::{self, Timing};
use super::machine::{Action, Event, Machine, State, Want};
use super::runner::Runner;

/// How many events a service keeps.
const EVENTS: usize = 64;
/// Time to end when the specification names none.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the supervisor tells a driver.
#[derive(Debug)]
pub enum Command {
    /// It shall run like this.
    Run(Arc<ServiceSpec>, u64),
    /// It shall not run.
    Stop,
    /// Restart it once.
    Restart,
    /// The conditions that are not met.
    Conditions(Vec<String>),
}

/// What reaches the driver's loop from its own tasks.
enum Input {
    Event(Event),
    Pid(u32),
    Health(Result<(), String>),
}

/// Called with each new report of a service.
pub type Report = Arc<dyn Fn(&str, ServiceStatus) + Send + Sync>;

/// Starts driving the service `id`; `spec` is what it is first looked for with.
pub fn spawn(id: String, spec: Arc<ServiceSpec>, runner: Arc<dyn Runner>, report: Report) -> mpsc::UnboundedSender<Command> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (inputs, own) = mpsc::unbounded_channel();
    let stop_timeout = stop_timeout(&spec);
    let driver = Driver {
        machine: Machine::new(spec.restart, stop_timeout),
        status: ServiceStatus { state: "Initialized".into(), unknown: true, ..ServiceStatus::default() },
        events: VecDeque::new(),
        started: Instant::now(),
        wake: None,
        unmet: None,
        waiter: None,
        prober: None,
        id,
        spec,
        runner,
        report,
        inputs,
    };
    tokio::spawn(driver.run(receiver, own));
    commands
}

fn stop_timeout(spec: &ServiceSpec) -> Duration {
    let given = spec.stop_timeout.to_std();
    if given.is_zero() { STOP_TIMEOUT } else { given }
}

struct Driver {
    id: String,
    spec: Arc<ServiceSpec>,
    runner: Arc<dyn Runner>,
    report: Report,
    machine: Machine,
    status: ServiceStatus,
    events: VecDeque<ServiceEvent>,
    started: Instant,
    wake: Option<Instant>,
    /// The conditions that were not met when somebody last looked.
    unmet: Option<Vec<String>>,
    waiter: Option<JoinHandle<()>>,
    prober: Option<JoinHandle<()>>,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>, mut own: mpsc::UnboundedReceiver<Input>) {
        self.adopt().await;
        loop {
            let wake = self.wake;
            let timer = async move {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(input) = own.recv() => self.input(input),
                () = timer => {
                    self.wake = None;
                    self.step(Event::Tick);
                }
            }
        }
        self.stop_watching();
    }

    /// Looks whether the service runs from before; tries until the runner answers.
    async fn adopt(&mut self) {
        let mut told = false;
        loop {
            match self.runner.find(&self.id).await {
                Ok(Some(running)) => {
                    self.status.pid = running.pid;
                    // A service without a readable hash counts as changed, so that it is started anew from a known one.
                    self.step(Event::Adopted { hash: running.hash.unwrap_or_default() });
                    return;
                }
                Ok(None) => return,
                Err(reason) => {
                    if !told {
                        tracing::info!(service = %self.id, %reason, "cannot look for it yet");
                        told = true;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Run(spec, hash) => {
                self.machine.set_policy(spec.restart, stop_timeout(&spec));
                self.spec = spec;
                self.step(Event::Want(Want::Run { hash }));
            }
            Command::Stop => self.step(Event::Want(Want::Stop)),
            Command::Restart => self.step(Event::Restart),
            Command::Conditions(unmet) => {
                self.unmet = Some(unmet.clone());
                self.step(Event::Conditions(unmet));
            }
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.step(event),
            Input::Pid(pid) => {
                self.status.pid = pid;
                self.status.starts += 1;
            }
            Input::Health(result) => self.health(result),
        }
    }

    fn step(&mut self, event: Event) {
        let before = self.machine.state().clone();
        let actions = self.machine.step(event, self.started.elapsed());
        let state = self.machine.state().clone();
        if before != state {
            self.entered(&state);
        }
        for action in actions {
            self.act(action);
        }
        (self.report)(&self.id, self.snapshot());
        // It began to wait by itself, after a failure: what was last known of its conditions holds until somebody looks again.
        if self.machine.needs_conditions()
            && !matches!(before, State::Waiting { .. })
            && let Some(unmet) = self.unmet.clone()
        {
            self.step(Event::Conditions(unmet));
        }
    }

    /// Follows a change of state with what depends on it: the wait for the end, and the health probes.
    fn entered(&mut self, state: &State) {
        match state {
            State::Running { .. } => self.watch(),
            State::Stopping { .. } => self.stop_probing(),
            _ => {
                self.stop_watching();
                self.status.pid = 0;
            }
        }
        self.status.state = name(state).to_owned();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Note(message) => self.note(message),
            Action::WakeAt(at) => self.wake = Some(self.started + at),
            Action::Prepare => {
                let (runner, id, spec, inputs) = (self.runner.clone(), self.id.clone(), self.spec.clone(), self.inputs.clone());
                tokio::spawn(async move {
                    let _ = inputs.send(Input::Event(Event::Prepared(runner.prepare(&id, &spec).await)));
                });
            }
            Action::Start => {
                let (runner, id, spec, inputs) = (self.runner.clone(), self.id.clone(), self.spec.clone(), self.inputs.clone());
                let hash = hash(&self.spec);
                tokio::spawn(async move {
                    let result = runner.start(&id, hash, &spec).await;
                    if let Ok(pid) = result {
                        let _ = inputs.send(Input::Pid(pid));
                    }
                    let _ = inputs.send(Input::Event(Event::Started(result.map(|_| ()))));
                });
            }
            Action::Terminate => self.end(false),
            Action::Kill => self.end(true),
        }
    }

    /// Ends the service; without an end to wait for (it was adopted half-way) the end is told at once.
    fn end(&mut self, force: bool) {
        if self.waiter.is_none() {
            self.watch();
        }
        let (runner, id, spec) = (self.runner.clone(), self.id.clone(), self.spec.clone());
        let (inputs, part) = (self.inputs.clone(), self.spec.runner == model::services::Runner::Part);
        tokio::spawn(async move {
            let result = if force { runner.kill(&id, &spec).await } else { runner.terminate(&id, &spec).await };
            if let Err(reason) = result {
                tracing::warn!(service = %id, %reason, "could not end it");
            }
            if part {
                let _ = inputs.send(Input::Event(Event::Exited(Ok(()))));
            }
        });
    }

    fn watch(&mut self) {
        if self.waiter.is_none() {
            let (runner, id, inputs) = (self.runner.clone(), self.id.clone(), self.inputs.clone());
            self.waiter = Some(tokio::spawn(async move {
                let result = runner.wait(&id).await;
                if let Err(reason) = runner.remove(&id).await {
                    tracing::warn!(service = %id, %reason, "could not clean up after it");
                }
                let _ = inputs.send(Input::Event(Event::Exited(result)));
            }));
        }
        self.stop_probing();
        if let Some(check) = self.spec.health.clone() {
            self.prober = Some(tokio::spawn(probe_forever(check, self.inputs.clone())));
        }
    }

    fn stop_probing(&mut self) {
        if let Some(task) = self.prober.take() {
            task.abort();
        }
        if !self.status.unknown {
            self.status.unknown = true;
            self.status.healthy = false;
        }
    }

    fn stop_watching(&mut self) {
        self.stop_probing();
        if let Some(task) = self.waiter.take() {
            task.abort();
        }
    }

    fn health(&mut self, result: Result<(), String>) {
        if self.prober.is_none() {
            return;
        }
        let healthy = result.is_ok();
        let changed = self.status.unknown || self.status.healthy != healthy;
        self.status.unknown = false;
        self.status.healthy = healthy;
        self.status.last_message = result.err().unwrap_or_default();
        if changed {
            self.status.last_change = Some(Timestamp::now());
            let text =
                if healthy { "Health check successful".to_owned() } else { format!("Health check failed: {}", self.status.last_message) };
            self.note(text);
            (self.report)(&self.id, self.snapshot());
        }
    }

    fn note(&mut self, message: String) {
        tracing::info!(service = %self.id, "{message}");
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        let state = name(self.machine.state()).to_owned();
        self.events.push_back(ServiceEvent { message, state, time: Some(Timestamp::now()) });
    }

    fn snapshot(&self) -> ServiceStatus {
        ServiceStatus { events: self.events.iter().cloned().collect(), ..self.status.clone() }
    }
}

async fn probe_forever(check: HealthCheck, inputs: mpsc::UnboundedSender<Input>) {
    let timing = Timing::of(&check);
    tokio::time::sleep(timing.initial_delay.min(Duration::from_millis(50))).await;
    let begin = Instant::now();
    let mut was_healthy = false;
    loop {
        let result = health::probe(&check).await;
        // Until it is healthy for the first time it is asked often: what depends on it waits. A failure counts from then on,
        // or when the initial delay is over.
        let early = !was_healthy && begin.elapsed() < timing.initial_delay + timing.period;
        was_healthy |= result.is_ok();
        if (result.is_ok() || !early) && inputs.send(Input::Health(result)).is_err() {
            return;
        }
        let pause = if was_healthy { timing.period } else { timing.period.min(Duration::from_millis(100)) };
        tokio::time::sleep(pause).await;
    }
}

/// Identifies how a service runs: equal hashes mean that a running service need not be restarted. What it waits for before it starts
/// is no part of that.
#[must_use]
pub fn hash(spec: &ServiceSpec) -> u64 {
    use resource::Spec as _;
    use sha2::{Digest as _, Sha256};
    let mut bytes = Vec::new();
    ServiceSpec { depends: Vec::new(), ..spec.clone() }.encode_proto(&mut bytes);
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// The state as clients know it.
fn name(state: &State) -> &'static str {
    match state {
        State::Initialized => "Initialized",
        State::Waiting { .. } => "Waiting",
        State::Preparing => "Preparing",
        State::Starting => "Starting",
        State::Running { .. } => "Running",
        State::Stopping { .. } => "Stopping",
        State::Backoff { .. } => "Waiting",
        State::Finished => "Finished",
        State::Failed => "Failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::service::runner::Running;

    /// A runner whose first starts fail.
    struct Flaky {
        failures: AtomicU32,
    }

    #[async_trait]
    impl Runner for Flaky {
        async fn find(&self, _: &str) -> Result<Option<Running>, String> {
            Ok(None)
        }
        async fn prepare(&self, _: &str, _: &ServiceSpec) -> Result<(), String> {
            Ok(())
        }
        async fn start(&self, _: &str, _: u64, _: &ServiceSpec) -> Result<u32, String> {
            let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if left.is_ok() { Err("not yet".into()) } else { Ok(7) }
        }
        async fn wait(&self, _: &str) -> Result<(), String> {
            std::future::pending().await
        }
        async fn terminate(&self, _: &str, _: &ServiceSpec) -> Result<(), String> {
            Ok(())
        }
        async fn kill(&self, _: &str, _: &ServiceSpec) -> Result<(), String> {
            Ok(())
        }
        async fn remove(&self, _: &str) -> Result<(), String> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_fails_is_tried_again_without_anybody_looking() {
        let last = Arc::new(Mutex::new(ServiceStatus::default()));
        let report: Report = {
            let last = last.clone();
            Arc::new(move |_, status| *last.lock().unwrap() = status)
        };
        let spec = Arc::new(ServiceSpec::default());
        let commands = spawn("x".into(), spec.clone(), Arc::new(Flaky { failures: AtomicU32::new(3) }), report);
        commands.send(Command::Run(spec.clone(), hash(&spec))).unwrap();
        commands.send(Command::Conditions(Vec::new())).unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let last = last.lock().unwrap();
        assert_eq!((last.state.as_str(), last.pid, last.starts), ("Running", 7, 1), "{:?}", last.events);
    }
}
