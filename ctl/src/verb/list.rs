//! `list`: directories of nodes.

use anyhow::bail;
use api::machine as pb;
use clap::{Args, ValueEnum};
use pb::list_request::Type;

use crate::session::Session;
use crate::table::{Table, bytes};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    #[value(name = "f")]
    File,
    #[value(name = "d")]
    Directory,
    #[value(name = "l", alias = "L")]
    Link,
}

/// List a directory.
#[derive(Debug, Args)]
pub struct List {
    /// Its absolute path.
    #[arg(default_value = "/")]
    path: String,
    /// How deep to go with --recurse.
    #[arg(long, short, default_value_t = 1)]
    depth: i32,
    /// Sizes with units, times as dates.
    #[arg(long, short = 'H')]
    humanize: bool,
    /// Modes, owners, sizes and times too.
    #[arg(long, short)]
    long: bool,
    /// Go into directories, all the way down unless --depth says how far.
    #[arg(long, short)]
    recurse: bool,
    /// Only these: f files, d directories, l links.
    #[arg(long, short = 't', value_enum, value_delimiter = ',')]
    r#type: Vec<Kind>,
}

/// The mode as `ls -l` shows it. On the wire the kinds are the high bits of Go's `fs.FileMode`.
fn mode(wire: u32) -> String {
    const KINDS: [(u32, char); 6] = [(31, 'd'), (27, 'l'), (21, 'c'), (26, 'b'), (25, 'p'), (24, 's')];
    let kind = KINDS.iter().find(|(bit, _)| wire >> bit & 1 == 1).map_or('-', |(_, letter)| *letter);
    let mut text = kind.to_string();
    for (shift, special, letter) in [(6, 23, 's'), (3, 22, 's'), (0, 20, 't')] {
        let may = |bit: u32| wire >> (shift + bit) & 1 == 1;
        text.push(if may(2) { 'r' } else { '-' });
        text.push(if may(1) { 'w' } else { '-' });
        text.push(match (wire >> special & 1 == 1, may(0)) {
            (false, true) => 'x',
            (false, false) => '-',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    text
}

fn name(info: &pb::FileInfo) -> String {
    if info.link.is_empty() { info.relative_name.clone() } else { format!("{} -> {}", info.relative_name, info.link) }
}

impl List {
    fn request(&self) -> pb::ListRequest {
        let wire = |kind: &Kind| match kind {
            Kind::File => Type::Regular,
            Kind::Directory => Type::Directory,
            Kind::Link => Type::Symlink,
        };
        pb::ListRequest {
            root: self.path.clone(),
            recurse: self.recurse || self.depth > 1,
            // 0 is the wire's word for all.
            recursion_depth: if self.depth > 1 { self.depth } else { 0 },
            types: self.r#type.iter().map(|kind| wire(kind).into()).collect(),
            report_xattrs: false,
        }
    }

    fn row(&self, node: &str, info: &pb::FileInfo) -> Vec<String> {
        if !self.long {
            return vec![node.to_owned(), name(info)];
        }
        let size = u64::try_from(info.size).unwrap_or_default();
        let time = jiff::Timestamp::from_second(info.modified).unwrap_or_default();
        vec![
            node.to_owned(),
            mode(info.mode),
            info.uid.to_string(),
            info.gid.to_string(),
            if self.humanize { bytes(size) } else { size.to_string() },
            if self.humanize { time.strftime("%b %e %H:%M:%S %Y").to_string() } else { time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() },
            name(info),
        ]
    }

    /// Lists each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let mut table =
            if self.long { Table::new(&["NODE", "MODE", "UID", "GID", "SIZE", "LASTMOD", "NAME"]) } else { Table::new(&["NODE", "NAME"]) };
        let rows = session
            .collect(false, async |node| {
                let mut stream = node.client.machine().list(self.request()).await?.into_inner();
                let mut all = Vec::new();
                while let Some(info) = stream.message().await? {
                    all.push(info);
                }
                Ok(all)
            })
            .await;
        let mut unread = 0;
        for (node, infos) in &rows.found {
            for info in infos {
                if info.error.is_empty() {
                    table.row(self.row(&node.name, info));
                } else {
                    unread += 1;
                    eprintln!("{}: {}: {}", node.name, info.name, info.error);
                }
            }
        }
        if !rows.found.is_empty() {
            print!("{table}");
        }
        rows.finish()?;
        if unread > 0 {
            bail!("{unread} entries could not be read");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_with_ls() {
        let cases = [
            (0o644, "-rw-r--r--"),
            (1 << 31 | 1 << 20 | 0o777, "drwxrwxrwt"),
            (1 << 27 | 0o777, "lrwxrwxrwx"),
            (1 << 26 | 1 << 21 | 0o666, "crw-rw-rw-"),
            (1 << 23 | 0o755, "-rwsr-xr-x"),
            (1 << 22 | 0o640, "-rw-r-S---"),
        ];
        for (wire, text) in cases {
            assert_eq!(mode(wire), text);
        }
    }
}
