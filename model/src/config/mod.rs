//! The machine configuration: one YAML stream that is the whole of a machine.
//!
//! [`Config::load`] reads a stream strictly and reports every problem at once. The result has two faces: [`Config`] is what the text says (bytes,
//! trees with positions, typed documents; patches, redaction and validation work on it) and [`MachineConfig`] is what it means: the legacy root
//! document is translated into documents once, here, and consumers ask only that one.
//!
//! - one declaration per kind: `docs/`, listed in `documents.rs`; the machinery in `schema.rs`
//! - rules beyond types: `validate.rs`; patches: `patch.rs`; generated configurations: `generate.rs`; client contexts: `client.rs`

pub mod documents;
pub mod emit;
pub mod problem;
pub mod schema;
pub mod tree;

pub mod client;
pub mod docs;
pub mod generate;
pub mod legacy;
pub mod machine;
pub mod patch;
pub mod secrets;
pub mod types;
pub mod validate;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use documents::{API_VERSION, Doc, Document, Header, KINDS, Kind, document_id, kind};
pub use legacy::root::{ExtraMount, ExtraVolume, LogDestination, Root};
pub use machine::{CaPem, HostnameSource, MachineConfig, MachineType};
pub use problem::{Problem, Problems, Severity, nearest};
pub use schema::{Cx, Field, FieldType, Flat, Info, REDACTED, Section, Shape};
pub use tree::{Node, Pos, parse};
pub use types::{Any, AnyMap, Duration, OneOrMany, Secret, SubnetFilter, Url};
pub use validate::{Mode, Options};

/// How problems name the root document.
pub const ROOT_ID: &str = "v1alpha1.Config";

/// The keys by which the root document is recognised.
const ROOT_KEYS: [&str; 5] = ["version", "machine", "cluster", "debug", "persist"];

/// A configuration that was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the text says.
    pub text: Config,
    /// What it means: the root document folded into documents.
    pub machine: MachineConfig,
    /// Warnings and advice of the reading itself (deprecated keys and the like).
    pub warnings: Vec<Problem>,
}

/// What the text of a configuration says.
#[derive(Debug, Clone, Default)]
pub struct Config {
    bytes: Arc<[u8]>,
    /// The root document.
    pub root: Option<Parsed<Root>>,
    /// The other documents, in the order of the text.
    pub documents: Vec<Parsed<Document>>,
}

