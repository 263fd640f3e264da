//! [`Spec`], the contract of a kind, and the erased view on all kinds: [`AnySpec`], [`AnyResource`].

use std::any::{Any, TypeId};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::proto::DecodeError;
use crate::yaml::{self, Node, YamlError};
use crate::{Definition, Form, Key, Metadata, Name};

/// A kind of resource. `#[resource]` implements it; the few kinds with forms of their own do it by hand.
pub trait Spec: Clone + PartialEq + Default + fmt::Debug + Send + Sync + 'static {
    /// The full type name, `HostnameSpecs.net.talos.dev`.
    const TYPE: &'static str;
    /// The default namespace.
    const NAMESPACE: &'static str;

    /// What the kind says about itself to clients.
    fn definition() -> &'static Definition;

    /// Appends the protobuf form.
    fn encode_proto(&self, out: &mut Vec<u8>);

    /// From the protobuf form.
    ///
    /// # Errors
    /// When the bytes are no such message.
    fn decode_proto(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The YAML form.
    fn encode_yaml(&self, form: Form) -> Node;

    /// From the YAML form.
    ///
    /// # Errors
    /// When the node does not fit the kind.
    fn decode_yaml(node: &Node) -> Result<Self, YamlError>;
}

/// A spec of whatever kind.
pub trait AnySpec: Any + fmt::Debug + Send + Sync {
    /// The spec as its own type, for downcasts.
    fn as_any(&self) -> &dyn Any;
    /// The full type name.
    fn type_name(&self) -> &str;
    /// What the kind says about itself; `None` for kinds that nobody registered ([`Opaque`]).
    fn kind_definition(&self) -> Option<&'static Definition>;
    /// The protobuf form.
    fn to_proto(&self) -> Vec<u8>;
    /// The YAML form.
    fn to_node(&self, form: Form) -> Node;
    /// Whether the other spec is of the same kind and equal.
    fn equals(&self, other: &dyn AnySpec) -> bool;
    /// A copy of the spec under other metadata.
    fn with_meta(&self, meta: Metadata) -> AnyResource;

    /// The text of the YAML form.
    fn to_yaml(&self) -> String {
        yaml::emit(&self.to_node(Form::Full))
    }
    /// The text of the YAML form with secrets hidden, for logs and support bundles.
    fn to_redacted_yaml(&self) -> String {
        yaml::emit(&self.to_node(Form::Redacted))
    }
}

impl<T: Spec> AnySpec for T {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn type_name(&self) -> &str {
        T::TYPE
    }
    fn kind_definition(&self) -> Option<&'static Definition> {
        Some(T::definition())
    }
    fn to_proto(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_proto(&mut out);
        out
    }
    fn to_node(&self, form: Form) -> Node {
        self.encode_yaml(form)
    }
    fn equals(&self, other: &dyn AnySpec) -> bool {
        other.as_any().downcast_ref::<T>() == Some(self)
    }
    fn with_meta(&self, meta: Metadata) -> AnyResource {
        AnyResource::from(Resource { meta, spec: self.clone() })
    }
}

/// The spec of a kind that is not known here, or of none (tombstones): the forms that came over the wire, kept as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opaque {
    /// The full type name.
    pub type_: Name,
    /// The protobuf form as received.
    pub proto: Vec<u8>,
    /// The text of the YAML form as received.
    pub yaml: String,
}

impl AnySpec for Opaque {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn type_name(&self) -> &str {
        &self.type_
    }
    fn kind_definition(&self) -> Option<&'static Definition> {
        None
    }
    fn to_proto(&self) -> Vec<u8> {
        self.proto.clone()
    }
    fn to_node(&self, _form: Form) -> Node {
        yaml::parse(&self.yaml).unwrap_or_else(|_| Node::Str(self.yaml.clone()))
    }
    fn equals(&self, other: &dyn AnySpec) -> bool {
        other.as_any().downcast_ref::<Self>() == Some(self)
    }
    fn with_meta(&self, meta: Metadata) -> AnyResource {
        AnyResource::from(Resource { meta, spec: self.clone() })
    }
    fn to_yaml(&self) -> String {
        self.yaml.clone()
    }
    /// Nothing is known of what is secret in it, so all of it is.
    fn to_redacted_yaml(&self) -> String {
        format!("{}\n", yaml::REDACTED)
    }
}

/// Metadata and spec. `Resource` alone is the erased form; `Resource<T>` the typed one.
#[derive(Clone, Debug, Default)]
pub struct Resource<T: ?Sized = dyn AnySpec> {
    /// Address, version, owner, phase, labels.
    pub meta: Metadata,
    /// What the kind is about.
    pub spec: T,
}

impl<T: Spec> Resource<T> {
    /// A resource in the kind's default namespace, not stored yet.
    pub fn new(id: impl Into<Name>, spec: T) -> Self {
        Self { meta: Metadata::of::<T>(id), spec }
    }

    /// The same in another namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<Name>) -> Self {
        self.meta.namespace = namespace.into();
        self
    }

    /// The same with a label.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<Name>, value: impl Into<Name>) -> Self {
        self.meta.labels.insert(key.into(), value.into());
        self
    }
}

impl<T: PartialEq> PartialEq for Resource<T> {
    fn eq(&self, other: &Self) -> bool {
        self.meta == other.meta && self.spec == other.spec
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.meta == other.meta && self.spec.equals(&other.spec)
    }
}

