//! The wire: generated services and clients, which roles may call which method, and the client library.
//!
//! What this is not: policy of a node (that is `node`) or resource kinds (`model`). Messages are prost
//! structs as `proto/` defines them; resources cross as `cosi` messages whose spec bytes the crate
//! `resource` encodes.
//!
//! - [`machine`], [`cosi`], … — the generated messages, clients and servers, one module per package.
//! - [`roles`] — method → roles, streamed, one-to-many.
//! - [`client`] — endpoints with fail-over, nodes, deadlines; [`tls`] and [`transport`] beneath it.
//! - [`state`] — a `resource::State` on the other side of a connection, and serving one; [`trust`] — a worker's certificate.
//! - [`health`] — asking machines for what a health check must know, and its report.
//! - [`server`] — a router for generated services on Unix sockets and TLS streams.

mod generated {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::cast_possible_truncation)]
    include!(concat!(env!("OUT_DIR"), "/wire.rs"));
}

/// `google.rpc.Status`, which a merged reply carries for a node that failed.
pub use generated::google::rpc::Status as RpcStatus;
pub use generated::{cluster, common, cosi, events, inspect, machine, orlop, securityapi, sidero, signerapi, storage, time};

pub mod client;
pub mod health;
pub mod roles;
pub mod server;
pub mod state;
pub mod tls;
pub mod transport;
pub mod trust;

/// The largest message either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// TCP port of the API.
pub const API_PORT: u16 = 50000;

/// TCP port of the trust service.
pub const TRUST_PORT: u16 = 50001;

#[cfg(test)]
mod testing;
