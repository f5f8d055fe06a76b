//! From a syntax tree to a [`Definition`]: resolves names, types and kinds, and says what a user can change.
//!
//! Everything that is wrong is reported at once, each on the tokens that are wrong. An expression whose part was reported has
//! no node (`None`), and nothing more is said about what depends on it.
//!
//! Invariants of what comes out: see [`crate::definition`].

mod expression;
mod feature;
mod gradient;
mod keep;
mod mask;
mod names;
mod operators;
mod parameters;

use std::collections::HashMap;

use crate::definition::{Definition, Parameter};
use crate::diagnostics::{Code, Problem, Problems};
use crate::ir::{Graph, Input, NodeId, ParameterId, Reduction, Type};
use crate::lower::{LowerError, lower};
use crate::syntax::ast::{Argument, Expr, ExprKind, Variant};
use crate::syntax::{self, Span};

pub(crate) use names::nearest;

/// The field that an expression stands in: decides which names it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Score,
    Activation,
    Normalizer,
    /// The alpha of an entmax.
    Alpha,
    /// The number of keys that a row keeps.
    TopK,
    /// A condition on what is kept.
    Keep,
    Post,
    Mask,
    Feature,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Score => "score",
            Place::Activation => "activation",
            Place::Normalizer | Place::Alpha => "normalizer",
            Place::TopK | Place::Keep => "keep",
            Place::Post => "post",
            Place::Mask => "mask",
            Place::Feature => "feature",
        }
    }

    /// The closure that the field takes.
    fn closure(self) -> &'static str {
        match self {
            Place::Score | Place::Activation => "|s, b, h, q, kv|",
            Place::Post => "|p, b, h, q, kv|",
            Place::Keep => "|s, max, p, b, h, q, kv|",
            Place::Mask => "|b, h, q, kv|",
            Place::Feature => "|x|",
            Place::Normalizer | Place::Alpha | Place::TopK => "",
        }
    }

    fn arguments(self) -> &'static [(&'static str, Option<Input>)] {
        const PAIR: [(&str, Option<Input>); 5] = [
            ("s", None),
            ("b", Some(Input::Batch)),
            ("h", Some(Input::Head)),
            ("q", Some(Input::Query)),
            ("kv", Some(Input::Key)),
        ];
        match self {
            Place::Score | Place::Activation | Place::Post => &PAIR,
            Place::Mask => &PAIR[1..],
            Place::Feature => &[("x", None)],
            // a condition on what is kept takes its arguments by name: see `keep`
            Place::Keep | Place::Normalizer | Place::Alpha | Place::TopK => &[],
        }
    }
}

/// A parameter's declaration, for reports.
#[derive(Clone, Copy)]
struct Declared {
    id: ParameterId,
    span: Span,
}

struct Checker<'a> {
    problems: &'a mut Problems,
    graph: Graph,
    /// Where a node was last written.
    spans: HashMap<NodeId, Span>,
    parameters: Vec<Parameter>,
    /// By name; `None` for one whose declaration was refused.
    declared: HashMap<String, Option<Declared>>,
    sizes: Vec<String>,
    place: Place,
    /// Arguments of the closure and `let` bindings, the innermost last.
    scope: Vec<(String, Option<NodeId>)>,
}

