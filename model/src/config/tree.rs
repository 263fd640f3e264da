//! The YAML tree with the place of every node: what a text says, before anyone asks what it means.
//!
//! Patches, redaction and error positions work on this tree; typed documents are decoded from it (`schema.rs`). It is bounded: depth, size and
//! alias expansion have limits, so a hostile file costs no more than an error.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::Problem;

/// Largest input accepted, in bytes.
pub const MAX_BYTES: usize = 16 << 20;
/// Deepest nesting accepted.
const MAX_DEPTH: usize = 100;
/// Most nodes that a stream may hold after aliases are expanded.
const MAX_NODES: usize = 1_000_000;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pos {
    /// Which input: 0 the configuration, 1.. the patches.
    pub source: u16,
    /// Line, from 1; 0 for a node that no text holds.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// A value in the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its place.
    pub pos: Pos,
    /// What it is.
    pub data: Data,
}

/// The kinds of value.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Nothing (`null`, `~`, or an empty value).
    Null,
    /// One word or text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text, keys unique.
    Map(Vec<Entry>),
}

/// A scalar as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// The text, unquoted and unescaped.
    pub text: String,
    /// Written without quotes, so it may be a number or a boolean; what is not plain is always a string.
    pub plain: bool,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Place of the key.
    pub pos: Pos,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A string that no text holds.
    pub fn string(text: impl Into<String>) -> Self {
        Self { pos: Pos::default(), data: Data::Scalar(Scalar { text: text.into(), plain: false }) }
    }

    /// A number, boolean or other word that stands without quotes.
    pub fn word(text: impl ToString) -> Self {
        Self { pos: Pos::default(), data: Data::Scalar(Scalar { text: text.to_string(), plain: true }) }
    }

    /// A list that no text holds.
    #[must_use]
    pub fn list(items: Vec<Node>) -> Self {
        Self { pos: Pos::default(), data: Data::List(items) }
    }

    /// A map that no text holds.
    #[must_use]
    pub fn map(entries: Vec<(String, Node)>) -> Self {
        let entry = |(key, value)| Entry { key, pos: Pos::default(), value };
        Self { pos: Pos::default(), data: Data::Map(entries.into_iter().map(entry).collect()) }
    }

    /// The entries of a map; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    /// The value under a key of a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.value)
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(s) => Some(&s.text),
            _ => None,
        }
    }

    /// Whether it is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// What it is, for an error: `a map`, `the number 7`, `the text "abc"`.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.data {
            Data::Null => "nothing (null)".to_owned(),
            Data::List(items) => format!("a list of {}", items.len()),
            Data::Map(_) => "a map".to_owned(),
            Data::Scalar(s) => {
                let short: String =
                    if s.text.chars().count() > 40 { s.text.chars().take(40).chain("…".chars()).collect() } else { s.text.clone() };
                if s.plain { format!("`{short}`") } else { format!("the text {short:?}") }
            }
        }
    }

    /// The node at a path like `machine.network.interfaces[0].mtu`, or the deepest one on the way there.
    #[must_use]
    pub fn nearest_at(&self, path: &str) -> Pos {
        let mut node = self;
        let mut pos = self.pos;
        for part in split_path(path) {
            let next = match &part {
                Step::Key(key) => node.entries().iter().find(|e| e.key == *key).map(|e| (e.pos, &e.value)),
                Step::Index(i) => node.items().get(*i).map(|n| (n.pos, n)),
            };
            let Some((at, value)) = next else { break };
            pos = at;
            node = value;
        }
        pos
    }
}

enum Step {
    Key(String),
    Index(usize),
}

