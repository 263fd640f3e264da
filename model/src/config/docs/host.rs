//! Documents about the machine itself: hardware, services, logs, security, installation.

use std::collections::BTreeMap;

use crate::config::schema::section;
use crate::config::types::{Cel, Duration, FileMode, HostPort, Pem, Url};

section! {
    /// Binds a PCI device to another driver.
    pub struct PciDriverRebindConfig {
        "name" name: String [required()] = "PCI id of the device.";
        "targetDriver" target_driver: String [required()] = "Driver to bind it to.";
    }

    /// Environment of the machine's services.
    pub struct EnvironmentConfig {
        "variables" variables: BTreeMap<String, String> = "Variables, http_proxy and the like among them.";
    }

    /// An extra file below /etc.
    pub struct EtcFileConfig {
        "name" name: String [required()] = "Path below /etc.";
        "mode" mode: Option<FileMode> [default("0644")] = "Permissions.";
        "contents" contents: String = "Content.";
    }

    /// Where events are sent.
    pub struct EventSinkConfig {
        "endpoint" endpoint: HostPort [required()] = "Host and port of a gRPC event sink.";
    }

    /// Files and environment of an extension service.
    pub struct ExtensionServiceConfig {
        "name" name: String [required()] = "Name of the service.";
        "configFiles" config_files: Vec<ExtensionConfigFile> [merge_by("mountPath")] = "Files for the service.";
        "environment" environment: Vec<String> = "Environment, each KEY=value.";
    }

    /// A file for an extension service.
    pub struct ExtensionConfigFile {
        "content" content: String [required()] = "Content.";
        "mountPath" mount_path: String [required()] = "Path in the service.";
    }

    /// Loads a kernel module.
    pub struct KernelModuleConfig {
        "name" name: String [required()] = "Name of the module.";
        "parameters" parameters: Vec<String> = "Parameters, each key=value.";
    }

    /// Ships the kernel log as JSON lines.
    pub struct KmsgLogConfig {
        "name" name: String [required()] = "Name of the destination.";
        "url" url: Url [required()] = "tcp://host:port or udp://host:port.";
    }

    /// Tunes the handler of memory pressure.
    pub struct OomConfig {
        "triggerExpression" trigger_expression: Option<Cel> = "When to act (boolean).";
        "cgroupRankingExpression" cgroup_ranking_expression: Option<Cel> = "Which group goes first (number).";
        "strictCgroupClassOrdering" strict_cgroup_class_ordering: Option<bool> [default("true")] = "Never kill a class while a lower one lives.";
        "sampleInterval" sample_interval: Option<Duration> [default("500ms")] = "How often to look.";
    }

    /// Isolation of workloads from the machine.
    pub struct SecurityProfileConfig {
        "workloadIsolation" workload_isolation: Option<bool> = "Run the container runtime in namespaces of its own.";
    }

    /// Kernel parameters below /proc/sys.
    pub struct SysctlConfig {
        "params" params: BTreeMap<String, String> = "Values by name.";
    }

    /// Values below /sys.
    pub struct SysfsConfig {
        "params" params: BTreeMap<String, String> = "Values by path.";
    }

    /// Rules of the device manager.
    pub struct UdevRulesConfig {
        "rules" rules: Vec<String> = "The rules.";
    }

    /// Installs to a disk without being asked.
    pub struct UnattendedInstallConfig {
        "reboot" reboot: Option<bool> = "Reboot afterwards.";
        "installer" installer: Option<InstallerImage> = "What to install.";
        "provisioning" provisioning: Option<InstallProvisioning> [required()] = "Where to install.";
    }

    /// What to install.
    pub struct InstallerImage {
        "image" image: String = "Installer image.";
    }

    /// Where to install.
    pub struct InstallProvisioning {
        "diskSelector" disk_selector: Option<DiskSelector> [required()] = "Which disk.";
        "wipe" wipe: Option<bool> [default("true")] = "Wipe the disk first.";
    }

    /// Chooses disks by an expression.
    pub struct DiskSelector {
        "match" matches: Option<Cel> = "Condition on `disk` and `system_disk`.";
    }

    /// Hardware watchdog.
    pub struct WatchdogTimerConfig {
        "device" device: String [required()] = "Device such as /dev/watchdog0.";
        "timeout" timeout: Option<Duration> [default("1m")] = "Time until the machine is reset.";
    }

    /// Extra certificate authorities that the machine trusts.
    pub struct TrustedRootsConfig {
        "name" name: String [required()] = "Name of the set.";
        "certificates" certificates: Option<Pem> [required()] = "Certificates.";
    }
}
