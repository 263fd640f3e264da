//! Logical volumes. The statuses hold what the tools report, as text.

use resource::{resource, text_enum};

/// A request to look at the logical volumes again, by counting up.
#[resource(
    type = "LVMRefreshRequests.storage.talos.dev",
    namespace = "storage",
    columns("Request" = "{.request}"),
    ids("refresh")
)]
pub struct LvmRefreshRequest {
    #[field(1)]
    pub request: i64,
}

/// A physical volume that shall be there.
#[resource(
    type = "LVMPhysicalVolumeSpecs.storage.talos.dev",
    namespace = "storage",
    columns("Device" = "{.device}", "VG" = "{.vgName}")
)]
pub struct LvmPhysicalVolumeSpec {
    #[field(1)]
    pub device: String,
    #[field(2)]
    pub vg_name: String,
}

/// A physical volume.
#[resource(
    type = "LVMPhysicalVolumeStatuses.storage.talos.dev",
    namespace = "storage",
    aliases("pvs"),
    columns(
        "Device" = "{.device}",
        "VG" = "{.vgName}",
        "Size" = "{.prettySize}",
        "Free" = "{.prettyFree}",
        "Allocatable" = "{.allocatable}"
    )
)]
pub struct LvmPhysicalVolumeStatus {
    #[field(1)]
    pub device: String,
    #[field(2)]
    pub vg_name: String,
    #[field(3)]
    pub uuid: String,
    #[field(4)]
    pub format: String,
    #[field(5)]
    pub allocatable: String,
    #[field(6)]
    pub exported: String,
    #[field(7)]
    pub missing: String,
    #[field(8)]
    pub in_use: String,
    #[field(9)]
    pub size: String,
    #[field(10)]
    pub device_size: String,
    #[field(11)]
    pub free: String,
    #[field(12)]
    pub used: String,
    #[field(13)]
    pub pe_count: String,
    #[field(14)]
    pub pe_alloc_count: String,
    #[field(15)]
    pub major: String,
    #[field(16)]
    pub minor: String,
    #[field(17)]
    pub tags: Vec<String>,
    #[field(18, omit_empty)]
    pub pretty_size: String,
    #[field(19, omit_empty)]
    pub pretty_device_size: String,
    #[field(20, omit_empty)]
    pub pretty_free: String,
}

/// A volume group that shall be there.
#[resource(
    type = "LVMVolumeGroupSpecs.storage.talos.dev",
    namespace = "storage",
    columns("Name" = "{.name}")
)]
pub struct LvmVolumeGroupSpec {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub physical_volumes: Vec<String>,
}

/// A volume group.
#[resource(
    type = "LVMVolumeGroupStatuses.storage.talos.dev",
    namespace = "storage",
    aliases("vgs"),
    columns(
        "Name" = "{.name}",
        "Permissions" = "{.permissions}",
        "Size" = "{.prettySize}",
        "Free" = "{.prettyFree}",
        "PVs" = "{.pvCount}",
        "LVs" = "{.lvCount}"
    )
)]
pub struct LvmVolumeGroupStatus {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub uuid: String,
    #[field(3)]
    pub format: String,
    #[field(4)]
    pub permissions: String,
    #[field(5)]
    pub extendable: String,
    #[field(6)]
    pub exported: String,
    #[field(7)]
    pub partial: String,
    #[field(8)]
    pub allocation_policy: String,
    #[field(9)]
    pub clustered: String,
    #[field(10)]
    pub shared: String,
    #[field(11)]
    pub size: String,
    #[field(12)]
    pub free: String,
    #[field(13)]
    pub extent_size: String,
    #[field(14)]
    pub extent_count: String,
    #[field(15)]
    pub free_extent_count: String,
    #[field(16, yaml = "maxLV")]
    pub max_lv: String,
    #[field(17, yaml = "maxPV")]
    pub max_pv: String,
    #[field(18)]
    pub lv_count: String,
    #[field(19)]
    pub pv_count: String,
    #[field(20)]
    pub snap_count: String,
    #[field(21, yaml = "missingPVCount")]
    pub missing_pv_count: String,
    #[field(22)]
    pub seq_no: String,
    #[field(23)]
    pub lock_type: String,
    #[field(24, yaml = "systemID")]
    pub system_id: String,
    #[field(25)]
    pub tags: Vec<String>,
    #[field(26, omit_empty)]
    pub pretty_size: String,
    #[field(27, omit_empty)]
    pub pretty_free: String,
}

