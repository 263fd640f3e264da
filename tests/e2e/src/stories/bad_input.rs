//! What is wrong is refused: each refusal says what was found, what was expected and what to do, and leaves everything as it was.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use model::config::client::{ClientConfig, Context};
use model::config::secrets::Bundle;
use pki::{Ca, Role, Roles, profile};

use crate::cluster::{COMMAND, Cluster};
use crate::command::{self, Said, eventually};
use crate::host::Host;
use crate::{Outcome, World};

/// The whole story.
pub fn story(world: &World) -> anyhow::Result<Outcome> {
    let place = tempfile::tempdir()?;
    files(world, place.path()).context("configuration files")?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped("the half with clusters needs root: nodes are made of namespaces".into()));
    }
    fs::create_dir_all(&world.state)?;
    let before = Host::look(&world.state);
    requests(world).context("requests that cannot be")?;
    hosts(world, place.path()).context("hosts that cannot carry a cluster")?;
    leftovers(world).context("what others left of clusters")?;
    nothing_left(world, &before)?;
    let cluster = beside_taken_ports(world)?;
    second(&cluster).context("a second cluster in the place of the first")?;
    port_taken(&cluster).context("a port that somebody took meanwhile")?;
    strangers(&cluster, place.path()).context("callers that the cluster does not know")?;
    applied(&cluster, place.path()).context("configurations that a node does not take")?;
    wrong_token(&cluster).context("a worker with a wrong token")?;
    cluster.destroy()?;
    nothing_left(world, &before)?;
    Ok(Outcome::Passed)
}

fn nothing_left(world: &World, before: &Host) -> anyhow::Result<()> {
    eventually("nothing to be left", Duration::from_secs(10), || {
        let left = Host::look(&world.state).differences(before);
        ensure!(left.is_empty(), "{}", left.join("; "));
        let files: Vec<_> = fs::read_dir(&world.state)?.filter_map(Result::ok).map(|e| e.path()).collect();
        ensure!(files.is_empty(), "files left: {files:?}");
        Ok(())
    })
}

/// It failed, and its last words hold all of these.
fn refused(said: &Said, words: &[&str]) -> anyhow::Result<()> {
    ensure!(said.code.is_some_and(|code| code != 0), "it should have failed, and ended with {:?}: {}", said.code, said.out);
    for word in words {
        ensure!(said.err.contains(word), "it should have said {word:?}, and said: {}", said.err);
    }
    ensure!(!said.err.contains("panicked"), "it panicked: {}", said.err);
    Ok(())
}

fn ctl(world: &World, args: &[&str]) -> anyhow::Result<Said> {
    let mut command = Command::new(&world.ctl);
    command.env("ORLOP_STATE", &world.state).env("TALOSCONFIG", world.state.join("no-talosconfig")).args(args);
    command::run(&mut command, COMMAND)
}

/// `cluster create` with the images of this run.
fn create(world: &World, args: &[&str]) -> anyhow::Result<Said> {
    let (root, cache) = (world.out.join("root.erofs"), world.out.join("image-cache"));
    let mut all = vec!["cluster", "create", "--root", root.to_str().context("path")?, "--image-cache", cache.to_str().context("path")?];
    all.extend(args);
    ctl(world, &all)
}

/// A control plane's configuration.
fn generated(world: &World, place: &Path) -> anyhow::Result<String> {
    let path = place.join("controlplane.yaml").display().to_string();
    ctl(world, &["gen", "config", "demo", "https://10.5.0.1:6443", "-t", "controlplane", "--force", "-o", &path])?.success()?;
    Ok(fs::read_to_string(path)?)
}

