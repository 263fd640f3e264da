//! `orlop.cluster.v1.MembershipService`: taking a machine out of the cluster that vanished without goodbye.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::API_PORT;
use api::orlop::cluster::v1 as pb;
use api::orlop::cluster::v1::membership_service_server::MembershipService;
use cluster::membership::PRESENCE;
use futures::future::join_all;
use kube_room::etcd::membership::Member as EtcdMember;
use model::cluster::{Affiliate, Identity, Member};
use model::kube::Nodename;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status};

use crate::machined::kubernetes;
use crate::machined::node::Node;

/// A member that vanished is marked within 10 s; until then it counts as alive.
const MARKED: Duration = Duration::from_secs(12);
/// Time for a connection to a machine that lives.
const KNOCK: Duration = Duration::from_secs(1);
/// Time for each step.
const STEP: Duration = Duration::from_secs(10);

/// The service.
#[derive(Clone)]
pub(crate) struct Membership(pub(crate) Node);

/// Whom to forget, by all its names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ghost {
    /// Its node name; as the caller named it when nobody knows it.
    name: String,
    /// Its host name.
    hostname: String,
    /// Its node ids: more than one when it was made again under its name.
    ids: Vec<String>,
    /// Its addresses.
    addresses: Vec<IpAddr>,
    /// Another machine has its name: it was made again under it, and what is known by the name alone is the other's.
    shared: bool,
}

impl Ghost {
    /// Finds it among those discovery knows.
    fn find<'a>(asked: &str, affiliates: impl Iterator<Item = &'a Affiliate>) -> Self {
        let affiliates: Vec<_> = affiliates.collect();
        let ip: Option<IpAddr> = asked.parse().ok();
        let mut ghost = Self { name: asked.to_owned(), hostname: asked.to_owned(), ..Self::default() };
        let is_it = |a: &&Affiliate| {
            [&a.nodename, &a.hostname, &a.node_id].iter().any(|name| *name == asked) || ip.is_some_and(|ip| a.addresses.contains(&ip))
        };
        for affiliate in affiliates.iter().copied().filter(is_it) {
            ghost.ids.push(affiliate.node_id.clone());
            ghost.addresses.extend(&affiliate.addresses);
            if !affiliate.nodename.is_empty() {
                ghost.name.clone_from(&affiliate.nodename);
            }
            ghost.hostname.clone_from(&affiliate.hostname);
        }
        let (ids, name) = (ghost.ids.clone(), ghost.name.clone());
        for namesake in affiliates.iter().filter(|a| !ids.is_empty() && !ids.contains(&a.node_id) && a.nodename == name) {
            ghost.shared = true;
            ghost.addresses.retain(|ip| !namesake.addresses.contains(ip));
        }
        ghost
    }

    /// Which member of etcd it is: by name, or without a name yet and at its address; where another machine has its name, by address.
    fn member<'a>(&self, members: &'a [EtcdMember]) -> Option<&'a EtcdMember> {
        let is_at = |m: &&EtcdMember| m.peer_urls.iter().filter_map(|url| host(url)).any(|ip| self.addresses.contains(&ip));
        if self.shared {
            return members.iter().find(is_at);
        }
        self.named(members).or_else(|| members.iter().filter(|m| m.name.is_empty()).find(is_at))
    }

    fn named<'a>(&self, members: &'a [EtcdMember]) -> Option<&'a EtcdMember> {
        members.iter().find(|m| !m.name.is_empty() && [&self.name, &self.hostname].contains(&&m.name))
    }

    /// Where it may be, by etcd and Kubernetes, when discovery does not know it. Refused when it lives, or when they do not know it.
    fn elsewhere(&self, members: &[EtcdMember], node: Option<&Value>) -> Result<Vec<IpAddr>, Status> {
        let status = node.map(|node| &node["status"]);
        let list = |key: &str| status.and_then(|status| status[key].as_array()).into_iter().flatten();
        if list("conditions").any(|c| c["type"] == "Ready" && c["status"] == "True") {
            return Err(Status::aborted(format!("{} is alive: Kubernetes hears its kubelet; {}", self.name, self.leave())));
        }
        let of_node = list("addresses").filter_map(|a| a["address"].as_str()?.parse().ok());
        let of_member = self.named(members).into_iter().flat_map(|m| &m.peer_urls).filter_map(|url| host(url));
        let addresses: Vec<IpAddr> = of_member.chain(of_node).collect();
        if addresses.is_empty() {
            return Err(Status::failed_precondition(format!(
                "{} is not known to discovery, and neither etcd nor Kubernetes says where it is; to do it nevertheless, --force",
                self.name
            )));
        }
        Ok(addresses)
    }

    /// What to do about one that lives.
    fn leave(&self) -> String {
        format!("to take it out while it lives, `orlopctl -n {} reset --graceful`; to do it nevertheless, --force", self.name)
    }
}

/// The address in a URL, when it is one.
fn host(url: &str) -> Option<IpAddr> {
    let uri: http::Uri = url.parse().ok()?;
    uri.host()?.trim_matches(['[', ']']).parse().ok()
}

