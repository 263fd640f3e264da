//! What the runtime asks of a table on behalf of a controller: what it owns, and to take hold of what it reads.

use resource::{Error, Name, Phase};

use super::rows::Rows;

/// One resource that a controller owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) id: Name,
    pub(crate) phase: Phase,
    /// Who still holds it.
    pub(crate) finalizers: Vec<Name>,
}

impl Rows {
    /// What `owner` owns, sorted by id.
    pub(crate) fn owned(&self, owner: &str) -> Vec<Owned> {
        let items = self.read();
        let of = items.map.values().filter(|r| r.meta.owner == *owner);
        let mut owned: Vec<_> =
            of.map(|r| Owned { id: r.meta.id.clone(), phase: r.meta.phase, finalizers: r.meta.finalizers.clone() }).collect();
        drop(items);
        owned.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        owned
    }

    /// Puts `finalizer` on each running resource (or only on `id`); returns the ids being torn down on which it is held.
    pub(crate) fn hold(&self, id: Option<&str>, finalizer: &Name) -> Result<Vec<Name>, Error> {
        let mut going = Vec::new();
        for resource in self.list().iter().filter(|r| id.is_none_or(|id| r.meta.id == *id)) {
            match (resource.meta.phase, resource.meta.has_finalizer(finalizer)) {
                (Phase::Running, false) => match self.add_finalizer(&resource.meta.id, finalizer) {
                    // Torn down or destroyed meanwhile: the controller will not be shown it, and comes again.
                    Err(Error::PhaseConflict { .. } | Error::NotFound(_)) => {}
                    other => other?,
                },
                (Phase::TearingDown, true) => going.push(resource.meta.id.clone()),
                _ => {}
            }
        }
        Ok(going)
    }
}
