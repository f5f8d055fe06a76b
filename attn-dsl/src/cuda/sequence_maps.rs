//! The kernel that writes tensor maps of the sequences of a packed batch, one of each tensor that a kernel copies, so that boxes end
//! where their sequence does.
//!
//! Invariant: the array is laid out `[sequences, tensors]` in the order of the list that the kernel that reads it has, too
//! ([`Argument::SequenceMaps`]).

use minijinja::context;

use super::arguments::{Argument, Length, TensorRole, declare};
use super::assemble::{Machinery, Variant, file_name};
use super::{Kernel, KernelKind};

const THREADS: u32 = 128;

/// The constants that name the maps of a sequence, and how many there are.
pub(crate) fn constants(tensors: &[(TensorRole, u32)]) -> String {
    let names = tensors.iter().enumerate().map(|(at, (role, _))| format!("{} = {at}", map_name(*role)));
    format!("constexpr int {}, MAPS = {};   // of a sequence\n", names.collect::<Vec<_>>().join(", "), tensors.len())
}

/// The number of a tensor's map among those of its sequence.
fn map_name(role: TensorRole) -> String {
    format!("{}_MAP", role.name().to_uppercase())
}

/// The C++ expression of a tensor's map in a kernel: an argument, or where the batch is packed that of the sequence, of which `maps`
/// are.
pub(crate) fn map_of(variant: &Variant<'_>, role: TensorRole) -> String {
    if variant.shape.is_packed() {
        format!("maps + {}", map_name(role))
    } else {
        format!("&arguments.{}_map", role.name())
    }
}

/// The C++ expression of the entry of the batch in a map.
pub(crate) fn batch_of(variant: &Variant<'_>) -> &'static str {
    if variant.shape.is_packed() { "0" } else { "batch" }
}

/// The arguments by which a kernel of these tensors finds their maps, each with the rows of its boxes.
pub(crate) fn arguments(variant: &Variant<'_>, tensors: &[(TensorRole, u32)]) -> Vec<Argument> {
    if variant.shape.is_packed() {
        vec![Argument::SequenceMaps(tensors.to_vec())]
    } else {
        tensors.iter().map(|&(role, rows)| Argument::TensorMap(role, rows)).collect()
    }
}

/// The kernel that writes them, before a kernel of a packed batch that reads them; one thread a sequence.
pub(crate) fn kernel(variant: &Variant<'_>, tensors: &[(TensorRole, u32)], of: &str) -> Kernel {
    let mut members: Vec<Argument> = tensors.iter().map(|&(role, rows)| Argument::TensorMap(role, rows)).collect();
    members.extend(tensors.iter().map(|&(role, _)| Argument::Tensor(role)));
    members.extend([Argument::CuSeqlensQ, Argument::CuSeqlensKv, Argument::SequenceMaps(tensors.to_vec())]);
    members.push(Argument::Length(Length::Sequences));
    let own = declare(variant.definition(), [&variant.names, &variant.size_names], &mut members);
    let listed = |&(role, _): &(TensorRole, u32)| context! { name => role.name(), side => side(role) };
    let machine = context! {
        tensors => tensors.iter().map(listed).collect::<Vec<_>>(),
        sides => ["q", "kv"].into_iter().filter(|known| tensors.iter().any(|(role, _)| side(*role) == *known)).collect::<Vec<_>>(),
    };
    let constants = format!("constexpr int THREADS = {THREADS}, MAPS = {};\n", tensors.len());
    let names: Vec<&str> = tensors.iter().map(|(role, _)| role.name()).collect();
    let summary = format!("a tensor map of each sequence of {}, for the {of} kernel", names.join(", "));
    let source = variant.source("sequence_maps", &summary, &constants, &own, machine, Machinery::Plain);
    Kernel {
        entry: "attn_sequence_maps",
        kind: KernelKind::SequenceMaps,
        file_name: file_name(variant, &format!("sequence_maps_{of}")),
        source,
        variant_part: own,
        arguments: members,
        threads: THREADS,
        shared_memory: 0,
        block_q: 0,
        block_kv: 0,
        table_chunk: 0,
        persistent: false,
        tiles: None,
    }
}

/// Which of a sequence's lengths a tensor has rows of.
fn side(role: TensorRole) -> &'static str {
    match role {
        TensorRole::Q | TensorRole::Output | TensorRole::SecondOutput | TensorRole::OutputGrad | TensorRole::QGrad => {
            "q"
        }
        TensorRole::K | TensorRole::V | TensorRole::KGrad | TensorRole::VGrad => "kv",
    }
}
