//! `logs`: of a service or a container.

use api::common::ContainerDriver;
use api::machine as pb;
use clap::Args;

use crate::files;
use crate::session::Session;

/// Print the log of a service, or of a container with -k.
#[derive(Debug, Args)]
pub struct Logs {
    /// The service, or NAMESPACE/POD:CONTAINER with -k; without it the logs there are.
    id: Option<String>,
    /// Go on printing what is added.
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines to print; -1 for all.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    tail: i32,
    /// Logs of pods.
    #[arg(long, short)]
    kubernetes: bool,
    /// Talk to a node in maintenance mode.
    #[arg(long, short)]
    insecure: bool,
}

impl Logs {
    /// Prints each node's.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let several = session.names().len() > 1;
        session
            .each(self.insecure, async |node| {
                let mut machine = node.client.machine();
                let Some(id) = self.id.clone() else {
                    let answer = machine.logs_containers(()).await?.into_inner();
                    for id in answer.messages.into_iter().flat_map(|m| m.ids) {
                        println!("{}: {id}", node.name);
                    }
                    return Ok(());
                };
                let request = pb::LogsRequest {
                    namespace: if self.kubernetes { "k8s.io".into() } else { "system".into() },
                    id,
                    driver: if self.kubernetes { ContainerDriver::Cri } else { ContainerDriver::Containerd }.into(),
                    follow: self.follow,
                    tail_lines: self.tail,
                };
                let stream = machine.logs(request).await?.into_inner();
                print_lines(stream, several.then_some(node.name.as_str())).await
            })
            .await
    }
}

/// Prints streamed bytes; with a name before each line where several nodes print at once.
pub async fn print_lines(mut stream: tonic::Streaming<api::common::Data>, name: Option<&str>) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    while let Some(part) = stream.message().await? {
        let Some(name) = name else {
            files::print(&part.bytes)?;
            continue;
        };
        rest.extend_from_slice(&part.bytes);
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            print!("{name}: {}", String::from_utf8_lossy(&line));
        }
    }
    if let (Some(name), false) = (name, rest.is_empty()) {
        println!("{name}: {}", String::from_utf8_lossy(&rest));
    }
    Ok(())
}
