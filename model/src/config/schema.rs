//! One declaration per document or section: `section!` makes the struct, its decoder, its encoder and its key table.
//!
//! The key table ([`Info`]) is what patches, redaction, required-key checks, deprecation warnings, documentation and JSON Schema walk, so
//! a key exists in exactly one place. Decoding is strict about keys and types and lenient about presence: what must be there is checked
//! by [`check_required`], since a patch is decoded with the same tables.

use std::collections::BTreeMap;

use super::problem::{Problem, nearest};
use super::tree::{Data, Entry, Node, Pos, join_key};

/// What a value may be. Drives merging, redaction, checks and documentation.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number in a range.
    Int {
        /// Smallest.
        min: i128,
        /// Largest.
        max: i128,
    },
    /// Text of a form with a name (`a URL`, `a duration`); empty for any text.
    Text(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text that is never shown.
    Secret,
    /// A list.
    List(&'static Shape),
    /// A map with free keys.
    Map(&'static Shape),
    /// A text or a list of texts.
    OneOrMany,
    /// Any value.
    Any,
    /// A map with any values.
    AnyMap,
    /// The same, with secrets somewhere in it.
    SecretMap,
    /// A map with the keys of a section.
    Section(&'static Info),
    /// The keys of a section, standing in the section that holds it.
    Flat(&'static Info),
}

impl Shape {
    /// What to say is expected.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Int { min, max } => format!("a whole number from {min} to {max}"),
            Self::Text("") | Self::Secret => "a text".to_owned(),
            Self::Text(form) => (*form).to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List(item) => format!("a list ({} each)", item.describe()),
            Self::Map(item) => format!("a map ({} each)", item.describe()),
            Self::OneOrMany => "a text or a list of texts".to_owned(),
            Self::Any => "any value".to_owned(),
            Self::AnyMap | Self::SecretMap => "a map".to_owned(),
            Self::Section(info) | Self::Flat(info) => format!("a map with keys of {}", info.keys().collect::<Vec<_>>().join(", ")),
        }
    }

    /// The value written for a key that is always there.
    fn empty(&self) -> Node {
        match self {
            Self::List(_) => Node::list(Vec::new()),
            Self::Map(_) | Self::AnyMap | Self::SecretMap | Self::Section(_) | Self::Flat(_) => Node::map(Vec::new()),
            Self::Bool => Node::word("false"),
            Self::Int { .. } => Node::word("0"),
            _ => Node::string(""),
        }
    }
}

/// A key of a section.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key in YAML.
    pub key: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// What it may hold.
    pub shape: &'static Shape,
    /// It must be there.
    pub is_required: bool,
    /// It is written even when empty.
    pub is_always: bool,
    /// A patch replaces the list instead of appending to it.
    pub is_replaced: bool,
    /// Items of the list are the same thing when this key is equal: a patch merges them, or replaces them when it starts with `=`.
    pub merge_key: &'static str,
    /// What replaces it, for deprecated keys.
    pub replacement: Option<&'static str>,
    /// What absence means.
    pub default_text: &'static str,
}

impl Field {
    /// A key without any flags.
    #[must_use]
    pub const fn new(key: &'static str, doc: &'static str, shape: &'static Shape) -> Self {
        Self {
            key,
            doc,
            shape,
            is_required: false,
            is_always: false,
            is_replaced: false,
            merge_key: "",
            replacement: None,
            default_text: "",
        }
    }
    /// It must be there.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }
    /// It is written even when empty.
    #[must_use]
    pub const fn always(mut self) -> Self {
        self.is_always = true;
        self
    }
    /// A patch replaces it.
    #[must_use]
    pub const fn replace(mut self) -> Self {
        self.is_replaced = true;
        self
    }
    /// A patch merges items with an equal key.
    #[must_use]
    pub const fn merge_by(mut self, key: &'static str) -> Self {
        self.merge_key = key;
        self
    }
    /// Deprecated; what to use instead (a document kind, or nothing).
    #[must_use]
    pub const fn deprecated(mut self, replacement: &'static str) -> Self {
        self.replacement = Some(replacement);
        self
    }
    /// What absence means.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default_text = text;
        self
    }
}

