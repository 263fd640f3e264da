//! The listening side: TLS, bounds, and passing on to machined.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use api::{
    TRUST_PORT,
    client::{Client, Options},
    orlop::trust::v1::{SignRequest, trust_service_client::TrustServiceClient},
    securityapi::{
        CertificateRequest, CertificateResponse,
        security_service_server::{SecurityService, SecurityServiceServer},
    },
    server::{Gate, Peer, Router, serve_connection},
    state::{RemoteState, follow},
    tls::{self, Identity},
};
use http::{Request as HttpRequest, request};
use hyper::body::Incoming;
use model::cluster::TrustdCertificate;
use resource::{Key, Registry, Resource};
use rustls::ServerConfig;
use sys::sandbox::Sandbox;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, body::Body};

use super::bucket::Buckets;
use crate::apid::process;

/// trustd's user and group.
pub(crate) const USER: u32 = 51;
/// machined's socket for trustd alone.
const RUNTIME: &str = "/system/run/trustd/runtime.sock";
/// The largest request, in bytes; a certificate request has about 500.
const MAX_REQUEST: usize = 16 * 1024;
/// Connections open at one time.
const MAX_CONNECTIONS: usize = 128;
/// How long a connection may last: a worker asks once.
const LIFE: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long machined may take.
const SIGNING: Duration = Duration::from_secs(8);

/// The process. It starts as root, enters its sandbox and serves until SIGTERM.
pub(crate) fn run() -> ExitCode {
    let sandbox = Sandbox::new().user(USER, USER).bind_tcp([TRUST_PORT]);
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), TRUST_PORT);
    process::run("trustd", sandbox, move |stop| serve(RUNTIME.into(), any, stop))
}

type Certificates = watch::Receiver<Option<Arc<Resource<TrustdCertificate>>>>;

/// Serves on `listen` with what machined's socket at `runtime` gives, until `stop`.
pub(crate) async fn serve(runtime: PathBuf, listen: SocketAddr, stop: CancellationToken) {
    let client = Client::unix(runtime, Options { call: SIGNING, ..Options::default() });
    let kinds = Arc::new(Registry::new().with::<TrustdCertificate>());
    let state = Arc::new(RemoteState::new(&client, kinds));
    let (sink, certificates) = watch::channel(None);
    tokio::spawn(follow::<TrustdCertificate>(state, Key::of::<TrustdCertificate>("trustd"), sink));
    let service = SecurityServiceServer::new(Trust { client }).max_decoding_message_size(MAX_REQUEST);
    let gate = Turnstile { buckets: Mutex::default(), start: Instant::now() };
    let router = Router::new().with(service).gate(gate);
    let (tls_sink, tls) = watch::channel(None);
    tokio::select! {
        () = build(certificates, tls_sink) => {}
        () = accept(listen, tls, router, &stop) => {}
        () = stop.cancelled() => {}
    }
}

/// Makes TLS of each new certificate.
async fn build(mut certificates: Certificates, sink: watch::Sender<Option<Arc<ServerConfig>>>) {
    loop {
        let now = certificates.borrow_and_update().clone();
        if let Some(now) = now {
            match server_config(&now.spec) {
                Ok(config) => {
                    sink.send_replace(Some(config));
                }
                Err(reason) => tracing::warn!(%reason, "the certificate cannot be used; keeping the one in use"),
            }
        }
        if certificates.changed().await.is_err() {
            return;
        }
    }
}

fn server_config(spec: &TrustdCertificate) -> Result<Arc<ServerConfig>, String> {
    let pair = spec.server.as_ref().ok_or("there is no server certificate")?;
    let identity = Identity::from_pem(&pair.crt, &pair.key).map_err(|e| e.to_string())?;
    tls::server(&identity, None).map_err(|e| e.to_string())
}

async fn accept(listen: SocketAddr, mut tls: watch::Receiver<Option<Arc<ServerConfig>>>, router: Router, stop: &CancellationToken) {
    if tls.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let listener = loop {
        match bind(listen).await {
            Ok(listener) => break listener,
            Err(error) => tracing::warn!(%listen, %error, "cannot listen; trying again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tracing::info!(%listen, "serving");
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(config) = tls.borrow().clone() else { continue };
                let (router, end) = (router.clone(), stop.child_token());
                tokio::spawn(async move {
                    let _slot = slot;
                    if let Err(reason) = connection(stream, peer, config, router, end).await {
                        tracing::debug!(%peer, %reason, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Listens; where the kernel has no IPv6, "any address" is IPv4's.
async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(_) if listen.is_ipv6() && listen.ip().is_unspecified() => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, listen.port())).await
        }
        other => other,
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    router: Router,
    end: CancellationToken,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let tls = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream))
        .await
        .map_err(|_| format!("no TLS handshake within {HANDSHAKE:?}"))?
        .map_err(|e| e.to_string())?;
    let peer = Peer { cred: None, addr: Some(peer) };
    let answer = move |peer, request: HttpRequest<Incoming>| {
        let router = router.clone();
        async move { router.answer(peer, request.map(Body::new)).await }
    };
    timeout(LIFE, serve_connection(tls, peer, end, answer)).await.map_err(|_| format!("it lasted longer than {LIFE:?}"))
}

/// Limits how often one address may ask.
struct Turnstile {
    buckets: Mutex<Buckets>,
    start: Instant,
}

#[tonic::async_trait]
impl Gate for Turnstile {
    async fn check(&self, peer: &Peer, _: &mut request::Parts) -> Result<(), Status> {
        let Some(addr) = peer.addr else { return Err(Status::permission_denied("not authorized")) };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.take(addr.ip().to_canonical(), self.start.elapsed()) {
            return Ok(());
        }
        Err(Status::resource_exhausted("too many requests from this address: one a second is accepted"))
    }
}

/// Passes requests on to machined.
struct Trust {
    client: Client,
}

/// The form of a join token: six and sixteen of `a-z0-9`.
fn looks_like_a_token(text: &str) -> bool {
    let part = |s: &str, n| s.len() == n && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.split_once('.').is_some_and(|(id, secret)| part(id, 6) && part(secret, 16))
}

#[tonic::async_trait]
impl SecurityService for Trust {
    async fn certificate(&self, request: Request<CertificateRequest>) -> Result<Response<CertificateResponse>, Status> {
        let peer = request.extensions().get::<Peer>().and_then(|p| p.addr);
        let peer = peer.ok_or_else(|| Status::internal("the connection has no peer address"))?;
        let token = request.metadata().get("token").and_then(|t| t.to_str().ok()).unwrap_or_default().to_owned();
        if token.is_empty() {
            return Err(Status::unauthenticated("missing token: expected the join token in the metadata key `token`"));
        }
        if !looks_like_a_token(&token) {
            return Err(Status::unauthenticated("invalid token: expected six, a dot and sixteen characters of a-z and 0-9"));
        }
        let ask = SignRequest { token, csr: request.into_inner().csr, peer_address: peer.ip().to_canonical().to_string() };
        let answer = TrustServiceClient::new(self.client.clone()).sign(ask).await.map_err(|status| match status.code() {
            tonic::Code::Unavailable => Status::unavailable("this control plane cannot sign at the moment; ask another, or try again"),
            _ => status,
        })?;
        let signed = answer.into_inner();
        Ok(Response::new(CertificateResponse { ca: signed.ca, crt: signed.crt }))
    }
}
