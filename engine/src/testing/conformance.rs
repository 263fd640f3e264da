//! What every [`State`] must do, as one function that runs against any: the store, the durable one, a client over the network.
//!
//! The rules are those of the wire interface (`cosi.resource.State`). Errors are compared by the code under which they cross it, since a
//! client learns no more.

use std::time::Duration;

use futures::StreamExt;
use resource::{
    AnyResource, Code, CreateOptions, DestroyOptions, Error, Event, EventKind, IdQuery, Key, Kind, LabelQuery, ListOptions, Name, Phase,
    Resource, State, UpdateOptions, Version, WatchKindOptions, WatchOptions, WatchStream,
};

use super::Item;

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs every check against a state that knows [`Item`] and whose `namespace` holds none. Leaves the namespace empty.
///
/// # Panics
/// When the state does something else than it must, with what it did.
pub async fn conformance(state: &dyn State, namespace: &str) {
    let suite = Suite { state, kind: Kind::new(namespace, Name::literal("ConformanceItems.test.orlop.dev")) };
    suite.create_and_read().await;
    suite.optimistic_concurrency().await;
    suite.owners().await;
    suite.phases_and_finalizers().await;
    suite.queries().await;
    suite.watch_one().await;
    suite.watch_kind().await;
    suite.watch_with_query().await;
    suite.bookmarks().await;
    suite.refusals().await;
    suite.empty().await;
}

struct Suite<'a> {
    state: &'a dyn State,
    kind: Kind,
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Option<Code> {
    result.err().map(|e| e.code())
}

fn item(resource: &AnyResource) -> Item {
    resource.spec_as::<Item>().expect("the resource is an Item").clone()
}

async fn next(stream: &mut WatchStream) -> Event {
    let batch = tokio::time::timeout(PATIENCE, stream.next()).await.expect("an event in time").expect("the watch goes on");
    assert_eq!(batch.len(), 1, "without aggregation a batch is one event");
    batch.into_iter().next().expect("one event")
}

/// An event as text: what, which id, which number.
fn told(event: &Event) -> String {
    let one = |r: &AnyResource| format!("{}={}", r.meta.id, r.spec_as::<Item>().map_or(0, |i| i.number));
    match &event.kind {
        EventKind::Created(r) => format!("created {}", one(r)),
        EventKind::Updated { new, .. } => format!("updated {}", one(new)),
        EventKind::Destroyed(r) => format!("destroyed {}", one(r)),
        EventKind::Bootstrapped => "bootstrapped".to_owned(),
        EventKind::Noop => "noop".to_owned(),
        EventKind::Errored(error) => format!("error {error}"),
    }
}

async fn tells(stream: &mut WatchStream, expected: &[&str]) {
    for expected in expected {
        assert_eq!(told(&next(stream).await), *expected);
    }
}

