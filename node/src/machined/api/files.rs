//! Reading the node's files: read, list, disk usage, copy. Blocking work runs on its own thread and streams through a bounded channel.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io::{Read as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use api::common::Data;
use api::machine as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// A streamed answer.
pub(super) type Stream<T> = ReceiverStream<Result<T, Status>>;

const CHUNK: usize = 32 << 10;

/// An absolute path without steps upwards.
fn absolute(path: &str) -> Result<PathBuf, Status> {
    let given = Path::new(path);
    if !given.is_absolute() {
        return Err(Status::invalid_argument(format!("found path {path:?}, expected an absolute one")));
    }
    Ok(given.components().collect())
}

fn io_status(path: &Path, error: &std::io::Error) -> Status {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => Status::not_found(text),
        std::io::ErrorKind::PermissionDenied => Status::permission_denied(text),
        _ => Status::internal(text),
    }
}

/// Runs blocking work that sends into a stream; the work ends when nobody listens any more.
fn stream<T: Send + 'static>(work: impl FnOnce(&dyn Fn(Result<T, Status>) -> bool) + Send + 'static) -> Stream<T> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || work(&|item| sender.blocking_send(item).is_ok()));
    ReceiverStream::new(receiver)
}

/// The bytes of a regular file.
pub(super) fn read(path: &str) -> Result<Stream<Data>, Status> {
    let path = absolute(path)?;
    let meta = std::fs::metadata(&path).map_err(|e| io_status(&path, &e))?;
    if !meta.is_file() {
        return Err(Status::invalid_argument(format!("{} is not a regular file", path.display())));
    }
    let mut file = std::fs::File::open(&path).map_err(|e| io_status(&path, &e))?;
    Ok(stream(move |send| {
        loop {
            let mut bytes = vec![0; CHUNK];
            match file.read(&mut bytes) {
                Ok(0) => return,
                Ok(size) => {
                    bytes.truncate(size);
                    if !send(Ok(Data { metadata: None, bytes })) {
                        return;
                    }
                }
                Err(error) => {
                    send(Err(io_status(&path, &error)));
                    return;
                }
            }
        }
    }))
}

/// A node of a directory walk: the path, how deep below the root, and what it is.
struct Entry {
    path: PathBuf,
    depth: i32,
    meta: Result<Metadata, std::io::Error>,
}

/// Visits the root and what is below it down to `depth` (−1: all), directories before what is in them, by name.
/// The visitor ends the walk by answering false.
fn walk(root: &Path, depth: i32, visit: &mut dyn FnMut(&Entry) -> bool) -> bool {
    let mut stack = vec![(root.to_owned(), 0)];
    while let Some((path, level)) = stack.pop() {
        let entry = Entry { meta: std::fs::symlink_metadata(&path), depth: level, path };
        if !visit(&entry) {
            return false;
        }
        let is_dir = entry.meta.as_ref().is_ok_and(Metadata::is_dir);
        if !is_dir || (depth >= 0 && level >= depth) {
            continue;
        }
        let Ok(children) = std::fs::read_dir(&entry.path) else { continue };
        let mut children: Vec<PathBuf> = children.filter_map(Result::ok).map(|c| c.path()).collect();
        children.sort_unstable_by(|a, b| b.cmp(a));
        stack.extend(children.into_iter().map(|child| (child, level + 1)));
    }
    true
}

/// File mode as Go's `fs.FileMode` counts it, which is what clients expect on this wire.
fn go_mode(meta: &Metadata) -> u32 {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const PIPE: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const CHAR: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;
    let kind = meta.file_type();
    let mode = meta.mode();
    let bits = [
        (kind.is_dir(), DIR),
        (kind.is_symlink(), SYMLINK),
        (kind.is_block_device(), DEVICE),
        (kind.is_char_device(), DEVICE | CHAR),
        (kind.is_fifo(), PIPE),
        (kind.is_socket(), SOCKET),
        (mode & 0o4000 != 0, SETUID),
        (mode & 0o2000 != 0, SETGID),
        (mode & 0o1000 != 0, STICKY),
    ];
    bits.iter().filter(|(set, _)| *set).fold(mode & 0o777, |all, (_, bit)| all | bit)
}

