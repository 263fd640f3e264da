//! Where a control plane's health check gets its facts: from the machine APIs of all nodes, as a reader, and from Kubernetes.

use std::net::IpAddr;

use api::health::{Asker, Machine, Outline, Sources};
use api::tls::{self, Identity};
use async_trait::async_trait;
use cluster::membership::is_control_plane;
use engine::Store;
use model::cluster::{Member, OsRootSecret};
use model::health::{KubeFacts, NodeFacts, Role};
use model::kube::{BootstrapManifestsConfig, EtcdRootSecret};
use pki::{Ca, Roles, profile};
use tonic::Status;

/// How long the certificate of a check is good for. Not shorter than it need be: on a machine whose clock is off by less than this, the
/// wrong clock is found, instead of a certificate that seems to have ended.
const LIFETIME: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// The machines that a caller names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// Addresses of control planes.
    pub(super) control_planes: Vec<String>,
    /// Addresses of workers.
    pub(super) workers: Vec<String>,
    /// Another Kubernetes endpoint than the own.
    pub(super) endpoint: String,
}

/// What a control plane asks.
pub(super) struct Everybody {
    store: Store,
    asker: Asker,
    given: Given,
}

impl Everybody {
    /// Asks with a certificate that is made for this and may only read; apid's own may take any role.
    pub(super) fn new(store: &Store, given: Given, admin: bool) -> Result<Self, Status> {
        given.permit(admin, &members(store))?;
        let asker = Self::asker(store).map_err(Status::unavailable)?;
        Ok(Self { store: store.clone(), asker, given })
    }

    fn asker(store: &Store) -> Result<Asker, String> {
        let text = |e: &dyn std::fmt::Display| format!("making a certificate for the check: {e}");
        let root = store.kind::<OsRootSecret>().get("os").ok_or("this node has no root secrets yet")?;
        let pair = root.spec.issuing_ca.as_ref().ok_or("this node is no control plane")?;
        let ca = Ca::from_pem(&String::from_utf8_lossy(&pair.crt.0), &String::from_utf8_lossy(&pair.key.0)).map_err(|e| text(&e))?;
        let reader: Roles = [pki::Role::Reader].into_iter().collect();
        let issued = ca.issue(&profile::api_client(&reader, LIFETIME), jiff::Timestamp::now()).map_err(|e| text(&e))?;
        let identity = Identity::from_pem(issued.cert.as_bytes(), issued.key.as_bytes()).map_err(|e| text(&e))?;
        let accepted: Vec<u8> = root.spec.accepted_cas.iter().flat_map(|ca| [&ca.crt.0[..], b"\n"].concat()).collect();
        let config = tls::client(tls::roots(&accepted).map_err(|e| text(&e))?, Some(&identity)).map_err(|e| text(&e))?;
        Ok(Asker::new(config))
    }
}

/// Lists are no longer than this.
const MOST: usize = 1000;

impl Given {
    /// Refuses what `admin` or not may not have asked: who is none names members alone, so that the node dials no other place for him.
    fn permit(&self, admin: bool, members: &[(String, resource::Resource<Member>)]) -> Result<(), Status> {
        if self.control_planes.len().max(self.workers.len()) > MOST {
            return Err(Status::invalid_argument(format!("more than {MOST} machines are named")));
        }
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("https://") {
            return Err(Status::invalid_argument("the Kubernetes endpoint does not begin with https://"));
        }
        if admin {
            return Ok(());
        }
        if !self.endpoint.is_empty() {
            return Err(Status::permission_denied("another Kubernetes endpoint than the cluster's own needs the role os:admin"));
        }
        let is_member = |address: &&String| {
            address.parse::<IpAddr>().is_ok_and(|ip| members.iter().any(|(_, member)| member.spec.addresses.contains(&ip)))
        };
        match self.control_planes.iter().chain(&self.workers).find(|address| !is_member(address)) {
            Some(other) => {
                Err(Status::permission_denied(format!("{other:?} is no address of a member; to name it needs the role os:admin")))
            }
            None => Ok(()),
        }
    }
}

fn members(store: &Store) -> Vec<(String, resource::Resource<Member>)> {
    store.kind::<Member>().list().iter().map(|m| (m.meta.id.to_string(), m.clone())).collect()
}

