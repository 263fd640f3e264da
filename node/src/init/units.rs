//! The table of units: what was started, what became of it, and the ends of its output.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sys::{
    Signal,
    cgroup::{Group, Layout},
    process::{Exit, PidFd, ProcessRef},
    spawn::{Child, Spawn, Stdio, output_pipe},
};

use super::protocol::{Refusal, UnitSpec, UnitStatus, valid_id};

/// Far more than a node has.
const MOST_UNITS: usize = 200;
/// A restarted unit whose old children still hold its old output keeps at most this many pipes.
const MOST_OUTPUTS: usize = 8;

/// A unit that runs or ran.
struct Unit {
    spec: UnitSpec,
    process: ProcessRef,
    pidfd: PidFd,
    started_ms: u64,
    ended: Option<(Exit, u64)>,
    outputs: Vec<File>,
    log: Arc<str>,
}

/// All units.
pub struct Units {
    all: BTreeMap<String, Unit>,
    layout: Option<Layout>,
}

/// Milliseconds of Unix time.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A unit that was just started.
pub struct StartedUnit {
    pub process: ProcessRef,
    pub warnings: Vec<String>,
}

impl Units {
    pub fn new(layout: Option<Layout>) -> Units {
        Units { all: BTreeMap::new(), layout }
    }

    /// Starts a unit.
    pub fn spawn(&mut self, spec: UnitSpec) -> Result<StartedUnit, Refusal> {
        self.check(&spec)?;
        let (reader, writer) = output_pipe().map_err(failed)?;
        let second = writer.try_clone().map_err(failed)?;
        let mut spawn = Spawn::new(&spec.program)
            .argv(&spec.argv)
            .cwd(spec.cwd.as_deref().unwrap_or("/"))
            .new_session()
            .stdout(Stdio::Fd(writer))
            .stderr(Stdio::Fd(second));
        for (key, value) in &spec.env {
            spawn = spawn.env(key, value);
        }
        for limit in &spec.limits {
            spawn = spawn.limit(*limit);
        }
        if let Some(score) = spec.oom_score_adj {
            spawn = spawn.oom_score_adj(score);
        }
        if let Some(user) = &spec.user {
            spawn = spawn.user(user.clone());
        }
        if spec.no_new_privs {
            spawn = spawn.no_new_privs();
        }
        let mut warnings = Vec::new();
        if let Some(group) = self.group(&spec) {
            // A node without control groups still runs its units.
            match group.create() {
                Ok(()) => spawn = spawn.cgroups(group.dirs()),
                Err(error) => warnings.push(error.to_string()),
            }
        }
        let child = spawn.start().map_err(failed)?;
        warnings.extend(child.warnings.iter().cloned());
        Ok(self.enter(spec, child, reader, warnings))
    }

    fn enter(&mut self, spec: UnitSpec, child: Child, reader: File, warnings: Vec<String>) -> StartedUnit {
        // Unreaped, it has an entry in /proc even if it has ended already.
        let process = ProcessRef::of(child.pid).unwrap_or(ProcessRef { pid: child.pid, start: 0, boot: String::new() });
        let mut outputs = self.all.remove(&spec.id).map(|old| old.outputs).unwrap_or_default();
        outputs.push(reader);
        if outputs.len() > MOST_OUTPUTS {
            outputs.remove(0);
        }
        let log = spec.log.as_deref().unwrap_or(&spec.id).into();
        let unit = Unit { process: process.clone(), pidfd: child.pidfd, started_ms: now_ms(), ended: None, outputs, log, spec };
        self.all.insert(unit.spec.id.clone(), unit);
        StartedUnit { process, warnings }
    }

