//! Limits on what is handed to the parser, so that hostile input is refused instead of exhausting the stack or the memory.
//!
//! syn's parser recurses into brackets, prefix operators, `if`, closures, assignments and generics, and has no limit of its
//! own. [`prepare`] therefore walks the tokens first and refuses what nests too deeply.
//! Invariant: on tokens that pass, syn recurses by at most `MAX_NESTING` such constructs, and the trees that it builds are at
//! most `MAX_RUN` operators deep on each level.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

use super::Span;
use crate::diagnostics::{Code, Problem};

/// The largest text, in bytes.
pub const MAX_TEXT: usize = 256 * 1024;
/// The deepest nesting of brackets, prefix operators, `if`s and closures.
pub const MAX_NESTING: usize = 64;
/// The deepest expression tree, which a long chain of operators also makes.
pub const MAX_DEPTH: usize = 200;
/// The most expressions in one variant.
pub const MAX_NODES: usize = 4096;
/// The most tokens of one input.
pub const MAX_TOKENS: usize = 50_000;
/// The most tokens between two separators on one level: a chain of operators is as deep as it is long.
pub const MAX_RUN: usize = 1000;

/// Refuses what nests too deeply, and gives `a[i, j]`, which Rust's grammar lacks, the form `a[(i, j)]` that syn reads.
pub(super) fn prepare(tokens: TokenStream) -> Result<TokenStream, Problem> {
    walk(tokens, 0, &mut 0)
}

/// As [`prepare`], for the tokens of one expression.
pub(super) fn prepare_expression(tokens: TokenStream) -> Result<TokenStream, Problem> {
    walk(tokens, 1, &mut 0)
}

fn too_deep(span: proc_macro2::Span) -> Problem {
    Problem::new(Code::TooLarge, format!("more than {MAX_NESTING} levels of nesting"), Span::token(span))
        .help("give parts of the expression a name with `let`")
}

fn walk(tokens: TokenStream, depth: usize, count: &mut usize) -> Result<TokenStream, Problem> {
    let mut out: Vec<TokenTree> = Vec::new();
    // Constructs open at this place of the group that make the parser recurse until the next `,` or `;`.
    let mut open = 0;
    let mut run = 0;
    for token in tokens {
        *count += 1;
        if *count > MAX_TOKENS {
            return Err(Problem::new(
                Code::TooLarge,
                format!("more than {MAX_TOKENS} tokens"),
                Span::token(token.span()),
            )
            .help("split the input into several"));
        }
        run += 1;
        // Items, on level 0, have no separators; they are read one by one.
        if depth > 0 && run > MAX_RUN {
            return Err(Problem::new(
                Code::TooLarge,
                format!("more than {MAX_RUN} tokens in one expression"),
                Span::token(token.span()),
            )
            .help("give parts of the expression a name with `let`"));
        }
        let after_operand = out.last().is_some_and(is_operand_end);
        match &token {
            TokenTree::Punct(punct) => match punct.as_char() {
                ',' | ';' => (open, run) = (0, 0),
                '<' => open += 1,
                '>' if punct.spacing() == Spacing::Joint => open += 1,
                '=' if !out.last().is_some_and(is_comparison_start) => open += 1,
                '-' | '!' | '&' | '*' | '|' | '.' | '@' | '#' | '\'' if !after_operand => open += 1,
                _ => {}
            },
            TokenTree::Ident(ident) if is_keyword(&ident.to_string()) => open += 1,
            _ => {}
        }
        if depth + open > MAX_NESTING {
            return Err(too_deep(token.span()));
        }
        match token {
            TokenTree::Group(group) => {
                let inner = walk(group.stream(), depth + 1 + open, count)?;
                let indexes = group.delimiter() == Delimiter::Bracket && after_operand;
                out.push(regroup(&group, if indexes { tuple(inner, group.span()) } else { inner }).into());
            }
            token => out.push(token),
        }
    }
    Ok(out.into_iter().collect())
}

fn regroup(group: &Group, stream: TokenStream) -> Group {
    let mut regrouped = Group::new(group.delimiter(), stream);
    regrouped.set_span(group.span());
    regrouped
}

/// `i, j` as `(i, j)`; one index stays as it is.
fn tuple(stream: TokenStream, span: proc_macro2::Span) -> TokenStream {
    let listed = stream.clone().into_iter().any(|token| matches!(&token, TokenTree::Punct(p) if p.as_char() == ','));
    if !listed {
        return stream;
    }
    let mut group = Group::new(Delimiter::Parenthesis, stream);
    group.set_span(span);
    TokenTree::Group(group).into()
}

fn is_operand_end(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(_) | TokenTree::Literal(_) => true,
        TokenTree::Ident(ident) => {
            let word = ident.to_string();
            // names wherever an operand may stand, words of the language elsewhere
            let contextual = matches!(word.as_str(), "raw" | "union" | "macro_rules");
            word != "as" && (contextual || !is_keyword(&word))
        }
        TokenTree::Punct(_) => false,
    }
}

/// The first character of `==`, `!=`, `<=` or `>=`.
fn is_comparison_start(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(p) if p.spacing() == Spacing::Joint && "=!<>".contains(p.as_char()))
}

/// Words after which an operand begins and which make the parser recurse.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "else"
            | "let"
            | "match"
            | "return"
            | "break"
            | "move"
            | "async"
            | "static"
            | "const"
            | "unsafe"
            | "loop"
            | "while"
            | "for"
            | "in"
            | "fn"
            | "impl"
            | "dyn"
            | "mut"
            | "ref"
            | "box"
            | "do"
            | "yield"
            | "become"
            | "try"
            | "raw"
            | "where"
            | "extern"
            | "mod"
            | "trait"
            | "enum"
            | "union"
            | "use"
            | "macro_rules"
    )
}
