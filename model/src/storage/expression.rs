//! [`Expression`]: a selector in the Common Expression Language, such as `disk.size > 10u * GiB`.
//!
//! On the wire it is a checked syntax tree, in YAML its text. Both are kept: the tree as it came, since what it was checked against is not
//! known here, and the text, which is printed from the tree.

use std::fmt;
use std::str::FromStr;

use resource::proto::{DecodeError, Wire, put_bytes_field};
use resource::yaml::{Node, YamlError};
use resource::{Field, Form};

use super::cel;

/// A selector. The default is the empty one, which selects nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Expression {
    text: String,
    checked: Vec<u8>,
}

impl Expression {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether there is no expression.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        self.text.is_empty()
    }

    /// The syntax tree.
    ///
    /// # Errors
    /// When the text came from the wire in a form that cannot be printed, so that there is no text to parse.
    pub fn tree(&self) -> Result<cel::Expr, cel::SyntaxError> {
        cel::parse(&self.text)
    }
}

impl FromStr for Expression {
    type Err = cel::SyntaxError;

    /// Parses the text; the text form afterwards is the normal one (single spaces around operators, no needless parentheses).
    fn from_str(text: &str) -> Result<Self, cel::SyntaxError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let tree = cel::parse(text)?;
        Ok(Self { text: tree.to_string(), checked: cel::encode_checked(&tree) })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.text)
    }
}

impl Field for Expression {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        put_bytes_field(number, &self.checked, out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        let checked = wire.bytes()?.to_vec();
        let tree = cel::decode_checked(&checked)?;
        Ok(Self { text: tree.map(|tree| tree.to_string()).unwrap_or_default(), checked })
    }
    fn is_default(&self) -> bool {
        self.checked.is_empty()
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::Str(self.text.clone())
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        String::read_yaml(node)?.parse().map_err(|error: cel::SyntaxError| YamlError::new(error.to_string()))
    }
}
