//! The durable log behind a store: every change is in it before anyone can see it, and a store opened from it is the same store, with
//! versions, owners, finalizers, history and watch positions.
//!
//! One file, `store.log`, of [frames](frame) that hold [records](codec): a header, then per table what was there at some moment and the
//! events since. When the file has grown to several times what it describes, it is written anew beside and renamed into place.

pub(crate) mod codec;
mod frame;
mod journal;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use resource::Kind;

pub(crate) use self::codec::EventTag;
pub(crate) use self::journal::{Dump, FileDisk, Journal, Source};
pub use self::replay::OpenError;
pub(crate) use self::replay::Parked;
#[cfg(any(test, feature = "testing"))]
pub(crate) use self::{journal::Disk, replay::replay};

/// Opens the log in `directory`, or begins one of this `epoch`. Returns the epoch, the log, and the tables in it.
pub(crate) fn open(directory: &Path, epoch: u64, history: usize) -> Result<(u64, Journal, BTreeMap<Kind, Parked>), OpenError> {
    let io = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| OpenError::Io { doing, path, source }
    };
    std::fs::create_dir_all(directory).map_err(io("create", directory))?;
    let lock = FileDisk::lock(directory).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse { path: directory.to_owned() },
        _ => io("lock", directory)(source),
    })?;
    let path = directory.join("store.log");
    let log = match std::fs::read(&path) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(io("read", &path)(error)),
    };
    let replayed = replay::replay(&log, history).map_err(|(offset, what)| OpenError::Corrupt { path: path.clone(), offset, what })?;
    let (epoch, length, numbers, tables) = match replayed {
        Some(r) => (r.epoch, r.length as u64, r.numbers, r.tables.into_iter().collect()),
        None => (epoch, 0, HashMap::new(), BTreeMap::new()),
    };
    if length < log.len() as u64 {
        tracing::warn!(path = %path.display(), bytes = log.len() as u64 - length, "the store's log ended in the middle of a record, which was never acknowledged");
    }
    // A rewrite that did not come to its end.
    drop(std::fs::remove_file(directory.join("store.log.new")));
    let disk = FileDisk::open(directory, lock, length).map_err(io("open", &path))?;
    let journal = Journal::new(Box::new(disk), epoch, length, numbers).map_err(io("write", &path))?;
    Ok((epoch, journal, tables))
}
