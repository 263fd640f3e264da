//! [`Value`]: a tree of any shape, for the fields that hold foreign objects (manifests, component configurations).

use std::collections::BTreeMap;

use crate::proto::{self, DecodeError, Reader, Wire};
use crate::yaml::{Node, YamlError};
use crate::{Field, Form};

/// How deep a value from the wire may nest. Kubernetes itself stops earlier.
const MAX_DEPTH: usize = 64;

/// A JSON-like value. As a field of a spec it is a mapping: the default is the empty one, and anything else is written as empty.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number. On the wire all numbers are doubles; those without a fraction come back as this.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    String(String),
    /// A list.
    List(Vec<Value>),
    /// A mapping, sorted by key.
    Map(BTreeMap<String, Value>),
}

impl Default for Value {
    fn default() -> Self {
        Self::Map(BTreeMap::new())
    }
}

impl Value {
    /// The value at `key`, when this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map().and_then(|map| map.get(key))
    }

    /// The value at a path of keys separated by dots.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |value, key| value.get(key))
    }

    /// The mapping, when it is one.
    #[must_use]
    pub const fn as_map(&self) -> Option<&BTreeMap<String, Self>> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// The list, when it is one.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    /// The text, when it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The whole number, when it is one.
    #[must_use]
    pub const fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// The boolean, when it is one.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// Sets `key`; what is no mapping becomes one.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Self>) {
        if !matches!(self, Self::Map(_)) {
            *self = Self::default();
        }
        if let Self::Map(map) = self {
            map.insert(key.into(), value.into());
        }
    }

    /// From a YAML text.
    ///
    /// # Errors
    /// When the text is no YAML.
    pub fn from_yaml_text(text: &str) -> Result<Self, YamlError> {
        crate::yaml::parse(text).map(|node| Self::from(&node))
    }

    fn put_value(&self, number: u32, out: &mut Vec<u8>) {
        proto::put_nested_field(number, out, |out| match self {
            Self::Null => proto::put_varint_field(1, 0, out),
            #[expect(clippy::cast_precision_loss, reason = "numbers on the wire are doubles")]
            Self::Int(number) => (*number as f64).put(2, out),
            Self::Float(number) => number.put(2, out),
            Self::String(text) => text.put(3, out),
            Self::Bool(value) => value.put(4, out),
            Self::Map(map) => proto::put_nested_field(5, out, |out| put_map(map, out)),
            Self::List(list) => proto::put_nested_field(6, out, |out| list.iter().for_each(|item| item.put_value(1, out))),
        });
    }

    fn take_value(bytes: &[u8], depth: usize) -> Result<Self, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep(MAX_DEPTH));
        }
        let mut value = Self::Null;
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.record()? {
            value = match number {
                1 => Self::Null,
                2 => Self::from(f64::take(wire)?),
                3 => Self::String(String::take(wire)?),
                4 => Self::Bool(bool::take(wire)?),
                5 => Self::Map(take_map(wire.bytes()?, depth + 1)?),
                6 => Self::List(take_list(wire.bytes()?, depth + 1)?),
                _ => value,
            };
        }
        Ok(value)
    }
}

fn put_map(map: &BTreeMap<String, Value>, out: &mut Vec<u8>) {
    for (key, value) in map {
        proto::put_nested_field(1, out, |out| {
            key.put(1, out);
            value.put_value(2, out);
        });
    }
}

fn take_map(bytes: &[u8], depth: usize) -> Result<BTreeMap<String, Value>, DecodeError> {
    let mut map = BTreeMap::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.record()? {
        if number != 1 {
            continue;
        }
        let (mut key, mut value) = (String::new(), Value::Null);
        let mut entry = Reader::new(wire.bytes()?);
        while let Some((number, wire)) = entry.record()? {
            match number {
                1 => key = String::take(wire)?,
                2 => value = Value::take_value(wire.bytes()?, depth)?,
                _ => {}
            }
        }
        map.insert(key, value);
    }
    Ok(map)
}

fn take_list(bytes: &[u8], depth: usize) -> Result<Vec<Value>, DecodeError> {
    let mut list = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.record()? {
        if number == 1 {
            list.push(Value::take_value(wire.bytes()?, depth)?);
        }
    }
    Ok(list)
}

impl Field for Value {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        proto::put_nested_field(number, out, |out| {
            if let Self::Map(map) = self {
                put_map(map, out);
            }
        });
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        take_map(wire.bytes()?, 0).map(Self::Map)
    }
    fn is_default(&self) -> bool {
        match self {
            Self::Map(map) => map.is_empty(),
            _ => true,
        }
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::from(self)
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        match node {
            Node::Null => Ok(Self::default()),
            Node::Map(_) => Ok(Self::from(node)),
            _ => Err(YamlError::expected("a mapping", node)),
        }
    }
}

