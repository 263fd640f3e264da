//! The `#[resource]` attribute and its relatives: one struct, every form.
//!
//! - `#[resource(type = "…", namespace = "…", …)]` on a struct: a kind.
//! - `#[message]` on a struct: something nested in a kind.
//! - `#[text_enum]` on an enum: a number on the wire, a word in YAML.
//! - `#[text_flags]` on an enum: a set of bits on the wire, words joined by commas in YAML.
//!
//! The code they generate is a few lines per field, each one call to a shared function: see `resource::Field`.

mod attr;
mod enumeration;
mod structure;

use proc_macro::TokenStream;

/// Makes a struct a kind of resource.
///
/// `type` and `namespace` are required. `aliases("a", "b")`, `no_automatic_aliases`, `columns("Heading" = "{.path}")`, `sensitive`, `ids("only")` (gives the
/// constant `ID`) or `ids("a", "b")` (gives `ID_A`, `ID_B`), and `transparent` (the YAML form is that of the only field).
///
/// Each field has `#[field(NUMBER)]` and may add `yaml = "key"` (else the name in camel case), `omit_empty`, `inline`, `secret`;
/// `no_proto` instead of a number for what only YAML has.
#[proc_macro_attribute]
pub fn resource(attr: TokenStream, item: TokenStream) -> TokenStream {
    structure::resource(attr.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct a value that kinds can hold. Fields as for `resource`; takes `transparent`.
#[proc_macro_attribute]
pub fn message(attr: TokenStream, item: TokenStream) -> TokenStream {
    structure::message(attr.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes an enum a number on the wire and a word in YAML: each variant has `#[text(NUMBER)]` or `#[text(NUMBER, "word")]` (else the name
/// in lower case). A variant `Unnamed(i64)` is added for numbers that have no name; it prints as `Type(7)`, with another type name after
/// `#[text_enum(name = "Other")]`, or as `7` after `#[text_enum(bare)]`.
#[proc_macro_attribute]
pub fn text_enum(attr: TokenStream, item: TokenStream) -> TokenStream {
    enumeration::text_enum(attr.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes an enum of bits a set of them: a struct around `u32` with a constant per variant, which has `#[text(BIT, "word")]`.
#[proc_macro_attribute]
pub fn text_flags(attr: TokenStream, item: TokenStream) -> TokenStream {
    enumeration::text_flags(attr.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
