//! The hash-consed arena of nodes.
//!
//! Invariants: operands precede users; equal operations share one node; every node is well typed. `add` asserts all three,
//! so a graph that exists is valid.

use std::collections::HashMap;

use super::{Binary, Compare, Input, Op, ParameterId, Rate, Reduction, Type, Unary};

/// A node of one [`Graph`]. Order is topological.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// The node's position in the arena.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
struct Node {
    op: Op,
    ty: Type,
    rate: Rate,
    /// The bits of the inputs that are read, as [`input_bit`] numbers them.
    inputs: u32,
}

/// An arena of expressions. Cloning keeps the ids valid.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    interned: HashMap<Op, NodeId>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All nodes in topological order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The operation of a node.
    pub fn op(&self, id: NodeId) -> &Op {
        &self.nodes[id.index()].op
    }

    /// The type of a node's value.
    pub fn ty(&self, id: NodeId) -> Type {
        self.nodes[id.index()].ty
    }

    /// The rate of a node: the union of its operands' rates and its own.
    pub fn rate(&self, id: NodeId) -> Rate {
        self.nodes[id.index()].rate
    }

    /// Whether a node reads an input (for a named length or a row pass's value: any of them). Takes no walk.
    pub fn reads(&self, id: NodeId, input: Input) -> bool {
        self.nodes[id.index()].inputs & input_bit(input) != 0
    }

    /// Adds an operation, or finds it.
    ///
    /// # Panics
    /// When the operation is ill typed: the checker must have refused it before.
    pub fn add(&mut self, op: Op) -> NodeId {
        if let Some(&id) = self.interned.get(&op) {
            return id;
        }
        let ty = self.type_of(&op);
        let own = match &op {
            Op::Input(input) => Rate::of_input(*input),
            _ => Rate::UNIFORM,
        };
        let rate = op.operands().iter().fold(own, |rate, &a| rate.union(self.rate(a)));
        let read = match &op {
            Op::Input(input) => input_bit(*input),
            _ => 0,
        };
        let inputs = op.operands().iter().fold(read, |inputs, &a| inputs | self.nodes[a.index()].inputs);
        let id = NodeId(u32::try_from(self.nodes.len()).expect("a graph holds fewer than 2^32 nodes"));
        self.nodes.push(Node { op: op.clone(), ty, rate, inputs });
        self.interned.insert(op, id);
        id
    }

    fn type_of(&self, op: &Op) -> Type {
        let require = |id: NodeId, ty: Type| assert!(self.ty(id) == ty, "{op:?}: operand {id:?} is not {ty:?}");
        match op {
            Op::Float(_) => Type::Float,
            Op::Int(_) => Type::Int,
            Op::Bool(_) => Type::Bool,
            Op::Input(input) => input.ty(),
            Op::Parameter { index, ty, .. } => {
                index.iter().for_each(|&i| require(i, Type::Int));
                *ty
            }
            Op::Extreme { first, last, blocks, .. } => {
                first.iter().chain(last).for_each(|&i| require(i, Type::Int));
                assert!(first.len() == last.len(), "{op:?}: both ends have an index per axis");
                let is_alone = |axis: usize| (0..first.len()).all(|other| other == axis || first[other] == last[other]);
                assert!(blocks.is_none_or(is_alone), "{op:?}: blocks are along the one axis of the range");
                Type::Int
            }
            Op::Unary(Unary::Not, a) => {
                require(*a, Type::Bool);
                Type::Bool
            }
            Op::Unary(Unary::Neg | Unary::Abs, a) => {
                assert!(self.ty(*a) != Type::Bool, "{op:?}: operand is a bool");
                self.ty(*a)
            }
            Op::Unary(_, a) => {
                require(*a, Type::Float);
                Type::Float
            }
            Op::Binary(Binary::And | Binary::Or, a, b) => {
                require(*a, Type::Bool);
                require(*b, Type::Bool);
                Type::Bool
            }
            Op::Binary(Binary::Rem, a, b) => {
                require(*a, Type::Int);
                require(*b, Type::Int);
                Type::Int
            }
            Op::Binary(_, a, b) => {
                assert!(self.ty(*a) != Type::Bool, "{op:?}: operand is a bool");
                require(*b, self.ty(*a));
                self.ty(*a)
            }
            Op::Compare(_, a, b) => {
                assert!(self.ty(*a) != Type::Bool, "{op:?}: operand is a bool");
                require(*b, self.ty(*a));
                Type::Bool
            }
            Op::Select { condition, then, otherwise } => {
                require(*condition, Type::Bool);
                require(*otherwise, self.ty(*then));
                self.ty(*then)
            }
            Op::Cast(ty, _) => {
                assert!(*ty != Type::Bool, "{op:?}: a cast never makes a bool");
                *ty
            }
        }
    }

    /// A float constant. Negative zero becomes zero and every NaN one NaN, so that equal constants share a node.
    pub fn float(&mut self, value: f64) -> NodeId {
        let value = if value == 0.0 { 0.0 } else { value };
        let value = if value.is_nan() { f64::NAN } else { value };
        self.add(Op::Float(value.to_bits()))
    }

    /// An integer constant.
    pub fn int(&mut self, value: i32) -> NodeId {
        self.add(Op::Int(value))
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) -> NodeId {
        self.add(Op::Bool(value))
    }

    /// An input.
    pub fn input(&mut self, input: Input) -> NodeId {
        self.add(Op::Input(input))
    }

    /// A parameter read.
    pub fn parameter(&mut self, parameter: ParameterId, index: Vec<NodeId>, ty: Type) -> NodeId {
        self.add(Op::Parameter { parameter, index, ty })
    }

    /// An operation of one operand.
    pub fn unary(&mut self, op: Unary, a: NodeId) -> NodeId {
        self.add(Op::Unary(op, a))
    }

    /// An operation of two operands.
    pub fn binary(&mut self, op: Binary, a: NodeId, b: NodeId) -> NodeId {
        self.add(Op::Binary(op, a, b))
    }

    /// A comparison.
    pub fn compare(&mut self, op: Compare, a: NodeId, b: NodeId) -> NodeId {
        self.add(Op::Compare(op, a, b))
    }

    /// `if condition { then } else { otherwise }`.
    pub fn select(&mut self, condition: NodeId, then: NodeId, otherwise: NodeId) -> NodeId {
        self.add(Op::Select { condition, then, otherwise })
    }

    /// A conversion.
    pub fn cast(&mut self, ty: Type, a: NodeId) -> NodeId {
        if self.ty(a) == ty { a } else { self.add(Op::Cast(ty, a)) }
    }

    /// `a + b`.
    pub fn sum(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(Binary::Add, a, b)
    }

    /// `a - b`.
    pub fn difference(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(Binary::Sub, a, b)
    }

    /// `a * b`.
    pub fn product(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(Binary::Mul, a, b)
    }

    /// `a / b`.
    pub fn quotient(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(Binary::Div, a, b)
    }

    /// The value of a float constant node.
    pub fn as_float(&self, id: NodeId) -> Option<f64> {
        match self.op(id) {
            Op::Float(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        }
    }

    /// The nodes that `roots` need, themselves included, in topological order.
    pub fn reachable(&self, roots: &[NodeId]) -> Vec<NodeId> {
        let mut live = vec![false; self.nodes.len()];
        let mut stack = roots.to_vec();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut live[id.index()], true) {
                stack.extend(self.op(id).operands());
            }
        }
        self.ids().filter(|id| live[id.index()]).collect()
    }

    /// How many nodes `root` has when written out as a tree, shared parts as often as they are used; saturates.
    ///
    /// A chain of `let a = a + a;` doubles it at each step: walks that do not remember what they have seen ask first.
    pub fn tree_size(&self, root: NodeId) -> usize {
        let mut sizes: HashMap<NodeId, usize> = HashMap::new();
        for id in self.reachable(&[root]) {
            let size = self.op(id).operands().iter().fold(1usize, |size, a| size.saturating_add(sizes[a]));
            sizes.insert(id, size);
        }
        sizes[&root]
    }

    /// Whether any node that `root` needs satisfies `test`.
    pub fn any(&self, root: NodeId, test: impl Fn(&Op) -> bool) -> bool {
        self.reachable(&[root]).into_iter().any(|id| test(self.op(id)))
    }

    /// Rebuilds `root` from its leaves up; `replace` sees each node whose operands are already rebuilt and may return another.
    pub fn rewrite(&mut self, root: NodeId, mut replace: impl FnMut(&mut Graph, NodeId) -> Option<NodeId>) -> NodeId {
        let mut image: HashMap<NodeId, NodeId> = HashMap::new();
        for id in self.reachable(&[root]) {
            let operands: Vec<_> = self.op(id).operands().iter().map(|a| image[a]).collect();
            let op = self.op(id).with_operands(&operands);
            let rebuilt = self.add(op);
            let rebuilt = replace(self, rebuilt).unwrap_or(rebuilt);
            image.insert(id, rebuilt);
        }
        image[&root]
    }

    /// `root` with every occurrence of `from` replaced by `to`.
    pub fn substitute(&mut self, root: NodeId, from: NodeId, to: NodeId) -> NodeId {
        self.rewrite(root, |_, id| (id == from).then_some(to))
    }
}

/// A bit for each input; all named lengths share one, and so do all values of row passes.
fn input_bit(input: Input) -> u32 {
    let at = match input {
        Input::Product => 0,
        Input::Score => 1,
        Input::Batch => 2,
        Input::Head => 3,
        Input::Query => 4,
        Input::Key => 5,
        Input::Scale => 6,
        Input::HeadDim => 7,
        Input::QueryLen => 8,
        Input::KeyLen => 9,
        Input::LiveKeys => 10,
        Input::Size(_) => 11,
        Input::Reduction(Reduction::Sum) => 12,
        Input::Reduction(Reduction::Max) => 13,
        Input::Reduction(Reduction::SumSquares) => 14,
        Input::Shift => 15,
        Input::Statistic => 16,
        Input::ArgMax => 17,
        Input::Delta => 18,
        Input::OutputGradProduct => 19,
        Input::FirstQuery => 20,
        Input::LastQuery => 21,
        Input::FirstKey => 22,
        Input::LastKey => 23,
        Input::GreatestScore => 24,
        Input::Probability => 25,
        Input::Row(_) => 26,
    };
    1 << at
}
