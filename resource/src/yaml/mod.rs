//! YAML as the reference's Go encoder writes it: indent 4, its quoting, its key order; and a reader for it.
//!
//! [`Node`] is the tree between. Encoders build nodes and [`emit`] them; [`parse`] gives nodes back, with scalars resolved by the YAML 1.2
//! core schema (so `on` is a text, as for the reference). What this is not: a tree with positions and comments for editing files.

mod emit;
mod parse;
mod scalar;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

pub use emit::{emit, emit_all};
pub use parse::{parse, parse_all};
pub use scalar::{natural_order, resolve};

use crate::{Field, Form};

/// What stands for a secret in the redacted form.
pub const REDACTED: &str = "(redacted)";

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond `i64`.
    Uint(u64),
    /// A number.
    Float(f64),
    /// A text; quoted where it would otherwise be read as something else.
    Str(String),
    /// A scalar written exactly so, without quotes: times, tagged binary.
    Raw(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the order in which it is written.
    Map(Vec<(Cow<'static, str>, Node)>),
}

impl Node {
    /// A mapping in the order in which the reference writes maps: letters by code point, runs of digits by value.
    pub fn sorted_map(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        let mut entries: Vec<(Cow<'static, str>, Self)> = entries.into_iter().map(|(key, value)| (Cow::Owned(key), value)).collect();
        entries.sort_by(|(a, _), (b, _)| natural_order(a, b));
        Self::Map(entries)
    }

    /// The value at `key`, when this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        if let Self::Map(entries) = self { entries.iter().find(|(name, _)| name == key).map(|(_, value)| value) } else { None }
    }

    /// The value at a path of keys separated by dots.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }

    /// The whole number this is, or that a text holds.
    #[must_use]
    pub fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(i128::from(*number)),
            Self::Uint(number) => Some(i128::from(*number)),
            #[expect(clippy::cast_possible_truncation, reason = "whole and far below 2^127")]
            Self::Float(number) if number.fract() == 0.0 && number.abs() < 1e19 => Some(*number as i128),
            Self::Str(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The number this is.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "what a double cannot hold is rounded, as everywhere")]
    pub const fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            Self::Int(number) => Some(*number as f64),
            Self::Uint(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// The boolean this is, or that a text means in YAML 1.1.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Str(text) => match text.as_str() {
                "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" => Some(true),
                "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// The text this is. Other scalars give the text that they would be written as.
    #[must_use]
    pub fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Str(text) | Self::Raw(text) => Some(Cow::Borrowed(text)),
            Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Float(_) => Some(Cow::Owned(emit::plain(self))),
            Self::Null | Self::Seq(_) | Self::Map(_) => None,
        }
    }

    fn kind(&self) -> Cow<'static, str> {
        match self {
            Self::Null => Cow::Borrowed("nothing"),
            Self::Seq(_) => Cow::Borrowed("a list"),
            Self::Map(_) => Cow::Borrowed("a mapping"),
            _ => Cow::Owned(format!("{:?}", emit::plain(self))),
        }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

macro_rules! from_small_integer {
    ($($type:ty)*) => {$(
        impl From<$type> for Node {
            fn from(number: $type) -> Self {
                Self::Int(i64::from(number))
            }
        }
    )*};
}

from_small_integer!(u8 u16 u32 i32 i64);

impl From<u64> for Node {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or(Self::Uint(number), Self::Int)
    }
}

/// Collects the fields of one mapping. Derived code calls it once per field.
#[derive(Debug)]
pub struct Fields {
    form: Form,
    entries: Vec<(Cow<'static, str>, Node)>,
}

impl Fields {
    /// For a mapping in this form.
    #[must_use]
    pub const fn new(form: Form) -> Self {
        Self { form, entries: Vec::new() }
    }

    /// Adds a field.
    pub fn field<T: Field>(&mut self, key: &'static str, value: &T) {
        self.entries.push((Cow::Borrowed(key), value.write_yaml(self.form)));
    }

    /// Adds a field unless it is empty.
    pub fn optional<T: Field>(&mut self, key: &'static str, value: &T) {
        if !value.is_empty() {
            self.field(key, value);
        }
    }

    /// Adds a field that the redacted form hides.
    pub fn secret<T: Field>(&mut self, key: &'static str, value: &T) {
        if self.form == Form::Redacted && !value.is_default() {
            self.entries.push((Cow::Borrowed(key), REDACTED.into()));
        } else {
            self.field(key, value);
        }
    }

    /// Adds a field that the redacted form hides, unless it is empty.
    pub fn optional_secret<T: Field>(&mut self, key: &'static str, value: &T) {
        if !value.is_empty() {
            self.secret(key, value);
        }
    }

    /// The mapping.
    #[must_use]
    pub fn finish(self) -> Node {
        Node::Map(self.entries)
    }
}

/// A text that is no YAML, or YAML that does not fit what it should become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    path: String,
    line: Option<(usize, usize)>,
    message: String,
}

impl YamlError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { path: String::new(), line: None, message: message.into() }
    }

    /// Something else was expected.
    #[must_use]
    pub fn expected(what: &str, found: &Node) -> Self {
        Self::new(format!("expected {what}, found {}", found.kind()))
    }

    /// An error at a line and column, both counted from 1.
    pub fn at_line(message: impl Into<String>, line: usize, column: usize) -> Self {
        Self { line: Some((line, column)), ..Self::new(message) }
    }

    /// The same error, within this key.
    #[must_use]
    pub fn at_key(mut self, key: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{key}{dot}{}", self.path);
        self
    }

    /// The same error, within this element of a list.
    #[must_use]
    pub fn at_index(mut self, index: usize) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("[{index}]{dot}{}", self.path);
        self
    }

    /// Line and column, counted from 1, where the text itself is wrong.
    #[must_use]
    pub const fn line(&self) -> Option<(usize, usize)> {
        self.line
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.line {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for YamlError {}

/// Order of the reference for mapping keys, as a comparison.
#[must_use]
pub fn key_order(a: &str, b: &str) -> Ordering {
    natural_order(a, b)
}
