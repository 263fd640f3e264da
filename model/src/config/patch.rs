//! Patches: strategic merges (documents that look like the configuration, with `$patch: delete`) and JSON patches (RFC 6902).
//!
//! Patches work on trees, guided by the key tables: what is a list to append to, what is replaced, which items are the same thing. The result is typed
//! again, so a patch can make nothing that a configuration could not say; problems name the line in the patch that brought them.

use super::documents::{self, Header, document_id};
use super::problem::{Problem, Problems};
use super::schema::{Cx, Field, Info, Section, Shape, decode_section};
use super::tree::{Data, Entry, Node, join_key, parse};
use super::types::to_any;
use super::{Config, Document, ROOT_ID, Root};

mod delete;
mod json;

pub use json::Operation;

/// A patch.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// Documents to merge.
    Strategic(Vec<Node>),
    /// Operations on the only document.
    Json(Vec<Operation>),
}

/// What an argument on the command line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument<'a> {
    /// A file.
    File(&'a str),
    /// The patch itself.
    Inline(&'a str),
}

/// Tells a file from a patch: `@file`, or a text without white space that starts with neither `[` nor `{`, is a file.
#[must_use]
pub fn argument(text: &str) -> Argument<'_> {
    if let Some(file) = text.strip_prefix('@') {
        return Argument::File(file);
    }
    let inline = text.contains([' ', '\n', '\t']) || text.starts_with(['[', '{']);
    if inline { Argument::Inline(text) } else { Argument::File(text) }
}

impl Patch {
    /// Reads a patch. `source` numbers it in problems: 1 for the first patch, and so on.
    ///
    /// # Errors
    /// All problems of its text.
    pub fn parse(bytes: &[u8], source: u16) -> Result<Self, Problems> {
        let (trees, problems) = parse(bytes, source);
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let mut trees: Vec<Node> = trees.into_iter().map(|d| d.root).collect();
        match trees.as_mut_slice() {
            [Node { data: Data::List(items), .. }] => json::operations(items).map(Self::Json),
            _ => Ok(Self::Strategic(trees)),
        }
    }
}

/// Applies patches in their order.
///
/// # Errors
/// All problems of the first patch that does not fit.
pub fn apply(config: &Config, patches: &[Patch]) -> Result<Config, Problems> {
    let mut trees = config.trees();
    for patch in patches {
        match patch {
            Patch::Strategic(documents) => strategic(&mut trees, documents)?,
            Patch::Json(operations) => {
                let [tree] = trees.as_mut_slice() else {
                    let found = format!("a JSON patch for a configuration of {} documents", trees.len());
                    let advice = "a strategic merge patch: a piece of YAML that looks like the part to change. JSON patches work on a single document only";
                    let pos = operations.first().map(|o| o.pos).unwrap_or_default();
                    return Err(Problem::error("", found, advice).at(pos).into());
                };
                json::apply(tree, operations)?;
            }
        }
    }
    let (result, problems) = Config::from_trees(trees, Vec::new());
    let problems = Problems(problems);
    if problems.refuses() { Err(problems) } else { Ok(result) }
}

