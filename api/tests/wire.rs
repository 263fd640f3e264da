//! Every message, field, enum and number of `proto/` against the table of wire facts (`messages.md`),
//! both ways: nothing missing, nothing more, nothing renumbered.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// Packages of the table that `proto/` leaves out on purpose: forms of resource specs, which the crate
/// `resource` encodes, and an on-disk format.
const LEFT_OUT: &[&str] = &["talos.resource.definitions", "resource.config", "resource.network", "cosi.internal", "cosi.resource.meta"];

/// Full type name → `number name type` of each field, or `number=VALUE` of each enum value.
type Types = BTreeMap<String, BTreeSet<String>>;

fn ours() -> Types {
    let set = FileDescriptorSet::decode(&include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"))[..]).unwrap();
    let mut types = Types::new();
    for file in &set.file {
        let package = file.package();
        if package.starts_with("google.protobuf") || package.starts_with("orlop.") {
            continue;
        }
        for m in &file.message_type {
            message(package, package, m, &mut types);
        }
        for e in &file.enum_type {
            enumeration(package, e, &mut types);
        }
    }
    types
}

fn message(package: &str, scope: &str, m: &DescriptorProto, into: &mut Types) {
    let full = format!("{scope}.{}", m.name());
    let maps: BTreeMap<String, &DescriptorProto> = m
        .nested_type
        .iter()
        .filter(|n| n.options.as_ref().is_some_and(|o| o.map_entry()))
        .map(|n| (format!(".{full}.{}", n.name()), n))
        .collect();
    let mut fields = BTreeSet::new();
    for f in &m.field {
        let kind = match maps.get(f.type_name()) {
            Some(entry) => {
                format!("map<{},{}>", kind(package, &entry.field[0]), kind(package, &entry.field[1]))
            }
            None if f.label() == Label::Repeated => format!("[]{}", kind(package, f)),
            None if f.proto3_optional() => format!("opt {}", kind(package, f)),
            None => kind(package, f),
        };
        let group = match f.oneof_index {
            Some(i) if !f.proto3_optional() => format!(" of {}", m.oneof_decl[usize::try_from(i).unwrap()].name()),
            _ => String::new(),
        };
        fields.insert(format!("{} {} {kind}{group}", f.number(), f.name()));
    }
    for r in &m.reserved_range {
        fields.insert(format!("reserved {}", r.start()));
    }
    for n in m.nested_type.iter().filter(|n| !maps.contains_key(&format!(".{full}.{}", n.name()))) {
        message(package, &full, n, into);
    }
    for e in &m.enum_type {
        enumeration(&full, e, into);
    }
    into.insert(full, fields);
}

fn enumeration(scope: &str, e: &EnumDescriptorProto, into: &mut Types) {
    let values = e.value.iter().map(|v| format!("{}={}", v.number(), v.name())).collect();
    into.insert(format!("{scope}.{}", e.name()), values);
}

/// The type as the table writes it.
fn kind(package: &str, f: &FieldDescriptorProto) -> String {
    let named = |n: &str| {
        let n = n.trim_start_matches('.');
        if let Some(rest) = n.strip_prefix("google.protobuf.") {
            return format!("gpb.{rest}");
        }
        n.strip_prefix(&format!("{package}.")).unwrap_or(n).to_owned()
    };
    match f.r#type() {
        Type::Message => named(f.type_name()),
        Type::Enum => format!("enum {}", named(f.type_name())),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn theirs(text: &str) -> Types {
    let mut types = Types::new();
    let mut package = None;
    for line in text.lines() {
        if let Some(h) = line.strip_prefix("## ") {
            let name = h.rsplit_once("package ").map(|x| x.1).unwrap();
            package = (!LEFT_OUT.iter().any(|l| name.starts_with(l))).then_some(name);
        }
        let (Some(package), Some((head, body))) = (package, line.split_once(" {")) else { continue };
        let body = body.trim().strip_suffix('}').unwrap().trim();
        if let Some(name) = head.strip_prefix("enum ") {
            let values = body.split_whitespace().map(|v| v.replace('†', "")).collect();
            types.insert(format!("{package}.{name}"), values);
            continue;
        }
        let mut fields = BTreeSet::new();
        let mut rest = body;
        while !rest.is_empty() {
            if let Some(group) = rest.strip_prefix("oneof ") {
                let (name, tail) = group.split_once('(').unwrap();
                let (inside, tail) = tail.split_once(')').unwrap();
                fields.extend(inside.split(" | ").map(|f| format!("{} of {name}", f.replace('†', ""))));
                rest = tail.trim_start_matches(';').trim();
            } else {
                let (field, tail) = rest.split_once(';').unwrap_or((rest, ""));
                fields.insert(field.trim().replace('†', ""));
                rest = tail.trim();
            }
        }
        types.insert(format!("{package}.{}", head.replace('†', "")), fields);
    }
    types
}

#[test]
fn messages_agree_with_the_wire_table() {
    let fixtures = std::env::var_os("ORLOP_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/peer"), PathBuf::from);
    let path = fixtures.join("../../facts/messages.md");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no table of wire facts at {}", path.display());
        return;
    };
    let (ours, theirs) = (ours(), theirs(&text));
    assert!(theirs.len() > 250, "only {} types read: has the table changed its shape?", theirs.len());
    let names = |t: &Types| t.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&ours), names(&theirs));
    for (name, fields) in &theirs {
        assert_eq!(&ours[name], fields, "{name}");
    }
}

#[test]
fn messages_know_their_full_names() {
    use prost::Name as _;
    assert_eq!(api::machine::SequenceEvent::full_name(), "machine.SequenceEvent");
    assert_eq!(api::machine::machine_status_event::MachineStatus::full_name(), "machine.MachineStatusEvent.MachineStatus");
    assert_eq!(api::orlop::trust::v1::SignRequest::full_name(), "orlop.trust.v1.SignRequest");
}
