//! The stories: what a user does to clusters, and what must be true after each step.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use lab::{ClusterState, Error, NodeCondition, NodeRequest, Provisioner, Request, Role, namespaces::Namespaces};
use rand::Rng;

/// A directory for clusters and the root of their nodes, and what the host looked like before.
struct Stage {
    dir: tempfile::TempDir,
    before: Snapshot,
}

type Story = fn(&Stage);

/// The clusters of the stories.
const NAMES: [&str; 13] =
    ["contract", "reach", "power", "killed", "stop", "scale", "wrong", "busy", "first", "second", "third", "one", "two"];

pub(super) fn run(filter: Option<&str>) -> ExitCode {
    if !sys::host::is_root() {
        println!("skipped: clusters in namespaces need root");
        return ExitCode::SUCCESS;
    }
    let stories: [(&str, Story); 9] = [
        ("a_node_is_what_the_contract_says", a_node_is_what_the_contract_says),
        ("the_host_reaches_every_node_and_nodes_each_other", the_host_reaches_every_node_and_nodes_each_other),
        ("reboot_power_off_and_crash", reboot_power_off_and_crash),
        ("keepers_and_the_gateway_may_be_killed", keepers_and_the_gateway_may_be_killed),
        ("stopping_is_in_order_then_hard", stopping_is_in_order_then_hard),
        ("scaling_up_and_down", scaling_up_and_down),
        ("wrong_requests_are_refused_and_leave_nothing", wrong_requests_are_refused_and_leave_nothing),
        ("two_clusters_at_once", two_clusters_at_once),
        ("create_killed_at_random_moments", create_killed_at_random_moments),
    ];
    for (name, story) in stories {
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let begin = Instant::now();
        let stage = Stage::new();
        story(&stage);
        stage.close();
        println!("story {name} ... ok ({:.1} s)", begin.elapsed().as_secs_f32());
    }
    ExitCode::SUCCESS
}

/// The subject of the kill story: makes a cluster in the directory named first, with the name named second.
pub(super) fn create(args: &[String]) -> ExitCode {
    let base = Path::new(&args[0]);
    match clusters(base).create(&request(base, &args[1], 1, 1), &mut |_, _| Ok(b"config".to_vec())) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn clusters(base: &Path) -> Namespaces {
    Namespaces::new(base.join("clusters"))
}

fn request(base: &Path, name: &str, controlplanes: usize, workers: usize) -> Request {
    Request { image_cache: Some(base.join("cache")), ..Request::new(name, controlplanes, workers, base.join("root")) }
}

impl Stage {
    fn new() -> Stage {
        let dir = tempfile::tempdir().expect("a directory");
        make_root(&dir.path().join("root"));
        let before = Snapshot::take(dir.path());
        fs::create_dir(dir.path().join("cache")).expect("a directory");
        fs::write(dir.path().join("cache/oci-layout"), "layout").expect("a file");
        Stage { dir, before }
    }

    fn base(&self) -> &Path {
        self.dir.path()
    }

    fn clusters(&self) -> Namespaces {
        clusters(self.base())
    }

    fn create(&self, name: &str, controlplanes: usize, workers: usize) -> ClusterState {
        let state = self.clusters().create(&request(self.base(), name, controlplanes, workers), &mut |_, node| {
            Ok(format!("config of {}", node.name).into_bytes())
        });
        let state = state.expect("a cluster");
        for node in &state.nodes {
            wait_for(node.api_port);
        }
        state
    }

    fn condition(&self, name: &str, node: &str) -> NodeCondition {
        let view = self.clusters().show(name).expect("a view");
        view.nodes.iter().find(|view| view.node.name == node).expect("the node").condition.clone()
    }

    fn until_condition(&self, name: &str, node: &str, wanted: fn(&NodeCondition) -> bool) {
        let begin = Instant::now();
        while !wanted(&self.condition(name, node)) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{node} is {:?}", self.condition(name, node));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn close(self) {
        for name in self.clusters().list().expect("a list") {
            self.clusters().destroy(&name).expect("to destroy");
        }
        let clusters = self.base().join("clusters");
        let left: Vec<PathBuf> = fs::read_dir(&clusters).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        assert_eq!(left, [] as [PathBuf; 0]);
        Snapshot::take(self.base()).same_as(&self.before);
    }
}

/// A failed story must not leave its cluster behind.
impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in self.clusters().list().unwrap_or_default() {
                let _ = self.clusters().destroy(&name);
            }
        }
    }
}

