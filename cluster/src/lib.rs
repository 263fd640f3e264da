//! The cluster room: identity, discovery, membership, trust.
pub mod affiliate;
pub mod heartbeat;
pub mod identity;
pub mod membership;
pub mod seal;
pub mod trust;

use std::path::PathBuf;

use engine::Runtime;

/// Where this room works, and how the node calls its system to others.
pub struct Room {
    /// Where STATE is mounted (`/system/state`).
    pub state: PathBuf,
    /// `Talos (<tag>)`, the form clients know; it must name Orlop's version, by which members know that heartbeats are spoken.
    pub operating_system: String,
}

/// Registers the controllers of identity, discovery and membership. Those of trust are registered by themselves.
#[must_use]
pub fn register(runtime: Runtime, room: &Room) -> Runtime {
    runtime
        .register(identity::IdentityController { state: room.state.clone() })
        .register(membership::InfoController)
        .register(membership::DiscoveryConfigController)
        .register(membership::LocalAffiliateController { operating_system: room.operating_system.clone() })
        .register(membership::AffiliateMergeController)
        .register(membership::MemberController)
}
