//! Writing nodes, byte for byte as the reference's encoder does with an indent of 4.
//!
//! The rules that give its look: a mapping or list below a key starts at the next multiple of 4; one that is an element of a list starts
//! two columns after the dash; a text with a line break is a literal block; a text that would be read as something else is in double quotes;
//! one that only the syntax or an old reader would mistake is in single quotes.

use super::Node;
use super::scalar::{float, means_text, misread_by_old_parsers};

const INDENT: usize = 4;

/// One document, ending in a line break, without `---`.
#[must_use]
pub fn emit(node: &Node) -> String {
    let mut out = String::new();
    match node {
        Node::Map(entries) if !entries.is_empty() => mapping(entries, 0, false, &mut out),
        Node::Seq(items) if !items.is_empty() => sequence(items, 0, false, &mut out),
        _ => {
            inline_value(node, Block { column: INDENT, parent: 0 }, &mut out);
            if !out.ends_with('\n') {
                out.push('\n');
            }
        }
    }
    out
}

/// Several documents with `---` between them.
#[must_use]
pub fn emit_all<'a>(documents: impl IntoIterator<Item = &'a Node>) -> String {
    documents.into_iter().map(emit).collect::<Vec<_>>().join("---\n")
}

/// The column at which something below a key at `indent` starts.
const fn below(indent: usize) -> usize {
    INDENT * ((indent + INDENT) / INDENT)
}

fn pad(columns: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', columns));
}

/// Entries at column `indent`. The first one is where the cursor stands when `started`.
fn mapping(entries: &[(std::borrow::Cow<'static, str>, Node)], indent: usize, started: bool, out: &mut String) {
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 || !started {
            pad(indent, out);
        }
        text(key, None, out);
        out.push(':');
        match value {
            Node::Map(entries) if !entries.is_empty() => {
                out.push('\n');
                mapping(entries, below(indent), false, out);
            }
            Node::Seq(items) if !items.is_empty() => {
                out.push('\n');
                sequence(items, below(indent), false, out);
            }
            _ => {
                out.push(' ');
                inline_value(value, Block { column: below(indent), parent: indent }, out);
                if !out.ends_with('\n') {
                    out.push('\n');
                }
            }
        }
    }
}

/// Dashes at column `indent`. The first one is where the cursor stands when `started`.
fn sequence(items: &[Node], indent: usize, started: bool, out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !started {
            pad(indent, out);
        }
        out.push_str("- ");
        match item {
            Node::Map(entries) if !entries.is_empty() => mapping(entries, indent + 2, true, out),
            Node::Seq(items) if !items.is_empty() => sequence(items, indent + 2, true, out),
            _ => {
                inline_value(item, Block { column: indent + 2, parent: indent }, out);
                if !out.ends_with('\n') {
                    out.push('\n');
                }
            }
        }
    }
}

/// Where a block of text goes: its column, and that of the collection around it.
#[derive(Clone, Copy)]
struct Block {
    column: usize,
    parent: usize,
}

/// What fits on the line where the cursor stands, or a block of text below it.
fn inline_value(node: &Node, block: Block, out: &mut String) {
    match node {
        Node::Str(value) => text(value, Some(block), out),
        Node::Seq(_) => out.push_str("[]"),
        Node::Map(_) => out.push_str("{}"),
        _ => out.push_str(&plain(node)),
    }
}

/// A scalar that is never quoted.
pub(super) fn plain(node: &Node) -> String {
    match node {
        Node::Bool(value) => value.to_string(),
        Node::Int(number) => number.to_string(),
        Node::Uint(number) => number.to_string(),
        Node::Float(number) => float(*number),
        Node::Str(text) | Node::Raw(text) => text.clone(),
        Node::Null | Node::Seq(_) | Node::Map(_) => "null".to_owned(),
    }
}

/// A text in the style that it needs; no literal block may stand where `block` is `None` (keys).
fn text(text: &str, block: Option<Block>, out: &mut String) {
    let shape = Shape::of(text);
    if text.contains('\n') {
        match block {
            Some(block) if shape.block && text.len() > 1 && !text.trim().is_empty() => literal(text, block, out),
            _ => double_quoted(text, out),
        }
    } else if !means_text(text) {
        double_quoted(text, out);
    } else if shape.plain && !misread_by_old_parsers(text) {
        out.push_str(text);
    } else if shape.single {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    } else {
        double_quoted(text, out);
    }
}

/// Which styles a text allows.
struct Shape {
    plain: bool,
    single: bool,
    block: bool,
}

impl Shape {
    fn of(text: &str) -> Self {
        let mut indicator = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut tab, mut space_break, mut break_space, mut breaks) = (false, false, false, false, false);
        let mut before: Option<char> = None;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let blank_after = chars.peek().is_none_or(|next| is_blank(*next));
            indicator |= match (before, c) {
                (None, '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`') => true,
                (None, '?' | '-') | (_, ':') => blank_after,
                (Some(before), '#') => is_blank(before),
                _ => false,
            };
            tab |= c == '\t';
            special |= c != '\t' && !is_printable(c);
            breaks |= is_break(c);
            space_break |= is_break(c) && before == Some(' ');
            break_space |= c == ' ' && before.is_some_and(is_break);
            before = Some(c);
        }
        let edge = |c: Option<char>| c.is_some_and(|c| c == ' ' || is_break(c));
        let spaced = edge(text.chars().next()) || edge(before);
        let odd = space_break || special;
        Self {
            plain: !(indicator || spaced || breaks || break_space || odd || tab),
            single: !(break_space || odd || tab),
            block: !(before == Some(' ') || odd),
        }
    }
}

const fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

const fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t' || is_break(c)
}

