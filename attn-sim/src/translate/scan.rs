//! Tokens of CUDA text.
//!
//! Invariants: tokens come in the order of the text and don't overlap; what lies between two of them is space, comments and
//! spliced line ends; a token knows its line and whether it belongs to a preprocessor directive.

use super::error::TranslateError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Identifier,
    Number,
    /// A string literal, with its prefix and quotes.
    String,
    Character,
    /// One character.
    Punctuation,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) start: usize,
    pub(crate) line: u32,
    pub(crate) in_directive: bool,
}

impl Token<'_> {
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text && self.kind != Kind::String && self.kind != Kind::Character
    }
}

struct Scanner<'a> {
    source: &'a str,
    at: usize,
    line: u32,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Steps over `bytes` and counts lines.
    fn skip(&mut self, bytes: usize) -> &'a str {
        let text = &self.rest()[..bytes];
        self.line += text.matches('\n').count() as u32;
        self.at += bytes;
        text
    }

    fn unfinished(&self, what: &str) -> TranslateError {
        TranslateError::Unsupported { line: self.line, reason: format!("{what} has no end") }
    }

    /// The bytes of a literal that starts here with `quote`.
    fn quoted(&self, quote: char, from: usize) -> Option<usize> {
        let mut characters = self.rest()[from..].char_indices().skip(1);
        while let Some((offset, character)) = characters.next() {
            match character {
                '\\' => _ = characters.next(),
                '\n' => return None,
                _ if character == quote => return Some(from + offset + 1),
                _ => {}
            }
        }
        None
    }

    /// The bytes of a raw string `R"delimiter(...)delimiter"` whose prefix has `prefix` bytes.
    fn raw(&self, prefix: usize) -> Option<usize> {
        let body = &self.rest()[prefix + 1..];
        let open = body.find('(')?;
        let close = format!("){}\"", &body[..open]);
        let end = body.find(&close)?;
        Some(prefix + 1 + end + close.len())
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '$' || !character.is_ascii()
}

/// Splits the text into tokens.
pub(crate) fn scan(source: &str) -> Result<Vec<Token<'_>>, TranslateError> {
    let mut scanner = Scanner { source, at: 0, line: 1 };
    let mut tokens: Vec<Token> = vec![];
    let mut in_directive = false;
    let mut line_start = true;
    while let Some(first) = scanner.rest().chars().next() {
        let rest = scanner.rest();
        if first == '\n' {
            (in_directive, line_start) = (false, true);
            scanner.skip(1);
            continue;
        }
        if rest.starts_with("\\\n") || rest.starts_with("\\\r\n") {
            scanner.skip(rest.find('\n').map_or(1, |end| end + 1));
            continue;
        }
        if first.is_whitespace() {
            scanner.skip(first.len_utf8());
            continue;
        }
        if rest.starts_with("//") {
            scanner.skip(rest.find('\n').unwrap_or(rest.len()));
            continue;
        }
        if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or_else(|| scanner.unfinished("this comment"))?;
            scanner.skip(end + 2);
            continue;
        }
        if first == '#' && line_start {
            in_directive = true;
            let word = rest[1..].trim_start();
            // what follows these isn't C++
            if word.starts_with("error") || word.starts_with("warning") {
                scanner.skip(rest.find('\n').unwrap_or(rest.len()));
                continue;
            }
        }
        line_start = false;
        let (kind, length) =
            if first.is_ascii_digit() || first == '.' && rest[1..].starts_with(|next: char| next.is_ascii_digit()) {
                (Kind::Number, number_length(rest))
            } else if first == '"' {
                (Kind::String, scanner.quoted('"', 0).ok_or_else(|| scanner.unfinished("this string"))?)
            } else if first == '\'' {
                (Kind::Character, scanner.quoted('\'', 0).ok_or_else(|| scanner.unfinished("this character"))?)
            } else if is_word(first) {
                let length = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
                match (&rest[..length], rest[length..].starts_with('"')) {
                    ("R" | "u8R" | "uR" | "UR" | "LR", true) => {
                        (Kind::String, scanner.raw(length).ok_or_else(|| scanner.unfinished("this raw string"))?)
                    }
                    ("u8" | "u" | "U" | "L", true) => {
                        (Kind::String, scanner.quoted('"', length).ok_or_else(|| scanner.unfinished("this string"))?)
                    }
                    _ => (Kind::Identifier, length),
                }
            } else {
                (Kind::Punctuation, first.len_utf8())
            };
        let (start, line) = (scanner.at, scanner.line);
        let text = scanner.skip(length);
        tokens.push(Token { kind, text, start, line, in_directive });
    }
    Ok(tokens)
}

