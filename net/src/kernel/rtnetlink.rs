//! The real kernel, by rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ::rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use model::net::{
    AddressFlags, AddressStatus, Family, LinkFlags, LinkStatus, LinkType, OperationalState, RouteFlags, RouteNextHop, RouteProtocol,
    RouteStatus, RouteType, RoutingTable, Scope, VlanProtocol, VlanSpec,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkInfo, LinkMessage, State};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol as WireProtocol, RouteType as WireType,
};
use resource::HardwareAddr;
use tokio::sync::watch;

use super::{Address, Change, Kernel, KernelError, Link, MARK, Route, RoutePlan};

/// Longest time for one request; a dump of thousands of routes takes milliseconds.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// The network namespace of the process, as it was when this was opened.
pub struct Rtnetlink {
    handle: Handle,
    changes: watch::Receiver<u64>,
    /// One request at a time: the kernel answers a dump with EBUSY while another one of the same socket is under way.
    turn: tokio::sync::Mutex<()>,
}

impl Rtnetlink {
    /// Opens a netlink socket and listens for changes. Must be called within a tokio runtime.
    pub fn open() -> Result<Self, KernelError> {
        use MulticastGroup::{Ipv4Ifaddr, Ipv4Route, Ipv6Ifaddr, Ipv6Route, Link};
        let groups = [Link, Ipv4Ifaddr, Ipv6Ifaddr, Ipv4Route, Ipv6Route];
        let (connection, handle, mut messages) = new_multicast_connection(&groups).map_err(KernelError::Open)?;
        let (count, changes) = watch::channel(0);
        tokio::spawn(connection);
        tokio::spawn(async move {
            // An overrun arrives as a message as well: whatever it is, it means that something changed.
            while messages.next().await.is_some() {
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { handle, changes, turn: tokio::sync::Mutex::default() })
    }
}

fn refused(action: impl Into<String>) -> impl FnOnce(::rtnetlink::Error) -> KernelError {
    let action = action.into();
    move |error| KernelError::Refused { action, reason: error.to_string() }
}

/// The errno of a refusal, positive.
fn errno(error: &::rtnetlink::Error) -> Option<i32> {
    match error {
        ::rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

async fn in_time<T>(action: &str, work: impl Future<Output = Result<T, KernelError>>) -> Result<T, KernelError> {
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| Err(KernelError::Refused { action: action.to_owned(), reason: format!("no answer within {DEADLINE:?}") }))
}

#[async_trait]
impl Kernel for Rtnetlink {
    async fn links(&self) -> Result<Vec<Link>, KernelError> {
        in_time("list links", async {
            let _turn = self.turn.lock().await;
            let messages: Vec<_> = self.handle.link().get().execute().try_collect().await.map_err(refused("list links"))?;
            Ok(messages.into_iter().map(link).collect())
        })
        .await
    }

    async fn addresses(&self) -> Result<Vec<Address>, KernelError> {
        let names = self.links().await?;
        in_time("list addresses", async {
            let _turn = self.turn.lock().await;
            let messages: Vec<_> = self.handle.address().get().execute().try_collect().await.map_err(refused("list addresses"))?;
            let name = |index| names.iter().find(|link| link.status.index == index).map(|link| link.name.clone());
            Ok(messages.into_iter().filter_map(|message| address(&message, name(message.header.index)?)).collect())
        })
        .await
    }

    async fn routes(&self) -> Result<Vec<Route>, KernelError> {
        let names = self.links().await?;
        in_time("list routes", async {
            let _turn = self.turn.lock().await;
            let mut routes = Vec::new();
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let mut ask = RouteMessage::default();
                ask.header.address_family = family;
                let messages: Vec<_> = match self.handle.route().get(ask).execute().try_collect().await {
                    Ok(messages) => messages,
                    // A kernel without IPv6 has no routes of it.
                    Err(error) if family == AddressFamily::Inet6 && errno(&error) == Some(libc::EAFNOSUPPORT) => Vec::new(),
                    Err(error) => return Err(refused("list routes")(error)),
                };
                let name = |index: u32| names.iter().find(|link| link.status.index == index).map(|link| link.name.clone());
                routes.extend(messages.iter().filter_map(|message| route(message, name)));
            }
            Ok(routes)
        })
        .await
    }

    async fn apply(&self, change: Change) -> Result<(), KernelError> {
        let action = format!("{change:?}");
        in_time(&action, async {
            let _turn = self.turn.lock().await;
            match change {
                Change::AddAddress { link, address, scope, flags, priority } => {
                    let mut request = self.handle.address().add(link, address.addr(), address.prefix_len()).replace();
                    let message = request.message_mut();
                    message.header.scope = scope.into();
                    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::from(MARK)));
                    if flags != 0 {
                        message
                            .attributes
                            .push(AddressAttribute::Flags(netlink_packet_route::address::AddressFlags::from_bits_retain(flags)));
                    }
                    if priority != 0 {
                        message.attributes.push(AddressAttribute::RoutePriority(priority));
                    }
                    tolerate(request.execute().await, &[libc::EEXIST], &action)
                }
                Change::RemoveAddress { link, address } => {
                    let mut message = AddressMessage::default();
                    message.header.family = family_of(address.addr());
                    message.header.prefix_len = address.prefix_len();
                    message.header.index = link;
                    message.attributes.push(AddressAttribute::Local(address.addr()));
                    message.attributes.push(AddressAttribute::Address(address.addr()));
                    tolerate(self.handle.address().del(message).execute().await, &[libc::EADDRNOTAVAIL, libc::ENODEV], &action)
                }
                Change::AddRoute(plan) => {
                    tolerate(self.handle.route().add(route_message(&plan)).replace().execute().await, &[libc::EEXIST], &action)
                }
                Change::RemoveRoute(plan) => {
                    tolerate(self.handle.route().del(route_message(&plan)).execute().await, &[libc::ESRCH, libc::ENODEV], &action)
                }
                Change::SetLink { link, up, mtu } => {
                    let mut message = LinkMessage::default();
                    message.header.index = link;
                    if let Some(up) = up {
                        message.header.change_mask = netlink_packet_route::link::LinkFlags::Up;
                        if up {
                            message.header.flags = netlink_packet_route::link::LinkFlags::Up;
                        }
                    }
                    if let Some(mtu) = mtu {
                        message.attributes.push(LinkAttribute::Mtu(mtu));
                    }
                    tolerate(self.handle.link().set(message).execute().await, &[], &action)
                }
            }
        })
        .await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

fn tolerate(result: Result<(), ::rtnetlink::Error>, fine: &[i32], action: &str) -> Result<(), KernelError> {
    match result {
        Err(error) if errno(&error).is_some_and(|code| fine.contains(&code)) => Ok(()),
        other => other.map_err(refused(action)),
    }
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn route_message(plan: &RoutePlan) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(plan.destination.addr());
    message.header.destination_prefix_length = plan.destination.prefix_len();
    message.header.table = u8::try_from(plan.table).unwrap_or(0);
    message.header.protocol = WireProtocol::from(MARK);
    message.header.scope = plan.scope.into();
    message.header.kind = WireType::from(plan.kind);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(plan.table));
    if plan.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(plan.destination.addr().into()));
    }
    if let Some(gateway) = plan.gateway {
        attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    if let Some(source) = plan.source {
        attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    if plan.link != 0 {
        attributes.push(RouteAttribute::Oif(plan.link));
    }
    if plan.priority != 0 {
        attributes.push(RouteAttribute::Priority(plan.priority));
    }
    if plan.mtu != 0 {
        attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(plan.mtu)]));
    }
    message
}

