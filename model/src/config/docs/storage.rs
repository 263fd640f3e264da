//! Documents about disks and volumes.

use super::host::DiskSelector;
use crate::config::schema::{choice, section};
use crate::config::types::{Cel, Duration, Secret, Size, SizeOrPercent, Url};

section! {
    /// Where a volume comes from.
    pub struct Provisioning {
        "diskSelector" disk_selector: Option<DiskSelector> = "Which disk.";
        "grow" grow: Option<bool> = "Grow into free space.";
        "minSize" min_size: Option<Size> = "Smallest size.";
        "maxSize" max_size: Option<SizeOrPercent> = "Largest size; negative leaves that much free.";
    }

    /// Encryption of a volume.
    pub struct Encryption {
        "provider" provider: Option<EncryptionProvider> [default("luks2")] = "How.";
        "keys" keys: Vec<EncryptionKey> [required()] = "Keys, each in its slot.";
        "cipher" cipher: Option<Cipher> = "Cipher.";
        "keySize" key_size: Option<u32> = "Bits of the key.";
        "blockSize" block_size: Option<u64> = "Bytes of a sector.";
        "options" options: Vec<EncryptionOption> = "Performance options.";
        "allowDiscards" allow_discards: Option<bool> [default("false")] = "Pass discards on.";
    }

    /// A key of an encrypted volume; exactly one kind.
    pub struct EncryptionKey {
        "slot" slot: Option<u32> [required()] = "Slot.";
        "static" static_: Option<StaticKey> = "A passphrase.";
        "nodeID" node_id: Option<NodeIdKey> = "Made from the machine's identity.";
        "kms" kms: Option<KmsKey> = "Held by a service.";
        "tpm" tpm: Option<TpmKey> = "Sealed by the TPM.";
        "lockToState" lock_to_state: Option<bool> [default("false")] = "Bound to the STATE volume.";
    }

    /// A passphrase.
    pub struct StaticKey {
        "passphrase" passphrase: Secret [required()] = "The passphrase.";
    }

    /// A key from the machine's identity.
    pub struct NodeIdKey {}

    /// A key held by a service.
    pub struct KmsKey {
        "endpoint" endpoint: Url [required()] = "The service.";
    }

    /// A key sealed by the TPM.
    pub struct TpmKey {
        "options" options: Option<TpmOptions> = "What it is bound to.";
        "checkSecurebootStatusOnEnroll" check_secureboot_status_on_enroll: Option<bool> [default("false")] = "Refuse to seal without Secure Boot.";
    }

    /// What a sealed key is bound to.
    pub struct TpmOptions {
        "pcrs" pcrs: Vec<u8> [default("7")] = "Registers, 0 to 23.";
    }

    /// Periodic trimming.
    pub struct TrimSettings {
        "enabled" enabled: Option<bool> = "Whether it is on.";
        "interval" interval: Option<Duration> = "How often.";
    }

    /// Periodic scrubbing.
    pub struct ScrubSettings {
        "enabled" enabled: Option<bool> = "Whether it is on.";
        "interval" interval: Option<Duration> = "How often; 0 or at least 10s.";
    }

    /// Tunes a volume of the system.
    pub struct VolumeConfig {
        "name" name: String [required()] = "STATE, EPHEMERAL, IMAGECACHE, ETCD, CRI, KUBELET or LOG.";
        "provisioning" provisioning: Option<Provisioning> = "Where it comes from.";
        "filesystem" filesystem: Option<VolumeFilesystem> = "Its file system.";
        "encryption" encryption: Option<Encryption> = "Its encryption.";
        "mount" mount: Option<VolumeMount> = "How it is mounted.";
        "trim" trim: Option<TrimSettings> = "Trimming.";
        "scrub" scrub: Option<ScrubSettings> = "Scrubbing.";
    }

    /// File system of a system volume.
    pub struct VolumeFilesystem {
        "xfs" xfs: Option<XfsSettings> = "XFS.";
    }

    /// Settings of XFS.
    pub struct XfsSettings {
        "minAllocationGroupSize" min_allocation_group_size: Option<Size> = "Smallest allocation group.";
    }

    /// How a system volume is mounted.
    pub struct VolumeMount {
        "secure" secure: Option<bool> = "Without programs, devices and set-user-id.";
        "disableAccessTime" disable_access_time: Option<bool> = "Without access times.";
    }

    /// An extra volume, mounted at /var/mnt/NAME.
    pub struct UserVolumeConfig {
        "name" name: String [required()] = "Name: 1 to 34 letters, digits and `-`.";
        "volumeType" volume_type: Option<VolumeType> [default("partition")] = "What it is made of.";
        "provisioning" provisioning: Option<Provisioning> = "Where it comes from.";
        "filesystem" filesystem: Option<UserVolumeFilesystem> = "Its file system.";
        "encryption" encryption: Option<Encryption> = "Its encryption.";
        "mount" mount: Option<UserVolumeMount> = "How it is mounted.";
        "trim" trim: Option<TrimSettings> = "Trimming.";
        "scrub" scrub: Option<ScrubSettings> = "Scrubbing.";
    }

    /// File system of an extra volume.
    pub struct UserVolumeFilesystem {
        "type" type_: Option<FilesystemType> [default("xfs")] = "Kind.";
        "projectQuotaSupport" project_quota_support: Option<bool> [default("false")] = "Project quotas (XFS).";
        "xfs" xfs: Option<XfsSettings> = "XFS.";
    }

    /// How an extra volume is mounted.
    pub struct UserVolumeMount {
        "disableAccessTime" disable_access_time: Option<bool> = "Without access times.";
        "secure" secure: Option<bool> = "Without programs, devices and set-user-id.";
    }

    /// A partition without a file system.
    pub struct RawVolumeConfig {
        "name" name: String [required()] = "Name: 1 to 34 letters, digits and `-`.";
        "provisioning" provisioning: Option<Provisioning> [required()] = "Where it comes from.";
        "encryption" encryption: Option<Encryption> = "Its encryption.";
    }

    /// A swap partition.
    pub struct SwapVolumeConfig {
        "name" name: String [required()] = "Name: 1 to 34 letters, digits and `-`.";
        "provisioning" provisioning: Option<Provisioning> [required()] = "Where it comes from.";
        "encryption" encryption: Option<Encryption> = "Its encryption.";
    }

    /// A partition that exists already; it is never formatted.
    pub struct ExistingVolumeConfig {
        "name" name: String [required()] = "Name: letters, digits and `-`.";
        "discovery" discovery: Option<VolumeDiscovery> [required()] = "Which partition.";
        "mount" mount: Option<ExistingVolumeMount> = "How it is mounted.";
        "trim" trim: Option<TrimSettings> = "Trimming.";
        "scrub" scrub: Option<ScrubSettings> = "Scrubbing.";
    }

    /// Which partition.
    pub struct VolumeDiscovery {
        "volumeSelector" volume_selector: Option<VolumeSelector> [required()] = "Which partition.";
    }

    /// Chooses volumes by an expression.
    pub struct VolumeSelector {
        "match" matches: Option<Cel> [required()] = "Condition on `volume` and `disk`.";
    }

    /// How an existing partition is mounted.
    pub struct ExistingVolumeMount {
        "readOnly" read_only: Option<bool> = "Read-only.";
        "disableAccessTime" disable_access_time: Option<bool> = "Without access times.";
        "secure" secure: Option<bool> = "Without programs, devices and set-user-id.";
    }

    /// A file system from outside the machine.
    pub struct ExternalVolumeConfig {
        "name" name: String [required()] = "Name: 1 to 34 letters, digits and `-`.";
        "filesystemType" filesystem_type: Option<ExternalFilesystem> [required()] = "Kind.";
        "mount" mount: Option<ExternalVolumeMount> [required()] = "How it is mounted.";
    }

    /// How a file system from outside is mounted.
    pub struct ExternalVolumeMount {
        "readOnly" read_only: Option<bool> = "Read-only.";
        "disableAccessTime" disable_access_time: Option<bool> = "Without access times.";
        "secure" secure: Option<bool> = "Without programs, devices and set-user-id.";
        "virtiofs" virtiofs: Option<VirtiofsMount> [required()] = "virtiofs.";
    }

    /// A virtiofs share.
    pub struct VirtiofsMount {
        "tag" tag: String [required()] = "Tag of the share.";
    }

    /// Compressed swap in memory.
    pub struct ZswapConfig {
        "maxPoolPercent" max_pool_percent: Option<u8> [default("20")] = "Largest part of memory, in percent.";
        "shrinkerEnabled" shrinker_enabled: Option<bool> [default("false")] = "Move cold pages to disk.";
    }

    /// Periodic trimming of all volumes.
    pub struct FilesystemTrimConfig {
        "interval" interval: Option<Duration> [default("168h")] = "How often.";
    }

    /// Periodic scrubbing of all volumes.
    pub struct FilesystemScrubConfig {
        "interval" interval: Option<Duration> [default("168h")] = "How often; 0 or at least 10s.";
    }

    /// An LVM volume group.
    pub struct LvmVolumeGroupConfig {
        "name" name: String [required()] = "Name.";
        "provisioning" provisioning: Option<VolumeGroupProvisioning> [required()] = "Which volumes.";
    }

    /// Volumes of a group.
    pub struct VolumeGroupProvisioning {
        "volumeSelector" volume_selector: Option<VolumeSelector> [required()] = "Which volumes.";
    }

    /// An LVM logical volume.
    pub struct LvmLogicalVolumeConfig {
        "name" name: String [required()] = "Name.";
        "type" type_: Option<LogicalVolumeType> [default("linear")] = "Layout.";
        "mirrors" mirrors: Option<u32> = "Copies (raid1, raid10).";
        "stripes" stripes: Option<u32> = "Stripes (raid0, raid10).";
        "provisioning" provisioning: Option<LogicalVolumeProvisioning> [required()] = "Where and how large.";
    }

    /// Where a logical volume is and how large.
    pub struct LogicalVolumeProvisioning {
        "volumeGroup" volume_group: String [required()] = "Its group.";
        "minSize" min_size: Option<Size> = "Smallest size.";
        "maxSize" max_size: Option<SizeOrPercent> [required()] = "Largest size.";
    }

    /// An md array.
    pub struct RaidArrayConfig {
        "name" name: String [required()] = "Name.";
        "level" level: Option<RaidLevel> = "Level.";
        "metadata" metadata: Option<RaidMetadata> = "Format.";
        "provisioning" provisioning: Option<VolumeGroupProvisioning> [required()] = "Which volumes.";
    }
}