/// Whether the reference writes the character as it is.
const fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

fn literal(text: &str, block: Block, out: &mut String) {
    let column = block.column;
    out.push('|');
    if text.starts_with([' ', '\n']) {
        // The reference always writes 4 here, which inside lists is not where it puts the text: readers refuse that.
        out.push_str(&(column - block.parent).to_string());
    }
    let trailing = text.len() - text.trim_end_matches('\n').len();
    match trailing {
        0 => out.push('-'),
        1 => {}
        _ => out.push('+'),
    }
    out.push('\n');
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            pad(column, out);
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn double_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let escape = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\0' => "\\0",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            '\u{1b}' => "\\e",
            '\u{85}' => "\\N",
            '\u{a0}' => "\\_",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            _ if is_printable(c) => {
                out.push(c);
                continue;
            }
            _ => {
                let code = u32::from(c);
                out.push_str(&match code {
                    0..=0xff => format!("\\x{code:02X}"),
                    0x100..=0xffff => format!("\\u{code:04X}"),
                    _ => format!("\\U{code:08X}"),
                });
                continue;
            }
        };
        out.push_str(escape);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    fn value(text: &str) -> String {
        emit(&Node::Map(vec![("k".into(), Node::from(text))]))
    }

    #[test]
    fn texts_are_quoted_as_the_reference_does() {
        let cases = [
            ("", "k: \"\"\n"),
            ("plain text", "k: plain text\n"),
            ("off", "k: 'off'\n"),
            ("y", "k: 'y'\n"),
            ("<<", "k: '<<'\n"),
            ("true", "k: \"true\"\n"),
            ("null", "k: \"null\"\n"),
            ("65535", "k: \"65535\"\n"),
            ("1.2", "k: \"1.2\"\n"),
            ("1:30", "k: '1:30'\n"),
            ("2024-01-02", "k: \"2024-01-02\"\n"),
            ("!=", "k: '!='\n"),
            ("[::1]:80", "k: '[::1]:80'\n"),
            ("a: b", "k: 'a: b'\n"),
            ("a:b", "k: a:b\n"),
            ("a #b", "k: 'a #b'\n"),
            ("a#b", "k: a#b\n"),
            ("- a", "k: '- a'\n"),
            ("-a", "k: -a\n"),
            ("it's", "k: it's\n"),
            ("'it'", "k: '''it'''\n"),
            (" lead", "k: ' lead'\n"),
            ("trail ", "k: 'trail '\n"),
            ("a\tb", "k: \"a\\tb\"\n"),
            ("bell\u{7}", "k: \"bell\\a\"\n"),
            ("---", "k: '---'\n"),
            ("{}", "k: '{}'\n"),
            ("a, b", "k: a, b\n"),
            ("grüße", "k: grüße\n"),
            ("disk.size > 10u * GiB", "k: disk.size > 10u * GiB\n"),
            ("x == \"LABEL\" && y", "k: x == \"LABEL\" && y\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn blocks_keep_their_line_breaks() {
        let cases = [
            ("a\nb\n", "k: |\n    a\n    b\n"),
            ("a\nb", "k: |-\n    a\n    b\n"),
            ("a\n\n", "k: |+\n    a\n\n"),
            ("\na\n", "k: |4\n\n    a\n"),
            ("  a\n", "k: |4\n      a\n"),
            ("a\n\nb\n", "k: |\n    a\n\n    b\n"),
            ("a \nb\n", "k: \"a \\nb\\n\"\n"),
            ("\n", "k: \"\\n\"\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn collections_are_indented_by_the_two_rules() {
        let inner = Node::Map(vec![
            ("name".into(), "x".into()),
            ("sub".into(), Node::Map(vec![("list".into(), Node::Seq(vec![Node::Int(1), Node::Seq(vec!["a".into(), "b".into()])]))])),
            ("text".into(), "a\nb\n".into()),
        ]);
        let node = Node::Map(vec![
            ("items".into(), Node::Seq(vec![inner, "l1\nl2\n".into()])),
            ("empty".into(), Node::Seq(Vec::new())),
            ("none".into(), Node::Map(Vec::new())),
            ("null".into(), Node::Null),
            ("65535".into(), Node::Bool(true)),
        ]);
        let expected = "\
items:
    - name: x
      sub:
        list:
            - 1
            - - a
              - b
      text: |
        a
        b
    - |
      l1
      l2
empty: []
none: {}
\"null\": null
\"65535\": true
";
        assert_eq!(emit(&node), expected);
        assert_eq!(parse(expected), Ok(node));
        assert_eq!(emit(&"a\nb\n".into()), "|\n    a\n    b\n");
        assert_eq!(emit(&Node::Seq(vec![Node::Map(vec![("a".into(), Node::Int(1)), ("b".into(), Node::Int(2))])])), "- a: 1\n  b: 2\n");
    }

    proptest::proptest! {
        #[test]
        fn every_text_comes_back(text in "\\PC*|[ -~\\n\\t:#'\"-]{0,12}|[0-9._:eE+-]{1,8}|\\n*[a ]*\\n*") {
            let node = Node::Map(vec![("k".into(), Node::Str(text.clone())), ("l".into(), Node::Seq(vec![Node::Str(text)]))]);
            let written = emit(&node);
            proptest::prop_assert_eq!(parse(&written), Ok(node), "{}", written);
        }

        #[test]
        fn every_key_comes_back(key in "\\PC{0,20}|[0-9._:eE+-]{1,8}|[ -~\\n]{0,8}") {
            let node = Node::Map(vec![(key.into(), Node::Int(1))]);
            let written = emit(&node);
            proptest::prop_assert_eq!(parse(&written), Ok(node), "{}", written);
        }
    }
}
