//! Disks and what is found on them.

use resource::resource;

/// A block device of the kernel.
#[resource(
    type = "BlockDevices.block.talos.dev",
    namespace = "runtime",
    columns("Type" = "{.type}", "PartitionName" = "{.partitionName}", "Generation" = "{.generation}")
)]
pub struct BlockDevice {
    #[field(1)]
    pub type_: String,
    #[field(2)]
    pub major: i64,
    #[field(3)]
    pub minor: i64,
    #[field(4, omit_empty)]
    pub partition_name: String,
    #[field(5, omit_empty)]
    pub partition_number: i64,
    #[field(7)]
    pub device_path: String,
    #[field(6)]
    pub generation: i64,
    #[field(8, omit_empty)]
    pub parent: String,
    #[field(9, omit_empty)]
    pub secondaries: Vec<String>,
}

/// A disk.
#[resource(
    type = "Disks.block.talos.dev",
    namespace = "runtime",
    columns(
        "Size" = "{.pretty_size}",
        "Read Only" = "{.readonly}",
        "Transport" = "{.transport}",
        "Rotational" = "{.rotational}",
        "WWID" = "{.wwid}",
        "Model" = "{.model}",
        "Serial" = "{.serial}"
    )
)]
pub struct Disk {
    #[field(14, yaml = "dev_path")]
    pub dev_path: String,
    #[field(1)]
    pub size: u64,
    #[field(15, yaml = "pretty_size")]
    pub pretty_size: String,
    #[field(2, yaml = "io_size")]
    pub io_size: u64,
    #[field(3, yaml = "sector_size")]
    pub sector_size: u64,
    #[field(4)]
    pub readonly: bool,
    #[field(13)]
    pub cdrom: bool,
    #[field(5, omit_empty)]
    pub model: String,
    #[field(19, yaml = "firmware_version", omit_empty)]
    pub firmware_version: String,
    #[field(6, omit_empty)]
    pub serial: String,
    #[field(7, omit_empty)]
    pub modalias: String,
    #[field(8, omit_empty)]
    pub wwid: String,
    #[field(17, omit_empty)]
    pub uuid: String,
    #[field(9, yaml = "bus_path", omit_empty)]
    pub bus_path: String,
    #[field(10, yaml = "sub_system", omit_empty)]
    pub sub_system: String,
    #[field(11, omit_empty)]
    pub transport: String,
    #[field(12, omit_empty)]
    pub rotational: bool,
    #[field(16, yaml = "secondary_disks", omit_empty)]
    pub secondary_disks: Vec<String>,
    #[field(18, omit_empty)]
    pub symlinks: Vec<String>,
}

/// The disk that the system is installed on.
#[resource(
    type = "SystemDisks.block.talos.dev",
    namespace = "runtime",
    columns("Disk" = "{.diskID}"),
    ids("system-disk")
)]
pub struct SystemDisk {
    #[field(1, yaml = "diskID")]
    pub disk_id: String,
    #[field(2)]
    pub dev_path: String,
}

/// The stable names of a block device below `/dev/disk`.
#[resource(type = "BlockSymlinks.block.talos.dev", namespace = "runtime", ids("system-disk"))]
pub struct BlockSymlink {
    #[field(1)]
    pub paths: Vec<String>,
}

/// What was found on a disk or partition.
#[resource(
    type = "DiscoveredVolumes.block.talos.dev",
    namespace = "runtime",
    columns(
        "Type" = "{.type}",
        "Size" = "{.pretty_size}",
        "Discovered" = "{.name}",
        "Label" = "{.label}",
        "PartitionLabel" = "{.partition_label}"
    )
)]
pub struct DiscoveredVolume {
    #[field(17, yaml = "dev_path")]
    pub dev_path: String,
    #[field(14)]
    pub type_: String,
    #[field(15, yaml = "device_path")]
    pub device_path: String,
    #[field(16, omit_empty)]
    pub parent: String,
    #[field(18, yaml = "parent_dev_path", omit_empty)]
    pub parent_dev_path: String,
    #[field(20)]
    pub offset: u64,
    #[field(1)]
    pub size: u64,
    #[field(19, yaml = "pretty_size")]
    pub pretty_size: String,
    #[field(2, yaml = "sector_size", omit_empty)]
    pub sector_size: u64,
    #[field(3, yaml = "io_size", omit_empty)]
    pub io_size: u64,
    #[field(4)]
    pub name: String,
    #[field(5, omit_empty)]
    pub uuid: String,
    #[field(6, omit_empty)]
    pub label: String,
    #[field(7, yaml = "block_size", omit_empty)]
    pub block_size: u32,
    #[field(8, yaml = "filesystem_block_size", omit_empty)]
    pub filesystem_block_size: u32,
    #[field(9, yaml = "probed_size", omit_empty)]
    pub probed_size: u64,
    #[field(10, yaml = "partition_uuid", omit_empty)]
    pub partition_uuid: String,
    #[field(11, yaml = "partition_type", omit_empty)]
    pub partition_type: String,
    #[field(12, yaml = "partition_label", omit_empty)]
    pub partition_label: String,
    #[field(13, yaml = "partition_index", omit_empty)]
    pub partition_index: u64,
}

/// A request to look at the disks again, by counting up.
#[resource(
    type = "DiscoveryRefreshRequests.block.talos.dev",
    namespace = "runtime",
    columns("Request" = "{.request}"),
    ids("refresh")
)]
pub struct DiscoveryRefreshRequest {
    #[field(1)]
    pub request: i64,
}

/// The last such request that was carried out.
#[resource(
    type = "DiscoveryRefreshStatuses.block.talos.dev",
    namespace = "runtime",
    columns("Request" = "{.request}")
)]
pub struct DiscoveryRefreshStatus {
    #[field(1)]
    pub request: i64,
}

/// Whether the disks of the legacy configuration are set up.
#[resource(
    type = "UserDiskConfigStatuses.block.talos.dev",
    namespace = "runtime",
    columns("Ready" = "{.ready}"),
    ids("user-disks")
)]
pub struct UserDiskConfigStatus {
    #[field(1)]
    pub ready: bool,
    #[field(2)]
    pub torn_down: bool,
}
