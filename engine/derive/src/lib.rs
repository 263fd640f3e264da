//! `#[derive(Inputs)]`: a controller's inputs as a struct that is the data read.
//!
//! Each field is one input. Its type says what is read (`Many<T>` or `One<T>`, whatever implements `engine::InputField`), its
//! `#[input(…)]` attribute says where and how. The macro writes the two methods of `engine::Inputs` and nothing else; every check that
//! needs types is left to the compiler, every check that needs the graph to the runtime.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Expr, Field, Fields, parse_macro_input};

/// Derives `engine::Inputs` for a struct with named fields.
///
/// The attribute of a field, `#[input(…)]`, takes, each at most once:
///
/// | key | meaning |
/// |---|---|
/// | `namespace = "…"` | the namespace to read; without it the kind's default namespace |
/// | `id = "…"` | one resource by id; needed for `One<T>`, refused for `Many<T>` by its type |
/// | `weak` | read only (the default) |
/// | `strong` | keep each item alive, by a finalizer, until the controller has reconciled without it |
/// | `tearing_down` | also show items that are being torn down (they are hidden otherwise) |
/// | `destroy_ready` | show only items that are torn down and free of finalizers |
#[proc_macro_derive(Inputs, attributes(input))]
pub fn derive_inputs(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// What one `#[input(…)]` said.
#[derive(Default)]
struct Attribute {
    namespace: Option<Expr>,
    id: Option<Expr>,
    weak: bool,
    strong: bool,
    tearing_down: bool,
    destroy_ready: bool,
}

impl Attribute {
    fn of(field: &Field) -> syn::Result<Self> {
        let mut found = Self::default();
        for attr in field.attrs.iter().filter(|a| a.path().is_ident("input")) {
            attr.parse_nested_meta(|meta| {
                let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
                let flag = |seen: &mut bool| {
                    let again = std::mem::replace(seen, true);
                    if again { Err(meta.error(format!("`{key}` is given twice"))) } else { Ok(()) }
                };
                match key.as_str() {
                    "namespace" => set(&mut found.namespace, &meta),
                    "id" => set(&mut found.id, &meta),
                    "weak" => flag(&mut found.weak),
                    "strong" => flag(&mut found.strong),
                    "tearing_down" => flag(&mut found.tearing_down),
                    "destroy_ready" => flag(&mut found.destroy_ready),
                    _ => Err(meta.error("expected one of `namespace = …`, `id = …`, `weak`, `strong`, `tearing_down`, `destroy_ready`")),
                }
            })?;
            if found.weak && found.strong {
                return Err(syn::Error::new(attr.span(), "an input is `weak` or `strong`, not both"));
            }
            if found.destroy_ready && (found.strong || found.tearing_down) {
                return Err(syn::Error::new(
                    attr.span(),
                    "`destroy_ready` shows only items that nobody holds any more; `strong` and `tearing_down` do not go with it",
                ));
            }
        }
        Ok(found)
    }
}

fn set(slot: &mut Option<Expr>, meta: &syn::meta::ParseNestedMeta<'_>) -> syn::Result<()> {
    if slot.is_some() {
        return Err(meta.error("is given twice"));
    }
    *slot = Some(meta.value()?.parse()?);
    Ok(())
}

fn expand(input: &DeriveInput) -> syn::Result<Tokens> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new(input.span(), "`Inputs` is derived for a struct: one field per input"));
    };
    let fields = match &data.fields {
        Fields::Named(named) => named.named.iter().collect::<Vec<_>>(),
        Fields::Unit => Vec::new(),
        Fields::Unnamed(_) => {
            return Err(syn::Error::new(data.fields.span(), "`Inputs` needs named fields: their names appear in the graph"));
        }
    };
    let mut declarations = Vec::new();
    let mut reads = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let attribute = Attribute::of(field)?;
        declarations.push(declaration(field, &attribute));
        let (name, ty) = (&field.ident, &field.ty);
        reads.push(quote_spanned!(ty.span()=> #name: <#ty as ::engine::InputField>::read(reader, #index)));
    }
    let (name, (generics, types, bounds)) = (&input.ident, input.generics.split_for_impl());
    Ok(quote! {
        impl #generics ::engine::Inputs for #name #types #bounds {
            fn declare() -> ::std::vec::Vec<::engine::InputDeclaration> {
                ::std::vec![#(#declarations),*]
            }
            fn read(reader: &::engine::Reader<'_>) -> Self {
                let _ = reader;
                Self { #(#reads),* }
            }
        }
    })
}

fn declaration(field: &Field, attribute: &Attribute) -> Tokens {
    let ty = &field.ty;
    let label = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
    let namespace = optional(attribute.namespace.as_ref());
    let id = optional(attribute.id.as_ref());
    let strength = if attribute.strong { quote!(Strong) } else { quote!(Weak) };
    let shown = if attribute.destroy_ready {
        quote!(DestroyReady)
    } else if attribute.tearing_down {
        quote!(All)
    } else {
        quote!(Running)
    };
    quote_spanned! {ty.span()=>
        <#ty as ::engine::InputField>::declare(::engine::FieldOptions {
            field: #label,
            namespace: #namespace,
            id: #id,
            strength: ::engine::Strength::#strength,
            shown: ::engine::Shown::#shown,
        })
    }
}

fn optional(value: Option<&Expr>) -> Tokens {
    match value {
        Some(expr) => quote!(::std::option::Option::Some(#expr)),
        None => quote!(::std::option::Option::None),
    }
}
