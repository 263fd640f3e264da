//! The Common Expression Language, as far as selectors use it: literals, names, fields, operators, calls, lists.
//!
//! What it is not: an evaluator, and the macros (`exists`, `has`, …) stay calls. Trees from the wire that were made from macros are printed
//! as the macro calls that they came from.

use std::collections::BTreeMap;
use std::fmt;

use resource::Field;
use resource::proto::{DecodeError, Reader, put_nested_field, put_varint_field};

/// How deep expressions may nest.
const MAX_DEPTH: usize = 100;

/// A syntax tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// `10`.
    Int(i64),
    /// `10u`.
    Uint(u64),
    /// `1.5`.
    Double(f64),
    /// `"text"`.
    String(String),
    /// `b"bytes"`.
    Bytes(Vec<u8>),
    /// `disk`.
    Name(String),
    /// `disk.size`.
    Select(Box<Expr>, String),
    /// `size(x)`, and operators by the names that the language gives them (`_&&_`, `!_`).
    Call(String, Vec<Expr>),
    /// `x.startsWith("a")`.
    Method(Box<Expr>, String, Vec<Expr>),
    /// `[a, b]`.
    List(Vec<Expr>),
}

/// A text that is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no expression: {why} at column {column}")]
pub struct SyntaxError {
    text: String,
    why: String,
    column: usize,
}

/// The operators between two operands: how each is written, its name, how tightly it binds.
const BINARY: &[(&str, &str, u8)] = &[
    ("||", "_||_", 1),
    ("&&", "_&&_", 2),
    ("==", "_==_", 3),
    ("!=", "_!=_", 3),
    ("<=", "_<=_", 3),
    (">=", "_>=_", 3),
    ("<", "_<_", 3),
    (">", "_>_", 3),
    ("in", "@in", 3),
    ("+", "_+_", 4),
    ("-", "_-_", 4),
    ("*", "_*_", 5),
    ("/", "_/_", 5),
    ("%", "_%_", 5),
];
const CONDITIONAL: u8 = 0;
const UNARY: u8 = 6;
const MEMBER: u8 = 7;

impl Expr {
    fn binding(&self) -> u8 {
        match self {
            Self::Call(name, args) => match (name.as_str(), args.len()) {
                ("_?_:_", 3) => CONDITIONAL,
                ("!_" | "-_", 1) => UNARY,
                (_, 2) => BINARY.iter().find(|(_, operator, _)| operator == name).map_or(MEMBER, |(_, _, binding)| *binding),
                _ => MEMBER,
            },
            Self::Int(number) if *number < 0 => UNARY,
            Self::Double(number) if *number < 0.0 => UNARY,
            _ => MEMBER,
        }
    }

    /// Writes the expression, in parentheses when it binds less tightly than its place needs.
    fn write(&self, least: u8, out: &mut String) {
        if self.binding() < least {
            out.push('(');
            self.write(CONDITIONAL, out);
            out.push(')');
            return;
        }
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(&value.to_string()),
            Self::Int(number) => out.push_str(&number.to_string()),
            Self::Uint(number) => out.push_str(&format!("{number}u")),
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 1e15 => out.push_str(&format!("{number:.1}")),
            Self::Double(number) => out.push_str(&number.to_string()),
            Self::String(text) => quote(text, out),
            Self::Bytes(bytes) => {
                out.push_str("b\"");
                bytes.iter().for_each(|byte| out.push_str(&format!("\\{byte:03o}")));
                out.push('"');
            }
            Self::Name(name) => out.push_str(name),
            Self::Select(of, field) => {
                of.write(MEMBER, out);
                out.push('.');
                out.push_str(field);
            }
            Self::Method(of, name, args) => {
                of.write(MEMBER, out);
                out.push('.');
                out.push_str(name);
                write_list('(', args, ')', out);
            }
            Self::List(items) => write_list('[', items, ']', out),
            Self::Call(name, args) => write_call(name, args, out),
        }
    }
}

