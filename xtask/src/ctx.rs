//! Where things are and who is told: the checkout, the cache directory, the machine's architecture,
//! and the progress lines.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The machine's architecture under the names that others have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arch {
    /// Go's and OCI's.
    pub(crate) go: &'static str,
    /// The directory of shared libraries in Debian.
    pub(crate) triple: &'static str,
    /// The dynamic loader, as ELF files name it, without the leading slash.
    pub(crate) loader: &'static str,
}

impl Arch {
    fn of_host() -> Result<Self> {
        match env::consts::ARCH {
            "x86_64" => Ok(Self { go: "amd64", triple: "x86_64-linux-gnu", loader: "lib64/ld-linux-x86-64.so.2" }),
            other => {
                bail!("found the architecture {other}; the payload is built on and for x86_64")
            }
        }
    }
}

/// What every step gets.
pub(crate) struct Ctx {
    /// The root of the checkout.
    pub(crate) repo: PathBuf,
    /// The cache directory; see [`Ctx::new`].
    pub(crate) cache: PathBuf,
    /// What is built for: the machine at hand.
    pub(crate) arch: Arch,
}

impl Ctx {
    /// The cache is `$ORLOP_CACHE`, else `orlop` in `$XDG_CACHE_HOME`, else `~/.cache/orlop`.
    pub(crate) fn new() -> Result<Self> {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the xtask crate has no directory above it")?.to_path_buf();
        let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = named("ORLOP_CACHE")
            .or_else(|| named("XDG_CACHE_HOME").map(|dir| dir.join("orlop")))
            .or_else(|| named("HOME").map(|dir| dir.join(".cache/orlop")))
            .context("no place for the cache: none of ORLOP_CACHE, XDG_CACHE_HOME and HOME is set")?;
        if !cache.is_absolute() {
            bail!("the cache directory {} is a relative path; expected an absolute one", cache.display());
        }
        fs::create_dir_all(&cache).with_context(|| format!("making the cache directory {}", cache.display()))?;
        Ok(Self { repo, cache, arch: Arch::of_host()? })
    }

    /// The payload's sources.
    pub(crate) fn payload(&self) -> PathBuf {
        self.repo.join("payload")
    }

    /// A directory of the cache, made if missing.
    pub(crate) fn cache_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.cache.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }

    /// Holds the cache against other runs until the value is dropped, waiting for one under way.
    pub(crate) fn lock(&self) -> Result<fs::File> {
        let path = self.cache.join("lock");
        let file = fs::File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                say("another build uses the cache; waiting for it to end");
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        file.lock().with_context(|| format!("locking {}", path.display()))?;
        Ok(file)
    }
}

/// Tells whoever waits one line. Progress goes to standard error; results to standard output.
pub(crate) fn say(line: impl AsRef<str>) {
    // Nobody to tell is no reason to stop building.
    let _ = writeln!(std::io::stderr(), "==> {}", line.as_ref());
}

/// A step among several: says when it starts, that it lives, and how long it took.
pub(crate) struct Step {
    label: String,
    start: Instant,
    last: Instant,
}

/// How often a step that takes long says so.
const HEARTBEAT: Duration = Duration::from_secs(15);

impl Step {
    /// `n` of `total` begins.
    pub(crate) fn begin(n: usize, total: usize, what: &str) -> Self {
        let label = if total > 1 { format!("[{n}/{total}] {what}") } else { what.to_owned() };
        say(&label);
        let now = Instant::now();
        Self { label, start: now, last: now }
    }

    /// Called often; speaks seldom.
    pub(crate) fn tick(&mut self, how_far: &str) {
        if self.last.elapsed() >= HEARTBEAT {
            self.last = Instant::now();
            say(format!("{} … {how_far} {}", self.label, spell(self.start.elapsed())));
        }
    }

    /// The step is done.
    pub(crate) fn end(self) {
        if self.start.elapsed() >= Duration::from_secs(1) {
            say(format!("{}: done in {}", self.label, spell(self.start.elapsed())));
        }
    }
}

/// A duration as one says it.
pub(crate) fn spell(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// Bytes in MB (10⁶), as the budgets count them.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// A path beside `target` to build at before it is renamed there.
pub(crate) fn beside(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}", std::process::id()));
    target.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_spelt_for_people() {
        assert_eq!(spell(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(spell(Duration::from_secs(42)), "42 s");
        assert_eq!(spell(Duration::from_secs(421)), "7 min 01 s");
        assert_eq!(megabytes(154_320_000), "154.3 MB");
    }
}
