//! The containerd seed: a node's /var/lib/containerd in which every image of the cache is already pulled.
//! A new node starts with a copy of it and pulls nothing, which saves some hundred fsyncs: half a second on
//! an idle disk, several on a busy one. The seed holds manifests, configurations and databases, less than
//! one MB; layers stay in the image cache, to which it refers by path.
//!
//! It is made by the payload's own containerd, asked in the way kubelet (over CRI) and machined (through
//! the transfer service) ask. So it is the one product that is not byte for byte reproducible: containerd's
//! databases hold times. A node without it pulls from its registry and ends up with the same.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    compile::Programs,
    ctx::{Ctx, Step, beside, say},
    key::Key,
    sandbox::{self, Job},
    spec::Spec,
};

/// Images that machined itself runs, in containerd's namespace `system`: parts of their names.
const SYSTEM_IMAGES: [&str; 2] = ["/etcd:", "/kubelet:"];

/// Makes the seed if it is missing and returns its directory; none when this process may not.
pub(crate) fn seed(ctx: &Ctx, spec: &Spec, programs: &Programs, image_cache: &Path, root: &Path) -> Result<Option<PathBuf>> {
    let config = ctx.payload().join("containerd");
    let mut key = Key::new("seed 1");
    key.add("images", image_cache.to_string_lossy().as_bytes());
    key.add("containerd", programs.key("containerd/containerd")?);
    key.add("config", fs::read(config.join("config.toml")).context("reading containerd's configuration")?);
    let dir = ctx.cache_dir("seed")?.join(key.finish());
    if dir.is_dir() {
        return Ok(Some(dir));
    }
    if !nix::unistd::geteuid().is_root() {
        say("not root, so no containerd seed is made: nodes will pull their images from the image cache, which takes a little longer");
        return Ok(None);
    }
    let step = Step::begin(1, 1, "making the containerd seed");
    let var = beside(&dir);
    let _ = fs::remove_dir_all(&var);
    fs::create_dir_all(&var).with_context(|| format!("making {}", var.display()))?;
    let images: Vec<String> = spec.image.iter().map(|image| image.name.clone()).collect();
    let mut arguments = vec!["-pull".to_owned(), images.join(",")];
    let system = images.iter().filter(|name| SYSTEM_IMAGES.iter().any(|part| name.contains(part)));
    arguments.extend(["-pull-system".to_owned(), system.cloned().collect::<Vec<_>>().join(",")]);
    let job = Job {
        root: root.to_path_buf(),
        image_cache: image_cache.to_path_buf(),
        layers: true,
        registry: true,
        config,
        var: var.clone(),
        client: programs.path("containerd/prove-images")?,
        arguments,
    };
    sandbox::run(&job, &ctx.cache_dir("sandbox")?.join(format!("seed-{}", std::process::id())))?;
    fs::rename(var.join("lib/containerd"), &dir).with_context(|| format!("putting {} in place", dir.display()))?;
    fs::remove_dir_all(&var).with_context(|| format!("removing {}", var.display()))?;
    step.end();
    Ok(Some(dir))
}
