//! What the discovery server knows of its cluster: affiliates as opaque bytes, with limits and expiry. No IO, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

/// Limits of the discovery protocol; the peer's service has the same.
pub(crate) const MAX_ID: usize = 256;
const MAX_DATA: usize = 2048;
const MAX_ENDPOINT: usize = 32;
const MAX_ENDPOINTS: usize = 64;
const MAX_AFFILIATES: usize = 1024;
/// Longest time an affiliate lives without being renewed.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(30 * 60);

/// What one member registered: bytes that only members can open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Affiliate {
    pub(crate) id: String,
    pub(crate) data: Vec<u8>,
    pub(crate) endpoints: Vec<Vec<u8>>,
}

/// A change that watchers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is new, or has new content.
    Set(Affiliate),
    /// It is gone.
    Gone(String),
}

/// A request beyond the protocol's limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{what} is {found} bytes long; at most {limit} are accepted")]
    TooLong { what: &'static str, found: usize, limit: usize },
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("there are {limit} {what} already; no more are accepted")]
    TooMany { what: &'static str, limit: usize },
    #[error("a time to live of {found:?} is outside 0–{limit:?}")]
    Ttl { found: Duration, limit: Duration },
}

#[derive(Debug)]
struct Entry {
    data: Vec<u8>,
    expires: Duration,
    endpoints: Vec<(Vec<u8>, Duration)>,
}

impl Entry {
    fn affiliate(&self, id: &str) -> Affiliate {
        Affiliate {
            id: id.to_owned(),
            data: self.data.clone(),
            endpoints: self.endpoints.iter().map(|(endpoint, _)| endpoint.clone()).collect(),
        }
    }
}

/// An update as it arrives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Update {
    pub(crate) id: String,
    /// `None`: only endpoints are added.
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) endpoints: Vec<Vec<u8>>,
    pub(crate) ttl: Duration,
}

/// The affiliates of one cluster. Times are durations since any fixed moment.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: BTreeMap<String, Entry>,
}

fn bounded(what: &'static str, found: usize, limit: usize) -> Result<(), Refused> {
    if found > limit { Err(Refused::TooLong { what, found, limit }) } else { Ok(()) }
}

/// Checks a cluster or affiliate id.
pub(crate) fn check_id(what: &'static str, id: &str) -> Result<(), Refused> {
    if id.is_empty() {
        return Err(Refused::Empty { what });
    }
    bounded(what, id.len(), MAX_ID)
}

impl Table {
    /// Registers or renews an affiliate; endpoints are added to those it has. Returns what watchers are told, if anything changed.
    pub(crate) fn update(&mut self, update: Update, now: Duration) -> Result<Option<Change>, Refused> {
        check_id("the affiliate id", &update.id)?;
        bounded("the affiliate data", update.data.as_ref().map_or(0, Vec::len), MAX_DATA)?;
        for endpoint in &update.endpoints {
            bounded("an endpoint", endpoint.len(), MAX_ENDPOINT)?;
        }
        if update.ttl > MAX_TTL {
            return Err(Refused::Ttl { found: update.ttl, limit: MAX_TTL });
        }
        let expires = now + update.ttl;
        let known = self.entries.get(&update.id);
        if known.is_none() && self.entries.len() >= MAX_AFFILIATES {
            return Err(Refused::TooMany { what: "affiliates", limit: MAX_AFFILIATES });
        }
        let mut endpoints = known.map(|entry| entry.endpoints.clone()).unwrap_or_default();
        let mut changed = known.is_none();
        for endpoint in update.endpoints {
            if let Some((_, until)) = endpoints.iter_mut().find(|(known, _)| *known == endpoint) {
                *until = (*until).max(expires);
                continue;
            }
            if endpoints.len() >= MAX_ENDPOINTS {
                return Err(Refused::TooMany { what: "endpoints of an affiliate", limit: MAX_ENDPOINTS });
            }
            endpoints.push((endpoint, expires));
            changed = true;
        }
        let entry = self.entries.entry(update.id.clone()).or_insert_with(|| Entry { data: Vec::new(), expires, endpoints: Vec::new() });
        entry.endpoints = endpoints;
        entry.expires = entry.expires.max(expires);
        if let Some(data) = update.data
            && data != entry.data
        {
            entry.data = data;
            changed = true;
        }
        Ok(changed.then(|| Change::Set(entry.affiliate(&update.id))))
    }

    /// Removes an affiliate; `None` when there is none.
    pub(crate) fn delete(&mut self, id: &str) -> Option<Change> {
        self.entries.remove(id).map(|_| Change::Gone(id.to_owned()))
    }

    /// Drops what was not renewed in time.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        self.entries.retain(|id, entry| {
            let keep = entry.expires > now;
            if !keep {
                changes.push(Change::Gone(id.clone()));
            }
            keep
        });
        for (id, entry) in &mut self.entries {
            let before = entry.endpoints.len();
            entry.endpoints.retain(|(_, until)| *until > now);
            if entry.endpoints.len() != before {
                changes.push(Change::Set(entry.affiliate(id)));
            }
        }
        changes
    }

    /// Every affiliate.
    pub(crate) fn list(&self) -> Vec<Affiliate> {
        self.entries.iter().map(|(id, entry)| entry.affiliate(id)).collect()
    }
}

/// How many requests each address may make: `burst` at once, then `rate` a second (token bucket). Bounded: when too many addresses are
/// remembered, those whose bucket is full again are forgotten.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    rate: f64,
    burst: f64,
    buckets: BTreeMap<K, (f64, Duration)>,
}

