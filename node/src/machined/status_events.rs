//! Makes events of what the resources tell: the machine's stage, and the states of services.

use ::api::machine as pb;
use engine::{Happened, Start, Store};
use model::host::MachineStatus;
use model::services::ServiceStatus;

use super::events::Events;

fn machine_status(status: &MachineStatus) -> pb::MachineStatusEvent {
    use pb::machine_status_event::{MachineStage, MachineStatus as Readiness, machine_status::UnmetCondition};
    let stage = i32::try_from(status.stage.number()).ok().and_then(|n| MachineStage::try_from(n).ok()).unwrap_or_default();
    let condition = |c: &model::host::UnmetCondition| UnmetCondition { name: c.name.clone(), reason: c.reason.clone() };
    let unmet_conditions = status.status.unmet_conditions.iter().map(condition).collect();
    pb::MachineStatusEvent { stage: stage.into(), status: Some(Readiness { ready: status.status.ready, unmet_conditions }) }
}

fn service_state(id: &str, status: &ServiceStatus) -> pb::ServiceStateEvent {
    use pb::service_state_event::Action;
    let action = match status.state.as_str() {
        "Initialized" => Action::Initialized,
        "Preparing" => Action::Preparing,
        "Waiting" => Action::Waiting,
        "Starting" => Action::Starting,
        "Running" => Action::Running,
        "Stopping" => Action::Stopping,
        "Finished" => Action::Finished,
        "Failed" => Action::Failed,
        _ => Action::Skipped,
    };
    let message = status.events.last().map(|e| e.message.clone()).unwrap_or_default();
    let health = pb::ServiceHealth {
        unknown: status.unknown,
        healthy: status.healthy,
        last_message: status.last_message.clone(),
        last_change: None,
    };
    pb::ServiceStateEvent { service: id.to_owned(), action: action.into(), message, health: Some(health) }
}

/// Tells until the process ends.
pub(crate) async fn tell(store: Store, events: Events) {
    tokio::join!(tell_machine(&store, &events), tell_services(&store, &events));
}

async fn tell_machine(store: &Store, events: &Events) {
    loop {
        let Ok(mut watch) = store.kind::<MachineStatus>().watch(Start::Contents) else { return };
        // One that fell behind starts anew: the newest status is what counts.
        while let Ok(seen) = watch.next().await {
            if let Happened::Created(r) | Happened::Updated { new: r, .. } = seen.what {
                events.publish("machine.MachineStatusEvent", &machine_status(&r.spec), "");
            }
        }
    }
}

async fn tell_services(store: &Store, events: &Events) {
    loop {
        let Ok(mut watch) = store.kind::<ServiceStatus>().watch(Start::Now) else { return };
        while let Ok(seen) = watch.next().await {
            let (old, new) = match &seen.what {
                Happened::Created(new) => (None, new),
                Happened::Updated { old, new } => (Some(old), new),
                _ => continue,
            };
            let same = old.is_some_and(|o| {
                o.spec.state == new.spec.state && o.spec.healthy == new.spec.healthy && o.spec.unknown == new.spec.unknown
            });
            if !same {
                events.publish("machine.ServiceStateEvent", &service_state(new.meta.id.as_str(), &new.spec), "");
            }
        }
    }
}