impl From<&Value> for Node {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(number) => Self::Int(*number),
            Value::Float(number) => Self::Float(*number),
            Value::String(text) => Self::Str(text.clone()),
            Value::List(list) => Self::Seq(list.iter().map(Self::from).collect()),
            Value::Map(map) => Self::sorted_map(map.iter().map(|(key, value)| (key.clone(), Self::from(value)))),
        }
    }
}

impl From<&Node> for Value {
    fn from(node: &Node) -> Self {
        match node {
            Node::Null => Self::Null,
            Node::Bool(value) => Self::Bool(*value),
            Node::Int(number) => Self::Int(*number),
            #[expect(clippy::cast_precision_loss, reason = "beyond 63 bits only a double can hold it")]
            Node::Uint(number) => i64::try_from(*number).map_or(Self::Float(*number as f64), Self::Int),
            Node::Float(number) => Self::Float(*number),
            Node::Str(text) | Node::Raw(text) => Self::String(text.clone()),
            Node::Seq(items) => Self::List(items.iter().map(Self::from).collect()),
            Node::Map(entries) => Self::Map(entries.iter().map(|(key, value)| (key.clone().into_owned(), Self::from(value))).collect()),
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => {
                number.as_i64().map_or_else(|| Self::Float(number.as_f64().unwrap_or_default()), Self::Int)
            }
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(map) => Self::Map(map.into_iter().map(|(key, value)| (key, Self::from(value))).collect()),
        }
    }
}

impl From<&Value> for serde_json::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(number) => Self::from(*number),
            Value::Float(number) => Self::from(*number),
            Value::String(text) => Self::String(text.clone()),
            Value::List(list) => Self::Array(list.iter().map(Self::from).collect()),
            Value::Map(map) => Self::Object(map.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect()),
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<f64> for Value {
    /// Numbers without a fraction become [`Value::Int`], as far as a double holds them exactly.
    fn from(number: f64) -> Self {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && number.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            return Self::Int(number as i64);
        }
        Self::Float(number)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl From<BTreeMap<String, Value>> for Value {
    fn from(map: BTreeMap<String, Value>) -> Self {
        Self::Map(map)
    }
}

impl FromIterator<(String, Value)> for Value {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(entries: I) -> Self {
        Self::Map(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_struct_has_the_wire_form_of_the_well_known_type() {
        let mut value = Value::default();
        value.set("flag", true);
        value.set("count", 3);
        let mut out = Vec::new();
        value.put(1, &mut out);
        // Field 1 (entry) { 1 key, 2 Value }: sorted, the number as a double.
        let count = b"\x0a\x12\x0a\x05count\x12\x09\x11\0\0\0\0\0\0\x08\x40";
        let flag = b"\x0a\x0a\x0a\x04flag\x12\x02\x20\x01";
        let expected = [b"\x0a\x20".as_slice(), count, flag].concat();
        assert_eq!(out, expected);
        assert_eq!(Value::take(Wire::Bytes(&out[2..])), Ok(value));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-(1i64 << 53) + 1..1i64 << 53).prop_map(Value::Int),
            any::<f64>()
                .prop_filter("whole numbers come back as Int", |number| number.is_finite() && number.fract() != 0.0)
                .prop_map(Value::Float),
            "\\PC{0,12}|[0-9.:-]{0,6}|[a-z\\n ]{0,8}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::btree_map("[a-z0-9./-]{0,6}", inner, 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn both_forms_give_the_value_back(value in any_value()) {
            let mut map = Value::default();
            map.set("value", value);
            let mut out = Vec::new();
            put_map(map.as_map().expect("a map"), &mut out);
            prop_assert_eq!(&Value::take(Wire::Bytes(&out)), &Ok(map.clone()));
            let text = crate::yaml::emit(&Node::from(&map));
            prop_assert_eq!(Value::from_yaml_text(&text), Ok(map), "{}", text);
        }

        #[test]
        fn bytes_from_anywhere_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = Value::take(Wire::Bytes(&bytes)) {
                prop_assert!(value.as_map().is_some());
            }
        }
    }

    #[test]
    fn nesting_beyond_the_limit_is_refused() {
        let mut value = Value::Null;
        for _ in 0..200 {
            value = Value::from(vec![value]);
        }
        let mut map = Value::default();
        map.set("deep", value);
        let mut out = Vec::new();
        put_map(map.as_map().expect("a map"), &mut out);
        assert_eq!(Value::take(Wire::Bytes(&out)), Err(DecodeError::TooDeep(MAX_DEPTH)));
    }
}