/// Digits, letters, dots, digit separators and the sign of an exponent.
fn number_length(text: &str) -> usize {
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let mut previous = ' ';
    for (offset, character) in text.char_indices() {
        let exponent = if hexadecimal { matches!(previous, 'p' | 'P') } else { matches!(previous, 'e' | 'E') };
        let separator = character == '\'' && text[offset + 1..].starts_with(|next: char| next.is_ascii_alphanumeric());
        let sign = exponent && matches!(character, '+' | '-');
        if !(character.is_ascii_alphanumeric() || character == '.' || character == '_' || separator || sign) {
            return offset;
        }
        previous = character;
    }
    text.len()
}

/// What a string literal says, with the offset in the literal of every byte.
pub(crate) fn unquote(literal: &str) -> Option<Vec<(char, usize)>> {
    let quote = literal.find('"')?;
    let mut decoded = vec![];
    if literal[..quote].ends_with('R') {
        let open = literal.find('(')?;
        let close = literal.rfind(')')?;
        decoded.extend(literal[open + 1..close].char_indices().map(|(offset, c)| (c, open + 1 + offset)));
        return Some(decoded);
    }
    let body = &literal[..literal.len() - 1];
    let mut characters = body.char_indices().skip_while(|&(offset, _)| offset <= quote);
    while let Some((offset, character)) = characters.next() {
        if character != '\\' {
            decoded.push((character, offset));
            continue;
        }
        match characters.next()?.1 {
            'n' => decoded.push(('\n', offset)),
            't' => decoded.push(('\t', offset)),
            'r' => decoded.push(('\r', offset)),
            '\n' => {}
            same @ ('\\' | '"' | '\'' | '?') => decoded.push((same, offset)),
            _ => return None,
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        scan(source).unwrap().iter().map(|token| token.text).collect()
    }

    #[test]
    fn tokens_skip_comments_and_keep_literals_whole() {
        assert_eq!(
            texts("a/*b\"*/c // d\n+ \"x\\\"//\" '\\'' 0x1p-3f 1'000 1e+5f R\"q(\")\")q\""),
            ["a", "c", "+", "\"x\\\"//\"", "'\\''", "0x1p-3f", "1'000", "1e+5f", "R\"q(\")\")q\""]
        );
        assert_eq!(texts("x-1 a[0].b 3.f"), ["x", "-", "1", "a", "[", "0", "]", ".", "b", "3.f"]);
    }

    #[test]
    fn directives_run_to_the_end_of_spliced_lines() {
        let tokens = scan("#define A asm \\\n (x)\nb").unwrap();
        let flags: Vec<_> = tokens.iter().map(|token| (token.text, token.line, token.in_directive)).collect();
        assert_eq!(flags[2], ("A", 1, true));
        assert_eq!(flags[4], ("(", 2, true));
        assert_eq!(flags[7], ("b", 3, false));
        assert!(scan("#error don't\nint x;").is_ok());
    }

    #[test]
    fn literals_without_end_are_named() {
        assert!(scan("int a;\n\"x").unwrap_err().to_string().contains("kernel.cu:2"));
        assert!(scan("/* x").is_err());
    }

    #[test]
    fn strings_decode() {
        let text = |literal| unquote(literal).unwrap().into_iter().map(|(c, _)| c).collect::<String>();
        assert_eq!(text("\"a\\n\\tb\\\\\""), "a\n\tb\\");
        assert_eq!(text("R\"(a\\n)\""), "a\\n");
        assert_eq!(unquote("\"\\x41\""), None);
    }
}
