//! Bootstrap manifests: rendered into resources, then applied to the cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::{Context, Controller, Inputs, Many, One, OneExt, Outputs, Wanted};
use model::kube as kinds;
use resource::Value;

use super::certificates::text;
use crate::configure::{self, object};
use crate::control_plane::pod::Resources;
use crate::etcd::client::{Credentials, EtcdClient, MANIFEST_MUTEX};
use crate::manifests::{self, CoreDnsInput, FlannelInput, Manifest, ManifestInput, ProxyInput};
use crate::objects;

/// Inputs of [`Manifests`].
#[derive(Inputs)]
pub struct ManifestsIn {
    #[input(id = "manifests")]
    config: One<kinds::BootstrapManifestsConfig>,
    #[input(id = "k8s")]
    root: One<kinds::KubernetesRootSecret>,
    #[input(id = "extra-manifests")]
    extra: One<kinds::ExtraManifestsConfig>,
}

/// Renders the manifests, and fetches those that the configuration names by URL.
#[derive(Default)]
pub struct Manifests {
    fetched: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Controller for Manifests {
    const NAME: &'static str = "k8s.ManifestController";
    type In = ManifestsIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::Manifest>()
    }

    async fn reconcile(&self, ctx: &Context, input: ManifestsIn) -> engine::Result<Wanted> {
        let (Some(config), Some(root)) = (input.config.spec(), input.root.spec()) else {
            return Ok(Wanted::new());
        };
        let mut extra = input.extra.spec().cloned().unwrap_or_default();
        self.fetch(ctx, &mut extra);
        let mut wanted = Wanted::new();
        for manifest in manifests::render(&manifest_input(config, root, &extra)?) {
            let items = manifest.objects.into_iter().map(|object| kinds::SingleManifest { object: Value::from(object) }).collect();
            wanted = wanted.with(manifest.id, kinds::Manifest { items });
        }
        Ok(wanted)
    }
}

impl Manifests {
    /// Fills in the texts that have arrived and keeps fetching the others; the cluster does not wait
    /// for them.
    fn fetch(&self, ctx: &Context, extra: &mut kinds::ExtraManifestsConfig) {
        for manifest in extra.extra_manifests.iter_mut().filter(|manifest| !manifest.url.is_empty()) {
            let known = self.fetched.lock().unwrap_or_else(PoisonError::into_inner).get(&manifest.url).cloned();
            if let Some(text) = known {
                manifest.inline_manifest = text;
                continue;
            }
            let (url, headers) = (manifest.url.clone(), manifest.extra_headers.clone());
            let fetched = Arc::clone(&self.fetched);
            ctx.spawn(format!("fetch {url}"), async move {
                let text = objects::fetch(&url, &headers).await?;
                fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(url, text);
                Ok(())
            });
        }
    }
}

fn resources(resources: &kinds::Resources) -> Resources {
    Resources { requests: resources.requests.clone(), limits: resources.limits.clone() }
}

fn manifest_input(
    config: &kinds::BootstrapManifestsConfig,
    root: &kinds::KubernetesRootSecret,
    extra: &kinds::ExtraManifestsConfig,
) -> Result<ManifestInput, configure::ConfigureError> {
    let mut inline = BTreeMap::new();
    for manifest in extra.extra_manifests.iter().filter(|manifest| !manifest.inline_manifest.is_empty()) {
        inline.insert(manifest.name.clone(), configure::parse_manifest(&manifest.name, &manifest.inline_manifest)?);
    }
    let authority: String = root.accepted_cas.iter().map(|cert| format!("{}\n", text(&cert.crt).trim_end())).collect();
    Ok(ManifestInput {
        server: config.server.clone(),
        cluster_name: root.name.clone(),
        api_server_ca: authority.into_bytes(),
        bootstrap_token_id: root.bootstrap_token_id.clone(),
        bootstrap_token_secret: root.bootstrap_token_secret.clone(),
        cluster_domain: config.cluster_domain.clone(),
        pod_cidrs: config.pod_cidrs.clone(),
        proxy: config.proxy_enabled.then(|| ProxyInput {
            image: config.proxy_image.clone(),
            // The file is complete already: mode and host limits are in it.
            config: object(&config.proxy_config),
            extra_args: config.proxy_args.clone(),
            resources: resources(&config.proxy_resources),
            oom_score: true,
            ..Default::default()
        }),
        coredns: config.core_dns_enabled.then(|| CoreDnsInput {
            image: config.core_dns_image.clone(),
            service_ip: config.dns_service_ip.clone(),
            service_ip6: config.dns_service_ipv6.clone(),
        }),
        flannel: config.flannel_enabled.then(|| FlannelInput {
            image: config.flannel_image.clone(),
            backend: config.flannel_backend_type.clone(),
            port: config.flannel_backend_port,
            mtu: config.flannel_backend_mtu,
            backend_extra: object(&config.flannel_backend_extra_config),
            extra_args: config.flannel_extra_args.clone(),
            resources: resources(&config.flannel_resources),
            api_host: config.flannel_kube_service_host.clone(),
            api_port: config.flannel_kube_service_port.clone(),
        }),
        api_access: config.talos_api_service_enabled,
        api_service_port: 50000,
        inline,
    })
}

