//! Whole clusters of hearts on a simulated network and clock: loss, delay, starved and frozen processes, vanishing members.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// One simulated step, in milliseconds.
const STEP: u64 = 100;

struct Node {
    heart: Heart,
    address: SocketAddr,
    next_tick: u64,
    inbox: Vec<(u64, SocketAddr, Vec<u8>)>,
    /// Not scheduled until then.
    frozen_until: u64,
    alive: bool,
}

/// A small generator, so that a failing case replays (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides.max(1)
    }
}

struct World {
    now: u64,
    nodes: BTreeMap<String, Node>,
    dice: Dice,
    /// Percent of datagrams lost.
    loss: u64,
    /// Longest way of a datagram, in ms.
    delay: u64,
    /// Longest time a process waits for a core at each tick, in ms.
    starve: u64,
    /// Pairs (from, to) that do not reach each other.
    cut: BTreeSet<(String, String)>,
    /// Each (observer, member) ever marked silent or down, with the time.
    marked: BTreeMap<(String, String), u64>,
    down: BTreeMap<(String, String), u64>,
}

impl World {
    fn new(count: usize, seed: u64) -> Self {
        let names: Vec<String> = (0..count).map(|i| format!("node-{i}")).collect();
        let address = |i: usize| SocketAddr::from(([10, 0, 0, u8::try_from(i).unwrap()], PORT));
        let peers: Vec<Peer> = names.iter().enumerate().map(|(i, id)| Peer { id: id.clone(), addresses: vec![address(i)] }).collect();
        let mut dice = Dice(seed | 1);
        let nodes = names
            .iter()
            .enumerate()
            .map(|(i, id)| {
                let mut heart = Heart::new(id.clone(), Key::new(&[9; 32]), dice.roll(u64::MAX));
                heart.set_peers(&peers);
                let node = Node { heart, address: address(i), next_tick: dice.roll(1000), inbox: Vec::new(), frozen_until: 0, alive: true };
                (id.clone(), node)
            })
            .collect();
        Self { now: 0, nodes, dice, loss: 0, delay: 0, starve: 0, cut: BTreeSet::new(), marked: BTreeMap::new(), down: BTreeMap::new() }
    }

    fn deliver(&mut self, from: &str, sends: Vec<Send>) {
        let source = self.nodes[from].address;
        for send in sends {
            let Some(to) = self.nodes.iter().find(|(_, node)| node.address == send.to).map(|(id, _)| id.clone()) else { continue };
            if self.dice.roll(100) < self.loss || self.cut.contains(&(from.to_owned(), to.clone())) {
                continue;
            }
            let at = self.now + self.dice.roll(self.delay + 1);
            let node = self.nodes.get_mut(&to).unwrap();
            if node.alive {
                node.inbox.push((at, source, send.bytes));
            }
        }
    }

