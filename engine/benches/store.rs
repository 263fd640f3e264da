//! What the store costs, one core, through the typed table that controllers use: 10,000 resources, random ids, handle kept.
//!
//! `cargo bench -p engine --bench store` prints one line per figure, `name value unit`. Each figure is the best of several rounds, since the
//! machine is noisy and noise only adds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use engine::{Start, Store};
use resource::{Resource, resource};

/// A small spec: a text and two numbers.
#[resource(type = "Benches.test.dev", namespace = "bench")]
pub struct Bench {
    /// Some text.
    #[field(1)]
    pub text: String,
    /// A number.
    #[field(2)]
    pub a: u64,
    /// Another.
    #[field(3)]
    pub b: u64,
}

/// Counts what is allocated.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "a counting allocator can only be written this way; it forwards to the system's")]
// SAFETY: every call is forwarded unchanged to the system allocator; the counter has no part in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const COUNT: usize = 10_000;
const ROUNDS: usize = 7;

fn id(n: usize) -> String {
    format!("network/eth{n}/10.0.{}.{}", n / 256, n % 256)
}

fn spec(n: usize) -> Bench {
    Bench { text: format!("value-{n}"), a: n as u64, b: 1 }
}

/// A cheap stream of random numbers below `COUNT`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % COUNT as u64).unwrap_or(0)
    }
}

/// The best time per call over all rounds, in nanoseconds.
fn best(calls: usize, mut round: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed());
    }
    best.as_nanos() as f64 / calls as f64
}

fn report(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.1} {unit}");
}

fn filled() -> (Store, engine::Table<Bench>) {
    let store = Store::new();
    let table = store.kind::<Bench>();
    for n in 0..COUNT {
        table.create(id(n), spec(n)).expect("a fresh id");
    }
    (store, table)
}

fn update(table: &engine::Table<Bench>, id: &str) {
    let mut resource = Resource::clone(&table.get(id).expect("it is there"));
    resource.spec.a += 1;
    black_box(table.update(resource).expect("nobody else writes"));
}

/// One operation so many times, for counting its instructions: run twice under an instruction counter and take the difference.
/// `ORLOP_BENCH=update:100000`.
fn counted(operation: &str) {
    let (name, count) = operation.split_once(':').expect("operation:count");
    let count: usize = count.parse().expect("a count");
    let ids: Vec<String> = (0..COUNT).map(id).collect();
    let (_store, table) = filled();
    let mut random = Random(88_172_645_463_325_252);
    for n in 0..count {
        let id = &ids[random.next()];
        match name {
            "nothing" => {
                black_box(id);
            }
            "get" => drop(black_box(table.get(id))),
            "copy" => drop(black_box(Resource::clone(&table.get(id).expect("it is there")))),
            "update" => update(&table, id),
            "create" => drop(black_box(table.create(format!("x{n}"), spec(n)).expect("a fresh id"))),
            _ => panic!("operations are nothing, get, copy, update, create"),
        }
    }
}

fn main() {
    if let Ok(operation) = std::env::var("ORLOP_BENCH") {
        return counted(&operation);
    }
    let ids: Vec<String> = (0..COUNT).map(id).collect();
    let (_store, table) = filled();
    let mut random = Random(88_172_645_463_325_252);
    let get = best(1_000_000, || {
        for _ in 0..1_000_000 {
            black_box(table.get(&ids[random.next()]));
        }
    });
    report("store.get_ns", get, "ns");
    let clock = best(100_000, || {
        (0..100_000).for_each(|_| {
            black_box(std::time::SystemTime::now());
        })
    });
    report("machine.clock_ns", clock, "ns");
    let clone =
        best(200_000, || (0..200_000).for_each(|_| drop(black_box(Resource::clone(&table.get(&ids[random.next()]).expect("there"))))));
    report("store.get_and_copy_ns", clone, "ns");
    let same = best(200_000, || (0..200_000).for_each(|_| update(&table, &ids[7])));
    report("store.update_same_ns", same, "ns");
    let alone = best(200_000, || (0..200_000).for_each(|_| update(&table, &ids[random.next()])));
    report("store.update_ns", alone, "ns");
    watched(&table, &ids, &mut random);
    create(&ids);
    bytes();
    latency();
    let list = best(100, || (0..100).for_each(|_| drop(black_box(table.list()))));
    report("store.list_unchanged_ns", list, "ns");
    let list = best(20, || {
        for _ in 0..20 {
            update(&table, &ids[0]);
            black_box(table.list());
        }
    });
    report("store.list_10k_after_change_us", list / 1000.0, "us");
    durable(&ids);
}

