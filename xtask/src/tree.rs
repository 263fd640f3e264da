//! A tree of files to make an image of: what is where, with which mode. Owner is root and time is fixed,
//! so that a tree has one form, which is a tar stream.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use tar::{Builder, EntryType, Header};

use crate::{compile::Programs, ctx::Ctx, debian::Packages, spec::Layer};

/// The time of every file: one second after the epoch, since some programs take zero for "not set".
pub(crate) const TIME: u64 = 1;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A directory.
    Dir,
    /// A file with the content of another.
    File { from: PathBuf, executable: bool },
    /// A file with this content.
    Inline(Vec<u8>),
    /// A symbolic link.
    Link(String),
}

/// Paths are absolute; parents are there.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// Directories that are links in every tree, so that what the loader and scripts call things is there.
const MERGED: [(&str, &str); 4] = [("/bin", "usr/bin"), ("/sbin", "usr/sbin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64")];

impl Tree {
    /// The tree of a layer.
    pub(crate) fn of_layer(ctx: &Ctx, layer: &Layer, programs: &Programs, packages: &Packages) -> Result<Self> {
        let mut tree = Self::default();
        tree.merged()?;
        for path in &layer.directories {
            tree.add(path, Entry::Dir)?;
        }
        for (path, program) in &layer.files {
            tree.add(path, Entry::File { from: programs.path(program)?, executable: true })?;
        }
        for (path, target) in &layer.links {
            tree.add(path, Entry::Link(target.clone()))?;
        }
        for inline in &layer.inline {
            tree.add(&inline.path, Entry::Inline(inline.text.clone().into_bytes()))?;
        }
        tree.add_debian(ctx, &layer.debian, packages)?;
        if let Some(path) = &layer.certificates {
            tree.add(path, Entry::Inline(packages.certificates()?))?;
        }
        Ok(tree)
    }

    /// Adds the links that every tree has.
    pub(crate) fn merged(&mut self) -> Result<()> {
        for (path, target) in MERGED {
            self.add(path, Entry::Link(target.to_owned()))?;
        }
        Ok(())
    }

    /// Adds programs out of packages with their libraries.
    pub(crate) fn add_debian(&mut self, ctx: &Ctx, programs: &[String], packages: &Packages) -> Result<()> {
        for program in programs {
            for (path, from) in packages.program(ctx, program)? {
                let executable = path == *program || path.contains("/ld-linux");
                self.add(&path, Entry::File { from, executable })?;
            }
        }
        Ok(())
    }

