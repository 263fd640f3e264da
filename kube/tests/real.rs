//! With the real etcd and the real control plane: what is rendered here starts, forms a cluster,
//! takes the manifests, and the node's own controllers work against it.
//!
//! Needs root, a network namespace of its own (it uses the real ports), and the programs:
//! `ORLOP_KUBE_BIN=dir unshare -n cargo test -p kube-room --test real`. Without them it is skipped.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Machine, fixture, is_root, put};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube_room::etcd::args::{EtcdArgs, InitialCluster};
use kube_room::etcd::client::EtcdClient;
use model::kube as kinds;
use model::services::{ServiceSpec, ServiceStatus};
use serde_json::{Value, json};

/// Seconds for anything that the real programs do: 15 s for all of it on an idle machine, minutes on one
/// whose cores are taken.
const PATIENCE: u64 = 240;

/// Processes that end with the test.
#[derive(Default)]
struct Processes(Vec<(String, Child)>);

impl Processes {
    fn start(&mut self, machine: &Machine, bin: &std::path::Path, name: &str, args: &[String]) {
        let root = machine.root.path().display().to_string();
        let args: Vec<String> = args
            .iter()
            .map(|arg| {
                let arg = arg.replace("$(POD_IP)", "10.5.0.2");
                ["/system/", "/var/"].iter().fold(arg, |arg, dir| arg.replace(&format!("={dir}"), &format!("={root}{dir}")))
            })
            .collect();
        let log = std::fs::File::create(machine.root.path().join(format!("{name}.log"))).unwrap();
        let child = Command::new(bin).args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.0.push((name.to_owned(), child));
    }

    /// Those that have ended, with the ends of their logs.
    fn ended(&mut self, machine: &Machine) -> Vec<String> {
        let mut ended = Vec::new();
        for (name, child) in &mut self.0 {
            if child.try_wait().unwrap().is_some() {
                let log = machine.read(&format!("/{name}.log"));
                ended.push(format!("{name}: …{}", &log[log.len().saturating_sub(3000)..]));
            }
        }
        ended
    }

