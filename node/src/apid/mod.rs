//! apid: the API of this node to the network, TCP 50000.
//!
//! It proves who calls (TLS, roles), and passes calls on: to machined here, or to other nodes. It authorises nothing and
//! holds no protobuf schema. Everything it serves with (certificates, addresses, policy) comes from machined as resources;
//! while machined is away it keeps what it has and answers `Unavailable`.
//!
//! `auth`, `route` and `frame` are pure; `proxy` moves bytes; `listener` and `backend` own sockets; `source` follows resources.

mod auth;
mod backend;
mod frame;
mod listener;
pub(crate) mod process;
mod proxy;
mod route;
mod source;

pub(crate) use source::run;
#[cfg(test)]
pub(crate) use source::{Paths, serve};

#[cfg(test)]
pub(crate) mod tests;
