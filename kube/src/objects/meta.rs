//! Labels, annotations and taints of the node object, from the configuration.
//!
//! What we set is noted in annotations of the node, so that what leaves the configuration is taken
//! away again and what others set is left alone.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::{KubeError, ask};

const OWNED_LABELS: &str = "talos.dev/owned-labels";
const OWNED_ANNOTATIONS: &str = "talos.dev/owned-annotations";
const OWNED_TAINTS: &str = "talos.dev/owned-taints";

/// What the node object should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Taints: key → (value, effect). `None` leaves them as they are: a node may not change its own
    /// after it has registered (admission plug-in NodeRestriction), only an administrator may.
    pub taints: Option<BTreeMap<String, (String, String)>>,
    /// No new pods.
    pub cordoned: bool,
}

/// A merge patch that brings the node object there; `None` when it is there already.
pub fn patch(node: &Node, wanted: &Wanted) -> Option<Value> {
    let current_labels = node.metadata.labels.clone().unwrap_or_default();
    let current_annotations = node.metadata.annotations.clone().unwrap_or_default();
    let current_taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();

    let mut labels = Map::new();
    let owned_labels = owned(&current_annotations, OWNED_LABELS);
    difference(&mut labels, &current_labels, &owned_labels, &wanted.labels);

    let mut annotations = Map::new();
    let owned_annotations = owned(&current_annotations, OWNED_ANNOTATIONS);
    difference(&mut annotations, &current_annotations, &owned_annotations, &wanted.annotations);
    // A label that was there before us with the same value is not ours to take away later; one we
    // change is.
    note(&mut annotations, &current_annotations, OWNED_LABELS, ours(&current_labels, &owned_labels, &wanted.labels));
    note(&mut annotations, &current_annotations, OWNED_ANNOTATIONS, ours(&current_annotations, &owned_annotations, &wanted.annotations));

    let mut spec = Map::new();
    if let Some(wanted) = &wanted.taints {
        let owned_taints = owned(&current_annotations, OWNED_TAINTS);
        let taints = merge_taints(&current_taints, &owned_taints, wanted);
        note(&mut annotations, &current_annotations, OWNED_TAINTS, wanted.keys().cloned().collect());
        if taints != current_taints {
            spec.insert("taints".into(), json!(taints));
        }
    }
    cordon(node, wanted, &current_annotations, &mut annotations, &mut spec);

    let mut metadata = Map::new();
    if !labels.is_empty() {
        metadata.insert("labels".into(), Value::Object(labels));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), Value::Object(annotations));
    }
    if metadata.is_empty() && spec.is_empty() {
        return None;
    }
    // Taints are a list: merging it blindly over somebody else's change would lose that.
    if spec.contains_key("taints")
        && let Some(version) = &node.metadata.resource_version
    {
        metadata.insert("resourceVersion".into(), json!(version));
    }
    let mut patch = Map::new();
    if !metadata.is_empty() {
        patch.insert("metadata".into(), Value::Object(metadata));
    }
    if !spec.is_empty() {
        patch.insert("spec".into(), Value::Object(spec));
    }
    Some(Value::Object(patch))
}

fn cordon(
    node: &Node,
    wanted: &Wanted,
    current: &BTreeMap<String, String>,
    annotations: &mut Map<String, Value>,
    spec: &mut Map<String, Value>,
) {
    let key = super::drain::CORDONED;
    let is = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let by_us = current.contains_key(key);
    if wanted.cordoned && !(is && by_us) {
        annotations.insert(key.into(), json!(super::drain::CORDONED_VALUE));
        spec.insert("unschedulable".into(), json!(true));
    } else if !wanted.cordoned && by_us {
        annotations.insert(key.into(), Value::Null);
        spec.insert("unschedulable".into(), json!(false));
    }
}

