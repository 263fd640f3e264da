//! What a plain scalar means, how map keys are ordered, and how a number is written.

use std::cmp::Ordering;

use super::Node;

/// What an unquoted scalar means: the YAML 1.2 core schema with the reference's additions (`0b`, `0o` and `_` in numbers, `.inf`).
#[must_use]
pub fn resolve(text: &str) -> Node {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Node::Null,
        "true" | "True" | "TRUE" => return Node::Bool(true),
        "false" | "False" | "FALSE" => return Node::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Node::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Node::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Node::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return Node::Str(text.to_owned());
    }
    if is_timestamp(text) {
        return Node::Raw(text.to_owned());
    }
    number(&text.replace('_', "")).unwrap_or_else(|| Node::Str(text.to_owned()))
}

/// Whether a text may stand unquoted as far as its meaning goes.
pub(super) fn means_text(text: &str) -> bool {
    matches!(resolve(text), Node::Str(_))
}

/// Texts that YAML 1.1 readers would take for booleans, sexagesimal numbers or merge keys.
pub(super) fn misread_by_old_parsers(text: &str) -> bool {
    matches!(text, "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "<<")
        || is_sexagesimal(text)
}

fn is_sexagesimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (unsigned, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut groups = unsigned.split(':');
    let first = groups.next().unwrap_or("");
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let group = |text: &str| match text.as_bytes() {
        [units] => units.is_ascii_digit(),
        [tens, units] => (b'0'..=b'5').contains(tens) && units.is_ascii_digit(),
        _ => false,
    };
    let mut rest = groups.peekable();
    first.starts_with(|c: char| c.is_ascii_digit()) && digits(first) && rest.peek().is_some() && rest.all(group) && digits(fraction)
}

fn number(text: &str) -> Option<Node> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let radix = |digits: &str, radix| if digits.starts_with(['+', '-']) { None } else { u64::from_str_radix(digits, radix).ok() };
    let prefixed = match unsigned.get(..2) {
        Some("0x" | "0X") => Some(radix(&unsigned[2..], 16)),
        Some("0b" | "0B") => Some(radix(&unsigned[2..], 2)),
        Some("0o" | "0O") => Some(radix(&unsigned[2..], 8)),
        _ if unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.bytes().all(|b| b.is_ascii_digit()) => Some(radix(unsigned, 8)),
        _ if unsigned.starts_with(|c: char| c.is_ascii_digit()) && unsigned.bytes().all(|b| b.is_ascii_digit()) => {
            Some(radix(unsigned, 10))
        }
        _ => None,
    };
    match prefixed.flatten() {
        Some(magnitude) if negative => {
            let value = -i128::from(magnitude);
            if let Ok(value) = i64::try_from(value) {
                return Some(Node::Int(value));
            }
        }
        Some(magnitude) => return Some(Node::from(magnitude)),
        None => {}
    }
    if is_float(unsigned) { text.parse().ok().filter(|number: &f64| number.is_finite()).map(Node::Float) } else { None }
}

/// `.5`, `1.`, `1.5e-3`, digits alone (too long for an integer, or with digits that octal lacks).
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", part)) => digits(part),
        Some((whole, part)) => digits(whole) && (part.is_empty() || digits(part)),
        None => digits(mantissa),
    };
    mantissa_ok && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

/// The date and time forms that the reference takes for timestamps: `2006-1-2`, alone or with a time after `T`, `t` or a space.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((bytes[at], &text[at + 1..]))),
        None => (text, None),
    };
    let small = |text: &str, limit: u32| matches!(text.len(), 1 | 2) && text.parse::<u32>().is_ok_and(|number| number <= limit);
    let mut parts = date[5..].split('-');
    let date_ok = matches!((parts.next(), parts.next(), parts.next()), (Some(month), Some(day), None)
        if small(month, 12) && small(day, 31) && month != "0" && day != "0" && month != "00" && day != "00");
    let Some((separator, time)) = time else { return date_ok };
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    let zone_ok = if separator == b' ' { zone.is_empty() } else { zone == "Z" || zone_offset(zone) };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':');
    let clock_ok = matches!((parts.next(), parts.next(), parts.next(), parts.next()), (Some(hour), Some(minute), Some(second), None)
        if small(hour, 23) && small(minute, 59) && small(second, 59));
    date_ok && zone_ok && clock_ok && !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit())
}

