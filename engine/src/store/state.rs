//! The store as a [`State`]: the dynamic door, for those who learn at run time which kinds they deal with.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::Stream;
use futures::future::BoxFuture;
use resource::{
    AnyResource, Bookmark, CreateOptions, DestroyOptions, Error, Event, EventKind, Key, Kind, ListOptions, State, UpdateOptions,
    WatchKindOptions, WatchOptions, WatchStream,
};

use super::rows::Rows;
use super::watch::{Feed, Start};
use super::{Store, errors};
use std::sync::Arc;

/// The most events in one aggregated batch.
const BATCH: usize = 256;

impl Store {
    /// The table of a kind; `None` when the kind is known and has none.
    fn table(&self, kind: &Kind) -> Result<Option<Arc<Rows>>, Error> {
        match self.find(kind) {
            Some(rows) => Ok(Some(rows)),
            None if self.knows(&kind.type_) => Ok(None),
            None => Err(Error::UnknownKind(kind.type_.to_string())),
        }
    }

    /// The table of a resource that is to be changed.
    fn table_of(&self, key: &Key) -> Result<Arc<Rows>, Error> {
        self.table(&key.kind())?.ok_or_else(|| Error::NotFound(key.clone()))
    }
}

#[async_trait]
impl State for Store {
    async fn get(&self, key: &Key) -> Result<AnyResource, Error> {
        let rows = self.table(&key.kind())?;
        rows.and_then(|rows| rows.get(&key.id)).ok_or_else(|| Error::NotFound(key.clone()))
    }

    async fn list(&self, kind: &Kind, options: &ListOptions) -> Result<Vec<AnyResource>, Error> {
        let mut list = self.table(kind)?.map(|rows| rows.list().to_vec()).unwrap_or_default();
        if !options.is_all() {
            list.retain(|r| options.matches(&r.meta));
        }
        Ok(list)
    }

    async fn create(&self, resource: AnyResource, options: &CreateOptions) -> Result<AnyResource, Error> {
        let kind = resource.meta.kind();
        let rows = match self.table(&kind)? {
            Some(rows) => rows,
            // Another namespace may have a table that knows the type.
            None => self.sibling(&kind).ok_or_else(|| {
                Error::Unsupported(format!("creating the first {kind}: nothing in this process uses that kind, so it has no place"))
            })?,
        };
        errors::check_namespace(&kind)?;
        rows.create(resource, &options.owner)
    }

    async fn update(&self, resource: AnyResource, options: &UpdateOptions) -> Result<AnyResource, Error> {
        self.table_of(&resource.key())?.update(resource, &options.owner, options.expected_phase)
    }

    async fn teardown(&self, key: &Key, options: &DestroyOptions) -> Result<bool, Error> {
        self.table_of(key)?.teardown(&key.id, &options.owner)
    }

    async fn destroy(&self, key: &Key, options: &DestroyOptions) -> Result<(), Error> {
        self.table_of(key)?.destroy(&key.id, &options.owner)
    }

    async fn watch(&self, key: &Key, options: &WatchOptions) -> Result<WatchStream, Error> {
        let start = start(false, options.tail, options.from.as_ref())?;
        let fresh = start.is_none();
        let source = match self.table(&key.kind())? {
            Some(rows) => Source::Open(Feed::open(rows, Some(key.id.clone()), start.unwrap_or(Start::Contents))?),
            None => self.unopened(&key.kind(), Some(key.id.clone()), options.from.as_ref())?,
        };
        let query = ListOptions::all();
        let absent = fresh.then(|| AnyResource::tombstone(key));
        Ok(Box::pin(Events { source, query, aggregated: false, absent, swallow: true, first: None, ended: false }))
    }

    async fn watch_kind(&self, kind: &Kind, options: &WatchKindOptions) -> Result<WatchStream, Error> {
        let start = start(options.bootstrap, options.tail, options.from.as_ref())?;
        let start = start.unwrap_or(if options.bootstrap { Start::Contents } else { Start::Now });
        let (source, first, swallow) = match self.table(kind)? {
            Some(rows) => {
                let watch = Feed::open(rows, None, start)?;
                let mark = Event { kind: EventKind::Noop, bookmark: Some(watch.bookmark()) };
                (Source::Open(watch), options.bootstrap_bookmark.then_some(mark), false)
            }
            None => {
                let first = options.bootstrap.then(|| EventKind::Bootstrapped.into());
                (self.unopened(kind, None, options.from.as_ref())?, first, true)
            }
        };
        let (query, aggregated) = (options.query.clone(), options.aggregated);
        Ok(Box::pin(Events { source, query, aggregated, absent: None, swallow, first, ended: false }))
    }
}

