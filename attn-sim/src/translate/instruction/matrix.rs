//! Matrix loads, stores and products.

use super::{Call, Lowered, Problem, assign, malformed, real, reference, word, words};
use crate::translate::ptx::{Operand, Value};

pub(super) fn lower(call: &Call) -> Lowered {
    match call.parts.as_slice() {
        ["ldmatrix", "sync", "aligned", "m8n8", count, "shared", "b16"] => load(call, count, 0),
        ["ldmatrix", "sync", "aligned", "m8n8", count, "trans", "shared", "b16"] => load(call, count, 1),
        ["stmatrix", "sync", "aligned", "m8n8", count, "shared", "b16"] => store(call, count, 0),
        ["stmatrix", "sync", "aligned", "m8n8", count, "trans", "shared", "b16"] => store(call, count, 1),
        ["mma", "sync", "aligned", shape, "row", "col", "f32", a, b, "f32"] if a == b => {
            let (kind, depth) = match (*shape, *a) {
                ("m16n8k16", "f16") => (0, 2),
                ("m16n8k16", "bf16") => (1, 2),
                ("m16n8k8", "tf32") => (2, 2),
                _ => return Err(Problem::Unknown),
            };
            multiply(call, kind, depth)
        }
        ["wgmma", "fence", "sync", "aligned"] => {
            call.takes(0..=0)?;
            Ok("attn_sim::wgmma_fence();".into())
        }
        ["wgmma", "commit_group", "sync", "aligned"] => {
            call.takes(0..=0)?;
            Ok("attn_sim::wgmma_commit();".into())
        }
        ["wgmma", "wait_group", "sync", "aligned"] => {
            call.takes(1..=1)?;
            Ok(format!("attn_sim::wgmma_wait({});", call.word(0)?))
        }
        ["wgmma", "mma_async", "sync", "aligned", shape, "f32", a, b] if a == b => {
            let element = match *a {
                "f16" => 0,
                "bf16" => 1,
                _ => return Err(Problem::Unknown),
            };
            wgmma(call, shape, element)
        }
        _ => Err(Problem::Unknown),
    }
}

fn matrices(count: &str) -> Result<usize, Problem> {
    match count {
        "x1" => Ok(1),
        "x2" => Ok(2),
        "x4" => Ok(4),
        _ => Err(Problem::Unknown),
    }
}

fn load(call: &Call, count: &str, transposed: u32) -> Lowered {
    call.takes(2..=2)?;
    let count = matrices(count)?;
    let address = call.shared(1)?;
    let mut text =
        format!("{{ const attn_sim::Words attn_sim_w = attn_sim::load_matrix<{count}, {transposed}>({address}); ");
    for (index, to) in call.vector(0, count)?.iter().enumerate() {
        word(to)?;
        text += &assign(to, &format!("attn_sim_w.word[{index}]"))?;
        text.push(' ');
    }
    Ok(text + "}")
}

fn store(call: &Call, count: &str, transposed: u32) -> Lowered {
    call.takes(2..=2)?;
    let count = matrices(count)?;
    let from = words(call.vector(1, count)?)?;
    Ok(format!("attn_sim::store_matrix<{count}, {transposed}>({}, {from});", call.shared(0)?))
}

/// D = A B + C; D and C may be different registers.
fn multiply(call: &Call, kind: u32, b_count: usize) -> Lowered {
    call.takes(4..=4)?;
    let a = words(call.vector(1, 4)?)?;
    let b = call.vector(2, b_count)?.iter().map(word).collect::<Result<Vec<_>, _>>()?.join(", ");
    let c = call.vector(3, 4)?.iter().map(real).collect::<Result<Vec<_>, _>>()?.join(", ");
    let mut text = format!(
        "{{ const attn_sim::Reals attn_sim_d = attn_sim::multiply<{kind}>({a}, {b}, attn_sim::Reals{{{{{c}}}}}); "
    );
    for (index, to) in call.vector(0, 4)?.iter().enumerate() {
        word(to)?;
        text += &assign(to, &format!("attn_sim::bits(attn_sim_d.real[{index}])"))?;
        text.push(' ');
    }
    Ok(text + "}")
}

/// `{accumulators}, a, b, scale-d, scale-a, scale-b {, a transposed}, b transposed`
fn wgmma(call: &Call, shape: &str, element: u32) -> Lowered {
    let columns = shape
        .strip_prefix("m64n")
        .and_then(|rest| rest.strip_suffix("k16"))
        .and_then(|columns| columns.parse::<usize>().ok())
        .ok_or(Problem::Unknown)?;
    if columns % 8 != 0 || !(8..=256).contains(&columns) {
        return malformed("its columns must be a multiple of 8 from 8 to 256");
    }
    let registers = call.vector(0, columns / 2)?;
    let accumulators = registers
        .iter()
        .map(|register| match register {
            Value::Register { argument: Some(number), .. } => Ok(reference(*number)),
            _ => malformed("the accumulators of wgmma must be operands of asm with `+f`"),
        })
        .collect::<Result<Vec<_>, _>>()?
        .join(", ");
    let sign = |index: usize| match call.immediate(index)? {
        sign @ (1 | -1) => Ok(sign),
        _ => malformed("the signs of A and B are 1 or -1"),
    };
    let transposed = |index: usize| match call.immediate(index)? {
        flag @ (0 | 1) => Ok(flag),
        _ => malformed("the transpositions of A and B are 0 or 1"),
    };
    // operands may also be constants of asm ("n"), which C++ checks no further
    let flag = |index: usize, check: &dyn Fn(usize) -> Result<i64, Problem>| match call.value(index)? {
        Value::Number(_) => check(index).map(|value| value.to_string()),
        other => Ok(format!("(int){}", word(other)?)),
    };
    let shared_a = !matches!(call.operand(1)?, Operand::Vector(_));
    call.takes(if shared_a { 8..=8 } else { 7..=7 })?;
    let (b, accumulate) = (call.long(2)?, call.predicate(3)?);
    let (a_sign, b_sign) = (flag(4, &sign)?, flag(5, &sign)?);
    if shared_a {
        let (a, a_transposed, b_transposed) = (call.long(1)?, flag(6, &transposed)?, flag(7, &transposed)?);
        Ok(format!(
            "attn_sim::wgmma_shared({element}, {a}, {b}, {accumulate}, {a_sign}, {b_sign}, {a_transposed}, {b_transposed}, {accumulators});"
        ))
    } else {
        let (a, b_transposed) = (words(call.vector(1, 4)?)?, flag(6, &transposed)?);
        Ok(format!(
            "attn_sim::wgmma_registers({element}, {a}, {b}, {accumulate}, {a_sign}, {b_sign}, {b_transposed}, {accumulators});"
        ))
    }
}
