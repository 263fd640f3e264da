//! The way down: a ladder with a deadline on every rung, as a state machine without IO.
//!
//! Asked from outside, `machined` gets time to stop everything in order. Then every process gets SIGTERM, then SIGKILL, then file systems
//! are let go, then the kernel is asked to end. No rung is waited for longer than its deadline.

use std::time::{Duration, Instant};

use super::protocol::End;

/// How long `machined` may take to stop everything in order.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// For killed processes to be gone.
const KILLED: Duration = Duration::from_secs(5);
/// For file systems to be let go.
const RELEASE: Duration = Duration::from_secs(15);

/// Where on the ladder the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Not ending.
    #[default]
    Up,
    /// `machined` was asked to stop everything.
    Asked(End, Instant),
    /// Every process was sent SIGTERM.
    Terminating(End, Instant),
    /// Every process was sent SIGKILL.
    Killing(End, Instant),
    /// File systems are being let go.
    Releasing(End, Instant),
    /// The kernel was asked.
    Over(End),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// Somebody outside asks for the end; is there a `machined` to tell?
    Asked(End, bool),
    /// `machined` says that all is stopped.
    Requested(End),
    /// Time passed; is any other process left?
    Tick {
        /// No other process is left.
        alone: bool,
        /// File systems are let go.
        released: bool,
    },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Do {
    /// Tell `machined` that the end is wanted.
    Tell(End),
    /// SIGTERM to all.
    Terminate,
    /// SIGKILL to all.
    Kill,
    /// Let go of file systems.
    Release,
    /// Ask the kernel.
    Finish(End),
}

impl Stage {
    /// True once nothing new may be started.
    pub fn ending(self) -> bool {
        !matches!(self, Stage::Up | Stage::Asked(..))
    }

    /// When to look again at the latest.
    pub fn wake(self, now: Instant) -> Option<Instant> {
        match self {
            Stage::Up | Stage::Over(_) => None,
            Stage::Asked(_, until) => Some(until),
            // Whether one is alone has no event of its own.
            _ => Some(now + Duration::from_millis(20)),
        }
    }

    /// One step down, or none.
    pub fn step(self, happened: Happened, now: Instant) -> (Stage, Option<Do>) {
        match (self, happened) {
            (Stage::Up, Happened::Asked(how, true)) => (Stage::Asked(how, now + PATIENCE), Some(Do::Tell(how))),
            // Asked twice, or nobody to tell: straight down.
            (Stage::Up | Stage::Asked(..), Happened::Asked(how, _) | Happened::Requested(how)) => {
                (Stage::Terminating(how, now + GRACE), Some(Do::Terminate))
            }
            (Stage::Asked(how, until), Happened::Tick { .. }) if now >= until => {
                (Stage::Terminating(how, now + GRACE), Some(Do::Terminate))
            }
            (Stage::Terminating(how, until), Happened::Tick { alone, .. }) if alone || now >= until => {
                (Stage::Killing(how, now + KILLED), Some(Do::Kill))
            }
            (Stage::Killing(how, until), Happened::Tick { alone, .. }) if alone || now >= until => {
                (Stage::Releasing(how, now + RELEASE), Some(Do::Release))
            }
            (Stage::Releasing(how, until), Happened::Tick { released, .. }) if released || now >= until => {
                (Stage::Over(how), Some(Do::Finish(how)))
            }
            (stage, _) => (stage, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(alone: bool, released: bool) -> Happened {
        Happened::Tick { alone, released }
    }

    #[test]
    fn the_orderly_way() {
        let now = Instant::now();
        let (stage, act) = Stage::Up.step(Happened::Asked(End::PowerOff, true), now);
        assert_eq!(act, Some(Do::Tell(End::PowerOff)));
        assert!(!stage.ending(), "machined may still start what it needs for stopping");
        assert_eq!(stage.step(tick(false, false), now), (stage, None));
        // What machined requests wins over what was asked.
        let (stage, act) = stage.step(Happened::Requested(End::Reboot), now);
        assert_eq!(act, Some(Do::Terminate));
        let (stage, act) = stage.step(tick(true, false), now);
        assert_eq!(act, Some(Do::Kill));
        let (stage, act) = stage.step(tick(true, false), now);
        assert_eq!(act, Some(Do::Release));
        let (stage, act) = stage.step(tick(true, true), now);
        assert_eq!((stage, act), (Stage::Over(End::Reboot), Some(Do::Finish(End::Reboot))));
    }

    #[test]
    fn with_everything_stuck_it_ends_all_the_same() {
        let begin = Instant::now();
        let (mut stage, _) = Stage::Up.step(Happened::Asked(End::Halt, true), begin);
        let mut now = begin;
        let mut acts = Vec::new();
        while !matches!(stage, Stage::Over(_)) {
            now += Duration::from_millis(500);
            assert!(now - begin < Duration::from_secs(150), "{stage:?}");
            let (next, act) = stage.step(tick(false, false), now);
            acts.extend(act);
            stage = next;
        }
        assert_eq!(acts, [Do::Terminate, Do::Kill, Do::Release, Do::Finish(End::Halt)]);
    }

    #[test]
    fn without_a_brain_or_asked_twice_it_does_not_wait() {
        let now = Instant::now();
        assert_eq!(Stage::Up.step(Happened::Asked(End::PowerOff, false), now).1, Some(Do::Terminate));
        let (stage, _) = Stage::Up.step(Happened::Asked(End::PowerOff, true), now);
        assert_eq!(stage.step(Happened::Asked(End::PowerOff, true), now).1, Some(Do::Terminate));
    }

    #[test]
    fn on_the_way_down_nothing_turns_it_around() {
        let now = Instant::now();
        let stage = Stage::Killing(End::Reboot, now + Duration::from_secs(1));
        assert_eq!(stage.step(Happened::Requested(End::PowerOff), now), (stage, None));
        assert!(stage.ending());
    }
}
