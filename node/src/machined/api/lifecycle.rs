//! Reboot, shutdown and reset: begins the sequence and answers with the id that its events carry.

use api::machine as pb;
use tonic::Status;

use crate::machined::node::Node;
use crate::machined::sequence::Sequence;

/// Volumes that a reset may wipe one by one.
const VOLUMES: &[&str] = &["STATE", "EPHEMERAL"];

pub(super) fn reboot(node: &Node, request: &pb::RebootRequest) -> Result<String, Status> {
    let force = request.mode() == pb::reboot_request::Mode::Force;
    node.lifecycle.begin(Sequence::Reboot { force })
}

pub(super) fn shutdown(node: &Node, request: &pb::ShutdownRequest) -> Result<String, Status> {
    node.lifecycle.begin(Sequence::Shutdown { force: request.force })
}

pub(super) fn reset(node: &Node, request: &pb::ResetRequest) -> Result<String, Status> {
    if !request.user_disks_to_wipe.is_empty() {
        return Err(Status::invalid_argument(format!(
            "found disks to wipe ({}), but a container node has no disks",
            request.user_disks_to_wipe.join(", ")
        )));
    }
    if request.mode() == pb::reset_request::WipeMode::UserDisks {
        return Err(Status::invalid_argument("found wipe mode user-disks, but a container node has no disks"));
    }
    let volumes: Vec<String> = request.system_partitions_to_wipe.iter().map(|p| p.label.clone()).collect();
    if let Some(other) = volumes.iter().find(|v| !VOLUMES.contains(&v.as_str())) {
        return Err(Status::invalid_argument(format!("found volume {other:?} to wipe, expected one of {}", VOLUMES.join(", "))));
    }
    node.lifecycle.begin(Sequence::Reset { graceful: request.graceful, reboot: request.reboot, volumes })
}