/// The line of the first key of this name, with its value replaced.
fn with(text: &str, key: &str, value: &str) -> String {
    let mut done = false;
    let line = |line: &str| {
        let found = !done && line.trim_start().starts_with(key);
        done |= found;
        if found { format!("{}{key} {value}", &line[..line.len() - line.trim_start().len()]) } else { line.to_owned() }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

fn files(world: &World, place: &Path) -> anyhow::Result<()> {
    let good = generated(world, place)?;
    let certificate = good.find("crt: ").context("the generated configuration has no certificate")?;
    // base64 of "not a certificate at all".
    let junk = "bm90IGEgY2VydGlmaWNhdGUgYXQgYWxs";
    let cases: [(&str, String, &[&str]); 9] = [
        ("cut off in a certificate", good[..certificate + 101].to_owned(), &["cluster: nothing", "the section about the cluster"]),
        ("cut off after the version", "version: v1alpha1\n".into(), &["machine", "nothing", "the section about this machine"]),
        ("an unknown key", good.replacen("    type:", "    typ:", 1), &["machine.typ", "unknown key `typ`", "did you mean `type`?"]),
        ("a wrong word", with(&good, "type:", "workr"), &["machine.type", "`workr`", "did you mean `worker`?"]),
        ("a certificate that is none", with(&good, "crt:", junk), &["machine.ca.crt", "without a BEGIN line", "PEM in base64"]),
        ("a certificate that is not base64", with(&good, "crt:", "'%%%'"), &["machine.ca.crt", "not base64"]),
        ("a key that is none", with(&good, "key:", junk), &["machine.ca.key", "without a BEGIN line"]),
        ("not YAML", "machine: [1, 2".into(), &["not YAML", "line "]),
        ("nothing", String::new(), &["no document", "gen config"]),
    ];
    let path = place.join("bad.yaml").display().to_string();
    let validate = |file: &str| ctl(world, &["validate", "--config", file, "--mode", "container"]);
    for (what, text, words) in cases {
        fs::write(&path, text)?;
        let said = validate(&path)?;
        refused(&said, &["bad.yaml"]).and_then(|()| refused(&said, words)).context(what)?;
        ensure!(what != "a key that is none" || !said.err.contains("certificate at all"), "it tells the key: {}", said.err);
    }
    refused(&validate("/no/such/file")?, &["/no/such/file", "No such file"])?;
    fs::write(&path, &good)?;
    validate(&path)?.success().context("the configuration as it was generated")?;
    Ok(())
}

/// Nothing is made for a request that cannot be.
fn requests(world: &World) -> anyhow::Result<()> {
    let patch = r#"{"machine": {"type": "nonsense"}}"#;
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--name", "Bad_Name"], &["Bad_Name", "lower-case letters"]),
        (&["--name", "bad", "--controlplanes", "0"], &["without a control plane", "--controlplanes 1"]),
        (&["--name", "bad", "--cidr", "10.5.0.0"], &["10.5.0.0", "10.5.0.0/24"]),
        (&["--name", "bad", "--cidr", "10.5.0.7/24"], &["10.5.0.7/24", "say 10.5.0.0/24"]),
        (&["--name", "bad", "--cidr", "8.8.8.0/24"], &["8.8.8.0/24", "not a private network", "10.0.0.0/8"]),
        (&["--name", "bad", "--config-patch", "machine: {typ: worker}"], &["unknown key `typ`", "did you mean `type`?"]),
        (&["--name", "bad", "--config-patch", patch], &["machine.type", "`nonsense`", "controlplane or worker"]),
        (&["--name", "bad", "--config-patch", "@/no/such/patch"], &["/no/such/patch", "No such file"]),
        (&["--name", "bad", "--wait-timeout", "soon"], &["soon"]),
    ];
    for (args, words) in cases {
        refused(&create(world, args)?, words).with_context(|| args.join(" "))?;
    }
    refused(&ctl(world, &["cluster", "create", "--root", "/no/such/root"])?, &["/no/such/root", "make build"])?;
    for verb in ["destroy", "show", "start", "stop", "scale"] {
        refused(&ctl(world, &["cluster", verb, "--name", "nobody"])?, &["nobody", "there is none at all", "cluster create"])
            .context(verb)?;
    }
    Ok(())
}

/// Runs a shell script with mounts of its own, which nobody else sees.
fn apart(world: &World, script: &str) -> anyhow::Result<Said> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script]).env("CTL", &world.ctl).env("ORLOP_STATE", &world.state);
    command.env("IMAGES", format!("--root={0}/root.erofs --image-cache={0}/image-cache", world.out.display()));
    command::run(&mut command, COMMAND)
}

