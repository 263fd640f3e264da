//! What the runtime tells about its controllers: counters, errors, and what each waits for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use resource::{Key, Name, Phase, Timestamp, Version};

use crate::inputs::InputSeen;

/// One controller's counters and state, as of now.
#[derive(Debug, Clone, Default)]
pub struct ControllerStatus {
    /// Its name.
    pub name: Name,
    /// How often it ran.
    pub runs: u64,
    /// How many of these runs failed.
    pub failures: u64,
    /// How many of these failures were panics.
    pub panics: u64,
    /// How long its runs took together.
    pub busy: Duration,
    /// How long the last run came after the wish for it.
    pub lag: Duration,
    /// The longest such time.
    pub lag_max: Duration,
    /// When it last ran.
    pub last_run: Option<Timestamp>,
    /// When it last succeeded.
    pub last_success: Option<Timestamp>,
    /// The last failure; kept after later successes.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<Timestamp>,
    /// How many runs in a row have failed, up to now.
    pub failing: u32,
    /// Whether it is running.
    pub running: bool,
    /// In how long a failed run is tried again.
    pub retry_in: Option<Duration>,
    /// In how long it asked to be woken.
    pub wake_in: Option<Duration>,
    /// What it said it waits for.
    pub waiting: Option<String>,
    /// Whether it knows its inputs.
    pub settled: bool,
    /// Whose answers it needs before it knows them.
    pub waits_for: Vec<Name>,
    /// How many resources it wrote.
    pub written: u64,
    /// How many resources it removed.
    pub removed: u64,
    /// How many outputs it would remove if it knew its inputs.
    pub withheld: usize,
    /// Outputs that are being torn down, and who holds them.
    pub held: Vec<String>,
    /// How often a run had to wait because the controller ran too often.
    pub throttled: u64,
    /// What the last run read.
    pub inputs: Vec<InputSeen>,
}

impl ControllerStatus {
    /// What this controller waits for, in sentences; empty when nothing.
    #[must_use]
    pub fn waits(&self) -> Vec<String> {
        let mut waits: Vec<String> = self.waiting.iter().cloned().collect();
        if self.failing > 0 {
            let retry = self.retry_in.map(|t| format!(", next try in {t:.1?}")).unwrap_or_default();
            waits.push(format!("it failed {} times in a row{retry}: {}", self.failing, self.last_error.as_deref().unwrap_or("?")));
        }
        if self.runs == 0 {
            waits.push("it has not run yet".to_owned());
        }
        if self.withheld > 0 {
            let names: Vec<_> = self.waits_for.iter().map(Name::as_str).collect();
            waits.push(format!("{} outputs stay until its inputs are known; missing: {}", self.withheld, names.join(", ")));
        }
        waits.extend(self.held.iter().cloned());
        waits
    }
}

/// The run that wrote a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The controller.
    pub controller: Name,
    /// Its how manieth run, counted from the start of the runtime.
    pub run: u64,
    /// When.
    pub at: Timestamp,
    /// What it had read.
    pub inputs: Arc<[InputSeen]>,
}

/// Why a resource is as it is, or is not there.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The resource.
    pub key: Key,
    /// What is stored, if anything.
    pub stored: Option<Stored>,
    /// The run that wrote it last, if a controller did since the start.
    pub origin: Option<Origin>,
    /// The controllers that may write it: its owner, or, when it is not there, whoever declares its kind as an output.
    pub writers: Vec<ControllerStatus>,
    /// The same for each resource it came from.
    pub inputs: Vec<Explanation>,
}

/// The facts of a stored resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its version.
    pub version: Version,
    /// Its owner; empty when it has none.
    pub owner: Name,
    /// Its phase.
    pub phase: Phase,
    /// Who holds it.
    pub finalizers: Vec<Name>,
    /// When it last changed.
    pub updated: Timestamp,
}

impl Explanation {
    fn tell(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let pad = "  ".repeat(depth);
        write!(f, "{pad}{}", self.key)?;
        match &self.stored {
            None => writeln!(f, " is not there")?,
            Some(s) => {
                write!(f, " version {} of {}", s.version, s.updated)?;
                if s.phase == Phase::TearingDown {
                    write!(f, ", being torn down")?;
                }
                if !s.finalizers.is_empty() {
                    write!(f, ", held by {}", s.finalizers.join(", "))?;
                }
                writeln!(f)?;
            }
        }
        if let Some(origin) = &self.origin {
            writeln!(f, "{pad}  written by {}, run {}, {}", origin.controller, origin.run, origin.at)?;
        } else if let Some(owner) = self.stored.as_ref().map(|s| &s.owner).filter(|o| !o.is_empty()) {
            writeln!(f, "{pad}  owned by {owner}, which has not written it since the start")?;
        }
        for writer in &self.writers {
            if self.stored.is_none() {
                writeln!(f, "{pad}  {} may write it", writer.name)?;
            }
            for wait in writer.waits() {
                writeln!(f, "{pad}  {}: {wait}", writer.name)?;
            }
        }
        self.inputs.iter().try_for_each(|i| i.tell(f, depth + 1))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, 0)
    }
}
