//! Servers and clients of discovery over real sockets on loopback.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::sidero::discovery::server as wire;
use api::sidero::discovery::server::cluster_client::ClusterClient;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::edge::dns::Dns;

async fn server_at(address: &str) -> (Arc<Server>, SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new();
    server.set_cluster("c1");
    let task = tokio::spawn(server.clone().serve(listener));
    (server, address, task)
}

fn node(id: &str, servers: &[SocketAddr]) -> Arc<Client> {
    let client = Client::new(Dns::new());
    client.set(own(id, "1"), &servers.iter().map(ToString::to_string).collect::<Vec<_>>());
    client
}

fn own(id: &str, data: &str) -> Own {
    Own { cluster: "c1".into(), id: id.into(), data: data.into(), ..Own::default() }
}

/// Waits until a client's view reads `expected` (`id=data …`).
async fn sees(client: &Client, expected: &str) {
    let mut last = String::new();
    for _ in 0..100 {
        let parts: Vec<_> = client.view().0.iter().map(|a| format!("{}={}", a.id, String::from_utf8_lossy(&a.data))).collect();
        last = parts.join(" ");
        if last == expected {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("sees {last:?}, expected {expected:?}");
}

#[tokio::test]
async fn nodes_find_each_other_through_every_control_plane() {
    let (_one, a, _task_a) = server_at("127.0.0.1:0").await;
    let (_two, b, task_b) = server_at("127.0.0.1:0").await;
    let first = node("n1", &[a, b]);
    let second = node("n2", &[a, b]);
    for client in [&first, &second] {
        sees(client, "n1=1 n2=1").await;
    }
    first.set(own("n1", "2"), &[a.to_string(), b.to_string()]);
    sees(&second, "n1=2 n2=1").await;
    assert_eq!(first.public_addresses(), BTreeSet::from(["127.0.0.1".parse().unwrap()]));

    // One control plane vanishes: nothing changes, and changes still arrive.
    task_b.abort();
    let _ = task_b.await;
    first.set(own("n1", "3"), &[a.to_string(), b.to_string()]);
    sees(&second, "n1=3 n2=1").await;

    // The node leaves: gone at once, though one server could not be told.
    first.set(Own { leaving: true, ..own("n1", "3") }, &[a.to_string(), b.to_string()]);
    sees(&second, "n2=1").await;
}

#[tokio::test]
async fn a_restarted_control_plane_is_told_again_and_nobody_disappears_meanwhile() {
    let (_server, address, task) = server_at("127.0.0.1:0").await;
    let first = node("n1", &[address]);
    let second = node("n2", &[address]);
    sees(&second, "n1=1 n2=1").await;
    task.abort();
    let _ = task.await;
    let (server, _, _task) = server_at(&address.to_string()).await;
    for _ in 0..40 {
        assert_eq!(second.view().0.len(), 2);
        sleep(Duration::from_millis(50)).await;
    }
    sees(&first, "n1=1 n2=1").await;
    // By command: a member that will never say goodbye.
    server.forget("n1");
    sees(&second, "n2=1").await;
}

#[tokio::test]
async fn a_member_can_be_deleted_by_another() {
    let (_server, address, _task) = server_at("127.0.0.1:0").await;
    let first = node("n1", &[address]);
    sees(&first, "n1=1").await;
    let ghost = node("ghost", &[address]);
    sees(&first, "ghost=1 n1=1").await;
    drop(ghost);
    let forget = BTreeSet::from(["ghost".to_owned()]);
    first.set(Own { forget, ..own("n1", "1") }, &[address.to_string()]);
    let watcher = node("n2", &[address]);
    sees(&watcher, "n1=1 n2=1").await;
}

#[tokio::test]
async fn other_clusters_and_floods_are_refused() {
    let (server, address, _task) = server_at("127.0.0.1:0").await;
    let mut client = ClusterClient::connect(format!("http://{address}")).await.unwrap();
    let hello = |cluster: &str| wire::HelloRequest { cluster_id: cluster.into(), client_version: "test".into() };
    assert_eq!(client.hello(hello("c1")).await.unwrap().into_inner().client_ip, [127, 0, 0, 1]);
    assert_eq!(client.hello(hello("other")).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    assert_eq!(client.hello(hello("")).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let huge = wire::AffiliateUpdateRequest {
        cluster_id: "c1".into(),
        affiliate_id: "x".into(),
        affiliate_data: Some(vec![0; 3000]),
        ..Default::default()
    };
    let refused = client.affiliate_update(huge).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("2048"), "{}", refused.message());

    let mut codes = Vec::new();
    for _ in 0..100 {
        if let Err(status) = client.list(wire::ListRequest { cluster_id: "c1".into() }).await {
            codes.push(status.code());
        }
    }
    assert!(codes.len() > 20 && codes.iter().all(|code| *code == tonic::Code::ResourceExhausted), "{codes:?}");
    server.set_cluster("");
}

#[tokio::test]
async fn the_first_message_of_a_watch_is_the_snapshot_and_deletions_follow() {
    let (server, address, _task) = server_at("127.0.0.1:0").await;
    let mut client = ClusterClient::connect(format!("http://{address}")).await.unwrap();
    let update = |id: &str| wire::AffiliateUpdateRequest {
        cluster_id: "c1".into(),
        affiliate_id: id.into(),
        affiliate_data: Some(b"d".to_vec()),
        affiliate_endpoints: vec![vec![1; 16]],
        ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    };
    client.affiliate_update(update("a")).await.unwrap();
    let mut watch = client.watch(wire::WatchRequest { cluster_id: "c1".into() }).await.unwrap().into_inner();
    let affiliate = |id: &str| wire::Affiliate { id: id.into(), data: b"d".to_vec(), endpoints: vec![vec![1; 16]] };
    let mut next = async || timeout(Duration::from_secs(5), watch.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await, wire::WatchResponse { affiliates: vec![affiliate("a")], deleted: false });
    client.affiliate_update(update("b")).await.unwrap();
    assert_eq!(next().await, wire::WatchResponse { affiliates: vec![affiliate("b")], deleted: false });
    server.forget("a");
    let gone = wire::Affiliate { id: "a".into(), ..Default::default() };
    assert_eq!(next().await, wire::WatchResponse { affiliates: vec![gone], deleted: true });
}
