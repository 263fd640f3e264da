//! Files below /etc that the node generates: `EtcFileSpec` resources become files in `/system/etc`, which is bound over `/etc`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use engine::{Context, Controller, Inputs, Many, Outputs, Wanted};
use model::host::{EtcFileSpec, EtcFileStatus};

/// Files that stand alone in the read-only `/etc` and are bound over one by one: replacing one by a rename would leave the old one bound,
/// so they are written in place.
pub const BOUND_FILES: &[&str] = &["hosts", "resolv.conf", "hostname", "machine-id"];
/// Directories of `/etc` that are bound over whole.
pub const BOUND_DIRECTORIES: &[&str] = &["cri", "udev"];

/// Writes the files.
#[derive(Debug)]
pub struct EtcFiles {
    /// Where: `/system/etc`.
    pub directory: PathBuf,
}

/// The files.
#[derive(Inputs)]
pub struct In {
    specs: Many<EtcFileSpec>,
}

/// The file's path, when its name stays below the directory.
fn path_of(directory: &Path, id: &str) -> Option<PathBuf> {
    use std::path::Component;
    let relative = Path::new(id);
    let inside = !id.is_empty() && relative.components().all(|c| matches!(c, Component::Normal(_)));
    inside.then(|| directory.join(relative))
}

/// Writes a file unless it is right already.
fn write(path: &Path, id: &str, contents: &[u8], mode: u32) -> std::io::Result<()> {
    let as_wanted =
        std::fs::metadata(path).is_ok_and(|m| m.mode() & 0o7777 == mode) && std::fs::read(path).is_ok_and(|there| there == contents);
    if as_wanted {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let permissions = std::fs::Permissions::from_mode(mode);
    if BOUND_FILES.contains(&id) {
        std::fs::write(path, contents)?;
        return std::fs::set_permissions(path, permissions);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let partial = PathBuf::from(name);
    let mut file = std::fs::File::create(&partial)?;
    file.write_all(contents)?;
    file.set_permissions(permissions)?;
    std::fs::rename(partial, path)
}

impl Controller for EtcFiles {
    const NAME: &'static str = "files.EtcFileController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<EtcFileStatus>()
    }

    async fn reconcile(&self, ctx: &Context, input: In) -> engine::Result<Wanted> {
        let mut wanted = Wanted::new();
        let mut failed = Vec::new();
        for spec in &input.specs {
            let id = spec.meta.id.as_str();
            let Some(path) = path_of(&self.directory, id) else {
                failed.push(format!("{id:?} is no path below /etc"));
                continue;
            };
            match write(&path, id, &spec.spec.contents.0, spec.spec.mode) {
                Ok(()) => wanted = wanted.with(spec.meta.id.clone(), EtcFileStatus { spec_version: spec.meta.version.to_string() }),
                Err(error) => failed.push(format!("{}: {error}", path.display())),
            }
        }
        if ctx.settled() {
            self.remove_others(&input);
        }
        if failed.is_empty() { Ok(wanted) } else { Err(engine::Error::msg(failed.join("; "))) }
    }
}

impl EtcFiles {
    /// Removes generated files that nobody wants any more. The bound ones stay: their places in `/etc` would be empty.
    fn remove_others(&self, input: &In) {
        let wanted: BTreeSet<PathBuf> = input.specs.iter().filter_map(|s| path_of(&self.directory, s.meta.id.as_str())).collect();
        for directory in BOUND_DIRECTORIES {
            remove_unwanted(&self.directory.join(directory), &wanted);
        }
    }
}

fn remove_unwanted(directory: &Path, wanted: &BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_unwanted(&path, wanted);
        } else if !wanted.contains(&path)
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a file that is not wanted any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> EtcFileSpec {
        EtcFileSpec { contents: text.as_bytes().to_vec().into(), mode: 0o644, ..EtcFileSpec::default() }
    }

    async fn reconcile(directory: &Path, ctx: &Context, specs: Many<EtcFileSpec>) -> engine::Result<Wanted> {
        EtcFiles { directory: directory.to_owned() }.reconcile(ctx, In { specs }).await
    }

    #[tokio::test]
    async fn files_are_written_and_go_when_they_are_not_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        let both = Many::of([("cri/conf.d/a", spec("a")), ("hosts", spec("127.0.0.1 localhost\n"))]);
        reconcile(dir.path(), &Context::detached(), both).await.unwrap();
        assert_eq!(read("cri/conf.d/a").as_deref(), Some("a"));
        let before = std::fs::metadata(dir.path().join("hosts")).unwrap().ino();
        let hosts = Many::of([("hosts", spec("127.0.0.1 localhost\n::1 localhost\n"))]);
        reconcile(dir.path(), &Context::detached_unsettled(), hosts.clone()).await.unwrap();
        assert!(read("cri/conf.d/a").is_some(), "nothing goes before all is known");
        reconcile(dir.path(), &Context::detached(), hosts).await.unwrap();
        assert_eq!(read("cri/conf.d/a"), None);
        let after = std::fs::metadata(dir.path().join("hosts")).unwrap().ino();
        assert_eq!((read("hosts").unwrap().lines().count(), before), (2, after), "written in place: it is bound over /etc/hosts");
    }

    #[test]
    fn names_stay_below_etc() {
        for bad in ["", "../passwd", "/passwd", "a/../../b", "."] {
            assert_eq!(path_of(Path::new("/system/etc"), bad), None, "{bad:?}");
        }
        assert_eq!(path_of(Path::new("/system/etc"), "cri/a").unwrap(), Path::new("/system/etc/cri/a"));
    }
}
