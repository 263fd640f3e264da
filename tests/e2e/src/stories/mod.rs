//! The stories, in the order they run.

mod bad_input;
mod create_killed;
mod faults;
mod foreign;
mod kills;
mod lifecycle;
mod maintenance;
mod one_and_one;
mod scale;

use crate::Story;

/// All stories.
pub fn all() -> Vec<Story> {
    vec![
        Story { name: "cluster/create-killed", run: create_killed::story },
        Story { name: "cluster/one-and-one", run: one_and_one::story },
        Story { name: "cluster/scale", run: scale::story },
        Story { name: "cluster/faults", run: faults::story },
        Story { name: "cluster/bad-input", run: bad_input::story },
        Story { name: "node/maintenance", run: maintenance::story },
        Story { name: "node/lifecycle", run: lifecycle::story },
    ]
}
