//! The keys of the root document.

use std::collections::BTreeMap;

use super::devices::Network;
use crate::config::docs::kube::{AuthorizerType, ExtraArgs};
use crate::config::docs::storage::{Cipher, EncryptionOption};
use crate::config::schema::{choice, section};
use crate::config::types::{Any, AnyMap, Duration, FileMode, Secret, Size, SizeMatcher, SubnetFilter, Url};

section! {
    /// The root document.
    pub struct Root {
        "version" version: Option<RootVersion> [always()] = "Version of the format: v1alpha1.";
        "debug" debug: Option<bool> [default("false")] = "Log more, to the console too.";
        "persist" persist: Option<bool> [deprecated("")] = "Keep the configuration over reboots.";
        "machine" machine: Option<Machine> = "This machine.";
        "cluster" cluster: Option<Cluster> = "The cluster it belongs to.";
    }

    /// This machine.
    pub struct Machine {
        "type" type_: String [always()] = "Its role: controlplane or worker.";
        "token" token: Secret [always()] = "Token with which machines join.";
        "ca" ca: Option<CertKey> = "Authority of the machine API.";
        "acceptedCAs" accepted_cas: Vec<Cert> = "Authorities accepted besides.";
        "certSANs" cert_sans: Vec<String> [always()] = "Extra names and addresses in the certificate of the machine API.";
        "controlPlane" control_plane: Option<MachineControlPlane> [deprecated("KubeControllerManagerConfig or KubeSchedulerConfig")] = "Parts of the control plane that run here.";
        "kubelet" kubelet: Option<Kubelet> [deprecated("KubeletConfig")] = "kubelet.";
        "pods" pods: Vec<AnyMap> [deprecated("KubeStaticPodConfig")] = "Static pods.";
        "network" network: Option<Network> = "Network.";
        "disks" disks: Vec<Disk> [deprecated("UserVolumeConfig")] = "Extra disks.";
        "install" install: Option<Install> [deprecated("UnattendedInstallConfig")] = "Installation.";
        "files" files: Vec<File> [deprecated("EtcFileConfig or CRICustomizationConfig")] = "Extra files.";
        "env" env: BTreeMap<String, String> [deprecated("EnvironmentConfig")] = "Environment of services.";
        "time" time: Option<Time> [deprecated("TimeSyncConfig")] = "Time synchronisation.";
        "sysctls" sysctls: BTreeMap<String, String> [deprecated("SysctlConfig")] = "Kernel parameters.";
        "sysfs" sysfs: BTreeMap<String, String> [deprecated("SysfsConfig")] = "Values below /sys.";
        "registries" registries: Option<Registries> [deprecated("RegistryMirrorConfig, RegistryAuthConfig or RegistryTLSConfig")] = "Image registries.";
        "systemDiskEncryption" system_disk_encryption: Option<SystemDiskEncryption> [deprecated("VolumeConfig")] = "Encryption of system volumes.";
        "features" features: Option<Features> = "Switches.";
        "udev" udev: Option<Udev> [deprecated("UdevRulesConfig")] = "Device manager.";
        "logging" logging: Option<Logging> = "Where service logs are sent.";
        "kernel" kernel: Option<Kernel> [deprecated("KernelModuleConfig")] = "Kernel.";
        "seccompProfiles" seccomp_profiles: Option<Vec<SeccompProfile>> [merge_by("name")] = "Seccomp profiles for pods.";
        "baseRuntimeSpecOverrides" base_runtime_spec_overrides: AnyMap [deprecated("CRIBaseRuntimeSpecConfig"), replace()] = "Overrides of the OCI runtime specification.";
        "nodeLabels" node_labels: BTreeMap<String, String> [deprecated("KubeNodeConfig")] = "Labels of the node.";
        "nodeAnnotations" node_annotations: BTreeMap<String, String> [deprecated("KubeNodeConfig")] = "Annotations of the node.";
        "nodeTaints" node_taints: BTreeMap<String, String> [deprecated("KubeNodeConfig")] = "Taints of the node.";
    }

    /// A certificate with its key, each PEM in base64.
    pub struct CertKey {
        "crt" crt: String [always()] = "Certificate.";
        "key" key: Secret [always()] = "Private key.";
    }

    /// A certificate, PEM in base64.
    pub struct Cert {
        "crt" crt: String = "Certificate.";
    }

    /// A private key, PEM in base64.
    pub struct Key {
        "key" key: Secret = "Private key.";
    }

    /// Parts of the control plane that run here.
    pub struct MachineControlPlane {
        "controllerManager" controller_manager: Option<Disabled> = "kube-controller-manager.";
        "scheduler" scheduler: Option<Disabled> = "kube-scheduler.";
    }

    /// A part that may be switched off.
    pub struct Disabled {
        "disabled" disabled: Option<bool> = "Switched off.";
    }

    /// kubelet.
    pub struct Kubelet {
        "image" image: String = "Image.";
        "clusterDNS" cluster_dns: Vec<std::net::IpAddr> = "DNS servers of pods.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "extraMounts" extra_mounts: Vec<ExtraMount> [deprecated("")] = "Extra mounts.";
        "extraConfig" extra_config: AnyMap = "Part of a KubeletConfiguration.";
        "credentialProviderConfig" credential_provider_config: AnyMap [replace()] = "Credential providers.";
        "defaultRuntimeSeccompProfileEnabled" default_runtime_seccomp_profile_enabled: Option<bool> = "Use the runtime's seccomp profile by default.";
        "registerWithFQDN" register_with_fqdn: Option<bool> = "Use the full host name as node name.";
        "nodeIP" node_ip: Option<LegacyNodeIp> = "Which addresses the node has.";
        "skipNodeRegistration" skip_node_registration: Option<bool> = "Run static pods only, without joining.";
        "disableManifestsDirectory" disable_manifests_directory: Option<bool> = "Take no manifests from a directory.";
    }

    /// Which addresses the node has.
    pub struct LegacyNodeIp {
        "validSubnets" valid_subnets: Vec<SubnetFilter> = "Prefixes to choose from; `!` excludes.";
    }

    /// A mount of the kubelet.
    pub struct ExtraMount {
        "destination" destination: String = "Where.";
        "type" type_: String = "Kind.";
        "source" source: String = "What.";
        "options" options: Vec<String> = "Options.";
        "uidMappings" uid_mappings: Vec<IdMapping> = "User ids.";
        "gidMappings" gid_mappings: Vec<IdMapping> = "Group ids.";
    }

    /// A range of ids.
    pub struct IdMapping {
        "containerID" container_id: Option<u32> = "First id inside.";
        "hostID" host_id: Option<u32> = "First id outside.";
        "size" size: Option<u32> = "How many.";
    }

    /// An extra disk.
    pub struct Disk {
        "device" device: String = "Device.";
        "partitions" partitions: Vec<DiskPartition> = "Partitions.";
    }

    /// A partition of an extra disk.
    pub struct DiskPartition {
        "size" size: Option<Size> = "Size; the last may have none and takes the rest.";
        "mountpoint" mountpoint: String = "Where it is mounted.";
    }

    /// Installation.
    pub struct Install {
        "disk" disk: String = "Disk.";
        "diskSelector" disk_selector: Option<InstallDiskSelector> = "Or how to find it.";
        "extraKernelArgs" extra_kernel_args: Vec<String> = "Extra kernel arguments.";
        "image" image: String = "Installer image.";
        "extensions" extensions: Vec<InstallExtension> = "System extensions.";
        "bootloader" bootloader: Option<bool> = "Install a boot loader.";
        "wipe" wipe: Option<bool> = "Wipe the disk first.";
        "legacyBIOSSupport" legacy_bios_support: Option<bool> = "Mark the partition for BIOS.";
        "grubUseUKICmdline" grub_use_uki_cmdline: Option<bool> = "Take the kernel arguments of the UKI.";
    }

    /// How to find the disk.
    pub struct InstallDiskSelector {
        "size" size: Option<SizeMatcher> = "Size.";
        "name" name: String = "Name.";
        "model" model: String = "Model.";
        "serial" serial: String = "Serial number.";
        "modalias" modalias: String = "Modalias.";
        "uuid" uuid: String = "UUID.";
        "wwid" wwid: String = "WWID.";
        "type" type_: Option<DiskType> = "Kind.";
        "busPath" bus_path: String = "Path on the bus.";
    }

    /// A system extension.
    pub struct InstallExtension {
        "image" image: String = "Image.";
    }

    /// An extra file.
    pub struct File {
        "content" content: String = "Content.";
        "permissions" permissions: Option<FileMode> = "Permissions.";
        "path" path: String = "Path.";
        "op" op: Option<FileOp> = "What to do.";
    }

    /// Time synchronisation.
    pub struct Time {
        "disabled" disabled: Option<bool> = "Switched off.";
        "servers" servers: Vec<String> = "Servers.";
        "bootTimeout" boot_timeout: Option<Duration> = "How long a boot waits for it.";
    }

    /// Image registries.
    pub struct Registries {
        "mirrors" mirrors: BTreeMap<String, RegistryMirror> = "Mirrors by registry.";
        "config" config: BTreeMap<String, RegistrySettings> = "Settings by registry.";
    }

    /// Mirrors of a registry.
    pub struct RegistryMirror {
        "endpoints" endpoints: Vec<Url> = "Mirrors.";
        "overridePath" override_path: Option<bool> = "The URLs hold the whole path.";
        "skipFallback" skip_fallback: Option<bool> = "Never contact the registry itself.";
    }

    /// Settings of a registry.
    pub struct RegistrySettings {
        "tls" tls: Option<RegistryTls> = "TLS.";
        "auth" auth: Option<RegistryAuth> = "Credentials.";
    }

    /// TLS of a registry.
    pub struct RegistryTls {
        "clientIdentity" client_identity: Option<CertKey> = "Client certificate and key.";
        "ca" ca: String = "Authorities, PEM in base64.";
        "insecureSkipVerify" insecure_skip_verify: Option<bool> = "Trust any certificate.";
    }

    /// Credentials of a registry.
    pub struct RegistryAuth {
        "username" username: String = "User name.";
        "password" password: Secret = "Password.";
        "auth" auth: Secret = "`user:password` in base64.";
        "identityToken" identity_token: Secret = "Identity token.";
    }

    /// Encryption of system volumes.
    pub struct SystemDiskEncryption {
        "state" state: Option<LegacyEncryption> = "STATE.";
        "ephemeral" ephemeral: Option<LegacyEncryption> = "EPHEMERAL.";
    }

    /// Encryption of a system volume.
    pub struct LegacyEncryption {
        "provider" provider: Option<crate::config::docs::storage::EncryptionProvider> = "How.";
        "keys" keys: Vec<LegacyEncryptionKey> = "Keys.";
        "cipher" cipher: Option<Cipher> = "Cipher.";
        "keySize" key_size: Option<u32> = "Bits of the key.";
        "blockSize" block_size: Option<u64> = "Bytes of a sector.";
        "options" options: Vec<EncryptionOption> = "Performance options.";
    }

    /// A key of a system volume.
    pub struct LegacyEncryptionKey {
        "static" static_: Option<crate::config::docs::storage::StaticKey> = "A passphrase.";
        "nodeID" node_id: Option<crate::config::docs::storage::NodeIdKey> = "Made from the machine's identity.";
        "kms" kms: Option<crate::config::docs::storage::KmsKey> = "Held by a service.";
        "slot" slot: Option<u32> = "Slot.";
        "tpm" tpm: Option<LegacyTpmKey> = "Sealed by the TPM.";
    }

    /// A key sealed by the TPM.
    pub struct LegacyTpmKey {
        "checkSecurebootStatusOnEnroll" check_secureboot_status_on_enroll: Option<bool> = "Refuse to seal without Secure Boot.";
    }

    /// Switches.
    pub struct Features {
        "rbac" rbac: Option<bool> = "Roles; always on.";
        "stableHostname" stable_hostname: Option<bool> [deprecated("HostnameConfig")] = "A host name from the machine's identity.";
        "kubernetesTalosAPIAccess" kubernetes_talos_api_access: Option<ApiAccess> [deprecated("KubeTalosAPIAccessConfig")] = "Machine API for pods.";
        "apidCheckExtKeyUsage" apid_check_ext_key_usage: Option<bool> = "Check the use of client certificates; always on.";
        "diskQuotaSupport" disk_quota_support: Option<bool> = "Project quotas on EPHEMERAL.";
        "kubePrism" kube_prism: Option<KubePrism> [deprecated("KubePrismConfig")] = "Load balancer for the API on each node.";
        "hostDNS" host_dns: Option<HostDnsFeature> [deprecated("ResolverConfig")] = "The machine's own DNS.";
        "imageCache" image_cache: Option<ImageCacheFeature> [deprecated("ImageCacheConfig")] = "The local image cache.";
        "nodeAddressSortAlgorithm" node_address_sort_algorithm: Option<SortAlgorithm> [default("v1")] = "How node addresses are ordered.";
    }

    /// Machine API for pods.
    pub struct ApiAccess {
        "enabled" enabled: Option<bool> = "Whether it is on.";
        "allowedRoles" allowed_roles: Vec<String> = "Roles that may be asked for.";
        "allowedKubernetesNamespaces" allowed_kubernetes_namespaces: Vec<String> = "Namespaces that may ask.";
    }

    /// Load balancer for the API on each node.
    pub struct KubePrism {
        "enabled" enabled: Option<bool> = "Whether it is on.";
        "port" port: Option<u16> [default("7445")] = "Port.";
    }

    /// The machine's own DNS.
    pub struct HostDnsFeature {
        "enabled" enabled: Option<bool> = "Whether it is on.";
        "forwardKubeDNSToHost" forward_kube_dns_to_host: Option<bool> = "CoreDNS asks it.";
        "resolveMemberNames" resolve_member_names: Option<bool> = "It knows the members of the cluster.";
    }

    /// The local image cache.
    pub struct ImageCacheFeature {
        "localEnabled" local_enabled: Option<bool> = "Whether it is used.";
    }

    /// Device manager.
    pub struct Udev {
        "rules" rules: Vec<String> = "Rules.";
    }

    /// Where service logs are sent.
    pub struct Logging {
        "destinations" destinations: Vec<LogDestination> = "Destinations.";
    }

    /// A destination of logs.
    pub struct LogDestination {
        "endpoint" endpoint: Option<Url> = "tcp://host:port or udp://host:port.";
        "format" format: Option<LogFormat> = "Format.";
        "extraTags" extra_tags: BTreeMap<String, String> = "Fields added to each line.";
    }

    /// Kernel.
    pub struct Kernel {
        "modules" modules: Vec<KernelModule> = "Modules.";
    }

    /// A kernel module.
    pub struct KernelModule {
        "name" name: String = "Name.";
        "parameters" parameters: Vec<String> = "Parameters.";
    }

    /// A seccomp profile.
    pub struct SeccompProfile {
        "name" name: String = "Name.";
        "value" value: AnyMap = "Profile.";
    }

    /// The cluster.
    pub struct Cluster {
        "id" id: String [deprecated("DiscoveryIdentityConfig")] = "Id.";
        "secret" secret: Secret [deprecated("DiscoveryIdentityConfig")] = "Key.";
        "controlPlane" control_plane: Option<ClusterControlPlane> [deprecated("KubeClusterConfig")] = "Endpoint.";
        "clusterName" cluster_name: String [deprecated("KubeClusterConfig")] = "Name.";
        "network" network: Option<ClusterNetwork> [deprecated("KubeNetworkConfig and KubeFlannelCNIConfig")] = "Pod and service networks.";
        "token" token: Secret = "Bootstrap token of Kubernetes.";
        "aescbcEncryptionSecret" aescbc_encryption_secret: Secret [deprecated("KubeEtcdEncryptionConfig")] = "Key for secrets in etcd (AES-CBC).";
        "secretboxEncryptionSecret" secretbox_encryption_secret: Secret [deprecated("KubeEtcdEncryptionConfig")] = "Key for secrets in etcd (secretbox).";
        "ca" ca: Option<CertKey> [deprecated("KubeAPIServerCAConfig")] = "Authority of Kubernetes.";
        "acceptedCAs" accepted_cas: Vec<Cert> [deprecated("KubeAPIServerCAConfig")] = "Authorities accepted besides.";
        "aggregatorCA" aggregator_ca: Option<CertKey> [deprecated("KubeAggregatorCAConfig")] = "Authority of the front proxy.";
        "serviceAccount" service_account: Option<Key> [deprecated("KubeServiceAccountConfig")] = "Key that signs service account tokens.";
        "apiServer" api_server: Option<ApiServer> [deprecated("KubeAPIServerConfig")] = "kube-apiserver.";
        "controllerManager" controller_manager: Option<ControllerManager> [deprecated("KubeControllerManagerConfig")] = "kube-controller-manager.";
        "proxy" proxy: Option<Proxy> [deprecated("KubeProxyConfig")] = "kube-proxy.";
        "scheduler" scheduler: Option<Scheduler> [deprecated("KubeSchedulerConfig")] = "kube-scheduler.";
        "discovery" discovery: Option<Discovery> [deprecated("DiscoveryServiceConfig")] = "Discovery of members.";
        "etcd" etcd: Option<Etcd> = "etcd.";
        "coreDNS" core_dns: Option<CoreDns> [deprecated("KubeCoreDNSConfig")] = "CoreDNS.";
        "externalCloudProvider" external_cloud_provider: Option<ExternalCloudProvider> = "Cloud provider outside Kubernetes.";
        "extraManifests" extra_manifests: Option<Vec<String>> [deprecated("KubeExternalManifestConfig")] = "URLs of manifests.";
        "extraManifestHeaders" extra_manifest_headers: BTreeMap<String, String> [deprecated("KubeExternalManifestConfig")] = "HTTP headers for them.";
        "inlineManifests" inline_manifests: Option<Vec<InlineManifest>> [deprecated("KubeInlineManifestConfig")] = "Manifests.";
        "adminKubeconfig" admin_kubeconfig: Option<AdminKubeconfig> = "Kubeconfigs for administrators.";
        "allowSchedulingOnMasters" allow_scheduling_on_masters: Option<bool> [deprecated("KubeNodeConfig")] = "Pods on control planes.";
        "allowSchedulingOnControlPlanes" allow_scheduling_on_control_planes: Option<bool> [deprecated("KubeNodeConfig")] = "Pods on control planes.";
    }

    /// Endpoint of the cluster.
    pub struct ClusterControlPlane {
        "endpoint" endpoint: Option<Url> = "URL of the API.";
        "localAPIServerPort" local_api_server_port: Option<u16> [default("6443")] = "Port of kube-apiserver.";
    }

    /// Pod and service networks.
    pub struct ClusterNetwork {
        "cni" cni: Option<Cni> = "Pod network.";
        "dnsDomain" dns_domain: String [always(), default("cluster.local")] = "Domain of services.";
        "podSubnets" pod_subnets: Vec<ipnet::IpNet> [always(), replace(), default("10.244.0.0/16")] = "Pod networks.";
        "serviceSubnets" service_subnets: Vec<ipnet::IpNet> [always(), replace(), default("10.96.0.0/12")] = "Service networks.";
    }

    /// Pod network.
    pub struct Cni {
        "name" name: Option<CniName> [default("flannel")] = "Which.";
        "urls" urls: Vec<Url> = "Manifests (custom).";
        "flannel" flannel: Option<Flannel> = "Settings of flannel.";
    }

    /// Settings of flannel.
    pub struct Flannel {
        "extraArgs" extra_args: Vec<String> = "Extra arguments.";
        "kubeNetworkPoliciesEnabled" kube_network_policies_enabled: Option<bool> = "Deploy the network policy controller too.";
    }

    /// kube-apiserver.
    pub struct ApiServer {
        "image" image: String = "Image.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "extraVolumes" extra_volumes: Vec<ExtraVolume> = "Extra volumes.";
        "env" env: BTreeMap<String, String> = "Environment.";
        "certSANs" cert_sans: Vec<String> = "Extra names and addresses in its certificate.";
        "disablePodSecurityPolicy" disable_pod_security_policy: Option<bool> = "Without effect.";
        "admissionControl" admission_control: Option<Vec<Admission>> [merge_by("name")] = "Admission plugins.";
        "auditPolicy" audit_policy: AnyMap [replace()] = "Audit policy.";
        "resources" resources: Option<LegacyResources> = "Requests and limits.";
        "authorizationConfig" authorization_config: Vec<Authorizer> = "Authorizers.";
    }

    /// An extra volume of a control plane pod.
    pub struct ExtraVolume {
        "hostPath" host_path: String = "Path on the machine.";
        "mountPath" mount_path: String = "Path in the pod.";
        "readonly" readonly: Option<bool> = "Read-only.";
    }

    /// An admission plugin.
    pub struct Admission {
        "name" name: String = "Name.";
        "configuration" configuration: AnyMap = "Configuration.";
    }

    /// Requests and limits.
    pub struct LegacyResources {
        "requests" requests: BTreeMap<String, Any> = "What is reserved.";
        "limits" limits: BTreeMap<String, Any> = "What is allowed.";
    }

    /// An authorizer.
    pub struct Authorizer {
        "type" type_: Option<AuthorizerType> = "Kind.";
        "name" name: String = "Name.";
        "webhook" webhook: AnyMap = "Settings of a webhook.";
    }

    /// kube-controller-manager.
    pub struct ControllerManager {
        "image" image: String = "Image.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "extraVolumes" extra_volumes: Vec<ExtraVolume> = "Extra volumes.";
        "env" env: BTreeMap<String, String> = "Environment.";
        "resources" resources: Option<LegacyResources> = "Requests and limits.";
    }

    /// kube-proxy.
    pub struct Proxy {
        "disabled" disabled: Option<bool> = "Switched off.";
        "image" image: String = "Image.";
        "mode" mode: Option<crate::config::docs::kube::ProxyMode> = "How services are implemented.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
    }

    /// kube-scheduler.
    pub struct Scheduler {
        "image" image: String = "Image.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "extraVolumes" extra_volumes: Vec<ExtraVolume> = "Extra volumes.";
        "env" env: BTreeMap<String, String> = "Environment.";
        "resources" resources: Option<LegacyResources> = "Requests and limits.";
        "config" config: AnyMap = "Part of a KubeSchedulerConfiguration.";
    }

    /// Discovery of members.
    pub struct Discovery {
        "enabled" enabled: Option<bool> = "Whether it is on.";
        "registries" registries: Option<DiscoveryRegistries> = "How.";
    }

    /// How members are discovered.
    pub struct DiscoveryRegistries {
        "kubernetes" kubernetes: Option<Disabled> = "By Kubernetes nodes.";
        "service" service: Option<DiscoveryServiceRegistry> = "By a service.";
    }

    /// Discovery by a service.
    pub struct DiscoveryServiceRegistry {
        "disabled" disabled: Option<bool> = "Switched off.";
        "endpoint" endpoint: Option<Url> = "URL of the service.";
    }

    /// etcd.
    pub struct Etcd {
        "image" image: String = "Image.";
        "ca" ca: Option<CertKey> = "Authority.";
        "extraArgs" extra_args: ExtraArgs = "Extra arguments.";
        "subnet" subnet: Option<SubnetFilter> [deprecated("")] = "Prefix of its addresses.";
        "advertisedSubnets" advertised_subnets: Vec<SubnetFilter> = "Prefixes of addresses to announce.";
        "listenSubnets" listen_subnets: Vec<SubnetFilter> = "Prefixes of addresses to listen on.";
    }

    /// CoreDNS.
    pub struct CoreDns {
        "disabled" disabled: Option<bool> = "Switched off.";
        "image" image: String = "Image.";
    }

    /// Cloud provider outside Kubernetes.
    pub struct ExternalCloudProvider {
        "enabled" enabled: Option<bool> = "Whether there is one.";
        "manifests" manifests: Vec<Url> = "Its manifests.";
    }

    /// A manifest.
    pub struct InlineManifest {
        "name" name: String = "Name.";
        "contents" contents: String = "The manifest.";
    }

    /// Kubeconfigs for administrators.
    pub struct AdminKubeconfig {
        "certLifetime" cert_lifetime: Option<Duration> [default("8760h")] = "How long they are valid.";
    }
}

choice! {
    /// Version of the root document.
    pub enum RootVersion { "v1alpha1" V1Alpha1 = "The only one."; }
    /// Kind of disk.
    pub enum DiskType { "ssd" Ssd = "SSD."; "hdd" Hdd = "Hard disk."; "nvme" Nvme = "NVMe."; "sd" Sd = "SD card."; }
    /// What to do with a file.
    pub enum FileOp { "create" Create = "New."; "append" Append = "At its end."; "overwrite" Overwrite = "Anew."; }
    /// How node addresses are ordered.
    pub enum SortAlgorithm { "v1" V1 = "As always."; "v2" V2 = "By scope and prefix length."; }
    /// Format of logs.
    pub enum LogFormat { "json_lines" JsonLines = "JSON, a line each."; }
    /// Which pod network.
    pub enum CniName { "flannel" Flannel = "Flannel."; "custom" Custom = "By manifests."; "none" None = "None."; }
}
