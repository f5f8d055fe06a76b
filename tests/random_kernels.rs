//! Random variants: whatever the language and lowering accept has kernels, and these compile.

use attn::Definition;
use attn::cuda::default_options;
use attn::cuda::testing::nvrtc_for_tests;
use attn::testing::arbitrary_variant;
use attn::testing::{ElementType, GeneratedKernels, KernelShape, Target, generated_kernels};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rayon::prelude::*;

/// How many variants are compiled.
const COMPILED: usize = 12;

fn generate(
    text: &str,
    element: ElementType,
    [head_dim, value_dim]: [usize; 2],
    target: Target,
    packed: bool,
) -> (Definition, GeneratedKernels) {
    let definition = attn::compile_one(text).unwrap_or_else(|errors| panic!("{}", errors.render(text, "random.attn")));
    let shape = KernelShape::new(element, head_dim, value_dim).expect("a shape of the kernels");
    let shape = if packed { shape.packed() } else { shape };
    let kernels = generated_kernels(&definition, shape, target).unwrap_or_else(|error| panic!("{error}\n{text}"));
    (definition, kernels)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_variant_has_kernels(
        text in arbitrary_variant(),
        element in prop::sample::select(&[ElementType::F32, ElementType::F16, ElementType::Bf16][..]),
        head_dims in [1usize..=32, 1usize..=32].prop_map(|dims| dims.map(|n| 8 * n)),
        target in prop::sample::select(&Target::ALL[..]),
        packed in any::<bool>(),
    ) {
        let (_, kernels) = generate(&text, element, head_dims, target, packed);
        prop_assert!(!kernels.forward.is_empty());
        prop_assert!(kernels.no_backward.is_some() || !kernels.backward.is_empty());
        for kernel in kernels.distinct() {
            prop_assert!(kernel.source.contains(kernel.entry));
            prop_assert!(!kernel.source.contains("#include"));
            prop_assert!(kernel.shared_memory as usize <= target.shared_memory_per_block());
            prop_assert!(kernel.threads.is_multiple_of(32) && kernel.threads <= 1024);
        }
    }
}

/// The same variants in every run.
#[test]
fn random_variants_compile() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let draw = |runner: &mut TestRunner| arbitrary_variant().new_tree(runner).expect("a variant").current();
    let texts: Vec<String> = (0..COMPILED).map(|_| draw(&mut runner)).collect();
    let errors: Vec<String> = texts
        .par_iter()
        .enumerate()
        .flat_map(|(index, text)| {
            let (element, target) = [
                (ElementType::Bf16, Target::Sm90a),
                (ElementType::F32, Target::Sm80),
                (ElementType::F16, Target::Sm80),
                (ElementType::F32, Target::Sm90a),
            ][index % 4];
            let compile = |kernel: &attn::compiler::cuda::Kernel| {
                let compiled =
                    nvrtc_for_tests().compile(&kernel.source, &kernel.file_name, &default_options(target.name()));
                compiled.err().map(|error| format!("{error}\n{text}\n{}", kernel.variant_part))
            };
            // packed batches in f32 have kernels of the portable schedule alone
            let is_portable = target == Target::Sm90a && element == ElementType::F32;
            let packed: &[bool] = if is_portable { &[false] } else { &[false, true] };
            let errors = packed.iter().flat_map(|&packed| {
                let (_, kernels) = generate(text, element, [40, 24], target, packed);
                kernels.distinct().filter_map(compile).collect::<Vec<_>>()
            });
            errors.collect::<Vec<_>>()
        })
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n\n"));
}