/// The table of a section.
#[derive(Debug)]
pub struct Info {
    /// Name of the section or document kind.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its keys, in the order in which they are written.
    pub fields: &'static [Field],
}

impl Info {
    /// All keys, flattened ones included.
    pub fn keys(&'static self) -> Box<dyn Iterator<Item = &'static str>> {
        Box::new(self.fields.iter().flat_map(|f| match f.shape {
            Shape::Flat(inner) => inner.keys(),
            _ => Box::new(std::iter::once(f.key)),
        }))
    }

    /// The field of a key, flattened ones included.
    #[must_use]
    pub fn field(&'static self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find_map(|f| match f.shape {
            Shape::Flat(inner) => inner.field(key),
            _ => (f.key == key).then_some(f),
        })
    }

    /// The own field that takes a key: itself, or the flattened section that has it.
    fn taker(&'static self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| match f.shape {
            Shape::Flat(inner) => inner.field(key).is_some(),
            _ => f.key == key,
        })
    }
}

/// Where a decoder is, and what it found wrong.
#[derive(Debug, Default)]
pub struct Cx {
    /// The document being decoded.
    pub document: String,
    /// The path in it.
    pub path: String,
    /// The problems so far.
    pub problems: Vec<Problem>,
}

impl Cx {
    /// For a document.
    #[must_use]
    pub fn new(document: impl Into<String>) -> Self {
        Self { document: document.into(), ..Self::default() }
    }

    /// Runs `f` one key deeper.
    pub fn under<R>(&mut self, key: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let inner = join_key(&self.path, key);
        let outer = std::mem::replace(&mut self.path, inner);
        let result = f(self);
        self.path = outer;
        result
    }

    /// Runs `f` one list index deeper.
    pub fn item<R>(&mut self, index: usize, f: impl FnOnce(&mut Self) -> R) -> R {
        let inner = format!("{}[{index}]", self.path);
        let outer = std::mem::replace(&mut self.path, inner);
        let result = f(self);
        self.path = outer;
        result
    }

    /// Notes an error here.
    pub fn error(&mut self, pos: Pos, found: impl Into<String>, expected: impl Into<String>) {
        self.push(Problem::error(self.path.clone(), found, expected).at(pos));
    }

    /// Notes a problem in this document.
    pub fn push(&mut self, problem: Problem) {
        self.problems.push(problem.in_document(&self.document));
    }
}

/// A type that a key may hold.
pub trait FieldType: Sized {
    /// What it may be.
    const SHAPE: Shape;
    /// Reads it. Says in `cx` what is wrong when it returns nothing.
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self>;
    /// Writes it; nothing when it is empty.
    fn encode(&self) -> Option<Node>;
    /// Takes the value of a key. Only flattened sections look at the key.
    fn assign(&mut self, _key: &str, node: &Node, cx: &mut Cx) {
        if let Some(value) = Self::decode(node, cx) {
            *self = value;
        }
    }
}

/// A struct made by `section!`.
pub trait Section: Default {
    /// Its table.
    const INFO: &'static Info;
    /// Gives the value of `key` to the field `field` (the same, but for flattened sections).
    fn set(&mut self, field: &str, key: &str, node: &Node, cx: &mut Cx);
    /// The values of the fields, in the order of the table.
    fn values(&self) -> Vec<Option<Node>>;
}

/// Reads a section, noting everything wrong in it.
pub fn decode_section<S: Section>(node: &Node, cx: &mut Cx) -> Option<S> {
    let mut section = S::default();
    let is_map = decode_entries(S::INFO, node, cx, &mut |field, entry, cx| section.set(field.key, &entry.key, &entry.value, cx));
    is_map.then_some(section)
}

