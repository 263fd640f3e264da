//! The container runtime interface as Orlop uses it itself: stopping and removing pods when a node ends.
//!
//! The kubelet does all else. Only the fields we use are declared; names and numbers are `runtime.v1`'s.

use std::path::Path;
use std::time::Duration;

use prost::Message;
use tonic::transport::Channel;
use tonic::{Request, Status};

const CALL: Duration = Duration::from_secs(35);

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct SandboxId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxList {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

/// A pod's sandbox.
#[derive(Clone, PartialEq, Message)]
pub struct Sandbox {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Which pod it is.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<PodName>,
    /// 0 ready, 1 not ready.
    #[prost(int32, tag = "3")]
    pub state: i32,
}

/// Which pod.
#[derive(Clone, PartialEq, Message)]
pub struct PodName {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// UID.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// Namespace.
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// A connection to the runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    channel: Channel,
}

impl Runtime {
    /// Connects to the socket.
    ///
    /// # Errors
    /// When nothing answers there.
    pub async fn connect(socket: &Path) -> Result<Self, Status> {
        let channel = containerd_client::connect(socket).await.map_err(|e| Status::unavailable(format!("{}: {e}", socket.display())))?;
        Ok(Self { channel })
    }

    async fn call<Q: Message + 'static, A: Message + Default + 'static>(&self, method: &'static str, question: Q) -> Result<A, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let mut request = Request::new(question);
        request.set_timeout(CALL);
        let path = http::uri::PathAndQuery::from_static(method);
        let codec: tonic_prost::ProstCodec<Q, A> = tonic_prost::ProstCodec::default();
        Ok(client.unary(request, path, codec).await?.into_inner())
    }

    /// All sandboxes, also those that ended.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn sandboxes(&self) -> Result<Vec<Sandbox>, Status> {
        Ok(self.call::<_, SandboxList>("/runtime.v1.RuntimeService/ListPodSandbox", Empty {}).await?.items)
    }

    /// Stops all pods at once, and removes them when asked to.
    ///
    /// # Errors
    /// The first failure, after all were tried.
    pub async fn stop_all(&self, remove: bool) -> Result<(), Status> {
        let sandboxes = self.sandboxes().await?;
        let end = async |sandbox: &Sandbox| {
            let id = || SandboxId { id: sandbox.id.clone() };
            self.call::<_, Empty>("/runtime.v1.RuntimeService/StopPodSandbox", id()).await?;
            if remove {
                self.call::<_, Empty>("/runtime.v1.RuntimeService/RemovePodSandbox", id()).await?;
            }
            Ok::<(), Status>(())
        };
        let results = futures::future::join_all(sandboxes.iter().map(end)).await;
        results.into_iter().collect()
    }
}
