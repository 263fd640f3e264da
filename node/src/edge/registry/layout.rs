//! The image cache on disk as the registry sees it: an OCI image layout whose `index.json` gives each image its full upstream name.
//!
//! Nothing a client sends ever becomes part of a path: names and tags are looked up in the parsed index, and only a digest that is
//! `sha256:` and 64 hex digits chooses a blob file. What the index says is checked when it is read: a line that does not parse is
//! left out with a reason, so that one bad entry does not hide the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Largest `index.json` that is read, in bytes.
const MAX_INDEX: u64 = 16 << 20;
/// Largest manifest that is served, in bytes (what containerd accepts).
const MAX_MANIFEST: u64 = 4 << 20;
/// The annotation with an image's full name, as containerd writes it.
const FULL_NAME: &str = "io.containerd.image.name";
/// The annotation of the OCI image layout; read when it holds a full name and not only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The registry of names that have none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// A `sha256:<64 hex digits>` digest; the only kind the cache holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest(String);

impl Digest {
    /// Reads `sha256:<hex>`; `None` for anything else, upper-case digits included.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let ok = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ok.then(|| Self(text.to_owned()))
    }

    /// The digest of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }

    fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or_default()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client may ask a manifest by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// A tag.
    Tag(String),
    /// A digest.
    Digest(Digest),
}

impl Reference {
    /// A tag is 1–128 of `[A-Za-z0-9_.-]`, not starting with `.` or `-` (OCI distribution specification).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.contains(':') {
            return Digest::parse(text).map(Reference::Digest);
        }
        let first = text.bytes().next()?;
        let ok = text.len() <= 128
            && (first.is_ascii_alphanumeric() || first == b'_')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        ok.then(|| Reference::Tag(text.to_owned()))
    }
}

/// Why the cache could not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    /// There is no image cache at the path.
    #[error("no image cache at {path}: {source}")]
    Absent { path: PathBuf, source: io::Error },
    /// The index cannot be read as an OCI index.
    #[error("{path} is not an OCI image index: {reason}; build the image cache again")]
    Index { path: PathBuf, reason: String },
    /// A blob that the index names cannot be read, or its content is not what its name says.
    #[error("blob {digest} in the image cache: {reason}; build the image cache again")]
    Blob { digest: Digest, reason: String },
}

/// A manifest ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexFile {
    #[serde(default)]
    manifests: Vec<DescriptorFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorFile {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MediaTypeOnly {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

/// The names an index holds: registry → repository → tag → digest. Pure; made from the bytes of `index.json`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    repositories: BTreeMap<String, BTreeMap<String, BTreeMap<String, Digest>>>,
    media_types: BTreeMap<Digest, String>,
    /// Entries left out, each with its reason.
    pub(crate) skipped: Vec<String>,
}

impl Index {
    /// Parses the bytes of `index.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let file: IndexFile = serde_json::from_slice(bytes)?;
        let mut index = Index::default();
        for entry in file.manifests {
            let Some(digest) = Digest::parse(&entry.digest) else {
                index.skipped.push(format!("digest {:?} is not sha256:<64 hex digits>", entry.digest));
                continue;
            };
            if !entry.media_type.is_empty() {
                index.media_types.insert(digest.clone(), entry.media_type);
            }
            let name = entry.annotations.get(FULL_NAME).or_else(|| entry.annotations.get(REF_NAME).filter(|name| name.contains('/')));
            let Some(name) = name else { continue };
            match split_name(name) {
                Some((registry, repository, tag)) => {
                    let tags = index.repositories.entry(registry).or_default().entry(repository).or_default();
                    if let Some(tag) = tag {
                        tags.insert(tag, digest);
                    }
                }
                None => index.skipped.push(format!("image name {name:?} is not registry/repository:tag")),
            }
        }
        Ok(index)
    }

    /// The digest a tag stands for. Without a registry the first one (in name order) that has the repository answers.
    fn tag(&self, registry: Option<&str>, repository: &str, tag: &str) -> Option<&Digest> {
        self.repository(registry, repository)?.get(tag)
    }

    fn repository(&self, registry: Option<&str>, repository: &str) -> Option<&BTreeMap<String, Digest>> {
        match registry {
            Some(registry) => self.repositories.get(registry)?.get(repository),
            None => self.repositories.values().find_map(|repositories| repositories.get(repository)),
        }
    }
}

/// Splits `registry/repository[:tag][@digest]`; names without a registry belong to docker.io, as everywhere.
fn split_name(name: &str) -> Option<(String, String, Option<String>)> {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let (registry, rest) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
        Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
        None => (DEFAULT_REGISTRY, format!("library/{name}")),
    };
    let (repository, tag) = match rest.rsplit_once(':') {
        Some((repository, tag)) => (repository.to_owned(), Some(tag.to_owned())),
        None => (rest, None),
    };
    let tag_ok = tag.as_deref().is_none_or(|tag| matches!(Reference::parse(tag), Some(Reference::Tag(_))));
    (valid_registry(registry) && valid_repository(&repository) && tag_ok).then(|| (registry.to_owned(), repository, tag))
}

