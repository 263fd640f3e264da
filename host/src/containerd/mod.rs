//! containerd as Orlop uses it for its service containers: pull, create, start, signal, wait, remove, list.
//!
//! Pods are the kubelet's, through CRI; this is for what Orlop itself runs (etcd, the kubelet). Each call has a deadline.

pub mod config;
pub mod oci;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{PrepareSnapshotRequest, RemoveSnapshotRequest};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::transfer_client::TransferClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest, DeleteTaskRequest, GetContainerRequest, GetImageRequest,
    GetRequest, KillRequest, ListContainersRequest, ReadContentRequest, StartRequest, TransferRequest, WaitRequest, container,
};
use containerd_client::types::Platform;
use containerd_client::types::transfer::{ImageStore, OciRegistry, RegistryResolver, UnpackConfiguration};
use containerd_client::types::v1::Status as TaskStatus;
use prost::Message as _;
use prost_types::Any;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// The namespace of service containers.
pub const SYSTEM: &str = "system";
/// The namespace of pods.
pub const KUBERNETES: &str = "k8s.io";
/// How layers become a root file system.
const SNAPSHOTTER: &str = "erofs";
/// The runtime.
const RUNTIME: &str = "io.containerd.runc.v2";
/// The cgroup of all shims, so that stopping containerd leaves them alone.
const SHIM_CGROUP: &str = "/podruntime/shim";
/// Label that holds the hash of the specification a container was made from.
const HASH_LABEL: &str = "orlop.dev/spec-hash";
/// Time for a call that does not move image data.
const CALL: Duration = Duration::from_secs(20);
/// Time for a pull.
const PULL: Duration = Duration::from_secs(300);

/// Why containerd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket does not answer.
    #[error("containerd does not answer at {path}: {source}", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the transport says.
        source: tonic::transport::Error,
    },
    /// containerd refused a call.
    #[error("containerd could not {what}: {message}")]
    Call {
        /// What it was asked.
        what: String,
        /// What it answered.
        message: String,
        /// The gRPC code.
        code: Code,
    },
    /// An image's manifest or configuration is not what the OCI format asks for.
    #[error("image {image}: {reason}")]
    Image {
        /// The image.
        image: String,
        /// What was found.
        reason: String,
    },
}

impl Error {
    fn call(what: impl Into<String>, status: &Status) -> Self {
        Self::Call { what: what.into(), message: status.message().to_owned(), code: status.code() }
    }

    /// Whether the thing asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Call { code: Code::NotFound, .. })
    }

    fn is_already_exists(&self) -> bool {
        matches!(self, Self::Call { code: Code::AlreadyExists, .. })
    }
}

/// runc's options in containerd's `containerd.runc.v1.Options`; only what we set.
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    #[prost(string, tag = "3")]
    shim_cgroup: String,
}

/// A service container that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// The hash of the specification it was made from.
    pub hash: Option<u64>,
    /// Its process when it runs.
    pub pid: Option<u32>,
}

/// A connection to containerd. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Containerd {
    channel: Channel,
    namespace: &'static str,
}

impl Containerd {
    /// Connects to the socket.
    ///
    /// # Errors
    /// [`Error::Connect`] when nothing answers there.
    pub async fn connect(path: &Path, namespace: &'static str) -> Result<Self, Error> {
        let channel = containerd_client::connect(path).await.map_err(|source| Error::Connect { path: path.to_owned(), source })?;
        Ok(Self { channel, namespace })
    }