/// Updates while 100 watchers wait in tasks of the same thread, which runs them every so often.
fn watched(table: &engine::Table<Bench>, ids: &[String], random: &mut Random) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let told = std::sync::Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        for _ in 0..100 {
            let (mut watch, told) = (table.watch(Start::Now).expect("a watch"), std::sync::Arc::clone(&told));
            drop(tokio::spawn(async move {
                while watch.next().await.is_ok() {
                    told.fetch_add(1, Relaxed);
                }
            }));
        }
        tokio::task::yield_now().await;
        let mut best = Duration::MAX;
        for _ in 0..200 {
            // All wait; the writer writes a burst, of which only it is timed.
            let start = Instant::now();
            (0..500).for_each(|_| update(table, &ids[random.next()]));
            best = best.min(start.elapsed());
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        report("store.update_100_watchers_ns", best.as_nanos() as f64 / 500.0, "ns");
        // The first write after all wait pays for waking them.
        let mut single = Vec::new();
        for _ in 0..2000 {
            let start = Instant::now();
            update(table, &ids[random.next()]);
            single.push(start.elapsed());
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        single.sort_unstable();
        report("store.update_waking_100_watchers_ns", single[single.len() / 2].as_nanos() as f64, "ns");
        assert!(told.load(Relaxed) >= 100 * 200 * 500, "every watcher sees every event: {}", told.load(Relaxed));
    });
}

fn create(ids: &[String]) {
    let names: Vec<resource::Name> = ids.iter().map(Into::into).collect();
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let store = Store::new();
        let table = store.kind::<Bench>();
        let specs: Vec<_> = (0..COUNT).map(spec).collect();
        let start = Instant::now();
        for (name, spec) in names.iter().zip(specs) {
            black_box(table.create(name.clone(), spec).expect("a fresh id"));
        }
        best = best.min(start.elapsed());
    }
    report("store.create_ns", best.as_nanos() as f64 / COUNT as f64, "ns");
}

fn bytes() {
    // The smallest history, so that what it holds does not count.
    let store = Store::builder().history(8).in_memory();
    let table = store.kind::<Bench>();
    let before = BYTES.load(Relaxed);
    for n in 0..COUNT {
        table.create(id(n), spec(n)).expect("a fresh id");
    }
    report("store.bytes_per_small_resource", (BYTES.load(Relaxed) - before) as f64 / COUNT as f64, "B");
}

/// Update in one thread to delivery in another task of a two-thread runtime.
fn latency() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let times = runtime.block_on(async {
        let store = Store::new();
        let table = store.kind::<Bench>();
        table.create("x", spec(0)).expect("a fresh id");
        let mut watch = table.watch(Start::Now).expect("a watch");
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        drop(tokio::spawn(async move {
            while watch.next().await.is_ok() {
                if sender.send(Instant::now()).is_err() {
                    return;
                }
            }
        }));
        let mut times = Vec::new();
        for _ in 0..2000 {
            tokio::time::sleep(Duration::from_micros(100)).await;
            let start = Instant::now();
            update(&table, "x");
            if let Some(end) = receiver.recv().await {
                times.push(end.saturating_duration_since(start));
            }
        }
        times
    });
    let mut times = times;
    times.sort_unstable();
    report("store.watch_latency_us", times[times.len() / 2].as_nanos() as f64 / 1000.0, "us");
}

/// The durable store on tmpfs, if there is one.
fn durable(ids: &[String]) {
    let base = std::path::Path::new("/dev/shm");
    if !base.is_dir() {
        println!("store.durable_commits_per_s skipped: /dev/shm is not there");
        return;
    }
    let directory = base.join(format!("orlop-bench-{}", std::process::id()));
    let store = Store::open(&directory).expect("an empty directory");
    let table = store.kind::<Bench>();
    let start = Instant::now();
    for (n, id) in ids.iter().enumerate() {
        table.create(id.as_str(), spec(n)).expect("a fresh id");
    }
    report("store.durable_commits_per_s", COUNT as f64 / start.elapsed().as_secs_f64(), "1/s");
    drop((store, table));
    let start = Instant::now();
    let store = Store::open(&directory).expect("the store that was written");
    assert_eq!(store.kind::<Bench>().len(), COUNT);
    report("store.open_10k_ms", start.elapsed().as_secs_f64() * 1000.0, "ms");
    drop(store);
    std::fs::remove_dir_all(&directory).expect("the bench's own directory");
}
