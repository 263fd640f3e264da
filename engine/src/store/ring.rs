//! The last events of one table, numbered.
//!
//! Sequence numbers start at 1 and never repeat; a cursor is the number of the last event seen (0: none yet). A reader that falls so far
//! behind that its next event was dropped is told, and never holds anything back.

use std::collections::VecDeque;

/// How many events a table keeps at least room for and at most. The wire's reference keeps as many.
pub(crate) const CAPACITY: std::ops::RangeInclusive<usize> = 8..=1024;

/// A bounded list of the newest events.
#[derive(Debug)]
pub(crate) struct Ring<E> {
    /// The number of the newest event; 0 when there never was one.
    last: u64,
    events: VecDeque<E>,
    limit: usize,
}

/// The events after a cursor are no longer all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The oldest event that is kept.
    pub(crate) oldest: u64,
}

impl<E> Ring<E> {
    /// An empty ring that keeps `limit` events, brought into [`CAPACITY`].
    pub(crate) fn new(limit: usize) -> Self {
        Self { last: 0, events: VecDeque::new(), limit: limit.clamp(*CAPACITY.start(), *CAPACITY.end()) }
    }

    /// An empty ring whose next event will be number `last + 1`.
    pub(crate) fn starting_after(last: u64, limit: usize) -> Self {
        Self { last, ..Self::new(limit) }
    }

    /// The number of the newest event.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The number of the oldest event kept; `last + 1` when none is.
    pub(crate) fn oldest(&self) -> u64 {
        self.last + 1 - self.events.len() as u64
    }

    /// Appends an event, dropping the oldest when full. Returns its number and what was dropped, so that the caller can free it outside
    /// a lock.
    pub(crate) fn push(&mut self, event: E) -> (u64, Option<E>) {
        let dropped = if self.events.len() >= self.limit { self.events.pop_front() } else { None };
        self.events.push_back(event);
        self.last += 1;
        (self.last, dropped)
    }

    /// The event after `cursor`: `Ok(None)` when the cursor is at the end, an error when that event was dropped.
    pub(crate) fn after(&self, cursor: u64) -> Result<Option<&E>, Gap> {
        if cursor >= self.last {
            return Ok(None);
        }
        let oldest = self.oldest();
        if cursor + 1 < oldest {
            return Err(Gap { oldest });
        }
        Ok(usize::try_from(cursor + 1 - oldest).ok().and_then(|index| self.events.get(index)))
    }

    /// The cursor from which the last `count` events that are kept are still ahead.
    pub(crate) fn tail(&self, count: usize) -> u64 {
        self.last - count.min(self.events.len()) as u64
    }

    /// All events kept, oldest first, with their numbers.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &E)> + ExactSizeIterator {
        let oldest = self.oldest();
        self.events.iter().enumerate().map(move |(i, e)| (oldest + i as u64, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_and_the_oldest_go_away() {
        let mut ring = Ring::new(8);
        for i in 1..=20_u32 {
            let (number, dropped) = ring.push(i);
            assert_eq!(number, u64::from(i));
            assert_eq!(dropped, i.checked_sub(8).filter(|d| *d > 0));
        }
        assert_eq!((ring.oldest(), ring.last()), (13, 20));
        assert_eq!(ring.after(20), Ok(None));
        assert_eq!(ring.after(99), Ok(None));
        assert_eq!(ring.after(19), Ok(Some(&20)));
        assert_eq!(ring.after(12), Ok(Some(&13)));
        assert_eq!(ring.after(11), Err(Gap { oldest: 13 }));
        assert_eq!(ring.after(0), Err(Gap { oldest: 13 }));
        assert_eq!(ring.tail(3), 17);
        assert_eq!(ring.tail(3000), 12);
        assert_eq!(ring.iter().map(|(n, e)| (n, *e)).next_back(), Some((20, 20)));
    }

    #[test]
    fn a_ring_that_resumes_refuses_what_came_before_it() {
        let mut ring = Ring::<u8>::starting_after(100, 8);
        assert_eq!((ring.oldest(), ring.last()), (101, 100));
        assert_eq!(ring.after(99), Err(Gap { oldest: 101 }));
        assert_eq!(ring.after(100), Ok(None));
        assert_eq!(ring.push(7), (101, None));
        assert_eq!(ring.after(100), Ok(Some(&7)));
    }
}
