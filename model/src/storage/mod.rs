//! Disk, volume and mount resources.

pub mod cel;
mod disk;
mod encryption;
mod expression;
mod lvm;
mod md;
mod mount;
mod schedule;
mod swap;
mod volume;

pub use disk::*;
pub use encryption::*;
pub use expression::*;
pub use lvm::*;
pub use md::*;
pub use mount::*;
pub use schedule::*;
pub use swap::*;
pub use volume::*;

use resource::Entry;

/// Every kind of this room.
#[must_use]
pub fn kinds() -> Vec<Entry> {
    vec![
        Entry::of::<BlockDevice>(),
        Entry::of::<Disk>(),
        Entry::of::<SystemDisk>(),
        Entry::of::<BlockSymlink>(),
        Entry::of::<DiscoveredVolume>(),
        Entry::of::<DiscoveryRefreshRequest>(),
        Entry::of::<DiscoveryRefreshStatus>(),
        Entry::of::<UserDiskConfigStatus>(),
        Entry::of::<VolumeConfig>(),
        Entry::of::<VolumeStatus>(),
        Entry::of::<VolumeLifecycle>(),
        Entry::of::<EncryptionSalt>(),
        Entry::of::<VolumeMountRequest>(),
        Entry::of::<VolumeMountStatus>(),
        Entry::of::<MountRequest>(),
        Entry::of::<MountStatus>(),
        Entry::of::<SwapStatus>(),
        Entry::of::<ZswapStatus>(),
        Entry::of::<VolumeTrimSchedule>(),
        Entry::of::<FsScrubSchedule>(),
        Entry::of::<FsScrubStatus>(),
        Entry::of::<LvmRefreshRequest>(),
        Entry::of::<LvmPhysicalVolumeSpec>(),
        Entry::of::<LvmPhysicalVolumeStatus>(),
        Entry::of::<LvmVolumeGroupSpec>(),
        Entry::of::<LvmVolumeGroupStatus>(),
        Entry::of::<LvmLogicalVolumeSpec>(),
        Entry::of::<LvmLogicalVolumeStatus>(),
        Entry::of::<LvmValidationError>(),
        Entry::of::<MdArraySpec>(),
        Entry::of::<MdArrayStatus>(),
        Entry::of::<MdRefreshRequest>(),
    ]
}
