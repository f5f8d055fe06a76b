//! PTX instructions as C++ statements.
//!
//! An opcode is split at its dots; qualifiers that only advise caches are dropped (with the operand of `.L2::cache_hint`), and both
//! `shared::cta` and `shared::cluster` become `shared`, since there are no clusters. Each family has a match over what is left.
//!
//! Invariants: a known instruction has the right number and sizes of operands, or an error says what is wrong; an unknown one is
//! [`Problem::Unknown`], never skipped.

mod arithmetic;
mod asynchronous;
mod convert;
mod matrix;
mod memory;
mod threads;

use super::ptx::{Class, Instruction, Operand, Value, integer};

/// Why an instruction can't be lowered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Unknown,
    Malformed(String),
}

pub(crate) type Lowered = Result<String, Problem>;

pub(crate) fn malformed<T>(reason: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Malformed(reason.into()))
}

/// One instruction on its way to C++.
pub(crate) struct Call<'a> {
    /// The opcode's parts after normalisation.
    pub(crate) parts: Vec<&'a str>,
    pub(crate) operands: &'a [Operand],
}

/// The C++ statement of an instruction.
pub(crate) fn lower(instruction: &Instruction) -> Lowered {
    let mut operands = instruction.operands.as_slice();
    let mut parts = vec![];
    for part in instruction.opcode.split('.') {
        match part {
            "L2::cache_hint" => match operands.split_last() {
                Some((_, rest)) => operands = rest,
                None => return malformed("the cache hint has no operand"),
            },
            "shared::cta" | "shared::cluster" => parts.push("shared"),
            hint if hint.starts_with("L1::") || hint.starts_with("L2::") => {}
            _ => parts.push(part),
        }
    }
    let call = Call { parts, operands };
    match call.parts[0] {
        "ld" | "ldu" | "st" | "red" | "atom" | "prefetch" | "createpolicy" | "cvta" => memory::lower(&call),
        "cp" | "mbarrier" | "tensormap" => asynchronous::lower(&call),
        "ldmatrix" | "stmatrix" | "mma" | "wgmma" => matrix::lower(&call),
        "bar" | "barrier" | "membar" | "fence" | "setmaxnreg" | "elect" | "shfl" | "vote" | "activemask" | "bra"
        | "trap" | "nanosleep" => threads::lower(&call),
        "cvt" => convert::lower(&call),
        _ => arithmetic::lower(&call),
    }
}

/// The accumulators of `wgmma`: arguments of asm that are passed by reference, because the instruction writes them later.
pub(crate) fn accumulators(instruction: &Instruction) -> Vec<usize> {
    match instruction.operands.first() {
        Some(Operand::Vector(values)) if instruction.opcode.starts_with("wgmma.mma_async") => values
            .iter()
            .filter_map(|value| match value {
                Value::Register { argument, .. } => *argument,
                _ => None,
            })
            .collect(),
        _ => vec![],
    }
}

/// The C++ reference to the lvalue of an output.
pub(crate) fn reference(number: usize) -> String {
    format!("attn_sim_o{number}")
}

impl<'a> Call<'a> {
    /// Refuses a wrong number of operands.
    pub(crate) fn takes(&self, counts: impl std::ops::RangeBounds<usize> + std::fmt::Debug) -> Result<(), Problem> {
        if counts.contains(&self.operands.len()) {
            Ok(())
        } else {
            malformed(format!("it has {} operands and takes {counts:?}", self.operands.len()))
        }
    }

