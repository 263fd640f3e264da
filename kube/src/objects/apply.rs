//! Bootstrap manifests go into the cluster, each once.
//!
//! An object is created if it is neither in the inventory nor in the cluster: what a person
//! deleted or changed stays as that person left it. The inventory is a ConfigMap with one key per
//! object ever created.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use serde_json::{Value, json};

use super::{KubeError, ask};
use crate::manifests::Manifest;

/// Who applies.
pub const FIELD_MANAGER: &str = "talos";
/// The inventory's name, in namespace kube-system.
pub const INVENTORY: &str = "talos-bootstrap-manifests-inventory";

/// What identifies an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Empty for cluster-wide kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// API group; empty for the core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Its kind.
    pub kind: String,
}

impl ObjectId {
    /// Of an object of a manifest.
    ///
    /// # Errors
    /// [`KubeError::Object`] when kind, version or name is missing.
    pub fn of(manifest: &str, position: usize, object: &Value) -> Result<Self, KubeError> {
        let missing = |field| KubeError::Object { manifest: manifest.to_owned(), position, field };
        let text = |pointer: &str, field: &'static str| {
            object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| missing(field))
        };
        let api_version = text("/apiVersion", "apiVersion")?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        Ok(Self {
            namespace: object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default().to_owned(),
            name: text("/metadata/name", "metadata.name")?,
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text("/kind", "kind")?,
        })
    }

    /// The key in the inventory. A colon, which names of roles may hold, is no character for a
    /// ConfigMap's key; two underscores, which no name holds, stand for it.
    pub fn inventory_key(&self) -> String {
        let name = self.name.replace(':', "__");
        format!("{}_{name}_{}_{}", self.namespace, self.group, self.kind)
    }

    fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::gvk(&self.group, &self.version, &self.kind)
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let group = if self.group.is_empty() { &self.version } else { &self.group };
        match self.namespace.as_str() {
            "" => write!(f, "{}.{group}/{}", self.kind, self.name),
            namespace => write!(f, "{}.{group}/{namespace}/{}", self.kind, self.name),
        }
    }
}

/// What to do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is new: create it and note it.
    Create,
    /// It is in the cluster but not in the inventory (an apply was cut off): note it.
    Note,
    /// It was created before.
    Skip,
}

/// Decides by inventory and cluster.
pub fn decide(in_inventory: bool, in_cluster: bool) -> Action {
    match (in_inventory, in_cluster) {
        (true, _) => Action::Skip,
        (false, true) => Action::Note,
        (false, false) => Action::Create,
    }
}

/// What applying did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Each object and what was done, for people.
    pub log: Vec<String>,
    /// How many were created.
    pub created: usize,
}

/// Applies manifests in their order. It may be cut off at any point and called again.
///
/// # Errors
/// The first object that cannot be applied; those before it are done and noted.
pub async fn apply(client: &kube::Client, manifests: &[Manifest]) -> Result<Applied, KubeError> {
    let mut applier = Applier { client, inventory: inventory(client).await?, kinds: HashMap::new(), applied: Applied::default() };
    let mut noted = BTreeSet::new();
    let mut result = Ok(());
    'all: for manifest in manifests {
        for (index, object) in manifest.objects.iter().enumerate() {
            match applier.one(&manifest.id, index + 1, object).await {
                Ok(Some(key)) => {
                    noted.insert(key);
                }
                Ok(None) => {}
                Err(error) => {
                    result = Err(error);
                    break 'all;
                }
            }
        }
    }
    // Noted also after an error: what was created must not be created again once deleted.
    if !noted.is_empty() {
        note(client, &applier.inventory, &noted).await?;
    }
    result.map(|()| applier.applied)
}

struct Applier<'a> {
    client: &'a kube::Client,
    inventory: BTreeSet<String>,
    kinds: HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>,
    applied: Applied,
}

