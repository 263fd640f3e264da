//! The resource store, its watches, and the runtime that drives controllers.

// The derive writes absolute paths, and this crate uses its own derive.
extern crate self as engine;

mod clock;
mod context;
mod controller;
mod durable;
mod error;
mod graph;
mod inputs;
mod runtime;
mod store;
#[cfg(any(test, feature = "testing"))]
#[expect(clippy::expect_used, reason = "a failed expectation is what a test suite reports")]
pub mod testing;
mod trigger;
mod wanted;

pub use engine_derive::Inputs;

pub use clock::{Clock, SystemClock};
pub use context::{Context, Waker};
pub use controller::{Controller, Outputs};
pub use durable::OpenError;
pub use error::{Error, ResultExt};
pub use graph::{Graph, GraphError, InputEdge, Node, OutputEdge, Ownership, Shown, Strength};
pub use inputs::{FieldOptions, InputDeclaration, InputField, InputSeen, Inputs, Many, One, OneExt, Reader, one};
pub use runtime::{ControllerStatus, Explanation, Handle, Next, Origin, Outcome, Pace, Running, Runtime, Schedule, Stored};
pub use store::{Builder, ChangeKind, FellBehind, Happened, HistoryEntry, Position, Seen, Start, Store, Table, Watch};
pub use wanted::{Marks, Wanted};

/// The result of a reconcile, and of what a controller calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;
