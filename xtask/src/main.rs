//! Orlop's build and test driver: what `make` calls.
//!
//! It builds what Cargo does not: the Kubernetes payload (Go), the image cache, the root image. All of
//! it is content-addressed under one cache directory: a step whose inputs were built before is skipped,
//! so every verb is idempotent and takes milliseconds when there is nothing to do. No step knows
//! about another except through the path it returns.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

mod all;
mod bench;
mod cmd;
mod compile;
mod ctx;
mod debian;
mod elf;
mod erofs;
mod images;
mod key;
mod lint;
mod prove;
mod registry;
mod report;
mod root;
mod sandbox;
mod seed;
mod spec;
mod test;
mod testlog;
mod tree;

use ctx::Ctx;

#[derive(Parser)]
#[command(name = "xtask", about = "Build and test tasks of Orlop")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build everything and point `_out/` at it.
    All {
        /// The multi-call binary of the system side.
        #[arg(long)]
        system_binary: PathBuf,
    },
    /// Build the programs of the payload: Kubernetes, etcd, containerd and so on.
    Payload {
        /// Only these Go modules.
        modules: Vec<String>,
    },
    /// Test the payload's own Go code.
    TestPayload,
    /// Run every test this machine can run and sum up.
    Test {
        /// The multi-call binary of the system side, for the root image that the image cache is proven in.
        #[arg(long)]
        system_binary: Option<PathBuf>,
        /// Where the images, orlopctl and kubectl are.
        #[arg(long, default_value = "_out")]
        out: PathBuf,
    },
    /// Build the image cache out of the payload.
    Images,
    /// Build the read-only root image.
    Root {
        /// The multi-call binary of the system side.
        #[arg(long)]
        system_binary: PathBuf,
    },
    /// Resolve the Debian packages anew and write payload/debian.lock.
    DebianLock,
    /// Build each layer and the root image a second time and compare the bytes.
    CheckReproducible {
        /// The multi-call binary of the system side; without it the root image is left out.
        #[arg(long)]
        system_binary: Option<PathBuf>,
    },
    /// Pull every image with the payload's own containerd in namespaces of its own, and run some.
    ProveImages {
        /// The multi-call binary of the system side; any program stands in for it.
        #[arg(long)]
        system_binary: Option<PathBuf>,
    },
    /// The inside of a sandbox's namespaces.
    #[command(hide = true)]
    SandboxInside {
        /// Its cgroups' name.
        name: String,
        /// Its directory.
        dir: PathBuf,
    },
    /// Serve an image cache over HTTP as the node does; for trying things out.
    #[command(hide = true)]
    ServeImages {
        /// The image cache.
        cache: PathBuf,
        /// Address to listen on.
        #[arg(default_value = "127.0.0.1:3172")]
        listen: String,
    },
    /// Mounts an image in the namespace it is called in and reads it.
    #[command(hide = true)]
    TryMount {
        /// The image.
        image: PathBuf,
        /// Where.
        point: PathBuf,
    },
    /// Measure speed and memory; print a table and write target/bench.json.
    Bench {
        /// Only figures whose names begin with one of these.
        figures: Vec<String>,
        /// Where the root image, the image cache and the tools are.
        #[arg(long, default_value = "_out")]
        out: PathBuf,
        /// Where the release builds of orlop and orlopctl are.
        #[arg(long, default_value = "target/x86_64-unknown-linux-musl/release")]
        binaries: PathBuf,
    },
    /// Check what rustfmt and clippy do not: widths, places of `unsafe`, dependencies.
    Lint,
    /// Remove from the cache what the current sources do not use.
    Gc,
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes is what teaches; a backtrace of a build script is noise.
            eprintln!("xtask: {}", error.chain().map(ToString::to_string).collect::<Vec<_>>().join(":\n  "));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let ctx = Ctx::new()?;
    match verb {
        Verb::ServeImages { cache, listen } => registry::serve(&cache, &listen),
        Verb::TryMount { image, point } => erofs::try_mount(&image, &point),
        Verb::All { system_binary } => all::run(&ctx, &system_binary),
        Verb::Payload { modules } => {
            let _lock = ctx.lock()?;
            compile::payload(&ctx, &spec::Spec::load(&ctx)?, &modules).map(drop)
        }
        Verb::TestPayload => compile::test_alone(&ctx),
        Verb::Test { system_binary, out } => test::run(&ctx, system_binary.as_deref(), &out),
        Verb::Images => {
            let _lock = ctx.lock()?;
            images::run(&ctx)
        }
        Verb::Root { system_binary } => {
            let _lock = ctx.lock()?;
            root::run(&ctx, &system_binary)
        }
        Verb::DebianLock => {
            let _lock = ctx.lock()?;
            debian::refresh(&ctx)
        }
        Verb::CheckReproducible { system_binary } => {
            let _lock = ctx.lock()?;
            all::check_reproducible(&ctx, system_binary.as_deref())
        }
        Verb::ProveImages { system_binary } => prove::run(&ctx, system_binary.as_deref()),
        Verb::SandboxInside { name, dir } => sandbox::inside(&ctx, &name, &dir),
        Verb::Bench { figures, out, binaries } => bench::run(&ctx, &out, &binaries, &figures),
        Verb::Lint => lint::run(&ctx),
        Verb::Gc => {
            let _lock = ctx.lock()?;
            all::gc(&ctx)
        }
    }
}
