//! The discovery server of a control plane, TCP 50002: members register and find each other here, with no outside service.
//!
//! It serves its own cluster only, and knows nothing but ids and sealed bytes. Plain HTTP/2: what matters is sealed end to end.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::sidero::discovery::server as wire;
use api::sidero::discovery::server::cluster_server::{Cluster, ClusterServer};
use futures::{Stream, StreamExt};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;
use tonic::codegen::Service;
use tonic::{Request, Response, Status};

use super::super::socket;
use super::table::{Affiliate, Change, Limiter, Refused, Table, Update, check_id};

/// The port of discovery on control planes.
pub(crate) const PORT: u16 = 50002;
/// Requests of one address: at once, and then a second.
const BURST: f64 = 60.0;
const RATE: f64 = 15.0;
/// Connections served at once.
const MAX_CONNECTIONS: usize = 2048;
/// Changes a slow watcher may be behind before it has to start over.
const BACKLOG: usize = 512;
/// How often expiry is looked at.
const SWEEP: Duration = Duration::from_secs(30);

/// The server: shared by its connections.
pub(crate) struct Server {
    /// The one cluster that is served; empty until it is known, and then nothing is served.
    cluster: Mutex<String>,
    table: Mutex<Table>,
    limiter: Mutex<Limiter<IpAddr>>,
    changes: broadcast::Sender<Change>,
    start: Instant,
}

/// Where a request comes from.
#[derive(Clone, Copy)]
struct From(SocketAddr);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// A server without members.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            cluster: Mutex::default(),
            table: Mutex::default(),
            limiter: Mutex::new(Limiter::new(RATE, BURST)),
            changes: broadcast::Sender::new(BACKLOG),
            start: Instant::now(),
        })
    }

    /// Names the cluster to serve; another one starts with no members.
    pub(crate) fn set_cluster(&self, id: &str) {
        let mut cluster = lock(&self.cluster);
        if *cluster != id {
            id.clone_into(&mut cluster);
            *lock(&self.table) = Table::default();
        }
    }

    /// Removes a member that said goodbye or is to be forgotten.
    pub(crate) fn forget(&self, id: &str) {
        let gone = lock(&self.table).delete(id);
        self.announce(gone);
    }

    fn announce(&self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            // An error only means that nobody watches.
            let _ = self.changes.send(change);
        }
    }

    fn admit<T>(&self, request: &Request<T>, cluster: &str) -> Result<SocketAddr, Status> {
        let From(from) = request.extensions().get::<From>().copied().ok_or_else(|| Status::internal("the connection has no address"))?;
        if !lock(&self.limiter).allow(from.ip(), self.start.elapsed()) {
            return Err(Status::resource_exhausted(format!("more than {RATE} requests a second from {}", from.ip())));
        }
        check_id("the cluster id", cluster).map_err(refused)?;
        let own = lock(&self.cluster);
        if own.is_empty() {
            return Err(Status::unavailable("this node does not know its cluster yet"));
        }
        if *own != cluster {
            return Err(Status::permission_denied("this control plane serves its own cluster only, and that is another one"));
        }
        Ok(from)
    }

    /// Serves until the task is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        tokio::join!(self.accept(listener), self.sweep());
    }

    async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let gone = lock(&self.table).expire(self.start.elapsed());
            self.announce(gone);
        }
    }

    async fn accept(self: &Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // Dropped with this task: whoever stops serving also ends its connections.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let stream = socket::accept(&listener).await;
            while connections.try_join_next().is_some() {}
            let Ok(from) = stream.peer_addr() else { continue };
            let service = ClusterServer::from_arc(self.clone());
            connections.spawn(async move {
                let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                    request.extensions_mut().insert(From(from));
                    let mut service = service.clone();
                    async move { Ok::<_, Infallible>(service.call(request).await.unwrap_or_else(|never| match never {})) }
                });
                let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .keep_alive_interval(Duration::from_secs(10))
                    .keep_alive_timeout(Duration::from_secs(10))
                    .max_concurrent_streams(16)
                    .max_header_list_size(8 << 10)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, %from, "discovery: a connection ended");
                }
                drop(slot);
            });
        }
    }
}

fn refused(reason: Refused) -> Status {
    match reason {
        Refused::TooMany { .. } => Status::resource_exhausted(reason.to_string()),
        Refused::TooLong { .. } | Refused::Empty { .. } | Refused::Ttl { .. } => Status::invalid_argument(reason.to_string()),
    }
}

fn to_wire(affiliate: Affiliate) -> wire::Affiliate {
    wire::Affiliate { id: affiliate.id, data: affiliate.data, endpoints: affiliate.endpoints }
}

type Watched = Pin<Box<dyn Stream<Item = Result<wire::WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Cluster for Server {
    type WatchStream = Watched;

    async fn hello(&self, request: Request<wire::HelloRequest>) -> Result<Response<wire::HelloResponse>, Status> {
        let from = self.admit(&request, &request.get_ref().cluster_id)?;
        let client_ip = match from.ip().to_canonical() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        Ok(Response::new(wire::HelloResponse { redirect: None, client_ip }))
    }

    async fn affiliate_update(
        &self,
        request: Request<wire::AffiliateUpdateRequest>,
    ) -> Result<Response<wire::AffiliateUpdateResponse>, Status> {
        self.admit(&request, &request.get_ref().cluster_id)?;
        let request = request.into_inner();
        let ttl = request.ttl.unwrap_or_default();
        let ttl = Duration::try_from(ttl).map_err(|_| Status::invalid_argument("the time to live is negative"))?;
        let update = Update { id: request.affiliate_id, data: request.affiliate_data, endpoints: request.affiliate_endpoints, ttl };
        let change = lock(&self.table).update(update, self.start.elapsed()).map_err(refused)?;
        self.announce(change);
        Ok(Response::new(wire::AffiliateUpdateResponse {}))
    }

    async fn affiliate_delete(
        &self,
        request: Request<wire::AffiliateDeleteRequest>,
    ) -> Result<Response<wire::AffiliateDeleteResponse>, Status> {
        self.admit(&request, &request.get_ref().cluster_id)?;
        check_id("the affiliate id", &request.get_ref().affiliate_id).map_err(refused)?;
        self.forget(&request.get_ref().affiliate_id);
        Ok(Response::new(wire::AffiliateDeleteResponse {}))
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        self.admit(&request, &request.get_ref().cluster_id)?;
        let affiliates = lock(&self.table).list().into_iter().map(to_wire).collect();
        Ok(Response::new(wire::ListResponse { affiliates }))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Watched>, Status> {
        self.admit(&request, &request.get_ref().cluster_id)?;
        // Subscribed under the lock, so that no change falls between the snapshot and the stream.
        let (snapshot, changes) = {
            let table = lock(&self.table);
            (table.list(), self.changes.subscribe())
        };
        let first = wire::WatchResponse { affiliates: snapshot.into_iter().map(to_wire).collect(), deleted: false };
        let rest = BroadcastStream::new(changes).map(|change| match change {
            Ok(Change::Set(affiliate)) => Ok(wire::WatchResponse { affiliates: vec![to_wire(affiliate)], deleted: false }),
            Ok(Change::Gone(id)) => {
                Ok(wire::WatchResponse { affiliates: vec![wire::Affiliate { id, ..Default::default() }], deleted: true })
            }
            Err(_) => Err(Status::aborted("changes came faster than this watcher read them; watch again")),
        });
        Ok(Response::new(Box::pin(futures::stream::once(async { Ok(first) }).chain(rest))))
    }
}