/// A path below the root; of the root itself `.`, or its name when it is a file.
fn relative(root: &Path, path: &Path) -> String {
    let rest = path.strip_prefix(root).unwrap_or(path);
    if rest.as_os_str().is_empty() {
        if root.is_dir() {
            return ".".to_owned();
        }
        return root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
    }
    rest.display().to_string()
}

fn file_info(root: &Path, entry: &Entry) -> pb::FileInfo {
    let mut info =
        pb::FileInfo { name: entry.path.display().to_string(), relative_name: relative(root, &entry.path), ..pb::FileInfo::default() };
    match &entry.meta {
        Ok(meta) => {
            info.size = i64::try_from(meta.len()).unwrap_or(i64::MAX);
            info.mode = go_mode(meta);
            info.modified = meta.mtime();
            info.is_dir = meta.is_dir();
            info.uid = meta.uid();
            info.gid = meta.gid();
            if meta.is_symlink() {
                info.link = std::fs::read_link(&entry.path).map(|p| p.display().to_string()).unwrap_or_default();
            }
        }
        Err(error) => info.error = error.to_string(),
    }
    info
}

/// Whether the listing was asked for entries of this kind; no kinds means all.
fn listed(types: &[i32], meta: &Result<Metadata, std::io::Error>) -> bool {
    use pb::list_request::Type;
    let Ok(meta) = meta else { return true };
    types.is_empty()
        || types.iter().any(|t| match Type::try_from(*t) {
            Ok(Type::Regular) => meta.is_file(),
            Ok(Type::Directory) => meta.is_dir(),
            Ok(Type::Symlink) => meta.is_symlink(),
            Err(_) => false,
        })
}

/// A directory listing.
pub(super) fn list(request: pb::ListRequest) -> Result<Stream<pb::FileInfo>, Status> {
    let root = absolute(if request.root.is_empty() { "/" } else { &request.root })?;
    std::fs::symlink_metadata(&root).map_err(|e| io_status(&root, &e))?;
    // The root itself may be a link to a directory.
    let root = if root.is_dir() { root.canonicalize().unwrap_or(root) } else { root };
    let depth = match (request.recurse, request.recursion_depth) {
        (false, _) => 1,
        (true, 0) => -1,
        (true, depth) => depth,
    };
    Ok(stream(move |send| {
        walk(&root, depth, &mut |entry| !listed(&request.types, &entry.meta) || send(Ok(file_info(&root, entry))));
    }))
}

/// How much disk directories take, in bytes, children before their parents.
pub(super) fn disk_usage(request: pb::DiskUsageRequest) -> Result<Stream<pb::DiskUsageInfo>, Status> {
    let given = if request.paths.is_empty() { vec!["/".to_owned()] } else { request.paths.clone() };
    let roots = given.iter().map(|p| absolute(p)).collect::<Result<Vec<_>, _>>()?;
    Ok(stream(move |send| {
        for root in &roots {
            let mut seen = HashSet::new();
            usage(root, root, 0, &request, &mut seen, send);
        }
    }))
}

/// Sends the usage of what is below and of this path itself; returns its bytes. Hard links count once.
fn usage(
    root: &Path,
    path: &Path,
    depth: i32,
    request: &pb::DiskUsageRequest,
    seen: &mut HashSet<(u64, u64)>,
    send: &dyn Fn(Result<pb::DiskUsageInfo, Status>) -> bool,
) -> i64 {
    let mut info =
        pb::DiskUsageInfo { name: path.display().to_string(), relative_name: relative(root, path), ..pb::DiskUsageInfo::default() };
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => {
            info.error = error.to_string();
            send(Ok(info));
            return 0;
        }
    };
    let counted = meta.nlink() < 2 || meta.is_dir() || seen.insert((meta.dev(), meta.ino()));
    let mut size = if counted { i64::try_from(meta.blocks() * 512).unwrap_or(i64::MAX) } else { 0 };
    if meta.is_dir() {
        let mut children: Vec<PathBuf> =
            std::fs::read_dir(path).map(|d| d.filter_map(Result::ok).map(|e| e.path()).collect()).unwrap_or_default();
        children.sort_unstable();
        for child in children {
            size = size.saturating_add(usage(root, &child, depth + 1, request, seen, send));
        }
    }
    let deep = request.recursion_depth > 0 && depth > request.recursion_depth;
    let wanted = depth == 0 || request.all || meta.is_dir();
    // A negative threshold keeps what is smaller than its amount, as du does.
    let passes = if request.threshold < 0 { size <= -request.threshold } else { size >= request.threshold };
    if wanted && !deep && passes {
        info.size = size;
        send(Ok(info));
    }
    size
}