fn zone_offset(zone: &str) -> bool {
    matches!(zone.as_bytes(), [b'+' | b'-', a, b, b':', c, d] if [a, b, c, d].iter().all(|b| b.is_ascii_digit()))
}

/// The order in which the reference writes the keys of a map: like text, but runs of digits compare by value (`a2` before `a10`), and a
/// letter comes after a digit or sign where neither side is inside a number.
#[must_use]
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) else {
        return a.len().cmp(&b.len());
    };
    let (x, y) = (a[at], b[at]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => x.cmp(&y),
        // A number that has ended is smaller than one that goes on: after a digit the letter comes first.
        (x_letter, y_letter) if x_letter != y_letter => {
            let after_digit = at > 0 && a[at - 1].is_numeric();
            if after_digit == x_letter { Ordering::Less } else { Ordering::Greater }
        }
        _ => digits_order(&a, &b, at),
    }
}

fn digits_order(a: &[char], b: &[char], at: usize) -> Ordering {
    let run = |text: &[char]| text[at..].iter().take_while(|c| c.is_ascii_digit()).count();
    let (a_run, b_run) = (run(a), run(b));
    // A zero counts as part of a longer number only when a non-zero digit stands before it.
    let leading =
        if a[at] == '0' || b[at] == '0' { a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0') } else { false };
    let value = |text: &[char], run: usize| {
        let start: u128 = u128::from(leading);
        text[at..at + run].iter().fold(start, |value, c| value.saturating_mul(10).saturating_add(u128::from(c.to_digit(10).unwrap_or(0))))
    };
    value(a, a_run).cmp(&value(b, b_run)).then(a_run.cmp(&b_run)).then(a[at].cmp(&b[at]))
}

/// A number as the reference prints it: the shortest digits that give it back, with an exponent below 1e-4 and from 1e+06 on.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_the_reference_reads() {
        let cases = [
            ("on", Node::from("on")),
            ("true", Node::Bool(true)),
            ("~", Node::Null),
            ("0x1F", Node::Int(31)),
            ("0755", Node::Int(493)),
            ("0o17", Node::Int(15)),
            ("0b101", Node::Int(5)),
            ("1_000", Node::Int(1000)),
            ("-12", Node::Int(-12)),
            ("18446744073709551615", Node::Uint(u64::MAX)),
            ("18446744073709551616", Node::Float(18_446_744_073_709_551_616.0)),
            ("1.5e3", Node::Float(1500.0)),
            (".5", Node::Float(0.5)),
            ("089", Node::Float(89.0)),
            ("1.2.3", Node::from("1.2.3")),
            ("10.0.0.0/8", Node::from("10.0.0.0/8")),
            ("-", Node::from("-")),
            (".", Node::from(".")),
            ("2024-01-02", Node::Raw("2024-01-02".to_owned())),
            ("2024-01-02T03:04:05Z", Node::Raw("2024-01-02T03:04:05Z".to_owned())),
            ("2024-13-02", Node::from("2024-13-02")),
            ("1e", Node::from("1e")),
        ];
        for (text, node) in cases {
            assert_eq!(resolve(text), node, "{text}");
        }
    }

    #[test]
    fn keys_sort_naturally() {
        let mut keys = ["a10", "a2", "b", "a", "B", "a-b", "a.b", "1", "net.core", "a01", "ab", "a1b", "a1"];
        keys.sort_by(|a, b| natural_order(a, b));
        assert_eq!(keys, ["1", "B", "a", "a-b", "a.b", "a1", "a1b", "a01", "a2", "a10", "ab", "b", "net.core"]);
    }

    // Expected texts: the rule of %g with the shortest precision.
    #[test]
    fn numbers_print_like_percent_g() {
        let cases = [
            (0.0, "0"),
            (3.0, "3"),
            (2.5, "2.5"),
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (1.25e-5, "1.25e-05"),
            (0.0001, "0.0001"),
            (1e100, "1e+100"),
        ];
        for (number, text) in cases {
            assert_eq!(float(number), text);
        }
    }

    #[test]
    fn sexagesimal_numbers_are_known() {
        for (text, is) in
            [("1:30", true), ("12:30:45", true), ("-1:00.5", true), ("1:70", false), ("a:30", false), ("130", false), ("1:", false)]
        {
            assert_eq!(is_sexagesimal(text), is, "{text}");
        }
    }
}
