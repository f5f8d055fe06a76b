//! The one parameter of every kernel: a structure of tensors, pointers and scalars.
//!
//! One list gives both the C++ declaration and the layout that the runtime fills, so that the two cannot disagree.
//!
//! Invariant: members are ordered by alignment (64 before 8 before 4), so that neither side has padding but at the end.

use std::fmt::Write;

use crate::definition::Definition;
use crate::ir::{ParameterId, Reduction, Type};
use crate::lower::{SavedRow, Side};

/// A tensor `[b, h, rows, d]`: address, then the strides of b, h and rows in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TensorRole {
    Q,
    K,
    V,
    Output,
    SecondOutput,
    OutputGrad,
    QGrad,
    KGrad,
    VGrad,
}

impl TensorRole {
    pub(crate) fn name(self) -> &'static str {
        match self {
            TensorRole::Q => "q",
            TensorRole::K => "k",
            TensorRole::V => "v",
            TensorRole::Output | TensorRole::SecondOutput => "o",
            TensorRole::OutputGrad => "output_grad",
            TensorRole::QGrad => "q_grad",
            TensorRole::KGrad => "k_grad",
            TensorRole::VGrad => "v_grad",
        }
    }
}

/// An f32 (i32 for `LiveKeys`) array `[b, h, q]`, contiguous; `[1, h, total_q]` of a packed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowArray {
    /// What the forward pass saves.
    Saved(SavedRow),
    /// dO . O less the statistic's term.
    Delta,
    /// The gradient of the statistic, or null.
    StatisticGrad,
    /// The number of live keys of each row.
    LiveKeys,
}

impl RowArray {
    fn declaration(self) -> String {
        let text = match self {
            RowArray::Saved(SavedRow::Row(row)) => return format!("float* {row}"),
            RowArray::Saved(SavedRow::Statistic) => "float* statistic",
            RowArray::Saved(SavedRow::Shift) => "float* shift",
            RowArray::Saved(SavedRow::Reduction(Reduction::Sum)) => "float* sum",
            RowArray::Saved(SavedRow::Reduction(Reduction::Max)) => "float* max_weight",
            RowArray::Saved(SavedRow::Reduction(Reduction::SumSquares)) => "float* sum_squares",
            RowArray::Saved(SavedRow::ArgMax) => "float* arg_max",
            RowArray::Delta => "float* delta",
            RowArray::StatisticGrad => "const float* statistic_grad",
            RowArray::LiveKeys => "int* live_keys",
        };
        text.to_owned()
    }
}

/// A 32-bit integer of the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Length {
    Batches,
    Heads,
    /// Query heads that share a head of k and v.
    Group,
    QueryLen,
    KeyLen,
    /// Heads, over all batches, whose keys and values fit the L2 cache together; a multiple of `Group`.
    HeadGroup,
    /// Heads of k and v, over all batches, whose queries fit the L2 cache together.
    KeyHeadGroup,
    /// The sequences of a packed batch.
    Sequences,
    /// The queries of all of them.
    TotalQueries,
    /// The queries of the longest one.
    MaxSeqlenQ,
    /// The keys of the longest one.
    MaxSeqlenKv,
    /// The segments of a head, each walked by a block.
    Segments,
    /// The chunks of a segment.
    SegmentChunks,
    /// The segments that the columns of rows were summed in.
    ColumnSegments,
    /// A named length of the definition.
    Size(u32),
}

