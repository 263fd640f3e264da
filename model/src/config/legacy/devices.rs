//! The network section of the root document.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::schema::section;
use crate::config::types::{Duration, Mac, NetOrIp, Secret, SubnetFilter};

section! {
    /// Network of the machine.
    pub struct Network {
        "hostname" hostname: String [deprecated("HostnameConfig")] = "Host name.";
        "interfaces" interfaces: Option<Vec<Device>> [deprecated("LinkConfig and its relatives"), merge_by("interface")] = "Links.";
        "nameservers" nameservers: Vec<IpAddr> [deprecated("ResolverConfig")] = "DNS servers.";
        "searchDomains" search_domains: Vec<String> [deprecated("ResolverConfig")] = "Search domains.";
        "extraHostEntries" extra_host_entries: Vec<HostEntry> [deprecated("StaticHostConfig")] = "Entries of /etc/hosts.";
        "kubespan" kubespan: Option<KubeSpan> [deprecated("KubeSpanConfig")] = "The mesh between nodes.";
        "disableSearchDomain" disable_search_domain: Option<bool> [deprecated("ResolverConfig")] = "Leave out the machine's own domain.";
    }

    /// A link.
    pub struct Device {
        "interface" interface: String = "Name.";
        "deviceSelector" device_selector: Option<DeviceSelector> = "Or how to find it.";
        "addresses" addresses: Vec<NetOrIp> = "Addresses.";
        "cidr" cidr: Option<NetOrIp> = "One address.";
        "routes" routes: Vec<Route> = "Routes.";
        "bond" bond: Option<Bond> = "It is a bond.";
        "bridge" bridge: Option<Bridge> = "It is a bridge.";
        "bridgePort" bridge_port: Option<BridgePort> = "It is a port of a bridge.";
        "vlans" vlans: Vec<Vlan> [merge_by("vlanId")] = "VLANs on it.";
        "mtu" mtu: Option<u32> = "Largest packet.";
        "dhcp" dhcp: Option<bool> = "Addresses by DHCP.";
        "ignore" ignore: Option<bool> = "Leave it alone.";
        "dummy" dummy: Option<bool> = "It is a dummy.";
        "dhcpOptions" dhcp_options: Option<DhcpOptions> = "Settings of DHCP.";
        "wireguard" wireguard: Option<Wireguard> = "It is a WireGuard link.";
        "vip" vip: Option<Vip> = "A shared address.";
    }

    /// How to find a link.
    pub struct DeviceSelector {
        "busPath" bus_path: String = "Path on the bus.";
        "hardwareAddr" hardware_addr: String = "Hardware address; `*` stands for anything.";
        "permanentAddr" permanent_addr: String = "Hardware address of the device.";
        "pciID" pci_id: String = "PCI id.";
        "driver" driver: String = "Driver.";
        "physical" physical: Option<bool> = "A physical device.";
    }

    /// A route.
    pub struct Route {
        "network" network: Option<NetOrIp> = "Prefix it leads to.";
        "gateway" gateway: Option<IpAddr> = "Next hop.";
        "source" source: Option<IpAddr> = "Source address.";
        "metric" metric: Option<u32> = "Metric.";
        "mtu" mtu: Option<u32> = "Largest packet.";
    }

    /// A bond.
    pub struct Bond {
        "interfaces" interfaces: Vec<String> = "Members.";
        "deviceSelectors" device_selectors: Vec<DeviceSelector> = "Or how to find them.";
        "arpIPTarget" arp_ip_target: Vec<String> = "Not supported.";
        "mode" mode: String = "How members share the traffic.";
        "xmitHashPolicy" xmit_hash_policy: String = "What chooses the member.";
        "lacpRate" lacp_rate: String = "How often partners are told.";
        "adActorSystem" ad_actor_system: String = "Not supported.";
        "arpValidate" arp_validate: String = "Which ARP answers count.";
        "arpAllTargets" arp_all_targets: String = "How many targets must answer.";
        "primary" primary: String = "Preferred member.";
        "primaryReselect" primary_reselect: String = "When the preferred member takes over.";
        "failOverMac" fail_over_mac: String = "Hardware addresses of members.";
        "adSelect" ad_select: String = "How the aggregator is chosen.";
        "miimon" miimon: Option<u32> = "Milliseconds between link checks.";
        "updelay" updelay: Option<u32> = "Milliseconds before a link counts as up.";
        "downdelay" downdelay: Option<u32> = "Milliseconds before a link counts as down.";
        "arpInterval" arp_interval: Option<u32> = "Milliseconds between ARP checks.";
        "resendIgmp" resend_igmp: Option<u32> = "Membership reports after a change.";
        "minLinks" min_links: Option<u32> = "Members that must be up.";
        "lpInterval" lp_interval: Option<u32> = "Seconds between learning packets.";
        "packetsPerSlave" packets_per_slave: Option<u32> = "Packets per member in turn.";
        "numPeerNotif" num_peer_notif: Option<u8> = "Notifications after a change.";
        "tlbDynamicLb" tlb_dynamic_lb: Option<u8> = "Balance by load.";
        "allSlavesActive" all_slaves_active: Option<u8> = "Take packets on inactive members.";
        "useCarrier" use_carrier: Option<bool> = "Ask the driver for the carrier.";
        "adActorSysPrio" ad_actor_sys_prio: Option<u16> = "System priority.";
        "adUserPortKey" ad_user_port_key: Option<u16> = "Port key.";
        "peerNotifyDelay" peer_notify_delay: Option<u32> = "Milliseconds between notifications.";
    }

    /// A bridge.
    pub struct Bridge {
        "interfaces" interfaces: Vec<String> = "Ports.";
        "stp" stp: Option<Stp> = "Spanning tree.";
        "vlan" vlan: Option<BridgeVlan> = "VLANs.";
    }

    /// Spanning tree.
    pub struct Stp {
        "enabled" enabled: Option<bool> = "Whether it is on.";
    }

    /// VLANs of a bridge.
    pub struct BridgeVlan {
        "vlanFiltering" vlan_filtering: Option<bool> = "Whether ports filter by VLAN.";
    }

    /// A port of a bridge.
    pub struct BridgePort {
        "master" master: String = "The bridge.";
    }

    /// A VLAN.
    pub struct Vlan {
        "addresses" addresses: Vec<NetOrIp> = "Addresses.";
        "cidr" cidr: Option<NetOrIp> = "One address.";
        "routes" routes: Vec<Route> = "Routes.";
        "dhcp" dhcp: Option<bool> = "Addresses by DHCP.";
        "vlanId" vlan_id: Option<u16> = "Number.";
        "mtu" mtu: Option<u32> = "Largest packet.";
        "vip" vip: Option<Vip> = "A shared address.";
        "dhcpOptions" dhcp_options: Option<DhcpOptions> = "Settings of DHCP.";
    }

    /// Settings of DHCP.
    pub struct DhcpOptions {
        "routeMetric" route_metric: Option<u32> = "Metric of its routes.";
        "ipv4" ipv4: Option<bool> [default("true")] = "DHCPv4.";
        "ipv6" ipv6: Option<bool> [default("false")] = "DHCPv6.";
        "duidv6" duidv6: Option<Mac> = "DUID for DHCPv6.";
    }

    /// A WireGuard link.
    pub struct Wireguard {
        "privateKey" private_key: Secret = "Private key.";
        "listenPort" listen_port: Option<u16> = "Port it listens on.";
        "firewallMark" firewall_mark: Option<u32> = "Mark of its packets.";
        "peers" peers: Vec<WireguardPeer> = "Peers.";
    }

    /// A WireGuard peer.
    pub struct WireguardPeer {
        "publicKey" public_key: String = "Public key.";
        "endpoint" endpoint: Option<crate::config::types::IpPort> = "Where it is.";
        "persistentKeepaliveInterval" persistent_keepalive_interval: Option<Duration> = "How often to send something.";
        "allowedIPs" allowed_ips: Vec<NetOrIp> = "Prefixes behind it.";
    }

    /// A shared address.
    pub struct Vip {
        "ip" ip: Option<IpAddr> = "The address.";
        "equinixMetal" equinix_metal: Option<CloudToken> = "By Equinix Metal.";
        "hcloud" hcloud: Option<CloudToken> = "By Hetzner.";
    }

    /// A token for a cloud's API.
    pub struct CloudToken {
        "apiToken" api_token: Secret = "The token.";
    }

    /// An entry of /etc/hosts.
    pub struct HostEntry {
        "ip" ip: Option<IpAddr> = "Address.";
        "aliases" aliases: Vec<String> = "Names.";
    }

    /// The mesh between nodes.
    pub struct KubeSpan {
        "enabled" enabled: Option<bool> = "Whether it is on.";
        "advertiseKubernetesNetworks" advertise_kubernetes_networks: Option<bool> = "Route pod networks through it.";
        "allowDownPeerBypass" allow_down_peer_bypass: Option<bool> = "Go around it when a peer is down.";
        "harvestExtraEndpoints" harvest_extra_endpoints: Option<bool> = "Learn endpoints from peers.";
        "mtu" mtu: Option<u32> = "Largest packet.";
        "filters" filters: Option<KubeSpanFilters> = "What to leave out.";
    }

    /// What the mesh leaves out.
    pub struct KubeSpanFilters {
        "endpoints" endpoints: Vec<SubnetFilter> = "Endpoints to announce.";
        "excludeAdvertisedNetworks" exclude_advertised_networks: Vec<IpNet> = "Networks not to announce.";
    }
}
