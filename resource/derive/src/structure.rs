//! `#[resource]` and `#[message]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;
use syn::{Error, Fields, Ident, ItemStruct, LitInt, Result, parse_quote, parse2};

use crate::attr::{FieldAttr, Kind, camel_case, take_field};

struct Member {
    name: Ident,
    key: String,
    attr: FieldAttr,
}

pub(crate) fn message(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let attr: Kind = parse2(attr)?;
    let mut item: ItemStruct = parse2(item)?;
    let members = members(&mut item)?;
    let implementation = implementation(&item.ident, &members, attr.transparent)?;
    Ok(quote! { #item #implementation })
}

pub(crate) fn resource(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let attr: Kind = parse2(attr)?;
    let mut item: ItemStruct = parse2(item)?;
    let members = members(&mut item)?;
    let name = item.ident.clone();
    let missing = |what: &str| Error::new(name.span(), format!("a resource needs {what} = \"…\""));
    let type_ = attr.type_.as_ref().ok_or_else(|| missing("type"))?;
    let namespace = attr.namespace.as_ref().ok_or_else(|| missing("namespace"))?;
    if !type_.value().starts_with(|c: char| c.is_ascii_uppercase()) || !type_.value().contains('.') {
        return Err(Error::new(type_.span(), "a type name is a plural in CamelCase and a domain, as in \"Links.net.example.org\""));
    }
    let implementation = implementation(&name, &members, attr.transparent)?;
    let (aliases, ids, sensitive, no_automatic_aliases) = (&attr.aliases, &attr.ids, attr.sensitive, attr.no_automatic_aliases);
    let columns = attr.columns.iter().map(|(heading, path)| quote! { ::resource::Column { name: #heading, path: #path } });
    let constants = id_constants(&name, &attr);
    Ok(quote! {
        #item
        #implementation
        #constants
        impl ::resource::Spec for #name {
            const TYPE: &'static str = #type_;
            const NAMESPACE: &'static str = #namespace;
            fn definition() -> &'static ::resource::Definition {
                static DEFINITION: ::resource::__private::OnceLock<::resource::Definition> = ::resource::__private::OnceLock::new();
                DEFINITION.get_or_init(|| ::resource::Definition::new(&::resource::Shape {
                    type_: #type_,
                    namespace: #namespace,
                    aliases: &[#(#aliases),*],
                    no_automatic_aliases: #no_automatic_aliases,
                    columns: &[#(#columns),*],
                    sensitive: #sensitive,
                    ids: &[#(#ids),*],
                }))
            }
            fn encode_proto(&self, out: &mut ::std::vec::Vec<u8>) {
                ::resource::Message::encode_fields(self, out);
            }
            fn decode_proto(bytes: &[u8]) -> ::std::result::Result<Self, ::resource::proto::DecodeError> {
                ::resource::Field::take(::resource::proto::Wire::Bytes(bytes))
            }
            fn encode_yaml(&self, form: ::resource::Form) -> ::resource::yaml::Node {
                ::resource::Field::write_yaml(self, form)
            }
            fn decode_yaml(node: &::resource::yaml::Node) -> ::std::result::Result<Self, ::resource::yaml::YamlError> {
                ::resource::Field::read_yaml(node)
            }
        }
    })
}

/// `ID` for the only well-known id, `ID_X` for each of several.
fn id_constants(name: &Ident, attr: &Kind) -> TokenStream {
    let constants = attr.ids.iter().map(|id| {
        let text = id.value();
        let constant = if attr.ids.len() == 1 {
            format_ident!("ID")
        } else {
            let upper: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            format_ident!("ID_{upper}")
        };
        let doc = format!("The id {text:?}.");
        quote! { #[doc = #doc] pub const #constant: &'static str = #id; }
    });
    if attr.ids.is_empty() {
        TokenStream::new()
    } else {
        quote! { impl #name { #(#constants)* } }
    }
}

/// Reads and removes the field attributes, and adds the derives.
fn members(item: &mut ItemStruct) -> Result<Vec<Member>> {
    if let Some(parameter) = item.generics.params.first() {
        return Err(Error::new_spanned(parameter, "resources and messages have no type parameters"));
    }
    item.attrs.push(parse_quote!(#[derive(Clone, Debug, Default, PartialEq)]));
    let mut members: Vec<Member> = Vec::new();
    match &mut item.fields {
        Fields::Named(fields) => {
            for field in &mut fields.named {
                let attr = take_field(field)?;
                let Some(name) = field.ident.clone() else { continue };
                if let (Some(number), Some(other)) = (&attr.number, members.iter().find(|other| same_number(other, &attr))) {
                    return Err(Error::new(number.span(), format!("`{}` has this number already", other.name)));
                }
                let key = attr.yaml.as_ref().map_or_else(|| camel_case(&name.unraw().to_string()), syn::LitStr::value);
                if let Some(other) = members.iter().find(|other| other.key == key && !attr.inline && !other.attr.inline) {
                    return Err(Error::new(name.span(), format!("`{}` has the YAML key {key:?} already", other.name)));
                }
                // The names of fields are the wire's own; kinds are documented, and whatever else needs words gets them.
                field.attrs.push(parse_quote!(#[allow(missing_docs)]));
                members.push(Member { name, key, attr });
            }
        }
        Fields::Unit => {}
        Fields::Unnamed(fields) => return Err(Error::new_spanned(fields, "fields need names")),
    }
    Ok(members)
}

fn same_number(member: &Member, attr: &FieldAttr) -> bool {
    let digits = |number: &Option<LitInt>| number.as_ref().map(|number| number.base10_digits().to_owned());
    digits(&member.attr.number) == digits(&attr.number)
}

fn implementation(name: &Ident, members: &[Member], transparent: bool) -> Result<TokenStream> {
    let text = name.to_string();
    let names: Vec<&Ident> = members.iter().map(|member| &member.name).collect();
    let numbered: Vec<(&Ident, &LitInt)> =
        members.iter().filter_map(|member| member.attr.number.as_ref().map(|number| (&member.name, number))).collect();
    let encode = numbered.iter().map(|(name, number)| quote! { ::resource::Field::encode(&self.#name, #number, out); });
    let merge = numbered.iter().map(|(name, number)| quote! { #number => ::resource::Field::merge(&mut self.#name, wire), });
    let yaml = members.iter().map(yaml_field);
    let set = members.iter().filter(|member| !member.attr.inline).map(|Member { name, key, .. }| {
        quote! { #key => ::resource::Field::replace_from_yaml(&mut self.#name, node), }
    });
    let set_inline = members.iter().filter(|member| member.attr.inline).map(|Member { name, .. }| {
        quote! { if ::resource::Message::set_yaml(&mut self.#name, key, node)? { return Ok(true); } }
    });
    let whole = if transparent { transparent_forms(name, members)? } else { TokenStream::new() };
    Ok(quote! {
        impl ::resource::Message for #name {
            fn name(&self) -> &'static str {
                #text
            }
            #[allow(unused_variables)]
            fn encode_fields(&self, out: &mut ::std::vec::Vec<u8>) {
                #(#encode)*
            }
            #[allow(unused_variables)]
            fn merge_field(
                &mut self,
                number: u32,
                wire: ::resource::proto::Wire<'_>,
            ) -> ::std::result::Result<(), ::resource::proto::DecodeError> {
                match number {
                    #(#merge)*
                    _ => Ok(()),
                }
            }
            fn all_default(&self) -> bool {
                true #(&& ::resource::Field::is_default(&self.#names))*
            }
            fn all_empty(&self) -> bool {
                true #(&& ::resource::Field::is_empty(&self.#names))*
            }
            #[allow(unused_variables)]
            fn yaml_fields(&self, out: &mut ::resource::yaml::Fields) {
                #(#yaml)*
            }
            #[allow(unused_variables, unreachable_code)]
            fn set_yaml(
                &mut self,
                key: &str,
                node: &::resource::yaml::Node,
            ) -> ::std::result::Result<bool, ::resource::yaml::YamlError> {
                let set: ::std::result::Result<(), ::resource::yaml::YamlError> = match key {
                    #(#set)*
                    _ => {
                        #(#set_inline)*
                        return Ok(false);
                    }
                };
                set.map(|()| true)
            }
            #whole
        }
    })
}

fn yaml_field(Member { name, key, attr }: &Member) -> TokenStream {
    if attr.inline {
        return quote! { ::resource::Message::yaml_fields(&self.#name, out); };
    }
    let method = match (attr.omit_empty, attr.secret) {
        (false, false) => format_ident!("field"),
        (true, false) => format_ident!("optional"),
        (false, true) => format_ident!("secret"),
        (true, true) => format_ident!("optional_secret"),
    };
    quote! { out.#method(#key, &self.#name); }
}

/// A struct whose YAML form is that of its only field.
fn transparent_forms(name: &Ident, members: &[Member]) -> Result<TokenStream> {
    let [Member { name: field, .. }] = members else {
        return Err(Error::new(name.span(), format!("a transparent struct has one field, found {}", members.len())));
    };
    Ok(quote! {
        fn message_to_yaml(&self, form: ::resource::Form) -> ::resource::yaml::Node {
            ::resource::Field::write_yaml(&self.#field, form)
        }
        fn message_from_yaml(&mut self, node: &::resource::yaml::Node) -> ::std::result::Result<(), ::resource::yaml::YamlError> {
            ::resource::Field::replace_from_yaml(&mut self.#field, node)
        }
    })
}
