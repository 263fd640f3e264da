//! etcd: its arguments, its container, the client, and the sequences by which a machine becomes
//! and stops being a member.
//!
//! etcd itself is upstream's, in a container that the service supervisor runs. What is decided
//! here is a function of what is observed ([`membership`]), so that a brain killed at any step
//! goes on where it was.

pub mod args;
pub mod client;
pub mod control;
pub mod membership;
pub mod service;
