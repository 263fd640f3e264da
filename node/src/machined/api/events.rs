//! The events call: first an empty event, so that a client knows it listens, then what was asked of the past, then what happens.

use std::time::Duration;

use api::machine as pb;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::files::Stream;
use crate::machined::events::{Events, Tail};

/// A client that takes nothing for this long is dropped.
const PATIENCE: Duration = Duration::from_secs(30);

fn tail(request: &pb::EventsRequest) -> Tail {
    let text = |s: &String| (!s.is_empty()).then(|| s.clone());
    Tail {
        count: request.tail_events,
        after: text(&request.tail_id),
        seconds: u64::try_from(request.tail_seconds).ok().filter(|s| *s > 0),
        actor: text(&request.with_actor_id),
    }
}

/// The stream.
pub(super) fn stream(events: &Events, request: &pb::EventsRequest) -> Stream<pb::Event> {
    let tail = tail(request);
    let (past, mut new) = events.subscribe(&tail);
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let send = async |event| sender.send_timeout(Ok(event), PATIENCE).await.is_ok();
        for event in std::iter::once(pb::Event::default()).chain(past) {
            if !send(event).await {
                return;
            }
        }
        loop {
            let event = tokio::select! {
                event = new.recv() => event,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) if tail.matches(&event) => {
                    if !send(event).await {
                        return;
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    ReceiverStream::new(receiver)
}
