//! What `machined` and `edge` tell each other over `/system/run/edge/link.sock`: one message each way, each replacing the last.
//!
//! `machined` tells everything `edge` should do (`Wanted`), `edge` everything it observes (`Seen`). Neither needs the other to go on:
//! without `machined`, `edge` keeps doing what it was last told and tries to connect again; a new `machined` is told all at once.
//! Frames are a 32-bit big-endian length and a protobuf message, so that either side may be newer than the other.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Where `machined` listens.
pub(crate) const SOCKET: &str = "/system/run/edge/link.sock";
/// The user and group `edge` runs as.
pub(crate) const USER: u32 = 53;
/// Largest message, in bytes: a thousand members with a few names and addresses each.
const MAX_MESSAGE: u32 = 8 << 20;
/// How long a write may take before the other side is taken for stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Waiting time between attempts to reach `machined`.
const RETRY: Duration = Duration::from_millis(500);

/// Everything `edge` should do. An absent part means *not known yet*: what was told before goes on.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Wanted {
    /// The API load balancer.
    #[prost(message, optional, tag = "1")]
    pub(crate) balancer: Option<Balancer>,
    /// Host DNS.
    #[prost(message, optional, tag = "2")]
    pub(crate) dns: Option<Dns>,
    /// Discovery.
    #[prost(message, optional, tag = "3")]
    pub(crate) discovery: Option<Discovery>,
    /// Heartbeats.
    #[prost(message, optional, tag = "4")]
    pub(crate) heartbeat: Option<Heartbeat>,
}

/// The API load balancer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Balancer {
    /// Where to listen, `address:port`; empty: nowhere.
    #[prost(string, tag = "1")]
    pub(crate) listen: String,
    /// The control planes.
    #[prost(message, repeated, tag = "2")]
    pub(crate) targets: Vec<Target>,
}

/// One API server.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Target {
    /// A host name or address.
    #[prost(string, tag = "1")]
    pub(crate) host: String,
    /// Its TCP port.
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
}

/// Host DNS.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dns {
    /// Where to listen, `address:port`; none: host DNS is off.
    #[prost(string, repeated, tag = "1")]
    pub(crate) listen: Vec<String>,
    /// DNS servers as addresses, best first.
    #[prost(string, repeated, tag = "2")]
    pub(crate) upstreams: Vec<String>,
    /// Names that are answered locally.
    #[prost(message, repeated, tag = "3")]
    pub(crate) names: Vec<Name>,
}

/// A name and its addresses.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Name {
    /// The name, without a trailing dot.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// Its addresses.
    #[prost(string, repeated, tag = "2")]
    pub(crate) addresses: Vec<String>,
}

/// Discovery.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Discovery {
    /// The cluster's id; empty: discovery is off.
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    /// This node's id.
    #[prost(string, tag = "2")]
    pub(crate) node: String,
    /// What this node tells the others, sealed; empty: not known yet.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) data: Vec<u8>,
    /// Its endpoints, sealed.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) endpoints: Vec<Vec<u8>>,
    /// The servers to register with, `host:port`.
    #[prost(string, repeated, tag = "5")]
    pub(crate) servers: Vec<String>,
    /// Whether this node is a server.
    #[prost(bool, tag = "6")]
    pub(crate) serve: bool,
    /// The node leaves the cluster: tell everyone.
    #[prost(bool, tag = "7")]
    pub(crate) leaving: bool,
    /// Ids of members that are gone for good without a goodbye.
    #[prost(string, repeated, tag = "8")]
    pub(crate) forget: Vec<String>,
}

/// Heartbeats.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Heartbeat {
    /// The key all members share, derived from the cluster's secret.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    /// The members to watch.
    #[prost(message, repeated, tag = "2")]
    pub(crate) peers: Vec<Peer>,
}

/// A member to watch.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Peer {
    /// Its node id.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// Its addresses, best first.
    #[prost(string, repeated, tag = "2")]
    pub(crate) addresses: Vec<String>,
}