    fn stop(&mut self, name: &str) {
        for (_, child) in self.0.iter_mut().filter(|(other, _)| other == name) {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.0.retain(|(other, _)| other != name);
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Files name each other by absolute paths; below a root, they are moved there.
fn relocate(machine: &Machine) {
    let root = machine.root.path().display().to_string();
    for dir in ["system/config/kubernetes/kube-scheduler", "system/secrets/kubernetes/kube-scheduler"] {
        for entry in std::fs::read_dir(machine.root.path().join(dir)).unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            std::fs::write(entry.path(), text.replace("\"/system/", &format!("\"{root}/system/"))).unwrap();
        }
    }
}

fn command(pod: &kinds::StaticPod) -> Vec<String> {
    let pod = Value::from(&pod.pod);
    let command = pod["spec"]["containers"][0]["command"].as_array().unwrap().clone();
    command.iter().skip(1).map(|arg| arg.as_str().unwrap().to_owned()).collect()
}

/// Stands for the local balancer.
async fn balance() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:7445").await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut to) = tokio::net::TcpStream::connect("127.0.0.1:6443").await {
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
}

fn programs() -> Option<PathBuf> {
    let Some(bin) = std::env::var_os("ORLOP_KUBE_BIN").map(PathBuf::from) else {
        eprintln!("skipped: ORLOP_KUBE_BIN names no directory with etcd and kubernetes");
        return None;
    };
    if std::net::TcpListener::bind("10.5.0.2:0").is_err() {
        eprintln!("skipped: this network namespace does not have the address 10.5.0.2; see the head of this file");
        return None;
    }
    Some(bin)
}

fn running() -> ServiceStatus {
    ServiceStatus { state: "Running".into(), healthy: true, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_control_plane_takes_it_all() {
    let Some(bin) = programs().filter(|_| is_root()) else { return };
    let Some(config) = fixture("v1.15/controlplane.yaml") else { return };
    balance().await;
    let machine = Machine::start(&config, "cp-1", "10.5.0.2").await;
    let mut processes = Processes::default();

    machine.wait::<kinds::PkiStatus>("etcd", 20).await;
    machine.room.etcd.bootstrap().unwrap();
    let etcd: ServiceSpec = machine.wait("etcd", 10).await;
    processes.start(&machine, &bin.join("etcd"), "etcd", &etcd.args[1..]);
    put(&machine.store, "etcd", running());
    let member: kinds::EtcdMember = machine.wait("local", PATIENCE).await;
    assert_eq!(member.member_id.len(), 16);

    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let pod: kinds::StaticPod = machine.wait(name, PATIENCE).await;
        if name == "kube-scheduler" {
            relocate(&machine);
        }
        let mut args = command(&pod);
        args.insert(0, name.to_owned());
        processes.start(&machine, &bin.join("orlop-kubernetes"), name, &args);
    }
    let status: kinds::ManifestStatus = machine.wait("manifests", PATIENCE).await;
    assert_eq!(processes.ended(&machine), Vec::<String>::new());
    assert!(status.manifests_applied.iter().any(|id| id == "05-flannel"), "{status:?}");

    let admin = machine.store.kind::<kinds::KubernetesSecret>().get("k8s-certs").unwrap();
    let client = kube_room::objects::client(&admin.spec.admin_kubeconfig).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let inventory = maps.get("talos-bootstrap-manifests-inventory").await.unwrap();
    assert!(inventory.data.unwrap().contains_key("kube-system_coredns_apps_Deployment"));

    deleted_objects_stay_deleted(&machine, &maps).await;
    the_node_is_labelled_and_gets_its_serving_certificate(&machine, &client).await;
    etcd_answers(&machine, &bin, &mut processes).await;
    assert_eq!(processes.ended(&machine), Vec::<String>::new());
}

async fn deleted_objects_stay_deleted(machine: &Machine, maps: &Api<ConfigMap>) {
    maps.delete("coredns", &Default::default()).await.unwrap();
    let manifests = machine.store.kind::<kinds::Manifest>().list();
    let list: Vec<kube_room::manifests::Manifest> = manifests
        .iter()
        .map(|manifest| kube_room::manifests::Manifest {
            id: manifest.meta.id.to_string(),
            objects: manifest.spec.items.iter().map(|item| Value::from(&item.object)).collect(),
        })
        .collect();
    let secrets = machine.store.kind::<kinds::KubernetesSecret>().get("k8s-certs").unwrap();
    let client = kube_room::objects::client(&secrets.spec.localhost_admin_kubeconfig).await.unwrap();
    let again = kube_room::objects::apply::apply(&client, &list).await.unwrap();
    assert_eq!(again.created, 0, "{:?}", again.log);
    assert!(maps.get_opt("coredns").await.unwrap().is_none());
}

/// Plays the kubelet, with the certificate that was signed for it.
async fn the_node_is_labelled_and_gets_its_serving_certificate(machine: &Machine, admin: &kube::Client) {
    let root = machine.root.path().display().to_string();
    let pem = format!("{root}/var/lib/kubelet/pki/kubelet-client-current.pem");
    let kubeconfig = machine.read("/etc/kubernetes/kubeconfig-kubelet");
    let kubeconfig = kubeconfig.replace("/var/lib/kubelet/pki/kubelet-client-current.pem", &pem);
    let kubelet = kube_room::objects::client(&kubeconfig).await.unwrap();

    let nodes: Api<Node> = Api::all(kubelet.clone());
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "cp-1"}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let requests: Api<CertificateSigningRequest> = Api::all(kubelet);
    let key = pki::PrivateKey::generate(pki::Algorithm::P256).unwrap();
    let subject = pki::Name::new("system:node:cp-1", &["system:nodes"]);
    let csr = pki::Csr::create(&subject, &[pki::San::parse("cp-1"), pki::San::parse("10.5.0.2")], &key).unwrap();
    let foreign = pki::Csr::create(&subject, &[pki::San::parse("kubernetes.default.svc")], &key).unwrap();
    for (name, csr) in [("csr-own", csr), ("csr-foreign", foreign)] {
        let request: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "signerName": "kubernetes.io/kubelet-serving",
                "request": base64_of(&csr),
                "usages": ["digital signature", "server auth"],
            },
        }))
        .unwrap();
        requests.create(&PostParams::default(), &request).await.unwrap();
    }
    // The request came before the node's addresses: it must be looked at again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "10.5.0.2"}, {"type": "Hostname", "address": "cp-1"}],
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": null, "lastTransitionTime": null}],
    }});
    let all: Api<Node> = Api::all(admin.clone());
    all.patch_status("cp-1", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();

    let issued = |name: &'static str| {
        let all: Api<CertificateSigningRequest> = Api::all(admin.clone());
        async move { all.get(name).await.unwrap().status.and_then(|status| status.certificate).is_some() }
    };
    let mut tries = 0;
    while !issued("csr-own").await {
        tries += 1;
        assert!(tries < PATIENCE * 5, "the node's own request was not approved and signed within {PATIENCE} s");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!issued("csr-foreign").await);

    let state = machine.wait_for::<kinds::NodeStatus>("cp-1", PATIENCE, |node| node.node_ready).await;
    assert!(!state.unschedulable);
    machine.wait_for::<kinds::NodeStatus>("cp-1", PATIENCE, |node| node.labels.contains_key("node-role.kubernetes.io/control-plane")).await;
    let tainted = all.get("cp-1").await.unwrap().spec.unwrap().taints.unwrap_or_default();
    assert!(tainted.iter().any(|taint| taint.key == "node-role.kubernetes.io/control-plane"), "{tainted:?}");
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Status, snapshot, mutex; then a second member joins as a learner, is promoted, and leaves.
async fn etcd_answers(machine: &Machine, bin: &std::path::Path, processes: &mut Processes) {
    let control = &machine.room.etcd;
    let status = control.status().await.unwrap();
    assert!(status.version.starts_with("3.") && status.leader == status.id && status.db_size > 0, "{status:?}");
    let mut client = control.client().await.unwrap();
    client.healthy().await.unwrap();
    assert!(client.alarms().await.unwrap().is_empty());
    let mut size = 0usize;
    let total = client
        .snapshot(async |piece| {
            size += piece.len();
            true
        })
        .await
        .unwrap();
    assert!(size > 10_000 && total == size as u64, "{size} {total}");
    let mut mutex = client.lock("test", Duration::from_secs(10), Duration::from_secs(5)).await.unwrap();
    mutex.keep_alive().await.unwrap();
    let mut other = control.client().await.unwrap();
    assert!(other.lock("test", Duration::from_secs(10), Duration::from_secs(1)).await.is_err());
    mutex.unlock().await.unwrap();
    other.lock("test", Duration::from_secs(10), Duration::from_secs(5)).await.unwrap().unlock().await.unwrap();

    second_member(machine, bin, processes, &mut client).await;
}

