//! `cluster`: local clusters of real nodes.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use api::client::{Client, Context, Options as ClientOptions};
use api::health;
use api::machine as pb;
use clap::{Args, Subcommand, ValueEnum};
use lab::namespaces::Namespaces;
use lab::{ClusterState, ClusterView, NodeRequest, NodeState, Provisioner as _, Request, Role};
use model::config::generate::{Options, generate_patched};
use model::config::secrets::Bundle;
use model::config::types::Url;
use model::config::{MachineType, Mode, Options as Strictness};
use serde_json::json;
use tokio::time::sleep;

use super::forget::{forget, report};
use super::r#gen;
use crate::health::{Question, ask};
use crate::table::Table;
use crate::{files, kubefile, kubernetes, patches};

/// Time for one call to a node that may not be there yet.
const CALL: Duration = Duration::from_secs(5);

/// Run local clusters.
#[derive(Debug, Args)]
pub struct Cluster {
    /// The cluster's name.
    #[arg(long, global = true, default_value = "orlop")]
    name: String,
    /// Where clusters keep their state; by default $ORLOP_STATE, else ~/.orlop/clusters.
    #[arg(long, global = true)]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a cluster, or bring a half-made one to its end.
    Create(Box<Create>),
    /// Show a cluster and its nodes.
    Show {
        /// text or json.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
    /// List the clusters.
    List,
    /// Change the number of nodes.
    Scale(Scale),
    /// Start nodes that are off; all without names.
    Start {
        /// Their names.
        nodes: Vec<String>,
    },
    /// Switch nodes off; all without names.
    Stop {
        /// Their names.
        nodes: Vec<String>,
        /// How long they may take.
        #[arg(long, default_value = "30s", value_parser = crate::duration)]
        grace: Duration,
    },
    /// Print a node's console.
    Logs {
        /// Its name.
        node: String,
    },
    /// Remove a cluster with all it had.
    Destroy {
        /// Accepted for compatibility: destroy removes what it finds in any case.
        #[arg(long, short)]
        force: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What nodes are made of.
#[derive(Debug, Clone, Args)]
struct Images {
    /// The root image of nodes.
    #[arg(long, default_value = "_out/root.erofs")]
    root: PathBuf,
    /// The image cache.
    #[arg(long, default_value = "_out/image-cache")]
    image_cache: PathBuf,
}

/// Arguments of `cluster create`.
#[derive(Debug, Args)]
struct Create {
    /// How many control planes; 1 by default.
    #[arg(long)]
    controlplanes: Option<usize>,
    /// How many workers; 1 by default.
    #[arg(long)]
    workers: Option<usize>,
    /// The cluster's network; the first free one of 10.5.0.0/24, 10.5.1.0/24 … by default.
    #[arg(long)]
    cidr: Option<String>,
    /// Patches for all machines.
    #[arg(long)]
    config_patch: Vec<String>,
    /// Patches for control planes.
    #[arg(long)]
    config_patch_controlplanes: Vec<String>,
    /// Patches for workers.
    #[arg(long)]
    config_patch_workers: Vec<String>,
    /// Start nodes without a configuration: they wait for it in maintenance mode. The configurations are written beside the cluster's
    /// state, to be given with `apply-config --insecure`.
    #[arg(long)]
    skip_injecting_config: bool,
    /// When the cluster is there already, start its nodes that are off and wait until it is healthy; its shape stays, and one that is
    /// asked for must be its own.
    #[arg(long)]
    reuse: bool,
    /// Wait until the cluster is healthy.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "5m", value_parser = crate::duration)]
    wait_timeout: Duration,
    #[command(flatten)]
    images: Images,
}

/// Arguments of `cluster scale`.
#[derive(Debug, Args)]
struct Scale {
    /// How many control planes.
    #[arg(long)]
    controlplanes: Option<usize>,
    /// How many workers.
    #[arg(long)]
    workers: Option<usize>,
    /// How long to wait for it.
    #[arg(long, default_value = "5m", value_parser = crate::duration)]
    wait_timeout: Duration,
}

/// A cluster that is being worked on.
struct Work {
    lab: Namespaces,
    name: String,
    begin: Instant,
}

impl Work {
    fn say(&self, text: &str) {
        eprintln!("[{:5.1} s] {text}", self.begin.elapsed().as_secs_f64());
    }

    fn dir(&self) -> PathBuf {
        self.lab.dir(&self.name)
    }

    fn talosconfig(&self) -> PathBuf {
        self.dir().join("talosconfig")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir().join("kubeconfig")
    }
}

impl Cluster {
    /// Does what is asked.
    pub async fn run(self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let progress = move |line: &str| eprintln!("[{:5.1} s] {line}", begin.elapsed().as_secs_f64());
        let lab = Namespaces::new(self.state.clone().unwrap_or_else(lab::default_dir)).on_progress(progress);
        let work = Work { lab, name: self.name, begin };
        match self.command {
            Command::Create(create) => create.run(&work).await,
            Command::Show { output } => show(&work, output),
            Command::List => {
                work.lab.list()?.iter().for_each(|name| println!("{name}"));
                Ok(())
            }
            Command::Scale(scale) => scale.run(&work).await,
            Command::Start { nodes } => Ok(work.lab.start(&work.name, &nodes)?),
            Command::Stop { nodes, grace } => Ok(work.lab.stop(&work.name, &nodes, grace)?),
            Command::Logs { node } => {
                let view = work.lab.show(&work.name)?;
                let found = view
                    .nodes
                    .iter()
                    .find(|n| n.node.name == node)
                    .with_context(|| format!("cluster {} has no node {node:?}", work.name))?;
                print!("{}", std::fs::read_to_string(&found.console).with_context(|| format!("reading {}", found.console.display()))?);
                Ok(())
            }
            Command::Destroy { force: _ } => {
                work.lab.destroy(&work.name)?;
                work.say(&format!("cluster {} is gone", work.name));
                Ok(())
            }
        }
    }
}

/// The patches that nodes of a cluster get, kept for those that join later.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Patches {
    all: Vec<String>,
    controlplanes: Vec<String>,
    workers: Vec<String>,
}

/// What a cluster is made of, as asked for or as it is there.
#[derive(Debug, Clone, PartialEq)]
struct Shape {
    /// How many; as asked for, none is the usual one.
    controlplanes: Option<usize>,
    workers: Option<usize>,
    patches: Patches,
    /// Its nodes start without a configuration.
    bare: bool,
}

impl Shape {
    fn counts(&self) -> (usize, usize) {
        (self.controlplanes.unwrap_or(1), self.workers.unwrap_or(1))
    }

    fn there(work: &Work, state: &ClusterState) -> anyhow::Result<Self> {
        let count = |role| Some(state.nodes_of(role).count());
        let patches = serde_json::from_slice(&read_file(work, "patches.json")?).context("patches.json")?;
        let bare = state.nodes.iter().any(|node| skipped(work, node).exists());
        Ok(Self { controlplanes: count(Role::ControlPlane), workers: count(Role::Worker), patches, bare })
    }

    /// Refuses to take the cluster that is there for the one that is asked for when it is another. With `reuse` only what was named must
    /// be the same.
    fn must_be(&self, there: &Self, name: &str, reuse: bool) -> anyhow::Result<()> {
        let ((controlplanes, workers), (found_controlplanes, found_workers)) = (self.counts(), there.counts());
        let other = |asked: Option<usize>, wanted, found| wanted != found && (asked.is_some() || !reuse);
        if other(self.controlplanes, controlplanes, found_controlplanes) || other(self.workers, workers, found_workers) {
            bail!(
                "the cluster {name:?} is there already with {found_controlplanes} control planes and {found_workers} workers, asked for are \
                 {controlplanes} and {workers}: change it with `orlopctl cluster scale --name {name}`, or choose another --name"
            );
        }
        if self.patches != there.patches && (self.patches != Patches::default() || !reuse) {
            let text = |patches| serde_json::to_string(patches).unwrap_or_default();
            bail!(
                "the cluster {name:?} is there already with the patches {}, asked for are {}: change its nodes with `orlopctl patch \
                 machineconfig`, or choose another --name",
                text(&there.patches),
                text(&self.patches)
            );
        }
        match (there.bare, self.bare) {
            (true, false) if !reuse => bail!(
                "the cluster {name:?} is there already with nodes that wait for their configurations (--skip-injecting-config): give each its \
                 own with `orlopctl apply-config --insecure`, then `orlopctl cluster scale --name {name}`"
            ),
            (false, true) => bail!(
                "the cluster {name:?} is there already and its nodes have configurations, asked for are nodes without \
                 (--skip-injecting-config): choose another --name"
            ),
            _ => Ok(()),
        }
    }
}

/// The configuration of a node.
fn node_config(bundle: &Bundle, patches: &Patches, state: &ClusterState, node: &NodeState) -> anyhow::Result<Vec<u8>> {
    config_of(bundle, patches, (&state.name, state.endpoint(), state.gateway), node.role)
}

/// The configuration of nodes of a role, in the cluster of this name, endpoint and gateway. What a node would refuse is refused here.
fn config_of(
    bundle: &Bundle,
    patches: &Patches,
    (name, endpoint, gateway): (&str, String, Ipv4Addr),
    role: Role,
) -> anyhow::Result<Vec<u8>> {
    let endpoint = Url::new(endpoint).map_err(|e| anyhow::anyhow!("{e}"))?;
    let mut options = Options::new(name, endpoint);
    options.additional_sans = vec!["127.0.0.1".into(), gateway.to_string()];
    let (machine_type, own) = match role {
        Role::ControlPlane => (MachineType::ControlPlane, &patches.controlplanes),
        Role::Worker => (MachineType::Worker, &patches.workers),
    };
    let all: Vec<String> = patches.all.iter().chain(own).cloned().collect();
    let config = match generate_patched(bundle, &options, machine_type, &patches::read(&all)?) {
        Ok(config) => config,
        Err(problems) => bail!("{problems}"),
    };
    let found = config.validate(Mode::Container, Strictness::default());
    if found.refuses() {
        bail!("with its patches the configuration of a {role} is not valid:\n{found}");
    }
    Ok(config.encode().into_bytes())
}

/// Where the configuration of a node is written that starts without one.
fn skipped(work: &Work, node: &NodeState) -> PathBuf {
    work.dir().join(format!("{}.yaml", node.name))
}

fn absolute(path: &Path, what: &str) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{what} {}: `make build` makes it, or name another", path.display()))
}

impl Create {
    async fn run(self, work: &Work) -> anyhow::Result<()> {
        let patches =
            Patches { all: self.config_patch, controlplanes: self.config_patch_controlplanes, workers: self.config_patch_workers };
        let shape = Shape { controlplanes: self.controlplanes, workers: self.workers, patches, bare: self.skip_injecting_config };
        let (controlplanes, workers) = shape.counts();
        let mut request = Request::new(&work.name, controlplanes, workers, absolute(&self.images.root, "the root image")?);
        request.image_cache = Some(absolute(&self.images.image_cache, "the image cache")?);
        request.subnet = self
            .cidr
            .as_deref()
            .map(|c| c.parse().with_context(|| format!("found network {c:?}, expected one such as 10.5.0.0/24")))
            .transpose()?;
        let mut bundle = match read_bundle(work) {
            Err(error) if is_missing(&error) => r#gen::new_bundle(false)?,
            read => read?,
        };
        // Before anything is made: what is wrong with the request or the patches leaves nothing behind.
        request.check()?;
        for role in [Role::ControlPlane, Role::Worker] {
            config_of(&bundle, &shape.patches, (&work.name, "https://10.5.0.1:6443".into(), Ipv4Addr::new(10, 5, 0, 1)), role)?;
        }
        let mut config = |state: &ClusterState, node: &NodeState| {
            // Kept before the first node starts: a create that is killed goes on with the same secrets.
            files::write_private(&work.dir().join("secrets.yaml"), bundle.encode().as_bytes())?;
            files::write_private(&work.dir().join("patches.json"), &serde_json::to_vec_pretty(&shape.patches)?)?;
            let config = node_config(&bundle, &shape.patches, state, node)?;
            if !self.skip_injecting_config {
                return Ok(config);
            }
            files::write_private(&skipped(work, node), &config)?;
            Ok(Vec::new())
        };
        let state = match work.lab.create(&request, &mut config) {
            // Without a kubeconfig an earlier `create` was ended while its cluster started.
            Err(lab::Error::Exists { .. }) if self.reuse || !work.kubeconfig().exists() => {
                shape.must_be(&Shape::there(work, &work.lab.show(&work.name)?.state)?, &work.name, self.reuse)?;
                // Its own: with the authority of another nobody could talk to it.
                bundle = read_bundle(work)?;
                work.say("the cluster is there already: starting what is off");
                work.lab.start(&work.name, &[])?;
                work.lab.show(&work.name)?.state
            }
            made => made?,
        };
        work.say(&format!("{} nodes run", state.nodes.len()));
        write_talosconfig(work, &bundle, &state)?;
        if self.skip_injecting_config {
            work.say("the nodes are in maintenance mode; give each its configuration:");
            for node in &state.nodes {
                println!("  orlopctl apply-config --insecure --nodes 127.0.0.1:{} --file {}", node.api_port, skipped(work, node).display());
            }
            println!("then: orlopctl cluster scale --name {}", work.name);
            return Ok(());
        }
        if !self.wait {
            return Ok(());
        }
        finish(work, &state, self.wait_timeout).await?;
        closing(work, &state).await
    }
}

/// How the cluster's API is reached from here, as its admin.
fn api_context(work: &Work, state: &ClusterState) -> anyhow::Result<Context> {
    let bytes = std::fs::read(work.talosconfig()).with_context(|| format!("reading {}", work.talosconfig().display()))?;
    let config = model::config::client::ClientConfig::parse(&bytes).map_err(|p| anyhow::anyhow!("{p}"))?;
    let context = config.get(None).context("the cluster's talosconfig has no context")?;
    Ok(Context {
        endpoints: state.api_endpoints(),
        ca: context.ca_pem().into_bytes(),
        crt: context.cert_pem().into_bytes(),
        key: context.key_pem().expose().as_bytes().to_vec(),
        ..Context::default()
    })
}

/// A client of the cluster's API.
fn api_client(work: &Work, state: &ClusterState) -> anyhow::Result<Client> {
    Ok(Client::new(&api_context(work, state)?, ClientOptions { call: CALL, ..ClientOptions::default() })?)
}

/// Writes the client configuration of the cluster as it is now.
fn write_talosconfig(work: &Work, bundle: &Bundle, state: &ClusterState) -> anyhow::Result<()> {
    let first = state.nodes.iter().take(1).map(|n| n.address.to_string()).collect();
    let config = r#gen::client_config(&work.name, bundle, state.api_endpoints(), first)?;
    files::write_private(&work.talosconfig(), config.encode().as_bytes())?;
    Ok(())
}

/// Bootstraps and waits until all nodes are Ready and cluster DNS runs.
async fn finish(work: &Work, state: &ClusterState, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let client = api_client(work, state)?;
    let first = state.nodes_of(Role::ControlPlane).next().context("the cluster has no control plane")?;
    let node = client.try_node(&first.address.to_string())?;
    wait(work, deadline, "the machine API", async || node.machine().version(()).await.map(drop).map_err(|s| s.message().to_owned()))
        .await?;
    work.say("the machine API answers");
    wait(work, deadline, "etcd to be bootstrapped", async || match node.machine().bootstrap(pb::BootstrapRequest::default()).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(()),
        Err(status) => Err(status.message().to_owned()),
    })
    .await?;
    work.say("etcd is bootstrapped");
    wait(work, deadline, "the admin kubeconfig", async || fetch_kubeconfig(work, state, &node).await.map_err(|e| format!("{e:#}"))).await?;
    let text = std::fs::read_to_string(work.kubeconfig())?;
    let kubernetes = kubernetes::client(&text).await?;
    wait(work, deadline, "the Kubernetes API", async || kubernetes.apiserver_version().await.map(drop).map_err(|e| e.to_string())).await?;
    work.say("the Kubernetes API answers");
    healthy(work, state, deadline.saturating_duration_since(Instant::now())).await?;
    work.say("all nodes are Ready, CoreDNS runs");
    Ok(())
}

