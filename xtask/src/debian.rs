//! Programs and data out of Debian packages, pinned by payload/debian.lock, without touching the host:
//! packages are downloaded and unpacked under the cache, and their programs run by their own loader.
//!
//! [`refresh`] resolves anew, in an apt of its own (own state, own lists, an empty dpkg status), and keeps
//! of the dependencies only the packages that hold a file we use. Nothing else here asks apt to resolve.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    cmd::Cmd,
    ctx::{Ctx, Step, beside, say},
    elf,
    key::{Key, digest_file},
    spec::Spec,
};

/// Debian's release that packages are taken from: newer than the build host's, for mkfs.erofs ≥ 1.8.
const SUITE: &str = "trixie";

/// Programs used by the build itself.
const BUILD_PROGRAMS: [&str; 1] = ["/usr/bin/mkfs.erofs"];

/// Libraries that a program loads while it runs, which no header of it names. glibc wants libgcc_s where a
/// thread ends by pthread_exit, and aborts without it.
const LOADED: [(&str, &str); 1] = [("/usr/bin/mkfs.erofs", "libgcc_s.so.1")];

/// The packages asked for; everything else comes as a dependency.
const PACKAGES: [&str; 3] = ["erofs-utils", "nftables", "ca-certificates"];

/// The set of certificate authorities, one file each.
const CERTIFICATES: &str = "usr/share/ca-certificates/mozilla";

/// payload/debian.lock.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    suite: String,
    package: Vec<Package>,
}

/// One pinned package.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    version: String,
    /// Path below the mirror.
    file: String,
    size: u64,
    sha256: String,
}

/// The unpacked packages.
pub(crate) struct Packages {
    root: PathBuf,
    /// What decides their content.
    pub(crate) key: String,
}

/// Downloads and unpacks what the lock names, where that was not done before.
pub(crate) fn packages(ctx: &Ctx) -> Result<Packages> {
    let path = lock_path(ctx);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lock: Lock = toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let mut key = Key::new("debian 1");
    for package in &lock.package {
        key.add(&package.name, &package.sha256);
    }
    let key = key.finish();
    let root = ctx.cache_dir("debian")?.join(format!("root-{key}"));
    if !root.is_dir() {
        unpack(ctx, &lock.package, &root)?;
    }
    Ok(Packages { root, key })
}

impl Packages {
    /// A program and the libraries it needs: path in the image → file.
    pub(crate) fn program(&self, ctx: &Ctx, path: &str) -> Result<BTreeMap<String, PathBuf>> {
        let file = self.root.join(path.trim_start_matches('/'));
        if !file.is_file() {
            bail!("no package of payload/debian.lock holds {path}; add its package to PACKAGES in xtask and run `cargo xtask debian-lock`");
        }
        let mut files = elf::closure(ctx.arch, &self.root, &file)?;
        for (_, library) in LOADED.iter().filter(|(by, _)| *by == path) {
            let found = elf::locate(ctx.arch, &self.root, library)?;
            files.extend(elf::closure(ctx.arch, &self.root, &found)?);
            files.insert(format!("/usr/lib/{}/{library}", ctx.arch.triple), found);
        }
        files.insert(path.to_owned(), file);
        Ok(files)
    }

    /// A command that runs one of the programs here, by its own loader and libraries.
    pub(crate) fn command(&self, ctx: &Ctx, label: &str, path: &str) -> Result<Cmd> {
        let loader = elf::locate(ctx.arch, &self.root, ctx.arch.loader.rsplit('/').next().unwrap_or_default())?;
        let libraries = self.root.join("usr/lib").join(ctx.arch.triple);
        let program = self.root.join(path.trim_start_matches('/'));
        Ok(Cmd::new(ctx, label, loader)?.set(|c| {
            c.arg("--library-path").arg(libraries).arg(program);
        }))
    }

