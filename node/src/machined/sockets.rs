//! The Unix sockets that `machined` serves: the machine API, and what each of our other processes may see.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use ::api::cluster::cluster_service_server::ClusterServiceServer;
use ::api::inspect::inspect_service_server::InspectServiceServer;
use ::api::machine::machine_service_server::MachineServiceServer;
use ::api::orlop::cluster::v1::membership_service_server::MembershipServiceServer;
use ::api::orlop::trust::v1::trust_service_server::TrustServiceServer;
use ::api::roles::{Role, Roles};
use ::api::server::{Peer, RoleGate, Router, serve_unix};
use ::api::state::{Access, Server};
use ::api::time::time_service_server::TimeServiceServer;
use engine::Table;
use model::services::ServiceStatus;
use resource::Registry;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::api::{Cluster, Inspect, Machine, Membership, Time};
use super::node::Node;

/// apid's user; trustd's is the next.
const APID: u32 = 50;
const TRUSTD: u32 = 51;

/// Listens at a path that only its owner and group may use; what is left there from before goes.
fn listen(path: &Path, group: u32) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    std::os::unix::fs::chown(path, Some(0), Some(group))?;
    Ok(listener)
}

/// The roles that the peer may pass on, of those it claims: apid proved who its callers are, nobody else did.
fn limit(statuses: &Table<ServiceStatus>, peer: &Peer, claimed: Roles) -> Result<Roles, Status> {
    let refused = || Status::permission_denied("not authorized");
    let cred = peer.cred.ok_or_else(refused)?;
    let pid = cred.pid().and_then(|p| u32::try_from(p).ok()).ok_or_else(refused)?;
    let is = |id: &str| statuses.get(id).is_some_and(|s| s.spec.pid == pid && pid != 0);
    if cred.uid() == APID || is("apid") {
        return Ok(claimed);
    }
    if is("containerd") {
        let verifier: Roles = [Role::ImageVerifier.as_str()].into_iter().collect();
        return Ok(verifier);
    }
    Err(refused())
}

/// Serves all sockets, in the background.
pub(crate) fn serve(node: &Node, registry: &Arc<Registry>) -> std::io::Result<()> {
    let stop = CancellationToken::new();
    let state = || -> Arc<dyn resource::State> { Arc::new(node.store.clone()) };
    let namespaces = model::NAMESPACES.iter().map(|(name, _)| *name);
    let statuses = node.statuses.clone();
    let machine = Router::new()
        .with(
            MachineServiceServer::new(Machine(node.clone()))
                .max_encoding_message_size(::api::MAX_MESSAGE)
                .max_decoding_message_size(::api::MAX_MESSAGE),
        )
        .with(ClusterServiceServer::new(Cluster(node.clone())))
        .with(MembershipServiceServer::new(Membership(node.clone())))
        .with(InspectServiceServer::new(Inspect(node.clone())))
        .with(TimeServiceServer::new(Time(node.clone())))
        .with(Server::new(state(), Access::node(registry, namespaces), registry.clone()).into_service())
        .gate(RoleGate::new(move |peer: Peer, claimed| {
            let result = limit(&statuses, &peer, claimed);
            async move { result }
        }));
    let apid = [
        ("secrets", "ApiCertificates.secrets.talos.dev"),
        ("runtime", "APIServiceConfigs.runtime.talos.dev"),
        ("network", "NodeAddresses.net.talos.dev"),
    ];
    let trustd = [("secrets", "TrustdCertificates.secrets.talos.dev")];
    let apid = Router::new().with(Server::new(state(), Access::only(apid), registry.clone()).into_service());
    let trustd = Router::new()
        .with(Server::new(state(), Access::only(trustd), registry.clone()).into_service())
        .with(TrustServiceServer::new(crate::trustd::sign::Service::new(state())));
    let sockets = [
        ("/system/run/machined/machine.sock", APID, machine),
        ("/system/run/apid/runtime.sock", APID, apid),
        ("/system/run/trustd/runtime.sock", TRUSTD, trustd),
    ];
    for (path, group, router) in sockets {
        let listener = listen(Path::new(path), group)?;
        tokio::spawn(serve_unix(listener, router, stop.clone()));
    }
    // The sockets live as long as the process; a token that is dropped does not cancel.
    Ok(())
}
