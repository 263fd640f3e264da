//! A runtime on a simulated clock and a scheduler that a seed decides: the same seed gives the same run.
//!
//! The controllers, the store, its log, back-off and settling are the real ones; only tokio's scheduler and timers are replaced. At each step
//! one thing happens: a controller starts, one future goes on to its next await (the engine has one between any two of its writes), the
//! outside world acts, a wake-up comes for nothing, the wall clock jumps, or the whole process dies and starts again from its log, or from
//! nothing. After every step the scenario's invariants are checked. When the chaos is over, everything must come to rest, and converge.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poller, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use crate::clock::Clock;
use crate::context::{Context, Spawner};
use crate::durable::{Disk, Journal, replay};
use crate::error::Error;
use crate::runtime::{Core, Next, Runtime};
use crate::store::Store;
use crate::trigger::reason;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream of random numbers that a seed decides. Clones go on with the same stream.
#[derive(Debug, Clone)]
pub struct Random(Arc<Mutex<u64>>);

impl Random {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// The next number (SplitMix64).
    #[must_use]
    pub fn number(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which must not be 0.
    #[must_use]
    pub fn below(&self, limit: usize) -> usize {
        usize::try_from(self.number() % limit as u64).unwrap_or(0)
    }

    /// True `times` out of a hundred.
    #[must_use]
    pub fn percent(&self, times: usize) -> bool {
        self.below(100) < times
    }
}

/// The simulated clock. It stands still until the scheduler moves it.
#[derive(Debug)]
struct SimClock(Mutex<Times>);

#[derive(Debug)]
struct Times {
    elapsed: Duration,
    wall: SystemTime,
    /// Who sleeps until when.
    timers: BTreeMap<(Duration, u64), Waker>,
    count: u64,
}

impl SimClock {
    fn new() -> Self {
        // Some moment of 2023; the wall clock may jump to before it.
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Self(Mutex::new(Times { elapsed: Duration::from_secs(1), wall, timers: BTreeMap::new(), count: 0 }))
    }

    fn with<R>(&self, f: impl FnOnce(&mut Times) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn next_timer(&self) -> Option<Duration> {
        self.with(|t| t.timers.keys().next().map(|(at, _)| *at))
    }

    fn advance(&self, to: Duration) {
        let due = self.with(|t| {
            let step = to.saturating_sub(t.elapsed);
            t.elapsed += step;
            t.wall += step;
            let later = t.timers.split_off(&(t.elapsed, u64::MAX));
            std::mem::replace(&mut t.timers, later)
        });
        due.into_values().for_each(Waker::wake);
    }
}

/// The clock as the engine gets it.
#[derive(Debug, Clone)]
struct SharedClock(Arc<SimClock>);

impl Clock for SharedClock {
    fn wall(&self) -> SystemTime {
        self.0.with(|t| t.wall)
    }

    fn elapsed(&self) -> Duration {
        self.0.with(|t| t.elapsed)
    }

    fn sleep_until(&self, until: Duration) -> Work {
        Box::pin(Sleep { clock: Arc::clone(&self.0), until, place: None })
    }
}

struct Sleep {
    clock: Arc<SimClock>,
    until: Duration,
    place: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<()> {
        let (until, place) = (self.until, self.place);
        let next = self.clock.with(|t| {
            if t.elapsed >= until {
                return None;
            }
            let place = place.unwrap_or_else(|| {
                t.count += 1;
                (until, t.count)
            });
            t.timers.insert(place, cx.waker().clone());
            Some(place)
        });
        self.place = next.or(place);
        if next.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            drop(self.clock.with(|t| t.timers.remove(&place)));
        }
    }
}

/// Collects background work for the scheduler.
#[derive(Clone, Default)]
struct SimSpawner(Arc<Mutex<Vec<Work>>>);

impl fmt::Debug for SimSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimSpawner")
    }
}

impl Spawner for SimSpawner {
    fn spawn(&self, future: Work) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(future);
    }

    fn small_steps(&self) -> bool {
        true
    }
}

