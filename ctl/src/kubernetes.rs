//! A client of the cluster's Kubernetes.

use std::time::Duration;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::yaml;

/// A client from a kubeconfig's text.
pub async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    client_at(kubeconfig, None).await
}

/// As [`client`], with another server than the kubeconfig names.
pub async fn client_at(kubeconfig: &str, server: Option<&str>) -> anyhow::Result<Client> {
    let mut parsed: Kubeconfig = serde_json::from_value(yaml::parse(kubeconfig)?).context("the kubeconfig")?;
    if let Some(server) = server {
        parsed.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()).for_each(|c| c.server = Some(server.to_owned()));
    }
    let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.context("the kubeconfig")?;
    config.connect_timeout = Some(Duration::from_secs(3));
    config.read_timeout = Some(Duration::from_secs(10));
    Ok(Client::try_from(config)?)
}