/// Gives each value of a section to `set`. False when the node is no map.
fn decode_entries(info: &'static Info, node: &Node, cx: &mut Cx, set: &mut dyn FnMut(&Field, &Entry, &mut Cx)) -> bool {
    let Data::Map(entries) = &node.data else {
        cx.error(node.pos, node.describe(), Shape::Section(info).describe());
        return false;
    };
    for entry in entries {
        let Some(field) = info.taker(&entry.key) else {
            unknown_key(info, entry.pos, &entry.key, cx);
            continue;
        };
        if !entry.value.is_null() {
            cx.under(&entry.key, |cx| set(field, entry, cx));
        }
    }
    true
}

fn unknown_key(info: &'static Info, pos: Pos, key: &str, cx: &mut Cx) {
    let keys: Vec<_> = info.keys().filter(|k| !k.is_empty()).collect();
    let expected = if keys.is_empty() { format!("{} has no keys", info.name) } else { format!("the keys here are {}", keys.join(", ")) };
    let path = join_key(&cx.path, key);
    let problem = Problem::error(path, format!("unknown key `{key}`"), expected).at(pos).suggest(nearest(key, keys.iter().copied()));
    cx.push(problem);
}

/// Writes a section: keys in the order of the table, empty ones left out unless they are always there.
pub fn encode_section<S: Section>(section: &S) -> Node {
    encode_values(S::INFO, section.values())
}

fn encode_values(info: &'static Info, values: Vec<Option<Node>>) -> Node {
    let mut entries = Vec::new();
    for (field, value) in info.fields.iter().zip(values) {
        match (field.shape, value) {
            (Shape::Flat(_), Some(Node { data: Data::Map(inner), .. })) => entries.extend(inner.into_iter().map(|e| (e.key, e.value))),
            (Shape::Flat(_), _) => {}
            (_, Some(value)) => entries.push((field.key.to_owned(), value)),
            (shape, None) if field.is_always => entries.push((field.key.to_owned(), shape.empty())),
            _ => {}
        }
    }
    Node::map(entries)
}

/// Notes every required key that is absent, anywhere below.
pub fn check_required(node: &Node, shape: &Shape, cx: &mut Cx) {
    match (shape, &node.data) {
        (Shape::Section(info) | Shape::Flat(info), Data::Map(entries)) => {
            for field in info.fields {
                if let Shape::Flat(_) = field.shape {
                    check_required(node, field.shape, cx);
                    continue;
                }
                let value = entries.iter().find(|e| e.key == field.key).map(|e| &e.value);
                let absent = value.is_none_or(|v| v.is_null() || v.text().is_some_and(str::is_empty));
                if field.is_required && absent {
                    let path = join_key(&cx.path, field.key);
                    let expected = format!("`{}` is required: {} ({})", field.key, field.doc, field.shape.describe());
                    cx.push(Problem::error(path, "nothing", expected).at(value.map_or(node.pos, |v| v.pos)));
                } else if let Some(value) = value {
                    cx.under(field.key, |cx| check_required(value, field.shape, cx));
                }
            }
        }
        (Shape::List(item), Data::List(items)) => {
            for (i, value) in items.iter().enumerate() {
                cx.item(i, |cx| check_required(value, item, cx));
            }
        }
        (Shape::Map(item), Data::Map(entries)) => {
            for entry in entries {
                cx.under(&entry.key, |cx| check_required(&entry.value, item, cx));
            }
        }
        _ => {}
    }
}

