//! Files that are replaced whole, and files that grow to a bound.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Replaces a file at once: a reader sees the old or the new contents, and a crash leaves one of them.
pub(crate) fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    };
    let done = write();
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// Replaces a file by the JSON of `value`.
pub(crate) fn replace_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    replace(path, &bytes, 0o600)
}

/// Reads JSON; `None` when the file is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file that is started anew (keeping one predecessor, `NAME.1`) when it would grow beyond its limit.
#[derive(Debug)]
pub(crate) struct Bounded {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl Bounded {
    pub(crate) fn open(path: &Path, limit: u64) -> io::Result<Bounded> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Bounded { path: path.to_owned(), file, size, limit })
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + bytes.len() as u64 > self.limit {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
            self.file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            self.size = 0;
        }
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("no/such"), b"x", 0o600).is_err());
    }

    #[test]
    fn a_bounded_file_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut file = Bounded::open(&path, 100).unwrap();
        for _ in 0..100 {
            file.append(b"0123456789").unwrap();
        }
        let sizes: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(sizes <= 200, "{sizes}");
    }
}
