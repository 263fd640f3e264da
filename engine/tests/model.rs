//! The store against a model that is too simple to be wrong: a map, and a list of what happened.

use std::collections::BTreeMap;

use engine::testing::Item;
use engine::{Happened, Start, Store, Table};
use proptest::prelude::*;
use resource::{Error, Phase, Resource};

#[derive(Debug, Clone)]
enum Op {
    Create {
        id: u8,
        owner: u8,
        number: u64,
    },
    Update {
        id: u8,
        owner: u8,
        stale: u64,
        number: u64,
        phase: Option<bool>,
    },
    Teardown {
        id: u8,
        owner: u8,
    },
    Destroy {
        id: u8,
        owner: u8,
    },
    AddFinalizer {
        id: u8,
        who: u8,
    },
    RemoveFinalizer {
        id: u8,
        who: u8,
    },
    /// Close the store and open it again.
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let (id, owner, number) = (|| 0..4_u8, || 0..2_u8, || 0..5_u64);
    prop_oneof![
        4 => (id(), owner(), number()).prop_map(|(id, owner, number)| Op::Create { id, owner, number }),
        6 => (id(), owner(), prop_oneof![9 => Just(0_u64), 1 => 1..3_u64], number(), proptest::option::of(any::<bool>()))
            .prop_map(|(id, owner, stale, number, phase)| Op::Update { id, owner, stale, number, phase }),
        2 => (id(), owner()).prop_map(|(id, owner)| Op::Teardown { id, owner }),
        3 => (id(), owner()).prop_map(|(id, owner)| Op::Destroy { id, owner }),
        2 => (id(), 0..2_u8).prop_map(|(id, who)| Op::AddFinalizer { id, who }),
        2 => (id(), 0..2_u8).prop_map(|(id, who)| Op::RemoveFinalizer { id, who }),
        1 => Just(Op::Reopen),
    ]
}

/// A resource as the model has it.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    version: u64,
    owner: String,
    torn: bool,
    number: u64,
    finalizers: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    rows: BTreeMap<String, Row>,
    events: Vec<String>,
}

/// What an operation answers, as far as a caller decides by it.
#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    Ready(bool),
    NotFound,
    Exists,
    Version,
    Owner,
    Phase,
    Finalizers,
}

fn answer<T>(result: Result<T, Error>, done: impl FnOnce(T) -> Answer) -> Answer {
    match result {
        Ok(value) => done(value),
        Err(Error::NotFound(_)) => Answer::NotFound,
        Err(Error::AlreadyExists(_)) => Answer::Exists,
        Err(Error::VersionConflict { .. }) => Answer::Version,
        Err(Error::OwnerConflict { .. }) => Answer::Owner,
        Err(Error::PhaseConflict { .. }) => Answer::Phase,
        Err(Error::PendingFinalizers { .. }) => Answer::Finalizers,
        Err(other) => panic!("{other}"),
    }
}

fn named(owner: u8) -> String {
    if owner == 0 { String::new() } else { format!("owner{owner}") }
}

impl Model {
    fn apply(&mut self, op: &Op) -> Answer {
        let mut next = self.clone();
        let answer = next.attempt(op);
        if matches!(answer, Answer::Done | Answer::Ready(_)) {
            *self = next;
        }
        answer
    }

    fn attempt(&mut self, op: &Op) -> Answer {
        let id = match op {
            Op::Create { id, .. } | Op::Update { id, .. } | Op::Teardown { id, .. } | Op::Destroy { id, .. } => id,
            Op::AddFinalizer { id, .. } | Op::RemoveFinalizer { id, .. } => id,
            Op::Reopen => return Answer::Done,
        };
        let id = format!("id{id}");
        if let Op::Create { owner, number, .. } = op {
            if self.rows.contains_key(&id) {
                return Answer::Exists;
            }
            self.events.push(format!("created {id} {number}"));
            self.rows.insert(id, Row { version: 1, owner: named(*owner), torn: false, number: *number, finalizers: vec![] });
            return Answer::Done;
        }
        let Some(row) = self.rows.get_mut(&id) else {
            return if matches!(op, Op::RemoveFinalizer { .. }) { Answer::Done } else { Answer::NotFound };
        };
        let before = row.clone();
        match op {
            Op::Create { .. } | Op::Reopen => {}
            Op::Update { owner, stale, number, phase, .. } => {
                if row.owner != named(*owner) {
                    return Answer::Owner;
                }
                if *stale > 0 {
                    return Answer::Version;
                }
                if phase.is_some_and(|torn| torn != row.torn) {
                    return Answer::Phase;
                }
                row.number = *number;
                row.version += 1;
            }
            Op::Teardown { owner, .. } => {
                if row.owner != named(*owner) {
                    return Answer::Owner;
                }
                row.version += u64::from(!row.torn);
                row.torn = true;
            }
            Op::Destroy { owner, .. } => {
                if row.owner != named(*owner) {
                    return Answer::Owner;
                }
                if !row.finalizers.is_empty() {
                    return Answer::Finalizers;
                }
                self.events.push(format!("destroyed {id} {}", before.number));
                self.rows.remove(&id);
                return Answer::Done;
            }
            Op::AddFinalizer { who, .. } => {
                let who = format!("holder{who}");
                if row.finalizers.contains(&who) {
                    return Answer::Done;
                }
                if row.torn {
                    return Answer::Phase;
                }
                row.finalizers.push(who);
                row.version += 1;
            }
            Op::RemoveFinalizer { who, .. } => {
                let had = row.finalizers.len();
                row.finalizers.retain(|f| *f != format!("holder{who}"));
                row.version += u64::from(row.finalizers.len() < had);
            }
        }
        let (ready, changed, number) = (row.finalizers.is_empty(), row.version != before.version, row.number);
        if changed {
            self.events.push(format!("updated {id} {}>{number}", before.number));
        }
        if matches!(op, Op::Teardown { .. }) { Answer::Ready(ready) } else { Answer::Done }
    }
}

