//! Builds the image cache: an OCI layout with every image a cluster needs, whose layers are EROFS images
//! that nodes mount as they are. docs/image-cache.md says why it has this form.
//!
//! A layer's blob is its EROFS image, so its digest is also its diffID: the blob is at once what a
//! registry hands out and what containerd's EROFS snapshotter mounts. Layers are kept in `blobs/` of the
//! cache, one per key; the layouts under `image-cache/` are made of hard links to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    compile::{self, Programs},
    ctx::{Ctx, Step, beside, megabytes, say},
    debian::{self, Packages},
    erofs::{self, Compression},
    key::{Key, digest, digest_file},
    spec::{Image, Layer, Spec},
    tree::Tree,
};

/// containerd's media type of a layer that is an EROFS image.
const LAYER_TYPE: &str = "application/vnd.erofs.layer.v1";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Where programs are looked for in a container.
const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A blob by what it holds.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Descriptor {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
}

/// The verb: everything up to the image cache, and a word on its size.
pub(crate) fn run(ctx: &Ctx) -> Result<()> {
    let spec = Spec::load(ctx)?;
    let programs = compile::payload(ctx, &spec, &[])?;
    let packages = debian::packages(ctx)?;
    let cache = cache(ctx, &spec, &programs, &packages)?;
    println!("{}", cache.display());
    Ok(())
}

/// Builds what is missing and returns the image cache's directory.
pub(crate) fn cache(ctx: &Ctx, spec: &Spec, programs: &Programs, packages: &Packages) -> Result<PathBuf> {
    let layers = layers(ctx, spec, programs, packages)?;
    let mut key = Key::new("image cache 1");
    for image in &spec.image {
        key.add("image", serde_json::to_vec(image)?);
    }
    for (name, layer) in &layers {
        key.add(name, &layer.digest);
    }
    let dir = ctx.cache_dir("image-cache")?.join(key.finish());
    if !dir.is_dir() {
        let new = beside(&dir);
        let _ = fs::remove_dir_all(&new);
        assemble(ctx, spec, &layers, &new)?;
        fs::rename(&new, &dir).with_context(|| format!("putting {} in place", dir.display()))?;
        let bytes: u64 = layers.values().map(|layer| layer.size).sum();
        say(format!("image cache: {} images, {} layers, {}", spec.image.len(), layers.len(), megabytes(bytes)));
    }
    Ok(dir)
}

/// The tree of each layer, with the key that decides it.
fn layer_trees(spec: &Spec, programs: &Programs, packages: &Packages) -> Result<BTreeMap<String, (Layer, String)>> {
    spec.layer
        .keys()
        .map(|name| {
            let layer = spec.flattened(name)?;
            let mut key = Key::new("layer 1");
            key.add("layer", serde_json::to_vec(&layer)?).add("packages", &packages.key);
            for program in layer.files.values() {
                key.add("program", programs.key(program)?);
            }
            Ok((name.clone(), (layer, key.finish())))
        })
        .collect()
}

fn blob_path(ctx: &Ctx, digest: &str) -> Result<PathBuf> {
    Ok(ctx.cache_dir("blobs")?.join(digest.trim_start_matches("sha256:")))
}

fn layers(ctx: &Ctx, spec: &Spec, programs: &Programs, packages: &Packages) -> Result<BTreeMap<String, Descriptor>> {
    let notes = ctx.cache_dir("layers")?;
    let trees = layer_trees(spec, programs, packages)?;
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for (name, (layer, key)) in &trees {
        let note = notes.join(format!("{name}-{key}.json"));
        let kept = fs::read(&note).ok().and_then(|text| serde_json::from_slice::<Descriptor>(&text).ok());
        match kept {
            Some(kept) if blob_path(ctx, &kept.digest)?.is_file() => {
                found.insert(name.clone(), kept);
            }
            _ => missing.push((name, layer, note)),
        }
    }
    let total = missing.len();
    for (n, (name, layer, note)) in missing.into_iter().enumerate() {
        let step = Step::begin(n + 1, total, &format!("making the image layer {name}"));
        let tree = Tree::of_layer(ctx, layer, programs, packages).with_context(|| format!("layer {name}"))?;
        let descriptor = build_layer(ctx, packages, &tree, name)?;
        fs::write(&note, serde_json::to_vec(&descriptor)?).with_context(|| format!("writing {}", note.display()))?;
        found.insert(name.clone(), descriptor);
        step.end();
    }
    Ok(found)
}

