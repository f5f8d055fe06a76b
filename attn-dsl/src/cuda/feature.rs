//! Kernels that map elements of q and k, for schedules that do not map where they load.
//!
//! Invariant: they know the element type and the head dimension, and nothing of the variant but the map.

use minijinja::context;

use super::assemble::{Machinery, Variant, file_name};
use super::values::{Values, function};
use super::{Kernel, KernelKind};
use crate::ir::Input;
use crate::lower::{Feature, Lowered, Side};
use crate::plan::{Shape, Target};

/// Threads of a block that maps.
pub const FEATURE_THREADS: u32 = 256;

const ARGUMENTS: &str = "struct Arguments {
    const element* from;
    element* to;
    i64 batch, head, row;   // strides of `from`, in elements
    int rows;
};
";

/// The C++ names of a side's map and of its derivative.
pub(crate) fn feature_names(side: Side) -> [&'static str; 2] {
    match side {
        Side::Query => ["feature_q", "feature_q_slope"],
        Side::Key => ["feature_k", "feature_k_slope"],
    }
}

/// The map of a side, and its derivative where it is asked for.
pub(crate) fn feature_functions(variant: &Variant<'_>, side: Side, wanted: [bool; 2]) -> String {
    let Some(feature) = feature_of(variant.lowered, side) else { return String::new() };
    // what is known of the variant's graph says nothing of this one's
    let (relatives, exact) = Default::default();
    let values = Values::new(
        &feature.graph,
        variant.definition(),
        [&variant.names, &variant.size_names],
        variant.precise(),
        variant.shape.head_dim(),
        false,
        (&relatives, &exact),
    );
    let roots = [feature.value, feature.slope];
    let all = feature_names(side).into_iter().zip(roots).zip(wanted).filter(|(_, wanted)| *wanted);
    all.map(|((name, root), _)| {
        let (statements, texts) = values.body(&[root], &[(Input::Product, "x")]);
        function(&format!("float {name}(float x)"), &statements, &texts[0])
    })
    .collect()
}

/// The map of a side, where it has one.
pub(crate) fn feature_of(lowered: &Lowered, side: Side) -> Option<&Feature> {
    lowered.features[if side == Side::Query { 0 } else { 1 }].as_ref()
}

/// The kernels that map q and k, and those that take gradients through the maps; none for a variant without a feature map.
/// Their parameter is: the address of the tensor `[b, h, n, d]`, that of the row-major result, which holds the gradients in mapped
/// elements where it is one, the strides of b, h and n in elements, and i32 n. A block has [`FEATURE_THREADS`] threads, each of
/// which has 16 bytes of a row; blocks of one batch and head go along x, heads along y, batches along z.
pub fn features(lowered: &Lowered, shape: Shape, target: Target) -> Vec<Kernel> {
    let variant = Variant::new(lowered, shape, target);
    let mut kernels = vec![];
    for side in [Side::Query, Side::Key] {
        if feature_of(lowered, side).is_none() {
            continue;
        }
        for chain in [false, true] {
            let name = feature_names(side)[usize::from(chain)];
            let entry = match (side, chain) {
                (Side::Query, false) => "attn_feature_q",
                (Side::Query, true) => "attn_feature_q_grad",
                (Side::Key, false) => "attn_feature_k",
                (Side::Key, true) => "attn_feature_k_grad",
            };
            let own = ARGUMENTS.to_owned() + &feature_functions(&variant, side, [!chain, chain]);
            let machine = context! { entry, chain, map => name, dtype => shape.element().name() };
            let constants = format!("constexpr int HEAD_DIM = {}, THREADS = {FEATURE_THREADS};\n", shape.head_dim());
            let summary = if chain { "gradients through a feature map" } else { "a feature map" };
            let source = variant.source("feature", summary, &constants, &own, machine, Machinery::Plain);
            kernels.push(Kernel {
                entry,
                kind: if chain { KernelKind::FeatureGrad(side) } else { KernelKind::Feature(side) },
                file_name: file_name(&variant, name),
                source,
                variant_part: own,
                arguments: vec![],
                threads: FEATURE_THREADS,
                shared_memory: 0,
                block_q: 0,
                block_kv: 0,
                table_chunk: 0,
                persistent: false,
                tiles: None,
            });
        }
    }
    kernels
}
