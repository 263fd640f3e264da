//! A cluster in a process: real apids on loopback addresses, each before a stand-in for machined.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use api::{
    client::{self, Client, Options},
    common, machine,
    server::{Router, claimed_roles, serve_unix},
    tls::{self, Identity},
    transport::Dial,
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use tempfile::TempDir;
use tokio::{net::UnixListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, server::NamedService};

use crate::apid::{
    auth::{self, RoleMode},
    backend::Backends,
    frame::{self, Frames},
    listener::{self, Settings},
    proxy::Policy,
    route::Routing,
};

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) crt: String,
    pub(crate) key: String,
}

impl Pair {
    pub(crate) fn identity(&self) -> Identity {
        // The peer labels Ed25519 keys in its own way; every certificate here goes through that.
        let key = self.key.replace("BEGIN PRIVATE", "BEGIN ED25519 PRIVATE").replace("END PRIVATE", "END ED25519 PRIVATE");
        Identity::from_pem(self.crt.as_bytes(), key.as_bytes()).unwrap()
    }
}

/// A CA like the one of a cluster: Ed25519, O=talos.
pub(crate) struct Authority {
    pub(crate) crt: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "talos");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let crt = params.self_signed(&key).unwrap().pem();
        Authority { crt, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, organizations: &[&str], ips: &[IpAddr], usages: &[ExtendedKeyUsagePurpose], days: i64) -> Pair {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // The map of names holds each type once, so the second role goes in under the type's number.
        let types = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
        for (o, dn) in organizations.iter().zip(types) {
            params.distinguished_name.push(dn, *o);
        }
        params.subject_alt_names = ips.iter().map(|ip| SanType::IpAddress(*ip)).collect();
        params.extended_key_usages = usages.to_vec();
        let now = rcgen::date_time_ymd(2020, 1, 1);
        params.not_before = now;
        params.not_after = if days < 0 { rcgen::date_time_ymd(2021, 1, 1) } else { rcgen::date_time_ymd(2100, 1, 1) };
        let crt = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { crt, key: key.serialize_pem() }
    }

    pub(crate) fn client(&self, role: &str) -> Pair {
        self.issue(&[role], &[], &[ExtendedKeyUsagePurpose::ClientAuth], 1)
    }

    pub(crate) fn server(&self, ip: IpAddr) -> Pair {
        self.issue(&[], &[ip], &[ExtendedKeyUsagePurpose::ServerAuth], 1)
    }
}

/// One node: apid on `ip`, and machined's stand-in, which can be taken down and up.
pub(crate) struct Node {
    pub(crate) ip: IpAddr,
    pub(crate) settings: watch::Sender<Option<Arc<Settings>>>,
    pub(crate) socket: PathBuf,
    machined: Option<CancellationToken>,
    stop: CancellationToken,
}

