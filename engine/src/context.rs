//! What a reconcile may do besides reading and returning: ask for the time, for another run, for work in the background.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{AbortHandle, abortable};
use resource::{Name, Timestamp};

use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::trigger::{Trigger, reason};

/// Where background work runs.
pub(crate) trait Spawner: fmt::Debug + Send + Sync {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Whether a run should let others go on between any two of its writes: where the simulator may cut it off.
    fn small_steps(&self) -> bool {
        false
    }
}

/// Background work as tokio tasks.
#[derive(Debug)]
pub(crate) struct TokioSpawner;

impl Spawner for TokioSpawner {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(tokio::spawn(future));
    }
}

/// What one controller keeps from run to run.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) name: Name,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) trigger: Arc<Trigger>,
    pub(crate) spawner: Box<dyn Spawner>,
    tasks: Mutex<HashMap<Name, Task>>,
    /// Why background work failed, until the driver has seen it.
    failed: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Task {
    abort: AbortHandle,
    done: Arc<AtomicBool>,
}

impl Kept {
    pub(crate) fn new(name: Name, clock: Arc<dyn Clock>, trigger: Arc<Trigger>, spawner: Box<dyn Spawner>) -> Self {
        Self { name, clock, trigger, spawner, tasks: Mutex::default(), failed: Mutex::default() }
    }

    pub(crate) fn take_failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn abort_all(&self) {
        for (_, task) in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            task.abort.abort();
        }
    }
}

/// A reconcile's link to the engine.
#[derive(Debug)]
pub struct Context {
    pub(crate) kept: Arc<Kept>,
    settled: bool,
    wake_at: Mutex<Option<Duration>>,
}

impl Context {
    pub(crate) fn new(kept: Arc<Kept>, settled: bool) -> Self {
        Self { kept, settled, wake_at: Mutex::default() }
    }

    /// A context outside any runtime, settled, with the machine's clock: for calling a reconcile in a test. Background work needs tokio.
    #[must_use]
    pub fn detached() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let trigger = Arc::new(Trigger::new(Arc::clone(&clock)));
        Self::new(Arc::new(Kept::new(Name::literal("detached"), clock, trigger, Box::new(TokioSpawner))), true)
    }

    /// The same, for a test of what a controller does before its inputs have settled.
    #[must_use]
    pub fn detached_unsettled() -> Self {
        Self { settled: false, ..Self::detached() }
    }

    /// Whether everything this controller reads is known: each controller upstream of it has reconciled since the start.
    ///
    /// Until then an absent input may only be one that nobody has written *yet*. The engine removes none of the controller's outputs
    /// before; a controller that acts on the machine must in its turn only add or adopt. When the inputs have settled, the controller
    /// is run again.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from(self.kept.clock.wall())
    }

    /// Monotonic time since some fixed moment.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.kept.clock.elapsed()
    }

    /// Waits. Use this rather than a runtime's own timer, so that simulated time works.
    pub async fn sleep(&self, time: Duration) {
        self.kept.clock.sleep_until(self.kept.clock.elapsed() + time).await;
    }

    /// Asks for another run in at most `time`, whatever happens. The request holds until the next run begins; of several the earliest counts.
    pub fn wake_after(&self, time: Duration) {
        let at = self.kept.clock.elapsed() + time;
        let mut wake_at = self.wake_at.lock().unwrap_or_else(PoisonError::into_inner);
        *wake_at = Some(wake_at.map_or(at, |w| w.min(at)));
    }

    pub(crate) fn wake_at(&self) -> Option<Duration> {
        *self.wake_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle that runs the controller again when called: for a netlink socket, a child's exit, anything outside the store.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker { trigger: Arc::clone(&self.kept.trigger) }
    }

    /// Keeps `work` running in the background under `key`. If work of that key still runs, it goes on and `work` is dropped.
    ///
    /// When it ends, the controller is run again; when it fails or panics, that counts as a failure of the controller, and the next run
    /// comes after the back-off. It is dropped when the runtime stops.
    pub fn spawn(&self, key: impl Into<Name>, work: impl Future<Output = Result<(), Error>> + Send + 'static) {
        let key = key.into();
        let mut tasks = self.kept.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|_, task| !task.done.load(SeqCst));
        if tasks.contains_key(&key) {
            return;
        }
        let done = Arc::new(AtomicBool::new(false));
        let (work, abort) = abortable(AssertUnwindSafe(work).catch_unwind());
        let (kept, finished, name) = (Arc::clone(&self.kept), Arc::clone(&done), key.clone());
        self.kept.spawner.spawn(Box::pin(async move {
            let failure = match work.await {
                Ok(Ok(Ok(()))) => None,
                Ok(Ok(Err(error))) => Some(error.to_string()),
                Ok(Err(panic)) => Some(format!("panicked: {}", panic_text(&*panic))),
                Err(_aborted) => return,
            };
            if let Some(failure) = failure {
                *kept.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("background work {name:?}: {failure}"));
            }
            finished.store(true, SeqCst);
            kept.trigger.wake(reason::OUTSIDE);
        }));
        tasks.insert(key, Task { abort, done });
    }

    /// Drops the background work of `key`, if there is any.
    pub fn cancel(&self, key: &str) {
        if let Some(task) = self.kept.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(key) {
            task.abort.abort();
        }
    }

    /// Drops all background work whose key `keep` does not accept.
    pub fn cancel_unless(&self, mut keep: impl FnMut(&str) -> bool) {
        self.kept.tasks.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, task| {
            let stays = keep(key);
            if !stays {
                task.abort.abort();
            }
            stays
        });
    }

    /// Whether background work of `key` is running.
    #[must_use]
    pub fn is_running(&self, key: &str) -> bool {
        let tasks = self.kept.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.get(key).is_some_and(|t| !t.done.load(SeqCst))
    }
}

/// Runs a controller again. Cheap to clone and to call; calls while a run is due count once.
#[derive(Debug, Clone)]
pub struct Waker {
    trigger: Arc<Trigger>,
}

impl Waker {
    /// Runs the controller again.
    pub fn wake(&self) {
        self.trigger.wake(reason::OUTSIDE);
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(without a message)")
}
