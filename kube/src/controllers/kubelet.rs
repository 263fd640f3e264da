//! The kubelet: node name and addresses, its specification, its files, its service.

use engine::{Context, Controller, Inputs, One, OneExt, Outputs, Wanted};
use jiff::Timestamp;
use model::config::MachineConfig as Configuration;
use model::host::{MachineConfig, TimeStatus};
use model::kube as kinds;
use model::net::{HostnameStatus, NodeAddress};
use model::services::{Mount, ServiceSpec, ServiceStatus};
use pki::{Ca, Certificate, Extended, Name};
use resource::Value;
use sha2::{Digest, Sha256};

use super::Room;
use super::certificates::{addresses, ca, clock_is_right, now, text};
use crate::configure::{from_arg_values, object};
use crate::files::{Files, WantedFile};
use crate::kubeconfig::{Authorities, Credentials, Kubeconfig};
use crate::kubelet::{KubeletArgs, config::KubeletConfig, service};
use crate::paths;
use crate::subnets::{SubnetFilter, node_ips};

/// Inputs of [`NodeIps`].
#[derive(Inputs)]
pub struct NodeIpIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "kubelet")]
    settings: One<kinds::NodeIpConfig>,
    #[input(id = "routed-no-k8s")]
    routed: One<NodeAddress>,
}

/// Chooses the node's addresses.
pub struct NodeIps;

impl Controller for NodeIps {
    const NAME: &'static str = "k8s.NodeIPController";
    type In = NodeIpIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::NodeIp>()
    }

    async fn reconcile(&self, _: &Context, input: NodeIpIn) -> engine::Result<Wanted> {
        let Some(settings) = input.settings.spec() else {
            return Ok(Wanted::new());
        };
        let Some(config) = input.config.spec().and_then(MachineConfig::machine) else {
            return Ok(Wanted::unknown("the machine configuration"));
        };
        let routed = addresses(&input.routed);
        let filter = SubnetFilter::of(&settings.valid_subnets, &settings.exclude_subnets)?;
        let found = node_ips(&routed, &filter, &cidrs(&config.pod_subnets()), &cidrs(&config.service_subnets()));
        if found.is_empty() {
            return Ok(Wanted::unknown(format!(
                "a routed address for Kubernetes; routed addresses are {routed:?}, of which KubeNodeConfig.nodeIP.validSubnets accepts none"
            )));
        }
        Ok(Wanted::new().with("kubelet", kinds::NodeIp { addresses: found }))
    }
}

fn cidrs(nets: &[ipnet::IpNet]) -> Vec<String> {
    nets.iter().map(ToString::to_string).collect()
}

/// Inputs of [`Nodenames`].
#[derive(Inputs)]
pub struct NodenameIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
}

/// Names the node.
pub struct Nodenames;

impl Controller for Nodenames {
    const NAME: &'static str = "k8s.NodenameController";
    type In = NodenameIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::Nodename>()
    }

    async fn reconcile(&self, _: &Context, input: NodenameIn) -> engine::Result<Wanted> {
        let Some(config) = input.config.spec().and_then(MachineConfig::machine) else {
            return Ok(Wanted::unknown("the machine configuration"));
        };
        let Some(hostname) = &input.hostname else {
            return Ok(Wanted::unknown("the host name"));
        };
        if config.kubelet().is_none() {
            return Ok(Wanted::new());
        }
        let node = config.node();
        let nodename = nodename(&hostname.spec, node.register_with_fqdn.unwrap_or(false));
        Ok(Wanted::new().with(
            "nodename",
            kinds::Nodename {
                nodename,
                hostname_version: hostname.meta.version.to_string(),
                skip_node_registration: node.skip_node_registration.unwrap_or(false),
            },
        ))
    }
}

