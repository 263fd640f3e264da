//! How often one address may ask: a token bucket per address, bounded in number.

use std::{collections::HashMap, net::IpAddr, time::Duration};

/// Requests at once.
const BURST: f64 = 10.0;
/// Requests a second after that.
const RATE: f64 = 1.0;
/// Addresses kept; a full bucket holds nothing worth keeping, so those go first.
const MAX_KEPT: usize = 4096;

/// The buckets. Time is the caller's, as a duration since any fixed moment.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    kept: HashMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl Bucket {
    fn fill(&mut self, now: Duration) {
        self.left = (self.left + now.saturating_sub(self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
    }
}

impl Buckets {
    /// Whether `address` may ask now.
    pub(crate) fn take(&mut self, address: IpAddr, now: Duration) -> bool {
        if self.kept.len() >= MAX_KEPT && !self.kept.contains_key(&address) {
            self.kept.retain(|_, bucket| {
                bucket.fill(now);
                bucket.left < BURST
            });
            if self.kept.len() >= MAX_KEPT {
                return false;
            }
        }
        let bucket = self.kept.entry(address).or_insert(Bucket { left: BURST, at: now });
        bucket.fill(now);
        let may = bucket.left >= 1.0;
        if may {
            bucket.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn a_burst_passes_then_one_a_second() {
        let mut buckets = Buckets::default();
        let at = Duration::from_secs;
        assert_eq!((0..20).filter(|_| buckets.take(ip(1), at(5))).count(), 10);
        assert!(buckets.take(ip(2), at(5)), "another address is not held up");
        assert!(!buckets.take(ip(1), at(5) + Duration::from_millis(900)));
        assert!(buckets.take(ip(1), at(6)) && !buckets.take(ip(1), at(6)));
        assert_eq!((0..20).filter(|_| buckets.take(ip(1), at(600))).count(), 10, "it never holds more than a burst");
    }

    #[test]
    fn memory_is_bounded_and_recovers() {
        let mut buckets = Buckets::default();
        for n in 0..4096 {
            assert!(buckets.take(ip(n), Duration::ZERO));
        }
        assert!(!buckets.take(ip(5000), Duration::ZERO));
        assert!(buckets.take(ip(5000), Duration::from_secs(2)));
        assert!(buckets.kept.len() < 10);
    }
}
