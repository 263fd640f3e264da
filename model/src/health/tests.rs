//! Twelve faults, as their facts look, and the cause that must be named.

use std::collections::BTreeMap;

use super::causes::causes;
use super::checks::{Check, Verdict, check, check_all, is_healthy, summary};
use super::facts::*;
use super::{Cause, Reach};

const NAMES: [&str; 4] = ["cp-1", "cp-2", "cp-3", "worker-1"];

fn running(message: &str) -> ServiceFacts {
    ServiceFacts { state: "Running".into(), healthy: Some(message.is_empty()), message: message.into() }
}

fn pod(app: &str, node: &str) -> PodFacts {
    PodFacts {
        namespace: "kube-system".into(),
        name: format!("{app}-{node}"),
        app: app.into(),
        node: node.into(),
        ready: true,
        ..Default::default()
    }
}

fn healthy() -> ClusterFacts {
    let members: Vec<EtcdMemberFacts> = (1..4).map(|id| EtcdMemberFacts { id, name: format!("cp-{id}"), learner: false }).collect();
    let node = |name: &&str| {
        let control_plane = name.starts_with("cp");
        let mut services = BTreeMap::from([("kubelet".to_owned(), running(""))]);
        let mut static_pods = Vec::new();
        if control_plane {
            services.insert("etcd".into(), running(""));
            for app in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
                static_pods.push(pod(app, name));
            }
        }
        NodeFacts {
            name: (*name).to_owned(),
            address: format!("10.5.0.{}", name.len()),
            role: if control_plane { Role::ControlPlane } else { Role::Worker },
            reach: Reach::Answered,
            stage: "running".into(),
            memory: 4 << 30,
            disk: 20 << 30,
            disk_free: 10 << 30,
            services,
            clock_offset: Some(1_000_000),
            etcd: control_plane.then(|| EtcdFacts { members: members.clone(), leader: true, errors: Vec::new() }),
            static_pods,
            certificates: vec![CertificateFacts { name: "apid".into(), not_after: 2_000 }],
            hears: NAMES.iter().filter(|other| *other != name).map(|other| ((*other).to_owned(), true)).collect(),
            ..Default::default()
        }
    };
    let mut pods: Vec<PodFacts> = NAMES.iter().map(|name| pod("kube-proxy", name)).collect();
    pods.extend([pod("kube-dns", "cp-1"), pod("kube-dns", "worker-1")]);
    ClusterFacts {
        nodes: NAMES.iter().map(node).collect(),
        kubernetes: Ok(KubeFacts {
            nodes: NAMES.iter().map(|name| KubeNodeFacts { name: (*name).to_owned(), ready: true, ..Default::default() }).collect(),
            pods,
            has_proxy: true,
            has_dns: true,
        }),
        has_etcd: true,
        cni_none: false,
        now: 1_000,
    }
}

fn found(facts: &ClusterFacts) -> Vec<(Cause, Option<String>)> {
    causes(facts).into_iter().map(|d| (d.cause, d.node)).collect()
}

fn on(node: &str) -> Option<String> {
    Some(node.to_owned())
}

/// Everything a node's disappearance brings with it.
fn lose(facts: &mut ClusterFacts, index: usize, reach: Reach) {
    let name = facts.nodes[index].name.clone();
    facts.nodes[index] = NodeFacts {
        name: name.clone(),
        address: facts.nodes[index].address.clone(),
        role: facts.nodes[index].role,
        reach,
        ..Default::default()
    };
    if let Ok(kube) = &mut facts.kubernetes {
        for node in &mut kube.nodes {
            if node.name == name {
                node.ready = false;
                node.reason = "Kubelet stopped posting node status.".into();
            }
        }
        for pod in &mut kube.pods {
            pod.ready &= pod.node != name;
        }
    }
    for node in &mut facts.nodes {
        if let Some(hears) = node.hears.get_mut(&name) {
            *hears = false;
        }
    }
}

fn unreachable() -> Reach {
    Reach::Unreachable { message: "no answer in 2 s".into() }
}

#[test]
fn a_healthy_cluster_passes_everything() {
    let facts = healthy();
    for (which, verdict) in check_all(&facts) {
        assert_eq!(verdict, Verdict::Pass, "{which:?}");
    }
    assert_eq!(found(&facts), []);
}

#[test]
fn apid_down() {
    let mut facts = healthy();
    facts.nodes[1].reach = Reach::Refused;
    assert_eq!(found(&facts), [(Cause::ApidDown, on("cp-2"))]);
    assert!(matches!(check(Check::ApiReady, &facts), Verdict::Fail(_)));
}

