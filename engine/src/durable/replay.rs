//! The reading end of the log: from bytes to tables whose resources are still encoded.
//!
//! A table is decoded when code that knows its type opens it; until then, and for kinds that nobody knows, it is *parked*. Of its events
//! only as many are kept apart as the history holds; older ones are folded into the rows.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;

use resource::{Kind, Timestamp};

use super::codec::{self, BadRecord, Entry, EventTag, What};
use super::frame::{self, Read};

/// Why a durable store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("the store in {} is in use by another process; stop it first", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Something that had been written is not there any more, or is not what was written.
    #[error("the store's log {} is corrupt at byte {offset}: {what}; move the file away to start with an empty store", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// A table that nobody has opened yet.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) kind: Kind,
    /// The number of the event before the oldest in `events`.
    pub(crate) last: u64,
    /// What was there then: encoded resources by id.
    pub(crate) rows: BTreeMap<String, Vec<u8>>,
    pub(crate) events: VecDeque<ParkedEvent>,
}

/// An event whose resource is still encoded.
#[derive(Debug)]
pub(crate) struct ParkedEvent {
    pub(crate) tag: EventTag,
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    /// The encoded resource; for [`EventTag::Destroyed`] the id.
    pub(crate) bytes: Vec<u8>,
}

impl ParkedEvent {
    pub(crate) fn put(&self, out: &mut Vec<u8>, table: u64) {
        codec::put_event(out, self.tag, table, self.number, self.at);
        match self.tag {
            EventTag::Created | EventTag::Updated => out.extend_from_slice(&self.bytes),
            EventTag::Destroyed => codec::put_bytes(out, &self.bytes),
        }
    }

    fn id(&self) -> Result<String, BadRecord> {
        let id = match self.tag {
            EventTag::Created | EventTag::Updated => codec::resource_id(&self.bytes)?,
            EventTag::Destroyed => std::str::from_utf8(&self.bytes).map_err(|_| BadRecord("an id is not UTF-8"))?,
        };
        Ok(id.to_owned())
    }
}

impl Parked {
    fn new(kind: Kind, last: u64) -> Self {
        Self { kind, last, rows: BTreeMap::new(), events: VecDeque::new() }
    }

    fn push(&mut self, event: ParkedEvent, history: usize) -> Result<(), BadRecord> {
        if event.number != self.last + self.events.len() as u64 + 1 {
            return Err(BadRecord("an event is missing or out of order"));
        }
        self.events.push_back(event);
        if self.events.len() > history
            && let Some(oldest) = self.events.pop_front()
        {
            self.last += 1;
            let id = oldest.id()?;
            match oldest.tag {
                EventTag::Created | EventTag::Updated => drop(self.rows.insert(id, oldest.bytes)),
                EventTag::Destroyed => drop(self.rows.remove(&id)),
            }
        }
        Ok(())
    }
}

/// A log, read.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) epoch: u64,
    /// How many bytes are good; what follows was torn.
    pub(crate) length: usize,
    pub(crate) numbers: HashMap<Kind, u64>,
    pub(crate) tables: HashMap<Kind, Parked>,
}

/// Reads a log. `None` when there is nothing in it (not even a whole header); an error names the byte where it stops making sense.
pub(crate) fn replay(log: &[u8], history: usize) -> Result<Option<Replayed>, (usize, &'static str)> {
    let (mut epoch, mut at) = (None, 0);
    let mut tables: Vec<Parked> = Vec::new();
    loop {
        let (payload, end) = match frame::read(log, at) {
            Read::Frame { payload, end } => (payload, end),
            Read::End | Read::Torn => break,
            Read::Corrupt(what) => return Err((at, what)),
        };
        let entry = codec::entry(payload).map_err(|bad| (at, bad.0))?;
        match (entry, epoch) {
            (Entry::Header { epoch: found }, None) => epoch = Some(found),
            (Entry::Header { .. }, Some(_)) => return Err((at, "it has a second header")),
            (_, None) => return Err((at, "it does not begin with a header")),
            (entry, Some(_)) => apply(&mut tables, entry, history).map_err(|bad| (at, bad.0))?,
        }
        at = end;
    }
    let Some(epoch) = epoch else { return Ok(None) };
    let numbers = tables.iter().zip(0..).map(|(t, n)| (t.kind.clone(), n)).collect();
    let tables = tables.into_iter().map(|t| (t.kind.clone(), t)).collect();
    Ok(Some(Replayed { epoch, length: at, numbers, tables }))
}

fn apply(tables: &mut Vec<Parked>, entry: Entry<'_>, history: usize) -> Result<(), BadRecord> {
    let find = |tables: &mut Vec<Parked>, number: u64| -> Result<usize, BadRecord> {
        usize::try_from(number).ok().filter(|n| *n < tables.len()).ok_or(BadRecord("it names a table that was not introduced"))
    };
    match entry {
        Entry::Header { .. } => Ok(()),
        Entry::Table { table, last, namespace, type_ } => {
            let kind = Kind::new(namespace, type_);
            if table != tables.len() as u64 || tables.iter().any(|t| t.kind == kind) {
                return Err(BadRecord("a table is introduced twice or out of order"));
            }
            tables.push(Parked::new(kind, last));
            Ok(())
        }
        Entry::Row { table, resource } => {
            let table = find(tables, table)?;
            let id = codec::resource_id(resource)?.to_owned();
            tables[table].rows.insert(id, resource.to_vec());
            Ok(())
        }
        Entry::Event { table, number, at, what } => {
            let table = find(tables, table)?;
            let (tag, bytes) = match what {
                What::Created(bytes) => (EventTag::Created, bytes),
                What::Updated(bytes) => (EventTag::Updated, bytes),
                What::Destroyed(id) => (EventTag::Destroyed, id.as_bytes()),
            };
            tables[table].push(ParkedEvent { tag, number, at, bytes: bytes.to_vec() }, history)
        }
    }
}
