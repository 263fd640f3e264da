//! `edge` as a whole, without its sandbox: told by `machined`'s side of the link, it works, reports, and survives.

use std::time::Duration;

use link::{Balancer, Server, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

/// A port nobody listens on right now.
fn free() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Running {
    link: PathBuf,
    task: JoinHandle<ExitCode>,
    _directory: tempfile::TempDir,
}

fn start() -> Running {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link.sock");
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let opened = Opened { registry: socket::listen(local).unwrap(), heartbeat: socket::datagram(local).unwrap(), dns: BTreeMap::new() };
    let task = tokio::spawn(serve(opened, link.clone(), directory.path().join("cache")));
    Running { link, task, _directory: directory }
}

fn machined(link: &std::path::Path) -> (Server, JoinHandle<io::Result<()>>) {
    let server = Server::new();
    let serving = {
        let (server, link) = (server.clone(), link.to_owned());
        tokio::spawn(async move { server.serve(&link).await })
    };
    (server, serving)
}

async fn seen(server: &Server, what: &str, check: impl Fn(&Seen) -> bool) -> Seen {
    let mut seen = server.seen();
    let found = timeout(Duration::from_secs(10), seen.wait_for(|seen| seen.as_ref().is_some_and(&check))).await;
    found.unwrap_or_else(|_| panic!("{what}")).unwrap().clone().unwrap()
}

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn it_does_what_it_is_told_and_goes_on_without_machined() {
    let running = start();
    let (first, serving) = machined(&running.link);
    let target = echo_server().await;
    let (balancer, dns) = (SocketAddr::from(([127, 0, 0, 1], free())), SocketAddr::from(([127, 0, 0, 1], free())));
    let node = |id: &str| link::Discovery { cluster: "c1".into(), node: id.into(), ..Default::default() };
    first.want(|wanted| {
        wanted.balancer =
            Some(Balancer { listen: balancer.to_string(), targets: vec![Target { host: "localhost".into(), port: target.port().into() }] });
        wanted.dns = Some(link::Dns {
            listen: vec![dns.to_string()],
            upstreams: vec![],
            names: vec![link::Name { name: "cp-1".into(), addresses: vec!["10.5.0.2".into()] }],
        });
        wanted.discovery = Some(node("n1"));
    });
    let all = seen(&first, "listening and healthy", |seen| seen.balancer_healthy && !seen.dns_listening.is_empty()).await;
    assert_eq!(all.dns_listening, [dns.to_string()]);

    let mut stream = TcpStream::connect(balancer).await.unwrap();
    stream.write_all(b"before").await.unwrap();
    let mut buffer = [0; 6];
    stream.read_exact(&mut buffer).await.unwrap();

    // machined dies. The stream lives on, new ones are accepted, names are answered.
    serving.abort();
    let _ = serving.await;
    stream.write_all(b"after!").await.unwrap();
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"after!");
    TcpStream::connect(balancer).await.unwrap();

    // Another one takes over and so far wants nothing: nothing stops.
    let (second, _serving) = machined(&running.link);
    seen(&second, "told at once", |seen| seen.balancer_healthy).await;
    stream.write_all(b"adopt!").await.unwrap();
    stream.read_exact(&mut buffer).await.unwrap();

    // Host DNS off, and the balancer gone.
    second.want(|wanted| {
        wanted.dns = Some(link::Dns::default());
        wanted.balancer = Some(Balancer::default());
    });
    seen(&second, "stopped", |seen| !seen.balancer_healthy && seen.dns_listening.is_empty()).await;
    assert!(TcpStream::connect(balancer).await.is_err());
    assert!(!running.task.is_finished());
}

#[tokio::test]
async fn a_leaving_node_says_so_and_reports_it() {
    let running = start();
    let (server, _serving) = machined(&running.link);
    server.want(|wanted| wanted.discovery = Some(link::Discovery { cluster: "c1".into(), node: "n1".into(), ..Default::default() }));
    seen(&server, "connected", |_| true).await;
    assert!(server.leave().await);
}
