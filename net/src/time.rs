//! The clock: which time servers are used, and whether the clock is right.
//!
//! A container's clock is its host's, and its host's business: it is never set from here, and waiting for it would be waiting forever.

use std::sync::Arc;

use engine::{Context, Controller, Inputs, Many, Marks, One, OneExt, Outputs, Wanted};
use model::config::docs::net::TimeSyncConfig;
use model::host::{MachineConfig, TimeStatus};
use model::net::{ConfigLayer, PlatformConfig, TimeServerSpec, TimeServerStatus};

use crate::hands::Hands;
use crate::layers::{CONFIG, in_order, prefix};

const ID: &str = "timeservers";
/// How often the kernel is asked about its clock.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);
const DEFAULT_SERVER: &str = "time.cloudflare.com";

/// What each source says about time servers.
pub(crate) struct TimeServerConfigController;

#[derive(Inputs)]
pub(crate) struct ConfigIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "active")]
    platform: One<PlatformConfig>,
}

impl Controller for TimeServerConfigController {
    const NAME: &'static str = "network.TimeServerConfigController";
    type In = ConfigIn;

    fn outputs() -> Outputs {
        Outputs::new().shared_in::<TimeServerSpec>(CONFIG)
    }

    async fn reconcile(&self, _: &Context, input: ConfigIn) -> engine::Result<Wanted> {
        let mut wanted = Wanted::new();
        let mut add = |spec: TimeServerSpec| wanted.add_in(CONFIG, prefix(spec.layer, ID), spec, Marks::default());
        add(TimeServerSpec { time_servers: vec![DEFAULT_SERVER.into()], layer: ConfigLayer::Default, ..TimeServerSpec::default() });
        if let Some(spec) = input.platform.spec().and_then(|platform| platform.time_servers.first()) {
            add(TimeServerSpec { layer: ConfigLayer::Platform, ..spec.clone() });
        }
        let machine = input.config.spec().and_then(|config| config.machine());
        if let Some(ntp) = machine.and_then(|machine| machine.get::<TimeSyncConfig>()).and_then(|config| config.ntp.as_ref())
            && !ntp.servers.is_empty()
        {
            let (time_servers, use_nts) = (ntp.servers.clone(), ntp.use_nts == Some(true));
            add(TimeServerSpec { time_servers, use_nts, layer: ConfigLayer::Configuration });
        }
        Ok(wanted)
    }
}

/// The servers of the last layer.
pub(crate) struct TimeServerMergeController;

#[derive(Inputs)]
pub(crate) struct MergeIn {
    #[input(namespace = "network-config")]
    specs: Many<TimeServerSpec>,
}

impl Controller for TimeServerMergeController {
    const NAME: &'static str = "network.TimeServerMergeController";
    type In = MergeIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<TimeServerSpec>()
    }

    async fn reconcile(&self, _: &Context, input: MergeIn) -> engine::Result<Wanted> {
        Ok(Wanted::new().maybe(ID, in_order(&input.specs).last().map(|(_, spec)| (*spec).clone())))
    }
}

/// What is in force.
pub(crate) struct TimeServerStatusController;

#[derive(Inputs)]
pub(crate) struct StatusIn {
    #[input(id = "timeservers")]
    spec: One<TimeServerSpec>,
}

impl Controller for TimeServerStatusController {
    const NAME: &'static str = "network.TimeServerSpecController";
    type In = StatusIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<TimeServerStatus>()
    }

    async fn reconcile(&self, _: &Context, input: StatusIn) -> engine::Result<Wanted> {
        let status = input.spec.spec().map(|spec| TimeServerStatus { time_servers: spec.time_servers.clone(), use_nts: spec.use_nts });
        Ok(Wanted::new().maybe(ID, status))
    }
}

/// Whether the clock is right.
pub(crate) struct TimeStatusController {
    /// Whether this is a container.
    pub(crate) container: bool,
    /// Whoever can ask the kernel.
    pub(crate) hands: Arc<dyn Hands>,
}

#[derive(Inputs)]
pub(crate) struct TimeIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
}

impl Controller for TimeStatusController {
    const NAME: &'static str = "v1alpha1.TimeSyncController";
    type In = TimeIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<TimeStatus>()
    }

    async fn reconcile(&self, ctx: &Context, input: TimeIn) -> engine::Result<Wanted> {
        let machine = input.config.spec().and_then(|config| config.machine());
        let off = machine.and_then(|machine| machine.get::<TimeSyncConfig>()).is_some_and(|config| config.enabled == Some(false));
        if self.container || off {
            return Ok(Wanted::new().with("node", TimeStatus { synced: true, epoch: 0, sync_disabled: true }));
        }
        // The kernel knows whether somebody keeps the clock in step; it tells no one, so it is asked now and then.
        ctx.wake_after(LOOK_AGAIN);
        let synced = self.hands.clock_synced();
        Ok(Wanted::new().with("node", TimeStatus { synced, epoch: 0, sync_disabled: false }))
    }
}

#[cfg(test)]
mod tests {
    use engine::one;

    use super::*;
    use crate::hands::fake::FakeHands;

    async fn status(container: bool, text: &str, synced: bool) -> TimeStatus {
        let hands = FakeHands::default();
        *hands.synced.lock().unwrap() = synced;
        let controller = TimeStatusController { container, hands: Arc::new(hands) };
        let input = TimeIn { config: one("v1alpha1", MachineConfig::new(text.as_bytes())) };
        controller.reconcile(&Context::detached(), input).await.unwrap().get::<TimeStatus>("node").unwrap().clone()
    }

    #[tokio::test]
    async fn a_container_waits_for_no_clock() {
        let seen = status(true, "", false).await;
        assert!(seen.synced && seen.sync_disabled);
        assert!(!status(false, "", false).await.synced);
        assert!(status(false, "", true).await.synced);
        let off = status(false, "apiVersion: v1alpha1\nkind: TimeSyncConfig\nenabled: false\n", false).await;
        assert!(off.synced && off.sync_disabled);
    }

    #[tokio::test]
    async fn configured_servers_win() {
        let text = "apiVersion: v1alpha1\nkind: TimeSyncConfig\nntp:\n  servers: [ntp.example.org]\n";
        let input = ConfigIn { config: one("v1alpha1", MachineConfig::new(text.as_bytes())), platform: None };
        let wanted = TimeServerConfigController.reconcile(&Context::detached(), input).await.unwrap();
        let specs = Many::of(wanted.specs::<TimeServerSpec>().map(|(id, spec)| (id.to_owned(), spec.clone())).collect::<Vec<_>>());
        assert_eq!(specs.len(), 2);
        let merged = TimeServerMergeController.reconcile(&Context::detached(), MergeIn { specs }).await.unwrap();
        assert_eq!(merged.get::<TimeServerSpec>(ID).unwrap().time_servers, ["ntp.example.org"]);
    }
}
