//! Real NVRTC compiles every kernel of every variant of the gallery for every target, without a GPU.
//!
//! Registers and spills are snapshot for two targets, the largest and the smallest shared memory; an advisory of the
//! assembler or a warning of the compiler fails. After a change of templates or tiles:
//! `INSTA_UPDATE=always cargo test -p attn --test nvrtc`, and review the difference.

use std::panic::{AssertUnwindSafe, catch_unwind};

use attn::compiler::cuda;
use attn::cuda::default_options;
use attn::cuda::testing::nvrtc_for_tests;
use attn::testing::{ElementType, KernelShape, Target, resource_snapshot};
use attn::{Definition, gallery};
use rayon::prelude::*;

/// Variants that are compiled for many shapes: one of each class, gradient kind and kind of mask.
const MANY_SHAPES: [&str; 8] =
    ["softmax", "sink", "alibi", "sigmoid", "t5bias", "dense-bias", "document", "normalized-relu"];

fn shapes() -> Vec<KernelShape> {
    use ElementType::{Bf16, F16, F32};
    [(F16, 64, 64), (F32, 64, 64), (F32, 128, 128), (Bf16, 256, 256), (Bf16, 192, 128), (Bf16, 40, 80), (F32, 256, 256)]
        .into_iter()
        .map(|(element, head_dim, value_dim)| KernelShape::new(element, head_dim, value_dim).expect("a shape"))
        .collect()
}

/// What of a list the variant of a number is compiled for: one, or, of those compiled for many shapes, every second one. Together
/// they leave nothing out.
fn share<T: Clone>(all: &[T], number: usize, many: bool) -> Vec<T> {
    let every = if many { 2 } else { all.len() };
    all.iter().skip(number % every).step_by(every).cloned().collect()
}

/// The resources for these targets; fails on advisories and warnings.
fn resources(definition: &Definition, shape: KernelShape, targets: &[Target]) -> String {
    let text = resource_snapshot(definition, shape, targets)
        .unwrap_or_else(|error| panic!("{} {shape}: {error}", definition.name));
    assert!(!text.contains("(C75") && !text.contains("warning"), "{text}");
    text
}

/// Masks of a caller's: bounds, and what is no bound, so that live keys are counted.
#[test]
fn kernels_under_further_masks_compile() {
    let shape = KernelShape::new(ElementType::F16, 64, 64).expect("a shape");
    let names = ["softmax", "sink", "relu", "sigmoid", "normalized-relu", "ssmax", "t5bias", "dense-bias"];
    names.par_iter().for_each(|name| {
        let definition = (gallery::find(name).expect("a variant of the gallery").definition)();
        for mask in ["causal & window(128, 0)", "causal & document(documents)"] {
            resources(&definition.with_mask(mask).expect("a mask"), shape, &[Target::Sm80, Target::Sm90a]);
        }
    });
}

/// Sequences of different lengths, without padding: the simulated GPU compiles those of every variant.
#[test]
fn kernels_of_packed_batches_compile() {
    let failed: Vec<&str> = MANY_SHAPES
        .par_iter()
        .filter_map(|&variant| {
            let check = || {
                let definition = (gallery::find(variant).expect("a variant of the gallery").definition)();
                let shape = KernelShape::new(ElementType::Bf16, 128, 128).expect("a shape").packed();
                let masked = definition.with_mask("causal & document(documents)").expect("a mask");
                resources(&masked, shape, &[Target::Sm80]);
                let text = resources(definition, shape, &[Target::Sm86, Target::Sm90a]);
                let name = format!("{variant}-packed");
                insta::with_settings!({ snapshot_path => "resources", prepend_module_to_snapshot => false, omit_expression => true }, {
                    insta::assert_snapshot!(name, text);
                });
            };
            catch_unwind(AssertUnwindSafe(check)).err().map(|_| variant)
        })
        .collect();
    assert!(failed.is_empty(), "see above: {}", failed.join(", "));
}

fn check(number: usize, name: &'static str) -> Result<(), &'static str> {
    let definition = (gallery::find(name).expect("a variant of the gallery").definition)();
    let check = || {
        let shape = KernelShape::new(ElementType::Bf16, 128, 128).expect("a shape");
        let mut text = resources(definition, shape, &[Target::Sm86, Target::Sm90a]);
        let many = MANY_SHAPES.contains(&name);
        resources(
            definition,
            shape,
            &share(&[Target::Sm80, Target::Sm89, Target::Sm100a, Target::Sm120a], number, many),
        );
        if many {
            for shape in share(&shapes(), number, many) {
                text.push('\n');
                text.push_str(&resources(definition, shape, &[Target::Sm86, Target::Sm90a]));
            }
        }
        insta::with_settings!({ snapshot_path => "resources", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, text);
        });
    };
    catch_unwind(AssertUnwindSafe(check)).map_err(|_| name)
}

#[test]
fn every_kernel_of_the_gallery_compiles_for_every_target() {
    let (many, others): (Vec<&str>, Vec<&str>) =
        gallery::all().iter().map(|entry| entry.name).partition(|name| MANY_SHAPES.contains(name));
    let numbered: Vec<_> = many.into_iter().enumerate().chain(others.into_iter().enumerate()).collect();
    let failed: Vec<&str> = numbered.into_par_iter().filter_map(|(number, name)| check(number, name).err()).collect();
    assert!(failed.is_empty(), "see above: {}", failed.join(", "));
}

/// What is the same for every variant.
#[test]
fn the_kernels_of_all_variants_compile() {
    for source in [cuda::reduce_source(), cuda::copy_source()] {
        for target in ["sm_80", "sm_90a", "sm_120a"] {
            let compiled = nvrtc_for_tests().compile(source, "shared.cu", &default_options(target));
            let compiled = compiled.unwrap_or_else(|error| panic!("{target}: {error}"));
            assert!(!compiled.log.contains("warning"), "{target}: {}", compiled.log);
        }
    }
}
