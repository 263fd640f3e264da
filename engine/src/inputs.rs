//! Inputs as the data read: a struct whose fields are what a controller sees, derived with `#[derive(Inputs)]`.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use resource::{AnyResource, Entry, Kind, Name, Phase, Resource, Spec, Version};

use crate::graph::{InputEdge, Shown, Strength};
use crate::store::{Rows, Snapshot, Store, look, typed};

/// A struct that is a controller's whole view of the store. Derive it: `#[derive(engine::Inputs)]`.
pub trait Inputs: Sized + Send + 'static {
    /// What is read, one declaration per field.
    fn declare() -> Vec<InputDeclaration>;

    /// Reads it.
    fn read(reader: &Reader<'_>) -> Self;
}

impl Inputs for () {
    fn declare() -> Vec<InputDeclaration> {
        Vec::new()
    }

    fn read(_: &Reader<'_>) -> Self {}
}

/// A type that a field of [`Inputs`] may have: [`Many`] or [`One`].
pub trait InputField: Sized {
    /// The declaration of a field with these options.
    fn declare(options: FieldOptions) -> InputDeclaration;

    /// Reads the field at `index` of the declarations.
    fn read(reader: &Reader<'_>, index: usize) -> Self;
}

/// What `#[input(…)]` said about a field.
#[derive(Debug, Clone, Copy)]
pub struct FieldOptions {
    /// The field's name.
    pub field: &'static str,
    /// The namespace, if it is not the kind's default.
    pub namespace: Option<&'static str>,
    /// The one id to read.
    pub id: Option<&'static str>,
    /// Read only, or kept alive.
    pub strength: Strength,
    /// Which items are shown.
    pub shown: Shown,
}

/// One declared input.
#[derive(Debug, Clone)]
pub struct InputDeclaration {
    /// The field's name.
    pub field: &'static str,
    /// Its place in the graph.
    pub edge: InputEdge,
    pub(crate) entry: Entry,
}

impl InputDeclaration {
    fn of(options: FieldOptions, entry: Entry) -> Self {
        let FieldOptions { field, namespace, id, strength, shown } = options;
        let definition = entry.definition();
        let namespace = Name::literal(namespace.unwrap_or(definition.default_namespace));
        let kind = Kind { namespace, type_: Name::literal(definition.type_) };
        Self { field, edge: InputEdge { kind, id, strength, shown }, entry }
    }
}

/// An input found in a store.
#[derive(Debug)]
pub(crate) struct BoundInput {
    pub(crate) edge: InputEdge,
    pub(crate) rows: Arc<Rows>,
}

impl BoundInput {
    pub(crate) fn new(store: &Store, declaration: &InputDeclaration) -> Self {
        let edge = declaration.edge.clone();
        Self { rows: store.rows(declaration.entry, &edge.kind.namespace), edge }
    }
}

/// How many resources of one input a run remembers by id and version; of the others only the count.
pub(crate) const REMEMBERED: usize = 64;

/// What one input looked like to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSeen {
    /// What was read.
    pub kind: Kind,
    /// How many resources there were.
    pub count: usize,
    /// The first of them, by id, with their versions: at most 64.
    pub items: Vec<(Name, Version)>,
}

/// Reads a controller's inputs; handed to [`Inputs::read`].
pub struct Reader<'a> {
    inputs: &'a [BoundInput],
    /// Whose finalizer makes an item of a strong input count.
    controller: &'a Name,
    seen: RefCell<Vec<InputSeen>>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("controller", self.controller).finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(inputs: &'a [BoundInput], controller: &'a Name) -> Self {
        Self { inputs, controller, seen: RefCell::default() }
    }

    /// What was read, in order.
    pub(crate) fn into_seen(self) -> Vec<InputSeen> {
        self.seen.into_inner()
    }

    /// What is shown of the input at `index`.
    fn many(&self, index: usize) -> Snapshot {
        let Some(BoundInput { edge, rows }) = self.inputs.get(index) else { return Snapshot::default() };
        let all = rows.list();
        let counts = |r: &AnyResource| edge.id.is_none_or(|id| r.meta.id == *id) && self.shows(edge, r);
        let shown = if all.iter().all(counts) { all } else { all.iter().filter(|r| counts(r)).cloned().collect() };
        self.note(edge, &shown);
        shown
    }

    /// The resource that the input at `index` names, if it is there and shown.
    fn one(&self, index: usize) -> Option<AnyResource> {
        let BoundInput { edge, rows } = self.inputs.get(index)?;
        let found = edge.id.and_then(|id| rows.get(id)).filter(|r| self.shows(edge, r));
        self.note(edge, found.as_slice());
        found
    }

