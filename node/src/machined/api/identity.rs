//! What the node says of itself and who may speak to it: its version, and configurations for clients.

use std::time::Duration;

use api::common::Data;
use api::machine as pb;
use model::cluster::OsRootSecret;
use model::config::client::{ClientConfig, Context, context_name};
use model::kube::KubernetesSecret;
use pki::{Ca, Roles, profile};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::files::Stream;
use crate::machined::node::Node;

/// The interface level that clients gate features on, with our own version as build metadata.
pub(crate) const TAG: &str = concat!("v1.15.0+orlop.", env!("CARGO_PKG_VERSION"));

/// The version.
pub(super) fn version(node: &Node) -> pb::Version {
    let info = pb::VersionInfo {
        tag: TAG.into(),
        sha: option_env!("ORLOP_SHA").unwrap_or("undefined").into(),
        built: String::new(),
        go_version: String::new(),
        os: "linux".into(),
        arch: if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }.into(),
    };
    pb::Version {
        metadata: None,
        version: Some(info),
        platform: Some(pb::PlatformInfo { name: "container".into(), mode: "container".into() }),
        features: Some(pb::FeaturesInfo { rbac: node.config().is_some() }),
    }
}

/// The admin's kubeconfig, as a gzipped tar of one file.
pub(super) fn kubeconfig(node: &Node) -> Result<Stream<Data>, Status> {
    let secrets = node.store.kind::<KubernetesSecret>().get("k8s-certs");
    let text = secrets.map(|s| s.spec.admin_kubeconfig.clone()).filter(|text| !text.is_empty());
    let text = text
        .ok_or_else(|| Status::failed_precondition("this node has no admin kubeconfig: ask a control plane whose certificates are made"))?;
    let archive = || -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, "kubeconfig", text.as_bytes())?;
        archive.into_inner()?.finish()
    };
    let bytes = archive().map_err(|e| Status::internal(e.to_string()))?;
    let (sender, receiver) = mpsc::channel(1);
    // The one item fits the channel.
    let _ = sender.try_send(Ok(Data { metadata: None, bytes }));
    Ok(ReceiverStream::new(receiver))
}

/// A client configuration with the roles asked for.
pub(super) fn client_configuration(
    node: &Node,
    request: &pb::GenerateClientConfigurationRequest,
) -> Result<pb::GenerateClientConfiguration, Status> {
    let internal = |e: pki::Error| Status::internal(e.to_string());
    let root = node.store.kind::<OsRootSecret>().get("os");
    let pair = root.as_ref().and_then(|r| r.spec.issuing_ca.clone());
    let pair = pair.ok_or_else(|| Status::unimplemented("client configuration (talosconfig) can be generated on control planes only"))?;
    let ca_text = String::from_utf8_lossy(&pair.crt).into_owned();
    let ca = Ca::from_pem(&ca_text, &String::from_utf8_lossy(&pair.key)).map_err(internal)?;
    let (roles, unknown) = Roles::parse(request.roles.iter().map(String::as_str));
    if !unknown.is_empty() {
        return Err(Status::invalid_argument(format!("unknown roles: {}", unknown.join(", "))));
    }
    let lifetime = request.crt_ttl.and_then(|d| Duration::try_from(d).ok()).filter(|d| !d.is_zero());
    let lifetime = lifetime.ok_or_else(|| Status::invalid_argument("the certificate's lifetime must be longer than nothing"))?;
    let issued = ca.issue(&profile::api_client(&roles, lifetime), jiff::Timestamp::now()).map_err(internal)?;
    let accepted: String =
        root.iter().flat_map(|r| &r.spec.accepted_cas).map(|c| String::from_utf8_lossy(&c.crt).trim_end().to_owned() + "\n").collect();
    let config = node.config();
    let cluster = config.as_ref().and_then(|c| c.spec.machine()).map(|m| m.cluster_name().to_owned()).unwrap_or_default();
    let context = Context::from_pem(&accepted, &issued.cert, &issued.key);
    let talosconfig = ClientConfig::single(&context_name(&cluster, &request.roles), context).encode();
    Ok(pb::GenerateClientConfiguration {
        metadata: None,
        ca: accepted.into_bytes(),
        crt: issued.cert.into_bytes(),
        key: issued.key.as_bytes().to_vec(),
        talosconfig: talosconfig.into_bytes(),
    })
}
