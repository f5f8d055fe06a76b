//! The `attention!` macro: a thin shell over attn-dsl, which parses and checks.
//!
//! Invariants: it never panics; every mistake is reported in one run, on the user's tokens; a variant with mistakes still
//! yields its struct and its implementation, so that the code around it brings no errors of its own.

mod expand;

use proc_macro::TokenStream;

/// Declares variants of attention.
///
/// ```ignore
/// attn::attention! {
///     /// ALiBi (Press et al. 2021)
///     #[derive(Clone)]
///     pub struct Alibi {
///         const slope: f32[h],
///         score: |s, b, h, q, kv| s - slope[h] * abs(kv_len - q_len + q - kv),
///         mask: causal,
///     }
/// }
/// ```
///
/// Each `struct` becomes a struct of its parameters, as public fields of type `attn::Parameter<f32 or i32, RANK>`, and
/// implements `attn::Variant`. Documentation, visibility and attributes pass through. Everything but the name is optional;
/// left out, the score is `s`, the activation `exp`, the normalizer `softmax`, and every pair is live.
///
/// # Parameters
/// `[const] name: f32[axes]` or `name: i32[axes]`, axes being `b`, `h`, `q`, `kv`, a number, or a name for a length known at
/// run time. A float without `const` is learnable: it gets a gradient.
///
/// # Expressions
/// Rust's, with `let` and `if`/`else`, over floats, 32-bit integers (which become floats where they meet one) and truth values.
/// The functions, as calls or methods: `min max clamp abs exp exp2 ln log2 sqrt tanh sigmoid relu relu_squared softplus erf silu
/// gelu elu_plus_one sin cos floor`. Known everywhere: `scale head_dim q_len kv_len live_keys`.
///
/// # Fields
/// * `score: |s, b, h, q, kv| ...`: what the activation sees; `s` is `scale * q . k`.
/// * `activation: exp`, or `sigmoid relu relu_squared silu gelu softplus tanh elu_plus_one identity`, or a closure `|s| ...`.
/// * `normalizer: softmax`, or `none`, or an expression over the row's `sum max sum_squares count`.
/// * `normalizer: sparsemax`, `entmax15` or `entmax(alpha)`: weights of scores by themselves, without an activation.
/// * `keep: top_k(64)`, `top_k(64, ties)`, or a condition `|s, max, p, b, h, q, kv| ...` whose arguments are taken by name: which keys
///   of a row have a weight.
/// * `post: |p, b, h, q, kv| ...`: what becomes of a normalized weight.
/// * `mask: causal & window(512, 0)`: `causal`, `window(left, right)`, `prefix(length)`, `document(ids)`,
///   `blocks(table, 128, 128)` and closures `|b, h, q, kv| ...`, composed by `&`, `|` and `!`.
#[proc_macro]
pub fn attention(input: TokenStream) -> TokenStream {
    expand::expand(input.into()).into()
}
