//! Following one resource of a state that may go away and come back.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use resource::{Error, EventKind, Key, Resource, Spec, State, WatchOptions};
use tokio::sync::watch;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Keeps `sink` at the newest version of one resource, reconnecting for ever; ends when nobody listens.
///
/// The last version seen stays: neither a state that is away nor the resource's removal takes it back. That is for processes
/// that must go on serving with what they have while machined restarts.
pub async fn follow<T: Spec>(state: Arc<dyn State>, key: Key, sink: watch::Sender<Option<Arc<Resource<T>>>>) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        let ended = tokio::select! {
            ended = follow_once(&*state, &key, &sink) => ended,
            () = sink.closed() => return,
        };
        match ended {
            Ok(()) => (pause, told) = (FIRST_PAUSE, false),
            Err(error) if !told => {
                told = true;
                tracing::warn!(%key, %error, "cannot follow the resource; trying again until it works");
            }
            Err(error) => tracing::debug!(%key, %error, "still cannot follow the resource"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// One watch until it ends. `Ok` when it was established at all.
async fn follow_once<T: Spec>(state: &dyn State, key: &Key, sink: &watch::Sender<Option<Arc<Resource<T>>>>) -> Result<(), Error> {
    let mut events = state.watch(key, &WatchOptions::default()).await?;
    while let Some(batch) = events.next().await {
        for event in batch {
            match event.kind {
                EventKind::Created(new) | EventKind::Updated { new, .. } => {
                    let typed = new.downcast::<T>().ok_or_else(|| {
                        Error::Invalid(format!("resource {key}: expected a {}, found a {}", T::TYPE, new.spec.type_name()))
                    })?;
                    sink.send_if_modified(|current| {
                        let changed = current.as_ref().is_none_or(|c| c.spec != typed.spec);
                        *current = Some(typed);
                        changed
                    });
                }
                EventKind::Errored(error) => tracing::debug!(%key, %error, "the watch ended"),
                EventKind::Destroyed(_) | EventKind::Bootstrapped | EventKind::Noop => {}
            }
        }
    }
    Ok(())
}
