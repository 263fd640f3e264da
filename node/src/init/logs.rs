//! Bounded files for the output of units.
//!
//! Writing to a disk may take as long as the disk takes, and PID 1 must not wait: a thread writes, and a bounded channel leads to it. When
//! the channel is full, output is dropped and counted, and the count is written in its place. Each log has one rotation (`NAME.log.1`).

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use host::logs::BoundedLog;

use super::protocol::LogPlace;

/// How many pieces of output may wait.
const WAITING: usize = 512;

/// Where logs are and how long one may grow, in bytes.
#[derive(Debug, Clone)]
pub struct Places {
    /// The lasting place.
    pub var: PathBuf,
    /// The limit there.
    pub var_limit: u64,
    /// The place in memory.
    pub run: PathBuf,
    /// The limit there.
    pub run_limit: u64,
}

impl Default for Places {
    fn default() -> Self {
        Places { var: "/var/log".into(), var_limit: 8 << 20, run: "/run/log".into(), run_limit: 256 << 10 }
    }
}

enum Item {
    Output(Arc<str>, Vec<u8>),
    Place(LogPlace),
}

/// The way to the log files.
pub struct Logs {
    thread: Option<SyncSender<Item>>,
    dropped: HashMap<Arc<str>, usize>,
}

impl Logs {
    /// Starts the writing thread. Without one (no memory at all) output is dropped.
    pub fn start(places: Places, place: LogPlace) -> Logs {
        let (thread, items) = sync_channel(WAITING);
        let started =
            std::thread::Builder::new().name("logs".into()).stack_size(128 << 10).spawn(move || Writer::new(places, place).run(&items));
        Logs { thread: started.is_ok().then_some(thread), dropped: HashMap::new() }
    }

    /// Appends to the log `name`. Never waits.
    pub fn write(&mut self, name: &Arc<str>, bytes: &[u8]) {
        let Some(thread) = &self.thread else { return };
        let bytes = match self.dropped.get(name) {
            None => bytes.to_vec(),
            Some(count) => [format!("[{count} bytes of output were dropped here: the disk is too slow]\n").as_bytes(), bytes].concat(),
        };
        match thread.try_send(Item::Output(name.clone(), bytes)) {
            Ok(()) => drop(self.dropped.remove(name)),
            Err(TrySendError::Full(Item::Output(name, bytes))) => *self.dropped.entry(name).or_default() += bytes.len(),
            Err(_) => self.thread = None,
        }
    }

    /// Writes to another place from now on; false when the thread is too busy to be told.
    pub fn place(&mut self, place: LogPlace) -> bool {
        self.thread.as_ref().is_some_and(|thread| thread.try_send(Item::Place(place)).is_ok())
    }
}

struct Writer {
    places: Places,
    place: LogPlace,
    open: HashMap<Arc<str>, BoundedLog>,
}

impl Writer {
    fn new(places: Places, place: LogPlace) -> Writer {
        Writer { places, place, open: HashMap::new() }
    }

    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            match item {
                Item::Output(name, bytes) => self.output(&name, &bytes),
                Item::Place(place) => self.move_to(place),
            }
        }
    }

    /// A full or broken disk loses this piece, not the logs: the next piece tries again.
    fn output(&mut self, name: &Arc<str>, bytes: &[u8]) {
        if !self.open.contains_key(name) {
            let Some(log) = self.open_log(name) else { return };
            self.open.insert(name.clone(), log);
        }
        let done = match self.open.get_mut(name) {
            Some(log) => log.write(bytes),
            None => Ok(()),
        };
        if done.is_err() {
            self.open.remove(name);
        }
    }

    fn open_log(&self, name: &str) -> Option<BoundedLog> {
        let var = || open(&self.places.var, name, self.places.var_limit);
        let run = || open(&self.places.run, name, self.places.run_limit);
        match self.place {
            LogPlace::Var => var().or_else(|_| run()).ok(),
            LogPlace::Run => run().ok(),
        }
    }

    fn move_to(&mut self, place: LogPlace) {
        self.open.clear();
        self.place = place;
        if place == LogPlace::Var {
            self.carry_over();
        }
    }

    /// Appends what was logged to memory to the lasting logs.
    fn carry_over(&mut self) {
        let Ok(entries) = fs::read_dir(&self.places.run) else { return };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        // `NAME.log.1`, the older part, first.
        paths.sort_by_key(|path| !path.to_string_lossy().ends_with(".1"));
        for path in paths {
            let name = path.file_name().map(|name| name.to_string_lossy().trim_end_matches(".1").to_owned());
            let Some(name) = name.and_then(|name| name.strip_suffix(".log").map(str::to_owned)) else { continue };
            let Ok(bytes) = fs::read(&path) else { continue };
            let Ok(mut log) = open(&self.places.var, &name, self.places.var_limit) else { continue };
            if log.write(&bytes).is_ok() {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

fn open(dir: &Path, name: &str, limit: u64) -> io::Result<BoundedLog> {
    fs::create_dir_all(dir)?;
    BoundedLog::open(&dir.join(format!("{name}.log")), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &Path) -> Places {
        Places { var: dir.join("var"), var_limit: 100, run: dir.join("run"), run_limit: 50 }
    }

    #[test]
    fn a_log_never_holds_more_than_its_limit_and_one_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(places(dir.path()), LogPlace::Var);
        for number in 0..50 {
            writer.output(&"x".into(), format!("line {number:04}\n").as_bytes());
        }
        let read = |name: &str| fs::read_to_string(dir.path().join("var").join(name)).unwrap();
        assert!(read("x.log").len() <= 100 && read("x.log.1").len() <= 100);
        assert!(read("x.log").ends_with("line 0049\n"));
        assert_eq!(fs::read_dir(dir.path().join("var")).unwrap().count(), 2);
    }

    #[test]
    fn what_was_logged_before_var_was_there_is_carried_over_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(places(dir.path()), LogPlace::Run);
        for number in 0..7 {
            writer.output(&"x".into(), format!("early {number}\n").as_bytes());
        }
        assert!(dir.path().join("run/x.log.1").exists());
        writer.move_to(LogPlace::Var);
        writer.output(&"x".into(), b"late\n");
        let text = fs::read_to_string(dir.path().join("var/x.log")).unwrap();
        assert_eq!(text, "early 0\nearly 1\nearly 2\nearly 3\nearly 4\nearly 5\nearly 6\nlate\n");
        assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 0);
    }

    #[test]
    fn without_a_var_memory_takes_the_logs() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("var"), "not a directory").unwrap();
        let mut writer = Writer::new(places(dir.path()), LogPlace::Var);
        writer.output(&"x".into(), b"hello\n");
        assert_eq!(fs::read_to_string(dir.path().join("run/x.log")).unwrap(), "hello\n");
    }

    #[test]
    fn a_full_channel_drops_and_counts_and_never_waits() {
        let (thread, items) = sync_channel(1);
        let mut logs = Logs { thread: Some(thread), dropped: HashMap::new() };
        let name: Arc<str> = "x".into();
        logs.write(&name, b"one");
        logs.write(&name, b"two");
        logs.write(&name, b"three");
        let _ = items.recv();
        logs.write(&name, b"four");
        let Ok(Item::Output(_, bytes)) = items.recv() else { panic!("output expected") };
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with("dropped here: the disk is too slow]\nfour"), "{text}");
    }
}
