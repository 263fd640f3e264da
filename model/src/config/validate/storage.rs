//! Rules of the documents about disks and volumes.

use std::collections::BTreeSet;

use super::{Report, plain_name};
use crate::config::docs::storage::{
    Encryption, FilesystemType, LogicalVolumeType, LvmLogicalVolumeConfig, Provisioning, ScrubSettings, UserVolumeConfig, VolumeConfig,
    VolumeType,
};
use crate::config::documents::Document;

/// Volumes of the system.
const SYSTEM_VOLUMES: [&str; 7] = ["STATE", "EPHEMERAL", "IMAGECACHE", "ETCD", "CRI", "KUBELET", "LOG"];

pub(super) fn check(document: &Document, report: &mut Report<'_>) {
    match document {
        Document::Volume(c) => volume(c, report),
        Document::UserVolume(c) => user_volume(c, report),
        Document::RawVolume(c) => {
            name(&c.name, 34, "", report);
            partition(c.provisioning.as_ref(), report);
            encryption(c.encryption.as_ref(), report);
        }
        Document::SwapVolume(c) => {
            name(&c.name, 34, "", report);
            partition(c.provisioning.as_ref(), report);
            encryption(c.encryption.as_ref(), report);
        }
        Document::ExistingVolume(c) => {
            name(&c.name, usize::MAX, "", report);
            scrub(c.scrub.as_ref(), report);
        }
        Document::ExternalVolume(c) => name(&c.name, 34, "", report),
        Document::Zswap(c) => {
            let percent = c.max_pool_percent.unwrap_or(20);
            report.require(percent <= 100, "maxPoolPercent", format!("{percent}"), "0 to 100");
        }
        Document::FilesystemScrub(c) => interval("interval", c.interval, report),
        Document::LvmVolumeGroup(c) => name(&c.name, 63, "_", report),
        Document::LvmLogicalVolume(c) => logical_volume(c, report),
        Document::RaidArray(c) => name(&c.name, 32, "_", report),
        _ => {}
    }
}

fn name(name: &str, longest: usize, extra: &str, report: &mut Report<'_>) {
    let letters = if extra.is_empty() { "letters, digits and `-`" } else { "letters, digits, `-` and `_`" };
    let expected = if longest == usize::MAX { letters.to_owned() } else { format!("1 to {longest} {letters}") };
    report.require(plain_name(name, longest, extra), "name", format!("`{name}`"), expected);
}

fn interval(path: &str, value: Option<crate::config::types::Duration>, report: &mut Report<'_>) {
    let fine = value.is_none_or(|d| d.0.is_zero() || d.0.as_secs() >= 10);
    report.require(fine, path, value.map(|d| d.to_string()).unwrap_or_default(), "0 or at least 10s");
}

fn scrub(settings: Option<&ScrubSettings>, report: &mut Report<'_>) {
    interval("scrub.interval", settings.and_then(|s| s.interval), report);
}

fn sizes(provisioning: &Provisioning, report: &mut Report<'_>) {
    let min = provisioning.min_size.as_ref().map(|s| s.bytes());
    report.require(min.is_none_or(|m| m >= 0), "provisioning.minSize", "a negative size", "a size");
    let max = provisioning.max_size.as_ref().and_then(|s| s.bytes()).filter(|m| *m >= 0);
    if let (Some(min), Some(max)) = (min, max) {
        report.require(min <= max, "provisioning.maxSize", format!("{max} bytes, less than minSize ({min})"), "at least minSize");
    }
}

/// A partition needs a disk and a size.
fn partition(provisioning: Option<&Provisioning>, report: &mut Report<'_>) {
    let provisioning = provisioning.cloned().unwrap_or_default();
    let selected = provisioning.disk_selector.as_ref().is_some_and(|s| s.matches.is_some());
    report.require(selected, "provisioning.diskSelector", "nothing", "`diskSelector: {match: …}`: which disk");
    let sized = provisioning.min_size.is_some() || provisioning.max_size.is_some();
    report.require(sized, "provisioning", "neither minSize nor maxSize", "one of them at least");
    sizes(&provisioning, report);
}

fn encryption(settings: Option<&Encryption>, report: &mut Report<'_>) {
    let Some(settings) = settings else { return };
    report.require(!settings.keys.is_empty(), "encryption.keys", "no keys", "at least one");
    let mut slots = BTreeSet::new();
    for (i, key) in settings.keys.iter().enumerate() {
        let path = format!("encryption.keys[{i}]");
        let slot = key.slot.unwrap_or(0);
        report.require(slots.insert(slot), format!("{path}.slot"), format!("slot {slot} a second time"), "a slot for each key");
        let kinds = [key.static_.is_some(), key.node_id.is_some(), key.kms.is_some(), key.tpm.is_some()].iter().filter(|k| **k).count();
        report.require(kinds == 1, &path, format!("{kinds} kinds of key"), "exactly one of nodeID, static, kms, tpm");
        let pcrs = key.tpm.iter().filter_map(|t| t.options.as_ref()).flat_map(|o| &o.pcrs);
        for pcr in pcrs {
            report.require(*pcr <= 23, format!("{path}.tpm.options.pcrs"), format!("{pcr}"), "0 to 23");
        }
    }
}