fn write_call(name: &str, args: &[Expr], out: &mut String) {
    match (name, args) {
        ("_?_:_", [condition, yes, no]) => {
            condition.write(CONDITIONAL + 1, out);
            out.push_str(" ? ");
            yes.write(CONDITIONAL + 1, out);
            out.push_str(" : ");
            no.write(CONDITIONAL, out);
        }
        ("!_" | "-_", [operand]) => {
            out.push_str(&name[..1]);
            operand.write(UNARY, out);
        }
        ("_[_]", [of, index]) => {
            of.write(MEMBER, out);
            write_list('[', std::slice::from_ref(index), ']', out);
        }
        (_, [left, right]) if let Some((text, _, binding)) = BINARY.iter().find(|(_, operator, _)| *operator == name) => {
            left.write(*binding, out);
            out.push_str(&format!(" {text} "));
            // `a - (b - c)` keeps its parentheses; the logical operators chain either way.
            let chains = matches!(*text, "&&" | "||");
            right.write(if chains { *binding } else { binding + 1 }, out);
        }
        _ => {
            out.push_str(name);
            write_list('(', args, ')', out);
        }
    }
}

fn write_list(open: char, items: &[Expr], close: char, out: &mut String) {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        item.write(CONDITIONAL, out);
    }
    out.push(close);
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(CONDITIONAL, &mut out);
        f.pad(&out)
    }
}

