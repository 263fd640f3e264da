//! When a controller's inputs are *known*: a value with pure transitions.
//!
//! After a start, an absent resource may mean "not wanted" or "nobody has said so yet". A controller's inputs are known once every
//! controller upstream has answered knowing its own inputs. Controllers that are upstream of each other (a cycle through weak inputs)
//! cannot wait for one another: once everything outside the cycle is known, they answer provisionally, again and again as their answers
//! reach each other, and when all have answered and none has news left to read, their inputs count as known. (That all have answered is not
//! enough: the first of them may have answered before the last one's answer came round.) A controller that answers *unknown* has not
//! answered.

use crate::graph::Graph;

/// Which controllers know their inputs, and which have answered knowing them.
#[derive(Debug, Clone)]
pub(crate) struct Settling {
    controllers: Vec<Progress>,
    /// Whether nothing is left to find out, so that the rest costs nothing.
    complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// Something upstream, outside the controller's cycle, has yet to answer.
    Blind,
    /// Everything outside its cycle is known; the cycle has yet to answer provisionally. Not a step for a controller in no cycle.
    Provisional,
    /// It has answered provisionally.
    Spoke,
    /// Its inputs are known.
    Known,
    /// It has answered, knowing its inputs.
    Settled,
}

impl Settling {
    /// The state at a start: whoever has nothing upstream knows its inputs at once.
    pub(crate) fn new(graph: &Graph) -> Self {
        let mut this = Self { controllers: vec![Progress::Blind; graph.nodes().len()], complete: false };
        this.advance(graph, &|_| true);
        this
    }

    /// Where `controller` stands; to be handed to [`Settling::answered`] when the run that begins now ends.
    pub(crate) fn begin(&self, controller: usize) -> Began {
        Began(self.controllers[controller])
    }

    /// A run ended with an answer. `idle` tells of a controller whether it has nothing left to do. Returns those who now know their inputs
    /// and did not before.
    pub(crate) fn answered(&mut self, graph: &Graph, controller: usize, began: Began, idle: &dyn Fn(usize) -> bool) -> Vec<usize> {
        if self.complete {
            return Vec::new();
        }
        // Only what the run knew when it began counts, since it read its inputs then.
        let next = match began.0 {
            Progress::Blind => return Vec::new(),
            Progress::Provisional => Progress::Spoke,
            Progress::Spoke => Progress::Spoke,
            Progress::Known | Progress::Settled => Progress::Settled,
        };
        let here = &mut self.controllers[controller];
        *here = (*here).max(next);
        self.advance(graph, idle)
    }

    /// Whether `controller` has answered, knowing its inputs.
    pub(crate) fn settled(&self, controller: usize) -> bool {
        self.controllers[controller] == Progress::Settled
    }

    /// Whether `controller` knows its inputs.
    pub(crate) fn knows(&self, controller: usize) -> bool {
        self.controllers[controller] >= Progress::Known
    }

    /// Whom `controller` waits for before its inputs are known.
    pub(crate) fn waits_for(&self, graph: &Graph, controller: usize) -> Vec<usize> {
        let component = graph.component(controller);
        let members = &graph.components()[component];
        match self.controllers[controller] {
            Progress::Blind => {
                let upstream = graph.upstream(component).iter().flat_map(|c| &graph.components()[*c]);
                upstream.copied().filter(|c| !self.settled(*c)).collect()
            }
            Progress::Provisional | Progress::Spoke => {
                let silent: Vec<_> = members.iter().copied().filter(|c| self.controllers[*c] < Progress::Spoke).collect();
                // All have spoken: what is missing is that their answers come to rest.
                if silent.is_empty() { members.iter().copied().filter(|c| *c != controller).collect() } else { silent }
            }
            Progress::Known | Progress::Settled => Vec::new(),
        }
    }

    /// Components come upstream first, so that one pass finds everything.
    fn advance(&mut self, graph: &Graph, idle: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let mut news = Vec::new();
        for (number, members) in graph.components().iter().enumerate() {
            let clear = graph.upstream(number).iter().all(|up| graph.components()[*up].iter().all(|c| self.settled(*c)));
            if !clear {
                continue;
            }
            let cycle = members.len() > 1;
            let blind = members.iter().any(|c| self.controllers[*c] == Progress::Blind);
            if blind {
                let to = if cycle { Progress::Provisional } else { Progress::Known };
                members.iter().for_each(|c| self.controllers[*c] = to);
                news.extend(members);
            } else if cycle && members.iter().all(|c| self.controllers[*c] == Progress::Spoke && idle(*c)) {
                members.iter().for_each(|c| self.controllers[*c] = Progress::Known);
                news.extend(members);
            }
        }
        self.complete = self.controllers.iter().all(|p| *p == Progress::Settled);
        news
    }
}

