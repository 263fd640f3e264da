//! The store: tables in memory, one per kind and namespace.
//!
//! Code that knows its kinds takes a [`Table`] once and keeps it. Code that does not (the API server) uses the store as a
//! [`State`](resource::State). Both see the same resources under the same rules.

mod errors;
mod history;
mod kind;
mod owned;
mod ring;
mod rows;
mod state;
mod waiters;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::UNIX_EPOCH;

use resource::{AnyResource, Definition, Entry, Key, Kind, Name, Namespace, Registry, ResourceDefinition, Spec};
use tokio::sync::Notify;

pub(crate) use self::errors::storage as storage_error;
pub use self::history::{ChangeKind, HistoryEntry};
pub use self::kind::Table;
pub(crate) use self::kind::{look, typed};
pub(crate) use self::rows::{Applied, Listener, Rows, Shared, Snapshot};
pub use self::watch::{FellBehind, Happened, Position, Seen, Start, Watch};
use crate::clock::{Clock, SystemClock};
use crate::durable::{Dump, Journal, OpenError, Parked, Source, open};

/// A store. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    tables: RwLock<BTreeMap<Kind, Arc<Rows>>>,
    /// The type names that are known, whether or not they have a table.
    known: RwLock<BTreeSet<Name>>,
    /// What a durable store held of tables that nobody has opened yet.
    parked: Mutex<BTreeMap<Kind, Parked>>,
    /// Told of each new table, for those who watch a kind that has none yet.
    opened: Notify,
}

/// How a store is made.
#[derive(Debug)]
pub struct Builder {
    clock: Arc<dyn Clock>,
    history: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock::default()), history: *ring::CAPACITY.end() }
    }
}

impl Builder {
    /// Takes time from this clock, also for the runtimes on this store.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How many events each table keeps, from 8 to 1024.
    #[must_use]
    pub fn history(mut self, events: usize) -> Self {
        self.history = events.clamp(*ring::CAPACITY.start(), *ring::CAPACITY.end());
        self
    }

    /// A store that lives in memory alone.
    #[must_use]
    pub fn in_memory(self) -> Store {
        let epoch = self.fresh_epoch();
        self.build(epoch, None, BTreeMap::new())
    }

    /// A store whose every change is in a log in `directory` (made if need be) before it is visible. If the log is there, the store is what
    /// it was: versions, owners, finalizers, history and bookmarks included.
    ///
    /// # Errors
    /// [`OpenError`]. A log that ends in the middle of a record is no error: that record was never acknowledged.
    pub fn open(self, directory: &Path) -> Result<Store, OpenError> {
        let epoch = self.fresh_epoch();
        let (epoch, journal, parked) = open(directory, epoch, self.history)?;
        Ok(self.build(epoch, Some(journal), parked))
    }

    /// A store on this log.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn resume(self, epoch: u64, journal: Journal, parked: BTreeMap<Kind, Parked>) -> Store {
        self.build(epoch, Some(journal), parked)
    }

    fn build(self, epoch: u64, journal: Option<Journal>, parked: BTreeMap<Kind, Parked>) -> Store {
        let shared = Arc::new(Shared { clock: self.clock, epoch, history: self.history, journal: journal.map(Mutex::new) });
        let inner = Arc::new(Inner {
            shared,
            tables: RwLock::default(),
            known: RwLock::default(),
            parked: Mutex::new(parked),
            opened: Notify::new(),
        });
        if let Some(mut journal) = inner.shared.journal() {
            let source: std::sync::Weak<dyn Source> = Arc::downgrade(&(Arc::clone(&inner) as Arc<dyn Source>));
            journal.set_source(source);
        }
        let store = Store { inner };
        store.register::<Namespace>();
        store.register::<ResourceDefinition>();
        store
    }

    /// Differs from that of every other store, so that their bookmarks are not mixed up.
    fn fresh_epoch(&self) -> u64 {
        let time = self.clock.wall().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are the ones that differ")]
        let time = time as u64;
        time.rotate_left(20) ^ u64::from(std::process::id()).rotate_left(40)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.inner.tables.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_map().entries(tables.iter().map(|(kind, rows)| (kind.to_string(), rows.len()))).finish()
    }
}

