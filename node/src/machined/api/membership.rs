//! `orlop.cluster.v1.MembershipService`: taking a machine out of the cluster that vanished without goodbye.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::API_PORT;
use api::orlop::cluster::v1 as pb;
use api::orlop::cluster::v1::membership_service_server::MembershipService;
use cluster::membership::PRESENCE;
use model::cluster::{Affiliate, Identity, Member};
use model::kube::Nodename;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status};

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
}

impl Ghost {
    /// Finds it among those discovery knows.
    fn find<'a>(asked: &str, affiliates: impl Iterator<Item = &'a Affiliate>) -> Self {
        let ip: Option<IpAddr> = asked.parse().ok();
        let mut ghost = Self { name: asked.to_owned(), hostname: asked.to_owned(), ..Self::default() };
        let is_it = |a: &&Affiliate| {
            [&a.nodename, &a.hostname, &a.node_id].iter().any(|name| *name == asked) || ip.is_some_and(|ip| a.addresses.contains(&ip))
        };
        for affiliate in affiliates.filter(is_it) {
            ghost.ids.push(affiliate.node_id.clone());
            ghost.addresses.extend(&affiliate.addresses);
            if !affiliate.nodename.is_empty() {
                ghost.name.clone_from(&affiliate.nodename);
            }
            ghost.hostname.clone_from(&affiliate.hostname);
        }
        ghost
    }
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
        if ghost.ids.contains(&own) || ghost.name == own_name {
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

    /// Refuses a machine that is alive: that answers, or that others hear.
    async fn refuse_alive(&self, ghost: &Ghost) -> Result<(), Status> {
        let begin = Instant::now();
        let leave = format!("to take it out while it lives, `orlopctl -n {} reset --graceful`; to do it nevertheless, --force", ghost.name);
        for address in &ghost.addresses {
            let place = SocketAddr::new(*address, API_PORT);
            if let Ok(Ok(_)) = timeout(KNOCK, TcpStream::connect(place)).await {
                return Err(Status::failed_precondition(format!("{} is alive: it accepts connections at {place}; {leave}", ghost.name)));
            }
        }
        while self.may_live(ghost) {
            if begin.elapsed() > MARKED {
                return Err(Status::failed_precondition(format!(
                    "{} does not accept connections, but is not known to be gone: another node hears it, or nobody else could say; {leave}",
                    ghost.name
                )));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn leave_etcd(&self, ghost: &Ghost) -> Result<String, String> {
        let members = self.0.etcd.members().await.map_err(|e| e.to_string())?;
        let at = |url: &String| ghost.addresses.iter().any(|ip| url.contains(&format!("//{ip}:")) || url.contains(&format!("//[{ip}]:")));
        let is_it = |name: &str| [&ghost.name, &ghost.hostname].iter().any(|known| *known == name);
        let Some(member) = members.iter().find(|m| is_it(&m.name) || m.peer_urls.iter().any(at)) else {
            return Ok("it was no member".into());
        };
        self.0.etcd.remove_member(member.id).await.map_err(|e| e.to_string())?;
        Ok(format!("removed member {:016x}; {} members are left", member.id, members.len() - 1))
    }

    async fn leave_kubernetes(&self, ghost: &Ghost) -> Result<String, String> {
        let was_there = crate::machined::kubernetes::delete_node(&self.0.store, &ghost.name).await?;
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
        assert_eq!(Ghost::find("w-1", all.iter()).ids, ["b", "c"], "made again under its name");
        let unknown = Ghost::find("x", all.iter());
        assert_eq!((unknown.name.as_str(), unknown.ids.len()), ("x", 0), "etcd and Kubernetes may still know it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_is_told_as_failed() {
        let step = step("etcd", std::future::pending()).await;
        assert_eq!((step.done.as_str(), step.error.as_str()), ("", "not done within 10 s"));
    }
}
