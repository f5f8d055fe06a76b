//! The canonical text of a variant.
//!
//! Invariants: the text parses to the same tree (places aside), and printing that tree gives the same text. Parentheses
//! stand exactly where Rust's grammar needs them, and around every `if`, block or closure that is an operand.

use std::fmt::Write;

use quote::ToTokens;

use super::ast::{Argument, AxisKind, BinaryOp, Block, Expr, ExprKind, Parameter, UnaryOp, Variant};

const CAST: u8 = 8;
const UNARY: u8 = 9;
const ATOM: u8 = 10;

/// The canonical text of a variant, ending with a line break. Attributes other than documentation are left out.
pub fn print(variant: &Variant) -> String {
    let mut out = String::new();
    docs(&mut out, "", &variant.docs);
    out.push_str(&visibility(&variant.visibility));
    let _ = write!(out, "struct {} {{", variant.name.text);
    let fields = [
        ("feature", &variant.feature),
        ("feature_q", &variant.feature_q),
        ("feature_k", &variant.feature_k),
        ("score", &variant.score),
        ("activation", &variant.activation),
        ("normalizer", &variant.normalizer),
        ("keep", &variant.keep),
        ("post", &variant.post),
        ("mask", &variant.mask),
    ];
    if variant.parameters.is_empty() && fields.iter().all(|(_, value)| value.is_none()) {
        out.push_str("}\n");
        return out;
    }
    out.push('\n');
    variant.parameters.iter().for_each(|p| parameter(&mut out, p));
    for (name, value) in fields {
        if let Some(value) = value {
            let _ = writeln!(out, "    {name}: {},", expression(value));
        }
    }
    out.push_str("}\n");
    out
}

/// The text of an expression, as it stands in a field.
pub fn expression(expr: &Expr) -> String {
    let mut out = String::new();
    write_expr(&mut out, expr, 1);
    out
}

/// The lines of a documentation text as `///` takes them.
fn docs(out: &mut String, indent: &str, lines: &[String]) {
    for line in lines {
        // `////` would begin a plain comment.
        let gap = if line.starts_with('/') { " " } else { "" };
        let _ = writeln!(out, "{indent}///{gap}{}", line.trim_end());
    }
}

fn visibility(visibility: &syn::Visibility) -> String {
    match visibility {
        syn::Visibility::Inherited => String::new(),
        syn::Visibility::Public(_) => "pub ".into(),
        syn::Visibility::Restricted(restricted) => {
            let keyword = if restricted.in_token.is_some() { "in " } else { "" };
            let path: String = restricted.path.to_token_stream().into_iter().map(|token| token.to_string()).collect();
            format!("pub({keyword}{path}) ")
        }
    }
}

fn parameter(out: &mut String, parameter: &Parameter) {
    docs(out, "    ", &parameter.docs);
    let keyword = if parameter.constant { "const " } else { "" };
    let _ = write!(out, "    {keyword}{}: {}", parameter.name.text, parameter.element.as_str());
    if !parameter.axes.is_empty() {
        let axes: Vec<_> = parameter
            .axes
            .iter()
            .map(|axis| match &axis.kind {
                AxisKind::Extent(extent) => extent.to_string(),
                AxisKind::Name(name) => name.clone(),
            })
            .collect();
        let _ = write!(out, "[{}]", axes.join(", "));
    }
    out.push_str(",\n");
}

/// How tightly the outermost operation binds.
fn precedence(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::Binary(op, ..) => op.precedence(),
        ExprKind::Cast(..) => CAST,
        ExprKind::Unary(..) => UNARY,
        // Legal as operands in Rust in some places and not in others; parentheses always are.
        ExprKind::If { .. } | ExprKind::Block(_) | ExprKind::Closure { .. } => 0,
        _ => ATOM,
    }
}

/// Writes an operand that must bind at least as tightly as `least`.
fn operand(out: &mut String, expr: &Expr, least: u8, indent: usize) {
    if precedence(expr) < least {
        out.push('(');
        write_expr(out, expr, indent);
        out.push(')');
    } else {
        write_expr(out, expr, indent);
    }
}

fn list(out: &mut String, items: &[Expr], indent: usize) {
    for (i, item) in items.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        write_expr(out, item, indent);
    }
}

fn write_expr(out: &mut String, expr: &Expr, indent: usize) {
    match &expr.kind {
        ExprKind::Float(value) => {
            let _ = write!(out, "{value:?}");
        }
        ExprKind::Int(value) => {
            let _ = write!(out, "{value}");
        }
        ExprKind::Bool(value) => {
            let _ = write!(out, "{value}");
        }
        ExprKind::Name(name) => out.push_str(name),
        ExprKind::Index { base, index } => {
            out.push_str(&base.text);
            out.push('[');
            list(out, index, indent);
            out.push(']');
        }
        ExprKind::Call { function, arguments } => {
            out.push_str(&function.text);
            out.push('(');
            list(out, arguments, indent);
            out.push(')');
        }
        ExprKind::Unary(op, a) => {
            out.push(if *op == UnaryOp::Neg { '-' } else { '!' });
            operand(out, a, UNARY, indent);
        }
        ExprKind::Binary(op, _, a, b) => {
            let own = op.precedence();
            // Comparisons do not chain. A cast left of `<` would read it as the start of generics.
            let left = match op {
                BinaryOp::Lt if ends_in_cast(a) => ATOM,
                _ if op.is_comparison() => own + 1,
                _ => own,
            };
            operand(out, a, left, indent);
            let _ = write!(out, " {} ", op.as_str());
            operand(out, b, own + 1, indent);
        }
        ExprKind::Cast(a, element) => {
            operand(out, a, CAST, indent);
            let _ = write!(out, " as {}", element.as_str());
        }
        ExprKind::If { condition, then, otherwise } => write_if(out, condition, then, otherwise, indent),
        ExprKind::Block(block) => write_block(out, block, indent),
        ExprKind::Closure { arguments, body } => {
            let names: Vec<_> = arguments.iter().map(|a: &Argument| a.name.as_deref().unwrap_or("_")).collect();
            let _ = write!(out, "|{}| ", names.join(", "));
            write_expr(out, body, indent);
        }
        ExprKind::Error => out.push('_'),
    }
}

/// Whether the last token of the printed expression is the type of a cast.
fn ends_in_cast(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Cast(..) => true,
        ExprKind::Binary(op, _, _, b) => precedence(b) > op.precedence() && ends_in_cast(b),
        _ => false,
    }
}

fn write_if(out: &mut String, condition: &Expr, then: &Block, otherwise: &Block, indent: usize) {
    out.push_str("if ");
    operand(out, condition, 1, indent);
    out.push(' ');
    write_block(out, then, indent);
    out.push_str(" else ");
    match &otherwise.value.kind {
        ExprKind::If { condition, then, otherwise: last } if otherwise.lets.is_empty() => {
            write_if(out, condition, then, last, indent);
        }
        _ => write_block(out, otherwise, indent),
    }
}

fn write_block(out: &mut String, block: &Block, indent: usize) {
    if block.lets.is_empty() {
        out.push_str("{ ");
        write_expr(out, &block.value, indent);
        out.push_str(" }");
        return;
    }
    let margin = "    ".repeat(indent + 1);
    out.push_str("{\n");
    for binding in &block.lets {
        let _ = write!(out, "{margin}let {} = ", binding.name.text);
        write_expr(out, &binding.value, indent + 1);
        out.push_str(";\n");
    }
    out.push_str(&margin);
    write_expr(out, &block.value, indent + 1);
    let _ = write!(out, "\n{}}}", "    ".repeat(indent));
}
