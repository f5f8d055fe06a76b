//! A table that writes down what it is told, and one CUDA thread that runs on the test's own stack.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;

use crate::abi::{Address, Table, ThreadContext, WgmmaArguments};
use crate::host::Program;
use crate::host::library::Line;

/// What a kernel told the table.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) text: String,
    pub(super) lines: Vec<Line>,
    pc: usize,
    address: usize,
}

impl Call {
    /// Whether it is an access to this range.
    pub(super) fn touches(&self, begin: usize, end: usize) -> bool {
        (begin..end).contains(&self.address)
    }
}

pub(super) struct Run {
    pub(super) calls: Vec<Call>,
}

thread_local! {
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(vec![]) };
    static GLOBAL: Cell<usize> = const { Cell::new(0) };
    static STACK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

const GLOBAL_BYTES: usize = 4096;

fn note(pc: usize, address: usize, text: String) {
    CALLS.with_borrow_mut(|calls| calls.push(Call { text, lines: vec![], pc, address }));
}

/// An address as offset in what it points to.
fn place(address: usize) -> String {
    let (global, (begin, end)) = (GLOBAL.get(), STACK.get());
    if (global..global + GLOBAL_BYTES).contains(&address) {
        format!("g+{}", address - global)
    } else if (begin..end).contains(&address) {
        "stack".into()
    } else {
        address.to_string()
    }
}

macro_rules! shown {
    ($value:ident: Address) => {
        place($value)
    };
    ($value:ident: $ty:ident) => {
        $value.to_string()
    };
}

/// Functions that only write down their arguments, and give a fixed result.
macro_rules! notes {
    ($(fn $name:ident($($argument:ident: $ty:ident),*) $(-> $result:ty = $value:expr)?;)*) => {
        $(extern "C" fn $name(pc: Address $(, $argument: $ty)*) $(-> $result)? {
            let arguments: Vec<String> = vec![$(shown!($argument: $ty)),*];
            note(pc, 0, format!("{}({})", stringify!($name), arguments.join(", ")));
            $($value)?
        })*
    };
}

notes! {
    fn shared_address(address: Address) -> u32 = address as u32;
    fn dynamic_shared() -> Address = 256;
    fn static_shared(id: u32, bytes: u32, alignment: u32) -> Address = 512;
    fn atomic_word(address: Address, change: u32, operand: u32, compared: u32, order: u32) -> u32 = 7;
    fn shuffle(mask: u32, value: u32, lane: u32, kind: u32, width: u32) -> u32 = value;
    fn vote(mask: u32, predicate: u32, kind: u32) -> u32 = predicate;
    fn sync_warp(mask: u32);
    fn elect(mask: u32) -> u32 = 1;
    fn barrier_sync(id: u32, threads: u32);
    fn barrier_arrive(id: u32, threads: u32);
    fn fence(kind: u32);
    fn set_registers(count: u32, increase: u32);
    fn copy_async(to: u32, from: Address, bytes: u32, source_bytes: u32);
    fn copy_async_commit();
    fn copy_async_wait(pending: u32);
    fn copy_async_wait_all();
    fn copy_async_arrive(barrier: u32, no_increment: u32);
    fn mbarrier_init(barrier: u32, count: u32);
    fn mbarrier_invalidate(barrier: u32);
    fn mbarrier_expect(barrier: u32, bytes: u32);
    fn mbarrier_arrive(barrier: u32, count: u32, bytes: u32);
    fn mbarrier_wait(barrier: u32, parity: u32, test: u32) -> u32 = 1;
    fn tensor_map_replace(map: Address, field: u32, value: u64);
    fn tensor_map_acquire(map: Address);
    fn bulk_load(to: u32, from: Address, bytes: u32, barrier: u32);
    fn bulk_store(to: Address, from: u32, bytes: u32, add: u32);
    fn bulk_commit();
    fn bulk_wait(pending: u32, read: u32);
    fn wgmma_fence();
    fn wgmma_commit();
    fn wgmma_wait(pending: u32);
    fn trap();
}

/// A list behind a pointer.
fn list<T: Copy>(pointer: *const T, count: usize) -> Vec<T> {
    // SAFETY: the shims of the headers pass arrays of at least `count` elements.
    unsafe { std::slice::from_raw_parts(pointer, count) }.to_vec()
}

