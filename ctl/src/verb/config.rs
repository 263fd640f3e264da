//! `config`: the contexts of the client configuration.

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use model::config::client::{ClientConfig, Context};
use pki::Certificate;
use serde_json::json;

use crate::contexts;
use crate::session::{Global, read_file};
use crate::table::Table;

/// Manage the client configuration.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a context.
    Add {
        /// Its name.
        context: String,
        /// CA certificate file.
        #[arg(long)]
        ca: String,
        /// Client certificate file.
        #[arg(long)]
        crt: String,
        /// Client key file.
        #[arg(long)]
        key: String,
    },
    /// Choose the current context.
    #[command(alias = "use-context")]
    Context {
        /// Its name.
        context: String,
    },
    /// List the contexts.
    #[command(aliases = ["get-contexts", "list"])]
    Contexts,
    /// Set the endpoints of the current context.
    #[command(alias = "endpoints")]
    Endpoint {
        /// Hosts, with a port where it is not 50000.
        endpoints: Vec<String>,
    },
    /// Show the current context.
    Info {
        /// text, json or yaml.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
    /// Merge another client configuration into this one.
    Merge {
        /// The file.
        from: String,
    },
    /// Set the default nodes of the current context.
    #[command(alias = "nodes")]
    Node {
        /// Nodes.
        nodes: Vec<String>,
    },
    /// Remove a context.
    Remove {
        /// Its name.
        context: String,
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long, short = 'y')]
        noconfirm: bool,
    },
}

/// The context that is meant, by the flag or as the current one.
fn current<'a>(config: &'a mut ClientConfig, global: &Global) -> anyhow::Result<&'a mut Context> {
    let name = global.context.clone().unwrap_or_else(|| config.context.clone());
    let names: Vec<String> = config.contexts.keys().cloned().collect();
    match config.contexts.get_mut(&name) {
        Some(context) => Ok(context),
        None if names.is_empty() => bail!("there are no contexts yet: `orlopctl config merge FILE` or `orlopctl config add` adds one"),
        None => bail!("context {name:?} is not there; there are: {}", names.join(", ")),
    }
}

impl Config {
    /// Does what is asked.
    pub fn run(self, global: &Global) -> anyhow::Result<()> {
        let mut config = contexts::read(global)?;
        match self.command {
            Command::Contexts => {
                list(&config);
                return Ok(());
            }
            Command::Info { output } => return info(&config, global, output),
            Command::Add { context, ca, crt, key } => {
                if config.contexts.contains_key(&context) {
                    bail!("context {context:?} is there already: remove it first, or choose another name");
                }
                let text = |path: &str| anyhow::Ok(String::from_utf8_lossy(&read_file(path)?).into_owned());
                config.contexts.insert(context.clone(), Context::from_pem(&text(&ca)?, &text(&crt)?, &text(&key)?));
                if config.context.is_empty() {
                    config.context = context;
                }
            }
            Command::Context { context } => {
                if !config.contexts.contains_key(&context) {
                    let names: Vec<_> = config.contexts.keys().map(String::as_str).collect();
                    bail!("context {context:?} is not there; there are: {}", names.join(", "));
                }
                config.context = context;
            }
            Command::Endpoint { endpoints } => current(&mut config, global)?.endpoints = endpoints,
            Command::Node { nodes } => current(&mut config, global)?.nodes = nodes,
            Command::Merge { from } => {
                let other = ClientConfig::parse(&read_file(&from)?).map_err(|problems| anyhow::anyhow!("{from}: {problems}"))?;
                for (old, new) in config.merge(&other) {
                    eprintln!("renamed context {old:?} to {new:?}: another one has that name");
                }
            }
            Command::Remove { context, dry_run, noconfirm } => {
                if !config.contexts.contains_key(&context) {
                    bail!("context {context:?} is not there");
                }
                if context == config.context {
                    bail!("context {context:?} is the current one: choose another first with `orlopctl config context NAME`");
                }
                if dry_run {
                    println!("would remove context {context:?}");
                    return Ok(());
                }
                if !noconfirm && !confirmed(&format!("remove context {context:?}? [y/N] "))? {
                    return Ok(());
                }
                config.contexts.remove(&context);
            }
        }
        contexts::write(global, &config)
    }
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    eprint!("{question}");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("reading the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn list(config: &ClientConfig) {
    let mut table = Table::new(&["CURRENT", "NAME", "ENDPOINTS", "NODES"]);
    for (name, context) in &config.contexts {
        let sign = if *name == config.context { "*" } else { "" };
        table.row([sign.to_owned(), name.clone(), context.endpoints.join(","), context.nodes.join(",")]);
    }
    print!("{table}");
}

fn info(config: &ClientConfig, global: &Global, output: Output) -> anyhow::Result<()> {
    let name = global.context.clone().unwrap_or_else(|| config.context.clone());
    let context = config.get(Some(&name)).with_context(|| format!("context {name:?} is not there"))?;
    let identity = Certificate::from_pem(&context.cert_pem()).and_then(|c| c.identity());
    let (roles, expires) = match &identity {
        Ok(identity) => (identity.name.organizations.join(", "), identity.not_after.to_string()),
        Err(error) => (format!("unknown: {error}"), String::new()),
    };
    let document = json!({"context": name, "nodes": context.nodes, "endpoints": context.endpoints, "roles": roles, "certTTL": expires});
    match output {
        Output::Json => println!("{document:#}"),
        Output::Yaml => print!("{}", crate::yaml::to_string(&document)),
        Output::Text => {
            let or = |list: &[String]| if list.is_empty() { "not defined".to_owned() } else { list.join(", ") };
            println!("Current context:     {name}");
            println!("Nodes:               {}", or(&context.nodes));
            println!("Endpoints:           {}", or(&context.endpoints));
            println!("Roles:               {roles}");
            println!("Certificate expires: {expires}");
        }
    }
    Ok(())
}
