//! Makes EROFS images out of trees, and finds out which compression the running kernel can mount.
//!
//! Everything that could differ from run to run is pinned: order, owners, times, UUID. So equal trees
//! give equal bytes, which is what lets a layer be named by its digest.

use std::{env, fs, io::BufWriter, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

use crate::{
    cmd::Cmd,
    ctx::{Ctx, beside, say},
    debian::Packages,
    key::{Key, digest_file},
    tree::{Entry, TIME, Tree},
};

/// How an image's data is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// As it is: the fastest to read, for what is never shipped alone.
    None,
    /// Half the size, and the cheapest to read of the compressed forms. For the root image, zstd at level 3
    /// would be 14 % smaller, at four times the cost of each page that a booting node reads; level 19
    /// takes a quarter of an hour to make and gains 5 % more.
    Lz4,
}

impl Compression {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            // Levels above 9 cost four times the time for half a per cent; clusters above 64 KiB gain as
            // little, and each fault decompresses a whole one.
            Self::Lz4 => &["-zlz4hc,level=9", "-C65536"],
        }
    }
}

/// Writes `tree` as an EROFS image to `out`, which is there whole or not at all.
pub(crate) fn build(ctx: &Ctx, packages: &Packages, tree: &Tree, compression: Compression, out: &Path) -> Result<()> {
    let new = beside(out);
    let _ = fs::remove_file(&new);
    packages
        .command(ctx, "mkfs.erofs", "/usr/bin/mkfs.erofs")?
        .set(|c| {
            c.args(["--quiet", "--tar=f", "-b4096", "-Uclear", "--all-root"]).arg(format!("-T{TIME}"));
            c.args(compression.arguments()).arg(&new);
        })
        .deadline(Duration::from_secs(900))
        .run_fed(|stdin| tree.write_tar(BufWriter::with_capacity(1 << 20, stdin)))
        .with_context(|| format!("making {}", out.display()))?;
    fs::rename(&new, out).with_context(|| format!("putting {} in place", out.display()))
}

/// The smallest form that this kernel mounts, tried with a small image; the answer is kept per kernel.
pub(crate) fn best_compression(ctx: &Ctx, packages: &Packages) -> Result<Compression> {
    let mut key = Key::new("erofs probe 2");
    let kernel = fs::read_to_string("/proc/version").context("reading the kernel's version")?;
    key.add("kernel", kernel).add("packages", &packages.key);
    let note = ctx.cache_dir("probe")?.join(key.finish());
    let forms = [(Compression::Lz4, "lz4"), (Compression::None, "none")];
    if let Ok(kept) = fs::read_to_string(&note)
        && let Some((form, _)) = forms.iter().find(|(_, name)| *name == kept)
    {
        return Ok(*form);
    }
    if !nix::unistd::geteuid().is_root() {
        say("not root, so mounting cannot be tried: the root image is compressed with lz4, which every kernel with compressed EROFS reads");
        return Ok(Compression::Lz4);
    }
    let mut refused = Vec::new();
    for (form, name) in forms {
        match try_form(ctx, packages, form) {
            Ok(()) => {
                fs::write(&note, name).with_context(|| format!("writing {}", note.display()))?;
                return Ok(form);
            }
            Err(error) => refused.push(format!("{name}: {error:#}")),
        }
    }
    bail!(
        "this kernel mounts no EROFS image from a file (Linux 6.12 or newer with CONFIG_EROFS_FS_BACKED_BY_FILE does): {}",
        refused.join("; ")
    )
}

fn try_form(ctx: &Ctx, packages: &Packages, form: Compression) -> Result<()> {
    let dir = ctx.cache_dir("probe")?;
    let image = dir.join("try.erofs");
    let mut tree = Tree::default();
    tree.add("/probe", Entry::Inline(b"all work and no play ".repeat(8192)))?;
    build(ctx, packages, &tree, form, &image)?;
    let point = dir.join("mnt");
    fs::create_dir_all(&point).with_context(|| format!("making {}", point.display()))?;
    let me = env::current_exe().context("finding this program")?;
    // A mount namespace of its own: the host never sees the mount, and it goes with the process.
    Cmd::new(ctx, "try-mount", "unshare")?
        .set(|c| {
            c.args(["--mount", "--propagation", "private", "--"]).arg(me).arg("try-mount").arg(&image).arg(&point);
        })
        .deadline(Duration::from_secs(20))
        .run()
}

/// Mounts an image and reads all of its only file. Runs in a namespace made for it.
pub(crate) fn try_mount(image: &Path, point: &Path) -> Result<()> {
    mount(Some(image), point, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>).with_context(|| format!("mounting {}", image.display()))?;
    let content = fs::read(point.join("probe")).context("reading from the mount")?;
    if content.len() != 21 * 8192 {
        bail!("read {} bytes, expected {}", content.len(), 21 * 8192);
    }
    Ok(())
}

/// Builds the image a second time and compares.
pub(crate) fn check_reproducible(ctx: &Ctx, packages: &Packages, tree: &Tree, compression: Compression, built: &Path) -> Result<()> {
    let again = ctx.cache_dir("probe")?.join("again.erofs");
    build(ctx, packages, tree, compression, &again)?;
    let (first, second) = (digest_file(built)?, digest_file(&again)?);
    fs::remove_file(&again).context("removing the second image")?;
    if first != second {
        bail!("{} is not reproducible: built twice it has the digests {} and {}", built.display(), first.0, second.0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian;

    /// Needs the Debian packages; where they were never fetched, the test says so and passes.
    fn unpacked() -> Option<(Ctx, Packages)> {
        let ctx = Ctx::new().unwrap();
        let dir = ctx.cache.join("debian");
        let fetched =
            fs::read_dir(&dir).is_ok_and(|mut d| d.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("root-"))));
        if !fetched {
            eprintln!("skipped: mkfs.erofs is not in the cache yet; `cargo xtask images` fetches it");
            return None;
        }
        let packages = debian::packages(&ctx).unwrap();
        Some((ctx, packages))
    }

    #[test]
    fn equal_trees_give_equal_bytes() {
        let Some((ctx, packages)) = unpacked() else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.merged().unwrap();
        tree.add("/etc/x", Entry::Inline(vec![7; 100_000])).unwrap();
        for form in [Compression::None, Compression::Lz4] {
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            build(&ctx, &packages, &tree, form, &a).unwrap();
            build(&ctx, &packages, &tree, form, &b).unwrap();
            assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap(), "{form:?}");
        }
    }
}
