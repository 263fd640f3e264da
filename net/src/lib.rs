//! The network room: links, addresses, routes, host name, resolvers, time, and the files in /etc that follow from them.
//!
//! What is wanted arrives in layers (`network-config`: default < cmdline < platform < operator < configuration), one merge per kind
//! makes the resources in `network`, hands apply them, observers report what the kernel has. Everything between observers and hands is
//! pure. The kernel stands behind [`kernel::Kernel`], the rest of the machine behind [`hands::Hands`].
//!
//! What this is not: the processes that speak DNS or balance connections (`edge`), DHCP, the firewall, the mesh.

pub mod addresses;
mod apply;
mod etc;
pub mod hands;
mod hostname;
pub mod kernel;
mod layers;
mod links;
mod observe;
pub mod platform;
mod resolver;
mod status;
mod time;

use std::path::PathBuf;
use std::sync::Arc;

use engine::Runtime;
use hands::Hands;
use kernel::SharedKernel;

pub use hostname::stable as stable_hostname;
pub use resolver::{HOST_DNS, HOST_DNS_FOR_PODS, HOST_DNS_FOR_PODS_V6};

/// Where this room works, and on what.
pub struct Room {
    /// The kernel's network configuration.
    pub kernel: SharedKernel,
    /// Host name and files.
    pub hands: Arc<dyn Hands>,
    /// Whether this is a container, whose clock is its host's.
    pub container: bool,
    /// What pods get as /etc/resolv.conf (`/system/resolved/resolv.conf`).
    pub pod_resolv_conf: PathBuf,
}

impl Room {
    /// The room on the real machine. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When no netlink socket can be opened.
    pub fn real(container: bool) -> Result<Self, kernel::KernelError> {
        Ok(Self {
            kernel: Arc::new(kernel::Rtnetlink::open()?),
            hands: Arc::new(hands::Machine),
            container,
            pod_resolv_conf: PathBuf::from("/system/resolved/resolv.conf"),
        })
    }
}

/// Registers every controller of this room.
#[must_use]
pub fn register(runtime: Runtime, room: &Room) -> Runtime {
    let kernel = || room.kernel.clone();
    runtime
        .register(observe::LinkStatusController { kernel: kernel() })
        .register(observe::AddressStatusController { kernel: kernel() })
        .register(observe::RouteStatusController { kernel: kernel() })
        .register(links::LinkConfigController)
        .register(links::AddressMergeController)
        .register(links::RouteMergeController)
        .register(links::LinkMergeController)
        .register(apply::LinkApplyController { kernel: kernel() })
        .register(apply::AddressApplyController { kernel: kernel() })
        .register(apply::RouteApplyController { kernel: kernel() })
        .register(addresses::NodeAddressController)
        .register(addresses::SortAlgorithmController)
        .register(addresses::HardwareAddressController)
        .register(hostname::HostnameConfigController)
        .register(hostname::HostnameMergeController)
        .register(hostname::HostnameApplyController { hands: room.hands.clone() })
        .register(resolver::ResolverConfigController)
        .register(resolver::ResolverMergeController)
        .register(resolver::ResolverStatusController)
        .register(resolver::HostDnsConfigController)
        .register(resolver::StaticHostController)
        .register(time::TimeServerConfigController)
        .register(time::TimeServerMergeController)
        .register(time::TimeServerStatusController)
        .register(time::TimeStatusController { container: room.container, hands: room.hands.clone() })
        .register(etc::EtcFileController)
        .register(etc::PodResolvConfController { hands: room.hands.clone(), path: room.pod_resolv_conf.clone() })
        .register(status::NetworkStatusController)
}
