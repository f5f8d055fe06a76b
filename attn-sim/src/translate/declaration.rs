//! Declarations of shared memory, and kernels.
//!
//! ```text
//! extern __shared__ T name[];      ->  T* name = (T*)attn_sim::dynamic_shared();
//! __shared__ T name[2][3], other;  ->  typedef T ...; array& name = *(array*)attn_sim::static_shared(0, ...); ...
//! ```
//!
//! Invariants: static variables are numbered from 0 in the order of the text.

use std::fmt::Write;

use super::error::TranslateError;
use super::scan::{Kind, Token};
use super::statement::{close, join};

/// A declaration in other words.
#[derive(Debug)]
pub(crate) struct Declaration {
    /// The first token of the declaration.
    pub(crate) first: usize,
    pub(crate) text: String,
    /// The index of the token after its semicolon.
    pub(crate) next: usize,
}

const SPECIFIERS: &[&str] = &["extern", "static", "__shared__", "__device__"];

/// Rewrites the declaration that has `__shared__` at `at`; `variables` counts static ones.
pub(crate) fn shared(tokens: &[Token], at: usize, variables: &mut u32) -> Result<Declaration, TranslateError> {
    let line = tokens[at].line;
    let unsupported = |reason: &str| TranslateError::Unsupported { line, reason: reason.into() };
    let mut first = at;
    while first > 0
        && (SPECIFIERS.contains(&tokens[first - 1].text) || ["volatile", "const"].contains(&tokens[first - 1].text))
    {
        first -= 1;
    }
    let mut end = at;
    while end < tokens.len() && !tokens[end].is(";") {
        end = match tokens[end].text {
            "(" | "[" | "{" if tokens[end].kind == Kind::Punctuation => {
                close(tokens, end).ok_or_else(|| unsupported("the declaration of shared memory has no end"))?
            }
            "=" => return Err(unsupported("shared memory can't be initialised")),
            _ => end + 1,
        };
    }
    let mut dynamic = false;
    let mut alignment = String::from("1");
    let mut rest = vec![];
    let mut index = first;
    while index < end {
        let token = tokens[index];
        match token.text {
            "extern" => dynamic = true,
            "__align__" | "alignas" if tokens.get(index + 1).is_some_and(|open| open.is("(")) => {
                let after = close(tokens, index + 1).ok_or_else(|| unsupported("the alignment has no end"))?;
                alignment = format!("({})", join(&tokens[index + 2..after - 1]));
                index = after;
                continue;
            }
            word if SPECIFIERS.contains(&word) => {}
            _ => rest.push(token),
        }
        index += 1;
    }
    let (ty, declarators) =
        declarators(&rest).ok_or_else(|| unsupported("this declaration of shared memory is not understood"))?;
    let mut text = String::new();
    if dynamic {
        let [(name, dimensions)] = declarators.as_slice() else {
            return Err(unsupported("dynamic shared memory is one array"));
        };
        if !dimensions.starts_with("[]") && !dimensions.starts_with("[ ]") {
            return Err(unsupported("dynamic shared memory is an array without an extent"));
        }
        let inner = dimensions[dimensions.find(']').map_or(0, |end| end + 1)..].trim();
        let number = *variables;
        *variables += 1;
        write!(
            text,
            "typedef {ty} attn_sim_type_{number}; typedef attn_sim_type_{number} attn_sim_array_{number}{inner}; "
        )
        .expect("writing to a string");
        write!(text, "attn_sim_array_{number}* {name} = (attn_sim_array_{number}*)attn_sim::dynamic_shared();")
            .expect("writing to a string");
    } else {
        for (index, (name, dimensions)) in declarators.iter().enumerate() {
            let number = *variables;
            *variables += 1;
            let base = number - index as u32;
            if index == 0 {
                write!(text, "typedef {ty} attn_sim_type_{number}; ").expect("writing to a string");
            }
            write!(text, "typedef attn_sim_type_{base} attn_sim_array_{number}{dimensions}; ")
                .expect("writing to a string");
            write!(
                text,
                "attn_sim_array_{number}& {name} = *(attn_sim_array_{number}*)attn_sim::static_shared({number}, sizeof(attn_sim_array_{number}), \
                 (int){alignment} > (int)alignof(attn_sim_array_{number}) ? (int){alignment} : (int)alignof(attn_sim_array_{number})); "
            )
            .expect("writing to a string");
        }
    }
    Ok(Declaration { first, text: text.trim_end().to_owned(), next: end + 1 })
}

/// The type, and each name with its dimensions.
fn declarators(tokens: &[Token]) -> Option<(String, Vec<(String, String)>)> {
    let mut angle = 0i32;
    let mut name = None;
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "<" => angle += 1,
            ">" => angle -= 1,
            "[" | "," if angle == 0 => {
                name = Some(index.checked_sub(1)?);
                break;
            }
            _ => {}
        }
    }
    let first = name.unwrap_or(tokens.len().checked_sub(1)?);
    if first == 0 || tokens[first].kind != Kind::Identifier {
        return None;
    }
    let ty = join(&tokens[..first]);
    let mut list = vec![];
    let mut index = first;
    loop {
        let name = tokens.get(index).filter(|token| token.kind == Kind::Identifier)?;
        let start = index + 1;
        index = start;
        while tokens.get(index).is_some_and(|token| token.is("[")) {
            index = close(tokens, index)?;
        }
        list.push((name.text.to_owned(), join(&tokens[start..index])));
        match tokens.get(index) {
            None => return Some((ty, list)),
            Some(comma) if comma.is(",") => index += 1,
            Some(_) => return None,
        }
    }
}

/// A kernel with a body.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    /// The index of the brace that closes its body.
    pub(crate) last: usize,
}

/// The function that `__global__` at `at` defines, if it has C linkage.
pub(crate) fn kernel(tokens: &[Token], at: usize) -> Option<Kernel> {
    let c = at >= 2 && tokens[at - 1].text == "\"C\"" && tokens[at - 2].is("extern");
    let mut index = at + 1;
    while c && index < tokens.len() {
        let token = &tokens[index];
        if token.is(";") || token.is("{") {
            return None;
        }
        if tokens.get(index + 1).is_some_and(|open| open.is("(")) && token.kind == Kind::Identifier {
            let after = close(tokens, index + 1)?;
            if !matches!(token.text, "__launch_bounds__" | "__cluster_dims__" | "__maxnreg__" | "__align__") {
                tokens.get(after).filter(|body| body.is("{"))?;
                return Some(Kernel { name: token.text.to_owned(), last: close(tokens, after)? - 1 });
            }
            index = after;
            continue;
        }
        index += 1;
    }
    None
}
