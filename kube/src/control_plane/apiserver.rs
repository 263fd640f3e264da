//! kube-apiserver: arguments and static pod.

use serde_json::{Map, Value, json};

use super::pod::{self, HttpProbe, PodInput, Probes, host_path, mount};
use crate::args::{ArgError, Args, ExtraArgs, Policy};
use crate::paths::{API_SERVER, API_SERVER_UID, AUDIT_LOG_DIR, POD_CONFIG, POD_SECRETS};

/// What the arguments depend on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApiServerArgs {
    /// TCP port, 6443 by default.
    pub port: u16,
    /// Address under which the server makes itself known; may be `$(POD_IP)`.
    pub advertise_address: String,
    /// Client URLs of etcd.
    pub etcd_servers: Vec<String>,
    /// Service networks, at most one per family.
    pub service_cidrs: Vec<String>,
    /// Issuer of service account tokens, a URL.
    pub issuer: String,
    /// Issuers whose tokens are accepted as well.
    pub accepted_issuers: Vec<String>,
    /// Token audiences; the issuers when empty.
    pub audiences: Vec<String>,
    /// `external` or empty; a flag of old versions only.
    pub cloud_provider: String,
    /// Authentication comes from a structured file instead of flags.
    pub use_authentication_config: bool,
    /// The user's arguments.
    pub extra: ExtraArgs,
}

/// Flags that a configuration may not change: the server would lose its data, its identity or
/// the checks that the cluster relies on.
const POLICIES: &[(&str, Policy)] = &[
    ("enable-admission-plugins", Policy::Additive),
    ("authorization-mode", Policy::Additive),
    ("client-ca-file", Policy::Denied),
    ("requestheader-client-ca-file", Policy::Denied),
    ("proxy-client-cert-file", Policy::Denied),
    ("proxy-client-key-file", Policy::Denied),
    ("encryption-provider-config", Policy::Denied),
    ("authorization-config", Policy::Denied),
    ("etcd-cafile", Policy::Denied),
    ("etcd-certfile", Policy::Denied),
    ("etcd-keyfile", Policy::Denied),
    ("etcd-servers", Policy::Denied),
    ("kubelet-client-certificate", Policy::Denied),
    ("kubelet-client-key", Policy::Denied),
    ("service-account-key-file", Policy::Denied),
    ("service-account-signing-key-file", Policy::Denied),
    ("tls-cert-file", Policy::Denied),
    ("tls-private-key-file", Policy::Denied),
    ("tls-min-version", Policy::Denied),
];

