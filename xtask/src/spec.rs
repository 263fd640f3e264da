//! `payload/payload.toml` as types: which programs there are, which layers and images they make, and
//! what the root image holds. Versions come from each Go module's go.mod, so that no version stands
//! in two places. Reading and checking only; nothing is built here.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;

/// The whole file. Maps are ordered, so that what is derived from them is too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// Go modules by directory.
    pub(crate) module: BTreeMap<String, Module>,
    /// Programs in C by directory.
    pub(crate) c: BTreeMap<String, CProgram>,
    /// What layers may include.
    pub(crate) fragment: BTreeMap<String, Layer>,
    /// Image layers.
    pub(crate) layer: BTreeMap<String, Layer>,
    /// Images.
    pub(crate) image: Vec<Image>,
    /// The root image.
    pub(crate) root: Root,
}

/// A Go module of the payload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Module {
    /// The required module whose version is the component's; none: the code is ours alone.
    pub(crate) component: Option<String>,
    /// The component's commit, for stamping.
    #[serde(default)]
    pub(crate) commit: String,
    /// The component's date, for stamping.
    #[serde(default)]
    pub(crate) date: String,
    /// What is built from it.
    pub(crate) program: Vec<GoProgram>,
    /// The component's version; filled in from go.mod.
    #[serde(skip)]
    pub(crate) version: String,
}

/// A program of a Go module.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GoProgram {
    /// File name.
    pub(crate) name: String,
    /// The main package: `.`, a directory, or an import path.
    pub(crate) package: String,
    /// Build tags.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// `importpath.variable=value` for the linker, with `{version}`, `{major}`, `{minor}`, `{commit}`, `{date}`.
    #[serde(default)]
    pub(crate) stamp: Vec<String>,
    /// C libraries linked in, by pkg-config's names; any makes it a (static) cgo build.
    #[serde(default)]
    pub(crate) cgo_libraries: Vec<String>,
}

/// A program in C.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CProgram {
    /// Source files.
    pub(crate) sources: Vec<String>,
}

/// A layer, or a fragment of one.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    /// Fragments that belong to it.
    #[serde(default)]
    pub(crate) include: Vec<String>,
    /// Path in the layer → program as `module/program` (or `program`, if in C).
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// Path in the layer → target of a symbolic link.
    #[serde(default)]
    pub(crate) links: BTreeMap<String, String>,
    /// Empty directories.
    #[serde(default)]
    pub(crate) directories: Vec<String>,
    /// Small files with their text.
    #[serde(default)]
    pub(crate) inline: Vec<Inline>,
    /// Programs out of Debian packages; the libraries they need come with them.
    #[serde(default)]
    pub(crate) debian: Vec<String>,
    /// Where to put the bundle of certificate authorities.
    pub(crate) certificates: Option<String>,
}

/// A small file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inline {
    /// Where.
    pub(crate) path: String,
    /// What.
    pub(crate) text: String,
}

/// An image.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// Full name with tag; `{module}` stands for that module's version.
    pub(crate) name: String,
    /// Layers from the bottom up.
    pub(crate) layers: Vec<String>,
    /// What runs when nothing else is asked for.
    pub(crate) entrypoint: Vec<String>,
    /// Its default arguments.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// `uid:gid`; empty: root.
    #[serde(default)]
    pub(crate) user: String,
}

/// The root image.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Root {
    /// Names under which the system binary is called.
    pub(crate) system_links: Vec<String>,
    /// Path → program.
    pub(crate) files: BTreeMap<String, String>,
    /// Path → link target.
    pub(crate) links: BTreeMap<String, String>,
    /// Empty directories: mount points.
    pub(crate) directories: Vec<String>,
    /// Programs out of Debian packages.
    pub(crate) debian: Vec<String>,
    /// Where to put the bundle of certificate authorities.
    pub(crate) certificates: String,
}

