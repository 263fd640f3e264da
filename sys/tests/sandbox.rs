//! What a sandboxed process can still do, and what not. Run as root it also changes the user and the mount namespace.
//!
//! Without libtest: a sandbox is entered by a process of one thread, which libtest's are not. The program starts itself once more as the
//! subject.

use std::{
    fs,
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use sys::sandbox::Sandbox;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("subject") => subject(),
        Some("crowded") => crowded(),
        _ => run(),
    }
}

fn run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in ["readable", "writable", "hidden"] {
        fs::create_dir(dir.path().join(name)).expect("a directory");
        fs::write(dir.path().join(name).join("file"), name).expect("a file");
        // Open to every user, so that only the sandbox stands in the way.
        Command::new("chmod").args(["-R", "0777"]).arg(dir.path()).status().expect("chmod");
    }
    let open = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = open.local_addr().expect("an address").port().to_string();
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let forbidden = closed.local_addr().expect("an address").port().to_string();
    let me = std::env::current_exe().expect("own path");
    for args in [vec!["subject", dir.path().to_str().expect("UTF-8"), &port, &forbidden], vec!["crowded"]] {
        let output = Command::new(&me).args(&args).output().expect("to run the subject");
        assert!(
            output.status.success(),
            "{args:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        print!("{}", String::from_utf8_lossy(&output.stdout));
    }
    println!("sandbox: ok");
}

fn crowded() {
    let (hold, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    let error = Sandbox::new().enter().expect_err("a refusal with two threads");
    assert!(error.to_string().contains("this one has 2"), "{error}");
    drop(hold);
    let _ = thread.join();
}

fn subject() {
    let args: Vec<String> = std::env::args().collect();
    let dir = Path::new(&args[2]);
    let port = |index: usize| args[index].parse::<u16>().expect("a port");
    let (allowed, forbidden) = (port(3), port(4));
    let root = sys::host::is_root();
    let mounts_before = fs::read_link("/proc/self/ns/mnt").expect("own mount namespace");

    let mut sandbox = Sandbox::new()
        .read(dir.join("readable"))
        .read("/proc")
        .write(dir.join("writable"))
        .read("/no/such/path")
        .connect_tcp([allowed])
        .bind_tcp([0]);
    if root {
        sandbox = sandbox.user(65534, 65534);
    } else {
        println!("skipped: not root: the change of user and of the mount namespace are left out");
    }
    let report = sandbox.enter().expect("to enter");

    // Undumpable, the process cannot look into its own /proc any more; status stays readable.
    let status = fs::read_to_string("/proc/self/status").expect("own status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_eq!(field("CapEff:"), "0000000000000000");
    assert_eq!(field("CapPrm:"), "0000000000000000");
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    if root {
        assert_eq!(field("CapBnd:"), "0000000000000000");
        assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
        assert_eq!(field("Groups:"), "");
        let _ = mounts_before;
    }

    assert_eq!(fs::read_to_string(dir.join("readable/file")).expect("a readable file"), "readable");
    fs::write(dir.join("writable/new"), "x").expect("a writable directory");
    fs::remove_file(dir.join("writable/new")).expect("a writable directory");
    assert!(TcpStream::connect(("127.0.0.1", allowed)).is_ok());
    let no_exec = Command::new("/bin/true").status().expect_err("execve must be refused");
    assert_eq!(no_exec.kind(), ErrorKind::PermissionDenied);
    std::thread::spawn(|| {}).join().expect("threads still start");

    if report.warnings.is_empty() {
        for denied in
            [fs::read(dir.join("hidden/file")).map(drop), fs::read("/etc/passwd").map(drop), fs::write(dir.join("readable/file"), "y")]
        {
            assert_eq!(denied.expect_err("Landlock must refuse it").kind(), ErrorKind::PermissionDenied);
        }
        let connected = TcpStream::connect(("127.0.0.1", forbidden)).expect_err("Landlock must refuse the port");
        assert_eq!(connected.kind(), ErrorKind::PermissionDenied);
        let bound = TcpListener::bind("127.0.0.1:54321").expect_err("Landlock must refuse the port");
        assert_eq!(bound.kind(), ErrorKind::PermissionDenied);
    } else {
        println!("left out, the kernel lacks it: {:?}", report.warnings);
    }
    // The subject's libc probing forbidden calls gets an answer, not a death: still here.
    println!("subject: ok");
}
