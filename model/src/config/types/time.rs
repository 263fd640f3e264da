//! Durations as Go writes them, and file permissions.

use std::fmt;

use super::{parse_int, scalar};
use crate::config::schema::{Cx, FieldType, Shape};
use crate::config::tree::Node;

/// A span of time, written the way Go does: `1h30m0s`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// Reads `1h30m`, `1.5s`, `0`.
    ///
    /// # Errors
    /// When the text is no duration or is negative.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self::default());
        }
        if text.starts_with('-') {
            return Err("it is negative".to_owned());
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        let mut nanos: u128 = 0;
        if rest.is_empty() {
            return Err("it is empty".to_owned());
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or("a unit (h, m, s, ms) is missing")?;
            let (number, tail) = rest.split_at(end);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, next) = tail.split_at(unit_end);
            let scale: u128 = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return Err(format!("`{unit}` is not a unit: use h, m, s, ms")),
            };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            let whole = if whole.is_empty() && !fraction.is_empty() { "0" } else { whole };
            let whole: u128 = whole.parse::<u64>().map_err(|_| format!("`{number}` is not a number"))?.into();
            nanos += whole * scale;
            let mut unit = scale;
            for digit in fraction.chars() {
                unit /= 10;
                nanos += u128::from(digit.to_digit(10).ok_or_else(|| format!("`{number}` is not a number"))?) * unit;
            }
            rest = next;
        }
        let limit = u128::from(i64::MAX.unsigned_abs());
        if nanos > limit {
            return Err("it is longer than 292 years".to_owned());
        }
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0);
        let subsec = u32::try_from(nanos % 1_000_000_000).unwrap_or(0);
        Ok(Self(std::time::Duration::new(seconds, subsec)))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let trimmed = |value: u128, unit: u128| {
            let mut text = format!("{}", value / unit);
            let rest = value % unit;
            if rest > 0 {
                let digits = format!("{:0width$}", rest, width = unit.ilog10() as usize);
                text = format!("{text}.{}", digits.trim_end_matches('0'));
            }
            text
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", trimmed(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", trimmed(nanos, 1_000_000)),
            _ => {
                let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
                let seconds = trimmed(nanos % 60_000_000_000, 1_000_000_000);
                match (hours, minutes) {
                    (0, 0) => write!(f, "{seconds}s"),
                    (0, m) => write!(f, "{m}m{seconds}s"),
                    (h, m) => write!(f, "{h}h{m}m{seconds}s"),
                }
            }
        }
    }
}

impl FieldType for Duration {
    const SHAPE: Shape = Shape::Text("a duration such as 30s, 5m or 1h30m");
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let s = scalar(node, cx, &Self::SHAPE)?;
        Self::parse(&s.text).map_err(|why| cx.error(node.pos, format!("{} ({why})", node.describe()), Self::SHAPE.describe())).ok()
    }
    fn encode(&self) -> Option<Node> {
        Some(Node::string(self.to_string()))
    }
}

/// Permission bits of a file, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileMode(pub u32);

impl FieldType for FileMode {
    const SHAPE: Shape = Shape::Text("permission bits in octal such as 0o644");
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let s = scalar(node, cx, &Self::SHAPE)?;
        let digits = s.text.strip_prefix("0o").unwrap_or(&s.text);
        let value = if s.plain && !s.text.starts_with('0') {
            parse_int(digits).and_then(|n| u32::try_from(n).ok())
        } else {
            u32::from_str_radix(digits, 8).ok()
        };
        let value = value.filter(|v| *v <= 0o7777);
        if value.is_none() {
            cx.error(node.pos, node.describe(), Self::SHAPE.describe());
        }
        value.map(Self)
    }
    fn encode(&self) -> Option<Node> {
        Some(Node::word(format!("{:#o}", self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_as_go_does() {
        for (text, shown) in [
            ("168h", "168h0m0s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("500ms", "500ms"),
            ("0", "0s"),
            ("1h0m1s", "1h0m1s"),
            ("1500us", "1.5ms"),
        ] {
            assert_eq!(Duration::parse(text).map(|d| d.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["", "5", "-1s", "1x", "1d", "s"] {
            assert!(Duration::parse(bad).is_err(), "{bad}");
        }
    }
}