    pub(crate) fn operand(&self, index: usize) -> Result<&'a Operand, Problem> {
        self.operands.get(index).map_or_else(|| malformed(format!("operand {} is missing", index + 1)), Ok)
    }

    pub(crate) fn value(&self, index: usize) -> Result<&'a Value, Problem> {
        match self.operand(index)? {
            Operand::Value(value) => Ok(value),
            _ => malformed(format!("operand {} must be a register or a number", index + 1)),
        }
    }

    /// The elements of `{ }`, or a single value.
    pub(crate) fn vector(&self, index: usize, count: usize) -> Result<&'a [Value], Problem> {
        let values = match self.operand(index)? {
            Operand::Vector(values) => values.as_slice(),
            Operand::Value(value) => std::slice::from_ref(value),
            _ => return malformed(format!("operand {} must be a vector of registers", index + 1)),
        };
        if values.len() == count {
            Ok(values)
        } else {
            malformed(format!("operand {} has {} elements instead of {count}", index + 1, values.len()))
        }
    }

    /// `_` in the place of a result that nobody wants.
    pub(crate) fn sink(&self, index: usize) -> Result<(), Problem> {
        match self.value(index)? {
            Value::Sink => Ok(()),
            _ => malformed("the simulator has no states of mbarriers: write `_` and wait by parity"),
        }
    }

    pub(crate) fn word(&self, index: usize) -> Lowered {
        word(self.value(index)?)
    }

    pub(crate) fn long(&self, index: usize) -> Lowered {
        long(self.value(index)?)
    }

    pub(crate) fn half(&self, index: usize) -> Lowered {
        half(self.value(index)?)
    }

    pub(crate) fn real(&self, index: usize) -> Lowered {
        real(self.value(index)?)
    }

    pub(crate) fn predicate(&self, index: usize) -> Lowered {
        predicate(self.value(index)?)
    }

    /// A number that the instruction's text holds.
    pub(crate) fn immediate(&self, index: usize) -> Result<i64, Problem> {
        let number = match self.value(index)? {
            Value::Number(text) => integer(text),
            _ => None,
        };
        number.map_or_else(|| malformed(format!("operand {} must be an integer", index + 1)), Ok)
    }

    /// `[a]` in shared memory: 32 bits.
    pub(crate) fn shared(&self, index: usize) -> Lowered {
        match self.operand(index)? {
            Operand::Address(Value::Register { variable, class: Class::B64, .. }, offset) => {
                Ok(format!("(attn_sim::u32)({variable} + ({offset}ll))"))
            }
            Operand::Address(base, 0) => word(base),
            Operand::Address(base, offset) => Ok(format!("{} + ({offset}u)", word(base)?, offset = *offset as u32)),
            _ => malformed(format!("operand {} must be an address in brackets", index + 1)),
        }
    }

    /// `[a]` in global memory: 64 bits.
    pub(crate) fn global(&self, index: usize) -> Lowered {
        match self.operand(index)? {
            Operand::Address(base, 0) => long(base),
            Operand::Address(base, offset) => Ok(format!("{} + ({offset}ll)", long(base)?)),
            _ => malformed(format!("operand {} must be an address in brackets", index + 1)),
        }
    }

    /// Writes a C++ expression to the register at `index`.
    pub(crate) fn assign(&self, index: usize, expression: &str) -> Lowered {
        assign(self.value(index)?, expression)
    }
}

fn mismatch<T>(variable: &str, bits: &str) -> Result<T, Problem> {
    malformed(format!("the operand `{variable}` isn't a register of {bits}"))
}

/// A literal of PTX as bits of a 32-bit register.
fn literal(text: &str) -> Option<u32> {
    if let Some(bits) = text.strip_prefix("0f").or(text.strip_prefix("0F")) {
        return u32::from_str_radix(bits, 16).ok();
    }
    match integer(text) {
        Some(value) => Some(value as u32),
        None => text.parse::<f64>().ok().map(|value| (value as f32).to_bits()),
    }
}

/// The name by which a message calls an operand.
fn shown(value: &Value) -> &str {
    match value {
        Value::Register { variable, .. } => variable,
        Value::Number(text) | Value::Name(text) => text,
        Value::Sink => "_",
    }
}

pub(crate) fn word(value: &Value) -> Lowered {
    match value {
        Value::Register { variable, class: Class::B32, .. } => Ok(variable.clone()),
        Value::Register { variable, class: Class::Constant, .. } => Ok(format!("(attn_sim::u32){variable}")),
        Value::Number(text) => {
            literal(text).map_or_else(|| malformed(format!("`{text}` is no number")), |bits| Ok(format!("{bits}u")))
        }
        Value::Name(name) => threads::special(name),
        _ => mismatch(shown(value), "32 bits"),
    }
}

