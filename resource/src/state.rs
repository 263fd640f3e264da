//! [`State`]: what holds resources. Object safe, over erased resources; [`StateExt`] adds the typed calls.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::Stream;

use crate::{AnyResource, Error, Key, Kind, ListOptions, Name, Phase, Resource, Spec};

/// A place in a state's sequence of events. Opaque: only the state that gave it out can read it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Bookmark(Arc<[u8]>);

impl Bookmark {
    /// A bookmark of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bookmark(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// The resource came to be, or was there when the watch began.
    Created(AnyResource),
    /// The resource changed.
    Updated {
        /// As it was; `None` when the other side did not say.
        old: Option<AnyResource>,
        /// As it is.
        new: AnyResource,
    },
    /// The resource is gone. Watching one that is absent begins with this, carrying a tombstone (metadata only).
    Destroyed(AnyResource),
    /// All that was there when the watch began has been told.
    Bootstrapped,
    /// The watch ends, for this reason.
    Errored(Error),
    /// Nothing; carries a bookmark.
    Noop,
}

/// What happened, and where in the sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// A watch that starts from here goes on with the next event.
    pub bookmark: Option<Bookmark>,
}

impl Event {
    /// The resource that the event is about.
    #[must_use]
    pub const fn resource(&self) -> Option<&AnyResource> {
        match &self.kind {
            EventKind::Created(resource) | EventKind::Destroyed(resource) | EventKind::Updated { new: resource, .. } => Some(resource),
            EventKind::Bootstrapped | EventKind::Errored(_) | EventKind::Noop => None,
        }
    }
}

impl From<EventKind> for Event {
    fn from(kind: EventKind) -> Self {
        Self { kind, bookmark: None }
    }
}

/// Events in batches. Without [`WatchKindOptions::aggregated`] each batch is one event. Ends after an [`EventKind::Errored`], or when the
/// state closes.
pub type WatchStream = Pin<Box<dyn Stream<Item = Vec<Event>> + Send>>;

/// How to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Who will own the resource.
    pub owner: Name,
}

/// How to update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateOptions {
    /// Who asks; must be the owner.
    pub owner: Name,
    /// The phase that the resource must be in; `None` for any.
    pub expected_phase: Option<Phase>,
}

impl Default for UpdateOptions {
    /// Nobody's resource, in phase running.
    fn default() -> Self {
        Self { owner: Name::EMPTY, expected_phase: Some(Phase::Running) }
    }
}

/// How to tear down or destroy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestroyOptions {
    /// Who asks; must be the owner.
    pub owner: Name,
}

/// How to watch one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// So many past events first.
    pub tail: u32,
    /// Go on after this event; not together with `tail`.
    pub from: Option<Bookmark>,
}

/// How to watch a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchKindOptions {
    /// Begin with a created event for each resource that is there, then [`EventKind::Bootstrapped`].
    pub bootstrap: bool,
    /// Begin with a [`EventKind::Noop`] whose bookmark is the present.
    pub bootstrap_bookmark: bool,
    /// So many past events first.
    pub tail: u32,
    /// Go on after this event; not together with `bootstrap` or `tail`.
    pub from: Option<Bookmark>,
    /// Only these. A resource that starts or stops to match is told as created or destroyed.
    pub query: ListOptions,
    /// Put events that are there together into one batch.
    pub aggregated: bool,
}

impl WatchKindOptions {
    /// What is there now, then what changes.
    #[must_use]
    pub fn bootstrapped() -> Self {
        Self { bootstrap: true, ..Self::default() }
    }
}

/// What holds resources: the store of a node, or a client of one.
#[async_trait]
pub trait State: Send + Sync {
    /// One resource.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not there.
    async fn get(&self, key: &Key) -> Result<AnyResource, Error>;

    /// Resources of a kind, sorted by id.
    ///
    /// # Errors
    /// When the kind or query is refused.
    async fn list(&self, kind: &Kind, options: &ListOptions) -> Result<Vec<AnyResource>, Error>;

    /// Stores a new resource and gives it back as stored: version 1, times set, owned.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`].
    async fn create(&self, resource: AnyResource, options: &CreateOptions) -> Result<AnyResource, Error>;

    /// Replaces a resource. Its metadata holds the version that the caller read; the state gives it the next one.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::VersionConflict`], [`Error::OwnerConflict`], [`Error::PhaseConflict`].
    async fn update(&self, resource: AnyResource, options: &UpdateOptions) -> Result<AnyResource, Error>;

    /// Begins the end of a resource: phase [`Phase::TearingDown`]. True when nobody holds a finalizer, so that it may be destroyed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OwnerConflict`].
    async fn teardown(&self, key: &Key, options: &DestroyOptions) -> Result<bool, Error>;

    /// Removes a resource.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OwnerConflict`], [`Error::PendingFinalizers`].
    async fn destroy(&self, key: &Key, options: &DestroyOptions) -> Result<(), Error>;

