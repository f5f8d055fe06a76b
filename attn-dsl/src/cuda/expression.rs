//! Expressions as C++ text.
//!
//! An [`Emitter`] prints nodes of one graph for one place of evaluation. What the place knows by a name (a field, an argument)
//! is in `known`; everything else is computed, once where it is used more than once.
//!
//! Invariants: parentheses follow C++ precedence; float constants are printed so that they read back exactly; integer
//! division by zero gives 0 and parameter indices are clamped, as the IR says; only names of the prelude are called.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::arguments::extremes_name;
use crate::definition::{Axis, Definition};
use crate::ir::{Binary, Compare, Extreme, Graph, Input, NodeId, Op, ParameterId, Type, Unary};

/// C++ operator precedence, loosest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    Ternary,
    Or,
    And,
    Equality,
    Relation,
    Sum,
    Product,
    Prefix,
    Atom,
}

/// A float literal that reads back as exactly this value.
pub(crate) fn float_literal(value: f32) -> String {
    if value.is_nan() {
        return "__int_as_float(0x7fffffff)".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INFINITY".into() } else { "-INFINITY".into() };
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e7).contains(&magnitude) {
        format!("{value:e}f")
    } else if value == value.trunc() {
        format!("{value:.0}.f")
    } else {
        format!("{value}f")
    }
}

/// The C++ name of a type.
pub(crate) fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Float => "float",
        Type::Int => "int",
        Type::Bool => "bool",
    }
}

/// Prints expressions of one place.
pub(crate) struct Emitter<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) definition: &'a Definition,
    /// The C++ names of the parameters in `arguments`.
    pub(crate) parameter_names: &'a [String],
    /// Nodes that the place knows.
    pub(crate) known: HashMap<NodeId, String>,
    /// Whether f32 accuracy is wanted instead of the approximations that 16-bit types hide.
    pub(crate) precise: bool,
    /// Whether the key is a distance instead of a position, so that it may be out of the range of its axis.
    pub(crate) key_is_distance: bool,
    /// What stands before `q_len` and `kv_len` where these are of a sequence of a packed batch, whose parameters may be longer.
    pub(crate) lengths: Option<&'static str>,
    /// Nodes that must have the same bits in every kernel: their sums and products are not contracted.
    pub(crate) exact: &'a HashSet<NodeId>,
    /// Whether arms of a choice that call functions are computed before it, so that no branch stands among products of tiles.
    pub(crate) eager: bool,
}

