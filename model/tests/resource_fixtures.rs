//! Holds every kind against what the reference's server sends for it: protobuf bytes, YAML text, and the table of definitions.
//!
//! The samples are read from `$ORLOP_FIXTURES` (default `../shared/fixtures/peer` beside the workspace), the table from
//! `$ORLOP_FACTS/resources.md` (default `../shared/facts`). Where they are absent the tests say so and pass.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::registry;
use resource::proto::{Reader, Wire};
use resource::{AnyResource, Form, Key, Metadata, Registry};

fn outside(variable: &str, default: &str, file: &str) -> Option<String> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let directory = std::env::var_os(variable).map_or_else(|| workspace.join(default), PathBuf::from);
    let path = directory.join(file);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not there; set {variable} to the directory that has {file}", path.display());
    }
    text
}

struct Sample {
    type_: String,
    namespace: String,
    sample: String,
    yaml: Option<String>,
    proto: Option<Vec<u8>>,
}

fn samples() -> Option<Vec<Sample>> {
    let text = outside("ORLOP_FIXTURES", "../shared/fixtures/peer", "resources.jsonl")?;
    let samples = text.lines().map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let field = |name: &str| value[name].as_str().map(str::to_owned);
        let unhex = |hex: String| (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect();
        Sample {
            type_: field("type").expect("a type"),
            namespace: field("namespace").expect("a namespace"),
            sample: field("sample").expect("a sample name"),
            yaml: field("yaml"),
            proto: field("proto_hex").map(unhex),
        }
    });
    Some(samples.collect())
}

fn meta(sample: &Sample) -> Metadata {
    Metadata::new(sample.namespace.as_str(), sample.type_.as_str(), "x")
}

fn decode(registry: &Registry, sample: &Sample, proto: &[u8]) -> AnyResource {
    let entry = registry.get(&sample.type_).unwrap_or_else(|| panic!("{} is not registered", sample.type_));
    entry.decode_proto(meta(sample), proto).unwrap_or_else(|error| panic!("{} {}: {error}", sample.type_, sample.sample))
}

/// A message with its records sorted, at every level where the bytes can be read as a message: two encodings that differ only in the order
/// of fields or of map entries become equal.
fn sorted(bytes: &[u8]) -> Vec<u8> {
    let mut records: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut reader = Reader::new(bytes);
    loop {
        match reader.record() {
            Ok(None) => break,
            Ok(Some((number, wire))) => records.push((number, value(wire))),
            Err(_) => return bytes.to_vec(),
        }
    }
    records.sort();
    records.into_iter().flat_map(|(number, value)| [number.to_be_bytes().to_vec(), value].concat()).collect()
}

fn value(wire: Wire<'_>) -> Vec<u8> {
    match wire {
        Wire::Varint(value) => [vec![0], value.to_be_bytes().to_vec()].concat(),
        Wire::Fixed64(value) => [vec![1], value.to_be_bytes().to_vec()].concat(),
        Wire::Fixed32(value) => [vec![5], value.to_be_bytes().to_vec()].concat(),
        Wire::Bytes(bytes) => {
            let inner = sorted(bytes);
            [vec![2], (inner.len() as u64).to_be_bytes().to_vec(), inner].concat()
        }
    }
}

