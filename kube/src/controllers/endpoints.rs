//! Where API servers are: as members tell it, as Kubernetes tells it, as the configuration says;
//! and from these, what the local balancer balances over.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::{Context, Controller, Inputs, Many, One, OneExt, Outputs, Wanted};
use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::watcher;
use model::cluster::Member;
use model::host::MachineConfig;
use model::kube as kinds;

use super::Room;
use super::kubelet::{CREDENTIALS_LIFE, machine_kubeconfig};

/// Inputs of [`DiscoveryEndpoints`].
#[derive(Inputs)]
pub struct DiscoveryIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    members: Many<Member>,
}

/// Endpoints from discovery, and from the configuration.
pub struct DiscoveryEndpoints;

impl Controller for DiscoveryEndpoints {
    const NAME: &'static str = "k8s.EndpointController";
    type In = DiscoveryIn;

    fn outputs() -> Outputs {
        Outputs::new().shared::<kinds::Endpoint>()
    }

    async fn reconcile(&self, _: &Context, input: DiscoveryIn) -> engine::Result<Wanted> {
        let mut wanted = Wanted::new();
        let mut found: Vec<IpAddr> = input
            .members
            .specs()
            .filter(|member| member.control_plane.is_some())
            .flat_map(|member| member.addresses.iter().copied())
            .collect();
        found.sort();
        found.dedup();
        if !found.is_empty() {
            wanted = wanted.with("discovery", kinds::Endpoint { addresses: found, hosts: Vec::new() });
        }
        let endpoint = input.config.spec().and_then(MachineConfig::machine).and_then(|config| config.endpoint());
        if let Some(endpoint) = endpoint {
            let host = endpoint.host().trim_matches(['[', ']']).to_owned();
            let spec = match host.parse::<IpAddr>() {
                Ok(address) => kinds::Endpoint { addresses: vec![address], hosts: Vec::new() },
                Err(_) => kinds::Endpoint { addresses: Vec::new(), hosts: vec![host] },
            };
            wanted = wanted.with("controlplane", spec);
        }
        Ok(wanted)
    }
}

/// Inputs of [`ClusterEndpoints`].
#[derive(Inputs)]
pub struct ClusterIn {
    #[input(id = "k8s-certs")]
    secrets: One<kinds::KubernetesSecret>,
    #[input(id = "kubelet")]
    kubeconfig: One<kinds::KubeletKubeconfig>,
}

/// Endpoints of the service `kubernetes`, as the cluster has them.
pub struct ClusterEndpoints {
    /// Shared.
    pub room: Room,
    /// What the watch has seen.
    pub seen: Arc<Mutex<Option<Vec<IpAddr>>>>,
}

impl Controller for ClusterEndpoints {
    const NAME: &'static str = "k8s.StaticEndpointController";
    type In = ClusterIn;

    fn outputs() -> Outputs {
        Outputs::new().shared::<kinds::Endpoint>()
    }

    async fn reconcile(&self, ctx: &Context, input: ClusterIn) -> engine::Result<Wanted> {
        let kubeconfig = machine_kubeconfig(self.room.files.as_ref(), input.secrets.spec())?;
        let Some(kubeconfig) = kubeconfig.filter(|_| input.secrets.is_some() || input.kubeconfig.is_some()) else {
            return Ok(Wanted::new());
        };
        let (seen, waker) = (Arc::clone(&self.seen), ctx.waker());
        ctx.spawn("watch", async move {
            let client = crate::objects::client(&kubeconfig).await?;
            let api: Api<EndpointSlice> = Api::namespaced(client, "default");
            let config = watcher::Config::default().labels("kubernetes.io/service-name=kubernetes");
            let mut events = std::pin::pin!(watcher(api, config));
            let mut slices: Vec<EndpointSlice> = Vec::new();
            let until = tokio::time::Instant::now() + CREDENTIALS_LIFE;
            loop {
                let event = tokio::time::timeout_at(until, events.next()).await;
                let Ok(Some(event)) = event else { return Ok(()) };
                match event {
                    Ok(watcher::Event::Init) => slices.clear(),
                    Ok(watcher::Event::InitApply(slice) | watcher::Event::Apply(slice)) => {
                        slices.retain(|other| other.metadata.name != slice.metadata.name);
                        slices.push(slice);
                    }
                    Ok(watcher::Event::Delete(slice)) => {
                        slices.retain(|other| other.metadata.name != slice.metadata.name);
                    }
                    Ok(watcher::Event::InitDone) => {}
                    Err(_) => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                }
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(addresses(&slices));
                waker.wake();
            }
        });
        let known = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(match known {
            // An empty list is what a cluster without a ready API server tells: not worth knowing.
            None => Wanted::unchanged().waiting_for("the API server"),
            Some(list) if list.is_empty() => Wanted::unchanged(),
            Some(list) => Wanted::new().with("kube-apiserver", kinds::Endpoint { addresses: list, hosts: Vec::new() }),
        })
    }
}

