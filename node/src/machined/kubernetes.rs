//! Kubernetes as a control plane itself asks it: its own API server first, then any through the load balancer.

use std::future::Future;
use std::time::Duration;

use engine::Store;
use kube_room::objects::{self, KubeError};
use model::health::KubeFacts;
use model::health::kubernetes::{QUESTIONS, facts};
use model::kube::{KubePrismConfig, KubernetesSecret};
use serde_json::Value;

/// Time for the own API server, which may hang: half of what the whole question has.
const OWN: Duration = Duration::from_secs(2);

/// Asks `question` of the own API server, then through the load balancer; or of `server` alone.
async fn with_client<T, F>(store: &Store, server: Option<&str>, question: impl Fn(kube::Client) -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, KubeError>>,
{
    let secrets = store.kind::<KubernetesSecret>().get("k8s-certs").ok_or("this node has no certificates for Kubernetes yet")?;
    let kubeconfig = &secrets.spec.localhost_admin_kubeconfig;
    let ask = async |server: Option<&str>| {
        let client = objects::client_at(kubeconfig, server).await.map_err(|e| e.to_string())?;
        question(client).await.map_err(|e| e.to_string())
    };
    if server.is_some() {
        return ask(server).await;
    }
    let late = |_| Err(format!("the API server of this node gave no answer within {} s", OWN.as_secs()));
    let own = tokio::time::timeout(OWN, ask(None)).await.unwrap_or_else(late);
    let prism = store.kind::<KubePrismConfig>().list();
    match (own, prism.iter().next()) {
        (Err(own), Some(prism)) => {
            let through = format!("https://{}:{}", prism.spec.host, prism.spec.port);
            ask(Some(&through)).await.map_err(|other| if own == other { own } else { format!("{own}; through {through}: {other}") })
        }
        (own, _) => own,
    }
}

/// What a health check wants to know of it.
pub(super) async fn look(store: &Store, server: Option<&str>) -> Result<KubeFacts, String> {
    let question = |client: kube::Client| async move {
        let [nodes, pods, proxies, dns] = QUESTIONS;
        let ask = |path| objects::get(&client, path);
        let (nodes, pods, proxies, dns) = tokio::try_join!(ask(nodes), ask(pods), ask(proxies), ask(dns))?;
        Ok(facts(&[nodes, pods, proxies, dns]))
    };
    with_client(store, server, question).await
}

/// A node's object, if there is one.
pub(super) async fn find_node(store: &Store, name: &str) -> Result<Option<Value>, String> {
    // No other name leads to a node's object, and some lead elsewhere.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')) || name.starts_with('.') {
        return Ok(None);
    }
    let path = format!("/api/v1/nodes/{name}");
    let question = |client: kube::Client| {
        let path = path.clone();
        async move {
            match objects::get(&client, &path).await {
                Ok(node) => Ok(Some(node)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        }
    };
    with_client(store, None, question).await
}

/// Removes a node's object. Returns whether it was there.
pub(super) async fn delete_node(store: &Store, name: &str) -> Result<bool, String> {
    with_client(store, None, |client| async move { objects::delete_node(&client, name).await }).await
}
