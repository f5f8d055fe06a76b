//! What depends on the positions through their difference alone: a relative bias, a decay, a bucket of a distance.
//!
//! A tile of BLOCK_Q x BLOCK_KV pairs has BLOCK_Q + BLOCK_KV - 1 distances `kv - q`, so that such a value is computed once a
//! distance instead of once a pair, and read from shared memory.
//!
//! # Which values
//! Every node of a pair's expression has a [`Motion`]. Integers that are affine in the positions, and their casts to floats, keep
//! their two factors; where these are opposite, the value is one of the distance, and so is everything that is made of such
//! values and of what is constant within the tile. The value at `(q, kv)` is then that at `(0, kv - q)`.
//!
//! Invariants: what is found contains no data of the pair; what costs less than a read of shared memory is not taken.

use std::collections::HashMap;
use std::fmt::Write;

use super::values::{Place, Values};
use crate::ir::{Binary, Graph, Input, NodeId, Op, Type, Unary};
use crate::simplify::simplify;

/// Values of the distance, each with its expression at query 0 and key `kv - q`.
pub(crate) type Relatives = HashMap<NodeId, NodeId>;

/// What a value must cost each pair to be kept in shared memory instead. A sum, a product or a comparison costs 1.
const WORTHWHILE: u32 = 8;

/// How a value depends on the positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Motion {
    /// `q * query + kv * key`, and something of tile rate.
    Affine { q: i32, kv: i32 },
    /// Through `kv - q` alone.
    Relative,
    /// In another way, or on the data of the pair.
    Other,
}

impl Motion {
    const FIXED: Motion = Motion::Affine { q: 0, kv: 0 };

    /// Whether it depends on no more than `kv - q`.
    fn is_relative(self) -> bool {
        match self {
            Motion::Affine { q, kv } => q.checked_neg() == Some(kv),
            Motion::Relative => true,
            Motion::Other => false,
        }
    }

    /// Of a sum of this and `factor` times the other.
    fn plus(self, factor: i32, other: Motion) -> Motion {
        let add = |a: i32, b: i32| b.checked_mul(factor).and_then(|b| a.checked_add(b));
        match (self, other) {
            (Motion::Affine { q, kv }, Motion::Affine { q: other_q, kv: other_kv }) => {
                match (add(q, other_q), add(kv, other_kv)) {
                    (Some(q), Some(kv)) => Motion::Affine { q, kv },
                    _ => Motion::Other,
                }
            }
            _ => Motion::of_all([self, other]),
        }
    }

    /// Of any function of these.
    fn of_all(operands: impl IntoIterator<Item = Motion>) -> Motion {
        if operands.into_iter().all(Motion::is_relative) { Motion::Relative } else { Motion::Other }
    }
}

/// What is known of the nodes of a graph.
#[derive(Default)]
struct Motions {
    /// How a node moves, and what it costs each pair, shared parts as often as they are used.
    known: HashMap<NodeId, (Motion, u32)>,
}

impl Motions {
    /// Takes up everything that `root` needs.
    fn walk(&mut self, graph: &Graph, root: NodeId) {
        graph.reachable(&[root]).into_iter().for_each(|id| self.learn(graph, id));
    }

    /// Takes up a node whose operands are known.
    fn learn(&mut self, graph: &Graph, id: NodeId) {
        if self.known.contains_key(&id) {
            return;
        }
        let rate = graph.rate(id);
        let own = if rate.is_row() || rate.is_column() { 0 } else { cost(graph, id) };
        let total = graph.op(id).operands().iter().fold(own, |sum, operand| sum.saturating_add(self.known[operand].1));
        self.known.insert(id, (self.motion(graph, id), total));
    }

    fn motion(&self, graph: &Graph, id: NodeId) -> Motion {
        if graph.rate(id).is_tile() {
            return Motion::FIXED;
        }
        let at = |id: NodeId| self.known[&id].0;
        match *graph.op(id) {
            Op::Input(Input::Query) => Motion::Affine { q: 1, kv: 0 },
            Op::Input(Input::Key) => Motion::Affine { q: 0, kv: 1 },
            Op::Input(_) => Motion::Other,
            Op::Cast(Type::Float, a) if graph.ty(a) == Type::Int => at(a),
            Op::Unary(Unary::Neg, a) => Motion::FIXED.plus(-1, at(a)),
            Op::Binary(Binary::Add, a, b) => at(a).plus(1, at(b)),
            Op::Binary(Binary::Sub, a, b) => at(a).plus(-1, at(b)),
            Op::Binary(Binary::Mul, a, b) => match (graph.op(a), graph.op(b)) {
                (Op::Int(factor), _) => Motion::FIXED.plus(*factor, at(b)),
                (_, Op::Int(factor)) => Motion::FIXED.plus(*factor, at(a)),
                _ => Motion::of_all([at(a), at(b)]),
            },
            ref op => Motion::of_all(op.operands().into_iter().map(at)),
        }
    }

