//! A machine in memory: a store with what other rooms would write, and this room's controllers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Running, Runtime, Store};
use kube_room::controllers::Room;
use kube_room::files::LinuxFiles;
use kube_room::kubelet::config::HostLimits;
use model::host::{MachineConfig, TimeStatus};
use model::net::{HostnameStatus, NodeAddress};
use resource::Spec;

/// The fixture's text, or `None` with a printed reason.
pub fn fixture(name: &str) -> Option<String> {
    let root = std::env::var("ORLOP_FIXTURES")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/peer"), PathBuf::from);
    match std::fs::read_to_string(root.join(name)) {
        Ok(text) => Some(text),
        Err(error) => {
            eprintln!("skipped: fixture {name} cannot be read ({error}); set ORLOP_FIXTURES");
            None
        }
    }
}

/// Whether we are root; prints the reason for skipping when not.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !root {
        eprintln!("skipped: files of other users can be made by root only");
    }
    root
}

/// A machine.
pub struct Machine {
    pub store: Store,
    pub room: Room,
    pub running: Option<Running>,
    pub root: tempfile::TempDir,
}

impl Machine {
    /// With this configuration, host name and address.
    pub async fn start(config: &str, hostname: &str, address: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let files = Arc::new(LinuxFiles::below(root.path()));
        let limits = HostLimits { container: true, cgroup_v1: true, oom_score: false };
        let room = Room::start(files, limits).await.unwrap();
        let store = Store::new();
        put(&store, "hostname", HostnameStatus { hostname: hostname.into(), domainname: String::new() });
        let net: ipnet::IpNet = format!("{address}/24").parse().unwrap();
        for id in ["routed", "routed-no-k8s", "current", "current-no-k8s", "accumulative", "accumulative-no-k8s", "default"] {
            put(&store, id, NodeAddress { addresses: vec![net], ..Default::default() });
        }
        put(&store, "node", TimeStatus { synced: true, ..Default::default() });
        put(&store, "v1alpha1", MachineConfig::new(config.as_bytes().to_vec()));
        let running = room.register(Runtime::new(store.clone())).start().unwrap();
        Self { store, room, running: Some(running), root }
    }

    /// A resource, once it is there.
    pub async fn wait<T: Spec>(&self, id: &str, seconds: u64) -> T {
        self.wait_for::<T>(id, seconds, |_| true).await
    }

    /// A resource, once it is as wanted.
    pub async fn wait_for<T: Spec>(&self, id: &str, seconds: u64, good: impl Fn(&T) -> bool) -> T {
        let started = Instant::now();
        let table = self.store.kind::<T>();
        loop {
            if let Some(found) = table.get(id)
                && good(&found.spec)
            {
                return found.spec.clone();
            }
            if started.elapsed() > Duration::from_secs(seconds) {
                let status = self.running.as_ref().map(|running| format!("{:#?}", running.handle().status()));
                panic!("{} {id} not there after {seconds} s; etcd: {}; {}", T::TYPE, self.room.etcd.step(), status.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A file of the machine.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.path().join(path.trim_start_matches('/'))).unwrap()
    }
}

/// Writes a resource of another room.
pub fn put<T: Spec>(store: &Store, id: &str, spec: T) {
    store.kind::<T>().put("", id, spec).unwrap();
}