/// Parses an expression.
///
/// # Errors
/// When the text is none; the error says where.
pub fn parse(text: &str) -> Result<Expr, SyntaxError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let tree = parser.conditional()?;
    parser.space();
    if parser.at < text.len() { Err(parser.error("an operator or the end was expected")) } else { Ok(tree) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, why: impl Into<String>) -> SyntaxError {
        let column = self.text[..self.at].chars().count() + 1;
        SyntaxError { text: self.text.to_owned(), why: why.into(), column }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes the token if it comes next.
    fn token(&mut self, token: &str) -> bool {
        self.space();
        let there = self.rest().starts_with(token);
        if there {
            self.at += token.len();
        }
        there
    }

    fn expect(&mut self, token: &str) -> Result<(), SyntaxError> {
        if self.token(token) { Ok(()) } else { Err(self.error(format!("{token:?} was expected"))) }
    }

    fn word(&mut self) -> Option<&'a str> {
        self.space();
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        Some(&rest[..end])
    }

    fn conditional(&mut self) -> Result<Expr, SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let condition = self.binary(1)?;
        let tree = if self.token("?") {
            let yes = self.binary(1)?;
            self.expect(":")?;
            let no = self.conditional()?;
            Expr::Call("_?_:_".to_owned(), vec![condition, yes, no])
        } else {
            condition
        };
        self.depth -= 1;
        Ok(tree)
    }

    fn operator(&mut self, level: u8) -> Option<&'static str> {
        self.space();
        let rest = self.rest();
        let (text, name, binding) = BINARY.iter().find(|(text, ..)| {
            let word_ends = !rest[text.len().min(rest.len())..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            rest.starts_with(text) && (*text != "in" || word_ends)
        })?;
        if *binding != level {
            return None;
        }
        self.at += text.len();
        Some(name)
    }

    fn binary(&mut self, level: u8) -> Result<Expr, SyntaxError> {
        if level == UNARY {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = self.operator(level) {
            let right = self.binary(level + 1)?;
            left = Expr::Call(operator.to_owned(), vec![left, right]);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.space();
        let tree = if !self.rest().starts_with("!=") && self.token("!") {
            Expr::Call("!_".to_owned(), vec![self.unary()?])
        } else if self.token("-") {
            match self.unary()? {
                Expr::Int(number) if number > 0 => Expr::Int(-number),
                Expr::Double(number) if number > 0.0 => Expr::Double(-number),
                operand => Expr::Call("-_".to_owned(), vec![operand]),
            }
        } else {
            self.member()?
        };
        self.depth -= 1;
        Ok(tree)
    }

    fn member(&mut self) -> Result<Expr, SyntaxError> {
        let mut of = self.primary()?;
        loop {
            if self.token(".") {
                let field = self.word().ok_or_else(|| self.error("the name of a field was expected"))?.to_owned();
                of = if self.token("(") { Expr::Method(Box::new(of), field, self.list(")")?) } else { Expr::Select(Box::new(of), field) };
            } else if self.token("[") {
                let index = self.conditional()?;
                self.expect("]")?;
                of = Expr::Call("_[_]".to_owned(), vec![of, index]);
            } else {
                return Ok(of);
            }
        }
    }

    /// Elements up to the closing bracket.
    fn list(&mut self, close: &str) -> Result<Vec<Expr>, SyntaxError> {
        let mut items = Vec::new();
        while !self.token(close) {
            items.push(self.conditional()?);
            if !self.token(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn primary(&mut self) -> Result<Expr, SyntaxError> {
        if self.token("(") {
            let tree = self.conditional()?;
            self.expect(")")?;
            return Ok(tree);
        }
        if self.token("[") {
            return self.list("]").map(Expr::List);
        }
        if self.rest().starts_with(['"', '\'']) {
            return self.string().map(Expr::String);
        }
        if self.rest().starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return self.number();
        }
        match self.word() {
            Some("true") => Ok(Expr::Bool(true)),
            Some("false") => Ok(Expr::Bool(false)),
            Some("null") => Ok(Expr::Null),
            Some(name) if self.token("(") => Ok(Expr::Call(name.to_owned(), self.list(")")?)),
            Some(name) => Ok(Expr::Name(name.to_owned())),
            None => Err(self.error("a value was expected")),
        }
    }

    fn number(&mut self) -> Result<Expr, SyntaxError> {
        let rest = self.rest();
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            let digits = &hex[..end];
            return self.whole(digits, 16, 2 + end);
        }
        let mut end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if rest[end..].starts_with(['e', 'E']) {
            let exponent = &rest[end + 1..];
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let digits = exponent[sign..].find(|c: char| !c.is_ascii_digit()).unwrap_or(exponent.len() - sign);
            if digits > 0 {
                end += 1 + sign + digits;
            }
        }
        let text = &rest[..end];
        if text.contains(['.', 'e', 'E']) {
            let number = text.parse().map_err(|_| self.error(format!("{text:?} is no number")))?;
            self.at += end;
            return Ok(Expr::Double(number));
        }
        self.whole(text, 10, end)
    }

    fn whole(&mut self, digits: &str, radix: u32, length: usize) -> Result<Expr, SyntaxError> {
        let unsigned = self.rest()[length..].starts_with(['u', 'U']);
        let too_large = || self.error(format!("{digits:?} is no number of 64 bits"));
        let number = u64::from_str_radix(digits, radix).map_err(|_| too_large())?;
        let number = if unsigned { Expr::Uint(number) } else { Expr::Int(i64::try_from(number).map_err(|_| too_large())?) };
        self.at += length + usize::from(unsigned);
        Ok(number)
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let mut chars = self.rest().char_indices();
        let quote = chars.next().map_or('"', |(_, quote)| quote);
        let mut out = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at += at + 1;
                    return Ok(out);
                }
                '\\' => match chars.next().map(|(_, escaped)| escaped) {
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some(escaped @ ('"' | '\'' | '\\' | '`' | '?')) => out.push(escaped),
                    Some('u') => {
                        let digits: String = chars.by_ref().take(4).map(|(_, digit)| digit).collect();
                        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        out.push(code.ok_or_else(|| self.error(format!("\\u{digits} is no character")))?);
                    }
                    _ => return Err(self.error("an escape in the text is not known")),
                },
                '\n' => break,
                _ => out.push(c),
            }
        }
        Err(self.error("the text does not end"))
    }
}

/// The tree as `google.api.expr.v1alpha1.CheckedExpr`, without what a checker would add to it.
#[must_use]
pub fn encode_checked(tree: &Expr) -> Vec<u8> {
    let mut out = Vec::new();
    let mut id = 0;
    put_nested_field(4, &mut out, |out| put_expr(tree, &mut id, out));
    out
}