impl Suite<'_> {
    fn key(&self, id: &str) -> Key {
        self.kind.id(id)
    }

    fn resource(&self, id: &str, number: u64) -> Resource<Item> {
        Resource::new(id, Item::new("text", number)).in_namespace(self.kind.namespace.clone())
    }

    async fn create(&self, id: &str, number: u64) -> AnyResource {
        self.state.create(self.resource(id, number).into(), &CreateOptions::default()).await.expect("a fresh id can be created")
    }

    async fn set(&self, id: &str, number: u64) -> AnyResource {
        let old = self.state.get(&self.key(id)).await.expect("it is there");
        let new = Resource { meta: old.meta.clone(), spec: Item::new("text", number) };
        self.state.update(new.into(), &UpdateOptions::default()).await.expect("the version is the one that was read")
    }

    async fn destroy(&self, ids: &[&str]) {
        for id in ids {
            self.state.destroy(&self.key(id), &DestroyOptions::default()).await.expect("nobody holds it");
        }
    }

    async fn create_and_read(&self) {
        assert_eq!(code(self.state.get(&self.key("a")).await), Some(Code::NotFound));
        assert!(self.state.list(&self.kind, &ListOptions::all()).await.expect("an empty list").is_empty());
        let mut fresh = self.resource("a", 1);
        fresh.meta.labels.insert("l".into(), "1".into());
        fresh.meta.annotations.insert("a".into(), "2".into());
        let made = self.state.create(fresh.into(), &CreateOptions::default()).await.expect("created");
        assert_eq!((made.meta.version, made.meta.phase, &*made.meta.owner), (Version(1), Phase::Running, ""));
        assert!(made.meta.created.seconds() > 0 && made.meta.created == made.meta.updated);
        let read = self.state.get(&self.key("a")).await.expect("it is there");
        assert_eq!(item(&read), Item::new("text", 1));
        assert_eq!((read.meta.label("l"), read.meta.annotation("a")), (Some("1"), Some("2")));
        assert_eq!(read.meta.created, made.meta.created);
        let again = self.state.create(self.resource("a", 2).into(), &CreateOptions::default()).await;
        assert_eq!(code(again), Some(Code::AlreadyExists));
        self.create("c", 3).await;
        self.create("b", 2).await;
        let list = self.state.list(&self.kind, &ListOptions::all()).await.expect("a list");
        assert_eq!(list.iter().map(|r| &*r.meta.id).collect::<Vec<_>>(), ["a", "b", "c"], "sorted by id");
        self.destroy(&["a", "b", "c"]).await;
        assert_eq!(code(self.state.destroy(&self.key("a"), &DestroyOptions::default()).await), Some(Code::NotFound));
    }

    async fn optimistic_concurrency(&self) {
        let first = self.create("x", 1).await;
        let second = self.set("x", 2).await;
        assert_eq!(second.meta.version, Version(2));
        assert_eq!(second.meta.created, first.meta.created);
        let stale = self.state.update(first.with_meta(first.meta.clone()), &UpdateOptions::default()).await;
        assert_eq!(code(stale), Some(Code::FailedPrecondition));
        assert_eq!(item(&self.state.get(&self.key("x")).await.expect("it is there")).number, 2, "a refused write changes nothing");
        let absent = self.state.update(self.resource("y", 1).into(), &UpdateOptions::default()).await;
        assert_eq!(code(absent), Some(Code::NotFound));
        self.destroy(&["x"]).await;
        assert_eq!(self.create("x", 1).await.meta.version, Version(1), "a new life begins at version 1");
        self.destroy(&["x"]).await;
    }

    async fn owners(&self) {
        let (mine, theirs) = (Name::literal("me"), Name::literal("you"));
        let made = self.state.create(self.resource("o", 1).into(), &CreateOptions { owner: mine.clone() }).await.expect("created");
        assert_eq!(made.meta.owner, mine);
        for owner in [Name::EMPTY, theirs] {
            let (update, destroy) = (UpdateOptions { owner: owner.clone(), expected_phase: None }, DestroyOptions { owner });
            let changed = self.state.update(made.clone(), &update).await;
            assert_eq!(code(changed), Some(Code::PermissionDenied));
            assert_eq!(code(self.state.teardown(&self.key("o"), &destroy).await), Some(Code::PermissionDenied));
            assert_eq!(code(self.state.destroy(&self.key("o"), &destroy).await), Some(Code::PermissionDenied));
        }
        let options = UpdateOptions { owner: mine.clone(), ..UpdateOptions::default() };
        assert_eq!(self.state.update(made, &options).await.expect("the owner may").meta.version, Version(2));
        self.state.destroy(&self.key("o"), &DestroyOptions { owner: mine }).await.expect("the owner may");
    }

    async fn phases_and_finalizers(&self) {
        let made = self.create("f", 1).await;
        let mut meta = made.meta.clone();
        meta.add_finalizer("holder");
        let held = self.state.update(made.with_meta(meta), &UpdateOptions::default()).await.expect("a finalizer can be added");
        assert_eq!(held.meta.finalizers, ["holder"]);
        assert_eq!(code(self.state.destroy(&self.key("f"), &DestroyOptions::default()).await), Some(Code::FailedPrecondition));
        assert!(!self.state.teardown(&self.key("f"), &DestroyOptions::default()).await.expect("torn down"), "somebody holds it");
        let torn = self.state.get(&self.key("f")).await.expect("it is still there");
        assert_eq!((torn.meta.phase, torn.meta.version), (Phase::TearingDown, Version(3)));
        assert!(!self.state.teardown(&self.key("f"), &DestroyOptions::default()).await.expect("again"), "that is no change");
        assert_eq!(self.state.get(&self.key("f")).await.expect("it is there").meta.version, Version(3));
        let running = self.state.update(torn.clone(), &UpdateOptions::default()).await;
        assert_eq!(code(running), Some(Code::InvalidArgument), "the update expects it to be running");
        let mut meta = torn.meta.clone();
        meta.remove_finalizer("holder");
        let any = UpdateOptions { expected_phase: None, ..UpdateOptions::default() };
        self.state.update(torn.with_meta(meta), &any).await.expect("a finalizer can be removed in any phase");
        assert!(self.state.teardown(&self.key("f"), &DestroyOptions::default()).await.expect("torn down"), "nobody holds it now");
        self.destroy(&["f"]).await;
    }

    async fn queries(&self) {
        for (id, zone, size) in [("q1", "a", "5"), ("q2", "a", "10"), ("r3", "b", "20")] {
            let resource = self.resource(id, 1).with_label("zone", zone).with_label("size", size);
            self.state.create(resource.into(), &CreateOptions::default()).await.expect("created");
        }
        let zone = |z: &'static str| LabelQuery::new().equals("zone", z);
        let ids = |pattern| Some(IdQuery::new(pattern).expect("a pattern"));
        for (options, expected) in [
            (ListOptions::labelled(zone("a")), &["q1", "q2"][..]),
            (ListOptions::labelled(zone("c")), &[]),
            (ListOptions { labels: vec![zone("b"), LabelQuery::new().equals("size", "5")], ids: None }, &["q1", "r3"]),
            (ListOptions::labelled(LabelQuery::new().one_of("size", ["20", "5"]).exists("zone")), &["q1", "r3"]),
            (ListOptions::labelled(LabelQuery::new().absent("zone")), &[]),
            (ListOptions { labels: vec![], ids: ids("^q") }, &["q1", "q2"]),
            (ListOptions { labels: vec![zone("a")], ids: ids("2$") }, &["q2"]),
        ] {
            let found = self.state.list(&self.kind, &options).await.expect("a list");
            assert_eq!(found.iter().map(|r| &*r.meta.id).collect::<Vec<_>>(), expected, "{options:?}");
        }
        self.destroy(&["q1", "q2", "r3"]).await;
    }

    async fn watch_one(&self) {
        let key = self.key("w");
        let mut watch = self.state.watch(&key, &WatchOptions::default()).await.expect("a watch of what is not there");
        let first = next(&mut watch).await;
        assert!(matches!(&first.kind, EventKind::Destroyed(r) if r.meta.id == *"w" && !r.meta.version.is_defined()), "{first:?}");
        self.create("other", 0).await;
        self.create("w", 1).await;
        self.set("w", 2).await;
        let mut late = self.state.watch(&key, &WatchOptions::default()).await.expect("a watch of what is there");
        self.destroy(&["w", "other"]).await;
        tells(&mut watch, &["created w=1", "updated w=2", "destroyed w=2"]).await;
        tells(&mut late, &["created w=2", "destroyed w=2"]).await;
    }

    async fn watch_kind(&self) {
        self.create("k1", 1).await;
        self.create("k2", 2).await;
        let mut plain = self.state.watch_kind(&self.kind, &WatchKindOptions::default()).await.expect("a watch");
        let mut full = self.state.watch_kind(&self.kind, &WatchKindOptions::bootstrapped()).await.expect("a watch");
        self.set("k1", 5).await;
        self.create("k0", 0).await;
        let event = next(&mut plain).await;
        let EventKind::Updated { old: Some(old), new } = &event.kind else { panic!("{event:?}") };
        assert_eq!((item(old).number, item(new).number, old.meta.version, new.meta.version), (1, 5, Version(1), Version(2)));
        tells(&mut plain, &["created k0=0"]).await;
        tells(&mut full, &["created k1=1", "created k2=2", "bootstrapped", "updated k1=5", "created k0=0"]).await;
        self.destroy(&["k0", "k1", "k2"]).await;
        tells(&mut plain, &["destroyed k0=0", "destroyed k1=5", "destroyed k2=2"]).await;
        let options = WatchKindOptions { tail: 2, ..WatchKindOptions::default() };
        let mut tail = self.state.watch_kind(&self.kind, &options).await.expect("a watch");
        tells(&mut tail, &["destroyed k1=5", "destroyed k2=2"]).await;

        for id in ["g1", "g2", "g3"] {
            self.create(id, 1).await;
        }
        let options = WatchKindOptions { aggregated: true, ..WatchKindOptions::bootstrapped() };
        let mut together = self.state.watch_kind(&self.kind, &options).await.expect("a watch");
        let mut seen = Vec::new();
        while seen.last().is_none_or(|s| s != "bootstrapped") {
            let batch = tokio::time::timeout(PATIENCE, together.next()).await.expect("a batch in time").expect("the watch goes on");
            seen.extend(batch.iter().map(told));
        }
        assert_eq!(seen, ["created g1=1", "created g2=1", "created g3=1", "bootstrapped"]);
        self.destroy(&["g1", "g2", "g3"]).await;
    }

    async fn watch_with_query(&self) {
        let options = WatchKindOptions { query: ListOptions::labelled(LabelQuery::new().exists("in")), ..WatchKindOptions::bootstrapped() };
        let mut watch = self.state.watch_kind(&self.kind, &options).await.expect("a watch");
        tells(&mut watch, &["bootstrapped"]).await;
        let made = self.create("v", 1).await;
        let mut meta = made.meta.clone();
        meta.labels.insert("in".into(), "".into());
        let labelled = self.state.update(made.with_meta(meta), &UpdateOptions::default()).await.expect("labelled");
        tells(&mut watch, &["created v=1"]).await;
        self.set("v", 2).await;
        tells(&mut watch, &["updated v=2"]).await;
        let mut meta = self.state.get(&self.key("v")).await.expect("it is there").meta.clone();
        meta.labels.clear();
        self.state.update(labelled.with_meta(meta), &UpdateOptions::default()).await.expect("unlabelled");
        tells(&mut watch, &["destroyed v=1"]).await;
        self.destroy(&["v"]).await;
    }

    async fn bookmarks(&self) {
        let mut watch = self.state.watch_kind(&self.kind, &WatchKindOptions::bootstrapped()).await.expect("a watch");
        self.create("m1", 1).await;
        self.create("m2", 2).await;
        tells(&mut watch, &["bootstrapped"]).await;
        let mark = next(&mut watch).await.bookmark.expect("events have bookmarks");
        drop(watch);
        self.set("m1", 3).await;
        let resume = |from| WatchKindOptions { from: Some(from), ..WatchKindOptions::default() };
        let mut resumed = self.state.watch_kind(&self.kind, &resume(mark.clone())).await.expect("a resumed watch");
        tells(&mut resumed, &["created m2=2", "updated m1=3"]).await;
        let options = WatchKindOptions { bootstrap_bookmark: true, ..WatchKindOptions::default() };
        let mut marked = self.state.watch_kind(&self.kind, &options).await.expect("a watch");
        let first = next(&mut marked).await;
        assert!(first.kind == EventKind::Noop && first.bookmark.is_some(), "{first:?}");
        self.destroy(&["m1"]).await;
        let mut resumed = self.state.watch_kind(&self.kind, &resume(first.bookmark.expect("checked"))).await.expect("a resumed watch");
        tells(&mut resumed, &["destroyed m1=3"]).await;
        for bad in [&b""[..], b"short", &[0; 16], &[0xff; 40]] {
            let refused = self.state.watch_kind(&self.kind, &resume(resource::Bookmark::new(bad))).await;
            let refused = match refused {
                Err(error) => error,
                // Over the network the refusal comes with the first message.
                Ok(mut stream) => match tokio::time::timeout(PATIENCE, stream.next()).await.expect("an answer in time") {
                    Some(batch) => match &batch[..] {
                        [Event { kind: EventKind::Errored(error), .. }] => error.clone(),
                        other => panic!("a bad bookmark led to {other:?}"),
                    },
                    None => panic!("a bad bookmark led to an empty watch"),
                },
            };
            assert_eq!(refused.code(), Code::FailedPrecondition, "{bad:?}");
        }
        self.destroy(&["m2"]).await;
    }

    async fn refusals(&self) {
        let unknown = Kind::new(self.kind.namespace.clone(), "NoSuchThings.test.orlop.dev");
        assert!(self.state.get(&unknown.id("x")).await.is_err());
        assert_eq!(code(self.state.list(&unknown, &ListOptions::all()).await), Some(Code::PermissionDenied));
        assert!(self.state.create(self.resource("", 1).into(), &CreateOptions::default()).await.is_err(), "an empty id");
        let endless = "x".repeat(100_000);
        assert!(self.state.create(self.resource(&endless, 1).into(), &CreateOptions::default()).await.is_err(), "an endless id");
    }

    async fn empty(&self) {
        let left = self.state.list(&self.kind, &ListOptions::all()).await.expect("a list");
        assert!(left.is_empty(), "the checks left something behind: {left:?}");
    }
}
