//! What machined signs, purely; then a worker, trustd and machined over real sockets.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use api::{
    orlop::trust::v1::trust_service_server::TrustServiceServer,
    server::{Router, serve_unix},
    state::{Access, Server},
    trust::{TrustError, request_certificate},
};
use jiff::Timestamp;
use model::cluster::{Member, OsRootSecret, TrustdCertificate};
use pki::{Algorithm, Ca, Certificate, Csr, Extended, Name, PrivateKey, San, profile};
use resource::{PemCert, PemPair, Registry};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::{
    server::serve,
    sign::{Ask, Authority, Refusal, Service, sign},
};
use crate::apid::tests::state::Fixed;

const TOKEN: &str = "abcdef.0123456789abcdef";
const PEER: &str = "10.5.0.3";

fn ca() -> Ca {
    profile::os_ca(Timestamp::now()).unwrap()
}

fn csr(organizations: &[&str], sans: &[&str]) -> String {
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let sans: Vec<San> = sans.iter().map(|s| San::parse(s)).collect();
    Csr::create(&Name::new("worker-1", organizations), &sans, &key).unwrap()
}

/// What stands in the certificate that is signed for a request.
fn signed(csr: &str, token: &str, taken: &[&str]) -> Result<pki::Identity, Refusal> {
    let (ca, taken): (Ca, BTreeSet<String>) = (ca(), taken.iter().map(|t| (*t).to_owned()).collect());
    let ask = Ask { token, csr, peer: PEER.parse().unwrap() };
    let crt = sign(&ask, &Authority { token: TOKEN, ca: &ca, taken: &taken }, Timestamp::now())?;
    Ok(Certificate::from_pem(&crt).unwrap().identity().unwrap())
}

#[test]
fn a_worker_gets_a_server_certificate_for_itself() {
    let all = [PEER, "127.0.0.1", "worker-1", "worker-1.example.com"];
    let got = signed(&csr(&["os:admin"], &all), TOKEN, &["cp-1"]).unwrap();
    assert_eq!(got.extended, [Extended::Server]);
    assert_eq!(got.name.organizations, Vec::<String>::new(), "organizations are roles");
    assert!(!got.is_ca);
    let asked: BTreeSet<San> = all.iter().map(|s| San::parse(s)).collect();
    assert_eq!(got.sans.into_iter().collect::<BTreeSet<_>>(), asked);
    let life = got.not_after.duration_since(got.not_before).as_secs();
    assert!((86_000..=90_000).contains(&life), "about a day, found {life} s");
}

#[test]
fn what_belongs_to_others_is_left_out() {
    let asked =
        ["10.5.0.2", PEER, "10.5.0.4", "cp-1", "cp-1.example.com", "kubernetes", "kubernetes.default.svc", "CP-1", "*", "a..b", "worker-1"];
    let got = signed(&csr(&[], &asked), TOKEN, &["cp-1"]).unwrap();
    assert_eq!(got.sans.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([San::parse(PEER), San::parse("worker-1")]));
    let nothing = signed(&csr(&[], &["10.5.0.2", "cp-1"]), TOKEN, &["cp-1"]);
    assert!(matches!(nothing, Err(Refusal::Request(_))), "{nothing:?}");
}

#[test]
fn wrong_tokens_and_broken_requests_are_refused() {
    let good = csr(&[], &[PEER]);
    for wrong in ["", "abcdef.0123456789abcdeg", "abcdef.0123456789abcde", "ABCDEF.0123456789ABCDEF"] {
        assert_eq!(signed(&good, wrong, &[]).unwrap_err(), Refusal::Token, "{wrong}");
    }
    let ca = ca();
    let none = Authority { token: "", ca: &ca, taken: &BTreeSet::new() };
    let ask = Ask { token: "", csr: &good, peer: PEER.parse().unwrap() };
    assert_eq!(sign(&ask, &none, Timestamp::now()), Err(Refusal::Token), "no token configured is no token to show");
    let mut broken = good.clone();
    broken.truncate(good.len() / 2);
    for bad in ["", "hello", &broken] {
        assert!(matches!(signed(bad, TOKEN, &[]), Err(Refusal::Request(_))), "{bad}");
    }
}

