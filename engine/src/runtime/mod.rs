//! The runtime: runs controllers against a store, with tokio.
//!
//! Each controller is driven by a task of its own that sleeps until something it reads changes, a timer fires or a back-off is over; so
//! nothing is polled, and an idle runtime does not wake up at all.

mod core;
mod schedule;
mod settle;
mod slot;
mod status;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use resource::Key;
use tokio::task::JoinHandle;

pub(crate) use self::core::Core;
pub use self::schedule::{Next, Outcome, Pace, Schedule};
use self::slot::Call;
pub use self::status::{ControllerStatus, Explanation, Origin, Stored};
use crate::context::TokioSpawner;
use crate::controller::Controller;
use crate::graph::{Graph, GraphError};
use crate::store::Store;

/// How long [`Runtime::run`] lets controllers finish their last run, all together.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Controllers and the store they work on, before they run.
pub struct Runtime {
    store: Store,
    calls: Vec<Box<dyn Call>>,
    pace: Pace,
    seed: u64,
}

impl Runtime {
    /// A runtime without controllers.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, calls: Vec::new(), pace: Pace::default(), seed: std::process::id().into() }
    }

    /// Adds a controller.
    #[must_use]
    pub fn register<C: Controller>(mut self, controller: C) -> Self {
        self.calls.push(Box::new(controller));
        self
    }

    /// Sets back-off and throttling.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// The graph of the controllers registered so far, without running them.
    ///
    /// # Errors
    /// [`GraphError`], if they cannot run together.
    pub fn graph(&self) -> Result<Graph, GraphError> {
        Graph::build(self.calls.iter().map(|c| c.node()).collect())
    }

    /// The runtime for a driver other than tokio.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn into_core(self, seed: u64, spawner: impl Fn() -> Box<dyn crate::context::Spawner>) -> Result<Core, GraphError> {
        Core::new(self.store, self.calls, self.pace, seed, spawner)
    }

    /// Checks the graph and starts every controller. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`GraphError`], if the controllers cannot run together; none has run then.
    pub fn start(self) -> Result<Running, GraphError> {
        let core = Arc::new(Core::new(self.store, self.calls, self.pace, self.seed, || Box::new(TokioSpawner))?);
        let tasks = (0..core.len()).map(|c| Some(tokio::spawn(drive(Arc::clone(&core), c)))).collect();
        Ok(Running { handle: Handle { core }, tasks })
    }

    /// Starts every controller, waits for `shutdown`, and stops them in order.
    ///
    /// # Errors
    /// [`GraphError`], if the controllers cannot run together.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), GraphError> {
        let running = self.start()?;
        shutdown.await;
        running.stop(STOP_WITHIN).await;
        Ok(())
    }
}

/// A runtime whose controllers run. Dropping it aborts them.
pub struct Running {
    handle: Handle,
    tasks: Vec<Option<JoinHandle<()>>>,
}

impl Running {
    /// A handle for questions.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops every controller, those first that read what others write, each after the run it is in. Runs that have not ended `within`
    /// the time are dropped where they are. Outputs stay as they are.
    pub async fn stop(mut self, within: Duration) {
        let core = &self.handle.core;
        let deadline = tokio::time::Instant::now() + within;
        for c in core.graph.stop_order() {
            let Some(mut task) = self.tasks[c].take() else { continue };
            core.stop(c);
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                tracing::warn!(controller = core.graph.nodes()[c].name, "did not stop in time and was aborted");
                task.abort();
            }
            core.leave(c);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (c, task) in self.tasks.iter().enumerate() {
            if let Some(task) = task {
                task.abort();
                self.handle.core.leave(c);
            }
        }
    }
}

/// Answers questions about a running runtime. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
}

impl Handle {
    /// The status of every controller, in the order they were registered.
    #[must_use]
    pub fn status(&self) -> Vec<ControllerStatus> {
        (0..self.core.len()).map(|c| self.core.status(c)).collect()
    }

    /// The checked graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.core.graph
    }

    /// Why a resource is as it is, or is not there: who wrote it, from what, and what is being waited for; back over at most `depth` steps.
    #[must_use]
    pub fn explain(&self, key: &Key, depth: usize) -> Explanation {
        self.core.explain(key, depth)
    }

    /// Runs a controller again. False when there is none of that name.
    pub fn wake(&self, controller: &str) -> bool {
        let found = self.core.graph.nodes().iter().position(|n| n.name == controller);
        if let Some(c) = found {
            self.core.trigger(c).wake(crate::trigger::reason::OUTSIDE);
        }
        found.is_some()
    }
}

async fn drive(core: Arc<Core>, c: usize) {
    while !core.stopping(c) {
        match core.next(c) {
            Next::Run => core.run(c).await,
            Next::At(at) => {
                let (woken, timer) = (std::pin::pin!(core.trigger(c).notified()), core.clock.sleep_until(at));
                match select(woken, timer).await {
                    Either::Left(_) | Either::Right(_) => {}
                }
            }
            Next::Idle => core.trigger(c).notified().await,
        }
    }
}
