//! The graph that controllers and kinds of resources form: built from declarations alone, checked before anything runs.
//!
//! A node is a controller; an edge goes from a controller that may write a kind to one that reads it. The graph refuses what could never
//! work (two exclusive writers of a kind, finalizers that wait for each other) and answers what the runtime asks: who must have spoken
//! before a controller knows its inputs, and in which order to stop.

use std::collections::{BTreeMap, BTreeSet};

use resource::Kind;

/// Whether a controller only reads an input or also keeps it alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// Read only.
    Weak,
    /// The engine holds a finalizer on each item for as long as the controller may depend on it.
    Strong,
}

/// Which items of an input a controller is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shown {
    /// Those that are not being torn down.
    Running,
    /// All.
    All,
    /// Those that are torn down and that nobody holds a finalizer on.
    DestroyReady,
}

/// Whether a controller is the only one to write a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ownership {
    /// The only one: every resource of that kind is this controller's.
    Exclusive,
    /// One of several, each of which owns some resources of that kind.
    Shared,
}

/// One input of a controller, as the graph sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputEdge {
    /// What is read.
    pub kind: Kind,
    /// The one id that is read, if only one.
    pub id: Option<&'static str>,
    /// Read only, or kept alive.
    pub strength: Strength,
    /// Which items are shown.
    pub shown: Shown,
}

/// One output of a controller, as the graph sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputEdge {
    /// What is written.
    pub kind: Kind,
    /// Alone or with others.
    pub ownership: Ownership,
}

/// A controller, as the graph sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The controller's name, such as `network.HostnameMergeController`.
    pub name: &'static str,
    /// What it reads.
    pub inputs: Vec<InputEdge>,
    /// What it writes.
    pub outputs: Vec<OutputEdge>,
}

/// Why a set of controllers cannot run together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A name is taken.
    #[error("two controllers are named `{name}`: a name owns resources, so it must be one controller's; rename one")]
    DuplicateName {
        /// The name.
        name: &'static str,
    },
    /// A controller without a name.
    #[error("a controller has an empty name: resources it owns would count as nobody's")]
    EmptyName,
    /// A controller lists the same output twice.
    #[error("`{controller}` declares {kind} as an output twice; keep one")]
    DuplicateOutput {
        /// The controller.
        controller: &'static str,
        /// What is declared twice.
        kind: Kind,
    },
    /// Two controllers want to be the only writer.
    #[error("{kind} is an exclusive output of `{first}`, yet `{second}` writes it too; make it shared in both or split the kind")]
    NotExclusive {
        /// What both write.
        kind: Kind,
        /// The controller that claims it.
        first: &'static str,
        /// The other one.
        second: &'static str,
    },
    /// Finalizers that wait for each other.
    #[error("strong inputs form a cycle, in which nothing could ever be destroyed: {}; make one of them weak", path.join(" → "))]
    StrongCycle {
        /// The controllers and kinds on the cycle, in order, the first repeated at the end.
        path: Vec<String>,
    },
}

/// The checked graph. Controllers are named by their place in the list it was built from.
#[derive(Debug, Clone)]
pub struct Graph {
    nodes: Vec<Node>,
    /// For each controller, those that read what it writes.
    readers: Vec<BTreeSet<usize>>,
    /// For each controller, the number of its component: controllers that are upstream of each other share one.
    component: Vec<usize>,
    /// For each component its controllers; a component stands before all that are downstream of it.
    components: Vec<Vec<usize>>,
    /// For each component the components it directly reads from.
    upstream: Vec<BTreeSet<usize>>,
}

impl Graph {
    /// Builds and checks the graph.
    ///
    /// # Errors
    /// [`GraphError`], for the first thing found that cannot work.
    pub fn build(nodes: Vec<Node>) -> Result<Self, GraphError> {
        check_names(&nodes)?;
        check_writers(&nodes)?;
        let readers = edges(&nodes, |_| true);
        check_strong(&nodes)?;
        let mut components = components(&readers);
        // Tarjan finds a component after all that it leads to.
        components.reverse();
        let mut component = vec![0; nodes.len()];
        for (number, members) in components.iter().enumerate() {
            members.iter().for_each(|m| component[*m] = number);
        }
        let mut upstream = vec![BTreeSet::new(); components.len()];
        for (from, to) in readers.iter().enumerate().flat_map(|(from, to)| to.iter().map(move |t| (from, *t))) {
            if component[from] != component[to] {
                upstream[component[to]].insert(component[from]);
            }
        }
        Ok(Self { nodes, readers, component, components, upstream })
    }

    /// The controllers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Those that read what `controller` writes (itself among them, if so).
    pub fn readers(&self, controller: usize) -> &BTreeSet<usize> {
        &self.readers[controller]
    }

    /// The component of a controller.
    pub(crate) fn component(&self, controller: usize) -> usize {
        self.component[controller]
    }

    /// The controllers of each component, upstream first.
    pub(crate) fn components(&self) -> &[Vec<usize>] {
        &self.components
    }

    /// The components that `component` directly reads from.
    pub(crate) fn upstream(&self, component: usize) -> &BTreeSet<usize> {
        &self.upstream[component]
    }

