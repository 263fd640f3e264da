//! The writing end of the log.
//!
//! [`Journal::append`] returns only when the record is in the file and synced, and an append that fails leaves the file as it was: a
//! partial frame is cut off again. If even that fails, nothing can be appended any more until the file has been written anew.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Weak;

use resource::{AnyResource, Error, Kind, Timestamp};

use super::codec::{self, EventTag};
use super::frame;
use super::replay::Parked;
use crate::store::storage_error;

/// The log is written anew when it is longer than this and than [`GROWTH`] times what it was when last written anew.
const SMALL: u64 = 1 << 20;
const GROWTH: u64 = 4;

/// Where the log's bytes go: a file, or, in tests, something that fails.
pub(crate) trait Disk: fmt::Debug + Send {
    /// Appends all bytes and syncs them.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the log to this length.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Puts other bytes in the place of the whole log, all or nothing.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// For errors.
    fn path(&self) -> &Path;
}

/// The log's file.
#[derive(Debug)]
pub(crate) struct FileDisk {
    file: File,
    path: PathBuf,
    /// Held for as long as the store lives, so that no two processes write one log.
    _lock: File,
}

impl FileDisk {
    /// Opens `store.log` in `directory` for appending, after whoever replayed it has cut it to `length`.
    pub(crate) fn open(directory: &Path, lock: File, length: u64) -> io::Result<Self> {
        let path = directory.join("store.log");
        let mut file = private().create(true).truncate(false).open(&path)?;
        file.set_len(length)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, path, _lock: lock })
    }

    /// Takes the lock of `directory`; `WouldBlock` when another process has it.
    pub(crate) fn lock(directory: &Path) -> io::Result<File> {
        let lock = private().create(true).truncate(false).open(directory.join("store.lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(std::fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The log holds secrets.
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    options
}

impl Disk for FileDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length)).map(drop)
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let beside = self.path.with_extension("log.new");
        let written = private().create(true).truncate(true).open(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_data()?;
            std::fs::rename(&beside, &self.path)?;
            Ok(file)
        });
        match written {
            Ok(file) => {
                self.file = file;
                if let Some(directory) = self.path.parent() {
                    File::open(directory)?.sync_all()?;
                }
                Ok(())
            }
            Err(error) => {
                // On a full disk the half-written file is in the way of everything else.
                drop(std::fs::remove_file(&beside));
                Err(error)
            }
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Who can describe every table of a store, for writing the log anew.
pub(crate) trait Source: Send + Sync {
    fn dump(&self, dump: &mut Dump<'_>);
}

/// Writes tables into a new log.
pub(crate) struct Dump<'a> {
    out: Vec<u8>,
    payload: Vec<u8>,
    numbers: &'a mut HashMap<Kind, u64>,
}

impl Dump<'_> {
    /// Begins a table whose oldest event kept is `last + 1`. Returns its number.
    pub(crate) fn table(&mut self, kind: &Kind, last: u64) -> u64 {
        let number = self.numbers.len() as u64;
        self.numbers.insert(kind.clone(), number);
        codec::put_table(&mut self.payload, number, last, &kind.namespace, &kind.type_);
        self.frame();
        number
    }

    /// A resource that was there before the oldest event.
    pub(crate) fn row(&mut self, table: u64, resource: &AnyResource) {
        codec::put_row(&mut self.payload, table);
        put_resource(&mut self.payload, resource);
        self.frame();
    }

    /// An event.
    pub(crate) fn event(&mut self, table: u64, tag: EventTag, number: u64, at: Timestamp, resource: &AnyResource) {
        put_event(&mut self.payload, tag, table, number, at, resource);
        self.frame();
    }

    /// A table that nobody has opened, as it was read.
    pub(crate) fn parked(&mut self, parked: &Parked) {
        let table = self.table(&parked.kind, parked.last);
        for row in parked.rows.values() {
            codec::put_row(&mut self.payload, table);
            self.payload.extend_from_slice(row);
            self.frame();
        }
        for event in &parked.events {
            event.put(&mut self.payload, table);
            self.frame();
        }
    }

    fn frame(&mut self) {
        frame::push(&mut self.out, &self.payload);
        self.payload.clear();
    }
}

/// The log of one store.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Box<dyn Disk>,
    epoch: u64,
    length: u64,
    /// The length when it was last written anew.
    compact: u64,
    numbers: HashMap<Kind, u64>,
    /// Why nothing can be appended, if so.
    broken: bool,
    source: Option<Weak<dyn Source>>,
    frame: Vec<u8>,
    payload: Vec<u8>,
}

