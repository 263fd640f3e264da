//! Rules of the documents about the machine itself and its containers.

use std::collections::BTreeSet;

use super::Report;
use crate::config::docs::container::{ContainerConfig, ContainerMount, ImageVerificationRule, MountOption};
use crate::config::documents::Document;

/// Files below /etc that the machine writes itself.
const MANAGED_FILES: [&str; 7] = ["resolv.conf", "hosts", "machine-id", "extensions.yaml", "localtime", "os-release", "xattr.conf"];
/// Directories below /etc that the machine writes itself.
const MANAGED_DIRS: [&str; 12] =
    ["apparmor.d", "apparmor", "ca-certificates", "cni", "cri", "iscsi", "kubernetes", "lvm", "nvme", "pki", "selinux", "ssl"];

pub(super) fn check(document: &Document, report: &mut Report<'_>) {
    match document {
        Document::Environment(c) => {
            for name in c.variables.keys() {
                let mut chars = name.chars();
                let fine = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                    && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
                report.require(
                    fine,
                    format!("variables[\"{name}\"]"),
                    format!("the name `{name}`"),
                    "letters, digits and `_`, not starting with a digit",
                );
            }
        }
        Document::EtcFile(c) => etc_file(&c.name, report),
        Document::ExtensionService(c) => {
            let empty = c.config_files.is_empty() && c.environment.is_empty();
            report.require(!empty, "", "neither configFiles nor environment", "one of them at least");
        }
        Document::KmsgLog(c) => {
            let scheme = c.url.scheme();
            report.require(matches!(scheme.as_str(), "tcp" | "udp"), "url", format!("the scheme `{scheme}`"), "tcp or udp");
            report.require(c.url.port().is_some(), "url", "no port", "a port");
            report.require(matches!(c.url.path(), "" | "/"), "url", format!("the path `{}`", c.url.path()), "a URL without a path");
        }
        Document::Sysctl(c) => report.require(!c.params.contains_key(""), "params", "an empty name", "a name such as net.core.somaxconn"),
        Document::Sysfs(c) => report.require(!c.params.contains_key(""), "params", "an empty path", "a path below /sys"),
        Document::UnattendedInstall(c) => {
            let selector = c.provisioning.as_ref().and_then(|p| p.disk_selector.as_ref()).and_then(|s| s.matches.as_ref());
            report.require(
                selector.is_some(),
                "provisioning.diskSelector.match",
                "nothing",
                "a condition on disks such as `disk.dev_path == \"/dev/sda\"`",
            );
        }
        Document::WatchdogTimer(c) => {
            let fine = c.timeout.is_none_or(|t| t.0.is_zero() || t.0.as_secs() >= 10);
            report.require(fine, "timeout", c.timeout.map(|t| t.to_string()).unwrap_or_default(), "at least 10s");
        }
        Document::RegistryMirror(c) => {
            for (i, endpoint) in c.endpoints.iter().enumerate() {
                let scheme = endpoint.url.scheme();
                report.require(
                    matches!(scheme.as_str(), "http" | "https"),
                    format!("endpoints[{i}].url"),
                    format!("the scheme `{scheme}`"),
                    "http or https",
                );
            }
        }
        Document::RegistryAuth(c) => {
            let login = !c.username.is_empty() || !c.password.is_empty();
            let ways = [login, !c.auth.is_empty(), !c.identity_token.is_empty()].iter().filter(|w| **w).count();
            report.require(ways <= 1, "", format!("{ways} kinds of credentials"), "one of username with password, auth, identityToken");
        }
        Document::ImageVerification(c) => c.rules.iter().enumerate().for_each(|(i, rule)| verification(i, rule, report)),
        Document::Container(c) => container(c, report),
        _ => {}
    }
}

fn etc_file(name: &str, report: &mut Report<'_>) {
    let local = !name.starts_with(['/', '.']) && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    report.require(local, "name", format!("`{name}`"), "a path below /etc, without `/` or `.` in front");
    let first = name.split('/').next().unwrap_or_default();
    let managed = MANAGED_FILES.contains(&name) || MANAGED_DIRS.contains(&first);
    report.require(!managed, "name", format!("`{name}`, which the machine writes itself"), "another file");
}

