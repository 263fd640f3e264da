//! One HTTP/2 connection to one place, kept alive and made again when it breaks.
//!
//! Calls fail fast: a place that cannot be reached answers `Unavailable` with the reason within
//! [`Dial::timeout`], and a call that arrives while a recent failure is still fresh gets that failure at
//! once. A request that never left (the connection had gone idle or away) is sent again on a new one.

use std::{
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::Mutex,
    time::timeout,
};
use tonic::{Status, body::Body};

/// HTTP/2 flow-control window of one stream, in bytes.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// HTTP/2 flow-control window of a connection, in bytes: many times a stream's, since callers share connections and one
/// that does not read its stream must not stop the others.
pub const CONNECTION_WINDOW: u32 = 32 << 20;

/// The longest pause before a place that failed is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A place to connect to.
#[derive(Clone)]
pub enum Place {
    /// A Unix stream socket.
    Unix(PathBuf),
    /// TLS over TCP. The host is a name or an IP address, without brackets; it is also the name that the
    /// server's certificate must carry.
    Tls {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Trust and identity.
        config: Arc<rustls::ClientConfig>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Unix(path) => write!(f, "{}", path.display()),
            Place::Tls { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Tls { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a connection could not be made. Cheap to clone: callers that wait together share it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The host is neither an address nor a valid name.
    #[error("{place}: not a host name or IP address")]
    BadHost {
        /// Where to.
        place: String,
    },
    /// No TCP or Unix connection.
    #[error("{place}: cannot connect: {source}")]
    Connect {
        /// Where to.
        place: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The TLS or HTTP/2 handshake failed.
    #[error("{place}: handshake failed: {reason}")]
    Handshake {
        /// Where to.
        place: String,
        /// What failed, with hints for the usual causes.
        reason: String,
    },
    /// Nothing answered in time.
    #[error("{place}: no connection within {after:?}")]
    Timeout {
        /// Where to.
        place: String,
        /// The limit.
        after: Duration,
    },
}

impl From<DialError> for Status {
    fn from(e: DialError) -> Status {
        match e {
            DialError::BadHost { .. } => Status::invalid_argument(e.to_string()),
            e => Status::unavailable(e.to_string()),
        }
    }
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The limit for TCP, TLS and HTTP/2 together.
    pub timeout: Duration,
}

impl Default for Dial {
    fn default() -> Self {
        Dial { timeout: Duration::from_secs(5) }
    }
}

/// A shared, self-healing connection. Clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    place: Place,
    dial: Dial,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sender: Option<http2::SendRequest<Body>>,
    failed: Option<Failure>,
}

struct Failure {
    error: DialError,
    until: Instant,
    pause: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.0.place).finish()
    }
}

impl Connection {
    /// Connects at the first call.
    pub fn new(place: Place, dial: Dial) -> Connection {
        Connection(Arc::new(Inner { place, dial, state: Mutex::default() }))
    }

    /// Where it goes.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// Makes the connection if there is none.
    ///
    /// # Errors
    /// When it cannot be made, or could not a moment ago.
    pub async fn ready(&self) -> Result<http2::SendRequest<Body>, DialError> {
        let mut state = self.0.state.lock().await;
        if let Some(sender) = &state.sender
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        state.sender = None;
        if let Some(f) = &state.failed
            && Instant::now() < f.until
        {
            return Err(f.error.clone());
        }
        match connect(&self.0.place, &self.0.dial).await {
            Ok(sender) => {
                state.failed = None;
                state.sender = Some(sender.clone());
                Ok(sender)
            }
            Err(error) => {
                let pause = state.failed.as_ref().map_or(FIRST_PAUSE, |f| (f.pause * 2).min(MAX_PAUSE));
                // A Unix socket says at once whether somebody listens; a pause would only hide a restart.
                let wait = if matches!(self.0.place, Place::Unix(_)) { Duration::ZERO } else { pause };
                state.failed = Some(Failure { error: error.clone(), until: Instant::now() + wait, pause });
                Err(error)
            }
        }
    }

