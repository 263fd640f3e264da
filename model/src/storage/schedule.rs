//! Upkeep of filesystems: trimming and scrubbing.

use resource::{Duration, Timestamp, resource};

use super::FilesystemType;

/// When a filesystem is trimmed next.
#[resource(
    type = "VolumeTrimSchedules.block.talos.dev",
    namespace = "runtime",
    columns("Filesystem" = "{.filesystem}", "Interval" = "{.interval}", "Next Trim" = "{.nextTrim}")
)]
pub struct VolumeTrimSchedule {
    #[field(1)]
    pub filesystem: FilesystemType,
    #[field(2)]
    pub interval: Duration,
    #[field(3)]
    pub next_trim: Timestamp,
}

/// When a filesystem is scrubbed next.
#[resource(
    type = "FSScrubSchedules.block.talos.dev",
    namespace = "runtime",
    columns("Filesystem" = "{.filesystem}", "Interval" = "{.interval}", "Next Scrub" = "{.nextScrub}")
)]
pub struct FsScrubSchedule {
    #[field(1)]
    pub filesystem: FilesystemType,
    #[field(2)]
    pub interval: Duration,
    #[field(3)]
    pub next_scrub: Timestamp,
}

/// How the last scrub went.
#[resource(
    type = "FSScrubStatuses.block.talos.dev",
    namespace = "runtime",
    columns(
        "Mountpoint" = "{.mountpoint}",
        "Interval" = "{.interval}",
        "Latest start time" = "{.time}",
        "Latest run duration" = "{.duration}",
        "Latest status" = "{.status}"
    )
)]
pub struct FsScrubStatus {
    #[field(1)]
    pub mountpoint: String,
    #[field(2)]
    pub interval: Duration,
    #[field(3)]
    pub time: Timestamp,
    #[field(4)]
    pub duration: Duration,
    #[field(5)]
    pub status: String,
}
