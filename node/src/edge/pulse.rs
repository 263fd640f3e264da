//! The socket of the heartbeats: runs `cluster::heartbeat` on UDP 50002.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cluster::heartbeat::{Heart, INTERVAL, Key, MAX_LEN, Observation, PORT, Peer, Send};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

/// Datagrams taken in a row before a tick; a flood must not keep the ticks from happening.
const MAX_BURST: usize = 8192;

/// What heartbeats are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// This node's id; empty: no heartbeats.
    pub(crate) me: String,
    /// The members' common key.
    pub(crate) key: Vec<u8>,
    /// The members.
    pub(crate) peers: Vec<Peer>,
    /// Members that said goodbye elsewhere are not listed any more; this node says goodbye itself.
    pub(crate) leaving: bool,
}

/// Makes a member to watch from textual addresses; those that do not parse are left out.
pub(crate) fn peer(id: &str, addresses: &[String]) -> Peer {
    let addresses = addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()).map(|ip| SocketAddr::new(ip, PORT)).collect();
    Peer { id: id.to_owned(), addresses }
}

/// Runs until the task is dropped. Tells every change of what is observed, and each goodbye.
pub(crate) async fn run(
    socket: UdpSocket,
    mut settings: watch::Receiver<Settings>,
    observed: Arc<watch::Sender<Vec<Observation>>>,
    goodbyes: mpsc::UnboundedSender<String>,
) {
    let v6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
    let mut heart: Option<Heart> = None;
    let mut identity = (String::new(), Vec::new());
    let mut buffer = vec![0; MAX_LEN + 1];
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut sends = Vec::new();
        tokio::select! {
            _ = ticks.tick() => {
                // Whatever arrived while this process waited for a core counts before anybody's silence does.
                for _ in 0..MAX_BURST {
                    let Ok((length, from)) = socket.try_recv_from(&mut buffer) else { break };
                    take(&mut heart, canonical(from), &buffer[..length], &mut sends, &goodbyes);
                }
                if let Some(heart) = &mut heart {
                    sends.extend(heart.tick());
                }
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, from)) => take(&mut heart, canonical(from), &buffer[..length], &mut sends, &goodbyes),
                Err(error) => tracing::debug!(%error, "heartbeat: receive"),
            },
            changed = settings.changed() => {
                if changed.is_err() {
                    return;
                }
                let settings = settings.borrow_and_update().clone();
                if identity != (settings.me.clone(), settings.key.clone()) {
                    identity = (settings.me.clone(), settings.key.clone());
                    heart = begin(&settings);
                }
                if let Some(heart) = &mut heart {
                    heart.set_peers(&settings.peers);
                    if settings.leaving {
                        sends.extend(heart.leave());
                    }
                }
            }
        }
        for send in sends {
            transmit(&socket, v6, &send).await;
        }
        let seen = heart.as_ref().map(Heart::observations).unwrap_or_default();
        observed.send_if_modified(|current| {
            let changed = *current != seen;
            *current = seen;
            changed
        });
    }
}

fn begin(settings: &Settings) -> Option<Heart> {
    if settings.me.is_empty() || settings.key.is_empty() {
        return None;
    }
    let mut epoch = [0; 8];
    if SystemRandom::new().fill(&mut epoch).is_err() {
        tracing::error!("heartbeat: the kernel gave no random bytes; no heartbeats");
        return None;
    }
    Some(Heart::new(settings.me.clone(), Key::new(&settings.key), u64::from_be_bytes(epoch)))
}

fn take(heart: &mut Option<Heart>, from: SocketAddr, bytes: &[u8], sends: &mut Vec<Send>, goodbyes: &mpsc::UnboundedSender<String>) {
    let Some(heart) = heart else { return };
    let (answer, gone) = heart.receive(from, bytes);
    sends.extend(answer);
    if let Some(id) = gone {
        let _ = goodbyes.send(id);
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn transmit(socket: &UdpSocket, v6: bool, send: &Send) {
    let to = match send.to.ip() {
        IpAddr::V4(v4) if v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), send.to.port()),
        _ => send.to,
    };
    // Unreachable members are the normal case here; their silence is the finding.
    if let Err(error) = socket.send_to(&send.bytes, to).await
        && error.kind() != io::ErrorKind::WouldBlock
    {
        tracing::trace!(%error, %to, "heartbeat: send");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cluster::heartbeat::Presence;
    use tokio::time::timeout;

    use super::*;

    struct Node {
        settings: watch::Sender<Settings>,
        observed: Arc<watch::Sender<Vec<Observation>>>,
        goodbyes: mpsc::UnboundedReceiver<String>,
        task: tokio::task::JoinHandle<()>,
        address: SocketAddr,
    }

    async fn node() -> Node {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let settings = watch::Sender::new(Settings::default());
        let observed = Arc::new(watch::Sender::new(Vec::new()));
        let (told, goodbyes) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(socket, settings.subscribe(), observed.clone(), told));
        Node { settings, observed, goodbyes, task, address }
    }

    async fn until(node: &Node, id: &str, presence: Presence, seconds: u64) -> Observation {
        let mut observed = node.observed.subscribe();
        let wanted = |all: &Vec<Observation>| all.iter().any(|seen| seen.id == id && seen.presence == presence);
        let found = timeout(Duration::from_secs(seconds), observed.wait_for(wanted)).await.expect("in time").unwrap();
        found.iter().find(|seen| seen.id == id).unwrap().clone()
    }

    #[tokio::test]
    async fn three_nodes_hear_each_other_and_notice_a_death_and_a_goodbye() {
        let mut nodes = [node().await, node().await, node().await];
        let peers: Vec<Peer> = nodes.iter().enumerate().map(|(i, n)| Peer { id: format!("n{i}"), addresses: vec![n.address] }).collect();
        for (i, node) in nodes.iter().enumerate() {
            node.settings.send_replace(Settings { me: format!("n{i}"), key: vec![1; 32], peers: peers.clone(), leaving: false });
        }
        until(&nodes[0], "n1", Presence::Up, 5).await;
        until(&nodes[2], "n0", Presence::Up, 5).await;

        nodes[1].settings.send_modify(|settings| settings.leaving = true);
        assert_eq!(timeout(Duration::from_secs(2), nodes[0].goodbyes.recv()).await.unwrap().unwrap(), "n1");

        nodes[2].task.abort();
        let seen = until(&nodes[0], "n2", Presence::Down, 10).await;
        assert_eq!(seen.observers, ["n0"]);
    }
}