fn addresses(slices: &[EndpointSlice]) -> Vec<IpAddr> {
    let mut list: Vec<IpAddr> = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
        .flat_map(|endpoint| endpoint.addresses.iter())
        .filter_map(|address| address.parse().ok())
        .collect();
    list.sort();
    list.dedup();
    list
}

/// Inputs of [`KubePrismEndpoints`].
#[derive(Inputs)]
pub struct PrismIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    members: Many<Member>,
    #[input(id = "kube-apiserver")]
    cluster: One<kinds::Endpoint>,
}

/// What the local balancer may use.
pub struct KubePrismEndpoints;

impl Controller for KubePrismEndpoints {
    const NAME: &'static str = "k8s.KubePrismEndpointsController";
    type In = PrismIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::KubePrismEndpoint>()
    }

    async fn reconcile(&self, _: &Context, input: PrismIn) -> engine::Result<Wanted> {
        let Some(config) = input.config.spec().and_then(MachineConfig::machine) else {
            return Ok(Wanted::unknown("the machine configuration"));
        };
        if config.kube_prism_port().is_none() {
            return Ok(Wanted::new());
        }
        let members = input
            .members
            .specs()
            .filter_map(|member| Some((member.addresses.first()?, member.control_plane.as_ref()?.port)))
            .map(|(address, port)| (address.to_string(), u32::try_from(port).unwrap_or(6443)));
        let port = u32::from(config.api_port());
        let in_cluster =
            input.cluster.iter().flat_map(|endpoint| endpoint.spec.addresses.iter()).map(|address| (address.to_string(), port));
        let own = config.runs_kubernetes().then(|| ("127.0.0.1".to_owned(), port));
        let endpoint = config.endpoint().map(|url| (url.host().trim_matches(['[', ']']).to_owned(), u32::from(url.port().unwrap_or(443))));
        Ok(Wanted::new().with("k8s-cluster", prism(own.into_iter().chain(members).chain(in_cluster).chain(endpoint))))
    }
}

/// Each once, in the order of preference: the machine's own, members', the cluster's endpoint,
/// which may lead back here over a balancer.
fn prism(servers: impl Iterator<Item = (String, u32)>) -> kinds::KubePrismEndpoint {
    let mut endpoints: Vec<kinds::KubePrismServer> = Vec::new();
    for (host, port) in servers {
        let server = kinds::KubePrismServer { host, port };
        if !endpoints.contains(&server) {
            endpoints.push(server);
        }
    }
    kinds::KubePrismEndpoint { endpoints }
}

/// Inputs of [`KubePrism`].
#[derive(Inputs)]
pub struct KubePrismIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "k8s-cluster")]
    endpoints: One<kinds::KubePrismEndpoint>,
}

/// How the local balancer shall work.
pub struct KubePrism;

impl Controller for KubePrism {
    const NAME: &'static str = "k8s.KubePrismConfigController";
    type In = KubePrismIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::KubePrismConfig>()
    }

    async fn reconcile(&self, _: &Context, input: KubePrismIn) -> engine::Result<Wanted> {
        let Some(config) = input.config.spec().and_then(MachineConfig::machine) else {
            return Ok(Wanted::unknown("the machine configuration"));
        };
        let (Some(port), Some(endpoints)) = (config.kube_prism_port(), input.endpoints.spec()) else {
            return Ok(Wanted::new());
        };
        Ok(Wanted::new().with(
            "k8s-loadbalancer-config",
            kinds::KubePrismConfig { host: "127.0.0.1".to_owned(), port: i64::from(port), endpoints: endpoints.endpoints.clone() },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_once_own_first() {
        let servers = [("127.0.0.1", 6443), ("10.5.0.2", 6443), ("10.5.0.2", 6443), ("api.example.org", 443)];
        let prism = prism(servers.into_iter().map(|(host, port)| (host.to_owned(), port)));
        let list: Vec<_> = prism.endpoints.iter().map(|s| (s.host.as_str(), s.port)).collect();
        assert_eq!(list, [("127.0.0.1", 6443), ("10.5.0.2", 6443), ("api.example.org", 443)]);
    }

    #[test]
    fn endpoints_that_are_not_ready_do_not_count() {
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "addressType": "IPv4",
            "metadata": {"name": "kubernetes"},
            "endpoints": [
                {"addresses": ["10.5.0.3"], "conditions": {"ready": true}},
                {"addresses": ["10.5.0.4"], "conditions": {"ready": false}},
                {"addresses": ["10.5.0.2"]},
            ],
        }))
        .unwrap();
        let list: Vec<String> = addresses(&[slice]).iter().map(ToString::to_string).collect();
        assert_eq!(list, ["10.5.0.2", "10.5.0.3"]);
    }
}
