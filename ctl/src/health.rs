//! Asking a cluster how it is, from here: through the first control plane that answers, or, when none does, by what is seen of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::client::{Client, Context, Options};
use api::cluster as pb;
use api::health::{self, Asker, HealthReport, HealthVerdict, LOOK, Machine, Outline, Sources, State, report, unanswered};
use api::tls::{self, Identity};
use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt as _};
use model::cluster::Member;
use model::health::kubernetes::{QUESTIONS, facts};
use model::health::{ClusterFacts, KubeFacts, NodeFacts, Reach, Role, check_all};
use resource::{Registry, StateExt as _};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::kubernetes;

/// The pause before endpoints that all failed are tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// A control plane tells its first line when its first look is over.
const FIRST_LINE: Duration = Duration::from_secs(9);

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Addresses of control planes; with those of workers empty as well: what discovery found.
    pub control_planes: Vec<String>,
    /// Addresses of workers.
    pub workers: Vec<String>,
    /// The Kubernetes endpoint to use instead of the own.
    pub endpoint: String,
    /// How long to wait for health.
    pub wait: Duration,
}

impl Question {
    fn request(&self, left: Duration) -> pb::HealthCheckRequest {
        pb::HealthCheckRequest {
            wait_timeout: prost_types::Duration::try_from(left).ok(),
            cluster_info: Some(pb::ClusterInfo {
                control_plane_nodes: self.control_planes.clone(),
                worker_nodes: self.workers.clone(),
                force_endpoint: self.endpoint.clone(),
            }),
        }
    }
}

fn asker(context: &Context) -> anyhow::Result<Asker> {
    let identity = Identity::from_pem(&context.crt, &context.key).context("the context's certificate")?;
    Ok(Asker::new(tls::client(tls::roots(&context.ca)?, Some(&identity))?))
}

/// When the client's own certificate ended, if it did: every control plane would refuse it.
fn ended(context: &Context) -> Option<String> {
    let identity = pki::Certificate::from_pem(&String::from_utf8_lossy(&context.crt)).and_then(|c| c.identity()).ok()?;
    let over = identity.not_after < jiff::Timestamp::now();
    over.then(|| format!("the client certificate of this context ended at {}", identity.not_after))
}

/// The control planes at these endpoints, with what was seen of each; nothing is known of their insides.
fn from_outside(seen: Vec<(Machine, Reach)>) -> HealthReport {
    let facts = ClusterFacts {
        nodes: seen.iter().map(|(machine, reach)| unanswered(machine, reach.clone())).collect(),
        kubernetes: Err("no control plane could be asked for it".into()),
        has_etcd: true,
        cni_none: false,
        now: jiff::Timestamp::now().as_second(),
    };
    report(&facts, &check_all(&facts))
}

fn endpoints(context: &Context) -> Vec<Machine> {
    let machine = |address: &String| Machine { name: address.clone(), address: address.clone(), role: Role::ControlPlane };
    context.endpoints.iter().map(machine).collect()
}

/// Asks the cluster's control planes for its health, the first that answers, and tells each line as it comes.
pub async fn ask(context: &Context, question: &Question, tell: &mut dyn FnMut(&str)) -> anyhow::Result<HealthReport> {
    let begin = Instant::now();
    let machines = endpoints(context);
    if machines.is_empty() {
        bail!("no endpoints: set them in the context with `orlopctl config endpoint ADDRESS…`, or give --endpoints");
    }
    if let Some(message) = ended(context) {
        // One fault, ours, however many nodes would refuse it.
        let us = Machine { name: "this machine".into(), address: "the client".into(), role: Role::ControlPlane };
        return Ok(from_outside(vec![(us, Reach::CertificateExpired { message })]));
    }
    let asker = asker(context)?;
    loop {
        let mut seen = Vec::new();
        let mut knocks: FuturesUnordered<_> = machines.iter().map(async |machine| (machine, asker.reach(machine).await)).collect();
        while let Some((machine, reach)) = knocks.next().await {
            if reach != Reach::Answered {
                seen.push((machine.clone(), reach));
                continue;
            }
            let left = question.wait.saturating_sub(begin.elapsed());
            match through(&asker.client(machine), question.request(left), tell).await? {
                Ok(report) => return Ok(report),
                Err(message) => seen.push((machine.clone(), Reach::Failed { message })),
            }
        }
        drop(knocks);
        if begin.elapsed() + AGAIN >= question.wait {
            return Ok(from_outside(seen));
        }
        sleep(AGAIN).await;
    }
}

