//! Strategies for property tests: random variants that compile.
//!
//! Invariants of what [`arbitrary_variant`] yields: it checks and lowers; with scores and parameters of magnitude 1 its values
//! stay within a few hundreds and its normalizers away from zero; scores and activations are continuous in `s` and in the
//! learnable parameters, so that finite differences converge almost everywhere.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// A parameter that may be drawn: its declaration, and reads of it in scores.
struct Drawn {
    declaration: &'static str,
    reads: &'static [&'static str],
}

const PARAMETERS: &[Drawn] = &[
    Drawn { declaration: "gain: f32", reads: &["gain"] },
    Drawn { declaration: "slope: f32[h]", reads: &["slope[h]"] },
    Drawn { declaration: "const decay: f32[h]", reads: &["decay[h]"] },
    Drawn { declaration: "row: f32[b, q]", reads: &["row[b, q]"] },
    Drawn { declaration: "key: f32[kv]", reads: &["key[kv]"] },
    Drawn { declaration: "const shared: f32[kv]", reads: &["shared[kv]", "shared[q]", "shared[kv / 2]"] },
    Drawn { declaration: "table: f32[h, 8]", reads: &["table[h, abs(q - kv) % 8]", "table[h, min(kv, 7)]"] },
    Drawn { declaration: "steps: f32[buckets]", reads: &["steps[(q + kv) % buckets]", "steps[h]"] },
    Drawn { declaration: "bias: f32[b, h, q, kv]", reads: &["bias[b, h, q, kv]"] },
    Drawn { declaration: "const dense: f32[b, h, q, kv]", reads: &["dense[b, h, q, kv]"] },
];

const POSITIONS: &[&str] = &["(q - kv) / (1.0 + kv_len)", "ln(1 + live_keys)", "sin(0.3 * kv)", "cos(0.2 * (q + h))"];

/// Conditions that do not depend on `s`.
const CONDITIONS: &[&str] =
    &["q < kv", "(q + kv) % 3 == 0", "h % 2 == 0", "kv - q >= 4 || b == 0", "!(kv == q) && q_len > 3"];

/// Floats over `atoms`, continuous in all of them; a product always has a bounded factor.
fn float(atoms: Vec<String>) -> impl Strategy<Value = String> {
    let literal = (-16i32..=16).prop_map(|n| format!("{:?}", f64::from(n) / 8.0));
    let leaf = prop_oneof![4 => select(atoms), 1 => literal];
    leaf.prop_recursive(3, 12, 2, |inner| {
        const BOUNDED: &[&str] = &["tanh", "sigmoid", "sin", "cos", "erf"];
        const GROWING: &[&str] =
            &["abs", "relu", "softplus", "silu", "gelu", "elu_plus_one(-1 - abs", "ln(1 + abs", "sqrt(1 + abs"];
        let call = |name: &str, x: &str| {
            let close = ")".repeat(1 + name.matches('(').count());
            format!("{name}({x}{close}")
        };
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) + ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) - ({b})")),
            (inner.clone(), select(BOUNDED), inner.clone()).prop_map(|(a, f, b)| format!("({a}) * {f}({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) / (1.5 + abs({b}))")),
            (select(BOUNDED), inner.clone()).prop_map(move |(f, a)| call(f, &a)),
            (select(GROWING), inner.clone()).prop_map(move |(f, a)| call(f, &a)),
            (select(&["min", "max"][..]), inner.clone(), inner.clone()).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
            inner.clone().prop_map(|a| format!("({a}).clamp(-2, 2.5)")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.clone().prop_map(|a| format!("exp(-abs({a}))")),
            inner.clone().prop_map(|a| format!("{{ let x = {a}; if x > 0 {{ x }} else {{ 0.25 * x }} }}")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("{{ let y = {a}; y * tanh(y) + ({b}) }}")),
        ]
    })
}

