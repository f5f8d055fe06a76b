//! The kernel that makes the states before segments of those of segments.

use minijinja::{Value, context};

use super::form::{Form, LinearSum};
use super::own::Own;
use super::plain;
use crate::cuda::arguments::{Argument, Length, declare};
use crate::cuda::assemble::{Machinery, Variant};
use crate::cuda::values::function;
use crate::cuda::{Kernel, KernelKind};
use crate::ir::NodeId;
use crate::lower::{Class, Side};
use crate::plan::{Shape, Target};

/// Threads of a block that adds up segments.
const PREFIX_THREADS: usize = 128;

/// Floats of a state in memory, without and with its vector.
fn state_floats(form: &Form<'_>, shape: Shape) -> [usize; 2] {
    let [ab, c] = form.sum.dims(shape).map(|dim| dim.next_multiple_of(16));
    let vector = match (form.normalized(), form.has_bias()) {
        (true, _) => ab,
        (_, true) => c,
        _ => 0,
    };
    [ab * c, ab * c + vector]
}

/// The kernel that adds up segments: one thread an element of a state. Under a causal mask it takes the state before the first
/// segment from the caller, who may have that behind the last: `[b, h, d, dv]`, and a column behind those of v where the normalizer
/// reads the sum. Gradients of states come and go likewise, from the end.
pub(super) fn prefix_kernel(form: &Form<'_>, shape: Shape, target: Target) -> Kernel {
    let variant = Variant::new(form.lowered, shape, target);
    let linear = form.linear;
    let states = linear.causal;
    let reverse = states && form.sum.rows() == Side::Key;
    let mut members = vec![Argument::States];
    if form.exponents() {
        members.push(Argument::StateExponents);
    }
    if states {
        members.extend([Argument::StateIn, Argument::StateOut]);
    }
    members.push(Argument::Length(Length::Segments));
    let mut with_end = form.lowered.clone();
    let end = linear.end_exponent(&mut with_end.graph).filter(|_| states && form.exponents());
    let shared = (reverse && !form.is_one(linear.shared)).then_some(linear.shared);
    let variant_with_end = Variant::new(&with_end, shape, target);
    let zero = linear.graph.ids().find(|&id| linear.graph.as_float(id) == Some(0.0));
    let end = if states && form.exponents() { end.or(zero) } else { None };
    let tile = end.is_some() || shared.is_some();
    let own = if tile {
        let mut own = Own::new(&variant_with_end);
        let roots: Vec<(&str, NodeId)> = [end.map(|root| ("end_exponent", root)), shared.map(|root| ("shared", root))]
            .into_iter()
            .flatten()
            .collect();
        for &(_, root) in &roots {
            own.values.demand(root, &[]);
            own.roots.push(root);
        }
        for (name, root) in roots {
            let (statements, texts) = own.values.body(&[root], &[]);
            own.functions.push_str(&function(&format!("float {name}(const Tile& tile)"), &statements, &texts[0]));
        }
        own.text(&variant_with_end, &mut members)
    } else {
        declare(variant.definition(), [&variant.names, &variant.size_names], &mut members)
    };
    let [state, slot] = state_floats(form, shape);
    let [ab, _] = form.sum.dims(shape);
    let streaming = form.lowered.class == Class::Streaming;
    let machine: Value = context! {
        head_dim => shape.head_dim(),
        value_dim => shape.value_dim(),
        state_columns => shape.value_dim() + usize::from(streaming),
        ab_tiles => ab.next_multiple_of(16) / 8,
        state_floats => state,
        slot_floats => slot,
        head_is_ab => matches!(form.sum, LinearSum::Output | LinearSum::ValueGrad),
        exponents => form.exponents(),
        shared => shared.is_some(),
        states,
        tile,
        reverse,
    };
    let constants = format!("constexpr int THREADS = {PREFIX_THREADS};\n");
    let source =
        variant_with_end.source("linear_prefix", "states before segments", &constants, &own, machine, Machinery::Plain);
    let kind = KernelKind::LinearPrefix(form.sum);
    let name = format!("linear_prefix_{}", form.sum.name());
    let mut kernel = plain(&variant, "attn_linear_prefix", &name, kind, source, own, members, PREFIX_THREADS as u32);
    // the executor allots so many floats to a slot
    kernel.table_chunk = slot as u32;
    kernel
}
