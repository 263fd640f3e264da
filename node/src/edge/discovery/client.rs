//! The client side of discovery: registers this node with every server and follows what each tells.
//!
//! One task per server, for as long as the server is listed. A session is: hello, register, watch; it renews the registration well
//! before it expires, at once when the data changes, and deletes it when the node leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::sidero::discovery::server as wire;
use api::sidero::discovery::server::cluster_client::ClusterClient;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::merge::Merged;
use super::table::{Affiliate, Change, MAX_TTL};
use crate::edge::dns::Dns;

/// How long any single request may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often a registration is renewed: twice in its life.
const RENEW: Duration = Duration::from_secs(15 * 60);
/// Waiting time between attempts, first and longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// After how long a connection that shows nobody but this node is made anew: through a shared address it may have led to this node itself.
const ALONE: Duration = Duration::from_secs(20);
/// What we call ourselves.
const CLIENT_VERSION: &str = concat!("orlop/", env!("CARGO_PKG_VERSION"));

/// What this node tells the servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) cluster: String,
    pub(crate) id: String,
    /// Sealed data; empty until it is known, and then only watching is done.
    pub(crate) data: Vec<u8>,
    pub(crate) endpoints: Vec<Vec<u8>>,
    /// The node leaves the cluster: registrations are deleted.
    pub(crate) leaving: bool,
    /// Members to delete: gone for good without a goodbye.
    pub(crate) forget: BTreeSet<String>,
}

/// The client: all servers, one view.
pub(crate) struct Client {
    own: watch::Sender<Own>,
    merged: Mutex<Merged>,
    public: Mutex<BTreeMap<String, IpAddr>>,
    sessions: Mutex<BTreeMap<String, JoinHandle<()>>>,
    /// Told whenever the view may have changed.
    pub(crate) changed: Notify,
    dns: Arc<Dns>,
    start: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client without servers.
    pub(crate) fn new(dns: Arc<Dns>) -> Arc<Self> {
        Arc::new(Self {
            own: watch::Sender::new(Own::default()),
            merged: Mutex::default(),
            public: Mutex::default(),
            sessions: Mutex::default(),
            changed: Notify::new(),
            dns,
            start: Instant::now(),
        })
    }

    /// Takes over what to register and the servers (`host:port`).
    pub(crate) fn set(self: &Arc<Self>, own: Own, servers: &[String]) {
        if self.own.borrow().cluster != own.cluster {
            *lock(&self.merged) = Merged::default();
        }
        for id in &own.forget {
            lock(&self.merged).forget(id);
        }
        self.own.send_if_modified(|current| std::mem::replace(current, own.clone()) != own);
        let mut sessions = lock(&self.sessions);
        sessions.retain(|server, session| {
            let keep = servers.contains(server);
            if !keep {
                session.abort();
                lock(&self.merged).remove_server(server);
                lock(&self.public).remove(server);
            }
            keep
        });
        for server in servers {
            sessions.entry(server.clone()).or_insert_with(|| tokio::spawn(self.clone().follow(server.clone())));
        }
        drop(sessions);
        self.changed.notify_one();
    }

    /// A member said goodbye.
    pub(crate) fn forget(&self, id: &str) {
        lock(&self.merged).forget(id);
        self.changed.notify_one();
    }

    /// The members' registrations, and whether any server was heard yet.
    pub(crate) fn view(&self) -> (Vec<Affiliate>, bool) {
        let mut merged = lock(&self.merged);
        merged.refresh(self.start.elapsed());
        (merged.affiliates(), merged.settled())
    }

    /// The addresses under which servers see this node.
    pub(crate) fn public_addresses(&self) -> BTreeSet<IpAddr> {
        lock(&self.public).values().copied().collect()
    }

    async fn follow(self: Arc<Self>, server: String) {
        let mut wait = BACKOFF.0;
        let mut told = String::new();
        loop {
            let begun = Instant::now();
            let ended = self.session(&server).await;
            lock(&self.merged).disconnected(&server);
            self.changed.notify_one();
            if let Err(status) = ended {
                // A control plane may stay away for long: each reason is told once.
                if told != status.message() {
                    tracing::info!(server, error = %status.message(), "discovery: no connection to this control plane; trying again");
                    status.message().clone_into(&mut told);
                }
            }
            if begun.elapsed() > Duration::from_secs(60) {
                wait = BACKOFF.0;
                told.clear();
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    async fn connect(&self, server: &str) -> Result<ClusterClient<Channel>, Status> {
        let unreachable = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
        let (host, port) = server.rsplit_once(':').ok_or_else(|| Status::invalid_argument(format!("{server:?} is not host:port")))?;
        let port: u16 = port.parse().map_err(|_| Status::invalid_argument(format!("{server:?} is not host:port")))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = match host.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => {
                let found = self.dns.lookup(host).await.map_err(|error| unreachable(&error))?;
                *found.first().ok_or_else(|| Status::unavailable(format!("{host} has no address")))?
            }
        };
        let channel = Endpoint::from_shared(format!("http://{}", SocketAddr::new(address, port)))
            .map_err(|error| unreachable(&error))?
            .connect_timeout(DEADLINE)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Status::unavailable(cause.unwrap_or_else(|| error.to_string()))
            })?;
        Ok(ClusterClient::new(channel))
    }

