//! Keys of the cache: a digest over everything that decides what a step makes.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Collects inputs. Each is labelled and its length counted, so that no two sets run together.
pub(crate) struct Key(Sha256);

impl Key {
    /// `kind` names the step and its version: change it and everything of that kind is rebuilt.
    pub(crate) fn new(kind: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.add("kind", kind);
        key
    }

    /// Adds one input.
    pub(crate) fn add(&mut self, label: &str, value: impl AsRef<[u8]>) -> &mut Self {
        for part in [label.as_bytes(), value.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds the content of every file under `dir` that `wanted` picks, by its path relative to it.
    pub(crate) fn add_tree(&mut self, dir: &Path, wanted: impl Fn(&Path) -> bool) -> Result<&mut Self> {
        for path in files(dir)? {
            if !wanted(&path) {
                continue;
            }
            let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            self.add(&name, content);
        }
        Ok(self)
    }

    /// The key: short enough for a file name, long enough to be unique.
    pub(crate) fn finish(&self) -> String {
        hex::encode(&self.0.clone().finalize()[..16])
    }
}

/// All files under a directory, in a fixed order.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", dir.display()))?;
        let path = entry.path();
        if entry.file_type().with_context(|| format!("looking at {}", path.display()))?.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The SHA-256 of a file's content, and its size.
pub(crate) fn digest_file(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))?;
        if n == 0 {
            return Ok((hex::encode(digest.finalize()), size));
        }
        digest.update(&buffer[..n]);
        size += n as u64;
    }
}

/// The SHA-256 of bytes at hand.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_do_not_run_together() {
        let key = |parts: &[(&str, &str)]| {
            let mut key = Key::new("test");
            for (label, value) in parts {
                key.add(label, value);
            }
            key.finish()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "")]), key(&[("a", "b")]));
        assert_eq!(key(&[("a", "b")]), key(&[("a", "b")]));
    }

    #[test]
    fn a_tree_counts_by_name_and_content() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a.go"), "x").unwrap();
        let key = || Key::new("t").add_tree(dir.path(), |_| true).unwrap().finish();
        let before = key();
        fs::rename(dir.path().join("sub/a.go"), dir.path().join("sub/b.go")).unwrap();
        assert_ne!(before, key());
        fs::rename(dir.path().join("sub/b.go"), dir.path().join("sub/a.go")).unwrap();
        assert_eq!(before, key());
    }
}
