//! Documents about the network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::schema::{Flat, choice, section};
use crate::config::types::{Cel, Duration, HostPort, IpPort, Mac, NetOrIp, Ports, Secret, SubnetFilter, Table, Url};

section! {
    /// What every kind of link has.
    pub struct CommonLink {
        "up" up: Option<bool> [default("true")] = "Bring the link up.";
        "mtu" mtu: Option<u32> = "Largest packet.";
        "addresses" addresses: Vec<LinkAddress> = "Static addresses.";
        "routes" routes: Vec<LinkRoute> = "Static routes.";
        "multicast" multicast: Option<bool> = "Multicast on or off.";
    }

    /// A static address.
    pub struct LinkAddress {
        "address" address: Option<NetOrIp> [required()] = "Address with its prefix length.";
        "routePriority" route_priority: Option<u32> = "Metric of the route to the prefix.";
    }

    /// A static route.
    pub struct LinkRoute {
        "destination" destination: Option<IpNet> [default("the default route")] = "Prefix it leads to.";
        "gateway" gateway: Option<IpAddr> = "Next hop.";
        "source" source: Option<IpAddr> = "Source address.";
        "metric" metric: Option<u32> [default("1024")] = "Metric.";
        "mtu" mtu: Option<u32> = "Largest packet on it.";
        "table" table: Option<Table> [default("main")] = "Routing table.";
    }

    /// A physical link.
    pub struct LinkConfig {
        "name" name: String [required()] = "Name of the link.";
        "" link: Flat<CommonLink> = "What every link has.";
    }

    /// A dummy link.
    pub struct DummyLinkConfig {
        "name" name: String [required()] = "Name of the link.";
        "hardwareAddr" hardware_addr: Option<Mac> = "Hardware address.";
        "" link: Flat<CommonLink> = "What every link has.";
    }

    /// A VLAN.
    pub struct VlanConfig {
        "name" name: String [required()] = "Name of the link.";
        "vlanID" vlan_id: Option<u16> [required()] = "VLAN number, 1 to 4094.";
        "vlanMode" vlan_mode: Option<VlanMode> [default("802.1q")] = "Protocol.";
        "parent" parent: String [required()] = "Link it is on.";
        "" link: Flat<CommonLink> = "What every link has.";
    }

    /// A bond.
    pub struct BondConfig {
        "name" name: String [required()] = "Name of the link.";
        "hardwareAddr" hardware_addr: Option<Mac> = "Hardware address.";
        "links" links: Vec<String> [required()] = "Members.";
        "bondMode" bond_mode: Option<BondMode> [required()] = "How members share the traffic.";
        "miimon" miimon: Option<u32> = "Milliseconds between link checks.";
        "updelay" updelay: Option<u32> = "Milliseconds before a link counts as up.";
        "downdelay" downdelay: Option<u32> = "Milliseconds before a link counts as down.";
        "useCarrier" use_carrier: Option<bool> [default("true")] = "Ask the driver for the carrier.";
        "xmitHashPolicy" xmit_hash_policy: Option<XmitHashPolicy> = "What chooses the member.";
        "arpInterval" arp_interval: Option<u32> = "Milliseconds between ARP checks.";
        "arpIpTargets" arp_ip_targets: Vec<IpAddr> = "Addresses asked by ARP.";
        "nsIp6Targets" ns_ip6_targets: Vec<IpAddr> = "Addresses asked by neighbour discovery.";
        "arpValidate" arp_validate: Option<ArpValidate> = "Which ARP answers count.";
        "arpAllTargets" arp_all_targets: Option<ArpAllTargets> = "How many targets must answer.";
        "lacpRate" lacp_rate: Option<LacpRate> = "How often partners are told.";
        "failOverMac" fail_over_mac: Option<FailOverMac> = "Hardware addresses of members.";
        "adSelect" ad_select: Option<AdSelect> = "How the aggregator is chosen.";
        "adActorSysPrio" ad_actor_sys_prio: Option<u16> = "System priority.";
        "adUserPortKey" ad_user_port_key: Option<u16> = "Port key.";
        "adLACPActive" ad_lacp_active: Option<OnOff> = "Speak LACP first.";
        "primary" primary: String = "Preferred member.";
        "primaryReselect" primary_reselect: Option<PrimaryReselect> = "When the preferred member takes over.";
        "resendIGMP" resend_igmp: Option<u32> = "Membership reports after a change.";
        "minLinks" min_links: Option<u32> = "Members that must be up.";
        "lpInterval" lp_interval: Option<u32> = "Seconds between learning packets.";
        "packetsPerSlave" packets_per_slave: Option<u32> = "Packets per member in turn.";
        "numPeerNotif" num_peer_notif: Option<u8> = "Notifications after a change.";
        "tlbLogicalLb" tlb_logical_lb: Option<u8> = "Balance by flows.";
        "allSlavesActive" all_slaves_active: Option<u8> = "Take packets on inactive members.";
        "peerNotifDelay" peer_notif_delay: Option<u32> = "Milliseconds between notifications.";
        "missedMax" missed_max: Option<u8> = "Missed checks before a member is down.";
        "" link: Flat<CommonLink> = "What every link has.";
    }

    /// A bridge.
    pub struct BridgeConfig {
        "name" name: String [required()] = "Name of the link.";
        "hardwareAddr" hardware_addr: Option<Mac> = "Hardware address.";
        "links" links: Vec<String> [required()] = "Ports.";
        "stp" stp: Option<BridgeStp> = "Spanning tree.";
        "vlan" vlan: Option<BridgeVlan> = "VLANs.";
        "" link: Flat<CommonLink> = "What every link has.";
    }

    /// Spanning tree of a bridge.
    pub struct BridgeStp {
        "enabled" enabled: Option<bool> = "Whether it is on.";
    }

    /// VLANs of a bridge.
    pub struct BridgeVlan {
        "filtering" filtering: Option<bool> = "Whether ports filter by VLAN.";
    }

    /// A VRF.
    pub struct VrfConfig {
        "name" name: String [required()] = "Name of the link.";
        "hardwareAddr" hardware_addr: Option<Mac> = "Hardware address.";
        "links" links: Vec<String> [required()] = "Members.";
        "table" table: Option<Table> [required()] = "Its routing table.";
        "" link: Flat<CommonLink> = "What every link has.";
    }

    /// A veth pair.
    pub struct VethConfig {
        "name" name: String [required()] = "Name of one end.";
        "peer" peer: Option<VethPeer> [required()] = "The other end.";
        "" link: Flat<CommonLink> = "What every link has.";
    }

    /// The other end of a veth pair.
    pub struct VethPeer {
        "name" name: String [required()] = "Name of the other end.";
        "" link: Flat<CommonLink> = "What every link has.";
    }

    /// A WireGuard link.
    pub struct WireguardConfig {
        "name" name: String [required()] = "Name of the link.";
        "privateKey" private_key: Secret [required()] = "Private key: 32 bytes in base64.";
        "listenPort" listen_port: Option<u16> = "Port it listens on.";
        "firewallMark" firewall_mark: Option<u32> = "Mark of its packets.";
        "peers" peers: Vec<WireguardPeer> = "Peers.";
        "" link: Flat<CommonLink> = "What every link has.";
    }

    /// A WireGuard peer.
    pub struct WireguardPeer {
        "publicKey" public_key: String [required()] = "Public key: 32 bytes in base64.";
        "presharedKey" preshared_key: Secret = "Shared key: 32 bytes in base64.";
        "endpoint" endpoint: Option<IpPort> = "Where it is.";
        "persistentKeepaliveInterval" persistent_keepalive_interval: Option<Duration> = "How often to send something.";
        "allowedIPs" allowed_ips: Vec<NetOrIp> = "Prefixes behind it.";
    }

    /// An alias for links.
    pub struct LinkAliasConfig {
        "name" name: String [required()] = "Alias; `%d` at its end numbers several links.";
        "selector" selector: Option<LinkSelector> [required()] = "Which links.";
    }

    /// Chooses links by an expression.
    pub struct LinkSelector {
        "match" matches: Option<Cel> [required()] = "Condition on `link`.";
    }

    /// Settings of an Ethernet device.
    pub struct EthernetConfig {
        "name" name: String [required()] = "Name of the link.";
        "features" features: BTreeMap<String, bool> = "Offloads and the like.";
        "rings" rings: Option<EthernetRings> = "Ring sizes.";
        "channels" channels: Option<EthernetChannels> = "Queues.";
        "wakeOnLan" wake_on_lan: Vec<WakeOnLan> = "What wakes the machine.";
    }

    /// Ring sizes.
    pub struct EthernetRings {
        "rx" rx: Option<u32> = "Receive.";
        "tx" tx: Option<u32> = "Transmit.";
        "rx-mini" rx_mini: Option<u32> = "Receive, small packets.";
        "rx-jumbo" rx_jumbo: Option<u32> = "Receive, large packets.";
        "rx-buf-len" rx_buf_len: Option<u32> = "Bytes of a receive buffer.";
        "cqe-size" cqe_size: Option<u32> = "Bytes of a completion entry.";
        "tx-push" tx_push: Option<bool> = "Push descriptors to the device.";
        "rx-push" rx_push: Option<bool> = "Push receive descriptors to the device.";
        "tx-push-buf-len" tx_push_buf_len: Option<u32> = "Bytes of a push buffer.";
        "tcp-data-split" tcp_data_split: Option<bool> = "Split headers from data.";
    }

    /// Queues.
    pub struct EthernetChannels {
        "rx" rx: Option<u32> = "Receive.";
        "tx" tx: Option<u32> = "Transmit.";
        "other" other: Option<u32> = "Other.";
        "combined" combined: Option<u32> = "Both ways.";
    }

    /// Runs DHCPv4 on the link of this name.
    pub struct Dhcp4Config {
        "name" name: String [required()] = "Name of the link.";
        "routeMetric" route_metric: Option<u32> [default("1024")] = "Metric of its routes.";
        "ignoreHostname" ignore_hostname: Option<bool> = "Take no host name from it.";
        "ignoreRoutes" ignore_routes: Option<bool> = "Take no routes from it.";
        "clientIdentifier" client_identifier: Option<ClientIdentifier> [default("mac")] = "How the machine names itself.";
        "duidRaw" duid_raw: Option<Mac> = "DUID, in hexadecimal.";
    }

    /// Runs DHCPv6 on the link of this name.
    pub struct Dhcp6Config {
        "name" name: String [required()] = "Name of the link.";
        "routeMetric" route_metric: Option<u32> [default("1024")] = "Metric of its routes.";
        "ignoreHostname" ignore_hostname: Option<bool> = "Take no host name from it.";
        "clientIdentifier" client_identifier: Option<ClientIdentifier> [default("mac")] = "How the machine names itself.";
        "duidRaw" duid_raw: Option<Mac> = "DUID, in hexadecimal.";
    }

    /// An address shared by the control planes; the name is the address.
    pub struct Layer2VipConfig {
        "name" name: String [required()] = "The address.";
        "link" link: String [required()] = "Link that carries it.";
    }

    /// An address shared through Hetzner's API; the name is the address.
    pub struct HCloudVipConfig {
        "name" name: String [required()] = "The address.";
        "link" link: String [required()] = "Link that carries it.";
        "apiToken" api_token: Secret [required()] = "Token for the API.";
    }

    /// Host name.
    pub struct HostnameConfig {
        "auto" auto: Option<AutoHostname> = "Make a name from the machine's identity.";
        "hostname" hostname: String = "The name.";
    }

    /// DNS servers, search domains and the machine's own DNS.
    pub struct ResolverConfig {
        "nameservers" nameservers: Vec<Nameserver> = "DNS servers.";
        "searchDomains" search_domains: Option<SearchDomains> = "Search domains.";
        "hostDNS" host_dns: Option<HostDns> = "The machine's own DNS.";
    }

    /// A DNS server.
    pub struct Nameserver {
        "address" address: Option<IpAddr> [required()] = "Address.";
        "protocol" protocol: Option<DnsProtocol> [default("Do53")] = "Protocol.";
        "tlsServerName" tls_server_name: String = "Name in its certificate (DoT, DoH).";
    }

    /// Search domains.
    pub struct SearchDomains {
        "domains" domains: Vec<String> = "Domains.";
        "disableDefault" disable_default: Option<bool> [default("false")] = "Leave out the machine's own domain.";
    }

    /// The machine's own DNS.
    pub struct HostDns {
        "enabled" enabled: Option<bool> [default("false")] = "Whether it runs.";
        "forwardKubeDNSToHost" forward_kube_dns_to_host: Option<bool> [default("false")] = "CoreDNS asks it.";
        "resolveMemberNames" resolve_member_names: Option<bool> [default("false")] = "It knows the members of the cluster.";
    }

    /// Time synchronisation.
    pub struct TimeSyncConfig {
        "enabled" enabled: Option<bool> [default("true")] = "Whether time is kept in sync.";
        "bootTimeout" boot_timeout: Option<Duration> = "How long a boot waits for it.";
        "ntp" ntp: Option<NtpConfig> = "Servers.";
        "ptp" ptp: Option<PtpConfig> = "Devices.";
    }

    /// NTP.
    pub struct NtpConfig {
        "servers" servers: Vec<String> = "Servers.";
        "useNTS" use_nts: Option<bool> [default("false")] = "Authenticate them.";
    }

    /// PTP.
    pub struct PtpConfig {
        "devices" devices: Vec<String> = "Devices.";
    }

    /// An entry of /etc/hosts; the name is the address.
    pub struct StaticHostConfig {
        "name" name: String [required()] = "The address.";
        "hostnames" hostnames: Vec<String> [required()] = "Names for it.";
    }

    /// A route that discards; the name is the prefix.
    pub struct BlackholeRouteConfig {
        "name" name: String [required()] = "The prefix.";
        "metric" metric: Option<u32> = "Metric.";
    }

    /// A policy routing rule; the name is its priority.
    pub struct RoutingRuleConfig {
        "name" name: String [required()] = "The priority.";
        "src" src: Option<IpNet> = "Source prefix.";
        "dst" dst: Option<IpNet> = "Destination prefix.";
        "table" table: Option<Table> = "Table to look in.";
        "action" action: Option<RuleAction> [default("unicast")] = "What to do.";
        "iifName" iif_name: String = "Incoming link.";
        "oifName" oif_name: String = "Outgoing link.";
        "fwMark" fw_mark: Option<u32> = "Mark.";
        "fwMask" fw_mask: Option<u32> = "Mask of the mark.";
    }

    /// What happens to packets that no rule is about.
    pub struct NetworkDefaultActionConfig {
        "ingress" ingress: Option<DefaultAction> [default("accept")] = "Incoming packets.";
    }

    /// A firewall rule.
    pub struct NetworkRuleConfig {
        "name" name: String [required()] = "Name.";
        "portSelector" port_selector: Option<PortSelector> [required()] = "Ports it is about.";
        "ingress" ingress: Vec<IngressRule> [replace()] = "Sources.";
    }

    /// Ports of a rule.
    pub struct PortSelector {
        "ports" ports: Vec<Ports> [required(), replace()] = "Ports and ranges.";
        "protocol" protocol: Option<IpProtocol> [required()] = "Protocol.";
    }

    /// Sources of a rule.
    pub struct IngressRule {
        "subnet" subnet: Option<IpNet> [required()] = "Prefix.";
        "except" except: Option<NetOrIp> = "Part of it that is left out.";
    }

    /// The WireGuard mesh between nodes.
    pub struct KubeSpanConfig {
        "enabled" enabled: Option<bool> = "Whether it is on.";
        "advertiseKubernetesNetworks" advertise_kubernetes_networks: Option<bool> [default("false")] = "Route pod networks through it.";
        "allowDownPeerBypass" allow_down_peer_bypass: Option<bool> [default("false")] = "Go around it when a peer is down.";
        "harvestExtraEndpoints" harvest_extra_endpoints: Option<bool> [default("false")] = "Learn endpoints from peers.";
        "mtu" mtu: Option<u32> [default("1420")] = "Largest packet, at least 1280.";
        "filters" filters: Option<KubeSpanFilters> = "What to leave out.";
    }

    /// What the mesh leaves out.
    pub struct KubeSpanFilters {
        "endpoints" endpoints: Vec<SubnetFilter> = "Endpoints to announce.";
        "excludeAdvertisedNetworks" exclude_advertised_networks: Vec<IpNet> = "Networks not to announce.";
    }

    /// Further endpoints announced for the mesh.
    pub struct KubeSpanEndpointsConfig {
        "extraAnnouncedEndpoints" extra_announced_endpoints: Vec<IpPort> = "Addresses with ports.";
    }

    /// Checks connectivity by TCP.
    pub struct TcpProbeConfig {
        "name" name: String [required()] = "Name.";
        "interval" interval: Option<Duration> [default("1s")] = "How often.";
        "failureThreshold" failure_threshold: Option<u32> [default("0")] = "Failures in a row that count as one.";
        "endpoint" endpoint: Option<HostPort> [required()] = "Where to connect.";
        "timeout" timeout: Option<Duration> [default("10s")] = "How long to wait.";
    }

    /// Checks connectivity by HTTP.
    pub struct HttpProbeConfig {
        "name" name: String [required()] = "Name.";
        "interval" interval: Option<Duration> [default("1s")] = "How often.";
        "failureThreshold" failure_threshold: Option<u32> [default("0")] = "Failures in a row that count as one.";
        "url" url: Option<Url> [required()] = "What to ask for.";
        "timeout" timeout: Option<Duration> [default("10s")] = "How long to wait.";
    }

    /// A BGP speaker.
    pub struct BgpInstanceConfig {
        "name" name: String [required()] = "Name.";
        "vrf" vrf: String = "VRF it works in.";
        "localASN" local_asn: Option<u32> [required()] = "Own number.";
        "routerID" router_id: Option<IpAddr> = "IPv4 address that names it.";
        "routeSource" route_source: Option<IpAddr> = "Source address of its routes.";
        "advertise" advertise: Vec<String> [replace()] = "Prefixes to announce.";
        "multipath" multipath: Option<bool> [default("false")] = "Use several paths.";
        "maxPaths" max_paths: Option<u8> = "How many.";
        "installRoutes" install_routes: Option<bool> [default("true")] = "Put routes into the kernel.";
        "importRoutes" import_routes: Vec<BgpImport> [replace()] = "Routes taken from other instances.";
        "neighbors" neighbors: Vec<BgpNeighbor> [replace()] = "Neighbours.";
    }

    /// Routes taken from another instance.
    pub struct BgpImport {
        "bgpInstance" bgp_instance: String [required()] = "The other instance.";
        "prefixes" prefixes: Vec<IpNet> [required()] = "Prefixes.";
    }

    /// A BGP neighbour.
    pub struct BgpNeighbor {
        "address" address: Option<IpAddr> = "Its address.";
        "link" link: String = "Or the link it is on.";
        "peerASN" peer_asn: Option<u32> = "Its number.";
        "localASN" local_asn: Option<u32> = "Own number towards it.";
        "passive" passive: Option<bool> [default("false")] = "Wait for it to connect.";
        "holdTime" hold_time: Option<Duration> = "Time without a sign before it counts as gone.";
        "bfd" bfd: Option<BgpBfd> = "Fast failure detection.";
    }

    /// Fast failure detection.
    pub struct BgpBfd {
        "transmitInterval" transmit_interval: Option<Duration> = "Between packets sent.";
        "receiveInterval" receive_interval: Option<Duration> = "Between packets expected.";
        "detectMultiplier" detect_multiplier: Option<u8> = "Missed packets that count as failure.";
    }
}

