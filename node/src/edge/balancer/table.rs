//! Which control plane to dial next: the health of each target as a value with pure transitions. No IO, no clock.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// How often a healthy target is checked while nothing dials it.
pub(crate) const CHECK_UP: Duration = Duration::from_secs(20);
/// How often a failed target is checked, first and at most: it doubles in between, while another one is healthy.
const CHECK_DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Failed checks in a row after which connections to a target are cut, when another one is healthy.
const CUT_AFTER: u32 = 3;

/// One API server: a host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What is believed of a target. The order is the order of dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// The last dial or check worked.
    Up,
    /// Nothing is known yet.
    Unknown,
    /// It was up, and a dial to it did not answer at once; a check is due.
    Suspect,
    /// The last dial or check failed.
    Down,
}

#[derive(Clone, Debug)]
struct Entry {
    target: Target,
    health: Health,
    failures: u32,
    due: Duration,
}

/// All targets. Times are durations since any fixed moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    turn: usize,
}

impl Table {
    /// Takes over a new list; what is known of a target that stays is kept. An empty list is refused (`false`): the last one known
    /// serves better than none.
    pub(crate) fn replace(&mut self, targets: &[Target], now: Duration) -> bool {
        if targets.is_empty() {
            return false;
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(targets.len());
        for target in targets {
            if entries.iter().any(|entry| entry.target == *target) {
                continue;
            }
            let known = self.entries.iter().find(|entry| entry.target == *target).cloned();
            entries.push(known.unwrap_or(Entry { target: target.clone(), health: Health::Unknown, failures: 0, due: now }));
        }
        self.entries = entries;
        true
    }

    /// The order in which to dial for a new connection: healthy ones first, in turn, so that load spreads; failed ones last, since a
    /// dial that might work beats an answer that nothing works.
    pub(crate) fn order(&mut self) -> Vec<Target> {
        let count = self.entries.len();
        if count == 0 {
            return Vec::new();
        }
        self.turn = (self.turn + 1) % count;
        let mut rotated: Vec<&Entry> = (0..count).map(|i| &self.entries[(self.turn + i) % count]).collect();
        rotated.sort_by_key(|entry| entry.health);
        rotated.into_iter().map(|entry| entry.target.clone()).collect()
    }

    /// A dial or check ended. Returns whether connections to this target should be cut: it failed repeatedly and another one is up.
    pub(crate) fn report(&mut self, target: &Target, worked: bool, now: Duration) -> bool {
        let another = self.entries.iter().any(|entry| entry.target != *target && entry.health == Health::Up);
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.target == *target) else { return false };
        if worked {
            entry.health = Health::Up;
            entry.failures = 0;
            entry.due = now + CHECK_UP;
            return false;
        }
        entry.health = Health::Down;
        entry.failures = entry.failures.saturating_add(1);
        let doubled = CHECK_DOWN.0.saturating_mul(1 << entry.failures.saturating_sub(1).min(6));
        // With nobody up somebody waits for the first one.
        entry.due = now + if another { doubled.min(CHECK_DOWN.1) } else { CHECK_DOWN.0 };
        entry.failures >= CUT_AFTER && another
    }

