//! What this room changes on the machine besides the kernel's network configuration: the host name and files of its own.

use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Acts on the machine, or is a fake that records. Calls are short and may block.
pub trait Hands: Send + Sync + 'static {
    /// Sets the kernel's host and domain name.
    ///
    /// # Errors
    /// What the kernel says.
    fn set_hostname(&self, hostname: &str, domainname: &str) -> std::io::Result<()>;
    /// Replaces a file as a whole, so that a reader sees the old or the new one; unchanged content is left alone.
    ///
    /// # Errors
    /// What the file system says.
    fn write(&self, path: &Path, contents: &[u8]) -> std::io::Result<()>;
    /// Whether the kernel says that its clock is kept in step (adjtimex(2)). Never changes the clock.
    fn clock_synced(&self) -> bool;
}

/// The real machine.
pub struct Machine;

impl Hands for Machine {
    fn set_hostname(&self, hostname: &str, domainname: &str) -> std::io::Result<()> {
        sys::host::set_hostname(hostname).map_err(std::io::Error::other)?;
        let domainname = if domainname.is_empty() { "(none)" } else { domainname };
        sys::host::set_domainname(domainname).map_err(std::io::Error::other)
    }

    fn write(&self, path: &Path, contents: &[u8]) -> std::io::Result<()> {
        if fs::read(path).is_ok_and(|current| current == contents) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let fresh = path.with_extension("new");
        let mut file = fs::File::create(&fresh)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    }

    fn clock_synced(&self) -> bool {
        sys::host::clock_synced().unwrap_or(false)
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::Mutex;

    use super::*;

    /// Records instead of acting.
    #[derive(Default)]
    pub(crate) struct FakeHands {
        pub(crate) hostname: Mutex<Option<(String, String)>>,
        pub(crate) files: Mutex<BTreeMap<PathBuf, String>>,
        pub(crate) synced: Mutex<bool>,
    }

    impl Hands for FakeHands {
        fn set_hostname(&self, hostname: &str, domainname: &str) -> std::io::Result<()> {
            *self.hostname.lock().unwrap() = Some((hostname.into(), domainname.into()));
            Ok(())
        }

        fn write(&self, path: &Path, contents: &[u8]) -> std::io::Result<()> {
            self.files.lock().unwrap().insert(path.into(), String::from_utf8_lossy(contents).into_owned());
            Ok(())
        }

        fn clock_synced(&self) -> bool {
            *self.synced.lock().unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_only_when_they_differ() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolved/resolv.conf");
        Machine.write(&path, b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&path);
        Machine.write(&path, b"one").unwrap();
        assert_eq!(inode(&path), before, "not written again");
        Machine.write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
    }
}
