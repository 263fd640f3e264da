//! The store's refusals, made in one place so that each names the resource in full.

use resource::{Error, Key, Kind, Metadata, Name, Phase, Version};

/// Which resource an error is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) namespace: &'a Name,
    pub(crate) type_: &'a Name,
    pub(crate) id: &'a str,
}

impl Site<'_> {
    pub(crate) fn key(self) -> Key {
        Key { namespace: self.namespace.clone(), type_: self.type_.clone(), id: self.id.into() }
    }
}

/// The longest id. Ids hold paths and addresses; anything longer is a mistake.
const LONGEST_ID: usize = 1024;

pub(crate) fn check_id(site: Site<'_>) -> Result<(), Error> {
    let (namespace, type_) = (site.namespace, site.type_);
    match site.id.len() {
        0 => Err(Error::Invalid(format!("a resource of kind {namespace}/{type_} was given an empty id"))),
        n if n > LONGEST_ID => Err(Error::Invalid(format!(
            "a resource of kind {namespace}/{type_} was given an id of {n} bytes; at most {LONGEST_ID} are allowed"
        ))),
        _ => Ok(()),
    }
}

pub(crate) fn check_namespace(kind: &Kind) -> Result<(), Error> {
    if kind.namespace.is_empty() {
        return Err(Error::Invalid(format!("a resource of type {} was given an empty namespace", kind.type_)));
    }
    Ok(())
}

pub(crate) fn not_found(site: Site<'_>) -> Error {
    Error::NotFound(site.key())
}

pub(crate) fn exists(site: Site<'_>) -> Error {
    Error::AlreadyExists(site.key())
}

pub(crate) fn version(site: Site<'_>, expected: Version, found: Version) -> Error {
    Error::VersionConflict { key: site.key(), expected, found }
}

pub(crate) fn owner(site: Site<'_>, owner: &str, found: &Name) -> Error {
    Error::OwnerConflict { key: site.key(), owner: owner.into(), found: found.clone() }
}

pub(crate) fn phase(site: Site<'_>, expected: Phase, found: Phase) -> Error {
    Error::PhaseConflict { key: site.key(), expected, found }
}

pub(crate) fn finalizers(site: Site<'_>, meta: &Metadata) -> Error {
    Error::PendingFinalizers { key: site.key(), finalizers: meta.finalizers.clone() }
}

pub(crate) fn foreign(site: Site<'_>, holds: &str) -> Error {
    Error::Invalid(format!("resource {} holds a spec of type {holds:?}, which does not belong under this kind", site.key()))
}

pub(crate) fn storage(path: &std::path::Path, error: &std::io::Error) -> Error {
    Error::Storage(format!("the store's log {} could not be written, so nothing was changed: {error}", path.display()))
}