impl ApiServerArgs {
    /// The complete argument list.
    ///
    /// # Errors
    /// A flag among `extra` that may not be set.
    pub fn build(&self) -> Result<Vec<String>, ArgError> {
        let secret = |file: &str| format!("{POD_SECRETS}/{API_SERVER}/{file}");
        let config = |file: &str| format!("{POD_CONFIG}/{API_SERVER}/{file}");
        let issuers: Vec<String> =
            std::iter::once(&self.issuer).chain(&self.accepted_issuers).filter(|issuer| !issuer.is_empty()).cloned().collect();
        let audiences = if self.audiences.is_empty() { &issuers } else { &self.audiences };
        let mut args = Args::new()
            .with("admission-control-config-file", config("admission-control-config.yaml"))
            .with("advertise-address", self.advertise_address.clone())
            .with("allow-privileged", "true")
            .with("api-audiences", audiences.join(","))
            .with("audit-log-maxage", "30")
            .with("audit-log-maxbackup", "10")
            .with("audit-log-maxsize", "100")
            .with("audit-log-path", format!("{AUDIT_LOG_DIR}/kube-apiserver.log"))
            .with("audit-policy-file", config("auditpolicy.yaml"))
            .with("bind-address", "0.0.0.0")
            .with("client-ca-file", secret("ca.crt"))
            .with("enable-admission-plugins", "NodeRestriction")
            .with("enable-bootstrap-token-auth", "true")
            .with("encryption-provider-config", secret("encryptionconfig.yaml"))
            .with("etcd-cafile", secret("etcd-client-ca.crt"))
            .with("etcd-certfile", secret("etcd-client.crt"))
            .with("etcd-keyfile", secret("etcd-client.key"))
            .with("etcd-servers", self.etcd_servers.join(","))
            .with("kubelet-client-certificate", secret("apiserver-kubelet-client.crt"))
            .with("kubelet-client-key", secret("apiserver-kubelet-client.key"))
            .with("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname")
            .with("profiling", "false")
            .with("proxy-client-cert-file", secret("front-proxy-client.crt"))
            .with("proxy-client-key-file", secret("front-proxy-client.key"))
            .with("requestheader-allowed-names", "front-proxy-client")
            .with("requestheader-client-ca-file", secret("aggregator-ca.crt"))
            .with("requestheader-extra-headers-prefix", "X-Remote-Extra-")
            .with("requestheader-group-headers", "X-Remote-Group")
            .with("requestheader-username-headers", "X-Remote-User")
            .with("secure-port", self.port.to_string())
            .with_each("service-account-issuer", issuers)
            .with("service-account-key-file", secret("service-account.pub"))
            .with("service-account-signing-key-file", secret("service-account.key"))
            .with("service-cluster-ip-range", self.service_cidrs.join(","))
            .with("tls-cert-file", secret("apiserver.crt"))
            .with("tls-min-version", "VersionTLS13")
            .with("tls-private-key-file", secret("apiserver.key"));
        if !self.cloud_provider.is_empty() {
            args = args.with("cloud-provider", self.cloud_provider.clone());
        }
        args = if self.use_authentication_config {
            args.with("authentication-config", config("authentication-config.yaml"))
        } else {
            args.with("anonymous-auth", "false")
        };
        args = if self.authorizes_by_flags() {
            args.with("authorization-mode", "Node,RBAC")
        } else {
            args.with("authorization-config", config("authorization-config.yaml"))
        };
        Ok(args.merged(API_SERVER, &self.extra, POLICIES)?.to_flags())
    }

    /// Flags and file exclude each other in kube-apiserver: a user who sets one of the flags has
    /// chosen flags.
    fn authorizes_by_flags(&self) -> bool {
        self.extra.keys().any(|name| name == "authorization-mode" || name.starts_with("authorization-webhook-"))
    }
}