impl<K: Ord + Copy> Limiter<K> {
    const MAX_KEYS: usize = 4096;

    pub(crate) fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, buckets: BTreeMap::new() }
    }

    /// Whether a request from `key` may pass now.
    pub(crate) fn allow(&mut self, key: K, now: Duration) -> bool {
        let (rate, burst) = (self.rate, self.burst);
        let level = |(tokens, at): (f64, Duration)| (tokens + now.saturating_sub(at).as_secs_f64() * rate).min(burst);
        if self.buckets.len() >= Self::MAX_KEYS && !self.buckets.contains_key(&key) {
            self.buckets.retain(|_, bucket| level(*bucket) < burst);
            if self.buckets.len() >= Self::MAX_KEYS {
                return false;
            }
        }
        let bucket = self.buckets.entry(key).or_insert((burst, now));
        let tokens = level(*bucket);
        let allowed = tokens >= 1.0;
        *bucket = (if allowed { tokens - 1.0 } else { tokens }, now);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(id: &str, data: &[u8]) -> Update {
        Update { id: id.into(), data: Some(data.to_vec()), endpoints: Vec::new(), ttl: MAX_TTL }
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn watchers_hear_of_changes_only() {
        let mut table = Table::default();
        let set = table.update(update("a", b"1"), at(0)).unwrap();
        assert_eq!(set, Some(Change::Set(Affiliate { id: "a".into(), data: b"1".to_vec(), endpoints: vec![] })));
        assert_eq!(table.update(update("a", b"1"), at(1)).unwrap(), None, "a renewal is no change");
        assert!(table.update(update("a", b"2"), at(2)).unwrap().is_some());
        let endpoints = Update { id: "a".into(), endpoints: vec![vec![1; 32]], ttl: at(60), ..Update::default() };
        assert!(table.update(endpoints.clone(), at(3)).unwrap().is_some());
        assert_eq!(table.update(endpoints, at(4)).unwrap(), None, "the same endpoint again");
        assert_eq!(table.list(), [Affiliate { id: "a".into(), data: b"2".to_vec(), endpoints: vec![vec![1; 32]] }]);
        assert_eq!(table.delete("a"), Some(Change::Gone("a".into())));
        assert_eq!(table.delete("a"), None);
    }

    #[test]
    fn what_is_not_renewed_goes() {
        let mut table = Table::default();
        table.update(Update { ttl: at(100), endpoints: vec![vec![1]], ..update("a", b"1") }, at(0)).unwrap();
        table.update(Update { ttl: at(100), ..update("b", b"1") }, at(50)).unwrap();
        table.update(Update { ttl: at(100), ..update("a", b"1") }, at(60)).unwrap();
        assert!(table.expire(at(99)).is_empty());
        let changes = table.expire(at(100));
        assert_eq!(changes, [Change::Set(Affiliate { id: "a".into(), data: b"1".to_vec(), endpoints: vec![] })], "its endpoint aged out");
        assert_eq!(table.expire(at(150)), [Change::Gone("b".into())]);
        assert_eq!(table.expire(at(160)), [Change::Gone("a".into())]);
    }

    #[test]
    fn the_limits_hold() {
        let mut table = Table::default();
        let id = |n: usize| "x".repeat(n);
        assert!(table.update(update(&id(256), &[0; 2048]), at(0)).is_ok());
        assert_eq!(table.update(update(&id(257), b""), at(0)), Err(Refused::TooLong { what: "the affiliate id", found: 257, limit: 256 }));
        assert_eq!(table.update(update("", b""), at(0)), Err(Refused::Empty { what: "the affiliate id" }));
        assert_eq!(
            table.update(update("a", &[0; 2049]), at(0)),
            Err(Refused::TooLong { what: "the affiliate data", found: 2049, limit: 2048 })
        );
        let with = |endpoints: Vec<Vec<u8>>| Update { endpoints, ..update("e", b"") };
        assert!(matches!(table.update(with(vec![vec![0; 33]]), at(0)), Err(Refused::TooLong { what: "an endpoint", .. })));
        assert!(table.update(with((0..64).map(|i| vec![i]).collect()), at(0)).is_ok());
        assert!(matches!(table.update(with(vec![vec![200]]), at(0)), Err(Refused::TooMany { limit: 64, .. })));
        assert!(table.update(with(vec![vec![3]]), at(0)).is_ok(), "a known endpoint may be renewed");
        assert!(matches!(table.update(Update { ttl: at(1801), ..update("a", b"") }, at(0)), Err(Refused::Ttl { .. })));
        for i in table.list().len()..1024 {
            table.update(update(&format!("n{i}"), b""), at(0)).unwrap();
        }
        assert!(matches!(table.update(update("one-more", b""), at(0)), Err(Refused::TooMany { what: "affiliates", limit: 1024 })));
        assert!(table.update(update("n5", b"new"), at(0)).is_ok());
    }

    #[test]
    fn requests_are_limited_per_address() {
        let mut limiter = Limiter::new(15.0, 60.0);
        assert_eq!((0..100).filter(|_| limiter.allow(1, at(0))).count(), 60);
        assert_eq!((0..100).filter(|_| limiter.allow(1, at(1))).count(), 15);
        assert!(limiter.allow(2, at(1)), "another address has its own");
        for key in 0..2 * Limiter::<u32>::MAX_KEYS {
            limiter.allow(u32::try_from(key).unwrap(), at(2));
        }
        assert!(limiter.buckets.len() <= Limiter::<u32>::MAX_KEYS);
        assert!(limiter.allow(77_777, at(100)), "after a while there is room again");
    }
}
