//! `copy`: a file or a tree of a node, as an archive or unpacked.

use std::io::Read;
use std::path::Path;

use anyhow::Context as _;
use api::common::Data;
use api::machine as pb;
use clap::Args;
use tokio::sync::mpsc;

use crate::session::Session;

/// Copy a file or a tree from a node.
#[derive(Debug, Args)]
pub struct Copy {
    /// Its absolute path on the node.
    source: String,
    /// The directory to unpack into, made when it is not there; `-` for the archive (tar.gz) itself.
    destination: String,
}

/// The stream's bytes for a reader that blocks.
struct Bytes {
    parts: mpsc::Receiver<Vec<u8>>,
    part: std::io::Cursor<Vec<u8>>,
}

impl Read for Bytes {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let count = self.part.read(into)?;
            if count > 0 {
                return Ok(count);
            }
            match self.parts.blocking_recv() {
                Some(part) => self.part = std::io::Cursor::new(part),
                None => return Ok(0),
            }
        }
    }
}

impl Copy {
    /// Copies from the one node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let request = pb::CopyRequest { root_path: self.source };
        let mut stream = session.one(false)?.client.machine().copy(request).await?.into_inner();
        if self.destination == "-" {
            while let Some(part) = stream.message().await? {
                crate::files::print(&part.bytes)?;
            }
            return Ok(());
        }
        unpack(stream, &self.destination).await
    }
}

async fn unpack(mut stream: tonic::Streaming<Data>, destination: &str) -> anyhow::Result<()> {
    let (sender, parts) = mpsc::channel(16);
    let to = destination.to_owned();
    let unpacking = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&to)?;
        let bytes = Bytes { parts, part: std::io::Cursor::default() };
        // It refuses names that lead out of the directory.
        tar::Archive::new(flate2::read::GzDecoder::new(bytes)).unpack(Path::new(&to))
    });
    let mut received = Ok(());
    loop {
        match stream.message().await {
            Ok(Some(part)) => {
                if sender.send(part.bytes).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(status) => {
                received = Err(status);
                break;
            }
        }
    }
    drop(sender);
    let unpacked = unpacking.await?;
    // A stream that broke off is the cause of what the unpacking then says.
    received?;
    unpacked.with_context(|| format!("unpacking into {destination}"))
}
