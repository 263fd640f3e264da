//! The door to the kernel's network configuration: what is there, what to change, and word of each change.
//!
//! Reading is always of everything; events only say *look again*, so a lost one costs nothing that the next one does not repair.
//! Everything this system adds carries [`MARK`], and only what carries it is ever removed.

mod rtnetlink;

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;
use model::net::{AddressStatus, LinkStatus, RouteStatus};
use tokio::sync::watch;

pub use self::rtnetlink::Rtnetlink;

/// Our mark: the protocol number of routes (`rtm_protocol`) and addresses (`IFA_PROTO`) that this system added. Not assigned to
/// anyone in iproute2's `rt_protos`.
pub const MARK: u8 = 79;

/// Why the kernel's network configuration could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No netlink socket.
    #[error("open a netlink socket: {0}")]
    Open(#[source] std::io::Error),
    /// The kernel refused a request.
    #[error("{action}: {reason}")]
    Refused {
        /// What was tried.
        action: String,
        /// What the kernel said.
        reason: String,
    },
    /// A link does not exist.
    #[error("{action}: there is no link {link}")]
    NoLink {
        /// What was tried.
        action: String,
        /// The link's name.
        link: String,
    },
}

/// A link as the kernel has it; the name is the resource's id.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Everything else.
    pub status: LinkStatus,
}

/// An address as the kernel has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// The address and its link.
    pub status: AddressStatus,
    /// Whether it carries [`MARK`].
    pub ours: bool,
}

/// A route as the kernel has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The route.
    pub status: RouteStatus,
    /// Whether it carries [`MARK`].
    pub ours: bool,
}

/// A change to make.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Put an address on a link.
    AddAddress {
        /// The link's index.
        link: u32,
        /// The address with its prefix length.
        address: IpNet,
        /// The scope's number (`RT_SCOPE_*`).
        scope: u8,
        /// The flags (`IFA_F_*`).
        flags: u32,
        /// Metric of the prefix route; zero: the kernel's.
        priority: u32,
    },
    /// Take an address off a link.
    RemoveAddress {
        /// The link's index.
        link: u32,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// Add a route.
    AddRoute(RoutePlan),
    /// Remove a route.
    RemoveRoute(RoutePlan),
    /// Bring a link up or down, or set its MTU.
    SetLink {
        /// The link's index.
        link: u32,
        /// Up or down.
        up: Option<bool>,
        /// Largest packet.
        mtu: Option<u32>,
    },
}

/// A route to add or remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePlan {
    /// Where it leads to: with a prefix length of zero, everywhere.
    pub destination: IpNet,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// The outgoing link's index; zero: the kernel finds it.
    pub link: u32,
    /// The table's number.
    pub table: u32,
    /// The metric.
    pub priority: u32,
    /// The scope's number.
    pub scope: u8,
    /// The type's number (`RTN_*`).
    pub kind: u8,
    /// Largest packet; zero: the link's.
    pub mtu: u32,
}

/// The kernel's network configuration, or a fake of it.
#[async_trait]
pub trait Kernel: Send + Sync + 'static {
    /// All links.
    async fn links(&self) -> Result<Vec<Link>, KernelError>;
    /// All addresses.
    async fn addresses(&self) -> Result<Vec<Address>, KernelError>;
    /// All unicast and discarding routes of all tables but `local`.
    async fn routes(&self) -> Result<Vec<Route>, KernelError>;
    /// Makes one change. Adding what is there, and removing what is not, succeeds.
    async fn apply(&self, change: Change) -> Result<(), KernelError>;
    /// Counts up whenever anything may have changed.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// A shared kernel.
pub type SharedKernel = Arc<dyn Kernel>;

#[cfg(test)]
pub(crate) mod fake;