/// What a cluster might leave on the host.
struct Snapshot {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    addresses: BTreeSet<String>,
    processes: BTreeSet<i32>,
    groups: BTreeSet<PathBuf>,
    loops: BTreeSet<String>,
}

impl Snapshot {
    fn take(base: &Path) -> Snapshot {
        let netlink = sys::netlink::Netlink::open().expect("netlink");
        // Other clusters may come and go on this host: ours are told by their program, which is the very file of this test or its copy.
        let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
        let programs = [identity(Path::new("/proc/self/exe")), identity(&base.join("root/usr/bin/orlop"))];
        let ours = |pid: i32| {
            let program = identity(Path::new(&format!("/proc/{pid}/exe")));
            program.is_some() && programs.contains(&program)
        };
        let groups: Vec<PathBuf> = NAMES.iter().map(|name| clusters(base).control_group(name)).collect();
        let layout = sys::cgroup::Layout::detect().expect("control groups");
        let under = |dir: PathBuf| {
            fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| entry.path().is_dir())
                .map(|entry| entry.path())
                .collect::<Vec<_>>()
        };
        Snapshot {
            mounts: sys::mount::MountInfo::all()
                .expect("mounts")
                .into_iter()
                .map(|mount| format!("{} {}", mount.fstype, mount.target.display()))
                .collect(),
            links: netlink.links().expect("links").into_iter().map(|link| format!("{link:?}")).collect(),
            addresses: netlink.addresses().expect("addresses").into_iter().map(|address| format!("{address:?}")).collect(),
            processes: sys::process::all().into_iter().map(|process| process.pid).filter(|pid| ours(*pid)).collect(),
            groups: layout
                .mounts()
                .iter()
                .flat_map(|mount| groups.iter().map(|group| mount.join(group)))
                .filter(|dir| dir.exists())
                .collect(),
            loops: under("/sys/block".into())
                .into_iter()
                .filter_map(|disk| fs::read_to_string(disk.join("loop/backing_file")).ok())
                .collect(),
        }
    }

    fn same_as(&self, before: &Snapshot) {
        assert_eq!(self.mounts, before.mounts, "mounts");
        assert_eq!(self.links, before.links, "links");
        assert_eq!(self.addresses, before.addresses, "addresses");
        assert_eq!(self.processes, before.processes, "processes");
        assert_eq!(self.groups, before.groups, "control groups");
        assert_eq!(self.loops, before.loops, "loop devices");
    }
}

/// A directory with what a node's root must hold: this program as `orlop`, its libraries, and places for mounts.
fn make_root(root: &Path) {
    for dir in ["usr/bin", "proc", "sys", "dev", "run", "tmp", "system", "var", "etc"] {
        fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    for file in ["etc/hostname", "etc/resolv.conf"] {
        fs::write(root.join(file), "").expect("a file");
    }
    let me = std::env::current_exe().expect("own path");
    fs::copy(&me, root.join("usr/bin/orlop")).expect("a copy");
    fs::copy("/usr/bin/mknod", root.join("usr/bin/mknod")).expect("a copy");
    let libraries = Command::new("ldd").arg(&me).arg("/usr/bin/mknod").output().expect("ldd").stdout;
    for path in String::from_utf8_lossy(&libraries).split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')) {
        let to = root.join(&path[1..]);
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        fs::copy(path, to).expect("a copy");
    }
}

fn say(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    writeln!(stream, "{command}")?;
    let mut line = String::new();
    if BufReader::new(stream).read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().replace('\x1f', "\n"))
}

fn ask(port: u16, command: &str) -> String {
    say(port, command).unwrap_or_else(|error| panic!("{command} on port {port}: {error}"))
}

