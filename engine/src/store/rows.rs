//! One kind in one namespace: the typed table in which its resources live.
//!
//! Every rule about writing is here and nowhere else: optimistic concurrency, owners, phases, finalizers. A write is one critical section:
//! check, record in the log (if there is one), replace the `Arc`, number the event. Reads clone an `Arc` and copy nothing.
//!
//! Lock order: the log before a table, and never two tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use resource::{Error, Kind, Metadata, Name, Phase, Resource, Spec, Timestamp, Version};

use super::errors::{self, Site};
use super::ring::Ring;
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::durable::{Dump, EventTag, Journal, Parked, codec};
use crate::trigger::Trigger;

/// What happened to a resource.
#[derive(Debug)]
pub(crate) enum Change<T: Spec> {
    /// It came into being.
    Created(Arc<Resource<T>>),
    /// It was replaced.
    Updated {
        /// What it was.
        old: Arc<Resource<T>>,
        /// What it is.
        new: Arc<Resource<T>>,
    },
    /// It is gone; this is what it last was.
    Destroyed(Arc<Resource<T>>),
}

impl<T: Spec> Clone for Change<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Created(new) => Self::Created(Arc::clone(new)),
            Self::Updated { old, new } => Self::Updated { old: Arc::clone(old), new: Arc::clone(new) },
            Self::Destroyed(old) => Self::Destroyed(Arc::clone(old)),
        }
    }
}

impl<T: Spec> Change<T> {
    /// The resource as it is now, or last was.
    pub(crate) fn resource(&self) -> &Arc<Resource<T>> {
        match self {
            Self::Created(r) | Self::Updated { new: r, .. } | Self::Destroyed(r) => r,
        }
    }
}

/// A change with its time.
#[derive(Debug)]
pub(crate) struct Logged<T: Spec> {
    pub(crate) at: Timestamp,
    pub(crate) change: Change<T>,
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
enum Touch {
    All,
    FinalizersOnly,
}

#[derive(Debug)]
pub(crate) struct Items<T: Spec> {
    pub(crate) map: HashMap<Name, Arc<Resource<T>>>,
    pub(crate) ring: Ring<Logged<T>>,
    listeners: Option<Arc<[Listener]>>,
}

type Snapshot<T> = Arc<[Arc<Resource<T>>]>;

#[derive(Debug)]
pub(crate) struct Rows<T: Spec> {
    pub(crate) namespace: Name,
    pub(crate) type_: Name,
    pub(crate) shared: Arc<Shared>,
    items: RwLock<Items<T>>,
    /// The sorted list as of an event number, so that listing an unchanged table costs one clone.
    sorted: Mutex<Option<(u64, Snapshot<T>)>>,
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

/// A resource that a controller wants, and whose it is to be.
#[derive(Debug)]
pub(crate) struct WantedRow<'a, T> {
    pub(crate) id: &'a Name,
    pub(crate) spec: T,
    pub(crate) labels: BTreeMap<Name, Name>,
    pub(crate) annotations: BTreeMap<Name, Name>,
    pub(crate) owner: &'a Name,
}

impl<T: Spec> Rows<T> {
    pub(crate) fn new(namespace: Name, type_: Name, shared: Arc<Shared>) -> Self {
        let ring = Ring::new(shared.history);
        Self::resumed(namespace, type_, shared, HashMap::new(), ring)
    }

