//! Who asks for a volume to be mounted, and where it is.

use resource::resource;

use super::{EncryptionProviderType, FilesystemType};

/// Somebody asks for a volume to be mounted.
#[resource(
    type = "VolumeMountRequests.block.talos.dev",
    namespace = "runtime",
    columns("Volume ID" = "{.volumeID}", "Requester" = "{.requester}")
)]
pub struct VolumeMountRequest {
    #[field(1, yaml = "volumeID")]
    pub volume_id: String,
    #[field(2)]
    pub requester: String,
    #[field(3)]
    pub read_only: bool,
    #[field(4)]
    pub detached: bool,
    #[field(5)]
    pub disable_access_time: bool,
    #[field(6)]
    pub secure: bool,
    #[field(7)]
    pub no_exec: bool,
}

/// A volume is mounted for somebody.
#[resource(
    type = "VolumeMountStatuses.block.talos.dev",
    namespace = "runtime",
    columns("Volume ID" = "{.volumeID}", "Requester" = "{.requester}", "Target" = "{.target}")
)]
pub struct VolumeMountStatus {
    #[field(1, yaml = "volumeID")]
    pub volume_id: String,
    #[field(2)]
    pub requester: String,
    #[field(3)]
    pub target: String,
    #[field(4)]
    pub read_only: bool,
    #[field(5)]
    pub detached: bool,
    #[field(6)]
    pub disable_access_time: bool,
    #[field(7)]
    pub secure: bool,
    #[field(8)]
    pub no_exec: bool,
}

/// All requests for one volume, as one.
#[resource(
    type = "MountRequests.block.talos.dev",
    namespace = "runtime",
    columns("Volume" = "{.volumeID}", "Parent" = "{.parentID}", "Requesters" = "{.requesters}")
)]
pub struct MountRequest {
    #[field(1, yaml = "volumeID")]
    pub volume_id: String,
    #[field(2, yaml = "parentID")]
    pub parent_id: String,
    #[field(5)]
    pub read_only: bool,
    #[field(6)]
    pub detached: bool,
    #[field(7, omit_empty)]
    pub disable_access_time: bool,
    #[field(8, omit_empty)]
    pub secure: bool,
    #[field(9, omit_empty)]
    pub no_exec: bool,
    #[field(3)]
    pub requesters: Vec<String>,
    #[field(4, yaml = "requesterIDs")]
    pub requester_ids: Vec<String>,
}

/// A mounted volume.
#[resource(
    type = "MountStatuses.block.talos.dev",
    namespace = "runtime",
    columns(
        "Source" = "{.source}",
        "Target" = "{.target}",
        "Filesystem" = "{.filesystem}",
        "Volume" = "{.spec.volumeID}"
    )
)]
pub struct MountStatus {
    #[field(1)]
    pub spec: MountRequest,
    #[field(3)]
    pub source: String,
    #[field(2)]
    pub target: String,
    #[field(4)]
    pub filesystem: FilesystemType,
    #[field(7, omit_empty)]
    pub encryption_provider: EncryptionProviderType,
    #[field(5)]
    pub read_only: bool,
    #[field(6)]
    pub project_quota_support: bool,
    #[field(8)]
    pub detached: bool,
}
