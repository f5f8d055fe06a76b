//! Running a case in the simulator.

use attn_sim::{ElementType, Failure, Kernel, Launch, Memory, Swizzle as SimulatedSwizzle, TensorMap, TensorMapError};

use super::case::{Case, Element, Map, Swizzle};

/// Translates and compiles the case's kernel.
///
/// # Panics
/// Where it cannot be built.
pub fn build(case: &Case) -> Kernel {
    Kernel::new(&case.source, case.entry).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

/// All buffers after the launch.
pub fn run(case: &Case, kernel: &Kernel, seed: u64) -> Result<Vec<Vec<u8>>, Box<Failure>> {
    let memory = Memory::new();
    let buffers: Vec<_> = case
        .buffers
        .iter()
        .map(|contents| {
            let buffer = memory.allocate(contents.name, contents.bytes.len());
            buffer.write(0, &contents.bytes);
            buffer
        })
        .collect();
    let addresses: Vec<u64> = buffers.iter().map(attn_sim::Buffer::address).collect();
    let arguments: Vec<Vec<u8>> = case
        .arguments
        .iter()
        .map(|argument| {
            case.argument_bytes(argument, &addresses, encode).unwrap_or_else(|error| panic!("{}: {error}", case.name))
        })
        .collect();
    let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
    let launch = Launch { grid: case.grid, block: case.block, shared_memory: case.shared_memory, seed, trace: false };
    kernel.launch(&memory, &launch, &arguments)?;
    Ok(buffers.iter().map(attn_sim::Buffer::read).collect())
}

fn encode(map: &Map, address: u64) -> Result<[u8; 128], TensorMapError> {
    let element = match map.element {
        Element::F16 => ElementType::F16,
        Element::Bf16 => ElementType::Bf16,
        Element::F32 => ElementType::F32,
    };
    let swizzle = match map.swizzle {
        Swizzle::None => SimulatedSwizzle::None,
        Swizzle::Bytes32 => SimulatedSwizzle::Bytes32,
        Swizzle::Bytes64 => SimulatedSwizzle::Bytes64,
        Swizzle::Bytes128 => SimulatedSwizzle::Bytes128,
    };
    TensorMap::new(element, address, &map.extents, &map.strides, &map.box_extents, swizzle).map(|map| map.to_bytes())
}
