//! Certificates checked by a foreign program (the openssl command), and files of the format's own tool.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use model::config::client::ClientConfig;
use model::config::secrets::Bundle;
use model::config::{Config, Secret};
use pki::{Algorithm, Ca, Certificate, Csr, Extended, Issued, Name, PrivateKey, Role, Roles, San, profile};

fn fixtures() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/peer");
    let path = std::env::var_os("ORLOP_FIXTURES").map_or(default, PathBuf::from);
    if path.join("secrets.yaml").exists() {
        return Some(path);
    }
    eprintln!("skipped: no fixtures at {} (set ORLOP_FIXTURES)", path.display());
    None
}

fn has_openssl() -> bool {
    let there = Command::new("openssl").arg("version").output().is_ok();
    if !there {
        eprintln!("skipped: no openssl command");
    }
    there
}

/// Runs openssl on files in a directory; its output, or a panic with its words.
fn openssl(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("openssl").args(args).current_dir(dir).output().expect("openssl");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "openssl {args:?}: {text}");
    text
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn chain(ca: &Ca, issued: &Issued, purpose: &str) -> String {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("ca.pem"), ca.certificate().to_pem()).expect("write");
    std::fs::write(dir.path().join("crt.pem"), &issued.cert).expect("write");
    std::fs::write(dir.path().join("key.pem"), &*pkcs8(&issued.key)).expect("write");
    openssl(dir.path(), &["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", "crt.pem"]);
    let public = openssl(dir.path(), &["pkey", "-in", "key.pem", "-pubout"]);
    assert_eq!(public, openssl(dir.path(), &["x509", "-in", "crt.pem", "-noout", "-pubkey"]), "the key belongs to the certificate");
    openssl(dir.path(), &["x509", "-in", "crt.pem", "-noout", "-text"])
}

/// openssl knows Ed25519 keys by the label of PKCS#8 only.
fn pkcs8(key: &str) -> String {
    key.replace("ED25519 PRIVATE KEY", "PRIVATE KEY")
}

#[test]
fn authorities_have_the_extensions_of_the_format() {
    if !has_openssl() {
        return;
    }
    let cases = [
        (profile::os_ca(now()), "Subject: O = talos", "ED25519"),
        (profile::kubernetes_ca(now()), "Subject: O = kubernetes", "prime256v1"),
        (profile::etcd_ca(now()), "Subject: O = etcd", "ecdsa-with-SHA256"),
        (profile::aggregator_ca(now()), "Subject: \n", "prime256v1"),
    ];
    for (ca, subject, algorithm) in cases {
        let ca = ca.expect("ca");
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("ca.pem"), ca.certificate().to_pem()).expect("write");
        let text = openssl(dir.path(), &["x509", "-in", "ca.pem", "-noout", "-text"]);
        for part in [
            subject,
            algorithm,
            "X509v3 Key Usage: critical\n                Digital Signature, Certificate Sign\n",
            "TLS Web Server Authentication, TLS Web Client Authentication",
            "X509v3 Basic Constraints: critical\n                CA:TRUE\n",
            "X509v3 Subject Key Identifier",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        let identity = ca.certificate().identity().expect("identity");
        let hours = identity.not_after.duration_since(identity.not_before).as_hours();
        assert_eq!(hours, 87600);
        openssl(dir.path(), &["verify", "-CAfile", "ca.pem", "ca.pem"]);
    }
}

