//! `ApplyConfiguration`: checks a configuration, then makes it the active one, the persistent one, or both.

use std::time::{Duration, Instant};

use api::machine as pb;
use engine::Table;
use host::acquire::{ACTIVE, PERSISTENT, check};
use model::services::ConfigRequest;
use pb::apply_configuration_request::Mode;
use similar::algorithms::{Capture, Compact, Replace, myers};
use similar::udiff::UnifiedHunkHeader;
use tonic::Status;

use crate::machined::node::{Node, Trial};

/// How long a configuration is tried when the caller names no time.
const TRIAL: Duration = Duration::from_secs(60);
/// How long applying may wait until controllers took the configuration over.
const TAKEN_OVER: Duration = Duration::from_secs(10);
/// How long the shortest differences are looked for; then longer ones do.
const DIFF: Duration = Duration::from_secs(1);

/// The differences, with the secrets of both sides left out.
fn diff(before: &str, after: &str) -> String {
    if before == after {
        return "No changes.".into();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut diff = Compact::new(Replace::new(Capture::new()), &old, &new);
    // This one algorithm, not `TextDiff`: that brings all of them along, over a megabyte of code.
    let Ok(()) = myers::diff_deadline_raw(&mut diff, &old, 0..old.len(), &new, 0..new.len(), Some(Instant::now() + DIFF));
    let mut text = String::from("--- active\n+++ applied\n");
    for hunk in diff.into_inner().into_inner().into_grouped_ops(3) {
        text += &format!("{}\n", UnifiedHunkHeader::new(&hunk));
        let changes = hunk.iter().flat_map(|op| op.iter_changes(&old, &new));
        text.extend(changes.map(|change| format!("{}{}\n", change.tag(), change.value())));
    }
    text
}

fn redacted(bytes: &[u8]) -> String {
    model::config::Config::load(bytes).map(|loaded| loaded.text.redacted()).unwrap_or_default()
}

/// Whether this caller may: an admin always, others give a node that has no configuration its first.
fn may(admin: bool, in_maintenance: bool, complete: bool) -> Result<(), Status> {
    if admin || in_maintenance && !complete {
        return Ok(());
    }
    Err(Status::permission_denied("not authorized: the node has a configuration, and only the role os:admin may change it"))
}

/// How it is applied, on a node that has a complete configuration or none.
fn mode_of(asked: Mode, complete: bool) -> Result<Mode, Status> {
    match asked {
        Mode::Reboot if complete => {
            Err(Status::unimplemented("apply mode reboot is gone: use auto, no-reboot, staged or try; no change needs a reboot"))
        }
        Mode::Try if !complete => Err(Status::failed_precondition("there is nothing to go back to; use auto")),
        Mode::Auto | Mode::Reboot => Ok(Mode::NoReboot),
        other => Ok(other),
    }
}

/// Applies.
pub(super) async fn apply(node: &Node, request: pb::ApplyConfigurationRequest, admin: bool) -> Result<pb::ApplyConfiguration, Status> {
    let busy = |_| Status::failed_precondition("another configuration is being applied; try again when that is done");
    let mut trial = node.applying.try_lock().map_err(busy)?;
    let complete = node.config().is_some_and(|c| c.spec.machine().is_some_and(model::config::MachineConfig::is_complete));
    // With the lock held: the first configuration may have come since the call.
    may(admin, node.in_maintenance(), complete)?;
    let mode = mode_of(request.mode(), complete)?;
    let problems = |refused: host::acquire::Refused| {
        Status::invalid_argument(format!("the configuration is not valid:\n{}", refused.problems.join("\n")))
    };
    let (loaded, warnings) = check(&request.data, node.mode).map_err(problems)?;
    if complete && !loaded.machine.is_complete() {
        return Err(Status::invalid_argument("the configuration has no machine section: the node would fall back to maintenance mode"));
    }
    let before = node.config().map(|c| c.spec.text().to_vec()).unwrap_or_default();
    let mut answer = pb::ApplyConfiguration { warnings, mode: mode.into(), ..pb::ApplyConfiguration::default() };
    if request.dry_run {
        answer.mode_details = format!("Dry run summary:\n{}", diff(&redacted(&before), &redacted(&request.data)));
        return Ok(answer);
    }
    match mode {
        // What is on trial stays so: it was not confirmed.
        Mode::Staged => {
            put(&node.configs, PERSISTENT, request.data)?;
            answer.mode_details = "Staged configuration to be applied after the next reboot".into();
        }
        Mode::Try => {
            let limit = request.try_mode_timeout.and_then(|d| Duration::try_from(d).ok()).filter(|d| !d.is_zero()).unwrap_or(TRIAL);
            attempt(&node.configs, &mut trial, request.data, before, limit).await?;
            answer.mode_details = format!(
                "The config is applied in 'try' mode and will be automatically reverted back in {}",
                resource::Duration::from(limit)
            );
        }
        _ => {
            end(&mut trial).await;
            put(&node.configs, PERSISTENT, request.data.clone())?;
            put(&node.configs, ACTIVE, request.data.clone())?;
            taken_over(node, &request.data).await?;
            answer.mode_details = "Applied configuration without a reboot".into();
        }
    }
    Ok(answer)
}

/// Ends a trial without going back; what was active before it.
async fn end(trial: &mut Trial) -> Option<Vec<u8>> {
    let (before, task) = trial.0.take()?;
    task.abort();
    // A revert that already runs is let through: nothing of it may come after what follows.
    let _ = task.await;
    Some(before)
}

/// Puts a configuration on trial. One that was on trial itself is none to go back to.
async fn attempt(
    configs: &Table<ConfigRequest>,
    trial: &mut Trial,
    config: Vec<u8>,
    active: Vec<u8>,
    limit: Duration,
) -> Result<(), Status> {
    let before = end(trial).await.unwrap_or(active);
    put(configs, ACTIVE, config)?;
    trial.0 = Some((before.clone(), tokio::spawn(revert(configs.clone(), before, limit))));
    Ok(())
}

fn put(configs: &Table<ConfigRequest>, id: &str, config: Vec<u8>) -> Result<(), Status> {
    let generation = configs.get(id).map_or(0, |r| r.spec.generation) + 1;
    let request = ConfigRequest { config: config.into(), generation };
    configs.put("", id, request).map(drop).map_err(|e| Status::internal(e.to_string()))
}

async fn revert(configs: Table<ConfigRequest>, before: Vec<u8>, limit: Duration) {
    tokio::time::sleep(limit).await;
    tracing::warn!("the configuration on trial was not confirmed within {} s; going back to the one before", limit.as_secs());
    if let Err(error) = put(&configs, ACTIVE, before) {
        tracing::error!(%error, "cannot go back to the configuration before");
    }
}

/// Waits until the configuration is the active one, so that a caller who reads it next sees it.
async fn taken_over(node: &Node, bytes: &[u8]) -> Result<(), Status> {
    let wait = async {
        while node.config().is_none_or(|c| c.spec.text() != bytes) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TAKEN_OVER, wait).await.map_err(|_| {
        Status::deadline_exceeded("the configuration was stored, but did not become active within 10 s; see the log of machined")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_reads_may_configure_a_node_that_has_no_configuration_alone() {
        assert!(may(false, true, false).is_ok() && may(true, true, true).is_ok() && may(true, false, true).is_ok());
        // The second: its first configuration came while this caller waited.
        for (in_maintenance, complete) in [(false, true), (true, true), (false, false)] {
            assert_eq!(may(false, in_maintenance, complete).unwrap_err().code(), tonic::Code::PermissionDenied);
        }
    }

    #[test]
    fn nothing_is_tried_where_there_is_nothing_to_go_back_to() {
        let refused = mode_of(Mode::Try, false).unwrap_err();
        assert_eq!((refused.code(), refused.message()), (tonic::Code::FailedPrecondition, "there is nothing to go back to; use auto"));
        assert_eq!(mode_of(Mode::Try, true).unwrap(), Mode::Try);
        assert_eq!(mode_of(Mode::Auto, false).unwrap(), Mode::NoReboot);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_trial_goes_back_to_what_was_before_the_first() {
        let configs = engine::Store::new().kind::<ConfigRequest>();
        let active = || configs.get(ACTIVE).map(|r| r.spec.config.0.clone()).unwrap();
        let mut trial = Trial::default();
        let limit = Duration::from_secs(60);
        put(&configs, ACTIVE, b"good".into()).unwrap();
        attempt(&configs, &mut trial, b"first".into(), active(), limit).await.unwrap();
        tokio::time::sleep(limit / 2).await;
        attempt(&configs, &mut trial, b"second".into(), active(), limit).await.unwrap();
        tokio::time::sleep(limit * 3 / 4).await;
        assert_eq!(active(), b"second", "the first trial's end is not the second's");
        tokio::time::sleep(limit).await;
        assert_eq!(active(), b"good");
        // What is confirmed stays.
        attempt(&configs, &mut trial, b"third".into(), active(), limit).await.unwrap();
        assert_eq!(end(&mut trial).await.as_deref(), Some(&b"good"[..]));
        tokio::time::sleep(limit * 2).await;
        assert_eq!(active(), b"third");
    }

    #[test]
    fn what_has_nothing_in_common_is_compared_in_time() {
        let lines = |seed: u64| (0..60_000u64).map(|n| format!("{}\n", (n * n + n * seed) % 9973)).collect::<String>();
        let (before, after) = (lines(17), lines(5000));
        let begin = Instant::now();
        let text = diff(&before, &after);
        assert!(begin.elapsed() < 10 * DIFF, "{:?}", begin.elapsed());
        assert_eq!(text.lines().filter(|line| line.starts_with([' ', '+']) && !line.starts_with("+++")).count(), 60_000);
    }

    #[test]
    fn a_diff_shows_only_what_changed() {
        let text = diff("a: 1\nb: 2\nc: 3\n", "a: 1\nb: 5\nc: 3\n");
        assert!(text.contains("-b: 2\n+b: 5\n"), "{text}");
        assert_eq!(diff("a: 1\n", "a: 1\n"), "No changes.");
    }
}
