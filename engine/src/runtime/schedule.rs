//! When one controller runs next: a value with pure transitions, no clock, no lock, no IO.
//!
//! The runtime's tokio driver and the simulator both own one of these per controller and ask it the same questions, so what the simulator
//! proves about back-off, coalescing and throttling holds for the node.
//!
//! Three things make a controller run: something it reads changed (*woken*), it asked to be woken at a time (*timer*), or its last run
//! failed and its back-off is over (*retry*). It never runs twice at once; what comes while it runs leads to one more run after.

use std::time::Duration;

/// The numbers a [`Schedule`] works with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// The wait after the first failure; each further one doubles it. News during the wait shorten it to this.
    pub retry_first: Duration,
    /// The longest wait after a failure.
    pub retry_most: Duration,
    /// How many runs a controller may do at once before it is slowed down to [`Pace::runs_per_second`].
    pub burst: u32,
    /// How often a controller may run on and on. Only a controller whose own output wakes it comes near.
    pub runs_per_second: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { retry_first: Duration::from_millis(100), retry_most: Duration::from_secs(30), burst: 200, runs_per_second: 50 }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run.
    Run,
    /// Nothing before this time, unless something wakes the controller.
    At(Duration),
    /// Nothing until something wakes the controller.
    Idle,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It reconciled.
    Success,
    /// It returned an error, panicked, or its outputs could not be written.
    Failure,
}

/// One controller's schedule. Times are of the runtime's monotonic clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    pace: Pace,
    running: bool,
    /// Since when something is to be done, if so: the start of the lag.
    woken: Option<Duration>,
    timer: Option<Duration>,
    retry: Option<Retry>,
    failures: u32,
    /// Runs still allowed at once, in thousandths, as of `refilled`.
    allowance: u64,
    refilled: Duration,
    throttled: u64,
    random: u64,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    failed: Duration,
    at: Duration,
}

impl Schedule {
    /// A controller that has yet to run for the first time. `seed` decides the jitter.
    pub fn new(pace: Pace, seed: u64, now: Duration) -> Self {
        Self {
            pace,
            running: false,
            woken: Some(now),
            timer: None,
            retry: None,
            failures: 0,
            allowance: u64::from(pace.burst) * 1000,
            refilled: now,
            throttled: 0,
            random: seed | 1,
        }
    }

    /// Something the controller reads has changed.
    pub fn wake(&mut self, now: Duration) {
        self.woken.get_or_insert(now);
    }

    /// The run under way asks to be followed by another one at `at`. The earliest request of a run counts; the next run forgets it.
    pub fn wake_at(&mut self, at: Duration) {
        self.timer = Some(self.timer.map_or(at, |t| t.min(at)));
    }

    /// What to do at `now`.
    pub fn next(&self, now: Duration) -> Next {
        if self.running {
            return Next::Idle;
        }
        let mut due = match (self.woken, self.retry) {
            // News may be just what was missing, so they shorten the wait; but never below the first step, or a storm of news would
            // turn a failing controller into a busy loop.
            (Some(_), Some(retry)) => Some(retry.at.min(retry.failed + self.pace.retry_first)),
            (Some(at), None) => Some(at),
            (None, Some(retry)) => Some(retry.at),
            (None, None) => None,
        };
        if let Some(timer) = self.timer {
            due = Some(due.map_or(timer, |d| d.min(timer)));
        }
        match due {
            None => Next::Idle,
            Some(at) => match at.max(self.allowed_at(now)) {
                at if at <= now => Next::Run,
                at => Next::At(at),
            },
        }
    }

    /// The run begins. Returns the lag: how long ago the wish for it came up.
    pub fn begin(&mut self, now: Duration) -> Duration {
        let wished = [self.woken, self.timer.filter(|t| *t <= now)].into_iter().flatten().min();
        self.refill(now);
        self.allowance = self.allowance.saturating_sub(1000);
        self.running = true;
        self.woken = None;
        self.timer = None;
        self.retry = None;
        wished.map_or(Duration::ZERO, |w| now.saturating_sub(w))
    }

    /// The run ended.
    pub fn end(&mut self, outcome: Outcome, now: Duration) {
        self.running = false;
        match outcome {
            Outcome::Success => self.failures = 0,
            Outcome::Failure => {
                self.failures = self.failures.saturating_add(1);
                let wait = self.back_off();
                self.retry = Some(Retry { failed: now, at: now + wait });
            }
        }
    }

    /// How many runs in a row have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When a failed run is tried again.
    pub fn retry_at(&self) -> Option<Duration> {
        self.retry.map(|r| r.at)
    }

    /// When the controller asked to be woken.
    pub fn timer(&self) -> Option<Duration> {
        self.timer
    }

    /// Since when something is to be done.
    pub fn woken_since(&self) -> Option<Duration> {
        self.woken
    }

    /// Whether a run is under way.
    pub fn running(&self) -> bool {
        self.running
    }

    /// How many runs had to wait because the controller ran too often.
    pub fn throttled(&self) -> u64 {
        self.throttled
    }

