//! Texts of a form: URLs, sizes, selectors, addresses with ports. They keep what was written and offer the parsed value by a method.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::scalar;
use crate::config::schema::{Cx, FieldType, Shape};
use crate::config::tree::Node;

macro_rules! text_forms {
    ($( $(#[doc = $doc:literal])* $name:ident, $form:literal, $check:expr; )*) => { $(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(String);

        impl $name {
            /// Checks and takes a text; the error says what is wrong with it.
            ///
            /// # Errors
            /// When the text does not have the form.
            pub fn new(text: impl Into<String>) -> Result<Self, String> {
                let text = text.into();
                let check: fn(&str) -> Result<(), String> = $check;
                check(&text).map(|()| Self(text))
            }
            /// The text as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FieldType for $name {
            const SHAPE: Shape = Shape::Text($form);
            fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
                let s = scalar(node, cx, &Self::SHAPE)?;
                if s.text.is_empty() {
                    return None;
                }
                Self::new(s.text.as_str()).map_err(|why| {
                    let found = if why.is_empty() { node.describe() } else { format!("{} ({why})", node.describe()) };
                    cx.error(node.pos, found, $form);
                }).ok()
            }
            fn encode(&self) -> Option<Node> {
                (!self.0.is_empty()).then(|| Node::string(self.0.as_str()))
            }
        }
    )* };
}

text_forms! {
    /// A URL with a scheme and, as a rule, a host.
    Url, "a URL such as https://10.5.0.2:6443", |t| split_url(t).map(|_| ());
    /// A CEL expression. Its syntax is checked for balanced brackets and quotes only; the evaluator reports the rest.
    Cel, "a CEL expression", check_cel;
    /// Text of one or more PEM blocks.
    Pem, "a PEM block (-----BEGIN …-----)", |t| super::pem::check(t, "");
    /// A size in bytes with an optional unit; negative means to leave that much free.
    Size, "a size such as 10GiB, 500MB or 1048576", |t| parse_size(t).map(|_| ());
    /// A size, or a percentage of the whole.
    SizeOrPercent, "a size such as 10GiB or a percentage such as 80%", |t| if t.ends_with('%') { parse_percent(t).map(|_| ()) } else { parse_size(t).map(|_| ()) };
    /// A comparison with a size.
    SizeMatcher, "a size comparison such as `> 10GB` or `== 4TB`", |t| parse_size(t.trim_start_matches(['<', '>', '=', ' '])).map(|_| ());
    /// A hardware address.
    Mac, "a hardware address such as 52:54:00:12:34:56", check_mac;
    /// An IP address with a port.
    IpPort, "an address with a port such as 192.0.2.1:51820", |t| t.parse::<SocketAddr>().map(|_| ()).map_err(|e| e.to_string());
    /// A host name or address with a port.
    HostPort, "a host with a port such as example.org:443", check_host_port;
    /// A prefix or an address, with `!` in front to exclude it.
    SubnetFilter, "a prefix or address such as 10.0.0.0/8 or !10.1.0.0/16", |t| parse_net(t.strip_prefix('!').unwrap_or(t)).map(|_| ());
    /// A prefix or an address.
    NetOrIp, "a prefix or an address such as 192.0.2.7/24 or 192.0.2.7", |t| parse_net(t).map(|_| ());
    /// A routing table: a number or a name.
    Table, "a routing table: a number, or one of unspec, default, main, local", |t| {
        if t.parse::<u32>().is_ok() || matches!(t, "unspec" | "default" | "main" | "local") { Ok(()) } else { Err(String::new()) }
    };
    /// A port, or a range of ports.
    Ports, "a port or a range such as 8000-8080", |t| parse_ports(t).map(|_| ());
}

impl Url {
    /// The scheme, in lower case.
    #[must_use]
    pub fn scheme(&self) -> String {
        split_url(&self.0).map(|u| u.scheme.to_lowercase()).unwrap_or_default()
    }
    /// The host without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        split_url(&self.0).map(|u| u.host).unwrap_or_default()
    }
    /// The port, if the URL names one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        split_url(&self.0).ok().and_then(|u| u.port)
    }
    /// The path with its leading slash; empty when there is none.
    #[must_use]
    pub fn path(&self) -> &str {
        split_url(&self.0).map(|u| u.path).unwrap_or_default()
    }
}

struct UrlParts<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
    path: &'a str,
}

fn split_url(text: &str) -> Result<UrlParts<'_>, String> {
    let (scheme, rest) = text.split_once("://").ok_or("no `scheme://`")?;
    if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
        return Err("the scheme is not a word".to_owned());
    }
    if rest.contains(char::is_whitespace) {
        return Err("it holds white space".to_owned());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let path = &tail[..tail.find(['?', '#']).unwrap_or(tail.len())];
    let hostport = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
    let (host, port) = split_host_port(hostport)?;
    if host.is_empty() && scheme != "file" {
        return Err("no host".to_owned());
    }
    Ok(UrlParts { scheme, host, port, path })
}

fn split_host_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or("a `[` without `]`")?;
        (host, rest.strip_prefix(':'))
    } else {
        match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            Some(_) => return Err("an IPv6 address needs brackets: [::1]".to_owned()),
            None => (text, None),
        }
    };
    let port = port.map(|p| p.parse::<u16>().map_err(|_| format!("`{p}` is not a port"))).transpose()?;
    Ok((host, port))
}

