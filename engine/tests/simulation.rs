//! A whole little system under a simulated scheduler: from a configuration on disk, over layers that are merged, to things made in a kernel.
//!
//! ```text
//! disk ─ Loader ─► Source ─ Propose ─► Layer ─ Merge ─► Spec ═ Expand ═► Part ═ Hand ═► kernel, Status
//!                    │                 ▲  ▲                                               │
//!                    │          Boot ──┘  └───────────────── Feedback ◄───────────────────┘     (═ strong inputs)
//! ```
//! `ORLOP_SIM_SEED=n` runs one seed alone; `ORLOP_SIM_SECONDS=n` runs seeds from a random one on for so long.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(missing_docs, reason = "kinds of a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::testing::{Persistence, Random, Scenario, SimHost, Simulation};
use engine::{Context, Controller, Inputs, Many, One, Outputs, Runtime, Store, Wanted};
use resource::{Phase, Spec, resource};

macro_rules! number_kinds {
    ($($name:ident $type:literal),*) => {$(
        #[resource(type = $type, namespace = "sim")]
        #[derive(Eq)]
        pub struct $name {
            #[field(1)]
            pub n: u32,
        }
    )*};
}

number_kinds!(Source "Sources.sim.dev", Layer "Layers.sim.dev", Merged "Mergeds.sim.dev", Part "Parts.sim.dev", Status "Statuses.sim.dev", Poke "Pokes.sim.dev");

/// What is outside the process, and outlives it.
#[derive(Debug, Default)]
struct Outside {
    disk: BTreeMap<String, u32>,
    kernel: BTreeSet<String>,
    /// Parts that were made when all was last at rest, and have been wanted ever since.
    steady: BTreeSet<String>,
}

type World = Arc<Mutex<Outside>>;

const BOOT: (&str, u32) = ("boot", 2);

fn parts(id: &str, n: u32) -> impl Iterator<Item = String> + use<'_> {
    (0..=n % 3).map(move |p| format!("{id}/{p}"))
}

/// What there should be, from what is on disk alone.
fn merged(disk: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let mut merged = disk.clone();
    merged.entry(BOOT.0.to_owned()).and_modify(|n| *n = (*n).max(BOOT.1)).or_insert(BOOT.1);
    merged
}

fn wanted_parts(disk: &BTreeMap<String, u32>) -> BTreeSet<String> {
    merged(disk).iter().flat_map(|(id, n)| parts(id, *n)).collect()
}

struct Loader(World, SimHost);

#[derive(Inputs)]
struct LoaderIn {
    #[input(id = "disk")]
    _poke: One<Poke>,
}

impl Controller for Loader {
    const NAME: &'static str = "sim.Loader";
    type In = LoaderIn;
    fn outputs() -> Outputs {
        Outputs::new().exclusive::<Source>()
    }
    async fn reconcile(&self, ctx: &Context, _: LoaderIn) -> engine::Result<Wanted> {
        let disk = self.1.call(ctx, || self.0.lock().unwrap().disk.clone()).await?;
        Ok(Wanted::new().all(disk.into_iter().map(|(id, n)| (id, Source { n }))))
    }
}

struct Propose;

#[derive(Inputs)]
struct ProposeIn {
    sources: Many<Source>,
}

impl Controller for Propose {
    const NAME: &'static str = "sim.Propose";
    type In = ProposeIn;
    fn outputs() -> Outputs {
        Outputs::new().shared::<Layer>()
    }
    async fn reconcile(&self, _: &Context, input: ProposeIn) -> engine::Result<Wanted> {
        Ok(Wanted::new().all(input.sources.iter().map(|s| (format!("source:{}", s.meta.id), Layer { n: s.spec.n }))))
    }
}

/// Learns something late, as one does from DHCP.
struct Boot(SimHost, std::sync::atomic::AtomicU32);

impl Controller for Boot {
    const NAME: &'static str = "sim.Boot";
    type In = ();
    fn outputs() -> Outputs {
        Outputs::new().shared::<Layer>()
    }
    async fn reconcile(&self, ctx: &Context, (): ()) -> engine::Result<Wanted> {
        if self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 {
            ctx.wake_after(Duration::from_secs(3));
            return Ok(Wanted::unknown("the lease"));
        }
        self.0.call(ctx, || ()).await?;
        Ok(Wanted::new().with(format!("boot:{}", BOOT.0), Layer { n: BOOT.1 }))
    }
}

struct Feedback;

#[derive(Inputs)]
struct FeedbackIn {
    sources: Many<Source>,
    statuses: Many<Status>,
}

impl Controller for Feedback {
    const NAME: &'static str = "sim.Feedback";
    type In = FeedbackIn;
    fn outputs() -> Outputs {
        Outputs::new().shared::<Layer>()
    }
    async fn reconcile(&self, _: &Context, input: FeedbackIn) -> engine::Result<Wanted> {
        let made = |id: &str| input.statuses.get(&format!("{id}/0")).is_some();
        let known = input.sources.iter().filter(|s| made(&s.meta.id));
        Ok(Wanted::new().all(known.map(|s| (format!("feedback:{}", s.meta.id), Layer { n: s.spec.n }))))
    }
}

