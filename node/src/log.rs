//! Logging of our processes: lines on standard error, which `init` keeps.

/// Starts logging. The level is `info`, or what `ORLOP_LOG` says, such as `debug` or `engine=trace,info`.
pub(crate) fn start() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ORLOP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_client=off,tower=warn,h2=warn"));
    let result = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
    if result.is_err() {
        // Somebody set one up before: it stays.
        tracing::debug!("logging is set up already");
    }
}
