//! What rustfmt and clippy do not check: the width of lines rustfmt gives up on, where `unsafe` may be, and dependencies.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    cmd::Cmd,
    ctx::{Ctx, Step, say},
};

/// The release of cargo-deny that is installed where there is none.
const DENY_VERSION: &str = "0.20.2";
/// It is 260 CPU seconds of compiling.
const INSTALL_DEADLINE: Duration = Duration::from_secs(40 * 60);
/// Where `unsafe` may be, and why.
const UNSAFE: [(&str, &str); 2] = [("sys/", "the one door to the kernel"), ("engine/benches/store.rs", "an allocator that counts")];

/// The verb.
pub(crate) fn run(ctx: &Ctx) -> Result<()> {
    let max_width = max_width(&ctx.repo.join("rustfmt.toml"))?;
    let mut complaints = Vec::new();
    let mut files = Vec::new();
    sources(&ctx.repo, &mut files)?;
    for path in &files {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.strip_prefix(&ctx.repo).unwrap_or(path).to_string_lossy();
        complaints.extend(complaints_of(&name, &text, max_width));
    }
    complaints.iter().for_each(|complaint| println!("{complaint}"));
    if !complaints.is_empty() {
        bail!("{} lines are not as they should be", complaints.len());
    }
    say(format!("{} files: no line is too wide, no `unsafe` outside {}", files.len(), UNSAFE.map(|(place, _)| place).join(", ")));
    dependencies(ctx)
}

/// What is wrong with a file.
fn complaints_of(name: &str, text: &str, max_width: usize) -> Vec<String> {
    let mut found = Vec::new();
    let may_be_unsafe = UNSAFE.iter().any(|(place, _)| name.starts_with(place));
    for (n, line) in text.lines().enumerate() {
        let (at, width) = (n + 1, line.chars().count());
        // rustfmt neither wraps comments nor stumbles over them. A message is one literal: cut in pieces nobody finds it again.
        if width > max_width && !line.trim_start().starts_with("//") && !line.contains('"') {
            found.push(format!("{name}:{at}: {width} columns, expected at most {max_width}; rustfmt does not format what has such a line"));
        }
        if !may_be_unsafe
            && ["allow(unsafe_code", "expect(unsafe_code"].iter().any(|word| line.trim_start_matches(['#', '!', '[']).starts_with(word))
        {
            found.push(format!("{name}:{at}: `unsafe` belongs into the crate sys, behind a safe function"));
        }
    }
    found
}

fn max_width(rustfmt: &Path) -> Result<usize> {
    let settings: toml::Table = fs::read_to_string(rustfmt).with_context(|| format!("reading {}", rustfmt.display()))?.parse()?;
    let width = settings.get("max_width").and_then(toml::Value::as_integer);
    width.and_then(|width| width.try_into().ok()).with_context(|| format!("{}: expected max_width", rustfmt.display()))
}

/// Every Rust file of the checkout.
fn sources(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let entry = entry.with_context(|| format!("listing {}", dir.display()))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // What is built is not ours to format; links lead elsewhere.
        if entry.file_type()?.is_dir() && name != "target" && name != "_out" && !name.starts_with('.') {
            sources(&path, into)?;
        } else if name.ends_with(".rs") && entry.file_type()?.is_file() {
            into.push(path);
        }
    }
    into.sort();
    Ok(())
}

/// Licences, sources, bans, and known holes where their list can be had.
fn dependencies(ctx: &Ctx) -> Result<()> {
    let program = cargo_deny(ctx)?;
    let check = |label: &str, what: &[&str]| -> Result<Cmd> {
        Ok(Cmd::new(ctx, label, &program)?.set(|c| {
            c.current_dir(&ctx.repo).env("CARGO_TERM_COLOR", "never").args(["--locked", "check"]).args(what);
        }))
    };
    check("deny", &["bans", "licenses", "sources"])?.run().context("dependencies; the rules are in deny.toml")?;
    say("dependencies: licences, sources and bans are as deny.toml wants them");
    let mut said = String::new();
    let status = check("deny-advisories", &["advisories"])?.run_lines(|line| said.extend(line.map(|line| format!("{line}\n"))))?;
    if status.success() {
        say("dependencies: no known holes");
    } else if let Some(line) = said.lines().find(|line| line.contains("failed to fetch advisory database")) {
        println!("skipped: known holes of dependencies: {}", line.split(": [").next().unwrap_or(line));
    } else {
        bail!("a dependency has a known hole, or is not maintained:\n{said}");
    }
    Ok(())
}

/// The cargo-deny of the path, else one of our own, installed once.
fn cargo_deny(ctx: &Ctx) -> Result<PathBuf> {
    let in_path =
        env::var_os("PATH").and_then(|path| env::split_paths(&path).map(|dir| dir.join("cargo-deny")).find(|file| file.is_file()));
    if let Some(program) = in_path {
        return Ok(program);
    }
    let root = ctx.cache_dir("tools")?.join(format!("cargo-deny-{DENY_VERSION}"));
    let program = root.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    let mut step = Step::begin(1, 1, &format!("installing cargo-deny {DENY_VERSION}, once: some minutes"));
    Cmd::new(ctx, "cargo-deny", "cargo")?
        .nice()
        .deadline(INSTALL_DEADLINE)
        .set(|c| {
            // Not in the checkout: its toolchain file and target directory are ours.
            c.current_dir(&ctx.cache).args(["install", "--locked", "--no-default-features", "--root"]).arg(&root);
            c.arg(format!("cargo-deny@{DENY_VERSION}"));
        })
        .run_ticking(|_| step.tick(""))?;
    step.end();
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_lines_and_unsafe_outside_its_place_are_found() {
        let wide = format!("let a = {};\nlet b = \"{}\";\n", "1".repeat(20), "1".repeat(20));
        assert_eq!(complaints_of("a.rs", &wide, 20).len(), 1);
        let code = concat!("#![", "allow(unsafe_code)]\n");
        assert_eq!(complaints_of("net/src/lib.rs", code, 100).len(), 1);
        assert_eq!(complaints_of("sys/src/lib.rs", code, 100).len(), 0);
    }
}
