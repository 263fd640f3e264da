//! The typed door to the store: what code uses that knows its kinds.

use std::marker::PhantomData;
use std::sync::Arc;

use resource::{AnyResource, Error, Kind, Name, Phase, Resource, Spec};

use super::history::HistoryEntry;
use super::rows::{Rows, Touch};
use super::watch::{Feed, Start, Watch};
use crate::inputs::Many;

/// The resources of one kind in one namespace. Cheap to clone; hot users keep it, since finding it costs more than using it.
///
/// Whoever writes says as whom: a resource belongs to the owner that created it, and nobody else may change it. The empty owner is nobody
/// in particular, and whoever writes without being a controller.
#[derive(Debug)]
pub struct Table<T: Spec> {
    /// Opened for `T`: it holds nothing else.
    rows: Arc<Rows>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Spec> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.rows))
    }
}

impl<T: Spec> Table<T> {
    pub(super) fn of(rows: Arc<Rows>) -> Self {
        Self { rows, kind: PhantomData }
    }

    /// The kind and namespace.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.rows.kind()
    }

    /// One resource.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Resource<T>>> {
        self.rows.get(id).map(typed)
    }

    /// All resources, sorted by id. Costs one clone if nothing has changed since the last call.
    #[must_use]
    pub fn list(&self) -> Many<T> {
        Many::from_sorted(self.rows.list())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
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
        self.rows.create(resource.into(), &owner.into()).map(typed)
    }

    /// Replaces a running resource that nobody in particular owns, if it is still of the version that `resource` has.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::VersionConflict`], [`Error::OwnerConflict`], [`Error::PhaseConflict`]; or the log cannot be written.
    pub fn update(&self, resource: Resource<T>) -> Result<Arc<Resource<T>>, Error> {
        self.update_as("", resource, Some(Phase::Running))
    }

    /// Replaces a resource, if it is still of the version that `resource` has, owned by `owner`, and in `phase` if one is given.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::VersionConflict`], [`Error::OwnerConflict`], [`Error::PhaseConflict`]; or the log cannot be written.
    pub fn update_as(&self, owner: &str, resource: Resource<T>, phase: Option<Phase>) -> Result<Arc<Resource<T>>, Error> {
        self.rows.update(resource.into(), owner, phase).map(typed)
    }

    /// Reads, changes and writes a running resource, again if somebody came between. Nothing is written if `change` changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OwnerConflict`], [`Error::PhaseConflict`]; or the log cannot be written.
    pub fn modify(&self, owner: &str, id: &str, mut change: impl FnMut(&mut Resource<T>)) -> Result<Arc<Resource<T>>, Error> {
        let written = self.rows.modify(id, Some(owner), Some(Phase::Running), Touch::All, &mut |old| {
            let old = look::<T>(old);
            let mut new = old.clone();
            change(&mut new);
            Ok((new != *old).then(|| new.into()))
        });
        written.map(typed)
    }

    /// Creates the resource, or makes its spec this one. Nothing is written if it is.
    ///
    /// # Errors
    /// [`Error::OwnerConflict`], [`Error::PhaseConflict`]; or the log cannot be written.
    pub fn put(&self, owner: impl Into<Name>, id: impl Into<Name>, spec: T) -> Result<Arc<Resource<T>>, Error> {
        self.rows.put(Resource::new(id, spec).into(), &owner.into()).map(typed)
    }

    /// Marks a resource as going away. True when nobody holds a finalizer on it, so that it may be destroyed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OwnerConflict`]; or the log cannot be written.
    pub fn teardown(&self, owner: &str, id: &str) -> Result<bool, Error> {
        self.rows.teardown(id, owner)
    }

    /// Destroys a resource.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OwnerConflict`], [`Error::PendingFinalizers`]; or the log cannot be written.
    pub fn destroy(&self, owner: &str, id: &str) -> Result<(), Error> {
        self.rows.destroy(id, owner)
    }

    /// Adds a finalizer, whoever the owner is: from now on the resource cannot be destroyed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::PhaseConflict`] when it is being torn down already; or the log cannot be written.
    pub fn add_finalizer(&self, id: &str, finalizer: &str) -> Result<(), Error> {
        self.rows.add_finalizer(id, finalizer)
    }

    /// Removes a finalizer. No error when it, or the resource, is not there.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn remove_finalizer(&self, id: &str, finalizer: &str) -> Result<(), Error> {
        self.rows.remove_finalizer(id, finalizer)
    }

    /// Watches all resources.
    ///
    /// # Errors
    /// [`Error::BadBookmark`], when `start` is one from which nothing can be resumed.
    pub fn watch(&self, start: Start) -> Result<Watch<T>, Error> {
        Feed::open(Arc::clone(&self.rows), None, start).map(Watch::of)
    }

    /// Watches one resource.
    ///
    /// # Errors
    /// [`Error::BadBookmark`], when `start` is one from which nothing can be resumed.
    pub fn watch_one(&self, id: impl Into<Name>, start: Start) -> Result<Watch<T>, Error> {
        Feed::open(Arc::clone(&self.rows), Some(id.into()), start).map(Watch::of)
    }

    /// The last changes, oldest first, as far as they are kept (at most 1024).
    #[must_use]
    pub fn history(&self) -> Vec<HistoryEntry> {
        self.rows.history()
    }
}

/// A resource of a table that holds nothing but `T`.
#[inline]
pub(crate) fn typed<T: Spec>(resource: AnyResource) -> Arc<Resource<T>> {
    resource.into_typed().unwrap_or_else(|| mixed_up(T::TYPE))
}

/// [`typed`] for a look.
pub(crate) fn look<T: Spec>(resource: &AnyResource) -> &Resource<T> {
    resource.downcast_ref().unwrap_or_else(|| mixed_up(T::TYPE))
}

#[cold]
fn mixed_up(type_: &str) -> ! {
    panic!("a table of {type_} holds something else");
}
