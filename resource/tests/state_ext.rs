//! The typed calls of `StateExt`, on a state of a few lines that can be told to be contended.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use resource::{
    AnyResource, CreateOptions, DestroyOptions, Error, Key, Kind, ListOptions, Phase, State, StateExt, UpdateOptions, Version,
    WatchKindOptions, WatchOptions, WatchStream, resource,
};

/// A number.
#[resource(type = "Counters.test.example.org", namespace = "test")]
pub struct Counter {
    #[field(1)]
    pub value: u32,
}

/// Holds resources, and lets somebody else change one before each of the next `meddling` updates.
#[derive(Default)]
struct Small {
    resources: Mutex<BTreeMap<Key, AnyResource>>,
    meddling: AtomicU32,
    updates: AtomicU32,
}

impl Small {
    fn put(&self, resource: &AnyResource, version: Version) -> AnyResource {
        let mut meta = resource.meta.clone();
        meta.version = version;
        let stored = resource.with_meta(meta);
        self.resources.lock().expect("a lock").insert(stored.key(), stored.clone());
        stored
    }
}

#[async_trait]
impl State for Small {
    async fn get(&self, key: &Key) -> Result<AnyResource, Error> {
        self.resources.lock().expect("a lock").get(key).cloned().ok_or_else(|| Error::NotFound(key.clone()))
    }
    async fn list(&self, kind: &Kind, options: &ListOptions) -> Result<Vec<AnyResource>, Error> {
        let resources = self.resources.lock().expect("a lock");
        Ok(resources.values().filter(|resource| resource.meta.kind() == *kind && options.matches(&resource.meta)).cloned().collect())
    }
    async fn create(&self, resource: AnyResource, options: &CreateOptions) -> Result<AnyResource, Error> {
        let mut meta = resource.meta.clone();
        meta.owner = options.owner.clone();
        Ok(self.put(&resource.with_meta(meta), Version(1)))
    }
    async fn update(&self, resource: AnyResource, options: &UpdateOptions) -> Result<AnyResource, Error> {
        let current = self.get(&resource.key()).await?;
        if self.meddling.load(Ordering::Relaxed) > 0 {
            self.meddling.fetch_sub(1, Ordering::Relaxed);
            self.put(&current, current.meta.version.next());
        }
        let current = self.get(&resource.key()).await?;
        if current.meta.owner != options.owner {
            return Err(Error::OwnerConflict { key: current.key(), owner: options.owner.clone(), found: current.meta.owner.clone() });
        }
        if let Some(expected) = options.expected_phase.filter(|phase| *phase != current.meta.phase) {
            return Err(Error::PhaseConflict { key: current.key(), expected, found: current.meta.phase });
        }
        if current.meta.version != resource.meta.version {
            return Err(Error::VersionConflict { key: current.key(), expected: resource.meta.version, found: current.meta.version });
        }
        self.updates.fetch_add(1, Ordering::Relaxed);
        Ok(self.put(&resource, current.meta.version.next()))
    }
    async fn teardown(&self, key: &Key, _options: &DestroyOptions) -> Result<bool, Error> {
        let current = self.get(key).await?;
        let mut meta = current.meta.clone();
        meta.phase = Phase::TearingDown;
        let version = meta.version.next();
        Ok(self.put(&current.with_meta(meta), version).meta.finalizers.is_empty())
    }
    async fn destroy(&self, key: &Key, _options: &DestroyOptions) -> Result<(), Error> {
        self.resources.lock().expect("a lock").remove(key).map(drop).ok_or_else(|| Error::NotFound(key.clone()))
    }
    async fn watch(&self, _key: &Key, _options: &WatchOptions) -> Result<WatchStream, Error> {
        Err(Error::Unsupported("watching".to_owned()))
    }
    async fn watch_kind(&self, _kind: &Kind, _options: &WatchKindOptions) -> Result<WatchStream, Error> {
        Err(Error::Unsupported("watching".to_owned()))
    }
}

/// Nothing here ever waits, so one look at the future is enough.
fn run<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the state waits for something"),
    }
}

#[test]
fn modify_creates_changes_and_leaves_alone() {
    let small = Small::default();
    let state: &dyn State = &small;
    run(async {
        assert_eq!(state.get_as::<Counter>("a").await, Ok(None));
        let first = state.modify::<Counter, _>("a", "me", |counter| counter.value += 1).await.expect("created");
        assert_eq!((first.spec.value, first.meta.version, first.meta.owner.as_str()), (1, Version(1), "me"));
        let second = state.modify::<Counter, _>("a", "me", |counter| counter.value += 1).await.expect("changed");
        assert_eq!((second.spec.value, second.meta.version), (2, Version(2)));
        let same = state.modify::<Counter, _>("a", "me", |counter| counter.value = 2).await.expect("unchanged");
        assert_eq!(same.meta.version, Version(2), "nothing is written when nothing changes");
        assert_eq!(state.list_as::<Counter>().await.expect("a list").len(), 1);
    });
}

#[test]
fn modify_tries_again_on_conflict_and_gives_up_in_the_end() {
    let small = Small::default();
    run(async {
        small.modify::<Counter, _>("a", "", |counter| counter.value = 1).await.expect("created");
        small.meddling.store(3, Ordering::Relaxed);
        let changed = small.modify::<Counter, _>("a", "", |counter| counter.value += 1).await.expect("changed");
        assert_eq!((changed.spec.value, small.updates.load(Ordering::Relaxed)), (2, 1));
        small.meddling.store(u32::MAX, Ordering::Relaxed);
        assert!(small.modify::<Counter, _>("a", "", |counter| counter.value += 1).await.expect_err("contended").is_conflict());
    });
}

#[test]
fn what_belongs_to_others_or_ends_is_not_changed() {
    let small = Small::default();
    run(async {
        small.modify::<Counter, _>("a", "them", |counter| counter.value = 1).await.expect("created");
        let refused = small.modify::<Counter, _>("a", "me", |counter| counter.value = 2).await;
        assert!(matches!(refused, Err(Error::OwnerConflict { .. })));
        let key = Key::of::<Counter>("a");
        small.add_finalizer(&key, "me").await.expect("anybody may hold on to a resource");
        assert!(!small.teardown(&key, &DestroyOptions::default()).await.expect("torn down"));
        assert!(matches!(small.add_finalizer(&key, "late").await, Err(Error::PhaseConflict { .. })));
        small.remove_finalizer(&key, "me").await.expect("let go while it is torn down");
        assert_eq!(small.get(&key).await.expect("there").meta.finalizers.len(), 0);
        small.destroy(&key, &DestroyOptions::default()).await.expect("destroyed");
        assert_eq!(small.remove_finalizer(&key, "me").await, Ok(()), "gone is as good as let go");
        assert!(small.add_finalizer(&key, "me").await.expect_err("gone").is_not_found());
    });
}
