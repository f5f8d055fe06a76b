//! The syntax tree of a variant: what the user wrote, with its place, before any name is resolved.
//!
//! Invariants: a tree that the parser returns is at most [`super::limits::MAX_DEPTH`] deep and holds at most
//! [`super::limits::MAX_NODES`] expressions, so that recursion over it is safe. An [`ExprKind::Error`] stands for a piece that was
//! reported already; nothing more is said about it.

use super::Span;

/// A name as written.
#[derive(Clone, Debug)]
pub struct Name {
    /// The identifier.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// One `struct` item: a variant of attention.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Attributes that are not documentation. They are no part of the variant; the macro passes them to its struct.
    pub attributes: Vec<syn::Attribute>,
    /// Documentation, one entry per line, as written after `///`.
    pub docs: Vec<String>,
    /// The visibility of the struct.
    pub visibility: syn::Visibility,
    /// The variant's name; empty where the user gave none (reported).
    pub name: Name,
    /// The parameters in order.
    pub parameters: Vec<Parameter>,
    /// `score: ...`
    pub score: Option<Expr>,
    /// `activation: ...`
    pub activation: Option<Expr>,
    /// `normalizer: ...`
    pub normalizer: Option<Expr>,
    /// `keep: ...`
    pub keep: Option<Expr>,
    /// `post: ...`
    pub post: Option<Expr>,
    /// `mask: ...`
    pub mask: Option<Expr>,
    /// `feature: ...`
    pub feature: Option<Expr>,
    /// `feature_q: ...`
    pub feature_q: Option<Expr>,
    /// `feature_k: ...`
    pub feature_k: Option<Expr>,
}

/// The element type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// `f32`
    F32,
    /// `i32`
    I32,
}

impl Element {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::I32 => "i32",
        }
    }
}

/// `[const] name: f32[axes]`.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Documentation, one entry per line.
    pub docs: Vec<String>,
    /// Whether it is marked `const`: no gradient.
    pub constant: bool,
    /// Its name.
    pub name: Name,
    /// The type of its elements.
    pub element: Element,
    /// Its axes, outermost first.
    pub axes: Vec<Axis>,
}

/// An axis as written: a name (`b`, `h`, `q`, `kv` or a run-time length) or a literal extent.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is written.
    pub kind: AxisKind,
    /// Where.
    pub span: Span,
}

/// See [`Axis`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AxisKind {
    /// `32`
    Extent(u32),
    /// `h`
    Name(String),
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A float literal; finite and not negative.
    Float(f64),
    /// An integer literal. The checker refuses what does not fit in 32 bits.
    Int(u64),
    /// `true`, `false`
    Bool(bool),
    /// A name.
    Name(String),
    /// `table[i, j]`
    Index {
        /// What is read.
        base: Name,
        /// One expression per axis.
        index: Vec<Expr>,
    },
    /// `f(a, b)`, also written `a.f(b)`.
    Call {
        /// The function.
        function: Name,
        /// Its arguments.
        arguments: Vec<Expr>,
    },
    /// `-a`, `!a`
    Unary(UnaryOp, Box<Expr>),
    /// `a + b`, with the place of the operator.
    Binary(BinaryOp, Span, Box<Expr>, Box<Expr>),
    /// `a as f32`
    Cast(Box<Expr>, Element),
    /// `if condition { then } else { otherwise }`
    If {
        /// What is tested.
        condition: Box<Expr>,
        /// The value where it holds.
        then: Block,
        /// The value elsewhere.
        otherwise: Block,
    },
    /// `{ let x = ...; value }`
    Block(Block),
    /// `|s, b, h| body`; `None` is `_`.
    Closure {
        /// The arguments' names.
        arguments: Vec<Argument>,
        /// The value.
        body: Box<Expr>,
    },
    /// A piece that was reported already.
    Error,
}

/// An argument of a closure.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Its name, or `None` for `_`.
    pub name: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// `let` bindings and a value.
#[derive(Clone, Debug)]
pub struct Block {
    /// The bindings in order.
    pub lets: Vec<Let>,
    /// The value.
    pub value: Box<Expr>,
}

/// `let name = value;`
#[derive(Clone, Debug)]
pub struct Let {
    /// The name.
    pub name: Name,
    /// Its value.
    pub value: Expr,
}

/// Operators of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `!`
    Not,
}

/// Operators of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    /// `&`
    And,
    /// `|`
    Or,
    /// `&&`
    AndAnd,
    /// `||`
    OrOr,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
}

impl BinaryOp {
    /// All of them.
    pub const ALL: [BinaryOp; 15] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Rem,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::AndAnd,
        BinaryOp::OrOr,
        BinaryOp::Lt,
        BinaryOp::Le,
        BinaryOp::Gt,
        BinaryOp::Ge,
        BinaryOp::Eq,
        BinaryOp::Ne,
    ];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
            BinaryOp::And => "&",
            BinaryOp::Or => "|",
            BinaryOp::AndAnd => "&&",
            BinaryOp::OrOr => "||",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
        }
    }

    /// Whether it is a comparison.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Eq, Ge, Gt, Le, Lt, Ne};
        matches!(self, Lt | Le | Gt | Ge | Eq | Ne)
    }

    /// How tightly it binds, as in Rust; larger is tighter.
    pub fn precedence(self) -> u8 {
        match self {
            BinaryOp::OrOr => 1,
            BinaryOp::AndAnd => 2,
            op if op.is_comparison() => 3,
            BinaryOp::Or => 4,
            BinaryOp::And => 5,
            BinaryOp::Add | BinaryOp::Sub => 6,
            _ => 7,
        }
    }
}
