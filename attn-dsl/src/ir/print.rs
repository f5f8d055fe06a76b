//! Expressions as readable text: infix, with as few parentheses as precedence allows.
//!
//! For error messages, snapshots and `explain`. It is not the surface language: lowered inputs have names of their own.
//!
//! Invariant: the text depends on the expression alone, never on node ids.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write;

use super::{Binary, Compare, Extreme, Graph, Input, NodeId, Op, ParameterId, Reduction, SizeId, Type, Unary};

/// The names of a definition's parameters and run-time lengths. What has no name here is called `p0`, `n0` and so on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// One per parameter.
    pub parameters: &'a [&'a str],
    /// One per named length.
    pub sizes: &'a [&'a str],
}

impl Names<'_> {
    fn parameter(&self, id: ParameterId) -> String {
        self.parameters.get(id.0 as usize).map_or_else(|| format!("p{}", id.0), ToString::to_string)
    }

    fn size(&self, id: SizeId) -> String {
        self.sizes.get(id.0 as usize).map_or_else(|| format!("n{}", id.0), ToString::to_string)
    }
}

/// The most nodes that are printed on one line: shared parts are written out, and could be without end.
const LONGEST: usize = 1000;

/// One expression on one line; what is too long ends in `…`.
pub fn print_expression(graph: &Graph, node: NodeId) -> String {
    print_expression_with(graph, node, Names::default())
}

/// One expression on one line, with the user's names.
pub fn print_expression_with(graph: &Graph, node: NodeId, names: Names<'_>) -> String {
    Printer { graph, names, bound: HashMap::new(), left: Cell::new(LONGEST) }.print(node, Precedence::Lowest)
}

/// Named expressions, one a line; what several of them share, or one of them uses twice, is bound by `let` before.
pub fn print_program(graph: &Graph, roots: &[(&str, NodeId)], names: Names<'_>) -> String {
    let ids: Vec<NodeId> = roots.iter().map(|(_, id)| *id).collect();
    let order = graph.reachable(&ids);
    let mut uses: HashMap<NodeId, usize> = HashMap::new();
    for &id in ids.iter().chain(order.iter().flat_map(|&id| graph.op(id).operands()).collect::<Vec<_>>().iter()) {
        *uses.entry(id).or_default() += 1;
    }
    let mut printer = Printer { graph, names, bound: HashMap::new(), left: Cell::new(usize::MAX) };
    let mut text = String::new();
    for &id in &order {
        if uses[&id] > 1 && !is_leaf(graph, id) {
            let value = printer.print(id, Precedence::Lowest);
            let name = format!("t{}", printer.bound.len());
            writeln!(text, "let {name} = {value};").expect("writing to a string");
            printer.bound.insert(id, name);
        }
    }
    for (name, id) in roots {
        writeln!(text, "{name} = {}", printer.print(*id, Precedence::Lowest)).expect("writing to a string");
    }
    text
}

fn is_leaf(graph: &Graph, id: NodeId) -> bool {
    match graph.op(id) {
        Op::Float(_) | Op::Int(_) | Op::Bool(_) | Op::Input(_) => true,
        Op::Parameter { index, .. } => index.iter().all(|&i| is_leaf(graph, i)),
        Op::Cast(_, a) | Op::Unary(Unary::Neg, a) => is_leaf(graph, *a),
        _ => false,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    Lowest,
    Or,
    And,
    Compare,
    Sum,
    Product,
    Unary,
    Postfix,
}

impl Precedence {
    /// The next tighter one: what a right operand must have.
    fn tighter(self) -> Self {
        match self {
            Precedence::Lowest => Precedence::Or,
            Precedence::Or => Precedence::And,
            Precedence::And => Precedence::Compare,
            Precedence::Compare => Precedence::Sum,
            Precedence::Sum => Precedence::Product,
            Precedence::Product => Precedence::Unary,
            Precedence::Unary | Precedence::Postfix => Precedence::Postfix,
        }
    }
}

struct Printer<'a> {
    graph: &'a Graph,
    names: Names<'a>,
    bound: HashMap<NodeId, String>,
    /// How many nodes may still be printed.
    left: Cell<usize>,
}