    async fn session(&self, server: &str) -> Result<(), Status> {
        let mut updates = self.own.subscribe();
        let own = updates.borrow_and_update().clone();
        if own.cluster.is_empty() {
            // Nothing to say before the cluster is known.
            let _ = updates.changed().await;
            return Ok(());
        }
        let cluster = own.cluster.clone();
        let mut client = self.connect(server).await?;
        let hello = wire::HelloRequest { cluster_id: own.cluster.clone(), client_version: CLIENT_VERSION.into() };
        let hello = in_time(client.hello(hello)).await?.into_inner();
        if let Some(address) = address_of(&hello.client_ip) {
            lock(&self.public).insert(server.to_owned(), address);
        }
        register(&mut client, &own).await?;
        let watch = wire::WatchRequest { cluster_id: own.cluster.clone() };
        let mut stream = in_time(client.watch(watch)).await?.into_inner();
        let first = in_time(stream.message()).await?.unwrap_or_default();
        lock(&self.merged).snapshot(server, first.affiliates.into_iter().map(from_wire).collect(), self.start.elapsed());
        self.changed.notify_one();
        tracing::info!(server, "discovery: registered and watching");

        let mut renewal = tokio::time::interval_at(Instant::now() + RENEW, RENEW);
        let mut alone = tokio::time::interval_at(Instant::now() + ALONE, ALONE);
        let is_itself = server.starts_with("127.");
        loop {
            tokio::select! {
                message = stream.message() => match message? {
                    Some(message) => self.take(server, message),
                    None => return Ok(()),
                },
                changed = updates.changed() => {
                    let own = updates.borrow_and_update().clone();
                    if changed.is_err() || own.cluster != cluster {
                        return Ok(());
                    }
                    register(&mut client, &own).await?;
                }
                _ = alone.tick(), if !is_itself => {
                    if lock(&self.merged).affiliates().len() <= 1 {
                        return Ok(());
                    }
                }
                _ = renewal.tick() => {
                    let own = self.own.borrow().clone();
                    register(&mut client, &own).await?;
                }
            }
        }
    }

    fn take(&self, server: &str, message: wire::WatchResponse) {
        let now = self.start.elapsed();
        let mut merged = lock(&self.merged);
        for affiliate in message.affiliates {
            let change = if message.deleted { Change::Gone(affiliate.id) } else { Change::Set(from_wire(affiliate)) };
            merged.change(server, change, now);
        }
        drop(merged);
        self.changed.notify_one();
    }
}

/// One request's answer, or that it took too long.
async fn in_time<T>(request: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(DEADLINE, request).await.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {DEADLINE:?}"))))
}

/// Registers this node, or deletes it when it leaves, and deletes those to forget.
async fn register(client: &mut ClusterClient<Channel>, own: &Own) -> Result<(), Status> {
    for id in own.forget.iter().chain(own.leaving.then_some(&own.id)) {
        let delete = wire::AffiliateDeleteRequest { cluster_id: own.cluster.clone(), affiliate_id: id.clone() };
        in_time(client.affiliate_delete(delete)).await?;
    }
    if own.leaving || own.data.is_empty() {
        return Ok(());
    }
    let update = wire::AffiliateUpdateRequest {
        cluster_id: own.cluster.clone(),
        affiliate_id: own.id.clone(),
        affiliate_data: Some(own.data.clone()),
        affiliate_endpoints: own.endpoints.clone(),
        ttl: prost_types::Duration::try_from(MAX_TTL).ok(),
    };
    in_time(client.affiliate_update(update)).await?;
    Ok(())
}

fn from_wire(affiliate: wire::Affiliate) -> Affiliate {
    Affiliate { id: affiliate.id, data: affiliate.data, endpoints: affiliate.endpoints }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
