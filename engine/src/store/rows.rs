//! One kind in one namespace: the table in which its resources live. It does not know their Rust type, so that hundreds of kinds share its
//! code; [`Table`](super::Table) is the typed door to it.
//!
//! Every rule about writing is here and nowhere else: optimistic concurrency, owners, phases, finalizers. A write is one critical section:
//! check, record in the log (if there is one), replace the `Arc`, number the event. Reads clone an `Arc` and copy nothing.
//!
//! Lock order: the log before a table, and never two tables.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;
use hashbrown::hash_map;
use resource::{AnyResource, Entry, Error, Kind, Metadata, Name, Phase, Timestamp, Version};

use super::errors::{self, Site};
use super::history::HistoryEntry;
use super::ring::Ring;
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::durable::{Dump, EventTag, Journal, Parked, codec};
use crate::trigger::Trigger;

/// What happened to a resource.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// It came into being.
    Created(AnyResource),
    /// It was replaced.
    Updated {
        /// What it was.
        old: AnyResource,
        /// What it is.
        new: AnyResource,
    },
    /// It is gone; this is what it last was.
    Destroyed(AnyResource),
}

impl Change {
    /// The resource as it is now, or last was.
    pub(crate) fn resource(&self) -> &AnyResource {
        match self {
            Self::Created(r) | Self::Updated { new: r, .. } | Self::Destroyed(r) => r,
        }
    }
}

/// A change with its time.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) at: Timestamp,
    pub(crate) change: Change,
}

/// What all tables of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    /// Distinguishes this store's bookmarks from those of any other.
    pub(crate) epoch: u64,
    /// How many events each table keeps.
    pub(crate) history: usize,
    pub(crate) journal: Option<Mutex<Journal>>,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from(self.clock.wall())
    }

    /// The log, if there is one. To be called with no table locked.
    pub(crate) fn journal(&self) -> Option<MutexGuard<'_, Journal>> {
        let mut journal = self.journal.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        journal.repair();
        Some(journal)
    }
}

/// Someone to wake when the table changes.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) trigger: Arc<Trigger>,
    pub(crate) flag: u32,
    /// Only changes of this id count.
    pub(crate) id: Option<Name>,
    /// Changes of nothing but finalizers count too.
    pub(crate) finalizers: bool,
    /// Only changes of what is being torn down, or is gone, count.
    pub(crate) ending: bool,
}

/// How much a write touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    All,
    FinalizersOnly,
}

#[derive(Debug)]
pub(crate) struct Items {
    pub(crate) map: HashMap<Name, AnyResource>,
    pub(crate) ring: Ring<Logged>,
    listeners: Option<Arc<[Listener]>>,
}

/// A table's resources at one moment, sorted by id.
pub(crate) type Snapshot = Arc<[AnyResource]>;

#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) namespace: Name,
    pub(crate) type_: Name,
    /// What the table holds.
    pub(crate) entry: Entry,
    pub(crate) shared: Arc<Shared>,
    items: RwLock<Items>,
    /// The sorted list as of an event number, so that listing an unchanged table costs one clone.
    sorted: Mutex<Option<(u64, Snapshot)>>,
    pub(crate) waiters: Waiters,
}

/// What [`Rows::apply`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    Created(Version),
    Updated(Version),
    Unchanged(Version),
    /// The old one is still being torn down; try again when it is gone.
    TearingDown,
}

impl Rows {
    pub(crate) fn new(namespace: Name, entry: Entry, shared: Arc<Shared>) -> Self {
        let ring = Ring::new(shared.history);
        Self::resumed(namespace, entry, shared, HashMap::new(), ring)
    }

    fn resumed(namespace: Name, entry: Entry, shared: Arc<Shared>, map: HashMap<Name, AnyResource>, ring: Ring<Logged>) -> Self {
        let type_ = Name::literal(entry.definition().type_);
        let items = RwLock::new(Items { map, ring, listeners: None });
        Self { namespace, type_, entry, shared, items, sorted: Mutex::new(None), waiters: Waiters::default() }
    }

    pub(crate) fn kind(&self) -> Kind {
        Kind { namespace: self.namespace.clone(), type_: self.type_.clone() }
    }

