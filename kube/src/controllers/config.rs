//! Machine configuration → configuration resources and root secrets.

use engine::{Context, Controller, Inputs, One, OneExt, Outputs, Wanted};
use model::host::MachineConfig;
use model::kube as kinds;

use super::Room;
use crate::configure;
use crate::paths::{API_SERVER, CONTROLLER_MANAGER, SCHEDULER};

/// The configuration in force.
#[derive(Inputs)]
pub struct Config {
    /// It.
    #[input(id = "v1alpha1")]
    pub config: One<MachineConfig>,
}

/// Writes what each part of the room shall do, from the configuration.
pub struct ConfigController {
    /// Shared.
    pub room: Room,
}

impl Controller for ConfigController {
    const NAME: &'static str = "k8s.ConfigController";
    type In = Config;

    fn outputs() -> Outputs {
        Outputs::new()
            .exclusive::<kinds::ApiServerConfig>()
            .exclusive::<kinds::ControllerManagerConfig>()
            .exclusive::<kinds::SchedulerConfig>()
            .exclusive::<kinds::AdmissionControlConfig>()
            .exclusive::<kinds::AuditPolicyConfig>()
            .exclusive::<kinds::AuthenticationConfig>()
            .exclusive::<kinds::AuthorizationConfig>()
            .exclusive::<kinds::EtcdEncryptionConfig>()
            .exclusive::<kinds::ExtraManifestsConfig>()
            .exclusive::<kinds::BootstrapManifestsConfig>()
            .exclusive::<kinds::KubeletConfig>()
            .exclusive::<kinds::NodeIpConfig>()
            .exclusive::<kinds::NodeLabelSpec>()
            .exclusive::<kinds::NodeAnnotationSpec>()
            .exclusive::<kinds::NodeTaintSpec>()
            .exclusive::<kinds::EtcdConfig>()
            .exclusive::<kinds::KubernetesAccessConfig>()
            .exclusive::<kinds::StaticPodServerStatus>()
            .shared::<model::net::NodeAddressFilter>()
    }

    async fn reconcile(&self, _: &Context, input: Config) -> engine::Result<Wanted> {
        let Some(config) = input.config.spec().and_then(MachineConfig::machine) else {
            return Ok(Wanted::unknown("the machine configuration"));
        };
        let url = self.room.static_pods.url();
        let mut wanted = Wanted::new()
            .with("static-pod-server-status", kinds::StaticPodServerStatus { url: url.clone() })
            .maybe("kubelet", configure::kubelet(config, &url));
        if config.kubelet().is_some() {
            let node = config.node();
            wanted = wanted.with("kubelet", configure::node_ip(config));
            for (name, filter) in configure::address_filters(config) {
                wanted = wanted.with(name, filter);
            }
            for (key, value) in node.labels {
                wanted = wanted.with(key.clone(), kinds::NodeLabelSpec { key, value });
            }
            for (key, value) in node.annotations {
                wanted = wanted.with(key.clone(), kinds::NodeAnnotationSpec { key, value });
            }
            for (key, text) in node.taints {
                if let Some((value, effect)) = crate::kubelet::config::parse_taint(&text) {
                    let taint = kinds::NodeTaintSpec { key: key.clone(), effect: effect.to_owned(), value: value.to_owned() };
                    wanted = wanted.with(key, taint);
                }
            }
        }
        wanted = wanted.maybe("etcd", configure::etcd(config));
        if !config.runs_kubernetes() {
            return Ok(wanted);
        }
        Ok(wanted
            .maybe(API_SERVER, configure::api_server(config)?)
            .maybe(CONTROLLER_MANAGER, configure::controller_manager(config)?)
            .maybe(SCHEDULER, configure::kube_scheduler(config)?)
            .with("admission-control", configure::admission(config))
            .with("audit-policy", configure::audit_policy(config))
            .maybe("authentication-config", configure::authentication(config))
            .with("authorization", configure::authorization(config))
            .maybe("k8s", configure::etcd_encryption(config))
            .with("extra-manifests", configure::extra_manifests(config))
            .with("manifests", configure::bootstrap_manifests(config, self.room.limits))
            .with("config", configure::api_access(config)))
    }
}

/// Writes the roots from which certificates and kubeconfigs are made.
pub struct RootSecrets;

impl Controller for RootSecrets {
    const NAME: &'static str = "secrets.RootController";
    type In = Config;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::KubernetesRootSecret>().exclusive::<kinds::EtcdRootSecret>().exclusive::<kinds::KubeletSecret>()
    }

    async fn reconcile(&self, _: &Context, input: Config) -> engine::Result<Wanted> {
        let Some(config) = input.config.spec().and_then(MachineConfig::machine) else {
            return Ok(Wanted::unknown("the machine configuration"));
        };
        Ok(Wanted::new()
            .maybe("k8s", configure::kubernetes_root(config))
            .maybe("etcd", configure::etcd_root(config))
            .maybe("kubelet", configure::kubelet_secret(config)))
    }
}
