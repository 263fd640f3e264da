//! JSON patches (RFC 6902), on trees.

use crate::config::problem::{Problem, Problems, nearest};
use crate::config::tree::{Data, Entry, Node, Pos};
use crate::config::types::to_any;

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Where it stands.
    pub pos: Pos,
    op: Op,
    path: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Op {
    Add(Node),
    Remove,
    Replace(Node),
    Move(Vec<String>),
    Copy(Vec<String>),
    Test(Node),
}

/// Reads operations.
pub(super) fn operations(items: &[Node]) -> Result<Vec<Operation>, Problems> {
    let mut problems = Vec::new();
    let mut out = Vec::new();
    for (i, item) in items.iter().enumerate() {
        match operation(item) {
            Ok(operation) => out.push(operation),
            Err(mut problem) => {
                problem.path = format!("[{i}]");
                problems.push(problem);
            }
        }
    }
    if problems.is_empty() { Ok(out) } else { Err(Problems(problems)) }
}

fn operation(item: &Node) -> Result<Operation, Problem> {
    const OPS: [&str; 6] = ["add", "remove", "replace", "move", "copy", "test"];
    let pointer = |key: &str| {
        let node = item.get(key).ok_or_else(|| {
            Problem::error("", format!("an operation without `{key}`"), "a JSON pointer such as /machine/type").at(item.pos)
        })?;
        parse_pointer(node.text().unwrap_or_default())
            .ok_or_else(|| Problem::error("", node.describe(), "a JSON pointer, which starts with `/`").at(node.pos))
    };
    let value = || item.get("value").cloned().ok_or_else(|| Problem::error("", "an operation without `value`", "a value").at(item.pos));
    let name = item.get("op").and_then(Node::text).unwrap_or_default();
    let op = match name {
        "add" => Op::Add(value()?),
        "remove" => Op::Remove,
        "replace" => Op::Replace(value()?),
        "move" => Op::Move(pointer("from")?),
        "copy" => Op::Copy(pointer("from")?),
        "test" => Op::Test(value()?),
        _ => {
            let found = format!("an operation `{name}` of a JSON patch");
            let problem = Problem::error("", found, format!("`op` to be one of {}", OPS.join(", ")));
            return Err(problem.at(item.pos).suggest(nearest(name, OPS)));
        }
    };
    Ok(Operation { pos: item.pos, op, path: pointer("path")? })
}

fn parse_pointer(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let rest = text.strip_prefix('/')?;
    Some(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

/// Applies operations in their order; nothing changes when one does not fit.
pub(super) fn apply(tree: &mut Node, operations: &[Operation]) -> Result<(), Problems> {
    let mut result = tree.clone();
    for operation in operations {
        one(&mut result, operation).map_err(|p| Problems::from(p.at(operation.pos)))?;
    }
    *tree = result;
    Ok(())
}

fn one(tree: &mut Node, operation: &Operation) -> Result<(), Problem> {
    let path = &operation.path;
    match &operation.op {
        Op::Add(value) => add(tree, path, value.clone()),
        Op::Remove => remove(tree, path).map(|_| ()),
        Op::Replace(value) => {
            *find(tree, path)? = value.clone();
            Ok(())
        }
        Op::Move(from) => {
            let value = remove(tree, from)?;
            add(tree, path, value)
        }
        Op::Copy(from) => {
            let value = find(tree, from)?.clone();
            add(tree, path, value)
        }
        Op::Test(value) => {
            let there = find(tree, path)?;
            if to_any(there) == to_any(value) {
                return Ok(());
            }
            Err(Problem::error(shown(path), there.describe(), format!("{} (a `test` of the patch)", value.describe())))
        }
    }
}

fn shown(path: &[String]) -> String {
    format!("/{}", path.join("/"))
}

fn find<'a>(tree: &'a mut Node, path: &[String]) -> Result<&'a mut Node, Problem> {
    let mut node = tree;
    for (i, part) in path.iter().enumerate() {
        let missing = || Problem::error(shown(&path[..=i]), "nothing", "a value that is there");
        node = match &mut node.data {
            Data::Map(entries) => entries.iter_mut().find(|e| e.key == *part).map(|e| &mut e.value).ok_or_else(missing)?,
            Data::List(items) => part.parse::<usize>().ok().and_then(|i| items.get_mut(i)).ok_or_else(missing)?,
            _ => return Err(missing()),
        };
    }
    Ok(node)
}

fn add(tree: &mut Node, path: &[String], value: Node) -> Result<(), Problem> {
    let Some((last, parents)) = path.split_last() else {
        *tree = value;
        return Ok(());
    };
    let parent = find(tree, parents)?;
    match &mut parent.data {
        Data::Map(entries) => match entries.iter_mut().find(|e| e.key == *last) {
            Some(entry) => entry.value = value,
            None => entries.push(Entry { key: last.clone(), pos: value.pos, value }),
        },
        Data::List(items) => {
            let index = if last == "-" { Some(items.len()) } else { last.parse::<usize>().ok() };
            let Some(index) = index.filter(|i| *i <= items.len()) else {
                return Err(Problem::error(
                    shown(path),
                    format!("the index `{last}` of a list of {}", items.len()),
                    "an index in the list, or `-` for its end",
                ));
            };
            items.insert(index, value);
        }
        _ => return Err(Problem::error(shown(path), parent.describe(), "a map or list to add to")),
    }
    Ok(())
}

fn remove(tree: &mut Node, path: &[String]) -> Result<Node, Problem> {
    let missing = || Problem::error(shown(path), "nothing", "a value that is there");
    let (last, parents) = path.split_last().ok_or_else(|| Problem::error("/", "the removal of everything", "a path below"))?;
    match &mut find(tree, parents)?.data {
        Data::Map(entries) => {
            let index = entries.iter().position(|e| e.key == *last).ok_or_else(missing)?;
            Ok(entries.remove(index).value)
        }
        Data::List(items) => {
            let index = last.parse::<usize>().ok().filter(|i| *i < items.len()).ok_or_else(missing)?;
            Ok(items.remove(index))
        }
        _ => Err(missing()),
    }
}
