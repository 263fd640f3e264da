//! The image registry of the node: the pull side of the OCI distribution protocol over the image cache, on 127.0.0.1:3172.
//!
//! containerd is told to try it first for every registry, and names the upstream in the query `ns`. What the cache does not have is
//! a 404, and containerd goes on to the real registry. Requests are answered from a parsed index (`layout`); nothing a client sends
//! becomes a path.

mod layout;

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use layout::{Digest, Layout, LayoutError, Manifest, Reference, valid_registry, valid_repository};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::socket;

/// Where containerd finds the registry.
pub(crate) const ADDRESS: &str = "127.0.0.1:3172";
/// Where init binds the image cache.
pub(crate) const ROOT: &str = "/system/imagecache";

/// Connections served at once; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 128;
/// How long a client may take to send the head of a request, and an idle connection is kept.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// A client that takes no data for this long is dropped.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Bytes read from a blob at a time.
const CHUNK: usize = 128 << 10;

type Body = BoxBody<Bytes, io::Error>;

/// Serves the cache at `root` until the listener fails, which it does not while the process lives.
pub(crate) async fn serve(listener: TcpListener, root: PathBuf) {
    let layout = Arc::new(Layout::new(root));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = socket::accept(&listener).await;
        let layout = layout.clone();
        tokio::spawn(async move {
            connection(stream, layout).await;
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, layout: Arc<Layout>) {
    if let Err(error) = socket::limit_stall(&stream, STALL_LIMIT) {
        tracing::debug!(%error, "registry: no stall limit on this connection");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let layout = layout.clone();
        async move {
            let (method, uri, headers) = (request.method().clone(), request.uri().clone(), request.headers().clone());
            Ok::<_, Infallible>(respond(method, uri, headers, layout).await)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "registry: a connection ended early");
    }
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    Alive,
    Manifest { registry: Option<String>, repository: String, reference: Reference },
    Blob(Digest),
}

/// Why a request asks for nothing we have a name for: status, OCI error code, words.
type Refusal = (StatusCode, &'static str, String);

/// Reads path and query. Percent-escapes are accepted in `ns` only, and there only for the colon of a port.
fn parse(path: &str, query: Option<&str>) -> Result<Ask, Refusal> {
    if matches!(path, "/v2" | "/v2/" | "/healthz") {
        return Ok(Ask::Alive);
    }
    let unknown = || {
        (
            StatusCode::NOT_FOUND,
            "UNSUPPORTED",
            "known are /v2/, /healthz, /v2/<name>/manifests/<reference> and /v2/<name>/blobs/<digest>".to_owned(),
        )
    };
    let rest = path.strip_prefix("/v2/").ok_or_else(unknown)?;
    let (rest, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
    let (repository, kind) = rest.rsplit_once('/').ok_or_else(unknown)?;
    if !valid_repository(repository) {
        return Err((StatusCode::BAD_REQUEST, "NAME_INVALID", format!("{repository:?} is not a repository name")));
    }
    match kind {
        "manifests" => {
            let reference = Reference::parse(last)
                .ok_or_else(|| (StatusCode::BAD_REQUEST, "TAG_INVALID", format!("{last:?} is neither a tag nor a sha256 digest")))?;
            Ok(Ask::Manifest { registry: namespace(query)?, repository: repository.to_owned(), reference })
        }
        "blobs" => Digest::parse(last)
            .map(Ask::Blob)
            .ok_or_else(|| (StatusCode::BAD_REQUEST, "DIGEST_INVALID", format!("{last:?} is not sha256:<64 hex digits>"))),
        _ => Err(unknown()),
    }
}

fn namespace(query: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(text) = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("ns=")) else { return Ok(None) };
    let name = text.replace("%3A", ":").replace("%3a", ":");
    if !valid_registry(&name) {
        return Err((StatusCode::BAD_REQUEST, "NAME_INVALID", format!("ns={text:?} is not a registry's host[:port]")));
    }
    // Docker Hub has two names; images carry the first.
    Ok(Some(if name == "registry-1.docker.io" || name == "index.docker.io" { "docker.io".to_owned() } else { name }))
}

async fn respond(method: Method, uri: http::Uri, headers: HeaderMap, layout: Arc<Layout>) -> Response<Body> {
    let head_only = match method {
        Method::GET => false,
        Method::HEAD => true,
        _ => {
            let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only: GET and HEAD", false);
            refused.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
    };
    match parse(uri.path(), uri.query()) {
        Err((status, code, words)) => error(status, code, &words, head_only),
        Ok(Ask::Alive) => build(Response::builder().header("Docker-Distribution-Api-Version", "registry/2.0"), full(Bytes::new())),
        Ok(Ask::Manifest { registry, repository, reference }) => {
            let name = format!("{repository} {reference:?}");
            let found = tokio::task::spawn_blocking(move || layout.manifest(registry.as_deref(), &repository, &reference)).await;
            match found {
                Ok(Ok(Some(manifest))) => manifest_response(manifest, head_only),
                Ok(Ok(None)) => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &format!("the image cache has no {name}"), head_only),
                Ok(Err(failure)) => failed(&failure, head_only),
                Err(panic) => error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &panic.to_string(), head_only),
            }
        }
        Ok(Ask::Blob(digest)) => blob(layout, digest, &headers, head_only).await,
    }
}

/// No cache at all is a 404, so that containerd goes on to the real registry; a broken one is a 500 that says so.
fn failed(failure: &LayoutError, head_only: bool) -> Response<Body> {
    match failure {
        LayoutError::Absent { .. } => error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", &failure.to_string(), head_only),
        LayoutError::Index { .. } | LayoutError::Blob { .. } => {
            tracing::error!(error = %failure, "the image cache is damaged");
            error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &failure.to_string(), head_only)
        }
    }
}

fn manifest_response(manifest: Manifest, head_only: bool) -> Response<Body> {
    let builder = Response::builder()
        .header(CONTENT_TYPE, manifest.media_type)
        .header(CONTENT_LENGTH, manifest.bytes.len())
        .header("Docker-Content-Digest", manifest.digest.to_string());
    build(builder, full(if head_only { Bytes::new() } else { manifest.bytes.into() }))
}

async fn blob(layout: Arc<Layout>, digest: Digest, headers: &HeaderMap, head_only: bool) -> Response<Body> {
    let wanted = digest.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let file = layout.blob(&wanted)?;
        let length = file.metadata()?.len();
        Ok::<_, io::Error>((file, length))
    })
    .await;
    let (file, length) = match opened {
        Ok(Ok(found)) => found,
        Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => {
            return error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", &format!("the image cache has no {digest}"), head_only);
        }
        Ok(Err(e)) => return error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &format!("blob {digest}: {e}"), head_only),
        Err(panic) => return error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &panic.to_string(), head_only),
    };
    let range = match headers.get(RANGE).and_then(|value| value.to_str().ok()).map(|text| byte_range(text, length)) {
        None | Some(Ranged::Whole) => None,
        Some(Ranged::Part { first, last }) => Some((first, last)),
        Some(Ranged::Outside) => {
            let builder = Response::builder().status(StatusCode::RANGE_NOT_SATISFIABLE).header(CONTENT_RANGE, format!("bytes */{length}"));
            return build(builder, full(Bytes::new()));
        }
    };
    let (first, count) = range.map_or((0, length), |(first, last)| (first, last - first + 1));
    let mut builder = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, count)
        .header(ACCEPT_RANGES, "bytes")
        .header("Docker-Content-Digest", digest.to_string());
    if let Some((first, last)) = range {
        builder = builder.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
    }
    build(builder, if head_only { full(Bytes::new()) } else { file_body(file, first, count) })
}