/// A log in memory, which outlives the process.
#[derive(Debug, Clone, Default)]
struct MemoryDisk(Arc<Mutex<Vec<u8>>>);

impl MemoryDisk {
    fn with<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Disk for MemoryDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|log| log.extend_from_slice(bytes));
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.with(|log| log.truncate(usize::try_from(length).unwrap_or(usize::MAX)));
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|log| *log = bytes.to_vec());
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("simulated")
    }
}

/// Calls to a host that may be slow or fail. Hand clones to controllers; calls go through [`SimHost::call`].
#[derive(Debug, Clone)]
pub struct SimHost {
    random: Random,
    faults: Arc<AtomicBool>,
}

impl SimHost {
    /// Does `effect` as the host would: at once or late; and, while there are faults, perhaps not at all, or with a failure though it was done.
    ///
    /// # Errors
    /// While there are faults, at random.
    pub async fn call<R>(&self, ctx: &Context, effect: impl FnOnce() -> R) -> Result<R, Error> {
        if self.random.percent(30) {
            ctx.sleep(Duration::from_millis(self.random.number() % 5000)).await;
        }
        let faults = self.faults.load(SeqCst);
        if faults && self.random.percent(10) {
            return Err(Error::msg("the host failed before"));
        }
        let done = effect();
        if faults && self.random.percent(5) {
            return Err(Error::msg("the host failed after"));
        }
        Ok(done)
    }
}

/// What is simulated.
pub trait Scenario {
    /// Registers the controllers: at the start, and again after each crash. Nothing may be kept from before a crash but what stands for the
    /// outside world.
    fn register(&mut self, store: &Store, runtime: Runtime, host: &SimHost) -> Runtime;

    /// The outside world does something.
    fn act(&mut self, store: &Store, random: &Random);

    /// The chaos is over: the outside world lets go of whatever it would hold for ever.
    fn calm(&mut self, _store: &Store) {}

    /// Everything has come to rest, for now: nothing runs, and nothing is due.
    fn rested(&mut self, _store: &Store) {}

    /// What must hold at every moment.
    ///
    /// # Errors
    /// What does not.
    fn check(&mut self, store: &Store) -> Result<(), String>;

    /// What must hold when everything has come to rest.
    ///
    /// # Errors
    /// What does not.
    fn converged(&mut self, store: &Store) -> Result<(), String>;
}

/// What a crash leaves of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Everything.
    Durable,
    /// Nothing.
    Volatile,
}

/// How to simulate.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Decides everything that is random.
    pub seed: u64,
    /// How many steps of chaos.
    pub steps: usize,
    /// What a crash leaves.
    pub persistence: Persistence,
    /// How often in ten thousand steps the process dies.
    pub crashes: usize,
}

/// What a simulation found wrong.
#[derive(Debug)]
pub struct Finding {
    /// Which simulation.
    pub simulation: Simulation,
    /// After how many steps.
    pub step: usize,
    /// What is wrong.
    pub what: String,
    /// The last steps before it.
    pub trace: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { simulation, step, what, trace } = self;
        writeln!(f, "seed {} ({:?}), step {step}: {what}", simulation.seed, simulation.persistence)?;
        trace.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// How much simulated time and how many steps everything has for coming to rest.
const REST_WITHIN: Duration = Duration::from_secs(4 * 3600);
const REST_STEPS: usize = 100_000;
/// The outside world acts for an eighth of so many steps, and watches for the rest.
const PERIOD: usize = 800;
/// How many steps a finding tells.
const TRACE: usize = 40;

impl Simulation {
    /// Some thousand steps with a crash now and then.
    #[must_use]
    pub fn new(seed: u64, persistence: Persistence) -> Self {
        Self { seed, steps: 3000, persistence, crashes: 60 }
    }

