//! Compiles the payload: the Go modules, and the one program in C. Each module is one step, keyed by its
//! sources, its go.mod and go.sum (which pin everything else), the compilers and the flags; its
//! programs end up in `programs/<module>-<key>/`.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    cmd::Cmd,
    ctx::{Ctx, Step, beside, say},
    key::Key,
    report::{Part, Report},
    spec::{CProgram, GoProgram, Module, Spec},
};

/// Kubernetes takes twenty minutes on two cores that others use too; this is for a machine half as fast.
const GO_DEADLINE: Duration = Duration::from_secs(60 * 60);

/// Where the built programs are.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    dirs: BTreeMap<String, PathBuf>,
}

impl Programs {
    /// The file of `module/program`, or of a program in C.
    pub(crate) fn path(&self, program: &str) -> Result<PathBuf> {
        let (module, name) = program.split_once('/').unwrap_or((program, program));
        let dir = self.dirs.get(module).with_context(|| format!("{module} was not built"))?;
        Ok(dir.join(name))
    }

    /// What decides the content of a program: the directory's name holds its key.
    pub(crate) fn key(&self, program: &str) -> Result<String> {
        let path = self.path(program)?;
        let dir = path.parent().and_then(Path::file_name).context("a program is in a directory")?;
        Ok(dir.to_string_lossy().into_owned())
    }

    /// The directories in use.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        self.dirs.values()
    }
}

/// Builds what is missing; only the modules named, if any are.
pub(crate) fn payload(ctx: &Ctx, spec: &Spec, only: &[String]) -> Result<Programs> {
    for name in only {
        if !spec.module.contains_key(name) && !spec.c.contains_key(name) {
            let known: Vec<_> = spec.module.keys().chain(spec.c.keys()).map(String::as_str).collect();
            bail!("{name:?} is no part of the payload; expected one of: {}", known.join(", "));
        }
    }
    let wanted = |name: &String| only.is_empty() || only.contains(name);
    let go_version = go(ctx, "go-version")
        .set(|c| {
            c.arg("version");
        })
        .output()?;
    let store = ctx.cache_dir("programs")?;

    let mut programs = Programs::default();
    let mut missing = Vec::new();
    for (name, module) in spec.module.iter().filter(|(name, _)| wanted(name)) {
        let key = go_key(ctx, name, module, &go_version)?;
        let dir = store.join(format!("{name}-{key}"));
        if !dir.is_dir() {
            missing.push(Unbuilt::Go { name, module, dir: dir.clone() });
        }
        programs.dirs.insert(name.clone(), dir);
    }
    for (name, program) in spec.c.iter().filter(|(name, _)| wanted(name)) {
        let dir = store.join(format!("{name}-{}", c_key(ctx, name, program)?));
        if !dir.is_dir() {
            missing.push(Unbuilt::C { name, program, dir: dir.clone() });
        }
        programs.dirs.insert(name.clone(), dir);
    }

    let total = missing.len();
    for (n, unbuilt) in missing.iter().enumerate() {
        unbuilt.build(ctx, n + 1, total)?;
    }
    Ok(programs)
}

enum Unbuilt<'a> {
    Go { name: &'a str, module: &'a Module, dir: PathBuf },
    C { name: &'a str, program: &'a CProgram, dir: PathBuf },
}

impl Unbuilt<'_> {
    /// Builds into a directory beside, renamed when whole: a build cut short leaves nothing behind
    /// that would be taken for one.
    fn build(&self, ctx: &Ctx, n: usize, total: usize) -> Result<()> {
        let (Self::Go { name, dir, .. } | Self::C { name, dir, .. }) = self;
        let new = beside(dir);
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new).with_context(|| format!("making {}", new.display()))?;
        match self {
            Self::Go { module, .. } => {
                let mut step = Step::begin(n, total, &format!("building {name} {}", module.version));
                for program in &module.program {
                    go_build(ctx, name, module, program, &new, &mut step).with_context(|| format!("building {name}/{}", program.name))?;
                }
                step.end();
            }
            Self::C { program, .. } => {
                let step = Step::begin(n, total, &format!("building {name}"));
                c_build(ctx, name, program, &new)?;
                step.end();
            }
        }
        fs::rename(&new, dir).with_context(|| format!("putting {} in place", dir.display()))
    }
}

/// What of the payload is written here and has tests: module and packages. The rest is upstream's.
const TESTED: [(&str, &str); 6] =
    [("kubernetes", "./internal/..."), ("etcd", "."), ("flannel", "."), ("cni", "./flannel"), ("tools", "."), ("testpod", ".")];

/// The tests of the payload's own Go code, by themselves.
pub(crate) fn test_alone(ctx: &Ctx) -> Result<()> {
    let mut report = Report::new();
    test(ctx, &mut report)?;
    if report.is_good() { Ok(()) } else { bail!("tests failed") }
}

/// Runs the tests of the payload's own Go code. Go keeps results: unchanged packages cost nothing.
pub(crate) fn test(ctx: &Ctx, report: &mut Report) -> Result<()> {
    for (n, (module, packages)) in TESTED.iter().enumerate() {
        let start = Instant::now();
        let mut step = Step::begin(n + 1, TESTED.len(), &format!("testing payload/{module}"));
        let mut part = Part { name: format!("payload/{module}"), ..Part::default() };
        let mut lines = Vec::new();
        let status = go(ctx, &format!("go-test-{module}"))
            .deadline(GO_DEADLINE)
            .set(|c| {
                // With the build's flags, so that the packages it compiled are not compiled once more.
                c.current_dir(ctx.payload().join(module)).args(["test", "-v", "-trimpath", packages]);
            })
            .run_lines(|line| {
                step.tick("");
                if let Some(line) = line {
                    count(line, lines.last().map(String::as_str), &mut part);
                    lines.push(line.to_owned());
                }
            })
            .with_context(|| format!("payload/{module}"))?;
        part.took = start.elapsed();
        if !status.success() {
            part.failed = part.failed.max(1);
            lines.iter().filter(|line| !line.contains("no test files")).for_each(|line| println!("{line}"));
        }
        say(part.line());
        report.add(part);
    }
    Ok(())
}

