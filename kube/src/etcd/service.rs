//! The container that etcd runs in.

use model::services::{Condition, Container, HealthCheck, Mount, Probe, Restart, Runner, ServiceSpec};

use crate::paths::{ETCD_DATA, ETCD_SECRETS, ETCD_UID};

/// The service's id.
pub const ID: &str = "etcd";

/// The service: `args` are etcd's flags, `revision` changes when its certificates do.
pub fn service(image: &str, args: Vec<String>, oom_score: bool, revision: String) -> ServiceSpec {
    let mut command = vec!["/usr/local/bin/etcd".to_owned()];
    command.extend(args);
    ServiceSpec {
        runner: Runner::Container,
        args: command,
        container: Some(Container {
            image: image.to_owned(),
            mounts: vec![bind(ETCD_DATA, "rw"), bind(ETCD_SECRETS, "ro")],
            uid: ETCD_UID,
            gid: ETCD_UID,
            privileged: false,
            capabilities: Vec::new(),
        }),
        depends: vec![Condition::service("cri"), Condition::time(), Condition::network("addresses"), Condition::network("hostname")],
        health: Some(HealthCheck { probe: Probe::Tcp, target: "127.0.0.1:2379".to_owned(), ..Default::default() }),
        restart: Restart::Always,
        oom_score_adj: if oom_score { -998 } else { 0 },
        cgroup: "podruntime/etcd".to_owned(),
        revision,
        ..Default::default()
    }
}

fn bind(path: &str, mode: &str) -> Mount {
    Mount { destination: path.to_owned(), source: path.to_owned(), fs: String::new(), options: vec!["rbind".to_owned(), mode.to_owned()] }
}