    /// Events of one resource, beginning with what it is now.
    ///
    /// # Errors
    /// [`Error::BadBookmark`], [`Error::FellBehind`].
    async fn watch(&self, key: &Key, options: &WatchOptions) -> Result<WatchStream, Error>;

    /// Events of a kind. The watch is established when this returns: no later change is missed.
    ///
    /// # Errors
    /// [`Error::BadBookmark`], [`Error::FellBehind`], [`Error::Unsupported`].
    async fn watch_kind(&self, kind: &Kind, options: &WatchKindOptions) -> Result<WatchStream, Error>;
}

/// How often a change is tried again when others change the same resource.
const ATTEMPTS: usize = 16;

/// Typed calls on any [`State`], in each kind's default namespace.
#[async_trait]
pub trait StateExt: State {
    /// The `T` with this id; `None` when it is not there.
    ///
    /// # Errors
    /// When the state fails, or holds something else under that name.
    async fn get_as<T: Spec>(&self, id: &str) -> Result<Option<Arc<Resource<T>>>, Error> {
        match self.get(&Key::of::<T>(id)).await {
            Ok(resource) => typed(&resource).map(Some),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All `T`.
    ///
    /// # Errors
    /// When the state fails.
    async fn list_as<T: Spec>(&self) -> Result<Vec<Arc<Resource<T>>>, Error> {
        let resources = self.list(&Kind::of::<T>(), &ListOptions::all()).await?;
        resources.iter().map(typed).collect()
    }

    /// Stores a new `T` for `owner`.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`].
    async fn create_as<T: Spec>(&self, resource: Resource<T>, owner: &str) -> Result<Arc<Resource<T>>, Error> {
        typed(&self.create(resource.into(), &CreateOptions { owner: owner.into() }).await?)
    }

    /// Changes the `T` with this id, or creates it. Tries again when somebody else changed it meanwhile; writes nothing when `change`
    /// leaves it as it was.
    ///
    /// # Errors
    /// When it belongs to somebody else, is being torn down, or keeps changing.
    async fn modify<T, F>(&self, id: &str, owner: &str, change: F) -> Result<Arc<Resource<T>>, Error>
    where
        T: Spec,
        F: Fn(&mut T) + Send + Sync,
    {
        let mut outcome = Err(Error::NotFound(Key::of::<T>(id)));
        for _ in 0..ATTEMPTS {
            outcome = match self.get_as::<T>(id).await? {
                None => {
                    let mut spec = T::default();
                    change(&mut spec);
                    self.create_as(Resource::new(id, spec), owner).await
                }
                Some(current) => {
                    let mut next = (*current).clone();
                    change(&mut next.spec);
                    if next.spec == current.spec {
                        return Ok(current);
                    }
                    let options = UpdateOptions { owner: owner.into(), ..UpdateOptions::default() };
                    self.update(next.into(), &options).await.and_then(|resource| typed(&resource))
                }
            };
            if !matches!(outcome, Err(Error::VersionConflict { .. } | Error::AlreadyExists(_) | Error::NotFound(_))) {
                return outcome;
            }
        }
        outcome
    }

    /// Holds a resource back from destruction. Anybody may, whoever owns it.
    ///
    /// # Errors
    /// [`Error::PhaseConflict`] when it is being torn down.
    async fn add_finalizer(&self, key: &Key, finalizer: &str) -> Result<(), Error> {
        change_finalizers(self, key, Some(Phase::Running), &|meta| meta.add_finalizer(finalizer)).await
    }

    /// Lets go of a resource. Nothing happens when it was not held, or is gone.
    ///
    /// # Errors
    /// When the state fails.
    async fn remove_finalizer(&self, key: &Key, finalizer: &str) -> Result<(), Error> {
        match change_finalizers(self, key, None, &|meta| meta.remove_finalizer(finalizer)).await {
            Err(Error::NotFound(_)) => Ok(()),
            outcome => outcome,
        }
    }
}

impl<S: State + ?Sized> StateExt for S {}

async fn change_finalizers<S: State + ?Sized>(
    state: &S,
    key: &Key,
    expected_phase: Option<Phase>,
    change: &(dyn Fn(&mut crate::Metadata) -> bool + Send + Sync),
) -> Result<(), Error> {
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let current = state.get(key).await?;
        let mut meta = current.meta.clone();
        if !change(&mut meta) {
            return Ok(());
        }
        let options = UpdateOptions { owner: meta.owner.clone(), expected_phase };
        outcome = state.update(current.with_meta(meta), &options).await.map(|_| ());
        if !matches!(outcome, Err(Error::VersionConflict { .. })) {
            return outcome;
        }
    }
    outcome
}

fn typed<T: Spec>(resource: &AnyResource) -> Result<Arc<Resource<T>>, Error> {
    resource
        .downcast()
        .ok_or_else(|| Error::Invalid(format!("resource {} holds a {}, expected a {}", resource.key(), resource.spec.type_name(), T::TYPE)))
}