    /// The same connection for another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &'static str) -> Self {
        Self { channel: self.channel.clone(), namespace }
    }

    /// The connection, for clients of services that this type does not wrap.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Wraps a message for this namespace, with a deadline.
    pub fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        if let Ok(value) = self.namespace.parse() {
            request.metadata_mut().insert("containerd-namespace", value);
        }
        request
    }

    /// Makes an image usable: from the node's cache where it holds it, else from its registry.
    ///
    /// # Errors
    /// When no registry has it or unpacking fails.
    pub async fn pull(&self, reference: &str) -> Result<(), Error> {
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new(), os_version: String::new() };
        let source = OciRegistry {
            reference: reference.to_owned(),
            resolver: Some(RegistryResolver { host_dir: "/etc/cri/conf.d/hosts".into(), ..RegistryResolver::default() }),
        };
        let destination = ImageStore {
            name: reference.to_owned(),
            platforms: vec![platform.clone()],
            unpacks: vec![UnpackConfiguration { platform: Some(platform), snapshotter: SNAPSHOTTER.into() }],
            ..ImageStore::default()
        };
        let transfer = TransferRequest {
            source: Some(Any { type_url: "containerd.types.transfer.OCIRegistry".into(), value: source.encode_to_vec() }),
            destination: Some(Any { type_url: "containerd.types.transfer.ImageStore".into(), value: destination.encode_to_vec() }),
            options: None,
        };
        let mut client = TransferClient::new(self.channel.clone());
        client.transfer(self.request(transfer, PULL)).await.map_err(|s| Error::call(format!("pull {reference}"), &s))?;
        Ok(())
    }

    /// Whether the image is in containerd's store.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn has_image(&self, reference: &str) -> Result<bool, Error> {
        let mut client = ImagesClient::new(self.channel.clone());
        match client.get(self.request(GetImageRequest { name: reference.to_owned() }, CALL)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(Error::call(format!("look up image {reference}"), &status)),
        }
    }

    async fn json(&self, digest: &str) -> Result<Value, Error> {
        let mut client = ContentClient::new(self.channel.clone());
        let what = || format!("read {digest}");
        let request = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let mut stream = client.read(self.request(request, CALL)).await.map_err(|s| Error::call(what(), &s))?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = stream.message().await.map_err(|s| Error::call(what(), &s))? {
            bytes.extend_from_slice(&part.data);
        }
        serde_json::from_slice(&bytes).map_err(|e| Error::Image { image: digest.to_owned(), reason: format!("is not JSON: {e}") })
    }

    /// The image's configuration, and the chain id of its layers, which names its snapshot.
    async fn image(&self, reference: &str) -> Result<(oci::ImageConfig, String), Error> {
        let bad = |reason: &str| Error::Image { image: reference.to_owned(), reason: reason.to_owned() };
        let mut client = ImagesClient::new(self.channel.clone());
        let found = client.get(self.request(GetImageRequest { name: reference.to_owned() }, CALL)).await;
        let found = found.map_err(|s| Error::call(format!("look up image {reference}"), &s))?.into_inner();
        let target = found.image.and_then(|i| i.target).ok_or_else(|| bad("has no manifest"))?;
        let mut manifest = self.json(&target.digest).await?;
        if let Some(entries) = manifest["manifests"].as_array() {
            let ours = entries.iter().find(|m| m["platform"]["architecture"] == "amd64" && m["platform"]["os"] == "linux");
            let digest =
                ours.or(entries.first()).and_then(|m| m["digest"].as_str()).ok_or_else(|| bad("has no manifest for linux/amd64"))?;
            manifest = self.json(digest).await?;
        }
        let config = self.json(manifest["config"]["digest"].as_str().ok_or_else(|| bad("its manifest names no configuration"))?).await?;
        let diffs: Vec<&str> = config["rootfs"]["diff_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let chain = chain_id(&diffs).ok_or_else(|| bad("has no layers"))?;
        let strings = |v: &Value| v.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let run = &config["config"];
        let image = oci::ImageConfig {
            entrypoint: strings(&run["Entrypoint"]),
            cmd: strings(&run["Cmd"]),
            env: strings(&run["Env"]),
            working_dir: run["WorkingDir"].as_str().unwrap_or_default().to_owned(),
        };
        Ok((image, chain))
    }

    /// Creates and starts a service container; what was there under its id must be gone ([`Self::remove`]). Returns its process.
    ///
    /// # Errors
    /// When the image is missing, or containerd or runc refuse.
    pub async fn run(&self, id: &str, hash: u64, with: &oci::Parameters<'_>) -> Result<u32, Error> {
        let reference = &with.container.image;
        let (image, parent) = self.image(reference).await?;
        let spec = oci::runtime_spec(&image, with);
        let key = format!("orlop-{id}");
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        let prepare = PrepareSnapshotRequest { snapshotter: SNAPSHOTTER.into(), key: key.clone(), parent, labels: HashMap::new() };
        let rootfs =
            snapshots.prepare(self.request(prepare, CALL)).await.map_err(|s| Error::call(format!("prepare the root of {id}"), &s))?;
        let options =
            Any { type_url: "containerd.runc.v1.Options".into(), value: RuncOptions { shim_cgroup: SHIM_CGROUP.into() }.encode_to_vec() };
        let container = Container {
            id: id.to_owned(),
            labels: HashMap::from([(HASH_LABEL.to_owned(), format!("{hash:016x}"))]),
            image: reference.clone(),
            runtime: Some(container::Runtime { name: RUNTIME.into(), options: Some(options.clone()) }),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".into(),
                value: spec.to_string().into_bytes(),
            }),
            snapshotter: SNAPSHOTTER.into(),
            snapshot_key: key,
            ..Container::default()
        };
        let mut containers = ContainersClient::new(self.channel.clone());
        let request = CreateContainerRequest { container: Some(container) };
        containers.create(self.request(request, CALL)).await.map_err(|s| Error::call(format!("create container {id}"), &s))?;
        let log = format!("binary:///usr/bin/orlop-log?service={id}");
        let task = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs: rootfs.into_inner().mounts,
            stdout: log.clone(),
            stderr: log,
            options: Some(options),
            ..CreateTaskRequest::default()
        };
        let mut tasks = TasksClient::new(self.channel.clone());
        let created = tasks.create(self.request(task, CALL)).await.map_err(|s| Error::call(format!("create the process of {id}"), &s))?;
        let start = StartRequest { container_id: id.to_owned(), exec_id: String::new() };
        tasks.start(self.request(start, CALL)).await.map_err(|s| Error::call(format!("start {id}"), &s))?;
        Ok(created.into_inner().pid)
    }

    /// Sends a signal to a container's main process, or to all of its processes. A container without a process is no error.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn signal(&self, id: &str, signal: u32, all: bool) -> Result<(), Error> {
        let mut tasks = TasksClient::new(self.channel.clone());
        let request = KillRequest { container_id: id.to_owned(), exec_id: String::new(), signal, all };
        match tasks.kill(self.request(request, CALL)).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(Error::call(format!("send signal {signal} to {id}"), &status)),
        }
    }

    /// Waits until the container's main process ended; its exit code. Only the caller's drop ends the wait otherwise.
    ///
    /// # Errors
    /// When there is no such process or containerd went away.
    pub async fn wait(&self, id: &str) -> Result<u32, Error> {
        let mut tasks = TasksClient::new(self.channel.clone());
        let mut request = Request::new(WaitRequest { container_id: id.to_owned(), exec_id: String::new() });
        if let Ok(value) = self.namespace.parse() {
            request.metadata_mut().insert("containerd-namespace", value);
        }
        let ended = tasks.wait(request).await.map_err(|s| Error::call(format!("wait for {id}"), &s))?;
        Ok(ended.into_inner().exit_status)
    }

    /// Removes what is left of a container that does not run (its process record, container and snapshot). Nothing there is no error.
    ///
    /// # Errors
    /// When it still runs or containerd does not answer.
    pub async fn remove(&self, id: &str) -> Result<(), Error> {
        let gone = |result: Result<(), Error>| match result {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        };
        let mut tasks = TasksClient::new(self.channel.clone());
        let request = self.request(DeleteTaskRequest { container_id: id.to_owned() }, CALL);
        gone(tasks.delete(request).await.map(|_| ()).map_err(|s| Error::call(format!("remove the process of {id}"), &s)))?;
        let mut containers = ContainersClient::new(self.channel.clone());
        let request = self.request(DeleteContainerRequest { id: id.to_owned() }, CALL);
        gone(containers.delete(request).await.map(|_| ()).map_err(|s| Error::call(format!("remove container {id}"), &s)))?;
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        let request = self.request(RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.into(), key: format!("orlop-{id}") }, CALL);
        gone(snapshots.remove(request).await.map(|_| ()).map_err(|s| Error::call(format!("remove the root of {id}"), &s)))
    }

    /// The container with this id, if there is one.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn find(&self, id: &str) -> Result<Option<Found>, Error> {
        let mut containers = ContainersClient::new(self.channel.clone());
        let labels = match containers.get(self.request(GetContainerRequest { id: id.to_owned() }, CALL)).await {
            Ok(answer) => answer.into_inner().container.unwrap_or_default().labels,
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(Error::call(format!("look up container {id}"), &status)),
        };
        let hash = labels.get(HASH_LABEL).and_then(|text| u64::from_str_radix(text, 16).ok());
        Ok(Some(Found { id: id.to_owned(), hash, pid: self.task_pid(id).await? }))
    }

    /// The process of a container, when it runs.
    async fn task_pid(&self, id: &str) -> Result<Option<u32>, Error> {
        let mut tasks = TasksClient::new(self.channel.clone());
        match tasks.get(self.request(GetRequest { container_id: id.to_owned(), exec_id: String::new() }, CALL)).await {
            Ok(answer) => {
                let process = answer.into_inner().process.unwrap_or_default();
                let alive = matches!(process.status(), TaskStatus::Running | TaskStatus::Created | TaskStatus::Paused);
                Ok(alive.then_some(process.pid))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(Error::call(format!("look up the process of {id}"), &status)),
        }
    }

    /// All containers of the namespace, as containerd holds them.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn containers(&self) -> Result<Vec<Container>, Error> {
        let mut client = ContainersClient::new(self.channel.clone());
        let answer =
            client.list(self.request(ListContainersRequest::default(), CALL)).await.map_err(|s| Error::call("list containers", &s))?;
        Ok(answer.into_inner().containers)
    }

    /// Creates the namespace, once.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn ensure_namespace(&self) -> Result<(), Error> {
        use containerd_client::services::v1::namespaces_client::NamespacesClient;
        use containerd_client::services::v1::{CreateNamespaceRequest, Namespace};
        let mut client = NamespacesClient::new(self.channel.clone());
        let namespace = Namespace { name: self.namespace.to_owned(), labels: HashMap::new() };
        let result = client.create(self.request(CreateNamespaceRequest { namespace: Some(namespace) }, CALL)).await;
        match result.map_err(|s| Error::call(format!("create namespace {}", self.namespace), &s)) {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }
}

/// The chain id of layers, bottom first, as the OCI image format defines it; `None` without layers.
fn chain_id(diff_ids: &[&str]) -> Option<String> {
    let (first, rest) = diff_ids.split_first()?;
    Some(rest.iter().fold((*first).to_owned(), |chain, diff| format!("sha256:{}", hex::encode(Sha256::digest(format!("{chain} {diff}"))))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_is_its_own_chain() {
        assert_eq!(chain_id(&["sha256:aa"]).as_deref(), Some("sha256:aa"));
        assert_eq!(chain_id(&[]), None);
    }

    #[test]
    fn two_layers_hash_their_ids_joined_by_a_space() {
        // printf 'sha256:aa sha256:bb' | sha256sum
        let expected = "sha256:b68ad689d6d1ec110ea1c13617437ad6f3766d4b3b309f6a603a222e07a0164f";
        assert_eq!(chain_id(&["sha256:aa", "sha256:bb"]).as_deref(), Some(expected));
    }
}