#[test]
fn issued_certificates_stand_a_foreign_check() {
    if !has_openssl() {
        return;
    }
    let os = profile::os_ca(now()).expect("ca");
    let admin = os.issue(&profile::api_client(&Roles::from_iter([Role::Admin, Role::Reader]), profile::YEAR), now()).expect("issue");
    let text = chain(&os, &admin, "sslclient");
    assert!(text.contains("O = os:admin + O = os:reader"), "{text}");
    assert!(
        text.contains("Digital Signature\n")
            && text.contains("TLS Web Client Authentication\n")
            && !text.contains("Subject Key Identifier"),
        "{text}"
    );

    let sans = ["10.5.0.2", "::1", "cp-1", "cp-1.example.org"].map(San::parse).to_vec();
    let text = chain(&os, &os.issue(&profile::trustd_server("cp-1", sans.clone()), now()).expect("issue"), "sslserver");
    assert!(text.contains("Digital Signature, Key Encipherment"), "{text}");
    assert!(text.contains("IP Address:10.5.0.2, IP Address:0:0:0:0:0:0:0:1, DNS:cp-1, DNS:cp-1.example.org"), "{text}");

    let kubernetes = profile::kubernetes_ca(now()).expect("ca");
    let text = chain(&kubernetes, &kubernetes.issue(&profile::kube_api_server(sans), now()).expect("issue"), "sslserver");
    assert!(text.contains("Subject: O = kube-master, CN = kube-apiserver"), "{text}");
    chain(&kubernetes, &kubernetes.issue(&profile::kubelet_client("cp-1"), now()).expect("issue"), "sslclient");

    let aggregator = profile::aggregator_ca(now()).expect("ca");
    let proxy = aggregator.issue(&profile::front_proxy_client(), now()).expect("issue");
    let text = chain_by_key_id(&aggregator, &proxy);
    assert!(text.contains("Issuer: \n") && text.contains("X509v3 Authority Key Identifier"), "{text}");

    let etcd = profile::etcd_ca(now()).expect("ca");
    let text = chain(&etcd, &etcd.issue(&profile::etcd_server("cp-1", vec![San::parse("10.5.0.2")]), now()).expect("issue"), "sslserver");
    assert!(text.contains("127.0.0.1") && text.contains("DNS:localhost") && text.contains("Client Authentication"), "{text}");
}

/// A strict check refuses an empty issuer name, which this authority has by the format.
fn chain_by_key_id(ca: &Ca, issued: &Issued) -> String {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("ca.pem"), ca.certificate().to_pem()).expect("write");
    std::fs::write(dir.path().join("crt.pem"), &issued.cert).expect("write");
    openssl(dir.path(), &["verify", "-purpose", "sslclient", "-CAfile", "ca.pem", "crt.pem"]);
    openssl(dir.path(), &["x509", "-in", "crt.pem", "-noout", "-text"])
}

#[test]
fn requests_are_granted_without_roles_and_for_own_addresses_only() {
    if !has_openssl() {
        return;
    }
    let ca = profile::os_ca(now()).expect("ca");
    let key = PrivateKey::generate(Algorithm::Ed25519).expect("key");
    let name = Name::new("worker-1", &["os:admin"]);
    let wanted = ["10.5.0.3", "10.5.0.2", "worker-1"].map(San::parse);
    let pem = Csr::create(&name, &wanted, &key).expect("csr");
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("csr.pem"), &pem).expect("write");
    let text = openssl(dir.path(), &["req", "-in", "csr.pem", "-noout", "-verify", "-text"]);
    assert!(text.contains("IP Address:10.5.0.3") && text.contains("O = os:admin, CN = worker-1"), "{text}");

    let csr = Csr::from_pem(&pem).expect("csr");
    let granted = csr.sign(&ca, &profile::apid_worker(), |san| *san != San::parse("10.5.0.2"), now()).expect("sign");
    let identity = ca.verify(&granted, Extended::Server, now()).expect("verify");
    assert_eq!(identity.name, Name::new("worker-1", &[]));
    assert_eq!(identity.sans, ["10.5.0.3", "worker-1"].map(San::parse));
    assert!(granted.matches(&key).expect("same key"));
    assert!(ca.verify(&granted, Extended::Client, now()).expect_err("no client").to_string().contains("for use as a client"));
    assert!(csr.sign(&ca, &profile::apid_worker(), |_| false, now()).expect_err("nothing allowed").to_string().contains("none of the 3"));
    let mut forged = pki::pem::first(&pem).expect("block").der;
    let at = forged.windows(8).position(|w| w == b"worker-1").expect("the name");
    forged[at] = b'W';
    let error = Csr::from_pem(&pki::pem::encode("CERTIFICATE REQUEST", &forged)).expect_err("forged").to_string();
    assert!(error.contains("not signed by the key it is about"), "{error}");

    let foreign = openssl(
        dir.path(),
        &["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "k.pem", "-subj", "/CN=w"],
    );
    let start = foreign.find("-----BEGIN CERTIFICATE REQUEST").expect("csr");
    assert_eq!(Csr::from_pem(&foreign[start..]).expect("foreign csr").name, Name::new("w", &[]));
}

