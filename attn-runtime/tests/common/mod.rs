//! Variants that together use every class, reduction, parameter kind and mask.
#![allow(dead_code, reason = "each test binary uses a part")]

use attn_dsl::Definition;

pub(crate) const VARIANTS: &[(&str, &str)] = &[
    ("softmax", ""),
    ("softmax_1", "normalizer: sum + 1"),
    ("softmax_n", "n: f32[h], normalizer: sum + n[h]"),
    ("sink", "sink: f32[h], normalizer: sum + exp(sink[h]), mask: causal"),
    ("sink_query", "sink: f32[h, q], normalizer: sum + exp(sink[h, q])"),
    ("temperature", "temperature: f32[h], score: |s, b, h| s / temperature[h]"),
    ("softcap", "cap: f32, score: |s| cap * tanh(s / cap), mask: causal"),
    ("alibi", "slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(kv_len - q_len + q - kv), mask: causal"),
    (
        "alibi_const",
        "const slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(kv_len - q_len + q - kv), mask: window(20, 5)",
    ),
    ("bias", "bias: f32[b, h, q, kv], score: |s, b, h, q, kv| s + bias[b, h, q, kv]"),
    ("bias_kv", "bias: f32[kv], score: |s, b, h, q, kv| s * bias[kv], mask: causal"),
    (
        "bias_q",
        "gain: f32[b, q], score: |s, b, h, q, kv| s * gain[b, q] + gain[b, q], activation: tanh, normalizer: none",
    ),
    ("table", "table: f32[h, 32], score: |s, b, h, q, kv| s + table[h, clamp(q - kv + 16, 0, 31)], activation: exp"),
    ("table_named", "table: f32[h, buckets], score: |s, b, h, q, kv| s + table[h, abs(q - kv) % buckets]"),
    ("table_clamped", "table: f32[7], score: |s, b, h, q, kv| s + table[q - kv]"),
    ("twice", "a: f32[n], score: |s, b, h| s * a[h] + a[0], normalizer: sum + a[h]"),
    ("sigmoid", "score: |s| s - ln(kv_len as f32), activation: sigmoid, normalizer: none"),
    ("sigmoid_bias", "bias: f32[h], score: |s, b, h| s + bias[h], activation: sigmoid, normalizer: none, mask: causal"),
    ("relu", "activation: relu, normalizer: count"),
    ("relu_causal", "activation: relu, normalizer: count, mask: causal"),
    ("relu_squared", "activation: relu_squared, normalizer: none"),
    ("relu_normalized", "activation: relu, normalizer: sum, mask: causal"),
    ("sigmoid_normalized", "offset: f32[h], activation: sigmoid, normalizer: sum + offset[h]"),
    ("silu", "activation: silu, normalizer: none, mask: causal"),
    ("gelu", "activation: gelu, normalizer: none"),
    ("softplus", "activation: softplus, normalizer: sum"),
    ("elu", "activation: elu_plus_one, normalizer: sum"),
    // bounded, so that f16 holds the sums of its weights
    ("exp_none", "score: |s| 6.0 * tanh(s / 6.0) - 3, activation: exp, normalizer: none"),
    ("euclid", "activation: exp, normalizer: sqrt(sum_squares)"),
    ("sigmoid_squares", "activation: sigmoid, normalizer: sqrt(sum_squares) + 1"),
    ("largest", "activation: exp, normalizer: max"),
    ("sigmoid_largest", "activation: sigmoid, normalizer: max + sum"),
    ("bounded_sum", "activation: identity, normalizer: max(abs(sum), 1), mask: causal"),
    (
        "retention",
        "decay: f32[h], score: |s, b, h, q, kv| s * exp(-0.1 * decay[h] * (kv_len - q_len + q - kv)), \
         activation: identity, normalizer: max(abs(sum), 1), mask: causal",
    ),
    ("length_scaled", "w: f32[h], score: |s, b, h| s * w[h] * ln(live_keys as f32 + 1), mask: causal"),
    ("live_sigmoid", "activation: |s| sigmoid(s - ln(live_keys as f32)), normalizer: none, mask: window(30, 30)"),
    ("prefix", "mask: prefix(9) | causal"),
    ("document", "ids: i32[b, kv], mask: document(ids) & causal"),
    ("checkers", "mask: |b, h, q, kv| (q + kv + h) % 2 == 0"),
    ("batch_kind", "t: f32[b], score: |s, b| s * t[b]"),
    ("floored", "score: |s, b, h, q, kv| if kv > q { s } else { s * floor(s) * 0.1 }, normalizer: sum + 1"),
    ("all_masked", "sink: f32[h], normalizer: sum + exp(sink[h]), mask: |b, h, q, kv| kv > 100000"),
    ("relative", "activation: |s| exp(s), normalizer: sum / count"),
    ("top_k", "keep: top_k(5), mask: causal"),
    ("top_k_ties", "k: i32[h], normalizer: sum + 1, keep: top_k(k[h] + 2, ties)"),
    ("top_k_rows", "activation: sigmoid, normalizer: sum, keep: top_k(live_keys / 3), mask: causal"),
    ("above", "keep: |s| s >= -0.25"),
    (
        "near_max",
        "const reach: f32[h], sink: f32[h], normalizer: sum + exp(sink[h]), keep: |h, max, s| s > max - reach[h], mask: causal",
    ),
    ("likely", "keep: |p| p >= 0.02, mask: causal"),
    ("likely_relu", "activation: relu, normalizer: sum, keep: |p, s, max| p >= 0.01 && s < max"),
    ("likely_entmax", "normalizer: entmax(1.3), keep: |p| p >= 0.03"),
    ("sparsemax", "normalizer: sparsemax, mask: causal"),
    (
        "sparsemax_top_k",
        "bias: f32[h, kv], score: |s, b, h, q, kv| s + bias[h, kv], normalizer: sparsemax, keep: top_k(7)",
    ),
    ("entmax15", "normalizer: entmax15"),
    (
        "entmax",
        "alpha: f32[h], slope: f32[h], score: |s, b, h, q, kv| s - 0.1 * slope[h] * abs(q - kv), \
         normalizer: entmax(1 + sigmoid(alpha[h])), mask: causal",
    ),
    ("entmax_post", "gain: f32[h], normalizer: entmax15, post: |p, b, h| p * (1 + gain[h] * p)"),
    (
        "clipped",
        "const low: f32[h], post: |p, b, h| clamp((1.1 + 0.03 * low[h]) * p - 0.03 * low[h], 0, 1), mask: causal",
    ),
    (
        "post_shifted",
        "shift: f32[h], sink: f32[h], normalizer: sum + exp(sink[h]), keep: top_k(6), \
         post: |p, b, h| p / (shift[h] + p) + 0.1 * shift[h], mask: causal",
    ),
    ("post_elementwise", "n: f32[h], activation: sigmoid, normalizer: count + n[h], post: |p| sqrt(p + 0.01)"),
    // smooth where it begins: which side of it a weight is on is a matter of rounding
    ("post_drops", "post: |p| if p >= 0.01 { 20 * (p - 0.01) * (p - 0.01) } else { 0.0 }"),
    ("post_squares", "normalizer: sqrt(sum_squares), post: |p| p * p"),
    ("post_largest", "activation: sigmoid, normalizer: max + sum, post: |p| tanh(3 * p), mask: causal"),
];

/// The definition of a variant by its body.
pub(crate) fn compile(name: &str, body: &str) -> Definition {
    let name: String = name.split('_').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
    let source = format!("struct {name} {{ {body} }}");
    attn_dsl::compile_one(&source).unwrap_or_else(|errors| panic!("{}", errors.render(&source, "variant")))
}

pub(crate) fn variant(name: &str) -> Definition {
    let (name, body) = VARIANTS.iter().find(|(n, _)| *n == name).expect("a known variant");
    compile(name, body)
}
