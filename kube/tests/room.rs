//! From a machine configuration to pods, files and services, with the room's real controllers.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use common::{Machine, fixture, is_root};
use model::kube as kinds;
use model::services::{Runner, ServiceSpec};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_comes_from_its_configuration() {
    let Some(config) = fixture("v1.15/controlplane.yaml").filter(|_| is_root()) else { return };
    let machine = Machine::start(&config, "cp-1", "10.5.0.2").await;

    let kubelet: ServiceSpec = machine.wait("kubelet", 20).await;
    assert_eq!(kubelet.runner, Runner::Container);
    assert!(kubelet.args.contains(&"--hostname-override=cp-1".to_owned()), "{:?}", kubelet.args);
    assert!(kubelet.args.contains(&"--node-ip=10.5.0.2".to_owned()));
    let file: Value = serde_json::from_str(&machine.read("/etc/kubernetes/kubelet.yaml")).unwrap();
    assert_eq!(file["failCgroupV1"], false);
    assert_eq!(file["oomScoreAdj"], 0);
    assert_eq!(file["clusterDNS"], serde_json::json!(["10.96.0.10"]));
    assert_eq!(file["registerWithTaints"][0]["key"], "node-role.kubernetes.io/control-plane");
    assert!(machine.read("/etc/kubernetes/bootstrap-kubeconfig").contains("2uo1nq.qojr2dxb7r44z3pk"));
    assert!(machine.read("/etc/kubernetes/kubeconfig-kubelet").contains("kubelet-client-current.pem"));

    let pod: kinds::StaticPod = machine.wait("kube-apiserver", 20).await;
    let pod = Value::from(&pod.pod);
    assert_eq!(pod["spec"]["securityContext"]["runAsUser"], 65534);
    assert_eq!(pod["spec"]["containers"][0]["image"], "registry.k8s.io/kube-apiserver:v1.37.0-rc.1");
    let version = &pod["metadata"]["annotations"]["talos.dev/config-version"];
    let config = machine.store.kind::<kinds::ApiServerConfig>().get("kube-apiserver").unwrap();
    assert_eq!(version, &config.meta.version.to_string());
    // These wait until an API server is ready; here none ever is.
    assert!(machine.store.kind::<kinds::StaticPod>().get("kube-controller-manager").is_none());
    let encryption: Value = serde_json::from_str(&machine.read("/system/secrets/kubernetes/kube-apiserver/encryptionconfig.yaml")).unwrap();
    assert_eq!(
        encryption["resources"][0]["providers"][0]["secretbox"]["keys"][0]["secret"],
        "PxYnnVtNnKE+8dmt2R4mUQuMxL4oB1wmLnFhlBBXBsk="
    );
    use std::os::unix::fs::MetadataExt;
    let key = machine.root.path().join("system/secrets/kubernetes/kube-apiserver/apiserver.key");
    let meta = std::fs::metadata(key).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (65534, 0o400));

    let prism: kinds::KubePrismConfig = machine.wait("k8s-loadbalancer-config", 5).await;
    assert_eq!(prism.port, 7445);
    assert_eq!(prism.endpoints[0].host, "127.0.0.1");
    // Nobody asked for a bootstrap: etcd is not started, and says why.
    for _ in 0..200 {
        if machine.room.etcd.step().contains("bootstrap") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(machine.room.etcd.step().contains("bootstrap"), "{}", machine.room.etcd.step());
    assert!(machine.store.kind::<ServiceSpec>().get("etcd").is_none());
    machine.room.etcd.bootstrap().unwrap();
    let etcd: ServiceSpec = machine.wait("etcd", 10).await;
    assert!(etcd.args.contains(&"--initial-cluster=cp-1=https://10.5.0.2:2380".to_owned()), "{:?}", etcd.args);
    assert_eq!(etcd.container.unwrap().uid, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_has_a_kubelet_and_nothing_of_the_control_plane() {
    let Some(config) = fixture("v1.15/worker.yaml").filter(|_| is_root()) else { return };
    let machine = Machine::start(&config, "worker-1", "10.5.0.3").await;
    machine.wait::<ServiceSpec>("kubelet", 20).await;
    let prism: kinds::KubePrismConfig = machine.wait("k8s-loadbalancer-config", 5).await;
    assert_eq!(prism.endpoints[0].host, "10.5.0.2");
    assert!(machine.store.kind::<kinds::StaticPod>().list().is_empty());
    assert!(machine.store.kind::<kinds::KubernetesRootSecret>().list().is_empty());
    assert!(!machine.root.path().join("etc/kubernetes/kubeconfig-kubelet").exists());
    assert!(machine.read("/etc/kubernetes/pki/ca.crt").contains("BEGIN CERTIFICATE"));
}

/// The oldest form of configuration leads to the same control plane.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legacy_configuration_works_too() {
    let Some(config) = fixture("v1.8/controlplane.yaml").filter(|_| is_root()) else { return };
    let machine = Machine::start(&config, "cp-1", "10.5.0.2").await;
    let pod: kinds::StaticPod = machine.wait("kube-apiserver", 20).await;
    let pod = Value::from(&pod.pod);
    let command = pod["spec"]["containers"][0]["command"].as_array().unwrap();
    assert!(command.contains(&Value::from("--anonymous-auth=false")), "{command:?}");
    assert_eq!(pod["spec"]["containers"][0].get("startupProbe"), None);
    let manifests = machine.store.kind::<kinds::Manifest>();
    machine.wait::<kinds::Manifest>("05-flannel", 5).await;
    let ids: Vec<String> = manifests.list().iter().map(|m| m.meta.id.to_string()).collect();
    assert!(ids.iter().any(|id| id == "10-kube-proxy") && ids.iter().any(|id| id == "11-core-dns"), "{ids:?}");
}
