//! Host DNS: a caching forwarder for the node and its pods, on 127.0.0.53 and, when cluster DNS forwards to it, 169.254.116.108.
//!
//! Names that the node knows itself (static hosts, members, its own) are answered here; the rest goes to the upstreams, whose replies
//! are kept by TTL. Every query ends within a few seconds: with an answer, a stale one, or SERVFAIL; at once when there is no upstream.

mod cache;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache::Cache;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use wire::{BadQuery, Query, Question, Reply, kind, rcode};

use super::race::{Outcome, race};
use super::socket;

/// Queries on their way to upstreams at once; more are answered SERVFAIL.
const MAX_IN_FLIGHT: usize = 1024;
/// TCP connections of clients.
const MAX_CONNECTIONS: usize = 64;
/// How long an idle TCP client is kept (RFC 7766 recommends seconds).
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Longest time a query may take, and when no upstream has answered lately.
const DEADLINE: Duration = Duration::from_secs(4);
const DEADLINE_FAILING: Duration = Duration::from_secs(1);
/// How long one datagram is waited for before it is sent again.
const RESEND: Duration = Duration::from_millis(1500);
/// After how long the next upstream is asked beside a silent one.
const STAGGER: Duration = Duration::from_millis(700);
/// How long an upstream that failed is asked last.
const PENALTY: Duration = Duration::from_secs(10);
/// TTL of names answered here: members and addresses may change.
const LOCAL_TTL: u32 = 10;

/// What host DNS is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// DNS servers, in order of preference.
    pub(crate) upstreams: Vec<SocketAddr>,
    /// Lower-case names without a trailing dot, and their addresses.
    pub(crate) names: HashMap<String, Vec<IpAddr>>,
}

/// The forwarder: one for all its sockets, and for lookups inside this process.
pub(crate) struct Dns {
    settings: Mutex<Arc<Settings>>,
    cache: Mutex<Cache>,
    failed: Mutex<HashMap<SocketAddr, Instant>>,
    in_flight: Arc<Semaphore>,
    random: SystemRandom,
    start: Instant,
}

