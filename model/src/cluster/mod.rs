//! Resources about the cluster: identity, discovery, mesh, management link, trust.

mod discovery;
mod kubespan;
mod secrets;
mod siderolink;

pub use discovery::*;
pub use kubespan::*;
pub use secrets::*;
pub use siderolink::*;

use resource::Entry;

/// Every kind of this room.
#[must_use]
pub fn kinds() -> Vec<Entry> {
    vec![
        Entry::of::<Identity>(),
        Entry::of::<Info>(),
        Entry::of::<Affiliate>(),
        Entry::of::<Member>(),
        Entry::of::<DiscoveryConfig>(),
        Entry::of::<KubeSpanConfig>(),
        Entry::of::<KubeSpanIdentity>(),
        Entry::of::<KubeSpanPeerSpec>(),
        Entry::of::<KubeSpanPeerStatus>(),
        Entry::of::<KubeSpanEndpoint>(),
        Entry::of::<SiderolinkConfig>(),
        Entry::of::<SiderolinkStatus>(),
        Entry::of::<SiderolinkTunnel>(),
        Entry::of::<OsRootSecret>(),
        Entry::of::<MaintenanceRootSecret>(),
        Entry::of::<ApiCertificate>(),
        Entry::of::<TrustdCertificate>(),
        Entry::of::<CertSan>(),
    ]
}
