//! Just enough DER to write certificates and requests, and to take keys apart.
//!
//! Certificates are written by hand because theirs are particular: an authority with an empty name, several organisations in one name, no basic
//! constraints in leaves. Reading foreign certificates is left to `x509-parser`.

/// One element: tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let bytes = content.len().to_be_bytes();
    if content.len() < 0x80 {
        out.push(bytes[bytes.len() - 1]);
    } else {
        let skip = bytes.iter().take_while(|b| **b == 0).count();
        let length = &bytes[skip..];
        out.push(0x80 | u8::try_from(length.len()).unwrap_or(0x7f));
        out.extend_from_slice(length);
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A SET OF: its parts in order of their bytes.
pub(crate) fn set(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(0x31, &parts.concat())
}

/// An unsigned number, most significant byte first.
pub(crate) fn uint(bytes: &[u8]) -> Vec<u8> {
    let skip = bytes.iter().take_while(|b| **b == 0).count();
    let mut content = bytes[skip..].to_vec();
    if content.first().is_none_or(|b| b & 0x80 != 0) {
        content.insert(0, 0);
    }
    tlv(0x02, &content)
}

pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(0x04, bytes)
}

/// A BIT STRING of whole bytes.
pub(crate) fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], bytes].concat())
}

/// An object identifier.
pub(crate) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    let first = arcs.first().copied().unwrap_or(0) * 40 + arcs.get(1).copied().unwrap_or(0);
    for arc in std::iter::once(first).chain(arcs.iter().skip(2).copied()) {
        let mut groups = vec![low7(arc)];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push(low7(rest) | 0x80);
            rest >>= 7;
        }
        content.extend(groups.iter().rev());
    }
    tlv(0x06, &content)
}

fn low7(n: u64) -> u8 {
    n.to_le_bytes()[0] & 0x7f
}

/// Text, printable where it can be, as other writers do.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let printable = text.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
    tlv(if printable { 0x13 } else { 0x0c }, text.as_bytes())
}

/// A time: UTCTime until 2049, GeneralizedTime after.
pub(crate) fn time(at: jiff::Timestamp) -> Vec<u8> {
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    if (1950..2050).contains(&at.year()) {
        tlv(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        tlv(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

/// Walks over elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element: tag and content.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let n = usize::from(first & 0x7f);
            if n == 0 || n > 4 || rest.len() < n {
                return None;
            }
            (rest[..n].iter().fold(0usize, |acc, b| (acc << 8) | usize::from(*b)), &rest[n..])
        };
        if rest.len() < length {
            return None;
        }
        self.0 = &rest[length..];
        Some((tag, &rest[..length]))
    }

    /// The content of the next element, if it has the tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_the_bytes_of_the_standard() {
        assert_eq!(oid(&[1, 2, 840, 10045, 2, 1]), [0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]);
        assert_eq!(uint(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(uint(&[0]), [2, 1, 0]);
        assert_eq!(tlv(4, &[7; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(text("os:admin")[0], 0x13);
        assert_eq!(text("a@b")[0], 0x0c);
    }

    #[test]
    fn a_truncated_element_is_refused() {
        assert!(Reader(&[0x30, 5, 1]).next().is_none());
        assert!(Reader(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).next().is_none());
    }
}