extern "C" fn access(pc: Address, address: Address, bytes: u32, write: u32) {
    note(pc, address, format!("access({}, {bytes}, {write})", place(address)));
}

extern "C" fn load_shared(pc: Address, address: u32, to: *mut u8, bytes: u32) {
    note(pc, 0, format!("load_shared({address}, {bytes})"));
    // every byte of shared memory holds its own address
    for offset in 0..bytes {
        // SAFETY: `to` has `bytes` bytes.
        unsafe { *to.add(offset as usize) = (address + offset) as u8 };
    }
}

extern "C" fn store_shared(pc: Address, address: u32, from: *const u8, bytes: u32) {
    let bytes: Vec<String> = list(from, bytes as usize).iter().map(|byte| format!("{byte:02x}")).collect();
    note(pc, 0, format!("store_shared({address}, [{}])", bytes.join(", ")));
}

extern "C" fn atomic_add(pc: Address, address: Address, values: *const f32, count: u32) -> f32 {
    note(pc, 0, format!("atomic_add({}, {:?})", place(address), list(values, count as usize)));
    42.0
}

extern "C" fn load_strong(pc: Address, address: Address, to: *mut u8, bytes: u32, order: u32) {
    note(pc, 0, format!("load_strong({}, {bytes}, {order})", place(address)));
    for offset in 0..bytes {
        // SAFETY: `to` has `bytes` bytes.
        unsafe { *to.add(offset as usize) = 0x10 + offset as u8 };
    }
}

extern "C" fn store_strong(pc: Address, address: Address, from: *const u8, bytes: u32, order: u32) {
    let bytes: Vec<String> = list(from, bytes as usize).iter().map(|byte| format!("{byte:02x}")).collect();
    note(pc, 0, format!("store_strong({}, [{}], {order})", place(address), bytes.join(", ")));
}

extern "C" fn load_matrix(pc: Address, to: *mut u32, count: u32, transposed: u32, address: u32) {
    note(pc, 0, format!("load_matrix({count}, {transposed}, {address})"));
    for index in 0..count {
        // SAFETY: `to` has `count` elements.
        unsafe { *to.add(index as usize) = index + 1 };
    }
}

extern "C" fn store_matrix(pc: Address, from: *const u32, count: u32, transposed: u32, address: u32) {
    note(pc, 0, format!("store_matrix({:?}, {transposed}, {address})", list(from, count as usize)));
}

extern "C" fn multiply(pc: Address, kind: u32, a: *const u32, b: *const u32, c: *mut f32) {
    note(pc, 0, format!("multiply({kind}, {:?}, {:?}, {:?})", list(a, 4), list(b, 2), list(c.cast_const(), 4)));
    for index in 0..4 {
        // SAFETY: `c` has four elements.
        unsafe { *c.add(index) += (index + 1) as f32 };
    }
}

extern "C" fn tensor_load(pc: Address, rank: u32, to: u32, map: Address, barrier: u32, coordinates: *const i32) {
    note(pc, 0, format!("tensor_load({to}, {}, {barrier}, {:?})", place(map), list(coordinates, rank as usize)));
}

extern "C" fn tensor_store(pc: Address, rank: u32, map: Address, from: u32, coordinates: *const i32, add: u32) {
    note(pc, 0, format!("tensor_store({}, {from}, {:?}, {add})", place(map), list(coordinates, rank as usize)));
}

extern "C" fn wgmma(pc: Address, arguments: *const WgmmaArguments) {
    // SAFETY: the shim passes its own structure.
    let arguments = unsafe { *arguments };
    let accumulators = list(arguments.accumulators, arguments.n as usize / 2);
    let a = if arguments.a_is_shared == 1 {
        arguments.a_descriptor.to_string()
    } else {
        format!("{:?}", arguments.a_registers)
    };
    note(
        pc,
        0,
        format!(
            "wgmma({} accumulators, element {}, a {a}, b {}, accumulate {}, signs {} {}, transposed {} {})",
            accumulators.len(),
            arguments.element,
            arguments.b_descriptor,
            arguments.accumulate,
            arguments.a_sign,
            arguments.b_sign,
            arguments.a_transposed,
            arguments.b_transposed
        ),
    );
    for (index, &accumulator) in accumulators.iter().enumerate() {
        // SAFETY: accumulators are registers of the kernel that runs.
        unsafe { *accumulator = 100.0 + index as f32 };
    }
}