/// Merges the documents of a patch.
fn strategic(trees: &mut Vec<Node>, documents: &[Node]) -> Result<(), Problems> {
    let mut problems = Vec::new();
    for document in documents {
        let (info, id) = match identify(document) {
            Ok(found) => found,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let place = trees.iter().position(|t| identify(t).is_ok_and(|(_, other)| other == id));
        let mut document = document.clone();
        let deletes = delete::take(&mut document, &id);
        let deletes = match deletes {
            Ok(delete::Deletes::Document) => {
                if let Some(place) = place {
                    trees.remove(place);
                }
                continue;
            }
            Ok(delete::Deletes::Paths(paths)) => paths,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let before = problems.len();
        problems.append(&mut check_types(&document, &id));
        if problems.len() > before {
            continue;
        }
        match place {
            Some(place) => {
                let tree = &mut trees[place];
                problems.extend(deletes.iter().filter_map(|path| delete::apply(tree, path, info, &id).err()));
                let mut cx = Cx::new(id);
                merge_section(tree, &document, info, &mut cx);
                problems.append(&mut cx.problems);
            }
            None if deletes.is_empty() => trees.push(document),
            None => problems.push(
                Problem::error("", format!("`$patch: delete` for {id}, which the configuration does not have"), "a document that is there")
                    .at(document.pos),
            ),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// Key table and identity of a document.
fn identify(node: &Node) -> Result<(&'static Info, String), Problem> {
    if !matches!(node.data, Data::Map(_)) {
        return Err(Problem::error("", node.describe(), "a document, which is a map of keys").at(node.pos));
    }
    let header = Header::read(node);
    let Some(kind_node) = header.kind else {
        return Ok((Root::INFO, ROOT_ID.to_owned()));
    };
    let name = kind_node.text().unwrap_or_default();
    let Some(kind) = documents::kind(name) else {
        let near = super::nearest(name, documents::KINDS.iter().map(|k| k.name));
        return Err(Problem::error("kind", format!("unknown kind {}", kind_node.describe()), "a kind of document")
            .at(kind_node.pos)
            .suggest(near));
    };
    Ok((kind.info, document_id(kind.name, header.name.unwrap_or_default())))
}

/// The problems a document has by itself: unknown keys and wrong types.
fn check_types(document: &Node, id: &str) -> Vec<Problem> {
    if id == ROOT_ID {
        let mut cx = Cx::new(ROOT_ID);
        decode_section::<Root>(document, &mut cx);
        return cx.problems;
    }
    let mut problems = Vec::new();
    Document::decode(document, &mut problems);
    problems
}

fn entry_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    match &mut node.data {
        Data::Map(entries) => entries.iter_mut().find(|e| e.key == key).map(|e| &mut e.value),
        _ => None,
    }
}

fn push_entry(node: &mut Node, entry: Entry) {
    match &mut node.data {
        Data::Map(entries) => entries.push(entry),
        data => *data = Data::Map(vec![entry]),
    }
}

fn merge_section(left: &mut Node, right: &Node, info: &'static Info, cx: &mut Cx) {
    for entry in right.entries() {
        let field = info.field(&entry.key);
        match entry_mut(left, &entry.key) {
            Some(value) => cx.under(&entry.key, |cx| match field {
                Some(field) => merge_field(value, &entry.value, field, cx),
                None => replace(value, &entry.value),
            }),
            None => push_entry(left, entry.clone()),
        }
    }
}

fn replace(left: &mut Node, right: &Node) {
    *left = right.clone();
}

fn merge_field(left: &mut Node, right: &Node, field: &Field, cx: &mut Cx) {
    if right.is_null() {
        return;
    }
    let empty_text = right.text().is_some_and(str::is_empty);
    match (&left.data, &right.data) {
        (_, Data::Scalar(_)) if empty_text => {}
        (Data::List(_), Data::List(items)) if field.is_replaced && !items.is_empty() => replace(left, right),
        (Data::Map(_), Data::Map(entries)) if field.is_replaced && !entries.is_empty() => replace(left, right),
        (Data::List(_), Data::List(_)) if !field.merge_key.is_empty() => merge_items(left, right, field, cx),
        _ => merge_value(left, right, field.shape, cx),
    }
}

fn merge_value(left: &mut Node, right: &Node, shape: &Shape, cx: &mut Cx) {
    match (shape, &mut left.data, &right.data) {
        (_, _, Data::Null) => {}
        (Shape::Section(info) | Shape::Flat(info), Data::Map(_), Data::Map(_)) => merge_section(left, right, info, cx),
        (Shape::Map(item), Data::Map(_), Data::Map(entries)) => {
            for entry in entries {
                match entry_mut(left, &entry.key) {
                    Some(value) => cx.under(&entry.key, |cx| merge_value(value, &entry.value, item, cx)),
                    None => push_entry(left, entry.clone()),
                }
            }
        }
        (Shape::OneOrMany, _, _) => replace(left, right),
        (Shape::Any | Shape::AnyMap | Shape::SecretMap, _, _) => merge_any(left, right, cx),
        (_, Data::List(items), Data::List(more)) => items.extend(more.iter().cloned()),
        _ => replace(left, right),
    }
}

/// Merges free-form values: maps by key, lists by appending, words by replacing; the types must agree.
fn merge_any(left: &mut Node, right: &Node, cx: &mut Cx) {
    match (&mut left.data, &right.data) {
        (_, Data::Null) => {}
        (Data::Null, _) | (Data::Scalar(_), Data::Scalar(_)) => replace(left, right),
        (Data::List(items), Data::List(more)) => items.extend(more.iter().cloned()),
        (Data::Map(_), Data::Map(entries)) => {
            for entry in entries {
                match entry_mut(left, &entry.key) {
                    Some(value) => cx.under(&entry.key, |cx| merge_any(value, &entry.value, cx)),
                    None => push_entry(left, entry.clone()),
                }
            }
        }
        _ => {
            let expected = format!("the same kind of value as the configuration has there: {}", left.describe());
            cx.error(right.pos, right.describe(), expected);
        }
    }
}

/// Merges lists whose items have an identity.
fn merge_items(left: &mut Node, right: &Node, field: &Field, cx: &mut Cx) {
    let (whole, key) = field.merge_key.strip_prefix('=').map_or((false, field.merge_key), |key| (true, key));
    let Data::List(items) = &mut left.data else { return };
    for (i, new) in right.items().iter().enumerate() {
        match items.iter_mut().find(|old| same_item(old, new, key)) {
            Some(old) if whole => replace(old, new),
            Some(old) => {
                let Shape::List(item) = field.shape else { continue };
                cx.item(i, |cx| merge_value(old, new, item, cx));
            }
            None => items.push(new.clone()),
        }
    }
}

/// Whether two items are the same thing: an equal key, or for links an equal selector.
fn same_item(old: &Node, new: &Node, key: &str) -> bool {
    let by = |key: &str| match (old.get(key), new.get(key)) {
        (Some(a), Some(b)) if !a.is_null() => to_any(a) == to_any(b),
        _ => false,
    };
    let named = |node: &Node| node.get(key).and_then(Node::text).is_some_and(|t| !t.is_empty());
    if named(old) || named(new) { by(key) } else { key == "interface" && by("deviceSelector") }
}

/// The path of a step below a list item, for messages.
fn item_path(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The path of a step below a key, for messages.
fn key_path(path: &str, key: &str) -> String {
    join_key(path, key)
}
