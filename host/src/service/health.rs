//! Health probes: is what a service serves really served?

use std::path::Path;
use std::time::Duration;

use model::services::{HealthCheck, Probe};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// When and how long to probe, with the defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Before the first probe.
    pub initial_delay: Duration,
    /// Between probes.
    pub period: Duration,
    /// For one probe.
    pub timeout: Duration,
}

impl Timing {
    /// The check's timing.
    #[must_use]
    pub fn of(check: &HealthCheck) -> Self {
        let or = |given: resource::Duration, default: u64| {
            let given = given.to_std();
            if given.is_zero() { Duration::from_millis(default) } else { given }
        };
        Self { initial_delay: or(check.initial_delay, 1000), period: or(check.period, 5000), timeout: or(check.timeout, 500) }
    }
}

/// Probes once.
///
/// # Errors
/// What was found instead of health.
pub async fn probe(check: &HealthCheck) -> Result<(), String> {
    let limit = Timing::of(check).timeout;
    let probe = async {
        match check.probe {
            Probe::Tcp => TcpStream::connect(&check.target).await.map(|_| ()).map_err(|e| format!("connecting to {}: {e}", check.target)),
            Probe::Unix => UnixStream::connect(&check.target).await.map(|_| ()).map_err(|e| format!("connecting to {}: {e}", check.target)),
            Probe::Http => http(&check.target).await,
            Probe::Cri => cri(Path::new(&check.target)).await,
            other => Err(format!("unknown health probe {other}")),
        }
    };
    tokio::time::timeout(limit, probe)
        .await
        .unwrap_or_else(|_| Err(format!("no answer from {} within {} ms", check.target, limit.as_millis())))
}

/// The status code of an HTTP answer's first line.
fn status_code(line: &str) -> Option<u16> {
    let mut words = line.split_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

async fn http(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("found probe URL {url}, expected one that starts with http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).await.map_err(|e| format!("connecting to {host}: {e}"))?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| format!("asking {url}: {e}"))?;
    let mut head = [0; 256];
    let read = stream.read(&mut head).await.map_err(|e| format!("reading the answer of {url}: {e}"))?;
    let text = String::from_utf8_lossy(&head[..read]);
    match status_code(&text) {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("{url} answered {code}")),
        None => Err(format!("{url} did not answer in HTTP")),
    }
}

/// Asks the container runtime whether it is ready (`runtime.v1.RuntimeService/Status`).
async fn cri(socket: &Path) -> Result<(), String> {
    /// The one condition we look at of the many that the answer holds.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Condition {
        #[prost(string, tag = "1")]
        kind: String,
        #[prost(bool, tag = "2")]
        status: bool,
        #[prost(string, tag = "4")]
        message: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Conditions {
        #[prost(message, repeated, tag = "1")]
        conditions: Vec<Condition>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Answer {
        #[prost(message, optional, tag = "1")]
        status: Option<Conditions>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Question {}

    let channel = containerd_client::connect(socket).await.map_err(|e| format!("connecting to {}: {e}", socket.display()))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| e.to_string())?;
    let path = http::uri::PathAndQuery::from_static("/runtime.v1.RuntimeService/Status");
    let codec: tonic_prost::ProstCodec<Question, Answer> = tonic_prost::ProstCodec::default();
    let answer = client.unary(tonic::Request::new(Question {}), path, codec).await.map_err(|s| s.message().to_owned())?;
    let conditions = answer.into_inner().status.unwrap_or_default().conditions;
    match conditions.iter().find(|c| c.kind == "RuntimeReady") {
        Some(ready) if ready.status => Ok(()),
        Some(ready) => Err(format!("the container runtime is not ready: {}", ready.message)),
        None => Err("the container runtime does not say whether it is ready".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn check(probe: Probe, target: String) -> HealthCheck {
        HealthCheck { probe, target, ..HealthCheck::default() }
    }

    /// A server that answers every connection with these bytes.
    async fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut ignored = [0; 512];
                let _ = stream.read(&mut ignored).await;
                let _ = stream.write_all(answer).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn an_http_probe_goes_by_the_status() {
        let good = server(b"HTTP/1.1 200 OK\r\n\r\nok").await;
        assert_eq!(probe(&check(Probe::Http, format!("http://{good}/healthz"))).await, Ok(()));
        let bad = server(b"HTTP/1.1 500 Internal Server Error\r\n\r\n").await;
        assert_eq!(probe(&check(Probe::Http, format!("http://{bad}/healthz"))).await, Err(format!("http://{bad}/healthz answered 500")));
        let odd = server(b"SSH-2.0\r\n").await;
        assert_eq!(probe(&check(Probe::Http, format!("http://{odd}/"))).await, Err(format!("http://{odd}/ did not answer in HTTP")));
    }

    #[tokio::test]
    async fn a_probe_that_gets_no_answer_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let before = std::time::Instant::now();
        let result = probe(&check(Probe::Http, format!("http://{address}/"))).await;
        assert_eq!(result, Err(format!("no answer from http://{address}/ within 500 ms")));
        assert!(before.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_tcp_probe_wants_an_open_port() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(probe(&check(Probe::Tcp, closed.to_string())).await.is_err());
    }
}
