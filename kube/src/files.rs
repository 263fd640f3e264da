//! Files as the room writes them: whole or not at all, with their owner from the first moment.
//!
//! A trait, so that controllers are tested in memory; the Linux implementation is small.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// A file as it should be.
#[derive(Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Absolute path.
    pub path: String,
    /// Its content.
    pub contents: Vec<u8>,
    /// Owner and group.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
}

impl std::fmt::Debug for WantedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WantedFile")
            .field("path", &self.path)
            .field("bytes", &self.contents.len())
            .field("owner", &self.owner)
            .field("mode", &format_args!("{:o}", self.mode))
            .finish()
    }
}

impl WantedFile {
    /// Readable by its owner alone.
    pub fn secret(path: impl Into<String>, contents: impl Into<Vec<u8>>, owner: u32) -> Self {
        Self { path: path.into(), contents: contents.into(), owner, mode: 0o400 }
    }
}

/// Where files are.
pub trait Files: Send + Sync + 'static {
    /// The file's content; `None` when there is none.
    ///
    /// # Errors
    /// Whatever the system says, other than that it is not there.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Writes a file, whole or not at all, and its directory if need be. Whether anything changed.
    ///
    /// # Errors
    /// Whatever the system says.
    fn write(&self, file: &WantedFile) -> io::Result<bool>;

    /// Removes a file or an empty directory; one that is not there counts as removed.
    ///
    /// # Errors
    /// Whatever the system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Names in a directory; none when there is no directory.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes a directory with this owner and mode, or changes it so.
    ///
    /// # Errors
    /// Whatever the system says.
    fn make_dir(&self, dir: &str, owner: u32, mode: u32) -> io::Result<()>;

    /// Removes everything in a directory and leaves it empty.
    ///
    /// # Errors
    /// Whatever the system says.
    fn clear(&self, dir: &str) -> io::Result<()>;

    /// Makes `path` a symbolic link to `target`, in one step.
    ///
    /// # Errors
    /// Whatever the system says.
    fn link(&self, target: &str, path: &str) -> io::Result<()>;
}

/// Brings the files of one directory there: writes what is wanted and removes the rest. Whether
/// anything changed.
///
/// # Errors
/// The first error; what was written before it stays.
pub fn sync_dir(files: &dyn Files, dir: &str, owner: u32, wanted: &[WantedFile]) -> io::Result<bool> {
    files.make_dir(dir, owner, 0o700)?;
    let mut changed = false;
    for file in wanted {
        changed |= files.write(file)?;
    }
    let keep: BTreeSet<&str> = wanted.iter().filter_map(|file| file.path.rsplit('/').next()).collect();
    for name in files.list(dir)? {
        if !keep.contains(name.as_str()) {
            files.remove(&format!("{dir}/{name}"))?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Files of the machine, below a root (`/`, or a directory in tests).
#[derive(Debug, Clone)]
pub struct LinuxFiles {
    root: PathBuf,
}

impl Default for LinuxFiles {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl LinuxFiles {
    /// Below this directory.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn is_as_wanted(&self, file: &WantedFile) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let path = self.at(&file.path);
        let meta = match std::fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(meta.is_file()
            && meta.uid() == file.owner
            && meta.gid() == file.owner
            && meta.mode() & 0o7777 == file.mode
            && std::fs::read(&path)? == file.contents)
    }
}

impl Files for LinuxFiles {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.at(path)) {
            Ok(contents) => Ok(Some(contents)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, file: &WantedFile) -> io::Result<bool> {
        use std::io::Write;
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
        if self.is_as_wanted(file)? {
            return Ok(false);
        }
        let path = self.at(&file.path);
        let dir = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(dir)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = dir.join(format!(".{name}.new"));
        // A leftover of a killed write has the same name, and maybe another owner.
        match std::fs::remove_file(&new) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut handle = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        handle.write_all(&file.contents)?;
        fchown(&handle, Some(file.owner), Some(file.owner))?;
        handle.set_permissions(std::fs::Permissions::from_mode(file.mode))?;
        handle.sync_all()?;
        std::fs::rename(&new, &path)?;
        Ok(true)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.at(path);
        let is_dir = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        let result = if is_dir { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) };
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.at(dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names: Vec<String> =
            entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    fn make_dir(&self, dir: &str, owner: u32, mode: u32) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let path = self.at(dir);
        std::fs::create_dir_all(&path)?;
        let meta = std::fs::metadata(&path)?;
        if meta.uid() != owner || meta.gid() != owner {
            chown(&path, Some(owner), Some(owner))?;
        }
        if meta.mode() & 0o7777 != mode {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn clear(&self, dir: &str) -> io::Result<()> {
        for name in self.list(dir)? {
            let path = self.at(dir).join(name);
            if std::fs::symlink_metadata(&path)?.is_dir() {
                std::fs::remove_dir_all(&path)?;
            } else {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn link(&self, target: &str, path: &str) -> io::Result<()> {
        let path = self.at(path);
        if std::fs::read_link(&path).is_ok_and(|old| old == Path::new(target)) {
            return Ok(());
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let _ = std::fs::remove_file(&new);
        std::os::unix::fs::symlink(target, &new)?;
        std::fs::rename(&new, &path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn me() -> u32 {
        std::fs::metadata("/proc/self").unwrap().uid()
    }

    #[test]
    fn a_directory_is_brought_there() {
        let root = tempfile::tempdir().unwrap();
        let files = LinuxFiles::below(root.path());
        let wanted = [WantedFile::secret("/s/a.key", "one", me()), WantedFile::secret("/s/b.crt", "two", me())];
        assert!(sync_dir(&files, "/s", me(), &wanted).unwrap());
        assert!(!sync_dir(&files, "/s", me(), &wanted).unwrap());
        assert_eq!(files.list("/s").unwrap(), ["a.key", "b.crt"]);
        let mode = std::fs::metadata(root.path().join("s/a.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o400);
        // What is no longer wanted goes, with the leftover of a killed write.
        std::fs::write(root.path().join("s/.a.key.new"), "half").unwrap();
        assert!(sync_dir(&files, "/s", me(), &wanted[..1]).unwrap());
        assert_eq!(files.list("/s").unwrap(), ["a.key"]);
    }

    #[test]
    fn a_changed_mode_or_content_is_put_right() {
        let root = tempfile::tempdir().unwrap();
        let files = LinuxFiles::below(root.path());
        let file = WantedFile::secret("/f", "x", me());
        assert!(files.write(&file).unwrap());
        let path = root.path().join("f");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(files.write(&file).unwrap());
        assert!(!files.write(&file).unwrap());
    }

    #[test]
    fn links_are_replaced_and_directories_cleared() {
        let root = tempfile::tempdir().unwrap();
        let files = LinuxFiles::below(root.path());
        files.link("a", "/d/current").unwrap();
        files.link("b", "/d/current").unwrap();
        assert_eq!(std::fs::read_link(root.path().join("d/current")).unwrap(), Path::new("b"));
        std::fs::create_dir_all(root.path().join("d/member/wal")).unwrap();
        files.clear("/d").unwrap();
        assert!(files.list("/d").unwrap().is_empty());
        assert_eq!(files.read("/none").unwrap(), None);
        files.remove("/none").unwrap();
    }
}
