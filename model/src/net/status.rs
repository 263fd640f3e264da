//! How far the network is, and the layers that its configuration comes from.

use resource::{resource, text_enum};

/// How far the network is.
#[resource(
    type = "NetworkStatuses.net.talos.dev",
    namespace = "network",
    aliases("netstatus", "netstatuses"),
    columns(
        "Address" = "{.addressReady}",
        "Connectivity" = "{.connectivityReady}",
        "Hostname" = "{.hostnameReady}",
        "Etc" = "{.etcFilesReady}"
    ),
    ids("status")
)]
pub struct NetworkStatus {
    #[field(1)]
    pub address_ready: bool,
    #[field(2)]
    pub connectivity_ready: bool,
    #[field(3)]
    pub hostname_ready: bool,
    #[field(4)]
    pub etc_files_ready: bool,
}

/// Where a piece of configuration comes from; later layers win over earlier ones.
#[text_enum]
pub enum ConfigLayer {
    #[text(0)]
    Default,
    #[text(1)]
    Cmdline,
    #[text(2)]
    Platform,
    #[text(3)]
    Operator,
    #[text(4)]
    Configuration,
}