/// Which of these places accepts a connection.
async fn answers(places: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let knock = async |place| matches!(timeout(KNOCK, TcpStream::connect(place)).await, Ok(Ok(_))).then_some(place);
    join_all(places.map(knock)).await.into_iter().flatten().next()
}

impl Membership {
    fn ghost(&self, asked: &str) -> Result<Ghost, Status> {
        if asked.is_empty() {
            return Err(Status::invalid_argument("no node is named: give its name, address or node id"));
        }
        let store = &self.0.store;
        let own = store.kind::<Identity>().get("local").map(|identity| identity.spec.node_id.clone()).unwrap_or_default();
        let ghost = Ghost::find(asked, store.kind::<Affiliate>().list().specs());
        let own_name = store.kind::<Nodename>().get("nodename").map(|n| n.spec.nodename.clone()).unwrap_or_default();
        if ghost.ids.contains(&own) || (!ghost.shared && ghost.name == own_name) {
            return Err(Status::failed_precondition(format!(
                "{asked} is the node that was asked; it leaves with `orlopctl -n {asked} reset --graceful`, or ask another control plane"
            )));
        }
        Ok(ghost)
    }

    /// The marks of the members it is: whether one of them is heard or not known to be lost.
    fn may_live(&self, ghost: &Ghost) -> bool {
        let members = self.0.store.kind::<Member>().list();
        members
            .iter()
            .filter(|m| ghost.ids.contains(&m.spec.node_id))
            .any(|m| m.meta.annotations.get(PRESENCE).is_none_or(|p| &**p != "down"))
    }

    /// Where one that discovery does not know may be.
    async fn elsewhere(&self, ghost: &Ghost) -> Result<Vec<IpAddr>, Status> {
        let (members, node) =
            tokio::join!(timeout(STEP, self.0.etcd.members()), timeout(STEP, kubernetes::find_node(&self.0.store, &ghost.name)));
        let members = members.ok().and_then(Result::ok).unwrap_or_default();
        let node = node.ok().and_then(Result::ok).flatten();
        ghost.elsewhere(&members, node.as_ref())
    }