    /// The order to stop in: who reads stops before who writes, so that nobody acts on a half-stopped world.
    pub fn stop_order(&self) -> impl Iterator<Item = usize> {
        self.components.iter().rev().flatten().copied()
    }

    /// The graph in the DOT language: boxes are controllers, ellipses kinds; a strong input is drawn bold, a shared output dashed.
    pub fn dot(&self) -> String {
        let mut out = String::from("digraph controllers {\n  rankdir=LR;\n  node [fontname=\"sans\"];\n");
        let mut kinds = BTreeSet::new();
        let mut lines = Vec::new();
        for node in &self.nodes {
            lines.push(format!("  {:?} [shape=box];\n", node.name));
            for input in &node.inputs {
                let label = input.id.map(|id| format!(" label={id:?}")).unwrap_or_default();
                let style = if input.strength == Strength::Strong { "bold" } else { "solid" };
                lines.push(format!("  {:?} -> {:?} [style={style}{label}];\n", input.kind.to_string(), node.name));
                kinds.insert(input.kind.clone());
            }
            for output in &node.outputs {
                let style = if output.ownership == Ownership::Shared { "dashed" } else { "solid" };
                lines.push(format!("  {:?} -> {:?} [style={style}];\n", node.name, output.kind.to_string()));
                kinds.insert(output.kind.clone());
            }
        }
        for kind in kinds {
            out.push_str(&format!("  {:?} [shape=ellipse];\n", kind.to_string()));
        }
        lines.iter().for_each(|line| out.push_str(line));
        out.push_str("}\n");
        out
    }
}

fn check_names(nodes: &[Node]) -> Result<(), GraphError> {
    let mut names = BTreeSet::new();
    for node in nodes {
        if node.name.is_empty() {
            return Err(GraphError::EmptyName);
        }
        if !names.insert(node.name) {
            return Err(GraphError::DuplicateName { name: node.name });
        }
    }
    Ok(())
}

fn check_writers(nodes: &[Node]) -> Result<(), GraphError> {
    let mut writers: BTreeMap<&Kind, Vec<(&'static str, Ownership)>> = BTreeMap::new();
    for node in nodes {
        for output in &node.outputs {
            let known = writers.entry(&output.kind).or_default();
            if known.iter().any(|(name, _)| *name == node.name) {
                return Err(GraphError::DuplicateOutput { controller: node.name, kind: output.kind.clone() });
            }
            known.push((node.name, output.ownership));
        }
    }
    for (kind, known) in writers {
        let exclusive = known.iter().find(|(_, o)| *o == Ownership::Exclusive);
        if let Some((first, _)) = exclusive
            && let Some((second, _)) = known.iter().find(|(name, _)| name != first)
        {
            return Err(GraphError::NotExclusive { kind: kind.clone(), first, second });
        }
    }
    Ok(())
}

/// Who reads what whom writes, over the inputs that `counts` accepts.
fn edges(nodes: &[Node], counts: impl Fn(&InputEdge) -> bool) -> Vec<BTreeSet<usize>> {
    let mut readers_of: BTreeMap<&Kind, BTreeSet<usize>> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for input in node.inputs.iter().filter(|i| counts(i)) {
            readers_of.entry(&input.kind).or_default().insert(index);
        }
    }
    let of = |node: &Node| node.outputs.iter().filter_map(|o| readers_of.get(&o.kind)).flatten().copied().collect();
    nodes.iter().map(of).collect()
}

/// Along strong inputs only, there must be no way back: each controller on such a cycle would wait for the next to let go.
fn check_strong(nodes: &[Node]) -> Result<(), GraphError> {
    let readers = edges(nodes, |i| i.strength == Strength::Strong);
    let cyclic = components(&readers).into_iter().find(|c| c.len() > 1 || readers[c[0]].contains(&c[0]));
    let Some(members) = cyclic else { return Ok(()) };
    // Walk inside the component until a controller comes up again; each step exists, since the component is strongly connected.
    let mut walk = vec![members[0]];
    let start = loop {
        let here = walk[walk.len() - 1];
        let Some(next) = readers[here].iter().copied().find(|n| members.contains(n)) else { return Ok(()) };
        if let Some(start) = walk.iter().position(|w| *w == next) {
            walk.push(next);
            break start;
        }
        walk.push(next);
    };
    let mut path = Vec::new();
    for pair in walk[start..].windows(2) {
        path.push(nodes[pair[0]].name.to_owned());
        let reads = |o: &&OutputEdge| nodes[pair[1]].inputs.iter().any(|i| i.strength == Strength::Strong && i.kind == o.kind);
        path.extend(nodes[pair[0]].outputs.iter().find(reads).map(|o| o.kind.to_string()));
    }
    path.push(nodes[walk[start]].name.to_owned());
    Err(GraphError::StrongCycle { path })
}

