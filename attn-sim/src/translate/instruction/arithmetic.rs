//! Moves, comparisons, selection, integer and float arithmetic.

use super::{Call, Lowered, Problem, assign, integer_name, integer_of, integer_type, malformed};
use crate::translate::ptx::{Class, Operand, Value};

pub(super) fn lower(call: &Call) -> Lowered {
    match call.parts.as_slice() {
        ["mov", ty] => mov(call, ty),
        ["setp", comparison, ty] => compare(call, comparison, ty),
        ["setp", comparison, "ftz", "f32"] => compare(call, comparison, "f32"),
        ["selp", ty] => {
            call.takes(4..=4)?;
            let bits = bits_of(ty)?;
            let (a, b) = (integer_of(call.value(1)?, false, bits)?, integer_of(call.value(2)?, false, bits)?);
            call.assign(0, &format!("{} ? {a} : {b}", call.predicate(3)?))
        }
        [name @ ("and" | "or" | "xor"), "pred"] => {
            call.takes(3..=3)?;
            let symbol = bitwise(name);
            call.assign(0, &format!("({} {symbol} {}) != 0", call.predicate(1)?, call.predicate(2)?))
        }
        ["not", "pred"] => {
            call.takes(2..=2)?;
            call.assign(0, &format!("!{}", call.predicate(1)?))
        }
        [name @ ("and" | "or" | "xor"), ty @ ("b16" | "b32" | "b64")] => integers(call, ty, bitwise(name)),
        ["not", ty @ ("b16" | "b32" | "b64")] => {
            call.takes(2..=2)?;
            let bits = bits_of(ty)?;
            let value = integer_of(call.value(1)?, false, bits)?;
            call.assign(0, &format!("({})~{value}", integer_name(false, bits)))
        }
        ["shl", ty @ ("b32" | "b64")] => shift(call, ty, "shift_left"),
        ["shr", ty @ ("b32" | "b64" | "u32" | "u64" | "s32" | "s64")] => shift(call, ty, "shift_right"),
        ["lop3", "b32"] => {
            call.takes(5..=5)?;
            let (a, b, c, truth) = (call.word(1)?, call.word(2)?, call.word(3)?, call.word(4)?);
            call.assign(0, &format!("attn_sim::lop3({a}, {b}, {c}, {truth})"))
        }
        ["prmt", "b32"] => {
            call.takes(4..=4)?;
            call.assign(0, &format!("__byte_perm({}, {}, {})", call.word(1)?, call.word(2)?, call.word(3)?))
        }
        ["popc", "b32"] => call.assign(0, &format!("(attn_sim::u32)__popc({})", call.word(1)?)),

        [name @ ("add" | "sub" | "mul"), rounding @ .., "f32"] if float_modifiers(rounding) => {
            call.takes(3..=3)?;
            let symbol = match *name {
                "add" => "+",
                "sub" => "-",
                _ => "*",
            };
            let text = format!("{} {symbol} {}", flushed(call, 1, rounding)?, flushed(call, 2, rounding)?);
            float(call, &text, rounding)
        }
        ["fma", rounding @ .., "f32"] if float_modifiers(rounding) => {
            call.takes(4..=4)?;
            let factors = [1, 2, 3].map(|index| flushed(call, index, rounding));
            let factors = factors.into_iter().collect::<Result<Vec<_>, _>>()?.join(", ");
            float(call, &format!("__builtin_fmaf({factors})"), rounding)
        }
        [name @ ("min" | "max"), rounding @ .., "f32"] if float_modifiers(rounding) => {
            call.takes(3..=3)?;
            let text = format!("f{name}f({}, {})", flushed(call, 1, rounding)?, flushed(call, 2, rounding)?);
            float(call, &text, rounding)
        }
        ["div", "full" | "approx" | "rn", rounding @ .., "f32"] if float_modifiers(rounding) => {
            call.takes(3..=3)?;
            let text = format!("{} / {}", flushed(call, 1, rounding)?, flushed(call, 2, rounding)?);
            float(call, &text, rounding)
        }
        ["ex2", rest @ ..] => function(call, "exp2", rest),
        ["lg2", rest @ ..] => function(call, "log2", rest),
        ["rcp", rest @ ..] => function(call, "reciprocal", rest),
        ["rsqrt", rest @ ..] => function(call, "reciprocal_root", rest),
        ["sqrt", rest @ ..] => function(call, "root", rest),
        ["tanh", rest @ ..] => function(call, "tanh", rest),
        ["sin", rest @ ..] => function(call, "sine", rest),
        ["cos", rest @ ..] => function(call, "cosine", rest),
        ["neg", "f32"] | ["neg", "ftz", "f32"] => {
            call.takes(2..=2)?;
            call.assign(0, &format!("{} ^ 0x80000000u", call.word(1)?))
        }
        ["abs", "f32"] | ["abs", "ftz", "f32"] => {
            call.takes(2..=2)?;
            call.assign(0, &format!("{} & 0x7fffffffu", call.word(1)?))
        }

        ["add", ty] => integers(call, ty, "+"),
        ["sub", ty] => integers(call, ty, "-"),
        ["mul", "lo", ty] => integers(call, ty, "*"),
        ["mul", "wide", ty] => match integer_type(ty) {
            Some((signed, 32)) => {
                call.takes(3..=3)?;
                call.long(0)?;
                let wide = integer_name(signed, 64);
                let (a, b) = (integer_of(call.value(1)?, signed, 32)?, integer_of(call.value(2)?, signed, 32)?);
                call.assign(0, &format!("(attn_sim::u64)(({wide}){a} * ({wide}){b})"))
            }
            _ => Err(Problem::Unknown),
        },
        ["mad", "lo", ty] => {
            call.takes(4..=4)?;
            let bits = bits_of(ty)?;
            let values = [1, 2, 3].map(|index| integer_of(call.value(index)?, false, bits));
            let values = values.into_iter().collect::<Result<Vec<_>, _>>()?;
            call.assign(0, &format!("({})({} * {} + {})", integer_name(false, bits), values[0], values[1], values[2]))
        }
        [name @ ("min" | "max"), ty] => {
            call.takes(3..=3)?;
            let (signed, bits) = integer_type(ty).filter(|&(_, bits)| bits >= 32).ok_or(Problem::Unknown)?;
            let (a, b) = (integer_of(call.value(1)?, signed, bits)?, integer_of(call.value(2)?, signed, bits)?);
            call.assign(0, &format!("({}){name}({a}, {b})", integer_name(false, bits)))
        }
        ["neg", "s32"] => {
            call.takes(2..=2)?;
            call.assign(0, &format!("0u - {}", call.word(1)?))
        }
        _ => Err(Problem::Unknown),
    }
}

