//! Patches as flags: inline text, `@file`, or a path; and problems of configuration files, shown where they are.

use anyhow::bail;
use model::config::patch::{Argument, Patch, apply, argument};
use model::config::{Config, Problems};

use crate::session::read_file;

/// Reads the patches of a flag that may be given several times.
pub fn read(arguments: &[String]) -> anyhow::Result<Vec<Patch>> {
    arguments.iter().enumerate().map(|(index, text)| one(index, text)).collect()
}

fn one(index: usize, text: &str) -> anyhow::Result<Patch> {
    let (name, bytes) = match argument(text) {
        Argument::File(path) => (path.to_string(), read_file(path)?),
        Argument::Inline(inline) => (format!("patch {}", index + 1), inline.to_string().into_bytes()),
    };
    match Patch::parse(&bytes, 0) {
        Ok(patch) => Ok(patch),
        Err(problems) => bail!("{name}:\n{}", show(&problems, &name, &bytes)),
    }
}

/// The problems with the lines they are in.
pub fn show(problems: &Problems, name: &str, bytes: &[u8]) -> String {
    problems.render(&[(name, &String::from_utf8_lossy(bytes))])
}

/// A configuration with patches applied; `name` says in problems where it is from.
pub fn patched(config: &[u8], name: &str, patches: &[Patch]) -> anyhow::Result<Vec<u8>> {
    let loaded = match Config::load(config) {
        Ok(loaded) => loaded,
        Err(problems) => bail!("{}", show(&problems, name, config)),
    };
    match apply(&loaded.text, patches) {
        Ok(patched) => Ok(patched.encode().into_bytes()),
        Err(problems) => bail!("{problems}"),
    }
}