/// Counts what a line of `go test -v` says. Why a test skipped stands on the line before.
fn count(line: &str, before: Option<&str>, part: &mut Part) {
    if line.starts_with("--- PASS: ") {
        part.passed += 1;
    } else if line.starts_with("--- FAIL: ") {
        part.failed += 1;
    } else if let Some(name) = line.strip_prefix("--- SKIP: ") {
        part.skips.push(format!("{name}: {}", before.unwrap_or_default().trim()));
    }
}

/// The go command, shielded from settings that would change what it makes.
fn go(ctx: &Ctx, label: &str) -> Cmd {
    // A label without odd characters and a cache directory that exists cannot fail.
    let cmd = Cmd::new(ctx, label, "go").unwrap_or_else(|error| panic!("{error}"));
    cmd.set(|c| {
        c.env("GOFLAGS", "").env("GOWORK", "off").env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
        c.env("GOOS", "linux").env("GOARCH", ctx.arch.go).env("GOAMD64", "v1").env("GOEXPERIMENT", "");
    })
}

fn go_key(ctx: &Ctx, name: &str, module: &Module, go_version: &str) -> Result<String> {
    let mut key = Key::new("go 1");
    key.add("go", go_version).add("arch", ctx.arch.go);
    for program in &module.program {
        key.add("program", serde_json::to_vec(program)?);
        key.add("stamps", module.stamps(program).join(" "));
        for library in &program.cgo_libraries {
            key.add("library", library_version(ctx, library)?);
        }
    }
    key.add_tree(&ctx.payload().join(name), |path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        (file.ends_with(".go") && !file.ends_with("_test.go")) || file == "go.mod" || file == "go.sum"
    })?;
    Ok(key.finish())
}

/// The version of a C library that is linked in, with the compiler's.
fn library_version(ctx: &Ctx, library: &str) -> Result<String> {
    let version = Cmd::new(ctx, "pkg-config", "pkg-config")?
        .set(|c| {
            c.args(["--modversion", library]);
        })
        .output()
        .with_context(|| format!("looking for the C library {library}; `make setup` installs it"))?;
    Ok(format!("{version} {}", gcc_version(ctx)?))
}

fn gcc_version(ctx: &Ctx) -> Result<String> {
    Cmd::new(ctx, "gcc-version", "gcc")?
        .set(|c| {
            c.arg("-dumpfullversion");
        })
        .output()
}

fn go_build(ctx: &Ctx, name: &str, module: &Module, program: &GoProgram, out: &Path, step: &mut Step) -> Result<()> {
    let dir = ctx.payload().join(name);
    let tags = program.tags.join(",");
    let cgo = !program.cgo_libraries.is_empty();
    let configure = |c: &mut Command| {
        c.current_dir(&dir);
        if cgo {
            c.env("CGO_ENABLED", "1");
        }
    };

    // How many packages there are, to say how far the build is. Those in Go's cache are not counted
    // as they are met, so the number runs behind; it is an assurance, not a measure.
    let list = go(ctx, "go-list").deadline(Duration::from_secs(600)).set(configure);
    let packages = list
        .set(|c| {
            c.args(["list", "-deps", "-tags", &tags, &program.package]);
        })
        .output()?;
    let total = packages.lines().count();

    // No build id and no paths: the same sources give the same bytes anywhere.
    let mut linker = String::from("-s -w -buildid=");
    for stamp in module.stamps(program) {
        linker.push_str(" -X ");
        linker.push_str(&stamp);
    }
    if cgo {
        linker.push_str(" -linkmode external -extldflags -static");
    }
    let file = out.join(&program.name);
    go(ctx, &format!("go-build-{name}-{}", program.name))
        .nice()
        .deadline(GO_DEADLINE)
        .set(configure)
        .set(|c| {
            c.args(["build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-tags", &tags]);
            c.args(["-ldflags", &linker]).arg("-o").arg(&file).arg(&program.package);
        })
        .run_ticking(|log| step.tick(&format!("{} of {total} packages,", count_lines(log))))?;
    if !file.is_file() {
        bail!("go build succeeded without making {}; is {} a main package?", file.display(), program.package);
    }
    Ok(())
}

fn count_lines(path: &Path) -> usize {
    fs::File::open(path).map(|file| BufReader::new(file).lines().count()).unwrap_or_default()
}

fn c_key(ctx: &Ctx, name: &str, program: &CProgram) -> Result<String> {
    let mut key = Key::new("c 1");
    key.add("gcc", gcc_version(ctx)?).add("program", serde_json::to_vec(program)?);
    key.add_tree(&ctx.payload().join(name), |path| path.extension().is_some_and(|e| e == "c" || e == "h"))?;
    Ok(key.finish())
}

fn c_build(ctx: &Ctx, name: &str, program: &CProgram, out: &Path) -> Result<()> {
    Cmd::new(ctx, &format!("gcc-{name}"), "gcc")?
        .set(|c| {
            c.current_dir(ctx.payload().join(name));
            c.args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Os", "-static", "-s"]);
            c.args(["-Wl,--build-id=none", "-Wl,-z,noexecstack"]).arg("-o").arg(out.join(name)).args(&program.sources);
        })
        .run()
        .with_context(|| format!("building {name}"))
}
