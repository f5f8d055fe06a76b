//! An asm statement as one C++ statement on one line.
//!
//! The block binds outputs by reference, reads inputs once, declares registers, runs the instructions, and writes outputs back:
//!
//! ```text
//! do { auto&& attn_sim_o0 = (y); attn_sim::u32 attn_sim_r0 = POISON; ...; attn_sim_r0 = ...; attn_sim::out_f(attn_sim_o0, attn_sim_r0); } while (0)
//! ```
//!
//! Invariants: operands are evaluated once, in order; an empty template touches nothing; the accumulators of `wgmma` are neither
//! read nor written by the block, since the instruction does that later.

use std::fmt::Write;

use super::error::TranslateError;
use super::instruction::{self, Problem, reference};
use super::ptx::{self, Body, Class, Instruction, Item, Operand, Value};
use super::statement::{Letter, Statement};

/// What a register holds before it is written: a NaN.
const POISON: &str = "(attn_sim::u64)-1";

/// The C++ for a statement, without its semicolon.
pub(crate) fn render(statement: &Statement) -> Result<String, TranslateError> {
    let body = ptx::parse(statement)?;
    if body.items.is_empty() {
        return Ok("do {} while (0)".into());
    }
    let late: Vec<usize> = instructions(&body).flat_map(instruction::accumulators).collect();
    let mut text = String::from("do { ");
    for item in &body.items {
        if let Item::Label(label) = item {
            write!(text, "__label__ {label}; ").expect("writing to a string");
        }
    }
    for (number, argument) in statement.arguments.iter().enumerate() {
        let (variable, expression) = (ptx::argument(number), &argument.expression);
        if argument.output {
            write!(text, "auto&& {} = ({expression}); ", reference(number)).expect("writing to a string");
            if late.contains(&number) {
                continue;
            }
        }
        let ty = match argument.letter {
            Letter::Word | Letter::Float => "attn_sim::u32",
            Letter::Long | Letter::Double => "attn_sim::u64",
            Letter::Half => "attn_sim::u16",
            Letter::Constant => "const long long",
        };
        let value = match (argument.letter, argument.input, argument.output) {
            (Letter::Constant, ..) => format!("(long long)({expression})"),
            (letter, true, true) => format!("attn_sim::in_{}({})", letter.name(), reference(number)),
            (letter, true, false) => format!("attn_sim::in_{}({expression})", letter.name()),
            (_, false, _) => format!("({ty}){POISON}"),
        };
        write!(text, "{ty} {variable} = {value}; ").expect("writing to a string");
    }
    for (variable, class) in &body.registers {
        let ty = match class {
            Class::Predicate => "bool",
            Class::B16 => "attn_sim::u16",
            Class::B32 => "attn_sim::u32",
            Class::B64 | Class::Constant => "attn_sim::u64",
        };
        write!(text, "{ty} {variable} = ({ty}){POISON}; ").expect("writing to a string");
    }
    for item in &body.items {
        match item {
            Item::Label(label) => write!(text, "{label}: ; ").expect("writing to a string"),
            Item::Instruction(instruction) => {
                check_jump(instruction, &body)?;
                let lowered = instruction::lower(instruction).map_err(|problem| explain(instruction, problem))?;
                match &instruction.guard {
                    Some((predicate, negated)) => {
                        let not = if *negated { "!" } else { "" };
                        write!(text, "if ({not}{predicate}) {{ {lowered} }} ")
                    }
                    None => write!(text, "{lowered} "),
                }
                .expect("writing to a string");
            }
        }
    }
    check_accumulators(statement, &body, &late)?;
    for (number, argument) in statement.arguments.iter().enumerate() {
        if argument.output && !late.contains(&number) {
            let letter = argument.letter.name();
            write!(text, "attn_sim::out_{letter}({}, {}); ", reference(number), ptx::argument(number))
                .expect("writing to a string");
        }
    }
    text.push_str("} while (0)");
    Ok(text)
}

fn explain(instruction: &Instruction, problem: Problem) -> TranslateError {
    let (line, instruction) = (instruction.line, instruction.text.clone());
    match problem {
        Problem::Unknown => TranslateError::UnknownInstruction { line, instruction },
        Problem::Malformed(reason) => TranslateError::MalformedInstruction { line, instruction, reason },
    }
}

fn check_jump(instruction: &Instruction, body: &Body) -> Result<(), TranslateError> {
    let target = match instruction.operands.first() {
        Some(Operand::Value(Value::Name(name))) if instruction.opcode.starts_with("bra") => ptx::label(name),
        _ => return Ok(()),
    };
    if body.items.iter().any(|item| matches!(item, Item::Label(label) if *label == target)) {
        return Ok(());
    }
    Err(explain(instruction, Problem::Malformed("this asm statement has no such label".into())))
}

fn instructions(body: &Body) -> impl Iterator<Item = &Instruction> {
    body.items.iter().filter_map(|item| match item {
        Item::Instruction(instruction) => Some(instruction),
        Item::Label(_) => None,
    })
}

/// Accumulators of `wgmma` are read and written, and by nothing else in the statement.
fn check_accumulators(statement: &Statement, body: &Body, late: &[usize]) -> Result<(), TranslateError> {
    for instruction in instructions(body) {
        let own = instruction::accumulators(instruction);
        let explain = |reason: &str| explain(instruction, Problem::Malformed(reason.into()));
        for &number in &own {
            let argument = &statement.arguments[number];
            if !(argument.output && argument.input && argument.letter == Letter::Float) {
                return Err(explain("its accumulators must have the constraint `+f`"));
            }
        }
        let others = instruction.operands.iter().skip(usize::from(!own.is_empty()));
        if others.flat_map(arguments).any(|number| late.contains(&number)) {
            return Err(explain("it uses an accumulator of a wgmma that isn't finished"));
        }
    }
    Ok(())
}

fn arguments(operand: &Operand) -> Vec<usize> {
    let values: Vec<&Value> = match operand {
        Operand::Value(value) | Operand::Address(value, _) => vec![value],
        Operand::Tensor(map, coordinates) => std::iter::once(map).chain(coordinates).collect(),
        Operand::Vector(values) => values.iter().collect(),
        Operand::Pair(a, b) => vec![a, b],
    };
    let number = |value: &Value| match value {
        Value::Register { argument, .. } => *argument,
        _ => None,
    };
    values.into_iter().filter_map(number).collect()
}
