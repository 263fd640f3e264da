//! Tests against files that the format's own tool wrote, and against what a user may get wrong.

use std::path::PathBuf;

use super::machine::HostnameSource;
use super::*;

/// The fixtures, or a printed reason why the test does nothing.
pub(crate) fn fixtures() -> Option<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/peer");
    let path = std::env::var_os("ORLOP_FIXTURES").map_or(default, PathBuf::from);
    if path.join("secrets.yaml").exists() {
        return Some(path);
    }
    eprintln!("skipped: no fixtures at {} (set ORLOP_FIXTURES)", path.display());
    None
}

/// Every generated configuration: its name (`v1.15/worker`) and text.
pub(crate) fn generated() -> Vec<(String, String)> {
    let Some(root) = fixtures() else { return Vec::new() };
    let mut out = Vec::new();
    for version in ["v1.8", "v1.10", "v1.12", "v1.15"] {
        for role in ["controlplane", "worker"] {
            let text = std::fs::read_to_string(root.join(version).join(format!("{role}.yaml"))).expect("fixture");
            out.push((format!("{version}/{role}"), text));
        }
    }
    out
}

fn load(text: &str) -> Loaded {
    Config::load(text.as_bytes()).unwrap_or_else(|e| panic!("{e}"))
}

fn refusals(text: &str) -> Vec<String> {
    match Config::load(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn generated_configurations_load_and_are_written_back_byte_for_byte() {
    for (name, text) in generated() {
        let loaded = load(&text);
        assert_eq!(&*loaded.text.bytes(), text.as_bytes(), "{name}");
        assert!(loaded.text.is_complete(), "{name}");
        similar(&name, &loaded.text.encode(), &text);
    }
}

/// Equal texts, with the first differing line in the message.
pub(crate) fn similar(name: &str, ours: &str, theirs: &str) {
    for (i, (a, b)) in ours.lines().zip(theirs.trim_end().lines()).enumerate() {
        assert_eq!(a, b, "{name}, line {}", i + 1);
    }
    assert_eq!(ours.trim_end().lines().count(), theirs.trim_end().lines().count(), "{name}: number of lines");
}

#[test]
fn both_styles_mean_the_same() {
    for (name, text) in generated() {
        let machine = load(&text).machine;
        let control_plane = name.ends_with("controlplane");
        assert_eq!(machine.machine_type().is_control_plane(), control_plane, "{name}");
        assert_eq!(machine.cluster_name(), "demo", "{name}");
        assert_eq!(machine.endpoint().map(types::Url::as_str), Some("https://10.5.0.2:6443"), "{name}");
        assert_eq!(machine.base.token.expose(), "7pzy85.edgd0qk9tm5vtlo6", "{name}");
        assert_eq!(machine.base.bootstrap_token.expose(), "2uo1nq.qojr2dxb7r44z3pk", "{name}");
        assert!(machine.base.ca.as_ref().is_some_and(|ca| ca.cert.starts_with("-----BEGIN CERTIFICATE-----")), "{name}");
        assert_eq!(machine.base.ca.as_ref().map(|ca| ca.key.is_empty()), Some(!control_plane), "{name}");
        assert_eq!(machine.pod_subnets(), ["10.244.0.0/16".parse().expect("net")], "{name}");
        assert_eq!(machine.cluster_dns(), ["10.96.0.10".parse::<std::net::IpAddr>().expect("ip")], "{name}");
        assert_eq!(machine.kube_prism_port(), Some(7445), "{name}");
        assert_eq!(machine.hostname(), HostnameSource::Stable, "{name}");
        assert_eq!(machine.host_dns().forward_kube_dns_to_host, Some(true), "{name}");
        assert_eq!(
            machine.discovery_identity().map(|d| d.cluster_id.as_str()),
            Some("qvsxu6w7H8To3WkGGC0Az1+MjJK4Pjd2QSPznJZWz58="),
            "{name}"
        );
        assert_eq!(
            machine.discovery_services().map(|d| d.endpoint.as_str()).collect::<Vec<_>>(),
            ["https://discovery.talos.dev/"],
            "{name}"
        );
        assert_eq!(machine.kubelet().map(|k| k.image.as_str()), Some("ghcr.io/siderolabs/kubelet:v1.37.0-rc.1"), "{name}");
        let node = machine.node();
        assert_eq!(
            node.taints.get("node-role.kubernetes.io/control-plane").map(String::as_str),
            control_plane.then_some("NoSchedule"),
            "{name}"
        );
        assert_eq!(machine.runs_kubernetes(), control_plane, "{name}");
        assert!(machine.kubernetes_accepted_cas()[0].starts_with("-----BEGIN CERTIFICATE-----"), "{name}");
        assert_eq!(
            machine.flannel().map(|f| (f.backend_type.as_str(), f.backend_port)),
            control_plane.then_some(("vxlan", Some(4789))),
            "{name}"
        );
        assert_eq!(machine.aggregator_ca().is_some(), control_plane, "{name}");
        assert_eq!(machine.service_account().is_some_and(|(key, _)| key.expose().starts_with("-----BEGIN RSA")), control_plane, "{name}");
        assert_eq!(machine.base.etcd.ca.is_some(), control_plane, "{name}");
        if control_plane {
            let encryption = serde_json::Value::Object(machine.etcd_encryption().cloned().unwrap_or_default());
            let secret = &encryption["resources"][0]["providers"][0]["secretbox"]["keys"][0]["secret"];
            assert_eq!(secret, "PxYnnVtNnKE+8dmt2R4mUQuMxL4oB1wmLnFhlBBXBsk=", "{name}");
            assert_eq!(machine.admission_plugins().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["PodSecurity"], "{name}");
            assert_eq!(machine.audit_policy()["rules"][0]["level"], "Metadata", "{name}");
            assert!(machine.kube_proxy().is_some() && machine.core_dns_image().is_some() && machine.scheduler().is_some(), "{name}");
        }
    }
}

#[test]
fn every_problem_is_told_at_once_with_place_and_advice() {
    let text = "version: v1alpha1\nmachine:\n  type: worker\n  kubelets: {}\n  network:\n    interfaces:\n      - interface: eth0\n        mtu: big\n  certSans: []\ncluster:\n  proxy:\n    disabled: maybe\n---\napiVersion: v1alpha1\nkind: LinkConfg\nname: eth0\n---\n- a\n---\nfoo: 1\n---\napiVersion: v1alpha1\nkind: BondConfig\nname: b\nbondMode: 803.2ad\n";
    assert_eq!(
        refusals(text).iter().map(|p| p.split(';').next().unwrap_or("").to_owned()).collect::<Vec<_>>(),
        [
            "line 4, column 3: v1alpha1.Config: machine.kubelets: unknown key `kubelets`",
            "line 8, column 14: v1alpha1.Config: machine.network.interfaces[0].mtu: `big`",
            "line 9, column 3: v1alpha1.Config: machine.certSans: unknown key `certSans`",
            "line 12, column 15: v1alpha1.Config: cluster.proxy.disabled: `maybe`",
            "line 15, column 7: kind: unknown kind `LinkConfg`",
            "line 18, column 1: a list of 1",
            "line 20, column 1: a document without `kind` that starts with `foo`",
            "line 25, column 11: BondConfig/b: bondMode: `803.2ad`",
        ]
    );
    let all = refusals(text).join("\n");
    for hint in [
        "did you mean `kubelet`?",
        "did you mean `certSANs`?",
        "did you mean `LinkConfig`?",
        "did you mean `802.3ad`?",
        "a whole number from 0 to 4294967295",
    ] {
        assert!(all.contains(hint), "{hint} in\n{all}");
    }
}

#[test]
fn one_thing_has_one_document() {
    let twice = "apiVersion: v1alpha1\nkind: SysctlConfig\nparams: {a: b}\n---\napiVersion: v1alpha1\nkind: SysctlConfig\nparams: {}\n";
    assert!(
        refusals(twice)[0].contains("a second SysctlConfig; one document of this kind: the first is in line 1"),
        "{:?}",
        refusals(twice)
    );
    let links = "apiVersion: v1alpha1\nkind: LinkConfig\nname: a\n---\napiVersion: v1alpha1\nkind: VethConfig\nname: b\npeer: {name: a}\n";
    assert!(refusals(links)[0].contains("the link `a`, which LinkConfig/a in line 1 configures already"), "{:?}", refusals(links));
    let vips = "apiVersion: v1alpha1\nkind: Layer2VIPConfig\nname: 10.0.0.1\nlink: a\n---\napiVersion: v1alpha1\nkind: HCloudVIPConfig\nname: 10.0.0.1\nlink: a\napiToken: x\n";
    assert!(refusals(vips)[0].contains("the name of Layer2VIPConfig/10.0.0.1"), "{:?}", refusals(vips));
    assert!(refusals("version: v1alpha1\n---\nmachine: {}\n")[0].contains("a second root document"));
    assert!(refusals("kind: SysctlConfig\n")[0].contains("apiVersion: v1alpha1"));
    assert!(refusals("apiVersion: v1alpha1\nname: x\n")[0].contains("without `kind`"));
}

#[test]
fn secrets_are_redacted_and_nothing_else() {
    for (name, text) in generated() {
        let loaded = load(&text);
        let redacted = loaded.text.redacted();
        for secret in [
            "7pzy85",
            "2uo1nq",
            "PxYnnVtN",
            "5kKRdtmN",
            "PRIVATE KEY",
            "LS0tLS1CRUdJTiBFRDI1",
            "LS0tLS1CRUdJTiBFQyBQ",
            "LS0tLS1CRUdJTiBSU0EgUFJJ",
        ] {
            assert!(!redacted.contains(secret), "{name} shows {secret}");
        }
        assert!(redacted.contains("clusterName: demo") && redacted.contains("crt: LS0tLS1CRUdJTiBDRVJU"), "{name}");
        assert!(Config::load(redacted.as_bytes()).is_ok(), "{name}");
        let debug = format!("{:?}", loaded.machine.documents);
        assert!(!debug.contains("PxYnnVtN") && !debug.contains("PRIVATE KEY"), "{name}");
    }
}

#[test]
fn flattened_link_keys_stand_in_the_document() {
    let text = "apiVersion: v1alpha1\nkind: VLANConfig\nname: v7\nvlanID: 7\nparent: eth0\nmtu: 1400\naddresses:\n    - address: 192.0.2.7/24\nroutes:\n    - gateway: 192.0.2.1\n";
    let loaded = load(text);
    let vlan = loaded.machine.get::<docs::net::VlanConfig>().expect("there");
    assert_eq!((vlan.vlan_id, vlan.link.mtu, vlan.link.addresses.len()), (Some(7), Some(1400), 1));
    assert_eq!(loaded.text.encode(), text);
}

#[test]
fn every_kind_decodes_an_empty_body_and_names_its_required_keys() {
    for kind in KINDS {
        let loaded = Config::load(format!("apiVersion: v1alpha1\nkind: {}\n", kind.name).as_bytes());
        assert!(loaded.is_ok(), "{}: {loaded:?}", kind.name);
    }
    assert_eq!(KINDS.len(), 89, "the kinds of facts/config.md");
}

fn bundle() -> Option<secrets::Bundle> {
    let bytes = std::fs::read(fixtures()?.join("secrets.yaml")).expect("fixture");
    let bundle = secrets::Bundle::parse(&bytes).unwrap_or_else(|e| panic!("{e}"));
    similar("secrets.yaml", &bundle.encode(), &String::from_utf8_lossy(&bytes));
    Some(bundle)
}

fn generate_options(version: &str) -> generate::Options {
    let mut options = generate::Options::new("demo", types::Url::new("https://10.5.0.2:6443").expect("url"));
    options.contract = generate::Contract::parse(version).expect("version");
    options.kubernetes_version = "1.37.0-rc.1".to_owned();
    let image = "factory.talos.dev/metal-installer/376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba:v1.14.0-beta.1";
    options.install = Some(generate::InstallTarget { disk: "/dev/sda".to_owned(), image: image.to_owned() });
    options
}

#[test]
fn generated_files_are_those_of_the_formats_own_tool_byte_for_byte() {
    let Some(bundle) = bundle() else { return };
    for (name, text) in generated() {
        let (version, role) = name.split_once('/').expect("two parts");
        let machine_type = MachineType::parse(role).expect("role");
        let config = generate::generate(&bundle, &generate_options(version), machine_type);
        similar(&name, &config.encode(), &text);
        assert_eq!(config.encode(), text, "{name}");
    }
}

#[test]
fn a_container_has_no_installation() {
    let Some(bundle) = bundle() else { return };
    let mut options = generate_options("v1.15");
    options.install = None;
    options.additional_sans = vec!["10.5.0.2".to_owned(), "localhost".to_owned()];
    let config = generate::generate(&bundle, &options, MachineType::ControlPlane);
    let loaded = load(&config.encode());
    assert!(loaded.machine.get::<docs::host::UnattendedInstallConfig>().is_none());
    assert_eq!(loaded.machine.base.cert_sans, ["10.5.0.2", "localhost"]);
    assert_eq!(loaded.machine.api_server().map(|a| a.cert_extra_sans.len()), Some(2));
    options.contract = generate::Contract { major: 1, minor: 12 };
    let old = load(&generate::generate(&bundle, &options, MachineType::ControlPlane).encode());
    assert!(old.machine.get::<docs::host::UnattendedInstallConfig>().is_none());
}

#[test]
fn patches_give_what_the_formats_own_tool_gives() {
    let Some(root) = fixtures() else { return };
    let mut seen = 0;
    for (name, text) in generated() {
        let name = name.replace('/', "-");
        for entry in std::fs::read_dir(root.join("patches")).expect("patches") {
            let path = entry.expect("entry").path();
            let stem = path.file_stem().expect("stem").to_string_lossy().into_owned();
            let expected = root.join("patched").join(format!("{name}-{stem}.yaml"));
            let refused = root.join("patched").join(format!("{name}-{stem}.error"));
            if !expected.exists() && !refused.exists() {
                continue;
            }
            seen += 1;
            let config = load(&text).text;
            let result = patch::Patch::parse(&std::fs::read(&path).expect("patch"), 1).and_then(|p| patch::apply(&config, &[p]));
            match (result, expected.exists()) {
                (Ok(result), true) => {
                    let theirs = std::fs::read_to_string(&expected).expect("result");
                    if stem == "12-json-patch" {
                        let plain = |t: &str| parse(t.as_bytes(), 0).0.iter().map(|d| types::to_any(&d.root)).collect::<Vec<_>>();
                        assert_eq!(plain(&result.encode()), plain(&theirs), "{name} {stem}");
                    } else {
                        similar(&format!("{name} {stem}"), &result.encode(), &theirs);
                    }
                }
                (Err(problems), false) => {
                    let told = problems.to_string();
                    let better = if stem.starts_with("16") {
                        "line 2, column 3: v1alpha1.Config: machine.kubelets: unknown key `kubelets`"
                    } else {
                        "a JSON patch for a configuration of"
                    };
                    assert!(told.contains(better), "{name} {stem}: {told}");
                    assert!(problems.0.iter().all(|p| p.source == 1), "{name} {stem}: {told}");
                }
                (Ok(_), false) => panic!("{name} {stem}: accepted, but must be refused"),
                (Err(problems), true) => panic!("{name} {stem}: refused: {problems}"),
            }
        }
    }
    assert_eq!(seen, 72, "fixtures of patches");
}

fn patched(text: &str, patch: &str) -> Result<String, String> {
    let config = load(text).text;
    let result = patch::Patch::parse(patch.as_bytes(), 1).and_then(|p| patch::apply(&config, &[p]));
    result.map(|c| c.encode()).map_err(|p| p.to_string())
}

#[test]
fn patches_follow_the_rules_for_lists_and_deletes() {
    let base = "version: v1alpha1\nmachine:\n    type: worker\n    token: a\n    certSANs: []\n    network:\n        interfaces:\n            - interface: eth0\n              mtu: 1500\n            - interface: eth1\n    nodeLabels:\n        a: b\n---\napiVersion: v1alpha1\nkind: NetworkRuleConfig\nname: r\nportSelector:\n    ports:\n        - \"80\"\n    protocol: tcp\n";
    let merged =
        patched(base, "machine: {network: {interfaces: [{interface: eth0, dhcp: true}, {interface: eth2}]}, nodeLabels: {c: \"\"}}")
            .expect("merge");
    assert!(merged.contains("- interface: eth0\n              mtu: 1500\n              dhcp: true\n            - interface: eth1\n            - interface: eth2\n"), "{merged}");
    assert!(merged.contains("a: b\n        c: \"\"\n"), "{merged}");
    let replaced =
        patched(base, "apiVersion: v1alpha1\nkind: NetworkRuleConfig\nname: r\nportSelector: {ports: [90-95]}\n").expect("replace");
    assert!(replaced.contains("ports:\n        - 90-95\n"), "{replaced}");
    let removed = patched(base, "machine: {network: {interfaces: [{interface: eth0, $patch: delete}]}}").expect("delete");
    assert!(!removed.contains("eth0") && removed.contains("eth1"), "{removed}");
    let document = patched(base, "apiVersion: v1alpha1\nkind: NetworkRuleConfig\nname: r\n$patch: delete\n").expect("delete document");
    assert!(!document.contains("NetworkRuleConfig"));
    assert_eq!(
        patched(base, "apiVersion: v1alpha1\nkind: SysctlConfig\n$patch: delete\n").expect("absent documents are ignored"),
        patched(base, "machine: {}").expect("nothing")
    );
    assert_eq!(
        patched(base, "machine: {install: {$patch: delete}}").expect("unset keys are ignored"),
        patched(base, "machine: {}").expect("nothing")
    );
    let inner = patched(base, "machine: {network: {interfaces: [{interface: eth0, mtu: {$patch: delete}}]}}").expect_err("inner keys");
    assert!(
        inner.contains("line 1, column 52: v1alpha1.Config: machine.network.interfaces[0].mtu") && inner.contains("cannot be deleted"),
        "{inner}"
    );
    let parent = patched(base, "machine: {time: {servers: {$patch: delete}}}").expect_err("no parent");
    assert!(parent.contains("below `time`"), "{parent}");
    let label = patched(base, "machine: {nodeLabels: {x: {$patch: delete}}}").expect_err("no such label");
    assert!(label.contains("below `x`"), "{label}");
    let word = patched(base, "machine: {type: {$patch: delet}}").expect_err("another directive");
    assert!(word.contains("did you mean `delete`?"), "{word}");
}

#[test]
fn any_maps_refuse_values_of_another_kind() {
    let base = "apiVersion: v1alpha1\nkind: KubeletConfig\nimage: x\nconfig:\n    featureGates:\n        A: true\n";
    let error = patched(base, "apiVersion: v1alpha1\nkind: KubeletConfig\nconfig: {featureGates: [A]}\n").expect_err("list into map");
    assert!(error.contains("KubeletConfig: config.featureGates: a list of 1"), "{error}");
    let merged =
        patched(base, "apiVersion: v1alpha1\nkind: KubeletConfig\nconfig: {featureGates: {B: false}, maxPods: 5}\n").expect("merge");
    assert!(merged.contains("config:\n    featureGates:\n        A: true\n        B: false\n    maxPods: 5\n"), "{merged}");
}

#[test]
fn arguments_are_files_or_patches() {
    use patch::Argument::{File, Inline};
    for (text, expected) in [
        ("@a b.yaml", File("a b.yaml")),
        ("a.yaml", File("a.yaml")),
        ("{}", Inline("{}")),
        ("[1]", Inline("[1]")),
        ("debug: true", Inline("debug: true")),
    ] {
        assert_eq!(patch::argument(text), expected);
    }
}

#[test]
fn contexts_survive_and_merge() {
    let Some(root) = fixtures() else { return };
    let text = std::fs::read_to_string(root.join("v1.15/talosconfig")).expect("fixture");
    let mut config = client::ClientConfig::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    similar("talosconfig", &config.encode(), &text);
    assert!(config.get(None).is_some_and(|c| c.cert_pem().starts_with("-----BEGIN CERTIFICATE")));
    assert!(config.merge(&config.clone()).is_empty(), "the same context again is no clash");
    let mut other = config.clone();
    other.contexts.get_mut("demo").expect("context").endpoints.push("10.5.0.2".to_owned());
    assert_eq!(config.merge(&other), [("demo".to_owned(), "demo-1".to_owned())]);
    assert_eq!(config.context, "demo-1");
    let old = client::ClientConfig::parse(b"context: a\ncontexts: {a: {target: 10.0.0.1, ca: x}}\n").expect("old file");
    assert_eq!(old.get(None).map(|c| c.endpoints.clone()), Some(vec!["10.0.0.1".to_owned()]));
    assert!(
        client::ClientConfig::parse(b"contexts: {a: {endpoint: []}}")
            .expect_err("unknown key")
            .to_string()
            .contains("did you mean `endpoints`?")
    );
}

fn found(text: &str, mode: Mode) -> Vec<String> {
    let problems = load(text).text.validate(mode, Options::default());
    problems.0.iter().filter(|p| p.severity != Severity::Advice).map(ToString::to_string).collect()
}

#[test]
fn generated_configurations_are_valid_in_every_mode() {
    for (name, text) in generated() {
        for mode in [Mode::Metal, Mode::Cloud, Mode::Container] {
            assert_eq!(found(&text, mode), Vec::<String>::new(), "{name} {mode:?}");
            assert!(!load(&text).text.validate(mode, Options { strict: true, local: false }).refuses(), "{name} {mode:?} strict");
        }
    }
    for (name, text) in generated().iter().filter(|(n, _)| n.starts_with("v1.12")) {
        let problems = load(text).text.validate(Mode::Metal, Options::default());
        let advice: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
        assert!(
            advice.iter().any(|a| a.contains("machine.kubelet: advice: `kubelet` is deprecated; use the document KubeletConfig instead")),
            "{name}: {advice:?}"
        );
    }
}

/// A document, and what its only problem says.
const REFUSED: &[(&str, &str)] = &[
    ("KubeClusterConfig\nclusterName: x", "endpoint: nothing; `endpoint` is required"),
    (
        "KubeNetworkConfig\npodSubnets: [10.0.0.0/8]\nserviceSubnets: [10.96.0.0/12]\nnodeCIDRMaskSizeIPv4: 30",
        "a prefix length from 8 to 24",
    ),
    (
        "KubeNetworkConfig\npodSubnets: [10.244.0.1/16]\nserviceSubnets: [10.96.0.0/12]",
        "`10.244.0.1/16`, which has host bits; `10.244.0.0/16`",
    ),
    ("KubeNetworkConfig\npodSubnets: [10.244.0.0/16]\nserviceSubnets: [10.0.0.0/8]", "at most 2^20 addresses"),
    (
        "KubeNetworkConfig\npodSubnets: [10.244.0.0/16, 'fd00::/56']\nserviceSubnets: [10.96.0.0/12]",
        "1 service networks for 2 pod networks",
    ),
    ("KubeletConfig\nimage: ghcr.io/siderolabs/kubelet:v1.20.0", "version `v1.20.0`; Kubernetes 1.33 to 1.38"),
    ("KubeletConfig\nimage: x:v1.37.0\nconfig: {port: 1}", "config.port: `port`; another field"),
    ("KubeNodeConfig\ntaints: {a: Sometimes}", "`Sometimes`; `[value:]Effect`"),
    ("KubeNodeConfig\nlabels: {'a b': c}", "the name `a b`"),
    ("KubePrismConfig\nport: 0", "a port from 1 to 65535"),
    ("KubeStaticPodConfig\nname: A_b\npod: {kind: Pod}", "`A_b`; lower-case letters"),
    ("KubeExternalManifestConfig\nname: a\nurl: ftp://x/y", "the scheme `ftp`; http or https"),
    ("HostnameConfig", "neither auto nor hostname"),
    ("HostnameConfig\nauto: stable\nhostname: a", "both a name and `auto: stable`"),
    ("ResolverConfig\nnameservers: [{address: 1.1.1.1, tlsServerName: x}]", "a name for a plain server"),
    ("ResolverConfig\nhostDNS: {forwardKubeDNSToHost: true}", "hostDNS.forwardKubeDNSToHost: `true` while hostDNS is off"),
    ("TimeSyncConfig\nntp: {}\nptp: {}", "both ntp and ptp"),
    ("VLANConfig\nname: a\nparent: b\nvlanID: 5000", "vlanID: 5000; 1 to 4094"),
    ("BondConfig\nname: a\nlinks: [x]\nbondMode: balance-rr\nprimary: x", "a preferred member in mode balance-rr"),
    ("VRFConfig\nname: a\nlinks: [x]\ntable: main", "a table of the system"),
    ("VethConfig\nname: a\npeer: {name: a/b}", "`a/b`; at most 15 letters"),
    ("WireguardConfig\nname: a\nprivateKey: abc", "not 32 bytes in base64"),
    ("LinkAliasConfig\nname: a%s\nselector: {match: 'true'}", "`%` only in `%d` at the end"),
    ("LinkAliasConfig\nname: a", "selector: nothing; `selector` is required"),
    ("DHCPv4Config\nname: a\nclientIdentifier: duid", "a DUID with `clientIdentifier: duid`"),
    ("Layer2VIPConfig\nname: vip\nlink: a", "an IP address"),
    ("StaticHostConfig\nname: 10.0.0.1\nhostnames: []", "no names"),
    ("BlackholeRouteConfig\nname: x", "a prefix such as 10.0.0.0/8"),
    ("RoutingRuleConfig\nname: '32766'\ntable: 5", "the priority"),
    ("NetworkRuleConfig\nname: a\nportSelector: {ports: [1-10, 5], protocol: tcp}", "ranges that overlap"),
    ("KubeSpanConfig\nmtu: 1000", "at least 1280"),
    ("BGPInstanceConfig\nname: a\nlocalASN: 1\nneighbors: [{}]", "both or neither of address and link"),
    ("DiscoveryIdentityConfig\nclusterID: a\nclusterSecret: b", "clusterSecret: a text that is not 32 bytes"),
    ("SideroLinkConfig\napiUrl: http://x", "the scheme `http`; https or grpc"),
    ("VolumeConfig\nname: EPHEMERL", "did you mean `EPHEMERAL`?"),
    ("VolumeConfig\nname: STATE\nprovisioning: {grow: true}", "provisioning of STATE"),
    ("VolumeConfig\nname: EPHEMERAL\nencryption: {keys: [{slot: 0}]}", "0 kinds of key"),
    ("VolumeConfig\nname: EPHEMERAL\nprovisioning: {minSize: 2GiB, maxSize: 1GiB}", "less than minSize"),
    ("UserVolumeConfig\nname: a\nvolumeType: directory\nencryption: {keys: [{slot: 0, nodeID: {}}]}", "`encryption` of a directory"),
    ("RawVolumeConfig\nname: a\nprovisioning: {minSize: 1GiB}", "`diskSelector: {match: …}`"),
    ("ExistingVolumeConfig\nname: a", "discovery: nothing"),
    ("ZswapConfig\nmaxPoolPercent: 101", "0 to 100"),
    ("FilesystemScrubConfig\ninterval: 5s", "0 or at least 10s"),
    ("LVMLogicalVolumeConfig\nname: a\nmirrors: 1\nprovisioning: {volumeGroup: g, maxSize: 1GiB}", "copies of a linear volume"),
    ("EtcFileConfig\nname: hosts\ncontents: x", "which the machine writes itself"),
    ("EtcFileConfig\nname: ../x\ncontents: x", "a path below /etc"),
    ("EnvironmentConfig\nvariables: {1a: b}", "the name `1a`"),
    ("ExtensionServiceConfig\nname: a", "neither configFiles nor environment"),
    ("KmsgLogConfig\nname: a\nurl: https://x:1", "the scheme `https`; tcp or udp"),
    ("WatchdogTimerConfig\ndevice: /dev/watchdog0\ntimeout: 3s", "at least 10s"),
    ("UnattendedInstallConfig\nprovisioning: {diskSelector: {}}", "a condition on disks"),
    ("RegistryAuthConfig\nname: a\nusername: b\nauth: c", "2 kinds of credentials"),
    ("ImageVerificationConfig\nrules: [{image: a}]", "0 of skip, deny, keyless, publicKey"),
    ("ContainerConfig\nname: a\nimage: b@sha256:0\nmounts: [{tmpfs: {destination: x}}]", "an absolute path"),
    ("ContainerConfig\nname: a\nimage: b@sha256:0\ndependsOn: {containers: [c]}", "`c`, which no document describes"),
    ("ContainerConfig\nname: a\nimage: b@sha256:0\ndependsOn: {containers: [a]}", "a circle"),
    ("KubeAuthorizerConfig\nname: a\ntype: Webhook", "the settings of the webhook"),
    ("KubeTalosAPIAccessConfig\nallowedRoles: [os:god]", "`os:god`; one of os:admin"),
    ("KubeAPIServerConfig\nimage: x:v1.37.1\nextraArgs: {oidc-issuer-url: x}", "the argument `oidc-issuer-url`"),
    ("TCPProbeConfig\nname: a\nendpoint: example.org", "no port"),
    ("FilesystemTrimConfig\ninterval: 1 week", "a duration such as"),
];

#[test]
fn each_rule_refuses_with_its_reason() {
    for (body, expected) in REFUSED {
        let text = format!("apiVersion: v1alpha1\nkind: {body}\n");
        let told = match Config::load(text.as_bytes()) {
            Ok(_) => found(&text, Mode::Metal),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(told.len(), 1, "{body}: {told:#?}");
        assert!(told[0].contains(expected), "{body}: {told:#?}");
        assert!(told[0].starts_with("line "), "{body}: {told:#?}");
    }
}

#[test]
fn documents_and_root_may_not_say_the_same() {
    let Some((_, text)) = generated().into_iter().find(|(n, _)| n == "v1.15/controlplane") else { return };
    let twice = patched(&text, "cluster: {network: {podSubnets: [10.99.0.0/16], serviceSubnets: [10.98.0.0/16]}}").expect("merge");
    let told = found(&twice, Mode::Metal);
    assert!(
        told.iter().any(|t| t.contains("cluster.network: `cluster.network` beside the document KubeNetworkConfig in line")),
        "{told:#?}"
    );
}

#[test]
fn the_root_has_its_rules() {
    let Some((_, worker)) = generated().into_iter().find(|(n, _)| n == "v1.12/worker") else { return };
    let cases = [
        ("machine: {type: controlpane}", "`controlpane`; controlplane or worker; did you mean `controlplane`?"),
        ("machine: {ca: {key: YQ==}}", "the key of the authority on a worker"),
        ("cluster: {etcd: {}}", "settings of etcd on a worker"),
        ("machine: {network: {interfaces: [{mtu: 1}]}}", "neither interface nor deviceSelector"),
        ("machine: {network: {interfaces: [{interface: b, bond: {mode: fast, interfaces: [a]}}]}}", "`fast`; one of balance-rr"),
        ("machine: {kubelet: {extraConfig: {seccompDefault: true}}}", "`seccompDefault`; another field"),
        ("persist: false", "a machine always keeps its configuration"),
        ("cluster: {network: {cni: {name: custom}}}", "the manifests of the custom pod network"),
        ("apiVersion: v1alpha1\nkind: KubeCoreDNSConfig\nenabled: true", "a KubeCoreDNSConfig on a worker"),
    ];
    for (patch, expected) in cases {
        let text = patched(&worker, patch).expect("merge");
        let told = found(&text, Mode::Metal);
        assert!(told.iter().any(|t| t.contains(expected)), "{patch}: {told:#?}");
    }
    let uninstalled = patched(&worker, "machine: {install: {disk: {$patch: delete}}}").expect("delete");
    assert!(found(&uninstalled, Mode::Metal)[0].contains("neither disk nor diskSelector"));
    assert_eq!(found(&uninstalled, Mode::Container), Vec::<String>::new());
    let no_dns = patched(&worker, "machine: {features: {hostDNS: {$patch: delete}}}").expect("delete");
    assert!(found(&no_dns, Mode::Container)[0].contains("containers need it"));
}

#[test]
fn links_of_the_root_become_documents() {
    let text = "version: v1alpha1\nmachine:\n  type: controlplane\n  network:\n    interfaces:\n      - interface: eth0\n        dhcp: true\n        dhcpOptions: {routeMetric: 7, ipv6: true}\n        vip: {ip: 10.0.0.9}\n        vlans: [{vlanId: 7, addresses: [192.0.2.1/24]}]\n      - interface: bond0\n        bond: {mode: 802.3ad, interfaces: [eth1, eth2], lacpRate: fast}\n        cidr: 10.1.0.1/24\n        routes: [{network: 0.0.0.0/0, gateway: 10.1.0.254}]\n      - interface: br0\n        bridge: {interfaces: [eth3]}\n      - {interface: eth4, bridgePort: {master: br0}}\n      - {deviceSelector: {driver: virtio}, dhcp: true}\n      - {interface: d0, dummy: true}\n---\napiVersion: v1alpha1\nkind: DummyLinkConfig\nname: d0\nmtu: 900\n";
    let machine = load(text).machine;
    let links: Vec<String> = machine.documents.iter().map(Document::id).collect();
    assert_eq!(
        links,
        [
            "DummyLinkConfig/d0",
            "LinkConfig/eth0",
            "DHCPv4Config/eth0",
            "DHCPv6Config/eth0",
            "Layer2VIPConfig/10.0.0.9",
            "VLANConfig/eth0.7",
            "BondConfig/bond0",
            "BridgeConfig/br0",
            "LinkConfig/eth4"
        ]
    );
    assert_eq!(machine.base.devices.len(), 1, "what is found by a selector stays");
    let bond = machine.get::<docs::net::BondConfig>().expect("bond");
    assert_eq!((bond.bond_mode, bond.lacp_rate), (Some(docs::net::BondMode::Lacp), Some(docs::net::LacpRate::Fast)));
    assert_eq!(bond.link.routes[0].destination, "0.0.0.0/0".parse().ok());
    assert_eq!(machine.get::<docs::net::BridgeConfig>().map(|b| b.links.clone()), Some(vec!["eth3".to_owned(), "eth4".to_owned()]));
    assert_eq!(machine.get::<docs::net::DummyLinkConfig>().and_then(|d| d.link.mtu), Some(900), "the document wins");
    assert_eq!(machine.get::<docs::net::Dhcp4Config>().and_then(|d| d.route_metric), Some(7));
}

/// Small changes to real files: none may make anything panic or hang.
#[test]
fn damaged_files_never_panic() {
    const MARKS: &[u8] = b" \n\t:-#{}[]&*!|>'\"%@`\0\xff";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % n as u64).expect("fits")
    };
    for (_, text) in generated() {
        for _ in 0..30 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] = MARKS[random(MARKS.len())],
                    1 => bytes.truncate(at.max(1)),
                    2 => {
                        let other = random(bytes.len());
                        bytes.swap(at, other);
                    }
                    _ => {
                        let end = (at + random(40)).min(bytes.len());
                        let piece = bytes[at..end].to_vec();
                        let target = random(bytes.len());
                        bytes.splice(target..target, piece);
                    }
                }
            }
            if let Ok(loaded) = Config::load(&bytes) {
                let _ = loaded.text.validate(Mode::Metal, Options::default());
                let _ = loaded.text.redacted();
                let encoded = loaded.text.encode();
                assert_eq!(load(&encoded).text.encode(), encoded, "writing is stable");
            }
            if let Ok(patch) = patch::Patch::parse(&bytes, 1) {
                let _ = patch::apply(&load(&text).text, &[patch]);
            }
        }
    }
}
