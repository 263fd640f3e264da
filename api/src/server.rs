//! Serving gRPC on a stream: a router over generated services, one HTTP/2 connection at a time.
//!
//! A [`Router`] holds services by name; [`Gate`] decides per request, before any byte of the body is read,
//! whether it may pass. What this is not: TLS or accepting connections from the network (`node`).

use std::{collections::HashMap, convert::Infallible, fmt, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response, request};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixListener, unix::UCred},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, server::NamedService};
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

use crate::{
    roles::{self, Roles},
    transport::{CONNECTION_WINDOW, STREAM_WINDOW, chain},
};

/// Who is at the other end of a connection; every request carries it as an extension.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// A Unix socket's peer: process, user and group at the time it connected.
    pub cred: Option<UCred>,
    /// A network peer's address.
    pub addr: Option<SocketAddr>,
}

/// Decides whether a request may reach its service; may add extensions for the handler.
#[async_trait::async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Lets the request pass, or refuses it.
    ///
    /// # Errors
    /// The status the caller gets.
    async fn check(&self, peer: &Peer, request: &mut request::Parts) -> Result<(), Status>;
}

type Handler = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Services by name, behind an optional [`Gate`].
#[derive(Clone, Default)]
pub struct Router {
    services: HashMap<&'static str, Handler>,
    gate: Option<Arc<dyn Gate>>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

impl Router {
    /// No services.
    pub fn new() -> Router {
        Router::default()
    }

    /// Adds a generated server, such as `MachineServiceServer::new(…)`.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Router
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.services.insert(S::NAME, BoxCloneSyncService::new(service));
        self
    }

    /// Puts a gate before all services.
    #[must_use]
    pub fn gate(mut self, gate: impl Gate) -> Router {
        self.gate = Some(Arc::new(gate));
        self
    }

    /// Answers one request.
    pub async fn answer(&self, peer: Peer, request: Request<Body>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(peer);
        if let Some(gate) = &self.gate
            && let Err(status) = gate.check(&peer, &mut parts).await
        {
            return status.into_http();
        }
        let service = parts.uri.path().split('/').nth(1).unwrap_or_default();
        let Some(handler) = self.services.get(service).cloned() else {
            // The words of grpc-go, on which clients match.
            return Status::unimplemented(format!("unknown service {service}")).into_http();
        };
        match handler.oneshot(Request::from_parts(parts, body)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// A [`Gate`] for services that trust `talos-role` metadata (the caller before us proved who it is): checks
/// the method's roles and leaves [`Roles`] as an extension for the handler.
pub struct RoleGate<F> {
    limit: F,
}

impl<F> RoleGate<F> {
    /// `limit` says which of the claimed roles this peer may pass on; an error refuses it.
    pub fn new(limit: F) -> RoleGate<F> {
        RoleGate { limit }
    }
}

/// Metadata key of the roles a proxy resolved.
pub const ROLE_KEY: &str = "talos-role";

#[async_trait::async_trait]
impl<F, Fut> Gate for RoleGate<F>
where
    F: Fn(Peer, Roles) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Roles, Status>> + Send,
{
    async fn check(&self, peer: &Peer, request: &mut request::Parts) -> Result<(), Status> {
        let claimed = claimed_roles(&request.headers);
        let roles = (self.limit)(*peer, claimed).await?;
        if !roles.any(roles::allowed(request.uri.path())) {
            return Err(Status::permission_denied("not authorized"));
        }
        request.extensions.insert(roles);
        Ok(())
    }
}

/// The roles in `talos-role` metadata: the key may repeat, and a value may hold several, separated by commas.
pub fn claimed_roles(headers: &http::HeaderMap) -> Roles {
    let values = headers.get_all(ROLE_KEY).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).collect()
}

/// How many connections one listener holds open at a time.
const MAX_CONNECTIONS: usize = 512;
/// How many calls one connection may have open at a time.
const MAX_STREAMS: u32 = 1000;

/// The HTTP/2 settings of every server of ours.
pub fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Serves one connection until the peer ends it or `stop` is cancelled, then until open calls end.
pub async fn serve_connection<T, F, Fut>(io: T, peer: Peer, stop: CancellationToken, answer: F)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Peer, Request<Incoming>) -> Fut + Send + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let response = answer(peer, request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = http2_builder().serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = result {
        tracing::debug!(error = %chain(&e), "connection ended");
    }
}

/// Serves `router` on a Unix socket until `stop` is cancelled.
///
/// A failed accept (too many open files) is logged and tried again.
pub async fn serve_unix(listener: UnixListener, router: Router, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = Peer { cred: stream.peer_cred().ok(), addr: None };
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let answer = move |peer, request: Request<Incoming>| {
                let router = router.clone();
                async move { router.answer(peer, request.map(Body::new)).await }
            };
            serve_connection(stream, peer, stop, answer).await;
        });
    }
}