impl Applier<'_> {
    /// Returns the inventory key when the object has to be noted.
    async fn one(&mut self, manifest: &str, position: usize, object: &Value) -> Result<Option<String>, KubeError> {
        let id = ObjectId::of(manifest, position, object)?;
        let key = id.inventory_key();
        if self.inventory.contains(&key) {
            return Ok(None);
        }
        let api = self.api(&id).await?;
        let there = ask(format!("get {id}"), api.get_metadata_opt(&id.name)).await?.is_some();
        match decide(false, there) {
            Action::Create => {
                let mut wanted = object.clone();
                strip(&mut wanted);
                let params = PatchParams::apply(FIELD_MANAGER).force();
                ask(format!("apply {id}"), api.patch(&id.name, &params, &Patch::Apply(&wanted))).await?;
                self.applied.created += 1;
                self.applied.log.push(format!("created {id}"));
            }
            Action::Note | Action::Skip => self.applied.log.push(format!("found {id}")),
        }
        Ok(Some(key))
    }

    async fn api(&mut self, id: &ObjectId) -> Result<Api<DynamicObject>, KubeError> {
        let gvk = id.gvk();
        if !self.kinds.contains_key(&gvk) {
            let found = ask(format!("discover {}", id.kind), pinned_kind(self.client, &gvk)).await?;
            self.kinds.insert(gvk.clone(), found);
        }
        let Some((resource, capabilities)) = self.kinds.get(&gvk) else {
            return Err(KubeError::Config { reason: format!("kind {} vanished", id.kind) });
        };
        Ok(if capabilities.scope == Scope::Cluster {
            Api::all_with(self.client.clone(), resource)
        } else {
            let namespace = if id.namespace.is_empty() { "default" } else { &id.namespace };
            Api::namespaced_with(self.client.clone(), namespace, resource)
        })
    }
}

/// What the server fills in must not be applied.
fn strip(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation"] {
            metadata.remove(field);
        }
    }
}

async fn inventory(client: &kube::Client) -> Result<BTreeSet<String>, KubeError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = ask(format!("get ConfigMap {INVENTORY}"), api.get_opt(INVENTORY)).await?;
    Ok(map.and_then(|map| map.data).unwrap_or_default().into_keys().collect())
}

async fn note(client: &kube::Client, before: &BTreeSet<String>, new: &BTreeSet<String>) -> Result<(), KubeError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let data: BTreeMap<&String, &str> = before.union(new).map(|key| (key, "")).collect();
    let meta = TypeMeta { api_version: "v1".into(), kind: "ConfigMap".into() };
    let wanted = json!({
        "apiVersion": meta.api_version,
        "kind": meta.kind,
        "metadata": {"name": INVENTORY, "namespace": "kube-system"},
        "data": data,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    ask(format!("apply ConfigMap {INVENTORY}"), api.patch(INVENTORY, &params, &Patch::Apply(&wanted))).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleting_an_object_does_not_bring_it_back() {
        assert_eq!(decide(false, false), Action::Create);
        assert_eq!(decide(false, true), Action::Note);
        assert_eq!(decide(true, false), Action::Skip);
        assert_eq!(decide(true, true), Action::Skip);
    }

    #[test]
    fn ids_and_keys() {
        let object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
        });
        let id = ObjectId::of("11-core-dns", 1, &object).unwrap();
        assert_eq!(id.inventory_key(), "_system__coredns_rbac.authorization.k8s.io_ClusterRole");
        assert_eq!(id.to_string(), "ClusterRole.rbac.authorization.k8s.io/system:coredns");
        // A key of a ConfigMap has letters, digits, `-`, `_` and `.`, nothing else.
        assert!(id.inventory_key().chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
    }

    #[test]
    fn an_object_without_a_name_is_named_by_its_place() {
        let error = ObjectId::of("99-mine", 2, &json!({"apiVersion": "v1", "kind": "Pod"})).unwrap_err();
        assert_eq!(error.to_string(), "manifest 99-mine: object 2 has no `metadata.name`");
    }

    #[test]
    fn what_the_server_fills_in_is_not_applied() {
        let mut object = json!({
            "kind": "Pod", "status": {}, "metadata": {"name": "a", "uid": "x", "resourceVersion": "1"},
        });
        strip(&mut object);
        assert_eq!(object, json!({"kind": "Pod", "metadata": {"name": "a"}}));
    }
}