/// Asks one control plane. The inner error: it cannot say, another may.
async fn through(
    client: &Client,
    request: pb::HealthCheckRequest,
    tell: &mut dyn FnMut(&str),
) -> anyhow::Result<Result<HealthReport, String>> {
    let wait = request.wait_timeout.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default();
    let mut lines = Lines::default();
    let asked = async {
        let mut stream = client.cluster().health_check(request).await?.into_inner();
        let late = |_| tonic::Status::deadline_exceeded(format!("no line within {} s", FIRST_LINE.as_secs()));
        let mut next = timeout(FIRST_LINE, stream.message()).await.map_err(late)??;
        while let Some(progress) = next {
            if let Some(report) = detail(&progress) {
                return Ok(Some(report));
            }
            tell(&progress.message);
            lines.hear(&progress.message);
            next = stream.message().await?;
        }
        Ok::<_, tonic::Status>(None)
    };
    let limit = wait + LOOK + Duration::from_secs(2);
    match timeout(limit, asked).await {
        Ok(Ok(Some(report))) => Ok(Ok(report)),
        Ok(Ok(None)) => Ok(lines.report()),
        Ok(Err(status)) if matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument | Code::Unauthenticated) => {
            bail!("{} ({:?})", status.message(), status.code())
        }
        Ok(Err(status)) => Ok(Err(status.message().to_owned())),
        Err(_) => Ok(Err(format!("its check did not end within {} s", limit.as_secs()))),
    }
}

/// What the lines said: a node of the peer says no more.
#[derive(Default)]
struct Lines(BTreeMap<String, String>);

impl Lines {
    fn hear(&mut self, line: &str) {
        if let Some((check, state)) = line.strip_prefix("waiting for ").and_then(|line| line.split_once(": ")) {
            self.0.insert(check.to_owned(), state.to_owned());
        }
    }

    /// The report of a stream that ended well without one; the error: it ended before all was well.
    fn report(&self) -> Result<HealthReport, String> {
        if self.0.is_empty() {
            return Err("its check ended without a word".into());
        }
        if let Some((check, state)) = self.0.iter().find(|(_, state)| !state.starts_with("OK") && !state.starts_with("SKIP")) {
            return Err(format!("its check ended without a verdict, at {check}: {state}"));
        }
        let all = HealthVerdict { check: "the server's own checks".into(), state: State::Pass.into(), ..HealthVerdict::default() };
        Ok(HealthReport { checks: vec![all], causes: Vec::new() })
    }
}

fn detail(progress: &pb::HealthCheckProgress) -> Option<HealthReport> {
    let status = progress.metadata.as_ref()?.status.as_ref()?;
    status.details.first()?.to_msg().ok()
}

/// Makes the whole check here instead of on a control plane: each node is asked from here, through the endpoints.
pub async fn ask_from_here(context: &Context, question: &Question, tell: &mut (dyn FnMut(String) + Send)) -> anyhow::Result<HealthReport> {
    if let Some(message) = ended(context) {
        let reach = Reach::CertificateExpired { message };
        return Ok(from_outside(endpoints(context).into_iter().map(|m| (m, reach.clone())).collect()));
    }
    let client = Client::new(context, Options { call: Duration::from_secs(4), ..Options::default() })?;
    let here = Here { asker: asker(context)?, client, endpoints: endpoints(context), question: question.clone() };
    Ok(health::run(&here, question.wait, tell).await)
}

struct Here {
    asker: Asker,
    client: Client,
    endpoints: Vec<Machine>,
    question: Question,
}