    /// A dial did not answer quickly, or others no longer hear this host: check it now, and dial others first.
    pub(crate) fn suspect(&mut self, target: &Target, now: Duration) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.target == *target) {
            if entry.health < Health::Suspect {
                entry.health = Health::Suspect;
            }
            entry.due = entry.due.min(now);
        }
    }

    /// The targets at this host.
    pub(crate) fn at_host(&self, host: &str) -> Vec<Target> {
        self.entries.iter().filter(|entry| entry.target.host == host).map(|entry| entry.target.clone()).collect()
    }

    /// The targets whose check is due; each is handed out once and again only when its check should long have ended.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<Target> {
        let mut due = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.due <= now) {
            entry.due = now + CHECK_UP;
            due.push(entry.target.clone());
        }
        due
    }

    /// When the next check is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.entries.iter().map(|entry| entry.due).min()
    }

    /// Whether any target is up.
    pub(crate) fn healthy(&self) -> bool {
        self.entries.iter().any(|entry| entry.health == Health::Up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(names: &str) -> Vec<Target> {
        names.chars().map(|c| Target { host: c.to_string(), port: 6443 }).collect()
    }

    fn names(order: &[Target]) -> String {
        order.iter().map(|target| target.host.as_str()).collect()
    }

    const T0: Duration = Duration::ZERO;

    #[test]
    fn load_spreads_over_the_healthy_and_failed_ones_come_last() {
        let mut table = Table::default();
        assert!(table.replace(&targets("abc"), T0));
        for target in targets("abc") {
            table.report(&target, true, T0);
        }
        let firsts: String = (0..6).map(|_| table.order()[0].host.clone()).collect();
        for name in ["a", "b", "c"] {
            assert_eq!(firsts.matches(name).count(), 2, "{firsts}");
        }
        table.report(&targets("b")[0], false, T0);
        for _ in 0..6 {
            assert_eq!(table.order()[2].host, "b");
        }
        table.report(&targets("b")[0], true, T0);
        assert!((0..3).any(|_| table.order()[0].host == "b"));
    }

    #[test]
    fn a_change_of_the_list_keeps_what_is_known_and_an_empty_list_changes_nothing() {
        let mut table = Table::default();
        table.replace(&targets("ab"), T0);
        table.report(&targets("a")[0], false, T0);
        table.replace(&targets("cab"), T0);
        assert_eq!(table.order()[2].host, "a");
        assert!(!table.replace(&[], T0));
        assert_eq!(table.order().len(), 3);
        table.replace(&targets("aa"), T0);
        assert_eq!(names(&table.order()), "a", "a repeated target counts once");
    }

    #[test]
    fn connections_are_cut_only_when_another_target_can_take_them() {
        let mut table = Table::default();
        table.replace(&targets("ab"), T0);
        let (a, b) = (&targets("a")[0], &targets("b")[0]);
        table.report(b, true, T0);
        assert!(!table.report(a, false, T0) && !table.report(a, false, T0), "twice is not enough");
        table.report(b, false, T0);
        assert!(!table.report(a, false, T0), "nobody else is up");
        table.report(b, true, T0);
        assert!(table.report(a, false, T0));
        assert!(!table.report(b, false, T0));
    }

    #[test]
    fn failed_targets_are_checked_sooner_and_backed_off() {
        let mut table = Table::default();
        table.replace(&targets("ab"), T0);
        let (a, b) = (&targets("ab")[0], &targets("ab")[1]);
        assert_eq!(table.take_due(T0).len(), 2, "an unknown target is checked at once");
        assert!(table.take_due(T0).is_empty(), "and not twice");
        let waits = |table: &mut Table| -> Vec<u64> {
            let fail = |_| {
                table.report(a, false, T0);
                table.next_due().unwrap().as_secs()
            };
            (0..6).map(fail).collect()
        };
        assert_eq!(waits(&mut table), [1, 1, 1, 1, 1, 1], "with none up somebody waits for the first one");
        table.report(a, true, T0);
        table.report(b, true, T0);
        assert_eq!(waits(&mut table), [1, 2, 4, 8, 8, 8]);
        table.report(a, true, T0);
        assert_eq!(table.next_due(), Some(CHECK_UP));
        table.suspect(a, Duration::from_secs(3));
        assert_eq!(table.next_due(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_suspect_is_dialled_after_the_healthy_and_before_the_failed() {
        let mut table = Table::default();
        table.replace(&targets("abc"), T0);
        for target in targets("abc") {
            table.report(&target, true, T0);
        }
        table.suspect(&targets("a")[0], T0);
        table.report(&targets("b")[0], false, T0);
        table.suspect(&targets("b")[0], T0);
        assert_eq!(names(&table.order()), "cab");
    }
}
