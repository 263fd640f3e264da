//! Writes trees as YAML in the layout of every generated configuration (`resource::yaml`).

use resource::yaml;

use super::tree::{Data, Node};

/// Writes one document, ending in a newline.
#[must_use]
pub fn document(node: &Node) -> String {
    yaml::emit(&convert(node))
}

/// Writes several documents, separated by `---`.
#[must_use]
pub fn stream<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> String {
    let nodes: Vec<_> = nodes.into_iter().map(convert).collect();
    yaml::emit_all(&nodes)
}

fn convert(node: &Node) -> yaml::Node {
    match &node.data {
        Data::Null => yaml::Node::Null,
        Data::Scalar(s) if s.plain => yaml::Node::Raw(s.text.clone()),
        Data::Scalar(s) => yaml::Node::Str(s.text.clone()),
        Data::List(items) => yaml::Node::Seq(items.iter().map(convert).collect()),
        Data::Map(entries) => yaml::Node::Map(entries.iter().map(|e| (e.key.clone().into(), convert(&e.value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::parse;

    #[test]
    fn layout_survives_a_round_trip() {
        let text = "a:\n    - name: x\n      configuration:\n        deep:\n            deeper: 1\n    - |\n      line\n      two\nb: {}\nc: []\nd: \"65535\"\ne: 'off'\n";
        let (docs, problems) = parse(text.as_bytes(), 0);
        assert!(problems.is_empty());
        assert_eq!(document(&docs[0].root), text);
    }
}