    pub(crate) fn resumed(
        namespace: Name,
        type_: Name,
        shared: Arc<Shared>,
        map: HashMap<Name, Arc<Resource<T>>>,
        ring: Ring<Logged<T>>,
    ) -> Self {
        let items = RwLock::new(Items { map, ring, listeners: None });
        Self { namespace, type_, shared, items, sorted: Mutex::new(None), waiters: Waiters::default() }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Items<T>> {
        self.items.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Items<T>> {
        self.items.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn site<'a>(&'a self, id: &'a str) -> Site<'a> {
        Site { namespace: &self.namespace, type_: &self.type_, id }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Resource<T>>> {
        self.read().map.get(id).cloned()
    }

    /// All resources, sorted by id.
    pub(crate) fn list(&self) -> Snapshot<T> {
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
        let list: Snapshot<T> = list.into();
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
    pub(crate) fn create(&self, mut resource: Resource<T>, owner: &Name) -> Result<Arc<Resource<T>>, Error> {
        errors::check_id(self.site(&resource.meta.id))?;
        let now = self.shared.now();
        resource.meta.namespace = self.namespace.clone();
        resource.meta.type_ = self.type_.clone();
        resource.meta.owner = owner.clone();
        resource.meta.version = Version::UNDEFINED.next();
        resource.meta.created = now;
        resource.meta.updated = now;
        let new = Arc::new(resource);
        let mut journal = self.shared.journal();
        let mut guard = self.write();
        let items = &mut *guard;
        let Entry::Vacant(slot) = items.map.entry(new.meta.id.clone()) else {
            return Err(errors::exists(self.site(&new.meta.id)));
        };
        let change = Change::Created(Arc::clone(&new));
        record(journal.as_deref_mut(), &change, items.ring.last() + 1, now)?;
        slot.insert(Arc::clone(&new));
        self.publish(guard, journal, Logged { at: now, change }, Touch::All);
        Ok(new)
    }

    /// Replaces a resource. Its version must be the stored one, `owner` the stored owner, and the stored phase `phase` if one is given.
    pub(crate) fn update(&self, resource: Resource<T>, owner: &str, phase: Option<Phase>) -> Result<Arc<Resource<T>>, Error> {
        self.replace(resource, owner, phase, Touch::All)
    }

    fn replace(&self, mut resource: Resource<T>, owner: &str, phase: Option<Phase>, touch: Touch) -> Result<Arc<Resource<T>>, Error> {
        let now = self.shared.now();
        let mut journal = self.shared.journal();
        let mut guard = self.write();
        let items = &mut *guard;
        let site = Site { namespace: &self.namespace, type_: &self.type_, id: &resource.meta.id };
        let Some(slot) = items.map.get_mut(&resource.meta.id) else { return Err(errors::not_found(site)) };
        check_owner(site, &slot.meta, owner)?;
        if resource.meta.version != slot.meta.version {
            return Err(errors::version(site, resource.meta.version, slot.meta.version));
        }
        check_phase(site, &slot.meta, phase)?;
        if slot.meta.phase == Phase::TearingDown && resource.meta.phase == Phase::Running {
            return Err(errors::phase(site, Phase::Running, Phase::TearingDown));
        }
        stamp(&mut resource.meta, &slot.meta, now);
        let new = Arc::new(resource);
        let change = Change::Updated { old: Arc::clone(slot), new: Arc::clone(&new) };
        record(journal.as_deref_mut(), &change, items.ring.last() + 1, now)?;
        *slot = Arc::clone(&new);
        self.publish(guard, journal, Logged { at: now, change }, touch);
        Ok(new)
    }

    /// Reads, modifies and writes until nobody came between. `change` may run more than once and answers whether there is anything to write.
    pub(crate) fn modify(
        &self,
        id: &str,
        owner: Option<&str>,
        phase: Option<Phase>,
        mut change: impl FnMut(&mut Resource<T>) -> Result<bool, Error>,
    ) -> Result<Arc<Resource<T>>, Error> {
        self.retry(id, owner, phase, Touch::All, &mut change)
    }

    fn retry(
        &self,
        id: &str,
        owner: Option<&str>,
        phase: Option<Phase>,
        touch: Touch,
        change: &mut dyn FnMut(&mut Resource<T>) -> Result<bool, Error>,
    ) -> Result<Arc<Resource<T>>, Error> {
        loop {
            let old = self.get(id).ok_or_else(|| errors::not_found(self.site(id)))?;
            let owner = owner.unwrap_or(&old.meta.owner);
            check_owner(self.site(id), &old.meta, owner)?;
            check_phase(self.site(id), &old.meta, phase)?;
            let mut new = Resource::clone(&old);
            if !change(&mut new)? {
                return Ok(old);
            }
            new.meta.id = old.meta.id.clone();
            new.meta.version = old.meta.version;
            match self.replace(new, owner, phase, touch) {
                Err(e) if matches!(e, Error::VersionConflict { .. }) => {}
                done => return done,
            }
        }
    }

    /// Marks a resource as going away. Answers whether nobody holds a finalizer on it, so that it may be destroyed.
    pub(crate) fn teardown(&self, id: &str, owner: &str) -> Result<bool, Error> {
        let torn = self.retry(id, Some(owner), None, Touch::All, &mut |r| {
            let running = r.meta.phase == Phase::Running;
            r.meta.phase = Phase::TearingDown;
            Ok(running)
        })?;
        Ok(torn.meta.finalizers.is_empty())
    }

    /// Adds a finalizer; nothing happens when it is there. A resource that is being torn down takes none any more.
    pub(crate) fn add_finalizer(&self, id: &str, finalizer: &str) -> Result<Arc<Resource<T>>, Error> {
        self.retry(id, None, None, Touch::FinalizersOnly, &mut |r| {
            if r.meta.finalizers.iter().any(|f| **f == *finalizer) {
                return Ok(false);
            }
            check_phase(self.site(id), &r.meta, Some(Phase::Running))?;
            r.meta.finalizers.push(finalizer.into());
            Ok(true)
        })
    }

    /// Removes a finalizer; nothing happens when it is not there, or the resource is not.
    pub(crate) fn remove_finalizer(&self, id: &str, finalizer: &str) -> Result<(), Error> {
        let removed = self.retry(id, None, None, Touch::FinalizersOnly, &mut |r| {
            let before = r.meta.finalizers.len();
            r.meta.finalizers.retain(|f| **f != *finalizer);
            Ok(r.meta.finalizers.len() < before)
        });
        match removed {
            Err(e) if e.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes a resource on which nobody holds a finalizer.
    pub(crate) fn destroy(&self, id: &str, owner: &str) -> Result<Arc<Resource<T>>, Error> {
        let now = self.shared.now();
        let mut journal = self.shared.journal();
        let mut guard = self.write();
        let items = &mut *guard;
        let Some(old) = items.map.get(id) else { return Err(errors::not_found(self.site(id))) };
        check_owner(self.site(id), &old.meta, owner)?;
        if !old.meta.finalizers.is_empty() {
            return Err(errors::finalizers(self.site(id), &old.meta));
        }
        let old = Arc::clone(old);
        let change = Change::Destroyed(Arc::clone(&old));
        record(journal.as_deref_mut(), &change, items.ring.last() + 1, now)?;
        items.map.remove(id);
        self.publish(guard, journal, Logged { at: now, change }, Touch::All);
        Ok(old)
    }

    /// Brings one resource to what its owner wants, and writes nothing when it is that already.
    pub(crate) fn apply(&self, row: WantedRow<'_, T>) -> Result<Applied, Error> {
        let WantedRow { id, spec, labels, annotations, owner } = row;
        let Some(old) = self.get(id) else {
            let mut resource = Resource::new(id.clone(), spec);
            resource.meta.labels = labels;
            resource.meta.annotations = annotations;
            return self.create(resource, owner).map(|r| Applied::Created(r.meta.version));
        };
        check_owner(self.site(id), &old.meta, owner)?;
        if old.meta.phase == Phase::TearingDown {
            return Ok(Applied::TearingDown);
        }
        if old.spec == spec && old.meta.labels == labels && old.meta.annotations == annotations {
            return Ok(Applied::Unchanged(old.meta.version));
        }
        let written = self.retry(id, Some(owner), Some(Phase::Running), Touch::All, &mut |r| {
            r.spec = spec.clone();
            r.meta.labels.clone_from(&labels);
            r.meta.annotations.clone_from(&annotations);
            Ok(true)
        });
        match written {
            Ok(new) => Ok(Applied::Updated(new.meta.version)),
            // Torn down or destroyed since it was read: it comes again with the change that did it.
            Err(e) if matches!(e, Error::PhaseConflict { .. } | Error::NotFound(_)) => Ok(Applied::TearingDown),
            Err(e) => Err(e),
        }
    }

    /// Describes the table for a new log: what was there before the oldest event that is kept, then the events.
    pub(crate) fn dump(&self, dump: &mut Dump<'_>) {
        let items = self.read();
        let mut before: HashMap<&Name, &Arc<Resource<T>>> = items.map.iter().collect();
        for (_, logged) in items.ring.iter().rev() {
            match &logged.change {
                Change::Created(new) => drop(before.remove(&new.meta.id)),
                Change::Updated { old, .. } | Change::Destroyed(old) => drop(before.insert(&old.meta.id, old)),
            }
        }
        let table = dump.table(&Kind { namespace: self.namespace.clone(), type_: self.type_.clone() }, items.ring.oldest() - 1);
        for resource in before.values() {
            dump.row(table, &resource.meta, &|out| resource.spec.encode_proto(out));
        }
        for (number, logged) in items.ring.iter() {
            let resource = logged.change.resource();
            dump.event(table, tag(&logged.change), number, logged.at, &resource.meta, &|out| resource.spec.encode_proto(out));
        }
    }

    /// A table from what a log held of it. What cannot be decoded (the kind has changed its fields) is left out, with an error in the log.
    pub(crate) fn unpark(parked: Parked, shared: Arc<Shared>) -> Self {
        let Parked { kind, last, rows, events } = parked;
        let decode = |bytes: &[u8]| -> Option<Arc<Resource<T>>> {
            let decoded = decode_resource::<T>(&kind, bytes);
            decoded.inspect_err(|error| tracing::error!(%kind, %error, "a stored resource cannot be read and is left out")).ok()
        };
        let mut map: HashMap<Name, Arc<Resource<T>>> =
            rows.values().filter_map(|bytes| decode(bytes)).map(|r| (r.meta.id.clone(), r)).collect();
        let mut ring = Ring::starting_after(last, shared.history);
        let mut whole = true;
        for event in events {
            let change = match event.tag {
                EventTag::Destroyed => std::str::from_utf8(&event.bytes).ok().and_then(|id| map.remove(id)).map(Change::Destroyed),
                EventTag::Created | EventTag::Updated => {
                    decode(&event.bytes).map(|new| match map.insert(new.meta.id.clone(), Arc::clone(&new)) {
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
        Self::resumed(kind.namespace, kind.type_, shared, map, ring)
    }

    /// Numbers the event, then, outside the locks, wakes whoever waits and frees what fell out of the history.
    fn publish(
        &self,
        mut guard: RwLockWriteGuard<'_, Items<T>>,
        journal: Option<MutexGuard<'_, Journal>>,
        logged: Logged<T>,
        touch: Touch,
    ) {
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
    fn of<T: Spec>(change: &Change<T>, touch: Touch) -> Self {
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

fn record<T: Spec>(journal: Option<&mut Journal>, change: &Change<T>, number: u64, at: Timestamp) -> Result<(), Error> {
    let Some(journal) = journal else { return Ok(()) };
    journal.append(tag(change), change.resource(), number, at)
}

fn tag<T: Spec>(change: &Change<T>) -> EventTag {
    match change {
        Change::Created(_) => EventTag::Created,
        Change::Updated { .. } => EventTag::Updated,
        Change::Destroyed(_) => EventTag::Destroyed,
    }
}

fn decode_resource<T: Spec>(kind: &Kind, bytes: &[u8]) -> Result<Arc<Resource<T>>, Error> {
    let (mut meta, spec) = codec::resource(bytes).map_err(|bad| Error::Invalid(format!("a record is not readable: {bad}")))?;
    meta.namespace = kind.namespace.clone();
    meta.type_ = kind.type_.clone();
    let spec = T::decode_proto(spec).map_err(|source| Error::Decode { key: meta.key(), source })?;
    Ok(Arc::new(Resource { meta, spec }))
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
