//! The runtime as controllers see it: wake-ups, difference writing, failures, finalizers, settling, stopping.

#![expect(missing_docs, reason = "kinds of a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use engine::{Context, Controller, Error, Inputs, Many, One, OneExt, Outputs, Runtime, Store, Table, Wanted};
use resource::{Key, Phase, Resource, resource};

#[resource(type = "As.test.dev", namespace = "test")]
#[derive(Eq)]
pub struct A {
    #[field(1)]
    pub n: u32,
}

#[resource(type = "Bs.test.dev", namespace = "test")]
#[derive(Eq)]
pub struct B {
    #[field(1)]
    pub n: u32,
}

#[resource(type = "Cs.test.dev", namespace = "test")]
#[derive(Eq)]
pub struct C {
    #[field(1)]
    pub n: u32,
}

/// Waits, on tokio's paused clock, until `done`; panics with `what` after a simulated minute.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

/// Lets everything that is due run.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

#[derive(Inputs)]
struct ManyA {
    all: Many<A>,
}

#[derive(Inputs)]
struct StrongA {
    #[input(strong)]
    all: Many<A>,
}

/// Each A becomes a B with twice its number.
#[derive(Default)]
struct Double {
    runs: Arc<AtomicU32>,
}

impl Controller for Double {
    const NAME: &'static str = "test.Double";
    type In = ManyA;
    fn outputs() -> Outputs {
        Outputs::new().exclusive::<B>()
    }
    async fn reconcile(&self, _: &Context, input: ManyA) -> engine::Result<Wanted> {
        self.runs.fetch_add(1, SeqCst);
        Ok(Wanted::new().all(input.all.iter().map(|a| (a.meta.id.clone(), B { n: a.spec.n * 2 }))))
    }
}

/// The same, holding on to each A.
struct HoldAndDouble;

impl Controller for HoldAndDouble {
    const NAME: &'static str = "test.HoldAndDouble";
    type In = StrongA;
    fn outputs() -> Outputs {
        Outputs::new().exclusive::<B>()
    }
    async fn reconcile(&self, _: &Context, input: StrongA) -> engine::Result<Wanted> {
        Ok(Wanted::new().all(input.all.iter().map(|a| (a.meta.id.clone(), B { n: a.spec.n * 2 }))))
    }
}

fn numbers(table: &Table<B>) -> Vec<(String, u32)> {
    table.list().iter().map(|b| (b.meta.id.to_string(), b.spec.n)).collect()
}

fn list(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect()
}

#[tokio::test(start_paused = true)]
async fn outputs_follow_inputs() {
    let store = Store::new();
    let (a, b) = (store.kind::<A>(), store.kind::<B>());
    a.create("x", A { n: 1 }).unwrap();
    let double = Double::default();
    let runs = Arc::clone(&double.runs);
    let running = Runtime::new(store.clone()).register(double).start().unwrap();
    until("the first output", || numbers(&b) == list(&[("x", 2)])).await;
    assert_eq!(b.get("x").unwrap().meta.owner, *"test.Double");

    a.create("y", A { n: 5 }).unwrap();
    a.modify("", "x", |r| r.spec.n = 3).unwrap();
    until("both", || numbers(&b) == list(&[("x", 6), ("y", 10)])).await;
    let version = b.get("y").unwrap().meta.version;

    a.destroy("", "x").unwrap();
    until("one gone", || numbers(&b) == list(&[("y", 10)])).await;
    assert_eq!(b.get("y").unwrap().meta.version, version, "what has not changed is not written");

    settle().await;
    let before = runs.load(SeqCst);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(runs.load(SeqCst), before, "nothing runs while nothing happens");
    running.stop(Duration::from_secs(1)).await;
    a.create("z", A { n: 1 }).unwrap();
    settle().await;
    assert_eq!(numbers(&b), list(&[("y", 10)]), "a stopped runtime does nothing, and leaves what it wrote");
}