/// Layers are not compressed: nodes read them in place from the page cache of the machine they were
/// built on, and each container that starts would pay for decompression anew.
fn build_layer(ctx: &Ctx, packages: &Packages, tree: &Tree, name: &str) -> Result<Descriptor> {
    let new = ctx.cache_dir("blobs")?.join(format!("{name}.new-{}", std::process::id()));
    erofs::build(ctx, packages, tree, Compression::None, &new)?;
    let (hex, size) = digest_file(&new)?;
    let blob = blob_path(ctx, &hex)?;
    // Nodes see this very file: nobody writes to it again.
    let mut permissions = fs::metadata(&new)?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&new, permissions).with_context(|| format!("protecting {}", new.display()))?;
    fs::rename(&new, &blob).with_context(|| format!("putting {} in place", blob.display()))?;
    Ok(Descriptor { media_type: LAYER_TYPE.into(), digest: format!("sha256:{hex}"), size })
}

/// Lays the image cache out in `dir`.
fn assemble(ctx: &Ctx, spec: &Spec, layers: &BTreeMap<String, Descriptor>, dir: &Path) -> Result<()> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("making {}", blobs.display()))?;
    for layer in layers.values() {
        let hex = layer.digest.trim_start_matches("sha256:");
        let blob = blobs.join(hex);
        fs::hard_link(blob_path(ctx, &layer.digest)?, &blob).with_context(|| format!("linking {}", blob.display()))?;
        // The same blob where the EROFS snapshotter looks for it, by diffID.
        let place = dir.join("erofs/sha256").join(&hex[..2]);
        fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
        symlink(format!("../../../blobs/sha256/{hex}"), place.join(format!("{hex}.erofs")))
            .with_context(|| format!("linking in {}", place.display()))?;
    }
    write_index(ctx, &spec.image, layers, dir)
}

/// Writes configurations, manifests and the index of images whose layers are there.
fn write_index(ctx: &Ctx, images: &[Image], layers: &BTreeMap<String, Descriptor>, dir: &Path) -> Result<()> {
    let blobs = dir.join("blobs/sha256");
    let manifests: Vec<_> = images.iter().map(|image| assemble_image(ctx, image, layers, &blobs)).collect::<Result<_>>()?;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests });
    fs::write(dir.join("index.json"), serde_json::to_vec_pretty(&index)?).context("writing index.json")?;
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).context("writing oci-layout")
}

/// An image cache with one image as others make them: its layer is a tar archive, and not there as
/// EROFS. For proving that nodes take such images too.
pub(crate) fn foreign(ctx: &Ctx, name: &str, tree: &Tree, dir: &Path) -> Result<()> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("making {}", blobs.display()))?;
    fs::create_dir_all(dir.join("erofs")).with_context(|| format!("making {}", dir.display()))?;
    let mut archive = Vec::new();
    tree.write_tar(&mut archive)?;
    let hex = digest(&archive);
    fs::write(blobs.join(&hex), &archive).context("writing the archive")?;
    let layer = Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        digest: format!("sha256:{hex}"),
        size: archive.len() as u64,
    };
    let image =
        Image { name: name.into(), layers: vec!["foreign".into()], entrypoint: Vec::new(), command: Vec::new(), user: String::new() };
    write_index(ctx, &[image], &BTreeMap::from([("foreign".to_owned(), layer)]), dir)
}

