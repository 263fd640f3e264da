//! The node's root image: one read-only EROFS file, put together from the system binary, the container
//! runtime, CNI plug-ins and a handful of Debian programs, and held against payload/allowlist.toml.
//!
//! What goes in is written down twice on purpose: payload.toml says what is taken, the allowlist says what may
//! be there and why. A file that came along unasked (a library of a library) is then noticed, not shipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    cmd::Cmd,
    compile::{self, Programs},
    ctx::{Ctx, Step, beside, megabytes, say},
    debian::{self, Packages},
    elf, erofs,
    key::{Key, digest_file},
    spec::{Root, Spec},
    tree::{Entry, Tree},
};

/// Where the system binary is.
const SYSTEM: &str = "/usr/bin/orlop";

/// The budget of the issue: the root image without the image cache.
const BUDGET: u64 = 60_000_000;

/// Files that are generated into /etc and bind-mounted over these.
const BOUND_FILES: [&str; 4] = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/machine-id"];

/// The verb.
pub(crate) fn run(ctx: &Ctx, system: &Path) -> Result<()> {
    let spec = Spec::load(ctx)?;
    let programs = compile::payload(ctx, &spec, &[])?;
    let packages = debian::packages(ctx)?;
    println!("{}", image(ctx, &spec, &programs, &packages, system)?.display());
    Ok(())
}

/// Builds the image if it is missing and returns its path.
pub(crate) fn image(ctx: &Ctx, spec: &Spec, programs: &Programs, packages: &Packages, system: &Path) -> Result<PathBuf> {
    let system = fs::canonicalize(system).with_context(|| format!("the system binary {}; `make binaries` builds it", system.display()))?;
    let allowlist_path = ctx.payload().join("allowlist.toml");
    let allowlist = fs::read_to_string(&allowlist_path).with_context(|| format!("reading {}", allowlist_path.display()))?;
    let mut key = Key::new("root 2");
    key.add("system", digest_file(&system)?.0)
        .add("spec", serde_json::to_vec(&spec.root)?)
        .add("version", env!("CARGO_PKG_VERSION"))
        .add("packages", &packages.key)
        .add("allowlist", &allowlist);
    for program in spec.root.files.values() {
        key.add("program", programs.key(program)?);
    }
    let dir = ctx.cache_dir("root")?;
    let path = dir.join(format!("{}.erofs", key.finish()));
    if path.is_file() {
        return Ok(path);
    }
    let step = Step::begin(1, 1, "making the root image");
    let tree = tree(ctx, &spec.root, programs, packages, &system)?;
    Allowlist::parse(&allowlist)
        .and_then(|list| list.check(&tree))
        .with_context(|| format!("checking the root image against {}", allowlist_path.display()))?;
    let compression = erofs::best_compression(ctx, packages)?;
    erofs::build(ctx, packages, &tree, compression, &path)?;
    let size = fs::metadata(&path)?.len();
    say(format!(
        "root image: {} files, {} of content, {} as {compression:?}",
        tree.entries().count(),
        megabytes(tree.size()?),
        megabytes(size)
    ));
    if size > BUDGET {
        say(format!("the root image is over its budget of {}", megabytes(BUDGET)));
    }
    step.end();
    Ok(path)
}

/// Builds it a second time and compares.
pub(crate) fn check_reproducible(ctx: &Ctx, spec: &Spec, programs: &Programs, packages: &Packages, system: &Path) -> Result<()> {
    let built = image(ctx, spec, programs, packages, system)?;
    let tree = tree(ctx, &spec.root, programs, packages, &fs::canonicalize(system)?)?;
    erofs::check_reproducible(ctx, packages, &tree, erofs::best_compression(ctx, packages)?, &built)?;
    say("root image: the same bytes twice");
    Ok(())
}

/// The system binary without symbols, whatever profile it was built with.
fn stripped(ctx: &Ctx, system: &Path) -> Result<PathBuf> {
    if !elf::has_symbols(system)? {
        return Ok(system.to_path_buf());
    }
    let copy = ctx.cache_dir("stripped")?.join("orlop");
    let new = beside(&copy);
    Cmd::new(ctx, "strip", "strip")?
        .set(|c| {
            c.arg("-o").arg(&new).arg(system);
        })
        .run()
        .context("stripping the system binary")?;
    fs::rename(&new, &copy).with_context(|| format!("putting {} in place", copy.display()))?;
    Ok(copy)
}

fn tree(ctx: &Ctx, root: &Root, programs: &Programs, packages: &Packages, system: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.merged()?;
    tree.add(SYSTEM, Entry::File { from: stripped(ctx, system)?, executable: true })?;
    for name in &root.system_links {
        tree.add(&format!("/usr/bin/{name}"), Entry::Link("orlop".into()))?;
    }
    for path in &root.directories {
        tree.add(path, Entry::Dir)?;
    }
    for (path, target) in &root.links {
        tree.add(path, Entry::Link(target.clone()))?;
    }
    for (path, program) in &root.files {
        tree.add(path, Entry::File { from: programs.path(program)?, executable: true })?;
    }
    for path in BOUND_FILES {
        tree.add(path, Entry::Inline(Vec::new()))?;
    }
    tree.add("/usr/lib/os-release", Entry::Inline(os_release().into_bytes()))?;
    tree.add_debian(ctx, &root.debian, packages)?;
    tree.add(&root.certificates, Entry::Inline(packages.certificates()?))?;
    Ok(tree)
}

