//! Documents about the container runtime and containers that run outside Kubernetes.

use crate::config::schema::{choice, section};
use crate::config::types::{AnyMap, Pem, Secret, Url};

section! {
    /// A container that the machine runs by itself, outside Kubernetes.
    pub struct ContainerConfig {
        "name" name: String [required()] = "Name: at most 63 of a-z, 0-9 and `-`.";
        "image" image: String [required()] = "Image reference, best with a digest.";
        "entrypoint" entrypoint: Vec<String> = "Program, instead of the image's.";
        "args" args: Vec<String> = "Arguments.";
        "workingDir" working_dir: String = "Working directory.";
        "runAs" run_as: Option<ContainerUser> = "User and group.";
        "environment" environment: Vec<String> = "Environment, each KEY=value.";
        "mounts" mounts: Vec<ContainerMount> = "Mounts.";
        "security" security: Option<ContainerSecurity> = "Privileges.";
        "network" network: Option<ContainerNetwork> = "Network.";
        "resources" resources: Option<ContainerResources> = "Resource limits.";
        "dependsOn" depends_on: Option<ContainerDepends> = "What must be there before it starts.";
    }

    /// User and group of a container.
    pub struct ContainerUser {
        "uid" uid: Option<u32> = "User id.";
        "gid" gid: Option<u32> = "Group id.";
    }

    /// One mount of a container; exactly one of the three kinds.
    pub struct ContainerMount {
        "userVolume" user_volume: Option<ContainerVolumeMount> = "A user volume.";
        "tmpfs" tmpfs: Option<ContainerTmpfsMount> = "Memory.";
        "hostPath" host_path: Option<ContainerHostMount> = "A path of the machine.";
    }

    /// A user volume in a container.
    pub struct ContainerVolumeMount {
        "name" name: String [required()] = "Name of the volume.";
        "destination" destination: String [required()] = "Absolute path in the container.";
        "options" options: Vec<MountOption> = "Mount options.";
    }

    /// A tmpfs in a container.
    pub struct ContainerTmpfsMount {
        "destination" destination: String [required()] = "Absolute path in the container.";
        "size" size: String = "Largest size.";
        "options" options: Vec<MountOption> = "Mount options.";
    }

    /// A path of the machine in a container.
    pub struct ContainerHostMount {
        "source" source: String [required()] = "Path on the machine.";
        "destination" destination: String [required()] = "Absolute path in the container.";
        "options" options: Vec<MountOption> = "Mount options.";
    }

    /// Privileges of a container.
    pub struct ContainerSecurity {
        "profile" profile: Option<ContainerProfile> [default("restricted")] = "Overall profile.";
        "capabilities" capabilities: Option<ContainerCapabilities> = "Capabilities to add and drop.";
    }

    /// Capabilities, in upper case without CAP_.
    pub struct ContainerCapabilities {
        "add" add: Vec<String> = "To add.";
        "drop" drop: Vec<String> = "To drop; ALL drops every one.";
    }

    /// Network of a container.
    pub struct ContainerNetwork {
        "mode" mode: Option<ContainerNetworkMode> [default("none")] = "None, or the machine's.";
    }

    /// Resources of a container.
    pub struct ContainerResources {
        "limits" limits: Option<ContainerLimits> = "Upper limits.";
    }

    /// Limits of a container.
    pub struct ContainerLimits {
        "cpu" cpu: String = "Cores (2) or millicores (500m).";
        "memory" memory: String = "Bytes, with a unit.";
    }

    /// What a container waits for.
    pub struct ContainerDepends {
        "paths" paths: Vec<String> = "Paths that must exist.";
        "networks" networks: Vec<ContainerNetworkState> = "Network states that must hold.";
        "time" time: Option<bool> = "Whether time must be in sync.";
        "containers" containers: Vec<String> = "Containers that must run.";
    }

    /// Mirrors of one image registry; `*` for all.
    pub struct RegistryMirrorConfig {
        "name" name: String [required()] = "Host of the registry, or `*`.";
        "endpoints" endpoints: Vec<RegistryEndpoint> = "Mirrors, tried in this order.";
        "skipFallback" skip_fallback: Option<bool> [default("false")] = "Never contact the registry itself.";
    }

    /// One mirror.
    pub struct RegistryEndpoint {
        "url" url: Url [required()] = "URL of the mirror, http or https.";
        "overridePath" override_path: Option<bool> [default("false")] = "The URL holds the whole path; /v2 is not appended.";
    }

    /// Credentials for one image registry.
    pub struct RegistryAuthConfig {
        "name" name: String [required()] = "Host of the registry.";
        "username" username: String = "User name.";
        "password" password: Secret = "Password.";
        "auth" auth: Secret = "`user:password` in base64.";
        "identityToken" identity_token: Secret = "Identity token.";
    }

    /// TLS settings for one image registry.
    pub struct RegistryTlsConfig {
        "name" name: String [required()] = "Host of the registry.";
        "clientIdentity" client_identity: Option<PemPair> = "Client certificate and key.";
        "ca" ca: Option<Pem> = "Authorities to trust.";
        "insecureSkipVerify" insecure_skip_verify: Option<bool> [default("false")] = "Trust any certificate.";
    }

    /// A certificate with its key, as PEM.
    pub struct PemPair {
        "cert" cert: Pem [required()] = "Certificate.";
        "key" key: Secret [required()] = "Private key.";
    }

    /// Use of the local image cache.
    pub struct ImageCacheConfig {
        "local" local: Option<LocalImageCache> = "The cache on this machine.";
    }

    /// The cache on this machine.
    pub struct LocalImageCache {
        "enabled" enabled: Option<bool> [default("false")] = "Whether it is used.";
    }

    /// A fragment of containerd's CRI configuration; fragments are merged in the order of their names.
    pub struct CriCustomizationConfig {
        "name" name: String [required()] = "Name of the fragment.";
        "content" content: String [required()] = "TOML.";
    }

    /// What is merged into the base OCI runtime specification.
    pub struct CriBaseRuntimeSpecConfig {
        "overrides" overrides: AnyMap [replace()] = "Part of an OCI runtime specification.";
    }

    /// Rules for image signatures; the first that matches decides.
    pub struct ImageVerificationConfig {
        "rules" rules: Vec<ImageVerificationRule> [merge_by("=image")] = "The rules.";
    }

    /// One rule for image signatures.
    pub struct ImageVerificationRule {
        "image" image: String [required()] = "Pattern of registry and repository.";
        "skip" skip: Option<bool> = "Accept without a signature.";
        "deny" deny: Option<bool> = "Refuse.";
        "keyless" keyless: Option<KeylessVerifier> = "A signature by an identity.";
        "publicKey" public_key: Option<PublicKeyVerifier> = "A signature by a key.";
    }

    /// A signature by an identity.
    pub struct KeylessVerifier {
        "issuer" issuer: String [required()] = "Issuer of the identity.";
        "subject" subject: String = "The identity.";
        "subjectRegex" subject_regex: String = "Pattern of the identity.";
    }

    /// A signature by a key.
    pub struct PublicKeyVerifier {
        "certificate" certificate: String [required()] = "Certificate or public key, as PEM.";
    }
}

choice! {
    /// Options of a mount.
    pub enum MountOption {
        "ro" ReadOnly = "Read-only."; "rw" ReadWrite = "Writable."; "noexec" NoExec = "No programs."; "nosuid" NoSuid = "No set-user-id.";
        "nodev" NoDev = "No devices."; "noatime" NoAtime = "No access times."; "rbind" Rbind = "With mounts below."; "rshared" Rshared = "Mounts spread both ways.";
    }
    /// Profile of a container.
    pub enum ContainerProfile { "restricted" Restricted = "Few privileges."; "privileged" Privileged = "All privileges."; }
    /// Network of a container.
    pub enum ContainerNetworkMode { "none" None = "No network."; "host" Host = "The machine's network."; }
    /// Network states to wait for.
    pub enum ContainerNetworkState {
        "addresses" Addresses = "Addresses are set."; "connectivity" Connectivity = "The outside is reachable.";
        "hostname" Hostname = "The host name is set."; "etcfiles" EtcFiles = "Files below /etc are written.";
    }
}
