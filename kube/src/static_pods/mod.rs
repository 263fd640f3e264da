//! Static pods, served to the kubelet as a pod list over HTTP on a local port.
//!
//! The kubelet asks every second and keeps what it runs when nobody answers, so a restart of the
//! brain leaves the control plane alone. The port is kept across restarts: another one would mean
//! another kubelet configuration, and that a restart of the kubelet.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::files::{Files, WantedFile};
use crate::paths::STATIC_POD_PORT;

/// The document that the kubelet reads.
pub fn pod_list(pods: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "PodList", "items": pods})
}

/// Serves the current list. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StaticPodServer {
    list: Arc<RwLock<Option<Bytes>>>,
    served: Arc<Mutex<BTreeMap<String, Value>>>,
    address: SocketAddr,
}

impl StaticPodServer {
    /// Listens on loopback: on the port it had before, if that is still free, else on any. Serving
    /// goes on until the runtime ends.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(files: &dyn Files) -> io::Result<Self> {
        let before = files
            .read(STATIC_POD_PORT)?
            .and_then(|text| String::from_utf8(text).ok())
            .and_then(|text| text.trim().parse::<u16>().ok())
            .unwrap_or(0);
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, before)).await {
            Ok(listener) => listener,
            Err(_) if before != 0 => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            Err(error) => return Err(error),
        };
        let address = listener.local_addr()?;
        files.write(&WantedFile {
            path: STATIC_POD_PORT.to_owned(),
            contents: address.port().to_string().into_bytes(),
            owner: 0,
            mode: 0o600,
        })?;
        let server = Self { list: Arc::default(), served: Arc::default(), address };
        tokio::spawn(accept(listener, Arc::clone(&server.list)));
        Ok(server)
    }

    /// What the kubelet's configuration names.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Adds pods to those served before, or replaces them when the list is whole; all of them.
    pub fn merge(&self, pods: BTreeMap<String, Value>, whole: bool) -> Vec<Value> {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if whole {
            *served = pods;
        } else {
            served.extend(pods);
        }
        served.values().cloned().collect()
    }

    /// Serves these pods from now on. Before the first call the kubelet is told to ask again:
    /// an empty list would make it stop what it runs.
    pub fn set(&self, pods: &[Value]) {
        let body = Bytes::from(pod_list(pods).to_string());
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

async fn accept(listener: TcpListener, list: Arc<RwLock<Option<Bytes>>>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: they come back.
                tracing::warn!(%error, "static pod server cannot accept");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let list = Arc::clone(&list);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &list);
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(request: &Request<Incoming>, list: &RwLock<Option<Bytes>>) -> Response<Full<Bytes>> {
    let (status, body) = if request.method() != Method::GET {
        (StatusCode::METHOD_NOT_ALLOWED, Bytes::new())
    } else {
        match list.read().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(body) => (StatusCode::OK, body),
            None => (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"not known yet\n")),
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::files::LinuxFiles;

    async fn get(url: &str) -> String {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn unknown_is_not_empty_and_the_port_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let files = LinuxFiles::below(root.path());
        let server = StaticPodServer::start(&files).await.unwrap();
        assert!(get(&server.url()).await.starts_with("HTTP/1.1 503"));
        server.set(&[json!({"metadata": {"name": "a"}})]);
        let text = get(&server.url()).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains(r#""kind":"PodList""#), "{text}");
        assert!(text.contains(r#""name":"a""#));
        let kept = files.read(STATIC_POD_PORT).unwrap().unwrap();
        assert!(server.url().contains(&String::from_utf8(kept).unwrap()));
        let pods = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), json!(*n))).collect();
        assert_eq!(server.merge(pods(&["a", "b"]), false), [json!("a"), json!("b")]);
        assert_eq!(server.merge(pods(&["c"]), false), [json!("a"), json!("b"), json!("c")]);
        assert_eq!(server.merge(pods(&["c"]), true), [json!("c")]);
        // While the port is taken, another one serves.
        let other = StaticPodServer::start(&files).await.unwrap();
        assert_ne!(other.url(), server.url());
    }
}