    /// All certificate authorities in one file, as programs expect them.
    pub(crate) fn certificates(&self) -> Result<Vec<u8>> {
        let dir = self.root.join(CERTIFICATES);
        let mut files: Vec<_> = fs::read_dir(&dir)
            .with_context(|| format!("listing {}", dir.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|path| path.extension().is_some_and(|e| e == "crt"));
        files.sort();
        let mut bundle = Vec::new();
        for path in &files {
            bundle.extend(fs::read(path).with_context(|| format!("reading {}", path.display()))?);
            if !bundle.ends_with(b"\n") {
                bundle.push(b'\n');
            }
        }
        if files.len() < 50 {
            bail!("found {} certificate authorities in {}; expected more than 50", files.len(), dir.display());
        }
        Ok(bundle)
    }

    /// The directory the packages are unpacked in.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

fn lock_path(ctx: &Ctx) -> PathBuf {
    ctx.payload().join("debian.lock")
}

fn unpack(ctx: &Ctx, packages: &[Package], root: &Path) -> Result<()> {
    let mut step = Step::begin(1, 1, &format!("fetching {} Debian packages", packages.len()));
    let mirror = mirror(ctx)?;
    let new = beside(root);
    let _ = fs::remove_dir_all(&new);
    fs::create_dir_all(&new).with_context(|| format!("making {}", new.display()))?;
    for (n, package) in packages.iter().enumerate() {
        step.tick(&format!("{n} of {}", packages.len()));
        let archive = fetch(ctx, &mirror, package)?;
        extract(ctx, &archive, &new)?;
    }
    fs::rename(&new, root).with_context(|| format!("putting {} in place", root.display()))?;
    step.end();
    Ok(())
}

fn extract(ctx: &Ctx, archive: &Path, into: &Path) -> Result<()> {
    Cmd::new(ctx, "dpkg-deb", "dpkg-deb")?
        .set(|c| {
            c.arg("--extract").arg(archive).arg(into);
        })
        .run()
}

/// The archive of a package, downloaded by apt's own helper, which checks the hash.
fn fetch(ctx: &Ctx, mirror: &str, package: &Package) -> Result<PathBuf> {
    let archive = ctx.cache_dir("debian/archives")?.join(format!("{}.deb", package.sha256));
    if archive.is_file() {
        return Ok(archive);
    }
    let new = beside(&archive);
    Cmd::new(ctx, "apt-download", "/usr/lib/apt/apt-helper")?
        .set(|c| {
            c.arg("download-file").arg(format!("{mirror}/{}", package.file)).arg(&new).arg(format!("SHA256:{}", package.sha256));
        })
        .deadline(Duration::from_secs(300))
        .run()
        .with_context(|| {
            format!(
                "downloading {} {}; if Debian has replaced it by a newer version, run `cargo xtask debian-lock` and commit payload/debian.lock",
                package.name, package.version
            )
        })?;
    let (found, size) = digest_file(&new)?;
    if found != package.sha256 || size != package.size {
        let _ = fs::remove_file(&new);
        bail!("{}: found {size} bytes with SHA-256 {found}, expected {} bytes with {}", package.name, package.size, package.sha256);
    }
    fs::rename(&new, &archive).with_context(|| format!("putting {} in place", archive.display()))?;
    Ok(archive)
}

/// The mirror this machine takes Debian from: `$ORLOP_DEBIAN_MIRROR`, else what apt is set up with.
fn mirror(ctx: &Ctx) -> Result<String> {
    if let Ok(mirror) = std::env::var("ORLOP_DEBIAN_MIRROR")
        && !mirror.is_empty()
    {
        return Ok(mirror.trim_end_matches('/').to_owned());
    }
    let targets = Cmd::new(ctx, "apt-targets", "apt-get")?
        .set(|c| {
            c.args(["indextargets", "--format", "$(CREATED_BY) $(COMPONENT) $(SUITE) $(REPO_URI)"]);
        })
        .output()?;
    pick_mirror(&targets).context("apt on this machine knows no Debian mirror; set ORLOP_DEBIAN_MIRROR to one")
}

/// The first repository of Debian's main archive: not its security archive, nor someone else's.
fn pick_mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (created, component, suite, uri) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let path = uri.trim_end_matches('/');
        (created == "Packages" && component == "main" && path.ends_with("/debian") && !suite.contains("security")).then(|| path.to_owned())
    })
}