/// A float expression with branches on positions above it.
fn score(atoms: Vec<String>) -> impl Strategy<Value = String> {
    let branch = (select(CONDITIONS), float(atoms.clone()), float(atoms.clone()))
        .prop_map(|(condition, a, b)| format!("if {condition} {{ {a} }} else {{ {b} }}"));
    let added = float(atoms).prop_map(|a| format!("s + ({a})"));
    // A score that forgets `s` is legal but dull.
    prop_oneof![3 => added, 1 => branch]
}

/// What a mask may be, with `document(ids)` where `ids` is declared.
fn mask(documents: bool) -> impl Strategy<Value = String> {
    let closure = select(
        &[
            "(|b, h, q, kv| (q + kv) % 3 != 0)",
            "(|_, h, _, kv| kv % 4 != h % 4)",
            "(|b, h, q, kv| if b == 0 { kv < 5 } else { true })",
            "(|b, _, q, kv| kv <= q + b || kv == 0)",
        ][..],
    );
    let window = (-1..6, -1..4).prop_map(|(left, right)| format!("window({left}, {right})"));
    let prefix = (0..6).prop_map(|n| format!("prefix({n})"));
    let document = if documents { "document(ids)" } else { "causal" };
    let leaf = prop_oneof![
        2 => Just("causal".to_owned()),
        2 => window,
        1 => prefix,
        1 => Just(document.to_owned()),
        1 => closure.prop_map(str::to_owned),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) & ({b})")),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) | ({b})")),
            1 => inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

/// Activation and normalizer that fit each other, as fields; `sink` is a read of a parameter for each head.
fn weights(sink: Option<&'static str>) -> impl Strategy<Value = String> {
    let sink = sink.unwrap_or("0.5");
    let entmax = select(vec![
        "sparsemax".to_owned(),
        "entmax15".to_owned(),
        "entmax(1.25)".to_owned(),
        format!("entmax(1 + sigmoid({sink}))"),
    ]);
    let exponential = select(&["exp", "|s| exp(s)", "|s| exp2(0.5 * s)", "|s| exp(0.5 * s + tanh(s))"][..]);
    let over_exponential = select(vec![
        "softmax".to_owned(),
        "sum + 1".to_owned(),
        format!("sum + exp({sink})"),
        format!("sum + exp({sink}) + 0.5"),
        format!("(1 + sigmoid({sink})) * sum"),
        "max(abs(sum), 1)".to_owned(),
        "sqrt(sum_squares)".to_owned(),
        "0.5 * (sum + max)".to_owned(),
    ]);
    let other = select(
        &[
            "sigmoid",
            "relu",
            "relu_squared",
            "silu",
            "gelu",
            "softplus",
            "tanh",
            "elu_plus_one",
            "identity",
            "|s| s * tanh(s)",
            "|s| 0.5 * (1 + erf(s - 0.5))",
        ][..],
    );
    let over_other = select(vec![
        "none".to_owned(),
        "count".to_owned(),
        "sqrt(1.0 + count)".to_owned(),
        "1 + abs(sum)".to_owned(),
        format!("max(abs(sum), 1) + softplus({sink})"),
        "sqrt(1 + sum_squares)".to_owned(),
        "1 + abs(max)".to_owned(),
        "1 + abs(sum) / count".to_owned(),
    ]);
    let own = |text: &str| text.to_owned();
    let divided = prop_oneof![(exponential.prop_map(own), over_exponential), (other.prop_map(own), over_other)];
    let divided = divided
        .prop_map(|(activation, normalizer)| format!("    activation: {activation},\n    normalizer: {normalizer},\n"));
    prop_oneof![6 => divided, 1 => entmax.prop_map(|normalizer| format!("    normalizer: {normalizer},\n"))]
}

