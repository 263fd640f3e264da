//! The node's event stream: the newest thousand events, replayed and followed by clients.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use api::machine as pb;
use prost::Message;
use prost_types::Any;
use tokio::sync::broadcast;

/// How many events are kept.
const KEPT: usize = 1000;

/// One event as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    at: std::time::Instant,
    /// The event as clients get it.
    pub(crate) event: pb::Event,
}

/// The event stream. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    kept: Arc<Mutex<VecDeque<Kept>>>,
    new: broadcast::Sender<pb::Event>,
}

/// Which of the kept events a client gets first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail {
    /// So many of the newest; −1 for all.
    pub(crate) count: i32,
    /// Those after the one with this id.
    pub(crate) after: Option<String>,
    /// Those of the last so many seconds.
    pub(crate) seconds: Option<u64>,
    /// Only those of this actor.
    pub(crate) actor: Option<String>,
}

impl Events {
    /// An empty stream.
    pub(crate) fn new() -> Self {
        Self { kept: Arc::default(), new: broadcast::channel(256).0 }
    }

    /// Publishes an event, as `talos/runtime/<name>`, which is what clients look for. `name` is the message's full one.
    pub(crate) fn publish<M: Message>(&self, name: &str, message: &M, actor: &str) {
        let data = Any { type_url: format!("talos/runtime/{name}"), value: message.encode_to_vec() };
        let event = pb::Event { metadata: None, data: Some(data), id: new_id(), actor_id: actor.to_owned() };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Kept { at: std::time::Instant::now(), event: event.clone() });
        let _ = self.new.send(event);
    }

    /// The kept events that the tail asks for, and all new ones from then on, without a gap between.
    pub(crate) fn subscribe(&self, tail: &Tail) -> (Vec<pb::Event>, broadcast::Receiver<pb::Event>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.new.subscribe();
        let first = match (&tail.after, tail.seconds) {
            (Some(id), _) => kept.iter().position(|k| &k.event.id == id).map_or(0, |i| i + 1),
            (None, Some(seconds)) => kept.iter().position(|k| k.at.elapsed().as_secs() <= seconds).unwrap_or(kept.len()),
            (None, None) if tail.count < 0 => 0,
            (None, None) => kept.len().saturating_sub(usize::try_from(tail.count).unwrap_or_default()),
        };
        let past = kept.iter().skip(first).map(|k| k.event.clone()).filter(|e| tail.matches(e)).collect();
        (past, receiver)
    }
}

impl Tail {
    /// Whether the client asked for events of this one's actor.
    pub(crate) fn matches(&self, event: &pb::Event) -> bool {
        self.actor.as_ref().is_none_or(|actor| *actor == event.actor_id)
    }
}

/// A new id: 20 characters that sort by time, as clients know them (12 bytes in base32hex: seconds, then random bytes).
fn new_id() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let seconds = u32::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
    let random = uuid::Uuid::new_v4();
    let mut bytes = [0_u8; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[4..].copy_from_slice(&random.as_bytes()[..8]);
    let mut text = String::with_capacity(20);
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[((buffer >> bits) & 31) as usize]));
        }
    }
    text.push(char::from(ALPHABET[((buffer << (5 - bits)) & 31) as usize]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(events: &Events, n: i64, actor: &str) {
        events.publish("machine.RestartEvent", &pb::RestartEvent { cmd: n }, actor);
    }

    fn numbers(list: &[pb::Event]) -> Vec<i64> {
        list.iter().map(|e| pb::RestartEvent::decode(&e.data.as_ref().unwrap().value[..]).unwrap().cmd).collect()
    }

    #[test]
    fn the_type_url_is_the_one_clients_know() {
        let events = Events::new();
        publish(&events, 1, "");
        let (past, _) = events.subscribe(&Tail { count: -1, ..Tail::default() });
        assert_eq!(past[0].data.as_ref().unwrap().type_url, "talos/runtime/machine.RestartEvent");
        assert_eq!(past[0].id.len(), 20);
    }

    #[test]
    fn tails_choose_by_count_id_and_actor() {
        let events = Events::new();
        for n in 0..5 {
            publish(&events, n, if n % 2 == 0 { "even" } else { "odd" });
        }
        let get = |tail: &Tail| numbers(&events.subscribe(tail).0);
        assert_eq!(get(&Tail::default()), Vec::<i64>::new());
        assert_eq!(get(&Tail { count: 2, ..Tail::default() }), [3, 4]);
        assert_eq!(get(&Tail { count: -1, actor: Some("odd".into()), ..Tail::default() }), [1, 3]);
        let third = events.subscribe(&Tail { count: -1, ..Tail::default() }).0[2].id.clone();
        assert_eq!(get(&Tail { after: Some(third), ..Tail::default() }), [3, 4]);
    }

    #[test]
    fn only_the_newest_thousand_are_kept() {
        let events = Events::new();
        for n in 0..1003 {
            publish(&events, n, "");
        }
        let all = numbers(&events.subscribe(&Tail { count: -1, ..Tail::default() }).0);
        assert_eq!((all.len(), all[0]), (1000, 3));
    }
}