fn family(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::Inet4),
        AddressFamily::Inet6 => Some(Family::Inet6),
        _ => None,
    }
}

fn link(message: LinkMessage) -> Link {
    let mut name = String::new();
    let mut status = LinkStatus {
        index: message.header.index,
        type_: LinkType::from_number(i64::from(u16::from(message.header.link_layer_type))),
        flags: LinkFlags(message.header.flags.bits()),
        ..LinkStatus::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text,
            LinkAttribute::IfAlias(text) => status.alias = text,
            LinkAttribute::Mtu(mtu) => status.mtu = mtu,
            LinkAttribute::Link(parent) => status.link_index = parent,
            LinkAttribute::Controller(master) => status.master_index = master,
            LinkAttribute::Qdisc(text) => status.queue_disc = text,
            LinkAttribute::Address(bytes) => status.hardware_addr = HardwareAddr(bytes),
            LinkAttribute::PermAddress(bytes) => status.permanent_addr = HardwareAddr(bytes),
            LinkAttribute::Broadcast(bytes) => status.broadcast_addr = HardwareAddr(bytes),
            LinkAttribute::OperState(state) => status.operational_state = operational(state),
            LinkAttribute::Carrier(carrier) => status.link_state = carrier == 1,
            LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| link_info(&mut status, info)),
            LinkAttribute::PropList(names) => {
                status.alt_names = names
                    .into_iter()
                    .filter_map(|name| match name {
                        netlink_packet_route::link::Prop::AltIfName(name) => Some(name),
                        _ => None,
                    })
                    .collect();
            }
            _ => {}
        }
    }
    Link { name, status }
}

