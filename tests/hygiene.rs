//! Nothing of a user's text reaches generated code but clean identifiers: hostile names and documentation compile.

use attn::Definition;
use attn::compiler::cuda::Kernel;
use attn::cuda::default_options;
use attn::cuda::testing::nvrtc_for_tests;
use attn::testing::{ElementType, KernelShape, Target, generated_kernels};
use rayon::prelude::*;

/// Names that mean something to C++, to CUDA, to the compiler, or to the machinery around a variant.
const NAMES: &[&str] = &[
    // C++ and CUDA
    "float",
    "int",
    "bool",
    "double",
    "class",
    "template",
    "typename",
    "namespace",
    "operator",
    "auto",
    "register",
    "volatile",
    "asm",
    "signed",
    "unsigned",
    "bitand",
    "bitor",
    "compl",
    "and",
    "and_eq",
    "or_eq",
    "xor_eq",
    "not_eq",
    "wchar_t",
    "char16_t",
    "char32_t",
    "static_assert",
    "static_cast",
    "reinterpret_cast",
    "const_cast",
    "dynamic_cast",
    "thread_local",
    "constexpr",
    "noexcept",
    "decltype",
    "nullptr",
    "default",
    "delete",
    "new",
    "this",
    "union",
    "size_t",
    "float2",
    "float4",
    "int2",
    "uint4",
    "dim3",
    "threadIdx",
    "blockIdx",
    "gridDim",
    "blockDim",
    "warpSize",
    "half",
    "NULL",
    "INFINITY",
    "NAN",
    "assert",
    "linux",
    "unix",
    "main",
    "std",
    "cuda",
    "nv",
    "printf",
    "fmaf",
    "fmaxf",
    "__shared__",
    "__float_as_int",
    "__CUDA_ARCH__",
    "_Bool",
    "__x",
    "x__y",
    "_a",
    "a_",
    // the machinery
    "u16",
    "u32",
    "i64",
    "element",
    "LOG2E",
    "LN2",
    "CHUNK",
    "BLOCK_Q",
    "BLOCK_KV",
    "STAGES",
    "WARPS",
    "THREADS",
    "HEAD_DIM",
    "VALUE_DIM",
    "ROW_TILES",
    "TABLE_CHUNK",
    "Tensor",
    "Array",
    "DenseGrad",
    "Arguments",
    "Range",
    "Tile",
    "Query",
    "Key",
    "Pair",
    "TablePair",
    "Full",
    "Partial",
    "FragmentA",
    "FragmentB",
    "tile",
    "query",
    "key",
    "value",
    "range",
    "arguments",
    "product",
    "output_grad_product",
    "product_grad",
    "probability",
    "pair",
    "live",
    "row",
    "head",
    "batch",
    "heads",
    "group",
    "batches",
    "statistic",
    "statistic_grad",
    "delta",
    "shift",
    "max_weight",
    "arg_max",
    "o",
    "k",
    "v",
    "q_grad",
    "k_grad",
    "v_grad",
    "output_grad",
    "exponent",
    "exponent_scale",
    "shift_floor",
    "weight",
    "is_live",
    "live_key_count",
    "live_keys_of",
    "load_tile",
    "load_key",
    "load_query",
    "load_tile_values",
    "store_rows",
    "multiply",
    "multiply_rows",
    "Work",
    "QueryTiles",
    "pair_scale",
    "dq_sums",
    "dq_turns",
    "works_taken",
    "kv_head_group",
    "k_grad_map",
    "output_grad_map",
    "clear",
    "padded",
    "row_bytes",
    "backward_pair",
    "table_pair",
    "table_entries",
    "dense_pair",
    "product_grad_scale",
    "row_is_live",
    "row_max",
    "row_sum",
    "position",
    "position_as_float",
    "q_as_float",
    "kv_as_float",
    "first_q",
    "first_kv",
    "lane",
    "warp",
    "stage",
    "e",
    "m",
    "n",
    "r",
    "t0",
    "t1",
    "entry0",
    "value0",
    "data",
    "stride",
    "extent",
    "attn_forward",
    // beside what is derived from `slope`
    "slope",
    "grad_slope",
    "row_grad_slope",
    "sum_slope",
    "size_slope",
    "slope_2",
    "slope_as_float",
    "slope_log2",
    "slope_term",
    "grad_grad_slope",
    "grad_table",
];

/// What kernels of packed batches have more.
const PACKED: &[&str] = &[
    "cu_seqlens_q",
    "cu_seqlens_kv",
    "sequences",
    "total_q",
    "max_seqlen_q",
    "max_seqlen_kv",
    "PackedTile",
    "find_tile",
    "place",
    "sequence",
    "q_start",
    "kv_start",
    "q_tiles",
    "sequence_maps",
    "maps",
    "MAPS",
    "Q_MAP",
    "write_map",
    "acquire_map",
    "publish_maps",
    "copies",
    "next_number",
];

/// Text that would end a comment, continue a line, or start a directive.
const DOCS: &[&str] = &[
    "*/ MARK #include <MARK>",
    "MARK ends in a backslash \\",
    "MARK ends in a trigraph ??/",
    "\\u000a MARK \\n \"MARK\" 'MARK' R\"(MARK",
    "// /* MARK %> ??> <: @{ MARK } //% if MARK @% MARK %@",
    "größe \u{202e}MARK\u{2028}MARK\u{85}MARK \u{1f980} \u{feff}",
    "#define float MARK",
    "\u{c}MARK\u{b}MARK",
];

/// Names that the language keeps from lengths, since they look like an axis.
const NO_LENGTHS: &[&str] = &["query", "key", "head", "batch", "heads", "k"];