choice! {
    /// How a volume is encrypted.
    pub enum EncryptionProvider { "luks2" Luks2 = "LUKS2."; }
    /// Cipher of a volume.
    pub enum Cipher {
        "aes-xts-plain64" AesXts = "AES."; "xchacha12,aes-adiantum-plain64" Adiantum12 = "Adiantum, 12 rounds."; "xchacha20,aes-adiantum-plain64" Adiantum20 = "Adiantum, 20 rounds.";
    }
    /// Performance options of encryption.
    pub enum EncryptionOption { "no_read_workqueue" NoReadWorkqueue = "Read at once."; "no_write_workqueue" NoWriteWorkqueue = "Write at once."; "same_cpu_crypt" SameCpu = "On the same core."; }
    /// What a volume is made of.
    pub enum VolumeType { "directory" Directory = "A directory."; "disk" Disk = "A whole disk."; "partition" Partition = "A partition."; }
    /// File systems of extra volumes.
    pub enum FilesystemType { "ext4" Ext4 = "ext4."; "xfs" Xfs = "XFS."; "btrfs" Btrfs = "btrfs."; }
    /// File systems from outside.
    pub enum ExternalFilesystem { "virtiofs" Virtiofs = "virtiofs."; }
    /// Layout of a logical volume.
    pub enum LogicalVolumeType { "linear" Linear = "One after the other."; "raid0" Raid0 = "Striped."; "raid1" Raid1 = "Mirrored."; "raid10" Raid10 = "Both."; }
    /// Level of an array.
    pub enum RaidLevel { "raid1" Raid1 = "Mirrored."; }
    /// Format of an array.
    pub enum RaidMetadata { "1.0" V10 = "At the end."; "1.2" V12 = "At the beginning."; }
}
