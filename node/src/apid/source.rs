//! What apid serves with: resources of machined, followed through its restricted socket and made into [`Settings`].

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use api::{
    API_PORT,
    client::{Client, Options},
    state::{RemoteState, follow},
    tls::{self, Identity},
};
use model::{cluster::ApiCertificate, host::ApiServiceConfig, net::NodeAddress};
use resource::{Key, PemPair, Registry, Resource, Spec, State};
use rustls::{ClientConfig, ServerConfig};
use sys::sandbox::Sandbox;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    auth::{self, RoleMode},
    backend::Backends,
    listener::{self, Settings},
    process,
    proxy::Policy,
    route::Routing,
};

/// apid's user and group.
const USER: u32 = 50;
/// Resources for apid alone.
const RUNTIME: &str = "/system/run/apid/runtime.sock";
/// The machine API.
const MACHINED: &str = "/system/run/machined/machine.sock";

/// The process. It starts as root, enters its sandbox and serves until SIGTERM.
pub(crate) fn run() -> ExitCode {
    // Host names of nodes are looked up with resolv.conf and hosts. The directory, since its files are replaced: a rule for
    // a file would hold for the one that was there at the start.
    let sandbox = Sandbox::new()
        .read("/etc")
        .user(USER, USER)
        .bind_tcp([API_PORT])
        // 53: a name server whose answer is too long for UDP.
        .connect_tcp([API_PORT, 53]);
    process::run("apid", sandbox, |stop| serve(Paths::default(), stop))
}

/// Where machined is.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// Its socket with resources for apid.
    pub(crate) runtime: PathBuf,
    /// Its machine API.
    pub(crate) machined: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Paths { runtime: RUNTIME.into(), machined: MACHINED.into() }
    }
}

/// Serves until `stop`.
pub(crate) async fn serve(paths: Paths, stop: CancellationToken) {
    let kinds = Registry::new().with::<ApiCertificate>().with::<ApiServiceConfig>().with::<NodeAddress>();
    let client = Client::unix(&paths.runtime, Options::default());
    let state: Arc<dyn State> = Arc::new(RemoteState::new(&client, Arc::new(kinds)));
    let settings = watch_settings(state, &stop);
    listener::run(settings, Arc::new(Backends::new(Path::new(&paths.machined))), stop).await;
}

fn followed<T: Spec>(state: &Arc<dyn State>, id: &'static str, stop: &CancellationToken) -> watch::Receiver<Option<Arc<Resource<T>>>> {
    let (sink, receiver) = watch::channel(None);
    let (state, stop) = (state.clone(), stop.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = follow::<T>(state, Key::of::<T>(id), sink) => {}
            () = stop.cancelled() => {}
        }
    });
    receiver
}

/// The settings, once certificates and configuration are there, then whenever one changes to something usable.
fn watch_settings(state: Arc<dyn State>, stop: &CancellationToken) -> watch::Receiver<Option<Arc<Settings>>> {
    let mut certificates = followed::<ApiCertificate>(&state, "api", stop);
    let mut config = followed::<ApiServiceConfig>(&state, "apid", stop);
    let mut addresses = followed::<NodeAddress>(&state, "current", stop);
    let (sink, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let mut built: Option<Tls> = None;
        loop {
            let now = (certificates.borrow_and_update().clone(), config.borrow_and_update().clone());
            let local = addresses.borrow_and_update().as_ref().map(|a| local_addresses(&a.spec)).unwrap_or_default();
            if let (Some(certificates), Some(config)) = &now {
                match settings(&certificates.spec, &config.spec, local, &mut built) {
                    Ok(settings) => {
                        sink.send_replace(Some(Arc::new(settings)));
                    }
                    Err(reason) => tracing::warn!(%reason, "certificates or configuration cannot be used; keeping the ones in use"),
                }
            }
            let changed = tokio::select! {
                changed = certificates.changed() => changed,
                changed = config.changed() => changed,
                changed = addresses.changed() => changed,
            };
            if changed.is_err() || sink.is_closed() {
                return;
            }
        }
    });
    receiver
}

/// TLS made from one state of the certificates: kept while they stay, so that connections to other nodes stay too.
struct Tls {
    from: ApiCertificate,
    verify: bool,
    server: Arc<ServerConfig>,
    forward: Option<Arc<ClientConfig>>,
}

fn settings(
    certificates: &ApiCertificate,
    config: &ApiServiceConfig,
    local: Vec<IpAddr>,
    built: &mut Option<Tls>,
) -> Result<Settings, String> {
    let verify = !(certificates.skip_verifying_client_cert || config.skip_verifying_client_cert);
    let tls = match built {
        Some(tls) if tls.from == *certificates && tls.verify == verify => tls,
        stale => stale.insert(build_tls(certificates, verify)?),
    };
    let mode = if config.readonly_role_mode { RoleMode::ReadOnly } else { RoleMode::Certificate };
    let routing = Routing { disabled: config.node_routing_disabled, can_forward: tls.forward.is_some(), local };
    Ok(Settings {
        listen: listen_address(&config.listen_address)?,
        tls: tls.server.clone(),
        policy: Policy { mode, routing, forward: tls.forward.clone() },
    })
}

fn build_tls(certificates: &ApiCertificate, verify: bool) -> Result<Tls, String> {
    let accepted: Vec<u8> = certificates.accepted_cas.iter().flat_map(|ca| [&ca.crt[..], b"\n"].concat()).collect();
    let server = certificates.server.as_ref().ok_or("there is no server certificate")?;
    let text = |e: tls::TlsError| e.to_string();
    let clients = match verify {
        true => Some((tls::roots(&accepted).map_err(text)?, auth::check_leaf as tls::LeafCheck)),
        false => None,
    };
    let server = tls::server(&identity(server)?, clients).map_err(text)?;
    let forward = match &certificates.client {
        Some(pair) if !pair.crt.is_empty() => {
            Some(tls::client(tls::roots(&accepted).map_err(text)?, Some(&identity(pair)?)).map_err(text)?)
        }
        _ => None,
    };
    Ok(Tls { from: certificates.clone(), verify, server, forward })
}

fn identity(pair: &PemPair) -> Result<Identity, String> {
    Identity::from_pem(&pair.crt, &pair.key).map_err(|e| e.to_string())
}

fn local_addresses(spec: &NodeAddress) -> Vec<IpAddr> {
    spec.addresses.iter().map(ipnet::IpNet::addr).collect()
}

/// `:50000` is any address; empty is the default.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if text.is_empty() {
        return Ok(SocketAddr::new(any, API_PORT));
    }
    let port_alone = text.strip_prefix(':').and_then(|port| port.parse().ok()).map(|port| SocketAddr::new(any, port));
    port_alone.or_else(|| text.parse().ok()).ok_or_else(|| format!("listen address {text:?}: expected ADDRESS:PORT or :PORT"))
}
