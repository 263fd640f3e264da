//! Links, addresses and routes by rtnetlink(7), blocking and small: what local clusters and a node's first steps need.
//!
//! The rooms of a node watch the network by an async library; this is for programs without a runtime. A [`Netlink`] acts in the network
//! namespace in which it was opened, wherever the thread goes later.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt},
        time::TimeVal,
    },
};

use crate::{Error, Result, error::During};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_REPLACE: u16 = 0x100;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const IFF_UP: u32 = 1;
const NETNSA_NONE: u8 = 0;

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// True when it is administratively up.
    pub up: bool,
    /// Its kind (`bridge`, `veth` …), where it has one.
    pub kind: Option<String>,
    /// The link it is a port of.
    pub master: Option<u32>,
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// Its MTU.
    pub mtu: u32,
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix in bits.
    pub prefix: u8,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its destination; `None` for a default route.
    pub destination: Option<(IpAddr, u8)>,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The outgoing link's index.
    pub link: Option<u32>,
}

/// An open rtnetlink socket.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    sequence: std::cell::Cell<u32>,
}

/// A message under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Message {
        let mut bytes = vec![0u8; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(body);
        Message(bytes)
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        self.pad();
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self
    }

    fn name(self, kind: u16, name: &str) -> Message {
        self.attribute(kind, &[name.as_bytes(), b"\0"].concat())
    }

    fn number(self, kind: u16, value: u32) -> Message {
        self.attribute(kind, &value.to_ne_bytes())
    }

    fn nest(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        self.pad();
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        let mut filled = fill(self);
        filled.pad();
        let length = u16::try_from(filled.0.len() - start).unwrap_or(u16::MAX);
        filled.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled.0[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        filled
    }

    fn raw(mut self, bytes: &[u8]) -> Message {
        self.pad();
        self.0.extend_from_slice(bytes);
        self
    }
}

/// `struct ifinfomsg`.
fn link_body(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0u8; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes());
    body
}

