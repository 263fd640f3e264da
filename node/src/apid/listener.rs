//! The listening side: accepts connections, speaks TLS, and takes new certificates and policy without dropping calls.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use api::server::{Peer, serve_connection};
use http::Request;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    auth,
    backend::Backends,
    proxy::{self, Caller, Policy},
};

/// Everything apid serves with. A new value takes effect for new connections (TLS) and new calls (policy).
#[derive(Clone)]
pub(crate) struct Settings {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// TLS; without it apid does not listen.
    pub(crate) tls: Arc<ServerConfig>,
    /// Roles and routing.
    pub(crate) policy: Policy,
}

/// Connections open at one time.
const MAX_CONNECTIONS: usize = 1024;
/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for calls in flight when apid is asked to end.
const GOODBYE: Duration = Duration::from_secs(3);

type Current = watch::Receiver<Option<Arc<Settings>>>;

/// Serves until `stop`. Until the first settings come it does not listen; when the address changes it moves; when the role
/// mode changes (a node leaves maintenance) old connections are asked to end after their calls.
pub(crate) async fn run(mut settings: Current, backends: Arc<Backends>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Some(now) = settings.borrow_and_update().clone() else {
            tokio::select! {
                changed = settings.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
            continue;
        };
        let epoch = stop.child_token();
        match bind(now.listen).await {
            Ok(listener) => {
                tracing::info!(listen = %now.listen, mode = ?now.policy.mode, "serving");
                accept(&listener, &now, &mut settings, &backends, &slots, &epoch, &stop).await;
            }
            Err(e) => {
                tracing::warn!(listen = %now.listen, error = %e, "cannot listen; trying again");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        epoch.cancel();
        if stop.is_cancelled() {
            // Calls in flight may end.
            let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
            let _ = timeout(GOODBYE, slots.acquire_many(all)).await;
            return;
        }
    }
}

/// Listens; where the kernel has no IPv6, "any address" is IPv4's.
async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(e) if listen.is_ipv6() && listen.ip().is_unspecified() && e.raw_os_error() == Some(libc_eafnosupport()) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await
        }
        other => other,
    }
}

/// The error number of "address family not supported".
const fn libc_eafnosupport() -> i32 {
    97
}

/// Accepts until the address or the role mode changes, or `stop`.
async fn accept(
    listener: &TcpListener,
    started: &Settings,
    settings: &mut Current,
    backends: &Arc<Backends>,
    slots: &Arc<Semaphore>,
    epoch: &CancellationToken,
    stop: &CancellationToken,
) {
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            () = stop.cancelled() => return,
        };
        let Ok(slot) = slot else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = settings.changed() => {
                let moved = settings.borrow_and_update().as_ref()
                    .is_some_and(|new| new.listen != started.listen || new.policy.mode != started.policy.mode);
                if changed.is_err() || moved {
                    return;
                }
                continue;
            }
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (settings, backends, epoch) = (settings.clone(), backends.clone(), epoch.clone());
                tokio::spawn(async move {
                    let _slot = slot;
                    if let Err(reason) = serve(stream, peer, settings, backends, epoch).await {
                        tracing::debug!(%peer, %reason, "connection refused");
                    }
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection: TLS, then calls.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    settings: Current,
    backends: Arc<Backends>,
    epoch: CancellationToken,
) -> Result<(), String> {
    let now = settings.borrow().clone().ok_or("not configured yet")?;
    // Small frames must not wait for the acknowledgement of earlier ones.
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let local = stream.local_addr().map_err(|e| e.to_string())?;
    let tls = timeout(HANDSHAKE, TlsAcceptor::from(now.tls.clone()).accept(stream))
        .await
        .map_err(|_| format!("no TLS handshake within {HANDSHAKE:?}"))?
        .map_err(|e| e.to_string())?;
    let (_, session) = tls.get_ref();
    if session.alpn_protocol() != Some(b"h2") {
        return Err("expected HTTP/2 (ALPN h2), found no agreement on it".to_owned());
    }
    let roles = match session.peer_certificates().and_then(<[_]>::first) {
        Some(leaf) => auth::certificate_roles(leaf)?,
        None => api::roles::Roles::default(),
    };
    let caller = Arc::new(Caller { peer: peer.ip().to_canonical(), local: local.ip().to_canonical(), roles });
    let answer = move |_, request: Request<Incoming>| {
        let (caller, backends) = (caller.clone(), backends.clone());
        let policy = settings.borrow().as_ref().map(|s| s.policy.clone()).unwrap_or_default();
        async move { proxy::answer(&policy, &backends, &caller, request).await }
    };
    serve_connection(tls, Peer { cred: None, addr: Some(peer) }, epoch, answer).await;
    Ok(())
}
