//! Configuration files of kube-apiserver: admission, audit, authentication, authorization,
//! encryption at rest.
//!
//! They are written as JSON, which each of their readers takes as YAML.

use serde_json::{Map, Value, json};

/// One admission plug-in and its configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdmissionPlugin {
    /// Plug-in name, for instance `PodSecurity`.
    pub name: String,
    /// Its configuration object.
    pub configuration: Map<String, Value>,
}

/// One authorizer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Authorizer {
    /// `Node`, `RBAC` or `Webhook`.
    pub kind: String,
    /// A name, unique in the list.
    pub name: String,
    /// Settings of a `Webhook` authorizer.
    pub webhook: Map<String, Value>,
}

/// AdmissionConfiguration.
pub fn admission(plugins: &[AdmissionPlugin]) -> Value {
    let plugins: Vec<Value> = plugins.iter().map(|plugin| json!({"name": plugin.name, "configuration": plugin.configuration})).collect();
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": plugins,
    })
}

/// The audit policy; without one, every request at level Metadata.
pub fn audit_policy(policy: &Map<String, Value>) -> Value {
    let mut policy = policy.clone();
    if !policy.contains_key("rules") {
        policy.insert("rules".into(), json!([{"level": "Metadata"}]));
    }
    policy.insert("apiVersion".into(), json!("audit.k8s.io/v1"));
    policy.insert("kind".into(), json!("Policy"));
    Value::Object(policy)
}

/// AuthenticationConfiguration around the user's map.
pub fn authentication(config: &Map<String, Value>) -> Value {
    let mut config = config.clone();
    config.insert("apiVersion".into(), json!("apiserver.config.k8s.io/v1beta1"));
    config.insert("kind".into(), json!("AuthenticationConfiguration"));
    Value::Object(config)
}

/// AuthorizationConfiguration.
pub fn authorization(authorizers: &[Authorizer]) -> Value {
    let authorizers: Vec<Value> = authorizers
        .iter()
        .map(|authorizer| {
            let mut entry = json!({"type": authorizer.kind, "name": authorizer.name});
            if !authorizer.webhook.is_empty() {
                entry["webhook"] = json!(authorizer.webhook);
            }
            entry
        })
        .collect();
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": authorizers,
    })
}

/// The authorizers of a legacy configuration: Node and RBAC are always there, first unless named.
pub fn legacy_authorizers(configured: &[Authorizer]) -> Vec<Authorizer> {
    let mut list: Vec<Authorizer> = ["Node", "RBAC"]
        .into_iter()
        .filter(|kind| !configured.iter().any(|authorizer| authorizer.kind == *kind))
        .map(|kind| Authorizer { kind: kind.to_owned(), name: kind.to_ascii_lowercase(), webhook: Map::new() })
        .collect();
    list.extend(configured.iter().cloned());
    list
}

/// EncryptionConfiguration around the `config` of a KubeEtcdEncryptionConfig document.
pub fn encryption(config: &Map<String, Value>) -> Value {
    let mut config = config.clone();
    config.insert("apiVersion".into(), json!("apiserver.config.k8s.io/v1"));
    config.insert("kind".into(), json!("EncryptionConfiguration"));
    Value::Object(config)
}

/// The encryption of a legacy configuration, from the two secrets it may hold (base64 of 32 bytes).
/// New data is written with the first provider; data written before encryption stays readable.
/// `None` when neither is there: secrets would be stored in the clear.
pub fn legacy_encryption(secretbox: Option<&str>, aescbc: Option<&str>) -> Option<Value> {
    let mut providers = Vec::new();
    if let Some(secret) = secretbox {
        providers.push(json!({"secretbox": {"keys": [{"name": "key2", "secret": secret}]}}));
    }
    if let Some(secret) = aescbc {
        providers.push(json!({"aescbc": {"keys": [{"name": "key1", "secret": secret}]}}));
    }
    if providers.is_empty() {
        return None;
    }
    providers.push(json!({"identity": {}}));
    let config = json!({"resources": [{"resources": ["secrets"], "providers": providers}]});
    config.as_object().map(encryption)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_encryption_puts_secretbox_first_and_reads_plain_text() {
        let config = legacy_encryption(Some("S"), Some("A")).unwrap();
        assert_eq!(
            config,
            json!({
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "EncryptionConfiguration",
                "resources": [{
                    "resources": ["secrets"],
                    "providers": [
                        {"secretbox": {"keys": [{"name": "key2", "secret": "S"}]}},
                        {"aescbc": {"keys": [{"name": "key1", "secret": "A"}]}},
                        {"identity": {}},
                    ],
                }],
            })
        );
        assert_eq!(legacy_encryption(None, None), None);
    }

    #[test]
    fn an_empty_audit_policy_logs_metadata() {
        assert_eq!(audit_policy(&Map::new()), json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}));
    }

    #[test]
    fn legacy_authorizers_inject_what_is_missing() {
        let webhook = Authorizer { kind: "Webhook".into(), name: "w".into(), webhook: Map::new() };
        let rbac = Authorizer { kind: "RBAC".into(), name: "mine".into(), webhook: Map::new() };
        let kinds: Vec<_> = legacy_authorizers(&[webhook, rbac]).into_iter().map(|a| (a.kind, a.name)).collect();
        assert_eq!(
            kinds,
            [("Node".to_owned(), "node".to_owned()), ("Webhook".to_owned(), "w".to_owned()), ("RBAC".to_owned(), "mine".to_owned())]
        );
    }
}
