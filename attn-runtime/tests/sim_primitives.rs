//! The simulator against a GPU: every primitive and the hand-written Hopper kernels, on the same inputs. Primitives must agree to
//! the bit, kernels with the reference. All of them compile without warnings of the assembler, which needs no GPU.

#[path = "../../attn-sim/tests/support/mod.rs"]
mod support;

use std::collections::HashSet;

use attn_runtime::cuda::testing::{device_for_tests, nvrtc_for_tests};
use attn_runtime::cuda::{
    CudaDevice, CudaError, KernelArgument, KernelCache, KernelRequest, Launch, Module, TensorDescription,
    TensorElement, TensorMap, TensorSwizzle, default_options,
};
use support::attention::Shape;
use support::case::{Case, Element, Map, Swizzle, difference};
use support::primitives::cases;
use support::simulator;
use support::workload::{Workload, hopper_backward, hopper_forward};

const ARCHITECTURE: &str = "sm_90a";

/// A GPU that has the primitives, or nothing, which is said on standard error.
fn hopper() -> Option<CudaDevice> {
    let device = device_for_tests()?;
    if device.compute_capability() == (9, 0) {
        return Some(device);
    }
    eprintln!("this test's GPU part did not run: {} has no sm_90a", device.name());
    None
}

fn encode(device: &CudaDevice, map: &Map, address: u64) -> Result<[u8; 128], CudaError> {
    let description = TensorDescription {
        element: match map.element {
            Element::F16 => TensorElement::F16,
            Element::Bf16 => TensorElement::Bf16,
            Element::F32 => TensorElement::F32,
        },
        address,
        extents: &map.extents,
        strides: &map.strides,
        box_extents: &map.box_extents,
        swizzle: match map.swizzle {
            Swizzle::None => TensorSwizzle::None,
            Swizzle::Bytes32 => TensorSwizzle::Bytes32,
            Swizzle::Bytes64 => TensorSwizzle::Bytes64,
            Swizzle::Bytes128 => TensorSwizzle::Bytes128,
        },
    };
    TensorMap::encode(device, &description).map(|map| map.to_bytes())
}

/// All buffers after the launch on the GPU.
fn run_on_gpu(device: &CudaDevice, case: &Case) -> Result<Vec<Vec<u8>>, CudaError> {
    let cache = KernelCache::in_memory(nvrtc_for_tests());
    let request = KernelRequest::new(&case.source, "case.cu", ARCHITECTURE);
    let module = Module::compile(device, &cache, &request).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let kernel = module.kernel(case.entry)?;
    kernel.set_dynamic_shared_memory(case.shared_memory as usize)?;
    let buffers: Vec<_> =
        case.buffers.iter().map(|contents| device.upload(&contents.bytes)).collect::<Result<_, CudaError>>()?;
    let addresses: Vec<u64> = buffers.iter().map(|buffer| buffer.address()).collect();
    let arguments: Vec<KernelArgument> = case
        .arguments
        .iter()
        .map(|argument| {
            let bytes = case.argument_bytes(argument, &addresses, |map, address| encode(device, map, address))?;
            Ok(KernelArgument::bytes(bytes))
        })
        .collect::<Result<_, CudaError>>()?;
    let launch = Launch { grid: case.grid, block: case.block, shared_memory: case.shared_memory };
    // SAFETY: the case's arguments are those of its kernel, which stays in the buffers: the simulator checks it.
    unsafe { kernel.launch(device, launch, &arguments) }?;
    buffers.iter().map(|buffer| device.download(buffer)).collect()
}

#[test]
fn primitives_agree_to_the_bit() {
    let Some(device) = hopper() else { return };
    let mut wrong = Vec::new();
    for case in cases() {
        let simulated = simulator::run(&case, &simulator::build(&case), 0);
        let simulated = simulated.unwrap_or_else(|failure| panic!("{}: {failure}", case.name));
        let computed = run_on_gpu(&device, &case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        for ((contents, simulated), computed) in case.buffers.iter().zip(&simulated).zip(&computed) {
            if let Some(place) = difference(computed, simulated) {
                wrong.push(format!("{}: {}: the simulator against the GPU: {place}", case.name, contents.name));
            }
        }
        wrong.extend(case.difference(&computed).map(|text| format!("the GPU against the expected: {text}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Kernels on shapes that need everything: tails, masks, both head dims, rings that go round.
fn workloads() -> Vec<Workload> {
    let shape = Shape { batches: 1, heads: 1, group: 1, q_len: 200, kv_len: 429, head_dim: 64, causal: true };
    let mut workloads = Vec::new();
    for head_dim in [64, 128] {
        let shape = Shape { head_dim, ..shape };
        workloads.push(hopper_forward(&Shape { heads: 4, group: 2, batches: 2, ..shape }));
        workloads.push(hopper_forward(&Shape { causal: false, ..shape }));
        workloads.push(hopper_forward(&Shape { q_len: 300, kv_len: 40, ..shape }));
        workloads.push(hopper_backward(&Shape { heads: 2, batches: 2, ..shape }));
        workloads.push(hopper_backward(&Shape { q_len: 300, kv_len: 40, ..shape }));
    }
    workloads
}

#[test]
fn kernels_of_the_simulators_tests_are_right_on_a_gpu() {
    let Some(device) = hopper() else { return };
    for workload in workloads() {
        let name = &workload.case.name;
        let computed = run_on_gpu(&device, &workload.case).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(workload.difference(&computed), None, "{name}");
    }
}

#[test]
fn all_kernels_compile_without_warnings_and_spills() {
    let nvrtc = nvrtc_for_tests();
    let mut options = default_options(ARCHITECTURE);
    options.push("--no-cache".to_owned()); // a second compilation of a text has no log
    let cases = workloads().into_iter().map(|workload| workload.case).chain(cases());
    let mut seen = HashSet::new();
    for case in cases.filter(|case| seen.insert(case.source.clone())) {
        let compilation = nvrtc.compile(&case.source, "case.cu", &options);
        let compilation = compilation.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let resources = compilation.resources();
        assert!(!resources.is_empty(), "{}: {}", case.name, compilation.log);
        for usage in resources {
            assert!(usage.advisories.is_empty(), "{}: {usage:?}", case.name);
            assert_eq!(usage.spill_store_bytes + usage.spill_load_bytes, 0, "{}: {usage:?}", case.name);
        }
    }
}
