//! The stand-in for `machined`: one-line commands on port 50000, most of them passed on to `init`. And the units it starts.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use sys::spawn::Spawn;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::init::{
    client::Client,
    protocol::{End, Event, SOCKET, UnitSpec},
};

/// Events so far, and what to do when the end is asked for.
#[derive(Default)]
struct Heard {
    events: Vec<String>,
    deaf: bool,
}

pub(super) fn machined() -> ExitCode {
    println!("stand-in starts");
    if fs::exists("/var/broken").unwrap_or(false) {
        println!("the reason of the failure");
        return ExitCode::from(9);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(serve());
    ExitCode::SUCCESS
}

async fn serve() {
    let (client, mut events) = Client::connect(Path::new(SOCKET)).expect("a connection to init");
    let heard = Arc::new(Mutex::new(Heard::default()));
    // The port may linger with the one before for a moment.
    let listener = loop {
        match TcpListener::bind("0.0.0.0:50000").await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let (ears, speaker) = (heard.clone(), client.clone());
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let deaf = {
                let mut heard = ears.lock().expect("a lock");
                heard.events.push(format!("{event:?}"));
                heard.deaf
            };
            if let (Event::EndAsked(how), false) = (event, deaf) {
                println!("stopping everything in order");
                speaker.end(how).await.expect("init to agree");
            }
        }
    });
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, client.clone(), heard.clone()));
        }
    }
}

async fn talk(stream: TcpStream, client: Client, heard: Arc<Mutex<Heard>>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|count| count > 0) {
        let answer = answer(line.trim(), &client, &heard).await.replace('\n', "\x1f") + "\n";
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}

fn worded<T, E: std::fmt::Display>(result: Result<T, E>, word: impl FnOnce(T) -> String) -> String {
    result.map_or_else(|error| format!("error: {error}"), word)
}

async fn answer(command: &str, client: &Client, heard: &Mutex<Heard>) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    match words.as_slice() {
        ["pid"] => std::process::id().to_string(),
        ["events"] => heard.lock().expect("a lock").events.join("\n"),
        ["deaf"] => {
            heard.lock().expect("a lock").deaf = true;
            "ok".into()
        }
        ["spawn", id, argv @ ..] => {
            let argv = ["unit"].iter().chain(argv).map(|word| (*word).to_owned()).collect();
            let spec = UnitSpec {
                id: (*id).into(),
                program: "/usr/bin/orlop".into(),
                argv,
                cgroup: Some(format!("system/{id}")),
                note: format!("note of {id}"),
                ..UnitSpec::default()
            };
            worded(client.spawn(spec).await, |started| started.process.pid.to_string())
        }
        ["list"] => worded(client.list().await, |units| {
            let line = |unit: &crate::init::protocol::UnitStatus| {
                let ended = unit.ended.map_or_else(|| "runs".to_owned(), |(exit, _)| exit.to_string());
                format!("{} {} {ended} {}", unit.id, unit.process.pid, unit.note)
            };
            units.iter().map(line).collect::<Vec<_>>().join("\n")
        }),
        ["signal", id, number, everyone] => {
            worded(client.signal(id, number.parse().expect("a number"), *everyone == "everyone").await, |()| "ok".into())
        }
        ["forget", id] => worded(client.forget(id).await, |()| "ok".into()),
        ["end", "reboot"] => worded(client.end(End::Reboot).await, |()| "ok".into()),
        ["read", path] => worded(fs::read_to_string(path), |text| text),
        ["write", path, text] => worded(fs::write(path, text), |()| "ok".into()),
        ["stat", path] => worded(fs::metadata(path), |meta| format!("{:o} {} {}", meta.mode() & 0o7777, meta.uid(), meta.gid())),
        ["fstype", path] => worded(sys::mount::filesystem_of(Path::new(path)), |kind| kind),
        ["zombies"] => sys::process::all().iter().filter(|process| process.state == 'Z').count().to_string(),
        ["processes"] => sys::process::all().len().to_string(),
        ["die"] => std::process::exit(3),
        _ => format!("error: {command:?}?"),
    }
}

/// What a unit does, by its first argument.
pub(super) fn unit(args: &[String]) -> ExitCode {
    let sleep = || std::thread::sleep(Duration::from_secs(1000));
    match args.first().map(String::as_str) {
        Some("sleep") => sleep(),
        Some("stubborn") => {
            sys::signals::ignore(sys::Signal::SIGTERM).expect("to ignore");
            sleep();
        }
        Some("exit") => std::thread::sleep(Duration::from_millis(200)),
        // Leaves children behind that end later: PID 1's to reap.
        Some("orphans") => {
            for _ in 0..5 {
                Spawn::new("/usr/bin/orlop").argv(["unit", "exit"]).start().expect("a child");
            }
            return ExitCode::from(4);
        }
        Some("family") => {
            Spawn::new("/usr/bin/orlop").argv(["unit", "sleep"]).start().expect("a child");
            sleep();
        }
        Some("loud") => {
            let line = "x".repeat(99);
            for _ in 0..300_000 {
                println!("{line}");
            }
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}
