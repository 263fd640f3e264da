//! What the node does with objects inside Kubernetes: apply bootstrap manifests, label and taint
//! its node object, approve kubelets' serving certificates, cordon and drain.
//!
//! Each has a pure part that decides and a thin part that asks the API server.

pub mod apply;
pub mod csr;
pub mod drain;
pub mod meta;
pub mod status;

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use thiserror::Error;

/// How long a request to the API server may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// What went wrong with Kubernetes.
#[derive(Debug, Error)]
pub enum KubeError {
    /// The kubeconfig is unusable.
    #[error("kubeconfig is unusable: {reason}")]
    Config {
        /// Why.
        reason: String,
    },
    /// The API server did not answer in time.
    #[error("the API server did not answer `{what}` within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// What was asked.
        what: String,
    },
    /// The API server could not be reached, or refused.
    #[error("`{what}`: {source}")]
    Api {
        /// What was asked.
        what: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object that is none.
    #[error("manifest {manifest}: object {position} has no `{field}`")]
    Object {
        /// The manifest's id.
        manifest: String,
        /// Which object of it, from 1.
        position: usize,
        /// What is missing.
        field: &'static str,
    },
    /// Pods were still there when the time was over.
    #[error("{} pods were still on {node} after {seconds} s: {}", left.len(), left.join(", "))]
    Drain {
        /// The node.
        node: String,
        /// The deadline.
        seconds: u64,
        /// The pods, with why they stayed.
        left: Vec<String>,
    },
}

impl KubeError {
    pub(crate) fn api(what: impl Into<String>, source: kube::Error) -> Self {
        Self::Api { what: what.into(), source: Box::new(source) }
    }

    /// Whether the object asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. } if code(source) == Some(404))
    }

    /// Whether somebody else changed the object meanwhile.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. } if code(source) == Some(409))
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// A client from the text of a kubeconfig.
///
/// # Errors
/// [`KubeError::Config`].
pub async fn client(kubeconfig: &str) -> Result<kube::Client, KubeError> {
    client_at(kubeconfig, None).await
}

/// As [`client`], with another server than the kubeconfig names.
///
/// # Errors
/// [`KubeError::Config`].
pub async fn client_at(kubeconfig: &str, server: Option<&str>) -> Result<kube::Client, KubeError> {
    let unusable = |reason: String| KubeError::Config { reason };
    let value = crate::yaml::parse(kubeconfig).map_err(|error| unusable(error.to_string()))?;
    let mut parsed: Kubeconfig = serde_json::from_value(value).map_err(|error| unusable(error.to_string()))?;
    if let Some(server) = server {
        for cluster in parsed.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
            cluster.server = Some(server.to_owned());
        }
    }
    let mut config =
        kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.map_err(|error| unusable(error.to_string()))?;
    config.connect_timeout = Some(Duration::from_secs(5));
    kube::Client::try_from(config).map_err(|error| unusable(error.to_string()))
}

/// The text at a URL (`http` or `https`, the machine's trust anchors). Redirects are not followed.
///
/// # Errors
/// The URL is none, the server cannot be reached, or its answer is no success.
pub async fn fetch(url: &str, headers: &std::collections::BTreeMap<String, String>) -> Result<String, KubeError> {
    let unusable = |reason: String| KubeError::Config { reason: format!("URL {url:?}: {reason}") };
    let uri: http::Uri = url.parse().map_err(|error: http::uri::InvalidUri| unusable(error.to_string()))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(unusable("it has no scheme or host".to_owned()));
    };
    let base: http::Uri = format!("{scheme}://{authority}/").parse().map_err(|error: http::uri::InvalidUri| unusable(error.to_string()))?;
    let mut config = kube::Config::new(base);
    config.connect_timeout = Some(Duration::from_secs(5));
    let client = kube::Client::try_from(config).map_err(|error| unusable(error.to_string()))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = http::Request::get(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Vec::new()).map_err(|error| unusable(error.to_string()))?;
    ask(format!("fetch {url}"), client.request_text(request)).await
}

/// What the API server has at a path, as JSON.
///
/// # Errors
/// See [`KubeError`].
pub async fn get(client: &kube::Client, path: &str) -> Result<serde_json::Value, KubeError> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| KubeError::Config { reason: error.to_string() })?;
    ask(format!("get {path}"), client.request(request)).await
}

/// Removes a node's object. Returns whether it was there.
///
/// # Errors
/// See [`KubeError`].
pub async fn delete_node(client: &kube::Client, name: &str) -> Result<bool, KubeError> {
    let api: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(client.clone());
    match ask(format!("delete node {name}"), api.delete(name, &kube::api::DeleteParams::default())).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bounds one request.
pub(crate) async fn ask<T>(what: impl Into<String>, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, KubeError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(KubeError::api(what, error)),
        Err(_) => Err(KubeError::Timeout { what: what.into() }),
    }
}
