//! Programs with a deadline, and waiting for what must come true.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

impl Said {
    /// Its standard output, when it ended with success.
    pub fn success(self) -> anyhow::Result<String> {
        if self.code == Some(0) {
            return Ok(self.out);
        }
        let code = self.code.map_or_else(|| "by a signal".to_owned(), |c| format!("with exit code {c}"));
        bail!(
            "ended {code}: {}{}",
            self.err.trim(),
            if self.out.trim().is_empty() { String::new() } else { format!("; it had printed: {}", self.out.trim()) }
        )
    }
}

/// Reads all that a program prints, so that it never waits for a reader.
pub fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for a child until the deadline; kills it then.
pub fn finish(mut child: Child, what: &str, limit: Duration) -> anyhow::Result<Said> {
    let out = child.stdout.take().map(reader);
    let err = child.stderr.take().map(reader);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{what}: not done within {} s", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    };
    let text = |handle: Option<thread::JoinHandle<String>>| handle.and_then(|h| h.join().ok()).unwrap_or_default();
    Ok(Said { out: text(out), err: text(err), code: status.code() })
}

/// Starts a program whose output is collected.
pub fn start(command: &mut Command) -> anyhow::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().with_context(|| format!("starting {}", command.get_program().display()))
}

/// Runs a program to its end.
pub fn run(command: &mut Command, limit: Duration) -> anyhow::Result<Said> {
    let what = describe(command);
    finish(start(command)?, &what, limit)
}

/// The program and its arguments, for people.
pub fn describe(command: &Command) -> String {
    let name = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(name).chain(command.get_args()).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Tries until it succeeds; the last failure when it does not in time.
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error.context(format!("waited {} s for {what}", limit.as_secs()))),
            Err(_) => thread::sleep(Duration::from_millis(250)),
        }
    }
}