    fn is_relative(&self, id: NodeId) -> bool {
        self.known[&id].0.is_relative()
    }

    fn is_worthwhile(&self, id: NodeId) -> bool {
        let (motion, cost) = self.known[&id];
        motion.is_relative() && cost >= WORTHWHILE
    }
}

/// What an operation costs a pair by itself.
fn cost(graph: &Graph, id: NodeId) -> u32 {
    match graph.op(id) {
        Op::Float(_) | Op::Int(_) | Op::Bool(_) | Op::Input(_) => 0,
        Op::Parameter { .. } | Op::Extreme { .. } => 2 * WORTHWHILE,
        Op::Unary(Unary::Neg | Unary::Abs | Unary::Not, _) => 1,
        Op::Unary(..) | Op::Binary(Binary::Div | Binary::Rem, ..) => WORTHWHILE,
        // conversions issue at a quarter of the rate
        Op::Cast(..) => 4,
        Op::Binary(..) | Op::Compare(..) | Op::Select { .. } => 1,
    }
}

/// Expressions of a pair, regrouped so that what is relative stands together, and their largest worthwhile values of the distance.
pub(crate) fn find(graph: &mut Graph, roots: &[NodeId]) -> (Vec<NodeId>, Relatives) {
    let mut motions = Motions::default();
    roots.iter().for_each(|&root| motions.walk(graph, root));
    if !graph.reachable(roots).into_iter().any(|id| motions.is_worthwhile(id)) {
        return (roots.to_vec(), Relatives::new());
    }
    // equal parts are regrouped alike, so that roots go on sharing them
    let roots: Vec<NodeId> = roots.iter().map(|&root| gather(graph, root, &mut motions)).collect();
    let mut found = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut stack = roots.clone();
    while let Some(id) = stack.pop() {
        let rate = graph.rate(id);
        if rate.is_row() || rate.is_column() || !seen.insert(id) {
            continue;
        }
        if motions.is_worthwhile(id) {
            found.push(id);
        } else {
            stack.extend(graph.op(id).operands());
        }
    }
    (roots, found.into_iter().map(|id| (id, at_distance(graph, id))).collect())
}

/// The expression at query 0 and key `kv - q` of a value that depends on no more.
pub(crate) fn of_distance(graph: &mut Graph, id: NodeId) -> Option<NodeId> {
    let mut motions = Motions::default();
    motions.walk(graph, id);
    motions.is_relative(id).then(|| at_distance(graph, id))
}

/// Regroups `(x + r) + s` to `x + (r + s)`, in all orders and signs, and `(x r) s` to `x (r s)`, where `r` and `s` are relative
/// and `x` is not.
fn gather(graph: &mut Graph, root: NodeId, motions: &mut Motions) -> NodeId {
    graph.rewrite(root, |graph, id| {
        motions.learn(graph, id);
        let operator = match *graph.op(id) {
            Op::Binary(Binary::Add | Binary::Sub, ..) => Binary::Add,
            Op::Binary(Binary::Mul, ..) => Binary::Mul,
            _ => return None,
        };
        if graph.ty(id) != Type::Float {
            return None;
        }
        let (inner, s) = motions.split(graph, operator, Part { id, negative: false })?;
        let (x, r) = motions.split(graph, operator, inner)?;
        let both = join(graph, operator, r, s);
        motions.learn(graph, both.id);
        if !motions.is_worthwhile(both.id) {
            return None;
        }
        let whole = join(graph, operator, x, both);
        motions.learn(graph, whole.id);
        if !whole.negative {
            return Some(whole.id);
        }
        let negated = graph.unary(Unary::Neg, whole.id);
        motions.learn(graph, negated);
        Some(negated)
    })
}

/// A term of a sum, or a factor of a product, which is never negative.
#[derive(Clone, Copy)]
struct Part {
    id: NodeId,
    negative: bool,
}