/// A member of the structure.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Argument {
    /// 32 bytes.
    Tensor(TensorRole),
    /// The tensor map of a tensor whose boxes have 64 columns and this many rows: 128 bytes, aligned to 64.
    TensorMap(TensorRole, u32),
    /// Tensor maps of each sequence of a packed batch, `[sequences, these tensors]` with boxes of 64 columns and so many rows: an
    /// address that is a multiple of 128.
    SequenceMaps(Vec<(TensorRole, u32)>),
    /// An address.
    Rows(RowArray),
    /// A parameter: address, then a 64-bit stride per axis (0 where it broadcasts), then a 32-bit extent per axis, padded to 8.
    Parameter(ParameterId),
    /// The least and greatest element of each block of [`EXTREMES_BLOCK`](super::EXTREMES_BLOCK) along an axis of an integer
    /// parameter, pairs of i32: laid out as a parameter whose extent along the axis is the number of blocks.
    Extremes(ParameterId, u32),
    /// f32 partial sums of a parameter's gradient: an address.
    Partial(ParameterId),
    /// The same from each of some warps of the block of a tile of keys, where the parameter has no axis of queries or keys:
    /// `[b, h, tiles of keys, this many]`, and the entries of a table.
    TilePartial(ParameterId, u32),
    /// f32 partial sums `[b, h, q]` of what the normalizer adds to a parameter's gradient: an address.
    RowPartial(ParameterId),
    /// f32 sums of dq, this many a tile of queries, in an order of their own: an address.
    QueryGradSums(u32),
    /// The number of the tile of keys that adds next to each tile of dq; 0 where none has: an address.
    QueryGradTurns,
    /// f32 gradient of a dense parameter: address, then four 64-bit strides of b, h, q, kv (0 where it broadcasts).
    DenseGrad(ParameterId),
    /// f32 states of segments, in an order of their own: an address.
    States,
    /// f32 exponents that states are relative to, in log2 units: an address.
    StateExponents,
    /// f32 `[b, h, d, dv]`, or a column more: the state to begin with, or null: an address.
    StateIn,
    /// The same of the state at the end, or null: an address.
    StateOut,
    /// f32 `[b, h, n]`: the sums of gradients times products of each query or key: an address.
    ProductSums(Side),
    /// An address of 4 bytes that are 0 before and after each launch: how many tiles the blocks have taken.
    WorksTaken,
    /// i32 `[sequences + 1]`: the queries before each sequence of a packed batch, then all: an address.
    CuSeqlensQ,
    /// The same of keys.
    CuSeqlensKv,
    /// A length.
    Length(Length),
    /// The softmax scale, f32.
    Scale,
}

impl Argument {
    /// Bytes of the member in the structure; members follow each other without gaps, and the whole is padded (see
    /// [`Argument::structure_bytes`]).
    pub fn bytes(&self, definition: &Definition) -> usize {
        match self {
            Argument::Tensor(_) => 4 * 8,
            Argument::TensorMap(..) => 128,
            Argument::Rows(_)
            | Argument::SequenceMaps(_)
            | Argument::Partial(_)
            | Argument::TilePartial(..)
            | Argument::RowPartial(_)
            | Argument::QueryGradSums(_)
            | Argument::QueryGradTurns
            | Argument::States
            | Argument::StateExponents
            | Argument::StateIn
            | Argument::StateOut
            | Argument::ProductSums(_)
            | Argument::WorksTaken
            | Argument::CuSeqlensQ
            | Argument::CuSeqlensKv => 8,
            Argument::Parameter(id) | Argument::Extremes(id, _) => {
                let rank = definition.parameter(*id).axes.len();
                (8 + 8 * rank + 4 * rank).next_multiple_of(8)
            }
            Argument::DenseGrad(_) => 5 * 8,
            Argument::Length(_) | Argument::Scale => 4,
        }
    }

    /// Bytes of the structure of these members, its padding at the end included.
    pub fn structure_bytes(members: &[Argument], definition: &Definition) -> usize {
        let alignment = members.iter().map(Argument::alignment).max().unwrap_or(1).max(8);
        members.iter().map(|member| member.bytes(definition)).sum::<usize>().next_multiple_of(alignment)
    }

    fn alignment(&self) -> usize {
        match self {
            Argument::TensorMap(..) => 64,
            Argument::Length(_) | Argument::Scale => 4,
            _ => 8,
        }
    }
}

/// The member that holds the extremes of a parameter along an axis.
pub(crate) fn extremes_name(parameter: &str, axis: u32) -> String {
    format!("extremes_{parameter}_{axis}")
}