/// Everything `edge` observes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Seen {
    /// Whether the load balancer listens and a control plane answers.
    #[prost(bool, tag = "1")]
    pub(crate) balancer_healthy: bool,
    /// Where host DNS listens, `address:port`.
    #[prost(string, repeated, tag = "2")]
    pub(crate) dns_listening: Vec<String>,
    /// What the members registered, still sealed.
    #[prost(message, repeated, tag = "3")]
    pub(crate) affiliates: Vec<Affiliate>,
    /// Whether any discovery server was heard; before that, no affiliates means *not known*.
    #[prost(bool, tag = "4")]
    pub(crate) affiliates_settled: bool,
    /// The addresses under which discovery servers see this node.
    #[prost(string, repeated, tag = "5")]
    pub(crate) public_addresses: Vec<String>,
    /// Who is there.
    #[prost(message, repeated, tag = "6")]
    pub(crate) members: Vec<Member>,
    /// Whether goodbyes and deletions were sent, after `leaving` was told.
    #[prost(bool, tag = "7")]
    pub(crate) left: bool,
}

/// What a member registered.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Affiliate {
    /// Its node id.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// Its data, sealed.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) data: Vec<u8>,
    /// Its endpoints, sealed.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) endpoints: Vec<Vec<u8>>,
}

/// Whether a member is there.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Member {
    /// Its node id.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// See [`Presence`].
    #[prost(enumeration = "Presence", tag = "2")]
    pub(crate) presence: i32,
    /// Node ids of those that do not hear it.
    #[prost(string, repeated, tag = "3")]
    pub(crate) observers: Vec<String>,
}

/// Whether a member is there: `cluster::heartbeat::Presence` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Presence {
    /// Not heard yet.
    Unknown = 0,
    /// Heard lately.
    Up = 1,
    /// Not heard here; nobody confirms it.
    Silent = 2,
    /// Not heard by any live member asked.
    Down = 3,
}

