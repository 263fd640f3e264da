//! [`Registry`]: the kinds that a program knows, found by type name or alias.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt;

use crate::proto::DecodeError;
use crate::yaml::{self, YamlError};
use crate::{AnyResource, Definition, Metadata, Name, Opaque, Resource, Spec};

type FromProto = fn(Metadata, &[u8]) -> Result<AnyResource, DecodeError>;
type FromYaml = fn(Metadata, &str) -> Result<AnyResource, YamlError>;

/// One known kind.
#[derive(Clone, Copy)]
pub struct Entry {
    resource_type: TypeId,
    definition: &'static Definition,
    from_proto: FromProto,
    from_yaml: FromYaml,
}

impl Entry {
    /// The entry of `T`.
    #[must_use]
    pub fn of<T: Spec>() -> Self {
        Self {
            resource_type: TypeId::of::<Resource<T>>(),
            definition: T::definition(),
            from_proto: |meta, bytes| Ok(Resource { meta, spec: T::decode_proto(bytes)? }.into()),
            from_yaml: |meta, text| Ok(Resource { meta, spec: T::decode_yaml(&yaml::parse(text)?)? }.into()),
        }
    }

    /// What the kind says about itself.
    #[must_use]
    pub const fn definition(&self) -> &'static Definition {
        self.definition
    }

    /// Whether the resource is of the type that this kind's are of.
    #[must_use]
    pub fn holds(&self, resource: &AnyResource) -> bool {
        resource.resource_type() == self.resource_type
    }

    /// Whether the other entry is of the same type.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.resource_type == other.resource_type
    }

    /// A typed resource from the protobuf form of its spec.
    ///
    /// # Errors
    /// When the bytes are no such spec.
    pub fn decode_proto(&self, meta: Metadata, bytes: &[u8]) -> Result<AnyResource, DecodeError> {
        (self.from_proto)(meta, bytes)
    }

    /// A typed resource from the YAML form of its spec.
    ///
    /// # Errors
    /// When the text is no such spec.
    pub fn decode_yaml(&self, meta: Metadata, text: &str) -> Result<AnyResource, YamlError> {
        (self.from_yaml)(meta, text)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({})", self.definition.type_)
    }
}

/// The kinds that a program knows.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Entry>,
}

impl Registry {
    /// No kinds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With kind `T`.
    #[must_use]
    pub fn with<T: Spec>(mut self) -> Self {
        self.add(Entry::of::<T>());
        self
    }

    /// Adds a kind; one of the same type name is replaced.
    pub fn add(&mut self, entry: Entry) {
        self.kinds.insert(entry.definition.type_, entry);
    }

    /// The kind with exactly this type name.
    #[must_use]
    pub fn get(&self, type_: &str) -> Option<&Entry> {
        self.kinds.get(type_)
    }

    /// Every kind that answers to a type name or alias, in any case. Aliases are not unique: callers ask back when there are several.
    #[must_use]
    pub fn find(&self, name: &str) -> Vec<&Entry> {
        if let Some(entry) = self.kinds.values().find(|entry| entry.definition.type_.eq_ignore_ascii_case(name)) {
            return vec![entry];
        }
        self.kinds.values().filter(|entry| entry.definition.answers_to(name)).collect()
    }

    /// All kinds, sorted by type name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.kinds.values()
    }

    /// How many kinds there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// A resource from the wire: typed when its kind is known, else [`Opaque`].
    ///
    /// # Errors
    /// When the kind is known and the bytes are no such spec.
    pub fn decode(&self, meta: Metadata, proto: &[u8], yaml: &str) -> Result<AnyResource, DecodeError> {
        match self.get(&meta.type_) {
            Some(entry) => entry.decode_proto(meta, proto),
            None => {
                let type_: Name = meta.type_.clone();
                Ok(Resource { meta, spec: Opaque { type_, proto: proto.to_vec(), yaml: yaml.to_owned() } }.into())
            }
        }
    }
}

impl FromIterator<Entry> for Registry {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut registry = Self::new();
        entries.into_iter().for_each(|entry| registry.add(entry));
        registry
    }
}

impl Extend<Entry> for Registry {
    fn extend<I: IntoIterator<Item = Entry>>(&mut self, entries: I) {
        entries.into_iter().for_each(|entry| self.add(entry));
    }
}
