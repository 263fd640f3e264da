//! Log files: written within a bound, read from the end, followed as they grow.
//!
//! A log is `NAME.log` and, once that was full, `NAME.log.1`, so it takes at most twice its limit. Followers share one inotify instance,
//! because a host may allow as few as 128 of them to all its containers together.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::{broadcast, mpsc};

/// How large a log file may grow before it is rotated away, in bytes.
pub const LIMIT: u64 = 4 << 20;
/// The largest piece a reader gets at once, in bytes.
const CHUNK: usize = 32 << 10;

/// A log file that is never larger than its limit.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    limit: u64,
    file: File,
    size: u64,
}

impl BoundedLog {
    /// Opens the log for appending; makes it where it is missing.
    ///
    /// # Errors
    /// When the file cannot be opened or made.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limit, file, size })
    }

    /// Appends; rotates first when the file would grow over its limit.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let more = bytes.len() as u64;
        if self.size > 0 && self.size + more > self.limit {
            std::fs::rename(&self.path, rotated(&self.path))?;
            *self = Self::open(&self.path, self.limit)?;
        }
        self.file.write_all(bytes)?;
        self.size += more;
        Ok(())
    }
}

/// Where the older part of a log is.
fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Where in a file the last `lines` lines begin. A missing newline at the end counts as a line.
fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut buffer = vec![0; CHUNK];
    let mut found = 0;
    let mut last_byte = true;
    while end > 0 {
        let size = end.min(CHUNK as u64);
        let start = end - size;
        let part = &mut buffer[..usize::try_from(size).unwrap_or(CHUNK)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for (index, byte) in part.iter().enumerate().rev() {
            if *byte == b'\n' && !last_byte {
                found += 1;
                if found == lines {
                    return Ok(start + index as u64 + 1);
                }
            }
            last_byte = false;
        }
        end = start;
    }
    Ok(0)
}

/// Tells followers which directories changed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Watcher {
    inotify: Arc<Inotify>,
    changes: broadcast::Sender<()>,
    directories: Arc<Mutex<Vec<PathBuf>>>,
}

impl Watcher {
    /// Starts the one watcher of this process.
    ///
    /// # Errors
    /// When the host allows no further inotify instance.
    pub fn start() -> io::Result<Self> {
        let watcher = Self {
            inotify: Arc::new(Inotify::init(InitFlags::IN_CLOEXEC)?),
            changes: broadcast::channel(64).0,
            directories: Arc::default(),
        };
        let (inotify, changes) = (watcher.inotify.clone(), watcher.changes.clone());
        // A thread of its own that sleeps in read(2); it lives as long as the process, as the watcher does.
        std::thread::Builder::new().name("log-watcher".into()).spawn(move || pump(&inotify, &changes))?;
        Ok(watcher)
    }

    fn watch(&self, directory: &Path) -> io::Result<broadcast::Receiver<()>> {
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if !directories.iter().any(|d| d == directory) {
            let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
            self.inotify.add_watch(directory, flags)?;
            directories.push(directory.to_owned());
        }
        Ok(self.changes.subscribe())
    }
}

fn pump(inotify: &Inotify, changes: &broadcast::Sender<()>) {
    loop {
        match inotify.read_events() {
            Ok(_) => drop(changes.send(())),
            Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::error!(%error, "cannot watch log files any more; followers see nothing new");
                return;
            }
        }
    }
}

/// Streams a log: its last `tail` lines (all without), and then, when `follow` is set, what is added, until the receiver is dropped.
///
/// # Errors
/// When the log cannot be opened; later failures end the stream with the error.
pub fn stream(watcher: &Watcher, path: &Path, tail: Option<u64>, follow: bool) -> io::Result<mpsc::Receiver<io::Result<Vec<u8>>>> {
    let mut file = File::open(path)?;
    let older = rotated(path);
    let mut parts = Vec::new();
    match tail {
        Some(lines) => {
            let offset = if lines == 0 { file.metadata()?.len() } else { tail_offset(&mut file, lines)? };
            file.seek(SeekFrom::Start(offset))?;
        }
        None => {
            if let Ok(file) = File::open(older) {
                parts.push(file);
            }
            file.rewind()?;
        }
    }
    let changes = if follow { path.parent().map(|d| watcher.watch(d)).transpose()? } else { None };
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(pour(path.to_owned(), parts, file, changes, sender));
    Ok(receiver)
}

