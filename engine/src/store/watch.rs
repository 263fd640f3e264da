//! Watches: a cursor into a table's history, and a place among those who wait for more.
//!
//! A watch owns nothing but its cursor, so any number of them costs a writer nothing, and one that is not read holds nothing back: when the
//! event it would have to see next has left the history, it says so, once and for all, and its reader starts again.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use resource::{AnyResource, Bookmark, Error, Event, EventKind, Name, Resource, Spec};

use super::kind::typed;
use super::rows::{Change, Rows};
use super::waiters::Seat;

/// How many events are taken from the history at a time.
const BATCH: usize = 64;

/// Where a watch begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Start {
    /// With the next change.
    #[default]
    Now,
    /// With what is there, as [`Happened::Created`] each, sorted by id, then [`Happened::Bootstrapped`], then the changes.
    Contents,
    /// With [`Happened::Bootstrapped`], to learn the bookmark of this moment, then the changes.
    Mark,
    /// With the last so many changes that the history keeps.
    Tail(usize),
    /// With the first change after a bookmark.
    After(Bookmark),
}

/// What a watch tells.
#[derive(Debug)]
pub enum Happened<T: Spec> {
    /// A resource came into being, or was there at the start.
    Created(Arc<Resource<T>>),
    /// A resource was replaced.
    Updated {
        /// What it was.
        old: Arc<Resource<T>>,
        /// What it is.
        new: Arc<Resource<T>>,
    },
    /// A resource is gone; this is what it last was.
    Destroyed(Arc<Resource<T>>),
    /// Everything that was there at the start has been told.
    Bootstrapped,
}

/// One event of a watch.
#[derive(Debug)]
pub struct Seen<T: Spec> {
    /// What happened.
    pub what: Happened<T>,
    /// Where in the sequence.
    pub at: Position,
}

/// A place in a table's sequence of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    epoch: u64,
    cursor: u64,
}

impl Position {
    /// From where to go on after the event: sixteen bytes, which store and after which event.
    #[must_use]
    pub fn bookmark(self) -> Bookmark {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..].copy_from_slice(&self.cursor.to_be_bytes());
        Bookmark::new(&bytes)
    }
}

/// The watch was not read for so long that events it has not told have left the history. It tells nothing more; start a new one with
/// [`Start::Contents`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the watch fell behind: events up to {oldest} have left the history; list again and start a new watch")]
pub struct FellBehind {
    /// The number of the oldest event still kept.
    pub oldest: u64,
}

/// A watch of one kind, or of one resource.
#[derive(Debug)]
pub struct Watch<T: Spec> {
    feed: Feed,
    kind: PhantomData<fn() -> T>,
}

impl<T: Spec> Watch<T> {
    pub(super) fn of(feed: Feed) -> Self {
        Self { feed, kind: PhantomData }
    }

    /// The next event, if it is there.
    ///
    /// # Errors
    /// [`FellBehind`], from then on always.
    pub fn try_next(&mut self) -> Result<Option<Seen<T>>, FellBehind> {
        Ok(self.feed.try_next()?.map(Seen::from))
    }

    /// The next event, once there is one.
    ///
    /// # Errors
    /// [`FellBehind`], from then on always.
    pub async fn next(&mut self) -> Result<Seen<T>, FellBehind> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, or a wake-up when there is one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Seen<T>, FellBehind>> {
        self.feed.poll_next(cx).map_ok(Seen::from)
    }
}

/// [`Happened`] to a resource of whatever kind.
#[derive(Debug)]
enum News {
    Changed(Change),
    Bootstrapped,
}

/// [`Seen`] of whatever kind.
#[derive(Debug)]
pub(crate) struct Item {
    news: News,
    at: Position,
}

/// A [`Watch`] of whatever kind.
#[derive(Debug)]
pub(crate) struct Feed {
    rows: Arc<Rows>,
    id: Option<Name>,
    cursor: u64,
    backlog: VecDeque<Item>,
    behind: Option<FellBehind>,
    seat: Seat,
}

impl Feed {
    pub(crate) fn open(rows: Arc<Rows>, id: Option<Name>, start: Start) -> Result<Self, Error> {
        let mut watch = Self { rows: Arc::clone(&rows), id, cursor: 0, backlog: VecDeque::new(), behind: None, seat: Seat::default() };
        let items = rows.read();
        let last = items.ring.last();
        watch.cursor = match &start {
            Start::Tail(count) => items.ring.tail(*count),
            Start::After(mark) => watch.position(mark, items.ring.oldest(), last)?,
            Start::Now | Start::Contents | Start::Mark => last,
        };
        drop(items);
        if start == Start::Contents {
            watch.bootstrap();
        }
        if start == Start::Mark {
            watch.push(News::Bootstrapped);
        }
        Ok(watch)
    }