/// Splits `a.b[0]["x.y"]`; keys with dots are written `["x.y"]` by [`join_key`].
fn split_path(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let Some((key, tail)) = quoted.split_once("\"]") else { break };
            steps.push(Step::Key(key.to_owned()));
            rest = tail;
        } else if let Some(index) = rest.strip_prefix('[') {
            let Some((number, tail)) = index.split_once(']') else { break };
            steps.push(Step::Index(number.parse().unwrap_or(usize::MAX)));
            rest = tail;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                break;
            }
            steps.push(Step::Key(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    steps
}

/// Adds a key to a path, quoting keys that hold dots or brackets.
#[must_use]
pub fn join_key(path: &str, key: &str) -> String {
    if key.contains(['.', '[', '/']) {
        format!("{path}[\"{key}\"]")
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// One document of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The root node.
    pub root: Node,
}

/// Parses a stream of documents. Null documents are left out. The problems are syntax errors (at most one, which ends the reading) and
/// duplicate keys (all of them).
pub fn parse(input: &[u8], source: u16) -> (Vec<Document>, Vec<Problem>) {
    let place = |line, column| Pos { source, line, column };
    if input.len() > MAX_BYTES {
        let found = format!("{} bytes", input.len());
        return (Vec::new(), vec![Problem::error("", found, format!("a configuration of at most {MAX_BYTES} bytes")).at(place(1, 1))]);
    }
    let text = match std::str::from_utf8(input) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(e) => {
            let before = &input[..e.valid_up_to()];
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
            let found = format!("byte {:#04x}, which is not UTF-8", input.get(e.valid_up_to()).copied().unwrap_or_default());
            let expected = "text in UTF-8 (UTF-16 and gzip are not read here)";
            return (Vec::new(), vec![Problem::error("", found, expected).at(place(to_u32(line), to_u32(column)))]);
        }
    };
    let mut builder = Builder { source, ..Builder::default() };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let outcome = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(e) => {
                let pos = place(to_u32(e.marker().line()), to_u32(e.marker().col() + 1));
                Err(Problem::error("", format!("text that is not YAML ({})", e.info()), syntax_advice(text, e.marker().line())).at(pos))
            }
        };
        if let Err(problem) = outcome {
            builder.problems.push(problem);
            break;
        }
    }
    (builder.documents, builder.problems)
}

/// What most often is behind a syntax error in that line.
fn syntax_advice(text: &str, line: usize) -> String {
    let around = text.lines().skip(line.saturating_sub(2)).take(2).collect::<Vec<_>>();
    if around.iter().any(|l| l.trim_start_matches(' ').starts_with('\t')) {
        "indent with spaces: YAML does not allow tabs there".to_owned()
    } else {
        "check the indentation, and quote values that hold `: `, `#` or start with one of `{[*&!%@`".to_owned()
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Builds nodes out of parser events.
#[derive(Default)]
struct Builder {
    source: u16,
    documents: Vec<Document>,
    problems: Vec<Problem>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A collection that is still open.
struct Frame {
    pos: Pos,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    /// The entries so far, the key whose value comes next, and what `<<` brings in.
    Map {
        entries: Vec<Entry>,
        key: Option<(String, Pos)>,
        merges: Vec<Node>,
    },
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let pos = Pos { source: self.source, line: to_u32(span.start.line()), column: to_u32(span.start.col() + 1) };
        match event {
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, pos)?;
                let plain = style == ScalarStyle::Plain && tag.as_ref().is_none_or(|t| t.suffix != "str");
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let data = if null { Data::Null } else { Data::Scalar(Scalar { text: text.into_owned(), plain }) };
                self.value(Node { pos, data }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(pos, anchor, Items::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(pos, anchor, Items::Map { entries: Vec::new(), key: None, merges: Vec::new() }),
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Frame { pos, anchor, items: Items::List(items) }) => self.value(Node { pos, data: Data::List(items) }, anchor),
                Some(Frame { pos, anchor, items: Items::Map { mut entries, merges, .. } }) => {
                    merges.into_iter().for_each(|node| merge_key(&mut entries, node));
                    self.value(Node { pos, data: Data::Map(entries) }, anchor)
                }
                None => Ok(()),
            },
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Problem::error(
                        "",
                        "an alias to something that is not there yet",
                        "an anchor earlier in the same document",
                    )
                    .at(pos));
                };
                self.count(size(&node), pos)?;
                self.value(node, 0)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn count(&mut self, more: usize, pos: Pos) -> Result<(), Problem> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(Problem::error("", "too many values, counting each use of an alias", format!("at most {MAX_NODES} values")).at(pos));
        }
        Ok(())
    }

    fn open(&mut self, pos: Pos, anchor: usize, items: Items) -> Result<(), Problem> {
        self.count(1, pos)?;
        if self.stack.len() >= MAX_DEPTH {
            return Err(Problem::error("", format!("nesting deeper than {MAX_DEPTH} levels"), "a flatter structure").at(pos));
        }
        self.stack.push(Frame { pos, anchor, items });
        Ok(())
    }

    fn value(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            if !node.is_null() {
                self.documents.push(Document { root: node });
            }
            return Ok(());
        };
        match &mut frame.items {
            Items::List(items) => items.push(node),
            Items::Map { key: key @ None, .. } => {
                let text = match node.data {
                    Data::Scalar(s) => s.text,
                    Data::Null => "null".to_owned(),
                    _ => return Err(Problem::error("", "a map or list used as a key", "a word as key").at(node.pos)),
                };
                *key = Some((text, node.pos));
            }
            Items::Map { entries, key, merges } => {
                let Some((key, pos)) = key.take() else { return Ok(()) };
                if key == "<<" {
                    merges.push(node);
                } else if let Some(first) = entries.iter().find(|e| e.key == key) {
                    let found = format!("the key `{key}` a second time");
                    let problem = Problem::error(key, found, format!("each key once: the first is in line {}", first.pos.line));
                    self.problems.push(problem.at(pos));
                } else {
                    entries.push(Entry { key, pos, value: node });
                }
            }
        }
        Ok(())
    }
}

