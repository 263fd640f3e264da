//! Those who wait for the next change of a table, and the one call by which a writer wakes them.
//!
//! The cost to a writer must not grow with the number of watchers. So a writer never walks the list of those who wait: it looks at one
//! atomic, takes the whole list with one move, and wakes at most [`DIRECT`] of them itself; more are handed to a task that wakes them
//! beside it. Outside a tokio runtime (a plain executor, the simulator) there is nobody to hand them to, and the writer wakes them all.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// How many waiters a writer wakes itself; with more, a spawned task does.
const DIRECT: usize = 4;

/// The waiters of one table.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Whether the list holds anything. Read by each writer, so that a table without waiters costs one load.
    any: AtomicBool,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    /// Counts how often the list was taken; a [`Seat`] of an older wave is gone.
    wave: u64,
    seats: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// The place of one watch in the list, kept by the watch so that polling it twice does not take two places.
#[derive(Debug, Default)]
pub(crate) struct Seat(Option<(u64, usize)>);

impl Waiters {
    /// Registers `waker`. The caller must look for news once more *after* this, since a writer may have come between.
    pub(crate) fn wait(&self, seat: &mut Seat, waker: &Waker) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        match seat.0 {
            Some((wave, index)) if wave == list.wave => match &mut list.seats[index] {
                Some(old) => old.clone_from(waker),
                empty => *empty = Some(waker.clone()),
            },
            _ => {
                let index = match list.free.pop() {
                    Some(index) => index,
                    None => {
                        list.seats.push(None);
                        list.seats.len() - 1
                    }
                };
                list.seats[index] = Some(waker.clone());
                seat.0 = Some((list.wave, index));
            }
        }
        self.any.store(true, SeqCst);
    }

    /// Gives the seat back. Called when a watch is dropped, so that watches that come and go leave nothing behind.
    pub(crate) fn leave(&self, seat: &mut Seat) {
        let Some((wave, index)) = seat.0.take() else { return };
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if wave == list.wave {
            list.seats[index] = None;
            list.free.push(index);
        }
    }

    /// Wakes all. Called after a change is visible.
    pub(crate) fn wake(&self) {
        if !self.any.load(SeqCst) || !self.any.swap(false, SeqCst) {
            return;
        }
        let wave = {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.wave += 1;
            list.free.clear();
            std::mem::take(&mut list.seats)
        };
        if wave.len() > DIRECT
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            drop(runtime.spawn(async move { wake_all(wave) }));
        } else {
            wake_all(wave);
        }
    }

    /// How many are waiting, for tests.
    #[cfg(test)]
    fn seats(&self) -> usize {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).seats.len()
    }
}

fn wake_all(wave: Vec<Option<Waker>>) {
    wave.into_iter().flatten().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn each_waiter_is_woken_once_per_wave() {
        let (waiters, count) = (Waiters::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut seats: Vec<Seat> = (0..9).map(|_| Seat::default()).collect();
        for seat in &mut seats {
            waiters.wait(seat, &waker);
            waiters.wait(seat, &waker);
        }
        waiters.wake();
        waiters.wake();
        assert_eq!(count.0.load(SeqCst), 9);
    }

    #[test]
    fn polling_again_and_leaving_do_not_grow_the_list() {
        let waiters = Waiters::default();
        let mut kept = Seat::default();
        for _ in 0..1000 {
            waiters.wait(&mut kept, Waker::noop());
            let mut passing = Seat::default();
            waiters.wait(&mut passing, Waker::noop());
            waiters.leave(&mut passing);
        }
        assert_eq!(waiters.seats(), 2);
    }

    #[tokio::test]
    async fn many_waiters_are_woken_by_a_task() {
        let (waiters, count) = (Waiters::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut seats: Vec<Seat> = (0..100).map(|_| Seat::default()).collect();
        seats.iter_mut().for_each(|seat| waiters.wait(seat, &waker));
        waiters.wake();
        assert_eq!(count.0.load(SeqCst), 0, "the writer itself wakes nobody when there are many");
        tokio::task::yield_now().await;
        assert_eq!(count.0.load(SeqCst), 100);
    }
}