/// Kubernetes takes lower-case names only.
fn nodename(hostname: &HostnameStatus, fqdn: bool) -> String {
    let name = if fqdn && !hostname.domainname.is_empty() {
        format!("{}.{}", hostname.hostname, hostname.domainname)
    } else {
        hostname.hostname.clone()
    };
    name.to_ascii_lowercase()
}

/// Inputs of [`KubeletSpecs`].
#[derive(Inputs)]
pub struct SpecIn {
    #[input(id = "v1alpha1")]
    machine: One<MachineConfig>,
    #[input(id = "kubelet")]
    config: One<kinds::KubeletConfig>,
    #[input(id = "kubelet")]
    node_ip: One<kinds::NodeIp>,
    #[input(id = "nodename")]
    nodename: One<kinds::Nodename>,
}

/// Says in full how the kubelet shall run.
pub struct KubeletSpecs {
    /// Shared.
    pub room: Room,
}

impl Controller for KubeletSpecs {
    const NAME: &'static str = "k8s.KubeletSpecController";
    type In = SpecIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::KubeletSpec>()
    }

    async fn reconcile(&self, _: &Context, input: SpecIn) -> engine::Result<Wanted> {
        let Some(config) = input.config.spec() else {
            return Ok(Wanted::new());
        };
        let (Some(node_ip), Some(nodename)) = (input.node_ip.spec(), input.nodename.spec()) else {
            return Ok(Wanted::unknown("the node's name and addresses"));
        };
        let control_plane =
            input.machine.spec().and_then(MachineConfig::machine).is_some_and(|machine| machine.machine_type().is_control_plane());
        let credential_providers = !object(&config.credential_provider_config).is_empty();
        let args = KubeletArgs {
            nodename: nodename.nodename.clone(),
            node_ips: node_ip.addresses.clone(),
            skip_registration: config.skip_node_registration,
            cloud_provider_external: config.cloud_provider_external,
            credential_providers,
            extra: from_arg_values(&config.extra_args),
        };
        let file = KubeletConfig {
            extra: object(&config.extra_config),
            static_pod_url: config.static_pod_list_url.clone(),
            cluster_dns: config.cluster_dns.clone(),
            cluster_domain: config.cluster_domain.clone(),
            seccomp_default: config.default_runtime_seccomp_enabled,
            taints: config.register_with_taints.clone(),
            control_plane,
            quota_monitoring: config.enable_fs_quota_monitoring && !self.room.limits.container,
            limits: self.room.limits,
        };
        Ok(Wanted::new().with(
            "kubelet",
            kinds::KubeletSpec {
                image: config.image.clone(),
                args: args.build()?,
                extra_mounts: config.extra_mounts.clone(),
                expected_nodename: args.effective_nodename(),
                config: Value::from(file.build()?),
                credential_provider_config: config.credential_provider_config.clone(),
            },
        ))
    }
}

/// Inputs of [`KubeletService`].
#[derive(Inputs)]
pub struct ServiceIn {
    #[input(id = "kubelet")]
    spec: One<kinds::KubeletSpec>,
    #[input(id = "kubelet")]
    secret: One<kinds::KubeletSecret>,
    #[input(id = "k8s")]
    root: One<kinds::KubernetesRootSecret>,
    #[input(id = "node")]
    time: One<TimeStatus>,
    #[input(id = "kubelet")]
    status: One<ServiceStatus>,
}

/// Writes the kubelet's files and wants its service.
pub struct KubeletService {
    /// Shared.
    pub room: Room,
}

impl Controller for KubeletService {
    const NAME: &'static str = "k8s.KubeletServiceController";
    type In = ServiceIn;

    fn outputs() -> Outputs {
        Outputs::new()
            .shared::<ServiceSpec>()
            .exclusive::<kinds::KubeletStatus>()
            .exclusive::<kinds::KubeletLifecycle>()
            .exclusive::<kinds::KubeletKubeconfig>()
    }

