//! URLs as resources hold them: one text on the wire, a mapping of parts in YAML.

use std::fmt;
use std::str::FromStr;

use crate::proto::{self, DecodeError, Reader, Wire};
use crate::yaml::{Node, YamlError};
use crate::{Field, Form};

/// A URL. Kept as its text; the parts are found when asked for.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url(String);

/// The parts of a URL, each as written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts<'a> {
    scheme: &'a str,
    opaque: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    fragment: &'a str,
}

fn parts(text: &str) -> Parts<'_> {
    let mut parts = Parts::default();
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    parts.fragment = fragment;
    let mut rest = rest;
    if let Some((scheme, after)) = rest.split_once(':')
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    {
        (parts.scheme, rest) = (scheme, after);
    }
    if let Some((before, query)) = rest.split_once('?') {
        (parts.query, rest) = (Some(query), before);
    }
    if let Some(after) = rest.strip_prefix("//") {
        let (authority, path) = after.find('/').map_or((after, ""), |at| after.split_at(at));
        parts.path = path;
        match authority.rsplit_once('@') {
            Some((user, host)) => (parts.user, parts.host) = (Some(user), host),
            None => parts.host = authority,
        }
    } else if parts.scheme.is_empty() || rest.starts_with('/') {
        parts.path = rest;
    } else {
        parts.opaque = rest;
    }
    parts
}

impl Url {
    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `https` of `https://node:6443/x`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        parts(&self.0).scheme
    }

    /// `node:6443` of `https://node:6443/x`; an IPv6 address keeps its brackets.
    #[must_use]
    pub fn authority(&self) -> &str {
        parts(&self.0).host
    }

    /// `node` of `https://node:6443/x`; an IPv6 address comes without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = parts(&self.0).host;
        if let Some(rest) = authority.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        authority.rsplit_once(':').map_or(authority, |(host, _)| host)
    }

    /// The port, when it is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let authority = parts(&self.0).host;
        let after_brackets = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        after_brackets.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
    }

    /// `/x` of `https://node:6443/x`.
    #[must_use]
    pub fn path(&self) -> &str {
        parts(&self.0).path
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A text that is no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a URL: {why}")]
pub struct BadUrl {
    text: String,
    why: &'static str,
}

impl FromStr for Url {
    type Err = BadUrl;
    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let bad = |why| BadUrl { text: text.to_owned(), why };
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(bad("it holds a space or control character"));
        }
        let parts = parts(text);
        let after_brackets = parts.host.rsplit_once(']').map_or(parts.host, |(_, after)| after);
        if parts.host.starts_with('[') != parts.host.contains(']') {
            return Err(bad("the brackets of its address do not match"));
        }
        match after_brackets.split_once(':') {
            Some((_, port)) if !port.is_empty() && port.parse::<u16>().is_err() => Err(bad("its port is not a number up to 65535")),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// Percent-decoded, or as it is where the escapes are wrong.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = if *first == b'%' { after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()) } else { None };
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

impl Field for Url {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        proto::put_nested_field(number, out, |out| self.0.encode(1, out));
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        let mut text = String::new();
        let mut reader = Reader::new(wire.bytes()?);
        while let Some((number, wire)) = reader.record()? {
            if number == 1 {
                text.merge(wire)?;
            }
        }
        text.parse().map_err(|error: BadUrl| DecodeError::Invalid(error.to_string()))
    }
    fn is_default(&self) -> bool {
        self.0.is_empty()
    }
    fn write_yaml(&self, form: Form) -> Node {
        let parts = parts(&self.0);
        // Names and order of the parts are the wire's: the fields of the reference's URL type, lower-cased.
        let user = match parts.user {
            None => Node::Null,
            Some(_) => Node::Map(Vec::new()),
        };
        let (path, fragment) = (unescape(parts.path), unescape(parts.fragment));
        let raw_path = if path == parts.path { "" } else { parts.path };
        let raw_fragment = if fragment == parts.fragment { "" } else { parts.fragment };
        let query = match form {
            Form::Full => parts.query.unwrap_or(""),
            // Join URLs carry their token in the query.
            Form::Redacted if parts.query.is_some_and(|query| !query.is_empty()) => crate::yaml::REDACTED,
            Form::Redacted => "",
        };
        Node::Map(vec![
            ("scheme".into(), parts.scheme.into()),
            ("opaque".into(), parts.opaque.into()),
            ("user".into(), user),
            ("host".into(), parts.host.into()),
            ("path".into(), path.as_str().into()),
            ("fragment".into(), fragment.as_str().into()),
            ("rawquery".into(), query.into()),
            ("rawpath".into(), raw_path.into()),
            ("rawfragment".into(), raw_fragment.into()),
            ("forcequery".into(), Node::Bool(parts.query == Some(""))),
            ("omithost".into(), Node::Bool(false)),
        ])
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        if let Some(text) = node.as_text() {
            return text.parse().map_err(|error: BadUrl| YamlError::new(error.to_string()));
        }
        let part = |key: &str| node.get(key).and_then(Node::as_text).unwrap_or_default();
        let path = if part("rawpath").is_empty() { part("path") } else { part("rawpath") };
        let mut text = String::new();
        if !part("scheme").is_empty() {
            text.push_str(&part("scheme"));
            text.push(':');
        }
        if part("host").is_empty() {
            text.push_str(&part("opaque"))
        } else {
            text.push_str(&format!("//{}", part("host")))
        }
        text.push_str(&path);
        if !part("rawquery").is_empty() {
            text.push_str(&format!("?{}", part("rawquery")));
        }
        if !part("fragment").is_empty() {
            text.push_str(&format!("#{}", part("fragment")));
        }
        text.parse().map_err(|error: BadUrl| YamlError::new(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let url: Url = "https://[2001:db8::1]:6443/a%20b?x=1#y".parse().expect("a URL");
        assert_eq!((url.scheme(), url.host(), url.port(), url.path()), ("https", "2001:db8::1", Some(6443), "/a%20b"));
        let plain: Url = "https://cp.example.test".parse().expect("a URL");
        assert_eq!((plain.host(), plain.port(), plain.path()), ("cp.example.test", None, ""));
    }

    #[test]
    fn bad_urls_say_why() {
        for (text, why) in [("https://a b", "space"), ("https://[::1", "brackets"), ("https://a:99999", "port")] {
            assert!(text.parse::<Url>().expect_err("no URL").to_string().contains(why), "{text}");
        }
    }

    #[test]
    fn a_query_is_hidden_when_redacted() {
        let url: Url = "grpc://host:1?jointoken=abc".parse().expect("a URL");
        assert_eq!(url.write_yaml(Form::Full).get("rawquery"), Some(&"jointoken=abc".into()));
        assert_eq!(url.write_yaml(Form::Redacted).get("rawquery"), Some(&crate::yaml::REDACTED.into()));
    }
}