/// Every refusal tells the number it is about.
fn hosts(world: &World, place: &Path) -> anyhow::Result<()> {
    let create = r#"exec "$CTL" cluster create --name bad $IMAGES"#;
    let small = place.join("small");
    fs::create_dir(&small)?;
    let small = small.display();

    let said = apart(world, &format!("ulimit -n 1024; {create}"))?;
    refused(&said, &["cannot carry", "may open 1024 files", "need 4096", "ulimit -Hn"]).context("open files")?;
    let tmpfs = |options: &str| format!("mount -t tmpfs -o {options} none {small}; {create} --state {small}/clusters");
    // One control plane takes 500 MiB, one worker 300.
    let said = apart(world, &tmpfs("size=100m"))?;
    refused(&said, &["cannot carry", " MiB are free in", "2 nodes need 800 MiB", "--state"]).context("disk")?;
    let said = apart(world, &tmpfs("noexec"))?;
    refused(&said, &["cannot carry", "mounted noexec", "--state"]).context("noexec")?;
    let without = format!("grep -vw erofs /proc/filesystems > {small}/list; mount --bind {small}/list /proc/filesystems; {create}");
    refused(&apart(world, &without)?, &["cannot carry", "lacks file systems: erofs", "modprobe"]).context("kernel feature")?;

    // 250 control planes take 275000 MiB and 2500 inotify instances.
    let limit = |path: &str| -> anyhow::Result<u64> { Ok(fs::read_to_string(path)?.trim().parse()?) };
    let said = apart(world, &format!("{create} --controlplanes 250 --workers 0 --cidr 10.77.0.0/16"))?;
    refused(&said, &["cannot carry", "275000 MiB", "--controlplanes"]).context("memory")?;
    let most = limit("/proc/sys/fs/inotify/max_user_instances")?;
    if most < 2500 {
        let words = [&format!("of at most {most} inotify instances"), "need 2500 more", "sysctl fs.inotify.max_user_instances="];
        refused(&said, &words).context("inotify")?;
    }
    Ok(())
}

/// Directories that are no whole clusters.
fn leftovers(world: &World) -> anyhow::Result<()> {
    let dir = world.state.join("half");
    for state in [None, Some(""), Some("{\"version\": 1"), Some("{\"version\": 99}")] {
        fs::create_dir_all(dir.join("nodes/half-worker-1"))?;
        if state.is_none() {
            refused(&ctl(world, &["cluster", "show", "--name", "half"])?, &["\"half\"", "only its directory is there", "cluster destroy"])?;
        }
        if let Some(text) = state {
            fs::write(dir.join("state.json"), text)?;
            for verb in ["show", "start", "create"] {
                let said =
                    if verb == "create" { create(world, &["--name", "half"])? } else { ctl(world, &["cluster", verb, "--name", "half"])? };
                refused(&said, &["state.json is damaged", "cluster destroy --name half"])
                    .with_context(|| format!("{verb} with {text:?}"))?;
            }
        }
        ctl(world, &["cluster", "destroy", "--name", "half"])?.success().with_context(|| format!("destroy with {state:?}"))?;
        ensure!(!dir.exists(), "{} is still there", dir.display());
    }
    Ok(())
}

/// Ports that others listen on are stepped over.
fn beside_taken_ports(world: &World) -> anyhow::Result<Cluster> {
    // Where somebody listens already, all the better.
    let taken: Vec<TcpListener> = [25000, 26443].iter().filter_map(|port| TcpListener::bind(("127.0.0.1", *port)).ok()).collect();
    let cluster = Cluster::create(world, "bad", 1, 0).context("beside ports that are taken")?;
    drop(taken);
    let shown = cluster.ctl(&["cluster", "show", "--name", "bad"])?;
    ensure!(!shown.contains("127.0.0.1:26443"), "it took the port of somebody else: {shown}");
    Ok(cluster)
}

fn second(cluster: &Cluster) -> anyhow::Result<()> {
    let shown: serde_json::Value = serde_json::from_str(&cluster.ctl(&["cluster", "show", "--name", "bad", "-o", "json"])?)?;
    let subnet = shown["subnet"].as_str().context("cluster show: no subnet")?;
    let said = create(cluster.world(), &["--name", "bad"])?;
    refused(&said, &["there is a cluster \"bad\" already", "cluster destroy --name bad", "another --name"]).context("the same name")?;
    let said = create(cluster.world(), &["--name", "worse", "--cidr", subnet])?;
    refused(&said, &[subnet, "in use", "cluster bad", "such as --cidr 10.5."]).context("the same network")?;
    refused(&ctl(cluster.world(), &["cluster", "destroy", "--name", "worse"])?, &["\"worse\"", "there are: bad"])?;
    let said = ctl(cluster.world(), &["cluster", "start", "--name", "bad", "nobody"])?;
    refused(&said, &["no node \"nobody\"", "bad-controlplane-1"])?;
    cluster.ctl(&["get", "members"]).context("the cluster that was there before")?;
    Ok(())
}

