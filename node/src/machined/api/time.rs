//! `time.TimeService`: the node's clock.

use api::time as pb;
use api::time::time_service_server::TimeService;
use tonic::{Request, Response, Status};

use crate::machined::node::Node;

/// The service.
#[derive(Clone)]
pub(crate) struct Time(pub(crate) Node);

fn now() -> Option<prost_types::Timestamp> {
    let now = jiff::Timestamp::now();
    Some(prost_types::Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond() })
}

#[tonic::async_trait]
impl TimeService for Time {
    /// A container node's clock is its host's; there is no server to ask, so its own time stands on both sides.
    async fn time(&self, _: Request<()>) -> Result<Response<pb::TimeResponse>, Status> {
        let servers = self.0.time_servers.get("timeservers").map(|s| s.spec.time_servers.clone()).unwrap_or_default();
        let server = servers.into_iter().next().unwrap_or_else(|| "host".into());
        let message = pb::Time { metadata: None, server, localtime: now(), remotetime: now() };
        Ok(Response::new(pb::TimeResponse { messages: vec![message] }))
    }

    async fn time_check(&self, request: Request<pb::TimeRequest>) -> Result<Response<pb::TimeResponse>, Status> {
        let server = &request.get_ref().server;
        Err(Status::unimplemented(format!("asking time server {server:?} is not there in this version of Orlop")))
    }
}
