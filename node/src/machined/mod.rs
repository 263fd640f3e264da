//! `machined`: the brain of a node. It holds the resources, runs the controllers of all rooms, and serves the machine API.
//!
//! It may be killed at any moment: its store is mirrored on `/run`, its services are `init`'s and containerd's, and what it starts with
//! is what it left. Read [`serve`] for the order of things.

mod api;
mod events;
mod farewell;
mod files;
mod health;
mod kubernetes;
mod lifecycle;
mod maintenance;
mod node;
mod sequence;
mod sockets;
mod status_events;
mod units;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use cluster::trust::{self, Join, JoinRequest};
use engine::{OpenError, Runtime, Store};
use host::service::runner::Containers;
use kube_room::controllers::Room as KubeRoom;
use kube_room::files::LinuxFiles;
use kube_room::kubelet::config::HostLimits;
use model::config::Mode;
use sys::caps::{self, Cap};
use sys::cgroup::Layout;

use crate::init::client::Client;
use crate::init::protocol::{self, End};
use node::Node;
use sequence::Sequence;

const STORE: &str = "/run/orlop/state";
const JOURNAL: &str = "/run/orlop/sequence.json";
const CONFIG: &str = "/system/state/config.yaml";

/// The process.
pub(crate) fn run() -> ExitCode {
    crate::log::start();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the platform gave as configuration: nothing, the bytes, or why they cannot be read.
fn user_data(environment: &HashMap<String, String>) -> Option<Result<Vec<u8>, String>> {
    let text = environment.get("USERDATA").filter(|text| !text.trim().is_empty())?;
    let compact: String = text.split_whitespace().collect();
    let decoded = base64::engine::general_purpose::STANDARD.decode(compact);
    Some(decoded.map_err(|e| format!("the environment variable USERDATA is not base64: {e}")))
}

/// Joins through the control planes' trustd.
struct Trustd;

#[async_trait::async_trait]
impl Join for Trustd {
    async fn join(&self, request: JoinRequest) -> Result<(Vec<u8>, Vec<u8>), String> {
        let signed =
            ::api::trust::request_certificate(&request.endpoints, request.accepted_cas.as_bytes(), &request.token, request.csr.as_bytes())
                .await;
        signed.map(|s| (s.ca, s.crt)).map_err(|e| e.to_string())
    }
}

/// What the host lets this node do.
fn limits(container: bool) -> HostLimits {
    HostLimits { container, cgroup_v1: matches!(Layout::detect(), Ok(Layout::V1(_))), oom_score: caps::effective(Cap::SysResource) }
}

fn register(
    runtime: Runtime,
    kube: &KubeRoom,
    net: &net::Room,
    units: Arc<units::Units>,
    environment: &HashMap<String, String>,
) -> Runtime {
    let limits = kube.limits;
    let nofile = sys::host::open_files_limit().map_or(1024, |(_, hard)| hard);
    let containers = Containers::new(Path::new(host::node_services::CONTAINERD_SOCKET), limits.oom_score, nofile);
    let runtime = runtime
        .register(host::acquire::ConfigController { file: CONFIG.into(), platform: user_data(environment), mode: mode(limits.container) })
        .register(host::node_services::NodeServices)
        .register(host::containerd::config::ContainerdFiles { may_lower_oom_score: limits.oom_score })
        .register(host::files::EtcFiles { directory: "/system/etc".into() })
        .register(host::kernel_params::Specs)
        .register(host::kernel_params::Apply { root: "/proc/sys".into(), container: limits.container })
        .register(host::service::controller::ServiceController::new(units, containers))
        .register(host::machine_status::MachineStatusController)
        .register(trust::RootSecrets)
        .register(trust::ApiSans)
        .register(trust::ApiCertificates::new(Arc::new(Trustd)))
        .register(trust::TrustdCertificates::default())
        .register(trust::ApiService);
    let cluster = cluster::Room { state: "/system/state".into(), operating_system: format!("Talos ({})", api::TAG) };
    cluster::register(kube.register(net::register(runtime, net)), &cluster)
}

/// Opens the store with what a `machined` before this one knew. A damaged log is put aside, not guessed at: everything in it can be found
/// out again, and until then nothing is taken away.
fn open_store(directory: &Path) -> anyhow::Result<Store> {
    let opened = Store::open(directory);
    let opened = match opened {
        Err(OpenError::Corrupt { .. }) => {
            let aside = directory.with_extension(format!("damaged-{}", std::process::id()));
            tracing::error!(aside = %aside.display(), "the store's log is damaged; it is put aside, and the store starts empty");
            std::fs::rename(directory, &aside).with_context(|| format!("putting {} aside", directory.display()))?;
            Store::open(directory)
        }
        other => other,
    };
    opened.with_context(|| format!("opening the store in {}", directory.display()))
}

/// The control groups that containers and their shims are put into by others than `init`.
fn make_cgroups() {
    let made = Layout::detect()
        .and_then(|layout| ["podruntime/shim", "podruntime/etcd", "podruntime/kubelet"].iter().try_for_each(|g| layout.group(g).create()));
    if let Err(error) = made {
        tracing::warn!(%error, "cannot make control groups");
    }
}

fn mode(container: bool) -> Mode {
    if container { Mode::Container } else { Mode::Metal }
}

/// Everything, in order: init, files, store, controllers, API; then it waits for the end.
async fn serve() -> anyhow::Result<()> {
    let environment: HashMap<String, String> = std::env::vars().collect();
    let container = environment.get("PLATFORM").is_some_and(|p| p == "container");
    let (init, init_events) = Client::connect(Path::new(protocol::SOCKET)).context("connecting to init")?;
    for problem in files::bind_etc(Path::new("/system/etc"), Path::new("/etc")) {
        tracing::warn!("{problem}");
    }
    make_cgroups();
    let (ends_asked, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let units = units::Units::new(init.clone(), init_events, ends_asked);

    let store = open_store(Path::new(STORE))?;
    let registry = Arc::new(model::registry());
    store.register_all(&registry);
    if container {
        let read = |name: &str| std::fs::read_to_string(format!("/run/orlop/platform/{name}")).unwrap_or_default();
        let platform = net::platform::container(&read("hostname"), &read("resolv.conf"));
        store.kind::<model::net::PlatformConfig>().put("", "active", platform).context("storing what the platform gave")?;
    }
    let kube = KubeRoom::start(Arc::new(LinuxFiles::default()), limits(container)).await.context("starting the static pod server")?;
    let net = net::Room::real(container).context("opening netlink")?;
    let edge = crate::edge::link::Server::new();
    let runtime = register(Runtime::new(store.clone()), &kube, &net, units.clone(), &environment);
    let runtime = crate::edge::brain::register(runtime, &edge, PathBuf::from(crate::edge::link::SOCKET));
    let running = runtime.start().context("starting the controllers")?;

    let events = events::Events::new();
    let hands = lifecycle::RealHands {
        init: init.clone(),
        events: events.clone(),
        requests: store.kind(),
        statuses: store.kind(),
        status: store.kind(),
        containerd: PathBuf::from(host::node_services::CONTAINERD_SOCKET),
        cluster: Arc::new(farewell::Cluster { store: store.clone(), etcd: kube.etcd.clone(), edge: edge.clone() }),
    };
    let node = Node {
        runtime: running.handle(),
        logs: host::logs::Watcher::start().context("watching log files")?,
        lifecycle: Arc::new(lifecycle::Lifecycle::new(hands, Path::new(JOURNAL))),
        containerd: host::node_services::CONTAINERD_SOCKET.into(),
        etcd: kube.etcd.clone(),
        edge,
        mode: mode(container),
        specs: store.kind(),
        statuses: store.kind(),
        requests: store.kind(),
        configs: store.kind(),
        machine_config: store.kind(),
        time_servers: store.kind(),
        applying: Arc::default(),
        events: events.clone(),
        store: store.clone(),
    };
    tokio::spawn(status_events::tell(store.clone(), events));
    tokio::spawn(maintenance::tell(store));
    sockets::serve(&node, &registry).context("serving the machine API")?;
    tracing::info!("ready");
    while let Some(end) = ends.recv().await {
        let sequence = match end {
            End::Reboot => Sequence::Reboot { force: false },
            _ => Sequence::Shutdown { force: false },
        };
        if let Err(refused) = node.lifecycle.begin(sequence) {
            tracing::info!(reason = refused.message(), "asked to end");
        }
    }
    anyhow::bail!("init went away")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> Option<Result<Vec<u8>, String>> {
        user_data(&HashMap::from([("USERDATA".to_owned(), value.to_owned())]))
    }

    #[tokio::test]
    async fn a_damaged_store_is_put_aside_and_the_node_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("state");
        let store = Store::open(&place).unwrap();
        for n in 0..50 {
            store.kind::<model::services::ServiceRequest>().put("", format!("s{n}"), Default::default()).unwrap();
        }
        drop(store);
        let log = std::fs::read_dir(&place)
            .unwrap()
            .filter_map(Result::ok)
            .map(|e| e.path())
            .max_by_key(|p| p.metadata().unwrap().len())
            .unwrap();
        let mut bytes = std::fs::read(&log).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(&log, bytes).unwrap();
        let store = open_store(&place).unwrap();
        assert!(store.kind::<model::services::ServiceRequest>().list().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "the damaged log is kept beside");
    }

    #[test]
    fn user_data_is_base64_and_may_be_wrapped() {
        assert_eq!(with("dmVyc2lvbjog\ndjFhbHBoYTE=\n"), Some(Ok(b"version: v1alpha1".to_vec())));
        assert_eq!(with("  "), None);
        assert_eq!(user_data(&HashMap::new()), None);
        let refused = with("%%%").unwrap().unwrap_err();
        assert!(refused.starts_with("the environment variable USERDATA is not base64"), "{refused}");
    }
}