/// The gateway ended, and another program has its port now; what was there goes on once the port is free.
fn port_taken(cluster: &Cluster) -> anyhow::Result<()> {
    let state: serde_json::Value = serde_json::from_slice(&fs::read(cluster.directory().join("state.json"))?)?;
    let number = |value: &serde_json::Value| value.as_u64().context("state.json: a number");
    let gateway = i32::try_from(number(&state["gateway_process"]["pid"])?)?;
    let port = u16::try_from(number(&state["kubernetes_port"])?)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(gateway), nix::sys::signal::Signal::SIGKILL)?;
    let taken = eventually("the gateway's port", Duration::from_secs(5), || Ok(TcpListener::bind(("127.0.0.1", port))?))?;
    let start = ["cluster", "start", "--name", "bad"];
    refused(&cluster.try_ctl(&start)?, &[&format!("127.0.0.1:{port}"), "in use", "ss -ltnp"])?;
    drop(taken);
    cluster.ctl(&start)?;
    cluster.ctl(&["get", "members"]).map(drop)
}

/// A client configuration for a cluster, with a certificate of this authority.
fn client(own: &Context, ca: &Ca, roles: &[Role], lifetime: Duration, at: jiff::Timestamp) -> anyhow::Result<String> {
    let issued = ca.issue(&profile::api_client(&Roles(roles.iter().copied().collect()), lifetime), at)?;
    let context = Context::from_pem(&own.ca_pem(), &issued.cert, &issued.key);
    Ok(ClientConfig::single("bad", Context { endpoints: own.endpoints.clone(), nodes: own.nodes.clone(), ..context }).encode())
}

fn strangers(cluster: &Cluster, place: &Path) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now();
    let file = fs::read(cluster.directory().join("talosconfig"))?;
    let known = ClientConfig::parse(&file).map_err(|p| anyhow::anyhow!("{p}"))?;
    let own = known.get(None).context("the cluster's talosconfig has no context")?;
    let secrets = Bundle::parse(&fs::read(cluster.directory().join("secrets.yaml"))?).map_err(|p| anyhow::anyhow!("{p}"))?;
    let pair = secrets.certs.os.context("the cluster has no authority")?;
    let ca = Ca::from_pem(&pair.cert_pem(), pair.key_pem().expose())?;
    let foreign = profile::os_ca(now)?;

    let path = place.join("talosconfig");
    let node = &cluster.nodes()?[0];
    let ask = |text: &str, args: &[&str]| -> anyhow::Result<Said> {
        fs::write(&path, text)?;
        let mut command = cluster.ctl_command(args);
        command::run(command.arg("--nodes").arg(&node.address).env("TALOSCONFIG", &path), COMMAND)
    };
    let day = Duration::from_secs(24 * 3600);
    let admin = client(own, &ca, &[Role::Admin], day, now)?;
    ask(&admin, &["version"])?.success().context("a certificate made as the others are, but right")?;
    let of_others = client(own, &foreign, &[Role::Admin], day, now)?;
    refused(&ask(&of_others, &["version"])?, &["accept", "this client certificate"]).context("a foreign CA's client")?;
    let expired = client(own, &ca, &[Role::Admin], day, now.checked_sub(jiff::SignedDuration::from_hours(240))?)?;
    refused(&ask(&expired, &["version"])?, &["expired at", "gen config"]).context("an expired certificate")?;
    let elsewhere = Context { ca: model::config::secrets::to_base64(&foreign.certificate().to_pem()), ..own.clone() };
    let elsewhere = ClientConfig::single("bad", elsewhere).encode();
    refused(&ask(&elsewhere, &["version"])?, &["signed by another CA", "another cluster"]).context("another cluster's CA")?;
    let broken = Context { crt: "bm90IGEgY2VydGlmaWNhdGUgYXQgYWxs".into(), ..own.clone() };
    refused(&ask(&ClientConfig::single("bad", broken).encode(), &["version"])?, &["certificate"]).context("a certificate that is none")?;
    refused(&ask("contexts: [", &["version"])?, &["talosconfig"]).context("a talosconfig that is not YAML")?;
    refused(&ask("", &["version"])?, &["no contexts", "gen config", "config merge"]).context("an empty talosconfig")?;

    // Who only reads changes nothing.
    let reader = client(own, &ca, &[Role::Reader], day, now)?;
    ask(&reader, &["version"])?.success().context("a reader reads")?;
    let config = place.join("controlplane.yaml").display().to_string();
    refused(&ask(&reader, &["apply-config", "--file", &config])?, &["PermissionDenied"]).context("a reader applies a configuration")?;
    refused(&ask(&reader, &["reboot"])?, &["PermissionDenied"]).context("a reader reboots")?;
    refused(&ask(&reader, &["read", "/system/state/config.yaml"])?, &["PermissionDenied"]).context("a reader reads secrets")?;
    Ok(())
}