/// A variant of parameters of every kind, called by these names, and a length called by one of them.
fn variant(names: &[&str], docs: &str) -> String {
    let mut text = format!("/// {docs}\nstruct Hostile {{\n");
    let (mut score, mut normalizer) = (String::from("s"), String::from("sum"));
    let last = names.iter().rposition(|name| !NO_LENGTHS.contains(name)).expect("a name for a length");
    let (length, names) = (names[last], [&names[..last], &names[last + 1..]].concat());
    for (index, name) in names.iter().enumerate() {
        let (declaration, read) = match index % 8 {
            0 => (format!("{name}: f32[h]"), format!("{name}[h] * q")),
            1 => (format!("const {name}: f32[kv]"), format!("{name}[kv]")),
            2 => (format!("{name}: f32"), format!("tanh({name} * s)")),
            3 => (format!("const {name}: i32[b, kv]"), format!("0.5 * {name}[b, q]")),
            4 => (format!("{name}: f32[b, kv]"), format!("{name}[b, kv]")),
            5 if index == 5 => (format!("{name}: f32[h, {length}]"), format!("{name}[h, (q + kv) % {length}]")),
            6 if index == 6 => (format!("{name}: f32[b, h, q, kv]"), format!("{name}[b, h, q, kv]")),
            5 | 6 => (format!("const {name}: f32[{length}]"), format!("{name}[abs(q - kv)]")),
            _ => {
                normalizer.push_str(&format!(" + exp({name}[h])"));
                (format!("{name}: f32[h]"), "0.0".to_owned())
            }
        };
        text.push_str(&format!("    /// {docs}\n    {declaration},\n"));
        score.push_str(&format!(" + {read}"));
    }
    text.push_str(&format!(
        "    score: |s, b, h, q, kv| {score},\n    normalizer: {normalizer},\n    mask: causal,\n}}\n"
    ));
    text
}

fn compile(text: &str) -> Definition {
    attn::compile_one(text).unwrap_or_else(|errors| panic!("{}", errors.render(text, "hostile.attn")))
}

/// The source without comments.
fn code(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(start) = rest.find("//").into_iter().chain(rest.find("/*")).min() {
        code.push_str(&rest[..start]);
        let (end, skip) = if rest[start..].starts_with("//") { ("\n", 0) } else { ("*/", 2) };
        let length = rest[start + 2..].find(end).expect("a comment ends") + 2 + skip;
        code.push(' ');
        rest = &rest[start + length..];
    }
    code + rest
}

fn assert_clean(kernel: &Kernel) {
    let code = code(&kernel.source);
    assert!(!code.contains("MARK"), "documentation is in the code: {}", kernel.source);
    assert!(code.is_ascii(), "a name is not cleaned: {}", kernel.source);
    assert!(!code.contains(['\\', '@', '`']), "{}", kernel.source);
    for line in code.lines().filter(|line| line.contains('#')) {
        let known = ["#pragma unroll", "#define INFINITY "].iter().any(|known| line.trim().starts_with(known));
        assert!(known, "a directive: {line}");
    }
    for line in kernel.source.lines() {
        assert!(!line.ends_with(['\\']) && !line.ends_with("??/"), "a comment would swallow the next line: {line}");
        let odd = |c: char| {
            c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!line.contains(odd), "an invisible character: {line:?}");
    }
    let file_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    assert!(kernel.file_name.chars().all(file_name), "{}", kernel.file_name);
}

/// Why a kernel does not compile, if it does not.
fn compile_error(kernel: &Kernel, target: Target) -> Option<String> {
    let options = default_options(target.name());
    nvrtc_for_tests().compile(&kernel.source, &kernel.file_name, &options).err().map(|error| error.to_string())
}

#[test]
fn hostile_names_and_documentation_compile() {
    let shape = KernelShape::new(ElementType::Bf16, 16, 16).expect("a shape");
    let names =
        NAMES.chunks(9).map(|names| (names, shape)).chain(PACKED.chunks(9).map(|names| (names, shape.packed())));
    let names: Vec<(&[&str], KernelShape)> = names.collect();
    let errors: Vec<String> = names
        .par_iter()
        .enumerate()
        .flat_map(|(index, &(names, shape))| {
            let definition = compile(&variant(names, DOCS[index % DOCS.len()]));
            let kernels = generated_kernels(&definition, shape, Target::Sm90a).expect("kernels");
            assert!(kernels.no_backward.is_none());
            kernels.distinct().for_each(assert_clean);
            kernels.distinct().filter_map(|kernel| compile_error(kernel, Target::Sm90a)).collect::<Vec<_>>()
        })
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn names_beyond_ascii_are_refused_by_the_language() {
    for name in ["größe", "σ", "длина", "长度"] {
        assert!(attn::compile_one(&format!("struct A {{ {name}: f32, score: |s| s * {name} }}")).is_err(), "{name}");
    }
}

/// Every documentation text alone, cheaply: the kernel that all variants have.
#[test]
fn hostile_documentation_stays_in_comments() {
    let shape = KernelShape::new(ElementType::F16, 16, 16).expect("a shape");
    for docs in DOCS {
        let definition = compile(&format!(
            "/// {docs}\nstruct Documented {{ /// {docs}\n limit: i32, mask: |b, h, q, kv| kv < limit }}"
        ));
        let kernels = generated_kernels(&definition, shape, Target::Sm80).expect("kernels");
        kernels.distinct().for_each(assert_clean);
        assert_eq!(compile_error(&kernels.forward[0], Target::Sm80), None);
    }
}

#[test]
fn comments_are_told_from_code() {
    assert_eq!(code("a // b\nc /* d */ e"), "a  \nc   e");
}
