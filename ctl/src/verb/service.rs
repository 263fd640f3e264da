//! `service`: the services of nodes, and what may be asked of them.

use anyhow::bail;
use api::machine as pb;
use clap::{Args, ValueEnum};

use crate::session::{Node, Session};
use crate::table::Table;

/// What to do with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    Status,
    Start,
    Stop,
    Restart,
}

/// List services, show one, start, stop or restart it.
#[derive(Debug, Args)]
pub struct Service {
    /// The service.
    id: Option<String>,
    /// What to do with it.
    #[arg(value_enum, default_value = "status")]
    action: Action,
    /// Talk to a node in maintenance mode.
    #[arg(long, short)]
    insecure: bool,
}

fn health(service: &pb::ServiceInfo) -> &'static str {
    match &service.health {
        Some(h) if h.unknown => "?",
        Some(h) if h.healthy => "OK",
        Some(_) => "Fail",
        None => "?",
    }
}

fn ago(at: Option<prost_types::Timestamp>) -> String {
    let now = jiff::Timestamp::now().as_second();
    let seconds = at.map_or(0, |t| (now - t.seconds).max(0));
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 {
        format!("{h}h{m}m{s}s ago")
    } else if m > 0 {
        format!("{m}m{s}s ago")
    } else {
        format!("{s}s ago")
    }
}

fn last_event(service: &pb::ServiceInfo) -> (String, String) {
    let last = service.events.as_ref().and_then(|e| e.events.last());
    last.map(|e| (ago(e.ts), e.msg.clone())).unwrap_or_default()
}

fn show(node: &Node, service: &pb::ServiceInfo) {
    println!("NODE     {}", node.name);
    println!("ID       {}", service.id);
    println!("STATE    {}", service.state);
    println!("HEALTH   {}", health(service));
    if let Some(h) = &service.health
        && !h.last_message.is_empty()
    {
        println!("LAST HEALTH MESSAGE   {}", h.last_message);
    }
    for (index, event) in service.events.iter().flat_map(|e| e.events.iter().rev()).enumerate() {
        let heading = if index == 0 { "EVENTS" } else { "" };
        println!("{heading:<9}[{}]: {} ({})", event.state, event.msg, ago(event.ts));
    }
}

impl Service {
    /// Asks each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let mut table = Table::new(&["NODE", "SERVICE", "STATE", "HEALTH", "LAST CHANGE", "LAST EVENT"]);
        let rows = session.collect(self.insecure, async |node| self.on(&node).await).await;
        for (node, services) in &rows.found {
            for service in services {
                let (when, what) = last_event(service);
                table.row([node.name.clone(), service.id.clone(), service.state.clone(), health(service).to_owned(), when, what]);
            }
        }
        if self.id.is_none() {
            print!("{table}");
        }
        rows.finish()
    }

    async fn on(&self, node: &Node) -> anyhow::Result<Vec<pb::ServiceInfo>> {
        let mut machine = node.client.machine();
        let Some(id) = self.id.clone() else {
            let answer = machine.service_list(()).await?.into_inner();
            return Ok(answer.messages.into_iter().flat_map(|m| m.services).collect());
        };
        let said = match self.action {
            Action::Status => {
                let answer = machine.service_list(()).await?.into_inner();
                let services: Vec<_> = answer.messages.into_iter().flat_map(|m| m.services).collect();
                let Some(service) = services.iter().find(|s| s.id == id) else {
                    let ids: Vec<_> = services.iter().map(|s| s.id.as_str()).collect();
                    bail!("service {id:?} is not there; the node has: {}", ids.join(", "));
                };
                show(node, service);
                return Ok(Vec::new());
            }
            Action::Start => machine
                .service_start(pb::ServiceStartRequest { id })
                .await?
                .into_inner()
                .messages
                .into_iter()
                .map(|m| m.resp)
                .collect::<Vec<_>>(),
            Action::Stop => {
                machine.service_stop(pb::ServiceStopRequest { id }).await?.into_inner().messages.into_iter().map(|m| m.resp).collect()
            }
            Action::Restart => {
                machine.service_restart(pb::ServiceRestartRequest { id }).await?.into_inner().messages.into_iter().map(|m| m.resp).collect()
            }
        };
        for text in said {
            println!("{}: {text}", node.name);
        }
        Ok(Vec::new())
    }
}