    /// Runs `scenario`.
    ///
    /// # Errors
    /// The first [`Finding`].
    pub fn run(&self, scenario: &mut dyn Scenario) -> Result<(), Box<Finding>> {
        let mut machine = Machine::boot(self.clone(), scenario);
        for step in 0..self.steps {
            machine.step(scenario, step % PERIOD < PERIOD / 8);
            scenario.check(&machine.store).map_err(|what| machine.finding(step, what))?;
        }
        machine.host.faults.store(false, SeqCst);
        scenario.calm(&machine.store);
        let deadline = machine.clock.elapsed() + REST_WITHIN;
        for step in self.steps..self.steps + REST_STEPS {
            if machine.clock.elapsed() > deadline {
                return Err(machine.finding(step, "it does not come to rest: something goes on and on".to_owned()));
            }
            let rested = !machine.proceed();
            scenario.check(&machine.store).map_err(|what| machine.finding(step, what))?;
            if rested {
                let failing = machine.failing();
                return match (scenario.converged(&machine.store), failing) {
                    (Err(what), _) => Err(machine.finding(step, format!("at rest: {what}"))),
                    (Ok(()), Some(what)) => Err(machine.finding(step, what)),
                    (Ok(()), None) => Ok(()),
                };
            }
        }
        Err(machine.finding(self.steps + REST_STEPS, "it does not come to rest within the steps it has".to_owned()))
    }
}

/// A future under way.
struct Task {
    name: String,
    /// The controller whose run this is.
    controller: Option<usize>,
    work: Work,
    woken: Arc<Flag>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

struct Machine {
    simulation: Simulation,
    random: Random,
    clock: SharedClock,
    host: SimHost,
    spawner: SimSpawner,
    disk: MemoryDisk,
    store: Store,
    core: Arc<Core>,
    tasks: Vec<Task>,
    trace: VecDeque<String>,
}

/// One thing that could happen next.
enum Choice {
    Start(usize),
    Poll(usize),
}

impl Machine {
    fn boot(simulation: Simulation, scenario: &mut dyn Scenario) -> Self {
        let random = Random::new(simulation.seed);
        let clock = SharedClock(Arc::new(SimClock::new()));
        let host = SimHost { random: random.clone(), faults: Arc::new(AtomicBool::new(true)) };
        let (spawner, disk) = (SimSpawner::default(), MemoryDisk::default());
        let (store, core) = start(&simulation, &random, &clock, &disk, &spawner, &host, scenario);
        Self { simulation, random, clock, host, spawner, disk, store, core, tasks: Vec::new(), trace: VecDeque::new() }
    }

    fn finding(&self, step: usize, what: String) -> Box<Finding> {
        Box::new(Finding { simulation: self.simulation.clone(), step, what, trace: self.trace.iter().cloned().collect() })
    }

    fn note(&mut self, line: String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:.3?} {line}", self.clock.elapsed()));
    }

    fn choices(&self) -> Vec<Choice> {
        let idle = (0..self.core.len()).filter(|c| !self.tasks.iter().any(|t| t.controller == Some(*c)));
        let starts = idle.filter(|c| self.core.next(*c) == Next::Run).map(Choice::Start);
        let polls = (0..self.tasks.len()).filter(|t| self.tasks[*t].woken.0.load(SeqCst)).map(Choice::Poll);
        starts.chain(polls).collect()
    }

    fn step(&mut self, scenario: &mut dyn Scenario, acts: bool) {
        if self.random.below(10_000) < self.simulation.crashes {
            return self.crash(scenario);
        }
        match self.random.below(100) {
            0..12 if acts => {
                self.note("the outside acts".to_owned());
                scenario.act(&self.store, &self.random);
            }
            12..15 => {
                let c = self.random.below(self.core.len());
                self.note(format!("a wake-up for nothing: {}", self.core.graph.nodes()[c].name));
                self.core.trigger(c).wake(reason::OUTSIDE);
            }
            15 => {
                let jump = Duration::from_secs(self.random.number() % 100_000_000);
                let back = self.random.percent(50);
                self.note(format!("the wall clock jumps by {jump:?}{}", if back { " back" } else { "" }));
                self.clock.0.with(|t| if back { t.wall -= jump } else { t.wall += jump });
            }
            // Time passes though there is something to do: that is how a wake-up comes late.
            16..20 => self.pass(Duration::from_millis(self.random.number() % 2000)),
            _ => {
                if !self.proceed() {
                    scenario.rested(&self.store);
                }
            }
        }
    }