impl Emitter<'_> {
    /// Statements that compute shared subexpressions, and the text of each root.
    pub(crate) fn emit(mut self, roots: &[NodeId]) -> (Vec<String>, Vec<String>) {
        let mut uses: HashMap<NodeId, usize> = HashMap::new();
        let mut seen = HashSet::new();
        let mut stack = roots.to_vec();
        roots.iter().for_each(|&root| *uses.entry(root).or_default() += 1);
        while let Some(id) = stack.pop() {
            if self.known.contains_key(&id) || !seen.insert(id) {
                continue;
            }
            for operand in self.graph.op(id).operands() {
                *uses.entry(operand).or_default() += 1;
                stack.push(operand);
            }
        }
        let mut statements = vec![];
        let mut reached: Vec<NodeId> = seen.into_iter().collect();
        reached.sort_unstable();
        let mut shared: Vec<NodeId> = reached.iter().copied().filter(|id| uses[id] > 1 && !self.is_leaf(*id)).collect();
        if self.eager {
            let calls = |op: &Op| matches!(op, Op::Unary(op, _) if !matches!(op, Unary::Neg | Unary::Abs | Unary::Not));
            for &id in &reached {
                let Op::Select { then, otherwise, .. } = *self.graph.op(id) else { continue };
                let is_new =
                    |arm: &NodeId| !shared.contains(arm) && !self.known.contains_key(arm) && !self.is_leaf(*arm);
                let arms: Vec<NodeId> =
                    [then, otherwise].into_iter().filter(|arm| is_new(arm) && self.graph.any(*arm, calls)).collect();
                shared.extend(arms);
            }
        }
        // both extremes of a range are found at once
        let mut pairs: HashMap<NodeId, [NodeId; 2]> = HashMap::new();
        for &id in &reached {
            let Op::Extreme { extreme: Extreme::Least, parameter, first, last, blocks } = self.graph.op(id) else {
                continue;
            };
            let other = |other: &&NodeId| {
                matches!(self.graph.op(**other), Op::Extreme { extreme: Extreme::Greatest, parameter: p, first: f, last: l, blocks: b }
                    if (p, f, l, b) == (parameter, first, last, blocks))
            };
            if let Some(&greatest) = reached.iter().find(other) {
                pairs.extend([(id, [id, greatest]), (greatest, [id, greatest])]);
            }
        }
        shared.retain(|id| !pairs.contains_key(id));
        shared.extend(pairs.keys());
        shared.sort_unstable();
        for id in shared {
            let name = format!("t{}", statements.len());
            if let (Some(both), Op::Extreme { parameter, first, last, blocks, .. }) =
                (pairs.get(&id), self.graph.op(id))
            {
                if !self.known.contains_key(&id) {
                    let text = self.extremes(*parameter, first, last, *blocks);
                    statements.push(format!("const int2 {name} = {text};"));
                    for (&id, extreme) in both.iter().zip([Extreme::Least, Extreme::Greatest]) {
                        self.known.insert(id, format!("{name}.{}", member(extreme)));
                    }
                }
                continue;
            }
            let text = self.print(id, Precedence::Ternary);
            statements.push(format!("const {} {name} = {text};", type_name(self.graph.ty(id))));
            self.known.insert(id, name);
        }
        let texts = roots.iter().map(|&root| self.print(root, Precedence::Ternary)).collect();
        (statements, texts)
    }

    fn is_leaf(&self, id: NodeId) -> bool {
        matches!(self.graph.op(id), Op::Float(_) | Op::Int(_) | Op::Bool(_) | Op::Input(_))
    }

    fn print(&self, id: NodeId, outer: Precedence) -> String {
        if let Some(name) = self.known.get(&id) {
            return name.clone();
        }
        let (text, own) = self.node(id);
        if own < outer { format!("({text})") } else { text }
    }

    fn node(&self, id: NodeId) -> (String, Precedence) {
        use Precedence::{Atom, Ternary};
        match self.graph.op(id) {
            Op::Float(bits) => signed(float_literal(f64::from_bits(*bits) as f32)),
            Op::Int(value) => signed(value.to_string()),
            Op::Bool(value) => (value.to_string(), Atom),
            Op::Input(input) => unreachable!("{input:?} is not known where it is used"),
            Op::Parameter { parameter, index, .. } => (self.parameter(*parameter, index), Atom),
            Op::Extreme { extreme, parameter, first, last, blocks } => {
                (format!("{}.{}", self.extremes(*parameter, first, last, *blocks), member(*extreme)), Atom)
            }
            Op::Unary(op, a) => self.unary(*op, *a),
            Op::Binary(op, a, b) if self.exact.contains(&id) => self.exact_binary(*op, *a, *b),
            Op::Binary(op, a, b) => self.binary(*op, *a, *b),
            Op::Compare(op, a, b) => {
                let (symbol, own) = match op {
                    Compare::Lt => ("<", Precedence::Relation),
                    Compare::Le => ("<=", Precedence::Relation),
                    Compare::Gt => (">", Precedence::Relation),
                    Compare::Ge => (">=", Precedence::Relation),
                    Compare::Eq => ("==", Precedence::Equality),
                    Compare::Ne => ("!=", Precedence::Equality),
                };
                (format!("{} {symbol} {}", self.print(*a, Precedence::Sum), self.print(*b, Precedence::Sum)), own)
            }
            Op::Select { condition, then, otherwise } => {
                let condition = self.print(*condition, Precedence::Or);
                (
                    format!(
                        "{condition} ? {} : {}",
                        self.print(*then, Precedence::Or),
                        self.print(*otherwise, Ternary)
                    ),
                    Ternary,
                )
            }
            Op::Cast(ty, a) => {
                (format!("({}){}", type_name(*ty), self.print(*a, Precedence::Prefix)), Precedence::Prefix)
            }
        }
    }

    fn unary(&self, op: Unary, a: NodeId) -> (String, Precedence) {
        use Precedence::{Atom, Prefix, Ternary};
        let argument = || self.print(a, Ternary);
        let call = |name: &str| (format!("{name}({})", argument()), Atom);
        let exponent = || format!("{} * LOG2E", self.print(a, Precedence::Product));
        match op {
            Unary::Neg => {
                let operand = self.print(a, Prefix);
                // two signs in a row would be a decrement
                (if operand.starts_with('-') { format!("-({operand})") } else { format!("-{operand}") }, Prefix)
            }
            Unary::Not => (format!("!{}", self.print(a, Prefix)), Prefix),
            Unary::Abs if self.graph.ty(a) == Type::Int => call("abs"),
            Unary::Abs => call("fabsf"),
            Unary::Exp => (format!("exp2_approx({})", exponent()), Atom),
            Unary::Exp2 => call("exp2_approx"),
            Unary::Ln if self.precise => call("logf"),
            Unary::Ln => (format!("LN2 * log2_approx({})", argument()), Precedence::Product),
            Unary::Log2 if self.precise => call("log2f"),
            Unary::Log2 => call("log2_approx"),
            Unary::Sqrt => call("sqrtf"),
            Unary::Tanh if self.precise => call("tanhf"),
            Unary::Tanh => call("tanh_approx"),
            Unary::Sigmoid => call("sigmoid"),
            Unary::Softplus => call("softplus"),
            Unary::Erf => call("erff"),
            Unary::Sin => call("sinf"),
            Unary::Cos => call("cosf"),
            Unary::Floor => call("floorf"),
        }
    }

    /// An operation that rounds by itself, whatever stands around it.
    fn exact_binary(&self, op: Binary, a: NodeId, b: NodeId) -> (String, Precedence) {
        use Precedence::{Atom, Ternary};
        let name = match op {
            Binary::Add => "__fadd_rn",
            Binary::Sub => "__fsub_rn",
            Binary::Mul => "__fmul_rn",
            _ => return self.binary(op, a, b),
        };
        if self.graph.ty(a) == Type::Int {
            return self.binary(op, a, b);
        }
        (format!("{name}({}, {})", self.print(a, Ternary), self.print(b, Ternary)), Atom)
    }

    fn binary(&self, op: Binary, a: NodeId, b: NodeId) -> (String, Precedence) {
        use Precedence::{And, Atom, Equality, Or, Prefix, Product, Sum, Ternary};
        let int = self.graph.ty(a) == Type::Int;
        let infix =
            |symbol: &str, own, right| (format!("{} {symbol} {}", self.print(a, own), self.print(b, right)), own);
        let call = |name: &str| (format!("{name}({}, {})", self.print(a, Ternary), self.print(b, Ternary)), Atom);
        let nonzero = matches!(self.graph.op(b), Op::Int(value) if *value != 0);
        match op {
            Binary::Add => infix("+", Sum, Product),
            Binary::Sub => infix("-", Sum, Product),
            Binary::Mul => infix("*", Product, Prefix),
            Binary::Div if int && nonzero => infix("/", Product, Prefix),
            Binary::Rem if nonzero => infix("%", Product, Prefix),
            Binary::Div if int => call("divide_or_zero"),
            Binary::Rem => call("remainder_or_zero"),
            Binary::Div if self.graph.as_float(a) == Some(1.0) && !self.precise => {
                (format!("reciprocal_approx({})", self.print(b, Ternary)), Atom)
            }
            Binary::Div if self.precise => infix("/", Product, Prefix),
            Binary::Div => call("divide_approx"),
            Binary::Min => call(if int { "min" } else { "fminf" }),
            Binary::Max => call(if int { "max" } else { "fmaxf" }),
            Binary::And => infix("&&", And, Equality),
            Binary::Or => infix("||", Or, And),
        }
    }

    /// The extremes from one index to another: of few elements their own, or bounded by those of the blocks that hold them.
    fn extremes(&self, id: ParameterId, first: &[NodeId], last: &[NodeId], blocks: Option<usize>) -> String {
        let name = format!("arguments.{}", self.parameter_names[id.0 as usize]);
        let axes = &self.definition.parameter(id).axes;
        let extent = |axis: usize| self.own_length(&axes[axis]).unwrap_or_else(|| format!("{name}.extent[{axis}]"));
        let print = |node: NodeId| self.print(node, Precedence::Ternary);
        // where the range begins along the axes that it does not extend along
        let start = |array: &str| {
            let mut data = format!("{array}.data");
            for axis in (0..axes.len()).filter(|&axis| first[axis] == last[axis] && blocks != Some(axis)) {
                let node = first[axis];
                let is_own = own_variable(&axes[axis]).is_some_and(|own| *self.graph.op(node) == Op::Input(own));
                let at = if is_own {
                    self.print(node, Precedence::Product)
                } else {
                    format!("clamp_index({}, {})", print(node), extent(axis))
                };
                write!(data, " + {at} * {array}.stride[{axis}]").expect("writing to a string");
            }
            data
        };
        if let Some(axis) = blocks {
            let number = u32::try_from(axis).expect("few axes");
            let kept = format!("arguments.{}", extremes_name(&self.parameter_names[id.0 as usize], number));
            return format!(
                "extremes_of({}, {name}.stride[{axis}], {}, {kept}.stride[{axis}], {}, {}, {})",
                start(&name),
                start(&kept),
                extent(axis),
                print(first[axis]),
                print(last[axis])
            );
        }
        let ranges = (0..axes.len()).filter(|&axis| first[axis] != last[axis]).map(|axis| {
            let (first, last) = (print(first[axis]), print(last[axis]));
            format!("index_range({first}, {last}, {}, {name}.stride[{axis}])", extent(axis))
        });
        let mut ranges: Vec<String> = ranges.collect();
        while ranges.len() < 2 {
            ranges.insert(0, "IndexRange{}".to_owned());
        }
        format!("extremes_in({}, {})", start(&name), ranges.join(", "))
    }

    /// A read: the axis' own variable is in range and broadcasts by a stride of 0; any other index is clamped.
    fn parameter(&self, id: ParameterId, index: &[NodeId]) -> String {
        let name = &self.parameter_names[id.0 as usize];
        let offset = self.offset(id, index);
        let read = if offset.is_empty() {
            format!("*arguments.{name}.data")
        } else {
            format!("arguments.{name}.data[{offset}]")
        };
        // a sequence without positions has no entry of its own to clamp to
        let axes = self.definition.parameter(id).axes.iter().zip(index);
        let lengths = axes.filter_map(|(axis, &node)| {
            let length = self.own_length(axis)?;
            (*self.graph.op(node) != Op::Input(own_variable(axis)?)).then_some(length)
        });
        match lengths.map(|length| format!("{length} > 0")).collect::<Vec<_>>().join(" && ") {
            some if some.is_empty() => read,
            some => format!("({some} ? {read} : 0)"),
        }
    }

    /// The length of an axis of positions of a sequence.
    fn own_length(&self, axis: &Axis) -> Option<String> {
        let of = self.lengths?;
        match axis {
            Axis::Query => Some(format!("{of}q_len")),
            Axis::Key => Some(format!("{of}kv_len")),
            Axis::Batch | Axis::Head | Axis::Fixed(_) | Axis::Named(_) => None,
        }
    }

    /// The sum of index times stride.
    pub(crate) fn offset(&self, id: ParameterId, index: &[NodeId]) -> String {
        let name = &self.parameter_names[id.0 as usize];
        let axes = &self.definition.parameter(id).axes;
        let mut text = String::new();
        for (axis, (&node, declared)) in index.iter().zip(axes).enumerate() {
            let plus = if axis == 0 { "" } else { " + " };
            let variable = own_variable(declared).filter(|own| !(self.key_is_distance && *own == Input::Key));
            let own = *self.graph.op(node) == Op::Input(variable.unwrap_or(Input::Score));
            if own {
                write!(text, "{plus}{} * arguments.{name}.stride[{axis}]", self.print(node, Precedence::Product))
            } else {
                let value = self.print(node, Precedence::Ternary);
                let extent = self.own_length(declared).unwrap_or_else(|| format!("arguments.{name}.extent[{axis}]"));
                write!(text, "{plus}clamp_index({value}, {extent}) * arguments.{name}.stride[{axis}]")
            }
            .expect("writing to a string");
        }
        text
    }
}