#[test]
fn every_sample_survives_decoding_and_encoding() {
    let Some(samples) = samples() else { return };
    let registry = registry();
    let mut wrong = Vec::new();
    for sample in &samples {
        let Some(proto) = &sample.proto else { continue };
        let again = decode(&registry, sample, proto).spec.to_proto();
        if again.len() != proto.len() || sorted(&again) != sorted(proto) {
            wrong.push(format!("{} {}:\n  expected {proto:02x?}\n  found    {again:02x?}", sample.type_, sample.sample));
        }
    }
    assert!(wrong.is_empty(), "{} kinds differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_sample_prints_as_the_reference_prints_it() {
    let Some(samples) = samples() else { return };
    let registry = registry();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for sample in &samples {
        let (Some(proto), Some(yaml)) = (&sample.proto, &sample.yaml) else { continue };
        // Only the YAML form has this field, so what came over protobuf lacks it.
        let yaml = if sample.type_ == "ResourceDefinitions.meta.cosi.dev" {
            yaml.replace("skipAutomaticAliases: true\n", "")
        } else {
            yaml.clone()
        };
        let found = decode(&registry, sample, proto).spec.to_yaml();
        seen += 1;
        if found != yaml {
            let difference = yaml.lines().zip(found.lines()).find(|(a, b)| a != b);
            wrong.push(format!(
                "{} {}: first difference {difference:?}\n--- expected\n{yaml}--- found\n{found}",
                sample.type_, sample.sample
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {seen} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(seen, 398 - 3, "samples with both forms");
}

#[test]
fn every_printed_sample_reads_back() {
    let Some(samples) = samples() else { return };
    let registry = registry();
    let mut wrong = Vec::new();
    for sample in &samples {
        let (Some(proto), Some(yaml)) = (&sample.proto, &sample.yaml) else { continue };
        let entry = registry.get(&sample.type_).expect("registered");
        let decoded = decode(&registry, sample, proto);
        match entry.decode_yaml(meta(sample), yaml) {
            Err(error) => wrong.push(format!("{} {}: {error}", sample.type_, sample.sample)),
            // The YAML form lacks some of what protobuf holds (addresses marked omitempty), so the printed forms are compared.
            Ok(read) if read.spec.to_yaml() != decoded.spec.to_yaml() && sample.type_ != "ResourceDefinitions.meta.cosi.dev" => {
                wrong.push(format!("{} {}:\n{}", sample.type_, sample.sample, read.spec.to_yaml()));
            }
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn truncated_samples_are_refused_or_read_never_worse() {
    let Some(samples) = samples() else { return };
    let registry = registry();
    for sample in &samples {
        let (Some(entry), Some(proto)) = (registry.get(&sample.type_), &sample.proto) else { continue };
        for length in 0..proto.len() {
            if let Ok(read) = entry.decode_proto(meta(sample), &proto[..length]) {
                read.spec.to_yaml();
            }
        }
        // A byte turned over: whatever comes of it must be an error or a value, never a panic.
        for at in 0..proto.len().min(400) {
            let mut bent = proto.clone();
            bent[at] ^= 0xff;
            if let Ok(read) = entry.decode_proto(meta(sample), &bent) {
                read.spec.to_yaml();
            }
        }
    }
}

#[test]
fn no_secret_is_in_a_redacted_form() {
    let Some(samples) = samples() else { return };
    let registry = registry();
    // What the sample generator put into fields that are secrets, as it names values after fields.
    let secrets = [
        "private-key-1",
        "preshared-key-1",
        "shared-secret-1",
        "join-token-1",
        "bootstrap-token-secret-1",
        "aescbc-encryption-secret-1",
        "secretbox-encryption-secret-1",
        "static-passphrase-1",
        "api-token-1",
        "admin-kubeconfig-1",
        "registry-password-1",
    ];
    let mut hidden = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.sample == "full") {
        let Some(proto) = &sample.proto else { continue };
        let resource = decode(&registry, sample, proto);
        let (full, redacted) = (resource.to_yaml(Form::Full), resource.to_yaml(Form::Redacted));
        for secret in secrets {
            assert!(!redacted.contains(secret), "{} shows {secret}:\n{redacted}", sample.type_);
            *hidden.entry(secret).or_insert(0) += usize::from(full.contains(secret));
        }
    }
    assert!(hidden.values().filter(|count| **count > 0).count() > 8, "the samples hold secrets at all: {hidden:?}");
}

struct Row {
    type_: String,
    namespace: String,
    sensitive: bool,
    aliases: Vec<String>,
    columns: Vec<(String, String)>,
    ids: Vec<String>,
}

/// The lines of the table: type | namespace | S | aliases | columns … | ids: ….
fn rows() -> Option<Vec<Row>> {
    let text = outside("ORLOP_FACTS", "../shared/facts", "resources.md")?;
    let rows = text.lines().filter_map(|line| {
        let (type_, rest) = line.strip_prefix('`')?.split_once("` | ")?;
        let mut parts = rest.split(" | ");
        let namespace = parts.next()?.to_owned();
        let sensitive = parts.next()? == "S";
        let aliases = parts.next()?.split(',').map(str::to_owned).collect();
        let (mut columns, mut ids) = (Vec::new(), Vec::new());
        for part in parts {
            if let Some(list) = part.strip_prefix("ids: ") {
                ids = list.split(", ").map(str::to_owned).collect();
            } else if let Some((name, path)) = part.split_once("={") {
                columns.push((name.to_owned(), format!("{{{path}")));
            }
        }
        // The line that explains the format looks like a row, but names no type.
        type_.contains('.').then_some(())?;
        Some(Row { type_: type_.to_owned(), namespace, sensitive, aliases, columns, ids })
    });
    Some(rows.collect())
}

#[test]
fn definitions_are_those_of_the_table() {
    let Some(rows) = rows() else { return };
    assert_eq!(rows.len(), 197);
    let registry = registry();
    let mut wrong = Vec::new();
    for row in &rows {
        let Some(definition) = registry.get(&row.type_).map(resource::Entry::definition) else {
            wrong.push(format!("{} is not registered", row.type_));
            continue;
        };
        let columns: Vec<(String, String)> =
            definition.columns.iter().map(|column| (column.name.to_owned(), column.path.to_owned())).collect();
        let mut check = |what: &str, same: bool, found: String| {
            if !same {
                wrong.push(format!("{}: {what}: found {found}", row.type_));
            }
        };
        check("namespace", definition.default_namespace == row.namespace, definition.default_namespace.to_owned());
        check("sensitive", definition.sensitive == row.sensitive, definition.sensitive.to_string());
        check("aliases", definition.aliases == row.aliases, format!("{:?}, expected {:?}", definition.aliases, row.aliases));
        check("columns", columns == row.columns, format!("{columns:?}"));
        check("ids", definition.ids == row.ids, format!("{:?}", definition.ids));
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    let known: Vec<&str> = rows.iter().map(|row| row.type_.as_str()).collect();
    let own = registry.iter().map(|entry| entry.definition().type_).filter(|type_| !known.contains(type_));
    let strangers: Vec<&str> = own.filter(|type_| !type_.ends_with(".orlop.dev") && !type_.ends_with(".meta.cosi.dev")).collect();
    assert!(strangers.is_empty(), "kinds that the wire does not know: {strangers:?}");
}

#[test]
fn kinds_are_found_by_alias_and_unknown_ones_stay_opaque() {
    let registry = registry();
    let types = |name: &str| registry.find(name).iter().map(|entry| entry.definition().type_).collect::<Vec<_>>();
    assert_eq!(types("addresses"), ["AddressStatuses.net.talos.dev"]);
    assert_eq!(types("hostnamestatus"), ["HostnameStatuses.net.talos.dev"]);
    assert_eq!(types("HostnameSpecs.net.talos.dev"), ["HostnameSpecs.net.talos.dev"]);
    assert!(types("as").len() > 1, "ambiguous aliases give every kind");
    assert!(types("nothing").is_empty());
    let opaque = registry.decode(Metadata::new("n", "Unknowns.example.org", "x"), b"\x08\x01", "a: 1\n").expect("kept");
    assert_eq!((opaque.spec.to_proto(), opaque.spec.to_yaml()), (vec![8, 1], "a: 1\n".to_owned()));
    assert!(!AnyResource::tombstone(&Key::new("n", "T", "x")).is::<model::host::Service>());
}