/// Checks a variant. `None` if anything is wrong, which `problems` then says; also if the parser had reported something.
pub(crate) fn check(variant: &Variant, problems: &mut Problems) -> Option<Definition> {
    let before = problems.len();
    parameters::check_name(&variant.name, "the variant", problems);
    let mut checker = Checker {
        problems,
        graph: Graph::new(),
        spans: HashMap::new(),
        parameters: vec![],
        declared: HashMap::new(),
        sizes: vec![],
        place: Place::Score,
        scope: vec![],
    };
    checker.declare(&variant.parameters);
    let score = checker.score(variant.score.as_ref());
    let mask = checker.mask(variant.mask.as_ref());
    let entmax = checker.entmax(variant.normalizer.as_ref(), variant.activation.as_ref());
    let (activation, normalizer) = match entmax {
        Some(_) => (Some(checker.graph.input(Input::Score)), Some(None)),
        None => {
            let activation = checker.activation(variant.activation.as_ref());
            (activation, checker.normalizer(variant.normalizer.as_ref()))
        }
    };
    let keep = checker.keep(variant.keep.as_ref());
    let post = checker.post(variant.post.as_ref());
    let features = checker.features(variant);
    let Checker { graph, parameters, sizes, spans, .. } = checker;
    if problems.len() > before {
        return None;
    }
    let definition = Definition {
        name: variant.name.text.clone(),
        docs: documentation(&variant.docs),
        text: syntax::print(variant),
        parameters,
        sizes,
        graph,
        score: score?,
        activation: activation?,
        normalizer: normalizer?,
        entmax: entmax.flatten(),
        keep: keep?,
        post: post?,
        mask: mask?,
        features: features?,
    };
    match lower(&definition) {
        Ok(_) => Some(definition),
        Err(error) => {
            let written = error.node().and_then(|node| spans.get(&node).copied());
            let field = variant.normalizer.as_ref().or(variant.activation.as_ref()).map(|expr| expr.span);
            problems.push(unstable(&error, written.or(field).unwrap_or(variant.name.span)));
            None
        }
    }
}

/// What lowering refuses, on the user's tokens.
fn unstable(error: &LowerError, place: Span) -> Problem {
    let text = error.to_string();
    // What is wrong stands before what to write.
    let (message, help) = text.split_once("; ").or_else(|| text.split_once(": ")).unwrap_or((&text, ""));
    Problem::new(Code::NoStableForm, message, place).help(help)
}

/// Documentation without the space that separates it from `///`.
fn documentation(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n").trim().to_owned()
}

