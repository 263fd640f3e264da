//! Where the Kubernetes parts of a node keep their files, and under which users they run.
//!
//! One list, so that what one part renders is what another mounts.

/// Secrets of static pods, one directory per pod below it.
pub const POD_SECRETS: &str = "/system/secrets/kubernetes";
/// Configuration files of static pods, one directory per pod below it.
pub const POD_CONFIG: &str = "/system/config/kubernetes";
/// Directory of the API server's audit log.
pub const AUDIT_LOG_DIR: &str = "/var/log/audit/kube";
/// Certificates and keys of etcd.
pub const ETCD_SECRETS: &str = "/system/secrets/etcd";
/// etcd's data.
pub const ETCD_DATA: &str = "/var/lib/etcd";
/// A snapshot that `etcd recover` uploaded, to be restored at bootstrap.
pub const ETCD_SNAPSHOT: &str = "/var/lib/etcd.snapshot";
/// kubelet's configuration file, as the kubelet sees it.
pub const KUBELET_CONFIG: &str = "/etc/kubernetes/kubelet.yaml";
/// kubelet's kubeconfig for its first, token-authenticated connection.
pub const KUBELET_BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap-kubeconfig";
/// kubelet's own kubeconfig.
pub const KUBELET_KUBECONFIG: &str = "/etc/kubernetes/kubeconfig-kubelet";
/// The certificate authorities whose client certificates the kubelet accepts.
pub const KUBELET_CLIENT_CA: &str = "/etc/kubernetes/pki/ca.crt";
/// kubelet's own certificates.
pub const KUBELET_PKI: &str = "/var/lib/kubelet/pki";
/// The kubelet's current client certificate and key in one file.
pub const KUBELET_CLIENT_PEM: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// Image credential provider binaries.
pub const CREDENTIAL_PROVIDER_BIN: &str = "/usr/local/lib/kubelet/credentialproviders";
/// Image credential provider configuration.
pub const CREDENTIAL_PROVIDER_CONFIG: &str = "/etc/kubernetes/credentialprovider.yaml";
/// resolv.conf handed to pods with DNS policy `Default`.
pub const POD_RESOLV_CONF: &str = "/system/resolved/resolv.conf";
/// Step journals of long sequences.
pub const JOURNAL: &str = "/run/orlop/journal";
/// The port of the static pod server, kept so that a restarted brain serves under the same URL.
pub const STATIC_POD_PORT: &str = "/run/orlop/static-pod-port";

/// User and group of etcd.
pub const ETCD_UID: u32 = 60;
/// User and group of kube-apiserver.
pub const API_SERVER_UID: u32 = 65534;
/// User and group of kube-controller-manager.
pub const CONTROLLER_MANAGER_UID: u32 = 65535;
/// User and group of kube-scheduler.
pub const SCHEDULER_UID: u32 = 65536;

/// Static pod and component name.
pub const API_SERVER: &str = "kube-apiserver";
/// Static pod and component name.
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// Static pod and component name.
pub const SCHEDULER: &str = "kube-scheduler";
