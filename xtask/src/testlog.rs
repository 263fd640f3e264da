//! Reads what `cargo test` and our own test programs print, line by line.
//!
//! Understood: Cargo's `Running …` and `Doc-tests …`, libtest's `test result: …`, ignored tests and its sections of output
//! (`---- NAME stdout ----`), the lines of our test programs without libtest (`story NAME ... ok (1.0 s)`, `... FAILED (…): why`,
//! `... skipped: why`), and `skipped: REASON`, with which a test says that it left itself out.

use std::{collections::BTreeSet, time::Duration};

use crate::report::Part;

/// One test program's output.
#[derive(Debug, Default)]
struct Target {
    part: Part,
    began: Duration,
    /// The test whose output is being read.
    test: Option<String>,
    /// Tests that libtest counts as passed and that left themselves out.
    skipped_tests: BTreeSet<String>,
    /// It said how many of its tests passed, or which.
    counted: bool,
    /// Cargo said that it failed.
    broken: bool,
    lines: Vec<String>,
}

/// What a line ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Ended {
    /// What the program came to.
    pub(crate) part: Part,
    /// Its output as far as it tells of failures; empty when there are none.
    pub(crate) failures: Vec<String>,
}

/// The state of the reading.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    current: Option<Target>,
}

impl Reader {
    /// A reader of one program that is not announced by Cargo and tells of each of its stories.
    pub(crate) fn of(name: &str) -> Self {
        let part = Part { name: name.to_owned(), ..Part::default() };
        Self { current: Some(Target { part, counted: true, ..Target::default() }) }
    }

    /// Reads a line that came at this time; tells of a program when the next begins.
    pub(crate) fn line(&mut self, line: &str, at: Duration) -> Option<Ended> {
        if let Some(name) = announced(line) {
            let ended = self.end(at);
            self.current = Some(Target { part: Part { name, ..Part::default() }, began: at, ..Target::default() });
            return ended;
        }
        if let Some(target) = &mut self.current {
            target.line(line);
        }
        None
    }

    /// What is running, for people.
    pub(crate) fn current_name(&self) -> &str {
        self.current.as_ref().map_or("starting", |target| &target.part.name)
    }

    /// No more lines come.
    pub(crate) fn end(&mut self, at: Duration) -> Option<Ended> {
        self.current.take().map(|target| target.end(at))
    }
}

/// The name of the program that Cargo announces.
fn announced(line: &str) -> Option<String> {
    let rest = line.trim_start();
    // Cargo puts its words in a column 12 wide; a test that prints them does not.
    if rest.len() == line.len() {
        return None;
    }
    if let Some(name) = rest.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (documentation)"));
    }
    let (what, path) = rest.strip_prefix("Running ")?.rsplit_once(" (")?;
    let file = path.trim_end_matches(')').rsplit('/').next()?;
    let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
    Some(match what.strip_prefix("unittests ") {
        Some("src/lib.rs") => name.to_owned(),
        Some(source) => format!("{name} {source}"),
        None => what.to_owned(),
    })
}

/// Numbers of `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
fn result(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |what: &str| {
        let before = rest.split(what).next()?.trim_end();
        before.rsplit(' ').next()?.parse().ok()
    };
    Some((count("passed")?, count("failed")?))
}

/// The time of `ok (1.5 s)` or `FAILED (1.5 s): why`.
fn seconds(end: &str) -> Option<Duration> {
    let number = end.split_once('(')?.1.split_once(" s)")?.0;
    Duration::try_from_secs_f64(number.parse().ok()?).ok()
}

