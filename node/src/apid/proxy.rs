//! Passing calls on: to machined here, to one other node as they are, or to many nodes with their replies merged.
//!
//! No message is parsed: to one backend the HTTP/2 body goes through untouched, and merging works on raw frames (`frame`).

use std::{
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use api::{RpcStatus, client::parse_timeout, roles, roles::Roles, server::ROLE_KEY, transport::Connection};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, future::join_all, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, body::Body};

use super::{
    auth::{self, RoleMode},
    backend::Backends,
    frame::{self, Frames},
    route::{self, Route, Routing},
};

/// What decides over calls; changes while apid runs.
#[derive(Clone, Default)]
pub(crate) struct Policy {
    /// Where callers' roles come from.
    pub(crate) mode: RoleMode,
    /// What may be forwarded.
    pub(crate) routing: Routing,
    /// How other nodes are called; absent on workers.
    pub(crate) forward: Option<Arc<ClientConfig>>,
}

/// One caller's connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The caller's address.
    pub(crate) peer: IpAddr,
    /// Our address that the caller reached.
    pub(crate) local: IpAddr,
    /// The roles of its certificate.
    pub(crate) roles: Roles,
}

/// Answers one call. Errors become gRPC statuses; the HTTP exchange itself succeeds.
pub(crate) async fn answer(policy: &Policy, backends: &Backends, caller: &Caller, request: Request<Incoming>) -> Response<Body> {
    match forward(policy, backends, caller, request).await {
        Ok(response) => response,
        Err(status) => status.into_http(),
    }
}

async fn forward(policy: &Policy, backends: &Backends, caller: &Caller, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    let path = request.uri().path().to_owned();
    let route = route::route(request.headers(), &path, &policy.routing)?;
    let roles = auth::resolve(policy.mode, &caller.roles, request.headers(), caller.peer, caller.local);
    let authority = request.uri().authority().map_or("unknown", |a| a.as_str()).to_owned();
    let (mut parts, body) = request.into_parts();
    claim(&mut parts.headers, &roles);
    match route {
        Route::Local => pass(&backends.local(), Request::from_parts(parts, Body::new(body)), Some(LOCAL_HINT)).await,
        Route::One(node) => {
            let backend = remote(policy, backends, &node)?;
            relay(&mut parts.headers, &authority);
            pass(&backend, Request::from_parts(parts, Body::new(body)), None).await
        }
        Route::Many(nodes) => {
            tracing::debug!(%path, count = nodes.len(), "one call for many nodes (deprecated)");
            // Replies that cannot be read cannot be merged: ask for uncompressed ones.
            parts.headers.remove("grpc-accept-encoding");
            let mut calls = Vec::with_capacity(nodes.len());
            for name in nodes {
                let local = policy.routing.is_local(&name);
                let backend = if local { Ok(backends.local()) } else { remote(policy, backends, &name) };
                let mut headers = parts.headers.clone();
                relay(&mut headers, &authority);
                calls.push(Call { name, backend, headers });
            }
            Ok(if roles::streamed(&path) { streamed(&path, calls, body) } else { merged(&path, calls, body).await })
        }
    }
}

const LOCAL_HINT: &str = "machined does not answer; it starts again by itself, so try again in a moment";

/// Replaces whatever roles the caller claimed by those found out, and drops what is for apids alone.
fn claim(headers: &mut HeaderMap, roles: &Roles) {
    headers.remove(ROLE_KEY);
    for role in roles.iter() {
        if let Ok(value) = HeaderValue::from_str(role) {
            headers.append(ROLE_KEY, value);
        }
    }
}

/// Marks a call as passed on by an apid, so that the next one serves it itself.
fn relay(headers: &mut HeaderMap, authority: &str) {
    headers.remove("node");
    headers.remove("nodes");
    let from = HeaderValue::from_str(authority).unwrap_or(HeaderValue::from_static("unknown"));
    headers.insert("proxyfrom", from);
}

