//! Files that the CLI writes: whole or not at all, and readable by their owner only where they hold secrets.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;

/// What a shell tells of a program that SIGPIPE ended.
const NOBODY_READS: i32 = 141;

/// Ends the program: who read its standard output has seen enough.
pub fn nobody_reads() -> ! {
    std::process::exit(NOBODY_READS)
}

/// Writes bytes to the standard output.
pub fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => nobody_reads(),
        written => written.context("writing to the standard output"),
    }
}

/// Writes a file that only its owner may read; makes its directory where that is missing.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write(path, bytes, 0o600)
}

/// Writes a file with this mode, replacing what is there in one step.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(|| format!("creating directory {}", parent.display()))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let partial = Path::new(&name);
    let write = || -> std::io::Result<()> {
        // Of an earlier program of the same number; or laid there by somebody else, whose file or link must not be written through.
        match std::fs::remove_file(partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(partial, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(partial))).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_at_the_part_file_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("secrets"), dir.path().join("other"));
        std::fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join(format!("secrets.{}.part", std::process::id()))).unwrap();
        write_private(&path, b"own").unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "theirs");
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "own");
    }
}
