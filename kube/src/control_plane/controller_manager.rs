//! kube-controller-manager: arguments and static pod.

use serde_json::{Map, Value, json};

use super::pod::{self, HttpProbe, PodInput, Probes};
use crate::args::{ArgError, Args, ExtraArgs, Policy};
use crate::paths::{CONTROLLER_MANAGER, CONTROLLER_MANAGER_UID, POD_SECRETS};
use crate::subnets::families;

const PORT: u16 = 10257;

/// What the arguments depend on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ControllerManagerArgs {
    /// `external` or empty.
    pub cloud_provider: String,
    /// Pod networks, at most one per family.
    pub pod_cidrs: Vec<String>,
    /// Service networks, at most one per family.
    pub service_cidrs: Vec<String>,
    /// Prefix length of a node's IPv4 pod network.
    pub node_mask_v4: u8,
    /// Prefix length of a node's IPv6 pod network.
    pub node_mask_v6: u8,
    /// The user's arguments.
    pub extra: ExtraArgs,
}

const POLICIES: &[(&str, Policy)] = &[
    ("controllers", Policy::Additive),
    ("service-cluster-ip-range", Policy::Denied),
    ("cluster-cidr", Policy::Denied),
    ("cluster-signing-cert-file", Policy::Denied),
    ("cluster-signing-key-file", Policy::Denied),
    ("kubeconfig", Policy::Denied),
    ("authentication-kubeconfig", Policy::Denied),
    ("authorization-kubeconfig", Policy::Denied),
    ("root-ca-file", Policy::Denied),
    ("service-account-private-key-file", Policy::Denied),
    ("tls-min-version", Policy::Denied),
];

impl ControllerManagerArgs {
    /// The complete argument list.
    ///
    /// # Errors
    /// A flag among `extra` that may not be set.
    pub fn build(&self) -> Result<Vec<String>, ArgError> {
        let secret = |file: &str| format!("{POD_SECRETS}/{CONTROLLER_MANAGER}/{file}");
        let (v4, v6) = families(&self.pod_cidrs);
        let mut args = Args::new()
            .with("allocate-node-cidrs", "true")
            .with("authentication-kubeconfig", secret("kubeconfig"))
            .with("authorization-kubeconfig", secret("kubeconfig"))
            .with("bind-address", "127.0.0.1")
            .with("cluster-cidr", self.pod_cidrs.join(","))
            .with("cluster-signing-cert-file", secret("ca.crt"))
            .with("cluster-signing-key-file", secret("ca.key"))
            .with("configure-cloud-routes", "false")
            .with("controllers", "*")
            .with("kubeconfig", secret("kubeconfig"))
            .with("leader-elect", "true")
            .with("profiling", "false")
            .with("root-ca-file", secret("root-ca.crt"))
            .with("service-account-private-key-file", secret("service-account.key"))
            .with("service-cluster-ip-range", self.service_cidrs.join(","))
            .with("terminated-pod-gc-threshold", "100")
            .with("tls-min-version", "VersionTLS13")
            .with("use-service-account-credentials", "true");
        if !self.cloud_provider.is_empty() {
            args = args.with("cloud-provider", self.cloud_provider.clone());
        }
        // The controller manager refuses a mask for a family it has no network of.
        if v4 {
            args = args.with("node-cidr-mask-size-ipv4", self.node_mask_v4.to_string());
        }
        if v6 {
            args = args.with("node-cidr-mask-size-ipv6", self.node_mask_v6.to_string());
        }
        Ok(args.merged(CONTROLLER_MANAGER, &self.extra, POLICIES)?.to_flags())
    }
}

/// The static pod.
pub fn static_pod(input: &PodInput) -> Value {
    let mut volumes = vec![pod::secrets_volume(CONTROLLER_MANAGER)];
    let mut mounts = vec![pod::secrets_mount(CONTROLLER_MANAGER)];
    input.extend_volumes(&mut volumes, &mut mounts);

    let mut container = Map::new();
    container.insert("name".into(), json!(CONTROLLER_MANAGER));
    container.insert("image".into(), json!(input.image));
    container.insert("command".into(), json!(input.command(CONTROLLER_MANAGER)));
    container.insert("env".into(), json!(input.env()));
    container.insert(
        "ports".into(),
        json!([{
            "name": "https", "containerPort": PORT, "hostPort": PORT, "protocol": "TCP",
        }]),
    );
    container.insert("volumeMounts".into(), json!(mounts));
    container.insert("resources".into(), input.resources("50m", "256Mi"));
    container.insert("securityContext".into(), pod::container_security(&[]));
    Probes { startup: HttpProbe { path: "/healthz", port: PORT }, liveness: HttpProbe { path: "/healthz", port: PORT }, readiness: None }
        .insert_into(&mut container);
    pod::assemble(CONTROLLER_MANAGER, CONTROLLER_MANAGER_UID, input, Value::Object(container), volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_defaults() {
        let args = ControllerManagerArgs {
            pod_cidrs: vec!["10.244.0.0/16".into()],
            service_cidrs: vec!["10.96.0.0/12".into()],
            node_mask_v4: 24,
            node_mask_v6: 64,
            ..Default::default()
        };
        let golden = "\
--allocate-node-cidrs=true
--authentication-kubeconfig=/system/secrets/kubernetes/kube-controller-manager/kubeconfig
--authorization-kubeconfig=/system/secrets/kubernetes/kube-controller-manager/kubeconfig
--bind-address=127.0.0.1
--cluster-cidr=10.244.0.0/16
--cluster-signing-cert-file=/system/secrets/kubernetes/kube-controller-manager/ca.crt
--cluster-signing-key-file=/system/secrets/kubernetes/kube-controller-manager/ca.key
--configure-cloud-routes=false
--controllers=*
--kubeconfig=/system/secrets/kubernetes/kube-controller-manager/kubeconfig
--leader-elect=true
--node-cidr-mask-size-ipv4=24
--profiling=false
--root-ca-file=/system/secrets/kubernetes/kube-controller-manager/root-ca.crt
--service-account-private-key-file=/system/secrets/kubernetes/kube-controller-manager/service-account.key
--service-cluster-ip-range=10.96.0.0/12
--terminated-pod-gc-threshold=100
--tls-min-version=VersionTLS13
--use-service-account-credentials=true";
        assert_eq!(args.build().unwrap().join("\n"), golden);
    }

    #[test]
    fn masks_only_for_families_present() {
        let both = ControllerManagerArgs {
            pod_cidrs: vec!["10.244.0.0/16".into(), "fd00:10:244::/56".into()],
            service_cidrs: vec!["10.96.0.0/12".into(), "fd00:10:96::/112".into()],
            node_mask_v4: 24,
            node_mask_v6: 64,
            ..Default::default()
        };
        let args = both.build().unwrap();
        assert!(args.contains(&"--node-cidr-mask-size-ipv4=24".to_owned()));
        assert!(args.contains(&"--node-cidr-mask-size-ipv6=64".to_owned()));
        assert!(args.contains(&"--cluster-cidr=10.244.0.0/16,fd00:10:244::/56".to_owned()));
        let v6 = ControllerManagerArgs { pod_cidrs: vec!["fd00:10:244::/56".into()], ..both };
        assert!(!v6.build().unwrap().iter().any(|a| a.contains("mask-size-ipv4")));
    }
}
