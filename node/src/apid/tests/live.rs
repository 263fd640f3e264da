//! Whole calls: client → apid → (apid →) machined's stand-in.

use std::time::{Duration, Instant};

use api::{client::Client, common, machine};
use futures::stream;
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use tonic::{Code, Request};

use super::rig::{Authority, Kind, Pair, Rig, options};

const CP: &str = "127.0.1.1";
const OTHER: &str = "127.0.1.2";
const WORKER: &str = "127.0.1.3";

/// (node that answered, roles and provenance it saw) of the first entry.
fn first(reply: tonic::Response<machine::VersionResponse>) -> (String, String) {
    let platform = reply.into_inner().messages.remove(0).platform.unwrap();
    (platform.name, platform.mode)
}

#[tokio::test]
async fn a_direct_call_is_served_as_it_is() {
    let rig = Rig::new();
    let _node = rig.node(CP, Kind::ControlPlane).await;
    let client = rig.client(CP, "os:reader");
    let mut request = Request::new(());
    request.metadata_mut().insert("talos-role", "os:admin".parse().unwrap());
    let reply = client.machine().version(request).await.unwrap();
    assert_eq!(reply.get_ref().messages[0].metadata, None);
    assert_eq!(first(reply), (CP.into(), "os:reader".into()));
    let status = client.machine().hostname(()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "not authorized: 100 % sure"));
    assert!(!status.details().is_empty(), "details are passed on");
    assert_eq!(client.machine().load_avg(()).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_call_for_another_node_keeps_the_callers_roles() {
    let rig = Rig::new();
    let _a = rig.node(CP, Kind::ControlPlane).await;
    let _b = rig.node(OTHER, Kind::ControlPlane).await;
    let client = rig.client(CP, "os:operator");
    let reply = client.node(OTHER).machine().version(()).await.unwrap();
    assert_eq!(reply.get_ref().messages[0].metadata, None, "one to one adds nothing");
    assert_eq!(first(reply), (OTHER.into(), "os:operator proxied".into()));
    assert_eq!(first(client.node(CP).machine().version(()).await.unwrap()).0, CP);
    // Streams pass through as they are.
    let mut logs = client.node(OTHER).machine().logs(machine::LogsRequest::default()).await.unwrap().into_inner();
    let mut lines = Vec::new();
    while let Some(line) = logs.message().await.unwrap() {
        assert_eq!(line.metadata, None);
        lines.push(String::from_utf8(line.bytes).unwrap());
    }
    assert_eq!(lines, ["one", "two", "three"]);
}

#[tokio::test]
async fn many_nodes_are_merged_and_failures_are_entries() {
    let rig = Rig::new();
    let _a = rig.node(CP, Kind::ControlPlane).await;
    let _b = rig.node(OTHER, Kind::ControlPlane).await;
    let client = rig.client(CP, "os:admin");
    let dead = "127.0.1.99";
    let reply = client.nodes([CP, OTHER, dead]).unwrap().machine().version(()).await.unwrap().into_inner();
    let entries: Vec<_> = reply.messages.iter().map(|m| m.metadata.clone().unwrap()).collect();
    assert_eq!(entries.iter().map(|m| m.hostname.as_str()).collect::<Vec<_>>(), [CP, OTHER, dead]);
    assert_eq!(reply.messages[1].platform.as_ref().unwrap().mode, "os:admin proxied");
    assert_eq!(entries[0].error, "");
    assert!(entries[2].error.starts_with("rpc error: code = Unavailable desc = 127.0.1.99:"), "{}", entries[2].error);
    assert_eq!(entries[2].status.as_ref().unwrap().code, 14);
    // Even one node is merged; the callee's status keeps its details.
    let denied = client.nodes([OTHER]).unwrap().machine().hostname(()).await.unwrap().into_inner();
    let metadata = denied.messages[0].metadata.clone().unwrap();
    assert_eq!(metadata.error, "rpc error: code = PermissionDenied desc = not authorized: 100 % sure");
    assert_eq!(metadata.status.unwrap().details.len(), 1);
    let empty = client.nodes([CP]).unwrap().machine().memory(()).await.unwrap().into_inner();
    assert!(empty.messages[0].metadata.as_ref().unwrap().error.contains("unexpected message format"));
}

#[tokio::test]
async fn a_slow_node_is_reported_before_the_callers_deadline() {
    let rig = Rig::new();
    let _a = rig.node(CP, Kind::ControlPlane).await;
    let client = rig.client(CP, "os:admin");
    let mut request = Request::new(());
    request.set_timeout(Duration::from_secs(2));
    let reply = client.nodes([CP]).unwrap().machine().mounts(request).await.unwrap().into_inner();
    assert!(reply.messages[0].metadata.as_ref().unwrap().error.contains("DeadlineExceeded"));
}

#[tokio::test]
async fn streams_of_many_nodes_are_stamped() {
    let rig = Rig::new();
    let _a = rig.node(CP, Kind::ControlPlane).await;
    let _b = rig.node(OTHER, Kind::ControlPlane).await;
    let client = rig.client(CP, "os:admin");
    let nodes = [CP, OTHER, "127.0.1.99", "10.0.0.1:50000"];
    // A name with a port cannot be sent by our client's check of names alone: it is a legal header value.
    let mut logs = client.nodes(nodes).unwrap().machine().logs(machine::LogsRequest::default()).await.unwrap().into_inner();
    let mut got: Vec<(String, String)> = Vec::new();
    while let Some(line) = logs.message().await.unwrap() {
        let metadata = line.metadata.unwrap();
        let what =
            if metadata.error.is_empty() { String::from_utf8(line.bytes).unwrap() } else { metadata.status.unwrap().code.to_string() };
        got.push((metadata.hostname, what));
    }
    let of = |node: &str| got.iter().filter(|(n, _)| n == node).map(|(_, w)| w.as_str()).collect::<Vec<_>>();
    assert_eq!(of(CP), ["one", "two", "three"]);
    assert_eq!(of(OTHER), ["one", "two", "three"]);
    assert_eq!(of("127.0.1.99"), ["14"]);
    assert_eq!(of("10.0.0.1:50000"), ["13"]);
    // An error at the end of a stream is its last message.
    let mut dmesg = client.nodes([OTHER]).unwrap().machine().dmesg(machine::DmesgRequest::default()).await.unwrap().into_inner();
    assert_eq!(dmesg.message().await.unwrap().unwrap().bytes, b"one");
    let last = dmesg.message().await.unwrap().unwrap().metadata.unwrap();
    assert_eq!(last.error, "rpc error: code = Internal desc = disk on fire");
    assert_eq!(dmesg.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_broken_reply_ends_with_a_status() {
    let rig = Rig::new();
    let _a = rig.node(CP, Kind::ControlPlane).await;
    let client = rig.client(CP, "os:admin");
    let mut copy = client.machine().copy(machine::CopyRequest::default()).await.unwrap().into_inner();
    assert_eq!(copy.message().await.unwrap().unwrap().bytes, b"half");
    let status = copy.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let mut copy = client.nodes([CP]).unwrap().machine().copy(machine::CopyRequest::default()).await.unwrap().into_inner();
    assert_eq!(copy.message().await.unwrap().unwrap().bytes, b"half");
    assert_eq!(copy.message().await.unwrap().unwrap().metadata.unwrap().status.unwrap().code, 14);
}

#[tokio::test]
async fn uploads_reach_one_node_and_all() {
    let rig = Rig::new();
    let _a = rig.node(CP, Kind::ControlPlane).await;
    let _b = rig.node(OTHER, Kind::ControlPlane).await;
    let client = rig.client(CP, "os:admin");
    let upload = || stream::iter((0..40).map(|_| common::Data { metadata: None, bytes: vec![7; 100_000] }));
    let status = client.node(OTHER).machine().etcd_recover(upload()).await.unwrap_err();
    assert_eq!(status.message(), "40 chunks, 4000000 bytes");
    let reply = client.nodes([CP, OTHER]).unwrap().machine().etcd_recover(upload()).await.unwrap().into_inner();
    for entry in &reply.messages {
        let status = entry.metadata.as_ref().unwrap().status.as_ref().unwrap();
        assert_eq!((status.code, status.message.as_str()), (9, "40 chunks, 4000000 bytes"));
    }
    assert_eq!(reply.messages.len(), 2);
}

#[tokio::test]
async fn large_messages_pass_on_every_way() {
    let rig = Rig::new();
    let _a = rig.node(CP, Kind::ControlPlane).await;
    let _b = rig.node(OTHER, Kind::ControlPlane).await;
    let client = rig.client(CP, "os:admin");
    for way in [client.clone(), client.node(OTHER), client.nodes([OTHER]).unwrap()] {
        let mut data = way.machine().kubeconfig(()).await.unwrap().into_inner();
        assert_eq!(data.message().await.unwrap().unwrap().bytes.len(), api::MAX_MESSAGE - 64);
    }
}

#[tokio::test]
async fn a_worker_does_not_forward() {
    let rig = Rig::new();
    let _cp = rig.node(CP, Kind::ControlPlane).await;
    let _worker = rig.node(WORKER, Kind::Worker).await;
    let client = rig.client(WORKER, "os:admin");
    let status = client.node(CP).machine().version(()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "no request forwarding"));
    assert_eq!(first(client.node(WORKER).machine().version(()).await.unwrap()).0, WORKER);
    // But it is reached through a control plane.
    let through = rig.client(CP, "os:reader").node(WORKER);
    assert_eq!(first(through.machine().version(()).await.unwrap()), (WORKER.into(), "os:reader proxied".into()));
}

#[tokio::test]
async fn maintenance_reads_without_certificates() {
    let rig = Rig::new();
    let _node = rig.node(CP, Kind::Maintenance).await;
    let endpoint = [format!("{CP}:{}", rig.port)];
    let client = Client::insecure(&endpoint, &[], options()).unwrap();
    assert_eq!(first(client.node("10.9.9.9").machine().version(()).await.unwrap()), (CP.into(), "os:reader targets-left".into()));
    let wrong = Client::insecure(&endpoint, &["q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=".into()], options()).unwrap();
    let status = wrong.machine().version(()).await.unwrap_err();
    assert!(status.code() == Code::Unavailable && status.message().contains("fingerprint"), "{status}");
}

#[tokio::test]
async fn a_pinned_key_is_accepted() {
    let rig = Rig::new();
    let node = rig.node(CP, Kind::Maintenance).await;
    let pair = rig.ca.server(node.ip);
    let print = api::tls::fingerprint(&pair.identity().chain()[0]).unwrap();
    let mut settings = rig.settings(node.ip, Kind::Maintenance);
    settings.tls = api::tls::server(&pair.identity(), None).unwrap();
    node.settings.send_replace(Some(settings.into()));
    let client = Client::insecure(&[format!("{CP}:{}", rig.port)], &[print], options()).unwrap();
    client.machine().version(()).await.unwrap();
}

/// What a client with this certificate is told.
async fn refusal(rig: &Rig, pair: &Pair) -> String {
    let client = Client::new(&rig.context(&[CP], pair), options()).unwrap();
    let status = client.machine().version(()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    status.message().to_owned()
}

#[tokio::test]
async fn wrong_certificates_are_refused_in_the_handshake() {
    let rig = Rig::new();
    let _node = rig.node(CP, Kind::ControlPlane).await;
    let both = rig.ca.issue(&["os:admin"], &[], &[ClientAuth, ServerAuth], 1);
    let expired = rig.ca.issue(&["os:admin"], &[], &[ClientAuth], -1);
    let foreign = Authority::new().client("os:admin");
    let server = rig.ca.server(CP.parse().unwrap());
    for (pair, words) in [
        (both, "refuses this client certificate"),
        (expired, "expired"),
        (foreign, "does not accept the CA"),
        (server, "refuses this client certificate"),
    ] {
        let text = refusal(&rig, &pair).await;
        assert!(text.contains(words), "expected {words:?} in: {text}");
    }
    let mut nobody = rig.context(&[CP], &rig.ca.client("os:admin"));
    (nobody.crt, nobody.key) = (vec![], vec![]);
    let client = Client::new(&nobody, options()).unwrap();
    let status = client.machine().version(()).await.unwrap_err();
    assert!(status.message().contains("none was given"), "{status}");
    // A server of another cluster is not believed.
    let mut elsewhere = rig.context(&[CP], &rig.ca.client("os:admin"));
    elsewhere.ca = Authority::new().crt.into_bytes();
    let status = Client::new(&elsewhere, options()).unwrap().machine().version(()).await.unwrap_err();
    assert!(status.message().contains("another CA"), "{status}");
}

#[tokio::test]
async fn without_machined_the_answer_is_quick_and_it_recovers() {
    let rig = Rig::new();
    let mut node = rig.node(CP, Kind::ControlPlane).await;
    let client = rig.client(CP, "os:admin");
    client.machine().version(()).await.unwrap();
    node.down();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begin = Instant::now();
    let status = client.machine().version(()).await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("machined does not answer"), "{status}");
    node.up();
    client.machine().version(()).await.unwrap();
}

#[tokio::test]
async fn a_client_fails_over_to_a_living_endpoint() {
    let rig = Rig::new();
    let _node = rig.node(CP, Kind::ControlPlane).await;
    let context = rig.context(&["127.0.1.98", CP, "127.0.1.97"], &rig.ca.client("os:admin"));
    for _ in 0..4 {
        let client = Client::new(&context, options()).unwrap();
        assert_eq!(first(client.machine().version(()).await.unwrap()).0, CP);
    }
    let none = rig.context(&["127.0.1.98", "127.0.1.97"], &rig.ca.client("os:admin"));
    let status = Client::new(&none, options()).unwrap().machine().version(()).await.unwrap_err();
    assert!(status.message().contains("127.0.1.98") && status.message().contains("127.0.1.97"), "{status}");
}