fn check_host_port(text: &str) -> Result<(), String> {
    match split_host_port(text)? {
        ("", _) => Err("no host".to_owned()),
        (_, None) => Err("no port".to_owned()),
        _ => Ok(()),
    }
}

fn check_mac(text: &str) -> Result<(), String> {
    let parts: Vec<_> = text.split([':', '-']).collect();
    let fine = parts.len() >= 2 && parts.iter().all(|p| p.len() == 2 && p.chars().all(|c| c.is_ascii_hexdigit()));
    if fine { Ok(()) } else { Err(String::new()) }
}

fn check_cel(text: &str) -> Result<(), String> {
    let mut open = Vec::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => {
                chars.next();
            }
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => open.push(')'),
            (None, '[') => open.push(']'),
            (None, '{') => open.push('}'),
            (None, ')' | ']' | '}') if open.pop() != Some(c) => return Err(format!("`{c}` closes nothing")),
            _ => {}
        }
    }
    match (quote, open.pop()) {
        (Some(q), _) => Err(format!("a text that is not closed by {q}")),
        (None, Some(c)) => Err(format!("`{c}` is missing")),
        _ => Ok(()),
    }
}

fn parse_net(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    text.parse::<IpNet>().map_err(|_| String::new())
}

fn parse_percent(text: &str) -> Result<u8, String> {
    let number = text.trim_end_matches('%').trim_start_matches('-');
    number.parse::<u8>().ok().filter(|n| *n <= 100).ok_or_else(|| "a percentage from 0 to 100".to_owned())
}

/// Bytes of a size text, negative sizes as negative numbers.
fn parse_size(text: &str) -> Result<i128, String> {
    let text = text.trim();
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |r| (-1, r));
    let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, unit) = rest.split_at(split);
    let unit = unit.trim().to_lowercase();
    let (base, letter) = match unit.strip_suffix("ib").or(unit.strip_suffix('i')) {
        Some(letter) => (1024_i128, letter),
        None => (1000_i128, unit.strip_suffix('b').unwrap_or(&unit)),
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return Err(format!("`{unit}` is not a unit of size")),
    };
    let scale = base.pow(power);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 18 || fraction.len() > 9 {
        return Err("no number".to_owned());
    }
    let whole: i128 = whole.parse().map_err(|_| "no number".to_owned())?;
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().map_err(|_| "no number".to_owned())? };
    let ten = 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    Ok(sign * (whole * scale + part * scale / ten))
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let port = |p: &str| p.trim().parse::<u16>().map_err(|_| format!("`{p}` is not a port"));
    let (low, high) = (port(low)?, port(high)?);
    if low > high { Err(format!("{low} is above {high}")) } else { Ok((low, high)) }
}

impl Size {
    /// The bytes; a negative size means to leave that much free.
    #[must_use]
    pub fn bytes(&self) -> i128 {
        parse_size(&self.0).unwrap_or(0)
    }
}

impl SizeOrPercent {
    /// The bytes, unless it is a percentage.
    #[must_use]
    pub fn bytes(&self) -> Option<i128> {
        if self.0.ends_with('%') { None } else { parse_size(&self.0).ok() }
    }
    /// The percentage, if it is one.
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        parse_percent(&self.0).ok().filter(|_| self.0.ends_with('%'))
    }
}

impl SubnetFilter {
    /// Whether matching addresses are excluded.
    #[must_use]
    pub fn excludes(&self) -> bool {
        self.0.starts_with('!')
    }
    /// The prefix.
    #[must_use]
    pub fn net(&self) -> Option<IpNet> {
        parse_net(self.0.strip_prefix('!').unwrap_or(&self.0)).ok()
    }
}

impl NetOrIp {
    /// The prefix; of full length for an address.
    #[must_use]
    pub fn net(&self) -> Option<IpNet> {
        parse_net(&self.0).ok()
    }
}

impl Ports {
    /// First and last port.
    #[must_use]
    pub fn range(&self) -> (u16, u16) {
        parse_ports(&self.0).unwrap_or((0, 0))
    }
}

impl Table {
    /// The table's number.
    #[must_use]
    pub fn number(&self) -> u32 {
        match self.0.as_str() {
            "default" => 253,
            "main" => 254,
            "local" => 255,
            other => other.parse().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_bytes() {
        for (text, bytes) in
            [("10GiB", 10 << 30), ("500MB", 500_000_000), ("1.5KiB", 1536), ("7", 7), ("-2g", -2_000_000_000), ("1Ti", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "GiB", "10XB", "1.2.3G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_split() {
        let url = Url::new("https://[fd00::1]:6443/x?y").expect("valid");
        assert_eq!((url.host(), url.port(), url.path()), ("fd00::1", Some(6443), "/x"));
        assert!(Url::new("10.5.0.2:6443").is_err());
        assert!(Url::new("https://:6443").is_err());
        assert!(Url::new("https://a:b").is_err());
    }

    #[test]
    fn selectors_must_close_what_they_open() {
        assert!(Cel::new("disk.dev_path == \"/dev/sda\"").is_ok());
        assert!(Cel::new("(a && b").is_err());
        assert!(Cel::new("a == \"x").is_err());
    }
}
