//! An asm statement: its template, operands and where they come from.
//!
//! Invariants: operands are numbered as in the template, outputs first; the template is decoded, with the line of every
//! character; clobbers are dropped.

use super::error::TranslateError;
use super::scan::{Kind, Token, unquote};

/// What a constraint letter puts into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letter {
    /// `r`
    Word,
    /// `l`
    Long,
    /// `h`
    Half,
    /// `f`
    Float,
    /// `d`
    Double,
    /// `n`
    Constant,
}

impl Letter {
    fn of(letter: &str) -> Option<Letter> {
        Some(match letter {
            "r" => Letter::Word,
            "l" => Letter::Long,
            "h" => Letter::Half,
            "f" => Letter::Float,
            "d" => Letter::Double,
            "n" => Letter::Constant,
            _ => return None,
        })
    }

    /// As functions of `registers.hpp` are named.
    pub(crate) fn name(self) -> char {
        match self {
            Letter::Word => 'r',
            Letter::Long => 'l',
            Letter::Half => 'h',
            Letter::Float => 'f',
            Letter::Double => 'd',
            Letter::Constant => 'n',
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Argument {
    pub(crate) letter: Letter,
    pub(crate) output: bool,
    /// Whether the old value is read: an input, or an output with `+`.
    pub(crate) input: bool,
    /// `[name]`
    pub(crate) name: Option<String>,
    /// The C++ expression, on one line.
    pub(crate) expression: String,
}

/// `asm volatile("template" : outputs : inputs : clobbers)`.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) line: u32,
    /// Characters with their lines.
    pub(crate) template: Vec<(char, u32)>,
    pub(crate) arguments: Vec<Argument>,
    /// The index of the token after the closing parenthesis.
    pub(crate) next: usize,
}

/// Tokens on one line, with a space where something lay between them.
pub(crate) fn join(tokens: &[Token]) -> String {
    let mut text = String::new();
    for (index, token) in tokens.iter().enumerate() {
        if index > 0 && tokens[index - 1].end() != token.start {
            text.push(' ');
        }
        text.push_str(token.text);
    }
    text
}

/// The index after the bracket that closes the one at `open`.
pub(crate) fn close(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        if token.kind == Kind::Punctuation {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return Some(index + 1);
            }
        }
    }
    None
}

/// Parts between separators outside of brackets.
fn split<'t, 's>(tokens: &'t [Token<'s>], separator: &str) -> Vec<&'t [Token<'s>]> {
    let mut parts = vec![];
    let (mut start, mut index) = (0, 0);
    while index < tokens.len() {
        if tokens[index].kind == Kind::Punctuation && matches!(tokens[index].text, "(" | "[" | "{") {
            index = close(tokens, index).unwrap_or(tokens.len());
            continue;
        }
        if tokens[index].is(separator) {
            parts.push(&tokens[start..index]);
            start = index + 1;
        }
        index += 1;
    }
    parts.push(&tokens[start..]);
    parts
}

/// Reads the statement whose keyword is at `at`.
pub(crate) fn parse(tokens: &[Token], at: usize) -> Result<Statement, TranslateError> {
    let line = tokens[at].line;
    let malformed = |reason: String| TranslateError::MalformedAsm { line, reason };
    let mut open = at + 1;
    while let Some(token) = tokens.get(open).filter(|token| token.kind == Kind::Identifier) {
        match token.text {
            "volatile" | "__volatile__" | "__volatile" | "inline" => open += 1,
            other => return Err(malformed(format!("`asm {other}` is not CUDA; only `asm` and `asm volatile` are"))),
        }
    }
    let next = tokens
        .get(open)
        .filter(|token| token.is("("))
        .and_then(|_| close(tokens, open))
        .ok_or_else(|| malformed("asm needs `(\"template\" : outputs : inputs : clobbers)`".into()))?;
    let sections = split(&tokens[open + 1..next - 1], ":");
    if sections.len() > 4 {
        return Err(malformed("asm has at most a template, outputs, inputs and clobbers".into()));
    }
    let template = template(sections[0])?;
    let mut arguments = vec![];
    for (index, section) in sections.iter().enumerate().skip(1).take(2) {
        if !section.is_empty() {
            for operand in split(section, ",") {
                arguments.push(argument(operand, index == 1).map_err(malformed)?);
            }
        }
    }
    Ok(Statement { line, template, arguments, next })
}

