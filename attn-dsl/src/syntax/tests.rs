//! Printing and parsing random trees, and the limits.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::ast::{
    Argument, Axis, AxisKind, BinaryOp, Block, Element, Expr, ExprKind, Let, Name, Parameter, UnaryOp, Variant,
};
use super::{Span, limits, parse_mask, parse_text, print};
use crate::diagnostics::Problems;

fn expr(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::nowhere() }
}

fn name() -> impl Strategy<Value = Name> {
    select(&["s", "kv", "slope", "x1", "_y", "f32x", "table"][..])
        .prop_map(|text| Name { text: text.into(), span: Span::nowhere() })
}

fn block(inner: impl Strategy<Value = Expr> + Clone) -> impl Strategy<Value = Block> {
    let lets = vec((name(), inner.clone()).prop_map(|(name, value)| Let { name, value }), 0..3);
    (lets, inner).prop_map(|(lets, value)| Block { lets, value: Box::new(value) })
}

/// Trees that the parser can give back: what it simplifies (a block without `let`) is left out.
fn expression() -> impl Strategy<Value = Expr> {
    let float = prop_oneof![0.0..1e6f64, select(vec![0.0, 1.0, 1e-7, 1e20, 0.1, 3e38])];
    let leaf = prop_oneof![
        float.prop_map(|x| expr(ExprKind::Float(x))),
        (0..=u64::from(u32::MAX)).prop_map(|n| expr(ExprKind::Int(n))),
        any::<bool>().prop_map(|b| expr(ExprKind::Bool(b))),
        name().prop_map(|n| expr(ExprKind::Name(n.text))),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            (name(), vec(inner.clone(), 1..4)).prop_map(|(base, index)| expr(ExprKind::Index { base, index })),
            (name(), vec(inner.clone(), 0..3))
                .prop_map(|(function, arguments)| expr(ExprKind::Call { function, arguments })),
            (select(&[UnaryOp::Neg, UnaryOp::Not][..]), boxed.clone()).prop_map(|(op, a)| expr(ExprKind::Unary(op, a))),
            (select(&BinaryOp::ALL[..]), boxed.clone(), boxed.clone()).prop_map(|(op, a, b)| expr(ExprKind::Binary(
                op,
                Span::nowhere(),
                a,
                b
            ))),
            (boxed.clone(), select(&[Element::F32, Element::I32][..])).prop_map(|(a, e)| expr(ExprKind::Cast(a, e))),
            (boxed.clone(), block(inner.clone()), block(inner.clone()))
                .prop_map(|(condition, then, otherwise)| expr(ExprKind::If { condition, then, otherwise })),
            block(inner.clone())
                .prop_filter("a block without `let` is its value", |b| !b.lets.is_empty())
                .prop_map(|b| expr(ExprKind::Block(b))),
            (vec(option::of(select(&["s", "b", "kv"][..])), 0..3), boxed).prop_map(|(names, body)| {
                let mut seen = vec![];
                let arguments = names.into_iter().filter(|n| {
                    n.is_none()
                        || !seen.contains(n) && {
                            seen.push(*n);
                            true
                        }
                });
                let arguments = arguments.map(|n| Argument { name: n.map(str::to_owned), span: Span::nowhere() });
                expr(ExprKind::Closure { arguments: arguments.collect(), body })
            }),
        ]
    })
}

fn docs() -> impl Strategy<Value = Vec<String>> {
    vec(select(&["", " A line.", " `|x|` é // \"quoted\" \\", "/slashes", " trailing  ", "*"][..]), 0..3)
        .prop_map(|lines| lines.into_iter().map(str::to_owned).collect())
}

