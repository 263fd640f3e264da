//! Records: what the payload of a frame says.
//!
//! ```text
//! header    = 1 version epoch
//! table     = 2 number last namespace type          "from here on `number` means this table; its next event is last + 1"
//! row       = 3 table resource                      "at that moment this resource was there"
//! created   = 4 table event time resource
//! updated   = 5 table event time resource
//! destroyed = 6 table event time id
//! resource  = id version owner phase created updated labels annotations finalizers spec
//! ```
//! Numbers are varints, texts and bytes have their length before them, a time is seconds (zigzag) and nanoseconds. A spec is its protobuf
//! form. A spec is not decoded here: whoever has a table's type does that, and a kind that nobody knows is carried along untouched.

use std::collections::BTreeMap;

use resource::{Metadata, Name, Phase, Timestamp, Version};

/// The version of this format.
pub(crate) const FORMAT: u64 = 1;

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry<'a> {
    Header { epoch: u64 },
    Table { table: u64, last: u64, namespace: &'a str, type_: &'a str },
    Row { table: u64, resource: &'a [u8] },
    Event { table: u64, number: u64, at: Timestamp, what: What<'a> },
}

/// What an event did; resources are still encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum What<'a> {
    Created(&'a [u8]),
    Updated(&'a [u8]),
    Destroyed(&'a str),
}

/// Why a payload is not a record. The frame's checksum was right, so this is a record of another version, or a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadRecord(pub(crate) &'static str);

pub(crate) fn put_header(out: &mut Vec<u8>, epoch: u64) {
    out.push(1);
    put(out, FORMAT);
    put(out, epoch);
}

pub(crate) fn put_table(out: &mut Vec<u8>, table: u64, last: u64, namespace: &str, type_: &str) {
    out.push(2);
    put(out, table);
    put(out, last);
    put_bytes(out, namespace.as_bytes());
    put_bytes(out, type_.as_bytes());
}

/// The head of a row; the resource follows.
pub(crate) fn put_row(out: &mut Vec<u8>, table: u64) {
    out.push(3);
    put(out, table);
}

/// The head of an event; the resource or the id follows.
pub(crate) fn put_event(out: &mut Vec<u8>, tag: EventTag, table: u64, number: u64, at: Timestamp) {
    out.push(tag as u8);
    put(out, table);
    put(out, number);
    put_time(out, at);
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum EventTag {
    Created = 4,
    Updated = 5,
    Destroyed = 6,
}

pub(crate) fn put_resource(out: &mut Vec<u8>, meta: &Metadata, spec: &[u8]) {
    put_bytes(out, meta.id.as_bytes());
    put(out, meta.version.0);
    put_bytes(out, meta.owner.as_bytes());
    out.push(u8::from(meta.phase == Phase::TearingDown));
    put_time(out, meta.created);
    put_time(out, meta.updated);
    for map in [&meta.labels, &meta.annotations] {
        put(out, map.len() as u64);
        for (key, value) in map {
            put_bytes(out, key.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
    put(out, meta.finalizers.len() as u64);
    meta.finalizers.iter().for_each(|f| put_bytes(out, f.as_bytes()));
    put_bytes(out, spec);
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "the low seven bits")]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 128")]
    out.push(value as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    let (seconds, nanos) = (time.seconds(), time.nanos());
    put(out, ((seconds << 1) ^ (seconds >> 63)).cast_unsigned());
    put(out, u64::from(nanos.cast_unsigned()));
}

/// Reads a payload.
pub(crate) fn entry(payload: &[u8]) -> Result<Entry<'_>, BadRecord> {
    let mut input = Input(payload);
    let entry = match input.byte()? {
        1 => {
            if input.number()? != FORMAT {
                return Err(BadRecord("it is of another version of the log's format"));
            }
            Entry::Header { epoch: input.number()? }
        }
        2 => Entry::Table { table: input.number()?, last: input.number()?, namespace: input.text()?, type_: input.text()? },
        3 => Entry::Row { table: input.number()?, resource: input.rest() },
        tag @ 4..=6 => Entry::Event {
            table: input.number()?,
            number: input.number()?,
            at: input.time()?,
            what: match tag {
                4 => What::Created(input.rest()),
                5 => What::Updated(input.rest()),
                _ => What::Destroyed(input.text()?),
            },
        },
        _ => return Err(BadRecord("it is of an unknown kind")),
    };
    if input.0.is_empty() { Ok(entry) } else { Err(BadRecord("it has bytes left over")) }
}

/// The id of an encoded resource.
pub(crate) fn resource_id(bytes: &[u8]) -> Result<&str, BadRecord> {
    Input(bytes).text()
}

/// The metadata of an encoded resource, without namespace and type, and its encoded spec.
pub(crate) fn resource(bytes: &[u8]) -> Result<(Metadata, &[u8]), BadRecord> {
    let mut input = Input(bytes);
    let mut meta =
        Metadata { id: input.text()?.into(), version: Version(input.number()?), owner: input.text()?.into(), ..Metadata::default() };
    meta.phase = if input.byte()? == 1 { Phase::TearingDown } else { Phase::Running };
    meta.created = input.time()?;
    meta.updated = input.time()?;
    meta.labels = input.map()?;
    meta.annotations = input.map()?;
    for _ in 0..input.number()? {
        meta.finalizers.push(input.text()?.into());
    }
    let spec = input.bytes()?;
    if input.0.is_empty() { Ok((meta, spec)) } else { Err(BadRecord("its resource has bytes left over")) }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8, BadRecord> {
        let (first, rest) = self.0.split_first().ok_or(BadRecord("it ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, BadRecord> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BadRecord("it has a number that is too long"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], BadRecord> {
        let length = usize::try_from(self.number()?).map_err(|_| BadRecord("it ends too early"))?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(BadRecord("it ends too early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, BadRecord> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BadRecord("it has a text that is not UTF-8"))
    }

    fn time(&mut self) -> Result<Timestamp, BadRecord> {
        let (zigzag, nanos) = (self.number()?, self.number()?);
        let seconds = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        let nanos = i32::try_from(nanos).map_err(|_| BadRecord("it has a time with too many nanoseconds"))?;
        Ok(Timestamp::new(seconds, nanos))
    }

    fn map(&mut self) -> Result<BTreeMap<Name, Name>, BadRecord> {
        (0..self.number()?).map(|_| Ok((self.text()?.into(), self.text()?.into()))).collect()
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Metadata {
        let mut meta = Metadata { id: "eth0/10.0.0.1/24".into(), version: Version(300), owner: "net.C".into(), ..Metadata::default() };
        meta.phase = Phase::TearingDown;
        meta.created = Timestamp::new(-5, 999_999_999);
        meta.updated = Timestamp::new(1_700_000_000, 1);
        meta.labels.insert("a".into(), "ü".into());
        meta.annotations.insert("b".into(), "".into());
        meta.finalizers = vec!["x".into(), "y".into()];
        meta
    }

    #[test]
    fn resources_come_back() {
        let mut out = Vec::new();
        put_resource(&mut out, &meta(), b"\x00spec\xff");
        assert_eq!(resource(&out).unwrap(), (meta(), &b"\x00spec\xff"[..]));
        assert_eq!(resource_id(&out).unwrap(), "eth0/10.0.0.1/24");
    }

    #[test]
    fn records_come_back() {
        let mut out = Vec::new();
        put_header(&mut out, u64::MAX);
        assert_eq!(entry(&out), Ok(Entry::Header { epoch: u64::MAX }));
        out.clear();
        put_table(&mut out, 127, 128, "ns", "T.d");
        assert_eq!(entry(&out), Ok(Entry::Table { table: 127, last: 128, namespace: "ns", type_: "T.d" }));
        out.clear();
        let at = Timestamp::new(i64::MIN, 0);
        put_event(&mut out, EventTag::Destroyed, 1, 2, at);
        put_bytes(&mut out, b"id");
        assert_eq!(entry(&out), Ok(Entry::Event { table: 1, number: 2, at, what: What::Destroyed("id") }));
    }

    #[test]
    fn nonsense_is_refused_at_every_length() {
        let mut out = Vec::new();
        put_resource(&mut out, &meta(), b"spec");
        for cut in 0..out.len() {
            assert!(resource(&out[..cut]).is_err(), "cut at {cut}");
        }
        out.push(0);
        assert!(resource(&out).is_err());
        for bad in [&[][..], &[0], &[9, 1], &[1, 2, 0], &[2, 1], &[4, 1, 1], &[6, 1, 1, 0, 0, 3, b'a'], &[2, 1, 1, 1, 0xff, 0]] {
            assert!(entry(bad).is_err(), "{bad:?}");
        }
        assert!(entry(&[3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]).is_err());
    }
}
