//! Software RAID.

use resource::{resource, text_enum};

use super::Expression;

/// An array that shall be there.
#[resource(
    type = "MDArraySpecs.storage.talos.dev",
    namespace = "storage",
    columns("Level" = "{.level}")
)]
pub struct MdArraySpec {
    #[field(1)]
    pub level: MdLevel,
    #[field(2)]
    pub volume_selector: Expression,
    #[field(3)]
    pub metadata: MdMetadata,
}

/// An array.
#[resource(
    type = "MDArrayStatuses.storage.talos.dev",
    namespace = "storage",
    columns("Level" = "{.level}", "Status" = "{.status}", "Sync" = "{.syncAction}", "Device" = "{.device}")
)]
pub struct MdArrayStatus {
    #[field(1)]
    pub level: MdLevel,
    #[field(2)]
    pub device: String,
    #[field(3)]
    pub members: Vec<String>,
    #[field(4, omit_empty)]
    pub error: String,
    #[field(5)]
    pub status: MdArrayPhase,
    #[field(6)]
    pub raid_devices: i64,
    #[field(7, omit_empty)]
    pub uuid: String,
    #[field(8, omit_empty)]
    pub name: String,
    #[field(9, omit_empty)]
    pub metadata: String,
    #[field(10, omit_empty)]
    pub array_state: String,
    #[field(11, omit_empty)]
    pub sync_action: String,
}

/// A request to look at the arrays again, by counting up.
#[resource(
    type = "MDRefreshRequests.storage.talos.dev",
    namespace = "storage",
    columns("Request" = "{.request}")
)]
pub struct MdRefreshRequest {
    #[field(1)]
    pub request: i64,
}

/// The level of an array.
#[text_enum(name = "MDLevel")]
pub enum MdLevel {
    #[text(0)]
    Raid1,
}

/// The format of an array's superblock.
#[text_enum(name = "MDMetadata")]
pub enum MdMetadata {
    #[text(0, "1.0")]
    V1_0,
    #[text(1, "1.2")]
    V1_2,
}

/// How far an array is.
#[text_enum(name = "MDArrayPhase")]
pub enum MdArrayPhase {
    #[text(0)]
    Unknown,
    #[text(1)]
    Waiting,
    #[text(2)]
    Rebuilding,
    #[text(3)]
    Ready,
    #[text(4)]
    Error,
}
