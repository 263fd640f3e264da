//! etcd of this node, over its control handle.

use std::time::Duration;

use api::common::Data;
use api::machine as pb;
use kube_room::etcd::client::{Alarm, EtcdClient};
use kube_room::etcd::control::ControlError;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::files::Stream;
use crate::machined::node::Node;

/// How long a member may take to leave.
const LEAVE: Duration = Duration::from_secs(60);
/// The largest snapshot that is taken in, in bytes: what etcd itself can hold.
const SNAPSHOT_LIMIT: u64 = 8 << 30;

fn status_of(error: ControlError) -> Status {
    match &error {
        ControlError::NotEmpty => Status::already_exists(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

/// Only control planes run etcd.
fn on_control_plane(node: &Node) -> Result<(), Status> {
    let config = node.config();
    let machine = config.as_ref().and_then(|c| c.spec.machine());
    if machine.is_some_and(|m| m.machine_type().is_control_plane()) {
        return Ok(());
    }
    Err(Status::unimplemented("this node is no control plane: etcd runs on control planes only"))
}

async fn client(node: &Node) -> Result<EtcdClient, Status> {
    on_control_plane(node)?;
    node.etcd.client().await.map_err(status_of)
}

/// Starts etcd as the first member of a new cluster, empty or from the snapshot uploaded before.
pub(super) async fn bootstrap(node: &Node, request: pb::BootstrapRequest) -> Result<(), Status> {
    on_control_plane(node)?;
    let up = |id: &str| node.statuses.get(id).is_some_and(|s| s.spec.state == "Running" && (s.spec.healthy || s.spec.unknown));
    if !up("cri") {
        return Err(Status::failed_precondition("bootstrap is not available yet: the container runtime is not up"));
    }
    if request.recover_etcd {
        return Err(Status::unimplemented("recovering etcd from a snapshot at bootstrap is not there in this version of Orlop"));
    }
    node.etcd.bootstrap().map_err(status_of)
}

/// The members.
pub(super) async fn members(node: &Node) -> Result<pb::EtcdMembers, Status> {
    on_control_plane(node)?;
    let members = node.etcd.members().await.map_err(status_of)?;
    let member = |m: kube_room::etcd::membership::Member| pb::EtcdMember {
        id: m.id,
        hostname: m.name,
        peer_urls: m.peer_urls,
        client_urls: m.client_urls,
        is_learner: m.learner,
    };
    let names = members.iter().map(|m| m.name.clone()).collect();
    Ok(pb::EtcdMembers { metadata: None, legacy_members: names, members: members.into_iter().map(member).collect() })
}

/// Takes a member off the list.
pub(super) async fn remove(node: &Node, id: u64) -> Result<(), Status> {
    on_control_plane(node)?;
    node.etcd.remove_member(id).await.map_err(status_of)
}

/// This node's member leaves.
pub(super) async fn leave(node: &Node) -> Result<(), Status> {
    on_control_plane(node)?;
    node.etcd.leave().map_err(status_of)?;
    let left = async {
        while !node.etcd.has_left().map_err(status_of)? {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    };
    let late = |_| Status::deadline_exceeded(format!("not left within {} s; it {}", LEAVE.as_secs(), node.etcd.step()));
    tokio::time::timeout(LEAVE, left).await.map_err(late)?
}

/// Moves the leadership away; the new leader's name, or nothing when this node did not lead.
pub(super) async fn forfeit(node: &Node) -> Result<String, Status> {
    on_control_plane(node)?;
    let to = node.etcd.forfeit_leadership().await.map_err(status_of)?;
    Ok(to.map(|m| m.name).unwrap_or_default())
}

/// How the member fares.
pub(super) async fn status(node: &Node) -> Result<pb::EtcdMemberStatus, Status> {
    on_control_plane(node)?;
    let s = node.etcd.status().await.map_err(status_of)?;
    Ok(pb::EtcdMemberStatus {
        storage_version: s.storage_version,
        member_id: s.id,
        protocol_version: s.version,
        db_size: s.db_size,
        db_size_in_use: s.db_size_in_use,
        leader: s.leader,
        raft_index: s.raft_index,
        raft_term: s.raft_term,
        raft_applied_index: s.raft_applied_index,
        errors: s.errors,
        is_learner: s.learner,
    })
}

fn alarm(a: &Alarm) -> pb::EtcdMemberAlarm {
    pb::EtcdMemberAlarm { member_id: a.member, alarm: a.kind }
}

/// The alarms that members raised.
pub(super) async fn alarms(node: &Node) -> Result<Vec<pb::EtcdMemberAlarm>, Status> {
    let found = client(node).await?.alarms().await.map_err(|e| Status::internal(e.to_string()))?;
    Ok(found.iter().map(alarm).collect())
}

/// Clears the alarms.
pub(super) async fn disarm(node: &Node) -> Result<Vec<pb::EtcdMemberAlarm>, Status> {
    let found = client(node).await?.disarm().await.map_err(|e| Status::internal(e.to_string()))?;
    Ok(found.iter().map(alarm).collect())
}

/// Gives the space of removed keys back to the disk.
pub(super) async fn defragment(node: &Node) -> Result<(), Status> {
    client(node).await?.defragment().await.map_err(|e| Status::internal(e.to_string()))
}

/// Streams a snapshot of the database.
pub(super) async fn snapshot(node: &Node) -> Result<Stream<Data>, Status> {
    let mut client = client(node).await?;
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        let pieces = sender.clone();
        let result = client.snapshot(async move |bytes| pieces.send(Ok(Data { metadata: None, bytes })).await.is_ok()).await;
        if let Err(error) = result {
            let _ = sender.send(Err(Status::internal(error.to_string()))).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Takes a snapshot in, for a later bootstrap from it.
pub(super) async fn recover(node: &Node, mut parts: Streaming<Data>) -> Result<(), Status> {
    on_control_plane(node)?;
    let path = kube_room::paths::ETCD_SNAPSHOT;
    let io = |e: std::io::Error| Status::internal(format!("{path}: {e}"));
    let partial = format!("{path}.part");
    let mut file = tokio::fs::File::create(&partial).await.map_err(io)?;
    let mut size = 0;
    while let Some(part) = parts.message().await? {
        size += part.bytes.len() as u64;
        if size > SNAPSHOT_LIMIT {
            return Err(Status::resource_exhausted(format!("the snapshot is larger than {SNAPSHOT_LIMIT} bytes")));
        }
        file.write_all(&part.bytes).await.map_err(io)?;
    }
    file.sync_all().await.map_err(io)?;
    tokio::fs::rename(&partial, path).await.map_err(io)
}