/// Orders the members and writes the declaration of `struct Arguments`.
pub(crate) fn declare(
    definition: &Definition,
    [names, size_names]: [&[String]; 2],
    members: &mut [Argument],
) -> String {
    members.sort_by_key(|member| std::cmp::Reverse(member.alignment()));
    let mut text = String::from("struct Arguments {\n");
    let mut line = |declaration: String| writeln!(text, "    {declaration};").expect("writing to a string");
    let tensors: Vec<&str> =
        members.iter().filter_map(|m| if let Argument::Tensor(role) = m { Some(role.name()) } else { None }).collect();
    let mut tensors_written = false;
    for member in members.iter() {
        match member {
            // tensors lead the list: one line declares them all
            Argument::Tensor(_) if tensors_written => {}
            Argument::Tensor(_) => {
                line(format!("Tensor {}", tensors.join(", ")));
                tensors_written = true;
            }
            Argument::TensorMap(role, _) => line(format!("TensorMap {}_map", role.name())),
            Argument::SequenceMaps(tensors) => {
                let names: Vec<&str> = tensors.iter().map(|(role, _)| role.name()).collect();
                line(format!("TensorMap* sequence_maps   /* of each sequence: {} */", names.join(", ")));
            }
            Argument::Rows(rows) => line(rows.declaration()),
            Argument::Parameter(id) => {
                let parameter = definition.parameter(*id);
                let ty = if parameter.ty == Type::Int { "int" } else { "float" };
                line(format!("Array<{ty}, {}> {}", parameter.axes.len(), names[id.0 as usize]));
            }
            Argument::Extremes(id, axis) => {
                let rank = definition.parameter(*id).axes.len();
                line(format!("Array<int2, {rank}> {}", extremes_name(&names[id.0 as usize], *axis)));
            }
            Argument::Partial(id) | Argument::TilePartial(id, _) => {
                line(format!("float* grad_{}", names[id.0 as usize]))
            }
            Argument::RowPartial(id) => line(format!("float* row_grad_{}", names[id.0 as usize])),
            Argument::QueryGradSums(_) => line("float* dq_sums   /* tile after tile of queries */".to_owned()),
            Argument::QueryGradTurns => {
                line("int* dq_turns   /* which tile of keys adds next to a tile of dq */".to_owned())
            }
            Argument::States => line("float* states   /* of segments */".to_owned()),
            Argument::StateExponents => {
                line("float* state_exponents   /* that states are relative to, log2 units */".to_owned())
            }
            Argument::StateIn => line("const float* state_in   /* or null */".to_owned()),
            Argument::StateOut => line("float* state_out   /* or null */".to_owned()),
            Argument::ProductSums(Side::Query) => line("float* query_sums".to_owned()),
            Argument::ProductSums(Side::Key) => line("float* key_sums".to_owned()),
            Argument::WorksTaken => {
                line("u32* works_taken   /* tiles that blocks have taken; 0 before and after */".to_owned())
            }
            Argument::CuSeqlensQ => {
                line("const int* cu_seqlens_q   /* queries before each sequence, then all */".to_owned())
            }
            Argument::CuSeqlensKv => {
                line("const int* cu_seqlens_kv   /* keys before each sequence, then all */".to_owned())
            }
            Argument::DenseGrad(id) => line(format!("DenseGrad grad_{}", names[id.0 as usize])),
            Argument::Length(length) => line(match length {
                Length::Batches => "int batches".to_owned(),
                Length::Heads => "int heads".to_owned(),
                Length::Group => "int group   /* query heads that share a head of k and v */".to_owned(),
                Length::QueryLen => "int q_len".to_owned(),
                Length::KeyLen => "int kv_len".to_owned(),
                Length::HeadGroup => "int head_group   /* heads whose k and v fit the L2 cache */".to_owned(),
                Length::KeyHeadGroup => {
                    "int kv_head_group   /* heads of k and v whose queries fit the L2 cache */".to_owned()
                }
                Length::Sequences => "int sequences".to_owned(),
                Length::TotalQueries => "int total_q   /* queries of all sequences */".to_owned(),
                Length::MaxSeqlenQ => "int max_seqlen_q   /* queries of the longest sequence */".to_owned(),
                Length::MaxSeqlenKv => "int max_seqlen_kv   /* keys of the longest sequence */".to_owned(),
                Length::Segments => "int segments".to_owned(),
                Length::SegmentChunks => "int segment_chunks   /* chunks of a segment */".to_owned(),
                Length::ColumnSegments => "int column_segments".to_owned(),
                Length::Size(id) => format!("int size_{}", size_names[*id as usize]),
            }),
            Argument::Scale => line("float scale".to_owned()),
        }
    }
    text.push_str("};\n");
    text
}
