//! The layout of every kernel's one parameter: what C++ makes of the declaration is what the runtime packs.

use attn::compiler::cuda::{Argument, Kernel};
use attn::cuda::default_options;
use attn::cuda::testing::nvrtc_for_tests;
use attn::testing::{ElementType, KernelShape, Target, generated_kernels};
use attn::{Definition, gallery};
use rayon::prelude::*;

/// The members that `struct Arguments` declares, in order.
fn member_names(kernel: &Kernel) -> Vec<&str> {
    let start = kernel.variant_part.find("struct Arguments {\n").expect("every kernel has arguments");
    let body = &kernel.variant_part[start..];
    let body = &body[..body.find("\n};").expect("a structure ends")];
    let declarations = body.lines().skip(1).map(|line| line.split("/*").next().expect("a declaration").trim());
    declarations
        .flat_map(|line| {
            let (_, names) = line
                .trim_end_matches([';', ' '])
                .rsplit_once("> ")
                .unwrap_or_else(|| line.trim_end_matches([';', ' ']).split_once(' ').expect("a type and names"));
            names.split(", ").map(|name| name.rsplit(' ').next().expect("a name"))
        })
        .collect()
}

/// All of the source up to the structure, and assertions on it: nothing of the kernel itself.
fn assertions(definition: &Definition, kernel: &Kernel) -> String {
    let declaration = kernel.variant_part.find("struct Arguments {\n").expect("arguments");
    let end = kernel.variant_part[declaration..].find("\n};\n").expect("a structure ends") + declaration + 4;
    let start = kernel.source.find(&kernel.variant_part).expect("the variant's part is in the source");
    let mut text = kernel.source[..start + end].to_owned();
    let names = member_names(kernel);
    assert_eq!(names.len(), kernel.arguments.len(), "{names:?} {:?}", kernel.arguments);
    let mut offset = 0;
    for (name, argument) in names.iter().zip(&kernel.arguments) {
        // what the compiler's own headers make of `offsetof`
        let at = format!("(unsigned long long)__INTADDR__(&((Arguments*)0)->{name})");
        text.push_str(&format!("static_assert({at} == {offset}, \"{name}\");\n"));
        offset += argument.bytes(definition);
    }
    let bytes = Argument::structure_bytes(&kernel.arguments, definition);
    assert!(bytes <= 4096, "{} needs {bytes} bytes of arguments, more than a launch takes", kernel.file_name);
    text.push_str(&format!("static_assert(sizeof(Arguments) == {bytes}, \"size\");\n"));
    text.push_str("extern \"C\" __global__ void layout(const __grid_constant__ Arguments arguments) {}\n");
    text
}

/// A parameter of every rank and type, some broadcast, some learnable, and named lengths.
const EVERY_KIND: &str = "
struct EveryKind {
    scalar: f32,
    const period: i32,
    slope: f32[h],
    row: f32[b, h, q],
    column: f32[b, kv],
    table: f32[h, buckets, 4],
    const flat: f32[entries],
    dense: f32[b, h, q, kv],
    documents: i32[b, kv],
    score: |s, b, h, q, kv| scalar * s + slope[h] + row[b, h, q] + column[b, kv] + dense[b, h, q, kv]
        + table[h, q % buckets, kv % 4] + flat[(q + kv) % entries] + (period % 7),
    normalizer: sum + sqrt(sum_squares) + max + exp(slope[h]),
    mask: causal & document(documents),
}";

#[test]
fn declarations_have_the_layout_that_is_packed() {
    let mut definitions: Vec<Definition> = gallery::all().iter().map(|entry| (entry.definition)().clone()).collect();
    definitions.push(
        attn::compile_one(EVERY_KIND).unwrap_or_else(|errors| panic!("{}", errors.render(EVERY_KIND, "every.attn"))),
    );
    let shape = KernelShape::new(ElementType::Bf16, 128, 128).expect("a shape");
    let mut sources: Vec<String> = definitions
        .iter()
        .flat_map(|definition| {
            // the first has tensors, the second their maps, the others sequences and maps of each
            let of = |target, shape| {
                let kernels = generated_kernels(definition, shape, target).expect("kernels");
                // what maps elements takes a few numbers that are packed by hand
                let listed = kernels.distinct().filter(|kernel| !kernel.arguments.is_empty());
                listed.map(|kernel| assertions(definition, kernel)).collect::<Vec<_>>()
            };
            let packed = shape.packed();
            [of(Target::Sm80, shape), of(Target::Sm90a, shape), of(Target::Sm80, packed), of(Target::Sm90a, packed)]
                .concat()
        })
        .collect();
    // one declaration after the same prelude needs one look
    let code = |source: &str| source[source.find("struct Arguments {").expect("arguments")..].to_owned();
    sources.sort_by_key(|source| code(source));
    sources.dedup_by_key(|source| code(source));
    assert!(sources.len() > 30, "{} layouts", sources.len());
    sources.par_iter().for_each(|source| {
        if let Err(error) = nvrtc_for_tests().compile(source, "layout.cu", &default_options("sm_90a")) {
            panic!("{error}\n{}", code(source));
        }
    });
}

/// The assertions can fail.
#[test]
fn another_layout_is_noticed() {
    let definition = attn::compile_one(EVERY_KIND).expect("a variant");
    let shape = KernelShape::new(ElementType::Bf16, 128, 128).expect("a shape");
    let kernels = generated_kernels(&definition, shape, Target::Sm80).expect("kernels");
    let source = assertions(&definition, kernels.forward.last().expect("a forward pass has a kernel"));
    let wrong = source.replace("    float scale;\n", "    float scale; i64 more;\n");
    assert_ne!(source, wrong);
    let error = nvrtc_for_tests().compile(&wrong, "layout.cu", &default_options("sm_80")).expect_err("a wrong size");
    assert!(error.to_string().contains("static assertion failed"), "{error}");
}