fn bytes_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
        _ => None,
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 } // AF_INET, AF_INET6
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The attributes in `bytes`; stops at the first that does not fit.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let (Some(length), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else { break };
        all.push((kind & 0x3fff, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Netlink> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
            .during(|| "open a netlink socket".into())?;
        // The kernel answers at once; a limit all the same.
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(10, 0)).during(|| "set a deadline on a netlink socket".into())?;
        Ok(Netlink { fd, sequence: std::cell::Cell::new(1) })
    }

    /// Sends a message and gives the bodies of the answers (with their types), up to the acknowledgement or the end of the dump.
    fn ask(&self, message: Message, what: impl Fn() -> String) -> Result<Vec<(u16, Vec<u8>)>> {
        let sequence = self.sequence.get();
        self.sequence.set(sequence.wrapping_add(1));
        let mut bytes = message.0;
        let length = u32::try_from(bytes.len()).map_err(|_| Error::Invalid("a netlink message of more than 4 GiB".into()))?;
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        sendto(self.fd.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()).during(&what)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let count = match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::raw(what(), errno as i32)),
            };
            let mut rest = &buffer[..count];
            while let (Some(length), Some(kind), Some(number)) = (u32_at(rest, 0), u16_at(rest, 4), u32_at(rest, 8)) {
                let length = length as usize;
                let Some(body) = rest.get(16..length) else {
                    return Err(Error::Malformed { what: what(), found: format!("a netlink message of {length} bytes") });
                };
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                if number != sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        let errno = u32_at(body, 0).unwrap_or(0).cast_signed();
                        return if errno == 0 { Ok(answers) } else { Err(Error::raw(what(), -errno)) };
                    }
                    kind => answers.push((kind, body.to_vec())),
                }
            }
        }
    }

    /// All links of the namespace.
    pub fn links(&self) -> Result<Vec<Link>> {
        let answers = self.ask(Message::new(RTM_GETLINK, NLM_F_DUMP, &link_body(0, 0, 0)), || "list links".into())?;
        Ok(answers.iter().filter(|(kind, _)| *kind == RTM_NEWLINK).filter_map(|(_, body)| parse_link(body)).collect())
    }

    /// The link of this name.
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// The link of this name, or an error that says which links there are.
    pub fn need_link(&self, name: &str) -> Result<Link> {
        let links = self.links()?;
        let names = links.iter().map(|link| link.name.clone()).collect::<Vec<_>>().join(", ");
        links
            .into_iter()
            .find(|link| link.name == name)
            .ok_or_else(|| Error::Invalid(format!("there is no link {name:?}; there are: {names}")))
    }

    /// Makes a bridge.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        let message = Message::new(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link_body(0, 0, 0))
            .name(IFLA_IFNAME, name)
            .nest(IFLA_LINKINFO, |nest| nest.name(IFLA_INFO_KIND, "bridge"));
        self.ask(message, || format!("make the bridge {name}")).map(drop)
    }

    /// True when the kernel can make links of this kind (`vxlan`, `veth` …), found by asking for one that lacks its parameters.
    pub fn knows_kind(&self, kind: &str) -> Result<bool> {
        let message = Message::new(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link_body(0, 0, 0))
            .name(IFLA_IFNAME, "probe0")
            .nest(IFLA_LINKINFO, |nest| nest.name(IFLA_INFO_KIND, kind));
        match self.ask(message, || format!("ask for links of the kind {kind}")) {
            Ok(_) => {
                self.delete_link("probe0")?;
                Ok(true)
            }
            Err(error) => Ok(!matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP))),
        }
    }

    /// Makes a pair of connected links: `name` here, `peer` in the network namespace `peer_ns`, with the hardware address `mac` (else a
    /// random one).
    pub fn add_veth(&self, name: &str, peer: &str, peer_ns: BorrowedFd<'_>, mac: Option<[u8; 6]>) -> Result<()> {
        let message = Message::new(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link_body(0, 0, 0)).name(IFLA_IFNAME, name).nest(
            IFLA_LINKINFO,
            |info| {
                info.name(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                    data.nest(VETH_INFO_PEER, |other| {
                        let other = other
                            .raw(&link_body(0, 0, 0))
                            .name(IFLA_IFNAME, peer)
                            .number(IFLA_NET_NS_FD, peer_ns.as_raw_fd().unsigned_abs());
                        match mac {
                            Some(mac) => other.attribute(IFLA_ADDRESS, &mac),
                            None => other,
                        }
                    })
                })
            },
        );
        self.ask(message, || format!("make the veth pair {name} and {peer}")).map(drop)
    }

    /// Removes a link; false when there was none of this name.
    pub fn delete_link(&self, name: &str) -> Result<bool> {
        let Some(link) = self.link(name)? else { return Ok(false) };
        match self.ask(Message::new(RTM_DELLINK, NLM_F_ACK, &link_body(link.index, 0, 0)), || format!("remove the link {name}")) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets a link up.
    pub fn set_up(&self, index: u32) -> Result<()> {
        self.ask(Message::new(RTM_SETLINK, NLM_F_ACK, &link_body(index, IFF_UP, IFF_UP)), || format!("set link {index} up")).map(drop)
    }

    /// Makes a link a port of a bridge.
    pub fn set_master(&self, index: u32, bridge: u32) -> Result<()> {
        let message = Message::new(RTM_SETLINK, NLM_F_ACK, &link_body(index, 0, 0)).number(IFLA_MASTER, bridge);
        self.ask(message, || format!("make link {index} a port of link {bridge}")).map(drop)
    }

    /// Sets the MTU of a link.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        let message = Message::new(RTM_SETLINK, NLM_F_ACK, &link_body(index, 0, 0)).number(IFLA_MTU, mtu);
        self.ask(message, || format!("set the MTU of link {index} to {mtu}")).map(drop)
    }

    /// Puts an address on a link; fine when it is there already.
    pub fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let mut body = [0u8; 8];
        body[0] = family(address);
        body[1] = prefix;
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        let bytes = bytes_of(address);
        let message = Message::new(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attribute(IFA_LOCAL, &bytes)
            .attribute(IFA_ADDRESS, &bytes);
        self.ask(message, || format!("put {address}/{prefix} on link {index}")).map(drop)
    }

    /// All addresses of the namespace.
    pub fn addresses(&self) -> Result<Vec<Address>> {
        let answers = self.ask(Message::new(RTM_GETADDR, NLM_F_DUMP, &[0; 8]), || "list addresses".into())?;
        Ok(answers.iter().filter(|(kind, _)| *kind == RTM_NEWADDR).filter_map(|(_, body)| parse_address(body)).collect())
    }

    /// Adds a default route by `gateway` out of link `index`, replacing one that is there.
    pub fn add_default_route(&self, gateway: IpAddr, index: u32) -> Result<()> {
        // struct rtmsg: family, lengths of destination and source, tos, table main, protocol boot, scope universe, type unicast, flags.
        let body = [family(gateway), 0, 0, NETNSA_NONE, 254, 3, 0, 1, 0, 0, 0, 0];
        let message = Message::new(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attribute(RTA_GATEWAY, &bytes_of(gateway))
            .number(RTA_OIF, index);
        self.ask(message, || format!("add the default route by {gateway}")).map(drop)
    }

    /// The routes of the main table.
    pub fn routes(&self) -> Result<Vec<Route>> {
        let answers = self.ask(Message::new(RTM_GETROUTE, NLM_F_DUMP, &[0; 12]), || "list routes".into())?;
        Ok(answers.iter().filter(|(kind, _)| *kind == RTM_NEWROUTE).filter_map(|(_, body)| parse_route(body)).collect())
    }
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: u32_at(body, 4)?,
        name: String::new(),
        up: u32_at(body, 8)? & IFF_UP != 0,
        kind: None,
        master: None,
        mac: Vec::new(),
        mtu: 0,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = value.to_vec(),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_MASTER => link.master = u32_at(value, 0),
            IFLA_LINKINFO => {
                link.kind = attributes(value).into_iter().find(|(kind, _)| *kind == IFLA_INFO_KIND).map(|(_, value)| text(value))
            }
            _ => {}
        }
    }
    Some(link)
}