impl Checker<'_> {
    fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// `s`, as a score and an activation see it; `p` of a map after normalization.
    fn s(&mut self) -> NodeId {
        match self.place {
            Place::Activation | Place::Feature => return self.graph.input(Input::Score),
            Place::Post => return self.graph.input(Input::Probability),
            _ => {}
        }
        let product = self.graph.input(Input::Product);
        let scale = self.graph.input(Input::Scale);
        self.graph.product(product, scale)
    }

    fn score(&mut self, field: Option<&Expr>) -> Option<NodeId> {
        self.place = Place::Score;
        match field {
            None => Some(self.s()),
            Some(expr) => self.pair_closure(expr),
        }
    }

    fn activation(&mut self, field: Option<&Expr>) -> Option<NodeId> {
        self.place = Place::Activation;
        let name = match field.map(|expr| (&expr.kind, expr.span)) {
            None => ("exp", Span::nowhere()),
            Some((ExprKind::Name(name), span)) => (name.as_str(), span),
            Some(_) => return self.pair_closure(field?),
        };
        let s = self.s();
        match name {
            ("identity", _) => Some(s),
            (name, span) if names::ACTIVATIONS.contains(&name) => {
                let build = names::function(name)?.build;
                let node = build(&mut self.graph, &[s]);
                self.spans.insert(node, span);
                Some(node)
            }
            (name, span) => {
                let help = match nearest(name, names::ACTIVATIONS.iter().copied()) {
                    _ if ["sparsemax", "entmax15", "entmax"].contains(&name) => {
                        format!("it is a normalizer: `normalizer: {name}`, without an activation")
                    }
                    _ if name == "softmax" => "softmax is `activation: exp` with `normalizer: softmax`".to_owned(),
                    _ if names::function(name).is_some() => format!("write `|s| {name}(s)`"),
                    Some(near) => format!("write `{near}`"),
                    None => format!("write one of {}, or a closure `|s| ...`", names::ACTIVATIONS.join(", ")),
                };
                let message = format!("there is no activation `{name}`");
                self.report(Problem::new(Code::UnknownName, message, span).help(help));
                None
            }
        }
    }

    /// A closure over a pair with a float for its value.
    fn pair_closure(&mut self, expr: &Expr) -> Option<NodeId> {
        let ExprKind::Closure { arguments, body } = &expr.kind else {
            if !matches!(expr.kind, ExprKind::Error) {
                let field = self.place.name();
                let closure = match self.place {
                    Place::Activation => "|s|",
                    Place::Post => "|p|",
                    place => place.closure(),
                };
                let text = syntax::print_expression(expr);
                // Long texts would hide the advice.
                let body = if text.len() <= 60 && !text.contains('\n') { text } else { "...".into() };
                let problem = Problem::new(Code::WrongType, format!("`{field}` is not a closure"), expr.span)
                    .help(format!("write `{field}: {closure} {body}`"));
                self.report(problem);
            }
            return None;
        };
        let node = self.closure(arguments, body)?;
        self.float_result(node, body.span)
    }

    /// The body of a closure with its arguments bound.
    fn closure(&mut self, arguments: &[Argument], body: &Expr) -> Option<NodeId> {
        let known = self.place.arguments();
        if arguments.len() > known.len() {
            let extra = arguments[known.len()].span.to(arguments[arguments.len() - 1].span);
            let problem = Problem::new(
                Code::WrongArity,
                format!("{} arguments; a {} takes at most {}", arguments.len(), self.place.name(), known.len()),
                extra,
            )
            .help(format!("write `{}`", self.place.closure()));
            self.report(problem);
        }
        let depth = self.scope.len();
        for (i, argument) in arguments.iter().enumerate() {
            let Some(name) = &argument.name else { continue };
            let value = match known.get(i) {
                Some((_, Some(input))) => Some(self.graph.input(*input)),
                Some((_, None)) => Some(self.s()),
                None => None,
            };
            if let Some(Some(declared)) = self.declared.get(name) {
                let problem = Problem::new(
                    Code::Duplicate,
                    format!("the argument `{name}` hides the parameter `{name}`"),
                    argument.span,
                )
                .also(declared.span, "the parameter")
                .help(format!("arguments are taken by position, `{}`; rename one of the two", self.place.closure()));
                self.report(problem);
            }
            self.scope.push((name.clone(), value));
        }
        let value = self.expression(body);
        self.scope.truncate(depth);
        value
    }

    /// The value of a field that must be a float.
    fn float_result(&mut self, node: NodeId, span: Span) -> Option<NodeId> {
        if self.graph.ty(node) == Type::Bool {
            let field = self.place.name();
            let problem =
                Problem::new(Code::WrongType, format!("`{field}` must be a number, this is a truth value"), span)
                    .help("choose two numbers: `if ... { 1.0 } else { 0.0 }`; what hides pairs is a `mask`");
            self.report(problem);
            return None;
        }
        Some(self.promoted(node))
    }

    /// Outer `None`: reported. Inner `None`: there is nothing to divide by.
    fn normalizer(&mut self, field: Option<&Expr>) -> Option<Option<NodeId>> {
        self.place = Place::Normalizer;
        let Some(expr) = field else {
            return Some(Some(self.graph.input(Input::Reduction(Reduction::Sum))));
        };
        match &expr.kind {
            ExprKind::Name(name) if name == "none" => Some(None),
            ExprKind::Name(name) if name == "softmax" => {
                let sum = self.graph.input(Input::Reduction(Reduction::Sum));
                self.spans.insert(sum, expr.span);
                Some(Some(sum))
            }
            ExprKind::Closure { body, .. } => {
                let problem = Problem::new(Code::WrongType, "a normalizer is no closure", expr.span)
                    .help(format!("write the expression itself: `normalizer: {}`", syntax::print_expression(body)));
                self.report(problem);
                None
            }
            _ => {
                let node = self.expression(expr)?;
                self.float_result(node, expr.span).map(Some)
            }
        }
    }
}
