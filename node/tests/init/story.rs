//! What must be true of a booted node whatever happens to `machined`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use lab::{NodeCondition, NodeView, Provisioner, Request, namespaces::Namespaces};

const CLUSTER: &str = "pid-one";

struct Node {
    dir: tempfile::TempDir,
    port: u16,
}

type Story = fn(&Node);

pub(super) fn run(filter: Option<&str>) -> ExitCode {
    if !sys::host::is_root() {
        println!("skipped: booting PID 1 in namespaces needs root");
        return ExitCode::SUCCESS;
    }
    let stories: [(&str, Story); 7] = [
        ("the_node_is_set_up", the_node_is_set_up),
        ("units_outlive_machined", units_outlive_machined),
        ("machined_is_back_however_often_it_is_killed", machined_is_back_however_often_it_is_killed),
        ("orphans_are_reaped_and_families_signalled", orphans_are_reaped_and_families_signalled),
        ("logs_are_bounded", logs_are_bounded),
        ("the_end_comes_in_order_and_reboots_keep_state", the_end_comes_in_order_and_reboots_keep_state),
        ("a_broken_machined_is_shown_and_tried_again", a_broken_machined_is_shown_and_tried_again),
    ];
    for (name, story) in stories {
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let begin = Instant::now();
        let node = Node::boot();
        story(&node);
        node.clusters().destroy(CLUSTER).expect("to destroy");
        println!("story {name} ... ok ({:.1} s)", begin.elapsed().as_secs_f32());
    }
    ExitCode::SUCCESS
}

impl Node {
    fn boot() -> Node {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        for name in
            ["usr/bin", "usr/libexec/kubernetes", "proc", "sys", "dev", "run", "tmp", "system", "var", "etc/cni", "etc/kubernetes", "opt"]
        {
            fs::create_dir_all(root.join(name)).expect("a directory");
        }
        for file in ["etc/hostname", "etc/resolv.conf", "opt/shipped"] {
            fs::write(root.join(file), "shipped").expect("a file");
        }
        let me = std::env::current_exe().expect("own path");
        fs::copy(&me, root.join("usr/bin/orlop")).expect("a copy");
        let libraries = Command::new("ldd").arg(&me).output().expect("ldd").stdout;
        for path in String::from_utf8_lossy(&libraries).split_whitespace().filter(|word| word.starts_with('/')) {
            let to = root.join(&path[1..]);
            fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
            fs::copy(path, to).expect("a copy");
        }
        let state = Namespaces::new(dir.path().join("clusters"))
            .create(&Request::new(CLUSTER, 1, 0, root), &mut |_, _| Ok(b"config".to_vec()))
            .expect("a cluster");
        let node = Node { dir, port: state.nodes[0].api_port };
        node.wait();
        node
    }

    fn clusters(&self) -> Namespaces {
        Namespaces::new(self.dir.path().join("clusters"))
    }

    fn view(&self) -> NodeView {
        self.clusters().show(CLUSTER).expect("a view").nodes[0].clone()
    }

    fn console(&self) -> String {
        fs::read_to_string(&self.view().console).expect("a console")
    }

    fn var(&self) -> std::path::PathBuf {
        self.clusters().dir(CLUSTER).join("nodes").join(format!("{CLUSTER}-controlplane-1")).join("var")
    }

    fn say(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], self.port).into(), Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        writeln!(stream, "{command}")?;
        let mut line = String::new();
        if BufReader::new(stream).read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().replace('\x1f', "\n"))
    }

    fn ask(&self, command: &str) -> String {
        self.say(command).unwrap_or_else(|error| panic!("{command}: {error}\n{}", self.console()))
    }

    /// Waits until the stand-in answers, and gives its pid in the node.
    fn wait(&self) -> String {
        let begin = Instant::now();
        loop {
            match self.say("pid") {
                Ok(pid) => return pid,
                Err(error) => assert!(begin.elapsed() < Duration::from_secs(30), "{error}\n{}", self.console()),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(30), "{what}\n{}", self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The host's pid of the node's `machined`.
    fn machined(&self) -> Option<i32> {
        let init = self.view().pid?;
        let is_machined = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"machined"));
        sys::process::all().into_iter().find(|process| process.parent == init && is_machined(process.pid)).map(|process| process.pid)
    }

    fn kill_machined(&self) {
        if let Some(pidfd) = self.machined().and_then(|pid| sys::process::PidFd::open(pid).ok()) {
            pidfd.signal(sys::Signal::SIGKILL).expect("to kill");
            pidfd.ended(Duration::from_secs(10)).expect("to wait");
        }
    }
}