fn verification(i: usize, rule: &ImageVerificationRule, report: &mut Report<'_>) {
    let path = format!("rules[{i}]");
    let ways = [rule.skip == Some(true), rule.deny == Some(true), rule.keyless.is_some(), rule.public_key.is_some()];
    let count = ways.iter().filter(|w| **w).count();
    report.require(count == 1, &path, format!("{count} of skip, deny, keyless, publicKey"), "exactly one of them");
    if let Some(keyless) = &rule.keyless {
        let named = !keyless.subject.is_empty() || !keyless.subject_regex.is_empty();
        report.require(named, format!("{path}.keyless"), "neither subject nor subjectRegex", "one of them: whose signature");
    }
    let tag = rule.image.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if rule.image.contains('@') || tag {
        report.warning(
            format!("{path}.image"),
            format!("`{}`", rule.image),
            "registry and repository only: tags and digests are not matched",
        );
    }
}

fn container(c: &ContainerConfig, report: &mut Report<'_>) {
    let named =
        !c.name.is_empty() && c.name.len() <= 63 && c.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    report.require(named, "name", format!("`{}`", c.name), "at most 63 of a-z, 0-9 and `-`");
    if !c.image.contains("@sha256:") {
        report.warning("image", format!("`{}`", c.image), "a digest (`@sha256:…`), so that it is the same image every time");
    }
    for (i, entry) in c.environment.iter().enumerate() {
        let fine = entry.split_once('=').is_some_and(|(key, _)| !key.is_empty());
        report.require(fine, format!("environment[{i}]"), format!("`{entry}`"), "KEY=value");
    }
    let mut destinations = BTreeSet::new();
    for (i, mount) in c.mounts.iter().enumerate() {
        container_mount(i, mount, &mut destinations, report);
    }
    if let Some(caps) = c.security.as_ref().and_then(|s| s.capabilities.as_ref()) {
        for (key, list) in [("add", &caps.add), ("drop", &caps.drop)] {
            for cap in list {
                let word =
                    cap.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && !cap.starts_with("CAP_") && (cap != "ALL" || key == "drop");
                report.require(
                    word,
                    format!("security.capabilities.{key}"),
                    format!("`{cap}`"),
                    "upper case without CAP_; ALL only in drop",
                );
            }
        }
        if let Some(both) = caps.add.iter().find(|cap| caps.drop.contains(cap)) {
            report.error("security.capabilities", format!("`{both}` both added and dropped"), "one of them");
        }
    }
    if let Some(limits) = c.resources.as_ref().and_then(|r| r.limits.as_ref()) {
        let cpu =
            limits.cpu.strip_suffix('m').map_or_else(|| limits.cpu.parse::<f64>().is_ok_and(|n| n > 0.0), |m| m.parse::<u32>().is_ok());
        report.require(limits.cpu.is_empty() || cpu, "resources.limits.cpu", format!("`{}`", limits.cpu), "cores (2) or millicores (500m)");
        let memory = limits.memory.is_empty() || crate::config::types::Size::new(limits.memory.as_str()).is_ok();
        report.require(memory, "resources.limits.memory", format!("`{}`", limits.memory), "a size such as 512MiB");
    }
}

fn container_mount<'a>(i: usize, mount: &'a ContainerMount, destinations: &mut BTreeSet<&'a str>, report: &mut Report<'_>) {
    let path = format!("mounts[{i}]");
    let kinds = [
        mount.user_volume.as_ref().map(|m| (&m.destination, &m.options)),
        mount.tmpfs.as_ref().map(|m| (&m.destination, &m.options)),
        mount.host_path.as_ref().map(|m| (&m.destination, &m.options)),
    ];
    let given: Vec<_> = kinds.into_iter().flatten().collect();
    report.require(given.len() == 1, &path, format!("{} kinds of mount", given.len()), "exactly one of userVolume, tmpfs, hostPath");
    for (destination, options) in given {
        report.require(destination.starts_with('/'), &path, format!("the destination `{destination}`"), "an absolute path");
        report.require(
            destinations.insert(destination.as_str()),
            &path,
            format!("the destination `{destination}` a second time"),
            "another one",
        );
        let both = options.contains(&MountOption::ReadOnly) && options.contains(&MountOption::ReadWrite);
        report.require(!both, &path, "both ro and rw", "one of them");
    }
}
