//! The items of an input: `struct` after `struct`, each with documentation, visibility and a name.
//!
//! Invariant: what cannot be read is reported once and skipped up to the next item.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Ident, Token, Visibility};

use super::ast::{Name, Variant};
use super::{Span, fields, limits};
use crate::diagnostics::{Code, Problem, Problems};

pub(super) const SHAPE: &str = "a variant is `pub struct Name { cap: f32, score: |s| cap * tanh(s / cap), mask: causal }`; \
                                every field may be left out";

pub(super) fn parse(tokens: TokenStream, problems: &mut Problems) -> Vec<Variant> {
    let tokens = match limits::prepare(tokens) {
        Ok(tokens) => tokens,
        Err(problem) => {
            problems.push(problem);
            return vec![];
        }
    };
    if tokens.is_empty() {
        problems.push(Problem::new(Code::Syntax, "there is no variant here", Span::nowhere()).help(SHAPE));
        return vec![];
    }
    let mut variants: Vec<Variant> = vec![];
    let parser = |input: ParseStream| {
        while !input.is_empty() {
            match item(input, problems) {
                Ok(variant) => {
                    match variants.iter().find(|v| v.name.text == variant.name.text && !v.name.text.is_empty()) {
                        Some(first) => problems.push(
                            Problem::new(
                                Code::Duplicate,
                                format!("two variants are called `{}`", variant.name.text),
                                variant.name.span,
                            )
                            .also(first.name.span, "the first one")
                            .help("rename one of them"),
                        ),
                        None => variants.push(variant),
                    }
                }
                Err(error) => {
                    syntax(error, SHAPE, problems);
                    skip(input);
                }
            }
        }
        Ok(())
    };
    if let Err(error) = parser.parse2(tokens) {
        syntax(error, SHAPE, problems);
    }
    variants
}

/// Reports what syn found.
pub(super) fn syntax(error: syn::Error, help: &str, problems: &mut Problems) {
    for error in error {
        problems.push(Problem::new(Code::Syntax, error.to_string(), Span::token(error.span())).help(help));
    }
}

/// Skips to behind the next braces or `;`.
fn skip(input: ParseStream) {
    while let Ok(token) = input.parse::<TokenTree>() {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
            TokenTree::Punct(punct) if punct.as_char() == ';' => break,
            _ => {}
        }
    }
}

fn item(input: ParseStream, problems: &mut Problems) -> syn::Result<Variant> {
    let (docs, attributes) = split_docs(input.call(Attribute::parse_outer)?);
    let visibility: Visibility = input.parse()?;
    let keyword: Token![struct] = input.parse()?;
    let name = if input.peek(Ident::peek_any) {
        let ident = input.call(Ident::parse_any)?;
        Name { text: ident.to_string(), span: Span::token(ident.span()) }
    } else {
        problems.push(
            Problem::new(Code::Syntax, "the variant has no name", Span::token(keyword.span))
                .help("write `struct Name { ... }`"),
        );
        Name { text: String::new(), span: Span::token(keyword.span) }
    };
    let mut variant = Variant {
        attributes,
        docs,
        visibility,
        name,
        parameters: vec![],
        score: None,
        activation: None,
        normalizer: None,
        keep: None,
        post: None,
        mask: None,
        feature: None,
        feature_q: None,
        feature_k: None,
    };
    if input.peek(Token![<]) {
        problems.push(
            Problem::new(Code::Unsupported, "a variant takes no generic parameters", Span::token(input.span()))
                .help("dtype, head dimension and lengths are chosen when the variant is compiled; remove `<...>`"),
        );
        while !input.is_empty() && !input.peek(syn::token::Brace) && !input.peek(Token![;]) {
            input.parse::<TokenTree>()?;
        }
    }
    if input.peek(Token![;]) {
        input.parse::<Token![;]>()?;
        return Ok(variant);
    }
    match input.parse::<TokenTree>()? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
            fields::parse(group.stream(), &mut variant, problems);
            Ok(variant)
        }
        other => Err(syn::Error::new(other.span(), "expected `{` and the fields of the variant")),
    }
}

/// Documentation lines, and the attributes that are none.
pub(super) fn split_docs(attributes: Vec<Attribute>) -> (Vec<String>, Vec<Attribute>) {
    let mut docs = vec![];
    let mut others = vec![];
    for attribute in attributes {
        match &attribute.meta {
            syn::Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => {
                    let text = text.value().replace('\r', "");
                    docs.extend(text.split('\n').map(str::to_owned));
                }
                // `#[doc = include_str!(...)]` has no text yet; a macro passes it on.
                _ => others.push(attribute),
            },
            _ => others.push(attribute),
        }
    }
    (docs, others)
}
