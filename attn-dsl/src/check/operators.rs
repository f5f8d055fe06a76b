//! Types of operations: integers become floats where they meet them, floats and truth values become nothing else.

use super::Checker;
use crate::diagnostics::{Code, Problem};
use crate::ir::{Binary, Compare, NodeId, Op, Type, Unary};
use crate::syntax::Span;
use crate::syntax::ast::{BinaryOp, Element, Expr, ExprKind, UnaryOp};

/// A type as users call it.
pub(super) fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Float => "a float",
        Type::Int => "an integer",
        Type::Bool => "a truth value",
    }
}

const BOOL_HELP: &str = "choose numbers, `if condition { 1.0 } else { 0.0 }`, or convert, `(condition) as f32`";

impl Checker<'_> {
    /// An integer as the float of the same value.
    pub(super) fn promoted(&mut self, node: NodeId) -> NodeId {
        match *self.graph.op(node) {
            Op::Int(value) => {
                let span = self.spans.get(&node).copied();
                let float = self.graph.float(f64::from(value));
                if let Some(span) = span {
                    self.spans.insert(float, span);
                }
                float
            }
            _ => self.graph.cast(Type::Float, node),
        }
    }

    /// Both of one number type; reports truth values.
    pub(super) fn promote(&mut self, nodes: &mut [(NodeId, Span)], what: &str) -> Option<()> {
        let mut fine = true;
        for &(node, span) in nodes.iter() {
            if self.graph.ty(node) == Type::Bool {
                fine = false;
                let message = format!("{what} takes numbers, this is a truth value");
                self.report(Problem::new(Code::WrongType, message, span).help(BOOL_HELP));
            }
        }
        if nodes.iter().any(|&(node, _)| self.graph.ty(node) == Type::Float) {
            nodes.iter_mut().for_each(|(node, _)| *node = self.promoted(*node));
        }
        fine.then_some(())
    }

    pub(super) fn unary(&mut self, op: UnaryOp, operand: &Expr, span: Span) -> Option<NodeId> {
        if let (UnaryOp::Neg, ExprKind::Int(value)) = (op, &operand.kind) {
            return self.integer(-i128::from(*value), span);
        }
        let a = self.expression(operand)?;
        match (op, self.graph.ty(a)) {
            (UnaryOp::Not, Type::Bool) => Some(self.graph.unary(Unary::Not, a)),
            (UnaryOp::Neg, Type::Float | Type::Int) => Some(match *self.graph.op(a) {
                Op::Float(bits) => self.graph.float(-f64::from_bits(bits)),
                _ => self.graph.unary(Unary::Neg, a),
            }),
            (UnaryOp::Not, ty) => {
                let message = format!("`!` takes a truth value, this is {}", type_name(ty));
                self.report(Problem::new(Code::WrongType, message, operand.span).help("compare it: `!(x > 0)`"));
                None
            }
            (UnaryOp::Neg, Type::Bool) => {
                let message = "`-` takes a number, this is a truth value";
                self.report(Problem::new(Code::WrongType, message, operand.span).help("the opposite is written `!`"));
                None
            }
        }
    }

    pub(super) fn integer(&mut self, value: i128, span: Span) -> Option<NodeId> {
        match i32::try_from(value) {
            Ok(value) => Some(self.graph.int(value)),
            Err(_) => {
                let problem = Problem::new(Code::IntegerOverflow, format!("`{value}` does not fit in 32 bits"), span)
                    .help(format!("integers go from {} to {}; write a float: `{value}.0`", i32::MIN, i32::MAX));
                self.report(problem);
                None
            }
        }
    }

    pub(super) fn binary(&mut self, op: BinaryOp, place: Span, left: &Expr, right: &Expr) -> Option<NodeId> {
        let (a, b) = (self.expression(left), self.expression(right));
        let mut sides = [(a?, left.span), (b?, right.span)];
        let logic = match op {
            BinaryOp::And | BinaryOp::AndAnd => Some(Binary::And),
            BinaryOp::Or | BinaryOp::OrOr => Some(Binary::Or),
            _ => None,
        };
        if let Some(logic) = logic {
            return self.logic(op, logic, sides);
        }
        let what = format!("`{}`", op.as_str());
        if op.is_comparison() && sides.iter().all(|&(node, _)| self.graph.ty(node) == Type::Bool) {
            let problem =
                Problem::new(Code::WrongType, format!("{what} compares numbers, these are truth values"), place).help(
                    "combine truth values by `&`, `|` and `!`; `==` binds less tightly than `&`: use parentheses",
                );
            self.report(problem);
            return None;
        }
        self.promote(&mut sides, &what)?;
        let [(a, left_span), (b, right_span)] = sides;
        let arithmetic = match op {
            BinaryOp::Add => Binary::Add,
            BinaryOp::Sub => Binary::Sub,
            BinaryOp::Mul => Binary::Mul,
            BinaryOp::Div => Binary::Div,
            BinaryOp::Rem if self.graph.ty(a) == Type::Int => Binary::Rem,
            BinaryOp::Rem => {
                let problem = Problem::new(Code::WrongType, "`%` takes integers", left_span.to(right_span))
                    .help("the rest of floats is `x - floor(x / y) * y`; or convert by `as i32`");
                self.report(problem);
                return None;
            }
            _ => return Some(self.graph.compare(comparison(op), a, b)),
        };
        Some(self.graph.binary(arithmetic, a, b))
    }

    fn logic(&mut self, op: BinaryOp, logic: Binary, sides: [(NodeId, Span); 2]) -> Option<NodeId> {
        let mut fine = true;
        for (node, span) in sides {
            let ty = self.graph.ty(node);
            if ty != Type::Bool {
                fine = false;
                let help = match op {
                    BinaryOp::And | BinaryOp::Or => format!(
                        "compare it, `x > 0`; `{0}` binds more tightly than comparisons: write `(a == b) {0} (c == d)`, \
                         or use `{0}{0}`",
                        op.as_str()
                    ),
                    _ => "compare it, `x > 0`".to_owned(),
                };
                let message = format!("`{}` takes truth values, this is {}", op.as_str(), type_name(ty));
                self.report(Problem::new(Code::WrongType, message, span).help(help));
            }
        }
        fine.then(|| self.graph.binary(logic, sides[0].0, sides[1].0))
    }

    pub(super) fn cast(&mut self, operand: &Expr, element: Element) -> Option<NodeId> {
        let a = self.expression(operand)?;
        if self.graph.ty(a) == Type::Bool || element == Element::I32 {
            let what = if self.graph.ty(a) == Type::Bool { "a truth value" } else { "`as i32`" };
            self.refuse_learnable(a, operand.span, what)?;
        }
        Some(match (element, self.graph.ty(a)) {
            (Element::F32, Type::Int) => self.promoted(a),
            (Element::F32, _) => self.graph.cast(Type::Float, a),
            (Element::I32, _) => self.graph.cast(Type::Int, a),
        })
    }
}

fn comparison(op: BinaryOp) -> Compare {
    match op {
        BinaryOp::Lt => Compare::Lt,
        BinaryOp::Le => Compare::Le,
        BinaryOp::Gt => Compare::Gt,
        BinaryOp::Ge => Compare::Ge,
        BinaryOp::Eq => Compare::Eq,
        _ => Compare::Ne,
    }
}
