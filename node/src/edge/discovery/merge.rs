//! One view of a cluster from several discovery servers that do not talk to each other. No IO, no clock.
//!
//! Members register with every control plane, so the servers normally agree. Where they do not: an explicit deletion counts at once,
//! unless another connected server still lists the affiliate; absence from a snapshot counts only after a grace period, because a
//! server that just started knows nobody yet; of different data the one that arrived last wins. With no server connected the last
//! view stands.

use std::collections::BTreeMap;
use std::time::Duration;

use super::table::{Affiliate, Change};

/// How long a member may be absent from the servers' lists before it is taken for gone.
pub(crate) const GRACE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
struct Seen {
    affiliate: Affiliate,
    order: u64,
}

#[derive(Debug, Default)]
struct Server {
    connected: bool,
    affiliates: BTreeMap<String, Seen>,
}

#[derive(Debug)]
struct Known {
    affiliate: Affiliate,
    missing_since: Option<Duration>,
}

/// The merged view. Times are durations since any fixed moment.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    servers: BTreeMap<String, Server>,
    known: BTreeMap<String, Known>,
    order: u64,
    settled: bool,
}

impl Merged {
    /// A server told everything it knows; it is connected from now on.
    pub(crate) fn snapshot(&mut self, server: &str, affiliates: Vec<Affiliate>, now: Duration) {
        let mut fresh = BTreeMap::new();
        for affiliate in affiliates {
            let order = self.order_of(server, &affiliate);
            fresh.insert(affiliate.id.clone(), Seen { affiliate, order });
        }
        self.servers.insert(server.to_owned(), Server { connected: true, affiliates: fresh });
        self.settled = true;
        self.refresh(now);
    }

    /// Content seen before keeps its age, so that a server with old data does not outrank the others by reconnecting.
    fn order_of(&mut self, server: &str, affiliate: &Affiliate) -> u64 {
        let before =
            self.servers.get(server).and_then(|known| known.affiliates.get(&affiliate.id)).filter(|seen| seen.affiliate == *affiliate);
        let elsewhere =
            || self.servers.values().filter_map(|known| known.affiliates.get(&affiliate.id)).find(|seen| seen.affiliate == *affiliate);
        if let Some(seen) = before.or_else(elsewhere) {
            return seen.order;
        }
        self.order += 1;
        self.order
    }

    /// A server told a change.
    pub(crate) fn change(&mut self, server: &str, change: Change, now: Duration) {
        match change {
            Change::Set(affiliate) => {
                let order = self.order_of(server, &affiliate);
                let entry = self.servers.entry(server.to_owned()).or_default();
                entry.affiliates.insert(affiliate.id.clone(), Seen { affiliate, order });
            }
            Change::Gone(id) => {
                if let Some(known) = self.servers.get_mut(server) {
                    known.affiliates.remove(&id);
                }
                if !self.connected().any(|known| known.affiliates.contains_key(&id)) {
                    self.forget(&id);
                }
            }
        }
        self.refresh(now);
    }

    /// A member said goodbye, or is to be forgotten: it is gone whatever servers still list.
    pub(crate) fn forget(&mut self, id: &str) {
        for server in self.servers.values_mut() {
            server.affiliates.remove(id);
        }
        self.known.remove(id);
    }

    /// The connection to a server ended.
    pub(crate) fn disconnected(&mut self, server: &str) {
        if let Some(known) = self.servers.get_mut(server) {
            known.connected = false;
        }
    }

    /// A server is no longer used.
    pub(crate) fn remove_server(&mut self, server: &str) {
        self.servers.remove(server);
    }

    fn connected(&self) -> impl Iterator<Item = &Server> {
        self.servers.values().filter(|server| server.connected)
    }

