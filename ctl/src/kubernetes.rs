//! The cluster's Kubernetes as the CLI needs it: are nodes Ready, does CoreDNS run, removing a node's object.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// A client from a kubeconfig's text.
pub async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let parsed = Kubeconfig::from_yaml(kubeconfig).context("the kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.context("the kubeconfig")?;
    config.connect_timeout = Some(Duration::from_secs(3));
    config.read_timeout = Some(Duration::from_secs(10));
    Ok(Client::try_from(config)?)
}

/// Whether a node's kubelet says it is ready.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// What is still missing until all these nodes are Ready and cluster DNS runs; nothing when all is well.
pub async fn missing(client: &Client, nodes: &[String]) -> anyhow::Result<Vec<String>> {
    let found = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?.items;
    let mut missing = Vec::new();
    for name in nodes {
        match found.iter().find(|n| n.metadata.name.as_deref() == Some(name)) {
            Some(node) if is_ready(node) => {}
            Some(_) => missing.push(format!("node {name} to be Ready")),
            None => missing.push(format!("node {name} to register")),
        }
    }
    let dns = Api::<Deployment>::namespaced(client.clone(), "kube-system").get_opt("coredns").await?;
    match dns.and_then(|d| d.status) {
        Some(status) if status.available_replicas.unwrap_or_default() > 0 => {}
        Some(_) => missing.push("CoreDNS to run".into()),
        None => missing.push("CoreDNS to be deployed".into()),
    }
    Ok(missing)
}

/// Removes the object of a node that is gone, without asking it.
pub async fn forget_node(client: &Client, name: &str) -> anyhow::Result<()> {
    match Api::<Node>::all(client.clone()).delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop).map_err(Into::into),
    }
}
