//! The OCI runtime specification of a service container, from its [`Container`] and its image. Pure.

use model::services::{Container, Mount};
use serde_json::{Value, json};

/// What an image says about how it wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The program.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub cmd: Vec<String>,
    /// Environment, as `NAME=value`.
    pub env: Vec<String>,
    /// Working directory; empty means `/`.
    pub working_dir: String,
}

/// What a service container is made of besides its image.
#[derive(Debug, Clone)]
pub struct Parameters<'a> {
    /// The container's settings.
    pub container: &'a Container,
    /// The program and its arguments; empty means the image's own.
    pub args: &'a [String],
    /// Environment on top of the image's.
    pub env: &'a [String],
    /// Cgroup below the node's root, without a leading slash.
    pub cgroup: &'a str,
    /// Score for the kernel's out-of-memory killer; `None` where the node may not lower scores.
    pub oom_score_adj: Option<i32>,
    /// Limit of open files.
    pub nofile: u64,
    /// The capabilities that the node has itself: what a privileged container gets.
    pub all_capabilities: &'a [&'static str],
}

/// The capabilities by their numbers.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The capabilities in a set as `/proc/PID/status` prints it, in hexadecimal; those without a name here are left out.
#[must_use]
pub fn capabilities(hex: &str) -> Vec<&'static str> {
    let bits = u64::from_str_radix(hex.trim(), 16).unwrap_or_default();
    CAPABILITIES.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| *name).collect()
}

/// The command line: ours, or the image's own where we have none.
#[must_use]
pub fn command(image: &ImageConfig, args: &[String]) -> Vec<String> {
    if args.is_empty() { image.entrypoint.iter().chain(&image.cmd).cloned().collect() } else { args.to_vec() }
}

/// The environment: ours wins over the image's where both name a variable.
fn environment(image: &ImageConfig, ours: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut all = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    for variable in image.env.iter().chain(ours) {
        let key = name(variable);
        all.retain(|other| name(other) != key);
        all.push(variable.clone());
    }
    all
}

fn mount(mount: &Mount) -> Value {
    let bind = mount.fs.is_empty();
    let mut options = mount.options.clone();
    if bind && !options.iter().any(|o| o == "bind" || o == "rbind") {
        options.insert(0, "rbind".into());
    }
    json!({
        "destination": mount.destination,
        "source": mount.source,
        "type": if bind { "bind" } else { mount.fs.as_str() },
        "options": options,
    })
}

fn default_mounts(container: &Container) -> Vec<Value> {
    let mut mounts = vec![json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]})];
    if container.privileged {
        // The node's own /dev, /sys and cgroups: the kubelet watches and writes them.
        for path in ["/dev", "/sys"] {
            mounts.push(json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", "rslave", "rw"]}));
        }
        return mounts;
    }
    mounts.extend([
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=755", "size=65536k"]}),
    ]);
    mounts
}

