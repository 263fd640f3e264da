//! One controller in the runtime, and one run of it: hold, read, reconcile, write the difference, let go.
//!
//! This file decides nothing about *when*; the drivers do. A run is a sequence of small steps each of which leaves a valid state, since the
//! process may be killed between any two: what a cut run did not do, the next one does.

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use resource::{AnyResource, Kind, Name, Phase, Version};

use crate::context::{Context, Kept, panic_text};
use crate::controller::Controller;
use crate::error::Error;
use crate::graph::{Node, OutputEdge, Strength};
use crate::inputs::{BoundInput, InputSeen, Inputs, Reader};
use crate::store::{Applied, Listener, Rows, Store};
use crate::trigger::{Trigger, reason};
use crate::wanted::{Mode, Wanted};

type Reconcile<'a> = Pin<Box<dyn Future<Output = Result<Wanted, Error>> + Send + 'a>>;

/// The part of a controller that depends on its type.
pub(crate) trait Call: Send + Sync {
    fn node(&self) -> Node;
    fn bind(&self, store: &Store) -> (Vec<BoundInput>, Vec<BoundOutput>);
    fn timeout(&self) -> Duration;
    /// Reads the inputs at once and returns the reconcile to wait for.
    fn call<'a>(&'a self, ctx: &'a Context, reader: &Reader<'_>) -> Reconcile<'a>;
}

impl<C: Controller> Call for C {
    fn node(&self) -> Node {
        Node {
            name: C::NAME,
            inputs: C::In::declare().into_iter().map(|i| i.edge).collect(),
            outputs: C::outputs().list.into_iter().map(|o| o.edge).collect(),
        }
    }

    fn bind(&self, store: &Store) -> (Vec<BoundInput>, Vec<BoundOutput>) {
        let inputs = C::In::declare().iter().map(|i| BoundInput::new(store, i)).collect();
        let output =
            |o: crate::controller::OutputDeclaration| BoundOutput { rows: store.rows(o.entry, &o.edge.kind.namespace), edge: o.edge };
        (inputs, C::outputs().list.into_iter().map(output).collect())
    }

    fn timeout(&self) -> Duration {
        C::TIMEOUT
    }

    fn call<'a>(&'a self, ctx: &'a Context, reader: &Reader<'_>) -> Reconcile<'a> {
        let input = C::In::read(reader);
        Box::pin(self.reconcile(ctx, input))
    }
}

/// An output found in a store.
#[derive(Debug)]
pub(crate) struct BoundOutput {
    pub(crate) edge: OutputEdge,
    pub(crate) rows: Arc<Rows>,
}

/// A controller in the runtime.
pub(crate) struct Slot {
    pub(crate) name: Name,
    pub(crate) kept: Arc<Kept>,
    call: Box<dyn Call>,
    inputs: Vec<BoundInput>,
    outputs: Vec<BoundOutput>,
    timeout: Duration,
}

/// What a run did, whether or not it succeeded.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
    pub(crate) panicked: bool,
    /// The controller said that it does not know yet.
    pub(crate) unknown: bool,
    pub(crate) waiting: Option<String>,
    pub(crate) wake_at: Option<Duration>,
    pub(crate) inputs: Vec<InputSeen>,
    pub(crate) written: Vec<(Kind, Name, Version)>,
    pub(crate) removed: Vec<(Kind, Name)>,
    /// What it would have removed, had its inputs been known.
    pub(crate) withheld: usize,
    /// Outputs that are being torn down, and who still holds them.
    pub(crate) held: Vec<String>,
}

impl Slot {
    pub(crate) fn new(call: Box<dyn Call>, store: &Store, kept: Arc<Kept>) -> Self {
        let (inputs, outputs) = call.bind(store);
        Self { name: kept.name.clone(), timeout: call.timeout(), kept, call, inputs, outputs }
    }

    /// Begins to hear of changes.
    pub(crate) fn listen(&self) {
        for input in &self.inputs {
            let id = input.edge.id.map(Name::literal);
            let finalizers = input.edge.shown != crate::graph::Shown::Running;
            let trigger = Arc::clone(&self.kept.trigger);
            input.rows.listen(Listener { trigger, flag: reason::INPUT, id, finalizers, ending: false });
        }
        for output in &self.outputs {
            let trigger = Arc::clone(&self.kept.trigger);
            output.rows.listen(Listener { trigger, flag: reason::OUTPUT, id: None, finalizers: true, ending: true });
        }
    }

