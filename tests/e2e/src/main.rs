//! End-to-end stories on real clusters: real containerd, etcd, kubelet and control plane, driven by the real CLI.
//!
//! Run by `make test`; by hand: `cargo run -p e2e -- [STORY…]`. A story that cannot run here says why and counts as skipped.

mod cluster;
mod command;
mod host;
mod process;
mod stories;
mod vdso;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

/// Run end-to-end stories.
#[derive(Debug, Parser)]
struct Args {
    /// Only stories whose name contains one of these.
    stories: Vec<String>,
    /// List the stories.
    #[arg(long)]
    list: bool,
    /// Where orlopctl, kubectl and the images are.
    #[arg(long, default_value = "_out")]
    out: PathBuf,
    /// Keep clusters of failed stories.
    #[arg(long)]
    keep: bool,
}

/// What stories share.
#[derive(Debug, Clone)]
pub struct World {
    /// `orlopctl`.
    pub ctl: PathBuf,
    /// `kubectl`.
    pub kubectl: PathBuf,
    /// What was built: images and tools.
    pub out: PathBuf,
    /// Where clusters keep their state.
    pub state: PathBuf,
    /// Keep clusters of failed stories.
    pub keep: bool,
}

/// How a story ended when it did not fail.
#[derive(Debug)]
pub enum Outcome {
    /// All of it held.
    Passed,
    /// It cannot run here, and why.
    Skipped(String),
}

/// A story: its name, and what happens in it.
pub struct Story {
    /// `area/what`.
    pub name: &'static str,
    /// The story itself.
    pub run: fn(&World) -> anyhow::Result<Outcome>,
}

fn world(args: &Args) -> anyhow::Result<World> {
    let out = args.out.canonicalize().map_err(|e| anyhow::anyhow!("{}: {e}; `make build` makes it", args.out.display()))?;
    let state = std::env::temp_dir().join(format!("orlop-e2e-{}", std::process::id()));
    Ok(World { ctl: out.join("bin/orlopctl"), kubectl: out.join("bin/kubectl"), out, state, keep: args.keep })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let chosen: Vec<Story> = stories::all()
        .into_iter()
        .filter(|s| args.stories.is_empty() || args.stories.iter().any(|part| s.name.contains(part.as_str())))
        .collect();
    if args.list {
        chosen.iter().for_each(|s| println!("{}", s.name));
        return ExitCode::SUCCESS;
    }
    let world = match world(&args) {
        Ok(world) => world,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for story in chosen {
        println!("story {} begins", story.name);
        let begin = Instant::now();
        let result = (story.run)(&world);
        let seconds = begin.elapsed().as_secs_f64();
        match result {
            Ok(Outcome::Passed) => {
                passed += 1;
                println!("story {} ... ok ({seconds:.1} s)", story.name);
            }
            Ok(Outcome::Skipped(reason)) => {
                skipped += 1;
                println!("story {} ... skipped: {reason}", story.name);
            }
            Err(error) => {
                failed += 1;
                println!("story {} ... FAILED ({seconds:.1} s): {error:#}", story.name);
            }
        }
    }
    // Left where a cluster was kept.
    let _ = std::fs::remove_file(world.state.join("._reserve.lock"));
    let _ = std::fs::remove_dir(&world.state);
    println!("e2e: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