async fn pour(
    path: PathBuf,
    older: Vec<File>,
    mut file: File,
    changes: Option<broadcast::Receiver<()>>,
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
) {
    for mut part in older {
        if !drain(&mut part, &sender).await {
            return;
        }
    }
    if !drain(&mut file, &sender).await {
        return;
    }
    let Some(mut changes) = changes else { return };
    loop {
        tokio::select! {
            () = sender.closed() => return,
            change = changes.recv() => if matches!(change, Err(broadcast::error::RecvError::Closed)) { return },
        }
        if !drain(&mut file, &sender).await {
            return;
        }
        if let Some(next) = successor(&path, &file) {
            file = next;
            if !drain(&mut file, &sender).await {
                return;
            }
        }
    }
}

/// The file that now stands at the path, when the open one was rotated away.
fn successor(path: &Path, open: &File) -> Option<File> {
    let here = std::fs::metadata(path).ok()?;
    let ours = open.metadata().ok()?;
    if here.ino() == ours.ino() && here.dev() == ours.dev() { None } else { File::open(path).ok() }
}

/// Sends the rest of the file; false when nobody reads any more or it cannot be read.
async fn drain(file: &mut File, sender: &mpsc::Sender<io::Result<Vec<u8>>>) -> bool {
    loop {
        let mut buffer = vec![0; CHUNK];
        match file.read(&mut buffer) {
            Ok(0) => return true,
            Ok(size) => {
                buffer.truncate(size);
                if sender.send(Ok(buffer)).await.is_err() {
                    return false;
                }
            }
            Err(error) => {
                let _ = sender.send(Err(error)).await;
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    async fn text(mut receiver: mpsc::Receiver<io::Result<Vec<u8>>>) -> String {
        let mut all = Vec::new();
        while let Some(part) = receiver.recv().await {
            all.extend(part.unwrap());
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_log_stays_within_twice_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut log = BoundedLog::open(&path, 100).unwrap();
        for n in 0..100 {
            log.write(format!("line {n:03}\n").as_bytes()).unwrap();
        }
        let (now, before) = (std::fs::read_to_string(&path).unwrap(), std::fs::read_to_string(rotated(&path)).unwrap());
        assert!(now.len() <= 100 && before.len() <= 100);
        assert!(now.ends_with("line 099\n"));
        // Eleven lines of nine bytes fit in a file: 99 starts the tenth file, 88 to 98 are in the one before.
        assert!(before.starts_with("line 088\n"), "{before}");
    }

    #[tokio::test]
    async fn the_tail_counts_lines_from_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let watcher = Watcher::start().unwrap();
        write(&path, "one\ntwo\nthree\n");
        for (lines, expected) in
            [(Some(1), "three\n"), (Some(2), "two\nthree\n"), (Some(9), "one\ntwo\nthree\n"), (Some(0), ""), (None, "one\ntwo\nthree\n")]
        {
            assert_eq!(text(stream(&watcher, &path, lines, false).unwrap()).await, expected, "{lines:?}");
        }
        write(&path, "no newline yet");
        assert_eq!(text(stream(&watcher, &path, Some(1), false).unwrap()).await, "no newline yet");
    }

    #[tokio::test]
    async fn a_long_tail_spans_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let line = "x".repeat(1000) + "\n";
        write(&path, &line.repeat(100));
        let watcher = Watcher::start().unwrap();
        assert_eq!(text(stream(&watcher, &path, Some(70), false).unwrap()).await.len(), 70 * 1001);
    }

    #[tokio::test]
    async fn a_follower_sees_what_is_added_also_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let watcher = Watcher::start().unwrap();
        let mut log = BoundedLog::open(&path, 20).unwrap();
        log.write(b"before\n").unwrap();
        let mut receiver = stream(&watcher, &path, Some(0), true).unwrap();
        let mut seen = String::new();
        for n in 0..6 {
            log.write(format!("after {n}\n").as_bytes()).unwrap();
            let part = tokio::time::timeout(std::time::Duration::from_secs(5), receiver.recv()).await.unwrap().unwrap().unwrap();
            seen += std::str::from_utf8(&part).unwrap();
        }
        assert_eq!(seen, "after 0\nafter 1\nafter 2\nafter 3\nafter 4\nafter 5\n");
    }
}
