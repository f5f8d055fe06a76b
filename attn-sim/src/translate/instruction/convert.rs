//! `cvt`: conversions, rounded as PTX says.

use super::{Call, Lowered, Problem, integer_name, integer_of, integer_type, malformed};

pub(super) fn lower(call: &Call) -> Lowered {
    let pair = |convert: &str| {
        call.takes(3..=3)?;
        call.word(0)?;
        // the first source is the high half
        let (high, low) = (call.real(1)?, call.real(2)?);
        call.assign(0, &format!("attn_sim::pair(attn_sim::{convert}({high}), attn_sim::{convert}({low}))"))
    };
    let to_half = |convert: &str| {
        call.takes(2..=2)?;
        call.half(0)?;
        call.assign(0, &format!("attn_sim::{convert}({})", call.real(1)?))
    };
    let to_word = |value: String| {
        call.takes(2..=2)?;
        call.word(0)?;
        call.assign(0, &value)
    };
    match &call.parts[1..] {
        ["rn", "bf16x2", "f32"] => pair("bf16_of"),
        ["rn", "f16x2", "f32"] => pair("f16_of"),
        ["rn", "bf16", "f32"] => to_half("bf16_of"),
        ["rn", "f16", "f32"] => to_half("f16_of"),
        ["f32", "f16"] => to_word(format!("attn_sim::bits(attn_sim::of_f16({}))", call.half(1)?)),
        ["f32", "bf16"] => to_word(format!("attn_sim::bits(attn_sim::of_bf16({}))", call.half(1)?)),
        ["rna", "tf32", "f32"] => to_word(format!("attn_sim::tf32_away({})", call.real(1)?)),
        ["rn", "tf32", "f32"] => to_word(format!("attn_sim::tf32_even({})", call.real(1)?)),
        ["rn", "f32", "f64"] => to_word(format!("attn_sim::bits((float)attn_sim::real64({}))", call.long(1)?)),
        ["f64", "f32"] => call.assign(0, &format!("attn_sim::bits64((double){})", call.real(1)?)),
        [rounding @ ("rni" | "rzi" | "rmi" | "rpi"), ty @ ("s32" | "u32"), "f32"]
        | [rounding @ ("rni" | "rzi" | "rmi" | "rpi"), "ftz", ty @ ("s32" | "u32"), "f32"] => {
            let round = match *rounding {
                "rni" => "__builtin_rintf",
                "rzi" => "__builtin_truncf",
                "rmi" => "__builtin_floorf",
                _ => "__builtin_ceilf",
            };
            to_word(format!("attn_sim::to_{ty}({round}({}))", call.real(1)?))
        }
        [rounding @ ("rni" | "rzi" | "rmi" | "rpi"), "f32", "f32"] => {
            let round = match *rounding {
                "rni" => "__builtin_rintf",
                "rzi" => "__builtin_truncf",
                "rmi" => "__builtin_floorf",
                _ => "__builtin_ceilf",
            };
            to_word(format!("attn_sim::bits({round}({}))", call.real(1)?))
        }
        ["rn", "f32", ty] => match integer_type(ty) {
            Some((signed, bits)) => {
                to_word(format!("attn_sim::bits((float){})", integer_of(call.value(1)?, signed, bits)?))
            }
            None => Err(Problem::Unknown),
        },
        [to, from] => match (integer_type(to), integer_type(from)) {
            (Some((to_signed, to_bits)), Some((from_signed, from_bits))) => {
                call.takes(2..=2)?;
                let from = integer_of(call.value(1)?, from_signed, from_bits)?;
                let register = match to_bits {
                    64 => call.long(0).map(|_| "attn_sim::u64")?,
                    32 => call.word(0).map(|_| "attn_sim::u32")?,
                    _ => match call.half(0) {
                        Ok(_) => "attn_sim::u16",
                        Err(_) => call.word(0).map(|_| "attn_sim::u32")?,
                    },
                };
                call.assign(0, &format!("({register})({}){from}", integer_name(to_signed, to_bits)))
            }
            _ => Err(Problem::Unknown),
        },
        [] => malformed("a conversion needs its types"),
        _ => Err(Problem::Unknown),
    }
}