/// Notes every deprecated key in use, with what replaces it. A deprecated key hides those below it.
pub fn check_deprecated(node: &Node, shape: &Shape, cx: &mut Cx) {
    match (shape, &node.data) {
        (Shape::Section(info), Data::Map(entries)) => {
            for entry in entries {
                let Some(field) = info.field(&entry.key) else { continue };
                match field.replacement {
                    Some(_) if empty(&entry.value) => {}
                    Some(replacement) => {
                        let advice = match replacement {
                            "" => "remove it: nothing reads it any more".to_owned(),
                            kind => format!("use the document {kind} instead"),
                        };
                        let path = join_key(&cx.path, &entry.key);
                        cx.push(Problem::advice(path, format!("`{}` is deprecated", entry.key), advice).at(entry.pos));
                    }
                    None => cx.under(&entry.key, |cx| check_deprecated(&entry.value, field.shape, cx)),
                }
            }
        }
        (Shape::List(item), Data::List(items)) => {
            for (i, value) in items.iter().enumerate() {
                cx.item(i, |cx| check_deprecated(value, item, cx));
            }
        }
        _ => {}
    }
}

fn empty(node: &Node) -> bool {
    match &node.data {
        Data::Null => true,
        Data::Scalar(s) => s.text.is_empty(),
        Data::List(items) => items.is_empty(),
        Data::Map(entries) => entries.is_empty(),
    }
}

/// Replaces every secret below by `REDACTED`; empty ones stay.
pub fn redact(node: &mut Node, shape: &Shape) {
    match (shape, &mut node.data) {
        (Shape::Secret, Data::Scalar(s)) if !s.text.is_empty() => REDACTED.clone_into(&mut s.text),
        (Shape::Section(info), Data::Map(entries)) => {
            for entry in entries {
                if let Some(field) = info.field(&entry.key) {
                    redact(&mut entry.value, field.shape);
                }
            }
        }
        (Shape::List(item), Data::List(items)) => items.iter_mut().for_each(|i| redact(i, item)),
        (Shape::SecretMap, Data::List(items)) => items.iter_mut().for_each(|i| redact(i, shape)),
        (Shape::SecretMap, Data::Map(entries)) => {
            for entry in entries {
                redact(&mut entry.value, if entry.key == "secret" { &Shape::Secret } else { shape });
            }
        }
        (Shape::Map(item), Data::Map(entries)) => entries.iter_mut().for_each(|e| redact(&mut e.value, item)),
        _ => {}
    }
}

/// What stands in for a secret.
pub const REDACTED: &str = "REDACTED";

/// A section whose keys stand in the section that holds it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Flat<T>(pub T);

impl<T> std::ops::Deref for Flat<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::DerefMut for Flat<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Section> FieldType for Flat<T> {
    const SHAPE: Shape = Shape::Flat(T::INFO);
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        decode_section(node, cx).map(Self)
    }
    fn encode(&self) -> Option<Node> {
        Some(encode_section(&self.0))
    }
    fn assign(&mut self, key: &str, node: &Node, cx: &mut Cx) {
        let field = T::INFO.taker(key).map_or(key, |f| f.key);
        self.0.set(field, key, node, cx);
    }
}

impl<T: FieldType> FieldType for Option<T> {
    const SHAPE: Shape = T::SHAPE;
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        T::decode(node, cx).map(Some)
    }
    fn encode(&self) -> Option<Node> {
        self.as_ref().map(|v| v.encode().unwrap_or_else(|| T::SHAPE.empty()))
    }
}

impl<T: FieldType> FieldType for Box<T> {
    const SHAPE: Shape = T::SHAPE;
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        T::decode(node, cx).map(Box::new)
    }
    fn encode(&self) -> Option<Node> {
        (**self).encode()
    }
}

impl<T: FieldType> FieldType for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Data::List(items) = &node.data else {
            cx.error(node.pos, node.describe(), Self::SHAPE.describe());
            return None;
        };
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            out.extend(cx.item(i, |cx| T::decode(item, cx)));
        }
        Some(out)
    }
    fn encode(&self) -> Option<Node> {
        let item = |v: &T| v.encode().unwrap_or_else(|| T::SHAPE.empty());
        (!self.is_empty()).then(|| Node::list(self.iter().map(item).collect()))
    }
}

