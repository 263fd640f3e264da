//! Kubernetes and etcd resources.

mod access;
mod control_plane;
mod endpoint;
mod etcd;
mod kubelet;
mod manifest;
mod node;
mod secrets;
mod static_pod;

pub use access::*;
pub use control_plane::*;
pub use endpoint::*;
pub use etcd::*;
pub use kubelet::*;
pub use manifest::*;
pub use node::*;
pub use secrets::*;
pub use static_pod::*;

use resource::Entry;

/// Every kind of this room.
#[must_use]
pub fn kinds() -> Vec<Entry> {
    vec![
        Entry::of::<ApiServerConfig>(),
        Entry::of::<ControllerManagerConfig>(),
        Entry::of::<SchedulerConfig>(),
        Entry::of::<AdmissionControlConfig>(),
        Entry::of::<AuditPolicyConfig>(),
        Entry::of::<AuthenticationConfig>(),
        Entry::of::<AuthorizationConfig>(),
        Entry::of::<EtcdEncryptionConfig>(),
        Entry::of::<KubeletConfig>(),
        Entry::of::<KubeletSpec>(),
        Entry::of::<KubeletStatus>(),
        Entry::of::<KubeletKubeconfig>(),
        Entry::of::<KubeletLifecycle>(),
        Entry::of::<BootstrapManifestsConfig>(),
        Entry::of::<ExtraManifestsConfig>(),
        Entry::of::<Manifest>(),
        Entry::of::<ManifestStatus>(),
        Entry::of::<Nodename>(),
        Entry::of::<NodeIp>(),
        Entry::of::<NodeIpConfig>(),
        Entry::of::<NodeStatus>(),
        Entry::of::<NodeLabelSpec>(),
        Entry::of::<NodeAnnotationSpec>(),
        Entry::of::<NodeTaintSpec>(),
        Entry::of::<NodeCordonedSpec>(),
        Entry::of::<Endpoint>(),
        Entry::of::<KubePrismEndpoint>(),
        Entry::of::<KubePrismConfig>(),
        Entry::of::<KubePrismStatus>(),
        Entry::of::<StaticPod>(),
        Entry::of::<StaticPodStatus>(),
        Entry::of::<StaticPodServerStatus>(),
        Entry::of::<ConfigStatus>(),
        Entry::of::<SecretStatus>(),
        Entry::of::<EtcdConfig>(),
        Entry::of::<EtcdSpec>(),
        Entry::of::<EtcdMember>(),
        Entry::of::<PkiStatus>(),
        Entry::of::<KubernetesRootSecret>(),
        Entry::of::<KubernetesSecret>(),
        Entry::of::<KubernetesDynamicCert>(),
        Entry::of::<KubeletSecret>(),
        Entry::of::<EtcdRootSecret>(),
        Entry::of::<EtcdSecret>(),
        Entry::of::<KubernetesAccessConfig>(),
    ]
}