/// What a controller knew when its run began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began(Progress);

impl Began {
    /// Whether its inputs were known.
    pub(crate) fn knew(self) -> bool {
        self.0 >= Progress::Known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{InputEdge, Node, OutputEdge, Ownership, Shown, Strength};
    use resource::Kind;

    fn graph(nodes: &[(&'static str, &[&'static str], &[&'static str])]) -> Graph {
        let kind = |t: &&'static str| Kind::new("ns", *t);
        let input = |t: &&'static str| InputEdge { kind: kind(t), id: None, strength: Strength::Weak, shown: Shown::Running };
        let output = |t: &&'static str| OutputEdge { kind: kind(t), ownership: Ownership::Shared };
        let node = |(name, i, o): &(&'static str, &[&'static str], &[&'static str])| Node {
            name,
            inputs: i.iter().map(input).collect(),
            outputs: o.iter().map(output).collect(),
        };
        Graph::build(nodes.iter().map(node).collect()).unwrap()
    }

    const NOBODY: [usize; 0] = [];

    fn run(s: &mut Settling, g: &Graph, c: usize) -> Vec<usize> {
        let began = s.begin(c);
        s.answered(g, c, began, &|_| true)
    }

    #[test]
    fn a_chain_settles_from_its_head() {
        let g = graph(&[("a", &[], &["A"]), ("b", &["A"], &["B"]), ("c", &["B", "external"], &[])]);
        let mut s = Settling::new(&g);
        assert_eq!([0, 1, 2].map(|c| s.knows(c)), [true, false, false]);
        assert_eq!(s.waits_for(&g, 2), [1]);
        assert_eq!(run(&mut s, &g, 2), NOBODY, "an answer of one who does not know counts for nothing");
        let early = s.begin(1);
        assert_eq!(run(&mut s, &g, 0), [1]);
        assert_eq!(s.answered(&g, 1, early, &|_| true), NOBODY, "the run began before its inputs were known");
        assert!(!s.knows(2));
        assert_eq!(run(&mut s, &g, 1), [2]);
        assert_eq!(run(&mut s, &g, 2), NOBODY);
        assert!(s.complete);
    }

    #[test]
    fn all_writers_of_a_shared_kind_must_have_answered() {
        let g = graph(&[("a", &[], &["S"]), ("b", &[], &["S"]), ("merge", &["S"], &[])]);
        let mut s = Settling::new(&g);
        assert_eq!(run(&mut s, &g, 0), NOBODY);
        assert_eq!(s.waits_for(&g, 2), [1]);
        assert_eq!(run(&mut s, &g, 1), [2]);
    }

    #[test]
    fn a_cycle_answers_twice() {
        let g = graph(&[("up", &[], &["U"]), ("x", &["U", "Y"], &["X"]), ("y", &["X"], &["Y"]), ("down", &["Y"], &[])]);
        let mut s = Settling::new(&g);
        assert_eq!(run(&mut s, &g, 0), [1, 2]);
        assert!(!s.knows(1));
        assert_eq!(run(&mut s, &g, 1), NOBODY);
        assert_eq!(s.waits_for(&g, 1), [2]);
        assert_eq!(run(&mut s, &g, 2), [1, 2]);
        assert_eq!([s.knows(1), s.knows(2), s.knows(3)], [true, true, false]);
        assert_eq!(run(&mut s, &g, 2), NOBODY);
        assert_eq!(run(&mut s, &g, 1), [3]);
    }

    #[test]
    fn a_cycle_knows_nothing_while_an_answer_goes_round() {
        let g = graph(&[("x", &["Y"], &["X"]), ("y", &["X"], &["Y"])]);
        let mut s = Settling::new(&g);
        let began = s.begin(0);
        assert_eq!(s.answered(&g, 0, began, &|_| true), NOBODY);
        let began = s.begin(1);
        assert_eq!(s.answered(&g, 1, began, &|c| c != 0), NOBODY, "what y answered is news to x");
        assert!(!s.knows(1));
        assert_eq!(run(&mut s, &g, 0), [0, 1]);
    }

    #[test]
    fn who_reads_its_own_output_is_no_cycle() {
        let g = graph(&[("self", &["A"], &["A"])]);
        let mut s = Settling::new(&g);
        assert!(s.knows(0));
        run(&mut s, &g, 0);
        assert!(s.complete);
    }
}
