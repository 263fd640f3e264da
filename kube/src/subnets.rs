//! Address selection: subnet filters with exclusions, address families, service addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;

/// A subnet text that does not parse.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is neither an address nor a subnet; expected such as 10.0.0.0/8, 192.168.1.7 or !10.5.0.0/24")]
pub struct SubnetError {
    /// What was found.
    pub text: String,
}

/// Which addresses count: those in one of `include` (all, when empty) and in none of `exclude`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubnetFilter {
    /// Subnets that count.
    pub include: Vec<IpNet>,
    /// Subnets that do not, whatever `include` says.
    pub exclude: Vec<IpNet>,
}

impl SubnetFilter {
    /// Reads a list in which a leading `!` excludes; an address stands for itself alone.
    ///
    /// # Errors
    /// The first entry that does not parse.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, SubnetError> {
        let mut filter = Self::default();
        for entry in entries {
            let entry = entry.as_ref();
            match entry.strip_prefix('!') {
                Some(excluded) => filter.exclude.push(subnet(excluded, entry)?),
                None => filter.include.push(subnet(entry, entry)?),
            }
        }
        Ok(filter)
    }

    /// Reads the two lists of a resource: entries that count (which may hold exclusions too), and
    /// entries that do not.
    ///
    /// # Errors
    /// The first entry that does not parse.
    pub fn of<S: AsRef<str>>(valid: &[S], excluded: &[S]) -> Result<Self, SubnetError> {
        let mut filter = Self::parse(valid)?;
        for entry in excluded {
            let entry = entry.as_ref();
            filter.exclude.push(subnet(entry.trim_start_matches('!'), entry)?);
        }
        Ok(filter)
    }

    /// Whether the address counts.
    pub fn accepts(&self, address: &IpAddr) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(address));
        (self.include.is_empty() || within(&self.include)) && !within(&self.exclude)
    }
}

fn subnet(text: &str, whole: &str) -> Result<IpNet, SubnetError> {
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| SubnetError { text: whole.to_owned() })
}

/// Which families a list of CIDRs covers: (IPv4, IPv6). What does not parse counts for none.
pub fn families<S: AsRef<str>>(cidrs: &[S]) -> (bool, bool) {
    let parsed = || cidrs.iter().filter_map(|cidr| cidr.as_ref().parse::<IpNet>().ok());
    (parsed().any(|net| matches!(net, IpNet::V4(_))), parsed().any(|net| matches!(net, IpNet::V6(_))))
}

/// The node's addresses for Kubernetes: for each family of the service networks, in their order,
/// the first address that counts. Addresses inside pod or service networks never do.
pub fn node_ips<S: AsRef<str>>(addresses: &[IpAddr], filter: &SubnetFilter, pod_cidrs: &[S], service_cidrs: &[S]) -> Vec<IpAddr> {
    let services = parse_all(service_cidrs);
    let kubernetes: Vec<IpNet> = parse_all(pod_cidrs).into_iter().chain(services.iter().copied()).collect();
    services
        .iter()
        .filter_map(|service| {
            addresses
                .iter()
                .find(|address| {
                    address.is_ipv4() == service.addr().is_ipv4()
                        && filter.accepts(address)
                        && !kubernetes.iter().any(|net| net.contains(*address))
                })
                .copied()
        })
        .collect()
}

fn parse_all<S: AsRef<str>>(cidrs: &[S]) -> Vec<IpNet> {
    cidrs.iter().filter_map(|cidr| cidr.as_ref().parse().ok()).collect()
}

/// The `n`th address of a network, counted from its base. `None` when it lies outside.
pub fn nth_address(net: &IpNet, n: u32) -> Option<IpAddr> {
    let address = match net {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.network()).checked_add(n)?)),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from(u128::from(net.network()).checked_add(u128::from(n))?)),
    };
    net.contains(&address).then_some(address)
}

/// The address of the cluster's DNS service in each service network: the tenth.
pub fn dns_service_ips<S: AsRef<str>>(service_cidrs: &[S]) -> Vec<IpAddr> {
    parse_all(service_cidrs).iter().filter_map(|net| nth_address(net, 10)).collect()
}

/// The address of the API server's service in each service network: the first.
pub fn api_service_ips<S: AsRef<str>>(service_cidrs: &[S]) -> Vec<IpAddr> {
    parse_all(service_cidrs).iter().filter_map(|net| nth_address(net, 1)).collect()
}

/// An address as the host part of a URL: IPv6 in brackets.
pub fn url_host(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn filters() {
        let filter = SubnetFilter::parse(&["10.0.0.0/8", "!10.5.0.0/16", "!10.6.0.1"]).unwrap();
        let accepts = |a: &str| filter.accepts(&a.parse().unwrap());
        assert!(accepts("10.1.2.3"));
        assert!(!accepts("10.5.2.3"));
        assert!(!accepts("10.6.0.1"));
        assert!(accepts("10.6.0.2"));
        assert!(!accepts("192.168.0.1"));
        let only_excludes = SubnetFilter::parse(&["!fd00::/8"]).unwrap();
        assert!(only_excludes.accepts(&"2001:db8::1".parse().unwrap()));
        assert!(!only_excludes.accepts(&"fd00::1".parse().unwrap()));
        assert_eq!(SubnetFilter::parse(&["!nonsense"]).unwrap_err().text, "!nonsense");
    }

    #[test]
    fn one_node_address_per_service_family_in_their_order() {
        let addresses = ips(&["10.96.0.5", "10.244.0.1", "172.20.0.2", "fd00::2", "172.20.0.3"]);
        let filter = SubnetFilter::default();
        let select = |services: &[&str]| node_ips(&addresses, &filter, &["10.244.0.0/16"], services);
        assert_eq!(select(&["10.96.0.0/12"]), ips(&["172.20.0.2"]));
        assert_eq!(select(&["fd00:96::/112", "10.96.0.0/12"]), ips(&["fd00::2", "172.20.0.2"]));
    }

    #[test]
    fn service_addresses() {
        assert_eq!(dns_service_ips(&["10.96.0.0/12", "fd00:96::/112"]), ips(&["10.96.0.10", "fd00:96::a"]));
        assert_eq!(api_service_ips(&["10.96.0.0/12"]), ips(&["10.96.0.1"]));
        assert_eq!(nth_address(&"10.0.0.0/30".parse().unwrap(), 10), None);
        assert_eq!(families(&["10.96.0.0/12"]), (true, false));
    }
}