    /// Runs the process of one node, as its IO loop does: datagrams first, then the tick if it is due.
    fn run_node(&mut self, id: &str) {
        let now = self.now;
        let node = self.nodes.get_mut(id).unwrap();
        if !node.alive || node.frozen_until > now {
            return;
        }
        let mut sends = Vec::new();
        let (ready, later) = std::mem::take(&mut node.inbox).into_iter().partition(|(at, _, _)| *at <= now);
        node.inbox = later;
        for (_, from, bytes) in Vec::from_iter::<Vec<_>>(ready) {
            sends.extend(node.heart.receive(from, &bytes).0);
        }
        if node.next_tick <= now {
            sends.extend(node.heart.tick());
            let wait = self.dice.roll(self.starve + 1);
            node.next_tick = now + 1000 + wait;
        }
        let observations = node.heart.observations();
        self.deliver(id, sends);
        for seen in observations {
            let pair = (id.to_owned(), seen.id);
            if seen.presence >= Presence::Silent {
                self.marked.entry(pair.clone()).or_insert(now);
            }
            if seen.presence == Presence::Down {
                self.down.entry(pair).or_insert(now);
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + seconds * 1000;
        let ids: Vec<String> = self.nodes.keys().cloned().collect();
        while self.now < end {
            for id in &ids {
                self.run_node(id);
            }
            self.now += STEP;
        }
    }

    fn presence(&self, observer: &str, member: &str) -> Option<Presence> {
        self.nodes[observer].heart.observations().into_iter().find(|seen| seen.id == member).map(|seen| seen.presence)
    }

    fn kill(&mut self, id: &str) {
        self.nodes.get_mut(id).unwrap().alive = false;
    }

    /// The process and everything with it restarts: a new heart under a new epoch.
    fn restart(&mut self, id: &str) {
        let epoch = self.dice.roll(u64::MAX);
        let peers: Vec<Peer> = self.nodes.iter().map(|(id, node)| Peer { id: id.clone(), addresses: vec![node.address] }).collect();
        let node = self.nodes.get_mut(id).unwrap();
        node.heart = Heart::new(id, Key::new(&[9; 32]), epoch);
        node.heart.set_peers(&peers);
        node.inbox.clear();
        node.alive = true;
    }
}

#[test]
fn everyone_hears_everyone_within_two_seconds() {
    let mut world = World::new(5, 1);
    world.run(2);
    for observer in world.nodes.keys() {
        for member in world.nodes.keys().filter(|member| *member != observer) {
            assert_eq!(world.presence(observer, member), Some(Presence::Up), "{observer} of {member}");
        }
    }
    assert!(world.marked.is_empty());
}

#[test]
fn a_vanished_member_is_down_for_all_others_within_ten_seconds() {
    for (count, seed) in [(2, 3), (3, 4), (5, 5), (9, 6)] {
        let mut world = World::new(count, seed);
        world.run(20);
        let gone = world.now;
        world.kill("node-0");
        world.run(15);
        for observer in 1..count {
            let at = world.down.get(&(format!("node-{observer}"), "node-0".into())).expect("marked");
            assert!(at - gone <= 10_000, "{observer} of {count}: {} ms", at - gone);
        }
        assert_eq!(world.down.len(), count - 1, "nobody else is marked");
        let seen = world.nodes["node-1"].heart.observations().into_iter().find(|seen| seen.id == "node-0").unwrap();
        assert_eq!(seen.observers.len(), count - 1);
    }
}

#[test]
fn a_member_that_returns_is_up_at_once() {
    let mut world = World::new(3, 8);
    world.run(20);
    world.kill("node-0");
    world.run(20);
    assert_eq!(world.presence("node-1", "node-0"), Some(Presence::Down));
    world.restart("node-0");
    world.run(3);
    assert_eq!(world.presence("node-1", "node-0"), Some(Presence::Up));
    assert_eq!(world.presence("node-0", "node-1"), Some(Presence::Up));
}

#[test]
fn a_frozen_observer_blames_nobody() {
    let mut world = World::new(3, 9);
    world.run(20);
    world.nodes.get_mut("node-0").unwrap().frozen_until = world.now + 30_000;
    world.run(45);
    assert!(!world.marked.keys().any(|(observer, _)| observer == "node-0"), "{:?}", world.marked);
    assert!(world.down.contains_key(&("node-1".into(), "node-0".into())), "the frozen one is down for the others");
    assert_eq!(world.presence("node-1", "node-0"), Some(Presence::Up), "and up again afterwards");
}

#[test]
fn a_member_that_says_goodbye_is_gone_at_once_and_stays_gone() {
    let mut world = World::new(3, 10);
    world.run(20);
    let peers: Vec<Peer> = world.nodes.iter().map(|(id, node)| Peer { id: id.clone(), addresses: vec![node.address] }).collect();
    let sends = world.nodes.get_mut("node-0").unwrap().heart.leave();
    world.deliver("node-0", sends);
    world.kill("node-0");
    world.run(1);
    assert_eq!(world.presence("node-1", "node-0"), None);
    world.nodes.get_mut("node-1").unwrap().heart.set_peers(&peers);
    assert_eq!(world.presence("node-1", "node-0"), None, "a stale list does not bring it back");
    world.run(20);
    assert!(world.marked.is_empty());
}

#[test]
fn one_broken_way_makes_a_member_silent_but_not_down() {
    let mut world = World::new(4, 11);
    world.run(20);
    for pair in [("node-0", "node-1"), ("node-1", "node-0")] {
        world.cut.insert((pair.0.into(), pair.1.into()));
    }
    world.run(30);
    assert_eq!(world.presence("node-1", "node-0"), Some(Presence::Silent));
    assert_eq!(world.presence("node-2", "node-0"), Some(Presence::Up));
    assert!(world.down.is_empty(), "{:?}", world.down);
}

#[test]
fn recorded_datagrams_keep_nobody_alive() {
    let mut world = World::new(2, 12);
    world.run(20);
    let recorded: Vec<_> = world.nodes.get_mut("node-0").unwrap().heart.tick();
    world.kill("node-0");
    for _ in 0..300 {
        let from = world.nodes["node-0"].address;
        let now = world.now;
        for send in &recorded {
            world.nodes.get_mut("node-1").unwrap().inbox.push((now, from, send.bytes.clone()));
        }
        world.run(1);
    }
    assert_eq!(world.presence("node-1", "node-0"), Some(Presence::Down));
    // How long the recording could delay it: no longer than an echo counts.
    let at = world.down[&("node-1".into(), "node-0".into())];
    assert!(at < 20_000 + (ECHO_TICKS + u64::from(SILENT_AFTER) + 2) * 1000, "{at}");
}

#[test]
fn a_member_never_heard_is_marked_too_but_later() {
    let mut world = World::new(3, 13);
    world.kill("node-0");
    world.run(8);
    assert!(world.marked.is_empty());
    world.run(5);
    assert_eq!(world.presence("node-1", "node-0"), Some(Presence::Down));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A minute with every process waiting up to two and a half seconds for a core at each tick, datagrams late by up to a second and
    /// one in ten lost: no live member gets a mark.
    #[test]
    fn no_live_member_is_marked_under_load(seed: u64, count in 2usize..7) {
        let mut world = World::new(count, seed);
        world.run(5);
        (world.starve, world.delay, world.loss) = (2500, 1000, 10);
        world.run(60);
        prop_assert!(world.down.is_empty(), "{:?}", world.down);
    }

    /// Whoever vanishes under some loss is marked by all others in time, and nobody else is.
    #[test]
    fn the_vanished_and_only_they_are_marked(seed: u64, count in 3usize..8) {
        let mut world = World::new(count, seed);
        (world.delay, world.loss) = (200, 3);
        world.run(20);
        let gone = world.now;
        world.kill("node-0");
        world.run(20);
        for observer in 1..count {
            let at = world.down.get(&(format!("node-{observer}"), "node-0".into()));
            prop_assert!(at.is_some_and(|at| at - gone <= 10_000), "{:?}", at.map(|at| at - gone));
        }
        prop_assert!(world.down.keys().all(|(_, member)| member == "node-0"));
    }
}
