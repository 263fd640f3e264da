//! What a controller wants its outputs to be: a set of resources, complete unless it says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use resource::{AnyResource, Kind, Name, Resource, Spec};

/// The outputs a controller wants. Whatever it owns and does not mention here is torn down and destroyed.
#[derive(Debug, Default)]
pub struct Wanted {
    pub(crate) items: Vec<AnyResource>,
    pub(crate) kept: BTreeSet<Kind>,
    pub(crate) mode: Mode,
    pub(crate) waiting: Option<String>,
}

/// How complete a [`Wanted`] is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything is mentioned; the rest goes.
    #[default]
    Complete,
    /// Nothing that is not mentioned is touched, and that is an answer.
    Unchanged,
    /// Nothing that is not mentioned is touched, since the answer is not known yet.
    Unknown,
}

/// The labels and annotations of a wanted resource.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Marks {
    /// Names by which resources are selected.
    pub labels: BTreeMap<Name, Name>,
    /// Names by which nothing is selected.
    pub annotations: BTreeMap<Name, Name>,
}

impl Marks {
    /// With a label set.
    #[must_use]
    pub fn label(mut self, key: impl Into<Name>, value: impl Into<Name>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// With an annotation set.
    #[must_use]
    pub fn annotation(mut self, key: impl Into<Name>, value: impl Into<Name>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }
}

impl Wanted {
    /// Wants nothing yet; add with [`with`](Wanted::with). Returned as it is, it means: none of my outputs should exist.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps every output as it is. A valid answer: what the controller has said before still holds.
    #[must_use]
    pub fn unchanged() -> Self {
        Self { mode: Mode::Unchanged, ..Self::default() }
    }

    /// Keeps every output as it is, because what they should be is *not yet known*; `waiting` says what is missing, for those who ask
    /// why nothing happens. Until a controller has given another answer, nobody downstream of it removes anything.
    #[must_use]
    pub fn unknown(waiting: impl Into<String>) -> Self {
        Self { mode: Mode::Unknown, waiting: Some(waiting.into()), ..Self::default() }
    }

    /// Says what the controller is waiting for, without other effect.
    #[must_use]
    pub fn waiting_for(mut self, what: impl Into<String>) -> Self {
        self.waiting = Some(what.into());
        self
    }

    /// Wants a `T` in its default namespace.
    #[must_use]
    pub fn with<T: Spec>(self, id: impl Into<Name>, spec: T) -> Self {
        self.with_meta_in(T::NAMESPACE, id, spec, Marks::default())
    }

    /// Wants a `T` in `namespace`.
    #[must_use]
    pub fn with_in<T: Spec>(self, namespace: &'static str, id: impl Into<Name>, spec: T) -> Self {
        self.with_meta_in(namespace, id, spec, Marks::default())
    }

    /// Wants a `T` in its default namespace, with labels and annotations.
    #[must_use]
    pub fn with_meta<T: Spec>(self, id: impl Into<Name>, spec: T, marks: Marks) -> Self {
        self.with_meta_in(T::NAMESPACE, id, spec, marks)
    }

    /// Wants a `T` in `namespace`, with labels and annotations.
    #[must_use]
    pub fn with_meta_in<T: Spec>(mut self, namespace: &'static str, id: impl Into<Name>, spec: T, marks: Marks) -> Self {
        self.add_in(namespace, id, spec, marks);
        self
    }

    /// Wants a `T` in its default namespace if there is one to want.
    #[must_use]
    pub fn maybe<T: Spec>(self, id: impl Into<Name>, spec: Option<T>) -> Self {
        match spec {
            Some(spec) => self.with(id, spec),
            None => self,
        }
    }

    /// Wants each `(id, spec)` in the default namespace.
    #[must_use]
    pub fn all<T: Spec, I: Into<Name>>(mut self, items: impl IntoIterator<Item = (I, T)>) -> Self {
        items.into_iter().for_each(|(id, spec)| self.add(id, spec));
        self
    }

    /// Keeps the outputs of kind `T` in its default namespace as they are, apart from those mentioned.
    #[must_use]
    pub fn keep<T: Spec>(self) -> Self {
        self.keep_in::<T>(T::NAMESPACE)
    }

    /// Keeps the outputs of kind `T` in `namespace` as they are, apart from those mentioned.
    #[must_use]
    pub fn keep_in<T: Spec>(mut self, namespace: &'static str) -> Self {
        self.kept.insert(kind::<T>(namespace));
        self
    }

    /// Like [`with`](Wanted::with), in place.
    pub fn add<T: Spec>(&mut self, id: impl Into<Name>, spec: T) {
        self.add_in(T::NAMESPACE, id, spec, Marks::default());
    }

    /// Like [`with_meta_in`](Wanted::with_meta_in), in place.
    pub fn add_in<T: Spec>(&mut self, namespace: &'static str, id: impl Into<Name>, spec: T, marks: Marks) {
        let mut resource = Resource::new(id, spec).in_namespace(Name::literal(namespace));
        resource.meta.labels = marks.labels;
        resource.meta.annotations = marks.annotations;
        self.items.push(resource.into());
    }

    /// The wanted `T` named `id` in its default namespace: for tests of a controller, which need no store.
    #[must_use]
    pub fn get<T: Spec>(&self, id: &str) -> Option<&T> {
        self.get_in(T::NAMESPACE, id)
    }

    /// The wanted `T` named `id` in `namespace`.
    #[must_use]
    pub fn get_in<T: Spec>(&self, namespace: &str, id: &str) -> Option<&T> {
        self.items.iter().find(|r| r.meta.id == *id && r.meta.namespace == *namespace && r.is::<T>())?.spec_as()
    }

    /// All wanted `T`s, in any namespace, in the order they were added.
    pub fn specs<T: Spec>(&self) -> impl Iterator<Item = (&str, &T)> {
        self.items.iter().filter_map(|r| Some((r.meta.id.as_str(), r.spec_as()?)))
    }

    /// How many resources are wanted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no resource is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What the controller said it waits for.
    #[must_use]
    pub fn waiting(&self) -> Option<&str> {
        self.waiting.as_deref()
    }

    /// Whether what is not mentioned stays: the answer was [`unchanged`](Wanted::unchanged) or [`unknown`](Wanted::unknown).
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        self.mode != Mode::Complete
    }
}

fn kind<T: Spec>(namespace: &'static str) -> Kind {
    Kind { namespace: Name::literal(namespace), type_: Name::literal(T::TYPE) }
}