/// A logical volume that shall be there.
#[resource(
    type = "LVMLogicalVolumeSpecs.storage.talos.dev",
    namespace = "storage",
    columns("VG" = "{.vgName}", "Name" = "{.name}", "Type" = "{.type}")
)]
pub struct LvmLogicalVolumeSpec {
    #[field(1)]
    pub vg_name: String,
    #[field(2)]
    pub name: String,
    #[field(3)]
    pub type_: LvmLogicalVolumeType,
    #[field(4)]
    pub size_bytes: u64,
    #[field(5, yaml = "sizePercentVG")]
    pub size_percent_vg: u32,
    #[field(6)]
    pub mirrors: u32,
    #[field(7)]
    pub stripes: u32,
}

/// A logical volume.
#[resource(
    type = "LVMLogicalVolumeStatuses.storage.talos.dev",
    namespace = "storage",
    aliases("lvs"),
    columns(
        "Path" = "{.path}",
        "VG" = "{.vgName}",
        "Layout" = "{.layout}",
        "Size" = "{.prettySize}",
        "Active" = "{.active}"
    )
)]
pub struct LvmLogicalVolumeStatus {
    #[field(1)]
    pub path: String,
    #[field(2)]
    pub dm_path: String,
    #[field(3)]
    pub name: String,
    #[field(4)]
    pub full_name: String,
    #[field(5)]
    pub vg_name: String,
    #[field(6)]
    pub uuid: String,
    #[field(7)]
    pub layout: String,
    #[field(8)]
    pub role: String,
    #[field(9)]
    pub permissions: String,
    #[field(10)]
    pub allocation_policy: String,
    #[field(11)]
    pub allocation_locked: String,
    #[field(12)]
    pub fixed_minor: String,
    #[field(13)]
    pub active: String,
    #[field(14)]
    pub active_locally: String,
    #[field(15)]
    pub active_remotely: String,
    #[field(16)]
    pub active_exclusively: String,
    #[field(17)]
    pub suspended: String,
    #[field(18)]
    pub device_open: String,
    #[field(19)]
    pub skip_activation: String,
    #[field(20)]
    pub merging: String,
    #[field(21)]
    pub converting: String,
    #[field(22)]
    pub size: String,
    #[field(23)]
    pub metadata_size: String,
    #[field(24)]
    pub read_ahead: String,
    #[field(25)]
    pub kernel_major: String,
    #[field(26)]
    pub kernel_minor: String,
    #[field(27)]
    pub origin: String,
    #[field(28)]
    pub origin_size: String,
    #[field(29, yaml = "poolLV")]
    pub pool_lv: String,
    #[field(30, yaml = "dataLV")]
    pub data_lv: String,
    #[field(31, yaml = "metadataLV")]
    pub metadata_lv: String,
    #[field(32, yaml = "movePV")]
    pub move_pv: String,
    #[field(33, yaml = "convertLV")]
    pub convert_lv: String,
    #[field(34)]
    pub when_full: String,
    #[field(35)]
    pub tags: Vec<String>,
    #[field(36, omit_empty)]
    pub pretty_size: String,
}

/// Why a volume group's configuration was refused.
#[resource(
    type = "LVMValidationErrors.storage.talos.dev",
    namespace = "storage",
    columns("VG" = "{.vgName}", "Message" = "{.message}")
)]
pub struct LvmValidationError {
    #[field(1)]
    pub vg_name: String,
    #[field(2)]
    pub message: String,
}

/// How a logical volume is laid out.
#[text_enum(name = "LVMLogicalVolumeType")]
pub enum LvmLogicalVolumeType {
    #[text(0)]
    Linear,
    #[text(1)]
    Raid1,
    #[text(2)]
    Raid0,
    #[text(3)]
    Raid10,
}
