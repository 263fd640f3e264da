//! Logs: of services, of containers, of the kernel.

use std::path::{Path, PathBuf};

use api::common::{ContainerDriver, Data};
use api::machine as pb;
use host::logs::Watcher;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::files::Stream;

/// Where services' logs are.
pub(super) const DIRECTORY: &str = "/var/log";
/// Where they are until `/var` is there.
const EARLY: &str = "/run/log";

/// The file of a service's log.
fn service_log(id: &str) -> Result<PathBuf, Status> {
    // The id becomes a file name: nothing that could leave the directory.
    let plain = !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) && !id.starts_with('.');
    if !plain {
        return Err(Status::invalid_argument(format!("found log id {id:?}, expected the id of a service")));
    }
    let name = format!("{id}.log");
    let found = [DIRECTORY, EARLY].iter().map(|d| Path::new(d).join(&name)).find(|p| p.exists());
    found.ok_or_else(|| Status::not_found(format!("log {id:?} was not registered; the logs there are: {}", ids().join(", "))))
}

/// The ids of all services' logs.
pub(super) fn ids() -> Vec<String> {
    let mut ids: Vec<String> = [DIRECTORY, EARLY]
        .iter()
        .filter_map(|d| std::fs::read_dir(d).ok())
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|e| e.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The log of a container of a pod: the newest file below `/var/log/pods` for `namespace/pod:container`.
fn pod_log(id: &str) -> Result<PathBuf, Status> {
    let not_found =
        || Status::not_found(format!("no log of container {id:?}; expected NAMESPACE/POD:CONTAINER as `containers -k` prints it"));
    let (namespace, rest) = id.split_once('/').ok_or_else(not_found)?;
    let mut rest = rest.split(':');
    let (pod, container) = (rest.next().unwrap_or_default(), rest.next().ok_or_else(not_found)?);
    if [namespace, pod, container].iter().any(|part| part.is_empty() || part.contains('/') || part.starts_with('.')) {
        return Err(not_found());
    }
    let prefix = format!("{namespace}_{pod}_");
    let directories = std::fs::read_dir("/var/log/pods").map_err(|_| not_found())?;
    let files = directories
        .filter_map(Result::ok)
        .filter(|d| d.file_name().to_string_lossy().starts_with(&prefix))
        .filter_map(|d| std::fs::read_dir(d.path().join(container)).ok())
        .flatten()
        .filter_map(Result::ok)
        .filter(|f| f.path().extension().is_some_and(|e| e == "log"));
    let newest = files.max_by_key(|f| f.metadata().and_then(|m| m.modified()).ok());
    newest.map(|f| f.path()).ok_or_else(not_found)
}

/// Streams a log.
pub(super) fn logs(watcher: &Watcher, request: &pb::LogsRequest) -> Result<Stream<Data>, Status> {
    let in_pod = request.driver() == ContainerDriver::Cri || request.namespace == host::containerd::KUBERNETES;
    let path = if in_pod { pod_log(&request.id)? } else { service_log(&request.id)? };
    let tail = u64::try_from(request.tail_lines).ok();
    let parts =
        host::logs::stream(watcher, &path, tail, request.follow).map_err(|e| Status::internal(format!("{}: {e}", path.display())))?;
    Ok(forward(parts))
}

/// The kernel's log. A container node has none of its own, and its host's is not its to show: it shows what the node's console shows.
pub(super) fn dmesg(watcher: &Watcher, request: &pb::DmesgRequest) -> Result<Stream<Data>, Status> {
    let tail = (request.tail && request.follow).then_some(0);
    let path = service_log("kernel").or_else(|_| service_log("machined"))?;
    let parts =
        host::logs::stream(watcher, &path, tail, request.follow).map_err(|e| Status::internal(format!("{}: {e}", path.display())))?;
    Ok(forward(parts))
}

fn forward(mut parts: mpsc::Receiver<std::io::Result<Vec<u8>>>) -> Stream<Data> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let part = tokio::select! {
                part = parts.recv() => part,
                () = sender.closed() => return,
            };
            let Some(part) = part else { return };
            let item = part.map(|bytes| Data { metadata: None, bytes }).map_err(|e| Status::internal(e.to_string()));
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_leave_the_log_directory() {
        for id in ["../machined", "", "a/b", ".hidden", "a\0b"] {
            assert_eq!(service_log(id).unwrap_err().code(), tonic::Code::InvalidArgument, "{id:?}");
        }
        for id in ["kube-system/../x:y", "nopod", "a/b", "/x:y", "a/.b:c"] {
            assert_eq!(pod_log(id).unwrap_err().code(), tonic::Code::NotFound, "{id:?}");
        }
    }
}