    /// Stops hearing of changes.
    pub(crate) fn unlisten(&self) {
        self.tables().for_each(|rows| rows.unlisten(&self.kept.trigger));
    }

    fn tables(&self) -> impl Iterator<Item = &Arc<Rows>> {
        self.inputs.iter().map(|i| &i.rows).chain(self.outputs.iter().map(|o| &o.rows))
    }

    /// One run. `known`: the inputs are known, so that what is not wanted may go.
    pub(crate) async fn run(&self, known: bool) -> Report {
        let mut report = Report::default();
        let going = match self.hold() {
            Ok(going) => going,
            Err(error) => return report.failed(format!("cannot put a finalizer on an input: {error}")),
        };
        self.step().await;
        let ctx = Context::new(Arc::clone(&self.kept), known);
        let answer = self.reconcile(&ctx, &mut report).await;
        report.wake_at = ctx.wake_at();
        let wanted = match answer {
            Ok(wanted) => wanted,
            Err(failure) => return report.failed(failure),
        };
        report.unknown = wanted.mode == Mode::Unknown;
        report.waiting.clone_from(&wanted.waiting);
        let complete = wanted.mode == Mode::Complete;
        if let Err(failure) = self.write(wanted, known, &mut report).await {
            return report.failed(failure);
        }
        if complete && known && report.held.is_empty() {
            for (input, id) in going {
                self.step().await;
                if let Err(error) = self.inputs[input].rows.remove_finalizer(&id, &self.name) {
                    return report.failed(format!("cannot let go of an input: {error}"));
                }
            }
        }
        report
    }

    /// Destroys outputs that are torn down and free. For when somebody let go of one; no reconcile is needed for that.
    pub(crate) fn finish(&self) -> Report {
        let mut report = Report::default();
        for output in &self.outputs {
            for owned in output.rows.owned(&self.name).into_iter().filter(|o| o.phase == Phase::TearingDown) {
                if let Err(failure) = self.destroy(output, &owned.id, Ok(owned.finalizers.is_empty()), &mut report) {
                    return report.failed(failure);
                }
            }
        }
        report
    }

    /// Holds each item of strong inputs. Returns those that are on their way out and wait for this controller.
    fn hold(&self) -> Result<Vec<(usize, Name)>, resource::Error> {
        let mut going = Vec::new();
        for (index, input) in self.inputs.iter().enumerate().filter(|(_, i)| i.edge.strength == Strength::Strong) {
            going.extend(input.rows.hold(input.edge.id, &self.name)?.into_iter().map(|id| (index, id)));
        }
        Ok(going)
    }

    async fn reconcile(&self, ctx: &Context, report: &mut Report) -> Result<Wanted, String> {
        let reader = Reader::new(&self.inputs, &self.name);
        let begun = std::panic::catch_unwind(AssertUnwindSafe(|| self.call.call(ctx, &reader)));
        report.inputs = reader.into_seen();
        let deadline = self.kept.clock.sleep_until(self.kept.clock.elapsed() + self.timeout);
        let ended = match begun {
            Ok(reconcile) => match select(AssertUnwindSafe(reconcile).catch_unwind(), deadline).await {
                Either::Left((ended, _)) => ended,
                Either::Right(_) => {
                    return Err(format!("the reconcile did not finish within {:?} and was given up", self.timeout));
                }
            },
            Err(panic) => Err(panic),
        };
        match ended {
            Ok(answer) => answer.map_err(|e| e.to_string()),
            Err(panic) => {
                report.panicked = true;
                Err(format!("panicked: {}", panic_text(&*panic)))
            }
        }
    }

    /// Writes the difference: first what is wanted, then, if that is known to be all, away with the rest.
    async fn write(&self, wanted: Wanted, known: bool, report: &mut Report) -> Result<(), String> {
        let Wanted { items, kept, mode, .. } = wanted;
        let mut mentioned: Vec<BTreeSet<Name>> = vec![BTreeSet::new(); self.outputs.len()];
        let mut failures = Vec::new();
        for (count, item) in items.into_iter().enumerate() {
            if count % 256 == 255 {
                // Many outputs must not keep everyone else from running.
                tokio::task::yield_now().await;
            }
            self.step().await;
            match self.write_item(&item, &mut mentioned, report).await {
                Ok(()) => {}
                Err(failure) => failures.push(failure),
            }
        }
        if !failures.is_empty() {
            let more = failures.len() - 1;
            let rest = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            return Err(format!("{}{rest}", failures[0]));
        }
        for (output, mentioned) in self.outputs.iter().zip(&mentioned) {
            let keep = mode != Mode::Complete || kept.contains(&output.edge.kind);
            self.remove(output, mentioned, keep, known, report).await?;
        }
        Ok(())
    }

