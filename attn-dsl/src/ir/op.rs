//! Operations, inputs and types of the expression graph.
//!
//! Invariant: an [`Op`] is a plain value; everything that it refers to is by id.

use super::NodeId;

/// The type of a node's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// A real number.
    Float,
    /// A 32-bit signed integer: an index, a length, an identifier.
    Int,
    /// A truth value.
    Bool,
}

/// Index of a parameter in its definition's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(pub u32);

/// Index of a named run-time length in its definition's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SizeId(pub u32);

/// A reduction of a row's live weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reduction {
    /// `sum`: the sum of the weights.
    Sum,
    /// `max`: the largest weight (0 for a row without live keys).
    Max,
    /// `sum_squares`: the sum of the squared weights.
    SumSquares,
}

/// What a row pass finds of a row. See [`crate::lower::RowPass`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowValue {
    /// The greatest score (an entmax). Float.
    Greatest,
    /// What an entmax's transformed scores, relative to the greatest, must exceed. Float.
    Threshold,
    /// The k-th greatest score. Float.
    KthScore,
    /// The last key that is kept among those of the k-th greatest score. Int.
    LastKept,
    /// As [`Input::Statistic`], of the pass's own weights. Float.
    Statistic,
    /// As [`Input::Shift`]. Float.
    Shift,
    /// As [`Input::Reduction`]. Float.
    Reduction(Reduction),
    /// As [`Input::ArgMax`]. Int.
    ArgMax,
}

impl RowValue {
    /// The type of the value.
    pub fn ty(self) -> Type {
        match self {
            RowValue::LastKept | RowValue::ArgMax => Type::Int,
            _ => Type::Float,
        }
    }

    /// As in generated source.
    pub(crate) fn name(self) -> &'static str {
        match self {
            RowValue::Greatest => "greatest",
            RowValue::Threshold => "threshold",
            RowValue::KthScore => "kth_score",
            RowValue::LastKept => "last_kept",
            RowValue::Statistic => "statistic",
            RowValue::Shift => "shift",
            RowValue::Reduction(Reduction::Sum) => "sum",
            RowValue::Reduction(Reduction::Max) => "max_weight",
            RowValue::Reduction(Reduction::SumSquares) => "sum_squares",
            RowValue::ArgMax => "arg_max",
        }
    }
}

/// A value of a row that a pass before the main one finds: the pass by its number, and which of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    /// The position in [`crate::lower::Lowered::row_passes`].
    pub pass: u8,
    /// Which value.
    pub value: RowValue,
}

impl std::fmt::Display for Row {
    /// As in generated source: `row0_threshold`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "row{}_{}", self.pass, self.value.name())
    }
}

/// A value that an expression takes from where it is evaluated.
///
/// The first group may appear in what a user writes. The second group is introduced by [`crate::lower`], the third by
/// [`crate::sparsity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    /// `x_ij = q_i . k_j`, the raw product, before `scale`.
    Product,
    /// The score as the activation sees it. Only in a definition's activation; lowering substitutes the score for it.
    Score,
    /// Batch index `b`.
    Batch,
    /// Query head index `h`.
    Head,
    /// Query position `q` in its sequence.
    Query,
    /// Key position `kv` in its sequence.
    Key,
    /// The softmax scale, 1/sqrt(head_dim) unless the caller gives another. Always positive.
    Scale,
    /// The head dimension of q and k.
    HeadDim,
    /// The number of queries.
    QueryLen,
    /// The number of keys.
    KeyLen,
    /// The number of live (unmasked) keys of the row.
    LiveKeys,
    /// A named run-time length of a parameter's axis.
    Size(SizeId),
    /// A reduction of the row's weights. In a definition's normalizer: of the weights as defined. In a lowered program of a
    /// shifted exponential: of the shifted weights `2^(exponent - shift)`.
    Reduction(Reduction),
    /// `max` in a definition's condition on what is kept: the row's greatest live score.
    GreatestScore,
    /// `p` in a definition's condition on what is kept and in its map after normalization: the normalized weight.
    Probability,

    /// The row's shift `m` of a shifted exponential, in log2 units.
    Shift,
    /// The row statistic that the forward pass saves: `ln z` for a shifted exponential, `z` for other streaming variants.
    Statistic,
    /// The key position of the row's largest weight, the lowest one among equals.
    ArgMax,
    /// `delta_i = dO_i . O_i - statistic term`; see [`crate::lower::Backward`].
    Delta,
    /// `dP_ij = dO_i . v_j`.
    OutputGradProduct,
    /// What a row pass found.
    Row(Row),

    /// The first query position of a tile.
    FirstQuery,
    /// The last query position of a tile.
    LastQuery,
    /// The first key position of a tile.
    FirstKey,
    /// The last key position of a tile.
    LastKey,
}

impl Input {
    /// The type of the input's value.
    pub fn ty(self) -> Type {
        match self {
            Input::Product
            | Input::Score
            | Input::Scale
            | Input::Reduction(_)
            | Input::GreatestScore
            | Input::Probability
            | Input::Shift
            | Input::Statistic
            | Input::Delta
            | Input::OutputGradProduct => Type::Float,
            Input::Row(row) => row.value.ty(),
            Input::Batch
            | Input::Head
            | Input::Query
            | Input::Key
            | Input::HeadDim
            | Input::QueryLen
            | Input::KeyLen
            | Input::LiveKeys
            | Input::Size(_)
            | Input::ArgMax
            | Input::FirstQuery
            | Input::LastQuery
            | Input::FirstKey
            | Input::LastKey => Type::Int,
        }
    }
}