fn parse_address(body: &[u8]) -> Option<Address> {
    let all = attributes(body.get(8..)?);
    // On point-to-point links IFA_ADDRESS is the other end.
    let value = |wanted| all.iter().find(|(kind, _)| *kind == wanted).and_then(|(_, value)| address_of(value));
    let address = value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS))?;
    Some(Address { link: u32_at(body, 4)?, address, prefix: *body.get(1)? })
}

fn parse_route(body: &[u8]) -> Option<Route> {
    if *body.get(4)? != 254 {
        return None;
    }
    let mut route = Route { destination: None, gateway: None, link: None };
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            RTA_DST => route.destination = address_of(value).zip(body.get(1).copied()),
            RTA_GATEWAY => route.gateway = address_of(value),
            RTA_OIF => route.link = u32_at(value, 0),
            _ => {}
        }
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns::{self, Kind, Namespace};

    #[test]
    fn attributes_of_hostile_bytes_end_early() {
        assert_eq!(attributes(&[]), []);
        assert_eq!(attributes(&[3, 0, 1, 0]), []); // shorter than its own header
        assert_eq!(attributes(&[200, 0, 1, 0, 9]), []); // longer than the message
        let good = [5u8, 0, 7, 0, 42, 0, 0, 0, 99];
        assert_eq!(attributes(&good), [(7, &[42u8][..])]);
    }

    /// In namespaces of a thread of the test's own, a bridge, a veth pair, addresses and a route are made and read back.
    #[test]
    fn a_small_network() {
        if !crate::host::is_root() {
            eprintln!("skipped: needs root to make network namespaces");
            return;
        }
        let thread = std::thread::spawn(|| {
            ns::unshare(&[Kind::Net]).unwrap();
            let inner = Namespace::own(Kind::Net).unwrap();
            let node = Netlink::open().unwrap();
            ns::unshare(&[Kind::Net]).unwrap();
            let net = Netlink::open().unwrap();
            net.add_bridge("br").unwrap();
            let bridge = net.need_link("br").unwrap();
            assert_eq!(bridge.kind.as_deref(), Some("bridge"));
            net.add_address(bridge.index, "10.9.0.1".parse().unwrap(), 24).unwrap();
            net.set_up(bridge.index).unwrap();
            let mac = [2, 0, 10, 9, 0, 2];
            net.add_veth("n2", "eth0", std::os::fd::AsFd::as_fd(&inner), Some(mac)).unwrap();
            let port = net.need_link("n2").unwrap();
            net.set_master(port.index, bridge.index).unwrap();
            net.set_up(port.index).unwrap();
            assert_eq!(net.need_link("n2").unwrap().master, Some(bridge.index));

            let eth0 = node.need_link("eth0").unwrap();
            assert_eq!(eth0.mac, mac);
            node.add_address(eth0.index, "10.9.0.2".parse().unwrap(), 24).unwrap();
            node.set_mtu(eth0.index, 1450).unwrap();
            node.set_up(eth0.index).unwrap();
            node.add_default_route("10.9.0.1".parse().unwrap(), eth0.index).unwrap();
            let v4: Vec<Address> = node.addresses().unwrap().into_iter().filter(|a| a.address.is_ipv4()).collect();
            assert_eq!(v4, [Address { link: eth0.index, address: "10.9.0.2".parse().unwrap(), prefix: 24 }]);
            let default = Route { destination: None, gateway: Some("10.9.0.1".parse().unwrap()), link: Some(eth0.index) };
            assert!(node.routes().unwrap().contains(&default), "{:?}", node.routes());
            assert_eq!(node.need_link("eth0").unwrap().mtu, 1450);
            // The same again is not an error, a second link of the name is.
            node.add_address(eth0.index, "10.9.0.2".parse().unwrap(), 24).unwrap();
            assert_eq!(net.add_bridge("br").unwrap_err().raw_os_error(), Some(libc::EEXIST));
            assert!(net.need_link("nope").unwrap_err().to_string().contains("br"));

            // Traffic flows.
            let listener = std::net::TcpListener::bind("10.9.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            inner
                .within(|| {
                    Ok(std::net::TcpStream::connect_timeout(&([10, 9, 0, 1], port).into(), std::time::Duration::from_secs(5)).unwrap())
                })
                .unwrap();

            assert!(net.knows_kind("veth").unwrap() && !net.knows_kind("nosuchkind").unwrap());
            assert!(net.delete_link("n2").unwrap());
            assert!(!net.delete_link("n2").unwrap());
            assert!(node.link("eth0").unwrap().is_none(), "the other end goes too");
        });
        thread.join().unwrap();
    }
}
