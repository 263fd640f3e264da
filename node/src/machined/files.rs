//! The binds that make generated files appear in the read-only `/etc`.

use std::path::Path;

use host::files::{BOUND_DIRECTORIES, BOUND_FILES};
use sys::mount::{self, Flags};

/// Makes the generated files and directories and binds them over their places in `/etc`. Done once a boot; again it changes nothing.
pub(crate) fn bind_etc(system: &Path, etc: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, is_dir) in BOUND_DIRECTORIES.iter().map(|n| (n, true)).chain(BOUND_FILES.iter().map(|n| (n, false))) {
        if let Err(problem) = bind(&system.join(name), &etc.join(name), is_dir) {
            problems.push(format!("binding {} over {}: {problem}", system.join(name).display(), etc.join(name).display()));
        }
    }
    problems
}

fn bind(source: &Path, target: &Path, is_dir: bool) -> Result<(), String> {
    if !source.exists() {
        let made = if is_dir {
            std::fs::create_dir_all(source)
        } else {
            // What the platform put there is kept until the file is generated.
            std::fs::read(target).or_else(|_| Ok(Vec::new())).and_then(|there| std::fs::write(source, there))
        };
        made.map_err(|e| e.to_string())?;
    }
    if same(source, target) {
        return Ok(());
    }
    mount::bind(source, target, Flags::PLAIN, false).map_err(|e| e.to_string())
}

/// Whether both are the same file already: bound before.
fn same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |p: &Path| std::fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    id(a).is_some() && id(a) == id(b)
}