fn bitwise(name: &str) -> &'static str {
    match name {
        "and" => "&",
        "or" => "|",
        _ => "^",
    }
}

/// Bits of a type's register.
fn bits_of(ty: &str) -> Result<u32, Problem> {
    match ty {
        "f32" => Ok(32),
        "f64" => Ok(64),
        _ => match integer_type(ty) {
            Some((_, bits)) if bits >= 16 => Ok(bits),
            _ => Err(Problem::Unknown),
        },
    }
}

/// Two's complement: the sign makes no difference to these.
fn integers(call: &Call, ty: &str, symbol: &str) -> Lowered {
    call.takes(3..=3)?;
    let (_, bits) = integer_type(ty).filter(|&(_, bits)| bits >= 16).ok_or(Problem::Unknown)?;
    let (a, b) = (integer_of(call.value(1)?, false, bits)?, integer_of(call.value(2)?, false, bits)?);
    call.assign(0, &format!("({})({a} {symbol} {b})", integer_name(false, bits)))
}

fn shift(call: &Call, ty: &str, name: &str) -> Lowered {
    call.takes(3..=3)?;
    let (signed, bits) = integer_type(ty).ok_or(Problem::Unknown)?;
    let value = integer_of(call.value(1)?, signed, bits)?;
    let register = if bits == 64 { "attn_sim::u64" } else { "attn_sim::u32" };
    call.assign(0, &format!("({register})attn_sim::{name}({value}, {})", call.word(2)?))
}

