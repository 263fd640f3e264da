//! Volumes: how each is found, made, encrypted and mounted, and how far that is.

use resource::{Bytes, Duration, message, resource, text_enum};

use super::{EncryptionProviderType, EncryptionSpec, Expression, TpmEncryptionOptionsInfo};

/// A volume that shall be there.
#[resource(type = "VolumeConfigs.block.talos.dev", namespace = "runtime", sensitive)]
pub struct VolumeConfig {
    #[field(1, omit_empty)]
    pub parent_id: String,
    #[field(2)]
    pub type_: VolumeType,
    #[field(3)]
    pub provisioning: ProvisioningSpec,
    #[field(6, omit_empty)]
    pub encryption: EncryptionSpec,
    #[field(4)]
    pub locator: LocatorSpec,
    #[field(5, omit_empty)]
    pub mount: MountSpec,
    #[field(7, omit_empty)]
    pub symlink: SymlinkProvisioningSpec,
    #[field(8, omit_empty)]
    pub trim_enabled: bool,
    #[field(9, omit_empty)]
    pub trim_interval: Duration,
    #[field(10, omit_empty)]
    pub scrub_enabled: bool,
    #[field(11, omit_empty)]
    pub scrub_interval: Duration,
}

/// A volume, and how far it is.
#[resource(
    type = "VolumeStatuses.block.talos.dev",
    namespace = "runtime",
    columns("Type" = "{.type}", "Phase" = "{.phase}", "Location" = "{.location}", "Size" = "{.prettySize}")
)]
pub struct VolumeStatus {
    #[field(1)]
    pub phase: VolumePhase,
    #[field(6, omit_empty)]
    pub pre_fail_phase: VolumePhase,
    #[field(16)]
    pub type_: VolumeType,
    #[field(19, yaml = "parentID", omit_empty)]
    pub parent_id: String,
    #[field(2, omit_empty)]
    pub location: String,
    #[field(11, omit_empty)]
    pub mount_location: String,
    #[field(8, omit_empty)]
    pub partition_index: i64,
    #[field(7, omit_empty)]
    pub parent_location: String,
    #[field(4, omit_empty)]
    pub uuid: String,
    #[field(5, yaml = "partitionUUID", omit_empty)]
    pub partition_uuid: String,
    #[field(9, omit_empty)]
    pub size: u64,
    #[field(13, omit_empty)]
    pub pretty_size: String,
    #[field(10, omit_empty)]
    pub filesystem: FilesystemType,
    #[field(12, omit_empty)]
    pub encryption_provider: EncryptionProviderType,
    #[field(14, omit_empty)]
    pub encryption_failed_syncs: Vec<String>,
    #[field(17, omit_empty)]
    pub configured_encryption_keys: Vec<String>,
    #[field(20, omit_empty)]
    pub encryption_locked_to_state: bool,
    #[field(21, omit_empty)]
    pub encryption_slot: Option<i64>,
    #[field(22, omit_empty)]
    pub tpm_encryption_options: TpmEncryptionOptionsInfo,
    #[field(23, omit_empty)]
    pub encryption_allow_discards: bool,
    #[field(24, omit_empty)]
    pub trim_enabled: bool,
    #[field(25, omit_empty)]
    pub trim_interval: Duration,
    #[field(26, omit_empty)]
    pub scrub_enabled: bool,
    #[field(27, omit_empty)]
    pub scrub_interval: Duration,
    #[field(15, omit_empty)]
    pub mount_spec: MountSpec,
    #[field(18, omit_empty)]
    pub symlink: SymlinkProvisioningSpec,
    #[field(3, omit_empty)]
    pub error_message: String,
}

/// Exists while volumes may be used; torn down before the machine stops.
#[resource(type = "VolumeLifecycles.block.talos.dev", namespace = "runtime", ids("volumes"))]
pub struct VolumeLifecycle {}

/// How a volume is made when it is not found.
#[message]
pub struct ProvisioningSpec {
    #[field(3, omit_empty)]
    pub wave: i64,
    #[field(1, omit_empty)]
    pub disk_selector: DiskSelector,
    #[field(2, omit_empty)]
    pub partition_spec: PartitionSpec,
    #[field(4, omit_empty)]
    pub filesystem_spec: FilesystemSpec,
}