    /// Puts something at a path; the same thing twice is fine, two things are not.
    pub(crate) fn add(&mut self, path: &str, entry: Entry) -> Result<()> {
        if !path.starts_with('/') || path.ends_with('/') || path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
            bail!("{path:?} is no plain absolute path");
        }
        let parents: Vec<_> = path.match_indices('/').skip(1).map(|(at, _)| path[..at].to_owned()).collect();
        for parent in parents {
            match self.entries.get(&parent) {
                None => {
                    self.entries.insert(parent, Entry::Dir);
                }
                Some(Entry::Dir) => {}
                Some(other) => bail!("{path} would be below {parent}, which is {other:?}"),
            }
        }
        match self.entries.get(path) {
            Some(there) if *there != entry => {
                bail!("{path} is wanted twice: as {there:?} and as {entry:?}")
            }
            _ => {
                self.entries.insert(path.to_owned(), entry);
                Ok(())
            }
        }
    }

    /// All that is there, parents before what is in them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Is it a directory with nothing in it?
    pub(crate) fn is_empty_dir(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.entries.get(path) == Some(&Entry::Dir) && !self.entries.keys().any(|other| other.starts_with(&below))
    }

    /// Writes the tree as a tar stream: sorted, owned by root, at one time.
    pub(crate) fn write_tar(&self, out: impl Write) -> Result<()> {
        let mut tar = Builder::new(out);
        let header = |kind: EntryType, mode: u32, size: u64| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(size);
            header.set_mtime(TIME);
            header.set_uid(0);
            header.set_gid(0);
            header
        };
        tar.append_data(&mut header(EntryType::Directory, 0o755, 0), "./", std::io::empty()).context("writing the root")?;
        for (path, entry) in &self.entries {
            let name = path.trim_start_matches('/');
            let written = match entry {
                Entry::Dir => {
                    // /tmp is for everyone, whatever is mounted there or not.
                    let mode = if path == "/tmp" { 0o1777 } else { 0o755 };
                    tar.append_data(&mut header(EntryType::Directory, mode, 0), format!("{name}/"), std::io::empty())
                }
                Entry::Link(target) => tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), name, target),
                Entry::Inline(content) => {
                    tar.append_data(&mut header(EntryType::Regular, 0o644, content.len() as u64), name, content.as_slice())
                }
                Entry::File { from, executable } => {
                    let file = File::open(from).with_context(|| format!("opening {}", from.display()))?;
                    let size = file.metadata().with_context(|| format!("looking at {}", from.display()))?.len();
                    let mode = if *executable { 0o755 } else { 0o644 };
                    tar.append_data(&mut header(EntryType::Regular, mode, size), name, file)
                }
            };
            written.with_context(|| format!("writing {path}"))?;
        }
        tar.into_inner().context("ending the stream")?.flush().context("ending the stream")
    }

    /// The bytes of all files.
    pub(crate) fn size(&self) -> Result<u64> {
        self.entries.values().try_fold(0, |sum, entry| {
            Ok(sum
                + match entry {
                    Entry::File { from, .. } => fs::metadata(from).with_context(|| format!("looking at {}", from.display()))?.len(),
                    Entry::Inline(content) => content.len() as u64,
                    Entry::Dir | Entry::Link(_) => 0,
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(text: &str) -> Entry {
        Entry::Inline(text.as_bytes().to_vec())
    }

    #[test]
    fn parents_come_by_themselves_and_conflicts_do_not_pass() {
        let mut tree = Tree::default();
        tree.add("/a/b/c", inline("x")).unwrap();
        assert_eq!(tree.entries().map(|(p, _)| p).collect::<Vec<_>>(), ["/a", "/a/b", "/a/b/c"]);
        tree.add("/a/b/c", inline("x")).unwrap();
        assert!(tree.add("/a/b/c", inline("y")).unwrap_err().to_string().contains("twice"));
        assert!(tree.add("/a/b/c/d", Entry::Dir).unwrap_err().to_string().contains("below"));
        for bad in ["a", "/a/../b", "/a//b", "/a/"] {
            assert!(tree.add(bad, Entry::Dir).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_is_no_directory() {
        let mut tree = Tree::default();
        tree.merged().unwrap();
        assert!(tree.add("/lib64/ld.so", inline("")).is_err());
    }

    #[test]
    fn emptiness() {
        let mut tree = Tree::default();
        tree.add("/run", Entry::Dir).unwrap();
        tree.add("/etc/cni/net.d", Entry::Dir).unwrap();
        assert!(tree.is_empty_dir("/run") && tree.is_empty_dir("/etc/cni/net.d"));
        assert!(!tree.is_empty_dir("/etc") && !tree.is_empty_dir("/nowhere"));
    }

    #[test]
    fn the_stream_says_root_and_one_time() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("p");
        fs::write(&program, "#!").unwrap();
        let mut tree = Tree::default();
        tree.add("/tmp", Entry::Dir).unwrap();
        tree.add("/usr/bin/p", Entry::File { from: program, executable: true }).unwrap();
        tree.add("/usr/bin/q", Entry::Link("p".into())).unwrap();
        tree.add("/etc/x", inline("text")).unwrap();
        let mut bytes = Vec::new();
        tree.write_tar(&mut bytes).unwrap();
        let mut again = Vec::new();
        tree.write_tar(&mut again).unwrap();
        assert_eq!(bytes, again);

        let mut found = BTreeMap::new();
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, TIME));
            found.insert(entry.path().unwrap().to_string_lossy().into_owned(), header.mode().unwrap());
        }
        assert_eq!(found.get("tmp/"), Some(&0o1777), "{found:?}");
        assert_eq!(found.get("usr/bin/p"), Some(&0o755));
        assert_eq!(found.get("etc/x"), Some(&0o644));
        assert_eq!(tree.size().unwrap(), 6);
    }
}
