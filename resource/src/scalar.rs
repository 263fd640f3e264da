//! Byte strings in their several YAML forms, hardware addresses and PEM blocks.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::proto::{self, DecodeError, Wire};
use crate::yaml::{Node, YamlError};
use crate::{Field, Form, message};

macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Vec<u8>);

        impl std::ops::Deref for $name {
            type Target = [u8];
            fn deref(&self) -> &[u8] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<Vec<u8>> for $name {
            fn from(bytes: Vec<u8>) -> Self {
                Self(bytes)
            }
        }

        impl From<&[u8]> for $name {
            fn from(bytes: &[u8]) -> Self {
                Self(bytes.to_vec())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.as_bytes().to_vec())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into_bytes())
            }
        }

        impl $name {
            /// Whether there are no bytes.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            fn put_bytes(&self, number: u32, out: &mut Vec<u8>) {
                proto::put_bytes_field(number, &self.0, out);
            }

            fn take_bytes(wire: Wire<'_>) -> Result<Self, DecodeError> {
                wire.bytes().map(|bytes| Self(bytes.to_vec()))
            }
        }
    };
}

bytes_type! {
    /// Bytes whose YAML form is a list of numbers.
    Bytes
}

bytes_type! {
    /// Bytes whose YAML form is their text, and base64 with a tag where they are not UTF-8.
    StringBytes
}

bytes_type! {
    /// Bytes whose YAML form is base64.
    Base64Bytes
}

bytes_type! {
    /// A link-layer address, `02:00:5e:00:53:01`. Usually 6 bytes; InfiniBand has 20.
    HardwareAddr
}

// Key material travels in these three: their Debug form must not leak into logs.
macro_rules! length_only_debug {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({} bytes)", stringify!($name), self.0.len())
            }
        }
    )*};
}

length_only_debug!(Bytes StringBytes Base64Bytes);

impl Field for Bytes {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.put_bytes(number, out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        Self::take_bytes(wire)
    }
    fn is_default(&self) -> bool {
        self.0.is_empty()
    }
    fn write_yaml(&self, form: Form) -> Node {
        self.0.write_yaml(form)
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        Vec::read_yaml(node).map(Self)
    }
}

impl StringBytes {
    /// The text, with replacement characters where the bytes are not UTF-8.
    #[must_use]
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl Field for StringBytes {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.put_bytes(number, out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        Self::take_bytes(wire)
    }
    fn is_default(&self) -> bool {
        self.0.is_empty()
    }
    fn write_yaml(&self, _form: Form) -> Node {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Node::Str(text.to_owned()),
            Err(_) => Node::Raw(format!("!!binary {}", STANDARD.encode(&self.0))),
        }
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        if let Node::Raw(raw) = node
            && let Some(encoded) = raw.strip_prefix("!!binary ")
        {
            return STANDARD.decode(encoded).map(Self).map_err(|_| YamlError::expected("base64", node));
        }
        String::read_yaml(node).map(Self::from)
    }
}

impl Field for Base64Bytes {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.put_bytes(number, out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        Self::take_bytes(wire)
    }
    fn is_default(&self) -> bool {
        self.0.is_empty()
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::Str(STANDARD.encode(&self.0))
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        let text = String::read_yaml(node)?;
        STANDARD.decode(text.trim()).map(Self).map_err(|_| YamlError::expected("base64", node))
    }
}

impl fmt::Display for HardwareAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets: Vec<String> = self.0.iter().map(|octet| format!("{octet:02x}")).collect();
        f.pad(&octets.join(":"))
    }
}

impl fmt::Debug for HardwareAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HardwareAddr({self})")
    }
}

/// A text that is no hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hardware address: expected pairs of hexadecimal digits joined by colons, as in 02:00:5e:00:53:01")]
pub struct BadHardwareAddr(String);

impl FromStr for HardwareAddr {
    type Err = BadHardwareAddr;
    fn from_str(text: &str) -> Result<Self, BadHardwareAddr> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let octet = |pair: &str| if pair.len() == 2 { u8::from_str_radix(pair, 16).ok() } else { None };
        let octets: Option<Vec<u8>> = text.split([':', '-']).map(octet).collect();
        octets.filter(|octets| octets.len() >= 6).map(Self).ok_or_else(|| BadHardwareAddr(text.to_owned()))
    }
}

impl Field for HardwareAddr {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.put_bytes(number, out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        Self::take_bytes(wire)
    }
    fn is_default(&self) -> bool {
        self.0.is_empty()
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::Str(self.to_string())
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        String::read_yaml(node)?.parse().map_err(|error: BadHardwareAddr| YamlError::new(error.to_string()))
    }
}

/// A YAML document as text. In the YAML form it is that document, not its text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct YamlText(pub String);

impl fmt::Debug for YamlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "YamlText({} bytes)", self.0.len())
    }
}

impl Field for YamlText {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.0.put(number, out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        String::take(wire).map(Self)
    }
    fn is_default(&self) -> bool {
        self.0.is_empty()
    }
    fn write_yaml(&self, _form: Form) -> Node {
        crate::yaml::parse(&self.0).unwrap_or_else(|_| Node::Str(self.0.clone()))
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        Ok(Self(crate::yaml::emit(node)))
    }
}

/// A certificate and its private key, both PEM.
#[message]
pub struct PemPair {
    /// The certificate, PEM.
    #[field(1)]
    pub crt: Base64Bytes,
    /// The private key, PEM.
    #[field(2, secret)]
    pub key: Base64Bytes,
}

impl PemPair {
    /// A pair of PEM texts.
    pub fn new(crt: impl Into<Base64Bytes>, key: impl Into<Base64Bytes>) -> Self {
        Self { crt: crt.into(), key: key.into() }
    }

    /// The certificate alone.
    #[must_use]
    pub fn cert(&self) -> PemCert {
        PemCert { crt: self.crt.clone() }
    }
}

/// A certificate, PEM.
#[message]
pub struct PemCert {
    /// The certificate, PEM.
    #[field(1)]
    pub crt: Base64Bytes,
}

/// A private key, PEM.
#[message]
pub struct PemKey {
    /// The key, PEM.
    #[field(1, secret)]
    pub key: Base64Bytes,
}
