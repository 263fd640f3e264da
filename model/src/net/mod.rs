//! Network resources.

mod address;
mod bgp;
mod bond;
mod ethernet;
mod hostname;
mod link;
mod link_type;
mod nftables;
mod operator;
mod platform;
mod probe;
mod resolver;
mod route;
mod status;
mod time_server;

pub use address::*;
pub use bgp::*;
pub use bond::*;
pub use ethernet::*;
pub use hostname::*;
pub use link::*;
pub use link_type::*;
pub use nftables::*;
pub use operator::*;
pub use platform::*;
pub use probe::*;
pub use resolver::*;
pub use route::*;
pub use status::*;
pub use time_server::*;

use resource::Entry;

/// Every kind of this room.
#[must_use]
pub fn kinds() -> Vec<Entry> {
    vec![
        Entry::of::<HostnameStatus>(),
        Entry::of::<HostnameSpec>(),
        Entry::of::<AddressStatus>(),
        Entry::of::<AddressSpec>(),
        Entry::of::<HardwareAddress>(),
        Entry::of::<NodeAddress>(),
        Entry::of::<NodeAddressFilter>(),
        Entry::of::<NodeAddressSortAlgorithm>(),
        Entry::of::<StaticHost>(),
        Entry::of::<LinkStatus>(),
        Entry::of::<LinkSpec>(),
        Entry::of::<LinkAliasSpec>(),
        Entry::of::<LinkRefresh>(),
        Entry::of::<EthernetSpec>(),
        Entry::of::<EthernetStatus>(),
        Entry::of::<RouteStatus>(),
        Entry::of::<RouteSpec>(),
        Entry::of::<RoutingRuleSpec>(),
        Entry::of::<RoutingRuleStatus>(),
        Entry::of::<ResolverStatus>(),
        Entry::of::<ResolverSpec>(),
        Entry::of::<HostDnsConfig>(),
        Entry::of::<DnsResolveCache>(),
        Entry::of::<DnsUpstream>(),
        Entry::of::<OperatorSpec>(),
        Entry::of::<PlatformConfig>(),
        Entry::of::<DeviceConfigSpec>(),
        Entry::of::<ProbeSpec>(),
        Entry::of::<ProbeStatus>(),
        Entry::of::<NfTablesChain>(),
        Entry::of::<BgpInstanceConfig>(),
        Entry::of::<BgpPeerStatus>(),
        Entry::of::<TimeServerStatus>(),
        Entry::of::<TimeServerSpec>(),
        Entry::of::<NetworkStatus>(),
    ]
}
