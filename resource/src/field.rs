//! [`Field`]: how one value is written in protobuf and in YAML; [`Message`]: the same for a struct of fields.
//!
//! The derive implements `Message` with one call per field. Everything that can be shared is a plain function over `dyn Message` here,
//! which keeps hundreds of structs cheap to compile.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::proto::{self, DecodeError, Reader, Wire};
use crate::yaml::{Fields, Node, YamlError};

/// Whether secrets appear in the YAML form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Everything as it is.
    Full,
    /// Fields marked `secret` are replaced by a fixed word when they hold something.
    Redacted,
}

/// How a list of values is written in protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// One record per element.
    Records,
    /// One record holding varints.
    Varints,
}

/// A value that a spec's field may have.
pub trait Field: Sized {
    /// How a list of these is written.
    const PACKING: Packing = Packing::Records;
    /// Whether a field of this type marked `omit_empty` is left out of the YAML form whatever it holds. Oddity of the wire: the
    /// encoder there takes addresses for empty structs, since it sees none of their fields.
    const NEVER_SHOWN_WHEN_OMITTABLE: bool = false;

    /// Appends the field with this number, whatever the value.
    fn put(&self, number: u32, out: &mut Vec<u8>);

    /// Appends the value alone, for packed lists. Only called when `PACKING` says varints.
    fn put_packed(&self, _out: &mut Vec<u8>) {}

    /// Reads a value.
    ///
    /// # Errors
    /// When the bytes are no such value.
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError>;

    /// Reads a value that may be absent although the field is there: an address message without octets.
    ///
    /// # Errors
    /// When the bytes are no such value.
    fn take_optional(wire: Wire<'_>) -> Result<Option<Self>, DecodeError> {
        Self::take(wire).map(Some)
    }

    /// Reads a value into this one: lists and maps grow, messages merge, everything else is replaced.
    ///
    /// # Errors
    /// When the bytes are no such value.
    fn merge(&mut self, wire: Wire<'_>) -> Result<(), DecodeError> {
        *self = Self::take(wire)?;
        Ok(())
    }

    /// Whether protobuf leaves the field out.
    fn is_default(&self) -> bool;

    /// Appends the field unless it has its default.
    fn encode(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_default() {
            self.put(number, out);
        }
    }

    /// The YAML form.
    fn write_yaml(&self, form: Form) -> Node;

    /// The value from its YAML form.
    ///
    /// # Errors
    /// When the node is no such value.
    fn read_yaml(node: &Node) -> Result<Self, YamlError>;

    /// Replaces the value by the one of this YAML form.
    ///
    /// # Errors
    /// When the node is no such value.
    fn replace_from_yaml(&mut self, node: &Node) -> Result<(), YamlError> {
        *self = Self::read_yaml(node)?;
        Ok(())
    }

    /// Whether YAML leaves the field out when it is marked `omit_empty`.
    fn is_empty(&self) -> bool {
        Self::NEVER_SHOWN_WHEN_OMITTABLE || self.is_default()
    }

    /// The YAML form of an absent value.
    #[must_use]
    fn absent_yaml() -> Node {
        Node::Null
    }
}

