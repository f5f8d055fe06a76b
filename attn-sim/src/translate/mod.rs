//! CUDA text to C++ text with the same lines.
//!
//! What C++ can't say is rewritten in place: asm statements ([`asm`]), shared memory ([`declaration`]); the rest of CUDA's
//! language is macros and functions of the headers in `host/device`.
//!
//! ```text
//! text -> scan (tokens) -> statement (operands, template) -> ptx (instructions) -> instruction (C++ of each) -> asm (one block)
//! ```
//!
//! Invariants: line n of the result is line n of the source; nothing is skipped silently.

mod asm;
mod declaration;
mod error;
mod instruction;
mod ptx;
mod scan;
mod statement;

pub(crate) use error::TranslateError;

use scan::{Kind, Token, scan};

/// The C++ text of a CUDA text.
#[derive(Debug)]
pub(crate) struct Translation {
    pub(crate) text: String,
    /// The names of `extern "C" __global__` functions that have a body, in order. The preprocessor may remove some.
    pub(crate) entries: Vec<String>,
}

/// Translates a whole source.
pub(crate) fn translate(source: &str) -> Result<Translation, TranslateError> {
    let tokens = scan(source)?;
    let mut writer = Writer { source, text: String::with_capacity(source.len() * 2), copied: 0 };
    let mut kernels: Vec<declaration::Kernel> = vec![];
    let (mut depth, mut variables) = (0usize, 0);
    let mut index = 0;
    while index < tokens.len() {
        let token = tokens[index];
        let mut next = index + 1;
        match (token.kind, token.text) {
            (Kind::Punctuation, "{") if !token.in_directive => depth += 1,
            (Kind::Punctuation, "}") if !token.in_directive => {
                depth = depth.saturating_sub(1);
                // right behind the kernel, so that what removes the one removes the other
                if let Some(kernel) = kernels.last().filter(|kernel| kernel.last == index) {
                    writer.insert(token.end(), &format!(" ATTN_SIM_ENTRY({})", kernel.name));
                }
            }
            (Kind::Punctuation, "#") if token.in_directive => {
                next = directive(&tokens, index, &mut writer)?;
            }
            (Kind::Identifier, "asm" | "__asm__" | "__asm") => {
                let statement = statement::parse(&tokens, index)?;
                writer.replace(&tokens, index, statement.next, &asm::render(&statement)?);
                next = statement.next;
            }
            (Kind::Identifier, "__shared__") => {
                if depth == 0 {
                    return Err(TranslateError::Unsupported {
                        line: token.line,
                        reason: "shared memory must be declared in the kernel that uses it".into(),
                    });
                }
                let declaration = declaration::shared(&tokens, index, &mut variables)?;
                writer.replace(&tokens, declaration.first, declaration.next, &declaration.text);
                next = declaration.next;
            }
            (Kind::Identifier, "__global__") => {
                kernels.extend(declaration::kernel(&tokens, index));
            }
            _ => {}
        }
        index = next;
    }
    writer.copy_to(source.len());
    let mut entries: Vec<String> = vec![];
    for kernel in kernels {
        if !entries.contains(&kernel.name) {
            entries.push(kernel.name);
        }
    }
    Ok(Translation { text: writer.text, entries })
}

/// Refuses headers and drops pragmas that only NVIDIA's compiler knows. Gives the index of the next token to look at.
fn directive(tokens: &[Token], index: usize, writer: &mut Writer) -> Result<usize, TranslateError> {
    let line = tokens[index].line;
    match tokens.get(index + 1).map(|token| token.text) {
        Some("include") => Err(TranslateError::Unsupported {
            line,
            reason:
                "a simulated kernel can't include headers: it has CUDA's built-in functions and types, and nothing else"
                    .into(),
        }),
        Some("pragma") if tokens.get(index + 2).is_some_and(|word| is_nvidia_only(word.text)) => {
            let rest = tokens[index..].iter().take_while(|token| token.in_directive && token.line == line).count();
            writer.replace(tokens, index, index + rest, "");
            Ok(index + rest)
        }
        _ => Ok(index + 1),
    }
}

fn is_nvidia_only(pragma: &str) -> bool {
    matches!(pragma, "unroll" | "nounroll") || pragma.starts_with("nv_")
}

/// The text so far.
struct Writer<'a> {
    source: &'a str,
    text: String,
    copied: usize,
}

impl Writer<'_> {
    fn copy_to(&mut self, end: usize) {
        if end > self.copied {
            self.text.push_str(&self.source[self.copied..end]);
            self.copied = end;
        }
    }

    /// Writes `text` behind what ends at `end`.
    fn insert(&mut self, end: usize, text: &str) {
        self.copy_to(end);
        self.text.push_str(text);
    }

    /// Writes `text` and as many line ends as there were instead of the tokens `[first, next)`.
    fn replace(&mut self, tokens: &[Token], first: usize, next: usize, text: &str) {
        let (start, end) = (tokens[first].start, tokens[next - 1].end());
        self.copy_to(start);
        self.text.push_str(text);
        let line_end = if tokens[first].in_directive { "\\\n" } else { "\n" };
        let lines = self.source[start..end].matches('\n').count();
        (0..lines).for_each(|_| self.text.push_str(line_end));
        self.copied = end;
    }
}

#[cfg(test)]
mod tests;