async fn second_member(machine: &Machine, bin: &std::path::Path, processes: &mut Processes, client: &mut EtcdClient) {
    let peer = ["https://10.5.0.2:12380".to_owned()];
    let id = client.add_learner(&peer).await.unwrap();
    let twice = client.add_learner(&peer).await.unwrap_err();
    assert!(matches!(twice, kube_room::etcd::client::EtcdError::PeerExists), "{twice}");
    let early = client.promote(id).await.unwrap_err();
    assert!(early.is_transient(), "{early}");
    let args = EtcdArgs {
        name: "second".into(),
        advertised: vec!["10.5.0.2".parse().unwrap()],
        listen_peer: vec!["10.5.0.2".parse().unwrap()],
        listen_client: vec!["10.5.0.2".parse().unwrap()],
        initial: Some(InitialCluster { existing: true, members: format!("cp-1=https://10.5.0.2:2380,second={}", peer[0]) }),
        ..Default::default()
    };
    let args: Vec<String> = args
        .build()
        .unwrap()
        .into_iter()
        .map(|arg| {
            let keep = arg.starts_with("--initial-cluster=");
            let arg = arg.replace("/var/lib/etcd", "/var/lib/etcd2");
            if keep { arg } else { arg.replace("10.5.0.2:2", "10.5.0.2:12") }
        })
        .collect();
    processes.start(machine, &bin.join("etcd"), "etcd2", &args);
    let mut tries = 0;
    while let Err(error) = client.promote(id).await {
        tries += 1;
        assert!(error.is_transient() && tries < 600, "{error}; {:?}", processes.ended(machine));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let members = client.members().await.unwrap();
    assert!(members.iter().any(|member| member.name == "second" && !member.learner), "{members:?}");
    // etcd refuses a removal until it has seen the new member well for five seconds.
    let mut tries = 0;
    while let Err(error) = client.remove(id).await {
        tries += 1;
        assert!(error.is_transient() && tries < 600, "{error}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    client.remove(id).await.unwrap();
    processes.stop("etcd2");
}