    async fn reconcile(&self, ctx: &Context, input: ServiceIn) -> engine::Result<Wanted> {
        let (Some(spec), Some(secret)) = (input.spec.spec(), input.secret.spec()) else {
            return Ok(Wanted::new());
        };
        if !clock_is_right(&self.room, &input.time) {
            return Ok(Wanted::unknown("the clock to be in sync"));
        }
        let files = self.room.files.as_ref();
        let revision = write_files(files, spec, secret)?;
        match input.root.spec() {
            Some(root) => sign_first(files, spec, secret, root, now(ctx))?,
            None => drop_foreign(files, spec, secret, now(ctx))?,
        }
        let mounts = spec
            .extra_mounts
            .iter()
            .map(|mount| Mount {
                destination: mount.destination.clone(),
                source: mount.source.clone(),
                fs: if mount.type_ == "bind" { String::new() } else { mount.type_.clone() },
                options: mount.options.clone(),
            })
            .collect();
        let running = input.status.spec().is_some_and(|status| status.state == "Running");
        let kubeconfig =
            files.read(paths::KUBELET_KUBECONFIG)?.map(|contents| kinds::KubeletKubeconfig { hash: hex::encode(Sha256::digest(contents)) });
        let by_balancer = secret.endpoint.as_ref().is_some_and(|url| url.as_str().starts_with("https://127.0.0.1:"));
        let first_contact = kubeconfig.is_none() && by_balancer;
        let oom_score = self.room.limits.oom_score;
        let service = service::service(&spec.image, spec.args.clone(), mounts, oom_score, revision, first_contact);
        if kubeconfig.is_none() {
            // The kubelet writes it once its bootstrap is through.
            ctx.wake_after(std::time::Duration::from_secs(2));
        }
        Ok(Wanted::new()
            .with(service::ID, service)
            .with("kubelet", kinds::KubeletLifecycle {})
            .maybe("kubelet", kubeconfig)
            .maybe("kubelet", running.then(|| kinds::KubeletStatus { image: spec.image.clone() })))
    }
}

fn write(files: &dyn Files, path: &str, contents: impl Into<Vec<u8>>, mode: u32) -> std::io::Result<()> {
    files.write(&WantedFile { path: path.to_owned(), contents: contents.into(), owner: 0, mode }).map(drop)
}

fn authorities(secret: &kinds::KubeletSecret) -> String {
    secret.accepted_cas.iter().map(|cert| format!("{}\n", text(&cert.crt).trim_end())).collect()
}

fn server(secret: &kinds::KubeletSecret) -> String {
    secret.endpoint.as_ref().map(|url| url.as_str().to_owned()).unwrap_or_default()
}