pub(crate) fn long(value: &Value) -> Lowered {
    match value {
        Value::Register { variable, class: Class::B64, .. } => Ok(variable.clone()),
        Value::Register { variable, class: Class::Constant, .. } => Ok(format!("(attn_sim::u64){variable}")),
        Value::Number(text) => match text.strip_prefix("0d").or(text.strip_prefix("0D")) {
            Some(bits) => u64::from_str_radix(bits, 16).ok(),
            None => integer(text).map(|value| value as u64).or(text.parse::<f64>().ok().map(f64::to_bits)),
        }
        .map_or_else(|| malformed(format!("`{text}` is no number")), |bits| Ok(format!("{bits}ull"))),
        _ => mismatch(shown(value), "64 bits"),
    }
}

pub(crate) fn half(value: &Value) -> Lowered {
    match value {
        Value::Register { variable, class: Class::B16, .. } => Ok(variable.clone()),
        Value::Register { variable, class: Class::Constant, .. } => Ok(format!("(attn_sim::u16){variable}")),
        Value::Number(text) => integer(text).map_or_else(
            || malformed(format!("`{text}` is no number")),
            |bits| Ok(format!("(attn_sim::u16){}u", bits as u16)),
        ),
        _ => mismatch(shown(value), "16 bits"),
    }
}

pub(crate) fn real(value: &Value) -> Lowered {
    if let Value::Number(text) = value
        && let Some(number) = integer(text)
    {
        return Ok(format!("({number}.f)"));
    }
    Ok(format!("attn_sim::real({})", word(value)?))
}

pub(crate) fn predicate(value: &Value) -> Lowered {
    match value {
        Value::Register { variable, class: Class::Predicate, .. } => Ok(variable.clone()),
        Value::Number(text) if text == "0" || text == "1" => {
            Ok(if text == "1" { "true".into() } else { "false".into() })
        }
        _ => mismatch(shown(value), "one bit (a predicate)"),
    }
}

/// `register = expression;`
pub(crate) fn assign(value: &Value, expression: &str) -> Lowered {
    match value {
        Value::Register { variable, class, .. } if *class != Class::Constant => {
            Ok(format!("{variable} = {expression};"))
        }
        Value::Sink => Ok(format!("{expression};")),
        _ => malformed(format!("`{}` can't be written", shown(value))),
    }
}

/// `attn_sim::Words{{a, b}}` of 32-bit registers.
pub(crate) fn words(values: &[Value]) -> Lowered {
    let values = values.iter().map(word).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("attn_sim::Words{{{{{}}}}}", values.join(", ")))
}

/// Whether integers of a type have a sign, and their bits: `u32`, `s64`, `b16`.
pub(crate) fn integer_type(ty: &str) -> Option<(bool, u32)> {
    let bits = ty.get(1..)?.parse().ok().filter(|bits| [8, 16, 32, 64].contains(bits))?;
    match ty.as_bytes()[0] {
        b's' => Some((true, bits)),
        b'u' | b'b' => Some((false, bits)),
        _ => None,
    }
}

/// The C++ integer of a type.
pub(crate) fn integer_name(signed: bool, bits: u32) -> &'static str {
    match (signed, bits) {
        (false, 8) => "unsigned char",
        (true, 8) => "signed char",
        (false, 16) => "unsigned short",
        (true, 16) => "short",
        (false, 32) => "unsigned",
        (true, 32) => "int",
        (false, _) => "unsigned long long",
        (true, _) => "long long",
    }
}

/// An operand as an integer of a type.
pub(crate) fn integer_of(value: &Value, signed: bool, bits: u32) -> Lowered {
    let text = match bits {
        64 => long(value)?,
        32 => word(value)?,
        _ => match value {
            Value::Register { class: Class::B32, .. } => word(value)?,
            _ => half(value)?,
        },
    };
    Ok(format!("(({}){text})", integer_name(signed, bits)))
}

#[cfg(test)]
mod tests;
