//! What every resource has whatever its kind: where it is, which version, whose, in which phase.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::{Name, Timestamp};

/// A resource's version. The first is 1; each update adds one. 0 means that the resource is not stored yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The version of a resource that no state holds.
    pub const UNDEFINED: Self = Self(0);

    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Whether there is a version at all.
    #[must_use]
    pub const fn is_defined(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_defined() { f.pad(&self.0.to_string()) } else { f.pad("undefined") }
    }
}

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a resource version: expected a decimal number or \"undefined\"")]
pub struct BadVersion(String);

impl FromStr for Version {
    type Err = BadVersion;
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        match text {
            "" | "undefined" => Ok(Self::UNDEFINED),
            _ => text.parse().map(Self).map_err(|_| BadVersion(text.to_owned())),
        }
    }
}

/// Whether a resource lives, or waits for its finalizers to go before it is destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It is there to be acted upon.
    #[default]
    Running,
    /// Whoever holds a finalizer on it should undo its work and drop that finalizer.
    TearingDown,
}

impl Phase {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::TearingDown => "tearingDown",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a resource phase: expected \"running\" or \"tearingDown\"")]
pub struct BadPhase(String);

impl FromStr for Phase {
    type Err = BadPhase;
    fn from_str(text: &str) -> Result<Self, BadPhase> {
        match text {
            "running" => Ok(Self::Running),
            "tearingDown" => Ok(Self::TearingDown),
            _ => Err(BadPhase(text.to_owned())),
        }
    }
}

/// A kind within a namespace: what can be listed and watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The namespace.
    pub namespace: Name,
    /// The full type name, `HostnameSpecs.net.talos.dev`.
    pub type_: Name,
}

impl Kind {
    /// A kind by its two names.
    pub fn new(namespace: impl Into<Name>, type_: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), type_: type_.into() }
    }

    /// The kind of `T` in its default namespace.
    #[must_use]
    pub fn of<T: crate::Spec>() -> Self {
        Self { namespace: Name::literal(T::NAMESPACE), type_: Name::literal(T::TYPE) }
    }

    /// One resource of this kind.
    pub fn id(&self, id: impl Into<Name>) -> Key {
        Key { namespace: self.namespace.clone(), type_: self.type_.clone(), id: id.into() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.type_)
    }
}

/// The address of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Name,
    /// The full type name.
    pub type_: Name,
    /// The id, unique within namespace and type.
    pub id: Name,
}

impl Key {
    /// A key by its three names.
    pub fn new(namespace: impl Into<Name>, type_: impl Into<Name>, id: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), type_: type_.into(), id: id.into() }
    }

    /// The key of the `T` named `id` in `T`'s default namespace.
    pub fn of<T: crate::Spec>(id: impl Into<Name>) -> Self {
        Kind::of::<T>().id(id)
    }

    /// Its kind and namespace.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind { namespace: self.namespace.clone(), type_: self.type_.clone() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.type_, self.id)
    }
}

/// What a resource has besides its spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The namespace.
    pub namespace: Name,
    /// The full type name.
    pub type_: Name,
    /// The id, unique within namespace and type.
    pub id: Name,
    /// The version; undefined until a state stores the resource.
    pub version: Version,
    /// Who may change it; empty when anybody may.
    pub owner: Name,
    /// Whether it lives or is on its way out.
    pub phase: Phase,
    /// When it was created.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// Names by which resources are selected.
    pub labels: BTreeMap<Name, Name>,
    /// Names by which nothing is selected.
    pub annotations: BTreeMap<Name, Name>,
    /// Who still has to undo work before the resource may be destroyed. A set, in order of addition.
    pub finalizers: Vec<Name>,
}

impl Metadata {
    /// Metadata of a resource that is not stored yet.
    pub fn new(namespace: impl Into<Name>, type_: impl Into<Name>, id: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), type_: type_.into(), id: id.into(), ..Self::default() }
    }

    /// Metadata of a `T` in its default namespace, not stored yet.
    pub fn of<T: crate::Spec>(id: impl Into<Name>) -> Self {
        Self::new(Name::literal(T::NAMESPACE), Name::literal(T::TYPE), id)
    }

    /// Its address.
    #[must_use]
    pub fn key(&self) -> Key {
        Key { namespace: self.namespace.clone(), type_: self.type_.clone(), id: self.id.clone() }
    }

    /// Its kind and namespace.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind { namespace: self.namespace.clone(), type_: self.type_.clone() }
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(Name::as_str)
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(Name::as_str)
    }

    /// Whether `finalizer` is held.
    #[must_use]
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|held| held == finalizer)
    }

    /// Adds a finalizer; false when it was there.
    pub fn add_finalizer(&mut self, finalizer: impl Into<Name>) -> bool {
        let finalizer = finalizer.into();
        let absent = !self.has_finalizer(&finalizer);
        if absent {
            self.finalizers.push(finalizer);
        }
        absent
    }

    /// Removes a finalizer; false when it was not there.
    pub fn remove_finalizer(&mut self, finalizer: &str) -> bool {
        let before = self.finalizers.len();
        self.finalizers.retain(|held| held != finalizer);
        before != self.finalizers.len()
    }

    /// With a label set.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<Name>, value: impl Into<Name>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// With an annotation set.
    #[must_use]
    pub fn with_annotation(mut self, key: impl Into<Name>, value: impl Into<Name>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }
}
