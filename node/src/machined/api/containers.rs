//! Containers as containerd holds them: the service containers, and those of pods.

use std::path::Path;
use std::time::Duration;

use api::common::ContainerDriver;
use api::machine as pb;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{Container, ListTasksRequest, MetricsRequest};
use containerd_client::types::v1::{Process, Status as TaskStatus};
use host::containerd::{Containerd, KUBERNETES, SYSTEM};
use tonic::Status;

const CALL: Duration = Duration::from_secs(10);

const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_NAME: &str = "io.kubernetes.pod.name";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const POD_UID: &str = "io.kubernetes.pod.uid";

/// The namespace that a request means: clients name either the namespace or the driver.
fn namespace(name: &str, driver: ContainerDriver) -> &'static str {
    if driver == ContainerDriver::Cri || name == KUBERNETES { KUBERNETES } else { SYSTEM }
}

async fn connect(socket: &Path, name: &str, driver: ContainerDriver) -> Result<Containerd, Status> {
    Containerd::connect(socket, namespace(name, driver)).await.map_err(|e| Status::unavailable(e.to_string()))
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

async fn processes(containerd: &Containerd) -> Result<Vec<Process>, Status> {
    let mut tasks = TasksClient::new(containerd.channel());
    Ok(tasks.list(containerd.request(ListTasksRequest::default(), CALL)).await?.into_inner().tasks)
}

/// A container's place in Kubernetes: (pod as `namespace/name`, container), where the container is empty for the pod's sandbox.
fn place(container: &Container) -> Option<(String, String)> {
    let label = |key: &str| container.labels.get(key).cloned();
    let pod = format!("{}/{}", label(POD_NAMESPACE)?, label(POD_NAME)?);
    Some((pod, label(CONTAINER_NAME).unwrap_or_default()))
}

/// The id a client sees: `namespace/pod` for a sandbox, `namespace/pod:container:id` for what runs in it, the id itself elsewhere.
fn display_id(container: &Container) -> String {
    match place(container) {
        None => container.id.clone(),
        Some((pod, name)) if name.is_empty() => pod,
        Some((pod, name)) => format!("{pod}:{name}:{}", container.id.get(..12).unwrap_or(&container.id)),
    }
}

fn status(process: Option<&Process>) -> &'static str {
    match process.map(Process::status) {
        Some(TaskStatus::Running) => "RUNNING",
        Some(TaskStatus::Created) => "CREATED",
        Some(TaskStatus::Paused | TaskStatus::Pausing) => "PAUSED",
        Some(TaskStatus::Stopped) | None => "STOPPED",
        Some(TaskStatus::Unknown) => "UNKNOWN",
    }
}

fn info(container: &Container, process: Option<&Process>, namespace: &str) -> pb::ContainerInfo {
    let (pod, name) = place(container).unwrap_or_else(|| (container.id.clone(), container.id.clone()));
    let kubernetes = namespace == KUBERNETES;
    let display = if kubernetes && name.is_empty() { pod.clone() } else { name };
    pb::ContainerInfo {
        namespace: namespace.to_owned(),
        id: display_id(container),
        uid: container.labels.get(POD_UID).cloned().unwrap_or_default(),
        internal_id: container.id.clone(),
        image: container.image.clone(),
        pid: process.map(|p| p.pid).unwrap_or_default(),
        status: if kubernetes && process.is_some_and(|p| p.status() == TaskStatus::Running) {
            "CONTAINER_RUNNING".into()
        } else {
            status(process).into()
        },
        pod_id: pod,
        name: display,
        network_namespace: String::new(),
    }
}

/// The containers of a namespace, pods before what is in them.
pub(super) async fn list(socket: &Path, request: &pb::ContainersRequest) -> Result<Vec<pb::ContainerInfo>, Status> {
    let name = namespace(&request.namespace, request.driver());
    let containerd = connect(socket, &request.namespace, request.driver()).await?;
    let (containers, processes) = (containerd.containers().await.map_err(internal)?, processes(&containerd).await?);
    let mut infos: Vec<_> = containers.iter().map(|c| info(c, processes.iter().find(|p| p.id == c.id), name)).collect();
    infos.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(infos)
}

/// CPU time in nanoseconds and memory in bytes of each running container, from its cgroup.
pub(super) async fn stats(socket: &Path, request: &pb::StatsRequest) -> Result<Vec<pb::Stat>, Status> {
    let name = namespace(&request.namespace, request.driver());
    let containerd = connect(socket, &request.namespace, request.driver()).await?;
    let containers = containerd.containers().await.map_err(internal)?;
    let mut tasks = TasksClient::new(containerd.channel());
    let metrics = tasks.metrics(containerd.request(MetricsRequest::default(), CALL)).await?.into_inner().metrics;
    let mut stats: Vec<pb::Stat> = metrics
        .into_iter()
        .filter_map(|metric| {
            let container = containers.iter().find(|c| c.id == metric.id)?;
            let usage = metric.data.map(|any| Usage::decode_any(&any.type_url, &any.value)).unwrap_or_default();
            let info = info(container, None, name);
            Some(pb::Stat {
                namespace: name.into(),
                id: info.id,
                memory_usage: usage.memory,
                cpu_usage: usage.cpu,
                pod_id: info.pod_id,
                name: info.name,
            })
        })
        .collect();
    stats.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(stats)
}