/// Writes into the stream what is written to it.
struct Sender<'a>(&'a dyn Fn(Result<Data, Status>) -> bool);

impl Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if (self.0)(Ok(Data { metadata: None, bytes: bytes.to_owned() })) {
            Ok(bytes.len())
        } else {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A gzipped tar of a path. Files that change or vanish meanwhile are taken as they are then, special files are left out.
pub(super) fn copy(path: &str) -> Result<Stream<Data>, Status> {
    let root = absolute(path)?;
    // The root itself may be a link: what it leads to is meant.
    let root = root.canonicalize().map_err(|e| io_status(&root, &e))?;
    Ok(stream(move |send| {
        let buffered = std::io::BufWriter::with_capacity(CHUNK, Sender(send));
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(buffered, flate2::Compression::fast()));
        archive.follow_symlinks(false);
        let mut failed = None;
        walk(&root, -1, &mut |entry| {
            let Ok(meta) = &entry.meta else { return true };
            let kind = meta.file_type();
            if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
                return true;
            }
            let name = relative(&root, &entry.path);
            match archive.append_path_with_name(&entry.path, &name) {
                Ok(()) => true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && entry.depth > 0 => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        });
        let end = || -> std::io::Result<()> { archive.into_inner()?.finish()?.flush() };
        if let Some(error) = failed.or_else(|| end().err()) {
            send(Err(io_status(&root, &error)));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt as _;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/one"), "1").unwrap();
        std::fs::write(dir.path().join("a/b/two"), "22").unwrap();
        std::os::unix::fs::symlink("one", dir.path().join("a/link")).unwrap();
        dir
    }

    async fn names(request: pb::ListRequest) -> Vec<String> {
        list(request).unwrap().map(|i| i.unwrap().relative_name).collect().await
    }

    #[tokio::test]
    async fn a_listing_goes_as_deep_as_asked() {
        let dir = tree();
        let root = dir.path().join("a").display().to_string();
        let flat = pb::ListRequest { root: root.clone(), ..Default::default() };
        assert_eq!(names(flat).await, [".", "b", "link", "one"]);
        let deep = pb::ListRequest { root: root.clone(), recurse: true, ..Default::default() };
        assert_eq!(names(deep).await, [".", "b", "b/two", "link", "one"]);
        let links = pb::ListRequest { root, types: vec![pb::list_request::Type::Symlink.into()], ..Default::default() };
        assert_eq!(names(links).await, ["link"]);
    }

    #[tokio::test]
    async fn a_copy_is_a_tar_that_tar_reads() {
        let dir = tree();
        let mut bytes = Vec::new();
        let mut stream = copy(&dir.path().join("a").display().to_string()).unwrap();
        while let Some(part) = stream.next().await {
            bytes.extend(part.unwrap().bytes);
        }
        let file = dir.path().join("out.tar.gz");
        std::fs::write(&file, bytes).unwrap();
        let listed = std::process::Command::new("tar").arg("tzf").arg(&file).output().unwrap();
        assert_eq!(String::from_utf8(listed.stdout).unwrap(), ".\nb\nb/two\nlink\none\n");
    }

    #[tokio::test]
    async fn reading_wants_an_absolute_path_to_a_regular_file() {
        assert_eq!(read("etc/passwd").unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(read("/nowhere/at/all").unwrap_err().code(), tonic::Code::NotFound);
        assert_eq!(read("/").unwrap_err().message(), "/ is not a regular file");
    }

    #[tokio::test]
    async fn usage_counts_a_hard_link_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), vec![1; 8192]).unwrap();
        let request = || pb::DiskUsageRequest { paths: vec![dir.path().display().to_string()], ..Default::default() };
        let size = |infos: Vec<pb::DiskUsageInfo>| infos.last().map(|i| i.size);
        let before: Vec<_> = disk_usage(request()).unwrap().map(Result::unwrap).collect().await;
        std::fs::hard_link(dir.path().join("x"), dir.path().join("y")).unwrap();
        let after: Vec<_> = disk_usage(request()).unwrap().map(Result::unwrap).collect().await;
        assert!(size(before.clone()) >= Some(8192));
        assert_eq!(size(after), size(before));
    }
}