fn wait_for(port: u16) -> String {
    let begin = Instant::now();
    loop {
        match say(port, "name") {
            Ok(name) => return name,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(20), "port {port}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn a_node_is_what_the_contract_says(stage: &Stage) {
    let state = stage.create("contract", 1, 0);
    let node = &state.nodes[0];
    let ask = |command: &str| ask(node.api_port, command);
    assert_eq!(ask("name"), "contract-controlplane-1");
    assert_eq!(ask("pid"), "1");
    assert_eq!(ask("env PLATFORM"), "container");
    assert_eq!(ask("env USERDATA"), "Y29uZmlnIG9mIGNvbnRyYWN0LWNvbnRyb2xwbGFuZS0x"); // base64 of "config of contract-controlplane-1"
    assert_eq!(ask("env ORLOP_IMAGE_CACHE"), "/system/imagecache");
    assert_eq!(ask("read /system/imagecache/oci-layout"), "layout");
    assert!(ask("write /system/imagecache/x y").contains("Read-only"));
    assert_eq!(ask("read /etc/hostname").trim(), "contract-controlplane-1");
    assert_eq!(ask("read /etc/resolv.conf").trim(), format!("nameserver {}", state.gateway));
    assert!(ask("write /usr/bin/x y").contains("Read-only"));
    assert_eq!(ask("write /var/x y"), "ok");

    // Host safety.
    assert_eq!(ask("blocks"), "0");
    let disks = fs::read_dir("/sys/block").expect("a list").flatten().filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok());
    for disk in disks.take(1) {
        let answer = ask(&format!("disk {}", disk.trim()));
        assert!(answer.contains("Operation not permitted"), "{answer}");
    }
    assert_eq!(ask("bounded"), "false false false true");
    let host = |key: &str| fs::read_to_string(Path::new("/proc/sys").join(key)).expect("a sysctl");
    for (key, value) in
        [("vm/overcommit_memory", "1"), ("kernel/panic", "10"), ("kernel/panic_on_oops", "1"), ("kernel/keys/root_maxkeys", "1000000")]
    {
        let before = host(key);
        assert_eq!(ask(&format!("read /proc/sys/{key}")).trim(), value, "{key}");
        assert_eq!(ask(&format!("write /proc/sys/{key} 2")), "ok");
        assert_eq!(host(key), before, "{key} of the host");
    }
    assert!(ask("write /sys/kernel/mm/ksm/run 0").contains("Read-only"));
    // The second proc has the host's values: it is what the kernel wants to see for pods with user namespaces.
    assert_eq!(ask("read /system/proc/sys/vm/overcommit_memory").trim(), host("vm/overcommit_memory").trim());
    assert_eq!(ask("list /sys/class/net"), "eth0 lo");
    let own_groups = ask("read /proc/self/cgroup");
    for line in own_groups.lines().filter(|line| !line.starts_with("0::")) {
        assert!(line.ends_with(":/"), "a group beyond its own root is seen: {line}");
    }
    assert_eq!(ask("cgroup"), "ok");
    let processes: Vec<String> =
        ask("list /proc").split(' ').filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).map(str::to_owned).collect();
    assert_eq!(processes, ["1"]);
    assert!(
        fs::read_to_string(stage.clusters().show("contract").expect("a view").nodes[0].console.clone())
            .expect("a console")
            .contains("stand-in of contract-controlplane-1 is up as 1")
    );
}

fn the_host_reaches_every_node_and_nodes_each_other(stage: &Stage) {
    let state = stage.create("reach", 2, 1);
    assert_eq!(state.subnet.to_string(), "10.5.0.0/24");
    let names: Vec<String> = state.nodes.iter().map(|node| ask(node.api_port, "name")).collect();
    assert_eq!(names, ["reach-controlplane-1", "reach-controlplane-2", "reach-worker-1"]);
    assert_eq!(state.nodes.iter().map(|node| node.address.to_string()).collect::<Vec<_>>(), ["10.5.0.2", "10.5.0.3", "10.5.0.4"]);
    let worker = state.nodes[2].api_port;
    assert_eq!(ask(worker, "dial 10.5.0.3:50000"), "reach-controlplane-2");
    // Discovery, for nodes that know the gateway only.
    assert!(ask(worker, "dial 10.5.0.1:50002").starts_with("reach-controlplane-"));
    // The API server's address in the cluster and on the host: any control plane.
    assert!(ask(worker, "dial 10.5.0.1:6443").starts_with("reach-controlplane-"));
    assert!(ask(state.kubernetes_port, "name").starts_with("reach-controlplane-"));
    // With one control plane gone the other one answers.
    let first = ask(state.kubernetes_port, "name");
    stage.clusters().remove("reach", &first).expect("to remove");
    let second = ask(state.kubernetes_port, "name");
    assert!(second.starts_with("reach-controlplane-") && second != first);
    // Nothing of the cluster's network is on the host.
    assert!(TcpStream::connect_timeout(&([10, 5, 0, 3], 50000).into(), Duration::from_millis(300)).is_err());
}

