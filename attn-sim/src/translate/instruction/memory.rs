//! Loads, stores, atomics and hints.

use super::{Call, Lowered, assign, integer_type, malformed, real, word};
use crate::translate::instruction::Problem;
use crate::translate::ptx::{Class, Operand, Value};

/// Qualifiers of order and caching, which don't change what an access touches.
const ORDER: &[&str] = &[
    "weak", "relaxed", "acquire", "release", "acq_rel", "volatile", "cta", "cluster", "gpu", "sys", "ca", "cg", "cs",
    "cv", "lu", "wb", "wt", "nc",
];

pub(super) fn lower(call: &Call) -> Lowered {
    let parts: Vec<&str> = call.parts.iter().copied().filter(|part| !ORDER.contains(part)).collect();
    match parts.as_slice() {
        ["ld" | "ldu", "shared", ty] => load(call, true, 1, ty),
        ["ld" | "ldu", "shared", vector @ ("v2" | "v4"), ty] => load(call, true, lanes(vector), ty),
        ["ld" | "ldu", "global", ty] | ["ld", ty] => load(call, false, 1, ty),
        ["ld" | "ldu", "global", vector @ ("v2" | "v4"), ty] | ["ld", vector @ ("v2" | "v4"), ty] => {
            load(call, false, lanes(vector), ty)
        }
        ["st", "shared", ty] => store(call, true, 1, ty),
        ["st", "shared", vector @ ("v2" | "v4"), ty] => store(call, true, lanes(vector), ty),
        ["st", "global", ty] | ["st", ty] => store(call, false, 1, ty),
        ["st", "global", vector @ ("v2" | "v4"), ty] | ["st", vector @ ("v2" | "v4"), ty] => {
            store(call, false, lanes(vector), ty)
        }
        ["red", "global", "add", "f32"] | ["red", "add", "f32"] => add(call, 0, 1),
        ["red", "global", "add", vector @ ("v2" | "v4"), "f32"] => add(call, 0, lanes(vector)),
        ["atom", "global", "add", "f32"] | ["atom", "add", "f32"] => {
            call.takes(3..=3)?;
            let sum = add(call, 1, 1)?;
            call.assign(0, &format!("attn_sim::bits({})", sum.trim_end_matches(';')))
        }
        ["atom", "global", "inc", "u32"] | ["atom", "inc", "u32"] => {
            call.takes(3..=3)?;
            if matches!(call.operand(1)?, Operand::Address(Value::Register { class: Class::B32, .. }, _)) {
                return malformed("the simulator counts in global memory only");
            }
            call.assign(0, &format!("attn_sim::atomic_increment({}, {})", call.global(1)?, call.word(2)?))
        }
        ["prefetch", ..] => {
            call.takes(1..=1)?;
            Ok(format!("(void)({});", call.global(0)?))
        }
        ["createpolicy", "fractional" | "range", ..] => call.assign(0, "0"),
        ["cvta", "to", "shared", "u64"] => call.assign(0, &format!("attn_sim::generic_to_shared({})", call.long(1)?)),
        ["cvta", "to", "global", "u64"] | ["cvta", "global", "u64"] => call.assign(0, &call.long(1)?),
        _ => Err(Problem::Unknown),
    }
}

fn lanes(vector: &str) -> usize {
    if vector == "v2" { 2 } else { 4 }
}

/// Whether values of a type have a sign, and their bytes.
fn element(ty: &str) -> Result<(bool, u32), Problem> {
    match ty {
        "f32" => Ok((false, 4)),
        "f64" => Ok((false, 8)),
        "f16" | "bf16" => Ok((false, 2)),
        _ => integer_type(ty).map(|(signed, bits)| (signed, bits / 8)).ok_or(Problem::Unknown),
    }
}

fn load(call: &Call, shared: bool, count: usize, ty: &str) -> Lowered {
    call.takes(2..=2)?;
    let (signed, bytes) = element(ty)?;
    let total = bytes * count as u32;
    if total > 16 {
        return malformed("an access has at most 16 bytes");
    }
    let address = if shared { call.shared(1)? } else { call.global(1)? };
    let space = if shared { "shared" } else { "global" };
    let mut text = format!("{{ const attn_sim::Words attn_sim_w = attn_sim::load_{space}<{total}>({address}); ");
    for (lane, to) in call.vector(0, count)?.iter().enumerate() {
        let offset = lane as u32 * bytes;
        let word = format!("attn_sim_w.word[{}]", offset / 4);
        let value = match bytes {
            8 => format!("({word} | (attn_sim::u64)attn_sim_w.word[{}] << 32)", offset / 4 + 1),
            4 => word,
            _ => format!("({word} >> {})", offset % 4 * 8),
        };
        let held = super::integer_name(signed, bytes * 8);
        let value = match to {
            Value::Sink => continue,
            Value::Register { class: Class::B16, .. } if bytes <= 2 => format!("(attn_sim::u16)({held}){value}"),
            Value::Register { class: Class::B32, .. } if bytes <= 4 => format!("(attn_sim::u32)({held}){value}"),
            Value::Register { class: Class::B64, .. } => format!("(attn_sim::u64)({held}){value}"),
            _ => return malformed(format!("a register is smaller than `{ty}`")),
        };
        text += &assign(to, &value)?;
        text.push(' ');
    }
    Ok(text + "}")
}

fn store(call: &Call, shared: bool, count: usize, ty: &str) -> Lowered {
    call.takes(2..=2)?;
    let (_, bytes) = element(ty)?;
    let total = bytes * count as u32;
    if total > 16 {
        return malformed("an access has at most 16 bytes");
    }
    let mut words = vec![String::new(); total.div_ceil(4) as usize];
    for (lane, from) in call.vector(1, count)?.iter().enumerate() {
        let offset = lane as u32 * bytes;
        let at = (offset / 4) as usize;
        match bytes {
            8 => {
                let value = super::long(from)?;
                words[at] = format!("(attn_sim::u32)({value})");
                words[at + 1] = format!("(attn_sim::u32)({value} >> 32)");
            }
            4 => words[at] = word(from)?,
            _ => {
                let value = match from {
                    Value::Register { class: Class::B32, .. } => word(from)?,
                    _ => super::half(from)?,
                };
                let held = super::integer_name(false, bytes * 8);
                let part = format!("(attn_sim::u32)({held}){value} << {}", offset % 4 * 8);
                words[at] = if words[at].is_empty() { part } else { format!("{} | {part}", words[at]) };
            }
        }
    }
    let address = if shared { call.shared(0)? } else { call.global(0)? };
    let space = if shared { "shared" } else { "global" };
    Ok(format!("attn_sim::store_{space}<{total}>({address}, attn_sim::Words{{{{{}}}}});", words.join(", ")))
}

/// Adds `count` floats to the address in operand `first`.
fn add(call: &Call, first: usize, count: usize) -> Lowered {
    call.takes(first + 2..=first + 2)?;
    if matches!(call.operand(first)?, Operand::Address(Value::Register { class: Class::B32, .. }, _)) {
        return malformed("the simulator adds to global memory only");
    }
    let mut values = call.vector(first + 1, count)?.iter().map(real).collect::<Result<Vec<_>, _>>()?;
    values.resize(4, "0.f".into());
    Ok(format!("attn_sim::atomic_add<{count}>({}, {});", call.global(first)?, values.join(", ")))
}
