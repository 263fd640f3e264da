//! The clock.

use resource::{Duration, resource};

/// Whether the clock is right.
#[resource(
    type = "TimeStatuses.v1alpha1.talos.dev",
    namespace = "runtime",
    columns("Synced" = "{.synced}"),
    ids("node")
)]
pub struct TimeStatus {
    #[field(1)]
    pub synced: bool,
    #[field(2)]
    pub epoch: i64,
    #[field(3)]
    pub sync_disabled: bool,
}

/// How the kernel adjusts the clock.
#[resource(
    type = "AdjtimeStatuses.v1alpha1.talos.dev",
    namespace = "runtime",
    columns(
        "Offset" = "{.offset}",
        "EstError" = "{.estError}",
        "MaxError" = "{.maxError}",
        "Status" = "{.status}",
        "Sync" = "{.syncStatus}"
    ),
    ids("node")
)]
pub struct AdjtimeStatus {
    #[field(1)]
    pub offset: Duration,
    #[field(2)]
    pub frequency_adjustment_ratio: f64,
    #[field(3)]
    pub max_error: Duration,
    #[field(4)]
    pub est_error: Duration,
    #[field(5)]
    pub status: String,
    #[field(6)]
    pub constant: i64,
    #[field(7)]
    pub sync_status: bool,
    #[field(8)]
    pub state: String,
}

/// Whether time servers contradict themselves.
#[resource(
    type = "NTPStatuses.v1alpha1.talos.dev",
    namespace = "runtime",
    columns("Spike Detected" = "{.spikeDetected}", "Consecutive Spikes" = "{.consecutiveSpikes}"),
    ids("node")
)]
pub struct NtpStatus {
    #[field(1)]
    pub spike_detected: bool,
    #[field(2)]
    pub consecutive_spikes: i64,
}
