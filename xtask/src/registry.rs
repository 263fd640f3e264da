//! A registry over an image cache, with as much of the distribution protocol as containerd's pull uses.
//! For proving the image cache only; a node's registry is in `edge`.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// Bytes of blobs sent, layers and all: what a pull cost the network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent(Arc<AtomicU64>);

impl Sent {
    /// So far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until the process ends.
pub(crate) fn serve(cache: &Path, listen: &str) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    run(&listener, cache, &Sent::default());
    Ok(())
}

/// Answers on a listener, one thread per connection.
pub(crate) fn run(listener: &TcpListener, cache: &Path, sent: &Sent) {
    for stream in listener.incoming().flatten() {
        let (cache, sent) = (cache.to_path_buf(), sent.clone());
        std::thread::spawn(move || {
            // A peer that goes away is its own affair.
            let _ = converse(&stream, &cache, &sent);
        });
    }
}

fn converse(stream: &TcpStream, cache: &Path, sent: &Sent) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    // Head and body are two writes: without this each answer waits 40 ms for the peer's delayed acknowledgement.
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
        }
        let mut words = request.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        respond(stream, method, find(cache, target), sent)?;
    }
}

fn respond(mut stream: &TcpStream, method: &str, answer: Option<Answer>, sent: &Sent) -> io::Result<()> {
    let Some(answer) = answer else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    let mut head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: {}\r\n", answer.size, answer.media_type);
    if let Some(digest) = answer.digest {
        head.push_str(&format!("Docker-Content-Digest: {digest}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if method == "GET"
        && let Some(path) = answer.path
    {
        let n = io::copy(&mut File::open(path)?, &mut stream)?;
        sent.0.fetch_add(n, Ordering::Relaxed);
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    path: Option<PathBuf>,
    size: u64,
    media_type: String,
    digest: Option<String>,
}

/// What a request path stands for: `/v2/`, `/v2/NAME/manifests/TAG-or-DIGEST?ns=HOST`, `/v2/NAME/blobs/DIGEST`.
fn find(cache: &Path, target: &str) -> Option<Answer> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let rest = path.strip_prefix("/v2/")?;
    if rest.is_empty() {
        return Some(Answer { path: None, size: 0, media_type: "application/json".into(), digest: None });
    }
    if let Some((name, reference)) = rest.rsplit_once("/manifests/") {
        let host = query.split('&').find_map(|pair| pair.strip_prefix("ns="))?;
        return manifest(cache, &format!("{host}/{name}"), reference);
    }
    let (_, digest) = rest.rsplit_once("/blobs/")?;
    let path = blob(cache, digest)?;
    let size = fs::metadata(&path).ok()?.len();
    Some(Answer { path: Some(path), size, media_type: "application/octet-stream".into(), digest: Some(digest.into()) })
}

fn manifest(cache: &Path, name: &str, reference: &str) -> Option<Answer> {
    let index: Value = serde_json::from_slice(&fs::read(cache.join("index.json")).ok()?).ok()?;
    let found = index["manifests"].as_array()?.iter().find(|entry| {
        let full = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or_default();
        let same_name = full.rsplit_once(':').is_some_and(|(repository, _)| repository == name);
        same_name && (entry["digest"] == reference || full == format!("{name}:{reference}"))
    })?;
    let digest = found["digest"].as_str()?;
    Some(Answer {
        path: Some(blob(cache, digest)?),
        size: found["size"].as_u64()?,
        media_type: found["mediaType"].as_str()?.into(),
        digest: Some(digest.into()),
    })
}

fn blob(cache: &Path, digest: &str) -> Option<PathBuf> {
    let hex = digest.strip_prefix("sha256:")?;
    // Nothing but a digest may become part of a path.
    (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then(|| cache.join("blobs/sha256").join(hex))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cache() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let hex = "ab".repeat(32);
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(dir.path().join("blobs/sha256").join(&hex), "{}").unwrap();
        let index = json!({"manifests": [{
            "mediaType": "m", "digest": format!("sha256:{hex}"), "size": 2,
            "annotations": {"org.opencontainers.image.ref.name": "registry.example/a/b:v1"},
        }]});
        fs::write(dir.path().join("index.json"), index.to_string()).unwrap();
        (dir, hex)
    }

    #[test]
    fn images_are_found_by_host_name_and_tag_or_digest() {
        let (dir, hex) = cache();
        let by_tag = find(dir.path(), "/v2/a/b/manifests/v1?ns=registry.example").unwrap();
        assert_eq!(by_tag.digest.as_deref(), Some(format!("sha256:{hex}").as_str()));
        assert_eq!(find(dir.path(), &format!("/v2/a/b/manifests/sha256:{hex}?ns=registry.example")), Some(by_tag));
        assert!(find(dir.path(), &format!("/v2/a/b/blobs/sha256:{hex}")).is_some());
        assert!(find(dir.path(), "/v2/").is_some());
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let (dir, _) = cache();
        for target in [
            "/v2/a/b/manifests/v2?ns=registry.example",
            "/v2/a/b/manifests/v1?ns=elsewhere.example",
            "/v2/a/b/manifests/v1",
            "/v2/a/b/blobs/sha256:../../index.json",
            "/v2/a/b/blobs/sha512:00",
            "/index.json",
        ] {
            assert_eq!(find(dir.path(), target), None, "{target}");
        }
    }
}