impl Printer<'_> {
    fn print(&self, id: NodeId, around: Precedence) -> String {
        if let Some(name) = self.bound.get(&id) {
            return name.clone();
        }
        let Some(left) = self.left.get().checked_sub(1) else { return "…".to_owned() };
        self.left.set(left);
        let (text, own) = self.bare(id);
        if own < around { format!("({text})") } else { text }
    }

    fn call(&self, name: &str, arguments: &[NodeId]) -> (String, Precedence) {
        let arguments: Vec<_> = arguments.iter().map(|&a| self.print(a, Precedence::Lowest)).collect();
        (format!("{name}({})", arguments.join(", ")), Precedence::Postfix)
    }

    fn infix(&self, symbol: &str, own: Precedence, a: NodeId, b: NodeId) -> (String, Precedence) {
        let left = if own == Precedence::Compare { own.tighter() } else { own };
        (format!("{} {symbol} {}", self.print(a, left), self.print(b, own.tighter())), own)
    }

    fn bare(&self, id: NodeId) -> (String, Precedence) {
        match self.graph.op(id) {
            Op::Float(bits) => number(format!("{:?}", f64::from_bits(*bits))),
            Op::Int(value) => number(value.to_string()),
            Op::Bool(value) => (value.to_string(), Precedence::Postfix),
            Op::Input(input) => (self.input(*input), Precedence::Postfix),
            Op::Parameter { parameter, index, .. } => {
                let name = self.names.parameter(*parameter);
                let index: Vec<_> = index.iter().map(|&i| self.print(i, Precedence::Lowest)).collect();
                let text = if index.is_empty() { name } else { format!("{name}[{}]", index.join(", ")) };
                (text, Precedence::Postfix)
            }
            Op::Extreme { extreme, parameter, first, last, .. } => {
                let print = |id: NodeId| self.print(id, Precedence::Lowest);
                let index = first.iter().zip(last).map(|(&first, &last)| {
                    if first == last { print(first) } else { format!("{}..={}", print(first), print(last)) }
                });
                let index: Vec<_> = index.collect();
                let name = match extreme {
                    Extreme::Least => "least",
                    Extreme::Greatest => "greatest",
                };
                (format!("{name}({}[{}])", self.names.parameter(*parameter), index.join(", ")), Precedence::Postfix)
            }
            Op::Unary(Unary::Neg, a) => (format!("-{}", self.print(*a, Precedence::Unary)), Precedence::Unary),
            Op::Unary(Unary::Not, a) => (format!("!{}", self.print(*a, Precedence::Unary)), Precedence::Unary),
            Op::Unary(op, a) => self.call(&format!("{op:?}").to_lowercase(), &[*a]),
            Op::Binary(op, a, b) => match op {
                Binary::Add => self.infix("+", Precedence::Sum, *a, *b),
                Binary::Sub => self.infix("-", Precedence::Sum, *a, *b),
                Binary::Mul => self.infix("*", Precedence::Product, *a, *b),
                Binary::Div => self.infix("/", Precedence::Product, *a, *b),
                Binary::Rem => self.infix("%", Precedence::Product, *a, *b),
                Binary::And => self.infix("&", Precedence::And, *a, *b),
                Binary::Or => self.infix("|", Precedence::Or, *a, *b),
                Binary::Min => self.call("min", &[*a, *b]),
                Binary::Max => self.call("max", &[*a, *b]),
            },
            Op::Compare(op, a, b) => {
                let symbol = match op {
                    Compare::Lt => "<",
                    Compare::Le => "<=",
                    Compare::Gt => ">",
                    Compare::Ge => ">=",
                    Compare::Eq => "==",
                    Compare::Ne => "!=",
                };
                self.infix(symbol, Precedence::Compare, *a, *b)
            }
            Op::Select { condition, then, otherwise } => {
                let part = |id: NodeId| self.print(id, Precedence::Lowest);
                let text = format!("if {} {{ {} }} else {{ {} }}", part(*condition), part(*then), part(*otherwise));
                (text, Precedence::Lowest)
            }
            Op::Cast(Type::Float, a) => self.call("float", &[*a]),
            Op::Cast(_, a) => self.call("int", &[*a]),
        }
    }

    fn input(&self, input: Input) -> String {
        let name = match input {
            Input::Product => "x",
            Input::Score => "s",
            Input::Batch => "b",
            Input::Head => "h",
            Input::Query => "q",
            Input::Key => "kv",
            Input::Scale => "scale",
            Input::HeadDim => "head_dim",
            Input::QueryLen => "q_len",
            Input::KeyLen => "kv_len",
            Input::LiveKeys => "live_keys",
            Input::Size(id) => return self.names.size(id),
            Input::Reduction(Reduction::Sum) => "sum",
            Input::Reduction(Reduction::Max) | Input::GreatestScore => "max",
            Input::Reduction(Reduction::SumSquares) => "sum_squares",
            Input::Shift => "shift",
            Input::Statistic => "statistic",
            Input::ArgMax => "arg_max",
            Input::Delta => "delta",
            Input::OutputGradProduct => "dp",
            Input::FirstQuery => "q_first",
            Input::LastQuery => "q_last",
            Input::FirstKey => "kv_first",
            Input::LastKey => "kv_last",
            Input::Probability => "p",
            Input::Row(row) => return row.to_string(),
        };
        name.to_owned()
    }
}

/// A negative number binds like a negation, so that `a - -1` and `(-1) * a` are told apart.
fn number(text: String) -> (String, Precedence) {
    let own = if text.starts_with('-') { Precedence::Unary } else { Precedence::Postfix };
    (text, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_follow_precedence() {
        let mut graph = Graph::new();
        let (x, scale, one) = (graph.input(Input::Product), graph.input(Input::Scale), graph.float(1.0));
        let sum = graph.sum(x, one);
        let product = graph.product(sum, scale);
        let inner = graph.difference(one, x);
        let outer = graph.difference(product, inner);
        assert_eq!(print_expression(&graph, outer), "(x + 1.0) * scale - (1.0 - x)");
        let big = graph.compare(Compare::Gt, outer, x);
        let other = graph.compare(Compare::Lt, x, one);
        let both = graph.binary(Binary::And, big, other);
        let not = graph.unary(Unary::Not, both);
        assert_eq!(print_expression(&graph, not), "!((x + 1.0) * scale - (1.0 - x) > x & x < 1.0)");
    }

    #[test]
    fn shared_parts_are_bound_once() {
        let mut graph = Graph::new();
        let (x, head) = (graph.input(Input::Product), graph.input(Input::Head));
        let slope = graph.parameter(ParameterId(0), vec![head], Type::Float);
        let y = graph.product(x, slope);
        let square = graph.product(y, y);
        let text =
            print_program(&graph, &[("a", square), ("b", y)], Names { parameters: &["slope"], ..Names::default() });
        assert_eq!(text, "let t0 = x * slope[h];\na = t0 * t0\nb = t0\n");
    }
}