pub(super) static RECORDER: Table = Table {
    size: size_of::<Table>() as u64,
    access,
    shared_address,
    dynamic_shared,
    static_shared,
    load_shared,
    store_shared,
    atomic_add,
    load_strong,
    store_strong,
    atomic_word,
    shuffle,
    vote,
    sync_warp,
    elect,
    load_matrix,
    store_matrix,
    multiply,
    barrier_sync,
    barrier_arrive,
    fence,
    set_registers,
    copy_async,
    copy_async_commit,
    copy_async_wait,
    copy_async_wait_all,
    copy_async_arrive,
    mbarrier_init,
    mbarrier_invalidate,
    mbarrier_expect,
    mbarrier_arrive,
    mbarrier_wait,
    tensor_load,
    tensor_store,
    tensor_map_replace,
    tensor_map_acquire,
    bulk_load,
    bulk_store,
    bulk_commit,
    bulk_wait,
    wgmma_fence,
    wgmma,
    wgmma_commit,
    wgmma_wait,
    trap,
};

/// The same without accesses, of which there may be millions.
pub(super) static WITHOUT_ACCESSES: Table = Table { access: ignore, ..RECORDER };

extern "C" fn ignore(_pc: Address, _address: Address, _bytes: u32, _write: u32) {}

/// A program with global memory.
pub(super) struct Harness {
    pub(super) program: Program,
    global: Box<[[u64; 2]; GLOBAL_BYTES / 16]>,
}

impl Harness {
    pub(super) fn new(source: &str) -> Harness {
        Harness::with(source, &RECORDER)
    }

    pub(super) fn with(source: &str, table: &'static Table) -> Harness {
        let program = Program::build_with(source, table).unwrap();
        Harness { program, global: Box::new([[0; 2]; GLOBAL_BYTES / 16]) }
    }

    /// The address of global memory, a multiple of 16.
    pub(super) fn global(&self) -> usize {
        let address = self.global.as_ptr() as usize;
        address.next_multiple_of(16)
    }

    /// The float at an index of global memory.
    pub(super) fn floats(&self, index: usize) -> f32 {
        assert!(index < GLOBAL_BYTES / 4 - 4);
        // SAFETY: the index lies in the box; kernels write it between calls of this function.
        unsafe { ((self.global() + 4 * index) as *const f32).read_volatile() }
    }

    pub(super) fn run(&self, kernel: &str, arguments: &[&[u8]]) -> Run {
        self.run_with(kernel, arguments, 0)
    }

    /// The same with accesses to the stack.
    pub(super) fn run_watched(&self, kernel: &str, arguments: &[&[u8]]) -> Run {
        self.run_with(kernel, arguments, 1)
    }

    fn run_with(&self, kernel: &str, arguments: &[&[u8]], watch_stack: u32) -> Run {
        let marker = 0u8;
        let top = &raw const marker as usize;
        let context = ThreadContext {
            thread: [1, 2, 0],
            block: [5, 6, 7],
            block_extent: [4, 4, 2],
            grid_extent: [8, 9, 10],
            stack_begin: top - 256 * 1024,
            stack_end: top,
            watch_stack,
        };
        CALLS.with_borrow_mut(Vec::clear);
        GLOBAL.set(self.global());
        STACK.set((context.stack_begin, context.stack_end));
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|bytes| bytes.as_ptr().cast_mut().cast()).collect();
        let entry = self.program.entry(kernel).unwrap();
        // SAFETY: the context outlives the call; arguments have the sizes of the kernel's parameters.
        unsafe {
            *self.program.thread_slot() = &raw const context;
            entry(pointers.as_mut_ptr());
            *self.program.thread_slot() = std::ptr::null();
        }
        let mut calls = CALLS.with_borrow_mut(std::mem::take);
        calls.iter_mut().for_each(|call| call.lines = self.program.locate(call.pc));
        Run { calls }
    }
}
