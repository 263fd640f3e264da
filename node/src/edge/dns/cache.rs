//! Replies kept for as long as their TTLs allow, and for a while longer in case no upstream answers (RFC 8767). Bounded by count and
//! bytes; the oldest go first. No IO, no clock.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::wire::{Flags, Query, Question, Reply};

/// Replies kept at most.
const MAX_ENTRIES: usize = 4096;
/// Bytes of replies kept at most.
const MAX_BYTES: usize = 2 << 20;
/// Longest time a positive reply is taken as fresh, in seconds.
const MAX_TTL: u32 = 3600;
/// Longest time a negative reply is taken as fresh, in seconds.
const MAX_NEGATIVE: u32 = 30;
/// How long past its freshness a reply may stand in when no upstream answers.
const STALE: Duration = Duration::from_secs(3600);

type Key = (Question, Flags);

struct Entry {
    reply: Reply,
    bytes: Vec<u8>,
    stored: Duration,
    fresh: Duration,
    serial: u64,
}

/// The cache. Times are durations since any fixed moment.
#[derive(Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Insertion order; an entry that was replaced has another serial and its old place is skipped.
    order: VecDeque<(u64, Key)>,
    bytes: usize,
    serial: u64,
}

impl Cache {
    /// A fresh reply for this query, as its client gets it.
    pub(crate) fn fresh(&self, query: &Query, now: Duration) -> Option<Vec<u8>> {
        self.find(query, now, Duration::ZERO)
    }

    /// A reply that has outlived its TTL, for when there is no other.
    pub(crate) fn stale(&self, query: &Query, now: Duration) -> Option<Vec<u8>> {
        self.find(query, now, STALE)
    }

    fn find(&self, query: &Query, now: Duration, grace: Duration) -> Option<Vec<u8>> {
        let entry = self.entries.get(&(query.question.clone(), query.flags))?;
        let age = now.saturating_sub(entry.stored);
        if age >= entry.fresh + grace {
            return None;
        }
        let mut bytes = entry.bytes.clone();
        entry.reply.age(&mut bytes, u32::try_from(age.as_secs()).unwrap_or(u32::MAX));
        query.adopt(&mut bytes);
        Some(bytes)
    }

    /// Keeps a reply if it may be kept.
    pub(crate) fn store(&mut self, query: &Query, reply: Reply, bytes: Vec<u8>, now: Duration) {
        let limit = if Reply::addresses(&bytes).is_empty() && reply.rcode != 0 { MAX_NEGATIVE } else { MAX_TTL };
        let Some(keep) = reply.keep.map(|keep| keep.min(limit)).filter(|&keep| keep > 0) else { return };
        let key = (query.question.clone(), query.flags);
        self.serial += 1;
        self.bytes += bytes.len();
        let entry = Entry { reply, bytes, stored: now, fresh: Duration::from_secs(u64::from(keep)), serial: self.serial };
        self.order.push_back((self.serial, key.clone()));
        if let Some(old) = self.entries.insert(key, entry) {
            self.bytes -= old.bytes.len();
        }
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES || self.order.len() > 2 * MAX_ENTRIES {
            let Some((serial, key)) = self.order.pop_front() else { break };
            if self.entries.get(&key).is_some_and(|entry| entry.serial == serial)
                && let Some(old) = self.entries.remove(&key)
            {
                self.bytes -= old.bytes.len();
            }
        }
    }

    /// Forgets everything: other upstreams may know other names.
    pub(crate) fn clear(&mut self) {
        *self = Self { serial: self.serial, ..Self::default() };
    }

    #[cfg(test)]
    fn len(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::kind;
    use super::*;

    fn query(name: &str) -> Query {
        Query::own(Question::new(name, kind::A).unwrap())
    }

    fn store(cache: &mut Cache, name: &str, ttl: u32, now: u64) {
        let query = query(name);
        let bytes = query.reply(0, &["192.0.2.1".parse().unwrap()], ttl);
        let reply = Reply::parse(&bytes, &query, 0).unwrap();
        cache.store(&query, reply, bytes, Duration::from_secs(now));
    }

    #[test]
    fn fresh_then_stale_then_gone() {
        let mut cache = Cache::default();
        store(&mut cache, "a", 60, 100);
        let at = Duration::from_secs;
        assert!(cache.fresh(&query("a"), at(159)).is_some());
        assert!(cache.fresh(&query("a"), at(160)).is_none());
        assert!(cache.stale(&query("a"), at(160)).is_some());
        assert!(cache.stale(&query("a"), at(160 + 3600)).is_none());
        assert!(cache.fresh(&query("b"), at(100)).is_none());
        store(&mut cache, "zero", 0, 100);
        assert!(cache.stale(&query("zero"), at(100)).is_none(), "TTL 0 is never kept");
        cache.clear();
        assert!(cache.fresh(&query("a"), at(101)).is_none());
    }

    #[test]
    fn it_stays_within_its_bounds_and_drops_the_oldest() {
        let mut cache = Cache::default();
        for i in 0..MAX_ENTRIES + 500 {
            store(&mut cache, &format!("n{i}.example"), 60, 0);
        }
        assert!(cache.len().0 <= MAX_ENTRIES && cache.len().1 <= MAX_BYTES);
        assert!(cache.fresh(&query("n0.example"), Duration::ZERO).is_none());
        assert!(cache.fresh(&query(&format!("n{}.example", MAX_ENTRIES + 499)), Duration::ZERO).is_some());
        for i in 0..5 * MAX_ENTRIES {
            store(&mut cache, "same.example", 60, i as u64);
        }
        assert!(cache.order.len() <= 2 * MAX_ENTRIES + 1, "replacing does not grow the order");
        let bytes: usize = cache.entries.values().map(|entry| entry.bytes.len()).sum();
        assert_eq!(cache.len().1, bytes);
    }
}
