//! `gen`: secrets and configurations of a new cluster.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use model::config::client::{ClientConfig, Context};
use model::config::generate::{Contract, InstallTarget, Options, generate_patched};
use model::config::secrets::Bundle;
use model::config::types::Url;
use model::config::{Config, MachineType};
use pki::bundle::{self, ServiceAccountKey};
use pki::{Ca, Role, Roles, profile};

use crate::files;
use crate::patches;
use crate::session::read_file;

/// The disk that generated configurations name unless another is given.
const INSTALL_DISK: &str = "/dev/sda";

/// Generate secrets and configurations.
#[derive(Debug, Args)]
pub struct Gen {
    /// Overwrite existing files.
    #[arg(long, short, global = true)]
    force: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The secrets of a new cluster.
    Secrets {
        /// Where to write them; `-` for the standard output.
        #[arg(long, short, default_value = "secrets.yaml")]
        output_file: String,
        /// Take them out of this control plane's configuration.
        #[arg(long)]
        from_controlplane_config: Option<String>,
        /// The version of the format to generate for.
        #[arg(long)]
        talos_version: Option<String>,
        /// An RSA key for service accounts (slow to make).
        #[arg(long)]
        rsa: bool,
    },
    /// The configurations of a new cluster.
    Config(Box<GenConfig>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputType {
    #[value(name = "controlplane")]
    ControlPlane,
    Worker,
    #[value(name = "talosconfig")]
    ClientConfig,
}

/// Arguments of `gen config`.
#[derive(Debug, Args)]
pub struct GenConfig {
    /// The cluster's name.
    cluster_name: String,
    /// The URL of its Kubernetes API.
    cluster_endpoint: String,
    /// Extra names and addresses for the API's certificates.
    #[arg(long, value_delimiter = ',')]
    additional_sans: Vec<String>,
    /// Patches for all machines.
    #[arg(long)]
    config_patch: Vec<String>,
    /// Patches for control planes.
    #[arg(long)]
    config_patch_control_plane: Vec<String>,
    /// Patches for workers.
    #[arg(long)]
    config_patch_worker: Vec<String>,
    /// The DNS domain of services.
    #[arg(long, default_value = "cluster.local")]
    dns_domain: String,
    /// The disk to install to.
    #[arg(long, default_value = INSTALL_DISK)]
    install_disk: String,
    /// The installer image.
    #[arg(long, default_value = "")]
    install_image: String,
    /// The version of Kubernetes.
    #[arg(long)]
    kubernetes_version: Option<String>,
    /// A directory, a file (with one output type), or `-`.
    #[arg(long, short)]
    output: Option<String>,
    /// What to generate.
    #[arg(
        long,
        short = 't',
        value_enum,
        value_delimiter = ',',
        default_values_t = [OutputType::ControlPlane, OutputType::Worker, OutputType::ClientConfig]
    )]
    output_types: Vec<OutputType>,
    /// Registry mirrors, REGISTRY=URL.
    #[arg(long)]
    registry_mirror: Vec<String>,
    /// The version of the format to generate for.
    #[arg(long)]
    talos_version: Option<String>,
    /// The version of the configuration.
    #[arg(long, default_value = "v1alpha1")]
    version: String,
    /// Use discovery.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    with_cluster_discovery: bool,
    /// Use KubeSpan.
    #[arg(long)]
    with_kubespan: bool,
    /// A secrets bundle to use.
    #[arg(long)]
    with_secrets: Option<String>,
    /// Accepted for compatibility: generated files carry no comments.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", hide = true)]
    with_docs: bool,
    /// Accepted for compatibility.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", hide = true)]
    with_examples: bool,
}

impl Gen {
    /// Generates.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Secrets { output_file, from_controlplane_config, talos_version, rsa } => {
                contract(talos_version.as_deref())?;
                let bundle = match from_controlplane_config {
                    Some(path) => from_config(&path)?,
                    None => new_bundle(rsa)?,
                };
                put(&output_file, bundle.encode().as_bytes(), self.force)
            }
            Command::Config(config) => config.run(self.force),
        }
    }
}

/// New secrets.
pub fn new_bundle(rsa: bool) -> anyhow::Result<Bundle> {
    let key = if rsa { ServiceAccountKey::Rsa(4096) } else { ServiceAccountKey::Ecdsa };
    Ok(bundle::generate(key, jiff::Timestamp::now())?)
}

fn from_config(path: &str) -> anyhow::Result<Bundle> {
    let bytes = read_file(path)?;
    let loaded = match Config::load(&bytes) {
        Ok(loaded) => loaded,
        Err(problems) => bail!("{}", patches::show(&problems, path, &bytes)),
    };
    Ok(bundle::from_control_plane(&loaded.machine)?)
}

fn contract(version: Option<&str>) -> anyhow::Result<Contract> {
    let Some(text) = version else { return Ok(Contract::CURRENT) };
    Contract::parse(text).with_context(|| format!("found version {text:?}, expected one such as v1.12"))
}

