//! Masks: named ones and closures, composed by `&`, `|` and `!`.
//!
//! Queries are aligned with the last keys: query `q` stands at key `q + kv_len - q_len`.

use super::operators::type_name;
use super::{Checker, Place};
use crate::definition::Axis;
use crate::diagnostics::{Code, Problem};
use crate::ir::{Binary, Compare, Input, NodeId, Op, ParameterId, Type};
use crate::syntax::Span;
use crate::syntax::ast::{Expr, ExprKind, Name};

/// The parameter that a named mask takes, for reports.
struct Wanted {
    mask: &'static str,
    declaration: &'static str,
    help: &'static str,
    elements: &'static str,
}

impl Checker<'_> {
    /// Outer `None`: reported. Inner `None`: every pair is live.
    pub(super) fn mask(&mut self, field: Option<&Expr>) -> Option<Option<NodeId>> {
        self.place = Place::Mask;
        let Some(expr) = field else { return Some(None) };
        if matches!(&expr.kind, ExprKind::Name(name) if name == "none") {
            return Some(None);
        }
        let node = self.expression(expr)?;
        if self.graph.ty(node) != Type::Bool {
            let span = match &expr.kind {
                ExprKind::Closure { body, .. } => body.span,
                _ => expr.span,
            };
            let message = format!("a mask is a truth value, this is {}", type_name(self.graph.ty(node)));
            let problem = Problem::new(Code::WrongType, message, span)
                .help("true keeps the pair: compare, `kv <= q`; what is added to the score goes into `score`");
            self.report(problem);
            return None;
        }
        Some(Some(node))
    }

    /// `causal`, `window(l, r)`, `prefix(n)`, `document(ids)`, `blocks(table, block_q, block_kv)`; `arguments` is `None` for a name without parentheses.
    pub(super) fn named_mask(&mut self, name: &Name, arguments: Option<&[Expr]>, span: Span) -> Option<NodeId> {
        let given = arguments.unwrap_or(&[]);
        let (form, arity) = match name.text.as_str() {
            "causal" => ("causal", 0),
            "window" => ("window(left, right)", 2),
            "prefix" => ("prefix(length)", 1),
            "blocks" => ("blocks(table, block_q, block_kv)", 3),
            _ => ("document(ids)", 1),
        };
        let needs_parentheses = arity > 0;
        if given.len() != arity || arguments.is_some() != needs_parentheses {
            let message = match arguments {
                None => format!("`{}` takes arguments", name.text),
                Some(_) if arity == 0 => format!("`{}` takes no arguments", name.text),
                Some(given) => format!(
                    "`{}` takes {arity} argument{}, not {}",
                    name.text,
                    if arity == 1 { "" } else { "s" },
                    given.len()
                ),
            };
            let help = match name.text.as_str() {
                "causal" => "write `causal`".to_owned(),
                "window" => "write `window(left, right)`: keys from `left` before the query to `right` after it; \
                     -1 is no limit"
                    .to_owned(),
                _ => format!("write `{form}`"),
            };
            self.report(Problem::new(Code::WrongArity, message, span).help(help));
            return None;
        }
        let node = match name.text.as_str() {
            "causal" => {
                let aligned = self.aligned_query();
                let kv = self.graph.input(Input::Key);
                self.graph.compare(Compare::Le, kv, aligned)
            }
            "window" => self.window(&given[0], &given[1])?,
            "prefix" => {
                let length = self.mask_integer(&given[0])?;
                let kv = self.graph.input(Input::Key);
                self.graph.compare(Compare::Lt, kv, length)
            }
            "blocks" => self.blocks(&given[0], [&given[1], &given[2]])?,
            _ => self.document(&given[0])?,
        };
        self.spans.insert(node, span);
        Some(node)
    }

    /// `q + (kv_len - q_len)`: the key that the query stands at.
    fn aligned_query(&mut self) -> NodeId {
        let q = self.graph.input(Input::Query);
        let (kv_len, q_len) = (self.graph.input(Input::KeyLen), self.graph.input(Input::QueryLen));
        let offset = self.graph.difference(kv_len, q_len);
        self.graph.sum(q, offset)
    }

    fn mask_integer(&mut self, expr: &Expr) -> Option<NodeId> {
        let node = self.expression(expr)?;
        match self.graph.ty(node) {
            Type::Int => Some(node),
            ty => {
                let message = format!("this is {}; positions are integers", type_name(ty));
                let help = "write an integer, or an `i32` parameter";
                self.report(Problem::new(Code::WrongType, message, expr.span).help(help));
                None
            }
        }
    }

    fn window(&mut self, left: &Expr, right: &Expr) -> Option<NodeId> {
        let (left, right) = (self.mask_integer(left), self.mask_integer(right));
        let (left, right) = (left?, right?);
        let unlimited = |checker: &Self, node| matches!(checker.graph.op(node), Op::Int(value) if *value < 0);
        let kv = self.graph.input(Input::Key);
        let aligned = self.aligned_query();
        let mut bounds = vec![];
        if !unlimited(self, left) {
            let low = self.graph.difference(aligned, left);
            bounds.push(self.graph.compare(Compare::Ge, kv, low));
        }
        if !unlimited(self, right) {
            let high = self.graph.sum(aligned, right);
            bounds.push(self.graph.compare(Compare::Le, kv, high));
        }
        Some(match bounds.as_slice() {
            [] => self.graph.bool(true),
            [one] => *one,
            [low, high, ..] => self.graph.binary(Binary::And, *low, *high),
        })
    }

    /// The integer parameter that a named mask looks up, whose axes are `fit`.
    fn table(&mut self, table: &Expr, wanted: &Wanted, fit: fn(&[Axis]) -> bool) -> Option<ParameterId> {
        let Wanted { mask, declaration, help, elements } = wanted;
        let wrong = |text: String| Problem::new(Code::WrongType, text, table.span).help(*help);
        let ExprKind::Name(name) = &table.kind else {
            self.report(wrong(format!("`{mask}` takes the name of a parameter")));
            return None;
        };
        let Some(declared) = self.declared.get(name).copied() else {
            let problem = Problem::new(Code::UnknownName, format!("there is no parameter `{name}`"), table.span)
                .help(format!("declare it: `{name}: {declaration}`"));
            self.report(problem);
            return None;
        };
        let declared = declared?;
        let parameter = &self.parameters[declared.id.0 as usize];
        if parameter.ty != Type::Int || !fit(&parameter.axes) {
            let problem = wrong(format!("`{name}` does not hold {elements}")).also(declared.span, "declared here");
            self.report(problem);
            return None;
        }
        Some(declared.id)
    }

    fn blocks(&mut self, table: &Expr, sizes: [&Expr; 2]) -> Option<NodeId> {
        const WANTED: Wanted = Wanted {
            mask: "blocks",
            declaration: "i32[b, h, rows, columns]",
            help: "declare `table: i32[b, h, rows, columns]` and write `blocks(table, 128, 128)`; `b` and `h` may be absent",
            elements: "one integer for each block of queries and block of keys",
        };
        let parameter = self.table(table, &WANTED, |axes| {
            let is_of_blocks = |axis: &Axis| matches!(axis, Axis::Fixed(_) | Axis::Named(_));
            let [outer @ .., rows, columns] = axes else { return false };
            is_of_blocks(rows)
                && is_of_blocks(columns)
                && [&[][..], &[Axis::Batch], &[Axis::Head], &[Axis::Batch, Axis::Head]].contains(&outer)
        });
        let sizes = sizes.map(|size| self.block_size(size));
        let (parameter, [Some(block_q), Some(block_kv)]) = (parameter?, sizes) else { return None };
        let outer = self.parameters[parameter.0 as usize].axes.iter().filter_map(|axis| match axis {
            Axis::Batch => Some(Input::Batch),
            Axis::Head => Some(Input::Head),
            _ => None,
        });
        let mut index: Vec<NodeId> = outer.map(|input| self.graph.input(input)).collect();
        for (position, size) in [(Input::Query, block_q), (Input::Key, block_kv)] {
            let position = self.graph.input(position);
            index.push(self.graph.quotient(position, size));
        }
        let element = self.graph.parameter(parameter, index, Type::Int);
        let zero = self.graph.int(0);
        Some(self.graph.compare(Compare::Ne, element, zero))
    }

    /// A number of positions that is written in the text.
    fn block_size(&mut self, expr: &Expr) -> Option<NodeId> {
        let node = self.mask_integer(expr)?;
        if matches!(self.graph.op(node), Op::Int(1..)) {
            return Some(node);
        }
        let problem =
            Problem::new(Code::WrongType, "the size of a block is a positive integer that is written here", expr.span)
                .help("write how many positions a block has, `128`");
        self.report(problem);
        None
    }

    fn document(&mut self, ids: &Expr) -> Option<NodeId> {
        const WANTED: Wanted = Wanted {
            mask: "document",
            declaration: "i32[b, kv]",
            help: "declare `ids: i32[b, kv]` and write `document(ids)`",
            elements: "one integer for each key of each batch",
        };
        let parameter = self.table(ids, &WANTED, |axes| *axes == [Axis::Batch, Axis::Key])?;
        let b = self.graph.input(Input::Batch);
        let kv = self.graph.input(Input::Key);
        let aligned = self.aligned_query();
        let own = self.graph.parameter(parameter, vec![b, aligned], Type::Int);
        let other = self.graph.parameter(parameter, vec![b, kv], Type::Int);
        Some(self.graph.compare(Compare::Eq, own, other))
    }
}