async fn read<M: Message + Default>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<M> {
    let length = from.read_u32().await?;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes; at most {MAX_MESSAGE} are read")));
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await?;
    M::decode(bytes.as_slice()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> io::Result<()> {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_MESSAGE);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("a message of {} bytes is too large", bytes.len())))?;
    let framed = [length.to_be_bytes().as_slice(), &bytes].concat();
    timeout(WRITE_DEADLINE, to.write_all(&framed)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Sends what `outgoing` holds and each change of it; takes in what comes. Ends with the connection.
async fn exchange<Out: Message + Clone, In: Message + Default>(
    stream: UnixStream,
    mut outgoing: watch::Receiver<Option<Out>>,
    mut take: impl FnMut(In),
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let reading = async {
        loop {
            take(read(&mut reader).await?);
        }
    };
    let writing = async {
        loop {
            let message = outgoing.borrow_and_update().clone();
            if let Some(message) = message {
                write(&mut writer, &message).await?;
            }
            if outgoing.changed().await.is_err() {
                // Nothing more to say; the connection goes on for the other direction.
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

/// The side of `edge`: connects to `machined` again and again, hands over what it wants, tells it what is seen.
pub(crate) async fn follow(socket: PathBuf, seen: watch::Receiver<Option<Seen>>, mut take: impl FnMut(Wanted)) {
    let mut told = false;
    loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => {
                tracing::info!("connected to machined");
                told = false;
                if let Err(error) = exchange(stream, seen.clone(), &mut take).await {
                    tracing::info!(%error, "the connection to machined ended; going on with what it last said");
                }
            }
            Err(error) if !told => {
                tracing::info!(%error, socket = %socket.display(), "machined is not there; waiting for it");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// How long a member that was to be forgotten stays on the list: after that it may join again.
const FORGET_FOR: Duration = Duration::from_secs(60);
/// How long goodbyes may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

/// The side of `machined`: keeps what is wanted and what was last seen, whoever is connected.
#[derive(Clone)]
pub(crate) struct Server {
    wanted: Arc<watch::Sender<Option<Wanted>>>,
    seen: Arc<watch::Sender<Option<Seen>>>,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server nobody listens to yet.
    pub(crate) fn new() -> Self {
        Self { wanted: Arc::new(watch::Sender::new(None)), seen: Arc::new(watch::Sender::new(None)) }
    }

    /// Tells `edge` a part of what it should do; parts never told stay as `edge` knows them.
    pub(crate) fn want(&self, change: impl FnOnce(&mut Wanted)) {
        self.wanted.send_if_modified(|wanted| {
            let before = wanted.clone();
            change(wanted.get_or_insert_default());
            *wanted != before
        });
    }

    /// What is wanted now.
    #[cfg(test)]
    pub(crate) fn wanted_now(&self) -> Option<Wanted> {
        self.wanted.borrow().clone()
    }

    /// What `edge` observes, `None` before it told anything to this `machined`; each change can be awaited.
    pub(crate) fn seen(&self) -> watch::Receiver<Option<Seen>> {
        self.seen.subscribe()
    }

    /// Deletes a member that is gone for good without a goodbye: at every discovery server, and from every member's view. Must be called
    /// within a tokio runtime.
    pub(crate) fn forget(&self, node_id: &str) {
        let id = node_id.to_owned();
        self.want(|wanted| {
            let list = &mut wanted.discovery.get_or_insert_default().forget;
            if !list.contains(&id) {
                list.push(id.clone());
            }
        });
        let server = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(FORGET_FOR).await;
            server.want(|wanted| wanted.discovery.get_or_insert_default().forget.retain(|known| *known != id));
        });
    }

    /// Tells all members goodbye, for a node that leaves its cluster. Returns whether the goodbyes went out; after a few seconds without
    /// word from `edge` they did not.
    pub(crate) async fn leave(&self) -> bool {
        let mut seen = self.seen();
        self.want(|wanted| wanted.discovery.get_or_insert_default().leaving = true);
        timeout(LEAVE_DEADLINE, seen.wait_for(|seen| seen.as_ref().is_some_and(|seen| seen.left))).await.is_ok_and(|left| left.is_ok())
    }

    /// Listens on `socket` until the task is dropped. One `edge` at a time: a new connection replaces the last.
    pub(crate) async fn serve(self, socket: &Path) -> io::Result<()> {
        if let Some(directory) = socket.parent().filter(|directory| !directory.exists()) {
            std::fs::create_dir_all(directory)?;
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o750))?;
            std::os::unix::fs::chown(directory, None, Some(USER))?;
        }
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        // The directory admits group `edge` only; connecting needs write permission.
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))?;
        if let Err(error) = std::os::unix::fs::chown(socket, None, Some(USER)) {
            tracing::debug!(%error, "the link's socket keeps its group");
        }
        let mut current = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if peer != USER && peer != 0 && peer != nix::unistd::geteuid().as_raw() {
                tracing::warn!(uid = peer, "a process that is not edge connected to its socket; refused");
                continue;
            }
            current.shutdown().await;
            let (wanted, seen) = (self.wanted.subscribe(), self.seen.clone());
            current.spawn(async move {
                let ended = exchange(stream, wanted, |message: Seen| {
                    seen.send_if_modified(|seen| seen.replace(message.clone()) != Some(message));
                })
                .await;
                if let Err(error) = ended {
                    tracing::debug!(%error, "edge disconnected");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(cluster: &str) -> Wanted {
        Wanted { discovery: Some(Discovery { cluster: cluster.into(), ..Default::default() }), ..Default::default() }
    }

    #[tokio::test]
    async fn both_sides_survive_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("link.sock");
        let seen = watch::Sender::new(Some(Seen { balancer_healthy: true, ..Default::default() }));
        let (take, mut taken) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(follow(socket.clone(), seen.subscribe(), move |wanted: Wanted| drop(take.send(wanted))));

        let first = Server::new();
        first.want(|w| *w = wanted("c1"));
        let serving = {
            let (first, socket) = (first.clone(), socket.clone());
            tokio::spawn(async move { first.serve(&socket).await })
        };
        assert_eq!(taken.recv().await.unwrap(), wanted("c1"));
        let mut told = first.seen();
        told.wait_for(|seen| seen.as_ref().is_some_and(|seen| seen.balancer_healthy)).await.unwrap();
        first.want(|w| *w = wanted("c2"));
        assert_eq!(taken.recv().await.unwrap(), wanted("c2"));

        // machined dies; another takes its place and is told at once.
        serving.abort();
        let _ = serving.await;
        let second = Server::new();
        {
            let (second, socket) = (second.clone(), socket.clone());
            tokio::spawn(async move { second.serve(&socket).await })
        };
        timeout(Duration::from_secs(5), second.seen().wait_for(Option::is_some)).await.unwrap().unwrap();
        seen.send_replace(Some(Seen { left: true, ..Default::default() }));
        timeout(Duration::from_secs(5), second.seen().wait_for(|seen| seen.as_ref().is_some_and(|seen| seen.left))).await.unwrap().unwrap();
        second.want(|w| *w = wanted("c3"));
        assert_eq!(taken.recv().await.unwrap(), wanted("c3"));
    }

    #[tokio::test]
    async fn an_absurd_length_ends_the_connection() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0, 0];
        assert_eq!(read::<Seen>(&mut bytes).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut short: &[u8] = &[0, 0, 0, 9, 1];
        assert_eq!(read::<Seen>(&mut short).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