/// A struct whose fields are numbered: the derive implements it.
pub trait Message {
    /// The struct's name, for errors.
    fn name(&self) -> &'static str;
    /// Appends every field that is not at its default, in order of declaration.
    fn encode_fields(&self, out: &mut Vec<u8>);
    /// Reads one record; unknown numbers are skipped.
    ///
    /// # Errors
    /// When the bytes do not fit the field.
    fn merge_field(&mut self, number: u32, wire: Wire<'_>) -> Result<(), DecodeError>;
    /// Whether every field has its default.
    fn all_default(&self) -> bool;
    /// Whether every field is empty as YAML sees it.
    fn all_empty(&self) -> bool;
    /// Appends the YAML fields in order of declaration.
    fn yaml_fields(&self, out: &mut Fields);
    /// Sets the field with this YAML key; false when there is none.
    ///
    /// # Errors
    /// When the node does not fit the field.
    fn set_yaml(&mut self, key: &str, node: &Node) -> Result<bool, YamlError>;
    /// The YAML form: a mapping, unless the struct is transparent.
    fn message_to_yaml(&self, form: Form) -> Node
    where
        Self: Sized,
    {
        yaml_fields_of(self, form)
    }
    /// Fills the struct from its YAML form.
    ///
    /// # Errors
    /// When the node does not fit.
    fn message_from_yaml(&mut self, node: &Node) -> Result<(), YamlError>
    where
        Self: Sized,
    {
        yaml_set_all(self, node)
    }
}

/// Reads all records of `bytes` into `target`.
///
/// # Errors
/// When the bytes are no such message; the error names message and field.
pub(crate) fn merge_message(target: &mut dyn Message, bytes: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.record()? {
        target.merge_field(number, wire).map_err(|error| error.within(target.name(), number))?;
    }
    Ok(())
}

/// The mapping of a message's fields.
pub(crate) fn yaml_fields_of(message: &dyn Message, form: Form) -> Node {
    let mut fields = Fields::new(form);
    message.yaml_fields(&mut fields);
    fields.finish()
}

/// Sets every key of a mapping.
///
/// # Errors
/// When the node is no mapping, or has a key or value that does not fit.
pub(crate) fn yaml_set_all(message: &mut dyn Message, node: &Node) -> Result<(), YamlError> {
    let Node::Map(entries) = node else {
        if matches!(node, Node::Null) {
            return Ok(());
        }
        return Err(YamlError::expected(message.name(), node));
    };
    for (key, value) in entries {
        let known = message.set_yaml(key, value).map_err(|error| error.at_key(key))?;
        if !known {
            return Err(YamlError::new(format!("{} has no field {key:?}", message.name())));
        }
    }
    Ok(())
}

impl<T: Message + Default> Field for T {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        proto::put_nested_field(number, out, |out| self.encode_fields(out));
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.merge(wire)?;
        Ok(value)
    }
    fn merge(&mut self, wire: Wire<'_>) -> Result<(), DecodeError> {
        merge_message(self, wire.bytes()?)
    }
    fn is_default(&self) -> bool {
        self.all_default()
    }
    fn write_yaml(&self, form: Form) -> Node {
        self.message_to_yaml(form)
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        let mut value = Self::default();
        value.message_from_yaml(node)?;
        Ok(value)
    }
    fn is_empty(&self) -> bool {
        self.all_empty()
    }
}

macro_rules! integer {
    ($($type:ty, $to_wire:expr, $from_wire:expr;)*) => {$(
        impl Field for $type {
            const PACKING: Packing = Packing::Varints;
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                proto::put_varint_field(number, $to_wire(*self), out);
            }
            fn put_packed(&self, out: &mut Vec<u8>) {
                proto::put_varint($to_wire(*self), out);
            }
            fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
                wire.varint().and_then($from_wire)
            }
            fn is_default(&self) -> bool {
                *self == 0
            }
            fn write_yaml(&self, _form: Form) -> Node {
                Node::from(*self)
            }
            fn read_yaml(node: &Node) -> Result<Self, YamlError> {
                node.as_integer().and_then(|value| value.try_into().ok()).ok_or_else(|| YamlError::expected(
                    concat!("a number that fits ", stringify!($type)), node))
            }
        }
    )*};
}

/// Signed values are sign-extended to 64 bits, and cut back when read (as every protobuf implementation does).
#[expect(clippy::cast_sign_loss, reason = "the wire holds the two's complement")]
const fn widen(value: i64) -> u64 {
    value as u64
}

fn narrow(value: u64, bits: u32, what: &str) -> Result<u64, DecodeError> {
    if bits == 64 || value >> bits == 0 { Ok(value) } else { Err(DecodeError::Invalid(format!("{value} does not fit {what}"))) }
}

integer! {
    u8, u64::from, |value: u64| narrow(value, 8, "u8").map(|value| value.to_le_bytes()[0]);
    u16, u64::from, |value: u64| narrow(value, 16, "u16").map(|value| u16::from_le_bytes([value.to_le_bytes()[0], value.to_le_bytes()[1]]));
    u32, u64::from, |value: u64| u32::try_from(value).map_err(|_| DecodeError::Invalid(format!("{value} does not fit u32")));
    u64, |value| value, Ok;
    i32, |value| widen(i64::from(value)), |value: u64| {
        i32::try_from(value.cast_signed()).map_err(|_| DecodeError::Invalid(format!("{} does not fit i32", value.cast_signed())))
    };
    i64, widen, |value: u64| Ok(value.cast_signed());
}

