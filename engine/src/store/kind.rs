//! The typed door to the store: what code uses that knows its kinds.

use std::sync::Arc;

use resource::{Error, Kind, Name, Phase, Resource, Spec};

use super::any::AnyRows;
use super::history::HistoryEntry;
use super::rows::Rows;
use super::watch::{Start, Watch};
use crate::inputs::Many;

/// The resources of one kind in one namespace. Cheap to clone; hot users keep it, since finding it costs more than using it.
///
/// Whoever writes says as whom: a resource belongs to the owner that created it, and nobody else may change it. The empty owner is nobody
/// in particular, and whoever writes without being a controller.
#[derive(Debug)]
pub struct Table<T: Spec>(pub(crate) Arc<Rows<T>>);

impl<T: Spec> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Spec> Table<T> {
    /// The kind and namespace.
    #[must_use]
    pub fn kind(&self) -> Kind {
        AnyRows::kind(&*self.0)
    }

    /// One resource.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Resource<T>>> {
        self.0.get(id)
    }

    /// All resources, sorted by id. Costs one clone if nothing has changed since the last call.
    #[must_use]
    pub fn list(&self) -> Many<T> {
        Many::from_sorted(self.0.list())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.read().map.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Creates a resource that nobody in particular owns.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`]; or the log cannot be written.
    pub fn create(&self, id: impl Into<Name>, spec: T) -> Result<Arc<Resource<T>>, Error> {
        self.create_as("", Resource::new(id, spec))
    }

    /// Creates a resource, with labels, annotations and finalizers as given, owned by `owner`.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`]; or the log cannot be written.
    pub fn create_as(&self, owner: impl Into<Name>, resource: Resource<T>) -> Result<Arc<Resource<T>>, Error> {
        self.0.create(resource, &owner.into())
    }

    /// Replaces a running resource that nobody in particular owns, if it is still of the version that `resource` has.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::VersionConflict`], [`Error::OwnerConflict`], [`Error::PhaseConflict`]; or the log cannot be written.
    pub fn update(&self, resource: Resource<T>) -> Result<Arc<Resource<T>>, Error> {
        self.0.update(resource, "", Some(Phase::Running))
    }

    /// Replaces a resource, if it is still of the version that `resource` has, owned by `owner`, and in `phase` if one is given.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::VersionConflict`], [`Error::OwnerConflict`], [`Error::PhaseConflict`]; or the log cannot be written.
    pub fn update_as(&self, owner: &str, resource: Resource<T>, phase: Option<Phase>) -> Result<Arc<Resource<T>>, Error> {
        self.0.update(resource, owner, phase)
    }

    /// Reads, changes and writes a running resource, again if somebody came between. Nothing is written if `change` changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OwnerConflict`], [`Error::PhaseConflict`]; or the log cannot be written.
    pub fn modify(&self, owner: &str, id: &str, mut change: impl FnMut(&mut Resource<T>)) -> Result<Arc<Resource<T>>, Error> {
        self.0.modify(id, Some(owner), Some(Phase::Running), |r| {
            let before = (r.spec.clone(), r.meta.clone());
            change(r);
            Ok(r.spec != before.0 || r.meta != before.1)
        })
    }

    /// Creates the resource, or makes its spec this one. Nothing is written if it is.
    ///
    /// # Errors
    /// [`Error::OwnerConflict`], [`Error::PhaseConflict`]; or the log cannot be written.
    pub fn put(&self, owner: &str, id: impl Into<Name>, spec: T) -> Result<Arc<Resource<T>>, Error> {
        let id = id.into();
        loop {
            let modified = self.modify(owner, &id, |r| r.spec.clone_from(&spec));
            let created = match modified {
                Err(Error::NotFound(_)) => self.create_as(owner, Resource::new(id.clone(), spec.clone())),
                done => return done,
            };
            match created {
                Err(Error::AlreadyExists(_)) => {}
                done => return done,
            }
        }
    }

    /// Marks a resource as going away. True when nobody holds a finalizer on it, so that it may be destroyed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OwnerConflict`]; or the log cannot be written.
    pub fn teardown(&self, owner: &str, id: &str) -> Result<bool, Error> {
        self.0.teardown(id, owner)
    }

    /// Destroys a resource.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OwnerConflict`], [`Error::PendingFinalizers`]; or the log cannot be written.
    pub fn destroy(&self, owner: &str, id: &str) -> Result<(), Error> {
        self.0.destroy(id, owner).map(drop)
    }

    /// Adds a finalizer, whoever the owner is: from now on the resource cannot be destroyed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::PhaseConflict`] when it is being torn down already; or the log cannot be written.
    pub fn add_finalizer(&self, id: &str, finalizer: &str) -> Result<(), Error> {
        self.0.add_finalizer(id, finalizer).map(drop)
    }

    /// Removes a finalizer. No error when it, or the resource, is not there.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn remove_finalizer(&self, id: &str, finalizer: &str) -> Result<(), Error> {
        self.0.remove_finalizer(id, finalizer)
    }

    /// Watches all resources.
    ///
    /// # Errors
    /// [`Error::BadBookmark`], when `start` is one from which nothing can be resumed.
    pub fn watch(&self, start: Start) -> Result<Watch<T>, Error> {
        Watch::open(Arc::clone(&self.0), None, start)
    }

    /// Watches one resource.
    ///
    /// # Errors
    /// [`Error::BadBookmark`], when `start` is one from which nothing can be resumed.
    pub fn watch_one(&self, id: impl Into<Name>, start: Start) -> Result<Watch<T>, Error> {
        Watch::open(Arc::clone(&self.0), Some(id.into()), start)
    }

    /// The last changes, oldest first, as far as they are kept (at most 1024).
    #[must_use]
    pub fn history(&self) -> Vec<HistoryEntry> {
        self.0.history_any()
    }
}
