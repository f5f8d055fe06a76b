//! Copies that complete later, and the barriers in shared memory on which they complete.

use super::{Call, Lowered, Problem, malformed, word};
use crate::translate::ptx::{Class, Operand, Value};

pub(super) fn lower(call: &Call) -> Lowered {
    // the default mode of tensor copies, and orders that mbarriers have anyway
    const IMPLIED: &[&str] = &["tile", "release", "acquire", "relaxed", "cta", "cluster"];
    let parts: Vec<&str> = call.parts.iter().copied().filter(|part| !IMPLIED.contains(part)).collect();
    const COMPLETE: &str = "mbarrier::complete_tx::bytes";
    match parts.as_slice() {
        ["cp", "async", "ca" | "cg", "shared", "global"] => copy(call),
        ["cp", "async", "commit_group"] => nullary(call, "copy_async_commit"),
        ["cp", "async", "wait_all"] => nullary(call, "copy_async_wait_all"),
        ["cp", "async", "wait_group"] => unary(call, "copy_async_wait", ""),
        ["cp", "async", "mbarrier", "arrive", "shared", "b64"] => barrier(call, "copy_async_arrive", ", 0"),
        ["cp", "async", "mbarrier", "arrive", "noinc", "shared", "b64"] => barrier(call, "copy_async_arrive", ", 1"),

        ["cp", "async", "bulk", "commit_group"] => nullary(call, "bulk_commit"),
        ["cp", "async", "bulk", "wait_group"] => unary(call, "bulk_wait", ", 0"),
        ["cp", "async", "bulk", "wait_group", "read"] => unary(call, "bulk_wait", ", 1"),
        ["cp", "async", "bulk", "shared", "global", COMPLETE] => {
            call.takes(4..=4)?;
            let (to, from, bytes, barrier) = (call.shared(0)?, call.global(1)?, call.word(2)?, call.shared(3)?);
            Ok(format!("attn_sim::bulk_load({to}, {from}, {bytes}, {barrier});"))
        }
        ["cp", "async", "bulk", "global", "shared", "bulk_group"] => bulk_store(call, 0),
        ["cp", "reduce", "async", "bulk", "global", "shared", "bulk_group", "add", "f32"] => bulk_store(call, 1),
        ["cp", "async", "bulk", "tensor", rank, "shared", "global", COMPLETE] => {
            call.takes(3..=3)?;
            let (map, coordinates) = tensor(call, 1, rank)?;
            let (to, barrier) = (call.shared(0)?, call.shared(2)?);
            Ok(format!("attn_sim::tensor_load({to}, {map}, {barrier}, {coordinates});"))
        }
        ["cp", "async", "bulk", "tensor", rank, "global", "shared", "bulk_group"] => tensor_store(call, rank, 0),
        ["cp", "reduce", "async", "bulk", "tensor", rank, "global", "shared", "add", "bulk_group"] => {
            tensor_store(call, rank, 1)
        }
        ["cp", "async", "bulk", "prefetch", "tensor", rank, "L2", "global"] => {
            call.takes(1..=1)?;
            let (map, coordinates) = tensor(call, 0, rank)?;
            Ok(format!("(void)({map}, {coordinates});"))
        }
        ["tensormap", "replace", "global_address", "global", "b1024", "b64"] => {
            call.takes(2..=2)?;
            Ok(format!("attn_sim::tensor_map_replace({}, 0, {});", call.global(0)?, call.long(1)?))
        }
        ["tensormap", "replace", "global_dim", "global", "b1024", "b32"] => {
            call.takes(3..=3)?;
            let (map, axis, extent) = (call.global(0)?, call.immediate(1)?, call.word(2)?);
            if !(0..5).contains(&axis) {
                return malformed(format!("a tensor has axes 0 to 4, not {axis}"));
            }
            Ok(format!("attn_sim::tensor_map_replace({map}, {}, {extent});", axis + 1))
        }
        ["cp", "async", "bulk", "prefetch", "L2", "global"] => {
            call.takes(2..=2)?;
            Ok(format!("(void)({}, {});", call.global(0)?, call.word(1)?))
        }
        parts if parts.iter().any(|part| part.starts_with("multicast")) => {
            malformed("a multicast needs clusters, which the simulator doesn't have")
        }

        // without a state space the address is generic, and nothing says that it is one of shared memory
        ["mbarrier", "init", "shared", "b64"] => barrier_with(call, "mbarrier_init"),
        ["mbarrier", "inval", "shared", "b64"] => barrier(call, "mbarrier_invalidate", ""),
        ["mbarrier", "expect_tx", "shared", "b64"] => barrier_with(call, "mbarrier_expect"),
        ["mbarrier", "arrive", "shared", "b64"] => {
            call.takes(2..=3)?;
            call.sink(0)?;
            let count = if call.operands.len() == 3 { call.word(2)? } else { "1".into() };
            Ok(format!("attn_sim::mbarrier_arrive({}, {count}, 0);", call.shared(1)?))
        }
        ["mbarrier", "arrive", "expect_tx", "shared", "b64"] => {
            call.takes(3..=3)?;
            call.sink(0)?;
            Ok(format!("attn_sim::mbarrier_arrive({}, 1, {});", call.shared(1)?, call.word(2)?))
        }
        ["mbarrier", wait @ ("try_wait" | "test_wait"), "parity", "shared", "b64"] => {
            let test = u32::from(*wait == "test_wait");
            // the last operand limits how long a try may take
            call.takes(3..=if test == 0 { 4 } else { 3 })?;
            call.predicate(0)?;
            call.assign(0, &format!("attn_sim::mbarrier_wait({}, {}, {test}) != 0", call.shared(1)?, call.word(2)?))
        }
        ["mbarrier", "try_wait" | "test_wait", "shared", "b64"] => {
            malformed("the simulator has no states of mbarriers: wait by parity")
        }
        _ => Err(Problem::Unknown),
    }
}