    fn check(&self, spec: &UnitSpec) -> Result<(), Refusal> {
        let invalid = |why: String| Err(Refusal::Invalid(why));
        for name in [Some(&spec.id), spec.log.as_ref()].into_iter().flatten() {
            if !valid_id(name) {
                return invalid(format!(
                    "{name:?} cannot name a unit or its log: letters, digits, '-', '_' and '.', at most 64, not starting with '.'"
                ));
            }
        }
        if !spec.program.starts_with('/') || spec.argv.is_empty() {
            return invalid(format!(
                "unit {}: the program must be an absolute path with at least argv[0] (found {:?}, {} arguments)",
                spec.id,
                spec.program,
                spec.argv.len()
            ));
        }
        let steps_out =
            |path: &String| path.is_empty() || path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if spec.cgroup.as_ref().is_some_and(steps_out) {
            return invalid(format!(
                "unit {}: the control group must be a relative path without '.' and '..' (found {:?})",
                spec.id, spec.cgroup
            ));
        }
        if let Some(unit) = self.all.get(&spec.id)
            && unit.ended.is_none()
        {
            return Err(Refusal::Running(unit.process.pid));
        }
        if !self.all.contains_key(&spec.id) && self.all.len() >= MOST_UNITS {
            return invalid(format!("there are {MOST_UNITS} units already, the most there can be: forget some"));
        }
        Ok(())
    }

    fn group(&self, spec: &UnitSpec) -> Option<Group> {
        Some(self.layout.as_ref()?.group(spec.cgroup.as_ref()?))
    }

    /// Sends a signal to a unit's process, or to everyone in its control group (also when the main process has ended).
    pub fn signal(&self, id: &str, signal: i32, everyone: bool) -> Result<(), Refusal> {
        let unit = self.all.get(id).ok_or(Refusal::NotRunning)?;
        let group = if everyone { self.group(&unit.spec) } else { None };
        let mut reached = unit.ended.is_none() && unit.pidfd.signal_raw(signal).map_err(failed)?;
        for pid in group.iter().flat_map(Group::processes).filter(|pid| *pid != unit.process.pid && *pid > 1) {
            if let Ok(pidfd) = PidFd::open(pid) {
                reached |= pidfd.signal_raw(signal).unwrap_or(false);
            }
        }
        if reached { Ok(()) } else { Err(Refusal::NotRunning) }
    }

    /// Forgets a unit that has ended.
    pub fn forget(&mut self, id: &str) -> Result<(), Refusal> {
        match self.all.get(id) {
            Some(unit) if unit.ended.is_none() => Err(Refusal::Running(unit.process.pid)),
            _ => {
                self.all.remove(id);
                Ok(())
            }
        }
    }

    /// Notes that process `pid` ended; gives the unit it was.
    pub fn ended(&mut self, pid: i32, exit: Exit, at_ms: u64) -> Option<String> {
        let unit = self.all.values_mut().find(|unit| unit.ended.is_none() && unit.process.pid == pid)?;
        unit.ended = Some((exit, at_ms));
        Some(unit.spec.id.clone())
    }

    /// The state of all.
    pub fn list(&self) -> Vec<UnitStatus> {
        let status = |unit: &Unit| UnitStatus {
            id: unit.spec.id.clone(),
            process: unit.process.clone(),
            started_ms: unit.started_ms,
            ended: unit.ended,
            cgroup: unit.spec.cgroup.clone(),
            note: unit.spec.note.clone(),
        };
        self.all.values().map(status).collect()
    }

    /// True while the unit runs.
    pub fn runs(&self, id: &str) -> bool {
        self.all.get(id).is_some_and(|unit| unit.ended.is_none())
    }

