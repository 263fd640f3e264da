//! The stand-in for a node's init: answers one-line commands on the ports of the machine API and of the API server.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sys::{Signal, caps::Cap, power, process, signals::Signals};

static STUBBORN: AtomicBool = AtomicBool::new(false);

pub(super) fn run() -> ExitCode {
    let mut signals = Signals::block(&[Signal::SIGTERM, Signal::SIGCHLD]).expect("signals");
    println!("stand-in of {} is up as {}", name(), std::process::id());
    for port in [50000, 50002, 6443] {
        let listener = TcpListener::bind(("0.0.0.0", port)).expect("a port");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || talk(stream));
            }
        });
    }
    loop {
        let _ = sys::poll::readable(&signals, Duration::from_secs(1));
        while let Ok(Some((signal, _))) = signals.take() {
            if signal == Signal::SIGTERM && !STUBBORN.load(Ordering::SeqCst) {
                println!("stopping in order");
                eprintln!("{}", power::end(power::End::PowerOff));
            }
        }
        while process::reap().is_some() {}
    }
}

fn name() -> String {
    sys::host::hostname().unwrap_or_default()
}

fn talk(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
        let answer = answer(line.trim());
        if writeln!(stream, "{}", answer.replace('\n', "\x1f")).is_err() {
            return;
        }
        line.clear();
    }
}

fn answer(command: &str) -> String {
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    match verb {
        "name" => name(),
        "pid" => std::process::id().to_string(),
        "env" => std::env::var(rest).unwrap_or_default(),
        "read" => fs::read_to_string(rest).unwrap_or_else(|error| format!("error: {error}")),
        "write" => {
            let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
            fs::write(path, text).map_or_else(|error| format!("error: {error}"), |()| "ok".into())
        }
        "list" => {
            let mut names: Vec<String> =
                fs::read_dir(rest).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names.join(" ")
        }
        "blocks" => blocks(),
        "bounded" => [Cap::SysTime, Cap::SysModule, Cap::SysRawio, Cap::SysAdmin].map(|cap| sys::caps::bounded(cap).to_string()).join(" "),
        "dial" => dial(rest),
        "cgroup" => {
            // Makes a group as a container runtime would, to be cleared away by whoever removes the node.
            let made = sys::cgroup::Layout::detect().and_then(|layout| layout.group("pods/one").create());
            made.map_or_else(|error| format!("error: {error}"), |()| "ok".into())
        }
        // Makes a device node of the host's disk and opens it.
        "disk" => {
            let (major, minor) = rest.split_once(':').unwrap_or(("0", "0"));
            // As PID 1 this program reaps whatever ends, mknod too, so how it ended may be lost: what it made is not.
            let made = std::process::Command::new("/usr/bin/mknod").args(["/var/disk", "b", major, minor]).output();
            if !std::path::Path::new("/var/disk").exists() {
                return format!("error: {made:?}");
            }
            fs::File::open("/var/disk").map_or_else(|error| error.to_string(), |_| "opened".into())
        }
        "stubborn" => {
            STUBBORN.store(true, Ordering::SeqCst);
            "ok".into()
        }
        "flood" => {
            for _ in 0..100_000 {
                println!("0123456789012345678901234567890123456789");
            }
            "ok".into()
        }
        "reboot" => power::end(power::End::Reboot).to_string(),
        "poweroff" => power::end(power::End::PowerOff).to_string(),
        "crash" => std::process::exit(7),
        _ => "what?".into(),
    }
}

fn blocks() -> String {
    use std::os::unix::fs::FileTypeExt;
    let blocks =
        fs::read_dir("/dev").into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device()));
    blocks.count().to_string()
}

fn dial(address: &str) -> String {
    let connect = || -> std::io::Result<String> {
        let address = address.parse().map_err(std::io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(b"name\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    };
    connect().unwrap_or_else(|error| format!("error: {error}"))
}
