//! The small applets: what containerd runs for us.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

/// Where service logs are.
const LOGS: &str = "/var/log";

/// `orlop-log`: writes a service container's output into its log. containerd gives it the streams as file descriptors 3 and 4, waits for
/// 5 to be closed, and passes the service's id as `?service=ID` of the logger's URI, which becomes the arguments `service ID`.
pub(crate) fn log() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = arguments.iter().position(|a| a == "service").and_then(|i| arguments.get(i + 1)).cloned();
    let Some(service) = named.or_else(|| std::env::var("CONTAINER_ID").ok()) else {
        eprintln!("orlop-log: found arguments {arguments:?}, expected: service ID");
        return ExitCode::from(2);
    };
    let streams = [3, 4, 5].map(sys::spawn::inherited);
    let [Some(stdout), Some(stderr), Some(ready)] = streams else {
        eprintln!("orlop-log: file descriptors 3, 4 and 5 must be open: containerd's shim starts this program");
        return ExitCode::from(2);
    };
    match host::logger::run(&service, Path::new(LOGS), File::from(stdout), File::from(stderr), File::from(ready)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orlop-log: {LOGS}/{service}.log: {error}");
            ExitCode::FAILURE
        }
    }
}