#[tokio::test(start_paused = true)]
async fn wake_ups_are_coalesced() {
    let store = Store::new();
    let a = store.kind::<A>();
    let double = Double::default();
    let runs = Arc::clone(&double.runs);
    let _running = Runtime::new(store.clone()).register(double).start().unwrap();
    settle().await;
    let before = runs.load(SeqCst);
    for n in 0..1000 {
        a.put("", format!("id{}", n % 10), A { n }).unwrap();
    }
    settle().await;
    assert_eq!(runs.load(SeqCst), before + 1);
    assert_eq!(store.kind::<B>().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_resource_is_not_taken() {
    let store = Store::new();
    let b = store.kind::<B>();
    b.create_as("somebody", Resource::new("x", B { n: 7 })).unwrap();
    store.kind::<A>().create("x", A { n: 1 }).unwrap();
    store.kind::<A>().create("y", A { n: 1 }).unwrap();
    let running = Runtime::new(store.clone()).register(Double::default()).start().unwrap();
    until("the failure", || running.handle().status()[0].failures > 0).await;
    let status = &running.handle().status()[0];
    let error = status.last_error.clone().unwrap();
    assert!(error.contains("test/Bs.test.dev/x") && error.contains("somebody"), "{error}");
    assert_eq!(b.get("x").unwrap().spec.n, 7);
    assert_eq!(b.get("y").unwrap().spec.n, 2, "the others are written all the same");
}

/// Fails, panics, or wants what it did not declare, as told.
struct Bad {
    mode: Arc<AtomicU32>,
    runs: Arc<AtomicU32>,
}

impl Controller for Bad {
    const NAME: &'static str = "test.Bad";
    type In = ();
    fn outputs() -> Outputs {
        Outputs::new().exclusive::<C>()
    }
    async fn reconcile(&self, _: &Context, (): ()) -> engine::Result<Wanted> {
        self.runs.fetch_add(1, SeqCst);
        match self.mode.load(SeqCst) {
            0 => Ok(Wanted::new().with("c", C { n: 1 })),
            1 => Err(Error::msg("the flux is down")),
            2 => panic!("the flux {} exploded", 7),
            3 => Ok(Wanted::new().with("b", B { n: 1 })),
            4 => Ok(Wanted::new().with("c", C { n: 1 }).with("c", C { n: 2 })),
            _ => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_contained_told_and_retried() {
    for (mode, expected) in [
        (1, "the flux is down"),
        (2, "panicked: the flux 7 exploded"),
        (3, "wants test/Bs.test.dev/b, which is not among its declared outputs; add it to `outputs()`"),
        (4, "wants test/Cs.test.dev/c twice; ids must be unique"),
        (5, "the reconcile did not finish within 600s and was given up"),
    ] {
        let store = Store::new();
        let (mode, runs) = (Arc::new(AtomicU32::new(mode)), Arc::new(AtomicU32::new(0)));
        store.kind::<C>().create_as("test.Bad", Resource::new("old", C { n: 9 })).unwrap();
        let bad = Bad { mode: Arc::clone(&mode), runs: Arc::clone(&runs) };
        let running = Runtime::new(store.clone()).register(bad).register(Double::default()).start().unwrap();
        tokio::time::sleep(Duration::from_secs(3700)).await;
        let status = &running.handle().status()[0];
        assert_eq!(status.last_error.as_deref(), Some(expected));
        assert!(status.failures >= 6, "{}", status.failures);
        assert_eq!(status.panics > 0, expected.starts_with("panicked"));
        let expected_runs = if expected.contains("600s") { 6..8 } else { 110..160 };
        assert!(expected_runs.contains(&runs.load(SeqCst)), "back-off settles at 30 s: {}", runs.load(SeqCst));
        assert!(store.kind::<C>().get("old").is_some(), "a failed run removes nothing");
        // The other controller is unharmed.
        store.kind::<A>().create("x", A { n: 1 }).unwrap();
        settle().await;
        assert_eq!(numbers(&store.kind::<B>()), list(&[("x", 2)]));
        mode.store(0, SeqCst);
        tokio::time::sleep(Duration::from_secs(640)).await;
        assert!(store.kind::<C>().get("old").is_none() && store.kind::<C>().get("c").is_some());
        assert_eq!(running.handle().status()[0].failing, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_held_goes_when_it_is_let_go() {
    let store = Store::new();
    let (a, b) = (store.kind::<A>(), store.kind::<B>());
    a.create("x", A { n: 1 }).unwrap();
    let running = Runtime::new(store.clone()).register(Double::default()).start().unwrap();
    until("the output", || b.get("x").is_some()).await;
    b.add_finalizer("x", "holder").unwrap();
    a.destroy("", "x").unwrap();
    until("the teardown", || b.get("x").unwrap().meta.phase == Phase::TearingDown).await;
    settle().await;
    let held = running.handle().status()[0].held.clone();
    assert_eq!(held, ["test/Bs.test.dev/x is being torn down and held by holder"]);

    // Wanted again meanwhile: it is made anew, but only once the old one is gone.
    a.create("x", A { n: 4 }).unwrap();
    settle().await;
    assert_eq!((b.get("x").unwrap().spec.n, b.get("x").unwrap().meta.phase), (2, Phase::TearingDown));
    b.remove_finalizer("x", "holder").unwrap();
    until("the new one", || b.get("x").is_some_and(|r| r.spec.n == 8 && r.meta.phase == Phase::Running)).await;
    assert_eq!(b.get("x").unwrap().meta.version.0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_strong_input_outlives_what_comes_from_it() {
    let store = Store::new();
    let (a, b) = (store.kind::<A>(), store.kind::<B>());
    a.create("x", A { n: 1 }).unwrap();
    let _running = Runtime::new(store.clone()).register(HoldAndDouble).start().unwrap();
    until("the output", || b.get("x").is_some()).await;
    assert_eq!(a.get("x").unwrap().meta.finalizers, ["test.HoldAndDouble"]);
    assert!(a.destroy("", "x").is_err());

    b.add_finalizer("x", "holder").unwrap();
    assert!(!a.teardown("", "x").unwrap());
    settle().await;
    assert_eq!(b.get("x").unwrap().meta.phase, Phase::TearingDown, "to the controller the input is gone");
    assert!(a.get("x").unwrap().meta.has_finalizer("test.HoldAndDouble"), "what came from it is still there");
    b.remove_finalizer("x", "holder").unwrap();
    until("the input is let go", || a.get("x").unwrap().meta.finalizers.is_empty()).await;
    assert!(b.get("x").is_none());
    a.destroy("", "x").unwrap();
}

/// Writes the B named after itself once it is allowed to answer.
struct Slow {
    may: Arc<AtomicBool>,
}

impl Controller for Slow {
    const NAME: &'static str = "test.Slow";
    type In = ();
    fn outputs() -> Outputs {
        Outputs::new().shared::<A>()
    }
    async fn reconcile(&self, ctx: &Context, (): ()) -> engine::Result<Wanted> {
        ctx.wake_after(Duration::from_secs(1));
        if self.may.load(SeqCst) { Ok(Wanted::new().with("slow", A { n: 1 })) } else { Ok(Wanted::unknown("the permission")) }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_before_the_inputs_have_settled() {
    let store = Store::new();
    let b = store.kind::<B>();
    // From before a restart: both were written by Double then.
    b.create_as("test.Double", Resource::new("slow", B { n: 2 })).unwrap();
    b.create_as("test.Double", Resource::new("stale", B { n: 2 })).unwrap();
    let may = Arc::new(AtomicBool::new(false));
    let running = Runtime::new(store.clone()).register(Double::default()).register(Slow { may: Arc::clone(&may) }).start().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(numbers(&b), list(&[("slow", 2), ("stale", 2)]), "what is upstream is not known yet");
    let status = running.handle().status();
    assert_eq!((status[0].settled, status[0].withheld), (false, 2));
    assert_eq!(status[0].waits_for, ["test.Slow"]);
    let told = running.handle().explain(&Key::of::<B>("stale"), 1).to_string();
    assert!(told.contains("2 outputs stay until its inputs are known; missing: test.Slow"), "{told}");
    let version = b.get("slow").unwrap().meta.version;
    may.store(true, SeqCst);
    until("the stale one is gone", || numbers(&b) == list(&[("slow", 2)])).await;
    assert_eq!(b.get("slow").unwrap().meta.version, version, "what was right was never touched");
}

/// Watches something outside the store through a background task.
struct Outside {
    runs: Arc<AtomicU32>,
}

impl Controller for Outside {
    const NAME: &'static str = "test.Outside";
    type In = ();
    fn outputs() -> Outputs {
        Outputs::new()
    }
    async fn reconcile(&self, ctx: &Context, (): ()) -> engine::Result<Wanted> {
        let run = self.runs.fetch_add(1, SeqCst);
        let waker = ctx.waker();
        ctx.spawn("ticker", async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                waker.wake();
            }
            Err(Error::msg("the socket closed"))
        });
        assert!(ctx.is_running("ticker"), "run {run}");
        Ok(Wanted::unchanged())
    }
}

#[tokio::test(start_paused = true)]
async fn background_work_wakes_fails_and_comes_back() {
    let runs = Arc::new(AtomicU32::new(0));
    let running = Runtime::new(Store::new()).register(Outside { runs: Arc::clone(&runs) }).start().unwrap();
    tokio::time::sleep(Duration::from_millis(49_900)).await;
    assert_eq!(runs.load(SeqCst), 5, "the first and one per tick; spawning again under the same key does nothing");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = &running.handle().status()[0];
    assert_eq!(status.last_error.as_deref(), Some("background work \"ticker\": the socket closed"));
    assert!((status.failures, runs.load(SeqCst)) == (1, 7) || (status.failures, runs.load(SeqCst)) == (1, 6), "{}", runs.load(SeqCst));
    running.stop(Duration::from_secs(1)).await;
    let before = runs.load(SeqCst);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(runs.load(SeqCst), before);
}

#[derive(Inputs)]
struct OneA {
    #[input(id = "me")]
    me: One<A>,
}

/// Counts itself up to ten through its own output.
struct Climb;

impl Controller for Climb {
    const NAME: &'static str = "test.Climb";
    type In = OneA;
    fn outputs() -> Outputs {
        Outputs::new().exclusive::<A>()
    }
    async fn reconcile(&self, _: &Context, input: OneA) -> engine::Result<Wanted> {
        let n = input.me.spec().map_or(0, |a| (a.n + 1).min(10));
        Ok(Wanted::new().with("me", A { n }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_through_the_store_converges() {
    let store = Store::new();
    let running = Runtime::new(store.clone()).register(Climb).start().unwrap();
    until("ten", || store.kind::<A>().get("me").is_some_and(|r| r.spec.n == 10)).await;
    settle().await;
    assert_eq!(running.handle().status()[0].runs, 12, "ten steps, the first, and the one that finds nothing to do");
    store.kind::<A>().create("other", A { n: 1 }).unwrap();
    settle().await;
    assert_eq!(running.handle().status()[0].runs, 12, "another id is nobody's business");
}

#[tokio::test(start_paused = true)]
async fn explain_goes_back_to_the_source() {
    let store = Store::new();
    store.kind::<A>().create("x", A { n: 1 }).unwrap();
    let running = Runtime::new(store.clone()).register(Double::default()).start().unwrap();
    until("the output", || store.kind::<B>().get("x").is_some()).await;
    settle().await;
    let told = running.handle().explain(&Key::of::<B>("x"), 5);
    let origin = told.origin.clone().unwrap();
    assert_eq!((&*origin.controller, origin.inputs[0].count), ("test.Double", 1));
    assert_eq!(origin.inputs[0].items, [("x".into(), resource::Version(1))]);
    assert_eq!(told.inputs[0].key, Key::of::<A>("x"));
    let absent = running.handle().explain(&Key::of::<B>("nope"), 1).to_string();
    assert!(absent.starts_with("test/Bs.test.dev/nope is not there\n  test.Double may write it"), "{absent}");
}
