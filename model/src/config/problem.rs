//! What is wrong with a configuration, told so well that no search is needed.
//!
//! A [`Problem`] says where (file, line, column, document, path), what was found, what was expected and, when something close exists,
//! what was probably meant. [`Problems`] holds all of them at once: a loader never stops at the first.

use std::fmt;

use super::tree::Pos;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Everything works; there is a newer way to say it (deprecated keys).
    Advice,
    /// The configuration works, but something in it should change.
    Warning,
    /// The configuration is refused.
    Error,
}

/// One finding about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it refuses the configuration.
    pub severity: Severity,
    /// Which of the inputs: 0 is the configuration itself, higher numbers are patches in their order.
    pub source: u16,
    /// Line, from 1; 0 when the problem has no place (something is absent altogether).
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// The document: `Kind`, `Kind/name`, or `v1alpha1.Config` for the root document; empty for the stream as a whole.
    pub document: Box<str>,
    /// The key path in the document: `machine.network.interfaces[0].mtu`.
    pub path: String,
    /// What was found.
    pub found: String,
    /// What was expected, or what to do.
    pub expected: String,
    /// The nearest valid key or value, if one is near.
    pub did_you_mean: Option<Box<str>>,
}

impl Problem {
    /// A problem of a document as a whole, without a place yet.
    #[must_use]
    pub fn error(path: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            source: 0,
            line: 0,
            column: 0,
            document: Box::default(),
            path: path.into(),
            found: found.into(),
            expected: expected.into(),
            did_you_mean: None,
        }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(path: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, found, expected) }
    }

    /// The same as advice.
    #[must_use]
    pub fn advice(path: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { severity: Severity::Advice, ..Self::error(path, found, expected) }
    }

    /// Put at a place.
    #[must_use]
    pub fn at(mut self, pos: Pos) -> Self {
        self.source = pos.source;
        self.line = pos.line;
        self.column = pos.column;
        self
    }

    /// Put in a document.
    #[must_use]
    pub fn in_document(mut self, document: impl AsRef<str>) -> Self {
        self.document = Box::from(document.as_ref());
        self
    }

    /// With a suggestion.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<&str>) -> Self {
        self.did_you_mean = suggestion.map(Box::from);
        self
    }

    /// The problem as a JSON object with the keys `severity`, `source`, `line`, `column`, `document`, `path`, `found`, `expected`, `didYouMean`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let severity = match self.severity {
            Severity::Advice => "advice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        serde_json::json!({
            "severity": severity, "source": self.source, "line": self.line, "column": self.column, "document": &*self.document,
            "path": self.path, "found": self.found, "expected": self.expected, "didYouMean": self.did_you_mean.as_deref(),
        })
    }

    /// The problem with the line it points at and a caret below, for a terminal. `text` is the input the problem is in.
    #[must_use]
    pub fn render(&self, file: &str, text: &str) -> String {
        let mut out = format!("{}{}", if file.is_empty() { String::new() } else { format!("{file}: ") }, self);
        if let Some(line) = usize::try_from(self.line).ok().and_then(|n| n.checked_sub(1)).and_then(|n| text.lines().nth(n)) {
            let column = usize::try_from(self.column).unwrap_or(1).max(1);
            let shown: String = line.chars().take(160).collect();
            out.push_str(&format!("\n{:>6} | {shown}\n       | {}^", self.line, " ".repeat(column - 1)));
        }
        out
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.document.is_empty() {
            write!(f, "{}: ", self.document)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        match self.severity {
            Severity::Advice => write!(f, "advice: ")?,
            Severity::Warning => write!(f, "warning: ")?,
            Severity::Error => {}
        }
        write!(f, "{}", self.found)?;
        if !self.expected.is_empty() {
            write!(f, "; {}", self.expected)?;
        }
        match &self.did_you_mean {
            Some(s) => write!(f, "; did you mean `{s}`?"),
            None => Ok(()),
        }
    }
}

/// All problems of a configuration, in the order of the text. Never empty when returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The errors among them.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(|p| p.severity == Severity::Error)
    }

    /// Whether anything refuses the configuration.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Each problem with its source line. `inputs` are `(file name, text)` by [`Problem::source`].
    #[must_use]
    pub fn render(&self, inputs: &[(&str, &str)]) -> String {
        let one = |p: &Problem| {
            let (file, text) = inputs.get(usize::from(p.source)).copied().unwrap_or(("", ""));
            p.render(file, text)
        };
        self.0.iter().map(one).collect::<Vec<_>>().join("\n")
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The candidate closest to `word`, if it is close enough to be a slip of the hand: at most a third of the letters differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|c| !c.is_empty())
        .map(|c| (distance(&word.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, c)| (*d, c.len().abs_diff(word.len())))
        .map(|(_, c)| c)
}

/// Edit distance with swaps of neighbours counted as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > 80 || b.len() > 80 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_and_nothing_else() {
        let keys = ["kubelet", "network", "certSANs", "sysctls"];
        assert_eq!(nearest("kubelets", keys), Some("kubelet"));
        assert_eq!(nearest("certSans", keys), Some("certSANs"));
        assert_eq!(nearest("netwrok", keys), Some("network"));
        assert_eq!(nearest("bananas", keys), None);
    }

    #[test]
    fn rendering_points_at_the_place() {
        let p = Problem::error("machine.kubelets", "unknown key", "one of the keys of machine").at(Pos { source: 0, line: 2, column: 3 });
        let shown = p.render("a.yaml", "machine:\n  kubelets: {}\n");
        assert!(shown.ends_with("     2 |   kubelets: {}\n       |   ^"), "{shown}");
    }
}
