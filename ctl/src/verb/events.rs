//! `events`: what happens on nodes, as it happens.

use std::time::Duration;

use api::machine as pb;
use clap::Args;
use prost_types::Any;

use crate::session::Session;

/// Print events as they come.
#[derive(Debug, Args)]
pub struct Events {
    /// Only events of this actor.
    #[arg(long, default_value = "")]
    actor_id: String,
    /// Those of the past so long first.
    #[arg(long, default_value = "0s", value_parser = crate::duration)]
    duration: Duration,
    /// Those after the one with this id first.
    #[arg(long, default_value = "")]
    since: String,
    /// So many of the past first; -1 for all.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    tail: i32,
}

/// The name of its type, without the package.
fn kind(data: &Any) -> &str {
    data.type_url.rsplit(['/', '.']).next().unwrap_or_default()
}

/// An event's source and what it tells; `None` when this program does not know its type.
fn tell(data: &Any) -> Option<(String, String)> {
    Some(match kind(data) {
        "SequenceEvent" => {
            let e = data.to_msg::<pb::SequenceEvent>().ok()?;
            let failed = e.error.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default();
            (e.sequence.clone(), format!("{}{failed}", e.action().as_str_name()))
        }
        "PhaseEvent" => {
            let e = data.to_msg::<pb::PhaseEvent>().ok()?;
            (e.phase.clone(), e.action().as_str_name().to_owned())
        }
        "TaskEvent" => {
            let e = data.to_msg::<pb::TaskEvent>().ok()?;
            (e.task.clone(), e.action().as_str_name().to_owned())
        }
        "ServiceStateEvent" => {
            let e = data.to_msg::<pb::ServiceStateEvent>().ok()?;
            (e.service.clone(), format!("{}: {}", e.action().as_str_name(), e.message))
        }
        "ConfigLoadErrorEvent" => (String::new(), data.to_msg::<pb::ConfigLoadErrorEvent>().ok()?.error),
        "ConfigValidationErrorEvent" => (String::new(), data.to_msg::<pb::ConfigValidationErrorEvent>().ok()?.error),
        "AddressEvent" => {
            let e = data.to_msg::<pb::AddressEvent>().ok()?;
            (e.hostname, format!("ADDRESSES: {}", e.addresses.join(",")))
        }
        "RestartEvent" => (String::new(), data.to_msg::<pb::RestartEvent>().ok()?.cmd.to_string()),
        "MachineStatusEvent" => {
            let e = data.to_msg::<pb::MachineStatusEvent>().ok()?;
            let status = e.status.clone().unwrap_or_default();
            let unmet: Vec<String> = status.unmet_conditions.iter().map(|c| format!("{}: {}", c.name, c.reason)).collect();
            let unmet = if unmet.is_empty() { String::new() } else { format!(", unmet: {}", unmet.join("; ")) };
            (e.stage().as_str_name().to_owned(), format!("ready: {}{unmet}", status.ready))
        }
        _ => return None,
    })
}

/// A line; the columns are as wide as what usually stands in them, since the lines to come are not known.
fn line(node: &str, id: &str, kind: &str, actor: &str, source: &str, message: &str) -> String {
    format!("{node:<15} {id:<20} {kind:<20} {actor:<36} {source:<20} {message}").trim_end().to_owned()
}

impl Events {
    /// Prints each node's until it is interrupted.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let request = pb::EventsRequest {
            tail_events: self.tail,
            tail_id: self.since,
            tail_seconds: i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX),
            with_actor_id: self.actor_id,
        };
        println!("{}", line("NODE", "ID", "EVENT", "ACTOR", "SOURCE", "MESSAGE"));
        session
            .each(false, async |node| {
                let mut stream = node.client.machine().events(request.clone()).await?.into_inner();
                while let Some(event) = stream.message().await? {
                    // The first one is empty: it says that the node listens.
                    let Some(data) = event.data else { continue };
                    let (source, message) = tell(&data).unwrap_or_default();
                    println!("{}", line(&node.name, &event.id, kind(&data), &event.actor_id, &source, &message));
                }
                Ok(())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event as nodes send it.
    fn sent(name: &str, any: Result<Any, impl std::fmt::Debug>) -> Any {
        Any { type_url: format!("talos/runtime/machine.{name}"), value: any.unwrap().value }
    }

    #[test]
    fn events_are_told_with_their_source() {
        let event = pb::ServiceStateEvent { service: "etcd".into(), action: 3, message: "Started".into(), health: None };
        assert_eq!(tell(&sent("ServiceStateEvent", Any::from_msg(&event))), Some(("etcd".into(), "RUNNING: Started".into())));
        let unmet = vec![pb::machine_status_event::machine_status::UnmetCondition { name: "time".into(), reason: "not synced".into() }];
        let status = Some(pb::machine_status_event::MachineStatus { ready: false, unmet_conditions: unmet });
        let event = pb::MachineStatusEvent { stage: 1, status };
        assert_eq!(
            tell(&sent("MachineStatusEvent", Any::from_msg(&event))),
            Some(("BOOTING".into(), "ready: false, unmet: time: not synced".into()))
        );
        assert_eq!(tell(&Any { type_url: "talos/runtime/machine.Unheard".into(), value: vec![] }), None);
    }
}
