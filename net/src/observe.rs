//! What the kernel has, as resources: links, addresses, routes. Woken by netlink, never by a clock.

use std::collections::BTreeMap;

use engine::{Context, Controller, Outputs, Wanted};
use model::net::{AddressStatus, LinkStatus, RouteStatus, RoutingTable};

use crate::kernel::{Route, SharedKernel};

/// Wakes the controller whenever the kernel's network configuration may have changed.
pub(crate) fn watch(ctx: &Context, kernel: &SharedKernel) {
    if ctx.is_running("netlink") {
        return;
    }
    let (waker, mut changes) = (ctx.waker(), kernel.changes());
    ctx.spawn("netlink", async move {
        while changes.changed().await.is_ok() {
            waker.wake();
        }
        Err(engine::Error::msg("the netlink connection ended"))
    });
}

/// Links by name.
pub(crate) struct LinkStatusController {
    pub(crate) kernel: SharedKernel,
}

impl Controller for LinkStatusController {
    const NAME: &'static str = "network.LinkStatusController";
    type In = ();

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<LinkStatus>()
    }

    async fn reconcile(&self, ctx: &Context, (): ()) -> engine::Result<Wanted> {
        watch(ctx, &self.kernel);
        let links = self.kernel.links().await?;
        Ok(Wanted::new().all(links.into_iter().map(|link| (link.name, link.status))))
    }
}

/// Addresses by link and address.
pub(crate) struct AddressStatusController {
    pub(crate) kernel: SharedKernel,
}

impl Controller for AddressStatusController {
    const NAME: &'static str = "network.AddressStatusController";
    type In = ();

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<AddressStatus>()
    }

    async fn reconcile(&self, ctx: &Context, (): ()) -> engine::Result<Wanted> {
        watch(ctx, &self.kernel);
        let addresses = self.kernel.addresses().await?;
        Ok(Wanted::new().all(addresses.into_iter().filter_map(|address| {
            let id = format!("{}/{}", address.status.link_name, address.status.address?);
            Some((id, address.status))
        })))
    }
}

/// Routes by family, gateway, destination and metric.
pub(crate) struct RouteStatusController {
    pub(crate) kernel: SharedKernel,
}

impl Controller for RouteStatusController {
    const NAME: &'static str = "network.RouteStatusController";
    type In = ();

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<RouteStatus>()
    }

    async fn reconcile(&self, ctx: &Context, (): ()) -> engine::Result<Wanted> {
        watch(ctx, &self.kernel);
        Ok(Wanted::new().all(by_id(self.kernel.routes().await?)))
    }
}

/// Routes that differ in nothing that makes their id (in the type of service, say) are one resource.
fn by_id(routes: Vec<Route>) -> BTreeMap<String, RouteStatus> {
    routes.into_iter().map(|route| (route_id(&route.status), route.status)).collect()
}

/// `[<table>/][<link>/]<family>/<gateway>/<destination>/<metric>`: the table unless it is main, the link for IPv6.
fn route_id(route: &RouteStatus) -> String {
    id_of(route.table, &route.out_link_name, route.family == model::net::Family::Inet6, route.gateway, route.dst, route.priority)
}

/// The id of a route from its parts.
pub(crate) fn id_of(
    table: RoutingTable,
    link: &str,
    v6: bool,
    gateway: Option<std::net::IpAddr>,
    destination: Option<ipnet::IpNet>,
    priority: u32,
) -> String {
    let mut id = String::new();
    if table != RoutingTable::Main {
        id.push_str(&format!("{table}/"));
    }
    if v6 {
        id.push_str(&format!("{link}/"));
    }
    id.push_str(if v6 { "inet6/" } else { "inet4/" });
    id.push_str(&gateway.map(|gateway| gateway.to_string()).unwrap_or_default());
    id.push('/');
    id.push_str(&destination.map(|destination| destination.to_string()).unwrap_or_default());
    id.push_str(&format!("/{priority}"));
    id
}

#[cfg(test)]
mod tests {
    use model::net::Family;

    use super::*;
    use crate::kernel::Address;
    use crate::kernel::fake::{FakeKernel, State};

    #[test]
    fn ids_of_routes() {
        let id = |table, v6, gateway: &str, dst: &str| id_of(table, "eth0", v6, gateway.parse().ok(), dst.parse().ok(), 1024);
        assert_eq!(id(RoutingTable::Main, false, "10.5.0.1", ""), "inet4/10.5.0.1//1024");
        assert_eq!(id(RoutingTable::Main, true, "", "fd00::/64"), "eth0/inet6//fd00::/64/1024");
        assert_eq!(id(RoutingTable::from_number(180), false, "", "10.0.0.0/8"), "180/inet4//10.0.0.0/8/1024");
    }

    #[tokio::test]
    async fn what_the_kernel_has_becomes_resources() {
        let address = |link: &str, text: &str| Address {
            status: AddressStatus { address: text.parse().ok(), link_name: link.into(), ..AddressStatus::default() },
            ours: false,
        };
        let kernel = FakeKernel::new(State {
            addresses: vec![address("eth0", "10.5.0.2/24"), address("lo", "127.0.0.1/8")],
            routes: vec![Route {
                status: RouteStatus { family: Family::Inet4, table: RoutingTable::Main, ..RouteStatus::default() },
                ours: false,
            }],
            ..State::default()
        });
        let ctx = Context::detached();
        let wanted = AddressStatusController { kernel: kernel.clone() }.reconcile(&ctx, ()).await.unwrap();
        let ids: Vec<&str> = wanted.specs::<AddressStatus>().map(|(id, _)| id).collect();
        assert_eq!(ids, ["eth0/10.5.0.2/24", "lo/127.0.0.1/8"]);
        let wanted = RouteStatusController { kernel }.reconcile(&ctx, ()).await.unwrap();
        assert!(wanted.get::<RouteStatus>("inet4///0").is_some());
    }
}
