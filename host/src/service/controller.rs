//! Joins the supervisor to resources: what `ServiceSpec`s and `ServiceRequest`s want goes in, how services fare comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Context, Controller, Inputs, Many, One, OneExt as _, Outputs, Wanted};
use model::host::{Service, TimeStatus};
use model::kube::KubePrismStatus;
use model::net::NetworkStatus;
use model::services::{ServiceRequest, ServiceSpec, ServiceStatus};

use super::runner::Runner;
use super::{Supervisor, Wish, World, is_up};

/// Makes services run.
pub struct ServiceController {
    process: Arc<dyn Runner>,
    container: Arc<dyn Runner>,
    supervisor: Mutex<Option<Supervisor>>,
}

impl ServiceController {
    /// A controller with these runners.
    pub fn new(process: Arc<dyn Runner>, container: Arc<dyn Runner>) -> Self {
        Self { process, container, supervisor: Mutex::new(None) }
    }
}

/// What services depend on.
#[derive(Inputs)]
pub struct In {
    specs: Many<ServiceSpec>,
    requests: Many<ServiceRequest>,
    #[input(id = "status")]
    network: One<NetworkStatus>,
    #[input(id = "node")]
    time: One<TimeStatus>,
    balancers: Many<KubePrismStatus>,
}

/// What is wanted of each service.
fn wishes(input: &In) -> BTreeMap<String, Wish> {
    let wish = |spec: &resource::Resource<ServiceSpec>| {
        let request = input.requests.get(&spec.meta.id).map(|r| &r.spec);
        let wish = Wish {
            spec: Arc::new(spec.spec.clone()),
            stopped: request.is_some_and(|r| r.stopped),
            restarts: request.map_or(0, |r| r.restarts),
        };
        (spec.meta.id.to_string(), wish)
    };
    input.specs.iter().map(wish).collect()
}

/// What the conditions of services are looked up in.
fn world(input: &In, reports: &BTreeMap<String, ServiceStatus>) -> World {
    let up = |spec: &&resource::Resource<ServiceSpec>| reports.get(spec.meta.id.as_str()).is_some_and(|status| is_up(&spec.spec, status));
    let network = input.network.spec().map(|n| {
        let parts = [
            ("addresses", n.address_ready),
            ("connectivity", n.connectivity_ready),
            ("hostname", n.hostname_ready),
            ("etcfiles", n.etc_files_ready),
        ];
        parts.iter().filter(|(_, ready)| *ready).map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>()
    });
    World {
        up: input.specs.iter().filter(up).map(|s| s.meta.id.to_string()).collect(),
        network: network.unwrap_or_default(),
        time: input.time.spec().is_some_and(|t| t.synced),
        kubernetes: input.balancers.iter().any(|b| b.spec.healthy),
    }
}

impl Controller for ServiceController {
    const NAME: &'static str = "runtime.ServiceController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<ServiceStatus>().exclusive::<Service>()
    }

    async fn reconcile(&self, ctx: &Context, input: In) -> engine::Result<Wanted> {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        let supervisor = supervisor.get_or_insert_with(|| {
            let waker = ctx.waker();
            Supervisor::new(self.process.clone(), self.container.clone(), Arc::new(move || waker.wake()))
        });
        let mut wishes = wishes(&input);
        let mut reports = supervisor.reports();
        if !ctx.settled() {
            // Nobody said yet that the other services are not wanted: they stay as they are.
            for (id, wish) in supervisor.standing_wishes() {
                wishes.entry(id).or_insert(wish);
            }
        }
        supervisor.apply(&wishes, &world(&input, &reports));
        reports = supervisor.reports();
        let running = |(id, status): (&String, &ServiceStatus)| {
            let service = Service { running: true, healthy: status.healthy, unknown: status.unknown };
            (status.state == "Running").then(|| (id.clone(), service))
        };
        let services: Vec<_> = reports.iter().filter_map(running).collect();
        Ok(Wanted::new().all(services).all(reports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::services::{Condition, HealthCheck};

    fn input(specs: Many<ServiceSpec>) -> In {
        let network = NetworkStatus { address_ready: true, hostname_ready: true, ..NetworkStatus::default() };
        In { specs, requests: Many::default(), network: engine::one("status", network), time: None, balancers: Many::default() }
    }

    fn running(healthy: bool) -> ServiceStatus {
        ServiceStatus { state: "Running".into(), healthy, unknown: !healthy, ..ServiceStatus::default() }
    }

    #[test]
    fn a_probed_service_is_up_only_when_healthy() {
        let probed = ServiceSpec { health: Some(HealthCheck::default()), ..ServiceSpec::default() };
        let input = input(Many::of([("a", probed), ("b", ServiceSpec::default())]));
        let reports = |healthy| BTreeMap::from([("a".to_owned(), running(healthy)), ("b".to_owned(), running(false))]);
        assert_eq!(world(&input, &reports(false)).up, BTreeSet::from(["b".to_owned()]));
        assert_eq!(world(&input, &reports(true)).up, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn unmet_conditions_are_named() {
        let world = world(&input(Many::default()), &BTreeMap::new());
        let conditions =
            [Condition::network("addresses"), Condition::network("connectivity"), Condition::time(), Condition::service("cri")];
        assert_eq!(world.unmet(&conditions), ["network connectivity", "time sync", "service \"cri\" to be up"]);
    }

    #[test]
    fn a_request_stops_a_service_and_counts_its_restarts() {
        let mut input = input(Many::of([("kubelet", ServiceSpec::default())]));
        input.requests = Many::of([("kubelet", ServiceRequest { stopped: true, restarts: 2 })]);
        let wishes = wishes(&input);
        assert!(wishes["kubelet"].stopped);
        assert_eq!(wishes["kubelet"].restarts, 2);
    }
}