/// Path components of `[a-z0-9]` joined by `.`, `_`, `__` or dashes; 255 bytes at most (OCI distribution specification).
pub(crate) fn valid_repository(name: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    !name.is_empty()
        && name.len() <= 255
        && name.split('/').all(|part| {
            edge(part.bytes().next())
                && edge(part.bytes().last())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
                && !part.contains("..")
        })
}

/// `host` or `host:port`, letters, digits, dots and dashes; brackets for an IPv6 literal.
pub(crate) fn valid_registry(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'))
}

#[derive(PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// The image cache under one directory. Reads `index.json` again when the file changed.
pub(crate) struct Layout {
    root: PathBuf,
    loaded: Mutex<Option<(Stamp, Arc<Index>)>>,
}

impl Layout {
    /// The cache at `root` (`/system/imagecache`). Nothing is read yet; an absent directory is an error at each request.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), loaded: Mutex::new(None) }
    }

    /// The current index. Blocking file IO.
    pub(crate) fn index(&self) -> Result<Arc<Index>, LayoutError> {
        let path = self.root.join("index.json");
        let absent = |source| LayoutError::Absent { path: self.root.clone(), source };
        let file = open(&path).map_err(absent)?;
        let meta = file.metadata().map_err(absent)?;
        let stamp = Stamp { inode: meta.ino(), length: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) };
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, index)) = loaded.as_ref()
            && *known == stamp
        {
            return Ok(index.clone());
        }
        let wrong = |reason: String| LayoutError::Index { path: path.clone(), reason };
        let bytes = read_bounded(file, MAX_INDEX).map_err(|e| wrong(e.to_string()))?;
        let index = Arc::new(Index::parse(&bytes).map_err(|e| wrong(e.to_string()))?);
        for reason in &index.skipped {
            tracing::warn!(path = %path.display(), reason, "an entry of the image cache's index was left out");
        }
        *loaded = Some((stamp, index.clone()));
        Ok(index)
    }

    /// The manifest of `repository` under a tag or digest, `None` when the cache has none. Blocking file IO.
    pub(crate) fn manifest(
        &self,
        registry: Option<&str>,
        repository: &str,
        reference: &Reference,
    ) -> Result<Option<Manifest>, LayoutError> {
        let index = self.index()?;
        let digest = match reference {
            Reference::Digest(digest) => digest,
            Reference::Tag(tag) => match index.tag(registry, repository, tag) {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        let wrong = |reason: String| LayoutError::Blob { digest: digest.clone(), reason };
        let file = match self.blob(digest) {
            Ok(file) => file,
            // A digest that is asked for may simply be elsewhere; a tag's blob must be there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && matches!(reference, Reference::Digest(_)) => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
        };
        if file.metadata().map_err(|e| wrong(e.to_string()))?.len() > MAX_MANIFEST {
            // Only layers are that large, and a layer is no manifest.
            return Ok(None);
        }
        let bytes = read_bounded(file, MAX_MANIFEST).map_err(|e| wrong(e.to_string()))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(wrong(format!("the file's content hashes to {found}")));
        }
        let Some(media_type) = index.media_types.get(digest).cloned().or_else(|| media_type_of(&bytes)) else {
            return Ok(None);
        };
        Ok(Some(Manifest { digest: digest.clone(), media_type, bytes }))
    }

    /// Opens a blob. `NotFound` when the cache has none. Blocking file IO.
    pub(crate) fn blob(&self, digest: &Digest) -> io::Result<File> {
        open(&self.root.join("blobs/sha256").join(digest.hex()))
    }
}

/// What a JSON document is, when it is a manifest or an index at all (its `mediaType`, which Docker demands and OCI recommends; else by shape).
fn media_type_of(bytes: &[u8]) -> Option<String> {
    let seen: MediaTypeOnly = serde_json::from_slice(bytes).ok()?;
    match seen.media_type {
        Some(media_type) if !media_type.is_empty() => Some(media_type),
        _ if seen.manifests.is_some() => Some("application/vnd.oci.image.index.v1+json".to_owned()),
        _ if seen.layers.is_some() => Some("application/vnd.oci.image.manifest.v1+json".to_owned()),
        _ => None,
    }
}

/// Opens a regular file for reading; never follows a link in the last component, never blocks on a FIFO.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::NotFound, "not a regular file")) }
}

