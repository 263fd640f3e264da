//! The durable store under cuts, flips, full disks and restarts. What it must be is taken from a store that was never closed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use resource::{EventKind, Kind, ListOptions, Phase, Resource, State, WatchKindOptions};

use super::*;
use crate::store::{Start, Store, Table};
use crate::testing::Item;

/// Everything that can be seen of a table: metadata and specs, then the history.
fn seen(store: &Store) -> (Vec<Resource<Item>>, Vec<crate::HistoryEntry>) {
    let table = store.kind::<Item>();
    (table.list().iter().map(Resource::clone).collect(), table.history())
}

/// A little of everything, one log record each.
fn steps() -> Vec<fn(&Table<Item>)> {
    vec![
        |t| drop(t.create("a", Item::new("first", 1)).unwrap()),
        |t| drop(t.create_as("owner", Resource::new("b", Item::new("", 0)).with_label("k", "v")).unwrap()),
        |t| drop(t.modify("", "a", |r| r.spec.number = 2).unwrap()),
        |t| t.add_finalizer("b", "holder").unwrap(),
        |t| assert!(!t.teardown("owner", "b").unwrap()),
        |t| drop(t.create("c", Item::new("x".repeat(300), u64::MAX)).unwrap()),
        |t| t.destroy("", "a").unwrap(),
        |t| t.remove_finalizer("b", "holder").unwrap(),
        |t| t.destroy("owner", "b").unwrap(),
        |t| drop(t.create("a", Item::new("again", 3)).unwrap()),
    ]
}

/// A directory in memory, as /run is: these tests sync tens of thousands of times.
fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn log_of(directory: &Path) -> PathBuf {
    directory.join("store.log")
}

#[test]
fn a_store_comes_back_as_it_was() {
    let directory = tempdir();
    for step in steps() {
        let store = Store::open(directory.path()).unwrap();
        step(&store.kind::<Item>());
        let before = seen(&store);
        drop(store);
        assert_eq!(seen(&Store::open(directory.path()).unwrap()), before);
    }
    let store = Store::open(directory.path()).unwrap();
    let c = store.kind::<Item>().get("c").unwrap();
    assert_eq!((c.meta.version.0, c.spec.number, c.meta.phase), (1, u64::MAX, Phase::Running));
    assert_eq!(store.kind::<Item>().history().len(), 10);
}