#[test]
fn keys_of_foreign_programs_load_and_ours_load_there() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    for (args, algorithm) in [
        (vec!["genpkey", "-algorithm", "ed25519"], Algorithm::Ed25519),
        (vec!["ecparam", "-name", "prime256v1", "-genkey"], Algorithm::P256),
        (vec!["ecparam", "-name", "secp384r1", "-genkey", "-noout"], Algorithm::P384),
        (vec!["genrsa", "-traditional", "2048"], Algorithm::Rsa),
        (vec!["genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"], Algorithm::Rsa),
    ] {
        let pem = openssl(dir.path(), &args);
        let key = PrivateKey::from_pem(&pem).unwrap_or_else(|e| panic!("{args:?}: {e}"));
        assert_eq!(key.algorithm(), algorithm);
        std::fs::write(dir.path().join("ours.pem"), pkcs8(&key.to_pem())).expect("write");
        assert_eq!(openssl(dir.path(), &["pkey", "-in", "ours.pem", "-pubout"]), key.public_pem().expect("public"), "{args:?}");
        assert_eq!(format!("{key:?}"), format!("PrivateKey({algorithm:?}, REDACTED)"));
    }
    assert!(PrivateKey::from_pem("nonsense").expect_err("no pem").to_string().contains("text without a BEGIN line"));
    let cert = profile::os_ca(now()).expect("ca").certificate().to_pem();
    assert!(PrivateKey::from_pem(&cert).expect_err("a certificate").to_string().contains("no private key"));
    let encrypted = openssl(dir.path(), &["pkey", "-in", "ours.pem", "-aes256", "-passout", "pass:x"]);
    assert!(PrivateKey::from_pem(&encrypted).expect_err("encrypted").to_string().contains("decrypt it first"));
}

#[test]
fn the_fixtures_bundle_is_whole_and_its_admin_verifies() {
    let Some(root) = fixtures() else { return };
    let bundle = Bundle::parse(&std::fs::read(root.join("secrets.yaml")).expect("read")).expect("bundle");
    pki::bundle::validate(&bundle).expect("whole");
    let pair = bundle.certs.os.as_ref().expect("os");
    let ca = Ca::from_pem(&pair.cert_pem(), pair.key_pem().expose()).expect("ca");
    assert_eq!(ca.certificate().identity().expect("identity").name, Name::new("", &["talos"]));
    for version in ["v1.8", "v1.10", "v1.12", "v1.15"] {
        let config = ClientConfig::parse(&std::fs::read(root.join(version).join("talosconfig")).expect("read")).expect("talosconfig");
        let context = config.get(None).expect("context");
        let cert = Certificate::from_pem(&context.cert_pem()).expect("cert");
        let at = cert.identity().expect("identity").not_before;
        let admin = ca.verify(&cert, Extended::Client, at).expect("the admin verifies");
        assert_eq!(Roles::parse(admin.name.organizations.iter().map(String::as_str)), (Roles::from_iter([Role::Admin]), Vec::new()));
        assert!(cert.matches(&PrivateKey::from_pem(context.key_pem().expose()).expect("key")).expect("same key"));
        let late = at + jiff::SignedDuration::from_hours(9000);
        assert!(ca.verify(&cert, Extended::Client, late).expect_err("expired").to_string().contains("check the clock"));
        assert!(
            profile::os_ca(now())
                .expect("ca")
                .verify(&cert, Extended::Client, at)
                .expect_err("foreign")
                .to_string()
                .contains("was not signed by")
        );
    }
}

