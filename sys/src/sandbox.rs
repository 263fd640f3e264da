//! Giving up rights: what a process that faces the network does before it reads its first byte.
//!
//! A [`Sandbox`] is built from what the process will need, then [`Sandbox::enter`] takes everything else away, in an order in which each
//! step still has the rights it needs: mount namespace, capabilities' bounding set, user, no_new_privs, Landlock, seccomp. It must run
//! while the process has one thread (before any async runtime starts): namespaces and filters are per thread.
//!
//! What the kernel lacks is told as a warning and left out; what it has but refuses is an error.

use std::{
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::{
    Error, Result, caps,
    error::During,
    mount::{self, Propagation},
    ns::{self, Kind},
    seccomp::{self, Profile},
    spawn::User,
};

/// What a process keeps.
#[derive(Debug, Clone)]
pub struct Sandbox {
    user: Option<User>,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    bind: Option<Vec<u16>>,
    connect: Option<Vec<u16>>,
    profile: Option<Profile>,
    mount_namespace: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Sandbox {
            user: None,
            read: Vec::new(),
            write: Vec::new(),
            bind: Some(Vec::new()),
            connect: Some(Vec::new()),
            profile: Some(Profile::default()),
            mount_namespace: true,
        }
    }
}

/// What entering a sandbox came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Protections this kernel lacks, in words.
    pub warnings: Vec<String>,
}

impl Sandbox {
    /// Nothing is kept: no file, no port.
    pub fn new() -> Sandbox {
        Sandbox::default()
    }

    /// The user and group to become, without supplementary groups. Needs root.
    pub fn user(mut self, uid: u32, gid: u32) -> Sandbox {
        self.user = Some(User { uid, gid, groups: Vec::new() });
        self
    }

    /// Files below `path` may be read. A path that is not there when entering is left out.
    pub fn read(mut self, path: impl AsRef<Path>) -> Sandbox {
        self.read.push(path.as_ref().to_owned());
        self
    }

    /// Files below `path` may be read, written, made and removed (but not executed).
    pub fn write(mut self, path: impl AsRef<Path>) -> Sandbox {
        self.write.push(path.as_ref().to_owned());
        self
    }

    /// TCP ports that may be listened on.
    pub fn bind_tcp(mut self, ports: impl IntoIterator<Item = u16>) -> Sandbox {
        self.bind.get_or_insert_default().extend(ports);
        self
    }

    /// Any TCP port may be listened on.
    pub fn listen_anywhere(mut self) -> Sandbox {
        self.bind = None;
        self
    }

    /// TCP ports that may be connected to, on any address.
    pub fn connect_tcp(mut self, ports: impl IntoIterator<Item = u16>) -> Sandbox {
        self.connect.get_or_insert_default().extend(ports);
        self
    }

    /// Any TCP port may be connected to.
    pub fn connect_anywhere(mut self) -> Sandbox {
        self.connect = None;
        self
    }

    /// Netlink sockets may be made.
    pub fn netlink(mut self) -> Sandbox {
        self.profile = Some(Profile { netlink: true });
        self
    }

    /// Gives up everything else, for good.
    ///
    /// # Errors
    /// When the process has more than one thread, or a step that this kernel knows fails. The process should then end.
    pub fn enter(self) -> Result<Report> {
        let mut report = Report::default();
        self.check_single_thread()?;
        let root = crate::host::is_root();
        if self.mount_namespace && root {
            ns::unshare(&[Kind::Mount])?;
            mount::propagate(Path::new("/"), Propagation::Slave)?;
        }
        if root {
            caps::drop_whole_bounding()?;
        }
        if let Some(user) = &self.user {
            become_user(user)?;
        }
        caps::clear()?;
        nix::sys::prctl::set_no_new_privs().during(|| "set no_new_privs".into())?;
        // Not dumpable: no other process of the same user may look into it.
        nix::sys::prctl::set_dumpable(false).during(|| "make the process undumpable".into())?;
        self.landlock(&mut report)?;
        if let Some(profile) = self.profile {
            match seccomp::install(profile) {
                Err(Error::Missing { feature, hint }) => report.warnings.push(format!("{feature} is missing: {hint}")),
                other => other?,
            }
        }
        Ok(report)
    }

    fn check_single_thread(&self) -> Result<()> {
        let threads = fs::read_dir("/proc/self/task").during(|| "count the threads of this process".into())?.count();
        if threads == 1 {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "a sandbox is entered by a process of one thread, and this one has {threads}: enter before starting a runtime"
        )))
    }

    fn landlock(&self, report: &mut Report) -> Result<()> {
        let abi = ABI::V6;
        let refused = |error: &dyn std::fmt::Display| Error::Invalid(format!("Landlock refused the rules: {error}"));
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))
            .map_err(|e| refused(&e))?;
        if self.bind.is_some() {
            ruleset = ruleset.handle_access(AccessNet::BindTcp).map_err(|e| refused(&e))?;
        }
        if self.connect.is_some() {
            ruleset = ruleset.handle_access(AccessNet::ConnectTcp).map_err(|e| refused(&e))?;
        }
        let mut created = ruleset.scope(Scope::from_all(abi)).map_err(|e| refused(&e))?.create().map_err(|e| refused(&e))?;
        let reading: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
        let writing = AccessFs::from_all(abi) & !BitFlags::from(AccessFs::Execute) & !(AccessFs::MakeBlock | AccessFs::MakeChar);
        for (paths, access) in [(&self.read, reading), (&self.write, writing)] {
            for path in paths {
                let Ok(fd) = PathFd::new(path) else { continue };
                // Rights of directories do not apply to a file.
                let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
                created = created.add_rule(PathBeneath::new(fd, access)).map_err(|e| refused(&e))?;
            }
        }
        for (ports, access) in [(&self.bind, AccessNet::BindTcp), (&self.connect, AccessNet::ConnectTcp)] {
            for port in ports.iter().flatten() {
                created = created.add_rule(NetPort::new(*port, access)).map_err(|e| refused(&e))?;
            }
        }
        let status = created.restrict_self().map_err(|e| refused(&e))?;
        match status.ruleset {
            RulesetStatus::FullyEnforced => {}
            RulesetStatus::PartiallyEnforced => report
                .warnings
                .push("Landlock of this kernel knows only a part of the rules (files, but maybe not TCP ports or scopes)".into()),
            RulesetStatus::NotEnforced => report
                .warnings
                .push("Landlock is missing: files and ports are not restricted (CONFIG_SECURITY_LANDLOCK, lsm=landlock)".into()),
        }
        Ok(())
    }
}

fn become_user(user: &User) -> Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if nix::unistd::geteuid() == uid && nix::unistd::getegid() == gid {
        return Ok(());
    }
    setgroups(&[]).during(|| "give up supplementary groups".into())?;
    setresgid(gid, gid, gid).during(|| format!("become group {gid}"))?;
    setresuid(uid, uid, uid).during(|| format!("become user {uid}"))
}