    /// The step doubles from `retry_first` to `retry_most`; the wait is 75 % to 125 % of it, never above `retry_most`.
    fn back_off(&mut self) -> Duration {
        let doublings = (self.failures - 1).min(20);
        let step = self.pace.retry_first.saturating_mul(1 << doublings).min(self.pace.retry_most);
        // xorshift64*: enough to spread retries, and the same for the same seed.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let share = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 48;
        let jittered = step.mul_f64(0.75 + share as f64 / 65536.0 * 0.5);
        jittered.min(self.pace.retry_most)
    }

    fn refill(&mut self, now: Duration) {
        let (allowance, throttle) = (self.allowance_at(now), self.allowance_at(now) < 2000);
        self.allowance = allowance;
        self.refilled = now;
        self.throttled += u64::from(throttle);
    }

    fn allowance_at(&self, now: Duration) -> u64 {
        let millis = u64::try_from(now.saturating_sub(self.refilled).as_millis()).unwrap_or(u64::MAX);
        let gained = millis.saturating_mul(u64::from(self.pace.runs_per_second));
        self.allowance.saturating_add(gained).min(u64::from(self.pace.burst) * 1000)
    }

    fn allowed_at(&self, now: Duration) -> Duration {
        let missing = 1000_u64.saturating_sub(self.allowance_at(now));
        now + Duration::from_millis(missing.div_ceil(u64::from(self.pace.runs_per_second.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn schedule() -> Schedule {
        Schedule::new(Pace::default(), 42, ms(0))
    }

    fn run(s: &mut Schedule, outcome: Outcome, now: Duration) {
        assert_eq!(s.next(now), Next::Run);
        s.begin(now);
        s.end(outcome, now);
    }

    #[test]
    fn the_first_run_is_at_once_and_then_there_is_rest() {
        let mut s = schedule();
        run(&mut s, Outcome::Success, ms(0));
        assert_eq!(s.next(ms(1)), Next::Idle);
        assert_eq!(s.next(ms(1_000_000)), Next::Idle);
    }

    #[test]
    fn news_during_a_run_lead_to_one_more() {
        let mut s = schedule();
        s.begin(ms(0));
        for t in 1..50 {
            s.wake(ms(t));
        }
        assert_eq!(s.next(ms(50)), Next::Idle, "never two at once");
        s.end(Outcome::Success, ms(50));
        assert_eq!(s.next(ms(50)), Next::Run);
        assert_eq!(s.begin(ms(60)), ms(59), "the lag counts from the first wish");
        s.end(Outcome::Success, ms(60));
        assert_eq!(s.next(ms(60)), Next::Idle);
    }

    #[test]
    fn failures_back_off_within_bounds() {
        let mut s = schedule();
        let mut now = ms(0);
        let mut steps = Vec::new();
        for failure in 0..14_u32 {
            run(&mut s, Outcome::Failure, now);
            let Next::At(at) = s.next(now) else { panic!("a failed controller waits") };
            let step = ms(100 * 2_u64.pow(failure)).min(ms(30_000));
            let wait = at - now;
            assert!(wait >= step.mul_f64(0.75) && wait <= step.mul_f64(1.25).min(ms(30_000)), "failure {failure}: {wait:?}");
            steps.push(wait);
            now = at;
        }
        assert_ne!(steps[9].as_millis() % 100, 0, "there is jitter");
        run(&mut s, Outcome::Success, now);
        assert_eq!((s.next(now + ms(100_000)), s.failures()), (Next::Idle, 0));
    }

    #[test]
    fn news_shorten_a_long_wait_but_not_below_the_first_step() {
        let mut s = schedule();
        let mut now = ms(0);
        for _ in 0..8 {
            run(&mut s, Outcome::Failure, now);
            let Next::At(at) = s.next(now) else { panic!("a failed controller waits") };
            now = at;
        }
        run(&mut s, Outcome::Failure, now);
        s.wake(now + ms(1));
        assert_eq!(s.next(now + ms(1)), Next::At(now + ms(100)));
        assert_eq!(s.next(now + ms(100)), Next::Run);
    }

    #[test]
    fn a_timer_fires_once_and_a_run_forgets_it() {
        let mut s = schedule();
        s.begin(ms(0));
        s.wake_at(ms(500));
        s.wake_at(ms(300));
        s.wake_at(ms(400));
        s.end(Outcome::Success, ms(1));
        assert_eq!(s.next(ms(1)), Next::At(ms(300)));
        s.wake(ms(10));
        run(&mut s, Outcome::Success, ms(10));
        assert_eq!(s.next(ms(10)), Next::Idle, "the run that asked for nothing gets nothing");
    }

    #[test]
    fn a_controller_that_wakes_itself_is_slowed_down() {
        let mut s = schedule();
        let (mut now, mut runs) = (ms(0), 0_u32);
        while now < ms(10_000) {
            match s.next(now) {
                Next::Run => {
                    s.begin(now);
                    s.wake(now);
                    s.end(Outcome::Success, now);
                    runs += 1;
                }
                Next::At(at) => now = at,
                Next::Idle => break,
            }
        }
        assert!((690..=710).contains(&runs), "200 at once, then 50 a second for 10 s: {runs}");
        assert!(s.throttled() > 400);
    }
}
