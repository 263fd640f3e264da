//! The services every node runs: containerd, and our own daemons. What Kubernetes needs on top is the `kube` room's.

use std::collections::BTreeMap;

use engine::{Context, Controller, Inputs, One, OneExt as _, Outputs, Wanted};
use model::config::MachineType;
use model::host::MachineConfig;
use model::services::{Condition, Control, HealthCheck, Probe, Restart, Runner, ServiceSpec};
use resource::Duration;

/// Where containerd listens.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// Its configuration.
pub const CONTAINERD_CONFIG: &str = "/etc/cri/containerd.toml";
/// Where the machine API listens.
pub const MACHINE_SOCKET: &str = "/system/run/machined/machine.sock";

fn health(probe: Probe, target: &str) -> Option<HealthCheck> {
    Some(HealthCheck { probe, target: target.to_owned(), ..HealthCheck::default() })
}

fn process(args: &[&str], cgroup: &str) -> ServiceSpec {
    ServiceSpec {
        runner: Runner::Process,
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        restart: Restart::Always,
        cgroup: cgroup.to_owned(),
        ..ServiceSpec::default()
    }
}

fn part(health: Option<HealthCheck>, depends: Vec<Condition>) -> ServiceSpec {
    ServiceSpec { runner: Runner::Part, health, depends, ..ServiceSpec::default() }
}

/// The services of a node of this type, by their ids.
#[must_use]
pub fn services(machine_type: Option<MachineType>, containerd_revision: &str) -> BTreeMap<&'static str, ServiceSpec> {
    let mut all = BTreeMap::new();
    all.insert("machined", part(health(Probe::Unix, MACHINE_SOCKET), Vec::new()));
    all.insert(
        "containerd",
        ServiceSpec {
            health: health(Probe::Unix, CONTAINERD_SOCKET),
            // Its shims, and so all containers, live on when it ends.
            main_process_only: true,
            oom_score_adj: -999,
            depends: vec![Condition::network("etcfiles")],
            revision: containerd_revision.to_owned(),
            ..process(&["/usr/bin/containerd", "--config", CONTAINERD_CONFIG], "podruntime/runtime")
        },
    );
    let networked = ["addresses", "hostname", "etcfiles"].map(Condition::network);
    let cri_depends = std::iter::once(Condition::service("containerd")).chain(networked).collect();
    let cri_health = HealthCheck {
        timeout: Duration::from_secs(2),
        ..HealthCheck { probe: Probe::Cri, target: CONTAINERD_SOCKET.into(), ..HealthCheck::default() }
    };
    all.insert("cri", part(Some(cri_health), cri_depends));
    all.insert(
        "apid",
        ServiceSpec { health: health(Probe::Tcp, "127.0.0.1:50000"), oom_score_adj: -998, ..process(&["/usr/bin/apid"], "system/apid") },
    );
    all.insert(
        "edge",
        ServiceSpec {
            health: health(Probe::Http, "http://127.0.0.1:3172/healthz"),
            oom_score_adj: -998,
            ..process(&["/usr/bin/edge"], "system/edge")
        },
    );
    if machine_type.is_some_and(MachineType::is_control_plane) {
        let trustd = ServiceSpec {
            health: health(Probe::Tcp, "127.0.0.1:50001"),
            oom_score_adj: -998,
            depends: [Condition::time(), Condition::network("addresses"), Condition::network("hostname")].to_vec(),
            ..process(&["/usr/bin/trustd"], "system/trustd")
        };
        all.insert("trustd", trustd);
    }
    // What may be asked of ours over the API: a restart does no harm, a stop would cut the caller off.
    for id in ["containerd", "apid", "trustd", "edge"] {
        if let Some(spec) = all.get_mut(id) {
            spec.control = Control { restart: id == "containerd", ..Control::default() };
        }
    }
    all
}

/// Wants the services every node runs.
#[derive(Debug, Default)]
pub struct NodeServices;

/// What decides which services a node runs.
#[derive(Inputs)]
pub struct In {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(namespace = "files", id = "cri/containerd.toml")]
    containerd: One<model::host::EtcFileSpec>,
}

impl Controller for NodeServices {
    const NAME: &'static str = "runtime.NodeServicesController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().shared::<ServiceSpec>()
    }

    async fn reconcile(&self, _: &Context, input: In) -> engine::Result<Wanted> {
        let machine_type = input.config.spec().and_then(MachineConfig::machine).map(model::config::MachineConfig::machine_type);
        // containerd reads its configuration at its start only.
        let revision = input.containerd.spec().map(|f| short_hash(&f.contents.0)).unwrap_or_default();
        Ok(Wanted::new().all(services(machine_type, &revision)))
    }
}

/// The first 16 digits of the SHA-256.
fn short_hash(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut text = hex::encode(Sha256::digest(bytes));
    text.truncate(16);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_planes_run_trustd() {
        let ids = |t| services(t, "").into_keys().collect::<Vec<_>>();
        assert_eq!(ids(None), ["apid", "containerd", "cri", "edge", "machined"]);
        assert_eq!(ids(Some(MachineType::Worker)), ["apid", "containerd", "cri", "edge", "machined"]);
        assert_eq!(ids(Some(MachineType::ControlPlane)), ["apid", "containerd", "cri", "edge", "machined", "trustd"]);
    }

    #[test]
    fn a_changed_configuration_restarts_containerd_alone() {
        let (a, b) = (services(None, "1"), services(None, "2"));
        let changed: Vec<_> = a.keys().filter(|id| a[*id] != b[*id]).collect();
        assert_eq!(changed, [&"containerd"]);
    }

    #[test]
    fn ending_containerd_leaves_its_shims_alone() {
        assert!(services(None, "")["containerd"].main_process_only);
    }
}