    /// Refuses a machine that is alive: that answers, or that others hear.
    async fn refuse_alive(&self, ghost: &Ghost) -> Result<(), Status> {
        let begin = Instant::now();
        let addresses = if ghost.ids.is_empty() { self.elsewhere(ghost).await? } else { ghost.addresses.clone() };
        if let Some(place) = answers(addresses.into_iter().map(|ip| SocketAddr::new(ip, API_PORT))).await {
            return Err(Status::aborted(format!("{} is alive: it accepts connections at {place}; {}", ghost.name, ghost.leave())));
        }
        while self.may_live(ghost) {
            if begin.elapsed() > MARKED {
                return Err(Status::aborted(format!(
                    "{} does not accept connections, but is not known to be gone: another node hears it, or nobody else could say; {}",
                    ghost.name,
                    ghost.leave()
                )));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn leave_etcd(&self, ghost: &Ghost) -> Result<String, String> {
        let members = self.0.etcd.members().await.map_err(|e| e.to_string())?;
        let Some(member) = ghost.member(&members) else {
            return Ok("it was no member".into());
        };
        self.0.etcd.remove_member(member.id).await.map_err(|e| e.to_string())?;
        Ok(format!("removed member {:016x}; {} members are left", member.id, members.len() - 1))
    }

    async fn leave_kubernetes(&self, ghost: &Ghost) -> Result<String, String> {
        if ghost.shared {
            return Ok("left as it is: another machine has this name".into());
        }
        let was_there = kubernetes::delete_node(&self.0.store, &ghost.name).await?;
        Ok(if was_there { "removed the node object" } else { "there was no node object" }.into())
    }

    async fn leave_discovery(&self, ghost: &Ghost) -> Result<String, String> {
        if ghost.ids.is_empty() {
            return Ok("it was not known".into());
        }
        ghost.ids.iter().for_each(|id| self.0.edge.forget(id));
        let affiliates = self.0.store.kind::<Affiliate>();
        while ghost.ids.iter().any(|id| affiliates.get(id).is_some()) {
            sleep(Duration::from_millis(100)).await;
        }
        Ok("told all members".into())
    }
}

async fn step(place: &str, act: impl Future<Output = Result<String, String>>) -> pb::ForgetStep {
    let late = |_| Err(format!("not done within {} s", STEP.as_secs()));
    let (done, error) = match timeout(STEP, act).await.unwrap_or_else(late) {
        Ok(done) => (done, String::new()),
        Err(error) => (String::new(), error),
    };
    pb::ForgetStep { place: place.into(), done, error }
}

#[tonic::async_trait]
impl MembershipService for Membership {
    async fn forget(&self, request: Request<pb::ForgetRequest>) -> Result<Response<pb::ForgetResponse>, Status> {
        if !self.0.is_control_plane() {
            return Err(Status::failed_precondition("this node is a worker; ask a control plane: give the address of one with --nodes"));
        }
        let request = request.into_inner();
        let ghost = self.ghost(&request.node)?;
        if !request.force {
            self.refuse_alive(&ghost).await?;
        }
        tracing::info!(node = %ghost.name, force = request.force, "forgetting a node");
        // etcd first: while the member counts, each further loss may cost the majority.
        let steps = vec![
            step("etcd", self.leave_etcd(&ghost)).await,
            step("Kubernetes", self.leave_kubernetes(&ghost)).await,
            step("discovery", self.leave_discovery(&ghost)).await,
        ];
        Ok(Response::new(pb::ForgetResponse { node: ghost.name, steps }))
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn affiliate(id: &str, name: &str, address: &str) -> Affiliate {
        Affiliate {
            node_id: id.into(),
            nodename: name.into(),
            hostname: format!("{name}.lab"),
            addresses: vec![address.parse().unwrap()],
            ..Affiliate::default()
        }
    }

    #[test]
    fn a_node_is_found_by_each_of_its_names() {
        let all = [affiliate("a", "cp-2", "10.5.0.3"), affiliate("b", "w-1", "10.5.0.4"), affiliate("c", "w-1", "10.5.0.5")];
        for asked in ["cp-2", "cp-2.lab", "a", "10.5.0.3"] {
            let ghost = Ghost::find(asked, all.iter());
            assert_eq!((ghost.name.as_str(), ghost.ids.as_slice()), ("cp-2", ["a".to_owned()].as_slice()), "{asked}");
        }
        let both = Ghost::find("w-1", all.iter());
        assert_eq!((both.ids.as_slice(), both.shared), (["b".to_owned(), "c".to_owned()].as_slice(), false), "made again under its name");
        let stale = Ghost::find("b", all.iter());
        assert_eq!((stale.ids.as_slice(), stale.shared), (["b".to_owned()].as_slice(), true), "one of two of that name");
        let unknown = Ghost::find("x", all.iter());
        assert_eq!((unknown.name.as_str(), unknown.ids.len()), ("x", 0), "etcd and Kubernetes may still know it");
    }

    fn member(id: u64, name: &str, address: &str) -> EtcdMember {
        EtcdMember { id, name: name.into(), peer_urls: vec![format!("https://{address}:2380")], client_urls: Vec::new(), learner: false }
    }

    #[test]
    fn forgetting_a_stale_id_leaves_its_namesake_alone() {
        let mut all = [affiliate("old", "cp-2", "10.5.0.3"), affiliate("new", "cp-2", "10.5.0.4")];
        all[0].addresses.push("10.5.0.4".parse().unwrap());
        let stale = Ghost::find("old", all.iter());
        assert_eq!(stale.addresses, ["10.5.0.3".parse::<IpAddr>().unwrap()], "an address of both is the namesake's");
        let members = [member(1, "cp-2", "10.5.0.4"), member(2, "cp-2", "10.5.0.3")];
        assert_eq!(stale.member(&members).map(|m| m.id), Some(2));
        assert_eq!(stale.member(&members[..1]), None);
    }

    #[test]
    fn a_member_is_found_by_name_before_address() {
        let ghost = Ghost::find("cp-2", [affiliate("a", "cp-2", "10.5.0.3")].iter());
        let id = |members: &[EtcdMember]| ghost.member(members).map(|m| m.id);
        assert_eq!(id(&[member(1, "", "10.5.0.3"), member(2, "cp-2", "10.5.0.9")]), Some(2));
        assert_eq!(id(&[member(1, "cp-3", "10.5.0.3")]), None, "another has its address now");
        assert_eq!(id(&[member(1, "", "10.5.0.3")]), Some(1), "it never started");
    }

    #[test]
    fn one_that_discovery_does_not_know_is_looked_for_elsewhere() {
        let ghost = Ghost::find("cp-2", [].iter());
        let node = |ready: &str| {
            serde_json::json!({"status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "Hostname", "address": "cp-2"}, {"type": "InternalIP", "address": "10.5.0.3"}],
            }})
        };
        let places = |members: &[EtcdMember], node: Option<&Value>| {
            ghost.elsewhere(members, node).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>()).map_err(|s| s.code())
        };
        let members = [member(1, "cp-1", "10.5.0.2"), member(2, "cp-2", "[fd00::3]")];
        assert_eq!(places(&members, Some(&node("Unknown"))).unwrap(), ["fd00::3", "10.5.0.3"]);
        assert_eq!(places(&[], Some(&node("True"))), Err(Code::Aborted), "its kubelet is heard");
        assert_eq!(places(&members[..1], None), Err(Code::FailedPrecondition), "nobody knows it");
    }

    #[tokio::test]
    async fn all_places_are_knocked_at_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        // Addresses for documentation: nobody answers there, whether at once or never.
        let silent = (1..6).map(|n| SocketAddr::new(IpAddr::from([192, 0, 2, n]), open.port()));
        let begin = Instant::now();
        assert_eq!(answers(silent.clone().chain([open])).await, Some(open));
        assert_eq!(answers(silent).await, None);
        assert!(begin.elapsed() < 4 * KNOCK, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_is_told_as_failed() {
        let step = step("etcd", std::future::pending()).await;
        assert_eq!((step.done.as_str(), step.error.as_str()), ("", "not done within 10 s"));
    }
}