#[test]
fn ours_issues_under_the_fixtures_authorities() {
    let Some(root) = fixtures() else { return };
    if !has_openssl() {
        return;
    }
    let bundle = Bundle::parse(&std::fs::read(root.join("secrets.yaml")).expect("read")).expect("bundle");
    for (pair, strict) in
        [(&bundle.certs.os, true), (&bundle.certs.k8s, true), (&bundle.certs.etcd, true), (&bundle.certs.k8s_aggregator, false)]
    {
        let pair = pair.as_ref().expect("pair");
        let ca = Ca::from_pem(&pair.cert_pem(), pair.key_pem().expose()).expect("ca");
        assert_eq!(ca.key().to_pem().as_str(), pair.key_pem().expose(), "keys are written as they were");
        let at = ca.certificate().identity().expect("identity").not_before;
        let issued = ca.issue(&profile::etcd_peer("x", vec![San::parse("10.0.0.1")]), at.max(now())).expect("issue");
        if strict {
            chain(&ca, &issued, "sslserver")
        } else {
            chain_by_key_id(&ca, &issued)
        };
    }
}

#[test]
fn bundles_come_back_from_control_planes() {
    let Some(root) = fixtures() else { return };
    let expected = Bundle::parse(&std::fs::read(root.join("secrets.yaml")).expect("read")).expect("bundle");
    for version in ["v1.8", "v1.10", "v1.12", "v1.15"] {
        let load = |role: &str| Config::load(&std::fs::read(root.join(version).join(role)).expect("read")).expect("config").machine;
        let bundle = pki::bundle::from_control_plane(&load("controlplane.yaml")).expect("bundle");
        assert_eq!(bundle.encode(), expected.encode(), "{version}");
        let error = pki::bundle::from_control_plane(&load("worker.yaml")).expect_err("a worker").to_string();
        assert!(error.contains("found the configuration of a worker"), "{error}");
    }
}

#[test]
fn new_bundles_are_whole_and_differ() {
    let one = pki::bundle::generate(pki::bundle::ServiceAccountKey::Ecdsa, now()).expect("bundle");
    let two = pki::bundle::generate(pki::bundle::ServiceAccountKey::Ecdsa, now()).expect("bundle");
    pki::bundle::validate(&one).expect("whole");
    assert_eq!(Bundle::parse(one.encode().as_bytes()).expect("reads back").encode(), one.encode());
    assert_ne!(one.trustd.token, two.trustd.token);
    assert_ne!(one.cluster.id, two.cluster.id);
    let mut broken = one.clone();
    broken.trustd.token = Secret::from("short");
    assert!(pki::bundle::validate(&broken).expect_err("token").to_string().contains("trustdinfo.token"));
    let mut broken = one.clone();
    broken.certs.os = two.certs.os.as_ref().zip(one.certs.os.as_ref()).map(|(a, b)| {
        let mut pair = a.clone();
        pair.key = b.key.clone();
        pair
    });
    assert!(pki::bundle::validate(&broken).expect_err("foreign key").to_string().contains("a private key of another certificate"));
    assert!(!format!("{one:?}").contains(one.trustd.token.expose()));
}

#[test]
fn an_expired_authority_issues_nothing() {
    let ca = Ca::generate(&Name::new("", &["old"]), Algorithm::P256, pki::hours(1), now()).expect("ca");
    let late = now() + jiff::SignedDuration::from_hours(2);
    let error = ca.issue(&profile::scheduler(), late).expect_err("expired").to_string();
    assert!(error.contains("the authority O=old is valid from"), "{error}");
    let issued = ca.issue(&profile::scheduler(), now()).expect("issue");
    assert_eq!(issued.not_after, ca.certificate().identity().expect("identity").not_after, "no longer than the authority");
}

#[test]
fn rsa_keys_are_made_on_request() {
    let key = PrivateKey::generate_rsa(2048).expect("rsa");
    assert!(key.to_pem().starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    assert_eq!(PrivateKey::from_pem(&key.to_pem()).expect("reads back").public_pem(), key.public_pem());
    assert!(PrivateKey::generate_rsa(512).expect_err("too small").to_string().contains("2048 to 8192"));
}

#[test]
fn the_maintenance_certificate_is_for_its_addresses() {
    let (ca, issued) = profile::maintenance(vec![San::parse("10.5.0.9")], now()).expect("maintenance");
    let cert = Certificate::from_pem(&issued.cert).expect("cert");
    let identity = ca.verify(&cert, Extended::Server, now()).expect("verify");
    assert!(identity.sans.contains(&San::parse("10.5.0.9")));
    assert_eq!(cert.fingerprint().expect("fingerprint").len(), 44);
}
