//! What belongs to whole rows of weights: the normalizers with a threshold of their own, which keys are kept, and what becomes of
//! weights after normalization.
//!
//! A condition on what is kept takes its arguments by name, so that any subset of them may stand in any order.

use super::operators::type_name;
use super::{Checker, Place};
use crate::definition::Keep;
use crate::diagnostics::{Code, Problem};
use crate::ir::{Input, NodeId, Op, Type};
use crate::syntax::Span;
use crate::syntax::ast::{Argument, Expr, ExprKind, Name};

const KEEP_HELP: &str =
    "write `keep: top_k(64)`, `keep: top_k(64, ties)` or a condition, `keep: |s, max| s >= max - 5.0`";

/// What a condition on what is kept may take.
const KEEP_ARGUMENTS: [(&str, Input); 7] = [
    ("s", Input::Score),
    ("max", Input::GreatestScore),
    ("p", Input::Probability),
    ("b", Input::Batch),
    ("h", Input::Head),
    ("q", Input::Query),
    ("kv", Input::Key),
];

impl Checker<'_> {
    /// Outer `None`: the normalizer is no entmax. Inner `None`: reported.
    pub(super) fn entmax(&mut self, normalizer: Option<&Expr>, activation: Option<&Expr>) -> Option<Option<NodeId>> {
        let expr = normalizer?;
        let alpha = match &expr.kind {
            ExprKind::Name(name) if name == "sparsemax" => Some(self.graph.float(2.0)),
            ExprKind::Name(name) if name == "entmax15" => Some(self.graph.float(1.5)),
            ExprKind::Name(name) if name == "entmax" => {
                let problem = Problem::new(Code::WrongArity, "`entmax` takes its alpha", expr.span)
                    .help("write `entmax(1.25)` or `entmax(alpha[h])`; `entmax15` is `entmax(1.5)`");
                self.report(problem);
                None
            }
            ExprKind::Call { function, arguments } => match function.text.as_str() {
                "entmax" => self.alpha(arguments, expr.span),
                "sparsemax" | "entmax15" => {
                    let name = &function.text;
                    let problem = Problem::new(Code::WrongArity, format!("`{name}` takes no arguments"), expr.span)
                        .help(format!("write `{name}`; `entmax(alpha)` takes one"));
                    self.report(problem);
                    None
                }
                _ => return None,
            },
            _ => return None,
        };
        if let Some(activation) = activation {
            let problem =
                Problem::new(Code::OutOfPlace, "this normalizer makes weights of scores by itself", activation.span)
                    .also(expr.span, "the normalizer")
                    .help("remove `activation`; what should happen to scores before goes into `score`");
            self.report(problem);
            return Some(None);
        }
        Some(alpha)
    }

    fn alpha(&mut self, arguments: &[Expr], span: Span) -> Option<NodeId> {
        self.place = Place::Alpha;
        let [expr] = arguments else {
            let message = format!("`entmax` takes 1 argument, not {}", arguments.len());
            self.report(
                Problem::new(Code::WrongArity, message, span).help("write `entmax(1.25)` or `entmax(alpha[h])`"),
            );
            return None;
        };
        let node = self.expression(expr)?;
        let node = self.float_result(node, expr.span)?;
        if !self.graph.rate(node).is_tile() {
            let problem = Problem::new(Code::OutOfPlace, "alpha is one number for all rows of a head", expr.span)
                .help("it may depend on `b`, `h` and lengths: `entmax(alpha[h])`");
            self.report(problem);
            return None;
        }
        match self.graph.as_float(node) {
            Some(alpha) if !(alpha > 1.0 && alpha <= 2.0) => {
                let problem =
                    Problem::new(Code::NoStableForm, format!("an entmax has no threshold at alpha {alpha}"), expr.span)
                        .help("alpha is above 1, where it comes near softmax, and at most 2, which is `sparsemax`");
                self.report(problem);
                None
            }
            _ => Some(node),
        }
    }

    /// Outer `None`: reported. Inner `None`: every live key is kept.
    pub(super) fn keep(&mut self, field: Option<&Expr>) -> Option<Option<Keep>> {
        let Some(expr) = field else { return Some(None) };
        match &expr.kind {
            ExprKind::Call { function, arguments } if function.text == "top_k" => {
                self.top_k(arguments, expr.span).map(Some)
            }
            ExprKind::Closure { arguments, body } => self.condition(arguments, body).map(Some),
            ExprKind::Error => None,
            _ => {
                let problem = match &expr.kind {
                    ExprKind::Name(name) | ExprKind::Call { function: Name { text: name, .. }, .. }
                        if name == "top_k" =>
                    {
                        Problem::new(Code::WrongArity, "`top_k` takes how many keys a row keeps", expr.span)
                    }
                    _ => Problem::new(Code::WrongType, "this does not say what is kept", expr.span),
                };
                self.report(problem.help(KEEP_HELP));
                None
            }
        }
    }

    fn top_k(&mut self, arguments: &[Expr], span: Span) -> Option<Keep> {
        self.place = Place::TopK;
        let (expr, ties) = match arguments {
            [k] => (k, false),
            [k, Expr { kind: ExprKind::Name(name), .. }] if name == "ties" => (k, true),
            [_, other] => {
                let problem = Problem::new(
                    Code::WrongType,
                    "the second argument of `top_k` is no expression",
                    other.span,
                )
                .help("`top_k(64, ties)` keeps all keys whose score is the 64th greatest; `top_k(64)` exactly 64 keys");
                self.report(problem);
                return None;
            }
            _ => {
                self.report(
                    Problem::new(Code::WrongArity, "`top_k` takes how many keys a row keeps", span).help(KEEP_HELP),
                );
                return None;
            }
        };
        let k = self.expression(expr)?;
        if self.graph.ty(k) != Type::Int {
            let message = format!("this is {}; how many keys are kept is an integer", type_name(self.graph.ty(k)));
            let problem = Problem::new(Code::WrongType, message, expr.span)
                .help("write `64`, or an `i32` parameter; `x as i32` cuts");
            self.report(problem);
            return None;
        }
        if matches!(self.graph.op(k), Op::Int(..=0)) {
            let problem = Problem::new(Code::WrongType, "a row that keeps no key has no output", expr.span)
                .help("write how many keys a row keeps, at least 1");
            self.report(problem);
            return None;
        }
        Some(Keep::TopK { k, ties })
    }

    /// A condition of a pair, whose arguments are taken by name.
    fn condition(&mut self, arguments: &[Argument], body: &Expr) -> Option<Keep> {
        self.place = Place::Keep;
        let depth = self.scope.len();
        let mut wrong = false;
        for argument in arguments {
            let Some(name) = &argument.name else { continue };
            if let Some(Some(declared)) = self.declared.get(name) {
                let message = format!("the argument `{name}` hides the parameter `{name}`");
                let problem = Problem::new(Code::Duplicate, message, argument.span)
                    .also(declared.span, "the parameter")
                    .help("arguments of a condition on what is kept have fixed names; rename the parameter");
                self.report(problem);
                wrong = true;
            }
            match KEEP_ARGUMENTS.iter().find(|(known, _)| known == name) {
                Some((_, input)) => {
                    let node = self.graph.input(*input);
                    self.scope.push((name.clone(), Some(node)));
                }
                None => {
                    let message = format!("a condition on what is kept has no argument `{name}`");
                    let problem = Problem::new(Code::UnknownName, message, argument.span).help(
                        "its arguments are taken by name: the score `s`, the row's greatest score `max`, the normalized weight `p`, \
                         and `b`, `h`, `q`, `kv`",
                    );
                    self.report(problem);
                    self.scope.push((name.clone(), None));
                }
            }
        }
        let value = self.expression(body);
        self.scope.truncate(depth);
        let node = value.filter(|_| !wrong)?;
        if self.graph.ty(node) != Type::Bool {
            let message = format!("what is kept is a truth value, this is {}", type_name(self.graph.ty(node)));
            let problem = Problem::new(Code::WrongType, message, body.span)
                .help("true keeps the key: compare, `s >= 0.0`; a map of weights goes into `post`");
            self.report(problem);
            return None;
        }
        self.refuse_learnable(node, body.span, "a condition on what is kept")?;
        Some(Keep::Where(node))
    }

    /// Outer `None`: reported. Inner `None`: weights are used as they are normalized.
    pub(super) fn post(&mut self, field: Option<&Expr>) -> Option<Option<NodeId>> {
        self.place = Place::Post;
        field.map_or(Some(None), |expr| self.pair_closure(expr).map(Some))
    }
}
