//! `init`: PID 1 of a node.
//!
//! It sets up the node's own mounts, starts and reaps processes, keeps their output in bounded files, and starts `machined` again whenever
//! that ends. It does so in one loop that waits for descriptors and never for anything else. It has no async runtime and parses nothing
//! from outside but the packets of `machined` (root only). It must never end: a panic in a turn of the loop costs that turn.
//!
//! Policy lives in machines without IO: [`brain`] (when to start `machined` again) and [`ending`] (the way down). [`units`] holds the
//! processes, [`logs`] their output, [`protocol`] what is said, and [`client`] is the other end, for `machined`.

mod brain;
pub mod client;
mod ending;
mod logs;
pub mod protocol;
pub mod setup;
mod units;

use std::{
    io::Write,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sys::{
    Signal,
    poll::{self, Interest},
    power, process,
    seqpacket::{Listener, Received, Socket},
    signals::Signals,
};

use self::{
    brain::Brain,
    ending::{Do, Happened, Stage},
    logs::{Logs, Places},
    protocol::{End, Event, FromInit, LogPlace, MAX_MESSAGE, Refusal, Reply, Request, ToInit, UnitSpec},
    units::Units,
};

/// The unit that runs the node's brain.
const BRAIN: &str = "machined";
/// How much of `machined`'s last output is kept to show why it fails.
const TAIL: usize = 4096;

/// Runs PID 1. Comes back only when it is not PID 1 or cannot read signals.
pub fn run() -> std::process::ExitCode {
    if std::process::id() != 1 {
        eprintln!(
            "init: this is process {}, and init is for process 1: it is started by a node's keeper, a container engine or the kernel",
            std::process::id()
        );
        return std::process::ExitCode::from(2);
    }
    // The console may be a pipe that nobody reads.
    let _ = poll::never_block(std::io::stderr());
    // Children inherit no mask (see `sys::spawn`), the log thread inherits this one.
    let signals = match Signals::block(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR, Signal::SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            console(&format!("cannot run: {error}"));
            return std::process::ExitCode::FAILURE;
        }
    };
    let _ = sys::signals::ignore(Signal::SIGPIPE);
    let mut init = Init::start(signals);
    loop {
        let turn = catch_unwind(AssertUnwindSafe(|| init.turn()));
        if turn.is_err() {
            console("a turn of the loop panicked; going on");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Writes a line to the console, as much of it as the console takes.
fn console(line: &str) {
    let _ = std::io::stderr().write_all(format!("[init] {line}\n").as_bytes());
}

struct Init {
    signals: Signals,
    listener: Option<Listener>,
    /// The `machined` we talk to.
    peer: Option<Socket>,
    units: Units,
    logs: Logs,
    container: bool,
    brain: Brain,
    /// When to start `machined`, when it does not run.
    brain_due: Option<Instant>,
    tail: Vec<u8>,
    stage: Stage,
    released: Arc<AtomicBool>,
}

impl Init {
    fn start(signals: Signals) -> Init {
        let setup = setup::run();
        for problem in &setup.problems {
            console(problem);
        }
        if !setup.container
            && let Err(error) = power::catch_ctrl_alt_del()
        {
            console(&error.to_string());
        }
        let place = if setup.container { LogPlace::Var } else { LogPlace::Run };
        Init {
            signals,
            listener: None,
            peer: None,
            units: Units::new(setup.layout),
            logs: Logs::start(Places::default(), place),
            container: setup.container,
            brain: Brain::default(),
            brain_due: Some(Instant::now()),
            tail: Vec::new(),
            stage: Stage::Up,
            released: Arc::default(),
        }
    }

    fn say(&mut self, line: &str) {
        console(line);
        self.logs.write(&"init".into(), format!("{line}\n").as_bytes());
    }

    /// One turn: wait for something, deal with all of it.
    fn turn(&mut self) {
        self.listen();
        self.start_brain();
        self.wait();
        self.take_signals();
        self.reap();
        self.drain();
        self.accept();
        self.converse();
        self.go_down();
    }

    fn listen(&mut self) {
        if self.listener.is_some() {
            return;
        }
        match Listener::bind(Path::new(protocol::SOCKET), 0o600) {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => {
                // Without it `machined` is mute: said once a second, since there is nothing else to do.
                console(&error.to_string());
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }

    fn wait(&self) {
        let mut fds = vec![(self.signals.as_fd(), Interest::Read)];
        fds.extend(self.listener.as_ref().map(|listener| (listener.as_fd(), Interest::Read)));
        fds.extend(self.peer.as_ref().map(|peer| (peer.as_fd(), Interest::Read)));
        fds.extend(self.units.outputs().into_iter().map(|output| (output, Interest::Read)));
        let now = Instant::now();
        let due = [self.brain_due, self.stage.wake(now)].into_iter().flatten().min();
        let timeout = due.map_or(Duration::from_secs(60), |due| due.saturating_duration_since(now));
        if poll::wait(&fds, Some(timeout)).is_err() {
            // Out of memory for the kernel: go round all the same, slowly.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some((signal, _))) = self.signals.take() {
            let how = match signal {
                Signal::SIGTERM | Signal::SIGPWR => End::PowerOff,
                // On a machine this is Ctrl-Alt-Del.
                Signal::SIGINT if self.container => End::PowerOff,
                Signal::SIGINT => End::Reboot,
                _ => continue,
            };
            self.say(&format!("{signal}: {how:?} asked for"));
            self.down(Happened::Asked(how, self.peer.is_some()));
        }
    }

    fn reap(&mut self) {
        while let Some((pid, exit)) = process::reap() {
            let at_ms = units::now_ms();
            let Some(unit) = self.units.ended(pid, exit, at_ms) else { continue };
            // Its last words first.
            self.drain();
            if unit == BRAIN {
                self.brain_failed(exit);
            } else {
                self.tell(&FromInit::Event(Event::Exited { unit, pid, exit, at_ms }));
            }
        }
    }

    fn drain(&mut self) {
        let (logs, tail) = (&mut self.logs, &mut self.tail);
        self.units.drain(|unit, log, bytes| {
            logs.write(log, bytes);
            if unit == BRAIN {
                let _ = std::io::stderr().write_all(bytes);
                tail.extend_from_slice(bytes);
                let excess = tail.len().saturating_sub(TAIL);
                tail.drain(..excess);
            }
        });
    }

    fn brain_failed(&mut self, exit: process::Exit) {
        self.peer = None;
        if self.stage.ending() {
            return;
        }
        // It had been told to stop everything and is gone: the rest is ours.
        if let Stage::Asked(how, _) = self.stage {
            self.say(&format!("machined ended ({exit}) while stopping the node"));
            return self.down(Happened::Requested(how));
        }
        let verdict = self.brain.failed(Instant::now());
        self.say(&format!("machined ended: {exit}; starting it again in {} ms", verdict.wait.as_millis()));
        self.brain_due = Some(Instant::now() + verdict.wait);
        if verdict.worn_out {
            let last = String::from_utf8_lossy(&self.tail).into_owned();
            self.say(&format!("machined failed five times within a minute. Its last words:\n{}", last.trim_end()));
            if !self.container {
                self.say("rebooting without marking this boot as good, so that the image before gets its turn");
                self.down(Happened::Requested(End::Reboot));
            }
        }
    }

    fn start_brain(&mut self) {
        if self.stage.ending() || self.brain_due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.brain_due = None;
        if self.units.runs(BRAIN) {
            return;
        }
        match self.units.spawn(brain_spec()) {
            Ok(started) => started.warnings.iter().for_each(|warning| console(warning)),
            Err(refusal) => {
                let verdict = self.brain.failed(Instant::now());
                self.say(&format!("cannot start machined: {refusal}; trying again in {} ms", verdict.wait.as_millis()));
                self.brain_due = Some(Instant::now() + verdict.wait.max(Duration::from_millis(200)));
            }
        }
    }

    fn accept(&mut self) {
        while let Some(Ok(Some(socket))) = self.listener.as_ref().map(Listener::accept) {
            // The socket's mode says the same; belt and braces for the one door to PID 1.
            match socket.peer() {
                Ok(peer) if peer.uid == 0 => self.peer = Some(socket),
                _ => console("a connection that is not root's was refused"),
            }
        }
    }

    /// Answers what `machined` asks, at most a few requests a turn.
    fn converse(&mut self) {
        for _ in 0..16 {
            match self.peer.as_ref().map(|peer| peer.receive(MAX_MESSAGE)) {
                None | Some(Ok(Received::Nothing)) => return,
                Some(Ok(Received::Message(bytes, _))) => self.answer(&bytes),
                Some(Ok(Received::Closed)) => self.peer = None,
                Some(Err(error)) => {
                    console(&format!("the connection of machined is closed: {error}"));
                    self.peer = None;
                }
            }
        }
    }

    fn answer(&mut self, bytes: &[u8]) {
        let Ok(ToInit { number, request }) = postcard::from_bytes(bytes) else {
            // The number stands first, whatever the rest is.
            let number = postcard::take_from_bytes::<u64>(bytes).map_or(0, |(number, _)| number);
            return self.tell(&FromInit::Reply(number, Reply::Refused(Refusal::NotUnderstood)));
        };
        let done = |result: Result<(), Refusal>| result.map_or_else(Reply::Refused, |()| Reply::Done);
        let reply = match request {
            Request::List => Reply::Units(self.units.list()),
            Request::Spawn(spec) => return self.spawn(number, *spec),
            Request::Signal { unit, signal, everyone } => done(self.units.signal(&unit, signal, everyone)),
            Request::Forget { unit } => done(self.units.forget(&unit)),
            Request::Logs(place) => {
                if self.logs.place(place) {
                    Reply::Done
                } else {
                    Reply::Refused(Refusal::Failed("the log writer is busy: try again".into()))
                }
            }
            Request::End(how) => {
                self.say(&format!("machined asks for {how:?}"));
                self.tell(&FromInit::Reply(number, Reply::Done));
                return self.down(Happened::Requested(how));
            }
        };
        self.tell(&FromInit::Reply(number, reply));
    }

    fn spawn(&mut self, number: u64, spec: UnitSpec) {
        if self.stage.ending() {
            return self.tell(&FromInit::Reply(number, Reply::Refused(Refusal::Ending)));
        }
        match self.units.spawn(spec) {
            Ok(started) => {
                let reply = Reply::Started { process: started.process, warnings: started.warnings };
                self.tell(&FromInit::Reply(number, reply));
            }
            Err(refusal) => self.tell(&FromInit::Reply(number, Reply::Refused(refusal))),
        }
    }

    /// Sends to `machined`. One that does not read is cut off: it connects and lists again.
    fn tell(&mut self, packet: &FromInit) {
        if self.peer.as_ref().is_some_and(|peer| !send(peer, packet)) {
            console("machined does not read what init tells; its connection is closed");
            self.peer = None;
        }
    }

    fn go_down(&mut self) {
        if self.stage == Stage::Up {
            return;
        }
        // Everything in a PID namespace, or on a machine everything at all, but kernel threads (children of process 2).
        let alone = self.stage.ending() && process::all().iter().all(|process| process.pid <= 2 || process.parent == 2);
        self.down(Happened::Tick { alone, released: self.released.load(Ordering::Acquire) });
    }

    fn down(&mut self, happened: Happened) {
        let (stage, act) = self.stage.step(happened, Instant::now());
        self.stage = stage;
        match act {
            None => {}
            Some(Do::Tell(how)) => self.tell(&FromInit::Event(Event::EndAsked(how))),
            Some(Do::Terminate) => self.signal_everyone(Signal::SIGTERM),
            Some(Do::Kill) => self.signal_everyone(Signal::SIGKILL),
            Some(Do::Release) => self.release(),
            Some(Do::Finish(how)) => self.finish(how),
        }
    }

    fn signal_everyone(&mut self, signal: Signal) {
        if let Err(error) = process::signal_everyone(signal) {
            self.say(&error.to_string());
            self.units.signal_all(signal);
        }
    }

    /// Lets go of file systems, in a thread, since a dead disk may hold it for ever.
    fn release(&mut self) {
        // In a container the mounts go with the namespace, and the host's kernel keeps what was written.
        if self.container {
            return self.released.store(true, Ordering::Release);
        }
        self.logs.place(LogPlace::Run);
        let released = self.released.clone();
        let thread = std::thread::Builder::new().name("release".into()).spawn(move || {
            power::sync();
            for mounted in sys::mount::MountInfo::all().unwrap_or_default().iter().rev() {
                if !["/", "/dev", "/proc", "/sys", "/run"].iter().any(|kept| mounted.target == Path::new(kept)) {
                    let _ = sys::mount::unmount(&mounted.target, false);
                }
            }
            power::sync();
            released.store(true, Ordering::Release);
        });
        if thread.is_err() {
            self.released.store(true, Ordering::Release);
        }
    }

    fn finish(&mut self, how: End) {
        self.say(&format!("{how:?}"));
        let error = power::end(how);
        // A container engine may have kept CAP_SYS_BOOT from us: then the exit code must do, and an engine that restarts on failure
        // reboots.
        console(&error.to_string());
        std::process::exit(i32::from(how == End::Reboot));
    }
}

fn send(peer: &Socket, packet: &FromInit) -> bool {
    match postcard::to_stdvec(packet) {
        Ok(bytes) => peer.send(&bytes, &[]).unwrap_or(false),
        Err(error) => {
            console(&format!("a packet cannot be encoded: {error}"));
            true
        }
    }
}

/// `machined` gets all of our environment: in container mode its configuration is there.
fn brain_spec() -> UnitSpec {
    let program = ["/usr/bin/machined", "/usr/bin/orlop"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("/proc/self/exe");
    let mut env: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect();
    if !env.iter().any(|(key, _)| key == "PATH") {
        env.push(("PATH".into(), "/usr/bin:/usr/sbin:/bin:/sbin".into()));
    }
    UnitSpec {
        id: BRAIN.into(),
        program: program.into(),
        argv: vec![BRAIN.into()],
        env,
        cgroup: Some("system/machined".into()),
        oom_score_adj: Some(-999),
        ..UnitSpec::default()
    }
}