impl Field for bool {
    const PACKING: Packing = Packing::Varints;
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        proto::put_varint_field(number, u64::from(*self), out);
    }
    fn put_packed(&self, out: &mut Vec<u8>) {
        proto::put_varint(u64::from(*self), out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        Ok(wire.varint()? != 0)
    }
    fn is_default(&self) -> bool {
        !*self
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::Bool(*self)
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        node.as_bool().ok_or_else(|| YamlError::expected("true or false", node))
    }
}

impl Field for f64 {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        proto::put_fixed64_field(number, self.to_bits(), out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_bits(wire.fixed64()?))
    }
    fn is_default(&self) -> bool {
        *self == 0.0
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::Float(*self)
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        node.as_float().ok_or_else(|| YamlError::expected("a number", node))
    }
}

impl Field for String {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        proto::put_bytes_field(number, self.as_bytes(), out);
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        wire.text().map(str::to_owned)
    }
    fn is_default(&self) -> bool {
        self.is_empty()
    }
    fn write_yaml(&self, _form: Form) -> Node {
        Node::Str(self.clone())
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        node.as_text().map(std::borrow::Cow::into_owned).ok_or_else(|| YamlError::expected("a string", node))
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.put(number, out);
        }
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        T::take_optional(wire)
    }
    fn merge(&mut self, wire: Wire<'_>) -> Result<(), DecodeError> {
        match self {
            Some(value) => value.merge(wire),
            None => {
                *self = T::take_optional(wire)?;
                Ok(())
            }
        }
    }
    fn is_default(&self) -> bool {
        self.is_none()
    }
    fn write_yaml(&self, form: Form) -> Node {
        self.as_ref().map_or_else(T::absent_yaml, |value| value.write_yaml(form))
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        if matches!(node, Node::Null) || *node == T::absent_yaml() { Ok(None) } else { T::read_yaml(node).map(Some) }
    }
    fn is_empty(&self) -> bool {
        self.is_none() || T::NEVER_SHOWN_WHEN_OMITTABLE
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        match T::PACKING {
            Packing::Records => self.iter().for_each(|item| item.put(number, out)),
            Packing::Varints => proto::put_nested_field(number, out, |out| self.iter().for_each(|item| item.put_packed(out))),
        }
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        let mut list = Self::new();
        list.merge(wire)?;
        Ok(list)
    }
    fn merge(&mut self, wire: Wire<'_>) -> Result<(), DecodeError> {
        match (T::PACKING, wire) {
            (Packing::Varints, Wire::Bytes(bytes)) => {
                let mut reader = Reader::new(bytes);
                while !reader.is_empty() {
                    self.push(T::take(Wire::Varint(reader.varint()?))?);
                }
            }
            _ => self.push(T::take(wire)?),
        }
        Ok(())
    }
    fn is_default(&self) -> bool {
        self.as_slice().is_empty()
    }
    fn write_yaml(&self, form: Form) -> Node {
        Node::Seq(self.iter().map(|item| item.write_yaml(form)).collect())
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        match node {
            Node::Null => Ok(Self::new()),
            Node::Seq(items) => {
                items.iter().enumerate().map(|(index, item)| T::read_yaml(item).map_err(|error| error.at_index(index))).collect()
            }
            _ => Err(YamlError::expected("a list", node)),
        }
    }
}

