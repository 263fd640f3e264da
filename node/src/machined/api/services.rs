//! Services as clients see them, and what they may ask.

use api::machine as pb;
use model::services::{Control, ServiceRequest, ServiceStatus};
use tonic::Status;

use crate::machined::node::Node;

fn timestamp(at: Option<resource::Timestamp>) -> Option<prost_types::Timestamp> {
    at.map(|t| prost_types::Timestamp { seconds: t.seconds(), nanos: t.nanos() })
}

fn info(id: &str, status: &ServiceStatus) -> pb::ServiceInfo {
    let events = status.events.iter().map(|e| pb::ServiceEvent { msg: e.message.clone(), state: e.state.clone(), ts: timestamp(e.time) });
    pb::ServiceInfo {
        id: id.to_owned(),
        state: status.state.clone(),
        events: Some(pb::ServiceEvents { events: events.collect() }),
        health: Some(pb::ServiceHealth {
            unknown: status.unknown,
            healthy: status.healthy,
            last_message: status.last_message.clone(),
            last_change: timestamp(status.last_change),
        }),
    }
}

/// All services.
pub(super) fn list(node: &Node) -> Vec<pb::ServiceInfo> {
    node.statuses.list().iter().map(|s| info(s.meta.id.as_str(), &s.spec)).collect()
}

/// Checks that the API may ask this of the service.
fn may(node: &Node, id: &str, what: &str, allowed: impl Fn(&Control) -> bool) -> Result<(), Status> {
    let spec = node.specs.get(id).ok_or_else(|| {
        let ids: Vec<_> = node.specs.list().iter().map(|s| s.meta.id.to_string()).collect();
        Status::not_found(format!("service {id:?} is not there; this node has: {}", ids.join(", ")))
    })?;
    if allowed(&spec.spec.control) {
        Ok(())
    } else {
        Err(Status::failed_precondition(format!("service {id:?} doesn't support {what} operation via API")))
    }
}

fn request(node: &Node, id: &str, change: impl Fn(&mut ServiceRequest)) -> Result<(), Status> {
    let mut spec = node.requests.get(id).map(|r| r.spec.clone()).unwrap_or_default();
    change(&mut spec);
    node.requests.put("", id, spec).map(drop).map_err(|e| Status::internal(e.to_string()))
}

/// Lets a stopped service run again.
pub(super) fn start(node: &Node, id: &str) -> Result<String, Status> {
    may(node, id, "start", |c| c.start)?;
    request(node, id, |r| r.stopped = false)?;
    Ok(format!("Service {id:?} started"))
}

/// Stops a service until it is started again.
pub(super) fn stop(node: &Node, id: &str) -> Result<String, Status> {
    may(node, id, "stop", |c| c.stop)?;
    request(node, id, |r| r.stopped = true)?;
    Ok(format!("Service {id:?} stopped"))
}

/// Restarts a service once.
pub(super) fn restart(node: &Node, id: &str) -> Result<String, Status> {
    may(node, id, "restart", |c| c.restart)?;
    request(node, id, |r| r.restarts += 1)?;
    Ok(format!("Service {id:?} restarted"))
}
