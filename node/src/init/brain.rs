//! When to start `machined` again: at once after a single failure, later and later when failures pile up.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// This many failures within [`WINDOW`] wear the brain out.
const LIMIT: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// A start costs a tenth of a second of one processor; a node without its brain answers nobody.
const LONGEST: Duration = Duration::from_secs(2);

/// What to do after a failure.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Start it again after this long.
    pub wait: Duration,
    /// It has failed too often: say why, and on a machine give up this boot.
    pub worn_out: bool,
}

/// The failures so far.
#[derive(Debug, Default)]
pub struct Brain {
    failures: VecDeque<Instant>,
}

impl Brain {
    /// Counts a failure at `now`.
    pub fn failed(&mut self, now: Instant) -> Verdict {
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|first| now.duration_since(*first) > WINDOW) {
            self.failures.pop_front();
        }
        // Whoever fails much more often than the limit need not be remembered in full.
        while self.failures.len() > 4 * LIMIT {
            self.failures.pop_front();
        }
        let count = self.failures.len();
        let wait = match count {
            1 => Duration::ZERO,
            few if few < LIMIT => Duration::from_millis(50 << few),
            many => (Duration::from_secs(1) * 2u32.saturating_pow(u32::try_from(many - LIMIT).unwrap_or(u32::MAX))).min(LONGEST),
        };
        Verdict { wait, worn_out: count >= LIMIT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_minute_wear_it_out_and_the_pauses_are_bounded() {
        let begin = Instant::now();
        let mut brain = Brain::default();
        let verdicts: Vec<Verdict> = (0..12).map(|second| brain.failed(begin + Duration::from_secs(second))).collect();
        assert_eq!(verdicts[0], Verdict { wait: Duration::ZERO, worn_out: false });
        assert!(verdicts[..4].iter().all(|verdict| !verdict.worn_out && verdict.wait < Duration::from_secs(1)));
        assert!(verdicts[4..].iter().all(|verdict| verdict.worn_out && verdict.wait >= Duration::from_secs(1)));
        assert_eq!(verdicts[11].wait, Duration::from_secs(2));
    }

    #[test]
    fn old_failures_are_forgiven() {
        let begin = Instant::now();
        let mut brain = Brain::default();
        for minute in 0..20 {
            let verdict = brain.failed(begin + Duration::from_secs(61) * minute);
            assert_eq!(verdict, Verdict { wait: Duration::ZERO, worn_out: false });
        }
    }
}