/// A failed story must not leave its cluster behind.
impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.clusters().destroy(CLUSTER);
        }
    }
}

fn the_node_is_set_up(node: &Node) {
    // Modes and owners as the contract has them.
    for (path, expected) in [
        ("/system/run/machined", "771 50 50"),
        ("/system/secrets", "711 0 0"),
        ("/system/state", "700 0 0"),
        ("/run/orlop", "700 0 0"),
        ("/run/containerd", "711 0 0"),
        ("/var/lib/etcd", "700 60 60"),
        ("/system/run/init.sock", "600 0 0"),
        ("/tmp", "1777 0 0"),
    ] {
        assert_eq!(node.ask(&format!("stat {path}")), expected, "{path}");
    }
    for (path, kind) in [
        ("/run", "tmpfs"),
        ("/tmp", "tmpfs"),
        ("/system", "tmpfs"),
        ("/opt", "overlay"),
        ("/etc/cni", "overlay"),
        ("/etc/kubernetes", "overlay"),
        ("/usr/libexec/kubernetes", "overlay"),
    ] {
        assert_eq!(node.ask(&format!("fstype {path}")), kind, "{path}");
    }
    assert_eq!(node.ask("read /opt/shipped"), "shipped");
    assert_eq!(node.ask("write /opt/added x"), "ok");
    assert!(node.ask("write /etc/added x").contains("Read-only"));
    assert_eq!(node.ask("read /run/orlop/platform/hostname").trim(), format!("{CLUSTER}-controlplane-1"));
    let mounts = node.ask("read /proc/self/mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root");
    assert!(root.contains("shared:"), "{root}");
    assert!(!node.console().contains("[init] could not"), "{}", node.console());
}

fn units_outlive_machined(node: &Node) {
    let before = node.wait();
    let pid = node.ask("spawn keep sleep");
    node.ask("spawn gone exit");
    assert!(node.ask("spawn keep sleep").contains("runs already"));
    node.kill_machined();
    let after = node.wait();
    assert_ne!(before, after);
    // The same process, known with its note; and what ended while nobody listened is known too.
    let list = node.ask("list");
    assert!(list.lines().any(|line| line == format!("keep {pid} runs note of keep")), "{list}");
    node.until("the end of the other one", || {
        node.ask("list").lines().any(|line| line.starts_with("gone") && line.contains("exit code 0"))
    });
    assert_eq!(node.ask("signal keep 15 main"), "ok");
    node.until("the event", || node.ask("events").contains("Exited { unit: \"keep\""));
    assert!(node.ask("signal keep 15 main").contains("no unit of this id is running"));
    assert_eq!(node.ask("forget keep"), "ok");
    assert!(!node.ask("list").contains("keep"));
    assert!(node.ask("spawn ../x sleep").contains("cannot name a unit"));
}

fn machined_is_back_however_often_it_is_killed(node: &Node) {
    let pid = node.ask("spawn keep sleep");
    let init = node.view().pid;
    for round in 0..12u64 {
        // At random moments: also while it starts, and before it has connected.
        std::thread::sleep(Duration::from_millis(round * 13 % 60));
        node.kill_machined();
    }
    node.wait();
    assert!(node.ask("list").contains(&format!("keep {pid} runs")));
    assert_eq!(node.view().pid, init);
    assert_eq!(node.view().status.expect("a status").starts, 1);
}

