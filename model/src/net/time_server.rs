//! Time servers: what is wanted, and what is used.

use resource::resource;

use super::ConfigLayer;

/// The time servers that are used.
#[resource(
    type = "TimeServerStatuses.net.talos.dev",
    namespace = "network",
    aliases("timeserver", "timeservers"),
    columns("Timeservers" = "{.timeServers}", "UseNTS" = "{.useNTS}")
)]
pub struct TimeServerStatus {
    #[field(1)]
    pub time_servers: Vec<String>,
    #[field(2, yaml = "useNTS")]
    pub use_nts: bool,
}

/// Time servers that shall be used.
#[resource(
    type = "TimeServerSpecs.net.talos.dev",
    namespace = "network",
    columns("Timeservers" = "{.timeServers}", "UseNTS" = "{.useNTS}"),
    ids("timeservers")
)]
pub struct TimeServerSpec {
    #[field(1)]
    pub time_servers: Vec<String>,
    #[field(3, yaml = "useNTS", omit_empty)]
    pub use_nts: bool,
    #[field(2)]
    pub layer: ConfigLayer,
}
