//! Rights a new cluster needs: nodes may join and renew their certificates, and read endpoints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The group that a bootstrap token's bearer is in.
pub const BOOTSTRAP_GROUP: &str = "system:bootstrappers:nodes";

/// The token with which a kubelet asks for its first certificate. It does not expire: a machine
/// may join at any time, and what the token allows is asking.
pub fn bootstrap_token(id: &str, secret: &str) -> Value {
    let data = |text: &str| STANDARD.encode(text);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {
            "auth-extra-groups": data(BOOTSTRAP_GROUP),
            "token-id": data(id),
            "token-secret": data(secret),
            "usage-bootstrap-authentication": data("true"),
        },
    })
}

/// First certificates of bootstrapping nodes are approved.
pub fn csr_approver() -> Value {
    group_binding(
        "system-bootstrap-approve-node-client-csr",
        BOOTSTRAP_GROUP,
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
    )
}

/// Bootstrapping nodes may ask for a certificate.
pub fn node_bootstrapper() -> Value {
    group_binding("system-bootstrap-node-bootstrapper", BOOTSTRAP_GROUP, "system:node-bootstrapper")
}

/// Renewals of nodes' certificates are approved.
pub fn csr_renewal() -> Value {
    group_binding("system-bootstrap-node-renewal", "system:nodes", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient")
}

/// Nodes may read what their own network needs before any pod runs.
pub fn node_reader() -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:talos-nodes"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["nodes", "endpoints"],
                    "verbs": ["get", "list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["get", "list", "watch"],
                },
            ],
        }),
        group_binding("system:talos-nodes", "system:nodes", "system:talos-nodes"),
    ]
}

/// The ServiceAccount kind through which a pod asks for access to the machine API, and the service
/// under which it finds that API.
pub fn service_account_access(port: u16) -> Vec<Value> {
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {"roles": {"type": "array", "items": {"type": "string"}}},
            },
            "status": {
                "type": "object",
                "properties": {"failureReason": {"type": "string"}},
            },
        },
    });
    vec![
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "serviceaccounts.talos.dev"},
            "spec": {
                "group": "talos.dev",
                "names": {
                    "kind": "ServiceAccount",
                    "listKind": "ServiceAccountList",
                    "plural": "serviceaccounts",
                    "singular": "serviceaccount",
                    "shortNames": ["tsa"],
                },
                "scope": "Namespaced",
                "versions": [{
                    "name": "v1alpha1",
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": schema},
                }],
            },
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "talos", "namespace": "default"},
            "spec": {"ports": [{"name": "apid", "port": port, "protocol": "TCP", "targetPort": port}]},
        }),
    ]
}

pub(crate) fn group_binding(name: &str, group: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    })
}

pub(crate) fn account_binding(name: &str, account: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}],
    })
}

pub(crate) fn account(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": "kube-system"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_can_authenticate() {
        let secret = bootstrap_token("abcdef", "0123456789abcdef");
        assert_eq!(secret["metadata"]["name"], "bootstrap-token-abcdef");
        let decoded = |key: &str| {
            let bytes = STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(decoded("token-id"), "abcdef");
        assert_eq!(decoded("token-secret"), "0123456789abcdef");
        assert_eq!(decoded("usage-bootstrap-authentication"), "true");
        assert_eq!(decoded("auth-extra-groups"), "system:bootstrappers:nodes");
    }
}