/// Writes what the kubelet reads at start; the hash of it all.
fn write_files(files: &dyn Files, spec: &kinds::KubeletSpec, secret: &kinds::KubeletSecret) -> std::io::Result<String> {
    let config = format!("{:#}\n", serde_json::Value::from(&spec.config));
    let authorities = authorities(secret);
    let bootstrap = Kubeconfig {
        cluster: "local".to_owned(),
        user: "kubelet".to_owned(),
        server: server(secret),
        tls_server_name: secret.endpoint_tls_server_name.clone(),
        authorities: Authorities::Pem(authorities.clone().into_bytes()),
        credentials: Credentials::Token { token: format!("{}.{}", secret.bootstrap_token_id, secret.bootstrap_token_secret) },
    }
    .to_yaml();
    let mut hash = Sha256::new();
    for part in [&config, &authorities, &bootstrap] {
        hash.update(Sha256::digest(part.as_bytes()));
    }
    write(files, paths::KUBELET_CONFIG, config, 0o600)?;
    write(files, paths::KUBELET_CLIENT_CA, authorities, 0o644)?;
    write(files, paths::KUBELET_BOOTSTRAP_KUBECONFIG, bootstrap, 0o600)?;
    let providers = object(&spec.credential_provider_config);
    if providers.is_empty() {
        files.remove(paths::CREDENTIAL_PROVIDER_CONFIG)?;
    } else {
        let text = format!("{:#}\n", serde_json::Value::Object(providers));
        hash.update(Sha256::digest(text.as_bytes()));
        write(files, paths::CREDENTIAL_PROVIDER_CONFIG, text, 0o600)?;
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

fn subject(nodename: &str) -> Name {
    Name::new(format!("system:node:{nodename}"), &["system:nodes"])
}

/// Whether the kubelet's certificate is for this node, of an accepted authority, and not over.
fn is_ours(pem: &str, nodename: &str, accepted: &[Certificate], now: Timestamp) -> bool {
    let Ok(certificate) = Certificate::from_pem(pem) else {
        return false;
    };
    accepted.iter().filter_map(|ca| ca.verify(&certificate, Extended::Client, now).ok()).any(|identity| identity.name == subject(nodename))
}

fn accepted(secret: &kinds::KubeletSecret) -> Vec<Certificate> {
    secret.accepted_cas.iter().filter_map(|cert| Certificate::from_pem(&text(&cert.crt)).ok()).collect()
}

fn current(files: &dyn Files) -> std::io::Result<Option<String>> {
    Ok(files.read(paths::KUBELET_CLIENT_PEM)?.map(|contents| text(&contents)))
}

/// A control plane signs its kubelet's first certificate itself: the way through a bootstrap token
/// needs the API server that this kubelet has yet to start.
fn sign_first(
    files: &dyn Files,
    spec: &kinds::KubeletSpec,
    secret: &kinds::KubeletSecret,
    root: &kinds::KubernetesRootSecret,
    now: Timestamp,
) -> Result<(), engine::Error> {
    let nodename = &spec.expected_nodename;
    let accepted = accepted(secret);
    let good = current(files)?.is_some_and(|pem| is_ours(&pem, nodename, &accepted, now));
    if !good {
        let issuing: Ca = ca("the Kubernetes authority", root.issuing_ca.as_ref())?;
        let issued = issuing.issue(&pki::profile::kubelet_client(nodename), now)?;
        let pem = format!("{}\n{}", issued.cert.trim_end(), issued.key.trim_start());
        // The kubelet keeps dated files and a link to the newest, and insists on the link.
        let dated = format!("kubelet-client-{}.pem", now.strftime("%Y-%m-%d-%H-%M-%S"));
        files.make_dir(paths::KUBELET_PKI, 0, 0o700)?;
        write(files, &format!("{}/{dated}", paths::KUBELET_PKI), pem, 0o600)?;
        files.link(&dated, paths::KUBELET_CLIENT_PEM)?;
    }
    let kubeconfig = Kubeconfig {
        cluster: "local".to_owned(),
        user: "kubelet".to_owned(),
        server: server(secret),
        tls_server_name: secret.endpoint_tls_server_name.clone(),
        authorities: Authorities::Pem(authorities(secret).into_bytes()),
        credentials: Credentials::CertificateFile { path: paths::KUBELET_CLIENT_PEM.to_owned() },
    };
    write(files, paths::KUBELET_KUBECONFIG, kubeconfig.to_yaml(), 0o600)?;
    Ok(())
}

/// A worker whose certificate is not its own any more (another name, another cluster, too old)
/// starts over with the token.
fn drop_foreign(files: &dyn Files, spec: &kinds::KubeletSpec, secret: &kinds::KubeletSecret, now: Timestamp) -> Result<(), engine::Error> {
    let Some(pem) = current(files)? else {
        return Ok(());
    };
    if !is_ours(&pem, &spec.expected_nodename, &accepted(secret), now) {
        files.remove(paths::KUBELET_CLIENT_PEM)?;
        files.remove(paths::KUBELET_KUBECONFIG)?;
    }
    Ok(())
}

/// A watch starts over after this time: credentials are renewed in their files long before they end.
pub const CREDENTIALS_LIFE: std::time::Duration = std::time::Duration::from_secs(1800);

/// How the machine itself may speak to Kubernetes: a control plane as administrator, a worker as
/// its kubelet. `None` until there is a way.
///
/// # Errors
/// A file that cannot be read.
pub fn machine_kubeconfig(files: &dyn Files, secrets: Option<&kinds::KubernetesSecret>) -> std::io::Result<Option<String>> {
    if let Some(secrets) = secrets.filter(|secrets| !secrets.localhost_admin_kubeconfig.is_empty()) {
        return Ok(Some(secrets.localhost_admin_kubeconfig.clone()));
    }
    Ok(files.read(paths::KUBELET_KUBECONFIG)?.map(|contents| text(&contents)))
}

/// Whether a configuration makes this machine a control plane with Kubernetes.
pub fn is_control_plane(config: &Configuration) -> bool {
    config.runs_kubernetes()
}

#[cfg(test)]
mod tests {
    use resource::{PemCert, PemPair};

    use super::*;
    use crate::files::LinuxFiles;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn node_names_are_lower_case() {
        let hostname = HostnameStatus { hostname: "Node-A".into(), domainname: "Example.org".into() };
        assert_eq!(nodename(&hostname, false), "node-a");
        assert_eq!(nodename(&hostname, true), "node-a.example.org");
    }

    fn is_root() -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
    }

    #[test]
    fn the_first_certificate_is_signed_once_and_again_when_it_is_foreign() {
        if !is_root() {
            eprintln!("skipped: files of root can be made by root only");
            return;
        }
        let start = 1_800_000_000;
        let authority = pki::profile::kubernetes_ca(at(start)).unwrap();
        let pem = authority.certificate().to_pem();
        let root_secret = kinds::KubernetesRootSecret {
            issuing_ca: Some(PemPair::new(pem.clone().into_bytes(), authority.key().to_pem().as_bytes().to_vec())),
            ..Default::default()
        };
        let secret = kinds::KubeletSecret {
            endpoint: "https://127.0.0.1:7445".parse().ok(),
            accepted_cas: vec![PemCert { crt: pem.into_bytes().into() }],
            ..Default::default()
        };
        let mut spec = kinds::KubeletSpec { expected_nodename: "cp-1".into(), ..Default::default() };
        let dir = tempfile::tempdir().unwrap();
        let files = LinuxFiles::below(dir.path());
        let newest = || {
            let link = std::fs::read_link(dir.path().join("var/lib/kubelet/pki/kubelet-client-current.pem")).unwrap();
            link.to_string_lossy().into_owned()
        };
        sign_first(&files, &spec, &secret, &root_secret, at(start)).unwrap();
        let first = newest();
        let pem = text(&files.read(paths::KUBELET_CLIENT_PEM).unwrap().unwrap());
        // A certificate that serves is left alone.
        sign_first(&files, &spec, &secret, &root_secret, at(start + 30)).unwrap();
        assert_eq!(newest(), first);
        assert!(is_ours(&pem, "cp-1", &accepted(&secret), at(start + 10)));
        assert!(!is_ours(&pem, "cp-2", &accepted(&secret), at(start + 10)));
        assert!(!is_ours(&pem, "cp-1", &accepted(&secret), at(start + 3 * 365 * 86400)));
        assert!(pem.contains("BEGIN CERTIFICATE") && pem.contains("PRIVATE KEY"));
        let kubeconfig = text(&files.read(paths::KUBELET_KUBECONFIG).unwrap().unwrap());
        assert!(kubeconfig.contains("server: https://127.0.0.1:7445"), "{kubeconfig}");
        spec.expected_nodename = "cp-2".into();
        sign_first(&files, &spec, &secret, &root_secret, at(start + 60)).unwrap();
        assert_ne!(newest(), first);
    }
}
