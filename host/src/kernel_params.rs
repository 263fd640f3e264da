//! Kernel parameters: what is wanted is written to /proc/sys, what is there is told.
//!
//! A container node shares its host's kernel. It writes only what its own namespaces hold (`net.*` and a few of `kernel.*`); the rest is
//! `unsupported` there, whatever the configuration says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{Context, Controller, Inputs, Many, One, OneExt as _, Outputs, Wanted};
use model::host::{KernelParamDefaultSpec, KernelParamSpec, KernelParamStatus, MachineConfig};

/// The `kernel.*` parameters that belong to a namespace (UTS, IPC), so that a container's own value is its own.
const NAMESPACED: &[&str] = &[
    "kernel.hostname",
    "kernel.domainname",
    "kernel.shmmax",
    "kernel.shmall",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
];

/// What every node wants: what Kubernetes' networking needs.
const DEFAULTS: &[(&str, &str)] =
    &[("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.default.forwarding", "1"), ("net.ipv6.conf.all.forwarding", "1")];

/// Whether a container node may write the parameter.
#[must_use]
pub fn allowed_in_container(name: &str) -> bool {
    name.starts_with("net.") || NAMESPACED.contains(&name)
}

/// Its file; `None` for what is no parameter's name.
fn path_of(root: &Path, name: &str) -> Option<PathBuf> {
    // Names part by dots; a name of a link may hold dots itself, which is then written with slashes, as sysctl(8) does.
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let plain = !relative.is_empty() && relative.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    plain.then(|| root.join(relative))
}

/// The name with dots, however it was written.
fn canonical(name: &str) -> String {
    name.trim_start_matches("proc.sys.").replace('/', ".")
}

/// From the configuration to specs.
#[derive(Debug, Default)]
pub struct Specs;

/// The configuration.
#[derive(Inputs)]
pub struct SpecsIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
}

impl Controller for Specs {
    const NAME: &'static str = "runtime.KernelParamConfigController";
    type In = SpecsIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<KernelParamSpec>().exclusive::<KernelParamDefaultSpec>()
    }

    async fn reconcile(&self, _: &Context, input: SpecsIn) -> engine::Result<Wanted> {
        let default = |(name, value): &(&str, &str)| {
            (format!("proc.sys.{name}"), KernelParamDefaultSpec { value: (*value).into(), ignore_errors: true })
        };
        let configured =
            input.config.spec().and_then(MachineConfig::machine).map(model::config::MachineConfig::sysctls).unwrap_or_default();
        let spec =
            |(name, value): (String, String)| (format!("proc.sys.{}", canonical(&name)), KernelParamSpec { value, ignore_errors: false });
        Ok(Wanted::new().all(DEFAULTS.iter().map(default)).all(configured.into_iter().map(spec)))
    }
}

/// From specs to the kernel.
#[derive(Debug)]
pub struct Apply {
    /// `/proc/sys`.
    pub root: PathBuf,
    /// Whether the kernel is a host's.
    pub container: bool,
}

/// What is wanted.
#[derive(Inputs)]
pub struct ApplyIn {
    specs: Many<KernelParamSpec>,
    defaults: Many<KernelParamDefaultSpec>,
    statuses: Many<KernelParamStatus>,
}

impl Apply {
    /// Makes it so; the status, or why it could not be.
    fn one(&self, name: &str, value: &str, before: Option<&KernelParamStatus>) -> Result<KernelParamStatus, String> {
        let path = path_of(&self.root, name)
            .ok_or_else(|| format!("found kernel parameter {name:?}, expected a name such as net.ipv4.ip_forward"))?;
        let read = || std::fs::read_to_string(&path).map(|text| text.trim().to_owned());
        let current = match read() {
            Ok(current) => current,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(KernelParamStatus { unsupported: true, ..KernelParamStatus::default() });
            }
            Err(error) => return Err(format!("{name}: {error}")),
        };
        let default = before.filter(|b| !b.default.is_empty()).map_or_else(|| current.clone(), |b| b.default.clone());
        if self.container && !allowed_in_container(name) {
            return Ok(KernelParamStatus { current, default, unsupported: true });
        }
        if current != value {
            std::fs::write(&path, value).map_err(|e| format!("{name}={value}: {e}"))?;
        }
        Ok(KernelParamStatus { current: read().unwrap_or(current), default, unsupported: false })
    }
}

