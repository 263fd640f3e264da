//! Choosing resources by label and id.

use std::collections::BTreeMap;

use regex_lite::Regex;

use crate::{Metadata, Name};

/// How a label is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelOp {
    /// The label is there.
    Exists,
    /// The label has this value.
    Equal(Name),
    /// The label has one of these values.
    In(Vec<Name>),
    /// The label's value comes before this text.
    Less(Name),
    /// The label's value comes before this text, or is it.
    LessOrEqual(Name),
    /// The label's value is a smaller number. Sizes may carry a unit: `10GiB`.
    LessNumeric(Name),
    /// The label's value is a smaller number or the same.
    LessOrEqualNumeric(Name),
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelTerm {
    /// The label.
    pub key: Name,
    /// The comparison. It is false where the label is absent.
    pub op: LabelOp,
    /// Whether the outcome is turned around.
    pub invert: bool,
}

impl LabelTerm {
    /// Whether these labels meet the condition.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<Name, Name>) -> bool {
        let met = labels.get(&*self.key).is_some_and(|value| match &self.op {
            LabelOp::Exists => true,
            LabelOp::Equal(wanted) => value == wanted,
            LabelOp::In(wanted) => wanted.contains(value),
            LabelOp::Less(limit) => value < limit,
            LabelOp::LessOrEqual(limit) => value <= limit,
            LabelOp::LessNumeric(limit) => numbers(value, limit).is_some_and(|(value, limit)| value < limit),
            LabelOp::LessOrEqualNumeric(limit) => numbers(value, limit).is_some_and(|(value, limit)| value <= limit),
        });
        met != self.invert
    }
}

fn numbers(value: &str, limit: &str) -> Option<(f64, f64)> {
    Some((number(value)?, number(limit)?))
}

/// A number, with a unit of bytes perhaps.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && !".+-".contains(c)).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "" | "B" => 1.0,
        "k" | "kB" | "K" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        "Ki" | "KiB" => 1024.0,
        "Mi" | "MiB" => 1_048_576.0,
        "Gi" | "GiB" => 1_073_741_824.0,
        "Ti" | "TiB" => 1_099_511_627_776.0,
        _ => return None,
    };
    digits.parse::<f64>().ok().map(|number| number * scale)
}

/// Conditions that must all hold. Without any it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelQuery {
    /// The conditions.
    pub terms: Vec<LabelTerm>,
}

impl LabelQuery {
    /// No conditions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn and(mut self, key: impl Into<Name>, op: LabelOp, invert: bool) -> Self {
        self.terms.push(LabelTerm { key: key.into(), op, invert });
        self
    }

    /// And the label is there.
    #[must_use]
    pub fn exists(self, key: impl Into<Name>) -> Self {
        self.and(key, LabelOp::Exists, false)
    }

    /// And the label is not there.
    #[must_use]
    pub fn absent(self, key: impl Into<Name>) -> Self {
        self.and(key, LabelOp::Exists, true)
    }

    /// And the label has this value.
    #[must_use]
    pub fn equals(self, key: impl Into<Name>, value: impl Into<Name>) -> Self {
        self.and(key, LabelOp::Equal(value.into()), false)
    }

    /// And the label has another value, or is absent.
    #[must_use]
    pub fn differs(self, key: impl Into<Name>, value: impl Into<Name>) -> Self {
        self.and(key, LabelOp::Equal(value.into()), true)
    }

    /// And the label has one of these values.
    #[must_use]
    pub fn one_of<V: Into<Name>>(self, key: impl Into<Name>, values: impl IntoIterator<Item = V>) -> Self {
        self.and(key, LabelOp::In(values.into_iter().map(Into::into).collect()), false)
    }

    /// Whether these labels meet every condition.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<Name, Name>) -> bool {
        self.terms.iter().all(|term| term.matches(labels))
    }
}

/// A pattern for ids; it matches anywhere in the id unless it is anchored.
#[derive(Clone, Debug)]
pub struct IdQuery {
    pattern: Regex,
}

impl IdQuery {
    /// A query by regular expression.
    ///
    /// # Errors
    /// When the text is no regular expression.
    pub fn new(pattern: &str) -> Result<Self, crate::Error> {
        let invalid = |error| crate::Error::Invalid(format!("the id query {pattern:?} is no regular expression: {error}"));
        Ok(Self { pattern: Regex::new(pattern).map_err(invalid)? })
    }

    /// The regular expression.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.pattern.as_str()
    }

    /// Whether the id matches.
    #[must_use]
    pub fn matches(&self, id: &str) -> bool {
        self.pattern.is_match(id)
    }
}

impl PartialEq for IdQuery {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Which resources of a kind are wanted. The default is all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOptions {
    /// At least one of these must match; none means that labels do not matter.
    pub labels: Vec<LabelQuery>,
    /// The id must match.
    pub ids: Option<IdQuery>,
}

impl ListOptions {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Those whose labels match.
    #[must_use]
    pub fn labelled(query: LabelQuery) -> Self {
        Self { labels: vec![query], ids: None }
    }

    /// Whether there is no condition.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.labels.is_empty() && self.ids.is_none()
    }

    /// Whether a resource is wanted.
    #[must_use]
    pub fn matches(&self, meta: &Metadata) -> bool {
        (self.labels.is_empty() || self.labels.iter().any(|query| query.matches(&meta.labels)))
            && self.ids.as_ref().is_none_or(|ids| ids.matches(&meta.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<Name, Name> {
        pairs.iter().map(|(key, value)| (Name::from(*key), Name::from(*value))).collect()
    }

    #[test]
    fn conditions_are_anded_and_inverted() {
        let labels = labels(&[("zone", "a"), ("mem", "8GiB")]);
        assert!(LabelQuery::new().equals("zone", "a").exists("mem").absent("x").differs("zone", "b").matches(&labels));
        assert!(!LabelQuery::new().equals("zone", "a").exists("x").matches(&labels));
        assert!(LabelQuery::new().one_of("zone", ["b", "a"]).matches(&labels));
        assert!(LabelQuery::new().differs("x", "1").matches(&labels), "an absent label differs");
        let less = |limit: &str, invert| LabelTerm { key: "mem".into(), op: LabelOp::LessNumeric(limit.into()), invert };
        assert!(less("10GiB", false).matches(&labels));
        assert!(!less("8GiB", false).matches(&labels));
        assert!(less("8GiB", true).matches(&labels));
        assert!(!less("many", false).matches(&labels));
    }

    #[test]
    fn queries_are_ored_and_ids_are_patterns() {
        let mut meta = Metadata::new("n", "T", "eth0");
        meta.labels = labels(&[("a", "1")]);
        let mut options = ListOptions::labelled(LabelQuery::new().exists("b"));
        assert!(!options.matches(&meta));
        options.labels.push(LabelQuery::new().exists("a"));
        assert!(options.matches(&meta));
        options.ids = Some(IdQuery::new("^eth").expect("a pattern"));
        assert!(options.matches(&meta));
        options.ids = Some(IdQuery::new("^th").expect("a pattern"));
        assert!(!options.matches(&meta));
        assert!(IdQuery::new("(").is_err());
    }
}