choice! {
    /// Protocol of a VLAN.
    pub enum VlanMode { "802.1q" Dot1Q = "Customer tag."; "802.1ad" Dot1Ad = "Service tag."; }
    /// Mode of a bond.
    pub enum BondMode {
        "balance-rr" BalanceRr = "In turn."; "active-backup" ActiveBackup = "One at a time."; "balance-xor" BalanceXor = "By hash.";
        "broadcast" Broadcast = "On all."; "802.3ad" Lacp = "LACP."; "balance-tlb" BalanceTlb = "By load, sending."; "balance-alb" BalanceAlb = "By load, both ways.";
    }
    /// What chooses the member of a bond.
    pub enum XmitHashPolicy {
        "layer2" Layer2 = "Hardware addresses."; "layer3+4" Layer34 = "Addresses and ports."; "layer2+3" Layer23 = "Hardware and IP addresses.";
        "encap2+3" Encap23 = "Inner hardware and IP addresses."; "encap3+4" Encap34 = "Inner addresses and ports.";
    }
    /// Which ARP answers count.
    pub enum ArpValidate {
        "none" None = "Any."; "active" Active = "On the active member."; "backup" Backup = "On backups."; "all" All = "On all.";
        "filter" Filter = "Only ARP."; "filter-active" FilterActive = "Only ARP, on the active member."; "filter-backup" FilterBackup = "Only ARP, on backups.";
    }
    /// How many ARP targets must answer.
    pub enum ArpAllTargets { "any" Any = "One."; "all" All = "All."; }
    /// How often LACP partners are told.
    pub enum LacpRate { "slow" Slow = "Every 30 seconds."; "fast" Fast = "Every second."; }
    /// Hardware addresses of members.
    pub enum FailOverMac { "none" None = "All the same."; "active" Active = "The active member's."; "follow" Follow = "Follows the active member."; }
    /// How the aggregator is chosen.
    pub enum AdSelect { "stable" Stable = "Stays."; "bandwidth" Bandwidth = "By bandwidth."; "count" Count = "By members."; }
    /// On or off.
    pub enum OnOff { "on" On = "On."; "off" Off = "Off."; }
    /// When the preferred member takes over.
    pub enum PrimaryReselect { "always" Always = "As soon as it is up."; "better" Better = "When it is better."; "failure" Failure = "When the other fails."; }
    /// What wakes the machine.
    pub enum WakeOnLan {
        "phy" Phy = "Link activity."; "unicast" Unicast = "Packets for it."; "multicast" Multicast = "Multicast."; "broadcast" Broadcast = "Broadcast.";
        "arp" Arp = "ARP."; "magic" Magic = "Magic packets."; "magicsecure" MagicSecure = "Magic packets with a password."; "filter" Filter = "A filter.";
    }
    /// How a DHCP client names itself.
    pub enum ClientIdentifier { "none" None = "Not."; "mac" Mac = "Hardware address."; "duid" Duid = "DUID."; }
    /// Automatic host names.
    pub enum AutoHostname { "stable" Stable = "From the machine's identity."; "off" Off = "None."; }
    /// Protocol of a DNS server.
    pub enum DnsProtocol { "Do53" Do53 = "Plain."; "DoT" DoT = "TLS."; "DoH" DoH = "HTTPS."; }
    /// What a routing rule does.
    pub enum RuleAction { "unicast" Unicast = "Looks in the table."; "blackhole" Blackhole = "Discards."; "unreachable" Unreachable = "Says unreachable."; "prohibit" Prohibit = "Says prohibited."; }
    /// What happens to incoming packets.
    pub enum DefaultAction { "accept" Accept = "Let in."; "block" Block = "Keep out."; }
    /// Protocol of a firewall rule.
    pub enum IpProtocol { "tcp" Tcp = "TCP."; "udp" Udp = "UDP."; "icmp" Icmp = "ICMP."; "icmpv6" Icmpv6 = "ICMPv6."; }
}
