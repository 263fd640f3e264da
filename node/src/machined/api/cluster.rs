//! `cluster.ClusterService`: the cluster's health as this node sees it, one line for each change of a check's state.

use std::time::Duration;

use api::RpcStatus;
use api::cluster as pb;
use api::cluster::cluster_service_server::ClusterService;
use api::common::Metadata;
use api::health::{self, HealthReport};
use api::roles::{Role, Roles};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::files::Stream;
use crate::machined::health::{Everybody, Given};
use crate::machined::node::Node;

/// The wait of a caller that names none, as with the peer.
const DEFAULT_WAIT: Duration = Duration::from_secs(5 * 60);
/// Nobody waits longer in one call.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// So many checks run at once: each asks the whole cluster, again and again.
const AT_ONCE: usize = 4;
static CHECKS: Semaphore = Semaphore::const_new(AT_ONCE);

/// The service.
#[derive(Clone)]
pub(crate) struct Cluster(pub(crate) Node);

fn wait(request: &pb::HealthCheckRequest) -> Duration {
    let asked = request.wait_timeout.and_then(|wait| Duration::try_from(wait).ok());
    asked.unwrap_or(DEFAULT_WAIT).min(MAX_WAIT)
}

/// A place among the checks that run.
fn turn(checks: &Semaphore) -> Result<SemaphorePermit<'_>, Status> {
    checks.try_acquire().map_err(|_| Status::resource_exhausted(format!("{AT_ONCE} health checks are running here; try again later")))
}

fn given(request: pb::HealthCheckRequest) -> Given {
    let info = request.cluster_info.unwrap_or_default();
    Given { control_planes: info.control_plane_nodes, workers: info.worker_nodes, endpoint: info.force_endpoint }
}

/// The last line, with all that was found beside it for those who can read it.
fn last(report: &HealthReport) -> pb::HealthCheckProgress {
    let healthy = health::is_healthy(report);
    let message =
        if healthy { "the cluster is healthy".to_owned() } else { format!("the cluster is not healthy: {}", health::causes(report)) };
    let detail = prost_types::Any::from_msg(report).unwrap_or_default();
    let code = if healthy { Code::Ok } else { Code::FailedPrecondition };
    let status = RpcStatus { code: code.into(), message: String::new(), details: vec![detail] };
    pb::HealthCheckProgress { metadata: Some(Metadata { status: Some(status), ..Metadata::default() }), message }
}

/// What a caller hears at the end of a stream that did not end well.
fn failure(report: &HealthReport, waited: Duration) -> Status {
    let steps: Vec<String> = report
        .causes
        .iter()
        .map(|c| {
            format!(
                "{}{}: {} ({})",
                c.cause,
                if c.node.is_empty() { String::new() } else { format!(" on {}", c.node) },
                c.found,
                c.next_step
            )
        })
        .collect();
    Status::failed_precondition(format!("not healthy within {} s: {}", waited.as_secs(), steps.join("; ")))
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    type HealthCheckStream = Stream<pb::HealthCheckProgress>;

    async fn health_check(&self, request: Request<pb::HealthCheckRequest>) -> Result<Response<Self::HealthCheckStream>, Status> {
        if !self.0.is_control_plane() {
            return Err(Status::failed_precondition(
                "this node is a worker, which may not ask other nodes; ask a control plane: give the address of one with --nodes",
            ));
        }
        let admin = request.extensions().get::<Roles>().is_some_and(|roles| roles.has(Role::Admin));
        let request = request.into_inner();
        let wait = wait(&request);
        let everybody = Everybody::new(&self.0.store, given(request), admin)?;
        let turn = turn(&CHECKS)?;
        // Lines of a client that does not read them are few; it must not keep the check from ending.
        let (sender, receiver) = mpsc::channel(1024);
        tokio::spawn(async move {
            let _turn = turn;
            let lines = sender.clone();
            let mut tell = |message| drop(lines.try_send(Ok(pb::HealthCheckProgress { metadata: None, message })));
            let report = tokio::select! {
                report = health::run(&everybody, wait, &mut tell) => report,
                () = sender.closed() => return,
            };
            let _ = sender.send(Ok(last(&report))).await;
            if !health::is_healthy(&report) {
                let _ = sender.send(Err(failure(&report, wait))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[cfg(test)]
mod tests {
    use api::health::{HealthFinding, HealthVerdict, State};

    use super::*;

    #[test]
    fn the_last_line_carries_the_report_and_the_end_names_the_causes() {
        let finding =
            HealthFinding { node: "w-1".into(), cause: "disk full".into(), found: "0 MiB left".into(), next_step: "free space".into() };
        let check = HealthVerdict {
            check: "all nodes disk sizes".into(),
            state: State::Fail.into(),
            failures: vec![finding.clone()],
            ..HealthVerdict::default()
        };
        let report = HealthReport { checks: vec![check], causes: vec![finding] };
        let line = last(&report);
        assert_eq!(line.message, "the cluster is not healthy: disk full on w-1");
        let metadata = line.metadata.unwrap();
        // A client of the peer takes a text there for the failure of a node.
        assert_eq!(metadata.error, "");
        let detail = metadata.status.unwrap().details.remove(0);
        assert_eq!(detail.to_msg::<HealthReport>().unwrap(), report);
        let status = failure(&report, Duration::from_secs(11));
        assert_eq!(status.message(), "not healthy within 11 s: disk full on w-1: 0 MiB left (free space)");
    }

    #[test]
    fn a_check_too_many_is_refused_until_one_ends() {
        let checks = Semaphore::new(AT_ONCE);
        let mut turns: Vec<_> = (0..AT_ONCE).map(|_| turn(&checks).unwrap()).collect();
        assert_eq!(turn(&checks).unwrap_err().code(), Code::ResourceExhausted);
        turns.pop();
        assert!(turn(&checks).is_ok());
    }

    #[test]
    fn the_wait_is_the_callers_within_reason() {
        let asked =
            |seconds| pb::HealthCheckRequest { wait_timeout: Some(prost_types::Duration { seconds, nanos: 0 }), cluster_info: None };
        assert_eq!(wait(&asked(11)), Duration::from_secs(11));
        assert_eq!(wait(&asked(i64::MAX)), MAX_WAIT);
        assert_eq!(wait(&asked(-1)), DEFAULT_WAIT);
        assert_eq!(wait(&pb::HealthCheckRequest::default()), DEFAULT_WAIT);
    }
}
