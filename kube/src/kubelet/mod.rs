//! The kubelet: its arguments, its configuration file, and the container it runs in.
//!
//! Pure. The kubelet itself runs as a container that the service supervisor starts.

pub mod config;
pub mod service;

use std::net::IpAddr;

use crate::args::{ArgError, Args, ExtraArgs, Policy};
use crate::paths;

/// What the arguments depend on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KubeletArgs {
    /// Name under which the node registers.
    pub nodename: String,
    /// The node's addresses, at most one per family.
    pub node_ips: Vec<IpAddr>,
    /// The node does not register: static pods only.
    pub skip_registration: bool,
    /// A cloud provider outside of the kubelet initialises the node.
    pub cloud_provider_external: bool,
    /// Image credential providers are configured.
    pub credential_providers: bool,
    /// The user's arguments.
    pub extra: ExtraArgs,
}

const POLICIES: &[(&str, Policy)] = &[
    ("config", Policy::Denied),
    ("cert-dir", Policy::Denied),
    ("bootstrap-kubeconfig", Policy::Denied),
    ("kubeconfig", Policy::Denied),
    ("image-credential-provider-bin-dir", Policy::Denied),
    ("image-credential-provider-config", Policy::Denied),
];

impl KubeletArgs {
    /// The complete argument list.
    ///
    /// # Errors
    /// A flag among `extra` that may not be set.
    pub fn build(&self) -> Result<Vec<String>, ArgError> {
        let mut args = Args::new()
            .with("cert-dir", paths::KUBELET_PKI)
            .with("config", paths::KUBELET_CONFIG)
            .with("hostname-override", self.nodename.clone());
        if !self.skip_registration {
            args = args.with("bootstrap-kubeconfig", paths::KUBELET_BOOTSTRAP_KUBECONFIG).with("kubeconfig", paths::KUBELET_KUBECONFIG);
        }
        if !self.node_ips.is_empty() {
            let ips: Vec<String> = self.node_ips.iter().map(ToString::to_string).collect();
            args = args.with("node-ip", ips.join(","));
        }
        if self.cloud_provider_external {
            args = args.with("cloud-provider", "external");
        }
        if self.credential_providers {
            args = args
                .with("image-credential-provider-bin-dir", paths::CREDENTIAL_PROVIDER_BIN)
                .with("image-credential-provider-config", paths::CREDENTIAL_PROVIDER_CONFIG);
        }
        Ok(args.merged("kubelet", &self.extra, POLICIES)?.to_flags())
    }

    /// The name the node will register under: the user's, where the arguments override ours.
    pub fn effective_nodename(&self) -> String {
        self.extra.get("hostname-override").and_then(|values| values.last()).cloned().unwrap_or_else(|| self.nodename.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_defaults() {
        let args = KubeletArgs { nodename: "cp-1".into(), node_ips: vec!["10.5.0.2".parse().unwrap()], ..Default::default() };
        assert_eq!(
            args.build().unwrap().join("\n"),
            "\
--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubeconfig
--cert-dir=/var/lib/kubelet/pki
--config=/etc/kubernetes/kubelet.yaml
--hostname-override=cp-1
--kubeconfig=/etc/kubernetes/kubeconfig-kubelet
--node-ip=10.5.0.2"
        );
    }

    #[test]
    fn a_node_that_does_not_register_has_no_kubeconfig() {
        let args = KubeletArgs {
            nodename: "cp-1".into(),
            skip_registration: true,
            cloud_provider_external: true,
            node_ips: vec!["10.5.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            ..Default::default()
        };
        assert_eq!(
            args.build().unwrap().join("\n"),
            "\
--cert-dir=/var/lib/kubelet/pki
--cloud-provider=external
--config=/etc/kubernetes/kubelet.yaml
--hostname-override=cp-1
--node-ip=10.5.0.2,fd00::2"
        );
    }

    #[test]
    fn the_user_may_rename_but_not_reroute() {
        let mut args = KubeletArgs { nodename: "cp-1".into(), ..Default::default() };
        args.extra.insert("hostname-override".into(), vec!["other".into()]);
        assert!(args.build().unwrap().contains(&"--hostname-override=other".to_owned()));
        assert_eq!(args.effective_nodename(), "other");
        args.extra.insert("kubeconfig".into(), vec!["/x".into()]);
        assert!(args.build().is_err());
    }
}
