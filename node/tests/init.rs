//! PID 1 for real: `init` of this crate boots in namespaces, with a stand-in for `machined` that does what it is told over a socket.
//!
//! Without libtest: the keeper, the gateway, PID 1, `machined` and its units are all this program, started under other names. The nodes are
//! made by `lab`. Needs root; says so and skips without.

// The program under test is a binary: its module is taken in as it stands.
#[path = "../src/init/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "a test uses a part of the module")]
mod init;
#[path = "init/standin.rs"]
mod standin;
#[path = "init/story.rs"]
mod story;

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = lab::applet(args.clone()) {
        return code;
    }
    let text: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match text[0].as_str() {
        "init" => return init::run(),
        "machined" => return standin::machined(),
        "unit" => return standin::unit(&text[1..]),
        _ => {}
    }
    match text.get(1).map(String::as_str) {
        // What cargo and other tools pass to test programs.
        Some("--list") => ExitCode::SUCCESS,
        filter => story::run(filter.filter(|word| !word.starts_with('-'))),
    }
}