    /// Brings the view up to date. Call it from time to time, too: grace periods end without an event.
    pub(crate) fn refresh(&mut self, now: Duration) {
        if self.connected().next().is_none() {
            return;
        }
        let mut newest: BTreeMap<&str, &Seen> = BTreeMap::new();
        for seen in self.servers.values().filter(|server| server.connected).flat_map(|server| server.affiliates.values()) {
            let place = newest.entry(&seen.affiliate.id).or_insert(seen);
            if seen.order > place.order {
                *place = seen;
            }
        }
        self.known.retain(|id, known| {
            if newest.contains_key(id.as_str()) {
                return true;
            }
            now.saturating_sub(*known.missing_since.get_or_insert(now)) < GRACE
        });
        for (id, seen) in newest {
            self.known.insert(id.to_owned(), Known { affiliate: seen.affiliate.clone(), missing_since: None });
        }
    }

    /// The merged affiliates in the order of their ids.
    pub(crate) fn affiliates(&self) -> Vec<Affiliate> {
        self.known.values().map(|known| known.affiliate.clone()).collect()
    }

    /// Whether any server was ever heard: before that, an empty list means *not known*.
    pub(crate) fn settled(&self) -> bool {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affiliate(id: &str, data: &str) -> Affiliate {
        Affiliate { id: id.into(), data: data.into(), endpoints: vec![] }
    }

    fn view(merged: &Merged) -> String {
        let parts: Vec<_> = merged.affiliates().iter().map(|a| format!("{}={}", a.id, String::from_utf8_lossy(&a.data))).collect();
        parts.join(" ")
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_last_word_wins_and_a_reconnect_is_not_a_word() {
        let mut merged = Merged::default();
        assert!(!merged.settled());
        merged.snapshot("x", vec![affiliate("a", "1")], at(0));
        merged.snapshot("y", vec![affiliate("a", "1"), affiliate("b", "1")], at(0));
        assert_eq!(view(&merged), "a=1 b=1");
        merged.change("y", Change::Set(affiliate("a", "2")), at(1));
        assert_eq!(view(&merged), "a=2 b=1");
        merged.disconnected("x");
        merged.snapshot("x", vec![affiliate("a", "1")], at(2));
        assert_eq!(view(&merged), "a=2 b=1", "x missed the change and does not undo it");
        assert!(merged.settled());
    }

    #[test]
    fn a_deletion_counts_at_once_when_no_server_lists_it_any_more() {
        let mut merged = Merged::default();
        merged.snapshot("x", vec![affiliate("a", "1"), affiliate("b", "1")], at(0));
        merged.snapshot("y", vec![affiliate("a", "1"), affiliate("b", "1")], at(0));
        merged.change("x", Change::Gone("a".into()), at(1));
        assert_eq!(view(&merged), "a=1 b=1");
        merged.change("y", Change::Gone("a".into()), at(1));
        assert_eq!(view(&merged), "b=1");
        // A server that vanished cannot haunt the view with what it knew.
        merged.disconnected("y");
        merged.change("x", Change::Gone("b".into()), at(2));
        assert_eq!(view(&merged), "");
    }

    #[test]
    fn a_server_that_starts_empty_does_not_empty_the_cluster() {
        let mut merged = Merged::default();
        merged.snapshot("x", vec![affiliate("a", "1"), affiliate("b", "1")], at(0));
        merged.disconnected("x");
        merged.refresh(at(1000));
        assert_eq!(view(&merged), "a=1 b=1", "no server: the last view stands");
        merged.snapshot("x", vec![], at(1000));
        assert_eq!(view(&merged), "a=1 b=1");
        merged.change("x", Change::Set(affiliate("a", "2")), at(1003));
        merged.refresh(at(1014));
        assert_eq!(view(&merged), "a=2 b=1");
        merged.refresh(at(1015));
        assert_eq!(view(&merged), "a=2", "b did not come back");
    }

    #[test]
    fn what_is_forgotten_is_gone_everywhere() {
        let mut merged = Merged::default();
        merged.snapshot("x", vec![affiliate("a", "1")], at(0));
        merged.snapshot("y", vec![affiliate("a", "1")], at(0));
        merged.forget("a");
        merged.refresh(at(0));
        assert_eq!(view(&merged), "");
        merged.remove_server("y");
        merged.refresh(at(0));
        assert_eq!(view(&merged), "");
    }
}