fn os_release() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("NAME=\"Orlop\"\nID=orlop\nVERSION_ID={version}\nPRETTY_NAME=\"Orlop {version}\"\n")
}

/// payload/allowlist.toml: each file of the root with its reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowlist {
    /// Path, or a pattern whose last part holds `*`, → why it is there.
    files: BTreeMap<String, String>,
}

impl Allowlist {
    fn parse(text: &str) -> Result<Self> {
        let list: Self = toml::from_str(text)?;
        for (path, reason) in &list.files {
            if reason.trim().len() < 8 {
                bail!("{path}: the reason {reason:?} says nothing");
            }
            let (dir, _) = path.rsplit_once('/').unwrap_or_default();
            if dir.contains('*') || path.ends_with("/*") {
                bail!("{path}: a pattern must be narrow, with `*` in the last part and something beside it");
            }
        }
        Ok(list)
    }

    /// Every file needs an entry, every entry a file. Directories count where they are empty: those are
    /// mount points, and have a reason too.
    fn check(&self, tree: &Tree) -> Result<()> {
        let mut unused: BTreeSet<&str> = self.files.keys().map(String::as_str).collect();
        let mut unexplained = Vec::new();
        for (path, entry) in tree.entries() {
            if *entry == Entry::Dir && !tree.is_empty_dir(path) {
                continue;
            }
            let matching: Vec<_> = self.files.keys().filter(|pattern| matches(pattern, path)).collect();
            if matching.is_empty() {
                unexplained.push(path);
            }
            for pattern in matching {
                unused.remove(pattern.as_str());
            }
        }
        let mut faults = Vec::new();
        if !unexplained.is_empty() {
            faults.push(format!("in the image without a reason: {}", unexplained.join(", ")));
        }
        if !unused.is_empty() {
            faults.push(format!("listed but not in the image: {}", unused.into_iter().collect::<Vec<_>>().join(", ")));
        }
        if !faults.is_empty() {
            bail!("{}", faults.join("; "));
        }
        Ok(())
    }
}

/// `*` stands for any characters but a slash.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == path;
    };
    let Some(rest) = path.strip_prefix(head) else {
        return false;
    };
    (0..=rest.len()).take_while(|&n| rest.is_char_boundary(n) && !rest[..n].contains('/')).any(|n| matches(tail, &rest[n..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for path in paths {
            tree.add(path, Entry::Inline(Vec::new())).unwrap();
        }
        tree.add("/run", Entry::Dir).unwrap();
        tree
    }

    fn list(paths: &[&str]) -> Allowlist {
        Allowlist { files: paths.iter().map(|p| ((*p).to_owned(), "a good reason".to_owned())).collect() }
    }

    #[test]
    fn every_file_needs_a_reason() {
        let error = list(&["/run", "/usr/bin/a"]).check(&tree(&["/usr/bin/a", "/usr/bin/b"])).unwrap_err().to_string();
        assert!(error.contains("without a reason: /usr/bin/b"), "{error}");
    }

    #[test]
    fn every_entry_needs_a_file() {
        let error = list(&["/run", "/usr/bin/a", "/usr/bin/gone"]).check(&tree(&["/usr/bin/a"])).unwrap_err().to_string();
        assert!(error.contains("not in the image: /usr/bin/gone"), "{error}");
        list(&["/run", "/usr/bin/a"]).check(&tree(&["/usr/bin/a"])).unwrap();
    }

    #[test]
    fn an_empty_directory_needs_a_reason_too() {
        let error = list(&["/usr/bin/a"]).check(&tree(&["/usr/bin/a"])).unwrap_err().to_string();
        assert!(error.contains("without a reason: /run"), "{error}");
    }

    #[test]
    fn patterns_stay_within_a_directory() {
        assert!(matches("/usr/lib/x/libc.so.*", "/usr/lib/x/libc.so.6"));
        assert!(matches("/usr/lib/*-gnu", "/usr/lib/x86_64-linux-gnu"));
        assert!(!matches("/usr/lib/lib*", "/usr/lib/liba/b"));
        assert!(!matches("/usr/bin/a", "/usr/bin/ab"));
        for wide in ["/usr/*/libc.so", "/usr/bin/*"] {
            let text = format!("[files]\n{wide:?} = 'a good reason'\n");
            assert!(Allowlist::parse(&text).unwrap_err().to_string().contains("narrow"), "{wide}");
        }
        assert!(Allowlist::parse("[files]\n'/a' = 'why'\n").unwrap_err().to_string().contains("says nothing"));
    }

    /// Without the payload built: all that payload.toml names is in the committed list. What Debian's
    /// programs bring is seen when the image is built.
    #[test]
    fn the_committed_list_covers_what_payload_toml_names() {
        let ctx = Ctx::new().unwrap();
        let list = Allowlist::parse(&fs::read_to_string(ctx.payload().join("allowlist.toml")).unwrap()).unwrap();
        let root = Spec::load(&ctx).unwrap().root;
        let links = root.system_links.iter().map(|name| format!("/usr/bin/{name}"));
        let named = root.files.keys().chain(root.links.keys()).chain(&root.debian).cloned();
        for path in links.chain(named).chain([SYSTEM.to_owned(), root.certificates.clone()]) {
            assert!(list.files.keys().any(|pattern| matches(pattern, &path)), "{path} is not in payload/allowlist.toml");
        }
    }
}