/// What a Range header means for a blob of some length (RFC 9110 §14). Several ranges, other units and nonsense mean the whole.
#[derive(Debug, PartialEq, Eq)]
enum Ranged {
    Whole,
    Part { first: u64, last: u64 },
    Outside,
}

fn byte_range(text: &str, length: u64) -> Ranged {
    let Some((from, to)) = text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else { return Ranged::Whole };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (from.trim().is_empty(), to.trim().is_empty(), number(from), number(to)) {
        (true, false, _, Some(count)) if count > 0 && length > 0 => Ranged::Part { first: length.saturating_sub(count), last: length - 1 },
        (true, false, _, Some(_)) => Ranged::Outside,
        (false, true, Some(first), _) if first < length => Ranged::Part { first, last: length - 1 },
        (false, false, Some(first), Some(last)) if first <= last && first < length => Ranged::Part { first, last: last.min(length - 1) },
        (false, true, Some(_), _) => Ranged::Outside,
        (false, false, Some(first), Some(last)) if first <= last => Ranged::Outside,
        _ => Ranged::Whole,
    }
}

/// `count` bytes of a file from `first`. A file that turns out shorter breaks the connection, so a client never takes a part for the whole.
fn file_body(file: File, first: u64, count: u64) -> Body {
    let file = tokio::fs::File::from_std(file);
    let chunks = futures::stream::unfold(Some((file, Some(first), count)), |state| async move {
        let (mut file, seek, left) = state?;
        if left == 0 {
            return None;
        }
        let read = async {
            if let Some(first) = seek.filter(|&first| first > 0) {
                file.seek(SeekFrom::Start(first)).await?;
            }
            let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let mut buffer = vec![0; want];
            let got = file.read(&mut buffer).await?;
            if got == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is shorter than it was"));
            }
            buffer.truncate(got);
            Ok((file, buffer))
        };
        Some(match read.await {
            Ok((file, buffer)) => {
                let left = left - buffer.len() as u64;
                (Ok(Frame::data(Bytes::from(buffer))), Some((file, None, left)))
            }
            Err(error) => (Err(error), None),
        })
    });
    BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(chunks))))
}

/// A stream that is polled by one task only, for bodies that must be `Sync`.
struct SyncStream<S>(S);

impl<S: futures::Stream + Unpin> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<S::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn error(status: StatusCode, code: &str, words: &str, head_only: bool) -> Response<Body> {
    let text = serde_json::json!({"errors": [{"code": code, "message": words}]}).to_string();
    let builder = Response::builder().status(status).header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, text.len());
    build(builder, full(if head_only { Bytes::new() } else { text.into() }))
}

/// A header that cannot be sent (a media type with a line break in a damaged index) becomes a 500.
fn build(builder: http::response::Builder, body: Body) -> Response<Body> {
    builder.body(body).unwrap_or_else(|failure| {
        tracing::error!(error = %failure, "registry: an answer could not be built");
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

#[cfg(test)]
mod tests;