#[test]
fn kubelet_stopped() {
    let mut facts = healthy();
    facts.nodes[3].services.get_mut("kubelet").unwrap().state = "Finished".into();
    if let Ok(kube) = &mut facts.kubernetes {
        kube.nodes[3].ready = false;
    }
    assert_eq!(found(&facts), [(Cause::KubeletStopped, on("worker-1"))]);
    let Verdict::Fail(failures) = check(Check::NodesReady, &facts) else { panic!("must fail") };
    assert_eq!(failures[0].cause, Cause::KubeletStopped);
    assert_eq!(failures[0].node.as_deref(), Some("worker-1"));
}

#[test]
fn etcd_member_down() {
    let mut facts = healthy();
    facts.nodes[0].services.insert("etcd".into(), running("connection refused"));
    assert_eq!(found(&facts), [(Cause::EtcdMemberDown, on("cp-1"))]);
}

#[test]
fn quorum_lost() {
    let mut facts = healthy();
    for index in [0, 1] {
        facts.nodes[index].services.get_mut("etcd").unwrap().state = "Failed".into();
        facts.nodes[index].etcd = None;
    }
    facts.nodes[2].etcd.as_mut().unwrap().leader = false;
    facts.kubernetes = Err("deadline exceeded".into());
    assert_eq!(found(&facts), [(Cause::QuorumLost, None)]);
    let Verdict::Fail(failures) = check(Check::NodesReport, &facts) else { panic!("must fail") };
    assert_eq!(failures[0].cause, Cause::QuorumLost);
}

#[test]
fn quorum_lost_with_its_machines() {
    let mut facts = healthy();
    lose(&mut facts, 0, unreachable());
    lose(&mut facts, 1, unreachable());
    facts.nodes[2].etcd.as_mut().unwrap().leader = false;
    facts.kubernetes = Err("deadline exceeded".into());
    assert_eq!(found(&facts), [(Cause::NodeGone, on("cp-1")), (Cause::NodeGone, on("cp-2")), (Cause::QuorumLost, None)]);
}

#[test]
fn node_frozen_and_node_gone_are_told_apart() {
    let mut facts = healthy();
    lose(&mut facts, 3, Reach::Silent);
    assert_eq!(found(&facts), [(Cause::NodeFrozen, on("worker-1"))]);
    let mut facts = healthy();
    lose(&mut facts, 3, unreachable());
    assert_eq!(found(&facts), [(Cause::NodeGone, on("worker-1"))]);
    // The pods on it are its consequence, not a cause of their own.
    let Verdict::Fail(failures) = check(Check::DnsReady, &facts) else { panic!("must fail") };
    assert_eq!(failures[0].cause, Cause::NodeGone);
}

#[test]
fn wrong_time() {
    let mut facts = healthy();
    facts.nodes[2].clock_offset = Some(-3_600_000_000_000);
    assert_eq!(found(&facts), [(Cause::WrongTime, on("cp-3"))]);
    assert!(causes(&facts)[0].found.contains("3600.0 s behind"));
}

#[test]
fn disk_full() {
    let mut facts = healthy();
    facts.nodes[3].disk_free = 10 << 20;
    // What a full disk breaks as well.
    facts.nodes[3].services.insert("kubelet".into(), running("no space left on device"));
    assert_eq!(found(&facts), [(Cause::DiskFull, on("worker-1"))]);
}

#[test]
fn coredns_broken() {
    let mut facts = healthy();
    if let Ok(kube) = &mut facts.kubernetes {
        for pod in &mut kube.pods {
            if pod.app == "kube-dns" {
                pod.ready = false;
                pod.waiting = "CrashLoopBackOff".into();
            }
        }
    }
    assert_eq!(found(&facts), [(Cause::CoreDnsBroken, None)]);
    assert!(causes(&facts)[0].found.contains("CrashLoopBackOff"));
}

#[test]
fn api_server_crash_looping() {
    let mut facts = healthy();
    let pod = &mut facts.nodes[0].static_pods[0];
    pod.ready = false;
    pod.restarts = 5;
    pod.waiting = "CrashLoopBackOff".into();
    assert_eq!(found(&facts), [(Cause::ApiServerCrashLooping, on("cp-1"))]);
}

#[test]
fn certificate_expired() {
    let mut facts = healthy();
    facts.nodes[1].reach = Reach::CertificateExpired { message: "certificate has expired".into() };
    assert_eq!(found(&facts), [(Cause::CertificateExpired, on("cp-2"))]);
    let mut facts = healthy();
    facts.nodes[3].certificates[0].not_after = 900;
    assert_eq!(found(&facts), [(Cause::CertificateExpired, on("worker-1"))]);
}

#[test]
fn partition() {
    // Between us and a node that others hear.
    let mut facts = healthy();
    facts.nodes[3].reach = unreachable();
    assert_eq!(found(&facts), [(Cause::Partition, on("worker-1"))]);
    // Between nodes that we reach both.
    let mut facts = healthy();
    facts.nodes[0].hears.insert("cp-3".into(), false);
    facts.nodes[1].hears.insert("cp-3".into(), false);
    assert_eq!(found(&facts), [(Cause::Partition, on("cp-3"))]);
}