/// Appends an `Expr` message; every node gets the next id.
fn put_expr(tree: &Expr, id: &mut u64, out: &mut Vec<u8>) {
    *id += 1;
    put_varint_field(2, *id, out);
    let constant = |out: &mut Vec<u8>, fill: &dyn Fn(&mut Vec<u8>)| put_nested_field(3, out, |out| fill(out));
    match tree {
        Expr::Null => constant(out, &|out| put_varint_field(1, 0, out)),
        Expr::Bool(value) => constant(out, &|out| value.put(2, out)),
        Expr::Int(number) => constant(out, &|out| number.put(3, out)),
        Expr::Uint(number) => constant(out, &|out| number.put(4, out)),
        Expr::Double(number) => constant(out, &|out| number.put(5, out)),
        Expr::String(text) => constant(out, &|out| text.put(6, out)),
        Expr::Bytes(bytes) => constant(out, &|out| resource::proto::put_bytes_field(7, bytes, out)),
        Expr::Name(name) => put_nested_field(4, out, |out| name.put(1, out)),
        Expr::Select(of, field) => put_nested_field(5, out, |out| {
            put_nested_field(1, out, |out| put_expr(of, id, out));
            field.put(2, out);
        }),
        Expr::Call(name, args) => put_nested_field(6, out, |out| {
            name.put(2, out);
            args.iter().for_each(|arg| put_nested_field(3, out, |out| put_expr(arg, id, out)));
        }),
        Expr::Method(of, name, args) => put_nested_field(6, out, |out| {
            put_nested_field(1, out, |out| put_expr(of, id, out));
            name.put(2, out);
            args.iter().for_each(|arg| put_nested_field(3, out, |out| put_expr(arg, id, out)));
        }),
        Expr::List(items) => put_nested_field(7, out, |out| {
            items.iter().for_each(|item| put_nested_field(1, out, |out| put_expr(item, id, out)));
        }),
    }
}

/// The tree of a `CheckedExpr`; `None` when it holds none.
///
/// # Errors
/// When the bytes are no such message, or hold what selectors do not use.
pub fn decode_checked(bytes: &[u8]) -> Result<Option<Expr>, DecodeError> {
    let (mut expr, mut macros) = (None, BTreeMap::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.record()? {
        match number {
            4 => expr = Some(wire.bytes()?),
            5 => macros = macro_calls(wire.bytes()?)?,
            _ => {}
        }
    }
    expr.map(|bytes| take_expr(bytes, &macros, 0)).transpose()
}

/// The calls that macros were written as, by the id of the node that they became: field 5 of `SourceInfo`.
fn macro_calls(bytes: &[u8]) -> Result<BTreeMap<u64, &[u8]>, DecodeError> {
    let mut calls = BTreeMap::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.record()? {
        if number != 5 {
            continue;
        }
        let (mut id, mut call) = (0, &[][..]);
        let mut entry = Reader::new(wire.bytes()?);
        while let Some((number, wire)) = entry.record()? {
            match number {
                1 => id = wire.varint()?,
                2 => call = wire.bytes()?,
                _ => {}
            }
        }
        calls.insert(id, call);
    }
    Ok(calls)
}

fn take_expr(bytes: &[u8], macros: &BTreeMap<u64, &[u8]>, depth: usize) -> Result<Expr, DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep(MAX_DEPTH));
    }
    let (mut id, mut kind) = (0, None);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.record()? {
        match number {
            2 => id = wire.varint()?,
            _ => kind = Some((number, wire.bytes()?)),
        }
    }
    if let Some(call) = macros.get(&id) {
        return take_expr(call, macros, depth + 1);
    }
    let nested = |bytes| take_expr(bytes, macros, depth + 1);
    match kind {
        Some((3, bytes)) => take_constant(bytes),
        Some((4, bytes)) => {
            let mut name = String::new();
            each(bytes, |number, wire| if number == 1 { name.merge(wire) } else { Ok(()) })?;
            Ok(Expr::Name(name))
        }
        Some((5, bytes)) => {
            let (mut of, mut field, mut test) = (Expr::Null, String::new(), false);
            each(bytes, |number, wire| match number {
                1 => nested(wire.bytes()?).map(|expr| of = expr),
                2 => field.merge(wire),
                3 => test.merge(wire),
                _ => Ok(()),
            })?;
            let select = Expr::Select(Box::new(of), field);
            Ok(if test { Expr::Call("has".to_owned(), vec![select]) } else { select })
        }
        Some((6, bytes)) => {
            let (mut target, mut name, mut args) = (None, String::new(), Vec::new());
            each(bytes, |number, wire| match number {
                1 => nested(wire.bytes()?).map(|expr| target = Some(expr)),
                2 => name.merge(wire),
                3 => nested(wire.bytes()?).map(|expr| args.push(expr)),
                _ => Ok(()),
            })?;
            Ok(match target {
                Some(of) => Expr::Method(Box::new(of), name, args),
                None => Expr::Call(name, args),
            })
        }
        Some((7, bytes)) => {
            let mut items = Vec::new();
            each(bytes, |number, wire| if number == 1 { nested(wire.bytes()?).map(|expr| items.push(expr)) } else { Ok(()) })?;
            Ok(Expr::List(items))
        }
        _ => Err(DecodeError::Invalid("an expression holds a part that selectors do not use".to_owned())),
    }
}