    /// Sends one request and waits for the head of its response.
    ///
    /// # Errors
    /// `Unavailable` when there is no connection or it broke.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Status> {
        absolute(&mut request, &self.0.place);
        let mut sender = self.ready().await?;
        let request = match sender.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(mut e) => match e.take_message() {
                Some(unsent) => unsent,
                None => return Err(self.broke(&e.into_error())),
            },
        };
        self.0.state.lock().await.sender = None;
        let mut sender = self.ready().await?;
        sender.try_send_request(request).await.map_err(|e| self.broke(&e.into_error()))
    }

    fn broke(&self, e: &hyper::Error) -> Status {
        Status::unavailable(format!("{}: the connection broke before an answer came: {}", self.0.place, explain(&chain(e))))
    }
}

/// HTTP/2 needs scheme and authority; generated clients give a path only.
fn absolute(request: &mut Request<Body>, place: &Place) {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let (scheme, authority) = match place {
        Place::Unix(_) => ("http", "localhost".to_owned()),
        tls @ Place::Tls { .. } => ("https", tls.to_string()),
    };
    let uri = http::Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
}

/// An error with its causes, once each.
pub fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    text
}

/// Connects with TLS (or plainly over a Unix socket) and speaks HTTP/2.
///
/// # Errors
/// Names the place and what failed; never takes longer than `dial.timeout`.
pub async fn connect(place: &Place, dial: &Dial) -> Result<http2::SendRequest<Body>, DialError> {
    timeout(dial.timeout, connect_unbounded(place))
        .await
        .unwrap_or_else(|_| Err(DialError::Timeout { place: place.to_string(), after: dial.timeout }))
}

async fn connect_unbounded(place: &Place) -> Result<http2::SendRequest<Body>, DialError> {
    let refused = |e: io::Error| DialError::Connect { place: place.to_string(), source: Arc::new(e) };
    match place {
        Place::Unix(path) => {
            let io = UnixStream::connect(path).await.map_err(refused)?;
            handshake(place, io).await
        }
        Place::Tls { host, port, config } => {
            let name = ServerName::try_from(host.clone()).map_err(|_| DialError::BadHost { place: place.to_string() })?;
            let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
            // Small frames (heads, trailers) must not wait for the acknowledgement of earlier ones.
            tcp.set_nodelay(true).map_err(refused)?;
            let tls = tokio_rustls::TlsConnector::from(config.clone())
                .connect(name, tcp)
                .await
                .map_err(|e| DialError::Handshake { place: place.to_string(), reason: explain(&e.to_string()) })?;
            handshake(place, tls).await
        }
    }
}

/// Adds to the usual TLS failures what they mean.
fn explain(text: &str) -> String {
    const REFUSED: &str = "the server refuses this client certificate: it must be for client authentication alone";
    const HINTS: &[(&str, &str)] = &[
        ("UnknownIssuer", "the server's certificate is signed by another CA: another cluster, or a node in maintenance mode"),
        ("BadSignature", "the server's certificate is signed by another CA: another cluster, or a node in maintenance mode"),
        ("DecryptError", "the server does not accept the CA of this client certificate: another cluster's?"),
        ("UnknownCA", "the server does not accept the CA of this client certificate: another cluster's?"),
        ("NotValidForName", "the server's certificate does not name this address"),
        ("not valid for", "the server's certificate does not name this address"),
        ("CertificateRequired", "the server asks for a client certificate, and none was given"),
        ("BadCertificate", REFUSED),
        ("UnsupportedCertificate", REFUSED),
        ("CertificateUnknown", REFUSED),
        ("xpired", "a certificate has expired, or a clock is wrong"),
        ("NotValidYet", "a clock is wrong"),
        ("not valid yet", "a clock is wrong"),
        // A server that closes may be faster than the reading of what it said last.
        ("broken pipe", "the server closed the connection: it may not accept this client certificate, of another cluster's CA or expired"),
        (
            "onnection reset",
            "the server closed the connection: it may not accept this client certificate, of another cluster's CA or expired",
        ),
    ];
    match HINTS.iter().find(|(sign, _)| text.contains(sign)) {
        Some((_, hint)) => format!("{text} ({hint})"),
        None => text.to_owned(),
    }
}

async fn handshake<T>(place: &Place, io: T) -> Result<http2::SendRequest<Body>, DialError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(64 * 1024)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|e| DialError::Handshake { place: place.to_string(), reason: explain(&chain(&e)) })?;
    let place = place.to_string();
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!(%place, error = %chain(&e), "connection ended");
        }
    });
    Ok(sender)
}