/// Writes a file that holds secrets, or prints it.
fn put(path: &str, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    if path == "-" {
        return files::print(bytes);
    }
    if Path::new(path).exists() && !force {
        bail!("{path} is there already: give --force to overwrite it");
    }
    files::write_private(Path::new(path), bytes)?;
    eprintln!("wrote {path}");
    Ok(())
}

/// A client configuration for the cluster's administrator.
pub fn client_config(name: &str, bundle: &Bundle, endpoints: Vec<String>, nodes: Vec<String>) -> anyhow::Result<ClientConfig> {
    let os = bundle.certs.os.as_ref().context("the secrets bundle has no certs.os: `gen secrets` makes a whole one")?;
    let (cert, key) = (os.cert_pem(), os.key_pem());
    let ca = Ca::from_pem(&cert, key.expose())?;
    let roles = Roles([Role::Admin].into_iter().collect());
    let issued = ca.issue(&profile::api_client(&roles, profile::YEAR), jiff::Timestamp::now())?;
    let context = Context { endpoints, nodes, ..Context::from_pem(&cert, &issued.cert, &issued.key) };
    Ok(ClientConfig::single(name, context))
}

impl GenConfig {
    fn options(&self) -> anyhow::Result<Options> {
        if self.version != "v1alpha1" {
            bail!("found configuration version {:?}, expected v1alpha1", self.version);
        }
        let url = Url::new(&self.cluster_endpoint);
        let url = url.map_err(|e| {
            anyhow::anyhow!("found cluster endpoint {:?}, expected a URL such as https://10.5.0.1:6443: {e}", self.cluster_endpoint)
        })?;
        let mut options = Options::new(&self.cluster_name, url);
        options.contract = contract(self.talos_version.as_deref())?;
        options.install = Some(InstallTarget { disk: self.install_disk.clone(), image: self.install_image.clone() });
        options.additional_sans.clone_from(&self.additional_sans);
        options.dns_domain.clone_from(&self.dns_domain);
        options.kubespan = self.with_kubespan;
        if let Some(version) = &self.kubernetes_version {
            options.kubernetes_version.clone_from(version);
        }
        if !self.with_cluster_discovery {
            options.discovery = None;
        }
        for mirror in &self.registry_mirror {
            let (registry, url) =
                mirror.split_once('=').with_context(|| format!("found registry mirror {mirror:?}, expected REGISTRY=URL"))?;
            let url = Url::new(url).map_err(|e| anyhow::anyhow!("registry mirror {mirror:?}: {e}"))?;
            options.registry_mirrors.push((registry.to_owned(), url));
        }
        Ok(options)
    }

    fn machine(&self, bundle: &Bundle, options: &Options, machine_type: MachineType) -> anyhow::Result<String> {
        let own = if machine_type.is_control_plane() { &self.config_patch_control_plane } else { &self.config_patch_worker };
        let all: Vec<String> = self.config_patch.iter().chain(own).cloned().collect();
        match generate_patched(bundle, options, machine_type, &patches::read(&all)?) {
            Ok(config) => Ok(config.encode()),
            Err(problems) => bail!("{problems}"),
        }
    }

    /// Generates and writes them.
    pub fn run(&self, force: bool) -> anyhow::Result<()> {
        let options = self.options()?;
        let bundle = match &self.with_secrets {
            None => new_bundle(false)?,
            Some(path) => {
                let bytes = read_file(path)?;
                Bundle::parse(&bytes).map_err(|problems| anyhow::anyhow!("{}", patches::show(&problems, path, &bytes)))?
            }
        };
        bundle::validate(&bundle)?;
        let mut made = Vec::new();
        for output in &self.output_types {
            made.push(match output {
                OutputType::ControlPlane => ("controlplane.yaml", self.machine(&bundle, &options, MachineType::ControlPlane)?),
                OutputType::Worker => ("worker.yaml", self.machine(&bundle, &options, MachineType::Worker)?),
                OutputType::ClientConfig => ("talosconfig", client_config(&self.cluster_name, &bundle, Vec::new(), Vec::new())?.encode()),
            });
        }
        let output = self.output.as_deref().unwrap_or(".");
        if output == "-" || (made.len() == 1 && !Path::new(output).is_dir() && self.output.is_some()) {
            let [(_, text)] = made.as_slice() else {
                bail!("found {} outputs for {output}, expected one: choose it with --output-types", made.len())
            };
            return put(output, text.as_bytes(), force);
        }
        // All or nothing: what is there is found before anything is written.
        let path = |name: &str| Path::new(output).join(name).display().to_string();
        if let Some((name, _)) = made.iter().find(|(name, _)| Path::new(&path(name)).exists() && !force) {
            bail!("{} is there already: give --force to overwrite it", path(name));
        }
        made.iter().try_for_each(|(name, text)| put(&path(name), text.as_bytes(), force))
    }
}
