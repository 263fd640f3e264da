//! The container that the kubelet runs in.

use model::services::{Condition, Container, Control, HealthCheck, Mount, Probe, Restart, Runner, ServiceSpec};
use resource::Duration;

/// The service's id.
pub const ID: &str = "kubelet";

/// Node paths the kubelet works on, each under the same path inside: it makes mounts below most of
/// them that containers and the node must see, hence shared.
const SHARED: [&str; 12] = [
    "/dev",
    "/sys",
    "/run",
    "/etc/cni",
    "/etc/kubernetes",
    "/opt",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// Node paths the kubelet only reads.
const READ_ONLY: [&str; 5] = ["/etc/hosts", "/etc/machine-id", "/etc/os-release", "/etc/resolv.conf", "/system/resolved"];

/// The service: `args` are the kubelet's flags, `extra_mounts` the user's, `revision` changes when
/// a file changed that the kubelet reads at start only.
///
/// A kubelet that has yet to ask for its certificate (`first_contact`) starts when there is an API to ask: one that
/// asks in vain asks again after 2, 4, 8 seconds, while the cluster is waiting for it.
pub fn service(
    image: &str,
    args: Vec<String>,
    extra_mounts: Vec<Mount>,
    oom_score: bool,
    revision: String,
    first_contact: bool,
) -> ServiceSpec {
    let mut command = vec!["/usr/local/bin/kubelet".to_owned()];
    command.extend(args);
    let mut mounts: Vec<Mount> = SHARED
        .iter()
        .map(|path| bind(path, &["rbind", "rshared", "rw"]))
        .chain(READ_ONLY.iter().map(|path| bind(path, &["rbind", "ro"])))
        .collect();
    // The node's own /proc: kernel settings masked on the node are masked for the kubelet.
    mounts.push(bind("/proc", &["rbind", "rw"]));
    mounts.extend(extra_mounts);
    let mut depends = vec![Condition::service("cri"), Condition::time(), Condition::network("addresses"), Condition::network("hostname")];
    depends.extend(first_contact.then(Condition::kubernetes));
    ServiceSpec {
        runner: Runner::Container,
        args: command,
        container: Some(Container { image: image.to_owned(), mounts, privileged: true, ..Default::default() }),
        depends,
        health: Some(HealthCheck {
            probe: Probe::Http,
            target: "http://127.0.0.1:10248/healthz".to_owned(),
            initial_delay: Duration::from_secs(2),
            ..Default::default()
        }),
        restart: Restart::Always,
        oom_score_adj: if oom_score { -450 } else { 0 },
        cgroup: "podruntime/kubelet".to_owned(),
        control: Control { start: true, stop: false, restart: true },
        revision,
        ..Default::default()
    }
}

fn bind(path: &str, options: &[&str]) -> Mount {
    Mount {
        destination: path.to_owned(),
        source: path.to_owned(),
        fs: String::new(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}