fn apply(table: &Table<Item>, op: &Op) -> Answer {
    let id = |id: &u8| format!("id{id}");
    match op {
        Op::Create { id: i, owner, number } => {
            answer(table.create_as(named(*owner), Resource::new(id(i), Item::new("", *number))), |_| Answer::Done)
        }
        Op::Update { id: i, owner, stale, number, phase } => {
            let mut resource = match table.get(&id(i)) {
                Some(current) => Resource::clone(&current),
                None => Resource::new(id(i), Item::default()),
            };
            resource.spec.number = *number;
            resource.meta.version.0 += stale;
            let phase = phase.map(|torn| if torn { Phase::TearingDown } else { Phase::Running });
            answer(table.update_as(&named(*owner), resource, phase), |_| Answer::Done)
        }
        Op::Teardown { id: i, owner } => answer(table.teardown(&named(*owner), &id(i)), Answer::Ready),
        Op::Destroy { id: i, owner } => answer(table.destroy(&named(*owner), &id(i)), |()| Answer::Done),
        Op::AddFinalizer { id: i, who } => answer(table.add_finalizer(&id(i), &format!("holder{who}")), |()| Answer::Done),
        Op::RemoveFinalizer { id: i, who } => answer(table.remove_finalizer(&id(i), &format!("holder{who}")), |()| Answer::Done),
        Op::Reopen => Answer::Done,
    }
}

fn rows(table: &Table<Item>) -> BTreeMap<String, Row> {
    let row = |r: &Resource<Item>| Row {
        version: r.meta.version.0,
        owner: r.meta.owner.to_string(),
        torn: r.meta.phase == Phase::TearingDown,
        number: r.spec.number,
        finalizers: r.meta.finalizers.iter().map(ToString::to_string).collect(),
    };
    table.list().iter().map(|r| (r.meta.id.to_string(), row(r))).collect()
}

/// All events that a watch has to tell by now.
fn drain(watch: &mut engine::Watch<Item>, into: &mut Vec<String>) -> Result<(), engine::FellBehind> {
    while let Some(seen) = watch.try_next()? {
        into.push(match seen.what {
            Happened::Created(r) => format!("created {} {}", r.meta.id, r.spec.number),
            Happened::Updated { old, new } => {
                assert_eq!(old.meta.version.next(), new.meta.version);
                format!("updated {} {}>{}", new.meta.id, old.spec.number, new.spec.number)
            }
            Happened::Destroyed(r) => format!("destroyed {} {}", r.meta.id, r.spec.number),
            Happened::Bootstrapped => continue,
        });
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map(ops in proptest::collection::vec(op(), 1..60)) {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut store = Store::open(directory.path()).unwrap();
        let mut table = store.kind::<Item>();
        let mut watch = table.watch(Start::Mark).unwrap();
        let mark = watch.try_next().unwrap().unwrap().at.bookmark();
        let (mut model, mut told) = (Model::default(), Vec::new());
        for op in &ops {
            prop_assert_eq!(apply(&table, op), model.apply(op), "{:?}", op);
            prop_assert_eq!(rows(&table), model.rows.clone());
            if matches!(op, Op::Reopen) {
                drain(&mut watch, &mut told).unwrap();
                drop((watch, table, store));
                store = Store::open(directory.path()).unwrap();
                table = store.kind::<Item>();
                watch = table.watch(Start::Now).unwrap();
                prop_assert_eq!(rows(&table), model.rows.clone());
            }
        }
        drain(&mut watch, &mut told).unwrap();
        prop_assert_eq!(&told, &model.events, "a watch tells every change, in order, once");
        let mut resumed = Vec::new();
        drain(&mut table.watch(Start::After(mark)).unwrap(), &mut resumed).unwrap();
        prop_assert_eq!(&resumed, &model.events, "and so does one that resumes from the first bookmark, over restarts");
    }
}

/// Many threads add to one number; each addition that was acknowledged counts once, and a watch sees them in order.
#[test]
fn concurrent_changes_are_not_lost() {
    let store = Store::new();
    let table = store.kind::<Item>();
    table.create("n", Item::default()).unwrap();
    let mut watch = table.watch(Start::Now).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| drop(table.modify("", "n", |r| r.spec.number += 1).unwrap())));
        }
    });
    let last = table.get("n").unwrap();
    assert_eq!((last.spec.number, last.meta.version.0), (800, 801));
    for expected in 1..=800 {
        let seen = watch.try_next().unwrap().unwrap();
        let Happened::Updated { new, .. } = seen.what else { panic!("{seen:?}") };
        assert_eq!(new.spec.number, expected);
    }
}

/// A watch that is not read is told, and the writer does not notice.
#[test]
fn a_slow_watch_falls_behind() {
    let store = Store::builder().history(8).in_memory();
    let table = store.kind::<Item>();
    table.create("n", Item::default()).unwrap();
    let mut slow = table.watch(Start::Contents).unwrap();
    for n in 1..=100 {
        table.modify("", "n", |r| r.spec.number = n).unwrap();
    }
    let mut told = Vec::new();
    assert!(drain(&mut slow, &mut told).is_err());
    assert_eq!(told, ["created n 0"]);
    assert!(slow.try_next().is_err(), "for good");
    assert_eq!(table.history().len(), 8);
}
