//! Service supervision: makes what `ServiceSpec` resources want run, and says how it fares.
//!
//! [`machine`] decides, [`driver`] acts for one service through a [`runner::Runner`], [`Supervisor`] holds the drivers, and
//! [`controller`] joins all that to resources. A supervisor that starts anew adopts what it finds running.

pub mod controller;
pub mod driver;
pub mod health;
pub mod machine;
pub mod runner;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use model::services::{Condition, ConditionOn, Runner as RunnerKind, ServiceSpec, ServiceStatus};
use tokio::sync::mpsc;

use driver::Command;
use runner::Runner;

/// What the conditions of services are looked up in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The services that are up.
    pub up: BTreeSet<String>,
    /// The parts of the network that are ready: `addresses`, `connectivity`, `hostname`, `etcfiles`.
    pub network: BTreeSet<String>,
    /// Whether the clock is in sync.
    pub time: bool,
    /// Whether the Kubernetes API answers through the node's balancer.
    pub kubernetes: bool,
}

impl World {
    /// The conditions that are not met, for people.
    #[must_use]
    pub fn unmet(&self, conditions: &[Condition]) -> Vec<String> {
        let text = |c: &Condition| match c.on {
            ConditionOn::Service => (!self.up.contains(&c.name)).then(|| format!("service \"{}\" to be up", c.name)),
            ConditionOn::Network => (!self.network.contains(&c.name)).then(|| format!("network {}", c.name)),
            ConditionOn::Time => (!self.time).then(|| "time sync".to_owned()),
            ConditionOn::Kubernetes => (!self.kubernetes).then(|| "the Kubernetes API to answer".to_owned()),
            other => Some(format!("unknown condition {other} ({})", c.name)),
        };
        conditions.iter().filter_map(text).collect()
    }
}

/// The services that run, or whose end is awaited.
pub struct Supervisor {
    process: Arc<dyn Runner>,
    container: Arc<dyn Runner>,
    reports: Arc<Mutex<BTreeMap<String, ServiceStatus>>>,
    changed: Arc<dyn Fn() + Send + Sync>,
    services: HashMap<String, Handle>,
}

struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    hash: u64,
    wanted: bool,
    wish: Wish,
}

/// What is wanted of one service.
#[derive(Debug, Clone)]
pub struct Wish {
    /// How it shall run.
    pub spec: Arc<ServiceSpec>,
    /// It shall not run for now.
    pub stopped: bool,
    /// Restarts it once for each change.
    pub restarts: u64,
}

impl Supervisor {
    /// A supervisor with these runners; `changed` is called after each new report.
    pub fn new(process: Arc<dyn Runner>, container: Arc<dyn Runner>, changed: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { process, container, reports: Arc::default(), changed, services: HashMap::new() }
    }

    /// How each service fares.
    #[must_use]
    pub fn reports(&self) -> BTreeMap<String, ServiceStatus> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was wanted last of each service that is wanted.
    #[must_use]
    pub fn standing_wishes(&self) -> BTreeMap<String, Wish> {
        self.services.iter().filter(|(_, h)| h.wanted).map(|(id, h)| (id.clone(), h.wish.clone())).collect()
    }

    /// Takes over what is wanted now. Services that are not among the wishes are stopped and then forgotten.
    pub fn apply(&mut self, wishes: &BTreeMap<String, Wish>, world: &World) {
        for (id, wish) in wishes {
            self.apply_one(id, wish, world);
        }
        let reports = self.reports();
        for (id, handle) in &mut self.services {
            if !wishes.contains_key(id) && handle.wanted {
                handle.wanted = false;
                let _ = handle.commands.send(Command::Stop);
            }
        }
        let over = |id: &String| reports.get(id).is_none_or(|r| matches!(r.state.as_str(), "Finished" | "Failed"));
        let ended: Vec<String> = self.services.keys().filter(|id| !wishes.contains_key(*id) && over(id)).cloned().collect();
        for id in ended {
            self.services.remove(&id);
            self.reports.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }

    fn apply_one(&mut self, id: &str, wish: &Wish, world: &World) {
        let hash = driver::hash(&wish.spec);
        if !self.services.contains_key(id) {
            let commands = self.start_driver(id, &wish.spec);
            // A count that is there from before is no new request.
            self.services.insert(id.to_owned(), Handle { commands, hash: 0, wanted: false, wish: wish.clone() });
        }
        let Some(handle) = self.services.get_mut(id) else { return };
        let send = |command| {
            let _ = handle.commands.send(command);
        };
        match (wish.stopped, handle.wanted) {
            (true, true) => send(Command::Stop),
            (true, false) => {}
            (false, was) if !was || handle.hash != hash => send(Command::Run(wish.spec.clone(), hash)),
            (false, _) => {}
        }
        if handle.wish.restarts != wish.restarts {
            send(Command::Restart);
        }
        send(Command::Conditions(world.unmet(&wish.spec.depends)));
        handle.hash = hash;
        handle.wanted = !wish.stopped;
        handle.wish = wish.clone();
    }

    fn start_driver(&self, id: &str, spec: &Arc<ServiceSpec>) -> mpsc::UnboundedSender<Command> {
        let runner: Arc<dyn Runner> = match spec.runner {
            RunnerKind::Container => self.container.clone(),
            RunnerKind::Part => Arc::new(runner::Parts),
            _ => self.process.clone(),
        };
        let (reports, changed) = (self.reports.clone(), self.changed.clone());
        let report = move |id: &str, status: ServiceStatus| {
            let previous = reports.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), status.clone());
            if previous.as_ref() != Some(&status) {
                changed();
            }
        };
        driver::spawn(id.to_owned(), spec.clone(), runner, Arc::new(report))
    }
}

/// Whether a service is up: it runs and, where it is probed, is healthy.
#[must_use]
pub fn is_up(spec: &ServiceSpec, status: &ServiceStatus) -> bool {
    status.state == "Running" && (spec.health.is_none() || status.healthy)
}
