//! Several attempts at one thing, the first success wins: each next attempt starts when the last failed, or beside it when it is slow.

use std::future::Future;
use std::io;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;

/// How one dial of a race ended.
pub(super) enum Outcome<'a> {
    /// It was the first success.
    Won,
    /// It failed.
    Failed(&'a io::Error),
    /// It had not answered when it was the next one's turn.
    Slow,
}

/// Starts attempts one after the other, the next when the last failed or is slow; the first success wins and ends the rest.
pub(super) async fn race<K, T, F>(
    attempts: impl Iterator<Item = (K, F)>,
    stagger: Duration,
    mut note: impl FnMut(&K, Outcome<'_>),
) -> Option<(K, T)>
where
    K: Clone,
    F: Future<Output = io::Result<T>>,
{
    let mut attempts = attempts;
    let mut running = FuturesUnordered::new();
    let mut newest: Option<K> = None;
    let mut more = true;
    loop {
        if more {
            match attempts.next() {
                Some((key, attempt)) => {
                    newest = Some(key.clone());
                    running.push(async move { (key, attempt.await) });
                }
                None => more = false,
            }
        }
        let next = async { if more { timeout(stagger, running.next()).await } else { Ok(running.next().await) } };
        match next.await {
            Ok(Some((key, Ok(value)))) => {
                note(&key, Outcome::Won);
                return Some((key, value));
            }
            Ok(Some((key, Err(error)))) => note(&key, Outcome::Failed(&error)),
            Ok(None) if !more => return None,
            Ok(None) => {}
            Err(_) => {
                if let Some(key) = &newest {
                    note(key, Outcome::Slow);
                }
            }
        }
    }
}