fn remote(policy: &Policy, backends: &Backends, node: &str) -> Result<Connection, Status> {
    let host = route::host(node)?;
    let config = policy.forward.as_ref().ok_or_else(|| Status::permission_denied("no request forwarding"))?;
    Ok(backends.remote(host, config))
}

/// One call to one backend, bodies untouched in both directions.
async fn pass(backend: &Connection, request: Request<Body>, hint: Option<&str>) -> Result<Response<Body>, Status> {
    let response = backend.send(request).await.map_err(|e| match hint {
        Some(hint) => Status::new(e.code(), format!("{hint} ({})", e.message())),
        None => e,
    })?;
    Ok(response.map(|body| Body::new(Guarded { body, broken: false })))
}

/// A reply's body that ends with a status even when its backend breaks off: a stream that just ends, or an HTTP/2 reset,
/// would tell the caller nothing.
struct Guarded {
    body: Incoming,
    broken: bool,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.broken {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx).map(|next| match next {
            Some(Err(e)) => {
                self.broken = true;
                let status = Status::unavailable(format!("the node broke off its reply: {}", api::transport::chain(&e)));
                Some(Ok(Frame::trailers(frame::trailers(&status))))
            }
            other => other.map(|r| r.map_err(|e| Status::unavailable(e.to_string()))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.broken || self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// One backend's part of a call to many.
struct Call {
    name: String,
    backend: Result<Connection, Status>,
    headers: HeaderMap,
}

type Chunk = Result<Frame<Bytes>, Status>;

/// Gives each backend its own copy of the request's body. The future copies; it ends with the body.
fn broadcast(count: usize, mut body: Incoming) -> (Vec<Body>, impl Future<Output = ()> + Send) {
    const QUEUE: usize = 4;
    let (senders, bodies): (Vec<_>, Vec<_>) = (0..count)
        .map(|_| {
            let (tx, rx) = mpsc::channel::<Chunk>(QUEUE);
            (Some(tx), Body::new(StreamBody::new(ReceiverStream::new(rx))))
        })
        .unzip();
    let mut senders: Vec<Option<mpsc::Sender<Chunk>>> = senders;
    let pump = async move {
        while let Some(frame) = body.frame().await {
            let data = match frame.map(Frame::into_data) {
                Ok(Ok(data)) => Ok(data),
                Ok(Err(_trailers)) => continue,
                // The caller is gone: an end here would look as if the request were whole.
                Err(e) => Err(Status::cancelled(format!("the caller broke off: {e}"))),
            };
            for slot in &mut senders {
                let Some(tx) = slot else { continue };
                if tx.send(data.clone().map(Frame::data)).await.is_err() {
                    *slot = None;
                }
            }
            if data.is_err() {
                break;
            }
        }
    };
    (bodies, pump)
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Calls one backend and hands out the frames of its reply.
async fn open(call: &Call, path: &str, body: Body) -> Result<Frames<Incoming>, RpcStatus> {
    let backend = call.backend.as_ref().map_err(frame::rpc_status)?;
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| frame::rpc_status(&Status::internal("bad path")))?;
    *request.headers_mut() = call.headers.clone();
    let response = backend.send(request).await.map_err(|e| frame::rpc_status(&e))?;
    if response.headers().contains_key("grpc-status") {
        frame::status_of(response.headers())?;
    }
    if response.status() != http::StatusCode::OK {
        let text = format!("HTTP status {} instead of a gRPC reply", response.status());
        return Err(frame::rpc_status(&Status::unavailable(text)));
    }
    Ok(Frames::new(response.into_body()))
}

/// One reply of each backend, merged into one; a backend that fails is an entry of its own.
async fn merged(path: &str, calls: Vec<Call>, body: Incoming) -> Response<Body> {
    let (bodies, pump) = broadcast(calls.len(), body);
    let replies = join_all(calls.iter().zip(bodies).map(|(call, body)| async move {
        let limit = patience(&call.headers);
        let reply = match limit {
            None => unary(call, path, body).await,
            Some(limit) => tokio::time::timeout(limit, unary(call, path, body)).await.unwrap_or_else(|_| {
                let text = format!("{}: no answer within {limit:?}", call.name);
                Err(frame::rpc_status(&Status::deadline_exceeded(text)))
            }),
        };
        reply.unwrap_or_else(|status| frame::merged_error(&call.name, &status))
    }));
    let replies = beside(replies, pump).await;
    let message = frame::frame(&replies.concat());
    let frames = [Ok::<_, Status>(Frame::data(message)), Ok(Frame::trailers(frame::ok_trailers()))];
    head().map(|()| Body::new(StreamBody::new(stream::iter(frames))))
}

/// How long one backend may take, so that a slow one is reported before the caller gives up on all: nine tenths of the
/// caller's own deadline.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let limit = parse_timeout(headers.get("grpc-timeout")?.to_str().ok()?)?;
    Some(limit / 10 * 9)
}

async fn unary(call: &Call, path: &str, body: Body) -> Result<Vec<u8>, RpcStatus> {
    let failed = |e: Status| frame::rpc_status(&e);
    let mut frames = open(call, path, body).await?;
    let first = frames.next().await.map_err(failed)?;
    let mut more = 0;
    while frames.next().await.map_err(failed)?.is_some() {
        more += 1;
    }
    frames.finish()?;
    match first {
        Some(reply) if more == 0 => frame::merge(&reply, &call.name).map_err(failed),
        found => {
            let count = usize::from(found.is_some()) + more;
            Err(failed(Status::internal(format!("unexpected message format: expected one reply, found {count}"))))
        }
    }
}

/// Runs `work` to its end with `helper` beside it, which may end earlier or is dropped.
async fn beside<T>(work: impl Future<Output = T>, helper: impl Future<Output = ()>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => done,
        () = helper => work.await,
    }
}

/// The replies of all backends as they come, each with its node's name; a backend that fails says so in a last message.
fn streamed(path: &str, calls: Vec<Call>, body: Incoming) -> Response<Body> {
    let (bodies, pump) = broadcast(calls.len(), body);
    let path: Arc<str> = path.into();
    let replies = calls.into_iter().zip(bodies).map(|(call, body)| node_stream(call, path.clone(), body).boxed());
    let pump = stream::once(pump).filter_map(|()| async { None }).boxed();
    let all = stream::select_all(replies.chain([pump]));
    let frames = all.chain(stream::iter([Ok(Frame::trailers(frame::ok_trailers()))]));
    head().map(|()| Body::new(StreamBody::new(frames)))
}

/// One backend's frames. Dropping the stream ends the call.
fn node_stream(call: Call, path: Arc<str>, body: Body) -> impl Stream<Item = Chunk> + Send {
    enum Step {
        Open(Body),
        Read(Box<Frames<Incoming>>),
        Done,
    }
    let data = |message: Vec<u8>| Some(Ok(Frame::data(frame::frame(&message))));
    stream::unfold((call, Step::Open(body)), move |(call, step)| {
        let path = path.clone();
        async move {
            let fail = |call: Call, status: RpcStatus| {
                let item = data(frame::stream_error(&call.name, &status));
                item.map(|item| (item, (call, Step::Done)))
            };
            let mut frames = match step {
                Step::Done => return None,
                Step::Read(frames) => frames,
                Step::Open(body) => match open(&call, &path, body).await {
                    Ok(frames) => Box::new(frames),
                    Err(status) => return fail(call, status),
                },
            };
            match frames.next().await {
                Ok(Some(message)) => {
                    let item = data(frame::stamp(&message, &call.name));
                    item.map(|item| (item, (call, Step::Read(frames))))
                }
                Ok(None) => match frames.finish() {
                    Ok(()) => None,
                    Err(status) => fail(call, status),
                },
                Err(e) => fail(call, frame::rpc_status(&e)),
            }
        }
    })
}
