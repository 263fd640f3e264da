//! A node's first steps: the program that is PID 1 of the new namespaces until it becomes the node's `init`.
//!
//! It puts the root together as the contract of container mode says (ARCHITECTURE.md), connects eth0 to the cluster's bridge, takes the new
//! root and becomes `init`. Being a program of its own, and not code between fork and exec, it may do all that in plain Rust.
//!
//! What keeps the host from harm: no block device in /dev, /sys read-only, private files over the host-wide sysctls that kubelet wants to
//! write, and (by the keeper) no capability for the clock, modules or ports. A second proc without those files is at /system/proc, since
//! the kernel lets pods with user namespaces mount a proc only where an unmasked one is seen.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use base64::Engine as _;
use sys::{
    host,
    mount::{self, Flags, MountPlan, Propagation, Step, inside},
    netlink::Netlink,
    ns::{self, Kind, Namespace},
    spawn::{become_program, inherited},
};

use super::{NET_FD, READY_FD, gateway::BRIDGE, keeper};
use crate::{
    ClusterState, NodeState,
    state::{self, NodePaths, Paths},
};

/// Host-wide sysctls that kubelet insists on, with the values it wants to find. The node sees files of its own in their place.
const MASKED_SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// The longest string execve takes, less the name of the variable.
const LONGEST_USERDATA: usize = 128 * 1024 - 64;

/// The program that the root must hold.
const INIT: &str = "/usr/bin/orlop";

type Failure = Box<dyn std::error::Error>;

/// Becomes the node named by the second argument, of the cluster in the directory named by the first.
pub fn main(args: &[OsString]) -> ExitCode {
    // Closed by the execve that ends this program's part, or used to say why that was not reached.
    let report = inherited(READY_FD).map(File::from);
    let Err(error) = setup(args);
    eprintln!("[node] {error}");
    if let Some(mut report) = report {
        let _ = report.write_all(error.to_string().as_bytes());
    }
    ExitCode::FAILURE
}

fn setup(args: &[OsString]) -> Result<std::convert::Infallible, Failure> {
    let [dir, name] = args else { return Err("it takes the cluster's directory and the node's name".into()) };
    if std::process::id() != 1 {
        return Err("it is for process 1 of a node's namespaces, which a keeper makes".into());
    }
    host::set_umask(0o022);
    let cluster = Paths { dir: PathBuf::from(dir) };
    let cluster_name = cluster.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let state = state::load(&cluster, &cluster_name)?.ok_or("there is no state.json")?;
    let node = state.node(&name.to_string_lossy())?;
    let paths = cluster.node(&node.name);
    let env = environment(&state, &paths)?;

    // Found before the mounts are left behind; the view of it begins at our own group.
    let layout = keeper::layout()?;
    ns::unshare(&[Kind::Cgroup])?;
    mount::propagate(Path::new("/"), Propagation::Private)?;
    let root = paths.root();
    mount::bind(&cluster.root(), &root, Flags::NONE, true)?;
    check_root(&root, &state)?;
    plan(&state, &paths).then(layout.mount_plan()).then(masks(&root)).apply(&root)?;
    network(&state, node)?;
    host::set_hostname(&node.name)?;
    mount::pivot(&root)?;
    Err(become_program(Path::new(INIT), &[OsStr::new("init")], &env).into())
}

/// The environment of PID 1.
fn environment(state: &ClusterState, paths: &NodePaths) -> Result<Vec<(OsString, OsString)>, Failure> {
    let config = fs::read(paths.config()).map_err(|error| format!("read {}: {error}", paths.config().display()))?;
    let userdata = base64::engine::general_purpose::STANDARD.encode(&config);
    if userdata.len() > LONGEST_USERDATA {
        return Err(format!(
            "the configuration {} has {} bytes; {} fit into an environment variable: make it smaller, or compress it with gzip, which a node understands",
            paths.config().display(),
            config.len(),
            LONGEST_USERDATA / 4 * 3
        )
        .into());
    }
    let mut env: Vec<(OsString, OsString)> =
        vec![("PATH".into(), "/usr/bin:/usr/sbin:/bin:/sbin".into()), ("PLATFORM".into(), "container".into())];
    if !config.is_empty() {
        env.push(("USERDATA".into(), userdata.into()));
    }
    if state.request.image_cache.is_some() {
        env.push(("ORLOP_IMAGE_CACHE".into(), "/system/imagecache".into()));
    }
    Ok(env)
}

