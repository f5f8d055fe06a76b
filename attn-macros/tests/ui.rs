//! What the macro says through rustc, from the table of bad variants that the texts' reports are tested with.
//!
//! It stands here since trybuild compiles what its crate depends on in tests: here, the facade alone.

use std::fs;
use std::path::Path;

/// Files of `attn-dsl/tests/bad_variants` that are tested in the macro as well.
const CASES: &[&str] = &[
    "unknown_name",
    "unknown_field",
    "duplicate_parameter",
    "expression_ends",
    "learnable_in_comparison",
    "many_at_once",
    "missing_comma",
    "missing_name",
    "unstable_normalizer",
    "wrong_index_count",
];

fn program(variant: &str) -> String {
    let body: String =
        variant.lines().map(|line| if line.is_empty() { "\n".into() } else { format!("    {line}\n") }).collect();
    format!("attn::attention! {{\n{body}}}\n\nfn main() {{}}\n")
}

#[test]
fn errors_are_on_the_users_tokens() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in CASES {
        let text = fs::read_to_string(root.join(format!("../attn-dsl/tests/bad_variants/{name}.attn")))
            .expect("a bad variant");
        let path = root.join(format!("tests/ui/{name}.rs"));
        let wanted = program(&text);
        if std::env::var_os("TRYBUILD").is_some_and(|mode| mode == "overwrite") {
            fs::write(&path, &wanted).expect("written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            found, wanted,
            "tests/ui/{name}.rs is not the bad variant of that name; run with TRYBUILD=overwrite"
        );
    }
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    cases.pass("tests/ui/pass/*.rs");
}
