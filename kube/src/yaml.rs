//! JSON values written as YAML and read from it, for the few files that people read or merge: kubeconfigs and
//! manifests.
//!
//! Only what JSON can express, so only block maps, block lists and scalars. A string is written
//! plain where no reader can take it for anything else, as a literal block where it has lines, and
//! double-quoted (with JSON's escapes, which YAML shares) in every other case.

use serde_json::{Map, Value};

/// The value of a YAML document.
///
/// # Errors
/// The text is no YAML.
pub fn parse(text: &str) -> Result<Value, resource::yaml::YamlError> {
    Ok(resource::Value::from(&resource::yaml::parse(text)?).into())
}

/// The value as a YAML document, ending in a newline.
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => block(&mut out, value, 0),
        scalar => {
            inline(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("    ");
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn block(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) => {
            for (key, value) in sorted(map) {
                indent(out, depth);
                entry(out, key, value, depth);
            }
        }
        Value::Array(list) => {
            for item in list {
                indent(out, depth);
                out.push_str("- ");
                item_of(out, item, depth);
            }
        }
        _ => {}
    }
}

fn entry(out: &mut String, key: &str, value: &Value, depth: usize) {
    out.push_str(&plain_or_quoted(key));
    out.push(':');
    if is_block(value) {
        out.push('\n');
        block(out, value, depth + 1);
    } else {
        out.push(' ');
        inline(out, value, depth + 1);
        out.push('\n');
    }
}

/// A list item: its first line follows the dash, the others are indented below it.
fn item_of(out: &mut String, item: &Value, depth: usize) {
    match item {
        Value::Object(map) if !map.is_empty() => {
            // The dash and a space stand for half of an indentation; the rest of the keys line up
            // with the first one.
            for (position, (key, value)) in sorted(map).into_iter().enumerate() {
                if position > 0 {
                    indent(out, depth);
                    out.push_str("  ");
                }
                entry(out, key, value, depth);
            }
        }
        // A list right in a list is rare; flow style is valid YAML too.
        Value::Array(list) if !list.is_empty() => {
            out.push_str(&item.to_string());
            out.push('\n');
        }
        scalar => {
            inline(out, scalar, depth + 1);
            out.push('\n');
        }
    }
}

/// By key, whatever order the map keeps: the same value always gives the same bytes.
fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

fn inline(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        Value::String(text) if is_literal(text) => {
            out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
            for line in text.trim_end_matches('\n').split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    indent(out, depth);
                    out.push_str(line);
                }
            }
        }
        Value::String(text) => out.push_str(&plain_or_quoted(text)),
    }
}

/// Lines that a literal block gives back byte for byte.
fn is_literal(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.ends_with('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text.chars().all(|c| c == '\n' || c == '\t' || (!c.is_control() && c != '\u{feff}'))
}

fn plain_or_quoted(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else {
        return false;
    };
    // Digits, signs and dots may start numbers, dates and octals of one YAML version or another.
    let safe_start = first.is_ascii_alphabetic() || first == '/';
    let safe_body = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':' | '@' | '=' | '+' | ','));
    let reserved = matches!(text.to_ascii_lowercase().as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null");
    safe_start && safe_body && !text.ends_with(':') && !reserved
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nesting() {
        let value = json!({
            "apiVersion": "v1",
            "empty": {},
            "list": [{"name": "a", "args": ["--x=1", "yes"]}, "b", 3],
            "nested": {"flag": true, "none": null},
            "text": "one\ntwo\n",
        });
        assert_eq!(
            to_string(&value),
            "\
apiVersion: v1
empty: {}
list:
    - args:
        - \"--x=1\"
        - \"yes\"
      name: a
    - b
    - 3
nested:
    flag: true
    none: null
text: |
    one
    two
"
        );
    }

    #[test]
    fn strings_that_look_like_something_else_are_quoted() {
        for text in ["", "true", "No", "1.2", "0x1", "- a", "a: b", "a #b", " a", "a:", "\u{7}", "~"] {
            let yaml = to_string(&json!(text));
            assert_eq!(yaml, format!("{}\n", json!(text)), "{text:?}");
        }
        assert_eq!(to_string(&json!("https://127.0.0.1:7445")), "https://127.0.0.1:7445\n");
    }
}
