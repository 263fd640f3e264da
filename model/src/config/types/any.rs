//! Values of any kind, for parts of a configuration that are passed on as they are.

use std::fmt;

use serde_json::{Map, Value};

use super::parse_int;
use crate::config::schema::{Cx, FieldType, Shape};
use crate::config::tree::{Data, Node, Pos};

/// Any value, for parts of a configuration that are passed on as they are.
pub type Any = Value;
/// A map of any values.
pub type AnyMap = Map<String, Value>;

/// The value of a node, words resolved as YAML does.
#[must_use]
pub fn to_any(node: &Node) -> Any {
    match &node.data {
        Data::Null => Value::Null,
        Data::List(items) => Value::Array(items.iter().map(to_any).collect()),
        Data::Map(entries) => Value::Object(entries.iter().map(|e| (e.key.clone(), to_any(&e.value))).collect()),
        Data::Scalar(s) if !s.plain => Value::String(s.text.clone()),
        Data::Scalar(s) => resolve_word(&s.text),
    }
}

/// What a word without quotes means in a place that takes any value.
fn resolve_word(word: &str) -> Value {
    match word {
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Some(n) = parse_int(word) {
        if let Ok(n) = i64::try_from(n) {
            return n.into();
        }
        if let Ok(n) = u64::try_from(n) {
            return n.into();
        }
    }
    if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) && word.contains(|c: char| c.is_ascii_digit()) {
        let float = word.replace('_', "").parse::<f64>().ok().and_then(serde_json::Number::from_f64);
        if let Some(n) = float {
            return Value::Number(n);
        }
    }
    Value::String(word.to_owned())
}

/// The node of a value; keys sorted.
#[must_use]
pub fn from_any(value: &Any) -> Node {
    match value {
        Value::Null => Node { pos: Pos::default(), data: Data::Null },
        Value::Bool(b) => Node::word(b),
        Value::Number(n) => Node::word(n),
        Value::String(s) => Node::string(s.as_str()),
        Value::Array(items) => Node::list(items.iter().map(from_any).collect()),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), from_any(v))).collect();
            entries.sort_by(|a, b| resource::yaml::key_order(&a.0, &b.0));
            Node::map(entries)
        }
    }
}

impl FieldType for Any {
    const SHAPE: Shape = Shape::Any;
    fn decode(node: &Node, _: &mut Cx) -> Option<Self> {
        Some(to_any(node))
    }
    fn encode(&self) -> Option<Node> {
        (!self.is_null()).then(|| from_any(self))
    }
}

impl FieldType for AnyMap {
    const SHAPE: Shape = Shape::AnyMap;
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        if let Value::Object(map) = to_any(node) {
            return Some(map);
        }
        cx.error(node.pos, node.describe(), Self::SHAPE.describe());
        None
    }
    fn encode(&self) -> Option<Node> {
        let entries = || from_any(&Value::Object(self.clone()));
        (!self.is_empty()).then(entries)
    }
}

/// A map that holds secrets somewhere: never printed, and redacted under keys named `secret`.
#[derive(Clone, PartialEq, Default)]
pub struct SecretMap(pub AnyMap);

impl std::ops::Deref for SecretMap {
    type Target = AnyMap;
    fn deref(&self) -> &AnyMap {
        &self.0
    }
}

impl fmt::Debug for SecretMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

impl FieldType for SecretMap {
    const SHAPE: Shape = Shape::SecretMap;
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        AnyMap::decode(node, cx).map(Self)
    }
    fn encode(&self) -> Option<Node> {
        self.0.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_resolve() {
        assert_eq!(resolve_word("0x1F"), Any::from(31));
        assert_eq!(resolve_word("1e3"), Any::from(1000.0));
        assert_eq!(resolve_word("1.2.3.4"), Any::from("1.2.3.4"));
        assert_eq!(resolve_word("v1"), Any::from("v1"));
        assert_eq!(resolve_word("-"), Any::from("-"));
    }
}