fn owned(annotations: &BTreeMap<String, String>, key: &str) -> BTreeSet<String> {
    annotations.get(key).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn difference(
    patch: &mut Map<String, Value>,
    current: &BTreeMap<String, String>,
    owned: &BTreeSet<String>,
    wanted: &BTreeMap<String, String>,
) {
    for (key, value) in wanted {
        if current.get(key) != Some(value) {
            patch.insert(key.clone(), json!(value));
        }
    }
    for key in owned {
        if !wanted.contains_key(key) && current.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
}

fn ours(current: &BTreeMap<String, String>, owned: &BTreeSet<String>, wanted: &BTreeMap<String, String>) -> BTreeSet<String> {
    wanted.iter().filter(|(key, value)| owned.contains(*key) || current.get(*key) != Some(value)).map(|(key, _)| key.clone()).collect()
}

fn note(patch: &mut Map<String, Value>, current: &BTreeMap<String, String>, key: &str, owned: BTreeSet<String>) {
    if owned.is_empty() {
        if current.contains_key(key) {
            patch.insert(key.into(), Value::Null);
        }
        return;
    }
    let text = json!(owned).to_string();
    if current.get(key) != Some(&text) {
        patch.insert(key.into(), json!(text));
    }
}

fn merge_taints(current: &[Taint], owned: &BTreeSet<String>, wanted: &BTreeMap<String, (String, String)>) -> Vec<Taint> {
    let mut list: Vec<Taint> =
        current.iter().filter(|taint| wanted.contains_key(&taint.key) || !owned.contains(&taint.key)).cloned().collect();
    for (key, (value, effect)) in wanted {
        let value = (!value.is_empty()).then(|| value.clone());
        match list.iter_mut().find(|taint| taint.key == *key) {
            Some(taint) if taint.value == value && taint.effect == *effect => {}
            Some(taint) => {
                taint.value = value;
                taint.effect.clone_from(effect);
                taint.time_added = None;
            }
            None => list.push(Taint { key: key.clone(), value, effect: effect.clone(), time_added: None }),
        }
    }
    list
}

/// Brings the node object there.
///
/// # Errors
/// See [`KubeError`]: not found until the kubelet has registered, conflict when somebody else
/// changed it meanwhile.
pub async fn reconcile(client: &kube::Client, name: &str, wanted: &Wanted) -> Result<bool, KubeError> {
    let api: Api<Node> = Api::all(client.clone());
    let node = ask(format!("get node {name}"), api.get(name)).await?;
    let Some(patch) = patch(&node, wanted) else {
        return Ok(false);
    };
    ask(format!("patch node {name}"), api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))).await.map(|_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    fn wanted() -> Wanted {
        Wanted {
            labels: BTreeMap::from([("role".into(), "x".into())]),
            taints: Some(BTreeMap::from([("t".into(), (String::new(), "NoSchedule".into()))])),
            ..Default::default()
        }
    }

    fn nothing() -> Wanted {
        Wanted { taints: Some(BTreeMap::new()), ..Default::default() }
    }

    /// What the API server would make of the patch.
    fn apply(node: &Node, patch: &Value) -> Node {
        fn merge(target: &mut Value, patch: &Value) {
            let Value::Object(patch) = patch else {
                *target = patch.clone();
                return;
            };
            if !target.is_object() {
                *target = json!({});
            }
            let map = target.as_object_mut().unwrap();
            for (key, value) in patch {
                if value.is_null() {
                    map.remove(key);
                } else {
                    merge(map.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        let mut value = serde_json::to_value(node).unwrap();
        merge(&mut value, patch);
        self::node(value)
    }

    #[test]
    fn settles_after_one_patch_and_takes_away_what_it_set() {
        let bare = node(json!({
            "metadata": {"name": "n", "resourceVersion": "5", "labels": {"kubernetes.io/os": "linux"}},
            "spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]},
        }));
        let change = patch(&bare, &wanted()).unwrap();
        assert_eq!(change["metadata"]["resourceVersion"], "5");
        let done = apply(&bare, &change);
        assert_eq!(patch(&done, &wanted()), None);
        assert_eq!(done.metadata.labels.as_ref().unwrap()["role"], "x");
        assert_eq!(done.spec.as_ref().unwrap().taints.as_ref().unwrap().len(), 2);

        let gone = apply(&done, &patch(&done, &nothing()).unwrap());
        assert_eq!(gone.metadata.labels, bare.metadata.labels);
        assert_eq!(gone.spec.as_ref().unwrap().taints, bare.spec.as_ref().unwrap().taints);
        assert_eq!(patch(&gone, &nothing()), None);
    }

    #[test]
    fn a_worker_leaves_its_taints_alone() {
        let tainted = node(json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}));
        let mut labels_only = wanted();
        labels_only.taints = None;
        let change = patch(&tainted, &labels_only).unwrap();
        assert_eq!(change.get("spec"), None);
        assert!(!change.to_string().contains("taints"), "{change}");
    }

    #[test]
    fn what_was_there_before_stays() {
        let before = node(json!({"metadata": {"name": "n", "labels": {"role": "x"}}}));
        let mut only_label = wanted();
        only_label.taints = Some(BTreeMap::new());
        assert_eq!(patch(&before, &only_label), None);
        assert_eq!(patch(&before, &nothing()), None);
    }

    #[test]
    fn only_what_we_cordoned_is_uncordoned() {
        let by_hand = node(json!({"metadata": {"name": "n"}, "spec": {"unschedulable": true}}));
        assert_eq!(patch(&by_hand, &Wanted::default()), None);
        let cordoned = Wanted { cordoned: true, ..Default::default() };
        let free = node(json!({"metadata": {"name": "n"}}));
        let done = apply(&free, &patch(&free, &cordoned).unwrap());
        assert_eq!(done.spec.as_ref().unwrap().unschedulable, Some(true));
        assert_eq!(patch(&done, &cordoned), None);
        let open = apply(&done, &patch(&done, &Wanted::default()).unwrap());
        assert_eq!(open.spec.unwrap().unschedulable, Some(false));
    }
}