/// The places that mounts need in a read-only root.
fn check_root(root: &Path, state: &ClusterState) -> Result<(), Failure> {
    let needed = [INIT, "/proc", "/sys", "/dev", "/run", "/tmp", "/system", "/var", "/etc/hostname", "/etc/resolv.conf"];
    let missing: Vec<&str> = needed.into_iter().filter(|path| fs::symlink_metadata(inside(root, Path::new(path))).is_err()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("{} is not the root of a node: it lacks {}", state.request.root.display(), missing.join(", ")).into())
}

/// Everything of the root but control groups and masks.
fn plan(state: &ClusterState, paths: &NodePaths) -> MountPlan {
    let plan = MountPlan::new()
        .mount("proc", "/proc", Flags::DATA, "")
        .mount("sysfs", "/sys", Flags::DATA.ro(), "")
        .then(MountPlan::devices())
        .bind(paths.var(), "/var", Flags::NONE)
        .tmpfs("/system", 0o755, "10%")
        .dir("/system/proc", 0o555)
        .mount("proc", "/system/proc", Flags::DATA, "")
        .bind(paths.file("hostname"), "/etc/hostname", Flags::NONE)
        .bind(paths.file("resolv.conf"), "/etc/resolv.conf", Flags::NONE);
    match &state.request.image_cache {
        Some(cache) => plan.dir("/system/imagecache", 0o755).bind(cache, "/system/imagecache", Flags::PLAIN.ro()),
        None => plan,
    }
}

/// Private files in place of what concerns the whole host.
fn masks(root: &Path) -> MountPlan {
    let mut plan = MountPlan::new().dir("/system/masks", 0o755);
    for (key, value) in MASKED_SYSCTLS {
        let target = Path::new("/proc/sys").join(key);
        if !Path::new("/proc/sys").join(key).exists() {
            continue;
        }
        let file = Path::new("/system/masks").join(key.replace('/', "."));
        let source = inside(root, &file);
        plan = plan.file(file, format!("{value}\n"), 0o644).step(Step::Bind { source, target, flags: Flags::NONE, recursive: false });
    }
    let trigger = Path::new("/system/masks/sysrq-trigger");
    if Path::new("/proc/sysrq-trigger").exists() {
        plan = plan.file(trigger, "", 0o644).bind(inside(root, trigger), "/proc/sysrq-trigger", Flags::NONE);
    }
    plan
}

/// eth0, on the cluster's bridge, with address and default route.
fn network(state: &ClusterState, node: &NodeState) -> Result<(), Failure> {
    let cluster = Namespace::from_fd(Kind::Net, inherited(NET_FD).ok_or("the cluster's network was not passed on")?);
    let own = Namespace::own(Kind::Net)?;
    let octets = node.address.octets();
    // The name tells the address; the hardware address stays the same over reboots, so that neighbours need not learn a new one.
    let port = format!("n{}", u32::from(node.address) - u32::from(state.subnet.network()));
    let mac = [0x02, 0x6f, octets[0], octets[1], octets[2], octets[3]];
    cluster.within(|| {
        let netlink = Netlink::open()?;
        // The last boot's may linger until the kernel has cleared its namespace away.
        netlink.delete_link(&port)?;
        netlink.add_veth(&port, "eth0", std::os::fd::AsFd::as_fd(&own), Some(mac))?;
        let link = netlink.need_link(&port)?.index;
        if let Some(mtu) = state.request.mtu {
            netlink.set_mtu(link, mtu)?;
        }
        netlink.set_master(link, netlink.need_link(BRIDGE)?.index)?;
        netlink.set_up(link)
    })?;
    let netlink = Netlink::open()?;
    netlink.set_up(netlink.need_link("lo")?.index)?;
    let eth0 = netlink.need_link("eth0")?.index;
    if let Some(mtu) = state.request.mtu {
        netlink.set_mtu(eth0, mtu)?;
    }
    netlink.add_address(eth0, IpAddr::V4(node.address), state.subnet.prefix_len())?;
    netlink.set_up(eth0)?;
    Ok(netlink.add_default_route(IpAddr::V4(state.gateway), eth0)?)
}
