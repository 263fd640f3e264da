//! `ApplyConfiguration`: checks a configuration, then makes it the active one, the persistent one, or both.

use std::time::Duration;

use api::machine as pb;
use host::acquire::{ACTIVE, PERSISTENT, check};
use model::services::ConfigRequest;
use pb::apply_configuration_request::Mode;
use similar::algorithms::{Capture, Compact, Replace, myers};
use similar::udiff::UnifiedHunkHeader;
use tonic::Status;

use crate::machined::node::Node;

/// How long a configuration is tried when the caller names no time.
const TRIAL: Duration = Duration::from_secs(60);
/// How long applying may wait until controllers took the configuration over.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// The differences, with the secrets of both sides left out.
fn diff(before: &str, after: &str) -> String {
    if before == after {
        return "No changes.".into();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut diff = Compact::new(Replace::new(Capture::new()), &old, &new);
    // This one algorithm, not `TextDiff`: that brings all of them along, over a megabyte of code.
    let Ok(()) = myers::diff_deadline_raw(&mut diff, &old, 0..old.len(), &new, 0..new.len(), None);
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
fn may(admin: bool, in_maintenance: bool) -> Result<(), Status> {
    if admin || in_maintenance {
        return Ok(());
    }
    Err(Status::permission_denied("not authorized: the node has a configuration, and only the role os:admin may change it"))
}

/// Applies.
pub(super) async fn apply(node: &Node, request: pb::ApplyConfigurationRequest, admin: bool) -> Result<pb::ApplyConfiguration, Status> {
    may(admin, node.in_maintenance())?;
    let busy = |_| Status::failed_precondition("another configuration is being applied; try again when that is done");
    let mut trial = node.applying.try_lock().map_err(busy)?;
    let complete = node.config().is_some_and(|c| c.spec.machine().is_some_and(model::config::MachineConfig::is_complete));
    let mode = match request.mode() {
        Mode::Reboot if complete => {
            return Err(Status::unimplemented("apply mode reboot is gone: use auto, no-reboot, staged or try; no change needs a reboot"));
        }
        Mode::Auto | Mode::Reboot => Mode::NoReboot,
        other => other,
    };
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
    if let Some(task) = trial.0.take() {
        task.abort();
    }
    match mode {
        Mode::Staged => {
            put(node, PERSISTENT, request.data)?;
            answer.mode_details = "Staged configuration to be applied after the next reboot".into();
        }
        Mode::Try => {
            let limit = request.try_mode_timeout.and_then(|d| Duration::try_from(d).ok()).filter(|d| !d.is_zero()).unwrap_or(TRIAL);
            put(node, ACTIVE, request.data)?;
            trial.0 = Some(tokio::spawn(revert(node.clone(), before, limit)));
            answer.mode_details = format!(
                "The config is applied in 'try' mode and will be automatically reverted back in {}",
                resource::Duration::from(limit)
            );
        }
        _ => {
            put(node, PERSISTENT, request.data.clone())?;
            put(node, ACTIVE, request.data.clone())?;
            taken_over(node, &request.data).await?;
            answer.mode_details = "Applied configuration without a reboot".into();
        }
    }
    Ok(answer)
}

fn put(node: &Node, id: &str, config: Vec<u8>) -> Result<(), Status> {
    let generation = node.configs.get(id).map_or(0, |r| r.spec.generation) + 1;
    let request = ConfigRequest { config: config.into(), generation };
    node.configs.put("", id, request).map(drop).map_err(|e| Status::internal(e.to_string()))
}

async fn revert(node: Node, before: Vec<u8>, limit: Duration) {
    tokio::time::sleep(limit).await;
    tracing::warn!("the configuration on trial was not confirmed within {} s; going back to the one before", limit.as_secs());
    if let Err(error) = put(&node, ACTIVE, before) {
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
        assert!(may(false, true).is_ok() && may(true, true).is_ok() && may(true, false).is_ok());
        assert_eq!(may(false, false).unwrap_err().code(), tonic::Code::PermissionDenied);
    }

    #[test]
    fn a_diff_shows_only_what_changed() {
        let text = diff("a: 1\nb: 2\nc: 3\n", "a: 1\nb: 5\nc: 3\n");
        assert!(text.contains("-b: 2\n+b: 5\n"), "{text}");
        assert_eq!(diff("a: 1\n", "a: 1\n"), "No changes.");
    }
}
