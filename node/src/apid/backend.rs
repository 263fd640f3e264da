//! Connections to machined here and to the apids of other nodes, kept and shared.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use api::{
    API_PORT,
    transport::{Connection, Dial, Place},
};
use rustls::ClientConfig;

/// A connection without a call for this long is closed.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// The most nodes connections are kept to.
const MAX_KEPT: usize = 256;

/// The backends of this apid.
pub(crate) struct Backends {
    local: Connection,
    port: u16,
    remote: Mutex<Remote>,
}

#[derive(Default)]
struct Remote {
    config: Option<Arc<ClientConfig>>,
    kept: HashMap<String, (Connection, Instant)>,
}

impl Backends {
    /// With machined's socket at `machined`.
    pub(crate) fn new(machined: &Path) -> Backends {
        Backends::with_port(machined, API_PORT)
    }

    /// As [`Backends::new`], with other nodes on another port than usual.
    pub(crate) fn with_port(machined: &Path, port: u16) -> Backends {
        let local = Connection::new(Place::Unix(machined.to_owned()), Dial { timeout: Duration::from_secs(2) });
        Backends { local, port, remote: Mutex::default() }
    }

    /// machined on this node.
    pub(crate) fn local(&self) -> Connection {
        self.local.clone()
    }

    /// apid on `host`, reached with `config`. Another `config` than last time (the certificates changed) drops the
    /// connections made with the old one; calls in flight on them end undisturbed.
    pub(crate) fn remote(&self, host: &str, config: &Arc<ClientConfig>) -> Connection {
        let mut remote = self.remote.lock().unwrap_or_else(PoisonError::into_inner);
        if !remote.config.as_ref().is_some_and(|c| Arc::ptr_eq(c, config)) {
            remote.kept.clear();
            remote.config = Some(config.clone());
        }
        let now = Instant::now();
        if let Some((connection, used)) = remote.kept.get_mut(host) {
            *used = now;
            return connection.clone();
        }
        remote.kept.retain(|_, (_, used)| now.duration_since(*used) < IDLE);
        if remote.kept.len() >= MAX_KEPT
            && let Some(oldest) = remote.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(h, _)| h.clone())
        {
            remote.kept.remove(&oldest);
        }
        let place = Place::Tls { host: host.to_owned(), port: self.port, config: config.clone() };
        let connection = Connection::new(place, Dial::default());
        remote.kept.insert(host.to_owned(), (connection.clone(), now));
        connection
    }
}
