//! From syn's expressions to ours: what the language has is kept, the rest is reported with what to write instead.

use syn::spanned::Spanned;

use super::Span;
use super::ast::{Argument, BinaryOp, Block, Element, Expr, ExprKind, Let, Name, UnaryOp};
use super::limits::{MAX_DEPTH, MAX_NODES};
use crate::diagnostics::{Code, Problem, Problems};

/// Converts one field's expression. `nodes` counts over the variant.
pub(super) fn convert(expr: &syn::Expr, nodes: &mut usize, problems: &mut Problems) -> Expr {
    Converter { nodes, problems, depth: 0, full: false }.expr(expr)
}

struct Converter<'a> {
    nodes: &'a mut usize,
    problems: &'a mut Problems,
    depth: usize,
    /// A limit was reported; the rest of the field is skipped.
    full: bool,
}

/// From the first to the last token, found without walking the tokens between.
fn span_of(expr: &syn::Expr) -> Span {
    match expr {
        syn::Expr::Binary(e) => span_of(&e.left).to(span_of(&e.right)),
        syn::Expr::Cast(e) => span_of(&e.expr).to(Span::token(e.ty.span())),
        syn::Expr::Unary(e) => Span::token(e.op.span()).to(span_of(&e.expr)),
        syn::Expr::Paren(e) => Span::token(e.paren_token.span.open()).to(Span::token(e.paren_token.span.close())),
        syn::Expr::MethodCall(e) => span_of(&e.receiver).to(Span::token(e.paren_token.span.close())),
        syn::Expr::Call(e) => span_of(&e.func).to(Span::token(e.paren_token.span.close())),
        syn::Expr::Index(e) => span_of(&e.expr).to(Span::token(e.bracket_token.span.close())),
        syn::Expr::Closure(e) => Span::token(e.inputs_begin.span).to(span_of(&e.body)),
        syn::Expr::Group(e) => span_of(&e.expr),
        other => Span::of(other),
    }
}

