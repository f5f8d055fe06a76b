//! The expression graph that every stage after the checker works on.
//!
//! # What a graph is
//! A [`Graph`] is a hash-consed arena of typed, pure expressions: a node is an [`Op`] over earlier nodes, and asking for the
//! same operation twice gives the same [`NodeId`]. There is no control flow; `if` is [`Op::Select`], which evaluates to one
//! side and ignores the other entirely (a NaN on the side not taken never escapes).
//!
//! # Where an expression is evaluated
//! Per pair of a query row and a key column of one batch and one query head. Every node knows its [`Rate`]: the set of indices
//! that its value depends on. What does not depend on the key is computed once a row, what depends on neither once a tile.
//! What [`crate::sparsity`] says of a mask is evaluated per tile of queries and keys, over its first and last positions.
//!
//! # Numbers
//! * [`Type::Float`] is a real number: f64 in the oracle, f32 in kernels and in the CPU executor.
//! * [`Type::Int`] is a 32-bit signed integer; `/` and `%` truncate toward zero as in Rust. Division by zero is a user error
//!   whose value is unspecified but which must not crash: every interpreter yields 0.
//! * Integers meet floats only through [`Op::Cast`]; the checker inserts the casts that the language leaves implicit.
//! * `min`, `max` propagate the other operand when one is NaN (IEEE `minNum`, Rust's `f32::min`, CUDA's `fminf`).
//! * A parameter read clamps each index into the parameter's extent, so that no index expression can read out of bounds.
//!
//! # Derivatives at kinks
//! `max(a, b)` gives its gradient to `a` where `a > b` and to `b` elsewhere (so `relu'(0) = 0` for `max(x, 0)`); `min(a, b)` to
//! `a` where `a < b` and to `b` elsewhere; `abs'(0) = 0`; `sqrt'(0)` is infinite as in mathematics; `floor`, comparisons and casts
//! to integers have derivative 0.
//!
//! # Invariants
//! * Operands precede their users in the arena: index order is a topological order. (`Graph::add` asserts it.)
//! * Every node is well typed. (`Graph::add` asserts it; the checker reports what a user can get wrong before that.)

mod affine;
pub mod evaluate;
mod graph;
mod op;
mod print;
#[cfg(test)]
pub(crate) mod random;
mod rate;

pub(crate) use affine::Affine;
pub use graph::{Graph, NodeId};
pub use op::{
    Binary, Compare, Extreme, Input, Op, ParameterId, RANGE_ELEMENTS, Reduction, Row, RowValue, SizeId, Type, Unary,
};
pub use print::{Names, print_expression, print_expression_with, print_program};
pub use rate::Rate;
