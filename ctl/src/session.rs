//! Which nodes a verb talks to, and how: the flags all node-facing verbs share, and calls to several nodes at once.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use api::client::{Client, Context, Options};
use clap::Args;
use futures::future::join_all;

use crate::contexts;

/// The flags that all node-facing verbs share.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// The nodes to talk to.
    #[arg(long, short, global = true, value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// Endpoints to use instead of the context's.
    #[arg(long, short, global = true, value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// The context to use instead of the current one.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The cluster, where the endpoint is a proxy before several.
    #[arg(long, short, global = true)]
    pub cluster: Option<String>,
    /// The client configuration; by default $TALOSCONFIG, else ~/.talos/config.
    #[arg(long, global = true)]
    pub talosconfig: Option<PathBuf>,
    /// Accept only servers with these SPKI fingerprints (with --insecure).
    #[arg(long, global = true, value_delimiter = ',', hide = true)]
    pub cert_fingerprint: Vec<String>,
}

/// One node, and the client that reaches it.
#[derive(Debug, Clone)]
pub struct Node {
    /// As the user named it.
    pub name: String,
    /// Calls through it go to this node.
    pub client: Client,
}

/// A verb's view of the nodes.
#[derive(Debug)]
pub struct Session {
    global: Global,
    context: Option<Context>,
    failure: Option<anyhow::Error>,
}

impl Session {
    /// Reads the client configuration. A broken one is told when a verb needs it: with --insecure none does.
    pub fn new(global: Global) -> Self {
        match contexts::load(&global) {
            Ok(context) => Self { global, context: Some(context), failure: None },
            Err(error) => Self { global, context: None, failure: Some(error) },
        }
    }

    /// The names of the nodes: of the flag, else of the context.
    pub fn names(&self) -> Vec<String> {
        if !self.global.nodes.is_empty() {
            return self.global.nodes.clone();
        }
        self.context.as_ref().map(|c| c.nodes.clone()).unwrap_or_default()
    }

    fn context(&self) -> anyhow::Result<&Context> {
        match (&self.context, &self.failure) {
            (Some(context), _) => Ok(context),
            (None, Some(error)) => bail!("{error:#}"),
            (None, None) => bail!("no context"),
        }
    }

    /// A client of the endpoints, for no node in particular.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.usable()?, Options::default())?)
    }

    /// As [`Session::endpoints`], of a context whose certificate nodes accept as far as one sees from here.
    pub fn usable(&self) -> anyhow::Result<Context> {
        let context = self.endpoints()?;
        contexts::not_expired(&context, jiff::Timestamp::now())
            .with_context(|| format!("the context of {}", contexts::path(&self.global).unwrap_or_default().display()))?;
        Ok(context)
    }

    /// The context with the endpoints that are to be used.
    pub fn endpoints(&self) -> anyhow::Result<Context> {
        let mut context = self.context()?.clone();
        if !self.global.endpoints.is_empty() {
            context.endpoints = self.global.endpoints.clone();
        }
        // As the peer's CLI does: without endpoints the nodes themselves are asked.
        if context.endpoints.is_empty() {
            context.endpoints = self.names();
        }
        if self.global.cluster.is_some() {
            context.cluster.clone_from(&self.global.cluster);
        }
        Ok(context)
    }

    /// The nodes, each with its client.
    pub fn nodes(&self, insecure: bool) -> anyhow::Result<Vec<Node>> {
        let names = self.names();
        if insecure {
            let names = if self.global.nodes.is_empty() { self.global.endpoints.clone() } else { names };
            if names.is_empty() {
                bail!("--insecure needs the node's address: give --nodes ADDRESS");
            }
            let node = |name: String| {
                Ok(Node { client: Client::insecure(std::slice::from_ref(&name), &self.global.cert_fingerprint, Options::default())?, name })
            };
            return names.into_iter().map(node).collect();
        }
        let client = self.client()?;
        if names.is_empty() {
            bail!("no nodes: give --nodes ADDRESS, or set them in the context with: orlopctl config node ADDRESS");
        }
        names.into_iter().map(|name| Ok(Node { client: client.try_node(&name)?, name })).collect()
    }

    /// The one node of verbs that take just one.
    pub fn one(&self, insecure: bool) -> anyhow::Result<Node> {
        let mut nodes = self.nodes(insecure)?;
        match (nodes.len(), nodes.pop()) {
            (1, Some(node)) => Ok(node),
            (count, _) => bail!("found {count} nodes, this command takes one: give --nodes ADDRESS"),
        }
    }

    /// Asks all nodes at once.
    pub async fn collect<T>(&self, insecure: bool, ask: impl AsyncFn(Node) -> anyhow::Result<T>) -> Collected<T> {
        let nodes = match self.nodes(insecure) {
            Ok(nodes) => nodes,
            Err(error) => return Collected { found: Vec::new(), failed: vec![error] },
        };
        let answers = join_all(nodes.iter().map(|node| ask(node.clone()))).await;
        let mut collected = Collected { found: Vec::new(), failed: Vec::new() };
        for (node, answer) in nodes.into_iter().zip(answers) {
            match answer {
                Ok(answer) => collected.found.push((node, answer)),
                Err(error) => collected.failed.push(explain(error).context(format!("node {}", node.name))),
            }
        }
        collected
    }

    /// Does something with all nodes at once.
    pub async fn each(&self, insecure: bool, act: impl AsyncFn(Node) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.collect(insecure, act).await.finish()
    }
}

/// What nodes answered.
#[derive(Debug)]
pub struct Collected<T> {
    /// The answers.
    pub found: Vec<(Node, T)>,
    /// What failed, each naming its node.
    pub failed: Vec<anyhow::Error>,
}

impl<T> Collected<T> {
    /// Prints the failures; the verb failed when there is one.
    pub fn finish(self) -> anyhow::Result<()> {
        let mut failed = self.failed.into_iter();
        let Some(first) = failed.next() else { return Ok(()) };
        let rest: Vec<_> = failed.collect();
        if rest.is_empty() {
            return Err(first);
        }
        for error in std::iter::once(&first).chain(&rest) {
            eprintln!("{error:#}");
        }
        bail!("{} nodes failed", rest.len() + 1)
    }
}

/// A gRPC failure in words: its message, and what its code means when the message is empty.
pub fn explain(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<tonic::Status>() {
        Ok(status) if status.message().is_empty() => anyhow::anyhow!("{}", status.code().description()),
        Ok(status) => anyhow::anyhow!("{} ({:?})", status.message(), status.code()),
        Err(other) => other,
    }
}

/// Reads a file that the user named, `-` being the standard input.
pub fn read_file(path: &str) -> anyhow::Result<Vec<u8>> {
    if path == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).context("reading the standard input")?;
        return Ok(bytes);
    }
    std::fs::read(path).with_context(|| format!("reading {path}"))
}