impl Converter<'_> {
    fn report(&mut self, problem: Problem) -> ExprKind {
        self.problems.push(problem);
        ExprKind::Error
    }

    fn unsupported(&mut self, what: &str, place: Span, help: &str) -> ExprKind {
        self.report(Problem::new(Code::Unsupported, format!("{what} no part of the language"), place).help(help))
    }

    fn expr(&mut self, expr: &syn::Expr) -> Expr {
        // Parentheses are the printer's business.
        match expr {
            syn::Expr::Paren(inner) if self.depth < MAX_DEPTH => return self.nested(|c| c.expr(&inner.expr)),
            syn::Expr::Group(inner) if self.depth < MAX_DEPTH => return self.nested(|c| c.expr(&inner.expr)),
            _ => {}
        }
        *self.nodes += 1;
        if self.full {
            return Expr { kind: ExprKind::Error, span: Span::nowhere() };
        }
        if *self.nodes > MAX_NODES || self.depth >= MAX_DEPTH {
            self.full = true;
            let message = if *self.nodes > MAX_NODES {
                format!("more than {MAX_NODES} expressions in one variant")
            } else {
                format!("an expression more than {MAX_DEPTH} operations deep")
            };
            // The tree is deep here: only its last token is a cheap place.
            let kind = self.report(
                Problem::new(Code::TooLarge, message, Span::token(tail(expr)))
                    .help("split it with `let`, or read constants from a parameter"),
            );
            return Expr { kind, span: Span::nowhere() };
        }
        let span = span_of(expr);
        let kind = self.nested(|c| c.kind(expr, span));
        Expr { kind, span }
    }

    fn nested<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        self.depth += 1;
        let value = body(self);
        self.depth -= 1;
        value
    }

    fn boxed(&mut self, expr: &syn::Expr) -> Box<Expr> {
        Box::new(self.expr(expr))
    }

    fn kind(&mut self, expr: &syn::Expr, span: Span) -> ExprKind {
        match expr {
            syn::Expr::Lit(e) => self.literal(&e.lit, span),
            syn::Expr::Path(e) => match name(e) {
                Some(name) => ExprKind::Name(name.text),
                None => self.unsupported("paths are", span, "write a single name"),
            },
            syn::Expr::Unary(e) => match e.op {
                syn::UnOp::Neg(_) => ExprKind::Unary(UnaryOp::Neg, self.boxed(&e.expr)),
                syn::UnOp::Not(_) => ExprKind::Unary(UnaryOp::Not, self.boxed(&e.expr)),
                _ => self.unsupported("references are", span, "values have no addresses; remove `*`"),
            },
            syn::Expr::Binary(e) => self.binary(e),
            syn::Expr::Cast(e) => self.cast(e),
            syn::Expr::Call(e) => self.call(e),
            syn::Expr::MethodCall(e) => self.method(e),
            syn::Expr::Index(e) => self.index(e),
            syn::Expr::If(e) => self.branch(e, span),
            syn::Expr::Block(e) if e.label.is_none() => {
                let block = self.block(&e.block);
                if block.lets.is_empty() { block.value.kind } else { ExprKind::Block(block) }
            }
            syn::Expr::Closure(e) => self.closure(e),
            _ => self.other(expr, span),
        }
    }

    fn literal(&mut self, literal: &syn::Lit, span: Span) -> ExprKind {
        match literal {
            syn::Lit::Bool(value) => ExprKind::Bool(value.value),
            syn::Lit::Int(value) => match value.suffix() {
                "" | "i32" => match value.base10_parse::<u64>() {
                    Ok(value) => ExprKind::Int(value),
                    Err(_) => self.report(
                        Problem::new(Code::IntegerOverflow, format!("`{value}` does not fit in 32 bits"), span)
                            .help(format!("write a float: `{}.0`", value.base10_digits())),
                    ),
                },
                "f32" => self.float(value.base10_digits(), span),
                suffix => self.suffix(suffix, span),
            },
            syn::Lit::Float(value) => match value.suffix() {
                "" | "f32" => self.float(value.base10_digits(), span),
                suffix => self.suffix(suffix, span),
            },
            syn::Lit::Str(_) | syn::Lit::ByteStr(_) | syn::Lit::CStr(_) | syn::Lit::Char(_) | syn::Lit::Byte(_) => {
                self.unsupported("text is", span, "values are numbers and truth values")
            }
            _ => self.report(Problem::new(Code::Syntax, "not a number", span).help("write `1`, `1.0` or `1e-3`")),
        }
    }

    fn float(&mut self, digits: &str, span: Span) -> ExprKind {
        match digits.parse::<f64>() {
            Ok(value) if (value as f32).is_finite() => ExprKind::Float(value),
            _ => self.report(
                Problem::new(Code::WrongType, format!("`{digits}` is too large for a float"), span)
                    .help("floats go up to about 3.4e38; masked pairs need no infinity, write a `mask`"),
            ),
        }
    }

    fn suffix(&mut self, suffix: &str, span: Span) -> ExprKind {
        self.report(
            Problem::new(Code::WrongType, format!("there is no type `{suffix}`"), span)
                .help("remove the suffix: `1` is an integer, `1.0` a float"),
        )
    }

    fn binary(&mut self, e: &syn::ExprBinary) -> ExprKind {
        use syn::BinOp as B;
        let op = match e.op {
            B::Add(_) => BinaryOp::Add,
            B::Sub(_) => BinaryOp::Sub,
            B::Mul(_) => BinaryOp::Mul,
            B::Div(_) => BinaryOp::Div,
            B::Rem(_) => BinaryOp::Rem,
            B::And(_) => BinaryOp::AndAnd,
            B::Or(_) => BinaryOp::OrOr,
            B::BitAnd(_) => BinaryOp::And,
            B::BitOr(_) => BinaryOp::Or,
            B::Lt(_) => BinaryOp::Lt,
            B::Le(_) => BinaryOp::Le,
            B::Gt(_) => BinaryOp::Gt,
            B::Ge(_) => BinaryOp::Ge,
            B::Eq(_) => BinaryOp::Eq,
            B::Ne(_) => BinaryOp::Ne,
            B::BitXor(_) => {
                let help = "a power is `exp(y * ln(x))` or `x * x`; exclusive or is `(a | b) & !(a & b)`";
                return self.unsupported("`^` is", Span::of(&e.op), help);
            }
            B::Shl(_) | B::Shr(_) => {
                return self.unsupported("shifts are", Span::of(&e.op), "multiply or divide by a power of two");
            }
            _ => {
                let help = "name a new value: `{ let x = ...; ... }`";
                return self.unsupported("assignments are", Span::of(&e.op), help);
            }
        };
        let left = self.boxed(&e.left);
        let right = self.boxed(&e.right);
        ExprKind::Binary(op, Span::of(&e.op), left, right)
    }

    fn cast(&mut self, e: &syn::ExprCast) -> ExprKind {
        let value = self.boxed(&e.expr);
        let element = match &*e.ty {
            syn::Type::Path(path) if path.path.is_ident("f32") => Element::F32,
            syn::Type::Path(path) if path.path.is_ident("i32") => Element::I32,
            other => {
                return self.report(
                    Problem::new(Code::WrongType, "values are cast to `f32` or `i32` only", Span::of(other))
                        .help("write `as f32` or `as i32`"),
                );
            }
        };
        ExprKind::Cast(value, element)
    }

    fn arguments<'e>(&mut self, arguments: impl IntoIterator<Item = &'e syn::Expr>) -> Vec<Expr> {
        arguments.into_iter().map(|argument| self.expr(argument)).collect()
    }

    fn call(&mut self, e: &syn::ExprCall) -> ExprKind {
        let function = match &*e.func {
            syn::Expr::Path(path) => name(path),
            _ => None,
        };
        match function {
            Some(function) => ExprKind::Call { function, arguments: self.arguments(&e.args) },
            None => {
                let help = "functions are called by name, `max(a, b)`";
                self.unsupported("calls of anything but a name are", span_of(&e.func), help)
            }
        }
    }

    fn method(&mut self, e: &syn::ExprMethodCall) -> ExprKind {
        if let Some(turbofish) = &e.turbofish {
            return self.unsupported("type arguments are", Span::of(turbofish), "remove `::<...>`");
        }
        let mut arguments = vec![self.expr(&e.receiver)];
        arguments.extend(self.arguments(&e.args));
        let function = Name { text: e.method.to_string(), span: Span::token(e.method.span()) };
        ExprKind::Call { function, arguments }
    }

    fn index(&mut self, e: &syn::ExprIndex) -> ExprKind {
        let base = match &*e.expr {
            syn::Expr::Path(path) => name(path),
            _ => None,
        };
        let Some(base) = base else {
            let help = "only parameters are indexed, all axes at once: `table[h, bucket]`";
            return self.unsupported("an index of anything but a name is", span_of(&e.expr), help);
        };
        let index = match &*e.index {
            syn::Expr::Tuple(tuple) => self.arguments(&tuple.elems),
            one => vec![self.expr(one)],
        };
        ExprKind::Index { base, index }
    }

    fn branch(&mut self, e: &syn::ExprIf, span: Span) -> ExprKind {
        if let syn::Expr::Let(condition) = &*e.cond {
            return self.unsupported("`if let` is", Span::token(condition.let_token.span), "test a truth value");
        }
        let condition = self.boxed(&e.cond);
        let then = self.block(&e.then_branch);
        let Some((_, otherwise)) = &e.else_branch else {
            return self.report(
                Problem::new(Code::Syntax, "`if` without `else` has no value where the condition is false", span)
                    .help("add `else { ... }`"),
            );
        };
        let otherwise = match &**otherwise {
            syn::Expr::Block(block) => self.block(&block.block),
            other => Block { lets: vec![], value: self.boxed(other) },
        };
        ExprKind::If { condition, then, otherwise }
    }

    fn block(&mut self, block: &syn::Block) -> Block {
        let close = Span::token(block.brace_token.span.close());
        let mut lets = vec![];
        let mut value = None;
        for (i, statement) in block.stmts.iter().enumerate() {
            let last = i + 1 == block.stmts.len();
            match statement {
                syn::Stmt::Local(local) => lets.extend(self.binding(local)),
                syn::Stmt::Expr(expr, None) if last => value = Some(self.expr(expr)),
                // `return x;` and loops say better what is wrong than their semicolon does.
                syn::Stmt::Expr(expr, _) if is_control(expr) => {
                    let error = self.expr(expr);
                    value = last.then_some(error).or(value);
                }
                syn::Stmt::Expr(expr, Some(semicolon)) if last => {
                    value = Some(self.expr(expr));
                    self.report(
                        Problem::new(
                            Code::Syntax,
                            "the value of the block is thrown away",
                            Span::token(semicolon.span),
                        )
                        .help("remove the `;`"),
                    );
                }
                syn::Stmt::Expr(expr, _) => {
                    let help = "statements have no effect; name the value: `let x = ...;`";
                    self.unsupported("statements are", span_of(expr), help);
                }
                syn::Stmt::Item(item) => {
                    self.unsupported("items are", Span::of(item), "declare parameters as fields, values with `let`");
                }
                syn::Stmt::Macro(call) => {
                    let kind = self.unsupported("macros are", Span::of(&call.mac), "write the expression itself");
                    value = last.then_some(Expr { kind, span: close }).or(value);
                }
            }
        }
        let value = value.unwrap_or_else(|| {
            let kind = self.report(
                Problem::new(Code::Syntax, "this block has no value", close)
                    .help("end it with an expression without `;`"),
            );
            Expr { kind, span: close }
        });
        Block { lets, value: Box::new(value) }
    }

    fn binding(&mut self, local: &syn::Local) -> Option<Let> {
        let pattern = match &local.pat {
            syn::Pat::Type(typed) => {
                self.report(
                    Problem::new(Code::Unsupported, "`let` takes no type", Span::of(&typed.ty))
                        .help("remove it; convert with `as f32` or `as i32`"),
                );
                &*typed.pat
            }
            pattern => pattern,
        };
        let name = match pattern {
            syn::Pat::Ident(p) if p.by_ref.is_none() && p.mutability.is_none() && p.subpat.is_none() => {
                Some(Name { text: p.ident.to_string(), span: Span::token(p.ident.span()) })
            }
            other => {
                self.unsupported("patterns are", Span::of(other), "write `let name = ...;`");
                None
            }
        };
        let Some(init) = &local.init else {
            self.report(
                Problem::new(Code::Syntax, "`let` without a value", Span::token(local.let_token.span))
                    .help("write `let name = value;`"),
            );
            return None;
        };
        if let Some((keyword, _)) = &init.diverge {
            self.unsupported("`let ... else` is", Span::token(keyword.span), "write `let name = value;`");
        }
        let value = self.expr(&init.expr);
        Some(Let { name: name?, value })
    }

    fn closure(&mut self, e: &syn::ExprClosure) -> ExprKind {
        if e.asyncness.is_some() || e.capture.is_some() || e.constness.is_some() || e.lifetimes.is_some() {
            let place = Span::of(e);
            self.unsupported("closure modifiers are", place, "write `|s, b, h, q, kv| ...`");
        }
        if let syn::ReturnType::Type(_, ty) = &e.output {
            self.unsupported("return types are", Span::of(ty), "remove `-> ...`");
        }
        let mut arguments: Vec<Argument> = vec![];
        for input in &e.inputs {
            let argument = match input {
                syn::Pat::Wild(wild) => Argument { name: None, span: Span::of(wild) },
                syn::Pat::Ident(p) if p.by_ref.is_none() && p.mutability.is_none() && p.subpat.is_none() => {
                    Argument { name: Some(p.ident.to_string()), span: Span::token(p.ident.span()) }
                }
                syn::Pat::Type(typed) => {
                    let help =
                        "arguments have fixed types: `s` is a float, `b, h, q, kv` are integers; remove the type";
                    self.unsupported("types of arguments are", Span::of(&typed.ty), help);
                    let name = match &*typed.pat {
                        syn::Pat::Ident(p) => Some(p.ident.to_string()),
                        _ => None,
                    };
                    Argument { name, span: Span::of(&typed.pat) }
                }
                other => {
                    self.unsupported("patterns are", Span::of(other), "write a name or `_`");
                    Argument { name: None, span: Span::of(other) }
                }
            };
            let twin = argument.name.as_ref().and_then(|n| arguments.iter().find(|a| a.name.as_ref() == Some(n)));
            if let Some(twin) = twin {
                let name = argument.name.as_deref().unwrap_or("_");
                let problem =
                    Problem::new(Code::Duplicate, format!("two arguments are called `{name}`"), argument.span)
                        .also(twin.span, "the first one")
                        .help("rename one of them, or write `_` for one that is not used");
                self.problems.push(problem);
            }
            arguments.push(argument);
        }
        ExprKind::Closure { arguments, body: self.boxed(&e.body) }
    }

    fn other(&mut self, expr: &syn::Expr, span: Span) -> ExprKind {
        let (what, help) = match expr {
            syn::Expr::ForLoop(_) | syn::Expr::While(_) | syn::Expr::Loop(_) => (
                "loops are",
                "an expression is evaluated for each pair of query and key; reductions belong to `normalizer`",
            ),
            syn::Expr::Match(_) => ("`match` is", "write `if a { ... } else if b { ... } else { ... }`"),
            syn::Expr::Macro(_) => ("macros are", "write the expression itself"),
            syn::Expr::Assign(_) => ("assignments are", "name a new value: `{ let x = ...; ... }`; compare with `==`"),
            syn::Expr::Return(_) | syn::Expr::Break(_) | syn::Expr::Continue(_) => {
                ("jumps are", "the last expression of a block is its value")
            }
            syn::Expr::Range(_) => ("ranges are", "compare instead: `a <= x && x < b`"),
            syn::Expr::Reference(_) => ("references are", "remove `&`; `a & b` is `and`"),
            syn::Expr::Tuple(_) | syn::Expr::Array(_) | syn::Expr::Repeat(_) => {
                ("lists are", "declare a parameter, `table: f32[h, 32]`, and read it as `table[h, i]`")
            }
            syn::Expr::Field(_) => ("fields are", "name a parameter directly, or call a function: `x.abs()`"),
            syn::Expr::Struct(_) => ("struct values are", "values are numbers and truth values"),
            syn::Expr::Try(_) | syn::Expr::Await(_) | syn::Expr::Async(_) | syn::Expr::Unsafe(_) => {
                ("this is", "values are numbers and truth values")
            }
            syn::Expr::Infer(_) => ("`_` is", "write a value"),
            syn::Expr::Let(_) => ("`let` in a condition is", "test a truth value"),
            _ => ("this is", "see the functions and operators that the language has"),
        };
        self.unsupported(what, span, help)
    }
}

/// Whether an expression is a jump or a loop.
fn is_control(expr: &syn::Expr) -> bool {
    use syn::Expr::{Assign, Break, Continue, ForLoop, Loop, Macro, Return, While};
    matches!(expr, ForLoop(_) | While(_) | Loop(_) | Return(_) | Break(_) | Continue(_) | Assign(_) | Macro(_))
}

/// The single name that a path is.
fn name(path: &syn::ExprPath) -> Option<Name> {
    if path.qself.is_some() {
        return None;
    }
    path.path.get_ident().map(|ident| Name { text: ident.to_string(), span: Span::token(ident.span()) })
}

/// The last token of an expression whose left side may be deep.
fn tail(expr: &syn::Expr) -> proc_macro2::Span {
    match expr {
        syn::Expr::Binary(e) => Span::of(&e.op).start(),
        syn::Expr::Cast(e) => e.as_token.span,
        syn::Expr::MethodCall(e) => e.method.span(),
        syn::Expr::Call(e) => e.paren_token.span.close(),
        syn::Expr::Index(e) => e.bracket_token.span.close(),
        syn::Expr::Unary(e) => e.op.span(),
        other => other.span(),
    }
}
