//! What a run of all tests came to: totals, what was left out and why, where the time went.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::ctx::{say, spell};

/// How many of the slowest parts are named.
const SLOWEST: usize = 8;

/// A part of the run: a test program, a story, a module's tests.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Part {
    /// For people.
    pub(crate) name: String,
    /// Tests that held. One that skipped is not among them.
    pub(crate) passed: usize,
    /// Tests that did not, or 1 for a part that broke without naming one.
    pub(crate) failed: usize,
    /// Why something was left out, one entry per test.
    pub(crate) skips: Vec<String>,
    /// How long it took.
    pub(crate) took: Duration,
    /// What it says took how long of that.
    pub(crate) steps: Vec<(String, Duration)>,
}

impl Part {
    /// Whether there were no tests in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed + self.skips.len() == 0
    }

    /// One line: what it came to.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{}: {} passed", self.name, self.passed);
        for (count, what) in [(self.failed, "FAILED"), (self.skips.len(), "skipped")] {
            if count > 0 {
                let _ = write!(line, ", {count} {what}");
            }
        }
        line + &format!(" ({})", spell(self.took))
    }
}

/// All parts so far.
#[derive(Debug)]
pub(crate) struct Report {
    parts: Vec<Part>,
    start: Instant,
}

impl Report {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { parts: Vec::new(), start: Instant::now() }
    }

    /// One more.
    pub(crate) fn add(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// Runs a step that is one part: it passes, or fails and the run goes on.
    pub(crate) fn step(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        say(name);
        let start = Instant::now();
        let result = step();
        let mut part = Part { name: name.to_owned(), took: start.elapsed(), ..Part::default() };
        match result {
            Ok(()) => part.passed = 1,
            Err(error) => {
                part.failed = 1;
                eprintln!("{name} FAILED: {}", error.chain().map(ToString::to_string).collect::<Vec<_>>().join(":\n  "));
            }
        }
        say(part.line());
        self.parts.push(part);
    }

    /// Whether nothing failed so far.
    pub(crate) fn is_good(&self) -> bool {
        self.parts.iter().all(|part| part.failed == 0)
    }

    /// What took longest first; a part that tells of its steps is named by them.
    fn by_time(&self) -> Vec<(Duration, String)> {
        let mut all = Vec::new();
        for part in &self.parts {
            if part.steps.is_empty() {
                all.push((part.took, part.name.clone()));
            }
            all.extend(part.steps.iter().map(|(step, took)| (*took, format!("{}: {step}", part.name))));
        }
        all.sort_by(|a, b| b.cmp(a));
        all
    }

    /// The summary's text; `allowed` is how many tests may skip, said to stand in `source`.
    fn text(&self, allowed: usize, source: &str, took: Duration) -> String {
        let mut text = String::new();
        text.push_str("slowest\n");
        for (took, name) in self.by_time().iter().take(SLOWEST) {
            let _ = writeln!(text, "  {:>12}  {name}", spell(*took));
        }
        let skips: Vec<(&str, &String)> = self.parts.iter().flat_map(|p| p.skips.iter().map(|s| (p.name.as_str(), s))).collect();
        if !skips.is_empty() {
            text.push_str("skipped\n");
        }
        for (name, why) in &skips {
            let _ = writeln!(text, "  {name}: {why}");
        }
        let failed: Vec<&Part> = self.parts.iter().filter(|part| part.failed > 0).collect();
        if !failed.is_empty() {
            text.push_str("failed\n");
        }
        for part in &failed {
            let _ = writeln!(text, "  {}", part.line());
        }
        let sum = |count: fn(&Part) -> usize| self.parts.iter().map(count).sum::<usize>();
        let _ = write!(
            text,
            "tests: {} passed, {} failed, {} skipped ({allowed} allowed by {source}) in {}",
            sum(|p| p.passed),
            sum(|p| p.failed),
            skips.len(),
            spell(took)
        );
        text
    }

    /// Prints the summary, its one line of totals last; an error when something failed or too much was left out.
    pub(crate) fn close(self, limit: &Path) -> Result<()> {
        let allowed = allowed(limit)?;
        let source = limit.file_name().unwrap_or_default().to_string_lossy();
        println!("\n{}", self.text(allowed, &format!("tests/{source}"), self.start.elapsed()));
        if !self.is_good() {
            bail!("tests failed");
        }
        let skips: usize = self.parts.iter().map(|part| part.skips.len()).sum();
        if skips > allowed {
            bail!(
                "{skips} tests were skipped, expected at most {allowed}: give the machine what the reasons above name, or raise the number in {}",
                limit.display()
            );
        }
        Ok(())
    }
}

/// The number in the file; lines that begin with # are remarks.
fn allowed(path: &Path) -> Result<usize> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    line.parse().with_context(|| format!("{}: found {line:?}, expected how many tests may be skipped", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new();
        report.add(Part { name: "a".into(), passed: 3, skips: vec!["no disk".into()], took: Duration::from_secs(2), ..Part::default() });
        report.add(Part { name: "b".into(), passed: 4, failed: 1, took: Duration::from_secs(70), ..Part::default() });
        report.parts[1].steps = vec![("one".into(), Duration::from_secs(69))];
        report
    }

    #[test]
    fn the_last_line_has_the_totals() {
        let text = report().text(1, "tests/skips", Duration::from_secs(75));
        assert_eq!(text.lines().last(), Some("tests: 7 passed, 1 failed, 1 skipped (1 allowed by tests/skips) in 1 min 15 s"));
        assert!(
            text.contains("  1 min 09 s  b: one\n") && text.contains("  a: no disk\n") && text.contains("  b: 4 passed, 1 FAILED"),
            "{text}"
        );
    }

    #[test]
    fn too_many_skips_and_failures_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let limit = dir.path().join("skips");
        fs::write(&limit, "# why\n1\n").unwrap();
        assert!(report().close(&limit).unwrap_err().to_string().contains("tests failed"));
        let mut good = report();
        good.parts.pop();
        assert!(good.close(&limit).is_ok());
        fs::write(&limit, "0\n").unwrap();
        let mut many = report();
        many.parts.pop();
        assert!(many.close(&limit).unwrap_err().to_string().contains("expected at most 0"));
        fs::write(&limit, "few\n").unwrap();
        assert!(allowed(&limit).is_err());
    }
}
