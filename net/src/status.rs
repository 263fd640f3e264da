//! How far the network is: what services wait for.

use engine::{Context, Controller, Inputs, Many, One, OneExt, Outputs, Wanted};
use model::host::EtcFileStatus;
use model::net::{HostnameStatus, NetworkStatus, NodeAddress, ProbeStatus, RouteStatus};

/// The network's status.
pub(crate) struct NetworkStatusController;

#[derive(Inputs)]
pub(crate) struct In {
    #[input(id = "current")]
    addresses: One<NodeAddress>,
    routes: Many<RouteStatus>,
    probes: Many<ProbeStatus>,
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
    files: Many<EtcFileStatus>,
}

impl Controller for NetworkStatusController {
    const NAME: &'static str = "network.StatusController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<NetworkStatus>()
    }

    async fn reconcile(&self, _: &Context, input: In) -> engine::Result<Wanted> {
        let default_route =
            input.routes.specs().any(|route| route.dst.is_none() && (route.gateway.is_some() || !route.next_hops.is_empty()));
        let status = NetworkStatus {
            address_ready: input.addresses.spec().is_some_and(|list| !list.addresses.is_empty()),
            // Without probes a way out is taken for connectivity.
            connectivity_ready: if input.probes.is_empty() { default_route } else { input.probes.specs().all(|probe| probe.success) },
            hostname_ready: input.hostname.spec().is_some(),
            etc_files_ready: ["hosts", "resolv.conf"].iter().all(|id| input.files.get(id).is_some()),
        };
        Ok(Wanted::new().with("status", status))
    }
}

#[cfg(test)]
mod tests {
    use engine::one;

    use super::*;

    async fn status(input: In) -> NetworkStatus {
        let wanted = NetworkStatusController.reconcile(&Context::detached(), input).await.unwrap();
        wanted.get::<NetworkStatus>("status").unwrap().clone()
    }

    fn nothing() -> In {
        In {
            addresses: None,
            routes: Many::of(Vec::<(&str, _)>::new()),
            probes: Many::of(Vec::<(&str, _)>::new()),
            hostname: None,
            files: Many::of(Vec::<(&str, _)>::new()),
        }
    }

    #[tokio::test]
    async fn each_part_counts_for_itself() {
        assert_eq!(status(nothing()).await, NetworkStatus::default());
        let ready = In {
            addresses: one("current", NodeAddress { addresses: vec!["10.5.0.2/24".parse().unwrap()], ..NodeAddress::default() }),
            routes: Many::of([("r", RouteStatus { gateway: Some("10.5.0.1".parse().unwrap()), ..RouteStatus::default() })]),
            hostname: one("hostname", HostnameStatus::default()),
            files: Many::of([("hosts", EtcFileStatus::default()), ("resolv.conf", EtcFileStatus::default())]),
            ..nothing()
        };
        let all = status(ready).await;
        assert!(all.address_ready && all.connectivity_ready && all.hostname_ready && all.etc_files_ready);
        let local = RouteStatus { dst: Some("10.5.0.0/24".parse().unwrap()), ..RouteStatus::default() };
        assert!(!status(In { routes: Many::of([("r", local)]), ..nothing() }).await.connectivity_ready);
        let failing = In { probes: Many::of([("p", ProbeStatus { success: false, ..ProbeStatus::default() })]), ..nothing() };
        assert!(!status(failing).await.connectivity_ready);
    }
}
