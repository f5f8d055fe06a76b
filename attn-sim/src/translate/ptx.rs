//! The PTX of one asm statement as instructions with resolved operands.
//!
//! Invariants: every register names a C++ variable of the statement's block; labels are unique in the statement; scopes of PTX
//! (`{ }`) are resolved; nothing here knows what an instruction does.

use std::collections::HashMap;

use super::error::TranslateError;
use super::statement::{Letter, Statement};

/// The kind of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Predicate,
    B16,
    B32,
    B64,
    /// A constant of the C++ text.
    Constant,
}

/// One operand, or one element of a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Register {
        /// The C++ variable.
        variable: String,
        class: Class,
        /// The number in the asm statement.
        argument: Option<usize>,
    },
    /// A literal as PTX writes it.
    Number(String),
    /// A label or one of PTX' own registers.
    Name(String),
    /// `_`
    Sink,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Value(Value),
    /// `[base + offset]`
    Address(Value, i64),
    /// `[map, {coordinates}]`
    Tensor(Value, Vec<Value>),
    /// `{a, b}`
    Vector(Vec<Value>),
    /// `a|b`
    Pair(Value, Value),
}

#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) line: u32,
    /// The text, for messages.
    pub(crate) text: String,
    /// The predicate's variable and whether it is negated.
    pub(crate) guard: Option<(String, bool)>,
    pub(crate) opcode: String,
    pub(crate) operands: Vec<Operand>,
}

#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A label's C++ name.
    Label(String),
    Instruction(Instruction),
}

/// What a template consists of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// Declared registers: C++ variables and their classes.
    pub(crate) registers: Vec<(String, Class)>,
    pub(crate) items: Vec<Item>,
}

/// The C++ label for a label of PTX.
pub(crate) fn label(name: &str) -> String {
    format!("attn_sim_to_{}", identifier(name))
}

fn identifier(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Lexeme {
    Word(String),
    Number(String),
    Argument(usize),
    Mark(char),
}

struct Parser<'a> {
    statement: &'a Statement,
    lexemes: Vec<(Lexeme, u32)>,
    at: usize,
    scopes: Vec<HashMap<String, (String, Class)>>,
    body: Body,
}

/// Parses a statement's template.
pub(crate) fn parse(statement: &Statement) -> Result<Body, TranslateError> {
    let lexemes = lex(statement)?;
    let mut parser = Parser { statement, lexemes, at: 0, scopes: vec![HashMap::new()], body: Body::default() };
    while parser.at < parser.lexemes.len() {
        parser.item()?;
    }
    if parser.scopes.len() != 1 {
        return Err(parser.malformed("`{` without `}`"));
    }
    Ok(parser.body)
}

fn lex(statement: &Statement) -> Result<Vec<(Lexeme, u32)>, TranslateError> {
    let characters = &statement.template;
    let mut lexemes = vec![];
    let mut at = 0;
    let get = |index: usize| characters.get(index).map_or('\0', |&(character, _)| character);
    let is_word = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '$');
    while at < characters.len() {
        let (first, line) = characters[at];
        let start = at;
        let malformed = |reason: String| TranslateError::MalformedAsm { line, reason };
        let text = |from: usize, to: usize| characters[from..to].iter().map(|&(c, _)| c).collect::<String>();
        if first.is_whitespace() {
            at += 1;
        } else if first == '/' && get(at + 1) == '/' {
            while at < characters.len() && get(at) != '\n' {
                at += 1;
            }
        } else if first == '/' && get(at + 1) == '*' {
            while at < characters.len() && !(get(at) == '*' && get(at + 1) == '/') {
                at += 1;
            }
            at += 2;
        } else if first == '%' && get(at + 1).is_ascii_digit() {
            at += 1;
            while get(at).is_ascii_digit() {
                at += 1;
            }
            let number = text(start + 1, at).parse().ok().filter(|&number| number < statement.arguments.len());
            let number = number.ok_or_else(|| malformed(format!("asm has no operand {}", text(start, at))))?;
            lexemes.push((Lexeme::Argument(number), line));
        } else if first == '%' && get(at + 1) == '[' {
            while at < characters.len() && get(at) != ']' {
                at += 1;
            }
            let name = text((start + 2).min(at), at);
            let number = statement.arguments.iter().position(|argument| argument.name.as_deref() == Some(&name));
            let number = number.ok_or_else(|| malformed(format!("asm has no operand named {name}")))?;
            lexemes.push((Lexeme::Argument(number), line));
            at += 1;
        } else if first.is_ascii_digit() {
            while get(at).is_ascii_alphanumeric()
                || get(at) == '.'
                || matches!(get(at), '+' | '-') && exponent(&text(start, at))
            {
                at += 1;
            }
            lexemes.push((Lexeme::Number(text(start, at)), line));
        } else if is_word(first) || first == '.' || first == '%' && matches!(get(at + 1), '%' | '=') {
            let mut word = String::new();
            loop {
                match get(at) {
                    character if is_word(character) || character == '.' => word.push(character),
                    ':' if get(at + 1) == ':' => {
                        word.push_str("::");
                        at += 1;
                    }
                    '%' if get(at + 1) == '%' => {
                        word.push('%');
                        at += 1;
                    }
                    // a number that is unique to the statement; so are labels already
                    '%' if get(at + 1) == '=' => {
                        word.push('0');
                        at += 1;
                    }
                    _ => break,
                }
                at += 1;
            }
            lexemes.push((Lexeme::Word(word), line));
        } else if "{}[]()<>,;:|!@+-".contains(first) {
            lexemes.push((Lexeme::Mark(first), line));
            at += 1;
        } else {
            return Err(malformed(format!("`{first}` has no place in PTX here")));
        }
    }
    Ok(lexemes)
}

