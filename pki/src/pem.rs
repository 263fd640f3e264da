//! PEM blocks.

use base64::Engine as _;

use crate::Error;

/// A block: its label (`CERTIFICATE`) and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What stands after BEGIN.
    pub label: String,
    /// The content, decoded.
    pub der: Vec<u8>,
}

/// Writes a block, lines of 64 characters.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Reads all blocks of a text; what stands between them is ignored.
///
/// # Errors
/// When there is no block, or one is broken.
pub fn decode(text: &str) -> Result<Vec<Block>, Error> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, body) = after.split_once("-----").ok_or_else(|| Error::pem("a BEGIN line without its dashes"))?;
        let end = format!("-----END {label}-----");
        let (body, tail) = body.split_once(&end).ok_or_else(|| Error::pem(format!("a block without `{end}`")))?;
        let compact: String = body.split_whitespace().collect();
        let der = base64::engine::general_purpose::STANDARD.decode(compact);
        let der = der.map_err(|e| Error::pem(format!("a {label} block that is not base64 ({e})")))?;
        blocks.push(Block { label: label.to_owned(), der });
        rest = tail;
    }
    if blocks.is_empty() {
        return Err(Error::pem(if text.trim().is_empty() { "nothing" } else { "text without a BEGIN line" }));
    }
    Ok(blocks)
}

/// Reads the first block.
///
/// # Errors
/// When there is none, or it is broken.
pub fn first(text: &str) -> Result<Block, Error> {
    Ok(decode(text)?.swap_remove(0))
}