fn orphans_are_reaped_and_families_signalled(node: &Node) {
    node.ask("spawn parent orphans");
    node.until("the parent's end", || node.ask("events").contains("Code(4)"));
    node.until("all orphans reaped", || node.ask("zombies") == "0" && node.ask("processes") == "2");
    // Everyone in the unit's group, not its main process only.
    node.ask("spawn family family");
    node.until("both to run", || node.ask("processes") == "4");
    assert_eq!(node.ask("signal family 9 everyone"), "ok");
    node.until("both gone", || node.ask("processes") == "2");
}

fn logs_are_bounded(node: &Node) {
    // 30 MB through a log of 8 MiB with one rotation; dropping some is allowed, blocking is not.
    node.ask("spawn loud loud");
    node.until("its end", || node.ask("list").lines().any(|line| line.starts_with("loud") && line.contains("exit code 0")));
    std::thread::sleep(Duration::from_millis(300));
    let sizes: Vec<u64> = ["loud.log", "loud.log.1"]
        .iter()
        .map(|name| fs::metadata(node.var().join("log").join(name)).map_or(0, |meta| meta.len()))
        .collect();
    assert!(sizes[0] > 0 && sizes.iter().all(|size| *size <= 8 << 20), "{sizes:?}");
    let log = fs::read_to_string(node.var().join("log/machined.log")).expect("a log");
    assert!(log.contains("stand-in starts"));
    assert!(node.console().contains("stand-in starts"));
}

fn the_end_comes_in_order_and_reboots_keep_state(node: &Node) {
    assert_eq!(node.ask("write /system/state/kept yes"), "ok");
    assert_eq!(node.ask("write /etc/kubernetes/kept yes"), "ok");
    assert_eq!(node.ask("write /system/config/lost yes"), "ok");
    node.ask("spawn stubborn stubborn");
    let begin = Instant::now();
    // Its answer may be cut off by the end it brings.
    assert!(node.say("end reboot").is_ok_and(|answer| answer == "ok") || node.console().contains("machined asks for Reboot"));
    node.until("the second boot", || node.view().status.is_some_and(|status| status.starts == 2));
    // A unit that ignores SIGTERM costs the grace of five seconds, no more.
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    node.wait();
    assert_eq!(node.ask("read /system/state/kept"), "yes");
    assert_eq!(node.ask("read /etc/kubernetes/kept"), "yes");
    assert!(node.ask("read /system/config/lost").starts_with("error"));
    assert!(!node.ask("list").contains("stubborn"));

    // From outside: `machined` is told and does it.
    node.clusters().stop(CLUSTER, &[], Duration::from_secs(20)).expect("to stop");
    assert_eq!(node.view().condition, NodeCondition::Off);
    assert!(node.console().contains("stopping everything in order"));

    // A `machined` that hears nothing cannot hold the node: the second signal goes straight down.
    node.clusters().start(CLUSTER, &[]).expect("to start");
    node.wait();
    assert_eq!(node.ask("deaf"), "ok");
    let init = sys::process::PidFd::open(node.view().pid.expect("a pid")).expect("a pidfd");
    init.signal(sys::Signal::SIGTERM).expect("to signal");
    node.until("the event", || node.ask("events").contains("EndAsked(PowerOff)"));
    assert_eq!(node.view().condition, NodeCondition::Running);
    init.signal(sys::Signal::SIGTERM).expect("to signal");
    node.until("the end", || node.view().condition == NodeCondition::Off);
}

fn a_broken_machined_is_shown_and_tried_again(node: &Node) {
    let pid = node.ask("spawn keep sleep");
    assert_eq!(node.ask("write /var/broken yes"), "ok");
    assert!(node.say("die").is_err());
    node.until("the reason on the console", || {
        let console = node.console();
        console.contains("failed five times within a minute") && console.matches("the reason of the failure").count() > 5
    });
    assert_eq!(node.view().condition, NodeCondition::Running);
    fs::remove_file(Path::new(&node.var()).join("broken")).expect("to mend it");
    node.wait();
    assert!(node.ask("list").contains(&format!("keep {pid} runs")));
}
