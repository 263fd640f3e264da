//! Membership: what this node tells about itself, what the others tell, and who is a member.
//!
//! Raw affiliates (namespace `cluster-raw`, one per source) become affiliates, those with a node name become members. A raw affiliate
//! carries in its annotations whether heartbeats are heard; members pass that on. It is an observation, and nothing here acts on it.

use std::collections::BTreeMap;

use base64::Engine as _;
use engine::{Context, Controller, Inputs, Many, Marks, One, OneExt, Outputs, Wanted};
use model::cluster::{Affiliate, ControlPlane, DiscoveryConfig, Identity, Info, Member, ServiceEndpoint};
use model::host::{MachineConfig, MachineRole, MachineType};
use model::kube::Nodename;
use model::net::{HostnameStatus, NodeAddress};
use resource::{Metadata, Resource};

/// The namespace of what single sources tell.
pub const RAW: &str = "cluster-raw";
pub use model::cluster::{PRESENCE, UNHEARD_BY};

/// Cluster id and name.
pub struct InfoController;

/// The machine configuration.
#[derive(Inputs)]
pub struct ConfigIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
}

impl Controller for InfoController {
    const NAME: &'static str = "cluster.InfoController";
    type In = ConfigIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<Info>()
    }

    async fn reconcile(&self, _: &Context, input: ConfigIn) -> engine::Result<Wanted> {
        let machine = input.config.spec().and_then(|config| config.machine());
        let info = machine.filter(|machine| machine.is_complete()).map(|machine| Info {
            cluster_id: machine.discovery_identity().map(|identity| identity.cluster_id.clone()).unwrap_or_default(),
            cluster_name: machine.cluster_name().to_owned(),
        });
        Ok(Wanted::new().maybe("current", info))
    }
}

/// How members find each other.
pub struct DiscoveryConfigController;

impl Controller for DiscoveryConfigController {
    const NAME: &'static str = "cluster.ConfigController";
    type In = ConfigIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<DiscoveryConfig>()
    }

    async fn reconcile(&self, _: &Context, input: ConfigIn) -> engine::Result<Wanted> {
        let Some(machine) = input.config.spec().and_then(|config| config.machine()) else { return Ok(Wanted::new()) };
        let mut config = DiscoveryConfig::default();
        if let Some(identity) = machine.discovery_identity() {
            config.discovery_enabled = true;
            config.service_cluster_id.clone_from(&identity.cluster_id);
            config.service_encryption_key = decode_secret(identity.cluster_secret.expose())?.into();
            config.service_endpoints = machine
                .discovery_services()
                .map(|service| {
                    let url = service.endpoint.as_str();
                    ServiceEndpoint { name: service.name.clone(), endpoint: url.to_owned(), insecure: url.starts_with("http://") }
                })
                .collect();
            config.registry_service_enabled = !config.service_endpoints.is_empty();
            if let Some(first) = config.service_endpoints.first() {
                config.service_endpoint.clone_from(&first.endpoint);
                config.service_endpoint_insecure = first.insecure;
            }
        }
        Ok(Wanted::new().with("cluster", config))
    }
}

/// The cluster's secret, standard base64.
fn decode_secret(text: &str) -> engine::Result<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text.trim()).map_err(|error| {
        engine::Error::msg(format!("DiscoveryIdentityConfig.clusterSecret: {error}; expected 32 random bytes, base64-encoded"))
    })
}

/// What this node tells about itself.
pub struct LocalAffiliateController {
    /// How it calls its system: `Talos (<tag>)`, the form clients know.
    pub operating_system: String,
}

/// Inputs of [`LocalAffiliateController`].
#[derive(Inputs)]
pub struct LocalIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "local")]
    identity: One<Identity>,
    #[input(id = "machine-type")]
    machine_type: One<MachineType>,
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
    #[input(id = "nodename")]
    nodename: One<Nodename>,
    #[input(id = "routed-no-k8s")]
    filtered: One<NodeAddress>,
    #[input(id = "routed")]
    routed: One<NodeAddress>,
}

impl Controller for LocalAffiliateController {
    const NAME: &'static str = "cluster.LocalAffiliateController";
    type In = LocalIn;

    fn outputs() -> Outputs {
        Outputs::new().shared::<Affiliate>()
    }

