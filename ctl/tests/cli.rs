//! What one sees of the whole program: its output and its exit code.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use model::config::client::{ClientConfig, Context};
use pki::{Role, Roles, profile};

fn orlopctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlopctl"));
    command.args(arguments);
    command
}

/// With a client certificate that expired yesterday.
fn expired(directory: &Path) -> anyhow::Result<impl Fn(&[&str]) -> std::io::Result<Output>> {
    let yesterday = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let ca = profile::os_ca(yesterday)?;
    let roles = Roles([Role::Admin].into_iter().collect());
    let issued = ca.issue(&profile::api_client(&roles, Duration::from_secs(3600)), yesterday)?;
    let context = Context {
        endpoints: vec!["127.0.0.1:1".into()],
        nodes: vec!["127.0.0.1".into()],
        ..Context::from_pem(&ca.certificate().to_pem(), &issued.cert, &issued.key)
    };
    let file = directory.join("talosconfig");
    std::fs::write(&file, ClientConfig::single("demo", context).encode())?;
    Ok(move |arguments: &[&str]| orlopctl(arguments).arg("--talosconfig").arg(&file).output())
}

#[test]
fn an_expired_client_certificate_is_a_verdict_of_health_and_an_error_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let run = expired(directory.path()).unwrap();
    for server in ["--server=true", "--server=false"] {
        let report = run(&["health", "-o", "json", server]).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!(report["causes"][0]["cause"], "certificate expired", "{report}");
    }
    for arguments in [&["version"][..], &["forget", "worker-1"]] {
        let said = run(arguments).unwrap();
        let error = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && error.contains("expired at") && error.contains("gen config"), "{arguments:?}: {error}");
        assert!(error.contains("talosconfig"), "{error}");
    }
}

#[test]
fn a_closed_pipe_is_no_success() {
    for arguments in [&["version", "--client"][..], &["gen", "secrets", "-o", "-"], &["completion", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = orlopctl(arguments).stdout(Stdio::from(writer)).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(said.status.code(), Some(141), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&said.stderr), "", "{arguments:?}");
    }
}