#[test]
fn a_log_cut_at_any_byte_holds_all_that_was_acknowledged() {
    let directory = tempdir();
    let mut known = Vec::new();
    {
        let store = Store::open(directory.path()).unwrap();
        let table = store.kind::<Item>();
        let length = || std::fs::metadata(log_of(directory.path())).unwrap().len();
        known.push((length(), seen(&store)));
        for step in steps() {
            step(&table);
            known.push((length(), seen(&store)));
        }
    }
    let log = std::fs::read(log_of(directory.path())).unwrap();
    for cut in 0..=log.len() {
        std::fs::write(log_of(directory.path()), &log[..cut]).unwrap();
        let store = Store::open(directory.path()).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        let expected = known.iter().rev().find(|(length, _)| *length <= cut as u64).map(|(_, seen)| seen.clone());
        assert_eq!(seen(&store), expected.unwrap_or_default(), "cut at {cut}");
        // And it goes on from there.
        store.kind::<Item>().create("after", Item::new("", 9)).unwrap();
        let now = seen(&store);
        drop(store);
        assert_eq!(seen(&Store::open(directory.path()).unwrap()), now, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let directory = tempdir();
    {
        let store = Store::open(directory.path()).unwrap();
        steps().iter().for_each(|step| step(&store.kind::<Item>()));
    }
    let log = std::fs::read(log_of(directory.path())).unwrap();
    for byte in 0..log.len() {
        let mut bad = log.clone();
        bad[byte] ^= 1 << (byte % 8);
        std::fs::write(log_of(directory.path()), &bad).unwrap();
        let error = Store::open(directory.path()).map(drop).unwrap_err();
        assert!(matches!(&error, OpenError::Corrupt { offset, .. } if *offset <= byte), "byte {byte}: {error}");
        assert_eq!(std::fs::read(log_of(directory.path())).unwrap(), bad, "the evidence is left alone");
    }
}

/// A disk of bytes with a limit; an append beyond it writes what fits and fails, as write(2) does.
#[derive(Debug, Clone)]
struct Small(Arc<Mutex<SmallInner>>);

#[derive(Debug, Default)]
struct SmallInner {
    log: Vec<u8>,
    limit: usize,
    truncate_fails: bool,
}

impl Small {
    fn with<R>(&self, f: impl FnOnce(&mut SmallInner) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }
}

impl journal::Disk for Small {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|s| {
            let fits = bytes.len().min(s.limit.saturating_sub(s.log.len()));
            s.log.extend_from_slice(&bytes[..fits]);
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.with(|s| {
            if s.truncate_fails {
                return Err(io::ErrorKind::Other.into());
            }
            s.log.truncate(usize::try_from(length).unwrap());
            Ok(())
        })
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|s| {
            if bytes.len() > s.limit {
                return Err(io::ErrorKind::StorageFull.into());
            }
            s.log = bytes.to_vec();
            Ok(())
        })
    }

    fn path(&self) -> &Path {
        Path::new("/run/orlop/state/store.log")
    }
}

fn store_on(disk: &Small) -> Store {
    let log = disk.with(|s| s.log.clone());
    let replayed = replay::replay(&log, 1024).unwrap();
    let (epoch, length, numbers, tables) = match replayed {
        Some(r) => (r.epoch, r.length, r.numbers, r.tables.into_iter().collect()),
        None => (7, 0, HashMap::new(), BTreeMap::new()),
    };
    disk.with(|s| s.log.truncate(length));
    let journal = Journal::new(Box::new(disk.clone()), epoch, length as u64, numbers).unwrap();
    Store::builder().resume(epoch, journal, tables)
}

#[test]
fn on_a_full_disk_a_write_fails_whole_and_later_ones_work() {
    for spare in 0..200 {
        let disk = Small(Arc::new(Mutex::new(SmallInner { limit: usize::MAX, ..SmallInner::default() })));
        let store = store_on(&disk);
        let table = store.kind::<Item>();
        table.create("a", Item::new("", 1)).unwrap();
        let before = seen(&store);
        disk.with(|s| s.limit = s.log.len() + spare);
        let failed = table.create("b", Item::new("y".repeat(200), 2)).unwrap_err();
        assert!(failed.to_string().contains("/run/orlop/state/store.log could not be written, so nothing was changed"), "{failed}");
        assert!(table.modify("", "a", |r| r.spec.text = "z".repeat(200)).is_err());
        assert_eq!(seen(&store), before, "{spare} bytes were left");
        assert_eq!(seen(&store_on(&disk)), before);
        disk.with(|s| s.limit = usize::MAX);
        table.create("b", Item::new("y", 2)).unwrap();
        assert_eq!(seen(&store_on(&disk)), seen(&store));
    }
}

#[test]
fn a_write_that_cannot_be_undone_stops_all_until_the_log_is_written_anew() {
    let disk = Small(Arc::new(Mutex::new(SmallInner { limit: usize::MAX, ..SmallInner::default() })));
    let store = store_on(&disk);
    let table = store.kind::<Item>();
    table.create("a", Item::new("", 1)).unwrap();
    let before = seen(&store);
    disk.with(|s| (s.limit, s.truncate_fails) = (s.log.len() + 20, true));
    assert!(table.create("b", Item::new("y".repeat(50), 2)).is_err());
    disk.with(|s| s.limit = 10);
    let refused = table.create("c", Item::new("", 3)).unwrap_err();
    assert!(refused.to_string().contains("an earlier write failed and could not be undone"), "{refused}");
    assert_eq!(seen(&store), before);
    disk.with(|s| s.limit = usize::MAX);
    table.create("c", Item::new("", 3)).unwrap();
    assert_eq!(seen(&store_on(&disk)), seen(&store));
}

#[tokio::test]
async fn the_log_stays_small_and_bookmarks_outlive_its_rewriting() {
    let directory = tempdir();
    let store = Store::open(directory.path()).unwrap();
    let table = store.kind::<Item>();
    for n in 0..50 {
        table.create(format!("id{n}"), Item::new("x".repeat(100), n)).unwrap();
    }
    let mut longest = 0;
    for n in 0..30_000_u64 {
        table.modify("", &format!("id{}", n % 50), |r| r.spec.number = 1000 + n).unwrap();
        if n % 100 == 0 {
            longest = longest.max(std::fs::metadata(log_of(directory.path())).unwrap().len());
        }
    }
    assert!(longest < 2 << 20, "the log grew to {longest} bytes");
    let mut watch = store.kind::<Item>().watch(Start::Tail(10)).unwrap();
    let mark = watch.try_next().unwrap().unwrap().at.bookmark();
    let before = seen(&store);
    assert!(store.rewrite_log());
    drop((watch, store, table));

    // A rewrite that was killed half way leaves a file beside.
    std::fs::write(directory.path().join("store.log.new"), b"half").unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(seen(&store), before);
    assert!(!directory.path().join("store.log.new").exists());
    let mut resumed = store.kind::<Item>().watch(Start::After(mark.clone())).unwrap();
    let mut told = 0;
    while resumed.try_next().unwrap().is_some() {
        told += 1;
    }
    assert_eq!(told, 9);
    // The same over the dynamic door, and the next event is the next number.
    let options = WatchKindOptions { from: Some(mark), ..WatchKindOptions::default() };
    let stream = store.watch_kind(&Kind::of::<Item>(), &options).await.unwrap();
    let first = futures::StreamExt::into_future(stream).await.0.unwrap();
    assert!(matches!(&first[0].kind, EventKind::Updated { old: Some(_), .. }));
}

#[tokio::test]
async fn kinds_that_nobody_opens_are_carried_along() {
    let directory = tempdir();
    let before = {
        let store = Store::open(directory.path()).unwrap();
        steps().iter().for_each(|step| step(&store.kind::<Item>()));
        seen(&store)
    };
    {
        let store = Store::open(directory.path()).unwrap();
        assert!(store.rewrite_log());
        assert!(store.list(&Kind::of::<Item>(), &ListOptions::all()).await.is_err(), "nobody knows the kind here");
    }
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(seen(&store), before);
}

#[test]
fn one_store_per_directory() {
    let directory = tempdir();
    let store = Store::open(directory.path()).unwrap();
    assert!(matches!(Store::open(directory.path()), Err(OpenError::InUse { .. })));
    drop(store);
    assert!(Store::open(directory.path()).is_ok());
}

#[test]
fn another_format_is_refused() {
    let directory = tempdir();
    let mut log = Vec::new();
    frame::push(&mut log, &[1, 99, 1]);
    std::fs::write(log_of(directory.path()), &log).unwrap();
    let error = Store::open(directory.path()).map(drop).unwrap_err().to_string();
    assert!(error.contains("is corrupt at byte 0: it is of another version of the log's format; move the file away"), "{error}");
}