pub(crate) struct Rig {
    pub(crate) ca: Authority,
    pub(crate) port: u16,
    pub(crate) dir: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Rig { ca: Authority::new(), port, dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn settings(&self, ip: IpAddr, role: Kind) -> Settings {
        let roots = || tls::roots(self.ca.crt.as_bytes()).unwrap();
        let server = self.ca.server(ip).identity();
        let clients = (role != Kind::Maintenance).then(|| (roots(), auth::check_leaf as tls::LeafCheck));
        let forward = (role == Kind::ControlPlane).then(|| {
            let impersonator = self.ca.client("os:impersonator").identity();
            tls::client(roots(), Some(&impersonator)).unwrap()
        });
        let routing = Routing { disabled: role == Kind::Maintenance, can_forward: forward.is_some(), local: vec![ip] };
        let mode = if role == Kind::Maintenance { RoleMode::ReadOnly } else { RoleMode::Certificate };
        Settings {
            listen: SocketAddr::new(ip, self.port),
            tls: tls::server(&server, clients).unwrap(),
            policy: Policy { mode, routing, forward },
        }
    }

    /// Starts a node and waits until it listens.
    pub(crate) async fn node(&self, ip: &str, role: Kind) -> Node {
        let ip: IpAddr = ip.parse().unwrap();
        let socket = self.dir.path().join(format!("{ip}.sock"));
        let (settings, receiver) = watch::channel(Some(Arc::new(self.settings(ip, role))));
        let stop = CancellationToken::new();
        let backends = Arc::new(Backends::with_port(&socket, self.port));
        tokio::spawn(listener::run(receiver, backends, stop.clone()));
        let mut node = Node { ip, settings, socket, machined: None, stop };
        node.up();
        for _ in 0..200 {
            if tokio::net::TcpStream::connect((ip, self.port)).await.is_ok() {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("apid on {ip} does not listen");
    }

    pub(crate) fn context(&self, endpoints: &[&str], pair: &Pair) -> client::Context {
        client::Context {
            endpoints: endpoints.iter().map(|ip| format!("{ip}:{}", self.port)).collect(),
            ca: self.ca.crt.clone().into_bytes(),
            crt: pair.crt.clone().into_bytes(),
            key: pair.key.clone().into_bytes(),
            ..client::Context::default()
        }
    }

    pub(crate) fn client(&self, endpoint: &str, role: &str) -> Client {
        Client::new(&self.context(&[endpoint], &self.ca.client(role)), options()).unwrap()
    }
}

pub(crate) fn options() -> Options {
    Options { dial: Dial { timeout: Duration::from_secs(3) }, call: Duration::from_secs(20) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ControlPlane,
    Worker,
    Maintenance,
}

impl Node {
    pub(crate) fn up(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().with(StandIn { ip: self.ip }).with(super::state::service());
        let ours = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = serve_unix(listener, router, ours.clone()) => {}
                () = ours.cancelled() => {}
            }
        });
        self.machined = Some(stop);
    }

    pub(crate) fn down(&mut self) {
        if let Some(stop) = self.machined.take() {
            stop.cancel();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.down();
        self.stop.cancel();
    }
}

/// machined's stand-in: the machine service on raw frames, so that it can answer in ways a generated server would not.
#[derive(Clone)]
struct StandIn {
    ip: IpAddr,
}

impl NamedService for StandIn {
    const NAME: &'static str = "machine.MachineService";
}

impl tower::Service<Request<Body>> for StandIn {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let ip = self.ip;
        Box::pin(async move { Ok(answer(ip, request).await.unwrap_or_else(|status| status.into_http())) })
    }
}

type Part = Result<Frame<Bytes>, Status>;

fn message(m: &impl Message) -> Part {
    Ok(Frame::data(frame::frame(&m.encode_to_vec())))
}

fn end(status: &Status) -> Part {
    Ok(Frame::trailers(frame::trailers(status)))
}

fn reply(parts: impl futures::Stream<Item = Part> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(Body::new(StreamBody::new(parts)));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    response
}

fn data(text: &str) -> Part {
    message(&common::Data { metadata: None, bytes: text.as_bytes().to_vec() })
}

/// Roles and provenance as machined sees them, so that tests can look.
fn seen(headers: &http::HeaderMap) -> String {
    let roles: Vec<String> = claimed_roles(headers).iter().map(str::to_owned).collect();
    let from = if headers.contains_key("proxyfrom") { " proxied" } else { "" };
    let left = if headers.contains_key("node") || headers.contains_key("nodes") { " targets-left" } else { "" };
    format!("{}{from}{left}", roles.join("+"))
}

async fn answer(ip: IpAddr, request: Request<Body>) -> Result<Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let ok = end(&Status::ok(""));
    let method = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    Ok(match method.as_str() {
        "Version" => {
            let version = machine::Version {
                version: Some(machine::VersionInfo { tag: "v1.15.0+orlop.test".into(), ..Default::default() }),
                platform: Some(machine::PlatformInfo { name: ip.to_string(), mode: seen(&parts.headers) }),
                ..Default::default()
            };
            reply(stream::iter([message(&machine::VersionResponse { messages: vec![version] }), ok]))
        }
        "Hostname" => return Err(Status::with_details(tonic::Code::PermissionDenied, "not authorized: 100 % sure", details())),
        "Memory" => reply(stream::iter([message(&machine::MemoryResponse::default()), ok])),
        "Mounts" => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            return Err(Status::internal("too late"));
        }
        "Logs" => reply(stream::iter([data("one"), data("two"), data("three"), ok])),
        "Dmesg" => reply(stream::iter([data("one"), end(&Status::internal("disk on fire"))])),
        "Events" => reply(stream::iter(events()).chain(stream::pending())),
        "Kubeconfig" => {
            // The largest message that passes: 32 MiB with its few bytes of framing.
            let bytes = vec![b'x'; api::MAX_MESSAGE - 64];
            reply(stream::iter([message(&common::Data { metadata: None, bytes }), ok]))
        }
        "Copy" => {
            // A pause, so that what was sent is on its way before the reset.
            let broken = stream::once(async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                Err(Status::internal("the stand-in breaks off"))
            });
            reply(stream::iter([data("half")]).chain(broken))
        }
        "EtcdRecover" => {
            let mut frames = Frames::new(body);
            let (mut count, mut size) = (0, 0);
            while let Some(frame) = frames.next().await? {
                let chunk = common::Data::decode(frame).map_err(|e| Status::internal(e.to_string()))?;
                (count, size) = (count + 1, size + chunk.bytes.len());
            }
            return Err(Status::failed_precondition(format!("{count} chunks, {size} bytes")));
        }
        "ApplyConfiguration" => {
            let size = Frames::new(body).next().await?.unwrap_or_default().len();
            return Err(Status::invalid_argument(format!("a configuration of {size} bytes")));
        }
        other => return Err(Status::unimplemented(format!("unknown method {other}"))),
    })
}

fn details() -> Bytes {
    let any = prost_types::Any { type_url: "type.googleapis.com/google.protobuf.Empty".into(), value: vec![] };
    api::RpcStatus { code: 7, message: "not authorized: 100 % sure".into(), details: vec![any] }.encode_to_vec().into()
}

/// What the events call begins with: an empty event, then one.
fn events() -> Vec<Part> {
    let sequence = machine::SequenceEvent { sequence: "boot".into(), action: 1, error: None };
    let any = prost_types::Any { type_url: "talos/runtime/machine.SequenceEvent".into(), value: sequence.encode_to_vec() };
    let event = machine::Event { data: Some(any), id: "e1".into(), ..Default::default() };
    vec![message(&machine::Event::default()), message(&event)]
}