#[async_trait]
impl Sources for Here {
    async fn machines(&self) -> Vec<Machine> {
        let given = |addresses: &[String], role| {
            addresses.iter().map(move |address| Machine { name: String::new(), address: address.clone(), role }).collect::<Vec<_>>()
        };
        let all = [given(&self.question.control_planes, Role::ControlPlane), given(&self.question.workers, Role::Worker)].concat();
        if !all.is_empty() {
            return all;
        }
        let state = api::state::RemoteState::new(&self.client, Arc::new(Registry::new().with::<Member>()));
        let members = timeout(Duration::from_secs(4), state.list_as::<Member>()).await.ok().and_then(Result::ok).unwrap_or_default();
        let machine = |m: &Arc<resource::Resource<Member>>| {
            let role = if m.spec.control_plane.is_some() { Role::ControlPlane } else { Role::Worker };
            Some(Machine { name: m.meta.id.to_string(), address: m.spec.addresses.first()?.to_string(), role })
        };
        let found: Vec<_> = members.iter().filter_map(machine).collect();
        if found.is_empty() { self.endpoints.clone() } else { found }
    }

    async fn machine(&self, machine: &Machine) -> NodeFacts {
        self.asker.ask_through(&self.client, machine).await
    }

    async fn kubernetes(&self) -> Result<KubeFacts, String> {
        let ask = async {
            let text = crate::verb::kubeconfig::of(&self.client).await?;
            let client = kubernetes::client_at(&text, Some(self.question.endpoint.as_str()).filter(|e| !e.is_empty())).await?;
            let get = async |path: &str| {
                let request = http::Request::get(path).body(Vec::new())?;
                anyhow::Ok(client.request::<Value>(request).await?)
            };
            let [nodes, pods, proxies, dns] = QUESTIONS;
            let (nodes, pods, proxies, dns) = tokio::try_join!(get(nodes), get(pods), get(proxies), get(dns))?;
            anyhow::Ok(facts(&[nodes, pods, proxies, dns]))
        };
        ask.await.map_err(|error| format!("{error:#}"))
    }

    fn outline(&self) -> Outline {
        Outline { has_etcd: true, cni_none: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(n: u8) -> Machine {
        Machine { name: format!("10.5.0.{n}"), address: format!("10.5.0.{n}"), role: Role::ControlPlane }
    }

    #[test]
    fn what_is_seen_from_outside_is_a_verdict_too() {
        let report = from_outside(vec![
            (machine(2), Reach::Refused),
            (machine(3), Reach::Silent),
            (machine(4), Reach::Unreachable { message: "no route to host".into() }),
        ]);
        assert!(!health::is_healthy(&report));
        let causes: Vec<_> = report.causes.iter().map(|c| (c.cause.as_str(), c.node.as_str())).collect();
        assert_eq!(causes, [("node gone", "10.5.0.4"), ("node frozen", "10.5.0.3"), ("machine API down", "10.5.0.2")]);
        assert!(report.causes.iter().all(|c| !c.next_step.is_empty()));
    }

    #[test]
    fn a_stream_without_a_report_is_healthy_only_when_its_lines_say_so() {
        let report = |said: &[&str]| {
            let mut lines = Lines::default();
            said.iter().for_each(|line| lines.hear(line));
            lines.report()
        };
        assert_eq!(report(&[]).unwrap_err(), "its check ended without a word");
        let etcd = "waiting for etcd to be healthy";
        let cut = report(&["waiting for apid to be ready: OK", &format!("{etcd}: ...")]).unwrap_err();
        assert_eq!(cut, "its check ended without a verdict, at etcd to be healthy: ...");
        let well =
            report(&["discovered nodes: 3", &format!("{etcd}: ..."), &format!("{etcd}: OK"), "waiting for kube-proxy: SKIP"]).unwrap();
        assert!(health::is_healthy(&well) && well.checks.len() == 1);
    }

    #[tokio::test]
    async fn a_cluster_where_nobody_listens_has_its_verdict_in_time() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let bundle = crate::verb::r#gen::new_bundle(false).unwrap();
        let config = crate::verb::r#gen::client_config("x", &bundle, vec![free.to_string()], Vec::new()).unwrap();
        let found = config.get(None).unwrap();
        let context = Context {
            endpoints: vec![free.to_string()],
            ca: found.ca_pem().into_bytes(),
            crt: found.cert_pem().into_bytes(),
            key: found.key_pem().expose().as_bytes().to_vec(),
            ..Context::default()
        };
        let question = Question { wait: Duration::from_secs(2), ..Question::default() };
        let begin = Instant::now();
        let report = ask(&context, &question, &mut |_| {}).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(8));
        assert_eq!(health::causes(&report), format!("machine API down on {free}"));
    }
}