/// A control plane on 127.0.0.1: trustd and machined's side. Gives trustd's address and the CA, PEM.
async fn control_plane(dir: &Path, stop: &CancellationToken) -> (SocketAddr, String) {
    let now = Timestamp::now();
    let ca = ca();
    let server = ca.issue(&profile::trustd_server("cp-1", vec![San::parse("127.0.0.1")]), now).unwrap();
    let pem = ca.certificate().to_pem();
    let pair = |crt: &str, key: &str| Some(PemPair::new(crt.as_bytes().to_vec(), key.as_bytes().to_vec()));
    let accepted = vec![PemCert { crt: pem.clone().into_bytes().into() }];
    let fixed = Arc::new(Fixed::new());
    fixed.put("trustd", TrustdCertificate { accepted_cas: accepted.clone(), server: pair(&server.cert, &server.key) });
    let root = OsRootSecret {
        issuing_ca: pair(&pem, &ca.key().to_pem()),
        accepted_cas: accepted,
        cert_san_dns_names: vec!["api.example.com".into()],
        token: TOKEN.into(),
        ..Default::default()
    };
    fixed.put("os", root);
    let member = |host: &str, ip: &str| Member { hostname: host.into(), addresses: vec![ip.parse().unwrap()], ..Default::default() };
    fixed.put("cp-1", member("cp-1", "10.5.0.2"));
    fixed.put("worker-1", member("worker-1", "127.0.0.1"));

    let path = dir.join("runtime.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let access = Access::only([("secrets", "TrustdCertificates.secrets.talos.dev")]);
    let registry = Arc::new(Registry::new().with::<TrustdCertificate>());
    let router =
        Router::new().with(Server::new(fixed.clone(), access, registry).into_service()).with(TrustServiceServer::new(Service::new(fixed)));
    tokio::spawn(serve_unix(listener, router, stop.clone()));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = SocketAddr::new("127.0.0.1".parse::<IpAddr>().unwrap(), port);
    tokio::spawn(serve(path, listen, stop.clone()));
    for _ in 0..300 {
        if tokio::net::TcpStream::connect(listen).await.is_ok() {
            return (listen, pem);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("trustd does not listen");
}

#[tokio::test]
async fn a_worker_joins_by_token() {
    if !sys::host::is_root() {
        eprintln!("skipped: machined's side answers trustd's user and root only, and this is neither");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (listen, ca) = control_plane(dir.path(), &stop).await;
    let request = csr(&["os:admin"], &["127.0.0.1", "10.5.0.2", "worker-1", "cp-1", "api.example.com"]);
    // A dead control plane is passed over.
    let endpoints = ["127.0.0.1:9".to_owned(), listen.to_string()];
    let got = request_certificate(&endpoints, ca.as_bytes(), TOKEN, request.as_bytes()).await.unwrap();
    assert_eq!(String::from_utf8(got.ca).unwrap().trim(), ca.trim());
    let identity = Certificate::from_pem(&String::from_utf8(got.crt).unwrap()).unwrap().identity().unwrap();
    assert_eq!(identity.sans.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([San::parse("127.0.0.1"), San::parse("worker-1")]));
    assert!(identity.name.organizations.is_empty());

    let only = [listen.to_string()];
    let refused = request_certificate(&only, ca.as_bytes(), "zzzzzz.0123456789abcdef", request.as_bytes()).await.unwrap_err();
    assert!(matches!(&refused, TrustError::Refused(text) if text.contains("invalid token")), "{refused}");
    let misshapen = request_certificate(&only, ca.as_bytes(), "hello", request.as_bytes()).await.unwrap_err();
    assert!(misshapen.to_string().contains("sixteen characters"), "{misshapen}");
    let broken = request_certificate(&only, ca.as_bytes(), TOKEN, b"hello").await.unwrap_err();
    assert!(matches!(broken, TrustError::Refused(_)), "{broken}");
    let large = vec![b'x'; 100_000];
    let huge = request_certificate(&only, ca.as_bytes(), TOKEN, &large);
    let huge = tokio::time::timeout(Duration::from_secs(3), huge).await;
    assert!(!matches!(huge, Ok(Ok(_))), "a request of 100 kB is not passed on");
    assert!(matches!(request_certificate(&[], ca.as_bytes(), TOKEN, b"").await, Err(TrustError::NoEndpoints)));
    stop.cancel();
}

#[tokio::test]
async fn too_many_requests_of_one_address_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (listen, ca) = control_plane(dir.path(), &stop).await;
    let endpoints = [listen.to_string()];
    let mut limited = false;
    for _ in 0..20 {
        match request_certificate(&endpoints, ca.as_bytes(), "hello", b"x").await {
            Err(TrustError::Refused(_)) => {}
            Err(TrustError::Unreachable(text)) if text.contains("too many requests") => limited = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(limited, "20 requests at once all got through");
    stop.cancel();
}
