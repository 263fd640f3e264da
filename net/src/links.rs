//! Links, addresses and routes as the configuration and the platform want them, and the merge of their layers.

use std::net::IpAddr;

use engine::{Context, Controller, Inputs, Many, Marks, One, OneExt, Outputs, Wanted};
use model::config::docs::net::{CommonLink, LinkConfig};
use model::host::MachineConfig;
use model::net::{AddressSpec, ConfigLayer, Family, LinkSpec, PlatformConfig, RouteProtocol, RouteSpec, RouteType, RoutingTable, Scope};

use crate::layers::{CONFIG, Layered, by_name, prefix};
use crate::observe::id_of;

/// Metric of routes that name none.
const METRIC: u32 = 1024;

/// What the configuration, the platform and this system itself want.
pub(crate) struct LinkConfigController;

#[derive(Inputs)]
pub(crate) struct In {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "active")]
    platform: One<PlatformConfig>,
}

impl Controller for LinkConfigController {
    const NAME: &'static str = "network.LinkConfigController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().shared_in::<LinkSpec>(CONFIG).shared_in::<AddressSpec>(CONFIG).shared_in::<RouteSpec>(CONFIG)
    }

    async fn reconcile(&self, _: &Context, input: In) -> engine::Result<Wanted> {
        let mut wanted = Wanted::new();
        add_link(&mut wanted, LinkSpec { name: "lo".into(), up: true, layer: ConfigLayer::Default, ..LinkSpec::default() });
        if let Some(platform) = input.platform.spec() {
            let layer = ConfigLayer::Platform;
            platform.links.iter().for_each(|spec| add_link(&mut wanted, LinkSpec { layer, ..spec.clone() }));
            platform.addresses.iter().for_each(|spec| add_address(&mut wanted, AddressSpec { layer, ..spec.clone() }));
            platform.routes.iter().for_each(|spec| add_route(&mut wanted, RouteSpec { layer, ..spec.clone() }));
        }
        let machine = input.config.spec().and_then(|config| config.machine());
        for config in machine.into_iter().flat_map(|machine| machine.all::<LinkConfig>()) {
            configured(&mut wanted, &config.name, &config.link);
        }
        Ok(wanted)
    }
}

fn configured(wanted: &mut Wanted, name: &str, link: &CommonLink) {
    let layer = ConfigLayer::Configuration;
    let up = link.up.unwrap_or(true);
    add_link(
        wanted,
        LinkSpec { name: name.to_owned(), up, mtu: link.mtu.unwrap_or(0), multicast: link.multicast, layer, ..LinkSpec::default() },
    );
    for item in &link.addresses {
        let Some(address) = item.address.as_ref().and_then(|address| address.net()) else { continue };
        let spec = AddressSpec {
            address: Some(address),
            link_name: name.to_owned(),
            family: family(address.addr()),
            scope: scope(address.addr()),
            priority: item.route_priority.unwrap_or(0),
            layer,
            ..AddressSpec::default()
        };
        add_address(wanted, spec);
    }
    for item in &link.routes {
        let v6 = item.destination.map(|net| net.addr().is_ipv6()).or(item.gateway.map(|gateway| gateway.is_ipv6())).unwrap_or(false);
        let spec = RouteSpec {
            family: if v6 { Family::Inet6 } else { Family::Inet4 },
            dst: item.destination.filter(|net| net.prefix_len() > 0),
            src: item.source,
            gateway: item.gateway,
            out_link_name: name.to_owned(),
            table: item.table.as_ref().map_or(RoutingTable::Main, |table| RoutingTable::from_number(i64::from(table.number()))),
            priority: item.metric.unwrap_or(METRIC),
            scope: if item.gateway.is_some() { Scope::Global } else { Scope::Link },
            type_: RouteType::Unicast,
            protocol: RouteProtocol::Static,
            mtu: item.mtu.unwrap_or(0),
            layer,
            ..RouteSpec::default()
        };
        add_route(wanted, spec);
    }
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Inet4 } else { Family::Inet6 }
}

/// The scope an address has by itself, as iproute2 gives it.
fn scope(address: IpAddr) -> Scope {
    match address {
        IpAddr::V4(v4) if v4.is_loopback() => Scope::Host,
        IpAddr::V4(v4) if v4.is_link_local() => Scope::Link,
        IpAddr::V6(v6) if v6.is_loopback() => Scope::Host,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Scope::Link,
        _ => Scope::Global,
    }
}

fn add_link(wanted: &mut Wanted, spec: LinkSpec) {
    wanted.add_in(CONFIG, prefix(spec.layer, &spec.name), spec, Marks::default());
}

fn add_address(wanted: &mut Wanted, spec: AddressSpec) {
    let Some(address) = spec.address else { return };
    wanted.add_in(CONFIG, prefix(spec.layer, &format!("{}/{address}", spec.link_name)), spec, Marks::default());
}