/// Which disk a volume goes on.
#[message]
pub struct DiskSelector {
    #[field(1, omit_empty)]
    pub match_: Expression,
    #[field(2, omit_empty)]
    pub external: String,
}

/// The partition to be made.
#[message]
pub struct PartitionSpec {
    #[field(1)]
    pub min_size: u64,
    #[field(2, omit_empty)]
    pub max_size: u64,
    #[field(6)]
    pub relative_max_size: u64,
    #[field(7)]
    pub negative_max_size: bool,
    #[field(3)]
    pub grow: bool,
    #[field(4, omit_empty)]
    pub label: String,
    #[field(5, yaml = "typeUUID", omit_empty)]
    pub type_uuid: String,
}

/// The filesystem to be made.
#[message]
pub struct FilesystemSpec {
    #[field(1)]
    pub type_: FilesystemType,
    #[field(2, omit_empty)]
    pub label: String,
    #[field(3, omit_empty)]
    pub min_allocation_group_size: u64,
}

/// How an existing volume is found.
#[message]
pub struct LocatorSpec {
    #[field(1, omit_empty)]
    pub match_: Expression,
    #[field(2, omit_empty)]
    pub disk_match: Expression,
}

/// Where and how a volume is mounted.
#[message]
pub struct MountSpec {
    #[field(1)]
    pub target_path: String,
    #[field(2)]
    pub selinux_label: String,
    #[field(3)]
    pub project_quota_support: bool,
    #[field(4, omit_empty)]
    pub parent_id: String,
    #[field(5, omit_empty)]
    pub file_mode: u32,
    #[field(6, omit_empty)]
    pub uid: i64,
    #[field(7, omit_empty)]
    pub gid: i64,
    #[field(8, omit_empty)]
    pub recursive_relabel: bool,
    #[field(9, omit_empty)]
    pub bind_target: Option<String>,
    #[field(10, omit_empty)]
    pub parameters: Vec<ParameterSpec>,
    #[field(11, omit_empty)]
    pub secure: bool,
    #[field(12, omit_empty)]
    pub no_exec: bool,
}

/// One option of a mount.
#[message]
pub struct ParameterSpec {
    #[field(1)]
    pub type_: FsParameterType,
    #[field(2)]
    pub name: String,
    #[field(3, omit_empty)]
    pub string: Option<String>,
    #[field(5, omit_empty)]
    pub binary: Bytes,
}

/// A volume that is a symbolic link.
#[message]
pub struct SymlinkProvisioningSpec {
    #[field(1)]
    pub symlink_target_path: String,
    #[field(2)]
    pub force: bool,
}

/// What a volume is made of.
#[text_enum]
pub enum VolumeType {
    #[text(0)]
    Partition,
    #[text(1)]
    Disk,
    #[text(2)]
    Tmpfs,
    #[text(3)]
    Directory,
    #[text(4)]
    Symlink,
    #[text(5)]
    Overlay,
    #[text(6)]
    External,
}

/// How far a volume is.
#[text_enum]
pub enum VolumePhase {
    #[text(0)]
    Waiting,
    #[text(1)]
    Failed,
    #[text(2)]
    Missing,
    #[text(3)]
    Located,
    #[text(4)]
    Provisioned,
    #[text(5)]
    Prepared,
    #[text(6)]
    Ready,
    #[text(7)]
    Closed,
}

/// A filesystem. Swap really prints as `swapi`, as on the wire of the reference.
#[text_enum]
pub enum FilesystemType {
    #[text(0)]
    None,
    #[text(1)]
    Xfs,
    #[text(2)]
    Vfat,
    #[text(3)]
    Ext4,
    #[text(4)]
    Iso9660,
    #[text(5, "swapi")]
    Swap,
    #[text(6)]
    Virtiofs,
    #[text(7)]
    Btrfs,
}

/// The type of a mount option's value.
#[text_enum(name = "FSParameterType")]
pub enum FsParameterType {
    #[text(0)]
    String,
    #[text(1)]
    Boolean,
    #[text(2)]
    Binary,
}
