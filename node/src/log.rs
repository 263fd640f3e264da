//! Logging of our processes: lines on standard error, which `init` keeps.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const USUAL: &str = "info,kube_client=off,tower=warn,h2=warn";

/// Starts logging. The level is `info`, or what `ORLOP_LOG` says, such as `debug` or `engine=trace,info`.
pub(crate) fn start() {
    let asked = std::env::var("ORLOP_LOG").ok().and_then(|levels| levels.parse().ok());
    let levels: Targets = asked.or_else(|| USUAL.parse().ok()).unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    if tracing_subscriber::registry().with(lines).with(levels).try_init().is_err() {
        // Somebody set one up before: it stays.
        tracing::debug!("logging is set up already");
    }
}
