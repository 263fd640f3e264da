//! The configuration documents, by the room that acts on them.

pub mod cluster;
pub mod container;
pub mod host;
pub mod kube;
pub mod net;
pub mod storage;