    /// All open outputs.
    pub fn outputs(&self) -> Vec<BorrowedFd<'_>> {
        self.all.values().flat_map(|unit| &unit.outputs).map(AsFd::as_fd).collect()
    }

    /// Reads what there is to read, at most a few pieces of each output, and hands it on as unit, log and bytes.
    pub fn drain(&mut self, mut take: impl FnMut(&str, &Arc<str>, &[u8])) {
        let mut buffer = [0u8; 16 * 1024];
        for unit in self.all.values_mut() {
            let (id, log) = (&unit.spec.id, &unit.log);
            unit.outputs.retain_mut(|output| {
                for _ in 0..4 {
                    match output.read(&mut buffer) {
                        Ok(0) => return false,
                        Ok(count) => take(id, log, &buffer[..count]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(_) => return false,
                    }
                }
                true
            });
        }
    }

    /// Sends a signal to every unit; outside of PID 1's own namespace (tests) the only way to reach them.
    pub fn signal_all(&self, signal: Signal) {
        for unit in self.all.values().filter(|unit| unit.ended.is_none()) {
            let _ = unit.pidfd.signal(signal);
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn spec(id: &str, script: &str) -> UnitSpec {
        UnitSpec { id: id.into(), program: "/bin/sh".into(), argv: vec!["sh".into(), "-c".into(), script.into()], ..UnitSpec::default() }
    }

    fn wait(units: &mut Units, id: &str) -> Exit {
        let begin = Instant::now();
        loop {
            assert!(begin.elapsed() < Duration::from_secs(10));
            let unit = &units.all[id];
            if let Some(exit) = unit.pidfd.wait(Duration::from_millis(100)).unwrap() {
                let pid = unit.process.pid;
                assert_eq!(units.ended(pid, exit, 1).as_deref(), Some(id));
                return exit;
            }
        }
    }

    fn text(units: &mut Units) -> String {
        let mut all = String::new();
        let begin = Instant::now();
        while !units.outputs().is_empty() && begin.elapsed() < Duration::from_secs(10) {
            units.drain(|_, _, bytes| all.push_str(&String::from_utf8_lossy(bytes)));
            std::thread::sleep(Duration::from_millis(5));
        }
        all
    }

    #[test]
    fn a_unit_runs_ends_is_listed_and_replaced() {
        let mut units = Units::new(None);
        let started = units.spawn(spec("one", "echo out; echo err >&2; exit 3")).unwrap();
        assert!(started.warnings.is_empty(), "{:?}", started.warnings);
        assert_eq!(wait(&mut units, "one"), Exit::Code(3));
        assert_eq!(text(&mut units), "out\nerr\n");
        let list = units.list();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].ended, Some((Exit::Code(3), 1)));
        assert_eq!(list[0].process, started.process);

        let again = units.spawn(spec("one", "sleep 60")).unwrap();
        assert_eq!(units.spawn(spec("one", "true")).err(), Some(Refusal::Running(again.process.pid)));
        assert_eq!(units.forget("one"), Err(Refusal::Running(again.process.pid)));
        assert!(units.runs("one"));
        units.signal("one", 9, false).unwrap();
        assert_eq!(wait(&mut units, "one"), Exit::Signal(9));
        assert_eq!(units.signal("one", 9, false), Err(Refusal::NotRunning));
        units.forget("one").unwrap();
        units.forget("one").unwrap();
        assert!(units.list().is_empty());
    }

    #[test]
    fn specifications_that_cannot_be_are_refused_in_words() {
        let mut units = Units::new(None);
        let cases = [
            (UnitSpec { id: "../x".into(), ..spec("x", "true") }, "cannot name"),
            (UnitSpec { log: Some("a/b".into()), ..spec("x", "true") }, "cannot name"),
            (UnitSpec { program: "sh".into(), ..spec("x", "true") }, "absolute path"),
            (UnitSpec { argv: vec![], ..spec("x", "true") }, "argv[0]"),
            (UnitSpec { cgroup: Some("../host".into()), ..spec("x", "true") }, "control group"),
            (UnitSpec { cgroup: Some("/host".into()), ..spec("x", "true") }, "control group"),
            (UnitSpec { program: "/no/such".into(), ..spec("x", "true") }, "/no/such"),
            (UnitSpec { argv: vec!["a\0b".into()], ..spec("x", "true") }, "zero byte"),
        ];
        for (spec, word) in cases {
            let error = units.spawn(spec.clone()).err().map(|refusal| refusal.to_string()).unwrap_or_default();
            assert!(error.contains(word), "{spec:?}: {error:?}");
        }
        assert!(units.list().is_empty());
    }

    #[test]
    fn a_flood_of_output_is_read_in_pieces_and_a_closed_output_goes() {
        let mut units = Units::new(None);
        units.spawn(spec("loud", "head -c 1000000 /dev/zero")).unwrap();
        let mut most = 0;
        let mut sum = 0;
        let begin = Instant::now();
        while !units.outputs().is_empty() && begin.elapsed() < Duration::from_secs(10) {
            let mut round = 0;
            units.drain(|id, log, bytes| {
                assert_eq!((id, &**log), ("loud", "loud"));
                round += bytes.len();
            });
            most = most.max(round);
            sum += round;
        }
        assert_eq!(sum, 1_000_000);
        assert!(most <= 4 * 16 * 1024);
        assert_eq!(wait(&mut units, "loud"), Exit::Code(0));
    }
}
