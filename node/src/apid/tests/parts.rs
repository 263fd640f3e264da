//! The pure parts: roles, routes, frames.

use std::net::IpAddr;

use api::{RpcStatus, common, machine, roles::Roles};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
use tonic::{Code, Status};

use super::rig::Authority;
use crate::apid::{
    auth::{self, RoleMode},
    frame::{self, Frames},
    route::{self, Route, Routing},
};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(k, v): &(&'static str, &str)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap());
    let mut map = HeaderMap::new();
    for (k, v) in pairs.iter().map(pair) {
        map.append(k, v);
    }
    map
}

fn leaf(usages: &[rcgen::ExtendedKeyUsagePurpose], roles: &[&str]) -> rustls_pki_types::CertificateDer<'static> {
    Authority::new().issue(roles, &[], usages, 1).identity().chain()[0].clone()
}

#[test]
fn a_client_certificate_is_for_clients_alone() {
    assert_eq!(auth::check_leaf(&leaf(&[ClientAuth], &[])), Ok(()));
    for wrong in [&[][..], &[ServerAuth], &[ClientAuth, ServerAuth], &[ClientAuth, Any]] {
        let error = auth::check_leaf(&leaf(wrong, &[])).unwrap_err();
        assert!(error.contains("client authentication alone, found"), "{error}");
    }
    assert!(auth::check_leaf(&rustls_pki_types::CertificateDer::from(vec![1, 2, 3])).is_err());
}

#[test]
fn roles_come_from_organizations() {
    let roles = auth::certificate_roles(&leaf(&[ClientAuth], &["os:reader", "team:blue"])).unwrap();
    assert_eq!(roles.iter().collect::<Vec<_>>(), ["os:reader", "team:blue"]);
    assert!(auth::certificate_roles(&leaf(&[ClientAuth], &[])).unwrap().is_empty());
}

