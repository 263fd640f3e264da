//! Secrets and configuration files on disk, each pod's in a directory of its own that only the
//! pod's user can read.

use engine::{Context, Controller, Inputs, One, OneExt, Outputs, Wanted};
use model::kube as kinds;
use resource::{PemCert, PemPair};
use sha2::{Digest, Sha256};

use super::Room;
use super::certificates::text;
use crate::configure::object;
use crate::control_plane::{files as documents, scheduler};
use crate::files::{WantedFile, sync_dir};
use crate::paths::{
    API_SERVER, API_SERVER_UID, AUDIT_LOG_DIR, CONTROLLER_MANAGER, CONTROLLER_MANAGER_UID, ETCD_SECRETS, ETCD_UID, POD_CONFIG, POD_SECRETS,
    SCHEDULER, SCHEDULER_UID,
};

/// Why files cannot be written.
#[derive(Debug, thiserror::Error)]
enum RenderError {
    #[error("writing {dir}: {source}")]
    Write { dir: String, source: std::io::Error },
    #[error("service account key: {0}")]
    ServiceAccount(pki::Error),
}

fn bundle(certificates: &[PemCert]) -> Vec<u8> {
    let all: String = certificates.iter().map(|cert| format!("{}\n", text(&cert.crt).trim_end())).collect();
    all.into_bytes()
}

/// A directory of files for one user.
struct Directory {
    path: String,
    owner: u32,
    files: Vec<WantedFile>,
}

impl Directory {
    fn new(path: String, owner: u32) -> Self {
        Self { path, owner, files: Vec::new() }
    }

    fn with(mut self, name: &str, contents: impl Into<Vec<u8>>) -> Self {
        self.files.push(WantedFile::secret(format!("{}/{name}", self.path), contents, self.owner));
        self
    }

    fn with_pair(self, name: &str, pair: &PemPair) -> Self {
        self.with(&format!("{name}.crt"), pair.crt.to_vec()).with(&format!("{name}.key"), pair.key.to_vec())
    }

    fn write(&self, room: &Room) -> Result<(), RenderError> {
        sync_dir(room.files.as_ref(), &self.path, self.owner, &self.files)
            .map(drop)
            .map_err(|source| RenderError::Write { dir: self.path.clone(), source })
    }
}

/// A version that changes exactly when a file does.
fn version(directories: &[Directory]) -> String {
    let mut hash = Sha256::new();
    for file in directories.iter().flat_map(|directory| &directory.files) {
        hash.update(file.path.as_bytes());
        hash.update([0]);
        hash.update(Sha256::digest(&file.contents));
    }
    hex::encode(&hash.finalize()[..8])
}

/// Inputs of [`RenderSecrets`].
#[derive(Inputs)]
pub struct SecretsIn {
    #[input(id = "k8s")]
    root: One<kinds::KubernetesRootSecret>,
    #[input(id = "k8s-certs")]
    certs: One<kinds::KubernetesSecret>,
    #[input(id = "k8s-dynamic-certs")]
    dynamic: One<kinds::KubernetesDynamicCert>,
    #[input(id = "etcd")]
    etcd_root: One<kinds::EtcdRootSecret>,
    #[input(id = "etcd")]
    etcd: One<kinds::EtcdSecret>,
    #[input(id = "k8s")]
    encryption: One<kinds::EtcdEncryptionConfig>,
}

/// Writes the secrets of the control plane's pods.
pub struct RenderSecrets {
    /// Shared.
    pub room: Room,
}

impl Controller for RenderSecrets {
    const NAME: &'static str = "k8s.RenderSecretsStaticPodController";
    type In = SecretsIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::SecretStatus>()
    }

    async fn reconcile(&self, _: &Context, input: SecretsIn) -> engine::Result<Wanted> {
        let Some(root) = input.root.spec() else {
            return Ok(Wanted::new());
        };
        let all = (input.certs.spec(), input.dynamic.spec(), input.etcd_root.spec(), input.etcd.spec(), input.encryption.spec());
        let (Some(certs), Some(dynamic), Some(etcd_root), Some(etcd), Some(encryption)) = all else {
            return Ok(Wanted::unknown("certificates of Kubernetes and etcd, and encryption at rest"));
        };
        let directories = secret_directories(root, certs, dynamic, etcd_root, etcd, encryption)?;
        for directory in &directories {
            directory.write(&self.room)?;
        }
        let version = version(&directories);
        Ok(Wanted::new().with("static-pods", kinds::SecretStatus { ready: true, version }))
    }
}

