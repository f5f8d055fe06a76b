//! Barriers, fences, exchanges in a warp, and jumps.

use super::{Call, Lowered, Problem, malformed};
use crate::translate::ptx::{self, Operand, Value};

pub(super) fn lower(call: &Call) -> Lowered {
    let parts: Vec<&str> = call.parts.iter().copied().filter(|part| !matches!(*part, "aligned" | "cta")).collect();
    match parts.as_slice() {
        ["bar", "warp", "sync"] => {
            call.takes(1..=1)?;
            Ok(format!("attn_sim::sync_warp({});", call.word(0)?))
        }
        ["bar" | "barrier", "sync"] => {
            call.takes(1..=2)?;
            let threads = if call.operands.len() == 2 { call.word(1)? } else { "0".into() };
            Ok(format!("attn_sim::barrier_sync({}, {threads});", call.word(0)?))
        }
        ["bar" | "barrier", "arrive"] => {
            call.takes(2..=2)?;
            Ok(format!("attn_sim::barrier_arrive({}, {});", call.word(0)?, call.word(1)?))
        }
        ["membar"] => fence(call, 4), // its `cta` is gone
        ["membar", "gl" | "sys"] => fence(call, 5),
        ["fence", "proxy", "async"] => fence(call, 2),
        ["fence", "proxy", "async", "shared"] => fence(call, 0),
        ["fence", "proxy", "async", "global"] => fence(call, 1),
        ["fence", "proxy", "tensormap::generic", "release", "gpu" | "sys"] => fence(call, 6),
        ["fence", "proxy", "tensormap::generic", "acquire", "gpu" | "sys"] => acquire_map(call),
        ["fence", "mbarrier_init", "release", "cluster"] => fence(call, 3),
        ["fence", "acq_rel" | "sc"] | ["fence", "acq_rel" | "sc", "cluster"] => fence(call, 4),
        ["fence", "acq_rel" | "sc", "gpu" | "sys"] => fence(call, 5),
        ["setmaxnreg", change @ ("inc" | "dec"), "sync", "u32"] => {
            call.takes(1..=1)?;
            Ok(format!("attn_sim::set_registers({}, {});", call.word(0)?, u32::from(*change == "inc")))
        }
        ["elect", "sync"] => elect(call),
        ["shfl", "sync", kind, "b32"] => shuffle(call, kind),
        ["vote", "sync", kind, ty] => vote(call, kind, ty),
        ["activemask", "b32"] => call.assign(0, "0xffffffffu"),
        ["bra"] | ["bra", "uni"] => match call.value(0)? {
            Value::Name(name) => Ok(format!("goto {};", ptx::label(name))),
            _ => malformed("it needs a label"),
        },
        ["trap"] => Ok("attn_sim::trap();".into()),
        ["nanosleep", "u32"] => Ok(format!("(void)({});", call.word(0)?)),
        _ => Err(Problem::Unknown),
    }
}

fn fence(call: &Call, kind: u32) -> Lowered {
    call.takes(0..=0)?;
    Ok(format!("attn_sim::fence({kind});"))
}

/// `fence.proxy.tensormap::generic.acquire.gpu [map], 128`
fn acquire_map(call: &Call) -> Lowered {
    call.takes(2..=2)?;
    match call.immediate(1)? {
        128 => Ok(format!("attn_sim::tensor_map_acquire({});", call.global(0)?)),
        bytes => malformed(format!("it acquires {bytes} bytes; a tensor map has 128")),
    }
}

/// `elect.sync lane|is_elected, mask`
fn elect(call: &Call) -> Lowered {
    call.takes(2..=2)?;
    let Operand::Pair(lane, elected) = call.operand(0)? else { return malformed("it writes `lane|predicate`") };
    if *lane != Value::Sink {
        return malformed("the simulator doesn't give the elected lane: write `_`");
    }
    super::predicate(elected)?;
    super::assign(elected, &format!("attn_sim::elect({}) != 0", call.word(1)?))
}

/// `shfl.sync d, value, lane, clamp, mask`
fn shuffle(call: &Call, kind: &str) -> Lowered {
    call.takes(5..=5)?;
    if matches!(call.operand(0)?, Operand::Pair(..)) {
        return malformed("the simulator doesn't give the predicate of a shuffle");
    }
    let kind = match kind {
        "up" => 0,
        "down" => 1,
        "bfly" => 2,
        "idx" => 3,
        _ => return Err(Problem::Unknown),
    };
    if let Ok(clamp) = call.immediate(3)
        && clamp & 0x1f != if kind == 0 { 0 } else { 0x1f }
    {
        return malformed("the simulator knows only segments that are whole: a clamp of 0x1f, and 0 for `up`");
    }
    let (value, lane, clamp, mask) = (call.word(1)?, call.word(2)?, call.word(3)?, call.word(4)?);
    call.word(0)?;
    call.assign(0, &format!("attn_sim::shuffle_word({mask}, {value}, {lane}, {kind}, {clamp})"))
}

/// `vote.sync d, predicate, mask`
fn vote(call: &Call, kind: &str, ty: &str) -> Lowered {
    call.takes(3..=3)?;
    let kind = match (kind, ty) {
        ("any", "pred") => 0,
        ("all", "pred") => 1,
        ("ballot", "b32") => 2,
        _ => return Err(Problem::Unknown),
    };
    let text = format!("attn_sim::vote({}, {}, {kind})", call.word(2)?, call.predicate(1)?);
    call.assign(0, &if kind == 2 { text } else { format!("{text} != 0") })
}

/// PTX' own registers.
pub(super) fn special(name: &str) -> Lowered {
    let part = |text: &str| matches!(text, "x" | "y" | "z").then(|| text.to_owned());
    let text = match name.strip_prefix('%').unwrap_or(name).split_once('.') {
        Some(("tid", axis)) => part(axis).map(|axis| format!("threadIdx.{axis}")),
        Some(("ntid", axis)) => part(axis).map(|axis| format!("blockDim.{axis}")),
        Some(("ctaid", axis)) => part(axis).map(|axis| format!("blockIdx.{axis}")),
        Some(("nctaid", axis)) => part(axis).map(|axis| format!("gridDim.{axis}")),
        Some(_) => None,
        None => match name {
            "%laneid" => Some("(attn_sim::linear_thread() % 32)".into()),
            "%warpid" => Some("(attn_sim::linear_thread() / 32)".into()),
            "WARP_SZ" => Some("32u".into()),
            _ => None,
        },
    };
    text.map_or_else(|| malformed(format!("the simulator doesn't know the register or name `{name}`")), Ok)
}
