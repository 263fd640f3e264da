//! The node's own addresses, as lists: one default, all current, those that never went, those that others reach; each also with only,
//! and without, Kubernetes' own.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv6Addr};

use engine::{Context, Controller, Inputs, Many, One, OneExt, Outputs, Wanted};
use ipnet::IpNet;
use model::config::legacy::root::SortAlgorithm;
use model::host::MachineConfig;
use model::net::{
    AddressFlags, AddressSortAlgorithm, AddressStatus, HardwareAddress, LinkStatus, LinkType, NodeAddress, NodeAddressFilter,
    NodeAddressSortAlgorithm, OperationalState,
};

/// The ids of the plain lists.
pub const DEFAULT: &str = "default";
/// Every address the node has now.
pub const CURRENT: &str = "current";
/// Every address the node ever had since it started.
pub const ACCUMULATIVE: &str = "accumulative";
/// The current ones that other machines may reach: no shared and no management-plane addresses.
pub const ROUTED: &str = "routed";

/// The lists.
pub(crate) struct NodeAddressController;

#[derive(Inputs)]
pub(crate) struct In {
    addresses: Many<AddressStatus>,
    links: Many<LinkStatus>,
    filters: Many<NodeAddressFilter>,
    #[input(id = "default")]
    algorithm: One<NodeAddressSortAlgorithm>,
    #[input(id = "default")]
    previous_default: One<NodeAddress>,
    #[input(id = "accumulative")]
    previous: One<NodeAddress>,
}

impl Controller for NodeAddressController {
    const NAME: &'static str = "network.NodeAddressController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<NodeAddress>()
    }

    async fn reconcile(&self, ctx: &Context, input: In) -> engine::Result<Wanted> {
        let algorithm = input.algorithm.spec().map(|spec| spec.algorithm).unwrap_or_default();
        let current = current(&input.addresses, &input.links);
        if current.is_empty() && !ctx.settled() {
            return Ok(Wanted::unknown("the links' addresses"));
        }
        let mut addresses: Vec<IpNet> = current.iter().map(|(_, address)| *address).collect();
        addresses.sort_by(|a, b| compare(algorithm, a, b));
        addresses.dedup();
        let mut accumulative = addresses.clone();
        accumulative.extend(input.previous.spec().into_iter().flat_map(|list| &list.addresses));
        accumulative.sort_by(|a, b| compare(algorithm, a, b));
        accumulative.dedup();
        let routed: Vec<IpNet> = routed(&addresses);
        let default = default_address(&current, input.previous_default.spec(), algorithm);

        let mut wanted = Wanted::new();
        let list = |addresses: Vec<IpNet>| NodeAddress { addresses, sort_algorithm: algorithm };
        if let Some(default) = default {
            wanted.add(DEFAULT, list(vec![default]));
        }
        for (id, all) in [(CURRENT, addresses), (ACCUMULATIVE, accumulative), (ROUTED, routed)] {
            for filter in input.filters.iter() {
                let kept = all.iter().filter(|address| passes(&filter.spec, address)).copied().collect();
                wanted.add(format!("{id}-{}", &*filter.meta.id), list(kept));
            }
            wanted.add(id, list(all));
        }
        Ok(wanted)
    }
}

/// Usable addresses of links that are up, each with its link's name.
fn current(addresses: &Many<AddressStatus>, links: &Many<LinkStatus>) -> Vec<(String, IpNet)> {
    let up = |name: &str| {
        links.get(name).is_some_and(|link| {
            // A loopback or dummy has no carrier to speak of.
            let state = link.spec.operational_state;
            state == OperationalState::Up || state == OperationalState::Unknown
        })
    };
    let unusable = AddressFlags::DEPRECATED.0 | AddressFlags::DAD_FAILED.0 | AddressFlags::TENTATIVE.0 | AddressFlags::TEMPORARY.0;
    let mut found: Vec<(String, IpNet)> = addresses
        .specs()
        .filter(|status| {
            // `temporary` is `secondary` for IPv4, which is no defect.
            let ignore = if status.address.is_some_and(|address| address.addr().is_ipv4()) { AddressFlags::TEMPORARY.0 } else { 0 };
            status.scope.number() < 253 && status.flags.0 & unusable & !ignore == 0 && up(&status.link_name)
        })
        .filter_map(|status| Some((status.link_name.clone(), status.address?)))
        .filter(|(_, address)| usable(address.addr()))
        .collect();
    found.sort();
    found
}

fn usable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_multicast() && !address.is_unspecified() && !link_local
}

/// Whether it is an address of the management plane's mesh: a unique local one whose 8th byte says so.
fn is_management(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.octets()[0] == 0xfd && v6.octets()[7] == 0x03)
}

/// Without management addresses, and without single addresses (shared ones are such) where the node has others.
fn routed(addresses: &[IpNet]) -> Vec<IpNet> {
    let reachable: Vec<IpNet> = addresses.iter().filter(|address| !is_management(address.addr())).copied().collect();
    let single = |address: &IpNet| address.prefix_len() == address.max_prefix_len();
    // Clouds hand out single addresses as the only ones.
    if reachable.iter().all(single) { reachable } else { reachable.into_iter().filter(|address| !single(address)).collect() }
}

