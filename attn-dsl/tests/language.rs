//! Properties of the language: random variants compile and print to themselves, random tokens never crash the compiler, and
//! masks are added to definitions.

use attn_dsl::definition::Definition;
use attn_dsl::ir::{Op, print_expression};
use attn_dsl::{compile_one, compile_text, testing};
use proptest::prelude::*;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn random_variants_compile_and_print_to_themselves(text in testing::arbitrary_variant()) {
        let definition = match compile_one(&text) {
            Ok(definition) => definition,
            Err(errors) => return Err(TestCaseError::fail(errors.render(&text, "random.attn"))),
        };
        let again = compile_one(&definition.text).expect("canonical text compiles");
        prop_assert_eq!(&definition.text, &again.text);
        prop_assert_eq!(&definition.parameters, &again.parameters);
        let ops = |d: &attn_dsl::Definition| d.graph.ids().map(|id| d.graph.op(id).clone()).collect::<Vec<Op>>();
        prop_assert_eq!(ops(&definition), ops(&again));
        prop_assert_eq!(
            (definition.score, definition.activation, definition.normalizer, definition.mask),
            (again.score, again.activation, again.normalizer, again.mask)
        );
    }

    #[test]
    fn masks_can_be_added(text in testing::arbitrary_variant()) {
        let definition = compile_one(&text).expect("random variants compile");
        let masked = definition.with_mask("causal & document(ids)").expect("a mask");
        prop_assert!(masked.mask.is_some());
        prop_assert!(masked.parameters.iter().any(|parameter| parameter.name == "ids"));
        let again = compile_one(&masked.text).expect("canonical text compiles");
        prop_assert_eq!(masked.text, again.text);
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn random_tokens_never_crash(text in testing::token_soup()) {
        if let Err(errors) = compile_text(&text) {
            prop_assert!(errors.len() > 0);
            errors.render(&text, "soup.attn");
        }
    }

    #[test]
    fn random_characters_never_crash(text in ".{0,200}") {
        if let Err(errors) = compile_text(&text) {
            errors.render(&text, "characters.attn");
        }
    }
}

#[test]
fn a_mask_is_combined_with_the_one_that_is_there() {
    let base = compile_one("/// Docs.\npub struct A { mask: window(3, 0) | prefix(2) }").expect("compiles");
    let both = base.with_mask("!(causal) | |b, h, q, kv| kv == 0").expect("a mask");
    insta::assert_snapshot!(both.text, @r"
    /// Docs.
    pub struct A {
        mask: (window(3, 0) | prefix(2)) & (!causal | (|b, h, q, kv| kv == 0)),
    }
    ");
    assert_eq!(base.with_mask("none").expect("no mask").text, base.text);
    let documents = base.with_mask("document(doc)").expect("a mask");
    assert_eq!(documents.parameters.len(), 1);
    assert_eq!(documents.with_mask("document(doc)").expect("a mask").parameters.len(), 1);
    let blocks = base.with_mask("blocks(live, 64, 128) | blocks(live, 32, 32)").expect("a mask");
    assert_eq!(
        (blocks.parameters.len(), &blocks.sizes[..]),
        (1, &["live_rows".to_owned(), "live_columns".to_owned()][..])
    );
}

#[test]
fn blocks_are_a_table_of_quotients() {
    for (axes, index) in
        [("b, h, rows, columns", "b, h, "), ("h, rows, 20", "h, "), ("b, 4, columns", "b, "), ("4, 4", "")]
    {
        let text = |mask: &str| format!("struct A {{ table: i32[{axes}], mask: {mask} }}");
        let named = compile_one(&text("blocks(table, 128, 64)")).expect("compiles");
        let written = text(&format!("|b, h, q, kv| table[{index}q / 128, kv / 64] != 0"));
        let written = compile_one(&written).expect("compiles");
        let print = |definition: &Definition| print_expression(&definition.graph, definition.mask.expect("a mask"));
        assert_eq!(print(&named), print(&written), "{axes}");
    }
}

#[test]
fn errors_in_an_added_mask_are_placed_in_it() {
    let base = compile_one("struct A { reach: f32[h], score: |s, b, h| s * reach[h] }").expect("compiles");
    let report = |mask: &str| base.with_mask(mask).expect_err("a mistake").render(mask, "--mask");
    insta::assert_snapshot!("added_mask_names", report("casual & |b, h, q, kv| (q - kv) < reach[h]"));
    insta::assert_snapshot!("added_mask_ends", report("causal &"));
    insta::assert_snapshot!("added_mask_empty", report(""));
}

#[test]
fn several_variants_are_one_text() {
    let text = "struct A;\nstruct B { score: |s| 2 * s }\n";
    assert_eq!(compile_text(text).expect("compiles").len(), 2);
    assert!(compile_one(text).expect_err("two").to_string().contains("2 variants"));
}

#[test]
fn equal_mathematics_gives_equal_graphs() {
    let same = |a: &str, b: &str| {
        let printed = |text: &str| {
            let d = compile_one(text).unwrap_or_else(|e| panic!("{}", e.render(text, "a")));
            [d.score, d.activation].map(|root| print_expression(&d.graph, root))
        };
        assert_eq!(printed(a), printed(b));
    };
    // Calls and methods, names by position, integers where floats are due, parentheses, blocks.
    same("struct A { score: |s| s.max(1).tanh() }", "struct A { score: |x| { tanh(max(x, 1.0)) } }");
    same("struct A { score: |s, _, h| s + h }", "struct A { score: |a, b, c| (a) + (c as f32) }");
    same("struct A { activation: silu }", "struct A { activation: |s| s * sigmoid(s) }");
    same("struct A { activation: elu_plus_one }", "struct A { activation: |s| if s > 0 { s + 1 } else { exp(s) } }");
    same("struct A { activation: gelu }", "struct A { activation: |s| (0.5 * s) * (1 + erf(s / 1.4142135623730951)) }");
    same("struct A;", "struct A { score: |s| s, activation: exp, normalizer: softmax, mask: none }");
}

#[test]
fn conditions_may_read_what_their_branches_use() {
    let fine = "struct A { gain: f32, score: |s| { let x = gain * s; if x > 0 { x } else { 0.1 * x } } }";
    assert!(compile_one(fine).is_ok());
    let integers = "struct A { const n: i32, const t: f32[h], score: |s, b, h| if s > t[n % 2] { s } else { 0 } }";
    let definition = compile_one(integers).expect("constants may stand anywhere");
    assert!(definition.parameters.iter().all(|parameter| !parameter.learnable));
}
