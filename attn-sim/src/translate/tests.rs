//! Whole texts.

use super::{TranslateError, translate};

fn text(source: &str) -> String {
    translate(source).unwrap().text
}

#[test]
fn lines_stay_where_they_are() {
    let source = "a\nasm volatile(\n  \"bar.sync 0;\"\n  ::: \"memory\");\nb\n#define X asm(\"bar.sync 1;\" \\\n  :: )\nc\n\
                  #pragma unroll 1\n#pragma pack(1)\nvoid f() {\n  __shared__ float\n    x[2];\n d; }";
    let translated = text(source);
    let lines: Vec<&str> = translated.lines().collect();
    assert_eq!(lines.len(), source.lines().count());
    assert!(lines[1].starts_with("do {") && lines[1].contains("barrier_sync(0u, 0)"));
    assert_eq!((lines[2], lines[3], lines[4]), ("", ";", "b"));
    assert!(lines[5].starts_with("#define X do {") && lines[5].ends_with('\\'), "{}", lines[5]);
    assert_eq!((lines[6], lines[7], lines[8], lines[9]), ("", "c", "", "#pragma pack(1)"));
    assert!(lines[11].contains("static_shared(0,"));
    assert_eq!(lines[13], " d; }");
}

#[test]
fn other_text_is_untouched() {
    let source = "// asm(\"x;\") __shared__\nconst char* s = \"__shared__ asm(\"; /* #include */ int asm_ = 'a';\n";
    assert_eq!(text(source), source);
}

#[test]
fn an_empty_template_touches_nothing() {
    let translated = text("void f() { asm volatile(\"\" : \"+f\"(r[i]) :: \"memory\"); }");
    assert_eq!(translated, "void f() { do {} while (0); }");
}

#[test]
fn operands_are_evaluated_once() {
    let translated =
        text("void f() { asm(\"add.u32 %0, %1, %1; add.u32 %0, %0, %1;\" : \"=r\"(a[i++]) : \"r\"(j++)); }");
    assert_eq!(translated.matches("i++").count(), 1);
    assert_eq!(translated.matches("j++").count(), 1);
}

#[test]
fn shared_memory_has_running_numbers() {
    let translated = text(
        "void f() { extern __shared__ __align__(16) Pair<int, 2> all[]; __shared__ alignas(8) volatile int a, b[3]; static __shared__ long c; }",
    );
    assert!(translated.contains("typedef Pair<int, 2> attn_sim_type_0;"), "{translated}");
    assert!(translated.contains("attn_sim_array_0* all = (attn_sim_array_0*)attn_sim::dynamic_shared();"));
    assert!(translated.contains("typedef volatile int attn_sim_type_1;"));
    assert!(translated.contains("typedef attn_sim_type_1 attn_sim_array_2[3];"));
    assert!(translated.contains("attn_sim::static_shared(3, sizeof(attn_sim_array_3)"));
    assert!(!translated.contains("static attn_sim"));
}

#[test]
fn shared_memory_that_cannot_be_is_refused() {
    for (source, reason) in [
        ("__shared__ int x;", "must be declared in the kernel"),
        ("void f() { __shared__ int x = 3; }", "can't be initialised"),
        ("void f() { extern __shared__ int x[3]; }", "without an extent"),
        ("void f() { extern __shared__ int x[], y[]; }", "is one array"),
        ("void f() { __shared__ x; }", "not understood"),
    ] {
        let error = translate(source).unwrap_err().to_string();
        assert!(error.contains(reason), "{source}: {error}");
    }
}

#[test]
fn kernels_are_found() {
    let source = "extern \"C\" __global__ void __launch_bounds__(128, (1 + 1)) one(int) {}\n__launch_bounds__(3) __global__ void two() {}\n\
                  extern \"C\" __global__ void three();\nextern \"C\" __global__ __launch_bounds__(1)\nvoid\nfour(float (&x)[2]) {}";
    assert_eq!(translate(source).unwrap().entries, ["one", "four"]);
}

#[test]
fn headers_are_refused() {
    let error = translate("int a;\n  # include <x>\n").unwrap_err();
    assert!(matches!(error, TranslateError::Unsupported { line: 2, .. }), "{error}");
}

#[test]
fn errors_have_the_line_of_the_instruction() {
    let error = translate("void f() {\n asm(\"bar.sync 0;\\n\"\n  \"what.ever %0;\" :: \"r\"(1)); }").unwrap_err();
    assert_eq!(error, TranslateError::UnknownInstruction { line: 3, instruction: "what.ever %0".into() });
}
