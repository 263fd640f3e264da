//! Proves the image cache in a sandbox that is a node's root image with the payload's containerd:
//!
//! 1. a new node pulls every image over CRI and runs programs out of them: only manifests and configurations
//!    are sent, nothing is unpacked;
//! 2. the same with the cache's layers hidden: layers then come over the registry;
//! 3. a node that starts with the containerd seed has every image without a registry;
//! 4. an image as others make them, a tar archive, is converted on the node.
//!
//! Prints times and bytes, one line of key=value pairs each.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    compile::{self, Programs},
    ctx::{Ctx, megabytes, say},
    debian::{self, Packages},
    images, root,
    sandbox::{self, Job},
    seed,
    spec::Spec,
    tree::Tree,
};

/// What is run to show that images work: a part of the image's name, and a command in it.
const RUNS: [(&str, &str); 8] = [
    ("/kubelet:", "/usr/local/bin/kubelet --version"),
    ("/kube-apiserver:", "/usr/local/bin/kube-apiserver --version"),
    ("/kube-proxy:", "nft --version"),
    ("/etcd:", "etcd --version"),
    ("/coredns:", "/coredns -version"),
    ("/flannel:", "/opt/bin/flanneld --version"),
    ("/flannel:", "cp -f /etc/passwd /run/copy"),
    ("/testpod:", "/testpod read /etc/nsswitch.conf"),
];

/// The verb.
pub(crate) fn run(ctx: &Ctx, system: Option<&Path>) -> Result<()> {
    let lock = ctx.lock()?;
    let spec = Spec::load(ctx)?;
    let programs = compile::payload(ctx, &spec, &[])?;
    let packages = debian::packages(ctx)?;
    let image_cache = images::cache(ctx, &spec, &programs, &packages)?;
    // containerd needs a root, not our system: where that is not built yet, any program stands in.
    let stand_in = std::env::current_exe().context("finding this program")?;
    let root = root::image(ctx, &spec, &programs, &packages, system.unwrap_or(&stand_in))?;
    let seed = seed::seed(ctx, &spec, &programs, &image_cache, &root)?;
    drop(lock);

    let names: Vec<&str> = spec.image.iter().map(|image| image.name.as_str()).collect();
    let mut runs = Vec::new();
    for (part, command) in RUNS {
        let name = names.iter().find(|name| name.contains(part)).with_context(|| format!("no image {part}"))?;
        runs.extend(["-run".to_owned(), format!("{name} {command}")]);
    }
    let job = |layers: bool, registry: bool, verb: &str| -> Result<Job> {
        let mut arguments = vec![verb.to_owned(), names.join(",")];
        arguments.extend(runs.clone());
        Ok(Job {
            root: root.clone(),
            image_cache: image_cache.clone(),
            layers,
            registry,
            config: ctx.payload().join("containerd"),
            var: PathBuf::new(),
            client: programs.path("containerd/prove-images")?,
            arguments,
        })
    };
    prove(ctx, "a new node", job(true, true, "-pull")?, None)?;
    prove(ctx, "a new node, layers not in its cache", job(false, true, "-pull")?, None)?;
    let Some(seed) = seed else {
        bail!("without the seed the proof is not whole");
    };
    prove(ctx, "a node with the seed, no registry", job(true, false, "-have")?, Some(&seed))?;
    prove_foreign(ctx, &spec, &programs, &packages, job(true, true, "-pull")?, &seed)
}

/// The node has the seed, for its pause image; the foreign image comes from a registry that has nothing else.
fn prove_foreign(ctx: &Ctx, spec: &Spec, programs: &Programs, packages: &Packages, mut job: Job, seed: &Path) -> Result<()> {
    const NAME: &str = "orlop.test/foreign:v1";
    let dir = ctx.cache_dir("sandbox")?.join(format!("foreign-{}", std::process::id()));
    let tree = Tree::of_layer(ctx, &spec.flattened("testpod")?, programs, packages)?;
    images::foreign(ctx, NAME, &tree, &dir)?;
    // Its own blobs beside the links to the image cache's layers, which the seed refers to.
    fs::remove_dir(dir.join("erofs"))?;
    let status = Command::new("cp").arg("-rL").arg(job.image_cache.join("erofs")).arg(&dir).status().context("copying layers")?;
    if !status.success() {
        bail!("copying the layers failed ({status})");
    }
    job.image_cache.clone_from(&dir);
    job.arguments = ["-pull", NAME, "-run", &format!("{NAME} /testpod read /etc/nsswitch.conf")].map(str::to_owned).into();
    let result = prove(ctx, "an image of tar archives", job, Some(seed));
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    result
}

fn prove(ctx: &Ctx, title: &str, mut job: Job, seed: Option<&Path>) -> Result<()> {
    say(title);
    let base = ctx.cache_dir("sandbox")?;
    job.var = base.join(format!("var-{}", std::process::id()));
    let containerd = job.var.join("lib/containerd");
    fs::create_dir_all(job.var.join("lib")).with_context(|| format!("making {}", job.var.display()))?;
    if let Some(seed) = seed {
        let start = Instant::now();
        let status = Command::new("cp").arg("-a").arg(seed).arg(&containerd).status().context("copying the seed")?;
        if !status.success() {
            bail!("copying the seed failed ({status})");
        }
        println!("seed_copied_ms={}", start.elapsed().as_millis());
    }
    let result = sandbox::run(&job, &base.join(format!("prove-{}", std::process::id())));
    let written = disk_usage(&containerd);
    fs::remove_dir_all(&job.var).with_context(|| format!("removing {}", job.var.display()))?;
    let outcome = result.with_context(|| title.to_owned())?;
    print!("{}", outcome.output);
    let written = written?;
    println!(
        "containerd_ready_ms={} registry_sent_bytes={} containerd_root_bytes={written} ({})",
        outcome.ready_ms,
        outcome.sent_bytes,
        megabytes(written)
    );
    Ok(())
}

/// Bytes on disk below a directory.
fn disk_usage(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let path = entry?.path();
        let Ok(meta) = path.symlink_metadata() else { continue };
        // 512 is the unit of st_blocks, whatever the file system's is.
        bytes += meta.blocks() * 512;
        if meta.is_dir() {
            bytes += disk_usage(&path)?;
        }
    }
    Ok(bytes)
}