/// Resolves anew and writes the lock.
pub(crate) fn refresh(ctx: &Ctx) -> Result<()> {
    let apt = Apt::new(ctx)?;
    say(format!("asking Debian {SUITE} for {}", PACKAGES.join(", ")));
    apt.update()?;
    let mut candidates = Vec::new();
    for (name, version) in apt.dependencies()? {
        candidates.push(apt.describe(&name, &version)?);
    }

    // Everything is unpacked once, to see which packages hold a file that is used.
    let mirror = mirror(ctx)?;
    let scratch = ctx.cache_dir("debian/resolve")?.join("root");
    let _ = fs::remove_dir_all(&scratch);
    let mut owners: BTreeMap<PathBuf, String> = BTreeMap::new();
    for package in &candidates {
        let archive = fetch(ctx, &mirror, package)?;
        for path in contents(ctx, &archive)? {
            owners.insert(path, package.name.clone());
        }
        extract(ctx, &archive, &scratch)?;
    }
    let all = Packages { root: scratch.clone(), key: String::new() };
    let used = used_packages(ctx, &all, &owners)?;
    candidates.retain(|package| used.contains(&package.name));
    candidates.sort_by(|a, b| a.name.cmp(&b.name));

    let lock = Lock { suite: SUITE.to_owned(), package: candidates };
    let mut text =
        String::from("# Debian packages that programs and data of the images are taken from. Written by `cargo xtask debian-lock`.\n\n");
    text.push_str(&toml::to_string(&lock).context("writing the lock")?);
    let path = lock_path(ctx);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    let _ = fs::remove_dir_all(&scratch);
    for package in &lock.package {
        say(format!("{} {}", package.name, package.version));
    }
    Ok(())
}

/// The packages that own a file we take.
fn used_packages(ctx: &Ctx, all: &Packages, owners: &BTreeMap<PathBuf, String>) -> Result<BTreeSet<String>> {
    let spec = Spec::load(ctx)?;
    let mut programs: BTreeSet<String> = BUILD_PROGRAMS.iter().map(|&p| p.to_owned()).collect();
    programs.extend(spec.root.debian.iter().cloned());
    programs.extend(spec.layer.values().flat_map(|layer| layer.debian.iter().cloned()));
    let mut used = BTreeSet::from(["ca-certificates".to_owned()]);
    for program in &programs {
        for file in all.program(ctx, program)?.values() {
            let path = file.strip_prefix(&all.root).unwrap_or(file);
            let owner = owners.get(path).with_context(|| format!("no package owns {}", path.display()))?;
            used.insert(owner.clone());
        }
    }
    Ok(used)
}

fn contents(ctx: &Ctx, archive: &Path) -> Result<Vec<PathBuf>> {
    let listing = Cmd::new(ctx, "dpkg-contents", "dpkg-deb")?
        .set(|c| {
            c.arg("--contents").arg(archive).env("LC_ALL", "C");
        })
        .output()?;
    // Mode, owner, size, date, time, path, and for links an arrow and the target.
    let path = |line: &str| line.split_whitespace().nth(5).map(|p| PathBuf::from(p.trim_start_matches("./")));
    Ok(listing.lines().filter_map(path).collect())
}

/// An apt that knows nothing of the machine's packages and leaves its state alone.
struct Apt<'a> {
    ctx: &'a Ctx,
    dir: PathBuf,
}

