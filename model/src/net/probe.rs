//! Probes: what must be reachable for the network to count as connected.

use resource::{Duration, Url, message, resource};

use super::ConfigLayer;

/// A probe that shall run.
#[resource(type = "ProbeSpecs.net.talos.dev", namespace = "network")]
pub struct ProbeSpec {
    #[field(1)]
    pub interval: Duration,
    #[field(2)]
    pub failure_threshold: i64,
    #[field(3, omit_empty)]
    pub tcp: TcpProbeSpec,
    #[field(4)]
    pub layer: ConfigLayer,
    #[field(5, omit_empty)]
    pub http: HttpProbeSpec,
}

/// How a probe fares.
#[resource(
    type = "ProbeStatuses.net.talos.dev",
    namespace = "network",
    aliases("probe", "probes"),
    columns("Success" = "{.success}")
)]
pub struct ProbeStatus {
    #[field(1)]
    pub success: bool,
    #[field(2)]
    pub last_error: String,
}

/// A probe that opens a connection.
#[message]
pub struct TcpProbeSpec {
    #[field(1)]
    pub endpoint: String,
    #[field(2)]
    pub timeout: Duration,
}

/// A probe that makes a request.
#[message]
pub struct HttpProbeSpec {
    #[field(1)]
    pub url: Option<Url>,
    #[field(2)]
    pub timeout: Duration,
}