/// Strongly connected components (Tarjan), each after all that it leads to. Iterative: a chain of controllers may be long.
fn components(edges: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    const NEW: usize = usize::MAX;
    let mut index = vec![NEW; edges.len()];
    let mut low = vec![0; edges.len()];
    let mut open = vec![false; edges.len()];
    let (mut stack, mut found, mut count) = (Vec::new(), Vec::new(), 0);
    for root in 0..edges.len() {
        if index[root] != NEW {
            continue;
        }
        let mut walk = vec![(root, edges[root].iter())];
        (index[root], low[root], open[root]) = (count, count, true);
        stack.push(root);
        count += 1;
        while let Some((node, rest)) = walk.last_mut() {
            let node = *node;
            if let Some(&next) = rest.next() {
                if index[next] == NEW {
                    (index[next], low[next], open[next]) = (count, count, true);
                    stack.push(next);
                    count += 1;
                    walk.push((next, edges[next].iter()));
                } else if open[next] {
                    low[node] = low[node].min(index[next]);
                }
                continue;
            }
            walk.pop();
            if let Some((parent, _)) = walk.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
            if low[node] == index[node] {
                let from = stack.iter().position(|n| *n == node).unwrap_or(0);
                let mut members = stack.split_off(from);
                members.sort_unstable();
                members.iter().for_each(|m| open[*m] = false);
                found.push(members);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ownership::{Exclusive, Shared};
    use Strength::{Strong, Weak};

    fn kind(type_: &'static str) -> Kind {
        Kind::new("ns", type_)
    }

    fn node(name: &'static str, inputs: &[(&'static str, Strength)], outputs: &[(&'static str, Ownership)]) -> Node {
        let input =
            |(k, strength): &(&'static str, Strength)| InputEdge { kind: kind(k), id: None, strength: *strength, shown: Shown::Running };
        let output = |(k, ownership): &(&'static str, Ownership)| OutputEdge { kind: kind(k), ownership: *ownership };
        Node { name, inputs: inputs.iter().map(input).collect(), outputs: outputs.iter().map(output).collect() }
    }

    #[test]
    fn writers_are_checked() {
        let two = Graph::build(vec![node("a", &[], &[("K", Exclusive)]), node("b", &[], &[("K", Exclusive)])]);
        assert_eq!(two.unwrap_err(), GraphError::NotExclusive { kind: kind("K"), first: "a", second: "b" });
        let mixed = Graph::build(vec![node("a", &[], &[("K", Shared)]), node("b", &[], &[("K", Exclusive)])]);
        assert_eq!(mixed.unwrap_err(), GraphError::NotExclusive { kind: kind("K"), first: "b", second: "a" });
        assert!(Graph::build(vec![node("a", &[], &[("K", Shared)]), node("b", &[], &[("K", Shared)])]).is_ok());
        let twice = Graph::build(vec![node("a", &[], &[("K", Shared), ("K", Shared)])]);
        assert_eq!(twice.unwrap_err(), GraphError::DuplicateOutput { controller: "a", kind: kind("K") });
        let names = Graph::build(vec![node("a", &[], &[]), node("a", &[], &[])]);
        assert_eq!(names.unwrap_err(), GraphError::DuplicateName { name: "a" });
        assert_eq!(Graph::build(vec![node("", &[], &[])]).unwrap_err(), GraphError::EmptyName);
    }

    #[test]
    fn strong_cycles_are_refused_and_weak_ones_are_not() {
        let ring = |last| {
            vec![
                node("a", &[("Z", last)], &[("X", Exclusive)]),
                node("b", &[("X", Strong)], &[("Y", Exclusive)]),
                node("c", &[("Y", Strong)], &[("Z", Exclusive)]),
            ]
        };
        assert!(Graph::build(ring(Weak)).is_ok());
        let error = Graph::build(ring(Strong)).unwrap_err();
        let GraphError::StrongCycle { path } = &error else { panic!("{error}") };
        assert_eq!(path.join(" "), "a ns/X b ns/Y c ns/Z a");
        let own = Graph::build(vec![node("a", &[("X", Strong)], &[("X", Exclusive)])]).unwrap_err();
        assert!(own.to_string().contains("a → ns/X → a"), "{own}");
    }

    #[test]
    fn components_come_upstream_first() {
        let graph = Graph::build(vec![
            node("last", &[("Q", Weak)], &[]),
            node("p", &[("A", Weak), ("Q", Weak)], &[("P", Exclusive)]),
            node("q", &[("P", Weak)], &[("Q", Exclusive)]),
            node("first", &[], &[("A", Exclusive)]),
        ])
        .unwrap();
        assert_eq!(graph.components(), [vec![3], vec![1, 2], vec![0]]);
        assert_eq!(graph.component(2), 1);
        assert_eq!(graph.upstream(1).iter().copied().collect::<Vec<_>>(), [0]);
        assert_eq!(graph.upstream(2).iter().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(graph.stop_order().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn the_drawing_names_everything() {
        let graph = Graph::build(vec![node("a", &[("I", Strong)], &[("O", Shared)])]).unwrap();
        let dot = graph.dot();
        for part in ["\"a\" [shape=box]", "\"ns/I\" [shape=ellipse]", "\"ns/I\" -> \"a\" [style=bold]", "\"a\" -> \"ns/O\" [style=dashed]"]
        {
            assert!(dot.contains(part), "{part} in\n{dot}");
        }
    }
}
