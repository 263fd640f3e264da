//! Points in time and lengths of time as the wire and the YAML forms have them.

use std::fmt;
use std::str::FromStr;

use crate::proto::{self, DecodeError, Reader, Wire};
use crate::yaml::{Node, YamlError};
use crate::{Field, Form};

const SECOND: i64 = 1_000_000_000;

/// A length of time in nanoseconds; may be negative. Text form `1h2m3.5s`, `250ms`, `0s`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(i64);

impl Duration {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// So many nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1_000_000)
    }

    /// So many seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs * SECOND)
    }

    /// So many minutes.
    #[must_use]
    pub const fn from_mins(mins: i64) -> Self {
        Self(mins * 60 * SECOND)
    }

    /// Nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds, cut towards zero.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0 / SECOND
    }

    /// As the standard library's duration; negative ones become zero.
    #[must_use]
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<std::time::Duration> for Duration {
    /// Lengths beyond 292 years become 292 years.
    fn from(duration: std::time::Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.pad("0s");
        }
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        // Below a second the largest unit that gives a whole part is used; above, hours, minutes and seconds.
        let text = match nanos {
            0..1_000 => format!("{sign}{nanos}ns"),
            1_000..1_000_000 => format!("{sign}{}µs", decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(nanos, 1_000_000)),
            _ => {
                let (hours, rest) = (nanos / 3_600_000_000_000, nanos % 3_600_000_000_000);
                let (minutes, seconds) = (rest / 60_000_000_000, decimal(rest % 60_000_000_000, 1_000_000_000));
                match (hours, minutes) {
                    (0, 0) => format!("{sign}{seconds}s"),
                    (0, _) => format!("{sign}{minutes}m{seconds}s"),
                    _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
                }
            }
        };
        f.pad(&text)
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `nanos / unit` without trailing zeros after the point.
fn decimal(nanos: u64, unit: u64) -> String {
    let (whole, part) = (nanos / unit, nanos % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{part:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: expected numbers with units (ns, us, ms, s, m, h), as in 1m30s")]
pub struct BadDuration(String);

impl FromStr for Duration {
    type Err = BadDuration;
    fn from_str(text: &str) -> Result<Self, BadDuration> {
        parse_duration(text).map(Self).ok_or_else(|| BadDuration(text.to_owned()))
    }
}

fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, after) = rest.split_at(number);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && part.is_empty() || whole.len() > 19 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total += whole * unit;
        let mut scale = unit;
        for digit in part.bytes() {
            if !digit.is_ascii_digit() {
                return None;
            }
            scale /= 10;
            total += i128::from(digit - b'0') * scale;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Seconds and nanoseconds, as both `gpb.Timestamp` and `gpb.Duration` have them.
fn seconds_and_nanos(wire: Wire<'_>) -> Result<(i64, i32), DecodeError> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut reader = Reader::new(wire.bytes()?);
    while let Some((number, wire)) = reader.record()? {
        match number {
            1 => seconds.merge(wire)?,
            2 => nanos.merge(wire)?,
            _ => {}
        }
    }
    Ok((seconds, nanos))
}

impl Field for Duration {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        proto::put_nested_field(number, out, |out| {
            (self.0 / SECOND).encode(1, out);
            (self.0 % SECOND).encode(2, out);
        });
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        let (seconds, nanos) = seconds_and_nanos(wire)?;
        let total = seconds.checked_mul(SECOND).and_then(|total| total.checked_add(i64::from(nanos)));
        total.map(Self).ok_or_else(|| DecodeError::Invalid(format!("a duration of {seconds} s does not fit 292 years")))
    }
    fn is_default(&self) -> bool {
        self.0 == 0
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::Str(self.to_string())
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        String::read_yaml(node)?.parse().map_err(|error: BadDuration| YamlError::new(error.to_string()))
    }
}

/// A point in time, UTC, to the nanosecond. Text form RFC 3339. The default is the first second of year 1: "no time".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: i32,
}

impl Timestamp {
    /// The first second of year 1, which on the wire means that there is no time.
    pub const ZERO: Self = Self { seconds: -62_135_596_800, nanos: 0 };

    /// Now.
    #[must_use]
    pub fn now() -> Self {
        jiff::Timestamp::now().into()
    }

    /// Seconds since 1970 and nanoseconds within that second (0 to 999,999,999).
    #[must_use]
    pub const fn new(seconds: i64, nanos: i32) -> Self {
        Self { seconds, nanos }
    }

    /// Whether this is [`Timestamp::ZERO`].
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second.
    #[must_use]
    pub const fn nanos(self) -> i32 {
        self.nanos
    }

    /// As jiff has it; `None` beyond year 9999.
    #[must_use]
    pub fn to_jiff(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::new(self.seconds, self.nanos).ok()
    }

    /// The time from `earlier` to this one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = i128::from(self.seconds - earlier.seconds) * i128::from(SECOND) + i128::from(self.nanos - earlier.nanos);
        Duration(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(time: jiff::Timestamp) -> Self {
        let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
        // jiff counts both parts away from 1970; the wire's nanoseconds always count forward.
        if nanos < 0 { Self { seconds: seconds - 1, nanos: nanos + 1_000_000_000 } } else { Self { seconds, nanos } }
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).map_or(Self::ZERO, |secs| Self::new(secs, since.subsec_nanos().cast_signed())),
            Err(_) => jiff::Timestamp::try_from(time).map_or(Self::ZERO, Self::from),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_jiff() {
            Some(time) => f.pad(&time.to_string()),
            None => write!(f, "@{}.{:09}", self.seconds, self.nanos),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: expected RFC 3339, as in 2026-01-02T03:04:05Z")]
pub struct BadTimestamp(String);

impl FromStr for Timestamp {
    type Err = BadTimestamp;
    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        text.parse::<jiff::Timestamp>().map(Self::from).map_err(|_| BadTimestamp(text.to_owned()))
    }
}

impl Field for Timestamp {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        proto::put_nested_field(number, out, |out| {
            self.seconds.encode(1, out);
            self.nanos.encode(2, out);
        });
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        seconds_and_nanos(wire).map(|(seconds, nanos)| Self { seconds, nanos })
    }
    fn is_default(&self) -> bool {
        self.is_zero()
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::Raw(self.to_string())
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        String::read_yaml(node)?.parse().map_err(|error: BadTimestamp| YamlError::new(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected texts: the Go standard library's documentation of time.Duration.
    #[test]
    fn durations_print_and_parse() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (-60_000_000_000, "-1m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(Duration(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(Duration(nanos)));
        }
        assert_eq!("1.5h".parse(), Ok(Duration::from_mins(90)));
        assert_eq!("0".parse(), Ok(Duration::ZERO));
        for bad in ["", "-", "1", "s", "1x", "1m5", ".s", "1..5s", "99999999999999999999h", "9223372036854775807h"] {
            assert!(bad.parse::<Duration>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_before_1970_keep_forward_nanoseconds() {
        let time: Timestamp = "1969-12-31T23:59:59.25Z".parse().expect("a time");
        assert_eq!((time.seconds(), time.nanos()), (-1, 250_000_000));
        assert_eq!(time.to_string(), "1969-12-31T23:59:59.25Z");
        assert_eq!(Timestamp::ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