impl Store {
    /// A table of the same type in any namespace opens one in this namespace.
    fn sibling(&self, kind: &Kind) -> Option<Arc<Rows>> {
        let sibling = {
            let tables = self.inner.tables.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            tables.iter().find(|(k, _)| k.type_ == kind.type_).map(|(_, rows)| Arc::clone(rows))?
        };
        Some(self.rows(sibling.entry, &kind.namespace))
    }

    /// A watch of a kind that has no table yet: it begins when there is one, and all that is in it then is news.
    fn unopened(&self, kind: &Kind, id: Option<resource::Name>, from: Option<&Bookmark>) -> Result<Source, Error> {
        if from.is_some() {
            return Err(Error::BadBookmark);
        }
        let (store, kind) = (self.clone(), kind.clone());
        Ok(Source::Opening(Box::pin(async move {
            loop {
                let opened = store.inner.opened.notified();
                let mut opened = std::pin::pin!(opened);
                opened.as_mut().enable();
                if let Some(rows) = store.find(&kind) {
                    return Feed::open(rows, id, Start::Contents);
                }
                opened.await;
            }
        })))
    }
}

/// What the options say about the start; `None` when they say nothing.
fn start(bootstrap: bool, tail: u32, from: Option<&Bookmark>) -> Result<Option<Start>, Error> {
    match (bootstrap, tail, from) {
        (false, 0, Some(from)) => Ok(Some(Start::After(from.clone()))),
        (_, 0, None) => Ok(None),
        (false, tail, None) => Ok(Some(Start::Tail(tail as usize))),
        _ => Err(Error::Invalid(
            "a watch begins with the contents, with past events or after a bookmark: give only one of the three".to_owned(),
        )),
    }
}

enum Source {
    Open(Feed),
    Opening(BoxFuture<'static, Result<Feed, Error>>),
}

/// A watch as a stream of batches.
struct Events {
    source: Source,
    query: ListOptions,
    aggregated: bool,
    /// What to tell if the one resource that is watched turns out not to be there.
    absent: Option<AnyResource>,
    /// Whether the end of the contents is nothing to tell.
    swallow: bool,
    first: Option<Event>,
    ended: bool,
}

impl Events {
    /// What the reader is told of an event: a resource that starts or stops to match is created or destroyed to them.
    fn tell(&mut self, event: Event) -> Option<Event> {
        let bookmark = event.bookmark;
        let kind = match event.kind {
            EventKind::Bootstrapped if self.swallow => EventKind::Destroyed(self.absent.take()?),
            EventKind::Created(r) => {
                self.absent = None;
                if self.query.matches(&r.meta) { EventKind::Created(r) } else { return None }
            }
            EventKind::Updated { old, new } => {
                let was = old.as_ref().is_some_and(|o| self.query.matches(&o.meta));
                match (was, self.query.matches(&new.meta)) {
                    (true, true) => EventKind::Updated { old, new },
                    (false, true) => EventKind::Created(new),
                    (true, false) => EventKind::Destroyed(new),
                    (false, false) => return None,
                }
            }
            EventKind::Destroyed(r) => {
                if self.query.matches(&r.meta) {
                    EventKind::Destroyed(r)
                } else {
                    return None;
                }
            }
            other => other,
        };
        Some(Event { kind, bookmark })
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        loop {
            let watch = match &mut self.source {
                Source::Open(watch) => watch,
                Source::Opening(opening) => match std::task::ready!(opening.as_mut().poll(cx)) {
                    Ok(watch) => {
                        self.source = Source::Open(watch);
                        continue;
                    }
                    Err(error) => return Poll::Ready(EventKind::Errored(error).into()),
                },
            };
            match std::task::ready!(watch.poll_next(cx)) {
                Ok(event) => {
                    if let Some(event) = self.tell(event.into()) {
                        return Poll::Ready(event);
                    }
                }
                Err(_behind) => return Poll::Ready(EventKind::Errored(Error::FellBehind(watch.rows().kind().to_string())).into()),
            }
        }
    }
}

impl Stream for Events {
    type Item = Vec<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Event>>> {
        let mut batch = Vec::new();
        let most = if self.aggregated { BATCH } else { 1 };
        while batch.len() < most && !self.ended {
            match self.poll_event(cx) {
                Poll::Ready(event) => {
                    self.ended = matches!(event.kind, EventKind::Errored(_));
                    batch.push(event);
                }
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Some(batch).filter(|b| !b.is_empty()))
    }
}
