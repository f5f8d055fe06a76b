//! Every file in `bad_variants` is a text with mistakes; its snapshot is the report that a user sees.

use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_variants")
}

fn names() -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder())
        .expect("the folder of bad variants")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn reports() {
    let names = names();
    assert!(names.len() >= 25, "only {} bad variants", names.len());
    for name in names {
        let file = format!("{name}.attn");
        let source = std::fs::read_to_string(folder().join(&file)).expect("a bad variant");
        let errors = match attn_dsl::compile_text(&source) {
            Ok(_) => panic!("{file} compiles"),
            Err(errors) => errors,
        };
        for error in &errors {
            assert!(error.help.as_ref().is_some_and(|help| !help.is_empty()), "{file}: {} has no help", error.message);
            assert!(error.labels[0].range.end <= source.len(), "{file}: {} is beyond the text", error.message);
        }
        insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(name, errors.render(&source, &file));
        });
    }
}
