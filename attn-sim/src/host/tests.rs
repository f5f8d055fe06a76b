//! Kernels that run in a table of the tests' own, which writes down what it is told.

mod harness;

use std::mem::offset_of;

use super::library::Line;
use super::{BuildError, Program};
use crate::abi::{self, ThreadContext, WgmmaArguments};
use harness::{Harness, RECORDER, WITHOUT_ACCESSES};

/// The functions of a structure in `abi.hpp`, in order.
fn fields(structure: &str) -> Vec<String> {
    let header = super::library::HEADERS[0].1;
    let body = header.split(&format!("struct {structure} {{")).nth(1).unwrap().split("\n};").next().unwrap();
    let name = |line: &str| line.split_once("(*").map(|(_, rest)| rest.split(')').next().unwrap().to_owned());
    body.lines().filter_map(name).collect()
}

#[test]
fn both_sides_have_the_same_table() {
    assert_eq!(fields("Table"), abi::NAMES);
}

#[test]
fn both_sides_have_the_same_structures() {
    let mut source = String::new();
    let mut check = |structure: &str, field: &str, offset: usize| {
        source +=
            &format!("static_assert(__builtin_offsetof(attn_sim::{structure}, {field}) == {offset}, \"{field}\");\n");
    };
    macro_rules! check {
        ($structure:ident: $($field:ident)*) => { $(check(stringify!($structure), stringify!($field), offset_of!($structure, $field));)* };
    }
    check!(ThreadContext: thread block block_extent grid_extent stack_begin stack_end watch_stack);
    check!(WgmmaArguments: accumulators n element a_is_shared a_registers a_descriptor b_descriptor accumulate a_sign b_sign a_transposed b_transposed);
    for (structure, size) in
        [("ThreadContext", size_of::<ThreadContext>()), ("WgmmaArguments", size_of::<WgmmaArguments>())]
    {
        source += &format!("static_assert(sizeof(attn_sim::{structure}) == {size}, \"size\");\n");
    }
    Program::build_with(&source, &RECORDER).unwrap();
}

