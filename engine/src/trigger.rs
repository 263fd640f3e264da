//! What stands between a write to the store and the controller that should know: one word of flags per controller.
//!
//! Setting a flag that is already set does nothing, so a thousand changes cost a thousand loads and one wake-up, and nothing queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;

/// Why a controller is woken.
pub(crate) mod reason {
    /// Something it reads has changed.
    pub(crate) const INPUT: u32 = 1;
    /// Something it owns is being torn down and may be ready to be destroyed.
    pub(crate) const OUTPUT: u32 = 2;
    /// A waker outside the store was called.
    pub(crate) const OUTSIDE: u32 = 4;
    /// What it reads is now completely known.
    pub(crate) const SETTLED: u32 = 8;
}

/// The wake-up of one controller.
#[derive(Debug)]
pub(crate) struct Trigger {
    flags: AtomicU32,
    /// When the first flag was set, in nanoseconds of the clock.
    since: AtomicU64,
    clock: Arc<dyn Clock>,
    notify: Notify,
}

impl Trigger {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { flags: AtomicU32::new(0), since: AtomicU64::new(0), clock, notify: Notify::new() }
    }

    /// Sets a flag and, if none was set before, wakes the controller's driver.
    pub(crate) fn wake(&self, flag: u32) {
        if self.flags.load(SeqCst) & flag == flag {
            return;
        }
        if self.flags.fetch_or(flag, SeqCst) == 0 {
            let now = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.since.store(now, SeqCst);
            self.notify.notify_one();
        }
    }

    /// Takes all flags; with them the time of the first (zero when there is none).
    pub(crate) fn take(&self) -> (u32, Duration) {
        let flags = self.flags.swap(0, SeqCst);
        (flags, Duration::from_nanos(self.since.load(SeqCst)))
    }

    /// The flags that are set.
    pub(crate) fn flags(&self) -> u32 {
        self.flags.load(SeqCst)
    }

    /// Completes when a flag has been set since the last time. May complete once too often.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }
}
