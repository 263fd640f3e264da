//! Who of the members is there: a state machine fed with ticks and datagrams, without IO or clock of its own.
//!
//! Every member tells every other about once a second that it is there and whom it does not hear. What makes a mark trustworthy:
//!
//! * Silence is counted in *own ticks*, not in time. An observer that got no CPU for a while, or was frozen, ticked less, so it blames
//!   nobody for what it slept through; its caller reads all waiting datagrams before each tick.
//! * A datagram counts only when it echoes a nonce this observer sent within its last ticks, so recorded datagrams of a dead member do
//!   not keep it alive, and no two clocks need to agree.
//! * A member is *down* only when another live member does not hear it either (or when there is no other); until then it is *silent*:
//!   unreachable from here, perhaps not from elsewhere.
//!
//! A mark is an observation; nothing acts on it by itself.

mod packet;
#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use packet::{IdTag, Kind, MAX_SILENT, Packet, id_tag};
pub use packet::{Key, MAX_LEN};

/// The time between ticks.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// The UDP port of heartbeats.
pub const PORT: u16 = 50002;
/// Ticks without a heartbeat after which a member that was heard before is silent.
const SILENT_AFTER: u32 = 6;
/// The same for a member never heard: it may still be starting.
const SILENT_AFTER_NEW: u32 = 10;
/// For how many ticks an echo of a nonce counts.
const ECHO_TICKS: u64 = 15;
/// For how many ticks a report of others counts.
const REPORT_TICKS: u64 = 4;
/// Ticks without an answer after which another address of a member is tried.
const ROTATE_AFTER: u32 = 3;
/// Members watched at most; discovery holds no more.
const MAX_PEERS: usize = 1024;
/// Ticks for which a member that said goodbye stays gone even if it is still listed.
const GOODBYE_TICKS: u64 = 60;

/// A member to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its node id.
    pub id: String,
    /// Where it may be reached, best first.
    pub addresses: Vec<SocketAddr>,
}

/// What is known of a member's presence. Ordered from well to ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Heard lately.
    Up,
    /// Not heard yet, and not long enough listed to say more.
    Unknown,
    /// Not heard here; nobody else confirms it.
    Silent,
    /// Heard neither here nor by another live member.
    Down,
}

/// An observation of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The member's node id.
    pub id: String,
    /// Whether it is there.
    pub presence: Presence,
    /// Node ids of the members that do not hear it, this one included when it does not; sorted.
    pub observers: Vec<String>,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// Where to.
    pub to: SocketAddr,
    /// The datagram.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct Watched {
    tag: IdTag,
    addresses: Vec<SocketAddr>,
    /// Where its last genuine datagram came from.
    heard_from: Option<SocketAddr>,
    /// Which of the addresses is tried.
    turn: usize,
    heard_ever: bool,
    /// Ticks since it was heard.
    silence: u32,
    /// Its newest nonce, to echo.
    nonce: u64,
    /// Whether it was answered since the last tick; limits answers to one per tick and member.
    answered: bool,
    /// Whom it does not hear, and until which tick that counts.
    reports: BTreeMap<IdTag, u64>,
}

impl Watched {
    fn is_silent(&self) -> bool {
        self.silence >= if self.heard_ever { SILENT_AFTER } else { SILENT_AFTER_NEW }
    }

    fn is_up(&self) -> bool {
        self.heard_ever && !self.is_silent()
    }

    fn address(&self) -> Option<SocketAddr> {
        if let Some(address) = self.heard_from.filter(|_| self.silence < ROTATE_AFTER) {
            return Some(address);
        }
        let count = self.addresses.len();
        if count == 0 { self.heard_from } else { self.addresses.get(self.turn % count).copied() }
    }
}

/// This member's view of all others.
#[derive(Debug)]
pub struct Heart {
    me: String,
    key: Key,
    /// Nonces are `epoch` + tick: never repeated, also not after a restart, as `epoch` is random.
    epoch: u64,
    tick: u64,
    peers: BTreeMap<String, Watched>,
    /// Members that said goodbye, and until which tick they are ignored.
    gone: BTreeMap<String, u64>,
    leaving: bool,
}

impl Heart {
    /// A view without members. `epoch` must be random.
    pub fn new(me: impl Into<String>, key: Key, epoch: u64) -> Self {
        // Zero stands for "no echo", and the sum with the ticks must not wrap.
        let epoch = (epoch >> 2) | 1;
        Self { me: me.into(), key, epoch, tick: 0, peers: BTreeMap::new(), gone: BTreeMap::new(), leaving: false }
    }

