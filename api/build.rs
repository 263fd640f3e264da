//! Generates the services from `proto/` (protox parses, so no protoc is needed) and, from the same
//! descriptors, `enum Rpc`: one variant per method a node serves, so that the compiler asks for each
//! one's roles (`roles::rule`).

use std::{env, fmt::Write as _, fs, io, path::Path, path::PathBuf};

/// Services a node offers through its machine socket; the only ones that carry roles.
const NODE_SERVICES: &[&str] = &[
    "machine.MachineService",
    "machine.LifecycleService",
    "machine.ImageService",
    "machine.DebugService",
    "machine.StorageService",
    "machine.LVMService",
    "machine.MDService",
    "storage.StorageService",
    "cluster.ClusterService",
    "inspect.InspectService",
    "time.TimeService",
    "cosi.resource.State",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", root.display());

    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [&root])?;

    fs::write(out.join("rpc.rs"), rpc_enum(&descriptors)?)?;
    fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    let mut config = tonic_prost_build::Config::new();
    // Messages know their full names (`prost::Name`): events carry them.
    config.enable_type_names();
    tonic_prost_build::configure().include_file("wire.rs").emit_rerun_if_changed(false).compile_fds_with_config(descriptors, config)?;
    Ok(())
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            into.push(path);
        }
    }
    Ok(())
}

/// Writes `enum Rpc` with the wire path and the stream shape of each method.
fn rpc_enum(set: &protox::prost_reflect::prost_types::FileDescriptorSet) -> Result<String, Box<dyn std::error::Error>> {
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let full = format!("{}.{}", file.package(), service.name());
            if NODE_SERVICES.contains(&full.as_str()) {
                for m in &service.method {
                    let variant = variant(&full, m.name());
                    methods.push((variant, format!("/{full}/{}", m.name()), m.client_streaming(), m.server_streaming()));
                }
            }
        }
    }
    methods.sort_by(|a, b| a.1.cmp(&b.1));

    let mut s = String::new();
    writeln!(s, "/// Every method a node serves on its machine socket, named service first.")?;
    writeln!(s, "#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\npub enum Rpc {{")?;
    for (v, path, ..) in &methods {
        writeln!(s, "    /// `{path}`\n    {v},")?;
    }
    writeln!(s, "}}\n\n/// The variants in the order of their paths, with path, client streaming, server streaming.")?;
    writeln!(s, "static TABLE: &[(Rpc, &str, bool, bool)] = &[")?;
    for (v, path, client, server) in &methods {
        writeln!(s, "    (Rpc::{v}, \"{path}\", {client}, {server}),")?;
    }
    writeln!(s, "];")?;
    Ok(s)
}

/// `machine.MachineService`, `Version` → `MachineVersion`; a package that is not `machine` leads, so that
/// the two StorageServices differ (`MachineStorageStatfs`, `StorageDisks`).
fn variant(service: &str, method: &str) -> String {
    let prefix = match service {
        "machine.MachineService" => "Machine",
        "machine.LifecycleService" => "Lifecycle",
        "machine.ImageService" => "Image",
        "machine.DebugService" => "Debug",
        "machine.StorageService" => "MachineStorage",
        "machine.LVMService" => "Lvm",
        "machine.MDService" => "Md",
        "storage.StorageService" => "Storage",
        "cluster.ClusterService" => "Cluster",
        "inspect.InspectService" => "Inspect",
        "time.TimeService" => "Time",
        _ => "State",
    };
    format!("{prefix}{method}")
}