impl Dns {
    /// A forwarder that knows no upstream yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            settings: Mutex::default(),
            cache: Mutex::default(),
            failed: Mutex::default(),
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            random: SystemRandom::new(),
            start: Instant::now(),
        })
    }

    /// Takes over settings; other upstreams empty the cache.
    pub(crate) fn set(&self, settings: Settings) {
        let mut current = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if current.upstreams != settings.upstreams {
            self.cache().clear();
        }
        *current = Arc::new(settings);
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The addresses of a name, for this process.
    pub(crate) async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let question = |kind| {
            Question::new(name, kind)
                .map(Query::own)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no host name")))
        };
        let (v4, v6) = (question(kind::A)?, question(kind::AAAA)?);
        let (v4, v6) = tokio::join!(self.answer(&v4), self.answer(&v6));
        let found: Vec<IpAddr> = [v4, v6].iter().flat_map(|reply| Reply::addresses(reply)).collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no address of {name} is known, here or to the DNS servers")));
        }
        Ok(found)
    }

    /// The reply to a query. Always one, within [`DEADLINE`].
    async fn answer(&self, query: &Query) -> Vec<u8> {
        if let Some(reply) = self.at_hand(query) {
            return reply;
        }
        let Ok(_permit) = self.in_flight.try_acquire() else { return query.reply(rcode::SERVER_FAILURE, &[], 0) };
        match self.forward(query).await {
            Ok((reply, mut bytes)) => {
                self.cache().store(query, reply, bytes.clone(), self.start.elapsed());
                query.adopt(&mut bytes);
                bytes
            }
            Err(error) => {
                tracing::debug!(%error, name = query.question.text().unwrap_or_default(), "host DNS: no upstream answered");
                let stale = self.cache().stale(query, self.start.elapsed());
                stale.unwrap_or_else(|| query.reply(rcode::SERVER_FAILURE, &[], 0))
            }
        }
    }

    /// A reply that needs nobody else.
    fn at_hand(&self, query: &Query) -> Option<Vec<u8>> {
        if query.question.internet()
            && let Some(addresses) = query.question.text().and_then(|name| local(&self.settings().names, &name))
        {
            return Some(query.reply(rcode::OK, &addresses, LOCAL_TTL));
        }
        self.cache().fresh(query, self.start.elapsed())
    }

    async fn forward(&self, query: &Query) -> io::Result<(Reply, Vec<u8>)> {
        let settings = self.settings();
        if settings.upstreams.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "no DNS server is known"));
        }
        let now = Instant::now();
        let failing = |upstream: &SocketAddr| {
            let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get(upstream).is_some_and(|at| now.saturating_duration_since(*at) < PENALTY)
        };
        let mut order = settings.upstreams.clone();
        order.sort_by_key(failing);
        let deadline = if order.iter().all(failing) { DEADLINE_FAILING } else { DEADLINE };
        let attempts = order.iter().map(|&upstream| (upstream, self.exchange(upstream, query)));
        let race = race(attempts, STAGGER, |upstream, outcome| {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Outcome::Won => failed.remove(upstream),
                // It spoke, so it lives; what it said is no answer, though.
                Outcome::Failed(error) if error.kind() == io::ErrorKind::Other => None,
                Outcome::Failed(_) | Outcome::Slow => failed.insert(*upstream, now),
            };
            if failed.len() > 64 {
                failed.clear();
            }
        });
        let (_, reply) = timeout(deadline, race)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no DNS server answered within {deadline:?}")))?
            .ok_or_else(|| io::Error::other("every DNS server failed"))?;
        Ok(reply)
    }

    /// One question to one upstream: UDP, twice; TCP when the reply does not fit.
    async fn exchange(&self, upstream: SocketAddr, query: &Query) -> io::Result<(Reply, Vec<u8>)> {
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..2 {
            match timeout(RESEND, self.datagram(upstream, query)).await {
                Ok(Ok((reply, _))) if reply.truncated => return self.stream(upstream, query).await,
                Ok(Ok((reply, _))) if matches!(reply.rcode, rcode::SERVER_FAILURE | rcode::REFUSED) => {
                    return Err(io::Error::other(format!("{upstream} answered with code {}", reply.rcode)));
                }
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => return Err(error),
                Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{upstream} did not answer")),
            }
        }
        Err(last)
    }

    async fn datagram(&self, upstream: SocketAddr, query: &Query) -> io::Result<(Reply, Vec<u8>)> {
        let any: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A socket of its own for each query: a random port beside the random id, and connected, so that only the upstream is heard.
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(upstream).await?;
        let id = self.id()?;
        socket.send(&query.forward(id)).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if let Some(reply) = Reply::parse(&buffer[..length], query, id) {
                buffer.truncate(length);
                return Ok((reply, buffer));
            }
        }
    }

    async fn stream(&self, upstream: SocketAddr, query: &Query) -> io::Result<(Reply, Vec<u8>)> {
        let exchange = async {
            let mut stream = TcpStream::connect(upstream).await?;
            let id = self.id()?;
            write_message(&mut stream, &query.forward(id)).await?;
            let bytes = read_message(&mut stream).await?;
            let reply = Reply::parse(&bytes, query, id)
                .filter(|reply| !reply.truncated)
                .ok_or_else(|| io::Error::other(format!("{upstream} sent no answer to the question")))?;
            Ok((reply, bytes))
        };
        timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    fn id(&self) -> io::Result<u16> {
        let mut bytes = [0; 2];
        self.random.fill(&mut bytes).map_err(|_| io::Error::other("the kernel gave no random bytes"))?;
        Ok(u16::from_be_bytes(bytes))
    }

    /// Answers datagrams until the task is dropped.
    pub(crate) async fn serve_udp(self: Arc<Self>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = vec![0; 4096];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // A client that closed its port shows as an error here; nothing is wrong with the socket.
                    tracing::debug!(%error, "host DNS: receive");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let query = match Query::parse(&buffer[..length]) {
                Ok(query) => query,
                Err(BadQuery::Silent) => continue,
                Err(BadQuery::Answer(reply)) => {
                    let _ = socket.send_to(&reply, client).await;
                    continue;
                }
            };
            if let Some(reply) = self.at_hand(&query) {
                let _ = socket.send_to(&query.fit(reply), client).await;
            } else if self.in_flight.available_permits() == 0 {
                let _ = socket.send_to(&query.reply(rcode::SERVER_FAILURE, &[], 0), client).await;
            } else {
                let (dns, socket) = (self.clone(), socket.clone());
                tokio::spawn(async move {
                    let reply = dns.answer(&query).await;
                    let _ = socket.send_to(&query.fit(reply), client).await;
                });
            }
        }
    }

    /// Answers TCP clients until the task is dropped.
    pub(crate) async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let mut stream = socket::accept(&listener).await;
            let dns = self.clone();
            tokio::spawn(async move {
                while let Ok(Ok(bytes)) = timeout(IDLE_LIMIT, read_message(&mut stream)).await {
                    let reply = match Query::parse(&bytes) {
                        Ok(query) => dns.answer(&query).await,
                        Err(BadQuery::Answer(reply)) => reply,
                        Err(BadQuery::Silent) => break,
                    };
                    if !matches!(timeout(IDLE_LIMIT, write_message(&mut stream, &reply)).await, Ok(Ok(()))) {
                        break;
                    }
                }
                drop(slot);
            });
        }
    }
}

/// The addresses of a name that needs no upstream. An empty list is an answer too: the name exists.
fn local(names: &HashMap<String, Vec<IpAddr>>, name: &str) -> Option<Vec<IpAddr>> {
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    names.get(name).cloned()
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::Error::other("a DNS message is at most 65535 bytes"))?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests;