/// The machines that should be there: those given, with the names that members have; else all members.
fn machines(members: &[(String, resource::Resource<Member>)], given: &Given) -> Vec<Machine> {
    let role = |member: &Member| if is_control_plane(member.machine_type) { Role::ControlPlane } else { Role::Worker };
    if given.control_planes.is_empty() && given.workers.is_empty() {
        let all = members.iter().filter_map(|(name, member)| {
            let address = member.spec.addresses.first()?.to_string();
            Some(Machine { name: name.clone(), address, role: role(&member.spec) })
        });
        return all.collect();
    }
    let named = |address: &String, role: Role| {
        let ip: Option<IpAddr> = address.parse().ok();
        let known = members.iter().find(|(name, member)| name == address || ip.is_some_and(|ip| member.spec.addresses.contains(&ip)));
        Machine { name: known.map(|(name, _)| name.clone()).unwrap_or_default(), address: address.clone(), role }
    };
    let control_planes = given.control_planes.iter().map(|address| named(address, Role::ControlPlane));
    control_planes.chain(given.workers.iter().map(|address| named(address, Role::Worker))).collect()
}

#[async_trait]
impl Sources for Everybody {
    async fn machines(&self) -> Vec<Machine> {
        machines(&members(&self.store), &self.given)
    }

    async fn machine(&self, machine: &Machine) -> NodeFacts {
        self.asker.ask(machine).await
    }

    async fn kubernetes(&self) -> Result<KubeFacts, String> {
        let endpoint = Some(self.given.endpoint.as_str()).filter(|endpoint| !endpoint.is_empty());
        super::kubernetes::look(&self.store, endpoint).await
    }

    fn outline(&self) -> Outline {
        let etcd = self.store.kind::<EtcdRootSecret>().get("etcd");
        let manifests = self.store.kind::<BootstrapManifestsConfig>().get("manifests");
        Outline {
            has_etcd: etcd.is_some_and(|secret| secret.spec.etcd_ca.is_some()),
            cni_none: manifests.is_some_and(|manifests| !manifests.spec.flannel_enabled),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::host::MachineRole;
    use tonic::Code;

    use super::*;

    fn members() -> Vec<(String, resource::Resource<Member>)> {
        let member = |name: &str, role, address: &str| {
            let spec = Member { machine_type: role, addresses: vec![address.parse().unwrap()], ..Member::default() };
            (name.to_owned(), resource::Resource::new(name, spec))
        };
        vec![member("cp-1", MachineRole::ControlPlane, "10.5.0.2"), member("w-1", MachineRole::Worker, "10.5.0.3")]
    }

    #[test]
    fn without_lists_all_members_are_asked() {
        let found = machines(&members(), &Given::default());
        let names: Vec<_> = found.iter().map(|m| (m.name.as_str(), m.address.as_str(), m.role)).collect();
        assert_eq!(names, [("cp-1", "10.5.0.2", Role::ControlPlane), ("w-1", "10.5.0.3", Role::Worker)]);
    }

    #[test]
    fn who_is_no_admin_names_members_alone() {
        let may = |admin, control_planes: &[&str], workers: &[&str], endpoint: &str| {
            let list = |all: &[&str]| all.iter().map(|&a| a.to_owned()).collect();
            let given = Given { control_planes: list(control_planes), workers: list(workers), endpoint: endpoint.into() };
            given.permit(admin, &members()).map_err(|status| status.code())
        };
        assert_eq!(may(false, &["10.5.0.2"], &["10.5.0.3"], ""), Ok(()));
        for other in ["10.5.0.9", "169.254.169.254", "10.5.0.2:22", "example.org", ""] {
            assert_eq!(may(false, &["10.5.0.2"], &[other], ""), Err(Code::PermissionDenied), "{other}");
            assert_eq!(may(false, &[other], &[], ""), Err(Code::PermissionDenied), "{other}");
            assert_eq!(may(true, &[other], &[], ""), Ok(()), "{other}");
        }
        assert_eq!(may(false, &[], &[], "https://10.5.0.2:6443"), Err(Code::PermissionDenied));
        assert_eq!(may(true, &[], &[], "https://10.5.0.2:6443"), Ok(()));
        assert_eq!(may(true, &[], &[], "http://10.5.0.2:6443"), Err(Code::InvalidArgument));
        assert_eq!(may(true, &[], &["10.5.0.3"; MOST], ""), Ok(()));
        assert_eq!(may(true, &[], &["10.5.0.3"; MOST + 1], ""), Err(Code::InvalidArgument));
    }

    #[test]
    fn given_machines_count_whether_discovery_knows_them_or_not() {
        let given = Given { control_planes: vec!["10.5.0.2".into()], workers: vec!["10.5.0.9".into()], endpoint: String::new() };
        let found = machines(&members(), &given);
        let names: Vec<_> = found.iter().map(|m| (m.name.as_str(), m.address.as_str(), m.role)).collect();
        assert_eq!(names, [("cp-1", "10.5.0.2", Role::ControlPlane), ("", "10.5.0.9", Role::Worker)]);
    }
}