/// Between registers, or between a register and the parts of a vector.
fn mov(call: &Call, ty: &str) -> Lowered {
    call.takes(2..=2)?;
    if ty == "pred" {
        return call.assign(0, &call.predicate(1)?);
    }
    let bits = bits_of(ty)?;
    match (call.operand(0)?, call.operand(1)?) {
        (Operand::Vector(to), Operand::Value(from)) if to.len() == 2 && bits > 16 => {
            let (part, name) = (bits / 2, integer_name(false, bits / 2));
            let value = integer_of(from, false, bits)?;
            let low = assign(&to[0], &format!("({name}){value}"))?;
            Ok(format!("{{ {low} {} }}", assign(&to[1], &format!("({name})({value} >> {part})"))?))
        }
        (Operand::Value(to), Operand::Vector(from)) if from.len() == 2 && bits > 16 => {
            let (part, name) = (bits / 2, integer_name(false, bits));
            let (low, high) = (integer_of(&from[0], false, part)?, integer_of(&from[1], false, part)?);
            assign(to, &format!("({name}){low} | ({name}){high} << {part}"))
        }
        (Operand::Value(to), Operand::Value(from)) => {
            let fits = match to {
                Value::Register { class, .. } => {
                    *class
                        == match bits {
                            64 => Class::B64,
                            32 => Class::B32,
                            _ => Class::B16,
                        }
                }
                _ => false,
            };
            if !fits {
                return malformed(format!("the first operand isn't a register of {bits} bits"));
            }
            assign(to, &integer_of(from, false, bits)?)
        }
        _ => malformed("it moves a register, or two halves of one"),
    }
}

fn compare(call: &Call, comparison: &str, ty: &str) -> Lowered {
    call.takes(3..=3)?;
    let float = ty == "f32";
    let (name, unordered) = match comparison {
        "lo" | "ls" | "hi" | "hs" if !float => (comparison, false),
        _ if float && comparison.ends_with('u') && comparison.len() == 3 => (&comparison[..2], true),
        _ => (comparison, false),
    };
    let symbol = match name {
        "eq" => "==",
        "ne" => "!=",
        "lt" | "lo" => "<",
        "le" | "ls" => "<=",
        "gt" | "hi" => ">",
        "ge" | "hs" => ">=",
        _ => return Err(Problem::Unknown),
    };
    let (a, b) = if float {
        (call.real(1)?, call.real(2)?)
    } else {
        let (signed, bits) = integer_type(ty).filter(|&(_, bits)| bits >= 16).ok_or(Problem::Unknown)?;
        (integer_of(call.value(1)?, signed, bits)?, integer_of(call.value(2)?, signed, bits)?)
    };
    let mut text = format!("{a} {symbol} {b}");
    if unordered {
        text = format!("({text} || __builtin_isunordered({a}, {b}))");
    } else if float && name == "ne" {
        text = format!("({text} && !__builtin_isunordered({a}, {b}))");
    }
    match call.operand(0)? {
        Operand::Value(to) => {
            super::predicate(to)?;
            assign(to, &text)
        }
        Operand::Pair(to, opposite) => {
            super::predicate(opposite)?;
            Ok(format!(
                "{{ const bool attn_sim_p = {text}; {} {} }}",
                assign(to, "attn_sim_p")?,
                assign(opposite, "!attn_sim_p")?
            ))
        }
        _ => malformed("it writes one or two predicates"),
    }
}

/// `rn`, `ftz`: what float arithmetic may have between its name and type.
fn float_modifiers(modifiers: &[&str]) -> bool {
    matches!(modifiers, [] | ["rn"] | ["ftz"] | ["rn", "ftz"])
}

fn flushed(call: &Call, index: usize, modifiers: &[&str]) -> Lowered {
    let value = call.real(index)?;
    Ok(if modifiers.contains(&"ftz") { format!("attn_sim::flush({value})") } else { value })
}

/// Writes a float expression.
fn float(call: &Call, text: &str, modifiers: &[&str]) -> Lowered {
    call.word(0)?;
    let value = if modifiers.contains(&"ftz") { format!("attn_sim::flush({text})") } else { text.to_owned() };
    call.assign(0, &format!("attn_sim::bits(attn_sim::canonical({value}))"))
}

/// `name.approx[.ftz].f32` or a rounded form.
fn function(call: &Call, name: &str, rest: &[&str]) -> Lowered {
    match rest {
        ["approx" | "rn", modifiers @ .., "f32"] if float_modifiers(modifiers) => {
            call.takes(2..=2)?;
            let text = format!("attn_sim::{name}({})", flushed(call, 1, modifiers)?);
            float(call, &text, modifiers)
        }
        _ => Err(Problem::Unknown),
    }
}