/// YAML's `<<`: the keys of other maps, where the map has none of its own.
fn merge_key(entries: &mut Vec<Entry>, node: Node) {
    match node.data {
        Data::Map(others) => {
            for other in others {
                if !entries.iter().any(|e| e.key == other.key) {
                    entries.push(other);
                }
            }
        }
        Data::List(items) => items.into_iter().for_each(|item| merge_key(entries, item)),
        _ => {}
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.data {
        Data::List(items) => items.iter().map(size).sum(),
        Data::Map(entries) => entries.iter().map(|e| size(&e.value)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_text() {
        let (docs, problems) = parse(b"a:\n  b: [1, two]\n---\nnull\n---\nc: 'x'\n", 0);
        assert!(problems.is_empty());
        assert_eq!(docs.len(), 2, "null documents are skipped");
        assert_eq!(docs[0].root.nearest_at("a.b[1]"), Pos { source: 0, line: 2, column: 10 });
        assert_eq!(docs[1].root.get("c").and_then(Node::text), Some("x"));
    }

    #[test]
    fn every_duplicate_key_is_told() {
        let (_, problems) = parse(b"a: 1\na: 2\nb:\n  c: 1\n  c: 2\n", 0);
        assert_eq!(problems.iter().map(|p| (p.line, p.column)).collect::<Vec<_>>(), [(2, 1), (5, 3)]);
    }

    #[test]
    fn hostile_input_is_an_error_and_cheap() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
        }
        assert!(parse(bomb.as_bytes(), 0).1[0].found.contains("too many values"));
        assert!(parse("[".repeat(150).as_bytes(), 0).1[0].found.contains("nesting"));
        assert_eq!(parse("[".repeat(100_000).as_bytes(), 0).1.len(), 1);
        assert!(parse(b"a: \xff\xfe", 0).1[0].found.contains("0xff"));
        assert!(parse(b"a:\n\tb: 1\n", 0).1[0].expected.contains("tabs"));
        assert_eq!(parse(b"a: b: c\n", 0).1.len(), 1);
    }

    #[test]
    fn merge_keys_fill_in() {
        let (docs, problems) = parse(b"base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n", 0);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(docs[0].root.get("use").and_then(|n| n.get("x")).and_then(Node::text), Some("1"));
    }
}
