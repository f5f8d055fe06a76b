//! Loads, stores, atomics and hints.

use super::{Call, Lowered, assign, integer_type, malformed, real, word};
use crate::translate::instruction::Problem;
use crate::translate::ptx::{Class, Operand, Value};

/// Qualifiers of order and caching, which don't change what an access touches. In shared memory they say nothing that the order of
/// its accesses doesn't have here.
const ORDER: &[&str] = &[
    "weak", "relaxed", "acquire", "release", "acq_rel", "volatile", "cta", "cluster", "gpu", "sys", "ca", "cg", "cs",
    "cv", "lu", "wb", "wt", "nc",
];

pub(super) fn lower(call: &Call) -> Lowered {
    let parts: Vec<&str> = call.parts.iter().copied().filter(|part| !ORDER.contains(part)).collect();
    match parts.as_slice() {
        ["ld" | "ldu", "shared", ty] => load(call, Space::Shared, 1, ty),
        ["ld" | "ldu", "shared", vector @ ("v2" | "v4"), ty] => load(call, Space::Shared, lanes(vector), ty),
        ["ld" | "ldu", "global", ty] | ["ld", ty] => load(call, global(call)?, 1, ty),
        ["ld" | "ldu", "global", vector @ ("v2" | "v4"), ty] | ["ld", vector @ ("v2" | "v4"), ty] => {
            load(call, global(call)?, lanes(vector), ty)
        }
        ["st", "shared", ty] => store(call, Space::Shared, 1, ty),
        ["st", "shared", vector @ ("v2" | "v4"), ty] => store(call, Space::Shared, lanes(vector), ty),
        ["st", "global", ty] | ["st", ty] => store(call, global(call)?, 1, ty),
        ["st", "global", vector @ ("v2" | "v4"), ty] | ["st", vector @ ("v2" | "v4"), ty] => {
            store(call, global(call)?, lanes(vector), ty)
        }
        ["red", "global", "add", "f32"] | ["red", "add", "f32"] => add(call, 0, 1),
        ["red", "global", "add", vector @ ("v2" | "v4"), "f32"] => add(call, 0, lanes(vector)),
        ["atom", "global", "add", "f32"] | ["atom", "add", "f32"] => {
            call.takes(3..=3)?;
            let sum = add(call, 1, 1)?;
            call.assign(0, &format!("attn_sim::bits({})", sum.trim_end_matches(';')))
        }
        ["red", "global", change, ty] | ["red", change, ty] => change_word(call, 0, change, ty).map(|text| text + ";"),
        ["atom", "global", change, ty] | ["atom", change, ty] => {
            let text = change_word(call, 1, change, ty)?;
            call.assign(0, &text)
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

/// Where an access goes.
#[derive(Clone, Copy)]
enum Space {
    Shared,
    Global,
    /// Global memory, in an order with other threads: see `load_strong` of the table.
    Strong(u32),
}

const ACQUIRE: u32 = 1;
const RELEASE: u32 = 2;
const WIDE: u32 = 4;

/// The order of a strong access; `None` for one that other threads must not be waited for with.
fn order(call: &Call) -> Option<u32> {
    let has = |part: &str| call.parts.contains(&part);
    let acquire = if has("acquire") || has("acq_rel") { ACQUIRE } else { 0 };
    let release = if has("release") || has("acq_rel") { RELEASE } else { 0 };
    let wide = if has("gpu") || has("sys") || has("volatile") { WIDE } else { 0 };
    (acquire + release > 0 || has("relaxed") || has("volatile")).then_some(acquire + release + wide)
}

/// The space of a load or store of global memory.
fn global(call: &Call) -> Result<Space, Problem> {
    let Some(order) = order(call) else { return Ok(Space::Global) };
    let (refused, name) = if call.parts[0] == "st" { (ACQUIRE, "acquire") } else { (RELEASE, "release") };
    if order & refused != 0 {
        return malformed(format!("it can't {name}"));
    }
    if order & WIDE == 0 && !["cta", "cluster"].iter().any(|scope| call.parts.contains(scope)) {
        return malformed("it needs a scope: .cta, .cluster, .gpu or .sys");
    }
    Ok(Space::Strong(order))
}

fn load(call: &Call, space: Space, count: usize, ty: &str) -> Lowered {
    call.takes(2..=2)?;
    let (signed, bytes) = element(ty)?;
    let total = bytes * count as u32;
    if total > 16 {
        return malformed("an access has at most 16 bytes");
    }
    let loaded = match space {
        Space::Shared => format!("load_shared<{total}>({})", call.shared(1)?),
        Space::Global => format!("load_global<{total}>({})", call.global(1)?),
        Space::Strong(order) => format!("load_strong<{total}>({}, {order})", call.global(1)?),
    };
    let mut text = format!("{{ const attn_sim::Words attn_sim_w = attn_sim::{loaded}; ");
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

fn store(call: &Call, space: Space, count: usize, ty: &str) -> Lowered {
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
    let words = format!("attn_sim::Words{{{{{}}}}}", words.join(", "));
    Ok(match space {
        Space::Shared => format!("attn_sim::store_shared<{total}>({}, {words});", call.shared(0)?),
        Space::Global => format!("attn_sim::store_global<{total}>({}, {words});", call.global(0)?),
        Space::Strong(order) => format!("attn_sim::store_strong<{total}>({}, {words}, {order});", call.global(0)?),
    })
}

/// Adds `count` floats to the address in operand `first`.
fn add(call: &Call, first: usize, count: usize) -> Lowered {
    call.takes(first + 2..=first + 2)?;
    if matches!(call.operand(first)?, Operand::Address(Value::Register { class: Class::B32, .. }, _)) {
        return malformed("the simulator adds to global memory only");
    }
    if order(call).is_some_and(|order| order & (ACQUIRE | RELEASE) != 0) {
        return malformed("the simulator acquires and releases by integers only");
    }
    let mut values = call.vector(first + 1, count)?.iter().map(real).collect::<Result<Vec<_>, _>>()?;
    values.resize(4, "0.f".into());
    Ok(format!("attn_sim::atomic_add<{count}>({}, {});", call.global(first)?, values.join(", ")))
}

/// The atomic operation on the word whose address is operand `first`, as an expression.
fn change_word(call: &Call, first: usize, change: &str, ty: &str) -> Lowered {
    let number = match (change, ty) {
        ("add", "u32" | "s32") => 0,
        ("inc", "u32") => 1,
        ("exch", "b32") if first == 1 => 2,
        ("cas", "b32") if first == 1 => 3,
        _ => return Err(Problem::Unknown),
    };
    let count = first + 2 + usize::from(number == 3);
    call.takes(count..=count)?;
    if matches!(call.operand(first)?, Operand::Address(Value::Register { class: Class::B32, .. }, _)) {
        return malformed("the simulator counts in global memory only");
    }
    // cas has what it compares before what it writes
    let compared = if number == 3 { call.word(first + 1)? } else { "0u".into() };
    let (address, operand) = (call.global(first)?, call.word(count - 1)?);
    // without qualifiers it is relaxed, and atomic to the whole GPU
    let narrow = ["cta", "cluster"].iter().any(|scope| call.parts.contains(scope));
    let order = order(call).unwrap_or(0) & !WIDE | if narrow { 0 } else { WIDE };
    Ok(format!("attn_sim::atomic_word({address}, {number}, {operand}, {compared}, {order})"))
}
