//! A table whose type is not known to the one who holds it: what the runtime and the dynamic [`State`](resource::State) work with.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use resource::{AnyResource, Error, Kind, Name, Phase, Resource, Spec};

use super::Store;
use super::errors::{self, Site};
use super::history::HistoryEntry;
use super::rows::{Applied, Listener, Rows, WantedRow};
use super::watch::{AnyWatch, Start, Watch};
use crate::durable::Dump;
use crate::trigger::Trigger;
use crate::wanted::WantedItem;

/// One resource that a controller owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) id: Name,
    pub(crate) phase: Phase,
    /// Who still holds it.
    pub(crate) finalizers: Vec<Name>,
}

/// [`Rows`] of some kind.
pub(crate) trait AnyRows: Debug + Send + Sync {
    fn kind(&self) -> Kind;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn len(&self) -> usize;

    fn listen(&self, listener: Listener);
    fn unlisten(&self, trigger: &Arc<Trigger>);

    fn get_any(&self, id: &str) -> Option<AnyResource>;
    fn list_any(&self) -> Vec<AnyResource>;
    fn create_any(&self, resource: &AnyResource, owner: &Name) -> Result<AnyResource, Error>;
    fn update_any(&self, resource: &AnyResource, owner: &str, phase: Option<Phase>) -> Result<AnyResource, Error>;
    fn teardown_any(&self, id: &str, owner: &str) -> Result<bool, Error>;
    fn destroy_any(&self, id: &str, owner: &str) -> Result<(), Error>;
    fn watch_any(self: Arc<Self>, id: Option<Name>, start: Start) -> Result<Box<dyn AnyWatch>, Error>;
    fn history_any(&self) -> Vec<HistoryEntry>;

    /// The table of the same type in another namespace.
    fn open_sibling(&self, store: &Store, namespace: &Name) -> Arc<dyn AnyRows>;
    /// Describes the table for a new log.
    fn dump(&self, dump: &mut Dump<'_>);

    /// Brings one resource to what `owner` wants.
    fn apply_any(&self, item: WantedItem, owner: &Name) -> Result<Applied, Error>;
    /// What `owner` owns.
    fn owned(&self, owner: &str) -> Vec<Owned>;
    /// Puts `finalizer` on each running resource (or only on `id`); returns the ids being torn down on which it is held.
    fn hold(&self, id: Option<&str>, finalizer: &Name) -> Result<Vec<Name>, Error>;
    fn release(&self, id: &str, finalizer: &str) -> Result<(), Error>;
}

impl<T: Spec> AnyRows for Rows<T> {
    fn kind(&self) -> Kind {
        Kind { namespace: self.namespace.clone(), type_: self.type_.clone() }
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn len(&self) -> usize {
        self.read().map.len()
    }

    fn listen(&self, listener: Listener) {
        Rows::listen(self, listener);
    }

    fn unlisten(&self, trigger: &Arc<Trigger>) {
        Rows::unlisten(self, trigger);
    }

    fn get_any(&self, id: &str) -> Option<AnyResource> {
        self.get(id).map(AnyResource::from)
    }

    fn list_any(&self) -> Vec<AnyResource> {
        self.list().iter().map(|r| AnyResource::from(Arc::clone(r))).collect()
    }

    fn create_any(&self, resource: &AnyResource, owner: &Name) -> Result<AnyResource, Error> {
        self.create(self.typed(resource)?, owner).map(AnyResource::from)
    }

    fn update_any(&self, resource: &AnyResource, owner: &str, phase: Option<Phase>) -> Result<AnyResource, Error> {
        self.update(self.typed(resource)?, owner, phase).map(AnyResource::from)
    }

    fn teardown_any(&self, id: &str, owner: &str) -> Result<bool, Error> {
        self.teardown(id, owner)
    }

    fn destroy_any(&self, id: &str, owner: &str) -> Result<(), Error> {
        self.destroy(id, owner).map(drop)
    }

    fn watch_any(self: Arc<Self>, id: Option<Name>, start: Start) -> Result<Box<dyn AnyWatch>, Error> {
        Ok(Box::new(Watch::open(self, id, start)?))
    }

    fn history_any(&self) -> Vec<HistoryEntry> {
        self.read().ring.iter().map(|(number, logged)| HistoryEntry::of(number, logged)).collect()
    }

    fn open_sibling(&self, store: &Store, namespace: &Name) -> Arc<dyn AnyRows> {
        store.any_rows::<T>(namespace)
    }

    fn dump(&self, dump: &mut Dump<'_>) {
        Rows::dump(self, dump);
    }

    fn apply_any(&self, item: WantedItem, owner: &Name) -> Result<Applied, Error> {
        let WantedItem { id, spec, labels, annotations, .. } = item;
        let spec = spec
            .downcast::<T>()
            .map_err(|_| errors::foreign(Site { namespace: &self.namespace, type_: &self.type_, id: &id }, "another kind"))?;
        self.apply(WantedRow { id: &id, spec: *spec, labels, annotations, owner })
    }

    fn owned(&self, owner: &str) -> Vec<Owned> {
        let items = self.read();
        let of = items.map.values().filter(|r| r.meta.owner == *owner);
        let mut owned: Vec<_> =
            of.map(|r| Owned { id: r.meta.id.clone(), phase: r.meta.phase, finalizers: r.meta.finalizers.clone() }).collect();
        drop(items);
        owned.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        owned
    }

    fn hold(&self, id: Option<&str>, finalizer: &Name) -> Result<Vec<Name>, Error> {
        let mut going = Vec::new();
        for resource in self.list().iter().filter(|r| id.is_none_or(|id| r.meta.id == *id)) {
            match (resource.meta.phase, resource.meta.has_finalizer(finalizer)) {
                (Phase::Running, false) => match self.add_finalizer(&resource.meta.id, finalizer) {
                    // Torn down or destroyed meanwhile: the controller will not be shown it, and comes again.
                    Err(e) if matches!(e, Error::PhaseConflict { .. } | Error::NotFound(_)) => {}
                    other => drop(other?),
                },
                (Phase::TearingDown, true) => going.push(resource.meta.id.clone()),
                _ => {}
            }
        }
        Ok(going)
    }

    fn release(&self, id: &str, finalizer: &str) -> Result<(), Error> {
        self.remove_finalizer(id, finalizer)
    }
}

impl<T: Spec> Rows<T> {
    /// The typed form of a resource that arrived untyped.
    fn typed(&self, resource: &AnyResource) -> Result<Resource<T>, Error> {
        let site = Site { namespace: &self.namespace, type_: &self.type_, id: &resource.meta.id };
        let spec = resource.spec_as::<T>().ok_or_else(|| errors::foreign(site, resource.spec.type_name()))?;
        Ok(Resource { meta: resource.meta.clone(), spec: spec.clone() })
    }
}