/// The static pod.
pub fn static_pod(input: &PodInput, port: u16, startup_probes: bool) -> Value {
    let mut env = vec![json!({
        "name": "POD_IP",
        "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
    })];
    env.extend(input.env());
    let mut volumes = pod::own_volumes(API_SERVER);
    volumes.push(host_path("audit", AUDIT_LOG_DIR));
    let mut mounts = pod::own_mounts(API_SERVER);
    mounts.push(mount("audit", AUDIT_LOG_DIR, false));
    input.extend_volumes(&mut volumes, &mut mounts);

    let mut container = Map::new();
    container.insert("name".into(), json!(API_SERVER));
    container.insert("image".into(), json!(input.image));
    container.insert("command".into(), json!(input.command(API_SERVER)));
    container.insert("env".into(), json!(env));
    container.insert(
        "ports".into(),
        json!([{
            "name": "https", "containerPort": port, "hostPort": port, "protocol": "TCP",
        }]),
    );
    container.insert("volumeMounts".into(), json!(mounts));
    container.insert("resources".into(), input.resources("200m", "512Mi"));
    container.insert("securityContext".into(), pod::container_security(&["NET_BIND_SERVICE"]));
    if startup_probes {
        Probes {
            startup: HttpProbe { path: "/livez", port },
            liveness: HttpProbe { path: "/livez", port },
            readiness: Some(HttpProbe { path: "/readyz", port }),
        }
        .insert_into(&mut container);
    }
    pod::assemble(API_SERVER, API_SERVER_UID, input, Value::Object(container), volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> ApiServerArgs {
        ApiServerArgs {
            port: 6443,
            advertise_address: "$(POD_IP)".into(),
            etcd_servers: vec!["https://localhost:2379".into()],
            service_cidrs: vec!["10.96.0.0/12".into()],
            issuer: "https://10.5.0.2:6443".into(),
            use_authentication_config: true,
            ..Default::default()
        }
    }

    /// The whole line for the defaults, written down by hand from the facts.
    #[test]
    fn golden_defaults() {
        let golden = "\
--admission-control-config-file=/system/config/kubernetes/kube-apiserver/admission-control-config.yaml
--advertise-address=$(POD_IP)
--allow-privileged=true
--api-audiences=https://10.5.0.2:6443
--audit-log-maxage=30
--audit-log-maxbackup=10
--audit-log-maxsize=100
--audit-log-path=/var/log/audit/kube/kube-apiserver.log
--audit-policy-file=/system/config/kubernetes/kube-apiserver/auditpolicy.yaml
--authentication-config=/system/config/kubernetes/kube-apiserver/authentication-config.yaml
--authorization-config=/system/config/kubernetes/kube-apiserver/authorization-config.yaml
--bind-address=0.0.0.0
--client-ca-file=/system/secrets/kubernetes/kube-apiserver/ca.crt
--enable-admission-plugins=NodeRestriction
--enable-bootstrap-token-auth=true
--encryption-provider-config=/system/secrets/kubernetes/kube-apiserver/encryptionconfig.yaml
--etcd-cafile=/system/secrets/kubernetes/kube-apiserver/etcd-client-ca.crt
--etcd-certfile=/system/secrets/kubernetes/kube-apiserver/etcd-client.crt
--etcd-keyfile=/system/secrets/kubernetes/kube-apiserver/etcd-client.key
--etcd-servers=https://localhost:2379
--kubelet-client-certificate=/system/secrets/kubernetes/kube-apiserver/apiserver-kubelet-client.crt
--kubelet-client-key=/system/secrets/kubernetes/kube-apiserver/apiserver-kubelet-client.key
--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname
--profiling=false
--proxy-client-cert-file=/system/secrets/kubernetes/kube-apiserver/front-proxy-client.crt
--proxy-client-key-file=/system/secrets/kubernetes/kube-apiserver/front-proxy-client.key
--requestheader-allowed-names=front-proxy-client
--requestheader-client-ca-file=/system/secrets/kubernetes/kube-apiserver/aggregator-ca.crt
--requestheader-extra-headers-prefix=X-Remote-Extra-
--requestheader-group-headers=X-Remote-Group
--requestheader-username-headers=X-Remote-User
--secure-port=6443
--service-account-issuer=https://10.5.0.2:6443
--service-account-key-file=/system/secrets/kubernetes/kube-apiserver/service-account.pub
--service-account-signing-key-file=/system/secrets/kubernetes/kube-apiserver/service-account.key
--service-cluster-ip-range=10.96.0.0/12
--tls-cert-file=/system/secrets/kubernetes/kube-apiserver/apiserver.crt
--tls-min-version=VersionTLS13
--tls-private-key-file=/system/secrets/kubernetes/kube-apiserver/apiserver.key";
        assert_eq!(defaults().build().unwrap().join("\n"), golden);
    }

    #[test]
    fn legacy_authentication_and_authorization_by_flags() {
        let mut input = defaults();
        input.use_authentication_config = false;
        input.extra.insert("authorization-mode".into(), vec!["Webhook".into()]);
        let args = input.build().unwrap();
        assert!(args.contains(&"--anonymous-auth=false".to_owned()));
        assert!(args.contains(&"--authorization-mode=Node,RBAC,Webhook".to_owned()));
        assert!(!args.iter().any(|a| a.starts_with("--authorization-config=")));
        assert!(!args.iter().any(|a| a.starts_with("--authentication-config=")));
    }

    #[test]
    fn issuers_repeat_and_are_the_default_audiences() {
        let mut input = defaults();
        input.accepted_issuers = vec!["https://old".into()];
        let args = input.build().unwrap();
        let issuers: Vec<_> = args.iter().filter(|a| a.starts_with("--service-account-issuer=")).collect();
        assert_eq!(issuers, ["--service-account-issuer=https://10.5.0.2:6443", "--service-account-issuer=https://old"]);
        assert!(args.contains(&"--api-audiences=https://10.5.0.2:6443,https://old".to_owned()));
    }

    #[test]
    fn what_protects_the_cluster_cannot_be_changed() {
        for name in ["etcd-servers", "tls-min-version", "authorization-config", "client-ca-file"] {
            let mut input = defaults();
            input.extra.insert(name.into(), vec!["x".into()]);
            assert!(input.build().is_err(), "{name}");
        }
    }
}