impl<T: FieldType> FieldType for BTreeMap<String, T> {
    const SHAPE: Shape = Shape::Map(&T::SHAPE);
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Data::Map(entries) = &node.data else {
            cx.error(node.pos, node.describe(), Self::SHAPE.describe());
            return None;
        };
        let mut out = Self::new();
        for entry in entries {
            if let Some(value) = cx.under(&entry.key, |cx| T::decode(&entry.value, cx)) {
                out.insert(entry.key.clone(), value);
            }
        }
        Some(out)
    }
    fn encode(&self) -> Option<Node> {
        let entry = |(k, v): (&String, &T)| (k.clone(), v.encode().unwrap_or_else(|| T::SHAPE.empty()));
        (!self.is_empty()).then(|| Node::map(self.iter().map(entry).collect()))
    }
}

/// Declares a section: the struct with its decoder, encoder and key table. A line is
/// `"yamlKey" field: Type [flags] = "what it means";`, flags being methods of [`Field`].
macro_rules! section {
    ($(
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $( $key:literal $field:ident : $ty:ty $([ $($flag:ident $(( $($arg:expr),* ))?),* ])? = $fdoc:literal; )*
        }
    )*) => { $(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct $name { $( #[doc = $fdoc] pub $field: $ty, )* }

        impl $crate::config::schema::Section for $name {
            const INFO: &'static $crate::config::schema::Info = &$crate::config::schema::Info {
                name: stringify!($name),
                doc: concat!($($doc),*),
                fields: &[ $( $crate::config::schema::Field::new($key, $fdoc, &<$ty as $crate::config::schema::FieldType>::SHAPE)
                    $($( .$flag($($($arg),*)?) )*)? ),* ],
            };
            fn set(&mut self, field: &str, key: &str, node: &$crate::config::tree::Node, cx: &mut $crate::config::schema::Cx) {
                match field {
                    $( $key => $crate::config::schema::FieldType::assign(&mut self.$field, key, node, cx), )*
                    _ => { let _ = (key, node, cx); }
                }
            }
            fn values(&self) -> Vec<Option<$crate::config::tree::Node>> {
                vec![ $( $crate::config::schema::FieldType::encode(&self.$field) ),* ]
            }
        }

        impl $crate::config::schema::FieldType for $name {
            const SHAPE: $crate::config::schema::Shape =
                $crate::config::schema::Shape::Section(<Self as $crate::config::schema::Section>::INFO);
            fn decode(node: &$crate::config::tree::Node, cx: &mut $crate::config::schema::Cx) -> Option<Self> {
                $crate::config::schema::decode_section(node, cx)
            }
            fn encode(&self) -> Option<$crate::config::tree::Node> {
                let node = $crate::config::schema::encode_section(self);
                (!node.entries().is_empty()).then_some(node)
            }
        }
    )* };
}

/// Declares a choice of words.
macro_rules! choice {
    ($(
        $(#[doc = $doc:literal])*
        pub enum $name:ident { $( $word:literal $variant:ident $( alias $alias:literal )* = $vdoc:literal; )* }
    )*) => { $(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $( #[doc = $vdoc] $variant, )* }

        impl $name {
            /// The word in YAML.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
            /// The choice that a word names.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $( $word $( | $alias )* => Some(Self::$variant), )* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::schema::FieldType for $name {
            const SHAPE: $crate::config::schema::Shape = $crate::config::schema::Shape::Choice(&[$( $word ),*]);
            fn decode(node: &$crate::config::tree::Node, cx: &mut $crate::config::schema::Cx) -> Option<Self> {
                $crate::config::types::decode_choice(node, cx, &[$( $word ),*], Self::parse)
            }
            fn encode(&self) -> Option<$crate::config::tree::Node> {
                Some($crate::config::tree::Node::string(self.as_str()))
            }
        }
    )* };
}

pub(crate) use {choice, section};