/// Waits for the health that `orlopctl health` tells, with exactly these nodes.
async fn healthy(work: &Work, state: &ClusterState, limit: Duration) -> anyhow::Result<()> {
    let addresses = |role| state.nodes_of(role).map(|n| n.address.to_string()).collect();
    let question =
        Question { control_planes: addresses(Role::ControlPlane), workers: addresses(Role::Worker), wait: limit, ..Question::default() };
    let mut last = Instant::now();
    let report = ask(&api_context(work, state)?, &question, &mut |line| {
        // Much changes while a cluster comes up; what it hangs on is worth a line now and then.
        if !line.ends_with(": OK") && last.elapsed() > Duration::from_secs(5) {
            work.say(line);
            last = Instant::now();
        }
    })
    .await?;
    if health::is_healthy(&report) {
        return Ok(());
    }
    let causes: Vec<String> = report.causes.iter().map(|c| format!("{} {}: {} ({})", c.node, c.cause, c.found, c.next_step)).collect();
    bail!(
        "not healthy within {} s: {}; `orlopctl cluster show --name {}` and `… logs NODE` tell more",
        limit.as_secs(),
        causes.join("; "),
        work.name
    )
}

/// Tries until it works; tells what it waits for when that changes.
async fn wait(work: &Work, deadline: Instant, what: &str, attempt: impl AsyncFn() -> Result<(), String>) -> anyhow::Result<()> {
    let mut told = String::new();
    let mut last = Instant::now();
    loop {
        let reason = match attempt().await {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        if Instant::now() > deadline {
            bail!("waited in vain for {what}: {reason}; `orlopctl cluster show --name {}` and `… logs NODE` tell more", work.name);
        }
        if reason != told && last.elapsed() > Duration::from_secs(3) {
            work.say(&format!("waiting for {what}: {reason}"));
            told = reason;
            last = Instant::now();
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The admin's kubeconfig, with the server as the host reaches it.
async fn fetch_kubeconfig(work: &Work, state: &ClusterState, node: &Client) -> anyhow::Result<()> {
    let text = super::kubeconfig::of(node).await?;
    let mut config = crate::yaml::parse(&text)?;
    for cluster in config["clusters"].as_array_mut().into_iter().flatten() {
        cluster["cluster"]["server"] = json!(state.host_endpoint());
    }
    kubefile::write(&work.kubeconfig(), &crate::yaml::to_string(&config))
}

/// What one sees and may do next.
async fn closing(work: &Work, state: &ClusterState) -> anyhow::Result<()> {
    let kubeconfig = work.kubeconfig();
    let kubectl = std::env::current_dir()?.join("_out/bin/kubectl");
    let program = if kubectl.exists() { kubectl } else { "kubectl".into() };
    let shown = std::process::Command::new(&program).args(["get", "nodes", "-o", "wide"]).env("KUBECONFIG", &kubeconfig).status();
    if !shown.is_ok_and(|status| status.success()) {
        work.say(&format!("{} get nodes did not work", program.display()));
    }
    let worker = state.nodes.last().map(|n| n.address.to_string()).unwrap_or_default();
    println!("\nNext:");
    println!("  export KUBECONFIG={} TALOSCONFIG={}", kubeconfig.display(), work.talosconfig().display());
    println!("  {} get pods -A", program.display());
    println!("  {} -n {worker} services", std::env::current_exe().unwrap_or_else(|_| "orlopctl".into()).display());
    Ok(())
}

fn show(work: &Work, output: Output) -> anyhow::Result<()> {
    let view = work.lab.show(&work.name)?;
    let kind = |role: Role| if role == Role::ControlPlane { "controlplane" } else { "worker" };
    if output == Output::Json {
        let nodes: Vec<_> = view
            .nodes
            .iter()
            .map(|n| json!({"name": n.node.name, "type": kind(n.node.role), "address": n.node.address.to_string(), "condition": n.condition.to_string(), "pid": n.pid}))
            .collect();
        println!(
            "{:#}",
            json!({"name": work.name, "subnet": view.state.subnet.to_string(), "kubernetes": view.state.host_endpoint(), "directory": view.dir, "nodes": nodes})
        );
        return Ok(());
    }
    println!("PROVISIONER       {}", view.state.provisioner);
    println!("NAME              {}", view.state.name);
    println!(
        "NETWORK           {} (gateway {}, {})",
        view.state.subnet,
        view.state.gateway,
        if view.gateway_runs { "runs" } else { "does not run" }
    );
    println!("KUBERNETES        {}", view.state.host_endpoint());
    println!("DIRECTORY         {}\n\nNODES:\n", view.dir.display());
    let mut table = Table::new(&["NAME", "TYPE", "IP", "CONDITION", "PID"]);
    for n in &view.nodes {
        table.row([
            n.node.name.clone(),
            kind(n.node.role).to_owned(),
            n.node.address.to_string(),
            n.condition.to_string(),
            n.pid.map(|p| p.to_string()).unwrap_or_default(),
        ]);
    }
    print!("{table}");
    for n in view.nodes.iter().filter(|n| n.condition == lab::NodeCondition::Gone) {
        println!(
            "\n{0} is gone: `orlopctl cluster start {0}` starts it again; `orlopctl forget {0}` takes it out of the cluster, and `cluster scale` removes it here.",
            n.node.name
        );
    }
    Ok(())
}

impl Scale {
    async fn run(self, work: &Work) -> anyhow::Result<()> {
        let view = work.lab.show(&work.name)?;
        let state = view.state.clone();
        let wanted = [(Role::Worker, self.workers), (Role::ControlPlane, self.controlplanes)];
        for (role, count) in wanted {
            let Some(count) = count else { continue };
            if role == Role::ControlPlane && count == 0 {
                bail!("found 0 control planes, expected at least 1: `cluster destroy` removes the whole cluster");
            }
            let mut there: Vec<NodeState> = state.nodes_of(role).cloned().collect();
            // What is off or gone goes first: it is missed least, and a dead member of etcd counts against the majority.
            there.sort_by_key(|node| !runs(&view, &node.name));
            for node in there.iter().skip(count).rev() {
                remove(work, &state, node).await?;
            }
            if count > there.len() {
                add(work, role, count - there.len())?;
            }
        }
        let state = work.lab.show(&work.name)?.state;
        write_talosconfig(work, &read_bundle(work)?, &state)?;
        finish(work, &state, self.wait_timeout).await?;
        closing(work, &state).await
    }
}

fn read_file(work: &Work, name: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(work.dir().join(name)).with_context(|| format!("reading {}", work.dir().join(name).display()))
}

fn read_bundle(work: &Work) -> anyhow::Result<Bundle> {
    Bundle::parse(&read_file(work, "secrets.yaml")?).map_err(|p| anyhow::anyhow!("{}: {p}", work.dir().join("secrets.yaml").display()))
}

/// Whether a file could not be read because there is none.
fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

fn add(work: &Work, role: Role, count: usize) -> anyhow::Result<()> {
    let bundle = read_bundle(work)?;
    let patches: Patches = serde_json::from_slice(&read_file(work, "patches.json")?).context("patches.json")?;
    let requests: Vec<NodeRequest> = std::iter::repeat_with(|| NodeRequest::new(role)).take(count).collect();
    let mut config = |state: &ClusterState, node: &NodeState| Ok(node_config(&bundle, &patches, state, node)?);
    let added = work.lab.add(&work.name, &requests, &mut config)?;
    work.say(&format!("added {}", added.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ")));
    Ok(())
}

/// Takes a node out: drained, off etcd's member list, its Kubernetes object removed, the others told, then its machine.
async fn remove(work: &Work, state: &ClusterState, node: &NodeState) -> anyhow::Result<()> {
    work.say(&format!("removing {}", node.name));
    if runs(&work.lab.show(&work.name)?, &node.name) {
        let client = api_client(work, state)?.try_node(&node.address.to_string())?;
        let request = pb::ResetRequest { graceful: true, reboot: false, ..pb::ResetRequest::default() };
        match client.machine().reset(request).await {
            Ok(_) => wait_off(work, &node.name).await?,
            Err(status) => work.say(&format!("{} does not say goodbye: {}", node.name, status.message())),
        }
    }
    work.lab.remove(&work.name, &node.name)?;
    let left = work.lab.show(&work.name)?.state;
    // Its machine is off; Kubernetes takes 40 s to notice, and until then would have it alive.
    let told = match forget(&api_context(work, &left)?, &node.name, true).await {
        Ok(response) => report(&response, |line| work.say(line)),
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        work.say(&format!("{error:#}; `orlopctl forget {}` does it later", node.name));
    }
    Ok(())
}

/// Whether a node's machine runs.
fn runs(view: &ClusterView, name: &str) -> bool {
    view.nodes.iter().any(|n| n.node.name == name && n.condition == lab::NodeCondition::Running)
}

/// Waits until the node went off by itself; a node that does not is switched off by the removal.
async fn wait_off(work: &Work, name: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(240);
    while Instant::now() < deadline {
        if !runs(&work.lab.show(&work.name)?, name) {
            return Ok(());
        }
        sleep(Duration::from_millis(300)).await;
    }
    work.say(&format!("{name} did not go off within 240 s"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(controlplanes: Option<usize>, workers: Option<usize>) -> Shape {
        Shape { controlplanes, workers, patches: Patches::default(), bare: false }
    }

    fn patched(patch: &str) -> Shape {
        Shape { patches: Patches { all: vec![patch.into()], ..Patches::default() }, ..shape(None, None) }
    }

    #[test]
    fn a_cluster_of_another_shape_is_not_joined() {
        let there = shape(Some(1), Some(3));
        let refused = |asked: Shape, there: &Shape, reuse| asked.must_be(there, "demo", reuse).unwrap_err().to_string();
        assert!(shape(None, None).must_be(&there, "demo", true).is_ok(), "its shape stays");
        assert!(shape(Some(1), Some(3)).must_be(&there, "demo", false).is_ok(), "an earlier create was killed");
        for (asked, reuse) in [(shape(None, Some(1)), true), (shape(None, None), false), (shape(Some(3), Some(3)), false)] {
            let told = refused(asked, &there, reuse);
            assert!(told.contains("1 control planes and 3 workers") && told.contains("cluster scale --name demo"), "{told}");
        }
        let told = refused(patched("one"), &patched("other"), true);
        assert!(told.contains("one") && told.contains("other"), "{told}");
        assert!(shape(None, None).must_be(&patched("other"), "demo", true).is_ok());
        refused(shape(None, None), &patched("other"), false);
        let bare = Shape { bare: true, ..shape(None, None) };
        assert!(refused(shape(None, None), &bare, false).contains("apply-config"));
        assert!(shape(None, None).must_be(&bare, "demo", true).is_ok(), "they may have been given theirs");
        refused(bare, &shape(Some(1), Some(1)), true);
    }

    /// A cluster that was made, and `create --reuse` of it; its machines do not run, so it goes no further than its secrets.
    async fn reuse(secrets: impl FnOnce(&Path)) -> (String, String) {
        let base = tempfile::tempdir().unwrap();
        let work = Work { lab: Namespaces::new(base.path().join("clusters")), name: "demo".into(), begin: Instant::now() };
        std::fs::create_dir_all(work.dir()).unwrap();
        let request = Request::new("demo", 1, 1, base.path());
        let state = json!({
            "version": 1, "name": "demo", "provisioner": "namespaces", "phase": "ready", "request": request, "subnet": "10.5.0.0/24",
            "gateway": "10.5.0.1", "kubernetes_port": 26443, "gateway_process": null,
            "nodes": [
                {"name": "demo-controlplane-1", "role": "controlplane", "address": "10.5.0.2", "api_port": 25000},
                {"name": "demo-worker-1", "role": "worker", "address": "10.5.0.3", "api_port": 25001},
            ],
        });
        std::fs::write(work.dir().join("state.json"), state.to_string()).unwrap();
        std::fs::write(work.dir().join("patches.json"), serde_json::to_vec(&Patches::default()).unwrap()).unwrap();
        std::fs::write(work.talosconfig(), "its own").unwrap();
        secrets(&work.dir().join("secrets.yaml"));
        let create = Create {
            controlplanes: None,
            workers: None,
            cidr: None,
            config_patch: Vec::new(),
            config_patch_controlplanes: Vec::new(),
            config_patch_workers: Vec::new(),
            skip_injecting_config: false,
            reuse: true,
            wait: false,
            wait_timeout: CALL,
            images: Images { root: base.path().into(), image_cache: base.path().into() },
        };
        let error = create.run(&work).await.unwrap_err();
        (format!("{error:#}"), std::fs::read_to_string(work.talosconfig()).unwrap())
    }

    #[tokio::test]
    async fn a_cluster_that_is_there_keeps_its_own_authority() {
        let (missing, talosconfig) = reuse(|_| {}).await;
        assert!(missing.contains("secrets.yaml") && missing.contains("No such file"), "{missing}");
        assert_eq!(talosconfig, "its own");
        let (unreadable, _) = reuse(|secrets| std::fs::create_dir(secrets).unwrap()).await;
        assert!(unreadable.contains("secrets.yaml") && unreadable.contains("directory"), "{unreadable}");
    }
}