/// Operations of one operand. All but `Neg`, `Abs` (float or int) and `Not` (bool) are float to float.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Unary {
    Neg,
    Abs,
    Not,
    Exp,
    Exp2,
    Ln,
    Log2,
    Sqrt,
    Tanh,
    /// `1 / (1 + e^-x)`, accurate relative to its own size also far below zero.
    Sigmoid,
    /// `ln(1 + e^x)`, without overflow.
    Softplus,
    /// The Gauss error function.
    Erf,
    Sin,
    Cos,
    Floor,
}

/// Operations of two operands of one type. `And`, `Or` are of bools; `Rem` of ints; the rest of floats or ints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
}

/// Which element of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extreme {
    /// The least.
    Least,
    /// The greatest.
    Greatest,
}

/// The most elements that are read one by one to find the extremes of a range: blocks of 16 x 16 in a tile of 176 x 256.
pub const RANGE_ELEMENTS: usize = 256;

/// Comparisons of two floats or two ints, giving a bool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Compare {
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
}

impl Compare {
    /// The comparison of two integers that holds where this one does not.
    pub(crate) fn opposite(self) -> Compare {
        match self {
            Compare::Lt => Compare::Ge,
            Compare::Le => Compare::Gt,
            Compare::Gt => Compare::Le,
            Compare::Ge => Compare::Lt,
            Compare::Eq => Compare::Ne,
            Compare::Ne => Compare::Eq,
        }
    }
}

/// One node of the graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A float constant, as the bits of its f64. Build it with [`super::Graph::float`].
    Float(u64),
    /// An integer constant.
    Int(i32),
    /// A truth value.
    Bool(bool),
    /// A value of the place of evaluation.
    Input(Input),
    /// A read of a parameter at integer indices, one per axis; each index is clamped into its axis.
    Parameter {
        /// Which parameter.
        parameter: ParameterId,
        /// One integer node per axis.
        index: Vec<NodeId>,
        /// The type of the parameter's elements: `Float` or `Int`.
        ty: Type,
    },
    /// A bound of the elements of an integer parameter from one index to another, which is before it along no axis: at most the
    /// least, or at least the greatest. Each index is clamped into its axis, so that the range is never empty. Introduced by
    /// [`crate::sparsity`].
    Extreme {
        /// Which of the elements.
        extreme: Extreme,
        /// Which parameter.
        parameter: ParameterId,
        /// One integer node per axis: where the range begins.
        first: Vec<NodeId>,
        /// One integer node per axis: where it ends. The same node along an axis of which it has one index.
        last: Vec<NodeId>,
        /// The only axis that the range extends along, of which executors keep the extremes of blocks. `None`: elements are read one
        /// by one, and a range of more than [`RANGE_ELEMENTS`] is bounded by what 32 bits hold.
        blocks: Option<usize>,
    },
    /// An operation of one operand.
    Unary(Unary, NodeId),
    /// An operation of two operands.
    Binary(Binary, NodeId, NodeId),
    /// A comparison.
    Compare(Compare, NodeId, NodeId),
    /// `if condition { then } else { otherwise }`.
    Select {
        /// A bool.
        condition: NodeId,
        /// The value where it holds.
        then: NodeId,
        /// The value elsewhere.
        otherwise: NodeId,
    },
    /// A conversion: int to float (nearest), float to int (toward zero), bool to int or float (0 or 1).
    Cast(Type, NodeId),
}

impl Op {
    /// The operands, in order.
    pub fn operands(&self) -> Vec<NodeId> {
        match self {
            Op::Float(_) | Op::Int(_) | Op::Bool(_) | Op::Input(_) => vec![],
            Op::Parameter { index, .. } => index.clone(),
            Op::Extreme { first, last, .. } => first.iter().chain(last).copied().collect(),
            Op::Unary(_, a) | Op::Cast(_, a) => vec![*a],
            Op::Binary(_, a, b) | Op::Compare(_, a, b) => vec![*a, *b],
            Op::Select { condition, then, otherwise } => vec![*condition, *then, *otherwise],
        }
    }

    /// The same operation over other operands, given in the order of [`Op::operands`].
    pub fn with_operands(&self, operands: &[NodeId]) -> Op {
        match self {
            Op::Float(_) | Op::Int(_) | Op::Bool(_) | Op::Input(_) => self.clone(),
            Op::Parameter { parameter, ty, .. } => {
                Op::Parameter { parameter: *parameter, index: operands.to_vec(), ty: *ty }
            }
            Op::Extreme { extreme, parameter, first, blocks, .. } => Op::Extreme {
                extreme: *extreme,
                parameter: *parameter,
                first: operands[..first.len()].to_vec(),
                last: operands[first.len()..].to_vec(),
                blocks: *blocks,
            },
            Op::Unary(op, _) => Op::Unary(*op, operands[0]),
            Op::Cast(ty, _) => Op::Cast(*ty, operands[0]),
            Op::Binary(op, ..) => Op::Binary(*op, operands[0], operands[1]),
            Op::Compare(op, ..) => Op::Compare(*op, operands[0], operands[1]),
            Op::Select { .. } => Op::Select { condition: operands[0], then: operands[1], otherwise: operands[2] },
        }
    }
}