fn variant() -> impl Strategy<Value = Variant> {
    let axis = prop_oneof![
        select(&["b", "h", "q", "kv", "buckets"][..]).prop_map(|n| AxisKind::Name(n.into())),
        (1..=i32::MAX as u32).prop_map(AxisKind::Extent),
    ];
    let axis = axis.prop_map(|kind| Axis { kind, span: Span::nowhere() });
    let parameter = (docs(), any::<bool>(), select(&[Element::F32, Element::I32][..]), vec(axis, 0..4));
    let visibility = select(&["", "pub", "pub(crate)", "pub(in crate::a)"][..])
        .prop_map(|text| syn::parse_str::<syn::Visibility>(text).expect("a visibility"));
    let field = || option::of(expression());
    let fields = [(); 7].map(|()| field());
    (docs(), visibility, vec(parameter, 0..3), fields).prop_map(
        |(docs, visibility, parameters, [score, activation, normalizer, keep, post, mask, feature])| Variant {
            attributes: vec![],
            docs,
            visibility,
            name: Name { text: "Random".into(), span: Span::nowhere() },
            parameters: parameters
                .into_iter()
                .enumerate()
                .map(|(i, (docs, constant, element, axes))| Parameter {
                    docs,
                    constant,
                    name: Name { text: format!("p{i}"), span: Span::nowhere() },
                    element,
                    axes,
                })
                .collect(),
            score,
            activation,
            normalizer,
            keep,
            post,
            mask,
            feature_q: feature.clone(),
            feature,
            feature_k: None,
        },
    )
}

/// The tree without places.
fn shape(variant: &Variant) -> String {
    let mut text = format!("{variant:#?}");
    text.retain(|c| !c.is_whitespace());
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("Span{") {
        out.push_str(&rest[..at]);
        let end = rest[at..].find('}').map_or(rest.len(), |end| at + end + 1);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_trees_parse_to_themselves(variant in variant()) {
        let text = print(&variant);
        let mut problems = Problems::default();
        let parsed = parse_text(&text, &mut problems);
        prop_assert!(problems.is_empty(), "{text}\n{}", problems.into_diagnostics());
        prop_assert_eq!(parsed.len(), 1);
        prop_assert_eq!(print(&parsed[0]), text.clone());
        let fields = |v: &Variant| {
            shape(&Variant { docs: vec![], visibility: syn::Visibility::Inherited, parameters: vec![], ..v.clone() })
        };
        prop_assert_eq!(fields(&parsed[0]), fields(&variant), "{}", text);
    }
}

/// What is said about a text that does not compile.
fn refused(source: &str) -> String {
    match crate::compile_text(source) {
        Ok(_) => panic!("compiles"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn hostile_nesting_is_refused() {
    for prefix in [
        "(",
        "[",
        "{",
        "-",
        "!",
        "&",
        "*",
        "|x| ",
        "if s > 0 { 1 } else ",
        "a = ",
        "return ",
        "if ",
        "a[",
        "f(",
        "s as fn(",
        "<",
    ] {
        for count in [65, 1000, 20_000] {
            let closes = match prefix.trim_end().chars().last() {
                Some('(') => ")",
                Some('[') => "]",
                Some('{') => "}",
                _ => "",
            };
            let body = format!("{}s{}", prefix.repeat(count), closes.repeat(count));
            let message = refused(&format!("struct A {{ score: |s| {body} }}"));
            assert_too_large(&message, prefix, count);
        }
    }
    let deep = format!("struct A {{ score: |s| {}s{} }}", "(".repeat(50), ")".repeat(50));
    assert!(crate::compile_text(&deep).is_ok());
}

fn assert_too_large(message: &str, prefix: &str, count: usize) {
    assert!(message.contains("too-large"), "{count} of {prefix:?}: {message}");
}

#[test]
fn hostile_lengths_are_refused() {
    let chain = |part: &str, count: usize| format!("struct A {{ score: |s| s{} }}", part.repeat(count));
    for part in [" + s", ".exp()", " as f32", " * 2.0"] {
        assert!(crate::compile_text(&chain(part, 50)).is_ok(), "{part}");
        for count in [250, 5_000] {
            assert!(refused(&chain(part, count)).contains("too-large"), "{count} of {part:?}");
        }
    }
    let list = format!("struct A {{ score: |s| max({}) }}", vec!["s + 1"; 5_000].join(", "));
    assert!(refused(&list).contains("too-large"));
    assert!(refused(&" ".repeat(limits::MAX_TEXT + 1)).contains("too-large"));
    assert!(refused(&"struct A {} ".repeat(20_000)).contains("too-large"));
    let mut problems = Problems::default();
    assert!(parse_mask(&"!".repeat(1000), &mut problems).is_none());
    assert_eq!(problems.len(), 1);
}
