//! Discovery: how members find each other through the control planes, with no outside service.
//!
//! `table` and `server` are a control plane's side, `client` and `merge` every node's. Only sealed bytes pass through here; `machined`
//! seals and opens them.

mod client;
mod merge;
mod server;
mod table;

pub(crate) use client::{Client, Own};
pub(crate) use server::{PORT, Server};

#[cfg(test)]
mod tests;
