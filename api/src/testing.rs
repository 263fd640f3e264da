//! What tests of this crate share: where the compatibility tables lie.

use std::path::PathBuf;

/// A table of wire facts, if this machine has it; prints why a test is skipped where it has not.
/// They lie beside the fixtures (`ORLOP_FIXTURES`, default `../shared/fixtures/peer` from the workspace).
pub(crate) fn facts(name: &str) -> Option<PathBuf> {
    let fixtures = std::env::var_os("ORLOP_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/peer"), PathBuf::from);
    let path = fixtures.join("../../facts").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: no table of wire facts at {}", path.display());
    None
}
