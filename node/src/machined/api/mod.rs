//! The API that a node serves on its machine socket; `apid` brings it to the network.

mod apply;
mod cluster;
mod containers;
mod etcd;
mod events;
mod files;
mod identity;
mod inspect;
mod lifecycle;
mod logs;
mod machine;
mod membership;
mod proc;
mod services;
mod time;

pub(crate) use cluster::Cluster;
pub(crate) use identity::TAG;
pub(crate) use inspect::Inspect;
pub(crate) use machine::Machine;
pub(crate) use membership::Membership;
pub(crate) use time::Time;