fn nullary(call: &Call, name: &str) -> Lowered {
    call.takes(0..=0)?;
    Ok(format!("attn_sim::{name}();"))
}

fn unary(call: &Call, name: &str, rest: &str) -> Lowered {
    call.takes(1..=1)?;
    Ok(format!("attn_sim::{name}({}{rest});", call.word(0)?))
}

fn barrier(call: &Call, name: &str, rest: &str) -> Lowered {
    call.takes(1..=1)?;
    Ok(format!("attn_sim::{name}({}{rest});", call.shared(0)?))
}

fn barrier_with(call: &Call, name: &str) -> Lowered {
    call.takes(2..=2)?;
    Ok(format!("attn_sim::{name}({}, {});", call.shared(0)?, call.word(1)?))
}

/// `cp.async [to], [from], bytes {, source bytes | ignore}`
fn copy(call: &Call) -> Lowered {
    call.takes(3..=4)?;
    let bytes = call.word(2)?;
    if let Ok(size) = call.immediate(2) {
        let sizes: &[i64] = if call.parts.contains(&"cg") { &[16] } else { &[4, 8, 16] };
        if !sizes.contains(&size) {
            return malformed(format!("it copies {size} bytes; possible are {sizes:?}"));
        }
    }
    let source = match call.operands.get(3) {
        None => bytes.clone(),
        Some(Operand::Value(Value::Register { variable, class: Class::Predicate, .. })) => {
            format!("{variable} ? 0u : {bytes}")
        }
        Some(_) => call.word(3)?,
    };
    Ok(format!("attn_sim::copy_async({}, {}, {bytes}, {source});", call.shared(0)?, call.global(1)?))
}

fn bulk_store(call: &Call, add: u32) -> Lowered {
    call.takes(3..=3)?;
    Ok(format!("attn_sim::bulk_store({}, {}, {}, {add});", call.global(0)?, call.shared(1)?, call.word(2)?))
}

fn tensor_store(call: &Call, rank: &str, add: u32) -> Lowered {
    call.takes(2..=2)?;
    let (map, coordinates) = tensor(call, 0, rank)?;
    Ok(format!("attn_sim::tensor_store({map}, {}, {add}, {coordinates});", call.shared(1)?))
}

/// `[map, {coordinates}]` of a rank such as `4d`.
fn tensor(call: &Call, index: usize, rank: &str) -> Result<(String, String), Problem> {
    let count = match rank {
        "1d" => 1,
        "2d" => 2,
        "3d" => 3,
        "4d" => 4,
        "5d" => 5,
        _ => return Err(Problem::Unknown),
    };
    match call.operand(index)? {
        Operand::Tensor(map, coordinates) if coordinates.len() == count => {
            let coordinates = coordinates.iter().map(word).collect::<Result<Vec<_>, _>>()?;
            Ok((super::long(map)?, coordinates.join(", ")))
        }
        _ => malformed(format!("operand {} must be `[map, {{{count} coordinates}}]`", index + 1)),
    }
}