    async fn write_item(&self, item: &AnyResource, mentioned: &mut [BTreeSet<Name>], report: &mut Report) -> Result<(), String> {
        let (kind, id) = (item.meta.kind(), &item.meta.id);
        let Some(index) = self.outputs.iter().position(|o| o.edge.kind == kind) else {
            return Err(format!("wants {kind}/{id}, which is not among its declared outputs; add it to `outputs()`"));
        };
        if !mentioned[index].insert(id.clone()) {
            return Err(format!("wants {kind}/{id} twice; ids must be unique"));
        }
        match self.outputs[index].rows.apply(item, &self.name) {
            Ok(Applied::Created(version) | Applied::Updated(version)) => report.written.push((kind, id.clone(), version)),
            Ok(Applied::Unchanged(_)) => {}
            // It is made anew once the old one is gone. If it goes now, in one more run; if it is held, its end wakes this controller.
            Ok(Applied::TearingDown) => {
                let held = report.held.len();
                self.end(&self.outputs[index], id, report).await?;
                if report.held.len() == held {
                    self.kept.trigger.wake(reason::INPUT);
                }
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    async fn remove(
        &self,
        output: &BoundOutput,
        mentioned: &BTreeSet<Name>,
        keep: bool,
        known: bool,
        report: &mut Report,
    ) -> Result<(), String> {
        for owned in output.rows.owned(&self.name) {
            if mentioned.contains(&owned.id) {
                continue;
            }
            match owned.phase {
                // What was begun is brought to its end, whatever is known.
                Phase::TearingDown => self.end(output, &owned.id, report).await?,
                Phase::Running if keep => {}
                Phase::Running if !known => report.withheld += 1,
                Phase::Running => self.end(output, &owned.id, report).await?,
            }
        }
        Ok(())
    }

    /// Tears an output down and destroys it if nobody holds it.
    async fn end(&self, output: &BoundOutput, id: &Name, report: &mut Report) -> Result<(), String> {
        self.step().await;
        let free = output.rows.teardown(id, &self.name);
        self.step().await;
        self.destroy(output, id, free, report)
    }

    /// Destroys an output that is torn down and `free` of finalizers.
    fn destroy(&self, output: &BoundOutput, id: &Name, free: Result<bool, resource::Error>, report: &mut Report) -> Result<(), String> {
        let gone = match free {
            Ok(true) => output.rows.destroy(id, &self.name).map(|()| true),
            other => other,
        };
        match gone {
            Ok(true) => report.removed.push((output.edge.kind.clone(), id.clone())),
            Ok(false) => report.held.push(self.holders(output, id)),
            Err(error) if error.is_not_found() => {}
            // Someone took hold between the two steps: it was running until now. The next change of it wakes this controller.
            Err(resource::Error::PendingFinalizers { .. }) => report.held.push(self.holders(output, id)),
            Err(error) => return Err(format!("cannot remove {}/{id}: {error}", output.edge.kind)),
        }
        Ok(())
    }

    /// Between any two writes the process may die; the simulator makes it do so here.
    async fn step(&self) {
        if self.kept.spawner.small_steps() {
            let mut gone_on = false;
            std::future::poll_fn(|cx| {
                if std::mem::replace(&mut gone_on, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    fn holders(&self, output: &BoundOutput, id: &Name) -> String {
        let holders = output.rows.get(id).map(|r| r.meta.finalizers.join(", ")).unwrap_or_default();
        format!("{}/{id} is being torn down and held by {holders}", output.edge.kind)
    }

    pub(crate) fn trigger(&self) -> &Arc<Trigger> {
        &self.kept.trigger
    }
}

impl Report {
    fn failed(mut self, failure: String) -> Self {
        self.failure = Some(failure);
        self
    }
}