impl Controller for Apply {
    const NAME: &'static str = "runtime.KernelParamSpecController";
    type In = ApplyIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<KernelParamStatus>()
    }

    async fn reconcile(&self, ctx: &Context, input: ApplyIn) -> engine::Result<Wanted> {
        let mut values: BTreeMap<&str, (&str, bool)> = BTreeMap::new();
        for spec in &input.defaults {
            values.insert(spec.meta.id.as_str(), (&spec.spec.value, spec.spec.ignore_errors));
        }
        for spec in &input.specs {
            values.insert(spec.meta.id.as_str(), (&spec.spec.value, spec.spec.ignore_errors));
        }
        let mut wanted = Wanted::new();
        let mut failed = Vec::new();
        for (id, (value, ignore)) in &values {
            let before = input.statuses.get(id).map(|s| &s.spec);
            match self.one(id.trim_start_matches("proc.sys."), value, before) {
                Ok(status) => wanted = wanted.with((*id).to_owned(), status),
                Err(_) if *ignore => {}
                Err(reason) => failed.push(reason),
            }
        }
        if ctx.settled() {
            self.restore(&input, &values);
        }
        if failed.is_empty() { Ok(wanted) } else { Err(engine::Error::msg(failed.join("; "))) }
    }
}

impl Apply {
    /// Gives a parameter that nobody wants any more the value back that it had before.
    fn restore(&self, input: &ApplyIn, values: &BTreeMap<&str, (&str, bool)>) {
        for status in &input.statuses {
            let (id, s) = (status.meta.id.as_str(), &status.spec);
            if values.contains_key(id) || s.unsupported || s.current == s.default {
                continue;
            }
            if let Err(reason) = self.one(id.trim_start_matches("proc.sys."), &s.default, Some(s)) {
                tracing::warn!(%reason, "cannot restore a kernel parameter");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("net/ipv4")).unwrap();
        std::fs::create_dir_all(dir.path().join("vm")).unwrap();
        std::fs::write(dir.path().join("net/ipv4/ip_forward"), "0\n").unwrap();
        std::fs::write(dir.path().join("vm/swappiness"), "60\n").unwrap();
        dir
    }

    fn apply(dir: &tempfile::TempDir, container: bool) -> Apply {
        Apply { root: dir.path().to_owned(), container }
    }

    #[test]
    fn a_container_writes_only_what_is_its_own() {
        let dir = tree();
        let status = apply(&dir, true).one("vm.swappiness", "10", None).unwrap();
        assert_eq!(status, KernelParamStatus { current: "60".into(), default: "60".into(), unsupported: true });
        assert_eq!(std::fs::read_to_string(dir.path().join("vm/swappiness")).unwrap(), "60\n");
        let status = apply(&dir, true).one("net.ipv4.ip_forward", "1", None).unwrap();
        assert_eq!(status, KernelParamStatus { current: "1".into(), default: "0".into(), unsupported: false });
        assert_eq!(apply(&dir, false).one("vm.swappiness", "10", None).unwrap().current, "10");
    }

    #[test]
    fn only_namespaced_kernel_parameters_are_a_container_s() {
        for yes in ["net.core.somaxconn", "kernel.shmmax", "kernel.hostname"] {
            assert!(allowed_in_container(yes), "{yes}");
        }
        for no in ["kernel.panic", "vm.overcommit_memory", "fs.file-max", "kernel.pid_max", "kernel.keys.maxkeys"] {
            assert!(!allowed_in_container(no), "{no}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_tree() {
        for bad in ["", "..", "net..ipv4", "a/../b", "/etc/passwd"] {
            assert_eq!(path_of(Path::new("/proc/sys"), bad), None, "{bad:?}");
        }
        assert_eq!(
            path_of(Path::new("/proc/sys"), "net/ipv4/conf/eth0.1/forwarding").unwrap(),
            Path::new("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
    }

    #[tokio::test]
    async fn what_is_not_wanted_any_more_gets_its_old_value_back() {
        let dir = tree();
        let hands = apply(&dir, false);
        hands.one("vm.swappiness", "10", None).unwrap();
        let status = KernelParamStatus { current: "10".into(), default: "60".into(), unsupported: false };
        let input = ApplyIn { specs: Many::default(), defaults: Many::default(), statuses: Many::of([("proc.sys.vm.swappiness", status)]) };
        hands.reconcile(&Context::detached(), input).await.unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("vm/swappiness")).unwrap(), "60");
    }
}