impl Target {
    fn line(&mut self, line: &str) {
        if line.starts_with("error: test failed") || line.starts_with("error: doctest failed") {
            self.broken = true;
            return;
        }
        let text = line.trim_start();
        if let Some((passed, failed)) = result(line) {
            self.part.passed += passed;
            self.part.failed += failed;
            self.counted = true;
            self.test = None;
        } else if let Some(name) = text.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.test = Some(name.to_owned());
        } else if let Some(reason) = text.strip_prefix("skipped: ") {
            self.skip(reason);
        } else if let Some((name, reason)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored")) {
            self.part.skips.push(format!("{name}: ignored{reason}"));
        } else if let Some((name, end)) = line.strip_prefix("story ").and_then(|rest| rest.split_once(" ... ")) {
            self.counted = true;
            if let Some(took) = seconds(end) {
                self.part.steps.push((name.to_owned(), took));
            }
            match end.strip_prefix("skipped: ") {
                Some(reason) => self.part.skips.push(format!("{name}: {reason}")),
                None if end.starts_with("ok") => self.part.passed += 1,
                None if end.starts_with("FAILED") => self.part.failed += 1,
                None => {}
            }
        }
        self.lines.push(line.to_owned());
    }

    fn skip(&mut self, reason: &str) {
        let entry = match &self.test {
            Some(test) => {
                self.skipped_tests.insert(test.clone());
                format!("{test}: {reason}")
            }
            None => reason.to_owned(),
        };
        if !self.part.skips.contains(&entry) {
            self.part.skips.push(entry);
        }
    }

    fn end(mut self, at: Duration) -> Ended {
        self.part.took = at.saturating_sub(self.began);
        self.part.passed = self.part.passed.saturating_sub(self.skipped_tests.len());
        // Ended by a signal, or a panic outside of any test.
        if self.broken && self.part.failed == 0 {
            self.part.failed = 1;
        }
        // A program that is one test, and says nothing that is understood here.
        if !self.counted && !self.broken && self.part.skips.is_empty() {
            self.part.passed = 1;
        }
        let failures = if self.part.failed == 0 { Vec::new() } else { failures(self.lines) };
        Ended { part: self.part, failures }
    }
}

/// From libtest's section of failures on; all of it where there is none.
fn failures(lines: Vec<String>) -> Vec<String> {
    let from = lines.iter().position(|line| line == "failures:").unwrap_or_default();
    lines.into_iter().skip(from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Ended> {
        let mut reader = Reader::default();
        let mut all: Vec<Ended> = text.lines().filter_map(|line| reader.line(line, Duration::ZERO)).collect();
        all.extend(reader.end(Duration::from_secs(3)));
        all
    }

    #[test]
    fn programs_their_results_and_their_skips_are_counted() {
        let all = read(
            "   Compiling a v0.1.0\n     Running unittests src/lib.rs (target/debug/deps/kube_room-0a1b)\n\nrunning 3 tests\ntest a ... ok\n\
             test c ... ignored, slow\n\nsuccesses:\n\n---- a stdout ----\nskipped: no disk\nskipped: no disk\n\nsuccesses:\n    a\n\n\
             test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\n   Doc-tests kube\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n",
        );
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].part.name.as_str(), all[0].part.passed, all[0].part.failed), ("kube_room", 1, 0));
        assert_eq!(all[0].part.skips, ["c: ignored, slow", "a: no disk"]);
        assert_eq!((all[1].part.name.as_str(), all[1].part.passed, all[1].part.took.as_secs()), ("kube (documentation)", 4, 3));
    }

    #[test]
    fn failures_are_kept_and_the_rest_is_not() {
        let all = read(
            "     Running tests/wire.rs (target/debug/deps/wire-0a1b)\ntest a ... FAILED\nsuccesses:\nmuch\nfailures:\n\n---- a stdout ----\nwhy\n\n\
             test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\nerror: test failed, to rerun pass `-p api --test wire`\n",
        );
        assert_eq!((all[0].part.name.as_str(), all[0].part.passed, all[0].part.failed), ("tests/wire.rs", 7, 1));
        assert_eq!(all[0].failures[..4], ["failures:", "", "---- a stdout ----", "why"]);
    }

    #[test]
    fn programs_without_libtest_count_too() {
        let all = read(
            "     Running tests/cluster.rs (target/debug/deps/cluster-0a1b)\nstory reach ... ok (1.0 s)\nstory disk ... skipped: none\n\
             thread 'main' panicked at x\nerror: test failed, to rerun pass `-p lab --test cluster`\n\
             \x20    Running tests/init.rs (target/debug/deps/init-0a1b)\nskipped: needs root\n",
        );
        assert_eq!((all[0].part.passed, all[0].part.failed, all[0].part.skips.len()), (1, 1, 1));
        assert_eq!(all[0].part.steps, [("reach".to_owned(), Duration::from_secs(1))]);
        assert!(all[0].failures.iter().any(|line| line.contains("panicked")));
        assert_eq!((all[1].part.passed, all[1].part.failed, all[1].part.skips.clone()), (0, 0, vec!["needs root".to_owned()]));
        let one = read("     Running tests/sandbox.rs (target/debug/deps/sandbox-0a1b)\nsandbox: ok\n");
        assert_eq!((one[0].part.passed, one[0].part.failed), (1, 0));
    }
}