#[test]
fn a_cluster_that_nobody_bootstrapped() {
    let mut facts = healthy();
    for node in facts.nodes.iter_mut().filter(|node| node.role == Role::ControlPlane) {
        node.services.insert("etcd".into(), ServiceFacts { state: "Waiting".into(), ..Default::default() });
        node.etcd = None;
    }
    facts.kubernetes = Err("connection refused".into());
    assert_eq!(found(&facts), [(Cause::NotBootstrapped, None)]);
}

#[test]
fn every_failure_says_what_to_do() {
    let mut facts = healthy();
    lose(&mut facts, 0, unreachable());
    lose(&mut facts, 3, Reach::Silent);
    facts.nodes[1].memory = 1 << 30;
    facts.nodes[2].stage = "booting".into();
    for (which, verdict) in check_all(&facts) {
        if let Verdict::Fail(failures) = verdict {
            assert!(!failures.is_empty());
            for failure in failures {
                assert!(!failure.found.is_empty() && !failure.next_step.is_empty(), "{which:?}");
            }
        }
    }
}

#[test]
fn a_member_without_a_machine_can_be_removed() {
    let mut facts = healthy();
    facts.nodes.remove(1);
    let Verdict::Fail(failures) = check(Check::EtcdMembersAreControlPlanes, &facts) else { panic!("must fail") };
    assert_eq!(failures[0].node.as_deref(), Some("cp-2"));
    assert!(failures[0].next_step.contains("forget cp-2"));
}

#[test]
fn an_etcd_that_is_frozen_counts_as_down_before_its_service_is_unhealthy() {
    let mut facts = healthy();
    facts.nodes[1].etcd = None;
    facts.nodes[1].etcd_failure = "no answer in 4 s".into();
    assert_eq!(found(&facts), [(Cause::EtcdMemberDown, on("cp-2"))]);
    assert!(causes(&facts)[0].found.contains("does not answer"));
    facts.nodes[0].etcd = None;
    facts.nodes[0].etcd_failure = "no answer in 4 s".into();
    facts.nodes[2].etcd.as_mut().unwrap().members.clear();
    facts.nodes[2].etcd.as_mut().unwrap().leader = false;
    assert_eq!(found(&facts), [(Cause::QuorumLost, None)]);
}

#[test]
fn whatever_has_a_cause_fails_a_check() {
    let breaks: [fn(&mut ClusterFacts); 6] = [
        |facts| facts.nodes[3].clock_offset = Some(3_600_000_000_000),
        |facts| facts.nodes[3].services.get_mut("kubelet").unwrap().state = "Failed".into(),
        |facts| facts.nodes[3].disk_free = 0,
        |facts| {
            facts.nodes[0].hears.insert("cp-3".into(), false);
        },
        |facts| facts.nodes[3].certificates[0].not_after = 1,
        |facts| {
            let ghost = KubeNodeFacts { name: "cp-9".into(), ..Default::default() };
            facts.kubernetes.as_mut().unwrap().nodes.push(ghost);
        },
    ];
    for (index, fault) in breaks.iter().enumerate() {
        let mut facts = healthy();
        fault(&mut facts);
        let verdicts = check_all(&facts);
        assert!(!is_healthy(&verdicts), "fault {index}");
        let summary = summary(&facts, &verdicts);
        assert_eq!(summary.len(), 1, "fault {index}: {summary:?}");
    }
}

#[test]
fn a_failure_without_a_cause_is_in_the_summary() {
    let mut facts = healthy();
    facts.nodes[2].stage = "booting".into();
    let verdicts = check_all(&facts);
    let summary = summary(&facts, &verdicts);
    assert_eq!((summary.len(), summary[0].cause), (1, Cause::Other));
    assert_eq!(summary[0].node, on("cp-3"));
}

#[test]
fn without_machines_nothing_is_well() {
    let facts = ClusterFacts { nodes: Vec::new(), kubernetes: Ok(KubeFacts::default()), has_etcd: false, cni_none: false, now: 0 };
    let verdicts = check_all(&facts);
    assert!(!is_healthy(&verdicts));
    assert_eq!(summary(&facts, &verdicts).len(), 1);
}

#[test]
fn an_unanswered_question_is_no_good_news() {
    let mut facts = healthy();
    facts.nodes[3].unasked = vec!["diagnostics: no answer within 4 s".into()];
    let Verdict::Fail(failures) = check(Check::NoDiagnostics, &facts) else { panic!("it passed") };
    assert_eq!((failures.len(), failures[0].node.clone()), (1, on("worker-1")));
    assert_eq!(failures[0].found, "not answered: diagnostics: no answer within 4 s");
}
