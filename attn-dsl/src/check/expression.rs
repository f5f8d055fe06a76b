//! Names, calls, branches and blocks.

use super::names::{self, FUNCTIONS, INDICES, INPUTS, MASKS, ROW_INDICES, ROW_INPUTS, Signature};
use super::operators::type_name;
use super::{Checker, Place, nearest};
use crate::diagnostics::{Code, Problem};
use crate::ir::{Input, NodeId, Type};
use crate::syntax::Span;
use crate::syntax::ast::{Block, Expr, ExprKind, Name};

impl Checker<'_> {
    /// The node of an expression; `None` if something in it was reported.
    pub(super) fn expression(&mut self, expr: &Expr) -> Option<NodeId> {
        let node = match &expr.kind {
            ExprKind::Float(value) => self.graph.float(*value),
            ExprKind::Int(value) => self.integer(i128::from(*value), expr.span)?,
            ExprKind::Bool(value) => self.graph.bool(*value),
            ExprKind::Name(name) => return self.name(name, expr.span),
            ExprKind::Index { base, index } => self.index(base, index, expr.span)?,
            ExprKind::Call { function, arguments } => self.call(function, arguments, expr.span)?,
            ExprKind::Unary(op, a) => self.unary(*op, a, expr.span)?,
            ExprKind::Binary(op, place, a, b) => self.binary(*op, *place, a, b)?,
            ExprKind::Cast(a, element) => self.cast(a, *element)?,
            ExprKind::If { condition, then, otherwise } => self.branch(condition, then, otherwise)?,
            ExprKind::Block(block) => self.block(block)?,
            ExprKind::Closure { arguments, body } if self.place == Place::Mask && self.scope.is_empty() => {
                self.closure(arguments, body)?
            }
            ExprKind::Closure { .. } => {
                let help = if self.place == Place::Mask {
                    "the arguments are known here already; write the condition itself"
                } else {
                    "write the expression itself"
                };
                self.report(
                    Problem::new(Code::Unsupported, "a closure stands for no value here", expr.span).help(help),
                );
                return None;
            }
            ExprKind::Error => return None,
        };
        self.spans.insert(node, expr.span);
        Some(node)
    }

    fn name(&mut self, name: &str, span: Span) -> Option<NodeId> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(bound, _)| bound == name) {
            return *value;
        }
        if let Some(declared) = self.declared.get(name).copied() {
            // A refused declaration was reported there.
            let declared = declared?;
            return self.read(declared, &[], span);
        }
        let node = if let Some(size) = self.sizes.iter().position(|size| size == name) {
            self.graph.input(Input::Size(crate::ir::SizeId(size as u32)))
        } else {
            match self.input(name) {
                Some(Input::LiveKeys) if self.place == Place::Mask => {
                    let message = format!("`{name}` counts what the mask leaves; a mask cannot read it");
                    self.report(
                        Problem::new(Code::OutOfPlace, message, span).help("`kv_len` is the number of all keys"),
                    );
                    return None;
                }
                Some(input) => self.graph.input(input),
                None if self.place == Place::Mask && MASKS.contains(&name) => {
                    return self.named_mask(&Name { text: name.to_owned(), span }, None, span);
                }
                None => return self.unknown(name, span),
            }
        };
        self.spans.insert(node, span);
        Some(node)
    }

    /// What a field that belongs to a whole row knows of it.
    fn row_names(&self) -> &'static [(&'static str, Input)] {
        match self.place {
            Place::Normalizer => ROW_INPUTS,
            Place::Alpha | Place::TopK => ROW_INDICES,
            _ => &[],
        }
    }

    /// A value of the language that this field knows without binding it.
    fn input(&self, name: &str) -> Option<Input> {
        INPUTS.iter().chain(self.row_names()).find(|(known, _)| *known == name).map(|(_, input)| *input)
    }

    fn unknown<T>(&mut self, name: &str, span: Span) -> Option<T> {
        let is = |names: &[(&str, Input)]| names.iter().any(|(known, _)| *known == name);
        let problem = match self.place {
            Place::Normalizer if name == "s" || name == "kv" || name == "w" => Problem::new(
                Code::OutOfPlace,
                format!("`{name}` belongs to a pair of query and key; a normalizer belongs to a whole row"),
                span,
            )
            .help("use the row's `sum`, `max`, `sum_squares` or `count`; what differs between keys goes into `score`"),
            Place::Alpha | Place::TopK if name == "s" || name == "kv" || name == "p" => Problem::new(
                Code::OutOfPlace,
                format!("`{name}` belongs to a pair of query and key; this is one number for all of them"),
                span,
            )
            .help("write a number or a parameter, `entmax(alpha[h])`, `top_k(k[h])`"),
            Place::Keep if is(INDICES) || ["s", "max", "p"].contains(&name) => {
                Problem::new(Code::UnknownName, format!("`{name}` is not among the closure's arguments"), span)
                    .help("take what is needed by its name: `|s, max, p, b, h, q, kv| ...`, in any order")
            }
            Place::Post if is(INDICES) || name == "p" || name == "s" => {
                let closure = self.place.closure();
                let message = match name {
                    "s" => "a map after normalization sees the weight `p`, not the score `s`".to_owned(),
                    _ => format!("`{name}` is not among the closure's arguments"),
                };
                Problem::new(Code::UnknownName, message, span)
                    .help(format!("take it by position: `{closure} ...`, with `_` for what is not used"))
            }
            Place::Mask if name == "s" => Problem::new(Code::OutOfPlace, "a mask cannot read the score `s`", span)
                .help("a mask depends on positions and integer parameters; put what depends on `s` into `activation`"),
            Place::Score | Place::Mask | Place::Activation if is(INDICES) || name == "s" => {
                let closure = self.place.closure();
                Problem::new(Code::UnknownName, format!("`{name}` is not among the closure's arguments"), span)
                    .help(format!("take it by position: `{closure} ...`, with `_` for what is not used"))
            }
            Place::Score | Place::Mask | Place::Activation | Place::Post | Place::Keep if is(ROW_INPUTS) => {
                Problem::new(Code::OutOfPlace, format!("`{name}` is known in `normalizer` only"), span)
                    .help("the number of live keys is `live_keys`")
            }
            place if place != Place::Mask && MASKS.contains(&name) => {
                Problem::new(Code::OutOfPlace, format!("`{name}` is a mask"), span)
                    .help(format!("write `mask: {name}`"))
            }
            _ if names::function(name).is_some() => {
                Problem::new(Code::WrongType, format!("`{name}` is a function"), span)
                    .help(format!("call it: `{name}(...)`"))
            }
            _ => {
                let known = self.known();
                let problem = Problem::new(Code::UnknownName, format!("there is no `{name}`"), span);
                problem.help(match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("write `{near}`"),
                    None => format!("declare a parameter, `{name}: f32`, or use one of {}", known.join(", ")),
                })
            }
        };
        self.report(problem);
        None
    }

    /// Every name that a value may have here, the innermost first.
    fn known(&self) -> Vec<String> {
        let mut known: Vec<String> = vec![];
        let scope = self.scope.iter().rev().map(|(name, _)| name.clone());
        let parameters = self.parameters.iter().map(|parameter| parameter.name.clone());
        let inputs = INPUTS.iter().chain(self.row_names()).map(|(name, _)| (*name).to_owned());
        let masks: &[_] = if self.place == Place::Mask { MASKS } else { &[] };
        let masks = masks.iter().map(|name| (*name).to_owned());
        for name in scope.chain(parameters).chain(self.sizes.clone()).chain(inputs).chain(masks) {
            if !known.contains(&name) {
                known.push(name);
            }
        }
        known
    }

    fn call(&mut self, name: &Name, arguments: &[Expr], span: Span) -> Option<NodeId> {
        if self.place == Place::Mask && MASKS.contains(&name.text.as_str()) {
            return self.named_mask(name, Some(arguments), span);
        }
        let Some(function) = names::function(&name.text) else {
            // What is wrong with the arguments is worth knowing too.
            arguments.iter().for_each(|argument| {
                self.expression(argument);
            });
            return self.unknown_function(name);
        };
        let values: Vec<_> = arguments.iter().map(|a| self.expression(a).map(|node| (node, a.span))).collect();
        let arity = match function.signature {
            Signature::Numbers(arity) => arity,
            Signature::Float => 1,
        };
        if arguments.len() != arity {
            let letters = ["a", "b", "c"][..arity].join(", ");
            let form = match name.text.as_str() {
                "clamp" => "clamp(x, low, high)".to_owned(),
                other => format!("{other}({letters})"),
            };
            let problem = Problem::new(
                Code::WrongArity,
                format!(
                    "`{}` takes {arity} argument{}, not {}",
                    name.text,
                    if arity == 1 { "" } else { "s" },
                    arguments.len()
                ),
                name.span,
            )
            .help(format!("write `{form}`"));
            self.report(problem);
            return None;
        }
        let mut values: Vec<_> = values.into_iter().collect::<Option<_>>()?;
        self.promote(&mut values, &format!("`{}`", name.text))?;
        let mut nodes: Vec<_> = values.iter().map(|(node, _)| *node).collect();
        if function.signature == Signature::Float {
            nodes.iter_mut().for_each(|node| *node = self.promoted(*node));
        }
        if name.text == "floor" {
            self.refuse_learnable(nodes[0], span, "`floor`")?;
        }
        Some((function.build)(&mut self.graph, &nodes))
    }

    fn unknown_function(&mut self, name: &Name) -> Option<NodeId> {
        let known = FUNCTIONS.iter().map(|function| function.name);
        let masks: &[_] = if self.place == Place::Mask { MASKS } else { &[] };
        let is_value =
            self.scope.iter().any(|(bound, _)| *bound == name.text) || self.declared.contains_key(&name.text);
        let help = if let Some(help) = names::foreign_function(&name.text) {
            help.to_owned()
        } else if is_value {
            format!("`{0}` is a value; multiply by `*`, read a parameter by `{0}[...]`", name.text)
        } else if MASKS.contains(&name.text.as_str()) {
            "masks belong into the field `mask`".to_owned()
        } else if let Some(near) = nearest(&name.text, known.clone().chain(masks.iter().copied())) {
            format!("write `{near}`")
        } else {
            format!("there are {}", known.collect::<Vec<_>>().join(", "))
        };
        let message = format!("there is no function `{}`", name.text);
        self.report(Problem::new(Code::UnknownFunction, message, name.span).help(help));
        None
    }

    fn branch(&mut self, condition: &Expr, then: &Block, otherwise: &Block) -> Option<NodeId> {
        let test = self.expression(condition);
        let sides = (self.block(then), self.block(otherwise));
        let test = match test {
            Some(test) if self.graph.ty(test) != Type::Bool => {
                let message = format!("a condition is a truth value, this is {}", type_name(self.graph.ty(test)));
                self.report(Problem::new(Code::WrongType, message, condition.span).help("compare it: `x != 0`"));
                return None;
            }
            test => test?,
        };
        let mut sides = [(sides.0?, then.value.span), (sides.1?, otherwise.value.span)];
        let types = sides.map(|(node, _)| self.graph.ty(node));
        if types[0] != types[1] && types.contains(&Type::Bool) {
            let problem = Problem::new(
                Code::WrongType,
                format!("the branches differ: {} and {}", type_name(types[0]), type_name(types[1])),
                sides[1].1,
            )
            .also(sides[0].1, type_name(types[0]))
            .here(type_name(types[1]))
            .help("give both branches a number, or both a truth value");
            self.report(problem);
            return None;
        }
        if types[0] != Type::Bool {
            self.promote(&mut sides, "`if`")?;
        }
        let [(then, _), (otherwise, _)] = sides;
        // Branches that are truth values have their own reads checked where the value ends up.
        if types[0] != Type::Bool {
            self.refuse_learnable_condition(test, [then, otherwise], condition.span)?;
        }
        Some(self.graph.select(test, then, otherwise))
    }

    fn block(&mut self, block: &Block) -> Option<NodeId> {
        let depth = self.scope.len();
        for binding in &block.lets {
            let value = self.expression(&binding.value);
            self.scope.push((binding.name.text.clone(), value));
        }
        let value = self.expression(&block.value);
        self.scope.truncate(depth);
        value
    }
}
