//! The machine's stage, and whether it is ready: one pure function over what the other controllers say.

use engine::{Context, Controller, Inputs, Many, One, OneExt as _, Outputs, Wanted};
use model::host::{
    MachineReadiness, MachineRole, MachineStage, MachineStatus, MachineType, MaintenanceServiceRequest, TimeStatus, UnmetCondition,
};
use model::kube::{KubeletSpec, NodeStatus, Nodename, StaticPod, StaticPodStatus};
use model::net::NetworkStatus;
use model::services::{SequenceStatus, ServiceSpec, ServiceStatus};

use crate::service::is_up;

/// Tells the machine's status.
#[derive(Debug, Default)]
pub struct MachineStatusController;

/// What readiness depends on.
#[derive(Inputs)]
pub struct In {
    #[input(id = "machine-type")]
    machine_type: One<MachineType>,
    #[input(id = "current")]
    sequence: One<SequenceStatus>,
    #[input(id = "maintenance")]
    maintenance: One<MaintenanceServiceRequest>,
    #[input(id = "node")]
    time: One<TimeStatus>,
    #[input(id = "status")]
    network: One<NetworkStatus>,
    specs: Many<ServiceSpec>,
    services: Many<ServiceStatus>,
    #[input(id = "kubelet")]
    kubelet: One<KubeletSpec>,
    #[input(id = "nodename")]
    nodename: One<Nodename>,
    nodes: Many<NodeStatus>,
    pods: Many<StaticPod>,
    pod_statuses: Many<StaticPodStatus>,
}

fn unmet(name: &str, reason: impl Into<String>) -> UnmetCondition {
    UnmetCondition { name: name.to_owned(), reason: reason.into() }
}

fn network(input: &In) -> Option<UnmetCondition> {
    let n = input.network.spec().cloned().unwrap_or_default();
    let parts = [
        ("address", n.address_ready),
        ("connectivity", n.connectivity_ready),
        ("hostname", n.hostname_ready),
        ("etcfiles", n.etc_files_ready),
    ];
    let missing: Vec<_> = parts.iter().filter(|(_, ready)| !ready).map(|(name, _)| *name).collect();
    (!missing.is_empty()).then(|| unmet("network", format!("waiting on: {}", missing.join(", "))))
}

fn services(input: &In) -> Option<UnmetCondition> {
    let mut required = vec!["apid", "machined"];
    if input.kubelet.is_some() {
        required.push("kubelet");
    }
    if input.machine_type.spec().is_some_and(|t| matches!(t.role, MachineRole::ControlPlane | MachineRole::Init)) {
        required.push("trustd");
        if input.specs.get("etcd").is_some() {
            required.push("etcd");
        }
    }
    let mut problems: Vec<String> = required
        .iter()
        .filter(|id| input.services.get(id).is_none_or(|s| s.spec.state != "Running"))
        .map(|id| format!("{id} not running"))
        .collect();
    let unhealthy = |spec: &&resource::Resource<ServiceSpec>| {
        input.services.get(spec.meta.id.as_str()).is_some_and(|s| s.spec.state == "Running" && !is_up(&spec.spec, &s.spec))
    };
    problems.extend(input.specs.iter().filter(unhealthy).map(|s| format!("{} not healthy", s.meta.id)));
    (!problems.is_empty()).then(|| unmet("services", problems.join(", ")))
}

