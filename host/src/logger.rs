//! The applet `orlop-log`: containerd's shim starts it for each service container and gives it the container's output.
//!
//! It writes what comes into the service's bounded log, so nothing blocks when `machined` is gone. File descriptors by the shim's
//! contract for `binary://` loggers: 3 is the container's stdout, 4 its stderr, 5 is closed by us when we are ready.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::logs::{BoundedLog, LIMIT};

/// Copies both streams into the log until they end.
///
/// # Errors
/// When the log cannot be opened.
pub fn run(
    service: &str,
    directory: &Path,
    stdout: impl Read + Send + 'static,
    stderr: impl Read + Send + 'static,
    ready: std::fs::File,
) -> std::io::Result<()> {
    let log = BoundedLog::open(&directory.join(format!("{service}.log")), LIMIT)?;
    let log = Arc::new(Mutex::new(log));
    drop(ready);
    let other = log.clone();
    let thread = std::thread::spawn(move || copy(stderr, &other));
    copy(stdout, &log);
    let _ = thread.join();
    Ok(())
}

/// Copies whole reads; a log that cannot be written (the disk is full) must not stop the container, so its output is dropped then.
fn copy(mut from: impl Read, log: &Mutex<BoundedLog>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(size) => {
                let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write(&buffer[..size]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