fn secret_directories(
    root: &kinds::KubernetesRootSecret,
    certs: &kinds::KubernetesSecret,
    dynamic: &kinds::KubernetesDynamicCert,
    etcd_root: &kinds::EtcdRootSecret,
    etcd: &kinds::EtcdSecret,
    encryption: &kinds::EtcdEncryptionConfig,
) -> Result<[Directory; 3], RenderError> {
    let none = PemPair::default();
    let pair = |pair: &Option<PemPair>| pair.clone().unwrap_or_else(|| none.clone());
    let account = root.service_account.as_ref().map(|key| key.key.to_vec()).unwrap_or_default();
    let mut account_public =
        pki::PrivateKey::from_pem(&text(&account)).and_then(|key| key.public_pem()).map_err(RenderError::ServiceAccount)?;
    for accepted in &root.service_account_accepted_keys {
        account_public = format!("{}\n{}", account_public.trim_end(), text(&accepted.key));
    }
    let issuing = pair(&root.issuing_ca);
    let api_server = Directory::new(format!("{POD_SECRETS}/{API_SERVER}"), API_SERVER_UID)
        .with("ca.crt", bundle(&root.accepted_cas))
        .with("aggregator-ca.crt", bundle(&root.accepted_aggregator_cas))
        .with("etcd-client-ca.crt", pair(&etcd_root.etcd_ca).crt.to_vec())
        .with_pair("etcd-client", &pair(&etcd.etcd_api_server))
        .with_pair("apiserver", &pair(&dynamic.api_server))
        .with_pair("apiserver-kubelet-client", &pair(&dynamic.api_server_kubelet_client))
        .with_pair("front-proxy-client", &pair(&dynamic.front_proxy))
        .with("service-account.key", account.clone())
        .with("service-account.pub", account_public)
        .with("encryptionconfig.yaml", encryption.configuration.clone());
    let controller_manager = Directory::new(format!("{POD_SECRETS}/{CONTROLLER_MANAGER}"), CONTROLLER_MANAGER_UID)
        .with_pair("ca", &issuing)
        .with("root-ca.crt", bundle(&root.accepted_cas))
        .with("service-account.key", account)
        .with("kubeconfig", certs.controller_manager_kubeconfig.clone());
    let scheduler =
        Directory::new(format!("{POD_SECRETS}/{SCHEDULER}"), SCHEDULER_UID).with("kubeconfig", certs.scheduler_kubeconfig.clone());
    Ok([api_server, controller_manager, scheduler])
}

/// Inputs of [`RenderConfigs`].
#[derive(Inputs)]
pub struct ConfigsIn {
    #[input(id = "admission-control")]
    admission: One<kinds::AdmissionControlConfig>,
    #[input(id = "audit-policy")]
    audit: One<kinds::AuditPolicyConfig>,
    #[input(id = "authentication-config")]
    authentication: One<kinds::AuthenticationConfig>,
    #[input(id = "authorization")]
    authorization: One<kinds::AuthorizationConfig>,
    #[input(id = "kube-scheduler")]
    scheduler: One<kinds::SchedulerConfig>,
}

/// Writes the configuration files of the control plane's pods.
pub struct RenderConfigs {
    /// Shared.
    pub room: Room,
}

