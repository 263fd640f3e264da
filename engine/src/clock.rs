//! Time as the engine sees it: a trait, so that tests and the simulator own it.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A source of time.
///
/// `elapsed` drives everything that waits and never goes back; `wall` only dates things and may jump.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall clock: what resources are dated with.
    fn wall(&self) -> SystemTime;

    /// Monotonic time since some fixed moment, such as the clock's creation.
    fn elapsed(&self) -> Duration;

    /// Completes once [`elapsed`](Clock::elapsed) has reached `until`.
    fn sleep_until(&self, until: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The machine's clock, with tokio's timers (and so, in a test with paused time, with that).
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep_until(&self, until: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let left = until.saturating_sub(self.elapsed());
        Box::pin(tokio::time::sleep(left))
    }
}
