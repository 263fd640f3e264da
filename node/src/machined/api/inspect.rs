//! `inspect.InspectService`: the graph of controllers and what they read and write.

use api::inspect as pb;
use api::inspect::inspect_service_server::InspectService;
use engine::{Ownership, Strength};
use tonic::{Request, Response, Status};

use crate::machined::node::Node;

/// The service.
#[derive(Clone)]
pub(crate) struct Inspect(pub(crate) Node);

fn edges(node: &engine::Node) -> Vec<pb::ControllerDependencyEdge> {
    use pb::DependencyEdgeType as Type;
    let edge = |kind: &resource::Kind, id: Option<&str>, edge_type: Type| pb::ControllerDependencyEdge {
        controller_name: node.name.to_string(),
        edge_type: edge_type.into(),
        resource_namespace: kind.namespace.to_string(),
        resource_type: kind.type_.to_string(),
        resource_id: id.unwrap_or_default().to_owned(),
    };
    let outputs = node.outputs.iter().map(|o| match o.ownership {
        Ownership::Exclusive => edge(&o.kind, None, Type::OutputExclusive),
        Ownership::Shared => edge(&o.kind, None, Type::OutputShared),
    });
    let inputs = node.inputs.iter().map(|i| match i.strength {
        Strength::Strong => edge(&i.kind, i.id, Type::InputStrong),
        Strength::Weak => edge(&i.kind, i.id, Type::InputWeak),
    });
    outputs.chain(inputs).collect()
}

#[tonic::async_trait]
impl InspectService for Inspect {
    async fn controller_runtime_dependencies(&self, _: Request<()>) -> Result<Response<pb::ControllerRuntimeDependenciesResponse>, Status> {
        let edges = self.0.runtime.graph().nodes().iter().flat_map(edges).collect();
        let message = pb::ControllerRuntimeDependency { metadata: None, edges };
        Ok(Response::new(pb::ControllerRuntimeDependenciesResponse { messages: vec![message] }))
    }
}