fn applied(cluster: &Cluster, place: &Path) -> anyhow::Result<()> {
    let node = cluster.nodes()?.remove(0).address;
    let active = || cluster.ctl(&["-n", &node, "get", "mc", "v1alpha1", "-o", "json"]);
    let before = active()?;
    let path = place.join("bad.yaml").display().to_string();
    let other = generated(cluster.world(), place)?;
    let key = other.lines().find_map(|line| line.trim_start().strip_prefix("key: ")).context("the generated configuration has no key")?;
    let good = generated(cluster.world(), place)?;
    let cases: [(&str, String, &[&str]); 5] = [
        ("a key of another certificate", with(&good, "key:", key), &["machine.ca"]),
        ("cut off", good[..good.len() / 2].to_owned(), &["not valid"]),
        ("an unknown key", good.replacen("    type:", "    typ:", 1), &["unknown key `typ`", "did you mean `type`?"]),
        ("a certificate that is none", with(&good, "crt:", "'%%%'"), &["machine.ca.crt", "not base64"]),
        ("nothing", String::new(), &["no document"]),
    ];
    for (what, text, words) in cases {
        fs::write(&path, text)?;
        refused(&cluster.try_ctl(&["-n", &node, "apply-config", "--file", &path])?, words).context(what)?;
    }
    let said = cluster.try_ctl(&["-n", &node, "patch", "mc", "--patch", "machine: {typ: worker}"])?;
    refused(&said, &["unknown key `typ`", "did you mean `type`?"]).context("a patch with an unknown key")?;
    ensure!(active()? == before, "a refused configuration changed the active one");

    let asked: [(&[&str], &[&str]); 5] = [
        (&["get", "nothings"], &["\"nothings\"", "get rd"]),
        (&["service", "nobody"], &["\"nobody\"", "kubelet"]),
        (&["read", "/no/such/file"], &["/no/such/file", "No such file"]),
        (&["read", "etc/os-release"], &["\"etc/os-release\"", "absolute"]),
        (&["logs", "nobody"], &["nobody"]),
    ];
    for (args, words) in asked {
        let mut all = vec!["-n", node.as_str()];
        all.extend(args);
        refused(&cluster.try_ctl(&all)?, words).with_context(|| args.join(" "))?;
    }
    Ok(())
}

/// It does not come in, its console says why without telling the token, and it goes again.
fn wrong_token(cluster: &Cluster) -> anyhow::Result<()> {
    let patches = cluster.directory().join("patches.json");
    let good = fs::read_to_string(&patches)?;
    let wrong = r#"{"all": [], "controlplanes": [], "workers": ["machine: {token: wrongs.0123456789abcdef}"]}"#;
    fs::write(&patches, wrong)?;
    let said = cluster.try_ctl(&["cluster", "scale", "--name", "bad", "--workers", "1", "--wait-timeout", "15s"])?;
    refused(&said, &["bad-worker-1"])?;
    fs::write(&patches, good)?;
    eventually("the worker's console to tell", Duration::from_secs(20), || {
        let console = cluster.ctl(&["cluster", "logs", "--name", "bad", "bad-worker-1"])?;
        ensure!(console.contains("token"), "it does not speak of the token");
        ensure!(!console.contains("wrongs.0123456789abcdef"), "it tells the token");
        Ok(())
    })?;
    cluster.ctl_long(&["cluster", "scale", "--name", "bad", "--workers", "0"], Duration::from_secs(200))?;
    cluster.wait_ready(1, COMMAND)
}