    fn shows(&self, edge: &InputEdge, r: &Resource) -> bool {
        match edge.shown {
            Shown::All => true,
            Shown::DestroyReady => r.meta.phase == Phase::TearingDown && r.meta.finalizers.is_empty(),
            Shown::Running => r.meta.phase == Phase::Running && (edge.strength == Strength::Weak || r.meta.has_finalizer(self.controller)),
        }
    }

    fn note(&self, edge: &InputEdge, shown: &[AnyResource]) {
        let items = shown.iter().take(REMEMBERED).map(|r| (r.meta.id.clone(), r.meta.version)).collect();
        self.seen.borrow_mut().push(InputSeen { kind: edge.kind.clone(), count: shown.len(), items });
    }
}

/// All resources of one kind in one namespace, sorted by id. Cheap to clone.
pub struct Many<T: Spec> {
    /// Of kind `T`, all of them.
    list: Snapshot,
    kind: PhantomData<fn() -> T>,
}

impl<T: Spec> Many<T> {
    /// A literal: what a test of a controller passes.
    pub fn of<I: Into<Name>>(items: impl IntoIterator<Item = (I, T)>) -> Self {
        items.into_iter().map(|(id, spec)| Arc::new(Resource::new(id, spec))).collect()
    }

    pub(crate) fn from_sorted(list: Snapshot) -> Self {
        Self { list, kind: PhantomData }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The one named `id`.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Resource<T>> {
        find(&self.list, id).map(look)
    }

    /// All, sorted by id.
    pub fn iter(&self) -> Items<'_, T> {
        self.list.iter().map(look)
    }

    /// The specs, sorted by id.
    pub fn specs(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.iter().map(|r| &r.spec)
    }
}

/// Iterates over the resources of a [`Many`].
pub type Items<'a, T> = std::iter::Map<std::slice::Iter<'a, AnyResource>, fn(&'a AnyResource) -> &'a Resource<T>>;

fn find<'a>(sorted: &'a [AnyResource], id: &str) -> Option<&'a AnyResource> {
    sorted.binary_search_by(|r| r.meta.id.as_str().cmp(id)).ok().map(|at| &sorted[at])
}

fn sorted(mut list: Vec<AnyResource>) -> Snapshot {
    list.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
    list.into()
}

impl<T: Spec> FromIterator<Arc<Resource<T>>> for Many<T> {
    fn from_iter<I: IntoIterator<Item = Arc<Resource<T>>>>(items: I) -> Self {
        Self::from_sorted(sorted(items.into_iter().map(AnyResource::from).collect()))
    }
}

impl<'a, T: Spec> IntoIterator for &'a Many<T> {
    type Item = &'a Resource<T>;
    type IntoIter = Items<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Spec> Clone for Many<T> {
    fn clone(&self) -> Self {
        Self::from_sorted(Arc::clone(&self.list))
    }
}

impl<T: Spec> Default for Many<T> {
    fn default() -> Self {
        Self::from_sorted(Snapshot::default())
    }
}

impl<T: Spec> fmt::Debug for Many<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.list.iter().map(|r| (r.meta.id.as_str(), &r.spec))).finish()
    }
}

impl<T: Spec> InputField for Many<T> {
    fn declare(options: FieldOptions) -> InputDeclaration {
        InputDeclaration::of(options, Entry::of::<T>())
    }

    fn read(reader: &Reader<'_>, index: usize) -> Self {
        Self::from_sorted(reader.many(index))
    }
}

/// One resource, or none: found by the id that `#[input(id = "…")]` gives.
pub type One<T> = Option<Arc<Resource<T>>>;

/// A literal for a [`One`]: what a test of a controller passes.
pub fn one<T: Spec>(id: impl Into<Name>, spec: T) -> One<T> {
    Some(Arc::new(Resource::new(id, spec)))
}

/// What one does with a [`One`].
pub trait OneExt<T> {
    /// The spec, if the resource is there.
    fn spec(&self) -> Option<&T>;
}

impl<T: Spec> OneExt<T> for One<T> {
    fn spec(&self) -> Option<&T> {
        self.as_deref().map(|r| &r.spec)
    }
}

impl<T: Spec> InputField for One<T> {
    fn declare(options: FieldOptions) -> InputDeclaration {
        InputDeclaration::of(options, Entry::of::<T>())
    }

    fn read(reader: &Reader<'_>, index: usize) -> Self {
        reader.one(index).map(typed)
    }
}
