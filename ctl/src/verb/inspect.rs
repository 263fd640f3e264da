//! `inspect`: how a node's controllers hang together.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use api::cosi::resource as state;
use api::inspect as pb;
use clap::{Args, Subcommand};
use pb::DependencyEdgeType as Type;

use crate::session::{Node, Session};

/// Look inside a node.
#[derive(Debug, Args)]
pub struct Inspect {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the graph of controllers and resources, for graphviz: … | dot -Tsvg.
    Dependencies {
        /// With the resources that are there.
        #[arg(long)]
        with_resources: bool,
    },
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What an edge begins or ends at: a kind of resource, or one of them.
fn resource(edge: &pb::ControllerDependencyEdge) -> String {
    let kind = format!("{}/{}", edge.resource_namespace, edge.resource_type);
    if edge.resource_id.is_empty() { kind } else { format!("{kind}/{}", edge.resource_id) }
}

/// The graph in graphviz's language: controllers are boxes, what they write comes out of them, what they read goes in.
/// `there` are resources that exist, each with the kind it hangs on.
fn dot(edges: &[pb::ControllerDependencyEdge], there: &[(String, String)]) -> String {
    let mut text = String::from("digraph {\n  rankdir=LR;\n");
    let controllers: BTreeSet<&str> = edges.iter().map(|e| e.controller_name.as_str()).collect();
    for name in controllers {
        let _ = writeln!(text, "  {} [shape=box];", quote(name));
    }
    for edge in edges {
        let (controller, resource) = (quote(&edge.controller_name), quote(&resource(edge)));
        let _ = match edge.edge_type() {
            Type::OutputExclusive => writeln!(text, "  {controller} -> {resource} [style=bold];"),
            Type::OutputShared => writeln!(text, "  {controller} -> {resource};"),
            Type::InputStrong => writeln!(text, "  {resource} -> {controller};"),
            Type::InputWeak | Type::InputDestroyReady => writeln!(text, "  {resource} -> {controller} [style=dotted];"),
        };
    }
    for (kind, id) in there {
        let _ = writeln!(text, "  {} -> {} [dir=none, style=dashed];", quote(kind), quote(&format!("{kind}/{id}")));
    }
    text + "}\n"
}

/// The ids of the resources of every kind that a controller writes; kinds that may not be read are left out.
async fn resources(node: &Node, edges: &[pb::ControllerDependencyEdge]) -> Vec<(String, String)> {
    let kinds: BTreeSet<(String, String)> = edges
        .iter()
        .filter(|e| matches!(e.edge_type(), Type::OutputExclusive | Type::OutputShared))
        .map(|e| (e.resource_namespace.clone(), e.resource_type.clone()))
        .collect();
    let mut found = Vec::new();
    for (namespace, kind) in kinds {
        let name = format!("{namespace}/{kind}");
        let Ok(answer) = node.client.state().list(state::ListRequest { namespace, r#type: kind, options: None }).await else { continue };
        let mut stream = answer.into_inner();
        while let Ok(Some(item)) = stream.message().await {
            let id = item.resource.and_then(|r| r.metadata).map(|m| m.id);
            found.extend(id.map(|id| (name.clone(), id)));
        }
    }
    found
}

impl Inspect {
    /// Prints the graph of the one node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let Command::Dependencies { with_resources } = self.command;
        let node = session.one(false)?;
        let answer = node.client.inspect().controller_runtime_dependencies(()).await?.into_inner();
        let edges: Vec<_> = answer.messages.into_iter().flat_map(|m| m.edges).collect();
        let there = if with_resources { resources(&node, &edges).await } else { Vec::new() };
        print!("{}", dot(&edges, &there));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_leaves_the_controller_and_what_is_read_enters_it() {
        let edge = |edge_type: Type, id: &str| pb::ControllerDependencyEdge {
            controller_name: "a.Controller".into(),
            edge_type: edge_type.into(),
            resource_namespace: "network".into(),
            resource_type: "Things".into(),
            resource_id: id.into(),
        };
        let text = dot(&[edge(Type::OutputExclusive, ""), edge(Type::InputWeak, "one")], &[("network/Things".into(), "two".into())]);
        for line in [
            r#"  "a.Controller" [shape=box];"#,
            r#"  "a.Controller" -> "network/Things" [style=bold];"#,
            r#"  "network/Things/one" -> "a.Controller" [style=dotted];"#,
            r#"  "network/Things" -> "network/Things/two" [dir=none, style=dashed];"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
        }
    }
}
