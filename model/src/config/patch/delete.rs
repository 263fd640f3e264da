//! `$patch: delete` in strategic merges.

use super::{item_path, key_path};
use crate::config::problem::{Problem, nearest};
use crate::config::schema::{Info, Shape};
use crate::config::tree::{Data, Node, Pos};
use crate::config::types::to_any;

/// The directive's key.
const DIRECTIVE: &str = "$patch";

/// What a document wants deleted.
pub(super) enum Deletes {
    /// The document itself.
    Document,
    /// These places in it.
    Paths(Vec<Path>),
}

/// A place to delete.
pub(super) struct Path {
    steps: Vec<String>,
    /// The item of the list at `steps`: those whose key has the value.
    item: Option<(String, Node)>,
    shown: String,
    pos: Pos,
}

/// Takes all directives out of a document.
pub(super) fn take(document: &mut Node, id: &str) -> Result<Deletes, Problem> {
    if is_delete(document, id, "")? {
        return Ok(Deletes::Document);
    }
    let mut paths = Vec::new();
    walk(document, &mut Vec::new(), "", id, &mut paths)?;
    Ok(Deletes::Paths(paths))
}

/// Whether a map carries the directive.
fn is_delete(node: &Node, id: &str, shown: &str) -> Result<bool, Problem> {
    match node.get(DIRECTIVE) {
        None => Ok(false),
        Some(value) if value.text() == Some("delete") => Ok(true),
        Some(value) => {
            let problem = Problem::error(key_path(shown, DIRECTIVE), value.describe(), "`$patch: delete`, the only directive");
            Err(problem.at(value.pos).in_document(id).suggest(nearest(value.text().unwrap_or_default(), ["delete"])))
        }
    }
}

fn walk(node: &mut Node, steps: &mut Vec<String>, shown: &str, id: &str, paths: &mut Vec<Path>) -> Result<(), Problem> {
    match &mut node.data {
        Data::Map(entries) => {
            let mut kept = Vec::new();
            for mut entry in std::mem::take(entries) {
                let below = key_path(shown, &entry.key);
                steps.push(entry.key.clone());
                if is_delete(&entry.value, id, &below)? {
                    paths.push(Path { steps: steps.clone(), item: None, shown: below, pos: entry.pos });
                } else {
                    let (had, before) = (!is_empty(&entry.value), paths.len());
                    walk(&mut entry.value, steps, &below, id, paths)?;
                    let emptied = had && is_empty(&entry.value) && paths.len() > before;
                    if !emptied {
                        kept.push(entry);
                    }
                }
                steps.pop();
            }
            *entries = kept;
        }
        Data::List(items) => {
            let mut kept = Vec::new();
            for (i, mut item) in std::mem::take(items).into_iter().enumerate() {
                let below = item_path(shown, i);
                if is_delete(&item, id, &below)? {
                    let chooser = item.entries().iter().find(|e| e.key != DIRECTIVE);
                    let Some(chooser) = chooser.map(|e| (e.key.clone(), e.value.clone())) else {
                        let expected = "another key beside `$patch: delete` that says which item, such as `name: x`";
                        return Err(Problem::error(below, "`$patch: delete` alone", expected).at(item.pos).in_document(id));
                    };
                    paths.push(Path { steps: steps.clone(), item: Some(chooser), shown: below, pos: item.pos });
                    continue;
                }
                let mut inner = Vec::new();
                walk(&mut item, &mut Vec::new(), &below, id, &mut inner)?;
                if let Some(first) = inner.first() {
                    let expected = "`$patch: delete` on the whole item: a key within an item of a list cannot be deleted";
                    return Err(Problem::error(first.shown.clone(), "`$patch: delete` for a key of an item", expected)
                        .at(first.pos)
                        .in_document(id));
                }
                kept.push(item);
            }
            *items = kept;
        }
        _ => {}
    }
    Ok(())
}

fn is_empty(node: &Node) -> bool {
    node.entries().is_empty() && node.items().is_empty()
}

/// Deletes a place. Deleting an unset key of a section that is there does nothing.
pub(super) fn apply(tree: &mut Node, path: &Path, info: &'static Info, id: &str) -> Result<(), Problem> {
    let missing = |key: &str, shown: &str| {
        let found = format!("`$patch: delete` below `{key}`, which the configuration does not have");
        Problem::error(shown.to_owned(), found, "a key that is set").at(path.pos).in_document(id)
    };
    let mut node = tree;
    let mut shape = Shape::Section(info);
    let (parents, last) = match (&path.item, path.steps.split_last()) {
        (None, Some((last, parents))) => (parents, Some(last)),
        _ => (path.steps.as_slice(), None),
    };
    for key in parents {
        shape = step(&shape, key);
        node = super::entry_mut(node, key).ok_or_else(|| missing(key, &path.shown))?;
    }
    if let Some(key) = last {
        let Data::Map(entries) = &mut node.data else { return Err(missing(key, &path.shown)) };
        let before = entries.len();
        entries.retain(|e| e.key != *key);
        let known = matches!(shape, Shape::Section(info) | Shape::Flat(info) if info.field(key).is_some());
        return if entries.len() < before || known { Ok(()) } else { Err(missing(key, &path.shown)) };
    }
    let Some((key, value)) = &path.item else { return Ok(()) };
    let Data::List(items) = &mut node.data else { return Err(missing(key, &path.shown)) };
    let before = items.len();
    items.retain(|item| item.get(key).is_none_or(|v| to_any(v) != to_any(value)));
    if items.len() < before {
        return Ok(());
    }
    let found = format!("`$patch: delete` for an item with `{key}` {}, which the list does not have", value.describe());
    Err(Problem::error(path.shown.clone(), found, "an item that is there").at(path.pos).in_document(id))
}

/// The shape below a key.
fn step(shape: &Shape, key: &str) -> Shape {
    match shape {
        Shape::Section(info) | Shape::Flat(info) => info.field(key).map_or(Shape::Any, |f| *f.shape),
        Shape::Map(item) => **item,
        _ => Shape::Any,
    }
}
