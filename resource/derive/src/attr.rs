//! Reading the attributes, with errors that say what was expected.

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Field, Ident, LitInt, LitStr, Result, Token, parenthesized};

/// `#[resource(…)]` and `#[message(…)]`.
#[derive(Default)]
pub(crate) struct Kind {
    pub(crate) type_: Option<LitStr>,
    pub(crate) namespace: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) no_automatic_aliases: bool,
    pub(crate) columns: Vec<(LitStr, LitStr)>,
    pub(crate) ids: Vec<LitStr>,
    pub(crate) sensitive: bool,
    pub(crate) transparent: bool,
}

fn strings(input: ParseStream<'_>) -> Result<Vec<LitStr>> {
    let inner;
    parenthesized!(inner in input);
    Ok(Punctuated::<LitStr, Token![,]>::parse_terminated(&inner)?.into_iter().collect())
}

fn value(input: ParseStream<'_>) -> Result<LitStr> {
    input.parse::<Token![=]>()?;
    input.parse()
}

impl Parse for Kind {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut kind = Self::default();
        while !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            match name.to_string().as_str() {
                "type" => kind.type_ = Some(value(input)?),
                "namespace" => kind.namespace = Some(value(input)?),
                "aliases" => kind.aliases = strings(input)?,
                "ids" => kind.ids = strings(input)?,
                "no_automatic_aliases" => kind.no_automatic_aliases = true,
                "sensitive" => kind.sensitive = true,
                "transparent" => kind.transparent = true,
                "columns" => {
                    let inner;
                    parenthesized!(inner in input);
                    while !inner.is_empty() {
                        let heading: LitStr = inner.parse()?;
                        inner.parse::<Token![=]>()?;
                        kind.columns.push((heading, inner.parse()?));
                        if !inner.is_empty() {
                            inner.parse::<Token![,]>()?;
                        }
                    }
                }
                other => {
                    let known = "type, namespace, aliases, no_automatic_aliases, columns, ids, sensitive, transparent";
                    return Err(Error::new(name.span(), format!("`{other}` means nothing here; there are {known}")));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(kind)
    }
}

/// `#[field(…)]`.
#[derive(Default)]
pub(crate) struct FieldAttr {
    pub(crate) number: Option<LitInt>,
    pub(crate) yaml: Option<LitStr>,
    pub(crate) omit_empty: bool,
    pub(crate) inline: bool,
    pub(crate) secret: bool,
    no_proto: bool,
}

impl Parse for FieldAttr {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut attr = Self::default();
        while !input.is_empty() {
            if input.peek(LitInt) {
                attr.number = Some(input.parse()?);
            } else {
                let name = input.call(Ident::parse_any)?;
                match name.to_string().as_str() {
                    "yaml" => attr.yaml = Some(value(input)?),
                    "omit_empty" => attr.omit_empty = true,
                    "inline" => attr.inline = true,
                    "secret" => attr.secret = true,
                    "no_proto" => attr.no_proto = true,
                    other => {
                        let known = "a number, yaml, omit_empty, inline, secret, no_proto";
                        return Err(Error::new(name.span(), format!("`{other}` means nothing in a field; there are {known}")));
                    }
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(attr)
    }
}

/// Takes the `#[field]` attribute off a field and reads it.
pub(crate) fn take_field(field: &mut Field) -> Result<FieldAttr> {
    let span = field.ident.as_ref().map_or_else(Span::call_site, Ident::span);
    let at = field.attrs.iter().position(|attr| attr.path().is_ident("field"));
    let Some(at) = at else {
        return Err(Error::new(span, "each field needs its number on the wire: #[field(1)], or #[field(no_proto)]"));
    };
    let attr: FieldAttr = field.attrs.remove(at).parse_args()?;
    if attr.number.is_none() && !attr.no_proto {
        return Err(Error::new(span, "the field has no number on the wire: write #[field(1)], or #[field(no_proto)]"));
    }
    if let Some(number) = &attr.number {
        match number.base10_parse::<u32>() {
            Ok(1..=536_870_911) => {}
            _ => return Err(Error::new(number.span(), "a field number is between 1 and 536870911")),
        }
    }
    Ok(attr)
}

/// `#[text(NUMBER, "word")]` of a variant.
pub(crate) struct Text {
    pub(crate) number: i64,
    pub(crate) word: Option<String>,
}

impl Parse for Text {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let negative = input.parse::<Option<Token![-]>>()?.is_some();
        let literal: LitInt = input.parse()?;
        let number: i64 = literal.base10_parse()?;
        let mut word = None;
        if input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            word = Some(input.parse::<LitStr>()?.value());
        }
        Ok(Self { number: if negative { -number } else { number }, word })
    }
}

/// `parent_id` → `parentId`.
pub(crate) fn camel_case(name: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in name.trim_end_matches('_').chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            out.extend(c.to_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    out
}
