//! What the container platform says about the network: the host name and resolvers that the container came with.

use std::net::IpAddr;

use model::net::{ConfigLayer, HostnameSpec, PlatformConfig, ResolverSpec};

/// The platform's network configuration (resource id `active`) from a container's own `/etc/hostname` and `/etc/resolv.conf`, as they
/// were before this system put its files over them. Addresses and routes are the container's already and are only observed.
#[must_use]
pub fn container(hostname: &str, resolv_conf: &str) -> PlatformConfig {
    let (mut dns_servers, mut search_domains) = (Vec::new(), Vec::new());
    for line in resolv_conf.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            // A scoped address (`fe80::1%eth0`) keeps its address only.
            Some("nameserver") => dns_servers.extend(words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok())),
            Some("search" | "domain") => search_domains = words.filter(|word| *word != ".").map(str::to_owned).collect(),
            _ => {}
        }
    }
    let hostname = hostname.trim();
    let (name, domain) = hostname.split_once('.').unwrap_or((hostname, ""));
    let hostnames = if name.is_empty() {
        Vec::new()
    } else {
        vec![HostnameSpec { hostname: name.to_owned(), domainname: domain.to_owned(), layer: ConfigLayer::Platform }]
    };
    let resolvers = if dns_servers.is_empty() {
        Vec::new()
    } else {
        vec![ResolverSpec { dns_servers, search_domains, layer: ConfigLayer::Platform, ..ResolverSpec::default() }]
    };
    PlatformConfig { hostnames, resolvers, ..PlatformConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_servers_are_taken_over() {
        let text = "# made by hand\nnameserver 10.5.0.1 # first\nnameserver fe80::1%eth0\nnameserver nonsense\nsearch example.org lab\noptions ndots:1\n";
        let config = container("cp-1.example.org\n", text);
        assert_eq!((config.hostnames[0].hostname.as_str(), config.hostnames[0].domainname.as_str()), ("cp-1", "example.org"));
        let servers: Vec<String> = config.resolvers[0].dns_servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.5.0.1", "fe80::1"]);
        assert_eq!(config.resolvers[0].search_domains, ["example.org", "lab"]);
    }

    #[test]
    fn an_empty_container_says_nothing() {
        let config = container("\n", "");
        assert!(config.hostnames.is_empty() && config.resolvers.is_empty());
    }
}
