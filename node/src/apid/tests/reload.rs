//! Settings that change while apid serves, and apid fed by resources alone.

use std::{sync::Arc, time::Duration};

use api::{
    client::{Client, Options},
    machine,
    server::{Router, serve_unix},
    state::{Access, Server},
};
use model::{cluster::ApiCertificate, host::ApiServiceConfig, net::NodeAddress};
use resource::{PemCert, PemPair};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    rig::{Authority, Kind, Rig, options},
    state::{Fixed, registry},
};
use crate::apid::{Paths, serve};

const IP: &str = "127.0.2.1";

#[tokio::test]
async fn new_certificates_do_not_end_calls() {
    let rig = Rig::new();
    let node = rig.node(IP, Kind::ControlPlane).await;
    let client = rig.client(IP, "os:admin");
    let mut events = client.machine().events(machine::EventsRequest::default()).await.unwrap().into_inner();
    events.message().await.unwrap().unwrap();
    // Another CA takes over: old calls go on, the old client's new connections do not.
    let next = Rig { ca: Authority::new(), port: rig.port, dir: tempfile::tempdir().unwrap() };
    node.settings.send_replace(Some(next.settings(node.ip, Kind::ControlPlane).into()));
    let new_client = next.client(IP, "os:admin");
    new_client.machine().version(()).await.unwrap();
    assert_eq!(rig.client(IP, "os:admin").machine().version(()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(events.message().await.unwrap().unwrap().id, "e1");
    client.machine().version(()).await.unwrap();
}

#[tokio::test]
async fn leaving_maintenance_ends_its_connections() {
    let rig = Rig::new();
    let node = rig.node(IP, Kind::Maintenance).await;
    let endpoint = [format!("{IP}:{}", rig.port)];
    let before = Client::insecure(&endpoint, &[], options()).unwrap();
    before.machine().version(()).await.unwrap();
    node.settings.send_replace(Some(rig.settings(node.ip, Kind::ControlPlane).into()));
    let mut refused = false;
    for _ in 0..100 {
        refused = before.machine().version(()).await.is_err();
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused, "a caller without a certificate is still served");
    rig.client(IP, "os:admin").machine().version(()).await.unwrap();
}

/// Serves `fixed` where apid looks for its resources.
fn runtime(fixed: Arc<Fixed>, path: &std::path::Path, stop: &CancellationToken) {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let access = Access::only([
        ("secrets", "ApiCertificates.secrets.talos.dev"),
        ("runtime", "APIServiceConfigs.runtime.talos.dev"),
        ("network", "NodeAddresses.net.talos.dev"),
    ]);
    let router = Router::new().with(Server::new(fixed, access, registry()).into_service());
    tokio::spawn(serve_unix(listener, router, stop.clone()));
}

fn certificates(rig: &Rig) -> ApiCertificate {
    let pair = |p: super::rig::Pair| Some(PemPair::new(p.crt.into_bytes(), p.key.into_bytes()));
    ApiCertificate {
        accepted_cas: vec![PemCert { crt: rig.ca.crt.clone().into_bytes().into() }],
        client: pair(rig.ca.client("os:impersonator")),
        server: pair(rig.ca.server(IP.parse().unwrap())),
        skip_verifying_client_cert: false,
    }
}

#[tokio::test]
async fn resources_alone_make_it_serve() {
    let rig = Rig::new();
    let paths = Paths { runtime: rig.dir.path().join("runtime.sock"), machined: rig.dir.path().join("m.sock") };
    let stop = CancellationToken::new();
    let apid = tokio::spawn(serve(paths.clone(), stop.clone()));
    // machined comes later, in maintenance first.
    let fixed = Arc::new(Fixed::new());
    let machined = CancellationToken::new();
    runtime(fixed.clone(), &paths.runtime, &machined);
    let listen = format!("{IP}:{}", rig.port);
    let maintenance = ApiServiceConfig {
        listen_address: listen.clone(),
        node_routing_disabled: true,
        readonly_role_mode: true,
        skip_verifying_client_cert: true,
    };
    fixed.put("apid", maintenance);
    fixed.put("api", ApiCertificate { accepted_cas: vec![], client: None, ..certificates(&rig) });
    let insecure = Client::insecure(std::slice::from_ref(&listen), &[], Options::default()).unwrap();
    // Reached, and machined's API is not there.
    eventually(|| async { insecure.machine().version(()).await.is_err_and(|e| e.message().contains("machined does not answer")) }).await;
    // Then with certificates; broken ones in between change nothing.
    fixed.put("api", ApiCertificate { server: Some(PemPair::new(b"x".to_vec(), b"y".to_vec())), ..certificates(&rig) });
    fixed.put("apid", ApiServiceConfig { listen_address: listen.clone(), ..Default::default() });
    fixed.put("api", certificates(&rig));
    fixed.put("current", NodeAddress { addresses: vec!["10.9.9.9/24".parse().unwrap()], ..Default::default() });
    let client = rig.client(IP, "os:admin");
    let local = client.node("10.9.9.9");
    eventually(|| async { local.machine().version(()).await.is_err_and(|e| e.message().contains("machined does not answer")) }).await;
    // machined's disappearance takes nothing back.
    machined.cancel();
    std::fs::remove_file(&paths.runtime).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let status = rig.client(IP, "os:admin").machine().version(()).await.unwrap_err();
    assert!(status.message().contains("machined does not answer"), "{status}");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), apid).await.unwrap().unwrap();
}

async fn eventually<F, Fut>(check: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    for _ in 0..200 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("did not happen within 10 s");
}