/// Whether a number that starts like this goes on with the sign of an exponent.
fn exponent(text: &str) -> bool {
    !text.starts_with("0x") && !text.starts_with("0f") && !text.starts_with("0d") && text.ends_with(['e', 'E'])
}

impl Parser<'_> {
    fn line(&self) -> u32 {
        let at = self.at.min(self.lexemes.len().saturating_sub(1));
        self.lexemes.get(at).map_or(self.statement.line, |&(_, line)| line)
    }

    fn malformed(&self, reason: impl Into<String>) -> TranslateError {
        TranslateError::MalformedAsm { line: self.line(), reason: reason.into() }
    }

    fn peek(&self) -> Option<&Lexeme> {
        self.lexemes.get(self.at).map(|(lexeme, _)| lexeme)
    }

    fn take(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(&Lexeme::Mark(mark));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: char) -> Result<(), TranslateError> {
        if self.take(mark) { Ok(()) } else { Err(self.malformed(format!("PTX needs `{mark}` {}", self.here()))) }
    }

    fn here(&self) -> String {
        match self.peek() {
            None => "at the end of the template".into(),
            Some(Lexeme::Word(word)) | Some(Lexeme::Number(word)) => format!("before `{word}`"),
            Some(Lexeme::Argument(number)) => format!("before `%{number}`"),
            Some(Lexeme::Mark(mark)) => format!("before `{mark}`"),
        }
    }

    fn word(&mut self, what: &str) -> Result<String, TranslateError> {
        match self.peek() {
            Some(Lexeme::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.malformed(format!("PTX needs {what} {}", self.here()))),
        }
    }

    fn item(&mut self) -> Result<(), TranslateError> {
        if self.take(';') {
            return Ok(());
        }
        if self.take('{') {
            self.scopes.push(HashMap::new());
            return Ok(());
        }
        if self.take('}') {
            if self.scopes.len() == 1 {
                return Err(self.malformed("`}` without `{`"));
            }
            self.scopes.pop();
            return Ok(());
        }
        let line = self.line();
        let start = self.at;
        let guard = if self.take('@') {
            let negated = self.take('!');
            match self.value()? {
                Value::Register { variable, class: Class::Predicate, .. } => Some((variable, negated)),
                _ => return Err(self.malformed("the guard of an instruction must be a predicate")),
            }
        } else {
            None
        };
        let opcode = self.word("an instruction")?;
        if opcode == ".reg" {
            return self.declaration();
        }
        if opcode.starts_with('.') {
            return Err(self.malformed(format!("the simulator doesn't know the directive `{opcode}`")));
        }
        if guard.is_none() && self.take(':') {
            let name = label(&opcode);
            if self.body.items.iter().any(|item| matches!(item, Item::Label(other) if *other == name)) {
                return Err(self.malformed(format!("the label `{opcode}` is there twice")));
            }
            self.body.items.push(Item::Label(name));
            return Ok(());
        }
        let mut operands = vec![];
        if self.peek() != Some(&Lexeme::Mark(';')) {
            loop {
                operands.push(self.operand()?);
                if !self.take(',') {
                    break;
                }
            }
        }
        let text = self.text(start);
        self.expect(';')?;
        self.body.items.push(Item::Instruction(Instruction { line, text, guard, opcode, operands }));
        Ok(())
    }

    /// The lexemes since `start`, shortened.
    fn text(&self, start: usize) -> String {
        let mut text = String::new();
        for (lexeme, _) in &self.lexemes[start..self.at] {
            match lexeme {
                Lexeme::Word(word) | Lexeme::Number(word) => {
                    if text.ends_with(|last: char| last.is_ascii_alphanumeric()) {
                        text.push(' ');
                    }
                    text.push_str(word);
                }
                Lexeme::Argument(number) => {
                    if text.ends_with(|last: char| last.is_ascii_alphanumeric()) {
                        text.push(' ');
                    }
                    text.push_str(&format!("%{number}"));
                }
                Lexeme::Mark(',') => text.push_str(", "),
                Lexeme::Mark(mark @ ('[' | '{')) => {
                    if text.ends_with(|last: char| last.is_ascii_alphanumeric()) {
                        text.push(' ');
                    }
                    text.push(*mark);
                }
                Lexeme::Mark(mark) => text.push(*mark),
            }
            if text.len() > 120 {
                text.push_str("...");
                break;
            }
        }
        text
    }

    /// `.reg .b32 a, b<3>;`
    fn declaration(&mut self) -> Result<(), TranslateError> {
        let ty = self.word("a type")?;
        let class = match ty.as_str() {
            ".pred" => Class::Predicate,
            ".b16" | ".u16" | ".s16" | ".f16" | ".bf16" => Class::B16,
            ".b32" | ".u32" | ".s32" | ".f32" | ".f16x2" | ".bf16x2" => Class::B32,
            ".b64" | ".u64" | ".s64" | ".f64" => Class::B64,
            _ => return Err(self.malformed(format!("the simulator has no registers of type `{ty}`"))),
        };
        loop {
            let name = self.word("the name of a register")?;
            if self.take('<') {
                let count = match self.peek() {
                    Some(Lexeme::Number(count)) => count.parse::<u32>().ok(),
                    _ => None,
                };
                let count = count.ok_or_else(|| self.malformed("PTX needs a number of registers"))?;
                self.at += 1;
                self.expect('>')?;
                (0..count).for_each(|index| self.declare(&format!("{name}{index}"), class));
            } else {
                self.declare(&name, class);
            }
            if !self.take(',') {
                return self.expect(';');
            }
        }
    }

    fn declare(&mut self, name: &str, class: Class) {
        let variable = format!("attn_sim_{}_{}", self.body.registers.len(), identifier(name));
        self.body.registers.push((variable.clone(), class));
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), (variable, class));
        }
    }

    fn operand(&mut self) -> Result<Operand, TranslateError> {
        if self.take('{') {
            return Ok(Operand::Vector(self.values('}')?));
        }
        if self.take('[') {
            let base = self.value()?;
            if self.take(',') {
                self.expect('{')?;
                let coordinates = self.values('}')?;
                self.expect(']')?;
                return Ok(Operand::Tensor(base, coordinates));
            }
            let sign = if self.take('+') {
                1
            } else if self.peek() == Some(&Lexeme::Mark('-')) {
                self.at += 1;
                -1
            } else {
                0
            };
            let mut offset = 0;
            if sign != 0 {
                let negative = self.take('-');
                let Some(Lexeme::Number(text)) = self.peek() else {
                    return Err(self.malformed("an address takes a register and a number"));
                };
                let number = integer(text).ok_or_else(|| self.malformed("the offset of an address is an integer"))?;
                offset = if negative { -sign * number } else { sign * number };
                self.at += 1;
            }
            self.expect(']')?;
            return Ok(Operand::Address(base, offset));
        }
        let value = self.value()?;
        if self.take('|') { Ok(Operand::Pair(value, self.value()?)) } else { Ok(Operand::Value(value)) }
    }

    fn values(&mut self, end: char) -> Result<Vec<Value>, TranslateError> {
        let mut values = vec![];
        loop {
            values.push(self.value()?);
            if !self.take(',') {
                self.expect(end)?;
                return Ok(values);
            }
        }
    }

    fn value(&mut self) -> Result<Value, TranslateError> {
        let negative = self.take('-');
        let lexeme = self.peek().cloned();
        let value = match lexeme {
            Some(Lexeme::Number(text)) => Value::Number(if negative { format!("-{text}") } else { text }),
            _ if negative => return Err(self.malformed("only a number has a sign in PTX")),
            Some(Lexeme::Argument(number)) => {
                let class = match self.statement.arguments[number].letter {
                    Letter::Word | Letter::Float => Class::B32,
                    Letter::Long | Letter::Double => Class::B64,
                    Letter::Half => Class::B16,
                    Letter::Constant => Class::Constant,
                };
                Value::Register { variable: argument(number), class, argument: Some(number) }
            }
            Some(Lexeme::Word(word)) if word == "_" => Value::Sink,
            Some(Lexeme::Word(word)) => match self.scopes.iter().rev().find_map(|scope| scope.get(&word)) {
                Some((variable, class)) => {
                    Value::Register { variable: variable.clone(), class: *class, argument: None }
                }
                None => Value::Name(word),
            },
            _ => return Err(self.malformed(format!("PTX needs an operand {}", self.here()))),
        };
        self.at += 1;
        Ok(value)
    }
}

/// The C++ variable of an operand of asm.
pub(crate) fn argument(number: usize) -> String {
    format!("attn_sim_r{number}")
}

/// An integer literal of PTX.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let digits = digits.trim_end_matches(['U', 'u']);
    let value = if let Some(hexadecimal) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        u64::from_str_radix(hexadecimal, 16).ok()? as i64
    } else if let Some(binary) = digits.strip_prefix("0b").or(digits.strip_prefix("0B")) {
        u64::from_str_radix(binary, 2).ok()? as i64
    } else {
        digits.parse::<u64>().ok()? as i64
    };
    Some(if negative { value.wrapping_neg() } else { value })
}