    async fn reconcile(&self, _: &Context, input: LocalIn) -> engine::Result<Wanted> {
        let machine = input.config.spec().and_then(|config| config.machine());
        let (Some(machine), Some(identity), Some(hostname)) = (machine, input.identity.spec(), input.hostname.spec()) else {
            return Ok(Wanted::unchanged().waiting_for("configuration, identity and host name"));
        };
        // Kubernetes' own addresses are not where a node is reached; its filter follows the configuration.
        let Some(addresses) = input.filtered.spec().or(input.routed.spec()).filter(|list| !list.addresses.is_empty()) else {
            return Ok(Wanted::unchanged().waiting_for("addresses"));
        };
        let hostname = match hostname.domainname.as_str() {
            "" => hostname.hostname.clone(),
            domain => format!("{}.{domain}", hostname.hostname),
        };
        let role = input.machine_type.spec().map(|machine_type| machine_type.role).unwrap_or_default();
        let affiliate = Affiliate {
            node_id: identity.node_id.clone(),
            addresses: addresses.addresses.iter().map(|address| address.addr()).collect(),
            hostname,
            nodename: input.nodename.spec().map(|nodename| nodename.nodename.clone()).unwrap_or_default(),
            operating_system: self.operating_system.clone(),
            machine_type: role,
            control_plane: is_control_plane(role).then(|| ControlPlane { port: i64::from(machine.api_port()) }),
            ..Affiliate::default()
        };
        Ok(Wanted::new().with(identity.node_id.clone(), affiliate))
    }
}

/// Whether a machine of this role runs the control plane.
#[must_use]
pub fn is_control_plane(role: MachineRole) -> bool {
    matches!(role, MachineRole::Init | MachineRole::ControlPlane)
}

/// What all sources together tell about the others.
pub struct AffiliateMergeController;

/// Inputs of [`AffiliateMergeController`].
#[derive(Inputs)]
pub struct MergeIn {
    #[input(namespace = "cluster-raw")]
    raw: Many<Affiliate>,
    #[input(id = "local")]
    identity: One<Identity>,
}

impl Controller for AffiliateMergeController {
    const NAME: &'static str = "cluster.AffiliateMergeController";
    type In = MergeIn;

    fn outputs() -> Outputs {
        Outputs::new().shared::<Affiliate>()
    }

    async fn reconcile(&self, _: &Context, input: MergeIn) -> engine::Result<Wanted> {
        let Some(identity) = input.identity.spec() else { return Ok(Wanted::unchanged().waiting_for("this node's identity")) };
        let mut merged: BTreeMap<String, (Affiliate, Marks)> = BTreeMap::new();
        for raw in input.raw.iter().filter(|raw| raw.spec.node_id != identity.node_id) {
            // Sources come in the order of their ids: `k8s/` before `service/`, whose word is newer.
            let (affiliate, marks) = merged.entry(raw.spec.node_id.clone()).or_default();
            let endpoints = std::mem::take(&mut affiliate.kubespan.endpoints);
            *affiliate = raw.spec.clone();
            for endpoint in endpoints {
                if !affiliate.kubespan.endpoints.contains(&endpoint) {
                    affiliate.kubespan.endpoints.push(endpoint);
                }
            }
            *marks = presence_of(&raw.meta);
        }
        let mut wanted = Wanted::new();
        for (id, (affiliate, marks)) in merged {
            wanted.add_in("cluster", id, affiliate, marks);
        }
        Ok(wanted)
    }
}

fn presence_of(meta: &Metadata) -> Marks {
    [PRESENCE, UNHEARD_BY]
        .into_iter()
        .filter_map(|key| Some((key, meta.annotations.get(key)?.clone())))
        .fold(Marks::default(), |marks, (key, value)| marks.annotation(key, value))
}

/// Whether others no longer hear it.
fn is_lost(meta: &Metadata) -> bool {
    meta.annotations.get(PRESENCE).is_some_and(|presence| matches!(&**presence, "down" | "silent"))
}

/// Members: affiliates that are nodes of the cluster, by node name.
pub struct MemberController;

/// Inputs of [`MemberController`].
#[derive(Inputs)]
pub struct MemberIn {
    affiliates: Many<Affiliate>,
}

