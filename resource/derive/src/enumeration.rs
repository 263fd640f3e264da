//! `#[text_enum]` and `#[text_flags]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Fields, Ident, ItemEnum, LitStr, Result, Token, parse2};

use crate::attr::Text;

struct Variant {
    name: Ident,
    number: i64,
    word: String,
    docs: Vec<Attribute>,
}

/// `#[text_enum(…)]`.
struct EnumAttr {
    bare: bool,
    name: Option<String>,
}

impl Parse for EnumAttr {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut bare, mut name) = (false, None);
        while !input.is_empty() {
            let word: Ident = input.parse()?;
            match word.to_string().as_str() {
                "bare" => bare = true,
                "name" => {
                    input.parse::<Token![=]>()?;
                    name = Some(input.parse::<LitStr>()?.value());
                }
                other => return Err(Error::new(word.span(), format!("`{other}` means nothing here; there are bare, name"))),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(Self { bare, name })
    }
}

/// Reads and removes the attributes of the variants.
fn variants(item: &ItemEnum) -> Result<Vec<Variant>> {
    let mut variants: Vec<Variant> = Vec::new();
    for variant in &item.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(&variant.fields, "a variant stands for one number and holds nothing"));
        }
        let Some(attr) = variant.attrs.iter().find(|attr| attr.path().is_ident("text")) else {
            return Err(Error::new_spanned(variant, "each variant needs its number on the wire: #[text(1)] or #[text(1, \"word\")]"));
        };
        let Text { number, word } = attr.parse_args()?;
        let word = word.unwrap_or_else(|| variant.ident.to_string().to_lowercase());
        if let Some(other) = variants.iter().find(|other| other.number == number || other.word == word) {
            return Err(Error::new_spanned(variant, format!("`{}` has this number or word already", other.name)));
        }
        let docs = variant.attrs.iter().filter(|attr| attr.path().is_ident("doc")).cloned().collect();
        variants.push(Variant { name: variant.ident.clone(), number, word, docs });
    }
    Ok(variants)
}

pub(crate) fn text_enum(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let EnumAttr { bare, name: type_name } = parse2(attr)?;
    let item: ItemEnum = parse2(item)?;
    let variants = variants(&item)?;
    let (attrs, vis, name) = (&item.attrs, &item.vis, &item.ident);
    let text = type_name.unwrap_or_else(|| name.to_string());
    let names: Vec<&Ident> = variants.iter().map(|variant| &variant.name).collect();
    let numbers: Vec<i64> = variants.iter().map(|variant| variant.number).collect();
    let words: Vec<&str> = variants.iter().map(|variant| variant.word.as_str()).collect();
    let docs = variants.iter().map(|variant| {
        let docs = &variant.docs;
        if docs.is_empty() {
            let doc = format!("`{}`.", variant.word);
            quote! { #[doc = #doc] }
        } else {
            quote! { #(#docs)* }
        }
    });
    let default = variants.iter().find(|variant| variant.number == 0).map_or_else(
        || quote! { Self::Unnamed(0) },
        |variant| {
            let name = &variant.name;
            quote! { Self::#name }
        },
    );
    let (open, close) = if bare { (String::new(), String::new()) } else { (format!("{text}("), ")".to_owned()) };
    Ok(quote! {
        #(#attrs)*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #vis enum #name {
            #(#docs #names,)*
            /// A number without a name here.
            Unnamed(i64),
        }

        impl #name {
            /// Every named value.
            pub const ALL: &'static [Self] = &[#(Self::#names),*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> i64 {
                match self {
                    #(Self::#names => #numbers,)*
                    Self::Unnamed(number) => number,
                }
            }

            /// The value with this number.
            #[must_use]
            pub const fn from_number(number: i64) -> Self {
                match number {
                    #(#numbers => Self::#names,)*
                    _ => Self::Unnamed(number),
                }
            }
        }

        impl ::std::default::Default for #name {
            fn default() -> Self {
                #default
            }
        }

        impl ::std::fmt::Display for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self {
                    #(Self::#names => f.pad(#words),)*
                    Self::Unnamed(number) => f.pad(&::std::format!("{}{number}{}", #open, #close)),
                }
            }
        }

        impl ::std::str::FromStr for #name {
            type Err = ::resource::yaml::YamlError;
            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                match text {
                    #(#words => Ok(Self::#names),)*
                    _ => ::resource::__private::number_in_parentheses(text, #text, &[#(#words),*]).map(Self::from_number),
                }
            }
        }

        impl ::resource::__private::Numbered for #name {
            fn to_number(&self) -> i64 {
                self.number()
            }
            fn of_number(number: i64) -> Self {
                Self::from_number(number)
            }
        }

        ::resource::__numbered_field!(#name);
    })
}

pub(crate) fn text_flags(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !attr.is_empty() {
        return Err(Error::new_spanned(attr, "text_flags takes no arguments"));
    }
    let item: ItemEnum = parse2(item)?;
    let variants = variants(&item)?;
    let (attrs, vis, name) = (&item.attrs, &item.vis, &item.ident);
    let text = name.to_string();
    let words: Vec<&str> = variants.iter().map(|variant| variant.word.as_str()).collect();
    let mut bits: Vec<u32> = Vec::new();
    let mut constants: Vec<TokenStream> = Vec::new();
    for variant in &variants {
        let bit = u32::try_from(variant.number).ok().filter(|bit| bit.is_power_of_two());
        let bit = bit.ok_or_else(|| Error::new(variant.name.span(), "a flag is a single bit of 32: 1, 2, 4, …"))?;
        let constant = format_ident!("{}", screaming_case(&variant.name.to_string()));
        let doc = format!("`{}`.", variant.word);
        constants.push(quote! { #[doc = #doc] pub const #constant: Self = Self(#bit); });
        bits.push(bit);
    }
    Ok(quote! {
        #(#attrs)*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #vis struct #name(pub u32);

        impl #name {
            #(#constants)*
            const WORDS: &'static [(u32, &'static str)] = &[#((#bits, #words)),*];

            /// Whether all of these flags are set.
            #[must_use]
            pub const fn contains(self, flags: Self) -> bool {
                self.0 & flags.0 == flags.0
            }
        }

        impl ::std::ops::BitOr for #name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl ::std::ops::BitOrAssign for #name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        impl ::std::fmt::Display for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(&::resource::__private::flag_words(self.0, Self::WORDS))
            }
        }

        impl ::std::str::FromStr for #name {
            type Err = ::resource::yaml::YamlError;
            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                ::resource::__private::flags_of_words(text, #text, Self::WORDS).map(Self)
            }
        }

        impl ::resource::__private::Numbered for #name {
            fn to_number(&self) -> i64 {
                i64::from(self.0)
            }
            fn of_number(number: i64) -> Self {
                Self(u32::try_from(number & 0xffff_ffff).unwrap_or_default())
            }
        }

        ::resource::__numbered_field!(#name);
    })
}

/// `PointToPoint` → `POINT_TO_POINT`.
fn screaming_case(name: &str) -> String {
    let mut out = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_uppercase() && index > 0 {
            out.push('_');
        }
        out.extend(c.to_uppercase());
    }
    out
}
