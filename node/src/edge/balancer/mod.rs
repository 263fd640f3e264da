//! The API load balancer on 127.0.0.1:7445: plain TCP from this node's Kubernetes components to any control plane that answers.
//!
//! A new connection dials the targets in the order of `table`: the next one at once when a dial is refused, and beside it when it
//! has not answered within a quarter of a second, so that neither a stopped nor a vanished control plane costs a second. An
//! established connection whose target fails three checks is cut while another target is up, so that clients come back at once
//! instead of waiting for their own timeouts.

mod table;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::race::{Outcome, race};
use super::socket;
use table::Table;
pub(crate) use table::Target;

/// Longest time to find a target for a new connection.
const DIAL_DEADLINE: Duration = Duration::from_secs(15);
/// How long a dial may go unanswered before the next target is dialled beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// How long one check may take.
const CHECK_DEADLINE: Duration = Duration::from_secs(3);
/// How long a checked target has to show that it closes what it accepts.
const GREETING: Duration = Duration::from_millis(200);
/// A peer that acknowledges nothing for this long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Keepalive of idle connections: first probe, interval.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));
/// Connections carried at once.
const MAX_CONNECTIONS: usize = 2048;
/// Bytes buffered per direction of a connection.
const BUFFER: usize = 16 << 10;

/// Turns a target's host into addresses; literal addresses never reach it.
pub(crate) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The balancer: shared by its listener, its checks and whoever tells it the targets.
pub(crate) struct Balancer {
    table: Mutex<Table>,
    /// Per target a counter; connections end when theirs moves.
    cuts: Mutex<HashMap<Target, watch::Sender<u64>>>,
    changed: Notify,
    healthy: watch::Sender<bool>,
    lookup: Lookup,
    start: Instant,
}

impl Balancer {
    /// A balancer without targets.
    pub(crate) fn new(lookup: Lookup) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            cuts: Mutex::default(),
            changed: Notify::new(),
            healthy: watch::Sender::new(false),
            lookup,
            start: Instant::now(),
        })
    }

    /// Takes over a new list of targets; an empty one leaves the last in place.
    pub(crate) fn set_targets(&self, targets: &[Target]) {
        let now = self.now();
        if !self.table().replace(targets, now) {
            return;
        }
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        // Connections to targets that left the list go on: only their health can end them, and nobody checks it any more.
        cuts.retain(|target, cut| targets.contains(target) || cut.receiver_count() > 0);
        self.changed.notify_one();
    }

    /// Others no longer hear this host: check its targets now.
    pub(crate) fn hint_silent(&self, host: IpAddr) {
        let now = self.now();
        let mut table = self.table();
        for target in table.at_host(&host.to_string()) {
            table.suspect(&target, now);
        }
        self.changed.notify_one();
    }

    /// Whether any target is up, and each change of that.
    pub(crate) fn health(&self) -> watch::Receiver<bool> {
        self.healthy.subscribe()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, target: &Target, worked: bool) {
        let now = self.now();
        let (cut, healthy) = {
            let mut table = self.table();
            (table.report(target, worked, now), table.healthy())
        };
        self.healthy.send_if_modified(|current| std::mem::replace(current, healthy) != healthy);
        if cut && let Some(counter) = self.cuts.lock().unwrap_or_else(PoisonError::into_inner).get(target) {
            counter.send_modify(|count| *count += 1);
        }
        if !worked {
            self.changed.notify_one();
        }
    }

    fn suspect(&self, target: &Target) {
        let now = self.now();
        self.table().suspect(target, now);
        self.changed.notify_one();
    }

    fn cut_of(&self, target: &Target) -> watch::Receiver<u64> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut receiver = cuts.entry(target.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe();
        receiver.mark_unchanged();
        receiver
    }

    /// Accepts and carries connections until the process ends.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let client = socket::accept(&listener).await;
            let balancer = self.clone();
            tokio::spawn(async move {
                balancer.carry(client).await;
                drop(slot);
            });
        }
    }

    /// Checks targets when they are due, until the process ends.
    pub(crate) async fn check(self: Arc<Self>) {
        loop {
            let due = {
                let now = self.now();
                self.table().take_due(now)
            };
            for target in due {
                let balancer = self.clone();
                tokio::spawn(async move {
                    let answers = timeout(CHECK_DEADLINE, async { stays(dial(&target, &balancer.lookup).await?).await });
                    balancer.report(&target, matches!(answers.await, Ok(Ok(()))));
                });
            }
            let wait = self.table().next_due().map_or(Duration::MAX, |due| due.saturating_sub(self.now()));
            tokio::select! {
                () = tokio::time::sleep(wait.clamp(Duration::from_millis(50), Duration::from_secs(60))) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    async fn carry(&self, mut client: TcpStream) {
        let Some((target, mut server)) = self.connect().await else { return };
        let mut cut = self.cut_of(&target);
        for stream in [&client, &server] {
            let set = socket::keepalive(stream, KEEPALIVE.0, KEEPALIVE.1).and_then(|()| socket::limit_stall(stream, USER_TIMEOUT));
            if let Err(error) = set {
                tracing::debug!(%error, "load balancer: no keepalive on this connection");
            }
        }
        tokio::select! {
            ended = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER) => match ended {
                // Nobody behind it, or a client that gave up: the next check tells.
                Ok((sent, 0)) if sent > 0 => self.suspect(&target),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, %target, "load balancer: a connection broke"),
            },
            Ok(()) = cut.changed() => tracing::info!(%target, "load balancer: target no longer answers; connection cut"),
        }
    }

    /// The first target that answers, `None` when none does in time.
    async fn connect(&self) -> Option<(Target, TcpStream)> {
        let order = self.table().order();
        let attempts = order.into_iter().map(|target| {
            let lookup = self.lookup.clone();
            let result = {
                let target = target.clone();
                async move { dial(&target, &lookup).await }
            };
            (target, result)
        });
        let race = race(attempts, STAGGER, |target, outcome| match outcome {
            Outcome::Won => self.report(target, true),
            Outcome::Failed(error) => {
                tracing::debug!(%target, %error, "load balancer: dial failed");
                self.report(target, false);
            }
            Outcome::Slow => self.suspect(target),
        });
        match timeout(DIAL_DEADLINE, race).await {
            Ok(Some(found)) => Some(found),
            Ok(None) | Err(_) => {
                tracing::warn!("load balancer: no control plane answers; the connection is refused");
                None
            }
        }
    }
}

/// An API server waits for us to speak. What closes at once is a balancer before the cluster that has nobody to lead to.
async fn stays(server: TcpStream) -> io::Result<()> {
    match timeout(GREETING, server.peek(&mut [0])).await {
        Ok(Ok(0)) => Err(io::ErrorKind::ConnectionReset.into()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

async fn dial(target: &Target, lookup: &Lookup) -> io::Result<TcpStream> {
    let addresses = match target.host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => lookup(target.host.clone()).await?,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", target.host));
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(address, target.port)).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests;
