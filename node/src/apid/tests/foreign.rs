//! apid as a foreign stack sees it: the Go client of `tests/foreign` against the rig.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::rig::{Kind, Rig};
use base64::Engine as _;

const CP: &str = "127.0.3.1";
const OTHER: &str = "127.0.3.2";

/// Builds the client; `None`, with the reason printed, where protoc or Go is missing.
fn build(root: &Path) -> Option<PathBuf> {
    let out = root.join("target/foreign");
    let built = Command::new(root.join("tests/foreign/build.sh")).arg(&out).output().unwrap();
    match built.status.code() {
        Some(0) => Some(out.join("foreign")),
        Some(3) => {
            eprintln!("skipped: {}", String::from_utf8_lossy(&built.stderr).trim());
            None
        }
        _ => panic!("building the foreign client failed:\n{}", String::from_utf8_lossy(&built.stderr)),
    }
}

fn client_config(rig: &Rig) -> String {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let admin = rig.ca.client("os:admin");
    let key = admin.key.replace("BEGIN PRIVATE", "BEGIN ED25519 PRIVATE").replace("END PRIVATE", "END ED25519 PRIVATE");
    format!(
        "context: rig\ncontexts:\n  rig:\n    endpoints: [\"{CP}:{}\"]\n    ca: {}\n    crt: {}\n    key: {}\n",
        rig.port,
        encode(&rig.ca.crt),
        encode(&admin.crt),
        encode(&key),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_go_client_finds_everything_as_it_should_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Some(program) = tokio::task::spawn_blocking(move || build(&root)).await.unwrap() else { return };
    let rig = Rig::new();
    let _a = rig.node(CP, Kind::ControlPlane).await;
    let _b = rig.node(OTHER, Kind::ControlPlane).await;
    let config = rig.dir.path().join("talosconfig");
    std::fs::write(&config, client_config(&rig)).unwrap();
    let run = tokio::task::spawn_blocking(move || {
        Command::new(program).arg("-talosconfig").arg(config).args(["-node", OTHER, "-dead", "127.0.3.99", "-stand-in"]).output()
    });
    let run = run.await.unwrap().unwrap();
    let report = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    println!("{report}");
    assert!(run.status.success(), "{report}");
    assert!(report.contains("31 checks, 0 failed, 0 skipped"), "{report}");
}