/// The default stays what it was for as long as it is there; else it is the first address of the first link.
fn default_address(current: &[(String, IpNet)], previous: Option<&NodeAddress>, algorithm: AddressSortAlgorithm) -> Option<IpNet> {
    let candidates: Vec<&(String, IpNet)> = current.iter().filter(|(_, address)| !is_management(address.addr())).collect();
    if let Some(before) = previous.and_then(|list| list.addresses.first())
        && candidates.iter().any(|(_, address)| address == before)
    {
        return Some(*before);
    }
    let best = candidates.iter().min_by(|(link_a, a), (link_b, b)| link_a.cmp(link_b).then_with(|| compare(algorithm, a, b)))?;
    Some(best.1)
}

fn passes(filter: &NodeAddressFilter, address: &IpNet) -> bool {
    let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address.addr()));
    (filter.include_subnets.is_empty() || within(&filter.include_subnets)) && !within(&filter.exclude_subnets)
}

/// v1: by address, IPv4 first, then by prefix length. v2: public before unique local ones, the longer prefix first, then by address.
fn compare(algorithm: AddressSortAlgorithm, a: &IpNet, b: &IpNet) -> Ordering {
    let by_address = a.addr().cmp(&b.addr());
    match algorithm {
        AddressSortAlgorithm::V2 => {
            let local = |net: &IpNet| matches!(net.addr(), IpAddr::V6(v6) if is_unique_local(v6));
            let family = |net: &IpNet| net.addr().is_ipv6();
            family(a)
                .cmp(&family(b))
                .then_with(|| local(a).cmp(&local(b)))
                .then_with(|| b.prefix_len().cmp(&a.prefix_len()))
                .then(by_address)
        }
        _ => by_address.then_with(|| a.prefix_len().cmp(&b.prefix_len())),
    }
}

fn is_unique_local(address: Ipv6Addr) -> bool {
    address.octets()[0] & 0xfe == 0xfc
}

/// How the lists are sorted.
pub(crate) struct SortAlgorithmController;

#[derive(Inputs)]
pub(crate) struct SortIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
}

impl Controller for SortAlgorithmController {
    const NAME: &'static str = "network.NodeAddressSortAlgorithmController";
    type In = SortIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<NodeAddressSortAlgorithm>()
    }

    async fn reconcile(&self, _: &Context, input: SortIn) -> engine::Result<Wanted> {
        let chosen = input.config.spec().and_then(|config| config.machine()).and_then(|machine| machine.base.node_address_sort);
        let algorithm = match chosen {
            Some(SortAlgorithm::V2) => AddressSortAlgorithm::V2,
            Some(SortAlgorithm::V1) | None => AddressSortAlgorithm::V1,
        };
        Ok(Wanted::new().with(DEFAULT, NodeAddressSortAlgorithm { algorithm }))
    }
}

/// The hardware address by which the machine is known.
pub(crate) struct HardwareAddressController;

#[derive(Inputs)]
pub(crate) struct HardwareIn {
    links: Many<LinkStatus>,
}

impl Controller for HardwareAddressController {
    const NAME: &'static str = "network.HardwareAddrController";
    type In = HardwareIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<HardwareAddress>()
    }

    async fn reconcile(&self, _: &Context, input: HardwareIn) -> engine::Result<Wanted> {
        let is_card =
            |link: &LinkStatus| link.type_ == LinkType::Ether && matches!(link.kind.as_str(), "" | "veth") && link.master_index == 0;
        // A container's only card is one end of a veth pair; those of its pods come and go and have a master or later names.
        let first = input.links.iter().filter(|link| is_card(&link.spec)).min_by_key(|link| (!link.spec.kind.is_empty(), link.spec.index));
        Ok(Wanted::new().maybe(
            "first",
            first.map(|link| HardwareAddress { name: link.meta.id.to_string(), hardware_addr: link.spec.hardware_addr.clone() }),
        ))
    }
}

#[cfg(test)]
mod tests {
    use engine::one;
    use model::net::Scope;

    use super::*;

    fn address(link: &str, text: &str) -> (String, AddressStatus) {
        let status = AddressStatus { address: Some(text.parse().unwrap()), link_name: link.into(), ..AddressStatus::default() };
        (format!("{link}/{text}"), status)
    }

    fn link(state: OperationalState) -> LinkStatus {
        LinkStatus { operational_state: state, ..LinkStatus::default() }
    }

    fn input(addresses: Vec<(String, AddressStatus)>) -> In {
        In {
            addresses: Many::of(addresses),
            links: Many::of([
                ("lo", link(OperationalState::Unknown)),
                ("eth0", link(OperationalState::Up)),
                ("eth1", link(OperationalState::Down)),
                ("cni0", link(OperationalState::Up)),
            ]),
            filters: Many::of([
                ("no-k8s", NodeAddressFilter { exclude_subnets: vec!["10.244.0.0/16".parse().unwrap()], ..NodeAddressFilter::default() }),
                ("only-k8s", NodeAddressFilter { include_subnets: vec!["10.244.0.0/16".parse().unwrap()], ..NodeAddressFilter::default() }),
            ]),
            algorithm: None,
            previous_default: None,
            previous: None,
        }
    }