fn reboot_power_off_and_crash(stage: &Stage) {
    let state = stage.create("power", 1, 0);
    let (node, port) = (state.nodes[0].name.as_str(), state.nodes[0].api_port);
    assert_eq!(ask(port, "write /var/kept yes"), "ok");
    assert_eq!(ask(port, "write /system/lost yes"), "ok");
    assert_eq!(ask(port, "cgroup"), "ok");
    let init = stage.clusters().show("power").expect("a view").nodes[0].pid;
    for boot in 2..4 {
        assert!(say(port, "reboot").is_err());
        let begin = Instant::now();
        while stage.clusters().show("power").expect("a view").nodes[0].status.as_ref().expect("a status").starts != boot {
            assert!(begin.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(20));
        }
        wait_for(port);
    }
    assert_ne!(stage.clusters().show("power").expect("a view").nodes[0].pid, init);
    assert_eq!(ask(port, "read /var/kept"), "yes");
    assert!(ask(port, "read /system/lost").starts_with("error"));

    assert!(say(port, "poweroff").is_err());
    stage.until_condition("power", node, |condition| *condition == NodeCondition::Off);
    stage.clusters().start("power", &[]).expect("to start");
    wait_for(port);
    assert_eq!(ask(port, "read /var/kept"), "yes");

    assert!(say(port, "crash").is_err());
    stage.until_condition("power", node, |condition| matches!(condition, NodeCondition::Failed(why) if why.contains("exit code 7")));
    stage.clusters().start("power", &[node.to_owned()]).expect("to start");
    wait_for(port);
    // Starting what runs does nothing.
    let pid = stage.clusters().show("power").expect("a view").nodes[0].pid;
    stage.clusters().start("power", &[]).expect("to start");
    assert_eq!(stage.clusters().show("power").expect("a view").nodes[0].pid, pid);
}

fn kill(process: &sys::process::ProcessRef) {
    let pidfd = process.open().expect("a running process");
    pidfd.signal(sys::Signal::SIGKILL).expect("to kill");
    assert!(pidfd.ended(Duration::from_secs(10)).expect("to wait"));
}

fn keepers_and_the_gateway_may_be_killed(stage: &Stage) {
    let state = stage.create("killed", 1, 1);
    let (first, second) = (&state.nodes[0], &state.nodes[1]);
    let pid = stage.clusters().show("killed").expect("a view").nodes[0].pid;

    kill(state.gateway_process.as_ref().expect("a gateway"));
    assert!(!stage.clusters().show("killed").expect("a view").gateway_runs);
    assert!(say(first.api_port, "name").is_err());
    stage.clusters().start("killed", &[]).expect("to start");
    // The same nodes on the same ports, and they reach each other and the gateway.
    assert_eq!(wait_for(first.api_port), first.name);
    assert_eq!(stage.clusters().show("killed").expect("a view").nodes[0].pid, pid);
    assert_eq!(ask(second.api_port, "dial 10.5.0.2:50000"), first.name);
    assert_eq!(ask(second.api_port, "dial 10.5.0.1:6443"), first.name);

    let keeper = stage.clusters().show("killed").expect("a view").nodes[0].node.keeper.clone().expect("a keeper");
    kill(&keeper);
    stage.until_condition("killed", &first.name, |condition| *condition == NodeCondition::Gone);
    let begin = Instant::now();
    while sys::process::Stat::of(pid.expect("a pid")).is_some_and(|stat| stat.state != 'Z') {
        assert!(begin.elapsed() < Duration::from_secs(10), "a node outlived its keeper");
        std::thread::sleep(Duration::from_millis(10));
    }
    stage.clusters().start("killed", &[]).expect("to start");
    assert_eq!(wait_for(first.api_port), first.name);

    // The console stays bounded and nothing blocks however much is written.
    assert_eq!(ask(second.api_port, "flood"), "ok");
    let console = stage.clusters().show("killed").expect("a view").nodes[1].console.clone();
    assert!(fs::metadata(&console).expect("a console").len() <= 1 << 20);
}