/// What is kept, and a map after normalization, as fields; most variants have neither.
fn row_fields(sink: Option<&'static str>) -> impl Strategy<Value = String> {
    let keep = select(
        &[
            "top_k(3)",
            "top_k(live_keys / 2 + 1, ties)",
            "|s| s >= -0.3",
            "|max, s| s > max - 1.25",
            "|p| abs(p) >= 0.03",
            "|s, h, p, max| p > 0.02 && s < max + h",
        ][..],
    );
    let post = select(vec![
        "|p| clamp(1.1 * p - 0.05, 0, 1)".to_owned(),
        "|p| p * tanh(p)".to_owned(),
        "|p| if p > 0.05 { p } else { 0.0 }".to_owned(),
        format!("|p, b, h| p / (1.5 + abs(p)) + 0.1 * {}", sink.unwrap_or("0.5")),
    ]);
    (option::weighted(0.2, keep), option::weighted(0.2, post)).prop_map(|(keep, post)| {
        let keep = keep.map(|keep| format!("    keep: {keep},\n")).unwrap_or_default();
        let post = post.map(|post| format!("    post: {post},\n")).unwrap_or_default();
        keep + &post
    })
}

/// Text of one variant, called `Random`, which compiles.
pub fn arbitrary_variant() -> impl Strategy<Value = String> {
    let drawn = subsequence((0..PARAMETERS.len()).collect::<Vec<_>>(), 0..=4);
    (drawn, any::<bool>()).prop_flat_map(|(drawn, documents)| {
        let mut declarations: Vec<&str> = drawn.iter().map(|&i| PARAMETERS[i].declaration).collect();
        let mut atoms: Vec<String> = vec!["s".into(), "s".into(), "0.5 * s".into()];
        atoms.extend(POSITIONS.iter().map(|&position| position.to_owned()));
        atoms.extend(drawn.iter().flat_map(|&i| PARAMETERS[i].reads).map(|&read| read.to_owned()));
        if documents {
            declarations.push("ids: i32[b, kv]");
            atoms.push("0.1 * (ids[b, kv] % 5)".into());
        }
        let sink = drawn.iter().find_map(|&i| PARAMETERS[i].reads.iter().find(|&&read| read == "slope[h]").copied());
        let declarations: String = declarations.iter().map(|text| format!("    {text},\n")).collect();
        (option::of(score(atoms)), weights(sink), row_fields(sink), option::of(mask(documents))).prop_map(
            move |(score, weights, rows, mask)| {
                let score = score.map(|s| format!("    score: |s, b, h, q, kv| {s},\n")).unwrap_or_default();
                let mask = mask.map(|m| format!("    mask: {m},\n")).unwrap_or_default();
                format!("struct Random {{\n{declarations}{score}{weights}{rows}{mask}}}\n")
            },
        )
    })
}

/// Text that looks like a variant and mostly is none: words and signs of the language in any order.
pub fn token_soup() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "struct",
        "A",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "|",
        "||",
        "&",
        "&&",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "<",
        "<=",
        "==",
        "=",
        ".",
        "..",
        ",",
        ",",
        ":",
        "::",
        ";",
        "#",
        "?",
        "'a",
        "\"x\"",
        "'c'",
        "1",
        "2.5",
        "1e400",
        "99999999999",
        "2u8",
        "if",
        "else",
        "let",
        "match",
        "for",
        "in",
        "while",
        "return",
        "as",
        "f32",
        "i32",
        "const",
        "pub",
        "fn",
        "score:",
        "mask:",
        "activation:",
        "normalizer:",
        "keep:",
        "post:",
        "top_k",
        "entmax",
        "s",
        "b",
        "h",
        "q",
        "kv",
        "sum",
        "max",
        "exp",
        "causal",
        "window",
        "document",
        "softmax",
        "none",
        "x: f32[h],",
        "|s| s,",
        "|s, b, h, q, kv|",
        "/// é\n",
        "_",
        "async",
        "move",
        "unsafe",
        "$",
        "@",
        "~",
        "\\",
    ];
    let inside = vec(select(WORDS), 0..40).prop_map(|words| words.join(" "));
    prop_oneof![inside.clone(), inside.prop_map(|body| format!("struct A {{ cap: f32, {body} }}"))]
}