struct Merge;

#[derive(Inputs)]
struct MergeIn {
    layers: Many<Layer>,
}

impl Controller for Merge {
    const NAME: &'static str = "sim.Merge";
    type In = MergeIn;
    fn outputs() -> Outputs {
        Outputs::new().exclusive::<Merged>()
    }
    async fn reconcile(&self, _: &Context, input: MergeIn) -> engine::Result<Wanted> {
        let mut best: BTreeMap<String, u32> = BTreeMap::new();
        for layer in &input.layers {
            let (origin, id) = layer.meta.id.split_once(':').unwrap();
            // The feedback echoes a number that the source may have left behind.
            let n = if origin == "feedback" { 0 } else { layer.spec.n };
            let slot = best.entry(id.to_owned()).or_insert(n);
            *slot = n.max(*slot);
        }
        Ok(Wanted::new().all(best.into_iter().map(|(id, n)| (id, Merged { n }))))
    }
}

struct Expand;

#[derive(Inputs)]
struct ExpandIn {
    #[input(strong)]
    merged: Many<Merged>,
}

impl Controller for Expand {
    const NAME: &'static str = "sim.Expand";
    type In = ExpandIn;
    fn outputs() -> Outputs {
        Outputs::new().exclusive::<Part>()
    }
    async fn reconcile(&self, _: &Context, input: ExpandIn) -> engine::Result<Wanted> {
        let all = input.merged.iter().flat_map(|m| parts(&m.meta.id, m.spec.n).map(|p| (p, Part { n: m.spec.n })));
        Ok(Wanted::new().all(all.collect::<Vec<_>>()))
    }
}

struct Hand(World, SimHost);

#[derive(Inputs)]
struct HandIn {
    #[input(strong)]
    parts: Many<Part>,
}

impl Controller for Hand {
    const NAME: &'static str = "sim.Hand";
    type In = HandIn;
    fn outputs() -> Outputs {
        Outputs::new().exclusive::<Status>()
    }
    async fn reconcile(&self, ctx: &Context, input: HandIn) -> engine::Result<Wanted> {
        let Self(world, host) = self;
        let made = || world.lock().unwrap().kernel.clone();
        for part in &input.parts {
            if !made().contains(part.meta.id.as_str()) {
                host.call(ctx, || world.lock().unwrap().kernel.insert(part.meta.id.to_string())).await?;
            }
        }
        if ctx.settled() {
            for extra in made().into_iter().filter(|id| input.parts.get(id).is_none()) {
                host.call(ctx, || world.lock().unwrap().kernel.remove(&extra)).await?;
            }
        }
        Ok(Wanted::new().all(made().into_iter().map(|id| (id, Status { n: 1 }))))
    }
}

struct Story {
    world: World,
    persistence: Persistence,
    /// A crash leaves what was decided, but not what it was decided from.
    forgetful: bool,
}

impl Story {
    fn poke(&self, store: &Store, random: &Random) {
        let n = u32::try_from(random.below(1_000_000)).unwrap();
        store.kind::<Poke>().put("", "disk", Poke { n }).unwrap();
    }
}

fn forget<T: Spec>(store: &Store) {
    let table = store.kind::<T>();
    table.list().iter().for_each(|r| table.destroy(&r.meta.owner, &r.meta.id).unwrap());
}