/// The member of a pair of extremes.
fn member(extreme: Extreme) -> &'static str {
    match extreme {
        Extreme::Least => "x",
        Extreme::Greatest => "y",
    }
}

/// The input that runs along an axis.
pub(crate) fn own_variable(axis: &Axis) -> Option<Input> {
    match axis {
        Axis::Batch => Some(Input::Batch),
        Axis::Head => Some(Input::Head),
        Axis::Query => Some(Input::Query),
        Axis::Key => Some(Input::Key),
        Axis::Fixed(_) | Axis::Named(_) => None,
    }
}

fn signed(text: String) -> (String, Precedence) {
    let own = if text.starts_with('-') { Precedence::Prefix } else { Precedence::Atom };
    (text, own)
}

#[cfg(test)]
mod tests {
    use super::float_literal;

    #[test]
    fn float_literals_read_back() {
        for value in [0.0f32, 1.0, -1.0, 0.1, 1.234_567, 1e-30, 3.4e38, 16_777_216.0, 1e7, -2.5e-5, 123_456.78] {
            let text = float_literal(value);
            let digits = text.strip_suffix('f').unwrap();
            let digits = digits.strip_suffix('.').unwrap_or(digits);
            assert_eq!(digits.parse::<f32>().unwrap().to_bits(), value.to_bits(), "{text}");
            assert!(text.contains('.') || text.contains('e'), "{text} would be an integer");
        }
        assert_eq!(float_literal(f32::INFINITY), "INFINITY");
    }
}
