//! The protobuf wire format, as far as specs need it: varints, 64-bit values and length-delimited records.
//!
//! Written by hand so that the derive stays small: a field's code is one call. Unknown fields are skipped; groups are refused.

/// Bytes that are not what a message should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("the message ends inside a value: {missing} more bytes expected")]
    Truncated {
        /// How many bytes are missing, at least.
        missing: usize,
    },
    /// A varint longer than ten bytes.
    #[error("a varint is longer than ten bytes")]
    LongVarint,
    /// A field number of 0, or a record type that protobuf 3 does not have.
    #[error("{0:#x} is not a field tag of protobuf 3")]
    BadTag(u64),
    /// A record type that does not fit the field.
    #[error("expected {expected}, found {found}")]
    WireType {
        /// What the field's type is written as.
        expected: &'static str,
        /// What the bytes hold.
        found: &'static str,
    },
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8 (byte {at})")]
    NotUtf8 {
        /// The first byte in error.
        at: usize,
    },
    /// A value that the field's type does not take.
    #[error("{0}")]
    Invalid(String),
    /// Messages nested deeper than any spec is.
    #[error("values are nested deeper than {0} levels")]
    TooDeep(usize),
    /// An error with the field it happened in.
    #[error("{message}, field {number}: {source}")]
    Within {
        /// The message's name.
        message: &'static str,
        /// The field's number.
        number: u32,
        /// What was wrong there.
        source: Box<DecodeError>,
    },
}

impl DecodeError {
    /// Says in which field of which message the error was.
    #[must_use]
    pub fn within(self, message: &'static str, number: u32) -> Self {
        Self::Within { message, number, source: Box::new(self) }
    }
}

/// One value as the wire has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wire<'a> {
    /// An integer, boolean or enumeration.
    Varint(u64),
    /// A double or fixed 64-bit integer.
    Fixed64(u64),
    /// A float or fixed 32-bit integer.
    Fixed32(u32),
    /// A string, bytes, message or packed list.
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    const fn name(self) -> &'static str {
        match self {
            Self::Varint(_) => "a varint",
            Self::Fixed64(_) => "a 64-bit value",
            Self::Fixed32(_) => "a 32-bit value",
            Self::Bytes(_) => "a length-delimited value",
        }
    }

    /// The varint, or an error that says what was found.
    ///
    /// # Errors
    /// When the value is of another wire type.
    pub fn varint(self) -> Result<u64, DecodeError> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(DecodeError::WireType { expected: "a varint", found: self.name() }),
        }
    }

    /// The 64-bit value, or an error that says what was found.
    ///
    /// # Errors
    /// When the value is of another wire type.
    pub fn fixed64(self) -> Result<u64, DecodeError> {
        match self {
            Self::Fixed64(value) => Ok(value),
            _ => Err(DecodeError::WireType { expected: "a 64-bit value", found: self.name() }),
        }
    }

    /// The bytes, or an error that says what was found.
    ///
    /// # Errors
    /// When the value is of another wire type.
    pub fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(value) => Ok(value),
            _ => Err(DecodeError::WireType { expected: "a length-delimited value", found: self.name() }),
        }
    }

    /// The text, or an error that says what was found.
    ///
    /// # Errors
    /// When the value is of another wire type or not UTF-8.
    pub fn text(self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|error| DecodeError::NotUtf8 { at: error.valid_up_to() })
    }
}

/// Reads the records of one message.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field and its value; `None` at the end.
    ///
    /// # Errors
    /// When the bytes are no protobuf message.
    pub fn record(&mut self) -> Result<Option<(u32, Wire<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number != 0).ok_or(DecodeError::BadTag(tag))?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::BadTag(tag))?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(DecodeError::BadTag(tag)),
        };
        Ok(Some((number, wire)))
    }

    /// One varint.
    ///
    /// # Errors
    /// When the bytes end, or the varint is longer than ten bytes.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().copied().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        if self.rest.len() < 10 { Err(DecodeError::Truncated { missing: 1 }) } else { Err(DecodeError::LongVarint) }
    }

    /// One little-endian 64-bit value.
    ///
    /// # Errors
    /// When the bytes end.
    pub fn fixed64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        if length > self.rest.len() {
            return Err(DecodeError::Truncated { missing: length - self.rest.len() });
        }
        let (head, tail) = self.rest.split_at(length);
        self.rest = tail;
        Ok(head)
    }
}

/// Appends a varint.
pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a varint field.
pub fn put_varint_field(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3, out);
    put_varint(value, out);
}

/// Appends a 64-bit field.
pub fn put_fixed64_field(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a length-delimited field with these bytes.
pub fn put_bytes_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a length-delimited field whose bytes `fill` appends.
pub fn put_nested_field(number: u32, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    put_varint(u64::from(number) << 3 | 2, out);
    let start = out.len();
    fill(out);
    // The length comes first but is known last: append it and turn it to the front.
    let body = out.len();
    put_varint((body - start) as u64, out);
    let prefix = out.len() - body;
    out[start..].rotate_right(prefix);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_take_up_to_ten_bytes() {
        let mut out = Vec::new();
        put_varint(300, &mut out);
        assert_eq!(out, [0xac, 0x02]);
        out.clear();
        put_varint(u64::MAX, &mut out);
        assert_eq!(out, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(Reader::new(&out).varint(), Ok(u64::MAX));
        assert_eq!(Reader::new(&[0x80; 11]).varint(), Err(DecodeError::LongVarint));
        assert_eq!(Reader::new(&[0x80; 3]).varint(), Err(DecodeError::Truncated { missing: 1 }));
    }

    #[test]
    fn a_nested_record_of_300_bytes_has_a_two_byte_length() {
        let mut out = vec![9];
        put_nested_field(1, &mut out, |out| out.extend([7; 300]));
        assert_eq!(out[..4], [9, 0x0a, 0xac, 0x02]);
        assert_eq!(out.len(), 4 + 300);
        assert!(out[4..].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn groups_field_zero_and_short_records_are_refused() {
        assert_eq!(Reader::new(&[0x0b]).record(), Err(DecodeError::BadTag(0x0b)));
        assert_eq!(Reader::new(&[0x00, 0x01]).record(), Err(DecodeError::BadTag(0)));
        assert_eq!(Reader::new(&[0x0a, 0x05, 1, 2]).record(), Err(DecodeError::Truncated { missing: 3 }));
    }
}