impl Motions {
    /// The two parts of a sum or product, first that which is not relative, then that which is.
    fn split(&self, graph: &Graph, operator: Binary, whole: Part) -> Option<(Part, Part)> {
        let &Op::Binary(found, a, b) = graph.op(whole.id) else { return None };
        let subtracts = found == Binary::Sub;
        if found != operator && !(subtracts && operator == Binary::Add) {
            return None;
        }
        let (a, b) = (
            Part { id: a, ..whole },
            Part { id: b, negative: if subtracts { !whole.negative } else { whole.negative } },
        );
        match (self.is_relative(a.id), self.is_relative(b.id)) {
            (false, true) => Some((a, b)),
            (true, false) => Some((b, a)),
            _ => None,
        }
    }
}

fn join(graph: &mut Graph, operator: Binary, a: Part, b: Part) -> Part {
    let (id, negative) = match (a.negative, b.negative) {
        (false, true) => (graph.difference(a.id, b.id), false),
        (true, false) => (graph.difference(b.id, a.id), false),
        (negative, _) => (graph.binary(operator, a.id, b.id), negative),
    };
    Part { id, negative }
}

/// The value where the query is 0 and the key is the distance.
fn at_distance(graph: &mut Graph, id: NodeId) -> NodeId {
    let (query, zero) = (graph.input(Input::Query), graph.int(0));
    let moved = graph.substitute(id, query, zero);
    simplify(graph, moved)
}

/// The parameter of a function of pairs that reads values of the distance.
pub(crate) const PARAMETER: &str = ", const Relative& relative";

/// It, where the text of the function's body needs it.
pub(crate) fn parameter(statements: &[String], value: &str) -> &'static str {
    let reads = |text: &str| text.contains("relative.");
    if reads(value) || statements.iter().any(|statement| reads(statement)) { PARAMETER } else { "" }
}

/// Functions that keep the values of a tile's distances in shared memory, at places that the schedule numbers.
///
/// A thread reads two neighbouring places at once, which begin at an even or an odd place by its row: `copies` is 2 where the
/// table stands there twice, the second time one place further down, so that either is one read.
pub(crate) fn functions(values: &Values<'_>, copies: usize) -> String {
    let fields = values.field_names(Place::Relative);
    let mut text =
        String::from("__device__ __forceinline__ void store_relative(u32 table, int place, const Relative& value) {\n");
    let mut line = |statement: String| writeln!(text, "{statement}").expect("writing to a string");
    let at = |index: usize, place: &str| match index {
        0 => format!("table + {place} * 4"),
        _ => format!("table + {index} * RELATIVE_FIELD_BYTES + {place} * 4"),
    };
    for (index, (name, ty)) in fields.iter().enumerate() {
        let cast = if *ty == Type::Bool { "(int)" } else { "" };
        line(format!("    store_shared({}, {cast}value.{name});", at(index, "place")));
        if copies > 1 {
            let second = at(index, "(place - 1)");
            line(format!("    if (place > 0) store_shared(RELATIVE_COPY_BYTES + {second}, {cast}value.{name});"));
        }
    }
    line("}".to_owned());
    line("__device__ __forceinline__ Relative load_relative_at(u32 table, int place) {".to_owned());
    line("    Relative value;".to_owned());
    for (index, (name, ty)) in fields.iter().enumerate() {
        let read = if *ty == Type::Float { "load_shared_float" } else { "load_shared_int" };
        line(format!("    value.{name} = {read}({});", at(index, "place")));
    }
    line("    return value;\n}".to_owned());
    line("// Of two neighbouring places.".to_owned());
    line("__device__ __forceinline__ void load_relatives(Relative (&values)[2], u32 table) {".to_owned());
    if copies > 1 {
        for (index, (name, ty)) in fields.iter().enumerate() {
            let (pair, read) = match ty {
                Type::Float => ("float2", "load_shared_floats"),
                Type::Int | Type::Bool => ("int2", "load_shared_ints"),
            };
            let from = at(index, "0").replace(" + 0 * 4", "");
            line(format!("    const {pair} pair{index} = {read}({from});"));
            line(format!("    values[0].{name} = pair{index}.x, values[1].{name} = pair{index}.y;"));
        }
    } else {
        line("    values[0] = load_relative_at(table, 0), values[1] = load_relative_at(table, 1);".to_owned());
    }
    line("}".to_owned());
    text
}

/// The function that goes on to the next of tables in a ring that has one more than stages.
pub(crate) const NEXT_TABLE: &str = "// Tables go round.
__device__ __forceinline__ u32 next_relative_table(u32 table, u32 ring) {
    return table == ring + STAGES * RELATIVE_TABLE_BYTES ? ring : table + RELATIVE_TABLE_BYTES;
}
";

#[cfg(test)]
mod tests;