/// Whether a pod's conditions, as the kubelet tells them, say that it is ready.
fn pod_is_ready(status: &StaticPodStatus) -> bool {
    let json = serde_json::Value::from(status.pod_status.clone());
    json["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn static_pods(input: &In) -> Option<UnmetCondition> {
    let ready = |id: &str| input.pod_statuses.iter().any(|s| s.meta.id.contains(id) && pod_is_ready(&s.spec));
    let waiting: Vec<_> = input.pods.iter().map(|p| p.meta.id.as_str()).filter(|id| !ready(id)).collect();
    (!waiting.is_empty()).then(|| unmet("staticPods", format!("{} not ready", waiting.join(", "))))
}

fn node_ready(input: &In) -> Option<UnmetCondition> {
    let name = input.nodename.spec().filter(|n| !n.skip_node_registration)?;
    match input.nodes.specs().find(|n| n.nodename == name.nodename) {
        Some(node) if node.node_ready => None,
        Some(_) => Some(unmet("nodeReady", format!("node {:?} is not ready", name.nodename))),
        None => Some(unmet("nodeReady", format!("node {:?} has not registered yet", name.nodename))),
    }
}

/// The stage and the readiness.
fn status(input: &In) -> MachineStatus {
    let time = (!input.time.spec().is_some_and(|t| t.synced)).then(|| unmet("time", "time is not synced"));
    let conditions = [time, network(input), services(input), static_pods(input), node_ready(input)];
    let unmet_conditions: Vec<_> = conditions.into_iter().flatten().collect();
    let stage = match input.sequence.spec().map(|s| s.sequence.as_str()) {
        Some("reboot") => MachineStage::Rebooting,
        Some("shutdown") => MachineStage::ShuttingDown,
        Some("reset") => MachineStage::Resetting,
        _ if input.maintenance.is_some() => MachineStage::Maintenance,
        // A boot is over once all its services have been started.
        _ if input.machine_type.is_some() && services(input).is_none() => MachineStage::Running,
        _ => MachineStage::Booting,
    };
    let judged = matches!(stage, MachineStage::Booting | MachineStage::Running);
    let unmet_conditions = if judged { unmet_conditions } else { Vec::new() };
    MachineStatus { stage, status: MachineReadiness { ready: unmet_conditions.is_empty(), unmet_conditions } }
}

impl Controller for MachineStatusController {
    const NAME: &'static str = "runtime.MachineStatusController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<MachineStatus>()
    }

    async fn reconcile(&self, _: &Context, input: In) -> engine::Result<Wanted> {
        Ok(Wanted::new().with("machine", status(&input)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::one;

    fn running() -> ServiceStatus {
        ServiceStatus { state: "Running".into(), unknown: true, ..ServiceStatus::default() }
    }

    fn worker() -> In {
        let network = NetworkStatus { address_ready: true, connectivity_ready: true, hostname_ready: true, etc_files_ready: true };
        In {
            machine_type: one("machine-type", MachineType { role: MachineRole::Worker }),
            sequence: None,
            maintenance: None,
            time: one("node", TimeStatus { synced: true, ..TimeStatus::default() }),
            network: one("status", network),
            specs: Many::default(),
            services: Many::of([("apid", running()), ("machined", running())]),
            kubelet: None,
            nodename: None,
            nodes: Many::default(),
            pods: Many::default(),
            pod_statuses: Many::default(),
        }
    }

    fn reasons(input: &In) -> Vec<String> {
        status(input).status.unmet_conditions.into_iter().map(|c| format!("{}: {}", c.name, c.reason)).collect()
    }

    #[test]
    fn a_node_with_all_it_needs_is_running_and_ready() {
        assert_eq!(
            status(&worker()),
            MachineStatus { stage: MachineStage::Running, status: MachineReadiness { ready: true, unmet_conditions: vec![] } }
        );
    }

    #[test]
    fn each_missing_thing_is_named() {
        let mut input = worker();
        input.time = None;
        input.network = one("status", NetworkStatus { address_ready: true, etc_files_ready: true, ..NetworkStatus::default() });
        input.services = Many::of([("apid", running())]);
        input.kubelet = one("kubelet", KubeletSpec::default());
        input.nodename = one("nodename", Nodename { nodename: "w1".into(), ..Nodename::default() });
        assert_eq!(
            reasons(&input),
            [
                "time: time is not synced",
                "network: waiting on: connectivity, hostname",
                "services: machined not running, kubelet not running",
                "nodeReady: node \"w1\" has not registered yet",
            ]
        );
        assert_eq!(status(&input).stage, MachineStage::Booting);
    }

    #[test]
    fn a_sequence_is_the_stage() {
        let mut input = worker();
        input.sequence = one("current", SequenceStatus { sequence: "reset".into(), ..SequenceStatus::default() });
        assert_eq!(status(&input).stage, MachineStage::Resetting);
    }
}
