//! The registry over a real socket, with requests written by hand.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use super::*;

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{}: ", name.to_lowercase());
        self.head.lines().find(|line| line.to_lowercase().starts_with(&prefix)).map(|line| &line[prefix.len()..])
    }
}

async fn ask(address: std::net::SocketAddr, method: &str, target: &str, extra: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{extra}\r\n").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let split = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[split + 4..].to_vec() }
}

fn put(root: &Path, bytes: &[u8]) -> String {
    let hex = hex::encode(Sha256::digest(bytes));
    std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    std::fs::write(root.join("blobs/sha256").join(&hex), bytes).unwrap();
    format!("sha256:{hex}")
}

/// One image `registry.k8s.io/pause:3.10` with one layer of 300,000 bytes.
async fn started() -> (tempfile::TempDir, std::net::SocketAddr, String, String, Vec<u8>) {
    let root = tempfile::tempdir().unwrap();
    let layer: Vec<u8> = (0..300_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let layer_digest = put(root.path(), &layer);
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "layers": [{"digest": layer_digest}]})
    .to_string();
    let manifest_digest = put(root.path(), manifest.as_bytes());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": manifest_digest, "size": manifest.len(),
        "annotations": {"io.containerd.image.name": "registry.k8s.io/pause:3.10"}}]});
    std::fs::write(root.path().join("index.json"), index.to_string()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, root.path().to_owned()));
    (root, address, manifest_digest, layer_digest, layer)
}

#[tokio::test]
async fn a_pull_as_containerd_does_it() {
    let (_root, address, manifest, layer, bytes) = started().await;
    assert_eq!(ask(address, "GET", "/v2/", "").await.status, 200);

    let head = ask(address, "HEAD", "/v2/pause/manifests/3.10?ns=registry.k8s.io", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("docker-content-digest"), Some(manifest.as_str()));
    assert_eq!(head.header("content-type"), Some("application/vnd.oci.image.manifest.v1+json"));

    let get = ask(address, "GET", &format!("/v2/pause/manifests/{manifest}?ns=registry.k8s.io"), "").await;
    assert_eq!(get.status, 200);
    assert_eq!(head.header("content-length").unwrap(), get.body.len().to_string());
    assert!(String::from_utf8(get.body).unwrap().contains(&layer));

    let blob = ask(address, "GET", &format!("/v2/pause/blobs/{layer}?ns=registry.k8s.io"), "").await;
    assert_eq!((blob.status, blob.body == bytes), (200, true));
}

#[tokio::test]
async fn parts_of_a_blob() {
    let (_root, address, _, layer, bytes) = started().await;
    let target = format!("/v2/pause/blobs/{layer}");
    let part = ask(address, "GET", &target, "Range: bytes=131000-131999\r\n").await;
    assert_eq!((part.status, part.body == bytes[131_000..132_000]), (206, true));
    assert_eq!(part.header("content-range"), Some("bytes 131000-131999/300000"));
    let resumed = ask(address, "GET", &target, "Range: bytes=299999-\r\n").await;
    assert_eq!((resumed.status, resumed.body), (206, bytes[299_999..].to_vec()));
    let past = ask(address, "GET", &target, "Range: bytes=300000-\r\n").await;
    assert_eq!((past.status, past.header("content-range")), (416, Some("bytes */300000")));
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed() {
    let (root, address, _, _, _) = started().await;
    let absent = format!("/v2/pause/blobs/sha256:{}", "0".repeat(64));
    for (target, status, code) in [
        ("/v2/pause/manifests/3.11?ns=registry.k8s.io", 404, "MANIFEST_UNKNOWN"),
        ("/v2/pause/manifests/3.10?ns=ghcr.io", 404, "MANIFEST_UNKNOWN"),
        (absent.as_str(), 404, "BLOB_UNKNOWN"),
        ("/v2/pause/blobs/sha256:..%2f..%2fetc%2fpasswd", 400, "DIGEST_INVALID"),
        ("/v2/../../etc/manifests/passwd", 400, "NAME_INVALID"),
        ("/v2/pause/manifests/..", 400, "TAG_INVALID"),
        ("/v2/pause/manifests/3.10?ns=../..", 400, "NAME_INVALID"),
        ("/v2/pause/tags/list", 404, "UNSUPPORTED"),
        ("/etc/passwd", 404, "UNSUPPORTED"),
    ] {
        let answer = ask(address, "GET", target, "").await;
        assert_eq!(answer.status, status, "{target}");
        assert!(String::from_utf8(answer.body).unwrap().contains(code), "{target}");
    }
    assert_eq!(ask(address, "PUT", "/v2/pause/manifests/3.10", "Content-Length: 0\r\n").await.status, 405);

    std::fs::write(root.path().join("index.json"), "{").unwrap();
    let broken = ask(address, "GET", "/v2/pause/manifests/3.10", "").await;
    assert_eq!(broken.status, 500);
    assert!(String::from_utf8(broken.body).unwrap().contains("build the image cache again"));
    std::fs::remove_file(root.path().join("index.json")).unwrap();
    assert_eq!(ask(address, "GET", "/v2/pause/manifests/3.10", "").await.status, 404, "no cache: containerd goes on");
}

#[test]
fn ranges() {
    use Ranged::{Outside, Part, Whole};
    for (text, expected) in [
        ("bytes=0-0", Part { first: 0, last: 0 }),
        ("bytes=5-", Part { first: 5, last: 9 }),
        ("bytes=5-100", Part { first: 5, last: 9 }),
        ("bytes=-3", Part { first: 7, last: 9 }),
        ("bytes=-30", Part { first: 0, last: 9 }),
        ("bytes=10-", Outside),
        ("bytes=10-20", Outside),
        ("bytes=-0", Outside),
        ("bytes=5-4", Whole),
        ("bytes=1-2,4-5", Whole),
        ("items=1-2", Whole),
        ("bytes=", Whole),
        ("bytes=99999999999999999999-", Whole),
    ] {
        assert_eq!(byte_range(text, 10), expected, "{text}");
    }
    assert_eq!(byte_range("bytes=0-", 0), Outside);
}

#[test]
fn both_names_of_docker_hub_are_one() {
    assert_eq!(namespace(Some("ns=registry-1.docker.io")).unwrap().as_deref(), Some("docker.io"));
    assert_eq!(namespace(Some("a=b&ns=localhost%3A5000")).unwrap().as_deref(), Some("localhost:5000"));
    assert_eq!(namespace(None).unwrap(), None);
}
