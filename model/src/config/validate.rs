//! Rules beyond types: required keys, ranges, references, conflicts, by the place where the machine runs.
//!
//! All problems are collected; each stands at the key it is about. Rules for a kind are in the file of its room.

mod cluster;
mod host;
mod kube;
mod net;
mod root;
mod storage;

use super::documents::{Document, body};
use super::machine::MachineType;
use super::problem::{Problem, Problems, Severity};
use super::schema::{Cx, Section, Shape, check_deprecated, check_required};
use super::tree::Node;
use super::{Config, ROOT_ID, Root};

pub use root::PROTECTED_KUBELET;

/// Where a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// On hardware: needs to know where to install.
    #[default]
    Metal,
    /// In a cloud: installed already.
    Cloud,
    /// In a container: no disks; needs the machine's own DNS.
    Container,
    /// An agent on hardware that is not installed.
    MetalAgent,
    /// Read back from STATE.
    Disk,
}

impl Mode {
    /// The mode of that name: metal, cloud, container, metal-agent.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "metal" => Some(Self::Metal),
            "cloud" => Some(Self::Cloud),
            "container" => Some(Self::Container),
            "metal-agent" => Some(Self::MetalAgent),
            _ => None,
        }
    }
}

/// How strict to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Warnings refuse the configuration. (Advice never does.)
    pub strict: bool,
    /// Skip what depends on the machine: the supported versions of Kubernetes.
    pub local: bool,
}

/// What the rules of one document found.
pub(super) struct Report<'a> {
    id: String,
    node: &'a Node,
    options: Options,
    problems: &'a mut Vec<Problem>,
}

impl Report<'_> {
    fn push(&mut self, problem: Problem) {
        let pos = self.node.nearest_at(&problem.path);
        self.problems.push(problem.at(pos).in_document(&self.id));
    }

    /// Notes an error at a key.
    pub(super) fn error(&mut self, path: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) {
        self.push(Problem::error(path, found, expected));
    }

    /// Notes a warning at a key.
    pub(super) fn warning(&mut self, path: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) {
        self.push(Problem::warning(path, found, expected));
    }

    /// Notes an error unless something holds.
    pub(super) fn require(&mut self, holds: bool, path: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) {
        if !holds {
            self.error(path, found, expected);
        }
    }
}

/// Checks everything that the types do not say.
#[must_use]
pub fn validate(config: &Config, mode: Mode, options: Options) -> Problems {
    let mut problems = Vec::new();
    if config.root.is_none() && config.documents.is_empty() {
        problems.push(Problem::error("", "no document at all", "at least one; `orlopctl gen config` makes them"));
    }
    let machine_type = config.root.as_ref().and_then(|r| r.value.machine.as_ref()).and_then(|m| MachineType::parse(&m.type_));
    if let Some(root) = &config.root {
        let mut cx = Cx::new(ROOT_ID);
        check_required(&root.node, &Shape::Section(Root::INFO), &mut cx);
        check_deprecated(&root.node, &Shape::Section(Root::INFO), &mut cx);
        problems.append(&mut cx.problems);
        let mut report = Report { id: ROOT_ID.to_owned(), node: &root.node, options, problems: &mut problems };
        root::check(&root.value, mode, &mut report);
    }
    for document in &config.documents {
        let id = document.value.id();
        let mut cx = Cx::new(id.as_str());
        let shape = Shape::Section(document.value.kind().info);
        check_required(&body(&document.node), &shape, &mut cx);
        let incomplete = !cx.problems.is_empty();
        problems.append(&mut cx.problems);
        let mut report = Report { id, node: &document.node, options, problems: &mut problems };
        if document.value.kind().is_control_plane_only && machine_type.is_some_and(|t| !t.is_control_plane()) {
            report.error(
                "kind",
                format!("a {} on a worker", document.value.kind().name),
                "this kind on control planes only: remove it here",
            );
        }
        if !incomplete {
            check(&document.value, &mut report);
        }
    }
    cluster::check(config, mode, machine_type, options, &mut problems);
    if options.strict {
        for problem in problems.iter_mut().filter(|p| p.severity == Severity::Warning) {
            problem.severity = Severity::Error;
        }
    }
    problems.sort_by_key(|p| (p.source, p.line, p.column));
    Problems(problems)
}

/// The rules of one document.
fn check(document: &Document, report: &mut Report<'_>) {
    net::check(document, report);
    storage::check(document, report);
    kube::check(document, report);
    host::check(document, report);
}

/// Whether a name has that many letters, digits and `-` (and `extra`).
pub(super) fn plain_name(name: &str, longest: usize, extra: &str) -> bool {
    !name.is_empty() && name.len() <= longest && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || extra.contains(c))
}

/// Whether a name is a DNS label sequence in lower case (RFC 1123).
pub(super) fn dns_name(name: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Whether a text is base64 of 32 bytes.
pub(super) fn is_key32(text: &str) -> bool {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok_and(|b| b.len() == 32)
}