    fn bootstrap(&mut self) {
        let rows = Arc::clone(&self.rows);
        let items = rows.read();
        self.cursor = items.ring.last();
        let mut list: Vec<AnyResource> = items.map.values().filter(|r| self.concerns(&r.meta.id)).cloned().collect();
        drop(items);
        list.sort_unstable_by(|a, b| a.meta.id.cmp(&b.meta.id));
        list.into_iter().for_each(|r| self.push(News::Changed(Change::Created(r))));
        self.push(News::Bootstrapped);
    }

    fn concerns(&self, id: &Name) -> bool {
        self.id.as_ref().is_none_or(|i| i == id)
    }

    fn push(&mut self, news: News) {
        let at = self.position_now();
        self.backlog.push_back(Item { news, at });
    }

    fn position_now(&self) -> Position {
        Position { epoch: self.rows.shared.epoch, cursor: self.cursor }
    }

    fn position(&self, mark: &Bookmark, oldest: u64, last: u64) -> Result<u64, Error> {
        let bytes = mark.as_bytes();
        let Some((epoch, cursor)) = bytes.split_first_chunk::<8>().and_then(|(e, rest)| Some((e, rest.try_into().ok()?))) else {
            return Err(Error::BadBookmark);
        };
        let cursor = u64::from_be_bytes(cursor);
        if u64::from_be_bytes(*epoch) != self.rows.shared.epoch {
            return Err(Error::BadBookmark);
        }
        if cursor > last {
            return Err(Error::BadBookmark);
        }
        if cursor + 1 < oldest {
            return Err(Error::FellBehind(format!("{}/{}", self.rows.namespace, self.rows.type_)));
        }
        Ok(cursor)
    }

    /// See [`Watch::try_next`].
    fn try_next(&mut self) -> Result<Option<Item>, FellBehind> {
        loop {
            if let Some(seen) = self.backlog.pop_front() {
                return Ok(Some(seen));
            }
            if let Some(behind) = self.behind {
                return Err(behind);
            }
            if !self.fetch() {
                return Ok(None);
            }
        }
    }

    /// Takes the next events from the history. False when there is none.
    fn fetch(&mut self) -> bool {
        let rows = Arc::clone(&self.rows);
        let items = rows.read();
        for taken in 0..BATCH {
            let change = match items.ring.after(self.cursor) {
                Ok(Some(logged)) => logged.change.clone(),
                Ok(None) => return taken > 0,
                Err(gap) => {
                    self.behind = Some(FellBehind { oldest: gap.oldest });
                    return true;
                }
            };
            self.cursor += 1;
            if !self.concerns(&change.resource().meta.id) {
                continue;
            }
            self.push(News::Changed(change));
        }
        true
    }

    /// See [`Watch::poll_next`].
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Item, FellBehind>> {
        if let Some(ready) = self.try_next().transpose() {
            return Poll::Ready(ready);
        }
        let rows = Arc::clone(&self.rows);
        rows.waiters.wait(&mut self.seat, cx.waker());
        // A writer may have come between the look and the registration.
        match self.try_next().transpose() {
            Some(ready) => Poll::Ready(ready),
            None => Poll::Pending,
        }
    }

    /// What is watched.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The present place in the sequence.
    pub(crate) fn bookmark(&self) -> Bookmark {
        self.position_now().bookmark()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.rows.waiters.leave(&mut self.seat);
    }
}

impl<T: Spec> From<Item> for Seen<T> {
    fn from(item: Item) -> Self {
        let what = match item.news {
            News::Changed(Change::Created(new)) => Happened::Created(typed(new)),
            News::Changed(Change::Updated { old, new }) => Happened::Updated { old: typed(old), new: typed(new) },
            News::Changed(Change::Destroyed(old)) => Happened::Destroyed(typed(old)),
            News::Bootstrapped => Happened::Bootstrapped,
        };
        Self { what, at: item.at }
    }
}

impl From<Item> for Event {
    fn from(item: Item) -> Self {
        let kind = match item.news {
            News::Changed(Change::Created(new)) => EventKind::Created(new),
            News::Changed(Change::Updated { old, new }) => EventKind::Updated { old: Some(old), new },
            News::Changed(Change::Destroyed(old)) => EventKind::Destroyed(old),
            News::Bootstrapped => EventKind::Bootstrapped,
        };
        Self { kind, bookmark: Some(item.at.bookmark()) }
    }
}
