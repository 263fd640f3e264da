use super::*;
use std::collections::BTreeMap;

/// The facts table beside the fixtures: rpc → (roles, maintenance-only reader, deprecated, streamed), and
/// the services that allow one-to-many.
struct Facts {
    methods: BTreeMap<String, (Vec<Role>, bool, bool, bool)>,
    many: BTreeMap<String, bool>,
}

fn facts() -> Option<Facts> {
    let path = crate::testing::facts("grpc.md")?;
    let text = std::fs::read_to_string(path).unwrap();
    let mut facts = Facts { methods: BTreeMap::new(), many: BTreeMap::new() };
    let mut service = String::new();
    for line in text.lines() {
        if let Some(h) = line.strip_prefix("### ") {
            service = h.split(' ').next().unwrap().to_owned();
            if h.contains("one-to-many") {
                facts.many.insert(service.clone(), h.contains("allowed"));
            }
        } else if line.starts_with("## ") {
            service.clear();
        } else if line.starts_with('|') && facts.many.contains_key(&service) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            if cells[0] == "rpc" || cells[0] == "-" {
                continue;
            }
            let letters = cells[4];
            let roles = letters
                .chars()
                .filter_map(|c| match c {
                    'A' => Some(Role::Admin),
                    'O' => Some(Role::Operator),
                    'R' => Some(Role::Reader),
                    'E' => Some(Role::EtcdBackup),
                    'V' => Some(Role::ImageVerifier),
                    'M' => Some(Role::MetaWriter),
                    _ => None,
                })
                .collect();
            let note = cells.get(5).copied().unwrap_or("");
            let streamed = note == "S" || note.ends_with("; S");
            let key = format!("/{service}/{}", cells[0]);
            facts.methods.insert(key, (roles, letters.contains('*'), note.contains("DEPRECATED"), streamed));
        }
    }
    Some(facts)
}

#[test]
fn every_method_has_the_roles_of_the_facts_table() {
    let Some(facts) = facts() else { return };
    assert!(facts.methods.len() > 70, "only {} rows read: has the table changed its shape?", facts.methods.len());
    let ours: Vec<&str> = Rpc::all().map(Rpc::path).collect();
    let theirs: Vec<&str> = facts.methods.keys().map(String::as_str).collect();
    assert_eq!(ours, theirs);
    for rpc in Rpc::all() {
        let (roles, star, deprecated, _) = &facts.methods[rpc.path()];
        let rule = rpc.rule();
        let set = |r: &[Role]| r.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(set(rule.roles), set(roles), "{}", rpc.path());
        assert_eq!(rule.admin_unless_maintenance, *star, "{}", rpc.path());
        assert_eq!(rule.deprecated, *deprecated, "{}", rpc.path());
    }
}

#[test]
fn streaming_and_fan_out_agree_with_the_facts_table() {
    let Some(facts) = facts() else { return };
    for (path, (.., s)) in &facts.methods {
        assert_eq!(streamed(path), *s, "{path}");
        let service = path[1..].rsplit_once('/').unwrap().0;
        assert_eq!(one_to_many(path), facts.many[service], "{path}");
    }
    assert!(streamed("/any.Service/SomethingStream"));
    assert!(STREAMED.is_sorted());
}

#[test]
fn unknown_methods_need_an_admin() {
    assert_eq!(allowed("/machine.MachineService/Nope"), &[Role::Admin]);
    assert_eq!(allowed(""), &[Role::Admin]);
}

#[test]
fn variants_and_paths_pair_up() {
    assert_eq!(Rpc::from_path("/machine.MachineService/Version"), Some(Rpc::MachineVersion));
    assert_eq!(Rpc::from_path("/storage.StorageService/Disks"), Some(Rpc::StorageDisks));
    assert_eq!(Rpc::from_path("/machine.StorageService/Statfs"), Some(Rpc::MachineStorageStatfs));
    for rpc in Rpc::all() {
        assert_eq!(Rpc::from_path(rpc.path()), Some(rpc));
    }
    assert!(Rpc::DebugContainerRun.client_streaming() && Rpc::DebugContainerRun.server_streaming());
    assert!(!Rpc::MachineVersion.server_streaming() && Rpc::MachineEtcdRecover.client_streaming());
}

#[test]
fn roles_keep_unknown_names_and_drop_empty_ones() {
    let roles: Roles = ["os:reader", "", "team:x"].into_iter().collect();
    assert_eq!(roles.iter().collect::<Vec<_>>(), ["os:reader", "team:x"]);
    assert!(roles.any(&[Role::Reader, Role::Admin]) && !roles.has(Role::Admin));
    let limit = Roles::from(&[Role::Reader, Role::MetaWriter][..]);
    assert_eq!(roles.intersection(&limit).iter().collect::<Vec<_>>(), ["os:reader"]);
}

#[test]
fn the_facts_directory_is_next_to_the_fixtures() {
    // Guards the skip: an absent file is a skip, an empty one is a failure.
    if let Some(path) = crate::testing::facts("grpc.md") {
        assert!(path.metadata().unwrap().len() > 1000);
    }
}