fn read_bounded(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(names: &[(&str, &str)]) -> Vec<u8> {
        let manifests: Vec<_> = names
            .iter()
            .map(|(name, digest)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2, "digest": digest,
                    "annotations": {FULL_NAME: name}
                })
            })
            .collect();
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": manifests})).unwrap()
    }

    fn digest(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    #[test]
    fn names_of_every_shape_are_found_where_containerd_asks_for_them() {
        let bytes = index(&[
            ("registry.k8s.io/kube-apiserver:v1.37.1", &digest("aa")),
            ("docker.io/library/busybox:1", &digest("bb")),
            ("busybox:2", &digest("cc")),
            ("user/tool:x", &digest("dd")),
            ("127.0.0.1:5000/a/b:c", &digest("ee")),
        ]);
        let index = Index::parse(&bytes).unwrap();
        let find = |registry, repository, tag| index.tag(registry, repository, tag).map(ToString::to_string);
        assert_eq!(find(Some("registry.k8s.io"), "kube-apiserver", "v1.37.1"), Some(digest("aa")));
        assert_eq!(find(Some("docker.io"), "library/busybox", "1"), Some(digest("bb")));
        assert_eq!(find(Some("docker.io"), "library/busybox", "2"), Some(digest("cc")));
        assert_eq!(find(Some("docker.io"), "user/tool", "x"), Some(digest("dd")));
        assert_eq!(find(Some("127.0.0.1:5000"), "a/b", "c"), Some(digest("ee")));
        assert_eq!(find(None, "kube-apiserver", "v1.37.1"), Some(digest("aa")), "without ns, whichever registry has it");
        assert_eq!(find(Some("ghcr.io"), "kube-apiserver", "v1.37.1"), None);
        assert_eq!(find(Some("registry.k8s.io"), "kube-apiserver", "v1.37.2"), None);
    }

    #[test]
    fn bad_entries_are_left_out_and_named() {
        let bytes = index(&[("../../etc:passwd", &digest("aa")), ("ghcr.io/ok:1", "sha256:short"), ("ghcr.io/fine:1", &digest("bb"))]);
        let index = Index::parse(&bytes).unwrap();
        assert_eq!(index.skipped.len(), 2);
        assert!(index.tag(Some("ghcr.io"), "fine", "1").is_some());
    }

    #[test]
    fn digests_tags_and_names_are_strict() {
        assert!(Digest::parse(&digest("ab")).is_some());
        for bad in ["sha256:", "sha512:ab", &digest("AB"), "sha256:../../../../etc/passwd", &format!("{}0", digest("ab"))] {
            assert!(Digest::parse(bad).is_none(), "{bad}");
        }
        for bad in ["", ".hidden", "-x", "a/b", "a b", &"x".repeat(129)] {
            assert!(Reference::parse(bad).is_none(), "{bad}");
        }
        for bad in ["", "/", "a//b", "../a", "a/..", "A", "a/.b", "a/b.", "a..b", &"a".repeat(256)] {
            assert!(!valid_repository(bad), "{bad}");
        }
        assert!(valid_repository("kubernetes/kube-proxy") && valid_repository("a__b/c-d.e"));
    }

    #[test]
    fn content_that_is_not_its_digest_is_an_error_not_an_answer() {
        let root = tempfile::tempdir().unwrap();
        let blobs = root.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let good = br#"{"schemaVersion":2,"layers":[]}"#;
        let name = Digest::of(good);
        std::fs::write(blobs.join(name.hex()), good).unwrap();
        let bad = digest("ab");
        std::fs::write(blobs.join("ab".repeat(32)), b"{}").unwrap();
        std::fs::write(root.path().join("index.json"), index(&[("ghcr.io/x:good", &name.to_string()), ("ghcr.io/x:bad", &bad)])).unwrap();

        let layout = Layout::new(root.path());
        let get = |tag: &str| layout.manifest(Some("ghcr.io"), "x", &Reference::parse(tag).unwrap());
        assert_eq!(get("good").unwrap().unwrap().bytes, good);
        assert!(get("bad").unwrap_err().to_string().contains("hashes to"));
        assert!(get("absent").unwrap().is_none());
        assert!(get(&digest("77")).unwrap().is_none(), "an unknown digest is simply not here");

        // A new index is seen without a restart.
        std::fs::write(root.path().join("index.json"), index(&[("ghcr.io/x:renamed", &name.to_string())])).unwrap();
        assert!(get("good").unwrap().is_none());
        assert!(get("renamed").unwrap().is_some());
    }

    #[test]
    fn a_blob_that_is_a_link_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let blobs = root.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", blobs.join("ab".repeat(32))).unwrap();
        assert!(Layout::new(root.path()).blob(&Digest::parse(&digest("ab")).unwrap()).is_err());
    }
}
