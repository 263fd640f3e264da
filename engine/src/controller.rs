//! What a controller is: a name, its inputs, its outputs, and one function from the first to the second.

use std::future::Future;
use std::time::Duration;

use resource::{Entry, Kind, Name, Spec};

use crate::context::Context;
use crate::error::Error;
use crate::graph::{OutputEdge, Ownership};
use crate::inputs::Inputs;
use crate::wanted::Wanted;

/// A controller: given what it reads, it says what it wants to be.
///
/// The engine calls [`reconcile`](Controller::reconcile) once at the start and again whenever an input changes, a timer that was asked
/// for fires, a [`Waker`](crate::Waker) is called, or the last run failed and its back-off is over. Runs of one controller never overlap.
/// Anything may wake a controller at any time, so a reconcile must be correct when nothing has changed.
///
/// Most controllers are a pure function behind this trait. One that touches the machine compares what is wanted (its inputs) with what it
/// finds, and must take nothing away while [`Context::settled`] is false.
pub trait Controller: Send + Sync + 'static {
    /// The name: `<room>.<What>Controller`, such as `network.HostnameMergeController`. It owns the outputs, so it is part of stored state.
    const NAME: &'static str;

    /// How long one reconcile may take before it is given up and counts as failed.
    const TIMEOUT: Duration = Duration::from_secs(600);

    /// What it reads; nothing else can be read.
    type In: Inputs;

    /// What it may write; anything else in the returned [`Wanted`] is an error.
    fn outputs() -> Outputs;

    /// Brings the world one step on and returns what this controller's outputs should be, completely.
    ///
    /// # Errors
    /// Any error keeps the outputs as they are and leads to another try, after a back-off.
    fn reconcile(&self, ctx: &Context, input: Self::In) -> impl Future<Output = Result<Wanted, Error>> + Send;
}

/// What a controller may write.
#[derive(Debug, Default, Clone)]
pub struct Outputs {
    pub(crate) list: Vec<OutputDeclaration>,
}

/// One output: its place in the graph, and what its table holds.
#[derive(Debug, Clone)]
pub(crate) struct OutputDeclaration {
    pub(crate) edge: OutputEdge,
    pub(crate) entry: Entry,
}

impl Outputs {
    /// No outputs: a controller that only acts on the machine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every `T` in its default namespace is this controller's.
    #[must_use]
    pub fn exclusive<T: Spec>(self) -> Self {
        self.exclusive_in::<T>(T::NAMESPACE)
    }

    /// Every `T` in `namespace` is this controller's.
    #[must_use]
    pub fn exclusive_in<T: Spec>(self, namespace: &'static str) -> Self {
        self.add::<T>(namespace, Ownership::Exclusive)
    }

    /// Some `T`s in its default namespace are this controller's, others other controllers'.
    #[must_use]
    pub fn shared<T: Spec>(self) -> Self {
        self.shared_in::<T>(T::NAMESPACE)
    }

    /// Some `T`s in `namespace` are this controller's, others other controllers'.
    #[must_use]
    pub fn shared_in<T: Spec>(self, namespace: &'static str) -> Self {
        self.add::<T>(namespace, Ownership::Shared)
    }

    fn add<T: Spec>(mut self, namespace: &'static str, ownership: Ownership) -> Self {
        let kind = Kind { namespace: Name::literal(namespace), type_: Name::literal(T::TYPE) };
        self.list.push(OutputDeclaration { edge: OutputEdge { kind, ownership }, entry: Entry::of::<T>() });
        self
    }
}
