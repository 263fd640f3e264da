//! What changed lately, for people: an entry per event that a table still keeps.

use resource::{Name, Timestamp, Version};

use super::rows::{Change, Logged};

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It created the resource.
    Created,
    /// It replaced it.
    Updated,
    /// It removed it.
    Destroyed,
}

/// One change in a table's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// The event's number in its table; the first is 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: ChangeKind,
    /// Which resource.
    pub id: Name,
    /// Its version after the change, or the last one.
    pub version: Version,
    /// Whose it is.
    pub owner: Name,
}

impl HistoryEntry {
    pub(crate) fn of(number: u64, logged: &Logged) -> Self {
        let meta = &logged.change.resource().meta;
        let change = match logged.change {
            Change::Created(_) => ChangeKind::Created,
            Change::Updated { .. } => ChangeKind::Updated,
            Change::Destroyed(_) => ChangeKind::Destroyed,
        };
        Self { number, at: logged.at, change, id: meta.id.clone(), version: meta.version, owner: meta.owner.clone() }
    }
}
