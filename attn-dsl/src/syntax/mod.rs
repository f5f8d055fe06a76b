//! From macro tokens or text to a syntax tree, and back to canonical text.
//!
//! One parser serves the macro and text files. It goes field by field: what is wrong in one field is reported and the
//! others are still read, so that one run reports everything.
//!
//! Invariant: parsing never panics, whatever the input; see [`limits`] for what it refuses by size.

pub mod ast;
mod expression;
mod fields;
mod items;
pub mod limits;
mod print;
mod span;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;

pub use print::{expression as print_expression, print};
pub use span::Span;

use crate::diagnostics::{Code, Problem, Problems};

/// Reads every `struct` item of a text. What is wrong goes to `problems`.
///
/// Places in the tree belong to this thread's record of texts: use the tree on the thread that parsed it.
pub(crate) fn parse_text(source: &str, problems: &mut Problems) -> Vec<ast::Variant> {
    match lex(source, problems) {
        Some(tokens) => parse_tokens(tokens, problems),
        None => vec![],
    }
}

/// Reads every `struct` item of a token stream. What is wrong goes to `problems`.
pub(crate) fn parse_tokens(tokens: TokenStream, problems: &mut Problems) -> Vec<ast::Variant> {
    items::parse(tokens, problems)
}

/// Reads the value of a `mask` field.
pub(crate) fn parse_mask(source: &str, problems: &mut Problems) -> Option<ast::Expr> {
    let tokens = match limits::prepare_expression(lex(source, problems)?) {
        Ok(tokens) => tokens,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut nodes = 0;
    Some(fields::field_value("mask", tokens, proc_macro2::Span::call_site(), &mut nodes, problems))
}

fn lex(source: &str, problems: &mut Problems) -> Option<TokenStream> {
    if source.len() > limits::MAX_TEXT {
        problems.push(
            Problem::new(
                Code::TooLarge,
                format!("{} bytes of text; at most {} are read", source.len(), limits::MAX_TEXT),
                Span::nowhere(),
            )
            .help("split the file into several"),
        );
        return None;
    }
    match source.parse::<TokenStream>() {
        Ok(tokens) => Some(tokens),
        Err(error) => {
            problems.push(
                Problem::new(Code::Syntax, "a bracket or a quote without its partner, or a character that starts nothing", Span::token(error.span()))
                    .help("the text is read as Rust tokens: close every bracket and comment, and use no quotes but in `#[...]`"),
            );
            None
        }
    }
}
