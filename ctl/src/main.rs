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
mod yaml;

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
    #[command(alias = "cp")]
    Copy(verb::copy::Copy),
    Dmesg(verb::dmesg::Dmesg),
    Edit(verb::edit::Edit),
    Etcd(verb::etcd::Etcd),
    Events(verb::events::Events),
    Forget(verb::forget::Forget),
    Gen(verb::r#gen::Gen),
    #[command(alias = "g")]
    Get(verb::get::Get),
    Health(verb::health::Health),
    Inspect(verb::inspect::Inspect),
    Kubeconfig(verb::kubeconfig::Kubeconfig),
    #[command(alias = "ls")]
    List(verb::list::List),
    Logs(verb::logs::Logs),
    #[command(name = "machineconfig", alias = "mc")]
    MachineConfig(verb::machineconfig::MachineConfig),
    #[command(aliases = ["m", "free"])]
    Memory(verb::memory::Memory),
    Meta(verb::meta::Meta),
    #[command(alias = "mount")]
    Mounts(verb::mounts::Mounts),
    Patch(verb::patch::Patch),
    #[command(aliases = ["p", "ps"])]
    Processes(verb::processes::Processes),
    #[command(alias = "cat")]
    Read(verb::read::Read),
    Reboot(verb::lifecycle::Reboot),
    Reset(verb::lifecycle::Reset),
    Rollback(verb::rollback::Rollback),
    #[command(alias = "services")]
    Service(verb::service::Service),
    Shutdown(verb::lifecycle::Shutdown),
    Stats(verb::stats::Stats),
    Time(verb::time::Time),
    Upgrade(verb::upgrade::Upgrade),
    #[command(alias = "du")]
    Usage(verb::usage::Usage),
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
        Verb::Completion(verb) => Ok(verb.run()),
        Verb::Config(verb) => Ok(verb.run(global)),
        Verb::Gen(verb) => Ok(verb.run()),
        Verb::MachineConfig(verb) => Ok(verb.run()),
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
        Verb::Copy(verb) => verb.run(&session).await,
        Verb::Dmesg(verb) => verb.run(&session).await,
        Verb::Edit(verb) => verb.run(&session).await,
        Verb::Etcd(verb) => verb.run(&session).await,
        Verb::Events(verb) => verb.run(&session).await,
        Verb::Forget(verb) => verb.run(&session).await,
        Verb::Get(verb) => verb.run(&session).await,
        Verb::Health(verb) => verb.run(&session).await,
        Verb::Inspect(verb) => verb.run(&session).await,
        Verb::Kubeconfig(verb) => verb.run(&session).await,
        Verb::List(verb) => verb.run(&session).await,
        Verb::Logs(verb) => verb.run(&session).await,
        Verb::Memory(verb) => verb.run(&session).await,
        Verb::Meta(verb) => verb.run(&session).await,
        Verb::Mounts(verb) => verb.run(&session).await,
        Verb::Patch(verb) => verb.run(&session).await,
        Verb::Processes(verb) => verb.run(&session).await,
        Verb::Read(verb) => verb.run(&session).await,
        Verb::Reboot(verb) => verb.run(&session).await,
        Verb::Reset(verb) => verb.run(&session).await,
        Verb::Rollback(verb) => verb.run(&session).await,
        Verb::Service(verb) => verb.run(&session).await,
        Verb::Shutdown(verb) => verb.run(&session).await,
        Verb::Stats(verb) => verb.run(&session).await,
        Verb::Time(verb) => verb.run(&session).await,
        Verb::Upgrade(verb) => verb.run(&session).await,
        Verb::Usage(verb) => verb.run(&session).await,
        Verb::Version(verb) => verb.run(&session).await,
        Verb::Cluster(_) | Verb::Completion(_) | Verb::Config(_) | Verb::Gen(_) | Verb::MachineConfig(_) | Verb::Validate(_) => Ok(()),
    }
}

/// A reader of the standard output that has seen enough (`… | head`) ends the program, without a panic's words and with SIGPIPE's code.
/// Not by SIGPIPE: that would end it for the broken connection of a node too.
fn end_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_some_and(|text| text.starts_with("failed printing to stdout: Broken pipe")) {
            files::nobody_reads();
        }
        usual(info);
    }));
}

fn main() -> ExitCode {
    // A keeper of a local cluster's node is this same program; it must not touch what a verb sets up.
    if let Some(code) = lab::applet(std::env::args_os()) {
        return code;
    }
    end_when_nobody_reads();
    let cli = Cli::parse();
    let result = run_local(cli.verb, &cli.global).unwrap_or_else(|verb| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(verb, cli.global))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {:#}", session::explain(error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn no_verb_has_two_flags_of_one_name() {
        Cli::command().debug_assert();
    }

    #[test]
    fn validate_has_its_own_c() {
        let cli = Cli::try_parse_from(["orlopctl", "validate", "-c", "a.yaml", "-m", "metal"]).unwrap();
        assert!(matches!(cli.verb, Verb::Validate(_)) && cli.global.cluster.is_none());
        let cli = Cli::try_parse_from(["orlopctl", "version", "-c", "demo"]).unwrap();
        assert_eq!(cli.global.cluster.as_deref(), Some("demo"));
    }
}