    /// Does one of the things that can be done, or lets time pass until there is one. False when there never will be.
    fn proceed(&mut self) -> bool {
        let mut choices = self.choices();
        if choices.is_empty() {
            return self.wait();
        }
        match choices.swap_remove(self.random.below(choices.len())) {
            Choice::Start(c) => {
                let core = Arc::clone(&self.core);
                let name = self.core.graph.nodes()[c].name.to_owned();
                self.note(format!("{name} runs"));
                self.add(name, Some(c), Box::pin(async move { core.run(c).await }));
            }
            Choice::Poll(t) => self.poll(t),
        }
        true
    }

    fn add(&mut self, name: String, controller: Option<usize>, work: Work) {
        self.tasks.push(Task { name, controller, work, woken: Arc::new(Flag(AtomicBool::new(true))) });
    }

    fn poll(&mut self, t: usize) {
        let task = &mut self.tasks[t];
        task.woken.0.store(false, SeqCst);
        let waker = Waker::from(Arc::clone(&task.woken));
        let name = task.name.clone();
        if task.work.as_mut().poll(&mut Poller::from_waker(&waker)).is_ready() {
            drop(self.tasks.swap_remove(t));
            self.note(format!("{name} ends"));
        } else {
            self.note(format!("{name} goes on"));
        }
        let spawned = std::mem::take(&mut *self.spawner.0.lock().unwrap_or_else(PoisonError::into_inner));
        for work in spawned {
            self.add(format!("work of {name}"), None, work);
        }
    }

    /// Moves the clock to the next moment at which something is due. False when there is none.
    fn wait(&mut self) -> bool {
        let due = (0..self.core.len()).filter_map(|c| match self.core.next(c) {
            Next::At(at) => Some(at),
            Next::Run | Next::Idle => None,
        });
        let Some(at) = due.chain(self.clock.0.next_timer()).min() else { return false };
        self.clock.0.advance(at);
        true
    }

    fn pass(&mut self, time: Duration) {
        self.note(format!("{time:?} pass"));
        self.clock.0.advance(self.clock.elapsed() + time);
    }

    fn crash(&mut self, scenario: &mut dyn Scenario) {
        self.note("the process dies and starts again".to_owned());
        self.tasks.clear();
        self.spawner.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (store, core) = start(&self.simulation, &self.random, &self.clock, &self.disk, &self.spawner, &self.host, scenario);
        self.store = store;
        self.core = core;
    }

    fn failing(&self) -> Option<String> {
        let status = (0..self.core.len()).map(|c| self.core.status(c)).find(|s| s.failing > 0 || !s.settled || !s.held.is_empty())?;
        Some(format!("at rest, {} waits: {}", status.name, status.waits().join("; ")))
    }
}

fn start(
    simulation: &Simulation,
    random: &Random,
    clock: &SharedClock,
    disk: &MemoryDisk,
    spawner: &SimSpawner,
    host: &SimHost,
    scenario: &mut dyn Scenario,
) -> (Store, Arc<Core>) {
    let builder = Store::builder().clock(Arc::new(clock.clone())).history(8 + random.below(40));
    let store = match simulation.persistence {
        Persistence::Volatile => builder.in_memory(),
        Persistence::Durable => {
            let log = disk.with(|log| log.clone());
            let replayed = replay(&log, 8).expect("the log is what was written");
            let (epoch, length, numbers, tables) = match replayed {
                Some(r) => (r.epoch, r.length as u64, r.numbers, r.tables.into_iter().collect()),
                None => (1, 0, Default::default(), BTreeMap::new()),
            };
            let journal = Journal::new(Box::new(disk.clone()), epoch, length, numbers).expect("a log in memory");
            builder.resume(epoch, journal, tables)
        }
    };
    let runtime = scenario.register(&store, Runtime::new(store.clone()), host);
    let core = runtime.into_core(random.number(), || Box::new(spawner.clone())).expect("the scenario's graph is valid");
    (store, Arc::new(core))
}
