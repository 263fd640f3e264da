//! Gathering with injected answers: what is slow, dead or absent never keeps the verdict.

use std::sync::atomic::{AtomicU32, Ordering};

use model::health::facts::{KubeNodeFacts, ServiceFacts};

use super::*;

/// A cluster of answers.
#[derive(Default)]
struct Fake {
    reach: Vec<Reach>,
    hangs: Option<usize>,
    kubernetes_hangs: bool,
    /// How long the list of machines takes.
    list_takes: Duration,
    /// From this look on all is well.
    well_from: u32,
    looks: AtomicU32,
}

impl Fake {
    fn machine_of(index: usize) -> Machine {
        let role = if index == 0 { Role::ControlPlane } else { Role::Worker };
        Machine { name: format!("n{index}"), address: format!("10.0.0.{index}"), role }
    }
}

#[async_trait]
impl Sources for Fake {
    async fn machines(&self) -> Vec<Machine> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        sleep(self.list_takes).await;
        (0..self.reach.len()).map(Self::machine_of).collect()
    }

    async fn machine(&self, machine: &Machine) -> NodeFacts {
        let index: usize = machine.name[1..].parse().unwrap();
        if self.hangs == Some(index) {
            std::future::pending::<()>().await;
        }
        let mut facts = unanswered(machine, self.reach[index].clone());
        facts.stage = "running".into();
        let state = if self.looks.load(Ordering::Relaxed) >= self.well_from { "Running" } else { "Failed" };
        facts.services.insert("kubelet".into(), ServiceFacts { state: state.into(), ..ServiceFacts::default() });
        if machine.role == Role::ControlPlane {
            let pod = |name: &str| model::health::facts::PodFacts { name: name.into(), ready: true, ..Default::default() };
            facts.static_pods = ["kube-apiserver-n0", "kube-controller-manager-n0", "kube-scheduler-n0"].map(pod).to_vec();
        }
        facts
    }

    async fn kubernetes(&self) -> Result<KubeFacts, String> {
        if self.kubernetes_hangs {
            std::future::pending::<()>().await;
        }
        let nodes = (0..self.reach.len()).map(|index| KubeNodeFacts { name: format!("n{index}"), ready: true, ..KubeNodeFacts::default() });
        Ok(KubeFacts { nodes: nodes.collect(), ..KubeFacts::default() })
    }

    fn outline(&self) -> Outline {
        Outline { has_etcd: false, cni_none: false }
    }
}

async fn report_of(fake: &Fake, wait: u64) -> (HealthReport, Vec<String>, Duration) {
    let begin = Instant::now();
    let mut lines = Vec::new();
    let report = run(fake, Duration::from_secs(wait), &mut |line| lines.push(line)).await;
    (report, lines, begin.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_healthy_cluster_is_told_at_once_in_one_line_per_check() {
    let fake = Fake { reach: vec![Reach::Answered; 2], ..Fake::default() };
    let (report, lines, took) = report_of(&fake, 60).await;
    assert!(is_healthy(&report) && report.causes.is_empty(), "{report:?}");
    assert_eq!(lines.len(), 16);
    assert_eq!(lines[0], "waiting for etcd to be healthy: SKIP: the cluster has no etcd of its own");
    assert_eq!(lines[3], "waiting for apid to be ready: OK");
    assert!(took < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_once_and_health_ends_the_wait() {
    let fake = Fake { reach: vec![Reach::Answered; 2], well_from: 4, ..Fake::default() };
    let (report, lines, took) = report_of(&fake, 60).await;
    assert!(is_healthy(&report));
    let kubelet: Vec<_> = lines.iter().filter(|l| l.contains("kubelet to be healthy")).collect();
    assert_eq!(kubelet.len(), 2, "{kubelet:?}");
    assert!(kubelet[0].contains("n0: kubelet stopped: the kubelet is Failed instead of Running"), "{kubelet:?}");
    assert!(kubelet[1].ends_with(": OK"));
    assert!(took < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn who_hangs_is_frozen_and_holds_nobody_up() {
    let fake = Fake { reach: vec![Reach::Answered; 3], hangs: Some(2), kubernetes_hangs: true, ..Fake::default() };
    let (report, _, took) = report_of(&fake, 11).await;
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(causes(&report), "node frozen on n2");
    let report_failure = report.checks.iter().find(|c| c.check == "all k8s nodes to report").unwrap();
    assert_eq!(report_failure.state(), State::Fail);
    assert!(report_failure.failures[0].found.contains("no answer within 5 s"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_list_of_machines_makes_the_look_no_longer() {
    let list_takes = Duration::from_secs(4);
    let fake = Fake { reach: vec![Reach::Answered; 2], hangs: Some(1), list_takes, ..Fake::default() };
    let begin = Instant::now();
    assert_eq!(gather(&fake).await.nodes.len(), 2);
    assert_eq!(begin.elapsed(), LOOK);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_was_asked_nothing_is_healthy() {
    for list_takes in [Duration::ZERO, Duration::from_secs(60)] {
        let (report, ..) = report_of(&Fake { list_takes, ..Fake::default() }, 1).await;
        assert!(!is_healthy(&report));
        assert_eq!(report.causes[0].found, "no machine is known, so none was asked");
    }
    assert!(!is_healthy(&HealthReport::default()), "no checks");
    let silent = HealthReport { checks: vec![HealthVerdict::default()], ..HealthReport::default() };
    assert!(!is_healthy(&silent), "a check without a state");
}

#[tokio::test(start_paused = true)]
async fn every_way_of_not_answering_has_its_cause() {
    let gone = Reach::Unreachable { message: "no route to host".into() };
    let expired = Reach::CertificateExpired { message: "certificate expired".into() };
    for (reach, cause) in
        [(Reach::Refused, "machine API down"), (Reach::Silent, "node frozen"), (gone, "node gone"), (expired, "certificate expired")]
    {
        let fake = Fake { reach: vec![Reach::Answered, reach], ..Fake::default() };
        let (report, ..) = report_of(&fake, 1).await;
        assert_eq!(causes(&report), format!("{cause} on n1"));
        assert!(report.causes.iter().all(|c| !c.next_step.is_empty()));
    }
}

#[tokio::test]
async fn a_machine_that_refuses_and_one_that_says_nothing_are_told_apart() {
    let config = crate::tls::insecure_client(&[]).unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (silent_at, closed_at) = (silent.local_addr().unwrap(), closed.local_addr().unwrap());
    drop(closed);
    let asker = Asker::new(config);
    let machine = |address: std::net::SocketAddr| Machine { address: address.to_string(), ..Machine::default() };
    let (silent_machine, closed_machine) = (machine(silent_at), machine(closed_at));
    let (a, b) = tokio::join!(asker.ask(&silent_machine), asker.ask(&closed_machine));
    assert_eq!((a.reach, b.reach), (Reach::Silent, Reach::Refused));
}

#[test]
fn words_of_tls_about_time_are_recognized() {
    for text in ["received fatal alert: CertificateExpired", "invalid peer certificate: Expired", "certificate NotValidYet"] {
        let error = crate::transport::DialError::Handshake { place: "x".into(), reason: text.into() };
        assert!(matches!(reach(&error), Reach::CertificateExpired { .. }), "{text}");
    }
    let other = crate::transport::DialError::Handshake { place: "x".into(), reason: "UnknownIssuer".into() };
    assert!(matches!(reach(&other), Reach::Failed { .. }));
}
