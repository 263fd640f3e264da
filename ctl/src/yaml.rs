//! YAML as JSON values, for files and answers whose shape is not ours.

use resource::Value;
use resource::yaml::{Node, YamlError, emit};

/// The value of a YAML document.
pub fn parse(text: &str) -> Result<serde_json::Value, YamlError> {
    Ok(Value::from(&resource::yaml::parse(text)?).into())
}

/// A value as a YAML document.
pub fn to_string(value: &serde_json::Value) -> String {
    emit(&Node::from(&Value::from(value.clone())))
}
