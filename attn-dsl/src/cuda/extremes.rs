//! The kernel that finds the extremes of blocks of an integer parameter, by which kernels tell what a mask that looks parameters
//! up leaves of a tile.

use minijinja::context;

use super::arguments::{Argument, extremes_name};
use super::assemble::{Machinery, Variant, file_name};
use super::{Kernel, KernelKind};
use crate::ir::ParameterId;

/// Elements whose least and greatest are kept together.
pub const EXTREMES_BLOCK: usize = 64;

/// The constant that kernels need which read extremes; empty where `ranges` is.
pub(super) fn constant(ranges: &[(ParameterId, u32)]) -> String {
    if ranges.is_empty() { String::new() } else { format!("constexpr int EXTREMES_BLOCK = {EXTREMES_BLOCK};\n") }
}

/// One warp a block of elements; see the template.
pub(crate) fn extremes(variant: &Variant<'_>, (parameter, axis): (ParameterId, u32)) -> Kernel {
    let mut members = vec![Argument::Parameter(parameter), Argument::Extremes(parameter, axis)];
    let own = super::arguments::declare(variant.definition(), [&variant.names, &variant.size_names], &mut members);
    let name = variant.name_of(parameter);
    let rank = variant.definition().parameter(parameter).axes.len();
    let machine = context! { parameter => name, extremes => extremes_name(name, axis) };
    let constants =
        format!("constexpr int THREADS = 128, RANK = {rank}, AXIS = {axis}, EXTREMES_BLOCK = {EXTREMES_BLOCK};\n");
    let summary = format!("the extremes of blocks of {name}");
    let source = variant.source("extremes", &summary, &constants, &own, machine, Machinery::Plain);
    Kernel {
        entry: "attn_extremes",
        kind: KernelKind::Extremes(parameter, axis),
        file_name: file_name(variant, &format!("extremes_{name}_{axis}")),
        source,
        variant_part: own,
        arguments: members,
        threads: 128,
        shared_memory: 0,
        block_q: 0,
        block_kv: 0,
        table_chunk: 0,
        persistent: false,
        tiles: None,
    }
}
