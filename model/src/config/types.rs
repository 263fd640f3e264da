//! The scalar types of configuration keys: how their text is checked, read and written.

mod any;
pub(super) mod pem;
mod text;
mod time;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub use any::{Any, AnyMap, SecretMap, from_any, to_any};
pub use text::{Cel, HostPort, IpPort, Mac, NetOrIp, Pem, Ports, Size, SizeMatcher, SizeOrPercent, SubnetFilter, Table, Url};
pub use time::{Duration, FileMode};

use super::problem::{Problem, nearest};
use super::schema::{Cx, FieldType, Shape};
use super::tree::{Data, Node, Scalar};

fn scalar<'a>(node: &'a Node, cx: &mut Cx, shape: &Shape) -> Option<&'a Scalar> {
    if let Data::Scalar(s) = &node.data {
        return Some(s);
    }
    cx.error(node.pos, node.describe(), shape.describe());
    None
}

impl FieldType for String {
    const SHAPE: Shape = Shape::Text("");
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        scalar(node, cx, &Self::SHAPE).map(|s| s.text.clone())
    }
    fn encode(&self) -> Option<Node> {
        (!self.is_empty()).then(|| Node::string(self.as_str()))
    }
}

/// Reads a boolean the way YAML 1.1 writers spell it.
#[must_use]
pub fn parse_bool(word: &str) -> Option<bool> {
    match word {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
        _ => None,
    }
}

impl FieldType for bool {
    const SHAPE: Shape = Shape::Bool;
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let s = scalar(node, cx, &Self::SHAPE)?;
        let value = parse_bool(&s.text).filter(|_| s.plain);
        if value.is_none() {
            let hint = if parse_bool(&s.text).is_some() { "true or false without quotes" } else { "true or false" };
            let problem = Problem::error(cx.path.clone(), node.describe(), hint).at(node.pos);
            cx.push(problem.suggest(nearest(&s.text, ["true", "false"])));
        }
        value
    }
    fn encode(&self) -> Option<Node> {
        Some(Node::word(self))
    }
}

/// Reads a whole number as YAML writers spell it: decimal, `0x`, `0o`, `0b`, a leading 0 for octal, `_` between digits.
#[must_use]
pub fn parse_int(word: &str) -> Option<i128> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some(_) if digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || digits.starts_with('_') || !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let value = i128::from_str_radix(&digits.replace('_', ""), radix).ok()?;
    Some(if negative { -value } else { value })
}

macro_rules! integers {
    ($($ty:ty),*) => { $(
        impl FieldType for $ty {
            const SHAPE: Shape = Shape::Int { min: <$ty>::MIN as i128, max: <$ty>::MAX as i128 };
            fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
                let s = scalar(node, cx, &Self::SHAPE)?;
                let value = parse_int(&s.text).and_then(|n| Self::try_from(n).ok());
                match value {
                    Some(value) if s.plain => Some(value),
                    Some(_) => {
                        cx.error(node.pos, node.describe(), format!("{} without quotes", Self::SHAPE.describe()));
                        None
                    }
                    None => {
                        cx.error(node.pos, node.describe(), Self::SHAPE.describe());
                        None
                    }
                }
            }
            fn encode(&self) -> Option<Node> {
                Some(Node::word(self))
            }
        }
    )* };
}
integers!(u8, u16, u32, u64, i32, i64);

/// Reads one of a set of words.
pub fn decode_choice<T>(node: &Node, cx: &mut Cx, words: &'static [&'static str], parse: fn(&str) -> Option<T>) -> Option<T> {
    let s = scalar(node, cx, &Shape::Choice(words))?;
    if s.text.is_empty() {
        return None;
    }
    let value = parse(&s.text);
    if value.is_none() {
        let problem = Problem::error(cx.path.clone(), node.describe(), Shape::Choice(words).describe()).at(node.pos);
        cx.push(problem.suggest(nearest(&s.text, words.iter().copied())));
    }
    value
}

macro_rules! parsed {
    ($($ty:ty, $form:literal;)*) => { $(
        impl FieldType for $ty {
            const SHAPE: Shape = Shape::Text($form);
            fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
                let s = scalar(node, cx, &Self::SHAPE)?;
                let value = s.text.parse::<$ty>().ok();
                if value.is_none() && !s.text.is_empty() {
                    cx.error(node.pos, node.describe(), $form);
                }
                value
            }
            fn encode(&self) -> Option<Node> {
                Some(Node::string(self.to_string()))
            }
        }
    )* };
}
parsed! {
    IpAddr, "an IP address";
    IpNet, "a prefix such as 10.0.0.0/8";
}

/// A text that is never printed: `Debug` shows `REDACTED`, and the memory is wiped when it goes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Takes a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(zeroize::Zeroizing::new(text.into()))
    }
    /// The text. Every use of it is a place where a secret may leak.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { "REDACTED" })
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl FieldType for Secret {
    const SHAPE: Shape = Shape::Secret;
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        scalar(node, cx, &Self::SHAPE).map(|s| Self::new(s.text.as_str()))
    }
    fn encode(&self) -> Option<Node> {
        (!self.is_empty()).then(|| Node::string(self.expose()))
    }
}

/// A text, or a list of texts: the value of a program argument that may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneOrMany {
    /// One value.
    One(String),
    /// The argument repeated.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The values.
    #[must_use]
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl FieldType for OneOrMany {
    const SHAPE: Shape = Shape::OneOrMany;
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.data {
            Data::List(_) => Vec::<String>::decode(node, cx).map(Self::Many),
            Data::Null => Some(Self::One(String::new())),
            _ => scalar(node, cx, &Self::SHAPE).map(|s| Self::One(s.text.clone())),
        }
    }
    fn encode(&self) -> Option<Node> {
        Some(match self {
            Self::One(value) => Node::string(value.as_str()),
            Self::Many(values) => Node::list(values.iter().map(|v| Node::string(v.as_str())).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out_of_debug_output() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "REDACTED");
    }
}