fn template(tokens: &[Token]) -> Result<Vec<(char, u32)>, TranslateError> {
    let mut template = vec![];
    for token in tokens {
        let malformed = |reason: &str| TranslateError::MalformedAsm { line: token.line, reason: reason.into() };
        if token.kind != Kind::String {
            return Err(malformed("the template of asm must consist of string literals, without macros"));
        }
        let characters =
            unquote(token.text).ok_or_else(|| malformed("this escape sequence has no meaning in a template of asm"))?;
        template.extend(
            characters
                .into_iter()
                .map(|(character, offset)| (character, token.line + token.text[..offset].matches('\n').count() as u32)),
        );
    }
    Ok(template)
}

/// `[name] "constraint" (expression)`
fn argument(tokens: &[Token], output: bool) -> Result<Argument, String> {
    let (name, tokens) = match tokens {
        [open, name, close, rest @ ..] if open.is("[") && close.is("]") => (Some(name.text.to_owned()), rest),
        _ => (None, tokens),
    };
    let [constraint, rest @ ..] = tokens else { return Err("an operand of asm is empty".into()) };
    let expression = match rest {
        [open, inner @ .., last] if open.is("(") && last.is(")") && !inner.is_empty() => join(inner),
        _ => return Err(format!("the operand {} needs an expression in parentheses", constraint.text)),
    };
    let text: String =
        unquote(constraint.text).into_iter().flatten().map(|(character, _)| character).filter(|c| *c != '&').collect();
    let (letter, input) = match (output, text.strip_prefix('='), text.strip_prefix('+')) {
        (true, Some(letter), _) => (letter, false),
        (true, _, Some(letter)) => (letter, true),
        (true, None, None) => return Err(format!("the output {} needs `=` or `+`", constraint.text)),
        (false, ..) => (text.as_str(), true),
    };
    match Letter::of(letter) {
        Some(Letter::Constant) if output => Err("a constant is no output".into()),
        Some(letter) => Ok(Argument { letter, output, input, name, expression }),
        None => Err(format!("the constraint {} is none of r, l, h, f, d, n", constraint.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;

    fn parsed(source: &str) -> Result<Statement, TranslateError> {
        parse(&scan(source).unwrap(), 0)
    }

    #[test]
    fn operands_and_template() {
        let statement = parsed(
            "asm volatile(\"a %0;\\n\"\n \"b;\" : \"=f\"(x[f(1, 2)]), [two] \"+r\"(N::y) : \"l\"((a ? b : c)), \"n\"(T::M) : \"memory\");",
        )
        .unwrap();
        let text: String = statement.template.iter().map(|&(character, _)| character).collect();
        assert_eq!(text, "a %0;\nb;");
        assert_eq!(statement.template.last(), Some(&(';', 2)));
        let expressions: Vec<_> = statement.arguments.iter().map(|argument| argument.expression.as_str()).collect();
        assert_eq!(expressions, ["x[f(1, 2)]", "N::y", "(a ? b : c)", "T::M"]);
        assert_eq!(statement.arguments[1].name.as_deref(), Some("two"));
        assert!(statement.arguments[1].input && statement.arguments[1].output);
        assert!(!statement.arguments[0].input);
        assert_eq!(statement.arguments[3].letter, Letter::Constant);
    }

    #[test]
    fn clobbers_only() {
        let statement = parsed("asm(\"x;\" ::: \"memory\")").unwrap();
        assert!(statement.arguments.is_empty());
        assert_eq!(parsed("__asm__ __volatile__(\"x;\")").unwrap().template.len(), 2);
    }

    #[test]
    fn mistakes_are_named() {
        for (source, part) in [
            ("asm(\"x;\" : \"r\"(a))", "needs `=` or `+`"),
            ("asm(\"x;\" :: \"q\"(a))", "none of r, l, h"),
            ("asm(\"x;\" :: \"r\" a)", "in parentheses"),
            ("asm(NAME \"x;\")", "without macros"),
            ("asm goto(\"x;\")", "not CUDA"),
            ("asm(\"x;\" :: \"r\"(a)", "asm needs"),
            ("asm(\"x\\q;\")", "escape"),
        ] {
            let error = parsed(source).unwrap_err().to_string();
            assert!(error.contains(part), "{source}: {error}");
        }
    }
}