fn take_constant(bytes: &[u8]) -> Result<Expr, DecodeError> {
    let mut constant = Expr::Null;
    each(bytes, |number, wire| {
        constant = match number {
            1 => Expr::Null,
            2 => Expr::Bool(bool::take(wire)?),
            3 => Expr::Int(i64::take(wire)?),
            4 => Expr::Uint(u64::take(wire)?),
            5 => Expr::Double(f64::take(wire)?),
            6 => Expr::String(String::take(wire)?),
            7 => Expr::Bytes(wire.bytes()?.to_vec()),
            _ => return Err(DecodeError::Invalid("an expression holds a constant of an unknown type".to_owned())),
        };
        Ok(())
    })?;
    Ok(constant)
}

fn each<'a>(bytes: &'a [u8], mut record: impl FnMut(u32, resource::proto::Wire<'a>) -> Result<(), DecodeError>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.record()? {
        record(number, wire)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        parse(text).expect("an expression").to_string()
    }

    #[test]
    fn expressions_print_in_the_normal_form() {
        let same = [
            "disk.size > 10u * GiB",
            "volume.partition_label == \"LABEL-1\" && volume.name == \"xfs\"",
            "!disk.readonly && !(disk.transport in [\"usb\", \"mmc\"])",
            "disk.dev_path == \"/dev/sda\"",
            "glob(\"/dev/nvme*\", disk.dev_path) || disk.symlinks.exists(x, x.startsWith(\"a\"))",
            "a ? b : c ? d : e",
            "a - (b - c) * -1",
            "m[\"k\"][0] == 1.5",
        ];
        for text in same {
            assert_eq!(normal(text), text);
        }
        assert_eq!(normal("((disk.size)>  1)&&true"), "disk.size > 1 && true");
        assert_eq!(normal("(a || b) && c"), "(a || b) && c");
        assert_eq!(normal("(a ? b : c) ? 'x' : 0x10u"), "(a ? b : c) ? \"x\" : 16u");
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_column() {
        for (text, column) in [("disk.", 6), ("a ==", 5), ("(a", 3), ("\"open", 1), ("a b", 3), ("99999999999999999999", 1), ("a & b", 3)] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.column, column, "{error}");
        }
        assert!(parse(&"(".repeat(1000)).is_err());
        assert!(parse(&"!".repeat(1000)).is_err());
    }

    #[test]
    fn trees_survive_the_wire() {
        for text in ["disk.size > 10u * GiB && !disk.cdrom", "a.b([1, -2, 1.5, null, true, \"x\"]) ? -c : d[1]"] {
            let tree = parse(text).expect("an expression");
            assert_eq!(decode_checked(&encode_checked(&tree)), Ok(Some(tree)));
        }
        assert!(decode_checked(&[0x22, 0x02, 0x4a, 0x00]).is_err(), "a comprehension without the macro that it came from");
    }
}