/// Writes an image's configuration and manifest; returns its entry for the index.
fn assemble_image(ctx: &Ctx, image: &Image, layers: &BTreeMap<String, Descriptor>, blobs: &Path) -> Result<serde_json::Value> {
    let stack: Vec<&Descriptor> = image
        .layers
        .iter()
        .map(|name| layers.get(name).with_context(|| format!("image {}: no layer {name}", image.name)))
        .collect::<Result<_>>()?;
    let diff_ids: Vec<&str> = stack.iter().map(|layer| layer.digest.as_str()).collect();
    let config = json!({
        "created": "1970-01-01T00:00:01Z",
        "architecture": ctx.arch.go,
        "os": "linux",
        "config": {
            "User": image.user,
            "Env": [SEARCH_PATH],
            "Entrypoint": image.entrypoint,
            "Cmd": image.command,
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = write_blob(blobs, CONFIG_TYPE, &config)?;
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": stack });
    let manifest = write_blob(blobs, MANIFEST_TYPE, &manifest)?;
    Ok(json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
        "platform": { "architecture": ctx.arch.go, "os": "linux" },
        "annotations": { "org.opencontainers.image.ref.name": image.name, "io.containerd.image.name": image.name },
    }))
}

fn write_blob(blobs: &Path, media_type: &str, value: &serde_json::Value) -> Result<Descriptor> {
    let bytes = serde_json::to_vec(value)?;
    let hex = digest(&bytes);
    let path = blobs.join(&hex);
    fs::write(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
    Ok(Descriptor { media_type: media_type.into(), digest: format!("sha256:{hex}"), size: bytes.len() as u64 })
}

/// Builds each layer again and compares with the one there is.
pub(crate) fn check_reproducible(ctx: &Ctx, spec: &Spec, programs: &Programs, packages: &Packages) -> Result<()> {
    let built = layers(ctx, spec, programs, packages)?;
    for (name, (layer, _)) in &layer_trees(spec, programs, packages)? {
        let tree = Tree::of_layer(ctx, layer, programs, packages)?;
        let descriptor = built.get(name).with_context(|| format!("no layer {name}"))?;
        erofs::check_reproducible(ctx, packages, &tree, Compression::None, &blob_path(ctx, &descriptor.digest)?)?;
        say(format!("layer {name}: the same bytes twice ({})", megabytes(descriptor.size)));
    }
    Ok(())
}

/// The blobs and notes that the current sources use.
pub(crate) fn in_use(ctx: &Ctx, spec: &Spec, programs: &Programs, packages: &Packages) -> Result<BTreeSet<PathBuf>> {
    let mut used = BTreeSet::new();
    for layer in layers(ctx, spec, programs, packages)?.values() {
        used.insert(blob_path(ctx, &layer.digest)?);
    }
    for (name, (_, key)) in &layer_trees(spec, programs, packages)? {
        used.insert(ctx.cache_dir("layers")?.join(format!("{name}-{key}.json")));
    }
    used.insert(cache(ctx, spec, programs, packages)?);
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            name: "registry.example/a:v1".into(),
            layers: vec!["l".into()],
            entrypoint: vec!["/a".into()],
            command: vec![],
            user: String::new(),
        }
    }

    #[test]
    fn a_layers_digest_is_its_diff_id_and_its_name_in_the_erofs_cache() {
        let dir = tempfile::tempdir().unwrap();
        let mut ctx = Ctx::new().unwrap();
        ctx.cache = dir.path().join("cache");
        let hex = digest(b"layer");
        fs::create_dir_all(ctx.cache.join("blobs")).unwrap();
        fs::write(blob_path(&ctx, &hex).unwrap(), "layer").unwrap();
        let layer = Descriptor { media_type: LAYER_TYPE.into(), digest: format!("sha256:{hex}"), size: 5 };
        let mut spec = Spec::load(&ctx).unwrap();
        spec.image = vec![image()];
        let out = dir.path().join("out");
        assemble(&ctx, &spec, &BTreeMap::from([("l".to_owned(), layer)]), &out).unwrap();

        let through_link = fs::read(out.join(format!("erofs/sha256/{}/{hex}.erofs", &hex[..2]))).unwrap();
        assert_eq!(through_link, b"layer");
        let read = |name: &str| serde_json::from_slice::<serde_json::Value>(&fs::read(out.join(name)).unwrap()).unwrap();
        let blob = |d: &serde_json::Value| read(&format!("blobs/{}", d["digest"].as_str().unwrap().replace(':', "/")));
        let index = read("index.json");
        assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "registry.example/a:v1");
        let manifest = blob(&index["manifests"][0]);
        assert_eq!(manifest["layers"][0]["mediaType"], LAYER_TYPE);
        let config = blob(&manifest["config"]);
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["config"]["Entrypoint"][0], "/a");
    }

    #[test]
    fn a_layer_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Ctx::new().unwrap();
        let error = assemble_image(&ctx, &image(), &BTreeMap::new(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("registry.example/a:v1") && error.contains("no layer l"), "{error}");
    }
}
