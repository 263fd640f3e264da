//! `cluster.ClusterService`: the cluster's health as this node sees it, one line for each change of a check's state.

use api::cluster as pb;
use api::cluster::cluster_service_server::ClusterService;
use tonic::{Request, Response, Status};

use super::files::Stream;
use crate::machined::node::Node;

/// The service.
#[derive(Clone)]
pub(crate) struct Cluster(pub(crate) Node);

#[tonic::async_trait]
impl ClusterService for Cluster {
    type HealthCheckStream = Stream<pb::HealthCheckProgress>;

    async fn health_check(&self, _: Request<pb::HealthCheckRequest>) -> Result<Response<Self::HealthCheckStream>, Status> {
        let _ = &self.0;
        Err(Status::unimplemented(
            "health checks on the node are not there in this version of Orlop; `orlopctl health` makes them from the client",
        ))
    }
}