/// Inputs of [`ApplyManifests`].
#[derive(Inputs)]
pub struct ApplyIn {
    manifests: Many<kinds::Manifest>,
    #[input(id = "k8s-certs")]
    secrets: One<kinds::KubernetesSecret>,
    #[input(id = "etcd")]
    etcd_root: One<kinds::EtcdRootSecret>,
    #[input(id = "etcd")]
    etcd: One<kinds::EtcdSecret>,
    #[input(id = "local")]
    member: One<kinds::EtcdMember>,
}

/// Applies the manifests, one control plane at a time.
pub struct ApplyManifests;

/// How long another control plane may keep us waiting.
const MUTEX_WAIT: Duration = Duration::from_secs(60);
/// After its holder died, the mutex is free again in this time.
const MUTEX_TTL: Duration = Duration::from_secs(60);

impl Controller for ApplyManifests {
    const NAME: &'static str = "k8s.ManifestApplyController";
    const TIMEOUT: Duration = Duration::from_secs(300);
    type In = ApplyIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::ManifestStatus>()
    }

    async fn reconcile(&self, ctx: &Context, input: ApplyIn) -> engine::Result<Wanted> {
        if input.manifests.is_empty() {
            return Ok(Wanted::new());
        }
        let (Some(secrets), Some(_)) = (input.secrets.spec(), input.member.spec()) else {
            return Ok(Wanted::unchanged().waiting_for("etcd and the API server"));
        };
        let list: Vec<Manifest> = input
            .manifests
            .iter()
            .map(|manifest| Manifest {
                id: manifest.meta.id.to_string(),
                objects: manifest.spec.items.iter().map(|item| serde_json::Value::from(&item.object)).collect(),
            })
            .collect();
        let outcome = apply(&input, secrets, &list).await;
        match outcome {
            Ok(applied) => {
                for line in &applied.log {
                    tracing::info!(manifest = %line, "bootstrap manifest");
                }
                let manifests_applied = list.into_iter().map(|manifest| manifest.id).collect();
                Ok(Wanted::new().with("manifests", kinds::ManifestStatus { manifests_applied }))
            }
            Err(error) => {
                // Mostly the API server that is not up yet: asked again soon rather than ever later.
                ctx.wake_after(Duration::from_millis(500));
                Ok(Wanted::unchanged().waiting_for(error))
            }
        }
    }
}

async fn apply(input: &ApplyIn, secrets: &kinds::KubernetesSecret, list: &[Manifest]) -> Result<objects::apply::Applied, String> {
    let client = objects::client(&secrets.localhost_admin_kubeconfig).await.map_err(|error| error.to_string())?;
    // Asked before the mutex is taken, so that a machine whose API server is down blocks no other.
    objects::ask("ask the API server for its version", client.apiserver_version()).await.map_err(|error| error.to_string())?;
    let credentials = credentials(input).ok_or("etcd's certificates")?;
    let mut etcd = EtcdClient::connect(&["https://127.0.0.1:2379".to_owned()], &credentials).await.map_err(|error| error.to_string())?;
    let mutex = etcd.lock(MANIFEST_MUTEX, MUTEX_TTL, MUTEX_WAIT).await.map_err(|error| format!("etcd mutex {MANIFEST_MUTEX}: {error}"))?;
    let applied = tokio::time::timeout(MUTEX_TTL, objects::apply::apply(&client, list)).await;
    let _ = mutex.unlock().await;
    match applied {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("manifests were not applied within {} s", MUTEX_TTL.as_secs())),
    }
}

fn credentials(input: &ApplyIn) -> Option<Credentials> {
    let admin = input.etcd.spec()?.etcd_admin.as_ref()?;
    let ca = input.etcd_root.spec()?.etcd_ca.as_ref()?;
    Some(Credentials { ca: ca.crt.to_vec(), certificate: admin.crt.to_vec(), key: admin.key.to_vec() })
}