/// The specification.
#[must_use]
pub fn runtime_spec(image: &ImageConfig, with: &Parameters<'_>) -> Value {
    let container = with.container;
    let capabilities: Vec<&str> = if container.privileged {
        // What the node itself gave up is not to be had here either: runc would refuse to start it.
        with.all_capabilities.to_vec()
    } else {
        container.capabilities.iter().map(String::as_str).collect()
    };
    let mut mounts = default_mounts(container);
    // A mount of ours takes the place of the default one at the same path.
    mounts.retain(|m| !container.mounts.iter().any(|ours| m["destination"] == ours.destination.as_str()));
    mounts.extend(container.mounts.iter().map(mount));
    let mut namespaces = vec![json!({"type": "mount"})];
    if !container.privileged {
        namespaces.extend([json!({"type": "ipc"}), json!({"type": "pid"})]);
    }
    let devices = if container.privileged { json!([{"allow": true, "access": "rwm"}]) } else { json!([{"allow": false, "access": "rwm"}]) };
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": container.uid, "gid": container.gid},
            "args": command(image, with.args),
            "env": environment(image, with.env),
            "cwd": if image.working_dir.is_empty() { "/" } else { image.working_dir.as_str() },
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": with.nofile, "soft": with.nofile}],
            "noNewPrivileges": !container.privileged,
        },
        "root": {"path": "rootfs", "readonly": !container.privileged},
        "mounts": mounts,
        "linux": {
            "cgroupsPath": format!("/{}", with.cgroup.trim_start_matches('/')),
            "namespaces": namespaces,
            "resources": {"devices": devices},
            "rootfsPropagation": if container.privileged { "rshared" } else { "rslave" },
        },
    });
    if let Some(score) = with.oom_score_adj {
        spec["process"]["oomScoreAdj"] = json!(score);
    }
    if !container.privileged {
        spec["linux"]["maskedPaths"] = json!([
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/sched_debug",
            "/sys/firmware"
        ]);
        spec["linux"]["readonlyPaths"] = json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: vec!["/usr/local/bin/etcd".into()],
            cmd: vec!["--help".into()],
            env: vec!["PATH=/usr/local/bin".into(), "A=image".into()],
            working_dir: String::new(),
        }
    }

    fn spec(container: &Container, args: &[String], env: &[String]) -> Value {
        runtime_spec(
            &image(),
            &Parameters {
                container,
                args,
                env,
                cgroup: "podruntime/etcd",
                oom_score_adj: None,
                nofile: 1024,
                all_capabilities: &["CAP_CHOWN"],
            },
        )
    }

    #[test]
    fn our_command_replaces_the_image_s() {
        assert_eq!(command(&image(), &[]), ["/usr/local/bin/etcd", "--help"]);
        assert_eq!(command(&image(), &["/bin/other".into(), "--name=a".into()]), ["/bin/other", "--name=a"]);
    }

    #[test]
    fn our_environment_wins() {
        let spec = spec(&Container::default(), &[], &["A=ours".into()]);
        assert_eq!(spec["process"]["env"], json!(["PATH=/usr/local/bin", "A=ours"]));
    }

    #[test]
    fn an_ordinary_container_is_confined() {
        let spec = spec(&Container { uid: 60, gid: 60, ..Container::default() }, &[], &[]);
        assert_eq!(spec["process"]["noNewPrivileges"], json!(true));
        assert_eq!(spec["process"]["capabilities"]["bounding"], json!([]));
        assert_eq!(spec["root"]["readonly"], json!(true));
        assert_eq!(spec["linux"]["resources"]["devices"], json!([{"allow": false, "access": "rwm"}]));
        assert_eq!(spec["process"]["user"], json!({"uid": 60, "gid": 60}));
        let types: Vec<_> = spec["linux"]["namespaces"].as_array().into_iter().flatten().map(|n| n["type"].clone()).collect();
        assert_eq!(types, ["mount", "ipc", "pid"]);
        assert_eq!(spec["linux"]["cgroupsPath"], json!("/podruntime/etcd"));
    }

    #[test]
    fn a_privileged_container_sees_the_node_s_processes_and_devices() {
        let spec = spec(&Container { privileged: true, ..Container::default() }, &[], &[]);
        assert_eq!(spec["linux"]["namespaces"], json!([{"type": "mount"}]));
        assert_eq!(spec["process"]["capabilities"]["effective"], json!(["CAP_CHOWN"]));
        assert_eq!(spec["linux"]["rootfsPropagation"], json!("rshared"));
        assert!(spec["linux"].get("maskedPaths").is_none());
    }

    #[test]
    fn sets_of_capabilities_are_read_by_number() {
        // CAP_CHOWN is 0, CAP_NET_ADMIN 12, CAP_CHECKPOINT_RESTORE 40, by linux/capability.h.
        assert_eq!(capabilities("0000010000001001\n"), ["CAP_CHOWN", "CAP_NET_ADMIN", "CAP_CHECKPOINT_RESTORE"]);
        assert!(capabilities("").is_empty());
    }

    #[test]
    fn a_mount_without_a_file_system_is_a_bind_mount() {
        let container = Container {
            mounts: vec![Mount {
                destination: "/var/lib/etcd".into(),
                source: "/var/lib/etcd".into(),
                fs: String::new(),
                options: vec!["rw".into()],
            }],
            ..Container::default()
        };
        let spec = spec(&container, &[], &[]);
        let last = spec["mounts"].as_array().and_then(|m| m.last()).cloned();
        assert_eq!(
            last,
            Some(json!({"destination": "/var/lib/etcd", "source": "/var/lib/etcd", "type": "bind", "options": ["rbind", "rw"]}))
        );
    }
}
