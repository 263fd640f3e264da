//! apid against stand-ins for machined, over real sockets and TLS; the pure parts by themselves.

mod foreign;
mod live;
mod parts;
mod reload;
pub(crate) mod rig;
pub(crate) mod state;
