//! The root document without a kind, which once held everything. Read at the door and translated into documents (`translate.rs`); nothing else
//! looks at it, but for patches, which work on the text.

pub mod devices;
mod links;
pub mod root;
pub mod translate;
