//! Resources over gRPC, both sides of it: [`RemoteState`] is a `resource::State` that lives elsewhere, [`Server`] offers any
//! `resource::State` to others behind an [`Access`] policy. The conversions between them are in `convert`.

mod access;
mod convert;
mod follow;
mod remote;
mod server;

pub use access::Access;
pub use convert::{from_wire, status, to_wire};
pub use follow::follow;
pub use remote::RemoteState;
pub use server::Server;

#[cfg(test)]
mod tests;
