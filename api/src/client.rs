//! The client of a cluster's API: several endpoints, any of which will do, and the nodes a call is for.
//!
//! A [`Client`] is a `tonic` transport, so each generated client runs on it:
//!
//! ```no_run
//! # async fn f(client: api::client::Client) -> Result<(), tonic::Status> {
//! let version = client.node("10.5.0.3").machine().version(()).await?;
//! # Ok(()) }
//! ```
//!
//! Endpoints are tried in random order; one that takes longer than [`STAGGER`] to connect does not hold up the
//! next. The one that answers is kept until it fails. Every call that is not a stream has a deadline.

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use rand::seq::SliceRandom as _;
use tonic::{Status, body::Body};

use crate::{
    API_PORT, MAX_MESSAGE, cluster, cosi, inspect, machine, orlop,
    roles::Rpc,
    storage, time,
    tls::{self, Identity, TlsError},
    transport::{Connection, Dial, Place},
};

/// How long one endpoint may take to connect before the next is tried beside it.
pub const STAGGER: Duration = Duration::from_millis(300);

/// Where and as whom to connect: one context of a client configuration, certificates in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// `host`, `host:port`, `[address]:port`; port 50000 unless given.
    pub endpoints: Vec<String>,
    /// Nodes that calls go to when none is named.
    pub nodes: Vec<String>,
    /// CAs that sign the servers.
    pub ca: Vec<u8>,
    /// The client's certificate.
    pub crt: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// The cluster's name, when the endpoint is a proxy before several.
    pub cluster: Option<String>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("endpoints", &self.endpoints)
            .field("nodes", &self.nodes)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No endpoint to connect to.
    #[error("no endpoints: set them in the context (config endpoint ADDRESS…) or give --endpoints")]
    NoEndpoints,
    /// An endpoint that is no host with optional port.
    #[error("endpoint {endpoint:?}: expected HOST, HOST:PORT or [ADDRESS]:PORT: {reason}")]
    BadEndpoint {
        /// As given.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A node name that cannot be sent.
    #[error("node {0:?}: expected a host name or an IP address")]
    BadNode(String),
    /// Certificates of the context.
    #[error("the context's certificates cannot be used: {0}")]
    Tls(#[from] TlsError),
}

/// Limits of a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time for one endpoint's connection.
    pub dial: Dial,
    /// Time for a call that is not a stream, unless the request sets its own.
    pub call: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { dial: Dial::default(), call: Duration::from_secs(60) }
    }
}

/// Which nodes a call is for.
#[derive(Clone, Debug, Default)]
enum Target {
    #[default]
    Endpoint,
    Node(HeaderValue),
    Nodes(Vec<HeaderValue>),
}

/// A client of the API. Clones share connections.
#[derive(Clone)]
pub struct Client {
    endpoints: Arc<Endpoints>,
    target: Target,
    cluster: Option<HeaderValue>,
}

struct Endpoints {
    list: Vec<Connection>,
    current: AtomicUsize,
    call: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints.list).field("target", &self.target).finish()
    }
}

/// Splits `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
///
/// # Errors
/// Says what is wrong with it.
pub fn split_endpoint(endpoint: &str, default_port: u16) -> Result<(String, u16), ClientError> {
    let bad = |reason| ClientError::BadEndpoint { endpoint: endpoint.to_owned(), reason };
    let text = endpoint.trim();
    let port_of = |p: &str| p.parse().map_err(|_| bad("the port is no number from 1 to 65535"));
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| bad("the bracket is not closed"))?;
        match rest.strip_prefix(':') {
            Some(p) => (host, port_of(p)?),
            None if rest.is_empty() => (host, default_port),
            None => return Err(bad("only a port may follow the bracket")),
        }
    } else if text.matches(':').count() == 1 {
        let (host, p) = text.split_once(':').ok_or_else(|| bad("no port"))?;
        (host, port_of(p)?)
    } else {
        (text, default_port)
    };
    if host.is_empty() {
        return Err(bad("the host is empty"));
    }
    if host.contains("://") || host.contains('/') {
        return Err(bad("it is a URL; give the host alone"));
    }
    Ok((host.to_owned(), port))
}

impl Client {
    /// A client for a context: mutual TLS, endpoints in random order. Nothing is connected yet.
    ///
    /// # Errors
    /// When the context has no endpoints, or its certificates cannot be used.
    pub fn new(context: &Context, options: Options) -> Result<Client, ClientError> {
        let identity = match (context.crt.is_empty(), context.key.is_empty()) {
            (true, true) => None,
            _ => Some(Identity::from_pem(&context.crt, &context.key)?),
        };
        let config = tls::client(tls::roots(&context.ca)?, identity.as_ref())?;
        let mut client = Client::with_tls(&context.endpoints, config, options)?;
        client.cluster = context.cluster.as_deref().and_then(|c| HeaderValue::from_str(c).ok());
        Ok(client)
    }

