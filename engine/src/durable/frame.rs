//! Frames: how records lie in a log file, so that a reader can tell a cut from a lie.
//!
//! ```text
//! frame  = length: u32 LE │ sum: u32 LE (CRC-32C of the payload) │ head: u32 LE (CRC-32C of the eight bytes before) │ payload
//! ```
//!
//! A process killed in the middle of an append leaves a file that simply ends too early: the last frame is *torn*, was never acknowledged,
//! and is dropped. Bytes that are all there but do not add up are *corrupt*: something acknowledged was changed, and that is an error.
//! The head has a sum of its own, since otherwise a flipped bit in a length would pass for a torn tail. A file system that lost power may
//! leave a tail of zeros; no frame has a head of zeros, so such a tail counts as torn.

/// Bytes before the payload.
pub(crate) const HEAD: usize = 12;

/// The longest payload. A resource is far smaller; a longer frame is refused when written and corrupt when read.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;

/// Appends the frame of `payload` to `out`. The caller has checked its length against [`MAX_PAYLOAD`].
pub(crate) fn push(out: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let start = out.len();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32c(payload).to_le_bytes());
    let head = crc32c(&out[start..]);
    out.extend_from_slice(&head.to_le_bytes());
    out.extend_from_slice(payload);
}

/// What lies at some place of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    /// A whole frame; the next one starts at `end`.
    Frame {
        /// What was written.
        payload: &'a [u8],
        /// Where the next frame starts.
        end: usize,
    },
    /// The end of the log.
    End,
    /// An append that was cut short: whatever follows this place was never acknowledged.
    Torn,
    /// Bytes that are all there and wrong.
    Corrupt(&'static str),
}

/// Reads the frame that starts at `at`.
pub(crate) fn read(log: &[u8], at: usize) -> Read<'_> {
    let rest = &log[at.min(log.len())..];
    if rest.is_empty() {
        return Read::End;
    }
    let Some((head, body)) = rest.split_first_chunk::<HEAD>() else { return Read::Torn };
    if rest.iter().all(|b| *b == 0) {
        return Read::Torn;
    }
    let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    if crc32c(&head[..8]) != word(8) {
        return Read::Corrupt("the checksum of a frame's head does not match");
    }
    let length = word(0) as usize;
    if length > MAX_PAYLOAD {
        return Read::Corrupt("a frame is longer than any that is ever written");
    }
    let Some(payload) = body.get(..length) else { return Read::Torn };
    if crc32c(payload) != word(4) {
        return if payload.iter().all(|b| *b == 0) && body[length..].iter().all(|b| *b == 0) {
            Read::Torn
        } else {
            Read::Corrupt("the checksum of a frame's payload does not match")
        };
    }
    Read::Frame { payload, end: at + HEAD + length }
}

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), four table steps at once.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    let mut chunks = bytes.chunks_exact(4);
    for c in &mut chunks {
        let x = crc ^ u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
        let byte = |shift: u32| ((x >> shift) & 0xff) as usize;
        crc = TABLES[3][byte(0)] ^ TABLES[2][byte(8)] ^ TABLES[1][byte(16)] ^ TABLES[0][byte(24)];
    }
    for b in chunks.remainder() {
        crc = (crc >> 8) ^ TABLES[0][((crc ^ u32::from(*b)) & 0xff) as usize];
    }
    !crc
}

static TABLES: [[u32; 256]; 4] = tables();

const fn tables() -> [[u32; 256]; 4] {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut t = [[0_u32; 256]; 4];
    let mut i = 0;
    while i < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "i < 256, and a const fn has no From")]
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        t[0][i] = crc;
        i += 1;
    }
    let mut k = 1;
    while k < 4 {
        let mut i = 0;
        while i < 256 {
            t[k][i] = (t[k - 1][i] >> 8) ^ t[0][(t[k - 1][i] & 0xff) as usize];
            i += 1;
        }
        k += 1;
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_castagnolis() {
        // The check value of CRC-32C and three vectors of RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xff; 32]), 0x62A8_AB43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46DD_794E);
    }

    fn log() -> (Vec<u8>, Vec<usize>) {
        let (mut log, mut ends) = (Vec::new(), vec![0]);
        for payload in [&b"first"[..], b"", b"a longer third payload", &[0; 9]] {
            push(&mut log, payload);
            ends.push(log.len());
        }
        (log, ends)
    }

    fn replay(log: &[u8]) -> (usize, Read<'_>) {
        let mut at = 0;
        loop {
            match read(log, at) {
                Read::Frame { end, .. } => at = end,
                last => return (at, last),
            }
        }
    }

    #[test]
    fn a_cut_at_any_byte_is_torn_or_the_end() {
        let (log, ends) = log();
        for cut in 0..=log.len() {
            let (at, last) = replay(&log[..cut]);
            assert_eq!(at, *ends.iter().filter(|e| **e <= cut).max().unwrap(), "cut at {cut}");
            let expected = if ends.contains(&cut) { Read::End } else { Read::Torn };
            assert_eq!(last, expected, "cut at {cut}");
        }
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let (log, _) = log();
        for bit in 0..log.len() * 8 {
            let mut bad = log.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(replay(&bad).1, Read::Corrupt(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_tail_of_zeros_is_torn() {
        let (log, ends) = log();
        for end in &ends {
            let mut cut = log[..*end].to_vec();
            cut.resize(end + 4096, 0);
            assert_eq!(replay(&cut), (*end, Read::Torn), "zeros after {end} bytes");
        }
        // The head of a frame made it to the disk, its payload did not.
        let mut cut = log[..ends[2] + HEAD].to_vec();
        cut.resize(ends[3], 0);
        assert_eq!(replay(&cut), (ends[2], Read::Torn));
    }
}