#[test]
fn only_an_impersonator_speaks_for_others() {
    let ip: IpAddr = "10.0.0.1".parse().unwrap();
    let resolve = |certificate: &[&str], md: &[(&'static str, &str)]| {
        let roles: Roles = certificate.iter().copied().collect();
        let got = auth::resolve(RoleMode::Certificate, &roles, &headers(md), ip, ip);
        got.iter().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(resolve(&["os:reader"], &[("talos-role", "os:admin")]), "os:reader");
    assert_eq!(resolve(&["os:impersonator"], &[("talos-role", "os:operator")]), "os:operator");
    assert_eq!(resolve(&["os:impersonator"], &[("talos-role", "a"), ("talos-role", "b")]), "a b");
    assert_eq!(resolve(&["os:impersonator"], &[]), "os:impersonator");
    assert_eq!(resolve(&["os:impersonator", "os:admin"], &[("talos-role", "os:reader")]), "os:reader");
}

#[test]
fn in_maintenance_everybody_reads_and_the_tunnel_administers() {
    let resolve = |peer: &str, local: &str| {
        let (peer, local) = (peer.parse().unwrap(), local.parse().unwrap());
        let claimed = headers(&[("talos-role", "os:admin")]);
        let cert: Roles = ["os:admin"].into_iter().collect();
        let got = auth::resolve(RoleMode::ReadOnly, &cert, &claimed, peer, local);
        got.iter().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(resolve("10.0.0.9", "10.0.0.1"), "os:reader");
    assert_eq!(resolve("fdae:41e4:649b:9303::1", "fdae:41e4:649b:9303::2"), "os:admin");
    // Another network, another purpose, or reached at an address outside of the tunnel.
    assert_eq!(resolve("fdae:41e4:649b:9303::1", "fd00:41e4:649b:9303::2"), "os:reader");
    assert_eq!(resolve("fdae:41e4:649b:9302::1", "fdae:41e4:649b:9302::2"), "os:reader");
    assert_eq!(resolve("fdae:41e4:649b:9303::1", "10.0.0.1"), "os:reader");
}

const VERSION: &str = "/machine.MachineService/Version";
const GET: &str = "/cosi.resource.State/Get";

fn decide(md: &[(&'static str, &str)], path: &str, routing: &Routing) -> Result<Route, (Code, String)> {
    route::route(&headers(md), path, routing).map_err(|s| (s.code(), s.message().to_owned()))
}

#[test]
fn a_control_plane_forwards() {
    let cp = Routing { disabled: false, can_forward: true, local: vec!["10.0.0.1".parse().unwrap()] };
    let many = |l: &[&str]| Ok(Route::Many(l.iter().map(|s| (*s).to_owned()).collect()));
    assert_eq!(decide(&[], VERSION, &cp), Ok(Route::Local));
    assert_eq!(decide(&[("node", "10.0.0.2")], VERSION, &cp), Ok(Route::One("10.0.0.2".into())));
    assert_eq!(decide(&[("node", "10.0.0.2")], GET, &cp), Ok(Route::One("10.0.0.2".into())));
    assert_eq!(decide(&[("node", "10.0.0.1")], VERSION, &cp), Ok(Route::Local));
    assert_eq!(decide(&[("nodes", "10.0.0.2")], VERSION, &cp), many(&["10.0.0.2"]));
    assert_eq!(decide(&[("nodes", "a"), ("nodes", "b"), ("node", "c")], VERSION, &cp), many(&["a", "b"]));
    assert_eq!(decide(&[("node", "10.0.0.2"), ("proxyfrom", "x")], VERSION, &cp), Ok(Route::Local));
    let (code, text) = decide(&[("nodes", "10.0.0.2")], GET, &cp).unwrap_err();
    assert_eq!((code, text.as_str()), (Code::InvalidArgument, "one-2-many proxying is not supported for method /cosi.resource.State/Get"));
    let (code, text) = decide(&[("node", "a"), ("node", "b")], VERSION, &cp).unwrap_err();
    assert_eq!((code, text.as_str()), (Code::InvalidArgument, "node metadata must be single-valued"));
    let crowd: Vec<(&'static str, &str)> = vec![("nodes", "a"); 1025];
    assert_eq!(decide(&crowd, VERSION, &cp).unwrap_err().0, Code::InvalidArgument);
}

#[test]
fn a_worker_serves_itself_alone() {
    let worker = Routing { disabled: false, can_forward: false, local: vec!["10.0.0.3".parse().unwrap(), "fd00::3".parse().unwrap()] };
    assert_eq!(decide(&[("node", "10.0.0.3")], VERSION, &worker), Ok(Route::Local));
    assert_eq!(decide(&[("node", "fd00:0::3")], VERSION, &worker), Ok(Route::Local));
    assert_eq!(decide(&[("nodes", "10.0.0.3")], VERSION, &worker), Ok(Route::Local));
    for md in [&[("node", "10.0.0.4")][..], &[("nodes", "10.0.0.3"), ("nodes", "10.0.0.4")], &[("node", "localhost")]] {
        assert_eq!(decide(md, VERSION, &worker), Err((Code::PermissionDenied, "no request forwarding".into())));
    }
    let maintenance = Routing { disabled: true, ..worker };
    assert_eq!(decide(&[("node", "10.0.0.4")], VERSION, &maintenance), Ok(Route::Local));
}

#[test]
fn targets_are_bare_hosts() {
    for good in ["10.0.0.1", "fd00::1", "cp-1", "cp-1.example.com"] {
        assert_eq!(route::host(good).unwrap(), good);
    }
    for bad in ["", "10.0.0.1:50000", "[fd00::1]", "[fd00::1]:50000", "a b", "a/b", "user@host"] {
        let status = route::host(bad).unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{bad}");
        assert!(status.message().starts_with("invalid target"), "{status}");
    }
}

#[test]
fn merging_gives_the_first_entry_its_node() {
    let version = |tag: &str| machine::Version {
        version: Some(machine::VersionInfo { tag: tag.into(), ..Default::default() }),
        ..Default::default()
    };
    let one = machine::VersionResponse { messages: vec![version("a")] }.encode_to_vec();
    // Long enough that the length takes two bytes before and three after, or any other change of its own length.
    let long = "x".repeat(16_370);
    let two = machine::VersionResponse { messages: vec![version(&long), version("c")] }.encode_to_vec();
    let merged = [frame::merge(&one, "10.0.0.1").unwrap(), frame::merge(&two, "n2").unwrap()].concat();
    let all = machine::VersionResponse::decode(&merged[..]).unwrap().messages;
    let names: Vec<Option<String>> = all.iter().map(|v| v.metadata.as_ref().map(|m| m.hostname.clone())).collect();
    assert_eq!(names, [Some("10.0.0.1".into()), Some("n2".into()), None]);
    assert_eq!(all[1].version.as_ref().unwrap().tag, long);
    assert_eq!(all[2].version.as_ref().unwrap().tag, "c");
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let cut = [0x0a, 0x05, 1, 2];
    for bad in [&[][..], &[0x12, 0x00], &[0x08, 0x01], &[0x0a], &cut, &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
        let status = frame::merge(bad, "n").unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Internal, "unexpected message format"), "{bad:?}");
    }
}

#[test]
fn an_error_becomes_an_entry_in_the_words_of_grpc() {
    let status = RpcStatus { code: 14, message: "gone".into(), details: vec![] };
    let entry = machine::VersionResponse::decode(&frame::merged_error("10.0.0.2", &status)[..]).unwrap().messages.remove(0);
    let metadata = entry.metadata.unwrap();
    assert_eq!(metadata.hostname, "10.0.0.2");
    assert_eq!(metadata.error, "rpc error: code = Unavailable desc = gone");
    assert_eq!(metadata.status.unwrap(), status);
    let last = common::Data::decode(&frame::stream_error("n", &status)[..]).unwrap();
    assert!(last.bytes.is_empty() && last.metadata.unwrap().error.contains("gone"));
}

#[test]
fn a_stamped_message_keeps_its_content() {
    let data = common::Data { metadata: None, bytes: vec![1, 2, 3] };
    let stamped = common::Data::decode(&frame::stamp(&data.encode_to_vec(), "n1")[..]).unwrap();
    assert_eq!((stamped.bytes, stamped.metadata.unwrap().hostname), (vec![1, 2, 3], "n1".to_owned()));
}

async fn read(bytes: Vec<u8>) -> Result<Vec<Bytes>, Status> {
    // In pieces of three bytes, so that frame headers are cut too.
    let pieces = bytes.chunks(3).map(|c| Ok::<_, Status>(http_body::Frame::data(Bytes::copy_from_slice(c)))).collect::<Vec<_>>();
    let mut frames = Frames::new(http_body_util::StreamBody::new(futures::stream::iter(pieces)));
    let mut all = Vec::new();
    while let Some(message) = frames.next().await? {
        all.push(message);
    }
    Ok(all)
}

#[tokio::test]
async fn frames_are_read_across_pieces() {
    let bytes = [frame::frame(b"hello"), frame::frame(b""), frame::frame(b"world!")].concat();
    assert_eq!(read(bytes).await.unwrap(), [&b"hello"[..], b"", b"world!"]);
}

#[tokio::test]
async fn broken_frames_are_errors() {
    assert_eq!(read(vec![1, 0, 0, 0, 0]).await.unwrap_err().code(), Code::Internal);
    assert_eq!(read(vec![0, 0, 0, 0, 9, 1]).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(read(vec![0, 0xff, 0, 0, 0]).await.unwrap_err().code(), Code::ResourceExhausted);
    let mut none = Frames::new(Full::new(Bytes::new()).map_err(|e| Status::internal(e.to_string())));
    assert_eq!(none.next().await.unwrap(), None);
    assert_eq!(none.finish().unwrap_err().code, 14, "a reply without trailers is no success");
}