/// Calls that comments of a kernel announce, in order.
fn announced(source: &str) -> Vec<String> {
    let comments = source.lines().filter_map(|line| line.split_once("// ").map(|(_, comment)| comment));
    let calls = comments.filter(|comment| abi::NAMES.iter().any(|name| comment.starts_with(&format!("{name}("))));
    calls
        .flat_map(|comment| comment.split_inclusive(") ").map(|call| call.trim().to_owned()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_instruction_becomes_its_call() {
    let source = include_str!("tests/instructions.cu");
    let harness = Harness::new(source);
    let mut out = [0u32; 18];
    let run = harness.run(
        "instructions",
        &[&64u32.to_ne_bytes(), &harness.global().to_ne_bytes(), &(out.as_mut_ptr() as usize).to_ne_bytes()],
    );
    // the first announcement stands in the template above the kernel
    let mut expected = announced(source);
    let wait = expected.remove(0);
    let place = expected.iter().position(|call| call == "copy_async_commit()").unwrap();
    expected.insert(place + 1, wait);
    let out_range = out.as_ptr_range();
    let calls: Vec<String> = run
        .calls
        .iter()
        .filter(|call| !call.touches(out_range.start as usize, out_range.end as usize))
        .map(|call| call.text.clone())
        .collect();
    assert_eq!(calls.len(), expected.len(), "{calls:#?}");
    for (call, expected) in calls.iter().zip(&expected) {
        assert_eq!(call, expected);
    }
    assert_eq!(
        out,
        [
            0x43424140 + 0x08080808,
            0x47464544 + 0x08080808,
            0x43424140,
            0x47464544,
            0x4140,
            0x47,
            1,
            1,
            4321,
            5,
            1,
            1,
            1,
            1,
            1,
            1,
            264,
            1
        ]
    );
}

#[test]
fn arithmetic_is_that_of_ptx() {
    let harness = Harness::new(include_str!("tests/arithmetic.cu"));
    let mut wrong = [0u32; 16];
    harness.run("arithmetic", &[&(wrong.as_mut_ptr() as usize).to_ne_bytes()]);
    assert_eq!(wrong, [0; 16], "lines of arithmetic.cu that are wrong");
}

/// Runs one of the kernels of `numbers.cu`.
fn convert<A: Copy, B: Copy + Default>(harness: &Harness, kernel: &str, from: &[A]) -> Vec<B> {
    let mut to = vec![B::default(); from.len()];
    let pointers = [to.as_mut_ptr() as usize, from.as_ptr() as usize];
    harness.run(kernel, &[&pointers[0].to_ne_bytes(), &pointers[1].to_ne_bytes(), &(from.len() as i32).to_ne_bytes()]);
    to
}

#[test]
fn halves_round_as_ieee_says() {
    use half::{bf16, f16};
    let harness = Harness::with(include_str!("tests/numbers.cu"), &WITHOUT_ACCESSES);
    let patterns: Vec<u16> = (0..=u16::MAX).collect();
    let from_bf16: Vec<f32> = convert(&harness, "from_bf16", &patterns);
    let from_f16: Vec<f32> = convert(&harness, "from_f16", &patterns);
    for (&bits, (bf, f)) in patterns.iter().zip(from_bf16.iter().zip(&from_f16)) {
        let same = |ours: f32, theirs: f32| ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
        assert!(same(*bf, bf16::from_bits(bits).to_f32()), "bf16 {bits:04x}");
        assert!(same(*f, f16::from_bits(bits).to_f32()), "f16 {bits:04x}");
    }
    // every value, the ties between neighbours, and what lies next to ties
    let mut values: Vec<f32> = from_bf16.iter().chain(&from_f16).copied().collect();
    for bits in 0..=u16::MAX {
        let tie = (u32::from(bits) << 16) | 0x8000;
        values.extend([tie - 1, tie, tie + 1].map(f32::from_bits));
        let (low, high) = (f16::from_bits(bits).to_f64(), f16::from_bits(bits.wrapping_add(1)).to_f64());
        let middle = ((low + high) / 2.0) as f32;
        values.extend([
            f32::from_bits(middle.to_bits().wrapping_sub(1)),
            middle,
            f32::from_bits(middle.to_bits().wrapping_add(1)),
        ]);
    }
    values.extend([
        65519.996,
        65520.0,
        65536.0,
        f32::MAX,
        f32::INFINITY,
        -f32::INFINITY,
        5.96e-8,
        2.98e-8,
        2.980_232_2e-8,
        1e-40,
    ]);
    let to_bf16: Vec<u16> = convert(&harness, "to_bf16", &values);
    let to_f16: Vec<u16> = convert(&harness, "to_f16", &values);
    for (value, (bf, f)) in values.iter().zip(to_bf16.iter().zip(&to_f16)) {
        if value.is_nan() {
            assert_eq!((*bf, *f), (0x7fff, 0x7fff));
        } else {
            assert_eq!(*bf, bf16::from_f32(*value).to_bits(), "{value:e} to bf16");
            assert_eq!(*f, f16::from_f32(*value).to_bits(), "{value:e} to f16");
        }
    }
}

#[test]
fn accesses_arguments_and_lines() {
    let harness = Harness::new(include_str!("tests/lines.cu"));
    let program = &harness.program;
    assert_eq!(program.parameters("lines").unwrap(), [128, 8, 4, 1, 4, 8]);
    assert_eq!(program.parameters("empty").unwrap(), [0usize; 0]);
    let map = [7u8; 128];
    let to = harness.global();
    let arguments: [&[u8]; 6] =
        [&map, &to.to_ne_bytes(), &2.5f32.to_ne_bytes(), &[1], &1i32.to_ne_bytes(), &(to + 256).to_ne_bytes()];
    let run = harness.run("lines", &arguments);
    let told: Vec<(&str, Vec<(u32, &str)>)> = run
        .calls
        .iter()
        .map(|call| {
            let lines = call.lines.iter().map(|line| (line.number, line.function.as_deref().unwrap_or("?"))).collect();
            (call.text.as_str(), lines)
        })
        .collect();
    let copy = |line| vec![(line, "copy")];
    let expected = [
        ("barrier_sync(3, 64)", vec![(3, "synchronize"), (9, "store"), (21, "lines")]),
        ("access(g+12, 4, 1)", vec![(10, "store"), (21, "lines")]),
        ("access(g+32, 16, 1)", copy(13)),
        ("access(g+256, 16, 0)", copy(13)),
        ("access(g+272, 16, 0)", copy(14)),
        ("access(g+48, 16, 1)", copy(15)),
        ("access(g+16, 4, 1)", vec![(26, "lines")]),
        ("access(g+64, 16, 1)", vec![(27, "lines")]),
        ("barrier_sync(3, 64)", vec![(3, "synchronize"), (28, "a lambda"), (29, "lines")]),
        ("barrier_sync(4, 64)", vec![(3, "synchronize"), (28, "a lambda"), (30, "lines")]),
    ];
    assert_eq!(told, expected);
    assert_eq!(harness.floats(4), 1.0, "the tensor map is aligned and whole");
    assert_eq!([16, 17, 18, 19].map(|index| harness.floats(index)), [2.0, 3.0, 4.0, 1.0]);

    let watched = harness.run_watched("lines", &arguments);
    assert!(watched.calls.len() > run.calls.len(), "the local array's accesses are told as well");
    assert!(watched.calls.iter().any(|call| call.text.starts_with("access(stack")));
}

#[test]
fn locating_other_code_gives_nothing() {
    let harness = Harness::new("extern \"C\" __global__ void nothing() {}");
    assert_eq!(harness.program.locate(0x10), Vec::<Line>::new());
    assert_eq!(harness.program.locate(offset_of_a_function()), vec![]);
}

fn offset_of_a_function() -> usize {
    offset_of_a_function as fn() -> usize as usize
}

#[test]
fn mistakes_have_the_kernels_lines() {
    let error =
        Program::build_with("\nextern \"C\" __global__ void k() {\n    undeclared(3);\n}", &RECORDER).unwrap_err();
    assert!(error.to_string().contains("kernel.cu:3"), "{error}");
    let error = Program::build_with(
        "__device__ void f() {\n printf(\"x\"); }\nextern \"C\" __global__ void k() { f(); }",
        &RECORDER,
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("kernel.cu:2") && error.contains("printf is not simulated"), "{error}");
    let error =
        Program::build_with("__device__ void f() {\n float x; asm(\"mov.b32 %0, 1;\" : \"=r\"(x));\n}", &RECORDER);
    assert!(error.unwrap_err().to_string().contains("kernel.cu:2"));
    let error = Program::build_with("#include <cuda_bf16.h>\n", &RECORDER).unwrap_err();
    assert!(matches!(error, BuildError::Unsupported { line: 1, .. }), "{error}");
    let error = Program::build_with("__device__ void f() {\n asm(\"bfind.u32 a, b;\"); }", &RECORDER).unwrap_err();
    assert!(
        matches!(&error, BuildError::UnknownInstruction { line: 2, instruction } if instruction == "bfind.u32 a, b"),
        "{error}"
    );
}

#[test]
fn a_missing_kernel_is_named_with_what_there_is() {
    let program = Program::build_with(
        "extern \"C\" __global__ void __launch_bounds__(128) first() {}\n__global__ void hidden() {}\nextern \"C\" __global__ void second(int);\n\
         #if 0\nextern \"C\" __global__ void third() {}\n#endif",
        &RECORDER,
    )
    .unwrap();
    assert!(program.entry("first").is_ok());
    for missing in ["second", "third", "hidden"] {
        let error = program.entry(missing).unwrap_err();
        assert!(matches!(&error, BuildError::MissingEntry { available, .. } if available == "first"), "{error}");
    }
    assert!(program.parameters("hidden").is_err());
}