/// A document with the tree it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// Where it stands, for positions.
    pub node: Node,
    /// What it says.
    pub value: T,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// All problems of the text: syntax, unknown keys and kinds, wrong types, duplicates. What a correct text may not say is found
    /// by [`Config::validate`].
    pub fn load(bytes: &[u8]) -> Result<Loaded, Problems> {
        let (config, warnings) = Self::read(bytes)?;
        let machine = legacy::translate::machine(&config);
        Ok(Loaded { text: config, machine, warnings })
    }

    /// Reads a configuration without asking what it means.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read(bytes: &[u8]) -> Result<(Self, Vec<Problem>), Problems> {
        let (trees, problems) = tree::parse(bytes, 0);
        let (mut config, problems) = Self::from_trees(trees.into_iter().map(|d| d.root).collect(), problems);
        let problems = Problems(problems);
        if problems.refuses() {
            return Err(problems);
        }
        config.bytes = bytes.into();
        Ok((config, problems.0))
    }

    /// Types a list of document trees, adding to the problems found so far.
    pub(crate) fn from_trees(trees: Vec<Node>, mut problems: Vec<Problem>) -> (Self, Vec<Problem>) {
        let mut config = Self::default();
        for node in trees {
            config.add(node, &mut problems);
        }
        config.check_claims(&mut problems);
        problems.sort_by_key(|p| (p.source, p.line, p.column));
        (config, problems)
    }

    fn add(&mut self, node: Node, problems: &mut Vec<Problem>) {
        if !matches!(node.data, tree::Data::Map(_)) {
            problems.push(Problem::error("", node.describe(), "a document, which is a map of keys").at(node.pos));
            return;
        }
        if node.get("kind").is_some_and(|n| !n.is_null()) {
            if let Some(value) = Document::decode(&node, problems) {
                self.documents.push(Parsed { node, value });
            }
            return;
        }
        let is_root = node.entries().iter().any(|e| ROOT_KEYS.contains(&e.key.as_str())) && node.get("apiVersion").is_none();
        if !is_root {
            problems.push(missing_kind(&node));
            return;
        }
        let mut cx = Cx::new(ROOT_ID);
        let value = schema::decode_section::<Root>(&node, &mut cx);
        problems.append(&mut cx.problems);
        if let Some(first) = &self.root {
            let found = "a second root document (one without `kind`)";
            problems.push(
                Problem::error("", found, format!("one: the first is in line {}", first.node.pos.line)).at(node.pos).in_document(ROOT_ID),
            );
        } else if let Some(value) = value {
            self.root = Some(Parsed { node, value });
        }
    }

    /// Two documents of one kind and name, rivals of one name, two claims on a link.
    fn check_claims(&self, problems: &mut Vec<Problem>) {
        let mut claims: Vec<(String, &Parsed<Document>)> = Vec::new();
        let mut links: Vec<(String, &Parsed<Document>)> = Vec::new();
        for document in &self.documents {
            let (kind, name) = (document.value.kind(), document.value.name());
            let id = document_id(kind.name, &name);
            let place = |at: &Parsed<Document>| format!("{} in line {}", at.value.id(), at.node.pos.line);
            if let Some((_, first)) = claims.iter().find(|(other, _)| *other == id) {
                let expected = if kind.is_named() { "another name" } else { "one document of this kind" };
                let found = format!("a second {id}");
                problems.push(
                    Problem::error("", found, format!("{expected}: the first is in line {}", first.node.pos.line)).at(document.node.pos),
                );
            } else if let Some(rival) = kind.rival_kind {
                let rival_id = document_id(rival, &name);
                if let Some((_, first)) = claims.iter().find(|(other, _)| *other == rival_id) {
                    let found = format!("the name of {}", place(first));
                    problems.push(Problem::error("name", found, "another name").at(document.node.nearest_at("name")).in_document(&id));
                }
            }
            if kind.is_link {
                let mut names = vec![("name", name)];
                if let Document::Veth(veth) = &document.value {
                    names.extend(veth.peer.as_ref().map(|p| ("peer.name", p.name.clone())));
                }
                for (path, link) in names {
                    if let Some((_, first)) = links.iter().find(|(other, at)| *other == link && at.value.id() != id) {
                        let found = format!("the link `{link}`, which {} configures already", place(first));
                        problems
                            .push(Problem::error(path, found, "one document per link").at(document.node.nearest_at(path)).in_document(&id));
                    }
                    links.push((link, document));
                }
            }
            claims.push((id, document));
        }
    }

    /// The user's own bytes; for a configuration that was made here, its encoding.
    #[must_use]
    pub fn bytes(&self) -> Arc<[u8]> {
        if self.bytes.is_empty() { self.encode().into_bytes().into() } else { self.bytes.clone() }
    }

    /// Writes all documents in the canonical layout: the root first, keys in the order of the tables.
    #[must_use]
    pub fn encode(&self) -> String {
        let root = self.root.iter().map(|r| schema::encode_section(&r.value));
        let nodes: Vec<Node> = root.chain(self.documents.iter().map(|d| d.value.encode())).collect();
        emit::stream(&nodes)
    }

    /// Writes all documents with every secret replaced by `REDACTED`. Keys and order are those of the user's text; comments go.
    #[must_use]
    pub fn redacted(&self) -> String {
        let root = self.root.iter().map(|r| (&r.node, Shape::Section(Root::INFO)));
        let documents = self.documents.iter().map(|d| (&d.node, Shape::Section(d.value.kind().info)));
        let nodes: Vec<Node> = root
            .chain(documents)
            .map(|(node, shape)| {
                let mut node = node.clone();
                schema::redact(&mut node, &shape);
                node
            })
            .collect();
        emit::stream(&nodes)
    }

    /// Whether a machine can boot with it: the root document is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.root.is_some()
    }

    /// The trees of all documents, the root first.
    #[must_use]
    pub fn trees(&self) -> Vec<Node> {
        self.root.iter().map(|r| &r.node).chain(self.documents.iter().map(|d| &d.node)).cloned().collect()
    }

    /// Checks everything that the types do not say: required keys, ranges, references, conflicts.
    #[must_use]
    pub fn validate(&self, mode: Mode, options: Options) -> Problems {
        validate::validate(self, mode, options)
    }
}

fn missing_kind(node: &Node) -> Problem {
    if node.get("apiVersion").is_some() {
        return Problem::error("kind", "a document without `kind`", "`kind: …`, the name of a kind of document").at(node.pos);
    }
    let first = node.entries().first();
    let key = first.map_or("nothing", |e| e.key.as_str());
    let expected = format!("`kind: …` with `apiVersion: {API_VERSION}`, or the root document with keys {}", ROOT_KEYS.join(", "));
    let near = nearest(key, ROOT_KEYS);
    Problem::error("", format!("a document without `kind` that starts with `{key}`"), expected)
        .at(first.map_or(node.pos, |e| e.pos))
        .suggest(near)
}