impl<'a> Apt<'a> {
    fn new(ctx: &'a Ctx) -> Result<Self> {
        let dir = ctx.cache_dir("debian/apt")?;
        for sub in ["state/lists/partial", "cache/archives/partial", "etc/preferences.d"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        fs::write(dir.join("state/status"), "")?;
        let mirror = mirror(ctx)?;
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        fs::write(dir.join("etc/sources.list"), format!("deb [signed-by={keyring}] {mirror} {SUITE} main\n"))?;
        Ok(Self { ctx, dir })
    }

    fn command(&self, label: &str, program: &str, configure: impl FnOnce(&mut Command)) -> Result<Cmd> {
        let options = [
            ("Dir::State", "state"),
            ("Dir::State::status", "state/status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc", "etc"),
            ("Dir::Etc::sourcelist", "etc/sources.list"),
            ("Dir::Etc::sourceparts", "etc/none"),
            ("Dir::Etc::preferencesparts", "etc/preferences.d"),
        ];
        let cmd = Cmd::new(self.ctx, label, program)?.set(|c| {
            c.env("LC_ALL", "C");
            for (name, path) in options {
                c.arg("-o").arg(format!("{name}={}", self.dir.join(path).display()));
            }
            c.args(["-o", "APT::Install-Recommends=false", "-o", "Acquire::Languages=none"]);
        });
        Ok(cmd.set(configure).deadline(Duration::from_secs(300)))
    }

    fn update(&self) -> Result<()> {
        self.command("apt-update", "apt-get", |c| {
            c.arg("update");
        })?
        .run()
    }

    /// Name and version of all that an installation on an empty machine would bring.
    fn dependencies(&self) -> Result<Vec<(String, String)>> {
        let plan = self
            .command("apt-resolve", "apt-get", |c| {
                c.args(["install", "--simulate"]).args(PACKAGES);
            })?
            .output()?;
        // Inst name (version origin [architecture])
        let parse = |line: &str| {
            let mut words = line.strip_prefix("Inst ")?.split_whitespace();
            let name = words.next()?.to_owned();
            let version = words.find_map(|word| word.strip_prefix('('))?.to_owned();
            Some((name, version))
        };
        Ok(plan.lines().filter_map(parse).collect())
    }

    fn describe(&self, name: &str, version: &str) -> Result<Package> {
        let text = self
            .command("apt-show", "apt-cache", |c| {
                c.args(["show", "--no-all-versions", &format!("{name}={version}")]);
            })?
            .output()?;
        let field = |wanted: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(wanted)?.strip_prefix(": "))
                .with_context(|| format!("Debian's record of {name} {version} has no {wanted}"))
        };
        Ok(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            file: field("Filename")?.to_owned(),
            size: field("Size")?.parse().with_context(|| format!("the size of {name}"))?,
            sha256: field("SHA256")?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_lock_is_whole() {
        let ctx = Ctx::new().unwrap();
        let lock: Lock = toml::from_str(&fs::read_to_string(lock_path(&ctx)).unwrap()).unwrap();
        assert_eq!(lock.suite, SUITE);
        for name in PACKAGES {
            assert!(lock.package.iter().any(|p| p.name == name), "{name} is not in the lock");
        }
        for package in &lock.package {
            assert_eq!(package.sha256.len(), 64, "{}", package.name);
            assert!(package.file.starts_with("pool/"), "{}", package.file);
        }
    }

    #[test]
    fn the_mirror_is_debians_main_archive() {
        let targets = "\
            Translations main stable http://a.example/debian/\n\
            Packages main stable https://other.example/apt/\n\
            Packages main stable-security http://a.example/debian-security/\n\
            Packages contrib stable http://b.example/debian/\n\
            Packages main stable http://c.example/debian/\n";
        assert_eq!(pick_mirror(targets).as_deref(), Some("http://c.example/debian"));
        assert_eq!(pick_mirror("Packages main stable http://a.example/ubuntu/"), None);
    }
}