impl Journal {
    /// A log that goes on after `length` bytes which gave these tables their numbers. With length 0 it is begun.
    pub(crate) fn new(disk: Box<dyn Disk>, epoch: u64, length: u64, numbers: HashMap<Kind, u64>) -> io::Result<Self> {
        let (frame, payload) = (Vec::new(), Vec::new());
        let mut journal = Self { disk, epoch, length, compact: length, numbers, broken: false, source: None, frame, payload };
        if length == 0 {
            codec::put_header(&mut journal.payload, epoch);
            journal.push_payload();
            journal.flush()?;
        }
        Ok(journal)
    }

    pub(crate) fn set_source(&mut self, source: Weak<dyn Source>) {
        self.source = Some(source);
    }

    /// Appends one event. When this returns an error, the log is as it was.
    pub(crate) fn append(&mut self, tag: EventTag, resource: &AnyResource, number: u64, at: Timestamp) -> Result<(), Error> {
        self.append_event(tag, resource, number, at).map_err(|error| storage_error(self.disk.path(), &error))
    }

    fn append_event(&mut self, tag: EventTag, resource: &AnyResource, number: u64, at: Timestamp) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed and could not be undone"));
        }
        self.frame.clear();
        let kind = resource.meta.kind();
        let known = self.numbers.get(&kind).copied();
        let table = known.unwrap_or(self.numbers.len() as u64);
        if known.is_none() {
            codec::put_table(&mut self.payload, table, number - 1, &kind.namespace, &kind.type_);
            self.push_payload();
        }
        put_event(&mut self.payload, tag, table, number, at, resource);
        if self.payload.len() > frame::MAX_PAYLOAD {
            self.payload.clear();
            return Err(io::Error::other("the resource is too large for the log"));
        }
        self.push_payload();
        self.flush()?;
        if known.is_none() {
            self.numbers.insert(kind, table);
        }
        Ok(())
    }

    fn push_payload(&mut self) {
        frame::push(&mut self.frame, &self.payload);
        self.payload.clear();
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.disk.append(&self.frame);
        let length = self.frame.len() as u64;
        self.frame.clear();
        match written {
            Ok(()) => {
                self.length += length;
                Ok(())
            }
            Err(error) => {
                self.broken = self.disk.truncate(self.length).is_err();
                Err(error)
            }
        }
    }

    /// Writes the log anew if a failed append could not be undone. To be called with no table locked.
    pub(crate) fn repair(&mut self) {
        if self.broken {
            self.rewrite();
        }
    }

    /// Writes the log anew if it has grown enough. To be called with no table locked.
    pub(crate) fn tidy(&mut self) {
        if self.length > SMALL.max(self.compact.saturating_mul(GROWTH)) {
            self.rewrite();
        }
    }

    /// Writes the log anew. False when that failed; then it is as it was.
    pub(crate) fn rewrite(&mut self) -> bool {
        let Some(source) = self.source.as_ref().and_then(Weak::upgrade) else { return false };
        let mut numbers = HashMap::new();
        let mut dump = Dump { out: Vec::new(), payload: Vec::new(), numbers: &mut numbers };
        codec::put_header(&mut dump.payload, self.epoch);
        dump.frame();
        source.dump(&mut dump);
        let out = dump.out;
        match self.disk.replace(&out) {
            Ok(()) => {
                self.length = out.len() as u64;
                self.compact = self.length;
                self.numbers = numbers;
                self.broken = false;
                true
            }
            Err(error) => {
                tracing::warn!(path = %self.disk.path().display(), %error, "the store's log could not be written anew; it goes on growing");
                // Not at every change from now on.
                self.compact = self.length;
                false
            }
        }
    }
}

fn put_event(out: &mut Vec<u8>, tag: EventTag, table: u64, number: u64, at: Timestamp, resource: &AnyResource) {
    codec::put_event(out, tag, table, number, at);
    match tag {
        EventTag::Created | EventTag::Updated => put_resource(out, resource),
        EventTag::Destroyed => codec::put_bytes(out, resource.meta.id.as_bytes()),
    }
}

fn put_resource(out: &mut Vec<u8>, resource: &AnyResource) {
    codec::put_resource(out, &resource.meta, &resource.spec.to_proto());
}