fn volume(c: &VolumeConfig, report: &mut Report<'_>) {
    if !SYSTEM_VOLUMES.contains(&c.name.as_str()) {
        let near = crate::config::nearest(&c.name, SYSTEM_VOLUMES).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
        report.error(
            "name",
            format!("`{}`", c.name),
            format!("one of {} (a UserVolumeConfig for others){near}", SYSTEM_VOLUMES.join(", ")),
        );
        return;
    }
    let name = c.name.as_str();
    if name == "STATE" {
        report.require(c.provisioning.is_none(), "provisioning", "provisioning of STATE", "nothing: its place is fixed");
        let locked = c.encryption.iter().flat_map(|e| &e.keys).any(|k| k.lock_to_state == Some(true));
        report.require(!locked, "encryption.keys", "a key locked to STATE, for STATE itself", "keys without lockToState");
    }
    let mountable = !matches!(name, "STATE" | "IMAGECACHE");
    report.require(mountable || c.mount.is_none(), "mount", format!("mount options of {name}"), "nothing: it is mounted in one way only");
    report.require(
        name != "IMAGECACHE" || c.filesystem.is_none(),
        "filesystem",
        "a file system for IMAGECACHE",
        "nothing: it brings its own",
    );
    let promotable = matches!(name, "ETCD" | "CRI" | "KUBELET" | "LOG");
    report.require(
        !promotable || c.provisioning.is_some() || c.mount.is_none(),
        "mount",
        format!("mount options of {name} without a partition"),
        "`provisioning` beside it: else it is a directory",
    );
    if let Some(provisioning) = &c.provisioning {
        sizes(provisioning, report);
    }
    encryption(c.encryption.as_ref(), report);
    scrub(c.scrub.as_ref(), report);
}

fn user_volume(c: &UserVolumeConfig, report: &mut Report<'_>) {
    name(&c.name, 34, "", report);
    match c.volume_type.unwrap_or(VolumeType::Partition) {
        VolumeType::Partition => partition(c.provisioning.as_ref(), report),
        VolumeType::Disk => {
            let provisioning = c.provisioning.clone().unwrap_or_default();
            let selected = provisioning.disk_selector.as_ref().is_some_and(|s| s.matches.is_some());
            report.require(selected, "provisioning.diskSelector", "nothing", "`diskSelector: {match: …}`: which disk");
            let sized = provisioning.min_size.is_some() || provisioning.max_size.is_some() || provisioning.grow.is_some();
            report.require(!sized, "provisioning", "sizes of a whole disk", "the selector only");
        }
        VolumeType::Directory => {
            let extra = [
                ("provisioning", c.provisioning.is_some()),
                ("encryption", c.encryption.is_some()),
                ("filesystem", c.filesystem.is_some()),
                ("mount.disableAccessTime", c.mount.as_ref().is_some_and(|m| m.disable_access_time.is_some())),
            ];
            for (path, set) in extra {
                report.require(!set, path, format!("`{path}` of a directory"), "nothing: it is part of EPHEMERAL");
            }
        }
    }
    if let Some(filesystem) = &c.filesystem {
        let xfs = matches!(filesystem.type_, None | Some(FilesystemType::Xfs));
        report.require(
            xfs || filesystem.project_quota_support != Some(true),
            "filesystem.projectQuotaSupport",
            "`true` for another file system",
            "xfs",
        );
        report.require(xfs || filesystem.xfs.is_none(), "filesystem.xfs", "settings of XFS for another file system", "`type: xfs`");
    }
    encryption(c.encryption.as_ref(), report);
    scrub(c.scrub.as_ref(), report);
}

fn logical_volume(c: &LvmLogicalVolumeConfig, report: &mut Report<'_>) {
    name(&c.name, 63, "_", report);
    let kind = c.type_.unwrap_or(LogicalVolumeType::Linear);
    let mirrored = matches!(kind, LogicalVolumeType::Raid1 | LogicalVolumeType::Raid10);
    let striped = matches!(kind, LogicalVolumeType::Raid0 | LogicalVolumeType::Raid10);
    report.require(mirrored || c.mirrors.is_none(), "mirrors", format!("copies of a {kind} volume"), "raid1 or raid10");
    report.require(c.mirrors != Some(0), "mirrors", "0", "at least 1");
    report.require(striped || c.stripes.is_none(), "stripes", format!("stripes of a {kind} volume"), "raid0 or raid10");
    report.require(c.stripes.is_none_or(|n| n >= 2), "stripes", format!("{}", c.stripes.unwrap_or(0)), "at least 2");
    let Some(provisioning) = &c.provisioning else { return };
    let max = provisioning.max_size.as_ref().and_then(|s| s.bytes());
    report.require(max.is_none_or(|m| m >= 0), "provisioning.maxSize", "a negative size", "a size");
    if let (Some(min), Some(max)) = (provisioning.min_size.as_ref().map(|s| s.bytes()), max) {
        report.require(min <= max, "provisioning.maxSize", format!("{max} bytes, less than minSize ({min})"), "at least minSize");
    }
}