impl<V: Field + Default> Field for BTreeMap<String, V> {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        for (key, value) in self {
            proto::put_nested_field(number, out, |out| {
                key.put(1, out);
                value.put(2, out);
            });
        }
    }
    fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
        let mut map = Self::new();
        Field::merge(&mut map, wire)?;
        Ok(map)
    }
    fn merge(&mut self, wire: Wire<'_>) -> Result<(), DecodeError> {
        let (mut key, mut value) = (String::new(), V::default());
        let mut reader = Reader::new(wire.bytes()?);
        while let Some((number, wire)) = reader.record()? {
            match number {
                1 => key.merge(wire)?,
                2 => value.merge(wire)?,
                _ => {}
            }
        }
        self.insert(key, value);
        Ok(())
    }
    fn is_default(&self) -> bool {
        BTreeMap::is_empty(self)
    }
    fn write_yaml(&self, form: Form) -> Node {
        Node::sorted_map(self.iter().map(|(key, value)| (key.clone(), value.write_yaml(form))))
    }
    fn read_yaml(node: &Node) -> Result<Self, YamlError> {
        match node {
            Node::Null => Ok(Self::new()),
            Node::Map(entries) => {
                let entry = |(key, value): &(std::borrow::Cow<'static, str>, Node)| {
                    V::read_yaml(value).map(|value| (key.clone().into_owned(), value)).map_err(|error| error.at_key(key))
                };
                entries.iter().map(entry).collect()
            }
            _ => Err(YamlError::expected("a mapping", node)),
        }
    }
}

/// The octets of an address, as `common.NetIP` holds them (a zone may follow and is dropped).
fn address(bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(octets));
    }
    bytes
        .first_chunk::<16>()
        .map(|octets| IpAddr::from(*octets))
        .ok_or_else(|| DecodeError::Invalid(format!("an IP address has 4 or 16 bytes, found {}", bytes.len())))
}

fn put_address(number: u32, address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => proto::put_bytes_field(number, &address.octets(), out),
        IpAddr::V6(address) => proto::put_bytes_field(number, &address.octets(), out),
    }
}

/// Address messages: field 1 the octets, field 2 a number whose meaning the type knows. Without octets there is no address.
fn address_and_number(wire: Wire<'_>) -> Result<Option<(IpAddr, u64)>, DecodeError> {
    let (mut octets, mut value): (&[u8], u64) = (&[], 0);
    let mut reader = Reader::new(wire.bytes()?);
    while let Some((number, wire)) = reader.record()? {
        match number {
            1 => octets = wire.bytes()?,
            2 => value = wire.varint()?,
            _ => {}
        }
    }
    if octets.is_empty() { Ok(None) } else { Ok(Some((address(octets)?, value))) }
}

macro_rules! address_field {
    ($type:ty, $what:literal, $put:expr, $take:expr) => {
        impl Field for $type {
            const NEVER_SHOWN_WHEN_OMITTABLE: bool = true;
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                proto::put_nested_field(number, out, |out| $put(self, out));
            }
            fn take(wire: Wire<'_>) -> Result<Self, DecodeError> {
                Self::take_optional(wire)?.ok_or_else(|| DecodeError::Invalid(format!("expected {}, found an empty one", $what)))
            }
            fn take_optional(wire: Wire<'_>) -> Result<Option<Self>, DecodeError> {
                address_and_number(wire)?.map($take).transpose()
            }
            fn is_default(&self) -> bool {
                false
            }
            fn write_yaml(&self, _form: Form) -> Node {
                Node::Str(self.to_string())
            }
            fn read_yaml(node: &Node) -> Result<Self, YamlError> {
                node.as_text().and_then(|text| text.parse().ok()).ok_or_else(|| YamlError::expected($what, node))
            }
            fn absent_yaml() -> Node {
                Node::Str(String::new())
            }
        }
    };
}

address_field!(IpAddr, "an IP address", |value: &IpAddr, out: &mut Vec<u8>| put_address(1, *value, out), |(address, _)| Ok(address));

address_field!(
    IpNet,
    "an IP prefix such as 10.0.0.0/8",
    |value: &IpNet, out: &mut Vec<u8>| {
        put_address(1, value.addr(), out);
        value.prefix_len().encode(2, out);
    },
    |(address, length): (IpAddr, u64)| {
        let prefix = u8::try_from(length).ok().and_then(|length| IpNet::new(address, length).ok());
        prefix.ok_or_else(|| DecodeError::Invalid(format!("{address} has no prefix of {length} bits")))
    }
);

address_field!(
    SocketAddr,
    "an address and port such as 10.0.0.1:443",
    |value: &SocketAddr, out: &mut Vec<u8>| {
        put_address(1, value.ip(), out);
        value.port().encode(2, out);
    },
    |(address, port): (IpAddr, u64)| {
        let port = u16::try_from(port).map_err(|_| DecodeError::Invalid(format!("{port} is no port")))?;
        Ok(SocketAddr::new(address, port))
    }
);
