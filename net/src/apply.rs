//! The hands: make the kernel have the links, addresses and routes that are wanted.
//!
//! Each first makes a plan, a pure comparison of what is wanted with what the kernel has, and then carries it out. Only what carries our
//! mark is ever removed, and nothing is before all inputs have settled: a `machined` that just started knows too little to take away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::{Context, Controller, Inputs, Many, Outputs, Wanted};
use ipnet::IpNet;
use model::net::{AddressSpec, Family, LinkFlags, LinkSpec, RouteSpec};

use crate::kernel::{Address, Change, Kernel, KernelError, Link, Route, RoutePlan, SharedKernel};
use crate::observe::watch;

async fn carry_out(kernel: &dyn Kernel, plan: Vec<Change>) -> engine::Result<()> {
    // One refusal must not keep the rest from being done; the first is told.
    let mut failed: Option<KernelError> = None;
    for change in plan {
        tracing::info!(?change, "network");
        if let Err(error) = kernel.apply(change).await {
            tracing::warn!(%error, "network");
            failed.get_or_insert(error);
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Addresses.
pub(crate) struct AddressApplyController {
    pub(crate) kernel: SharedKernel,
}

#[derive(Inputs)]
pub(crate) struct AddressIn {
    specs: Many<AddressSpec>,
}

impl Controller for AddressApplyController {
    const NAME: &'static str = "network.AddressSpecController";
    type In = AddressIn;

    fn outputs() -> Outputs {
        Outputs::new()
    }

    async fn reconcile(&self, ctx: &Context, input: AddressIn) -> engine::Result<Wanted> {
        watch(ctx, &self.kernel);
        let (links, found) = (self.kernel.links().await?, self.kernel.addresses().await?);
        let wanted: Vec<&AddressSpec> = input.specs.specs().collect();
        carry_out(&*self.kernel, plan_addresses(&wanted, &links, &found, ctx.settled())).await?;
        Ok(Wanted::new())
    }
}

fn plan_addresses(wanted: &[&AddressSpec], links: &[Link], found: &[Address], settled: bool) -> Vec<Change> {
    let mut plan = Vec::new();
    if settled {
        let is_wanted = |address: &Address| {
            wanted.iter().any(|spec| spec.link_name == address.status.link_name && spec.address == address.status.address)
        };
        plan.extend(
            found
                .iter()
                .filter(|address| address.ours && !is_wanted(address))
                .filter_map(|address| Some(Change::RemoveAddress { link: address.status.link_index, address: address.status.address? })),
        );
    }
    for spec in wanted {
        // A link that is not there yet will wake us when it comes.
        let (Some(address), Some(link)) = (spec.address, links.iter().find(|link| link.name == spec.link_name)) else { continue };
        let there = found.iter().any(|have| have.status.link_index == link.status.index && have.status.address == Some(address));
        if !there {
            plan.push(Change::AddAddress {
                link: link.status.index,
                address,
                scope: u8::try_from(spec.scope.number()).unwrap_or(0),
                flags: spec.flags.0,
                priority: spec.priority,
            });
        }
    }
    plan
}

/// Routes.
pub(crate) struct RouteApplyController {
    pub(crate) kernel: SharedKernel,
}

#[derive(Inputs)]
pub(crate) struct RouteIn {
    specs: Many<RouteSpec>,
}

impl Controller for RouteApplyController {
    const NAME: &'static str = "network.RouteSpecController";
    type In = RouteIn;

    fn outputs() -> Outputs {
        Outputs::new()
    }

    async fn reconcile(&self, ctx: &Context, input: RouteIn) -> engine::Result<Wanted> {
        watch(ctx, &self.kernel);
        let (links, found) = (self.kernel.links().await?, self.kernel.routes().await?);
        let wanted: Vec<&RouteSpec> = input.specs.specs().collect();
        carry_out(&*self.kernel, plan_routes(&wanted, &links, &found, ctx.settled())).await?;
        Ok(Wanted::new())
    }
}

fn plan_routes(wanted: &[&RouteSpec], links: &[Link], found: &[Route], settled: bool) -> Vec<Change> {
    let wanted: Vec<RoutePlan> = wanted.iter().filter_map(|spec| route_plan(spec, links)).collect();
    let ours: Vec<RoutePlan> = found.iter().filter(|route| route.ours).map(observed).collect();
    let mut plan = Vec::new();
    if settled {
        plan.extend(ours.iter().filter(|have| !wanted.iter().any(|want| same(want, have))).cloned().map(Change::RemoveRoute));
    }
    plan.extend(wanted.into_iter().filter(|want| !found.iter().any(|have| same(want, &observed(have)))).map(Change::AddRoute));
    plan
}

/// Whether two are the same route to the kernel, which is free to fill in scope and link.
fn same(want: &RoutePlan, have: &RoutePlan) -> bool {
    want.destination.trunc() == have.destination.trunc()
        && want.gateway == have.gateway
        && want.table == have.table
        && want.priority == have.priority
        && want.kind == have.kind
        && want.mtu == have.mtu
        && (want.source.is_none() || want.source == have.source)
        && (want.link == 0 || want.link == have.link)
}

fn anywhere(family: Family) -> IpNet {
    let address: IpAddr = if family == Family::Inet6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    IpNet::new_assert(address, 0)
}

fn route_plan(spec: &RouteSpec, links: &[Link]) -> Option<RoutePlan> {
    let link = if spec.out_link_name.is_empty() { 0 } else { links.iter().find(|link| link.name == spec.out_link_name)?.status.index };
    let number = |number: i64| u32::try_from(number).unwrap_or(0);
    // IPv6 has no metric 0: the kernel makes it 1024.
    let priority = if spec.family == Family::Inet6 && spec.priority == 0 { 1024 } else { spec.priority };
    Some(RoutePlan {
        destination: spec.dst.unwrap_or_else(|| anywhere(spec.family)),
        gateway: spec.gateway,
        source: spec.src,
        link,
        table: match number(spec.table.number()) {
            0 => 254,
            table => table,
        },
        priority,
        scope: u8::try_from(spec.scope.number()).unwrap_or(0),
        kind: match u8::try_from(spec.type_.number()).unwrap_or(0) {
            0 => 1,
            kind => kind,
        },
        mtu: spec.mtu,
    })
}

fn observed(route: &Route) -> RoutePlan {
    let status = &route.status;
    RoutePlan {
        destination: status.dst.unwrap_or_else(|| anywhere(status.family)),
        gateway: status.gateway,
        source: status.src,
        link: status.out_link_index,
        table: u32::try_from(status.table.number()).unwrap_or(0),
        priority: status.priority,
        scope: u8::try_from(status.scope.number()).unwrap_or(0),
        kind: u8::try_from(status.type_.number()).unwrap_or(1),
        mtu: status.mtu,
    }
}

/// Links: those that exist are brought up and get their MTU.
pub(crate) struct LinkApplyController {
    pub(crate) kernel: SharedKernel,
}

#[derive(Inputs)]
pub(crate) struct LinkIn {
    specs: Many<LinkSpec>,
}

impl Controller for LinkApplyController {
    const NAME: &'static str = "network.LinkSpecController";
    type In = LinkIn;

    fn outputs() -> Outputs {
        Outputs::new()
    }

    async fn reconcile(&self, ctx: &Context, input: LinkIn) -> engine::Result<Wanted> {
        watch(ctx, &self.kernel);
        let links = self.kernel.links().await?;
        let wanted: Vec<&LinkSpec> = input.specs.specs().collect();
        carry_out(&*self.kernel, plan_links(&wanted, &links)).await?;
        Ok(Wanted::new())
    }
}

fn plan_links(wanted: &[&LinkSpec], links: &[Link]) -> Vec<Change> {
    let mut plan = Vec::new();
    for spec in wanted {
        let Some(link) = links.iter().find(|link| link.name == spec.name) else { continue };
        let up = (link.status.flags.contains(LinkFlags::UP) != spec.up).then_some(spec.up);
        let mtu = (spec.mtu != 0 && spec.mtu != link.status.mtu).then_some(spec.mtu);
        if up.is_some() || mtu.is_some() {
            plan.push(Change::SetLink { link: link.status.index, up, mtu });
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use engine::Context;
    use model::net::{AddressStatus, ConfigLayer, LinkStatus, RouteStatus, RoutingTable, Scope};

    use super::*;
    use crate::kernel::fake::{FakeKernel, State};

    fn link(name: &str, index: u32) -> Link {
        Link { name: name.into(), status: LinkStatus { index, mtu: 1500, ..LinkStatus::default() } }
    }

    fn have(link: &str, index: u32, text: &str, ours: bool) -> Address {
        let status = AddressStatus { address: text.parse().ok(), link_name: link.into(), link_index: index, ..AddressStatus::default() };
        Address { status, ours }
    }

    fn want(link: &str, text: &str) -> AddressSpec {
        AddressSpec {
            address: text.parse().ok(),
            link_name: link.into(),
            scope: Scope::Global,
            layer: ConfigLayer::Configuration,
            ..AddressSpec::default()
        }
    }

    #[test]
    fn only_our_addresses_go_and_only_when_settled() {
        let links = [link("lo", 1), link("eth0", 2)];
        let found =
            [have("eth0", 2, "10.5.0.2/24", false), have("eth0", 2, "10.5.0.3/24", true), have("lo", 1, "169.254.116.108/32", true)];
        let keep = want("lo", "169.254.116.108/32");
        let removal = Change::RemoveAddress { link: 2, address: "10.5.0.3/24".parse().unwrap() };
        assert_eq!(plan_addresses(&[&keep], &links, &found, true), [removal]);
        assert_eq!(plan_addresses(&[&keep], &links, &found, false), []);
        assert_eq!(plan_addresses(&[], &links, &found[..1], true), [], "the container's own address is not ours to take");
    }

    #[test]
    fn what_is_missing_is_added_where_its_link_is() {
        let links = [link("eth0", 2)];
        let plan = plan_addresses(&[&want("eth0", "10.5.0.9/24"), &want("eth7", "10.7.0.9/24")], &links, &[], false);
        assert_eq!(plan, [Change::AddAddress { link: 2, address: "10.5.0.9/24".parse().unwrap(), scope: 0, flags: 0, priority: 0 }]);
    }

    fn route(gateway: &str, ours: bool) -> Route {
        let status = RouteStatus {
            family: Family::Inet4,
            gateway: gateway.parse().ok(),
            out_link_index: 2,
            table: RoutingTable::Main,
            priority: 1024,
            type_: model::net::RouteType::Unicast,
            ..RouteStatus::default()
        };
        Route { status, ours }
    }

    #[test]
    fn routes_of_others_stay_and_count_as_there() {
        let links = [link("eth0", 2)];
        let spec = RouteSpec {
            family: Family::Inet4,
            gateway: "10.5.0.1".parse().ok(),
            out_link_name: "eth0".into(),
            priority: 1024,
            ..RouteSpec::default()
        };
        assert_eq!(plan_routes(&[&spec], &links, &[route("10.5.0.1", false)], true), []);
        let changed = plan_routes(&[&spec], &links, &[route("10.5.0.7", true), route("10.5.0.8", false)], true);
        assert!(
            matches!(&changed[..], [Change::RemoveRoute(old), Change::AddRoute(new)]
            if old.gateway == "10.5.0.7".parse().ok() && new.gateway == "10.5.0.1".parse().ok()),
            "{changed:?}"
        );
        assert_eq!(plan_routes(&[], &links, &[route("10.5.0.7", true)], false), [], "not before everything is known");
    }

    #[tokio::test]
    async fn links_are_brought_up() {
        let kernel = FakeKernel::new(State { links: vec![link("lo", 1), link("eth0", 2)], ..State::default() });
        let specs = Many::of([("lo", LinkSpec { name: "lo".into(), up: true, mtu: 9000, ..LinkSpec::default() })]);
        LinkApplyController { kernel: kernel.clone() }.reconcile(&Context::detached(), LinkIn { specs }).await.unwrap();
        assert_eq!(kernel.taken(), [Change::SetLink { link: 1, up: Some(true), mtu: Some(9000) }]);
    }
}
