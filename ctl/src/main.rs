//! `orlopctl`: drives Orlop nodes through their API, and runs local clusters of them.
//!
//! A verb is one file in `verb/`. Names and flags are those that users of the peer's CLI know.

mod contexts;
mod files;
mod health;
mod kubefile;
mod kubernetes;
mod patches;
mod session;
mod table;
mod verb;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use session::{Global, Session};

/// Drive Orlop nodes.
#[derive(Debug, Parser)]
#[command(name = "orlopctl", disable_help_subcommand = true, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(alias = "apply")]
    ApplyConfig(verb::apply_config::ApplyConfig),
    Bootstrap(verb::bootstrap::Bootstrap),
    Cluster(verb::cluster::Cluster),
    Completion(verb::completion::Completion),
    Config(verb::config::Config),
    #[command(alias = "c")]
    Containers(verb::containers::Containers),
    Dmesg(verb::dmesg::Dmesg),
    Etcd(verb::etcd::Etcd),
    Forget(verb::forget::Forget),
    Gen(verb::r#gen::Gen),
    #[command(alias = "g")]
    Get(verb::get::Get),
    Health(verb::health::Health),
    Kubeconfig(verb::kubeconfig::Kubeconfig),
    Logs(verb::logs::Logs),
    #[command(aliases = ["m", "free"])]
    Memory(verb::memory::Memory),
    #[command(aliases = ["p", "ps"])]
    Processes(verb::processes::Processes),
    Reboot(verb::lifecycle::Reboot),
    Reset(verb::lifecycle::Reset),
    #[command(alias = "services")]
    Service(verb::service::Service),
    Shutdown(verb::lifecycle::Shutdown),
    Stats(verb::stats::Stats),
    Time(verb::time::Time),
    Validate(verb::validate::Validate),
    Version(verb::version::Version),
}

/// A length of time as the field's tools write it, such as `1m30s` or `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: resource::Duration = text.parse().map_err(|e| format!("{e}"))?;
    Ok(parsed.to_std())
}

/// The verbs that need neither a node nor a runtime: they answer at once.
fn run_local(verb: Verb, global: &Global) -> Result<anyhow::Result<()>, Verb> {
    match verb {
        Verb::Completion(verb) => {
            verb.run();
            Ok(Ok(()))
        }
        Verb::Config(verb) => Ok(verb.run(global)),
        Verb::Gen(verb) => Ok(verb.run()),
        Verb::Validate(verb) => Ok(verb.run()),
        Verb::Version(verb) if verb.is_local() => {
            verb.print_client();
            Ok(Ok(()))
        }
        other => Err(other),
    }
}

async fn run(verb: Verb, global: Global) -> anyhow::Result<()> {
    if let Verb::Cluster(verb) = verb {
        return verb.run().await;
    }
    let session = Session::new(global);
    match verb {
        Verb::ApplyConfig(verb) => verb.run(&session).await,
        Verb::Bootstrap(verb) => verb.run(&session).await,
        Verb::Containers(verb) => verb.run(&session).await,
        Verb::Dmesg(verb) => verb.run(&session).await,
        Verb::Etcd(verb) => verb.run(&session).await,
        Verb::Forget(verb) => verb.run(&session).await,
        Verb::Get(verb) => verb.run(&session).await,
        Verb::Health(verb) => verb.run(&session).await,
        Verb::Kubeconfig(verb) => verb.run(&session).await,
        Verb::Logs(verb) => verb.run(&session).await,
        Verb::Memory(verb) => verb.run(&session).await,
        Verb::Processes(verb) => verb.run(&session).await,
        Verb::Reboot(verb) => verb.run(&session).await,
        Verb::Reset(verb) => verb.run(&session).await,
        Verb::Service(verb) => verb.run(&session).await,
        Verb::Shutdown(verb) => verb.run(&session).await,
        Verb::Stats(verb) => verb.run(&session).await,
        Verb::Time(verb) => verb.run(&session).await,
        Verb::Version(verb) => verb.run(&session).await,
        Verb::Cluster(_) | Verb::Completion(_) | Verb::Config(_) | Verb::Gen(_) | Verb::Validate(_) => Ok(()),
    }
}

fn main() -> ExitCode {
    // A keeper of a local cluster's node is this same program; it must not touch what a verb sets up.
    if let Some(code) = lab::applet(std::env::args_os()) {
        return code;
    }
    let cli = Cli::parse();
    let result = run_local(cli.verb, &cli.global).unwrap_or_else(|verb| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(verb, cli.global))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
