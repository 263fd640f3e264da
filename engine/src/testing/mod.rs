//! For tests, here and in other crates: what every [`State`](resource::State) must do.

mod conformance;
mod item;
mod simulation;

pub use self::conformance::conformance;
pub use self::item::Item;
pub use self::simulation::{Finding, Persistence, Random, Scenario, SimHost, Simulation};
