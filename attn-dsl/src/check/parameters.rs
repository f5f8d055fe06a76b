//! Declarations and reads of parameters.

use super::{Checker, Declared, nearest};
use crate::check::names::{INPUTS, is_reserved};
use crate::definition::{Axis, Parameter};
use crate::diagnostics::{Code, Problem, Problems};
use crate::ir::{Input, NodeId, Op, ParameterId, SizeId, Type};
use crate::syntax::Span;
use crate::syntax::ast::{self, AxisKind, Element, Expr, Name};

/// Refuses names that the struct or the generated kernels cannot have.
pub(super) fn check_name(name: &Name, what: &str, problems: &mut Problems) {
    // Without a name there was a report already.
    if name.text.is_empty() {
        return;
    }
    let plain = name.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let keyword = syn::parse_str::<syn::Ident>(&name.text).is_err();
    if !plain || keyword {
        let why = if plain { "is a keyword of Rust" } else { "is no plain name" };
        problems.push(
            Problem::new(Code::ReservedName, format!("`{}` {why}", name.text), name.span)
                .help(format!("call {what} by ASCII letters, digits and `_`, and not by a keyword")),
        );
    }
}

impl Checker<'_> {
    pub(super) fn declare(&mut self, parameters: &[ast::Parameter]) {
        for parameter in parameters {
            let before = self.problems.len();
            check_name(&parameter.name, "the parameter", self.problems);
            let name = parameter.name.text.clone();
            if is_reserved(&name) {
                let problem = Problem::new(
                    Code::ReservedName,
                    format!("`{name}` has a meaning in the language"),
                    parameter.name.span,
                )
                .help(format!("call the parameter something else, `{name}_parameter`"));
                self.report(problem);
            }
            let axes = self.axes(parameter);
            if self.problems.len() > before {
                self.declared.insert(name, None);
                continue;
            }
            let id = ParameterId(self.parameters.len() as u32);
            self.declared.insert(name.clone(), Some(Declared { id, span: parameter.name.span }));
            let ty = match parameter.element {
                Element::F32 => Type::Float,
                Element::I32 => Type::Int,
            };
            self.parameters.push(Parameter {
                name,
                docs: super::documentation(&parameter.docs),
                ty,
                learnable: ty == Type::Float && !parameter.constant,
                axes,
            });
        }
        // A length may not have the name of a parameter, wherever that one is declared.
        for parameter in parameters {
            for axis in &parameter.axes {
                let AxisKind::Name(name) = &axis.kind else { continue };
                if let Some(twin) = parameters.iter().find(|p| p.name.text == *name) {
                    let problem = Problem::new(
                        Code::Duplicate,
                        format!("`{name}` is a parameter; an axis is named by a length"),
                        axis.span,
                    )
                    .also(twin.name.span, "the parameter")
                    .help(format!("call the length something else, `{name}_len`"));
                    self.report(problem);
                }
            }
        }
    }

    fn axes(&mut self, parameter: &ast::Parameter) -> Vec<Axis> {
        let mut axes: Vec<Axis> = vec![];
        for axis in &parameter.axes {
            let kind = match &axis.kind {
                AxisKind::Extent(extent) => Axis::Fixed(*extent),
                AxisKind::Name(name) => match name.as_str() {
                    "b" => Axis::Batch,
                    "h" => Axis::Head,
                    "q" => Axis::Query,
                    "kv" => Axis::Key,
                    name => self.size(name, axis.span),
                },
            };
            let own = matches!(kind, Axis::Batch | Axis::Head | Axis::Query | Axis::Key);
            if own && axes.contains(&kind) {
                let problem = Problem::new(Code::Duplicate, "this axis is there twice", axis.span)
                    .help("write each of `b`, `h`, `q`, `kv` once; further axes have a number or a name of their own");
                self.report(problem);
            }
            axes.push(kind);
        }
        axes
    }

    fn size(&mut self, name: &str, span: Span) -> Axis {
        let place = Name { text: name.to_owned(), span };
        check_name(&place, "the length", self.problems);
        if is_reserved(name) {
            let hint = match name {
                "q_len" => "`q`",
                "kv_len" => "`kv`",
                _ => "`b`, `h`, `q`, `kv`, a number or a name of your own",
            };
            let problem = Problem::new(Code::ReservedName, format!("`{name}` is no axis"), span)
                .help(format!("an axis is {hint}"));
            self.report(problem);
        } else if let Some(near) = foreign_axis(name) {
            let problem = Problem::new(Code::UnknownName, format!("there is no axis `{name}`"), span)
                .help(format!("write `{near}`; a length of your own needs another name"));
            self.report(problem);
        }
        let at = self.sizes.iter().position(|size| size == name).unwrap_or_else(|| {
            self.sizes.push(name.to_owned());
            self.sizes.len() - 1
        });
        Axis::Named(SizeId(at as u32))
    }

    /// `base[index]`.
    pub(super) fn index(&mut self, base: &Name, index: &[Expr], span: Span) -> Option<NodeId> {
        let bound = self.scope.iter().rev().any(|(name, _)| *name == base.text);
        match self.declared.get(&base.text).copied() {
            Some(declared) if !bound => self.read(declared?, index, span),
            _ => {
                let input = INPUTS.iter().any(|(name, _)| *name == base.text);
                let problem = if bound || input || self.sizes.contains(&base.text) {
                    Problem::new(Code::WrongIndex, format!("`{}` is a single value", base.text), base.span)
                        .help("only parameters have axes; remove the index")
                } else {
                    let help = match nearest(&base.text, self.parameters.iter().map(|p| p.name.as_str())) {
                        Some(near) => format!("write `{near}`"),
                        None => format!("declare it: `{}: f32[...]`", base.text),
                    };
                    Problem::new(Code::UnknownName, format!("there is no parameter `{}`", base.text), base.span)
                        .help(help)
                };
                self.report(problem);
                None
            }
        }
    }

    /// A read of a parameter at one index per axis.
    pub(super) fn read(&mut self, declared: Declared, index: &[Expr], span: Span) -> Option<NodeId> {
        let parameter = self.parameters[declared.id.0 as usize].clone();
        let form = self.form(&parameter);
        if index.len() != parameter.axes.len() {
            let message = match index.len() {
                0 => format!("`{}` has {}", parameter.name, plural_axes(parameter.axes.len())),
                1 => format!("`{}` has {}, here is one index", parameter.name, plural_axes(parameter.axes.len())),
                n => format!("`{}` has {}, here are {n} indices", parameter.name, plural_axes(parameter.axes.len())),
            };
            let problem = Problem::new(Code::WrongIndex, message, span)
                .also(declared.span, "declared here")
                .help(format!("write `{form}`"));
            self.report(problem);
            index.iter().for_each(|expr| {
                self.expression(expr);
            });
            return None;
        }
        let mut nodes = vec![];
        let mut fine = true;
        for (expr, axis) in index.iter().zip(&parameter.axes) {
            match self.index_value(&parameter, declared, &form, expr, axis) {
                Some(node) => nodes.push(node),
                None => fine = false,
            }
        }
        if !fine {
            return None;
        }
        let node = self.graph.parameter(declared.id, nodes, parameter.ty);
        self.spans.insert(node, span);
        if self.place == super::Place::Mask {
            // Here and not for the whole mask, so that it is reported also where another part of the mask is wrong.
            self.refuse_learnable(node, span, "a mask")?;
        }
        Some(node)
    }

    fn index_value(
        &mut self,
        parameter: &Parameter,
        declared: Declared,
        form: &str,
        expr: &Expr,
        axis: &Axis,
    ) -> Option<NodeId> {
        let node = self.expression(expr)?;
        match self.graph.ty(node) {
            Type::Int => {}
            ty => {
                let message = format!("an index is an integer, this is {}", super::operators::type_name(ty));
                self.report(Problem::new(Code::WrongType, message, expr.span).help("convert it: `floor(x) as i32`"));
                return None;
            }
        }
        self.refuse_learnable(node, expr.span, "an index")?;
        let own = match axis {
            Axis::Batch => Input::Batch,
            Axis::Head => Input::Head,
            Axis::Query => Input::Query,
            Axis::Key => Input::Key,
            Axis::Fixed(_) | Axis::Named(_) => return Some(node),
        };
        if parameter.learnable && *self.graph.op(node) != Op::Input(own) {
            let name = self.axis_name(axis);
            let problem = Problem::new(
                Code::WrongIndex,
                format!("the learnable parameter `{}` is read at another index than `{name}`", parameter.name),
                expr.span,
            )
            .also(declared.span, "learnable: a float without `const`")
            .help(format!(
                "write `{form}`, mark the parameter `const`, or give it a fixed axis, which any integer may index"
            ));
            self.report(problem);
            return None;
        }
        Some(node)
    }

    fn axis_name(&self, axis: &Axis) -> String {
        match axis {
            Axis::Batch => "b".into(),
            Axis::Head => "h".into(),
            Axis::Query => "q".into(),
            Axis::Key => "kv".into(),
            Axis::Fixed(_) => "i".into(),
            Axis::Named(size) => format!("i_{}", self.sizes[size.0 as usize]),
        }
    }

    /// How a parameter is read.
    fn form(&self, parameter: &Parameter) -> String {
        if parameter.axes.is_empty() {
            return parameter.name.clone();
        }
        let axes: Vec<_> = parameter.axes.iter().map(|axis| self.axis_name(axis)).collect();
        format!("{}[{}]", parameter.name, axes.join(", "))
    }
}

fn plural_axes(count: usize) -> String {
    match count {
        0 => "no axes".into(),
        1 => "one axis".into(),
        n => format!("{n} axes"),
    }
}

/// Names that mean an axis elsewhere, where taking them for a run-time length would only postpone the error.
fn foreign_axis(name: &str) -> Option<&'static str> {
    Some(match name {
        "batch" => "b",
        "head" | "heads" => "h",
        "query" | "i" => "q",
        "key" | "k" | "j" => "kv",
        _ => return None,
    })
}