/// What we read of a container's metrics.
#[derive(Debug, Default, PartialEq, Eq)]
struct Usage {
    /// CPU time, in nanoseconds.
    cpu: u64,
    /// Memory, in bytes.
    memory: u64,
}

impl Usage {
    /// Reads `io.containerd.cgroups.v1.Metrics` or `…v2.Metrics`; only the two numbers, by their field numbers.
    fn decode_any(type_url: &str, bytes: &[u8]) -> Self {
        use prost::Message;
        #[derive(Clone, PartialEq, Message)]
        struct V1 {
            #[prost(message, optional, tag = "3")]
            cpu: Option<V1Cpu>,
            #[prost(message, optional, tag = "4")]
            memory: Option<V1Memory>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct V1Cpu {
            #[prost(message, optional, tag = "1")]
            usage: Option<First>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct V1Memory {
            #[prost(message, optional, tag = "33")]
            usage: Option<Second>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct First {
            #[prost(uint64, tag = "1")]
            value: u64,
        }
        #[derive(Clone, PartialEq, Message)]
        struct Second {
            #[prost(uint64, tag = "2")]
            value: u64,
        }
        #[derive(Clone, PartialEq, Message)]
        struct V2 {
            #[prost(message, optional, tag = "2")]
            cpu: Option<First>,
            #[prost(message, optional, tag = "4")]
            memory: Option<V2Memory>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct V2Memory {
            #[prost(uint64, tag = "32")]
            usage: u64,
        }
        if type_url.contains("cgroups.v1") {
            let metrics = V1::decode(bytes).unwrap_or_default();
            let cpu = metrics.cpu.and_then(|c| c.usage).unwrap_or_default().value;
            return Self { cpu, memory: metrics.memory.and_then(|m| m.usage).unwrap_or_default().value };
        }
        let metrics = V2::decode(bytes).unwrap_or_default();
        // Version 2 counts microseconds.
        Self { cpu: metrics.cpu.unwrap_or_default().value * 1000, memory: metrics.memory.unwrap_or_default().usage }
    }
}

/// Ends a container's process; what runs it starts it again.
pub(super) async fn restart(socket: &Path, request: &pb::RestartRequest) -> Result<(), Status> {
    let containerd = connect(socket, &request.namespace, request.driver()).await?;
    let containers = containerd.containers().await.map_err(internal)?;
    let found = containers.iter().find(|c| c.id == request.id || display_id(c) == request.id);
    let container = found.ok_or_else(|| Status::not_found(format!("container {:?} is not there", request.id)))?;
    containerd.signal(&container.id, 15, false).await.map_err(internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn pod(name: Option<&str>) -> Container {
        let mut labels =
            HashMap::from([(POD_NAMESPACE.to_owned(), "kube-system".to_owned()), (POD_NAME.to_owned(), "coredns-1".to_owned())]);
        labels.extend(name.map(|n| (CONTAINER_NAME.to_owned(), n.to_owned())));
        Container { id: "0123456789abcdef".into(), labels, ..Container::default() }
    }

    #[test]
    fn pods_are_named_by_where_they_stand() {
        assert_eq!(display_id(&pod(None)), "kube-system/coredns-1");
        assert_eq!(display_id(&pod(Some("coredns"))), "kube-system/coredns-1:coredns:0123456789ab");
        assert_eq!(display_id(&Container { id: "etcd".into(), ..Container::default() }), "etcd");
    }

    #[test]
    fn metrics_of_both_cgroup_versions_are_read() {
        // cpu { usage { total: 5 } } memory { usage { usage: 7 } } by the field numbers of containerd's cgroup1 metrics.
        let v1 = [0x1a, 4, 0x0a, 2, 0x08, 5, 0x22, 5, 0x8a, 0x02, 2, 0x10, 7];
        assert_eq!(Usage::decode_any("io.containerd.cgroups.v1.Metrics", &v1), Usage { cpu: 5, memory: 7 });
        // cpu { usage_usec: 5 } memory { usage: 7 } of cgroup2.
        let v2 = [0x12, 2, 0x08, 5, 0x22, 3, 0x80, 0x02, 7];
        assert_eq!(Usage::decode_any("io.containerd.cgroups.v2.Metrics", &v2), Usage { cpu: 5000, memory: 7 });
    }
}
