//! Kernels of random variants are CUDA that NVRTC compiles: whatever the language allows, the compiler can write.

use attn::compiler::plan::{ElementType, Shape, Target};
use attn::compiler::{cuda, lower};
use attn::cuda::{nvrtc, testing::nvrtc_for_tests};
use attn::testing::arbitrary_variant;
use proptest::prelude::*;

proptest! {
    // A variant costs some compilations of half a second each.
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_variants_compile(
        text in arbitrary_variant(),
        element in prop::sample::select(vec![ElementType::F32, ElementType::F16, ElementType::Bf16]),
        target in prop::sample::select(Target::ALL.to_vec()),
    ) {
        let compiler = nvrtc_for_tests();
        let definition = attn::compile_one(&text).map_err(|errors| TestCaseError::fail(errors.render(&text, "random")))?;
        let lowered = lower::lower(&definition).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let shape = Shape::new(element, 40, 24).expect("multiples of 8");
        let mut kernels = cuda::forward(&lowered, shape, target).map_err(|error| TestCaseError::fail(error.to_string()))?;
        kernels.extend(cuda::backward(&lowered, shape, target).map_err(|error| TestCaseError::fail(error.to_string()))?);
        for kernel in kernels {
            let compiled = compiler.compile(&kernel.source, &kernel.file_name, &nvrtc::default_options(target.name()));
            if let Err(error) = compiled {
                return Err(TestCaseError::fail(format!("{text}\n{error}")));
            }
        }
    }
}