fn add_route(wanted: &mut Wanted, spec: RouteSpec) {
    let id = id_of(spec.table, &spec.out_link_name, spec.family == Family::Inet6, spec.gateway, spec.dst, spec.priority);
    wanted.add_in(CONFIG, prefix(spec.layer, &id), spec, Marks::default());
}

/// The last layer's item of each name.
fn merged<T: Layered>(specs: &Many<T>) -> Wanted {
    Wanted::new().all(by_name(specs).into_iter().filter_map(|(name, specs)| Some((name, (*specs.last()?).clone()))))
}

/// One address of each name.
pub(crate) struct AddressMergeController;

#[derive(Inputs)]
pub(crate) struct AddressIn {
    #[input(namespace = "network-config")]
    specs: Many<AddressSpec>,
}

impl Controller for AddressMergeController {
    const NAME: &'static str = "network.AddressMergeController";
    type In = AddressIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<AddressSpec>()
    }

    async fn reconcile(&self, _: &Context, input: AddressIn) -> engine::Result<Wanted> {
        Ok(merged(&input.specs))
    }
}

/// One route of each name.
pub(crate) struct RouteMergeController;

#[derive(Inputs)]
pub(crate) struct RouteIn {
    #[input(namespace = "network-config")]
    specs: Many<RouteSpec>,
}

impl Controller for RouteMergeController {
    const NAME: &'static str = "network.RouteMergeController";
    type In = RouteIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<RouteSpec>()
    }

    async fn reconcile(&self, _: &Context, input: RouteIn) -> engine::Result<Wanted> {
        Ok(merged(&input.specs))
    }
}

/// One link of each name: each setting from the last layer that has it.
pub(crate) struct LinkMergeController;

#[derive(Inputs)]
pub(crate) struct LinkIn {
    #[input(namespace = "network-config")]
    specs: Many<LinkSpec>,
}

impl Controller for LinkMergeController {
    const NAME: &'static str = "network.LinkMergeController";
    type In = LinkIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<LinkSpec>()
    }

    async fn reconcile(&self, _: &Context, input: LinkIn) -> engine::Result<Wanted> {
        let merged = by_name(&input.specs).into_iter().filter_map(|(name, specs)| {
            let mut specs = specs.into_iter();
            let mut all = specs.next()?.clone();
            for spec in specs {
                let before = std::mem::replace(&mut all, spec.clone());
                all.up |= before.up;
                if all.mtu == 0 {
                    all.mtu = before.mtu;
                }
                all.multicast = all.multicast.or(before.multicast);
            }
            Some((name, all))
        });
        Ok(Wanted::new().all(merged))
    }
}

#[cfg(test)]
mod tests {
    use engine::one;

    use super::*;

    #[tokio::test]
    async fn a_configured_link_has_its_addresses_and_routes() {
        let text = "apiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\nmtu: 9000\naddresses:\n  - address: 10.5.0.2/24\nroutes:\n  - gateway: 10.5.0.1\n  - destination: 10.9.0.0/16\n    gateway: 10.5.0.7\n    metric: 5\n";
        let input = In { config: one("v1alpha1", MachineConfig::new(text.as_bytes())), platform: None };
        let wanted = LinkConfigController.reconcile(&Context::detached(), input).await.unwrap();
        let mut links: Vec<&str> = wanted.specs::<LinkSpec>().map(|(id, _)| id).collect();
        links.sort_unstable();
        assert_eq!(links, ["configuration/eth0", "default/lo"]);
        assert!(wanted.get_in::<AddressSpec>(CONFIG, "configuration/eth0/10.5.0.2/24").is_some());
        let default = wanted.get_in::<RouteSpec>(CONFIG, "configuration/inet4/10.5.0.1//1024").unwrap();
        assert_eq!((default.dst, default.out_link_name.as_str()), (None, "eth0"));
        assert!(wanted.get_in::<RouteSpec>(CONFIG, "configuration/inet4/10.5.0.7/10.9.0.0/16/5").is_some());
    }

    #[tokio::test]
    async fn settings_of_a_link_come_from_the_last_layer_that_has_them() {
        let spec = |layer, up, mtu| LinkSpec { name: "eth0".into(), layer, up, mtu, ..LinkSpec::default() };
        let specs = Many::of([
            ("platform/eth0", spec(ConfigLayer::Platform, true, 1400)),
            ("configuration/eth0", spec(ConfigLayer::Configuration, false, 0)),
        ]);
        let wanted = LinkMergeController.reconcile(&Context::detached(), LinkIn { specs }).await.unwrap();
        let merged = wanted.get::<LinkSpec>("eth0").unwrap();
        assert_eq!((merged.up, merged.mtu, merged.layer), (true, 1400, ConfigLayer::Configuration));
    }
}
