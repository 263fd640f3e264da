//! Everything at once: payload, image cache, root image; and `_out/`, which points at what is current.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    compile::{self, Programs},
    ctx::{Ctx, beside, megabytes, say},
    debian, images, root, seed,
    spec::Spec,
};

/// What `_out/bin` holds: name → program. kubectl picks itself by the name it is called by.
const TOOLS: [(&str, &str); 4] =
    [("kubectl", "kubernetes/kubernetes"), ("ctr", "containerd/ctr"), ("containerd", "containerd/containerd"), ("etcdctl", "etcd/etcd")];

/// The verb.
pub(crate) fn run(ctx: &Ctx, system: &Path) -> Result<()> {
    let _lock = ctx.lock()?;
    let spec = Spec::load(ctx)?;
    let programs = compile::payload(ctx, &spec, &[])?;
    let packages = debian::packages(ctx)?;
    let cache = images::cache(ctx, &spec, &programs, &packages)?;
    let root = root::image(ctx, &spec, &programs, &packages, system)?;
    let seed = seed::seed(ctx, &spec, &programs, &cache, &root)?;
    point(ctx, &programs, &cache, &root, seed.as_deref())
}

/// Points `_out/` at what was built.
fn point(ctx: &Ctx, programs: &Programs, cache: &Path, root: &Path, seed: Option<&Path>) -> Result<()> {
    let out = ctx.repo.join("_out");
    fs::create_dir_all(out.join("bin")).with_context(|| format!("making {}", out.display()))?;
    link(cache, &out.join("image-cache"))?;
    link(root, &out.join("root.erofs"))?;
    match seed {
        Some(seed) => link(seed, &out.join("containerd-seed"))?,
        // One that belongs to another image cache would name layers that are not there.
        None => drop(fs::remove_file(out.join("containerd-seed"))),
    }
    for (name, program) in TOOLS {
        link(&programs.path(program)?, &out.join("bin").join(name))?;
    }
    Ok(())
}

/// Makes `at` a link to `target` in one step, so that whoever reads it sees the old or the new.
fn link(target: &Path, at: &Path) -> Result<()> {
    if fs::read_link(at).is_ok_and(|there| there == target) {
        return Ok(());
    }
    let new = beside(at);
    let _ = fs::remove_file(&new);
    symlink(target, &new).with_context(|| format!("linking {}", new.display()))?;
    fs::rename(&new, at).with_context(|| format!("putting {} in place", at.display()))
}

/// Builds what is a product of ours twice and compares.
pub(crate) fn check_reproducible(ctx: &Ctx, system: Option<&Path>) -> Result<()> {
    let spec = Spec::load(ctx)?;
    let programs = compile::payload(ctx, &spec, &[])?;
    let packages = debian::packages(ctx)?;
    images::check_reproducible(ctx, &spec, &programs, &packages)?;
    match system {
        Some(system) => root::check_reproducible(ctx, &spec, &programs, &packages, system),
        None => Ok(()),
    }
}

/// Removes what the current sources do not use. Clusters that run on an older image cache keep the
/// files they have open but find no others: so this happens on request only.
pub(crate) fn gc(ctx: &Ctx) -> Result<()> {
    let spec = Spec::load(ctx)?;
    let programs = compile::payload(ctx, &spec, &[])?;
    let packages = debian::packages(ctx)?;
    let mut used: BTreeSet<PathBuf> = images::in_use(ctx, &spec, &programs, &packages)?;
    used.extend(programs.dirs().cloned());
    used.insert(packages.root().to_path_buf());
    used.extend(["root.erofs", "containerd-seed"].iter().flat_map(|name| fs::read_link(ctx.repo.join("_out").join(name))));

    let mut freed = 0;
    for kind in ["programs", "blobs", "layers", "image-cache", "root", "seed", "debian"] {
        let dir = ctx.cache_dir(kind)?;
        for entry in fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))? {
            let path = entry.with_context(|| format!("listing {}", dir.display()))?.path();
            // Downloaded archives and apt's lists are small, and cost the network to get again.
            let kept = kind == "debian" && !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("root-"));
            if used.contains(&path) || kept {
                continue;
            }
            freed += remove(&path)?;
        }
    }
    say(format!("removed {} from {}", megabytes(freed), ctx.cache.display()));
    Ok(())
}

fn remove(path: &Path) -> Result<u64> {
    let meta = path.symlink_metadata().with_context(|| format!("looking at {}", path.display()))?;
    if !meta.is_dir() {
        fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        return Ok(meta.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
        bytes += remove(&entry.with_context(|| format!("listing {}", path.display()))?.path())?;
    }
    fs::remove_dir(path).with_context(|| format!("removing {}", path.display()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_replaced_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("current");
        link(Path::new("/a"), &at).unwrap();
        link(Path::new("/a"), &at).unwrap();
        assert_eq!(fs::read_link(&at).unwrap(), Path::new("/a"));
        link(Path::new("/b"), &at).unwrap();
        assert_eq!(fs::read_link(&at).unwrap(), Path::new("/b"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn removing_counts_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("sub")).unwrap();
        fs::write(top.join("sub/a"), [0; 10]).unwrap();
        fs::write(top.join("b"), [0; 5]).unwrap();
        assert_eq!(remove(&top).unwrap(), 15);
        assert!(!top.exists());
    }
}