fn stopping_is_in_order_then_hard(stage: &Stage) {
    let state = stage.create("stop", 1, 1);
    let console = stage.clusters().show("stop").expect("a view").nodes[0].console.clone();
    stage.clusters().stop("stop", &[state.nodes[0].name.clone()], Duration::from_secs(20)).expect("to stop");
    assert_eq!(stage.condition("stop", &state.nodes[0].name), NodeCondition::Off);
    assert!(fs::read_to_string(console).expect("a console").contains("stopping in order"));
    assert_eq!(stage.condition("stop", &state.nodes[1].name), NodeCondition::Running);

    assert_eq!(ask(state.nodes[1].api_port, "stubborn"), "ok");
    let begin = Instant::now();
    stage.clusters().stop("stop", &[], Duration::from_secs(1)).expect("to stop");
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(stage.condition("stop", &state.nodes[1].name), NodeCondition::Off);
    stage.clusters().stop("stop", &[], Duration::from_secs(1)).expect("to stop what is stopped");
}

fn scaling_up_and_down(stage: &Stage) {
    let state = stage.create("scale", 1, 1);
    let added = stage
        .clusters()
        .add("scale", &[NodeRequest::new(Role::Worker), NodeRequest::new(Role::ControlPlane)], &mut |_, _| Ok(Vec::new()))
        .expect("to add");
    assert_eq!(added.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["scale-worker-2", "scale-controlplane-2"]);
    for node in &added {
        assert_eq!(wait_for(node.api_port), node.name);
    }
    assert_eq!(ask(added[0].api_port, &format!("dial {}:50000", state.nodes[0].address)), "scale-controlplane-1");
    let pid = stage.clusters().show("scale").expect("a view").nodes[1].pid.expect("a pid");
    stage.clusters().remove("scale", "scale-worker-1").expect("to remove");
    stage.clusters().remove("scale", "scale-worker-1").expect("to remove what is gone");
    assert!(sys::process::Stat::of(pid).is_none_or(|stat| stat.state == 'Z'), "process 1 of the removed node still runs");
    assert!(!stage.clusters().dir("scale").join("nodes/scale-worker-1").exists());
    let begin = Instant::now();
    while say(state.nodes[1].api_port, "name").is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
    // Name, address and port of a removed node are free again.
    let again = stage.clusters().add("scale", &[NodeRequest::new(Role::Worker)], &mut |_, _| Ok(Vec::new())).expect("to add");
    assert_eq!((again[0].name.as_str(), again[0].address), ("scale-worker-1", state.nodes[1].address));
    assert_eq!(wait_for(again[0].api_port), "scale-worker-1");
}

fn wrong_requests_are_refused_and_leave_nothing(stage: &Stage) {
    let clusters = stage.clusters();
    let config = &mut |_: &ClusterState, _: &lab::NodeState| Ok(Vec::new());
    let base = stage.base();
    let teach = |error: Error, words: &[&str]| {
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word} in: {text}");
        }
    };
    teach(clusters.destroy("nope").expect_err("a refusal"), &["nope", "there is none at all"]);
    teach(clusters.show("nope").expect_err("a refusal"), &["nope"]);
    let mut no_root = request(base, "wrong", 1, 0);
    no_root.root = base.join("cache");
    teach(clusters.create(&no_root, config).expect_err("a refusal"), &["is not the root of a node", "/usr/bin/orlop"]);
    // Half-made now: the same request goes on (and fails alike), another one is told so, and it can be removed.
    teach(clusters.create(&no_root, config).expect_err("a refusal"), &["is not the root of a node"]);
    teach(clusters.create(&request(base, "wrong", 1, 0), config).expect_err("a refusal"), &["half-made", "cluster destroy --name wrong"]);
    clusters.destroy("wrong").expect("to destroy");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let busy = Request { kubernetes_port: Some(port), ..request(base, "busy", 1, 0) };
    teach(clusters.create(&busy, config).expect_err("a refusal"), &[&port.to_string(), "in use"]);

    stage.create("first", 1, 0);
    teach(clusters.create(&request(base, "first", 1, 0), config).expect_err("a refusal"), &["already", "with 1 nodes"]);
    let same = Request { subnet: Some("10.5.0.0/24".parse().expect("a network")), ..request(base, "second", 1, 0) };
    teach(clusters.create(&same, config).expect_err("a refusal"), &["10.5.0.0/24 is in use", "cluster first", "--cidr"]);
    teach(clusters.start("first", &["nobody".into()]).expect_err("a refusal"), &["nobody", "first-controlplane-1"]);
    let no_config = &mut |_: &ClusterState, _: &lab::NodeState| Err("no secrets".into());
    teach(clusters.create(&request(base, "third", 1, 0), no_config).expect_err("a refusal"), &["third-controlplane-1", "no secrets"]);

    // A damaged state can at least be removed, processes and all.
    fs::write(clusters.dir("first").join("state.json"), "{").expect("a write");
    teach(clusters.show("first").expect_err("a refusal"), &["damaged", "cluster destroy --name first"]);
    clusters.destroy("first").expect("to destroy");
}

