//! Reading nodes. Aliases are followed within a budget, since a few lines of them can stand for gigabytes.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{Node, YamlError, resolve};

/// How deep nodes may nest.
const MAX_DEPTH: usize = 100;
/// How many nodes a text may stand for once its aliases are followed.
const MAX_NODES: usize = 500_000;

/// The only document of a text; an empty text is [`Node::Null`].
///
/// # Errors
/// When the text is no YAML, or has several documents.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    let mut documents = parse_all(text)?;
    match documents.len() {
        0 => Ok(Node::Null),
        1 => Ok(documents.remove(0)),
        several => Err(YamlError::new(format!("expected one YAML document, found {several}"))),
    }
}

/// All documents of a text.
///
/// # Errors
/// When the text is no YAML; line and column say where.
pub fn parse_all(text: &str) -> Result<Vec<Node>, YamlError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ => {
                reader.anchors.clear();
                documents.push(reader.node(event, span, 0)?);
            }
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

fn at(span: Span, message: impl Into<String>) -> YamlError {
    YamlError::at_line(message, span.start.line(), span.start.col() + 1)
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let marker = error.marker();
                Err(YamlError::at_line(error.info(), marker.line(), marker.col() + 1))
            }
            None => Err(YamlError::new("the text ends inside a document")),
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(at(span, format!("the text stands for more than {MAX_NODES} nodes; it uses aliases to grow")));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, YamlError> {
        if depth > MAX_DEPTH {
            return Err(at(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let before = self.nodes;
        self.count(1, span)?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(|tag| tag.suffix.clone());
                (scalar(text, style, tag.as_deref()), anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(anchor) => {
                let Some((node, nodes)) = self.anchors.get(&anchor).cloned() else {
                    return Err(at(span, "an alias to an anchor that is not defined, or contains the alias"));
                };
                self.count(nodes, span)?;
                return Ok(node);
            }
            _ => return Err(at(span, "a value was expected here")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::Seq(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, YamlError> {
        let mut entries: Vec<(Cow<'static, str>, Node)> = Vec::new();
        let mut merged: Vec<(Cow<'static, str>, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<");
            // A key keeps its own text: `0755: x` and `yes: x` have the keys "0755" and "yes".
            let key = match event {
                Event::Scalar(text, _, 0, _) => text.into_owned(),
                event => match self.node(event, span, depth + 1)?.as_text() {
                    Some(text) => text.into_owned(),
                    None => return Err(at(span, "a key must be a text")),
                },
            };
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            if merge {
                merged.extend(mappings_of(value).ok_or_else(|| at(value_span, "`<<` takes a mapping, or a list of mappings"))?);
            } else if entries.iter().any(|(name, _)| *name == key) {
                return Err(at(span, format!("the key {key:?} stands here twice")));
            } else {
                entries.push((Cow::Owned(key), value));
            }
        }
        for (key, value) in merged {
            if !entries.iter().any(|(name, _)| *name == key) {
                entries.push((key, value));
            }
        }
        Ok(Node::Map(entries))
    }
}

fn mappings_of(node: Node) -> Option<Vec<(Cow<'static, str>, Node)>> {
    match node {
        Node::Map(entries) => Some(entries),
        Node::Seq(items) => items.into_iter().map(mappings_of).collect::<Option<Vec<_>>>().map(|lists| lists.concat()),
        _ => None,
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&str>) -> Node {
    match (tag, style) {
        (Some("binary"), _) => Node::Raw(format!("!!binary {text}")),
        (Some("str"), _) => Node::Str(text.into_owned()),
        (None | Some(_), ScalarStyle::Plain) => resolve(&text),
        _ => Node::Str(text.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        let node = parse("a: &x {b: 1, c: 2}\nd: *x\ne:\n  <<: *x\n  c: 3\n").expect("YAML");
        assert_eq!(node.at("d.b"), Some(&Node::Int(1)));
        assert_eq!((node.at("e.b"), node.at("e.c")), (Some(&Node::Int(1)), Some(&Node::Int(3))));
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let previous = level - 1;
            let aliases = vec![format!("*a{previous}"); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(parse(&text).expect_err("too many").to_string().contains("aliases"));
    }

    #[test]
    fn errors_say_where() {
        assert_eq!(parse("a: 1\na: 2\n").expect_err("twice").to_string(), "line 2, column 1: the key \"a\" stands here twice");
        assert_eq!(parse("a: [1, 2\n").expect_err("open").line().map(|(line, _)| line), Some(2));
        assert!(parse("a: 1\n---\nb: 2\n").is_err());
        assert!(parse(&"[".repeat(500)).is_err());
        assert!(parse("? [a]\n: 1\n").is_err());
        assert!(parse("a: *nowhere\n").is_err());
    }

    #[test]
    fn keys_keep_their_text() {
        assert_eq!(parse("0755: a\nyes: b\n\"1\": c\n").expect("YAML").get("0755"), Some(&Node::from("a")));
    }
}