    /// A client that checks no CA, for nodes in maintenance mode; see [`tls::insecure_client`].
    ///
    /// # Errors
    /// When there is no endpoint, or a fingerprint is malformed.
    pub fn insecure(endpoints: &[String], fingerprints: &[String], options: Options) -> Result<Client, ClientError> {
        Client::with_tls(endpoints, tls::insecure_client(fingerprints)?, options)
    }

    fn with_tls(endpoints: &[String], config: Arc<rustls::ClientConfig>, options: Options) -> Result<Client, ClientError> {
        Client::with_tls_and_port(endpoints, API_PORT, config, options)
    }

    pub(crate) fn with_tls_and_port(
        endpoints: &[String],
        default_port: u16,
        config: Arc<rustls::ClientConfig>,
        options: Options,
    ) -> Result<Client, ClientError> {
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoints);
        }
        let mut list = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let (host, port) = split_endpoint(endpoint, default_port)?;
            list.push(Connection::new(Place::Tls { host, port, config: config.clone() }, options.dial.clone()));
        }
        list.shuffle(&mut rand::rng());
        Ok(Client::over(list, options.call))
    }

    /// A client of one place, over a connection that others may share.
    pub fn of_connection(connection: Connection, options: &Options) -> Client {
        Client::over(vec![connection], options.call)
    }

    /// A client of a local Unix socket, such as machined's.
    pub fn unix(path: impl Into<PathBuf>, options: Options) -> Client {
        Client::over(vec![Connection::new(Place::Unix(path.into()), options.dial)], options.call)
    }

    fn over(list: Vec<Connection>, call: Duration) -> Client {
        let endpoints = Endpoints { list, current: AtomicUsize::new(0), call };
        Client { endpoints: Arc::new(endpoints), target: Target::default(), cluster: None }
    }

    /// The same client, its calls meant for one node; the endpoint passes them on.
    ///
    /// A name that cannot be sent (control characters) addresses no node: the call goes to the endpoint,
    /// so check names from users with [`Client::try_node`].
    #[must_use]
    pub fn node(&self, node: &str) -> Client {
        self.try_node(node).unwrap_or_else(|_| self.clone())
    }

    /// As [`Client::node`], refusing what cannot be a node's name.
    ///
    /// # Errors
    /// When the name is empty or has characters that no host name has.
    pub fn try_node(&self, node: &str) -> Result<Client, ClientError> {
        Ok(Client { target: Target::Node(node_value(node)?), ..self.clone() })
    }

    /// The same client, its calls meant for many nodes at once: the endpoint merges the replies (machine, storage,
    /// cluster, inspect and time services only). Each reply's metadata names its node and error.
    ///
    /// # Errors
    /// When a name cannot be a node's.
    pub fn nodes<S: AsRef<str>>(&self, nodes: impl IntoIterator<Item = S>) -> Result<Client, ClientError> {
        let list = nodes.into_iter().map(|n| node_value(n.as_ref())).collect::<Result<Vec<_>, _>>()?;
        Ok(Client { target: Target::Nodes(list), ..self.clone() })
    }

    /// The machine API.
    pub fn machine(&self) -> machine::machine_service_client::MachineServiceClient<Client> {
        let c = machine::machine_service_client::MachineServiceClient::new(self.clone());
        c.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    /// The resource API.
    pub fn state(&self) -> cosi::resource::state_client::StateClient<Client> {
        let c = cosi::resource::state_client::StateClient::new(self.clone());
        c.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    /// Disks and wiping.
    pub fn storage(&self) -> storage::storage_service_client::StorageServiceClient<Client> {
        storage::storage_service_client::StorageServiceClient::new(self.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Health of the cluster as the node sees it.
    pub fn cluster(&self) -> cluster::cluster_service_client::ClusterServiceClient<Client> {
        cluster::cluster_service_client::ClusterServiceClient::new(self.clone())
    }

    /// The controller graph.
    pub fn inspect(&self) -> inspect::inspect_service_client::InspectServiceClient<Client> {
        inspect::inspect_service_client::InspectServiceClient::new(self.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The node's clock.
    pub fn time(&self) -> time::time_service_client::TimeServiceClient<Client> {
        time::time_service_client::TimeServiceClient::new(self.clone())
    }

    /// Images of the node.
    pub fn image(&self) -> machine::image_service_client::ImageServiceClient<Client> {
        let c = machine::image_service_client::ImageServiceClient::new(self.clone());
        c.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    /// Taking machines that are gone out of the cluster.
    pub fn membership(&self) -> orlop::cluster::v1::membership_service_client::MembershipServiceClient<Client> {
        orlop::cluster::v1::membership_service_client::MembershipServiceClient::new(self.clone())
    }

    /// Installation and upgrade.
    pub fn lifecycle(&self) -> machine::lifecycle_service_client::LifecycleServiceClient<Client> {
        machine::lifecycle_service_client::LifecycleServiceClient::new(self.clone())
    }

    /// Connects, and says to which endpoint.
    ///
    /// # Errors
    /// `Unavailable`, with each endpoint's failure.
    pub async fn connect(&self) -> Result<String, Status> {
        Ok(self.endpoints.pick().await?.place().to_string())
    }

    async fn send(self, mut request: Request<Body>) -> Result<Response<Incoming>, Status> {
        let headers = request.headers_mut();
        match self.target {
            Target::Endpoint => {}
            Target::Node(node) => {
                headers.insert("node", node);
            }
            Target::Nodes(nodes) => {
                for node in nodes {
                    headers.append("nodes", node);
                }
            }
        }
        if let Some(cluster) = self.cluster {
            headers.insert("cluster", cluster);
        }
        let limit = deadline(&request, self.endpoints.call);
        let endpoints = self.endpoints;
        let path = request.uri().path().to_owned();
        let call = async move { endpoints.pick().await?.send(request).await };
        match limit {
            None => call.await,
            Some(limit) => tokio::time::timeout(limit, call)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("{path}: no answer within {limit:?}")))),
        }
    }
}

fn node_value(node: &str) -> Result<HeaderValue, ClientError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-:_[]%".contains(c);
    if node.is_empty() || !node.chars().all(fits) {
        return Err(ClientError::BadNode(node.to_owned()));
    }
    HeaderValue::from_str(node).map_err(|_| ClientError::BadNode(node.to_owned()))
}

/// The time a call may take: what it asks for itself, or the default when it is no stream.
fn deadline(request: &Request<Body>, default: Duration) -> Option<Duration> {
    let own = request.headers().get("grpc-timeout").and_then(|v| parse_timeout(v.to_str().ok()?));
    let stream = Rpc::from_path(request.uri().path()).is_some_and(|r| r.client_streaming() || r.server_streaming());
    own.or_else(|| (!stream).then_some(default))
}

/// A `grpc-timeout` value: at most eight digits and a unit of `H M S m u n`.
pub fn parse_timeout(value: &str) -> Option<Duration> {
    let unit = value.chars().last()?;
    let digits = &value[..value.len() - unit.len_utf8()];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(n * 3600),
        'M' => Duration::from_secs(n * 60),
        'S' => Duration::from_secs(n),
        'm' => Duration::from_millis(n),
        'u' => Duration::from_micros(n),
        'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

impl Endpoints {
    /// The endpoint in use if it still connects, else the first that does, each started [`STAGGER`] after
    /// the one before or as soon as that one failed.
    async fn pick(&self) -> Result<Connection, Status> {
        let (n, start) = (self.list.len(), self.current.load(Ordering::Relaxed));
        let mut order = (0..n).map(|i| (start + i) % n);
        let mut running = FuturesUnordered::new();
        let mut failures = Vec::new();
        let attempt = |i: usize| async move { (i, self.list[i].ready().await) };
        running.extend(order.next().map(attempt));
        loop {
            tokio::select! {
                done = running.next() => match done {
                    Some((i, Ok(_))) => {
                        self.current.store(i, Ordering::Relaxed);
                        return Ok(self.list[i].clone());
                    }
                    Some((_, Err(e))) => {
                        failures.push(e);
                        running.extend(order.next().map(attempt));
                    }
                    None => break,
                },
                () = tokio::time::sleep(STAGGER), if order.len() > 0 => running.extend(order.next().map(attempt)),
            }
        }
        match <[_; 1]>::try_from(failures) {
            Ok([only]) => Err(only.into()),
            Err(all) => {
                let text: Vec<String> = all.iter().map(ToString::to_string).collect();
                Err(Status::unavailable(format!("no endpoint answers: {}", text.join("; "))))
            }
        }
    }
}

impl tower::Service<Request<Body>> for Client {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_split_into_host_and_port() {
        let ok = |s: &str| split_endpoint(s, 50000).unwrap();
        assert_eq!(ok("10.0.0.1"), ("10.0.0.1".into(), 50000));
        assert_eq!(ok("10.0.0.1:6000"), ("10.0.0.1".into(), 6000));
        assert_eq!(ok("cp.example:50001"), ("cp.example".into(), 50001));
        assert_eq!(ok("fd00::1"), ("fd00::1".into(), 50000));
        assert_eq!(ok("[fd00::1]:7"), ("fd00::1".into(), 7));
        assert_eq!(ok("[fd00::1]"), ("fd00::1".into(), 50000));
        for bad in ["", ":50000", "a:b", "a:70000", "[fd00::1", "[fd00::1]x", "https://a", "a/b"] {
            assert!(split_endpoint(bad, 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn timeouts_parse_as_the_protocol_says() {
        assert_eq!(parse_timeout("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse_timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        for bad in ["", "S", "10", "-1S", "123456789S", "1x", "1.5S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_node_name_cannot_smuggle_anything() {
        for bad in ["", "a b", "a\r\nrole: x", "a,b", "a/b"] {
            assert!(node_value(bad).is_err(), "{bad:?}");
        }
        for good in ["10.0.0.1", "fd00::1", "cp-1.example"] {
            assert!(node_value(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_client_without_endpoints_says_where_to_set_them() {
        let e = Client::insecure(&[], &[], Options::default()).unwrap_err();
        assert!(e.to_string().contains("config endpoint"), "{e}");
    }
}
