//! The way from text, or from a macro's tokens, to checked definitions.
//!
//! Invariant: nothing here panics on any input, and texts leave nothing behind: each is compiled on a thread of its own, whose
//! record of source places (proc-macro2 keeps one a thread, and it only grows) goes with it and whose stack is as large as the
//! limits of [`crate::syntax::limits`] need.

use proc_macro2::TokenStream;

use crate::check;
use crate::definition::Definition;
use crate::diagnostics::{Code, Diagnostics, Problems};
use crate::syntax::ast::{Expr, ExprKind, Variant};
use crate::syntax::{self, Span, ast};

const STACK: usize = 16 << 20;

/// Runs `work` on a thread with a large stack; on this one where no thread can be had.
fn on_large_stack<T: Send>(work: impl Fn() -> T + Sync) -> T {
    std::thread::scope(|scope| match std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, &work) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(_) => work(),
    })
}

/// Compiles every variant of a text.
///
/// # Errors
/// Everything that is wrong with the text, at once.
///
/// ```
/// let source = "struct Cap { cap: f32, score: |s| cap * tanh(s / cap) }";
/// let variants = attn_dsl::compile_text(source)?;
/// assert_eq!(variants[0].name, "Cap");
///
/// let errors = attn_dsl::compile_text("struct Cap { score: |s| cpa * tanh(s) }").unwrap_err();
/// println!("{}", errors.render("struct Cap { score: |s| cpa * tanh(s) }", "cap.attn"));
/// # Ok::<(), attn_dsl::Diagnostics>(())
/// ```
pub fn compile_text(source: &str) -> Result<Vec<Definition>, Diagnostics> {
    on_large_stack(|| {
        let mut problems = Problems::default();
        let variants = syntax::parse_text(source, &mut problems);
        let definitions: Vec<_> = variants.iter().filter_map(|variant| check::check(variant, &mut problems)).collect();
        if problems.is_empty() { Ok(definitions) } else { Err(problems.into_diagnostics()) }
    })
}

/// Compiles a text that holds one variant.
///
/// # Errors
/// As [`compile_text`], and when there are several variants.
pub fn compile_one(source: &str) -> Result<Definition, Diagnostics> {
    let mut definitions = compile_text(source)?;
    match definitions.pop() {
        Some(definition) if definitions.is_empty() => Ok(definition),
        _ => Err(Diagnostics::single(
            Code::Syntax,
            format!("{} variants where one is expected", definitions.len() + 1),
            0..0,
            Some("keep one `struct`, or compile them all with `compile_text`".into()),
        )),
    }
}

/// What a macro's tokens compile to.
#[derive(Debug)]
pub struct Compiled {
    /// The trees of all variants, also of wrong ones, as far as they were understood.
    pub variants: Vec<Variant>,
    /// Everything that is wrong, on the user's tokens.
    pub error: Option<syn::Error>,
}

/// Parses and checks the tokens of a macro call.
pub fn compile_tokens(tokens: TokenStream) -> Compiled {
    let mut problems = Problems::default();
    let variants = syntax::parse_tokens(tokens, &mut problems);
    for variant in &variants {
        check::check(variant, &mut problems);
    }
    Compiled { variants, error: problems.into_error() }
}

impl Definition {
    /// This variant with one more mask: a pair is live where both hold. `mask` is what stands in the field `mask`:
    /// `causal & window(512, 0)`, `|b, h, q, kv| kv != 0`.
    ///
    /// `document(ids)` declares `ids: i32[b, kv]` where the variant has no such parameter yet, and `blocks(table, 128, 128)`
    /// `table: i32[b, h, table_rows, table_columns]`.
    ///
    /// # Errors
    /// Everything that is wrong with `mask`; byte ranges are those of `mask`.
    pub fn with_mask(&self, mask: &str) -> Result<Definition, Diagnostics> {
        on_large_stack(|| {
            let mut problems = Problems::default();
            let mut variants = syntax::parse_text(&self.text, &mut problems);
            let own = match (variants.pop(), problems.is_empty()) {
                (Some(variant), true) => variant,
                _ => return Err(problems.into_diagnostics()),
            };
            let Some(extra) = syntax::parse_mask(mask, &mut problems) else { return Err(problems.into_diagnostics()) };
            let mut probe = Variant {
                score: None,
                activation: None,
                normalizer: None,
                keep: None,
                post: None,
                mask: Some(extra.clone()),
                ..own.clone()
            };
            // Declarations of another text have no place in this one.
            probe.parameters.iter_mut().for_each(|parameter| parameter.name.span = Span::nowhere());
            declare_looked_up(&extra, &mut probe.parameters);
            let parameters = probe.parameters.clone();
            check::check(&probe, &mut problems);
            if !problems.is_empty() {
                return Err(problems.into_diagnostics());
            }
            let mut combined = Variant { parameters, ..own };
            combined.mask = Some(match combined.mask.take() {
                Some(old) if !is_none(&old) => both(old, extra),
                _ => extra,
            });
            check::check(&combined, &mut problems).ok_or_else(|| problems.into_diagnostics())
        })
    }
}

fn is_none(mask: &Expr) -> bool {
    matches!(&mask.kind, ExprKind::Name(name) if name == "none")
}

fn both(left: Expr, right: Expr) -> Expr {
    if is_none(&right) {
        return left;
    }
    let span = right.span;
    Expr { kind: ExprKind::Binary(ast::BinaryOp::And, span, Box::new(left), Box::new(right)), span }
}

/// Declares the parameters that `document(ids)` and `blocks(table, block_q, block_kv)` name and nobody declared.
fn declare_looked_up(mask: &Expr, parameters: &mut Vec<ast::Parameter>) {
    match &mask.kind {
        ExprKind::Call { function, arguments } if ["document", "blocks"].contains(&function.text.as_str()) => {
            let [Expr { kind: ExprKind::Name(name), span }, ..] = arguments.as_slice() else { return };
            if parameters.iter().any(|parameter| parameter.name.text == *name) {
                return;
            }
            let (docs, axes) = if function.text == "document" {
                (" The document that each key belongs to.", vec!["b".to_owned(), "kv".to_owned()])
            } else {
                let lengths = ["rows", "columns"].map(|axis| format!("{name}_{axis}"));
                let axes = ["b".to_owned(), "h".to_owned()].into_iter().chain(lengths).collect();
                (" Not 0 where a block of queries (rows) sees a block of keys (columns).", axes)
            };
            let axis = |name: String| ast::Axis { kind: ast::AxisKind::Name(name), span: *span };
            parameters.push(ast::Parameter {
                docs: vec![docs.into()],
                constant: false,
                name: ast::Name { text: name.clone(), span: *span },
                element: ast::Element::I32,
                axes: axes.into_iter().map(axis).collect(),
            });
        }
        ExprKind::Unary(_, a) | ExprKind::Closure { body: a, .. } => declare_looked_up(a, parameters),
        ExprKind::Binary(_, _, a, b) => {
            declare_looked_up(a, parameters);
            declare_looked_up(b, parameters);
        }
        _ => {}
    }
}