    /// Takes over the list of members to watch; what is known of those that stay is kept.
    pub fn set_peers(&mut self, peers: &[Peer]) {
        let listed = |id: &str| peers.iter().any(|peer| peer.id == id);
        self.peers.retain(|id, _| listed(id));
        for peer in peers.iter().filter(|peer| peer.id != self.me && !self.gone.contains_key(&peer.id)) {
            if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer.id) {
                break;
            }
            let watched = self.peers.entry(peer.id.clone()).or_insert_with(|| Watched {
                tag: id_tag(&peer.id),
                addresses: Vec::new(),
                heard_from: None,
                turn: 0,
                heard_ever: false,
                silence: 0,
                nonce: 0,
                answered: false,
                reports: BTreeMap::new(),
            });
            watched.addresses.clone_from(&peer.addresses);
        }
    }

    /// Another [`INTERVAL`] has passed, as far as this process was running. Call it after all waiting datagrams were handed over.
    /// Returns what to send.
    pub fn tick(&mut self) -> Vec<Send> {
        self.tick += 1;
        let now = self.tick;
        self.gone.retain(|_, until| *until > now);
        for watched in self.peers.values_mut() {
            watched.silence = watched.silence.saturating_add(1);
            watched.answered = false;
            watched.reports.retain(|_, until| *until > now);
            if watched.silence >= ROTATE_AFTER && watched.silence.is_multiple_of(ROTATE_AFTER) {
                watched.turn = watched.turn.wrapping_add(1);
            }
        }
        let kind = if self.leaving { Kind::Goodbye } else { Kind::Beat };
        self.peers.iter().filter_map(|(id, watched)| self.datagram(kind, id, watched)).collect()
    }

    /// Tells every member goodbye; every later tick tells it again, until the process ends. Returns what to send now.
    pub fn leave(&mut self) -> Vec<Send> {
        self.leaving = true;
        self.peers.iter().filter_map(|(id, watched)| self.datagram(Kind::Goodbye, id, watched)).collect()
    }

    fn nonce(&self) -> u64 {
        self.epoch + self.tick
    }

    /// Whether `echo` is a nonce of ours, recent in our own ticks.
    fn fresh(&self, echo: u64) -> bool {
        echo >= self.epoch && echo <= self.nonce() && self.nonce() - echo <= ECHO_TICKS
    }

    fn datagram(&self, kind: Kind, id: &str, watched: &Watched) -> Option<Send> {
        let to = watched.address()?;
        let packet = Packet { kind, sender: self.me.clone(), nonce: self.nonce(), echo: watched.nonce, silent: self.silent_tags() };
        Some(Send { to, bytes: packet.encode(&self.key, id) })
    }

    /// The members not heard here, as many as fit; with more than that, a different part at each tick.
    fn silent_tags(&self) -> Vec<IdTag> {
        let mut tags: Vec<IdTag> = self.peers.values().filter(|watched| watched.is_silent()).map(|watched| watched.tag).collect();
        if tags.len() > MAX_SILENT {
            let parts = tags.len().div_ceil(MAX_SILENT);
            let part = usize::try_from(self.tick % parts as u64).unwrap_or(0);
            tags = tags.into_iter().skip(part * MAX_SILENT).take(MAX_SILENT).collect();
        }
        tags
    }

    /// A datagram arrived. Returns what to send at once (an answer that lets a member just met count us) and, when a member said
    /// goodbye, its id.
    pub fn receive(&mut self, from: SocketAddr, bytes: &[u8]) -> (Option<Send>, Option<String>) {
        let Some(packet) = Packet::decode(bytes, &self.key, &self.me) else { return (None, None) };
        let fresh = self.fresh(packet.echo);
        let (now, leaving) = (self.tick, self.leaving);
        let Some(watched) = self.peers.get_mut(&packet.sender) else { return (None, None) };
        if !fresh {
            // Genuine, but perhaps recorded: its nonce is echoed, so that its next one can prove itself. A member that is up proves
            // itself anyway, so a recording must not disturb it.
            if watched.is_up() && watched.silence < ROTATE_AFTER {
                return (None, None);
            }
            watched.nonce = packet.nonce;
            watched.heard_from = Some(from);
            if watched.answered {
                return (None, None);
            }
            watched.answered = true;
            let kind = if leaving { Kind::Goodbye } else { Kind::Beat };
            let id = packet.sender;
            let answer = self.peers.get(&id).map(|watched| {
                let packet = Packet { kind, sender: self.me.clone(), nonce: self.nonce(), echo: watched.nonce, silent: self.silent_tags() };
                Send { to: from, bytes: packet.encode(&self.key, &id) }
            });
            return (answer, None);
        }
        if packet.kind == Kind::Goodbye {
            self.peers.remove(&packet.sender);
            self.gone.insert(packet.sender.clone(), now + GOODBYE_TICKS);
            return (None, Some(packet.sender));
        }
        watched.heard_ever = true;
        watched.silence = 0;
        watched.nonce = watched.nonce.max(packet.nonce);
        if packet.nonce < watched.nonce.saturating_sub(ECHO_TICKS * 4) {
            // It restarted with a smaller epoch.
            watched.nonce = packet.nonce;
        }
        watched.heard_from = Some(from);
        for tag in packet.silent {
            watched.reports.insert(tag, now + REPORT_TICKS);
        }
        (None, None)
    }

    /// What is known of every member, by id.
    pub fn observations(&self) -> Vec<Observation> {
        self.peers.iter().map(|(id, watched)| self.observation(id, watched)).collect()
    }

    fn observation(&self, id: &str, watched: &Watched) -> Observation {
        let others = || self.peers.iter().filter(|(other, peer)| *other != id && peer.is_up());
        let mut observers: Vec<String> =
            others().filter(|(_, peer)| peer.reports.contains_key(&watched.tag)).map(|(other, _)| other.clone()).collect();
        let presence = if watched.is_up() {
            Presence::Up
        } else if !watched.is_silent() {
            Presence::Unknown
        } else if !observers.is_empty() || others().next().is_none() {
            Presence::Down
        } else {
            Presence::Silent
        };
        if watched.is_silent() {
            observers.push(self.me.clone());
            observers.sort();
        }
        Observation { id: id.to_owned(), presence, observers }
    }
}