impl Controller for RenderConfigs {
    const NAME: &'static str = "k8s.RenderConfigsStaticPodController";
    type In = ConfigsIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::ConfigStatus>()
    }

    async fn reconcile(&self, _: &Context, input: ConfigsIn) -> engine::Result<Wanted> {
        let (Some(admission), Some(audit), Some(authorization)) = (input.admission.spec(), input.audit.spec(), input.authorization.spec())
        else {
            return Ok(Wanted::new());
        };
        let directories = config_directories(admission, audit, input.authentication.spec(), authorization, input.scheduler.spec());
        for directory in &directories {
            directory.write(&self.room)?;
        }
        // The API server may not make the directory of its log itself: it is not root.
        self.room
            .files
            .make_dir(AUDIT_LOG_DIR, API_SERVER_UID, 0o700)
            .map_err(|source| RenderError::Write { dir: AUDIT_LOG_DIR.to_owned(), source })?;
        let version = version(&directories);
        Ok(Wanted::new().with("static-pods", kinds::ConfigStatus { ready: true, version }))
    }
}

fn config_directories(
    admission: &kinds::AdmissionControlConfig,
    audit: &kinds::AuditPolicyConfig,
    authentication: Option<&kinds::AuthenticationConfig>,
    authorization: &kinds::AuthorizationConfig,
    scheduler_config: Option<&kinds::SchedulerConfig>,
) -> Vec<Directory> {
    let plugins: Vec<documents::AdmissionPlugin> = admission
        .config
        .iter()
        .map(|plugin| documents::AdmissionPlugin { name: plugin.name.clone(), configuration: object(&plugin.configuration) })
        .collect();
    let authorizers: Vec<documents::Authorizer> = authorization
        .config
        .iter()
        .map(|authorizer| documents::Authorizer {
            kind: authorizer.type_.clone(),
            name: authorizer.name.clone(),
            webhook: object(&authorizer.webhook),
        })
        .collect();
    let file = |value: serde_json::Value| format!("{value:#}\n").into_bytes();
    let mut api_server = Directory::new(format!("{POD_CONFIG}/{API_SERVER}"), API_SERVER_UID)
        .with("admission-control-config.yaml", file(documents::admission(&plugins)))
        .with("auditpolicy.yaml", file(documents::audit_policy(&object(&audit.config))))
        .with("authorization-config.yaml", file(documents::authorization(&authorizers)));
    if let Some(authentication) = authentication {
        api_server = api_server.with("authentication-config.yaml", file(documents::authentication(&object(&authentication.config))));
    }
    let mut directories = vec![api_server];
    if let Some(config) = scheduler_config {
        directories.push(
            Directory::new(format!("{POD_CONFIG}/{SCHEDULER}"), SCHEDULER_UID)
                .with("scheduler-config.yaml", file(scheduler::config(&object(&config.config)))),
        );
    }
    directories
}

/// Inputs of [`RenderEtcd`].
#[derive(Inputs)]
pub struct EtcdIn {
    #[input(id = "etcd")]
    root: One<kinds::EtcdRootSecret>,
    #[input(id = "etcd")]
    certs: One<kinds::EtcdSecret>,
}

/// Writes etcd's certificates.
pub struct RenderEtcd {
    /// Shared.
    pub room: Room,
}

impl Controller for RenderEtcd {
    const NAME: &'static str = "etcd.PKIController";
    type In = EtcdIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::PkiStatus>()
    }

    async fn reconcile(&self, _: &Context, input: EtcdIn) -> engine::Result<Wanted> {
        let Some(root) = input.root.spec() else {
            return Ok(Wanted::new());
        };
        let Some(certs) = input.certs.spec() else {
            return Ok(Wanted::unknown("certificates of etcd"));
        };
        let pair = |pair: &Option<PemPair>| pair.clone().unwrap_or_default();
        let directory = Directory::new(ETCD_SECRETS.to_owned(), ETCD_UID)
            .with("ca.crt", pair(&root.etcd_ca).crt.to_vec())
            .with_pair("server", &pair(&certs.etcd))
            .with_pair("peer", &pair(&certs.etcd_peer))
            .with_pair("admin", &pair(&certs.etcd_admin));
        directory.write(&self.room)?;
        let version = version(std::slice::from_ref(&directory));
        Ok(Wanted::new().with("etcd", kinds::PkiStatus { ready: true, version }))
    }
}