fn two_clusters_at_once(stage: &Stage) {
    let (one, two) = (stage.create("one", 1, 0), stage.create("two", 1, 0));
    assert_ne!(one.subnet, two.subnet);
    assert_ne!(one.kubernetes_port, two.kubernetes_port);
    assert_eq!(ask(one.kubernetes_port, "name"), "one-controlplane-1");
    assert_eq!(ask(two.kubernetes_port, "name"), "two-controlplane-1");
    stage.clusters().destroy("one").expect("to destroy");
    assert_eq!(ask(two.kubernetes_port, "name"), "two-controlplane-1");
    // Deleted behind its back: what runs is found and removed all the same.
    fs::remove_dir_all(stage.clusters().dir("two")).expect("to remove");
    stage.clusters().destroy("two").expect("to destroy");
    assert!(say(two.kubernetes_port, "name").is_err());
}

fn create_killed_at_random_moments(stage: &Stage) {
    let times = std::env::var("ORLOP_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let me = std::env::current_exe().expect("own path");
    // How long a whole one takes, to aim within.
    let begin = Instant::now();
    stage.create("killed", 1, 1);
    let whole = begin.elapsed();
    stage.clusters().destroy("killed").expect("to destroy");
    let mut finished = 0;
    for round in 0..times {
        let pause = rand::rng().random_range(Duration::ZERO..whole);
        let mut create = Command::new(&me)
            .args(["create".as_ref(), stage.base().as_os_str(), "killed".as_ref()])
            .stdout(Stdio::null())
            .spawn()
            .expect("to start");
        std::thread::sleep(pause);
        let _ = create.kill();
        let exit = create.wait().expect("to wait");
        finished += usize::from(exit.success());
        if round % 4 == 3 {
            // What was begun can be finished.
            if let Err(error) = stage.clusters().create(&request(stage.base(), "killed", 1, 1), &mut |_, _| Ok(Vec::new())) {
                assert!(matches!(error, Error::Exists { .. }), "killed after {pause:?}: {error}");
            }
            let view = stage.clusters().show("killed").expect("a view");
            for node in &view.nodes {
                assert_eq!(wait_for(node.node.api_port), node.node.name);
            }
        }
        match stage.clusters().destroy("killed") {
            Ok(()) | Err(Error::NoCluster { .. }) => {}
            Err(error) => panic!("killed after {pause:?}: {error}"),
        }
        let left: Vec<_> = fs::read_dir(stage.base().join("clusters"))
            .expect("a directory")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| !path.ends_with(".killed.lock") && !path.ends_with("._reserve.lock"))
            .collect();
        assert!(left.is_empty(), "killed after {pause:?}: {left:?}");
        Snapshot::take(stage.base()).same_as(&stage.before);
    }
    println!("  killed {times} times within {whole:?}, {finished} had finished");
    // The empty lock file of a create that was killed before it wrote anything is the only thing that may stay, and goes with the next one.
    for lock in [".killed.lock", "._reserve.lock"] {
        let _ = fs::remove_file(stage.base().join("clusters").join(lock));
    }
}