impl Store {
    /// An empty store in memory.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().in_memory()
    }

    /// How else to make one.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens the durable store in `directory`; see [`Builder::open`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::builder().open(directory)
    }

    /// The resources of kind `T` in its default namespace.
    ///
    /// # Panics
    /// When two Rust types claim the same wire type; that is a mistake in the program.
    #[must_use]
    pub fn kind<T: Spec>(&self) -> Table<T> {
        self.kind_in(Name::literal(T::NAMESPACE))
    }

    /// The resources of kind `T` in `namespace`.
    ///
    /// # Panics
    /// As [`Store::kind`].
    #[must_use]
    pub fn kind_in<T: Spec>(&self, namespace: impl Into<Name>) -> Table<T> {
        Table::of(self.rows(Entry::of::<T>(), &namespace.into()))
    }

    /// Makes a kind known and gives it a table in its default namespace.
    pub fn register<T: Spec>(&self) {
        drop(self.kind::<T>());
    }

    /// Makes kinds known, so that clients find them by their aliases and get empty lists rather than errors.
    pub fn register_all(&self, registry: &Registry) {
        for entry in registry.iter() {
            self.define(entry.definition());
            self.describe(&Name::literal(entry.definition().default_namespace));
        }
    }

    /// The history of a kind: its last changes, oldest first. Empty when the kind has no table.
    #[must_use]
    pub fn history(&self, kind: &Kind) -> Vec<HistoryEntry> {
        self.find(kind).map(|rows| rows.history()).unwrap_or_default()
    }

    /// One resource of whatever kind.
    #[must_use]
    pub fn get_any(&self, key: &Key) -> Option<AnyResource> {
        self.find(&key.kind())?.get(&key.id)
    }

    /// Every kind that has a table, with the number of its resources.
    #[must_use]
    pub fn kinds(&self) -> Vec<(Kind, usize)> {
        let tables = self.inner.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.iter().map(|(kind, rows)| (kind.clone(), rows.len())).collect()
    }

    /// Writes a durable store's log anew, as happens by itself when it has grown. False when there is no log or that failed.
    pub fn rewrite_log(&self) -> bool {
        self.inner.shared.journal().is_some_and(|mut journal| journal.rewrite())
    }

    /// The clock that dates resources.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.shared.clock)
    }

    fn find(&self, kind: &Kind) -> Option<Arc<Rows>> {
        self.inner.tables.read().unwrap_or_else(PoisonError::into_inner).get(kind).cloned()
    }

    fn knows(&self, type_: &str) -> bool {
        self.inner.known.read().unwrap_or_else(PoisonError::into_inner).contains(type_)
    }

    /// The table of a kind.
    ///
    /// # Panics
    /// When it was opened for another Rust type.
    pub(crate) fn rows(&self, entry: Entry, namespace: &Name) -> Arc<Rows> {
        let kind = Kind { namespace: namespace.clone(), type_: Name::literal(entry.definition().type_) };
        let rows = match self.find(&kind) {
            Some(found) => found,
            None => self.open_table(&kind, entry),
        };
        assert!(rows.entry.is_same(&entry), "two Rust types claim the resource type {}; give one another name", kind.type_);
        rows
    }

    fn open_table(&self, kind: &Kind, entry: Entry) -> Arc<Rows> {
        let fresh;
        let rows = {
            // The log before the tables, as everywhere: whoever writes the log anew goes through all tables.
            let _journal = self.inner.shared.journal();
            let mut tables = self.inner.tables.write().unwrap_or_else(PoisonError::into_inner);
            let parked = self.inner.parked.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
            fresh = !tables.contains_key(kind);
            Arc::clone(tables.entry(kind.clone()).or_insert_with(|| {
                let shared = Arc::clone(&self.inner.shared);
                Arc::new(match parked {
                    Some(parked) => Rows::unpark(parked, entry, shared),
                    None => Rows::new(kind.namespace.clone(), entry, shared),
                })
            }))
        };
        if fresh {
            self.define(entry.definition());
            self.describe(&kind.namespace);
            self.inner.opened.notify_waiters();
        }
        rows
    }

    /// Keeps the kind's definition as a resource.
    fn define(&self, definition: &Definition) {
        let type_ = Name::literal(definition.type_);
        if !self.inner.known.write().unwrap_or_else(PoisonError::into_inner).insert(type_) {
            return;
        }
        if let Err(error) = self.kind::<ResourceDefinition>().put("", definition.id(), definition.into()) {
            tracing::error!(%error, kind = definition.type_, "cannot keep a kind's definition");
        }
    }

    /// Keeps the namespace as a resource.
    fn describe(&self, namespace: &Name) {
        let namespaces = self.kind::<Namespace>();
        if namespaces.get(namespace).is_none()
            && let Err(error) = namespaces.put("", namespace.clone(), Namespace::default())
        {
            tracing::error!(%error, %namespace, "cannot keep a namespace");
        }
    }
}

impl Source for Inner {
    fn dump(&self, dump: &mut Dump<'_>) {
        for rows in self.tables.read().unwrap_or_else(PoisonError::into_inner).values() {
            rows.dump(dump);
        }
        for parked in self.parked.lock().unwrap_or_else(PoisonError::into_inner).values() {
            dump.parked(parked);
        }
    }
}