    async fn lists(input: In) -> Wanted {
        NodeAddressController.reconcile(&Context::detached(), input).await.unwrap()
    }

    fn shown(wanted: &Wanted, id: &str) -> String {
        wanted
            .get::<NodeAddress>(id)
            .map(|list| list.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            .unwrap_or_default()
    }

    #[tokio::test]
    async fn the_lists_of_a_node_with_pods() {
        let wanted = lists(input(vec![
            address("lo", "127.0.0.1/8"),
            address("lo", "169.254.116.108/32"),
            address("eth0", "10.5.0.2/24"),
            address("eth0", "10.5.0.100/32"),
            address("eth0", "fe80::1/64"),
            address("eth1", "10.9.0.2/24"),
            address("cni0", "10.244.0.1/24"),
        ]))
        .await;
        assert_eq!(shown(&wanted, "current"), "10.5.0.2/24 10.5.0.100/32 10.244.0.1/24");
        assert_eq!(shown(&wanted, "current-no-k8s"), "10.5.0.2/24 10.5.0.100/32");
        assert_eq!(shown(&wanted, "current-only-k8s"), "10.244.0.1/24");
        assert_eq!(shown(&wanted, "routed"), "10.5.0.2/24 10.244.0.1/24", "a shared address is not routed");
        assert_eq!(shown(&wanted, "routed-no-k8s"), "10.5.0.2/24");
    }

    #[tokio::test]
    async fn the_default_stays_while_it_is_there() {
        let all = || vec![address("eth0", "10.5.0.2/24"), address("cni0", "10.244.0.1/24")];
        let previous = |text: &str| one("default", NodeAddress { addresses: vec![text.parse().unwrap()], ..NodeAddress::default() });
        assert_eq!(shown(&lists(input(all())).await, "default"), "10.244.0.1/24", "the first link by name");
        assert_eq!(shown(&lists(In { previous_default: previous("10.5.0.2/24"), ..input(all()) }).await, "default"), "10.5.0.2/24");
        assert_eq!(shown(&lists(In { previous_default: previous("10.7.7.7/24"), ..input(all()) }).await, "default"), "10.244.0.1/24");
    }

    #[tokio::test]
    async fn addresses_that_went_are_remembered() {
        let before = NodeAddress { addresses: vec!["10.6.0.9/24".parse().unwrap()], ..NodeAddress::default() };
        let wanted = lists(In { previous: one("accumulative", before), ..input(vec![address("eth0", "10.5.0.2/24")]) }).await;
        assert_eq!(shown(&wanted, "accumulative"), "10.5.0.2/24 10.6.0.9/24");
        assert_eq!(shown(&wanted, "current"), "10.5.0.2/24");
    }

    #[tokio::test]
    async fn what_is_not_usable_is_left_out() {
        let with = |flags, scope| {
            let (id, status) = address("eth0", "2001:db8::1/64");
            input(vec![(id, AddressStatus { flags, scope, ..status })])
        };
        for (flags, scope) in [
            (AddressFlags::TENTATIVE, Scope::Global),
            (AddressFlags::DEPRECATED, Scope::Global),
            (AddressFlags::DAD_FAILED, Scope::Global),
            (AddressFlags::PERMANENT, Scope::Link),
            (AddressFlags::PERMANENT, Scope::Host),
        ] {
            assert_eq!(shown(&lists(with(flags, scope)).await, "current"), "", "{flags} {scope}");
        }
        assert_eq!(shown(&lists(with(AddressFlags::PERMANENT, Scope::Global)).await, "current"), "2001:db8::1/64");
    }

    #[tokio::test]
    async fn nothing_yet_is_not_nothing() {
        let wanted = NodeAddressController.reconcile(&Context::detached_unsettled(), input(vec![])).await.unwrap();
        assert!(wanted.keeps_all());
    }

    #[test]
    fn a_single_address_is_routed_when_there_is_no_other() {
        let only = ["10.128.0.5/32".parse().unwrap()];
        assert_eq!(routed(&only), only);
        let management = ["fd12:3456:789a:bc03::1/128".parse().unwrap(), only[0]];
        assert_eq!(routed(&management), only);
    }

    #[test]
    fn the_second_order_puts_public_and_specific_first() {
        let mut nets: Vec<IpNet> = ["fd00::1/64", "2001:db8::1/64", "2001:db8::2/128", "10.0.0.1/8", "10.0.0.2/32"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        nets.sort_by(|a, b| compare(AddressSortAlgorithm::V2, a, b));
        let shown: Vec<String> = nets.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.2/32", "10.0.0.1/8", "2001:db8::2/128", "2001:db8::1/64", "fd00::1/64"]);
    }
}