fn link_info(status: &mut LinkStatus, info: LinkInfo) {
    match info {
        LinkInfo::Kind(kind) => status.kind = kind.to_string(),
        LinkInfo::PortKind(kind) => status.slave_kind = kind.to_string(),
        LinkInfo::Data(InfoData::Vlan(attributes)) => {
            let mut vlan = VlanSpec::default();
            for attribute in attributes {
                match attribute {
                    InfoVlan::Id(id) => vlan.vlan_id = id,
                    InfoVlan::Protocol(protocol) => vlan.vlan_protocol = VlanProtocol::from_number(i64::from(u16::from(protocol))),
                    _ => {}
                }
            }
            status.vlan = vlan;
        }
        _ => {}
    }
}

fn operational(state: State) -> OperationalState {
    match state {
        State::NotPresent => OperationalState::NotPresent,
        State::Down => OperationalState::Down,
        State::LowerLayerDown => OperationalState::LowerLayerDown,
        State::Testing => OperationalState::Testing,
        State::Dormant => OperationalState::Dormant,
        State::Up => OperationalState::Up,
        _ => OperationalState::Unknown,
    }
}

fn address(message: &AddressMessage, link_name: String) -> Option<Address> {
    let mut status = AddressStatus {
        link_index: message.header.index,
        link_name,
        family: family(message.header.family)?,
        scope: Scope::from_number(i64::from(u8::from(message.header.scope))),
        flags: AddressFlags(u32::from(message.header.flags.bits())),
        ..AddressStatus::default()
    };
    let (mut remote, mut local, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(address) => remote = Some(*address),
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Broadcast(address) => status.broadcast = Some((*address).into()),
            AddressAttribute::Anycast(address) => status.anycast = Some((*address).into()),
            AddressAttribute::Multicast(address) => status.multicast = Some((*address).into()),
            AddressAttribute::Flags(flags) => status.flags = AddressFlags(flags.bits()),
            AddressAttribute::RoutePriority(priority) => status.priority = *priority,
            AddressAttribute::Protocol(protocol) => ours = u8::from(*protocol) == MARK,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other end and IFA_LOCAL ours; elsewhere they are the same.
    status.local = local;
    let own = local.or(remote)?;
    status.address = IpNet::new(own, message.header.prefix_len).ok();
    Some(Address { status, ours })
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn route(message: &RouteMessage, name: impl Fn(u32) -> Option<String>) -> Option<Route> {
    let header = &message.header;
    let kind = u8::from(header.kind);
    // Unicast, blackhole, unreachable, prohibit, throw; local and multicast ones are the kernel's own.
    if !matches!(kind, 1 | 6..=9) || header.flags.contains(netlink_packet_route::route::RouteFlags::Cloned) {
        return None;
    }
    let any: IpAddr =
        if header.address_family == AddressFamily::Inet { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let (mut destination, mut table) = (any, u32::from(header.table));
    let protocol = u8::from(header.protocol);
    let ours = protocol == MARK;
    let mut status = RouteStatus {
        family: family(header.address_family)?,
        scope: Scope::from_number(i64::from(u8::from(header.scope))),
        type_: RouteType::from_number(i64::from(kind)),
        // What is ours was configured: to a reader of resources that is a static route.
        protocol: if ours { RouteProtocol::Static } else { RouteProtocol::from_number(i64::from(protocol)) },
        flags: RouteFlags(header.flags.bits()),
        ..RouteStatus::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = plain(address)?,
            RouteAttribute::Gateway(address) => status.gateway = plain(address),
            RouteAttribute::PrefSource(address) => status.src = plain(address),
            RouteAttribute::Oif(index) => status.out_link_index = *index,
            RouteAttribute::Priority(priority) => status.priority = *priority,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    if let RouteMetric::Mtu(mtu) = metric {
                        status.mtu = *mtu;
                    }
                }
            }
            RouteAttribute::MultiPath(hops) => {
                status.next_hops = hops
                    .iter()
                    .map(|hop| RouteNextHop {
                        gateway: hop.attributes.iter().find_map(|attribute| match attribute {
                            RouteAttribute::Gateway(address) => plain(address),
                            _ => None,
                        }),
                        out_link_name: name(hop.interface_index).unwrap_or_default(),
                        weight: u32::from(hop.hops) + 1,
                    })
                    .collect();
            }
            _ => {}
        }
    }
    if table == 255 {
        return None;
    }
    status.table = RoutingTable::from_number(i64::from(table));
    status.out_link_name = name(status.out_link_index).unwrap_or_default();
    status.dst = IpNet::new(destination, header.destination_prefix_length).ok().filter(|net| net.prefix_len() > 0);
    Some(Route { status, ours })
}
