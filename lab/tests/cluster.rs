//! Whole clusters in namespaces, made and removed for real, with a stand-in for a node's init that tells what it sees.
//!
//! Without libtest: keepers, gateways and PID 1s are this program, started again. Needs root; says so and skips without. What is tested is
//! this crate, so the nodes' root is a directory with this program and its libraries, and nothing of Orlop's system.

#[path = "cluster/node.rs"]
mod node;
#[path = "cluster/story.rs"]
mod story;

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = lab::applet(args.clone()) {
        return code;
    }
    let text: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match text.get(1).map(String::as_str) {
        _ if text[0] == "init" => node::run(),
        Some("create") => story::create(&text[2..]),
        // What cargo and other tools pass to test programs.
        Some("--list") => ExitCode::SUCCESS,
        filter => story::run(filter.filter(|word| !word.starts_with('-'))),
    }
}
