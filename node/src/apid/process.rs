//! How apid and trustd begin and end as processes: sandbox first, then one thread that serves until SIGTERM.

use std::{future::Future, process::ExitCode};

use sys::sandbox::Sandbox;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Enters `sandbox`, then runs `serve` until it ends or SIGTERM asks it to. One thread: these processes move bytes, and their
/// memory counts.
pub(crate) fn run<F, Fut>(name: &'static str, sandbox: Sandbox, serve: F) -> ExitCode
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    crate::log::start();
    match sandbox.enter() {
        Ok(report) => report.warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(error) => {
            tracing::error!(%error, "{name} does not run without its sandbox");
            return ExitCode::FAILURE;
        }
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "{name}: cannot start its runtime");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let asked = stop.clone();
        let mut term = match signal(SignalKind::terminate()) {
            Ok(term) => term,
            Err(error) => {
                tracing::error!(%error, "{name}: cannot listen for SIGTERM");
                return ExitCode::FAILURE;
            }
        };
        tokio::spawn(async move {
            term.recv().await;
            tracing::info!("{name} ends: asked to");
            asked.cancel();
        });
        serve(stop).await;
        ExitCode::SUCCESS
    })
}