fn ids<T: Spec>(store: &Store) -> BTreeSet<String> {
    store.kind::<T>().list().iter().map(|r| r.meta.id.to_string()).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

fn quiet<T: Spec>(store: &Store, finalizers: &[&str]) -> Result<(), String> {
    for r in &store.kind::<T>().list() {
        if r.meta.phase == Phase::TearingDown || r.meta.finalizers != *finalizers {
            return Err(format!("{} is {} with finalizers {:?}", r.key(), r.meta.phase, r.meta.finalizers));
        }
    }
    Ok(())
}

impl Scenario for Story {
    fn register(&mut self, store: &Store, runtime: Runtime, host: &SimHost) -> Runtime {
        if self.forgetful {
            forget::<Source>(store);
            forget::<Layer>(store);
        }
        let world = || Arc::clone(&self.world);
        runtime
            .register(Hand(world(), host.clone()))
            .register(Merge)
            .register(Feedback)
            .register(Loader(world(), host.clone()))
            .register(Propose)
            .register(Boot(host.clone(), 0.into()))
            .register(Expand)
    }

    fn act(&mut self, store: &Store, random: &Random) {
        let id = ["a", "b", "c", "boot"][random.below(4)].to_owned();
        match random.below(10) {
            0..4 => {
                let n = u32::try_from(random.below(5)).unwrap();
                let mut world = self.world.lock().unwrap();
                world.disk.insert(id.clone(), n);
                world.steady.retain(|p| !p.starts_with(&format!("{id}/")));
                drop(world);
                self.poke(store, random);
            }
            4..6 => {
                let mut world = self.world.lock().unwrap();
                world.disk.remove(&id);
                world.steady.retain(|p| !p.starts_with(&format!("{id}/")));
                drop(world);
                self.poke(store, random);
            }
            // Somebody takes hold of things, or lets go.
            6 => drop(store.kind::<Merged>().add_finalizer(&id, "outside")),
            7 => drop(store.kind::<Status>().add_finalizer(&format!("{id}/0"), "outside")),
            _ => self.calm(store),
        }
    }

    fn calm(&mut self, store: &Store) {
        ids::<Merged>(store).iter().for_each(|id| store.kind::<Merged>().remove_finalizer(id, "outside").unwrap());
        ids::<Status>(store).iter().for_each(|id| store.kind::<Status>().remove_finalizer(id, "outside").unwrap());
    }

    fn rested(&mut self, _: &Store) {
        let mut world = self.world.lock().unwrap();
        world.steady = wanted_parts(&world.disk).intersection(&world.kernel).cloned().collect();
    }

    fn check(&mut self, store: &Store) -> Result<(), String> {
        let world = self.world.lock().unwrap();
        if let Some(lost) = world.steady.difference(&world.kernel).next() {
            return Err(format!("{lost} was unmade though it was wanted all the time"));
        }
        if self.persistence == Persistence::Durable {
            let parts = ids::<Part>(store);
            if let Some(lost) = world.steady.difference(&parts).next() {
                return Err(format!("part {lost} was destroyed though it was wanted all the time"));
            }
            if let Some(orphan) = world.kernel.difference(&parts).next() {
                return Err(format!("{orphan} is made, but its part was destroyed before it was unmade"));
            }
            let specs = ids::<Merged>(store);
            if let Some(orphan) = parts.iter().find(|p| !specs.contains(p.split('/').next().unwrap_or_default())) {
                return Err(format!("part {orphan} outlives what it comes from"));
            }
        }
        Ok(())
    }

    fn converged(&mut self, store: &Store) -> Result<(), String> {
        let world = self.world.lock().unwrap();
        let expected = wanted_parts(&world.disk);
        same("merged", &ids::<Merged>(store), &merged(&world.disk).into_keys().collect())?;
        same("parts", &ids::<Part>(store), &expected)?;
        same("kernel", &world.kernel, &expected)?;
        same("statuses", &ids::<Status>(store), &expected)?;
        same("sources", &ids::<Source>(store), &world.disk.keys().cloned().collect())?;
        quiet::<Source>(store, &[])?;
        quiet::<Layer>(store, &[])?;
        quiet::<Status>(store, &[])?;
        quiet::<Merged>(store, &["sim.Expand"])?;
        quiet::<Part>(store, &["sim.Hand"])
    }
}

fn simulate(seed: u64, persistence: Persistence, forgetful: bool) {
    let mut story = Story { world: World::default(), persistence, forgetful };
    if let Err(finding) = Simulation::new(seed, persistence).run(&mut story) {
        panic!("{finding}\nreplay it with ORLOP_SIM_SEED={seed} cargo test -p engine --test simulation");
    }
}

fn seeds(persistence: Persistence, forgetful: bool) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("ORLOP_SIM_SEED") {
        return simulate(seed, persistence, forgetful);
    }
    let (mut seed, within) = match number("ORLOP_SIM_SECONDS") {
        Some(seconds) => (u64::from(std::process::id()) << 32, Duration::from_secs(seconds)),
        None => (1, Duration::from_secs(5)),
    };
    let (start, first) = (Instant::now(), seed);
    while start.elapsed() < within {
        simulate(seed, persistence, forgetful);
        seed += 1;
    }
    println!("{} schedules of seed {first} on in {:?}", seed - first, start.elapsed());
}

#[test]
fn a_system_with_a_durable_store() {
    seeds(Persistence::Durable, false);
}

#[test]
fn a_system_of_which_a_part_is_forgotten() {
    seeds(Persistence::Durable, true);
}

#[test]
fn a_system_whose_store_dies_with_it() {
    seeds(Persistence::Volatile, false);
}

#[test]
fn a_seed_gives_the_same_run() {
    // A scenario that can never converge ends with a finding that tells its last steps.
    struct Never(Story);
    impl Scenario for Never {
        fn register(&mut self, store: &Store, runtime: Runtime, host: &SimHost) -> Runtime {
            self.0.register(store, runtime, host)
        }
        fn act(&mut self, store: &Store, random: &Random) {
            self.0.act(store, random);
        }
        fn calm(&mut self, store: &Store) {
            self.0.calm(store);
        }
        fn rested(&mut self, store: &Store) {
            self.0.rested(store);
        }
        fn check(&mut self, _: &Store) -> Result<(), String> {
            Ok(())
        }
        fn converged(&mut self, _: &Store) -> Result<(), String> {
            Err("never".to_owned())
        }
    }
    let told = |seed| {
        let story = Story { world: World::default(), persistence: Persistence::Durable, forgetful: false };
        Simulation::new(seed, Persistence::Durable).run(&mut Never(story)).unwrap_err().to_string()
    };
    assert_eq!(told(7), told(7));
    assert_ne!(told(7), told(8));
}
