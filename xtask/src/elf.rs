//! Which shared libraries a program needs, all the way down, out of a directory that holds unpacked
//! Debian packages. Reads ELF files; runs nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use object::{
    Endianness,
    elf::{self, FileHeader64},
    read::elf::{Dyn, FileHeader, ProgramHeader},
};

use crate::ctx::Arch;

/// What one ELF file asks for.
#[derive(Debug, PartialEq, Eq)]
struct Needs {
    libraries: Vec<String>,
    interpreter: Option<String>,
}

fn needs(data: &[u8]) -> Result<Needs, object::read::Error> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let mut found = Needs { libraries: Vec::new(), interpreter: None };
    let segments = header.program_headers(endian, data)?;
    for segment in segments {
        if let Some(interpreter) = segment.interpreter(endian, data)? {
            found.interpreter = Some(String::from_utf8_lossy(interpreter).into_owned());
        }
    }
    let sections = header.sections(endian, data)?;
    if let Some((entries, strings)) = sections.dynamic(endian, data)? {
        let strings = sections.strings(endian, data, strings)?;
        for entry in entries.iter().filter(|entry| entry.tag32(endian) == Some(elf::DT_NEEDED)) {
            found.libraries.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
        }
    }
    Ok(found)
}

/// Does the file carry a symbol table, which nothing needs to run it?
pub(crate) fn has_symbols(file: &Path) -> Result<bool> {
    let data = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let parse = || -> Result<bool, object::read::Error> {
        let header = FileHeader64::<Endianness>::parse(data.as_slice())?;
        let endian = header.endian()?;
        let sections = header.sections(endian, data.as_slice())?;
        Ok(!sections.symbols(endian, data.as_slice(), elf::SHT_SYMTAB)?.is_empty())
    };
    parse().with_context(|| format!("{} as an ELF file", file.display()))
}

/// The libraries of `program` and the dynamic loader: path in the image → file. Libraries go where
/// the loader looks without being told; each is there under the one name it is asked for by.
pub(crate) fn closure(arch: Arch, sysroot: &Path, program: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut queue = vec![program.to_path_buf()];
    while let Some(file) = queue.pop() {
        let data = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let needs = needs(&data).with_context(|| format!("{} as an ELF file", file.display()))?;
        let loader = needs.interpreter.iter().map(|path| path.rsplit('/').next().unwrap_or(path).to_owned());
        for name in needs.libraries.iter().cloned().chain(loader) {
            if !seen.insert(name.clone()) {
                continue;
            }
            let path = locate(arch, sysroot, &name).with_context(|| format!("{} needs {name}", file.display()))?;
            let place =
                if arch.loader.ends_with(&name) { format!("/usr/{}", arch.loader) } else { format!("/usr/lib/{}/{name}", arch.triple) };
            found.insert(place, path.clone());
            queue.push(path);
        }
    }
    Ok(found)
}

/// Finds a library by name. Links are followed by hand where they are absolute: they mean the
/// packages' root, not the machine's.
pub(crate) fn locate(arch: Arch, sysroot: &Path, name: &str) -> Result<PathBuf> {
    let places = [format!("usr/lib/{}", arch.triple), format!("lib/{}", arch.triple), "usr/lib64".into(), "lib64".into(), "usr/lib".into()];
    for place in &places {
        let path = sysroot.join(place).join(name);
        if path.symlink_metadata().is_ok() {
            return resolve(sysroot, path);
        }
    }
    bail!("no package of payload/debian.lock holds it (looked in {})", places.join(", "))
}

fn resolve(sysroot: &Path, mut path: PathBuf) -> Result<PathBuf> {
    for _ in 0..16 {
        let Ok(target) = fs::read_link(&path) else {
            return Ok(path);
        };
        path = match target.strip_prefix("/") {
            Ok(inside) => sysroot.join(inside),
            Err(_) => path.parent().unwrap_or(sysroot).join(target),
        };
    }
    bail!("{} is a chain of more than 16 links", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCH: Arch = Arch { go: "amd64", triple: "x86_64-linux-gnu", loader: "lib64/ld-linux-x86-64.so.2" };

    #[test]
    fn a_program_of_this_machine_is_read() {
        let data = fs::read("/bin/sh").unwrap();
        let needs = needs(&data).unwrap();
        assert!(needs.libraries.iter().any(|l| l == "libc.so.6"), "{needs:?}");
        assert_eq!(needs.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
    }

    #[test]
    fn symbols_are_seen() {
        assert!(has_symbols(&std::env::current_exe().unwrap()).unwrap());
        assert!(!has_symbols(Path::new("/bin/sh")).unwrap());
    }

    #[test]
    fn links_mean_the_packages_root() {
        let dir = tempfile::tempdir().unwrap();
        let libs = dir.path().join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&libs).unwrap();
        fs::write(libs.join("liba.so.1.2"), "").unwrap();
        std::os::unix::fs::symlink("/usr/lib/x86_64-linux-gnu/liba.so.1.2", libs.join("liba.so.1")).unwrap();
        std::os::unix::fs::symlink("liba.so.1", libs.join("liba.so")).unwrap();
        assert_eq!(locate(ARCH, dir.path(), "liba.so").unwrap(), libs.join("liba.so.1.2"));
        assert!(locate(ARCH, dir.path(), "libb.so").unwrap_err().to_string().contains("debian.lock"));
    }

    #[test]
    fn the_closure_of_a_dynamic_program_holds_its_loader() {
        // The machine's own root serves as packages unpacked.
        let found = closure(ARCH, Path::new("/"), Path::new("/bin/sh")).unwrap();
        assert!(found.contains_key("/usr/lib64/ld-linux-x86-64.so.2"), "{found:?}");
        assert!(found.contains_key("/usr/lib/x86_64-linux-gnu/libc.so.6"), "{found:?}");
    }
}
