//! The stories, in the order they run.

mod kills;
mod one_and_one;

use crate::Story;

/// All stories.
pub fn all() -> Vec<Story> {
    vec![Story { name: "cluster/one-and-one", run: one_and_one::story }]
}
