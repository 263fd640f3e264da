//! The node's one binary; argv[0] chooses the applet.

mod apid;
mod applets;
mod edge;
mod init;
mod log;
mod machined;
mod trustd;

use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args().next().unwrap_or_default();
    match name.rsplit('/').next().unwrap_or_default() {
        "init" => init::run(),
        "machined" => machined::run(),
        "apid" => apid::run(),
        "trustd" => trustd::run(),
        "edge" => edge::run(),
        "orlop-log" => applets::log(),
        other => {
            eprintln!("orlop: {other:?} is none of its applets: init, machined, apid, trustd, edge, orlop-log");
            ExitCode::from(2)
        }
    }
}
