//! From a compiled macro call to Rust items.
//!
//! Invariant: paths are absolute, and every name that the user gave keeps the user's span.

use attn_dsl::syntax::ast::{Axis, AxisKind, Name, Parameter, Variant};
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote;

pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let compiled = attn_dsl::compile_tokens(input);
    let errors = compiled.error.as_ref().map(syn::Error::to_compile_error);
    let items = compiled.variants.iter().map(|variant| item(variant, compiled.error.is_none()));
    quote! { #errors #(#items)* }
}

/// The identifier of a name; `None` for a name that was reported because no struct can have it.
fn ident(name: &Name) -> Option<Ident> {
    let plain = name.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let valid = plain && syn::parse_str::<Ident>(&name.text).is_ok();
    valid.then(|| Ident::new(&name.text, name.span.start()))
}

fn item(variant: &Variant, correct: bool) -> Option<TokenStream> {
    let name = ident(&variant.name)?;
    let (attributes, visibility) = (&variant.attributes, &variant.visibility);
    let docs = docs(&variant.docs);
    let parameters: Vec<(Ident, &Parameter)> =
        variant.parameters.iter().filter_map(|p| Some((ident(&p.name)?, p))).collect();
    let fields = parameters.iter().map(|(name, parameter)| field(name, parameter));
    let implementation = implementation(variant, &name, &parameters, correct);
    Some(quote! {
        #docs
        #(#attributes)*
        #visibility struct #name {
            #(#fields),*
        }
        #implementation
    })
}

fn docs(lines: &[String]) -> TokenStream {
    lines.iter().map(|line| quote! { #[doc = #line] }).collect()
}

fn field(name: &Ident, parameter: &Parameter) -> TokenStream {
    let docs = docs(&parameter.docs);
    // Fields without documentation of their own would warn in the user's crate.
    let axes: Vec<_> = parameter
        .axes
        .iter()
        .map(|Axis { kind, .. }| match kind {
            AxisKind::Extent(extent) => extent.to_string(),
            AxisKind::Name(name) => name.clone(),
        })
        .collect();
    let shape = if axes.is_empty() { String::new() } else { format!("[{}]", axes.join(", ")) };
    let learnable = !parameter.constant && parameter.element.as_str() == "f32";
    let role = if learnable { "learnable" } else { "constant" };
    let kind = format!(" `{}{shape}`, {role}.", parameter.element.as_str());
    let gap = (!parameter.docs.is_empty()).then(|| quote! { #[doc = ""] });
    let element = Ident::new(parameter.element.as_str(), Span::mixed_site());
    let rank = Literal::usize_unsuffixed(parameter.axes.len());
    quote! {
        #docs
        #gap
        #[doc = #kind]
        pub #name: ::attn::Parameter<::core::primitive::#element, #rank>
    }
}

fn implementation(variant: &Variant, name: &Ident, parameters: &[(Ident, &Parameter)], correct: bool) -> TokenStream {
    let names = parameters.iter().map(|(name, _)| name);
    let texts = parameters.iter().map(|(_, parameter)| &parameter.name.text);
    let text = if correct { attn_dsl::syntax::print(variant) } else { String::new() };
    quote! {
        #[automatically_derived]
        impl ::attn::Variant for #name {
            const TEXT: &'static str = #text;

            fn definition() -> &'static ::attn::Definition {
                static DEFINITION: ::std::sync::OnceLock<::attn::Definition> = ::std::sync::OnceLock::new();
                DEFINITION.get_or_init(|| {
                    ::std::result::Result::expect(
                        ::attn::compile_one(<Self as ::attn::Variant>::TEXT),
                        "the macro compiled this text before",
                    )
                })
            }

            fn parameters(&self) -> ::attn::Parameters {
                ::attn::Parameters::new()#(.with(#texts, &self.#names))*
            }
        }
    }
}
