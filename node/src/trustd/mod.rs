//! trustd: how a worker joins, TCP 50001 on control planes.
//!
//! A worker shows the join token and a certificate request, and gets a server certificate for itself. trustd faces the
//! network and holds neither token nor CA key: it bounds what comes in (`server`, `bucket`) and hands it to machined over a
//! Unix socket, and machined decides and signs (`sign`). The worker's side is `api::trust`.

mod bucket;
mod server;
pub(crate) mod sign;

pub(crate) use server::run;

#[cfg(test)]
mod tests;