impl Spec {
    /// Reads the file and each module's version.
    pub(crate) fn load(ctx: &Ctx) -> Result<Self> {
        let path = ctx.payload().join("payload.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut spec = Self::parse(&text).with_context(|| format!("reading {}", path.display()))?;
        for (name, module) in &mut spec.module {
            if let Some(component) = &module.component {
                let path = ctx.payload().join(name).join("go.mod");
                module.version = required_version(&path, component)?;
            }
        }
        spec.resolve_names()?;
        Ok(spec)
    }

    fn parse(text: &str) -> Result<Self> {
        let spec: Self = toml::from_str(text)?;
        spec.check()?;
        Ok(spec)
    }

    /// Everything named must exist.
    fn check(&self) -> Result<()> {
        for (kind, layers) in [("fragment", &self.fragment), ("layer", &self.layer)] {
            for (name, layer) in layers {
                for fragment in &layer.include {
                    if !self.fragment.contains_key(fragment) {
                        bail!("{kind}.{name} includes {fragment:?}, which is no fragment");
                    }
                }
                for program in layer.files.values() {
                    self.check_program(&format!("{kind}.{name}"), program)?;
                }
            }
        }
        for program in self.root.files.values() {
            self.check_program("root", program)?;
        }
        for image in &self.image {
            for layer in &image.layers {
                if !self.layer.contains_key(layer) {
                    bail!("image {} has the layer {layer:?}, which is not defined", image.name);
                }
            }
        }
        Ok(())
    }

    fn check_program(&self, user: &str, program: &str) -> Result<()> {
        let known = match program.split_once('/') {
            Some((module, name)) => self.module.get(module).is_some_and(|module| module.program.iter().any(|p| p.name == name)),
            None => self.c.contains_key(program),
        };
        if !known {
            bail!("{user} uses the program {program:?}, which nothing builds; expected module/program");
        }
        Ok(())
    }

    fn resolve_names(&mut self) -> Result<()> {
        for image in &mut self.image {
            for (name, module) in &self.module {
                image.name = image.name.replace(&format!("{{{name}}}"), &module.version);
            }
            if image.name.contains(['{', '}']) {
                bail!("image {}: what stands in braces is no module", image.name);
            }
        }
        Ok(())
    }

    /// A layer with its fragments folded in.
    pub(crate) fn flattened(&self, layer: &str) -> Result<Layer> {
        let own = self.layer.get(layer).with_context(|| format!("no layer {layer:?}"))?;
        let mut whole = Layer::default();
        let fragments = own.include.iter().filter_map(|name| self.fragment.get(name));
        for part in fragments.chain([own]) {
            whole.files.extend(part.files.clone());
            whole.links.extend(part.links.clone());
            whole.directories.extend(part.directories.clone());
            whole.debian.extend(part.debian.clone());
            whole.inline.extend(part.inline.iter().map(|i| Inline { path: i.path.clone(), text: i.text.clone() }));
            if part.certificates.is_some() {
                whole.certificates.clone_from(&part.certificates);
            }
        }
        Ok(whole)
    }
}

impl Module {
    /// The linker's `-X` values of a program, filled in.
    pub(crate) fn stamps(&self, program: &GoProgram) -> Vec<String> {
        let mut numbers = self.version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let fill = |stamp: &String| {
            stamp
                .replace("{version}", &self.version)
                .replace("{major}", major)
                .replace("{minor}", minor)
                .replace("{commit}", &self.commit)
                .replace("{date}", &self.date)
        };
        program.stamp.iter().map(fill).collect()
    }
}

/// The version that a go.mod requires of a module.
fn required_version(path: &Path, module: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    // Both forms: a line of a require block, and `require module version`.
    let found = text.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().filter(|v| v.starts_with('v'))
    });
    found.map(str::to_owned).with_context(|| format!("{} requires no version of {module}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_sound() {
        let spec = Spec::load(&Ctx::new().unwrap()).unwrap();
        let names: Vec<_> = spec.image.iter().map(|i| i.name.as_str()).collect();
        assert!(names.iter().all(|name| name.contains(":v") || name.contains("pause:")), "{names:?}");
        for layer in spec.layer.keys() {
            spec.flattened(layer).unwrap();
        }
    }

    #[test]
    fn versions_come_from_go_mod() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("go.mod");
        fs::write(&path, "module x\nrequire (\n\ta/b v1.2.3 // indirect\n)\nrequire c v2.0.0\nreplace a/b => d v9.9.9\n").unwrap();
        assert_eq!(required_version(&path, "a/b").unwrap(), "v1.2.3");
        assert_eq!(required_version(&path, "c").unwrap(), "v2.0.0");
        assert!(required_version(&path, "e").unwrap_err().to_string().contains("requires no version of e"));
    }

    #[test]
    fn stamps_are_filled_in() {
        let program = GoProgram {
            name: "p".into(),
            package: ".".into(),
            tags: vec![],
            stamp: vec!["a.b={version}".into(), "a.c={major}-{minor}".into(), "a.d={commit} {date}".into()],
            cgo_libraries: vec![],
        };
        let module = Module { component: None, commit: "abc".into(), date: "today".into(), program: vec![], version: "v1.37.1".into() };
        assert_eq!(module.stamps(&program), ["a.b=v1.37.1", "a.c=1-37", "a.d=abc today"]);
    }

    #[test]
    fn what_is_named_must_exist() {
        let base = "[module.m]\n[[module.m.program]]\nname='p'\npackage='.'\n[c]\n[fragment]\n";
        let root = "[root]\nsystem_links=[]\ncertificates=''\ndebian=[]\ndirectories=[]\nlinks={}\n[root.files]\n";
        let error = |text: &str| format!("{:#}", Spec::parse(text).unwrap_err());
        let unknown = format!("image=[]\n{base}[layer.l]\nfiles={{'/x'='m/q'}}\n{root}");
        assert!(error(&unknown).contains("m/q"), "{}", error(&unknown));
        let layer = format!("image=[{{name='i',layers=['z'],entrypoint=[]}}]\n{base}[layer]\n{root}");
        assert!(error(&layer).contains("\"z\""), "{}", error(&layer));
    }
}