impl Controller for MemberController {
    const NAME: &'static str = "cluster.MemberController";
    type In = MemberIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<Member>()
    }

    async fn reconcile(&self, _: &Context, input: MemberIn) -> engine::Result<Wanted> {
        // A node that was lost and made again under its name is there twice until the old one expires: the one that is heard counts.
        let mut by_name: BTreeMap<&str, &Resource<Affiliate>> = BTreeMap::new();
        for affiliate in input.affiliates.iter().filter(|affiliate| !affiliate.spec.nodename.is_empty()) {
            let place = by_name.entry(&affiliate.spec.nodename).or_insert(affiliate);
            if is_lost(&place.meta) && !is_lost(&affiliate.meta) {
                *place = affiliate;
            }
        }
        let mut wanted = Wanted::new();
        for affiliate in by_name.into_values() {
            let spec = &affiliate.spec;
            let member = Member {
                node_id: spec.node_id.clone(),
                addresses: spec.addresses.clone(),
                hostname: spec.hostname.clone(),
                machine_type: spec.machine_type,
                operating_system: spec.operating_system.clone(),
                control_plane: spec.control_plane.clone(),
            };
            wanted.add_in("cluster", spec.nodename.clone(), member, presence_of(&affiliate.meta));
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::one;

    use super::*;

    fn addresses(text: &str) -> One<NodeAddress> {
        one("routed", NodeAddress { addresses: vec![text.parse().unwrap()], ..NodeAddress::default() })
    }

    fn local(role: MachineRole) -> LocalIn {
        LocalIn {
            config: one("v1alpha1", MachineConfig::new(b"version: v1alpha1\nmachine:\n  type: controlplane\ncluster: {}\n".as_slice())),
            identity: one("local", Identity { node_id: "n1".into() }),
            machine_type: one("machine-type", MachineType { role }),
            hostname: one("hostname", HostnameStatus { hostname: "cp-1".into(), domainname: "example.org".into() }),
            nodename: one("nodename", Nodename { nodename: "cp-1".into(), ..Nodename::default() }),
            filtered: None,
            routed: addresses("10.5.0.2/24"),
        }
    }

    async fn tell(input: LocalIn) -> Wanted {
        LocalAffiliateController { operating_system: "Talos (v1.15.0+orlop.0.1.0)".into() }
            .reconcile(&Context::detached(), input)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_node_tells_about_itself() {
        let wanted = tell(local(MachineRole::ControlPlane)).await;
        let affiliate = wanted.get::<Affiliate>("n1").unwrap();
        assert_eq!((affiliate.hostname.as_str(), affiliate.nodename.as_str()), ("cp-1.example.org", "cp-1"));
        assert_eq!(affiliate.control_plane, Some(ControlPlane { port: 6443 }));
        assert_eq!(affiliate.addresses, ["10.5.0.2".parse::<std::net::IpAddr>().unwrap()]);
        let worker = tell(local(MachineRole::Worker)).await;
        assert_eq!(worker.get::<Affiliate>("n1").unwrap().control_plane, None);
        assert!(tell(LocalIn { routed: None, ..local(MachineRole::Worker) }).await.keeps_all(), "nothing is told before it is known");
    }

    #[tokio::test]
    async fn others_become_members_with_their_marks() {
        let raw = |id: &str, nodename: &str| Affiliate { node_id: id.into(), nodename: nodename.into(), ..Affiliate::default() };
        let mut meta = Metadata::of::<Affiliate>("service/n2");
        meta.annotations.insert(PRESENCE.into(), "down".into());
        let marked = Arc::new(Resource { meta, spec: raw("n2", "w-1") });
        assert_eq!(presence_of(&marked.meta), Marks::default().annotation(PRESENCE, "down"));

        let input = MergeIn {
            raw: Many::of([("service/n1", raw("n1", "cp-1")), ("service/n2", raw("n2", "w-1")), ("service/n3", raw("n3", ""))]),
            identity: one("local", Identity { node_id: "n1".into() }),
        };
        let merged = AffiliateMergeController.reconcile(&Context::detached(), input).await.unwrap();
        let ids: Vec<&str> = merged.specs::<Affiliate>().map(|(id, _)| id).collect();
        assert_eq!(ids, ["n2", "n3"], "its own word is not taken from others");
        let affiliates = Many::of(merged.specs::<Affiliate>().map(|(id, spec)| (id.to_owned(), spec.clone())).collect::<Vec<_>>());
        let members = MemberController.reconcile(&Context::detached(), MemberIn { affiliates }).await.unwrap();
        let names: Vec<&str> = members.specs::<Member>().map(|(id, _)| id).collect();
        assert_eq!(names, ["w-1"], "without a node name it is no member");
    }

    #[test]
    fn a_name_that_is_there_twice_belongs_to_the_one_that_is_heard() {
        let with = |presence: &str| {
            let mut meta = Metadata::of::<Affiliate>("x");
            meta.annotations.insert(PRESENCE.into(), presence.into());
            meta
        };
        assert!(is_lost(&with("down")) && is_lost(&with("silent")));
        assert!(!is_lost(&with("up")) && !is_lost(&with("unknown")) && !is_lost(&Metadata::of::<Affiliate>("x")));
    }

    #[tokio::test]
    async fn discovery_follows_the_configuration() {
        let text = "apiVersion: v1alpha1\nkind: DiscoveryIdentityConfig\nclusterID: c1\nclusterSecret: AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n";
        let run = async |text: &str| {
            let input = ConfigIn { config: one("v1alpha1", MachineConfig::new(text.as_bytes())) };
            DiscoveryConfigController.reconcile(&Context::detached(), input).await
        };
        let wanted = run(text).await.unwrap();
        let config = wanted.get::<DiscoveryConfig>("cluster").unwrap();
        assert!(config.discovery_enabled && config.service_endpoints.is_empty());
        assert_eq!(config.service_cluster_id, "c1");
        assert_eq!(config.service_encryption_key.0, (1..=32).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn a_secret_that_is_no_base64_is_named() {
        let text = "apiVersion: v1alpha1\nkind: DiscoveryIdentityConfig\nclusterID: c1\nclusterSecret: '***'\n";
        let input = ConfigIn { config: one("v1alpha1", MachineConfig::new(text.as_bytes())) };
        if let Err(error) = DiscoveryConfigController.reconcile(&Context::detached(), input).await {
            assert!(error.to_string().contains("clusterSecret"), "{error}");
        }
    }
}