    pub(crate) fn len(&self) -> usize {
        self.read().map.len()
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Items> {
        self.items.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Items> {
        self.items.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn site<'a>(&'a self, id: &'a str) -> Site<'a> {
        Site { namespace: &self.namespace, type_: &self.type_, id }
    }

    pub(crate) fn get(&self, id: &str) -> Option<AnyResource> {
        self.read().map.get(id).cloned()
    }

    /// All resources, sorted by id.
    pub(crate) fn list(&self) -> Snapshot {
        let items = self.read();
        let last = items.ring.last();
        let mut sorted = self.sorted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, list)) = sorted.as_ref()
            && *at == last
        {
            return Arc::clone(list);
        }
        let mut list: Vec<_> = items.map.values().cloned().collect();
        drop(items);
        list.sort_unstable_by(|a, b| a.meta.id.cmp(&b.meta.id));
        let list: Snapshot = list.into();
        *sorted = Some((last, Arc::clone(&list)));
        list
    }

    /// Adds a listener for good; listeners go with the store.
    pub(crate) fn listen(&self, listener: Listener) {
        let mut items = self.write();
        let old = items.listeners.as_deref().unwrap_or_default();
        items.listeners = Some(old.iter().cloned().chain([listener]).collect());
    }

    /// Removes the listeners of a trigger.
    pub(crate) fn unlisten(&self, trigger: &Arc<Trigger>) {
        let mut items = self.write();
        let kept: Arc<[Listener]> =
            items.listeners.as_deref().unwrap_or_default().iter().filter(|l| !Arc::ptr_eq(&l.trigger, trigger)).cloned().collect();
        items.listeners = Some(kept).filter(|l| !l.is_empty());
    }

    /// Creates a resource owned by `owner`.
    pub(crate) fn create(&self, resource: AnyResource, owner: &Name) -> Result<AnyResource, Error> {
        self.check(&resource)?;
        errors::check_id(self.site(&resource.meta.id))?;
        let now = self.shared.now();
        let new = resource.change_meta(|meta| {
            meta.namespace.clone_from(&self.namespace);
            meta.type_.clone_from(&self.type_);
            meta.owner.clone_from(owner);
            meta.version = Version::UNDEFINED.next();
            meta.created = now;
            meta.updated = now;
        });
        let mut journal = self.shared.journal();
        let mut guard = self.write();
        let items = &mut *guard;
        let hash_map::Entry::Vacant(slot) = items.map.entry(new.meta.id.clone()) else {
            return Err(errors::exists(self.site(&new.meta.id)));
        };
        record(journal.as_deref_mut(), EventTag::Created, &new, items.ring.last() + 1, now)?;
        slot.insert(new.clone());
        self.publish(guard, journal, Logged { at: now, change: Change::Created(new.clone()) }, Touch::All);
        Ok(new)
    }

    /// Replaces a resource. Its version must be the stored one, `owner` the stored owner, and the stored phase `phase` if one is given.
    pub(crate) fn update(&self, resource: AnyResource, owner: &str, phase: Option<Phase>) -> Result<AnyResource, Error> {
        self.replace(resource, owner, phase, Touch::All)
    }

    fn replace(&self, resource: AnyResource, owner: &str, phase: Option<Phase>, touch: Touch) -> Result<AnyResource, Error> {
        self.check(&resource)?;
        let now = self.shared.now();
        let mut journal = self.shared.journal();
        let mut guard = self.write();
        let items = &mut *guard;
        let (site, meta) = (self.site(&resource.meta.id), &resource.meta);
        let Some(slot) = items.map.get_mut(&meta.id) else { return Err(errors::not_found(site)) };
        let stored = &slot.meta;
        check_owner(site, stored, owner)?;
        if meta.version != stored.version {
            return Err(errors::version(site, meta.version, stored.version));
        }
        check_phase(site, stored, phase)?;
        if stored.phase == Phase::TearingDown && meta.phase == Phase::Running {
            return Err(errors::phase(site, Phase::Running, Phase::TearingDown));
        }
        let new = resource.change_meta(|meta| stamp(meta, stored, now));
        record(journal.as_deref_mut(), EventTag::Updated, &new, items.ring.last() + 1, now)?;
        let old = std::mem::replace(slot, new.clone());
        self.publish(guard, journal, Logged { at: now, change: Change::Updated { old, new: new.clone() } }, touch);
        Ok(new)
    }

    /// Reads, modifies and writes until nobody came between. `change` may run more than once; it answers what is to be written, if
    /// anything.
    pub(crate) fn modify(
        &self,
        id: &str,
        owner: Option<&str>,
        phase: Option<Phase>,
        touch: Touch,
        change: &mut dyn FnMut(&AnyResource) -> Result<Option<AnyResource>, Error>,
    ) -> Result<AnyResource, Error> {
        loop {
            let old = self.get(id).ok_or_else(|| errors::not_found(self.site(id)))?;
            let owner = owner.unwrap_or(&old.meta.owner);
            check_owner(self.site(id), &old.meta, owner)?;
            check_phase(self.site(id), &old.meta, phase)?;
            let Some(new) = change(&old)? else { return Ok(old) };
            let new = new.change_meta(|meta| {
                meta.id.clone_from(&old.meta.id);
                meta.version = old.meta.version;
            });
            match self.replace(new, owner, phase, touch) {
                Err(Error::VersionConflict { .. }) => {}
                done => return done,
            }
        }
    }

    /// [`modify`](Self::modify) of metadata alone. `change` answers whether there is anything to write.
    fn modify_meta(
        &self,
        id: &str,
        owner: Option<&str>,
        touch: Touch,
        change: &dyn Fn(&mut Metadata) -> Result<bool, Error>,
    ) -> Result<AnyResource, Error> {
        self.modify(id, owner, None, touch, &mut |old| {
            let mut meta = old.meta.clone();
            Ok(change(&mut meta)?.then(|| old.with_meta(meta)))
        })
    }

    /// Creates the resource, or gives the stored one its spec. Nothing is written if it has it.
    pub(crate) fn put(&self, resource: AnyResource, owner: &Name) -> Result<AnyResource, Error> {
        loop {
            let written = self.modify(&resource.meta.id, Some(owner), Some(Phase::Running), Touch::All, &mut |old| {
                Ok((!old.spec.equals(&resource.spec)).then(|| resource.with_meta(old.meta.clone())))
            });
            let created = match written {
                Err(Error::NotFound(_)) => self.create(resource.clone(), owner),
                done => return done,
            };
            match created {
                Err(Error::AlreadyExists(_)) => {}
                done => return done,
            }
        }
    }

    /// Marks a resource as going away. Answers whether nobody holds a finalizer on it, so that it may be destroyed.
    pub(crate) fn teardown(&self, id: &str, owner: &str) -> Result<bool, Error> {
        let torn = self.modify_meta(id, Some(owner), Touch::All, &|meta| {
            let running = meta.phase == Phase::Running;
            meta.phase = Phase::TearingDown;
            Ok(running)
        })?;
        Ok(torn.meta.finalizers.is_empty())
    }

    /// Adds a finalizer; nothing happens when it is there. A resource that is being torn down takes none any more.
    pub(crate) fn add_finalizer(&self, id: &str, finalizer: &str) -> Result<(), Error> {
        let added = self.modify_meta(id, None, Touch::FinalizersOnly, &|meta| {
            let absent = meta.add_finalizer(finalizer);
            if absent { check_phase(self.site(id), meta, Some(Phase::Running)).map(|()| true) } else { Ok(false) }
        });
        added.map(drop)
    }

    /// Removes a finalizer; nothing happens when it is not there, or the resource is not.
    pub(crate) fn remove_finalizer(&self, id: &str, finalizer: &str) -> Result<(), Error> {
        let removed = self.modify_meta(id, None, Touch::FinalizersOnly, &|meta| Ok(meta.remove_finalizer(finalizer)));
        match removed {
            Err(e) if e.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes a resource on which nobody holds a finalizer.
    pub(crate) fn destroy(&self, id: &str, owner: &str) -> Result<(), Error> {
        let now = self.shared.now();
        let mut journal = self.shared.journal();
        let mut guard = self.write();
        let items = &mut *guard;
        let Some(old) = items.map.get(id) else { return Err(errors::not_found(self.site(id))) };
        check_owner(self.site(id), &old.meta, owner)?;
        if !old.meta.finalizers.is_empty() {
            return Err(errors::finalizers(self.site(id), &old.meta));
        }
        let old = old.clone();
        record(journal.as_deref_mut(), EventTag::Destroyed, &old, items.ring.last() + 1, now)?;
        items.map.remove(id);
        self.publish(guard, journal, Logged { at: now, change: Change::Destroyed(old) }, Touch::All);
        Ok(())
    }

    /// Brings one resource to what its owner wants, and writes nothing when it is that already.
    pub(crate) fn apply(&self, wanted: &AnyResource, owner: &Name) -> Result<Applied, Error> {
        let (id, labels, annotations) = (&wanted.meta.id, &wanted.meta.labels, &wanted.meta.annotations);
        let Some(old) = self.get(id) else {
            return self.create(wanted.clone(), owner).map(|r| Applied::Created(r.meta.version));
        };
        check_owner(self.site(id), &old.meta, owner)?;
        if old.meta.phase == Phase::TearingDown {
            return Ok(Applied::TearingDown);
        }
        if old.spec.equals(&wanted.spec) && old.meta.labels == *labels && old.meta.annotations == *annotations {
            return Ok(Applied::Unchanged(old.meta.version));
        }
        let written = self.modify(id, Some(owner), Some(Phase::Running), Touch::All, &mut |old| {
            let meta = Metadata { labels: labels.clone(), annotations: annotations.clone(), ..old.meta.clone() };
            Ok(Some(wanted.with_meta(meta)))
        });
        match written {
            Ok(new) => Ok(Applied::Updated(new.meta.version)),
            // Torn down or destroyed since it was read: it comes again with the change that did it.
            Err(Error::PhaseConflict { .. } | Error::NotFound(_)) => Ok(Applied::TearingDown),
            Err(e) => Err(e),
        }
    }

    /// Describes the table for a new log: what was there before the oldest event that is kept, then the events.
    pub(crate) fn dump(&self, dump: &mut Dump<'_>) {
        let items = self.read();
        let mut before: HashMap<&Name, &AnyResource> = items.map.iter().collect();
        for (_, logged) in items.ring.iter().rev() {
            match &logged.change {
                Change::Created(new) => drop(before.remove(&new.meta.id)),
                Change::Updated { old, .. } | Change::Destroyed(old) => drop(before.insert(&old.meta.id, old)),
            }
        }
        let table = dump.table(&self.kind(), items.ring.oldest() - 1);
        before.into_values().for_each(|resource| dump.row(table, resource));
        for (number, logged) in items.ring.iter() {
            dump.event(table, tag(&logged.change), number, logged.at, logged.change.resource());
        }
    }

    /// A table from what a log held of it. What cannot be decoded (the kind has changed its fields) is left out, with an error in the log.
    pub(crate) fn unpark(parked: Parked, entry: Entry, shared: Arc<Shared>) -> Self {
        let Parked { kind, last, rows, events } = parked;
        let decode = |bytes: &[u8]| -> Option<AnyResource> {
            let decoded = decode_resource(&kind, &entry, bytes);
            decoded.inspect_err(|error| tracing::error!(%kind, %error, "a stored resource cannot be read and is left out")).ok()
        };
        let mut map: HashMap<Name, AnyResource> = rows.values().filter_map(|bytes| decode(bytes)).map(|r| (r.meta.id.clone(), r)).collect();
        let mut ring = Ring::starting_after(last, shared.history);
        let mut whole = true;
        for event in events {
            let change = match event.tag {
                EventTag::Destroyed => std::str::from_utf8(&event.bytes).ok().and_then(|id| map.remove(id)).map(Change::Destroyed),
                EventTag::Created | EventTag::Updated => {
                    decode(&event.bytes).map(|new| match map.insert(new.meta.id.clone(), new.clone()) {
                        Some(old) => Change::Updated { old, new },
                        None => Change::Created(new),
                    })
                }
            };
            match change {
                Some(change) => drop(ring.push(Logged { at: event.at, change })),
                None => {
                    // The numbers must go on, so the history begins anew after what cannot be told.
                    ring = Ring::starting_after(event.number, shared.history);
                    whole = false;
                }
            }
        }
        if !whole {
            tracing::warn!(%kind, "the history of a table begins anew: an event of it cannot be read");
        }
        Self::resumed(kind.namespace, entry, shared, map, ring)
    }

    /// The last changes, oldest first, as far as they are kept.
    pub(crate) fn history(&self) -> Vec<HistoryEntry> {
        self.read().ring.iter().map(|(number, logged)| HistoryEntry::of(number, logged)).collect()
    }

    /// Whether a resource is of the type that belongs here.
    fn check(&self, resource: &AnyResource) -> Result<(), Error> {
        if self.entry.holds(resource) {
            return Ok(());
        }
        Err(errors::foreign(self.site(&resource.meta.id), resource.spec.type_name()))
    }

    /// Numbers the event, then, outside the locks, wakes whoever waits and frees what fell out of the history.
    fn publish(&self, mut guard: RwLockWriteGuard<'_, Items>, journal: Option<MutexGuard<'_, Journal>>, logged: Logged, touch: Touch) {
        let listeners = guard.listeners.clone();
        let heard = listeners.is_some().then(|| Heard::of(&logged.change, touch));
        let (_, dropped) = guard.ring.push(logged);
        drop(guard);
        if let Some(mut journal) = journal {
            journal.tidy();
        }
        drop(dropped);
        self.waiters.wake();
        if let (Some(listeners), Some(heard)) = (listeners, heard) {
            listeners.iter().filter(|l| heard.by(l)).for_each(|l| l.trigger.wake(l.flag));
        }
    }
}

/// What of a change decides who hears of it.
struct Heard {
    id: Name,
    ending: bool,
    touch: Touch,
}

impl Heard {
    fn of(change: &Change, touch: Touch) -> Self {
        let meta = &change.resource().meta;
        let ending = matches!(change, Change::Destroyed(_)) || meta.phase == Phase::TearingDown;
        Self { id: meta.id.clone(), ending, touch }
    }

    fn by(&self, listener: &Listener) -> bool {
        (self.touch == Touch::All || listener.finalizers)
            && (self.ending || !listener.ending)
            && listener.id.as_ref().is_none_or(|id| *id == self.id)
    }
}

fn record(journal: Option<&mut Journal>, tag: EventTag, resource: &AnyResource, number: u64, at: Timestamp) -> Result<(), Error> {
    let Some(journal) = journal else { return Ok(()) };
    journal.append(tag, resource, number, at)
}

fn tag(change: &Change) -> EventTag {
    match change {
        Change::Created(_) => EventTag::Created,
        Change::Updated { .. } => EventTag::Updated,
        Change::Destroyed(_) => EventTag::Destroyed,
    }
}

fn decode_resource(kind: &Kind, entry: &Entry, bytes: &[u8]) -> Result<AnyResource, Error> {
    let (mut meta, spec) = codec::resource(bytes).map_err(|bad| Error::Invalid(format!("a record is not readable: {bad}")))?;
    meta.namespace = kind.namespace.clone();
    meta.type_ = kind.type_.clone();
    let key = meta.key();
    entry.decode_proto(meta, spec).map_err(|source| Error::Decode { key, source })
}

/// What an update never changes, and what every update does.
fn stamp(new: &mut Metadata, old: &Metadata, now: Timestamp) {
    new.namespace.clone_from(&old.namespace);
    new.type_.clone_from(&old.type_);
    new.owner.clone_from(&old.owner);
    new.version = old.version.next();
    new.created = old.created;
    new.updated = now;
}

fn check_owner(site: Site<'_>, meta: &Metadata, owner: &str) -> Result<(), Error> {
    if *meta.owner == *owner { Ok(()) } else { Err(errors::owner(site, owner, &meta.owner)) }
}

fn check_phase(site: Site<'_>, meta: &Metadata, phase: Option<Phase>) -> Result<(), Error> {
    match phase {
        Some(expected) if expected != meta.phase => Err(errors::phase(site, expected, meta.phase)),
        _ => Ok(()),
    }
}
