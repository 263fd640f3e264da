//! The form of PEM texts: whole blocks around whole DER. What a certificate says, and whether a key is its key, takes cryptography
//! and is not asked here; a text that was cut off, pasted wrongly or encoded once too often is found.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Checks that a text holds PEM blocks, one of them at least of a label that ends in `label`. An error never repeats the text: it may
/// be a key.
///
/// # Errors
/// What was found instead.
pub fn check(text: &str, label: &str) -> Result<(), String> {
    let mut rest = text;
    let mut labels = Vec::new();
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (name, body) = after.split_once("-----").ok_or("a BEGIN line that is cut off")?;
        let (body, after) =
            body.split_once(&format!("-----END {name}-----")).ok_or_else(|| format!("a block {name} without its END line"))?;
        contents(name, body)?;
        labels.push(name);
        rest = after;
    }
    match labels.first() {
        Some(_) if labels.iter().any(|l| l.ends_with(label)) => Ok(()),
        Some(first) => Err(format!("a block {first}")),
        None => Err("a text without a BEGIN line".into()),
    }
}

fn contents(name: &str, body: &str) -> Result<(), String> {
    // Encrypted keys of old have headers before their contents.
    let base64: String = body.lines().filter(|line| !line.contains(':')).flat_map(str::split_whitespace).collect();
    let der = STANDARD.decode(base64).map_err(|_| format!("a block {name} whose contents are not base64"))?;
    let whole = match sequence(&der) {
        Some(length) => length == der.len(),
        // Parameters of a curve, for instance, are no sequence.
        None => !(name == "CERTIFICATE" || name.ends_with("PRIVATE KEY")),
    };
    if whole { Ok(()) } else { Err(format!("a block {name} whose contents are cut off or damaged")) }
}

/// The length of a DER sequence with its head (X.690, 8.1.3).
fn sequence(der: &[u8]) -> Option<usize> {
    let (&first, rest) = der.strip_prefix(&[0x30])?.split_first()?;
    if first < 0x80 {
        return Some(2 + usize::from(first));
    }
    let count = usize::from(first & 0x7f);
    let bytes = rest.get(..count).filter(|b| b.len() <= 4)?;
    Some(2 + count + bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

/// As [`check`], for PEM in base64, which is how the root document holds it.
///
/// # Errors
/// What was found instead.
pub fn check_base64(text: &str, label: &str) -> Result<(), String> {
    let compact: String = text.split_whitespace().collect();
    let bytes = STANDARD.decode(compact).map_err(|_| {
        if text.contains("-----BEGIN ") { "PEM as it is, without base64 around it" } else { "a text that is not base64, or is cut off" }
    })?;
    let inner = String::from_utf8(bytes).map_err(|_| "base64 of bytes that are no text")?;
    check(&inner, label)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block around a sequence of four bytes.
    const WHOLE: &str = "-----BEGIN CERTIFICATE-----\nMAQBAgME\n-----END CERTIFICATE-----\n";

    #[test]
    fn whole_blocks_pass() {
        assert_eq!(check(WHOLE, "CERTIFICATE"), Ok(()));
        assert_eq!(check_base64(&STANDARD.encode(WHOLE), "CERTIFICATE"), Ok(()));
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        assert_eq!(check(&format!("{parameters}{}", WHOLE.replace("CERTIFICATE", "EC PRIVATE KEY")), "PRIVATE KEY"), Ok(()));
        assert_eq!(check(&format!("a comment\n{WHOLE}{WHOLE}"), "CERTIFICATE"), Ok(()));
    }

    #[test]
    fn damage_is_named() {
        let cases = [
            ("", "without a BEGIN line"),
            ("hello", "without a BEGIN line"),
            (&WHOLE[..40], "without its END line"),
            (&WHOLE.replace("MAQBAgME", "MAQB"), "cut off or damaged"),
            (&WHOLE.replace("MAQBAgME", "AAQBAgME"), "cut off or damaged"),
            (&WHOLE.replace("MAQBAgME", "MA%"), "not base64"),
            (&WHOLE.replace("CERTIFICATE", "PRIVATE KEY"), "a block PRIVATE KEY"),
        ];
        for (text, word) in cases {
            let found = check(text, "CERTIFICATE").unwrap_err();
            assert!(found.contains(word), "{text:?}: {found}");
        }
        assert!(check_base64(WHOLE, "CERTIFICATE").unwrap_err().contains("without base64 around it"));
        assert!(check_base64("%%%", "CERTIFICATE").unwrap_err().contains("not base64"));
        assert!(check_base64("bm90IGEgY2VydA==", "CERTIFICATE").unwrap_err().contains("without a BEGIN line"));
    }
}