impl<T: ?Sized> Resource<T> {
    /// The address.
    #[must_use]
    pub fn key(&self) -> Key {
        self.meta.key()
    }
}

impl Resource {
    /// The spec as a `T`, when it is one.
    #[must_use]
    pub fn spec_as<T: 'static>(&self) -> Option<&T> {
        self.spec.as_any().downcast_ref()
    }
}

/// A [`Resource<T>`] seen without its `T`. Safe Rust has no way from a shared `Resource<dyn AnySpec>` back to a `Resource<T>`; from this
/// there is one, over [`Any`].
trait Erased: Any + Send + Sync {
    fn erased(&self) -> &Resource;
    fn meta_mut(&mut self) -> &mut Metadata;
}

impl<T: AnySpec> Erased for Resource<T> {
    fn erased(&self) -> &Resource {
        self
    }
    fn meta_mut(&mut self) -> &mut Metadata {
        &mut self.meta
    }
}

/// A shared resource of any kind. Cheap to clone; derefs to [`Resource`], and [`downcast`](Self::downcast) gives the typed one back
/// without copying.
#[derive(Clone)]
pub struct AnyResource(Arc<dyn Erased>);

impl AnyResource {
    /// The resource as a `T`, when it is one.
    #[must_use]
    pub fn downcast<T: AnySpec>(&self) -> Option<Arc<Resource<T>>> {
        self.clone().into_typed()
    }

    /// [`downcast`](Self::downcast) for who needs the erased form no longer.
    #[must_use]
    #[inline]
    pub fn into_typed<T: AnySpec>(self) -> Option<Arc<Resource<T>>> {
        let any: Arc<dyn Any + Send + Sync> = self.0;
        any.downcast().ok()
    }

    /// A look at the resource as a `T`, when it is one.
    #[must_use]
    pub fn downcast_ref<T: AnySpec>(&self) -> Option<&Resource<T>> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref()
    }

    /// Whether the spec is a `T`.
    #[must_use]
    pub fn is<T: AnySpec>(&self) -> bool {
        self.resource_type() == TypeId::of::<Resource<T>>()
    }

    /// The type of the typed resource.
    pub(crate) fn resource_type(&self) -> TypeId {
        let any: &dyn Any = &*self.0;
        any.type_id()
    }

    /// A copy of the spec under other metadata.
    #[must_use]
    pub fn with_meta(&self, meta: Metadata) -> Self {
        self.spec.with_meta(meta)
    }

    /// The same spec under changed metadata. Copies only what somebody else holds too.
    #[must_use]
    pub fn change_meta(mut self, change: impl FnOnce(&mut Metadata)) -> Self {
        if let Some(alone) = Arc::get_mut(&mut self.0) {
            change(alone.meta_mut());
            return self;
        }
        let mut meta = self.meta.clone();
        change(&mut meta);
        self.with_meta(meta)
    }

    /// A resource without a spec: what a watch tells of something that is not there.
    #[must_use]
    pub fn tombstone(key: &Key) -> Self {
        let meta = Metadata::new(key.namespace.clone(), key.type_.clone(), key.id.clone());
        Self::from(Resource { meta, spec: Opaque { type_: key.type_.clone(), ..Opaque::default() } })
    }

    /// Metadata and spec as one YAML document, in the layout that clients of the wire know.
    #[must_use]
    pub fn to_yaml(&self, form: Form) -> String {
        let meta = &self.meta;
        let map = |map: &std::collections::BTreeMap<Name, Name>| {
            Node::sorted_map(map.iter().map(|(key, value)| (key.as_str().to_owned(), value.as_str().into())))
        };
        let mut fields: Vec<(std::borrow::Cow<'static, str>, Node)> = vec![
            ("namespace".into(), meta.namespace.as_str().into()),
            ("type".into(), meta.type_.as_str().into()),
            ("id".into(), meta.id.as_str().into()),
            ("version".into(), if meta.version.is_defined() { Node::from(meta.version.0) } else { "undefined".into() }),
            ("owner".into(), meta.owner.as_str().into()),
            ("phase".into(), meta.phase.as_str().into()),
            ("created".into(), Node::Raw(meta.created.to_string())),
            ("updated".into(), Node::Raw(meta.updated.to_string())),
        ];
        if !meta.labels.is_empty() {
            fields.push(("labels".into(), map(&meta.labels)));
        }
        if !meta.annotations.is_empty() {
            fields.push(("annotations".into(), map(&meta.annotations)));
        }
        if !meta.finalizers.is_empty() {
            fields.push(("finalizers".into(), Node::Seq(meta.finalizers.iter().map(|name| name.as_str().into()).collect())));
        }
        yaml::emit(&Node::Map(vec![("metadata".into(), Node::Map(fields)), ("spec".into(), self.spec.to_node(form))]))
    }
}

impl Deref for AnyResource {
    type Target = Resource;
    #[inline]
    fn deref(&self) -> &Resource {
        self.0.erased()
    }
}

impl<T: AnySpec> From<Arc<Resource<T>>> for AnyResource {
    fn from(resource: Arc<Resource<T>>) -> Self {
        Self(resource)
    }
}

impl<T: AnySpec> From<Resource<T>> for AnyResource {
    fn from(resource: Resource<T>) -> Self {
        Self(Arc::new(resource))
    }
}

impl PartialEq for AnyResource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl fmt::Debug for AnyResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
