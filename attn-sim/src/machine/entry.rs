//! The functions of the table: where a kernel's C++ enters the machine.
//!
//! Each finds the running block and thread, runs the primitive, and suspends the thread until it may go on. After a fault the
//! thread is never resumed.
//!
//! Invariants: a function that suspends holds no borrow and owns nothing; only the OS thread that runs a block reaches it.

use std::cell::Cell;
use std::ptr::null_mut;

use super::atomic;
use super::fiber::Suspender;
use super::matrix::{Fragments, MatrixRows};
use super::mbarrier::Arrival;
use super::warp::Shuffle;
use super::word::{Change, Order};
use super::{Block, Caller, Raised, State, Step};
use crate::abi::{Address, WgmmaArguments};
use crate::fault::FaultKind;
use crate::machine::global::GlobalAccess;

thread_local! {
    static BLOCK: Cell<*mut Block> = const { Cell::new(null_mut()) };
    static THREAD: Cell<usize> = const { Cell::new(0) };
    static PC: Cell<Address> = const { Cell::new(0) };
    /// Of the fiber that is starting.
    static SUSPENDERS: Cell<*mut Vec<Option<Suspender>>> = const { Cell::new(null_mut()) };
}

/// From now on this OS thread runs `block`.
pub(super) fn enter(block: &mut Block) {
    BLOCK.set(block);
    let suspenders: Vec<Option<Suspender>> = vec![None; block.threads.len()];
    SUSPENDERS.set(Box::into_raw(Box::new(suspenders)));
}

pub(super) fn leave() {
    BLOCK.set(null_mut());
    // SAFETY: made by `enter`, and no fiber runs any more.
    drop(unsafe { Box::from_raw(SUSPENDERS.replace(null_mut())) });
}

/// The thread that is resumed next.
pub(super) fn switch_to(thread: usize) {
    THREAD.set(thread);
}

/// Where the last primitive was called from.
pub(super) fn last_pc() -> Address {
    PC.get()
}

/// The running thread can be suspended by this.
pub(super) fn begin(suspender: Suspender) {
    // SAFETY: set by `enter`; nothing else borrows it now.
    unsafe { (&mut *SUSPENDERS.get())[THREAD.get()] = Some(suspender) };
}

fn suspend() {
    // SAFETY: set by `enter`; nothing else borrows it now.
    let suspender = unsafe { (&*SUSPENDERS.get())[THREAD.get()] }.expect("a running thread has begun");
    // SAFETY: the suspender is that of the running fiber.
    unsafe { suspender.suspend() };
}

/// Runs a primitive that may wait; what it, or the thread that grants it, gives.
fn waiting<T: From<u64>>(pc: Address, primitive: impl FnOnce(&mut Block, Caller) -> Result<Step<T>, Raised>) -> T {
    let caller = Caller { thread: THREAD.get(), pc };
    PC.set(pc);
    let step = {
        // SAFETY: this OS thread runs the block, and nothing else borrows it while a thread of the kernel runs.
        let block = unsafe { &mut *BLOCK.get() };
        block.operations += 1;
        match primitive(block, caller) {
            Ok(Step::Wait(waiting)) => {
                block.threads[caller.thread].state = State::Waiting(waiting, pc);
                None
            }
            Ok(Step::Yield(value)) => {
                block.operations -= 1;
                Some((value, true))
            }
            Ok(Step::Poll(value, waiting)) => {
                block.operations -= 1;
                block.threads[caller.thread].state = State::Polling(waiting, pc);
                Some((value, true))
            }
            Ok(Step::Done(value)) => Some((value, false)),
            Err(raised) => {
                block.fault = Some(raised);
                None
            }
        }
    };
    match step {
        Some((value, false)) => value,
        Some((value, true)) => {
            suspend();
            value
        }
        None => {
            suspend();
            // SAFETY: as above.
            T::from(unsafe { (&*BLOCK.get()).threads[caller.thread].granted })
        }
    }
}

/// A result that is nothing.
struct Nothing;

impl From<u64> for Nothing {
    fn from(_: u64) -> Nothing {
        Nothing
    }
}

fn step(pc: Address, primitive: impl FnOnce(&mut Block, Caller) -> Result<Step<()>, Raised>) {
    let Nothing = waiting(pc, |block, caller| {
        Ok(match primitive(block, caller)? {
            Step::Done(()) => Step::Done(Nothing),
            Step::Yield(()) => Step::Yield(Nothing),
            Step::Poll((), waiting) => Step::Poll(Nothing, waiting),
            Step::Wait(waiting) => Step::Wait(waiting),
        })
    });
}

/// The same for a primitive that changes nothing.
fn quiet_step(pc: Address, primitive: impl FnOnce(&mut Block, Caller) -> Result<Step<()>, Raised>) {
    step(pc, |block, caller| {
        block.quiet += 1;
        primitive(block, caller)
    });
}

/// Runs a primitive that does not wait.
fn now<T: Copy>(pc: Address, otherwise: T, primitive: impl FnOnce(&mut Block, Caller) -> Result<T, Raised>) -> T {
    let mut result = otherwise;
    step(pc, |block, caller| {
        result = primitive(block, caller)?;
        Ok(Step::Done(()))
    });
    result
}

fn full_warp(block: &Block, caller: Caller, name: &str) -> Result<(), Raised> {
    if block.threads.len() >= (caller.warp() + 1) * super::WARP {
        return Ok(());
    }
    Err(Raised::new(FaultKind::Divergence, caller, format!("{name} in a warp of fewer than 32 threads")))
}

pub(crate) extern "C" fn access(pc: Address, address: Address, bytes: u32, write: u32) {
    now(pc, (), |block, caller| {
        block.quiet += u64::from(write == 0);
        block.access(caller, address, bytes, write != 0)
    });
}

pub(crate) extern "C" fn shared_address(pc: Address, address: Address) -> u32 {
    now(pc, 0, |block, caller| {
        let offset = block.shared.offset_of(address).ok_or_else(|| {
            let message = format!("{address:#x} is no address of shared memory");
            Raised::new(FaultKind::OutOfBounds, caller, message)
        })?;
        Ok(block.shared.address_of(offset))
    })
}

pub(crate) extern "C" fn dynamic_shared(pc: Address) -> Address {
    now(pc, 0, |block, _| Ok(block.shared.begin()))
}

pub(crate) extern "C" fn static_shared(pc: Address, id: u32, bytes: u32, alignment: u32) -> Address {
    now(pc, 0, |block, caller| block.shared.variable(caller, id, bytes, alignment))
}

pub(crate) extern "C" fn load_shared(pc: Address, address: u32, to: *mut u8, bytes: u32) {
    now(pc, (), |block, caller| {
        block.quiet += 1;
        let offset = block.read_shared(caller, address, bytes, bytes)?;
        // SAFETY: the kernel passes room for so many bytes in its registers.
        block.shared.read(offset, unsafe { std::slice::from_raw_parts_mut(to, bytes as usize) });
        Ok(())
    });
}

pub(crate) extern "C" fn store_shared(pc: Address, address: u32, from: *const u8, bytes: u32) {
    now(pc, (), |block, caller| {
        let offset = block.write_shared(caller, address, bytes, bytes)?;
        // SAFETY: the kernel passes so many bytes of its registers.
        block.shared.write(offset, unsafe { std::slice::from_raw_parts(from, bytes as usize) });
        Ok(())
    });
}

pub(crate) extern "C" fn atomic_add(pc: Address, address: Address, values: *const f32, count: u32) -> f32 {
    now(pc, 0.0, |block, caller| {
        let bytes = 4 * count;
        block.check_global(caller, address, bytes, GlobalAccess::Add)?;
        if !address.is_multiple_of(bytes as usize) {
            let message = format!("an addition to {count} floats at {address:#x}");
            return Err(Raised::new(FaultKind::Misaligned, caller, message));
        }
        // SAFETY: checked to lie in a live buffer; `values` are registers.
        let values = unsafe { std::slice::from_raw_parts(values, count as usize) };
        let mut first = 0.0;
        for (at, &value) in values.iter().enumerate() {
            // SAFETY: as above.
            let old = unsafe { atomic::add_f32(address + 4 * at, value) };
            if at == 0 {
                first = old;
            }
        }
        Ok(first)
    })
}

pub(crate) extern "C" fn load_strong(pc: Address, address: Address, to: *mut u8, bytes: u32, order: u32) {
    step(pc, |block, caller| {
        let (value, step) = block.load_strong(caller, address, bytes, Order::new(order))?;
        // SAFETY: the kernel passes room for so many bytes, at most 16, in its registers.
        unsafe { to.copy_from_nonoverlapping(value.to_le_bytes().as_ptr(), bytes as usize) };
        Ok(step)
    });
}

pub(crate) extern "C" fn store_strong(pc: Address, address: Address, from: *const u8, bytes: u32, order: u32) {
    now(pc, (), |block, caller| {
        let mut value = [0; 16];
        // SAFETY: the kernel passes so many bytes, at most 16, of its registers.
        unsafe { value.as_mut_ptr().copy_from_nonoverlapping(from, bytes as usize) };
        block.store_strong(caller, address, bytes, u128::from_le_bytes(value), Order::new(order))
    });
}

pub(crate) extern "C" fn atomic_word(
    pc: Address,
    address: Address,
    change: u32,
    operand: u32,
    compared: u32,
    order: u32,
) -> u32 {
    let mut old = 0;
    step(pc, |block, caller| {
        let (change, order) = (Change::new(change), Order::new(order));
        let (value, step) = block.change_word(caller, address, change, operand, compared, order)?;
        old = value;
        Ok(step)
    });
    old
}

pub(crate) extern "C" fn shuffle(pc: Address, mask: u32, value: u32, lane: u32, kind: u32, width: u32) -> u32 {
    let mut payload = Shuffle { value, lane };
    quiet_step(pc, |block, caller| block.shuffle(caller, mask, kind, width, &mut payload));
    payload.value
}

pub(crate) extern "C" fn vote(pc: Address, mask: u32, predicate: u32, kind: u32) -> u32 {
    let mut payload = predicate;
    quiet_step(pc, |block, caller| block.vote(caller, mask, kind, &mut payload));
    payload
}

pub(crate) extern "C" fn sync_warp(pc: Address, mask: u32) {
    quiet_step(pc, |block, caller| block.sync_warp(caller, mask));
}

pub(crate) extern "C" fn elect(pc: Address, mask: u32) -> u32 {
    let mut payload = 0;
    quiet_step(pc, |block, caller| block.elect(caller, mask, &mut payload));
    payload
}

pub(crate) extern "C" fn load_matrix(pc: Address, to: *mut u32, count: u32, transposed: u32, address: u32) {
    let mut payload = MatrixRows { address, registers: [0; 4] };
    quiet_step(pc, |block, caller| {
        full_warp(block, caller, "ldmatrix")?;
        block.load_matrix(caller, count, transposed != 0, &mut payload)
    });
    // SAFETY: the kernel passes room for `count` registers.
    unsafe { to.copy_from_nonoverlapping(payload.registers.as_ptr(), count as usize) };
}

pub(crate) extern "C" fn store_matrix(pc: Address, from: *const u32, count: u32, transposed: u32, address: u32) {
    let mut payload = MatrixRows { address, registers: [0; 4] };
    // SAFETY: the kernel passes `count` registers.
    unsafe { payload.registers.as_mut_ptr().copy_from_nonoverlapping(from, count as usize) };
    step(pc, |block, caller| {
        full_warp(block, caller, "stmatrix")?;
        block.store_matrix(caller, count, transposed != 0, &mut payload)
    });
}

pub(crate) extern "C" fn multiply(pc: Address, kind: u32, a: *const u32, b: *const u32, c: *mut f32) {
    // SAFETY: the kernel passes four registers of A, two of B and four of C.
    let mut payload =
        unsafe { Fragments { a: *a.cast::<[u32; 4]>(), b: *b.cast::<[u32; 2]>(), c: *c.cast::<[f32; 4]>() } };
    step(pc, |block, caller| {
        full_warp(block, caller, "mma.sync")?;
        block.multiply(caller, kind, &mut payload)
    });
    // SAFETY: as above.
    unsafe { *c.cast::<[f32; 4]>() = payload.c };
}

pub(crate) extern "C" fn barrier_sync(pc: Address, id: u32, threads: u32) {
    step(pc, |block, caller| block.barrier(caller, id, threads, true));
}

pub(crate) extern "C" fn barrier_arrive(pc: Address, id: u32, threads: u32) {
    step(pc, |block, caller| block.barrier(caller, id, threads, false));
}

pub(crate) extern "C" fn fence(pc: Address, kind: u32) {
    now(pc, (), |block, caller| {
        block.quiet += 1;
        let knowledge = &mut block.threads[caller.thread].knowledge;
        match kind {
            0..=2 => knowledge.published = knowledge.past.clone(),
            3 => knowledge.announced = knowledge.past.clone(),
            5 => block.fence_words(caller),
            6 => block.release_maps(caller),
            _ => {}
        }
        let step = block.schedule.step;
        block.trace.note(step, caller, || (if kind <= 2 { "fence.proxy.async" } else { "fence" }).to_owned());
        Ok(())
    });
}

pub(crate) extern "C" fn set_registers(pc: Address, count: u32, increase: u32) {
    step(pc, |block, caller| block.change_registers(caller, count, increase != 0));
}

pub(crate) extern "C" fn copy_async(pc: Address, to: u32, from: Address, bytes: u32, source_bytes: u32) {
    now(pc, (), |block, caller| block.copy_async(caller, to, from, bytes, source_bytes));
}

pub(crate) extern "C" fn copy_async_commit(pc: Address) {
    now(pc, (), |block, caller| {
        block.copy_async_commit(caller);
        Ok(())
    });
}

pub(crate) extern "C" fn copy_async_wait(pc: Address, pending: u32) {
    now(pc, (), |block, caller| block.copy_async_wait(caller, Some(pending)));
}

pub(crate) extern "C" fn copy_async_wait_all(pc: Address) {
    now(pc, (), |block, caller| block.copy_async_wait(caller, None));
}

pub(crate) extern "C" fn copy_async_arrive(pc: Address, barrier: u32, no_increment: u32) {
    now(pc, (), |block, caller| block.copy_async_arrive(caller, barrier, no_increment != 0));
}

pub(crate) extern "C" fn mbarrier_init(pc: Address, barrier: u32, count: u32) {
    now(pc, (), |block, caller| block.mbarrier_init(caller, barrier, count));
}

pub(crate) extern "C" fn mbarrier_invalidate(pc: Address, barrier: u32) {
    now(pc, (), |block, caller| block.mbarrier_invalidate(caller, barrier));
}

pub(crate) extern "C" fn mbarrier_expect(pc: Address, barrier: u32, bytes: u32) {
    now(pc, (), |block, caller| block.mbarrier_expect(caller, barrier, bytes));
}

pub(crate) extern "C" fn mbarrier_arrive(pc: Address, barrier: u32, count: u32, bytes: u32) {
    now(pc, (), |block, caller| block.mbarrier_arrive(caller, barrier, Arrival { count, bytes, extra: false }));
}

pub(crate) extern "C" fn mbarrier_wait(pc: Address, barrier: u32, parity: u32, test: u32) -> u32 {
    waiting::<u64>(pc, |block, caller| block.mbarrier_wait(caller, barrier, parity, test != 0)) as u32
}

pub(crate) extern "C" fn tensor_load(pc: Address, rank: u32, to: u32, map: Address, barrier: u32, at: *const i32) {
    // SAFETY: the kernel passes `rank` coordinates.
    let coordinates = unsafe { std::slice::from_raw_parts(at, rank as usize) };
    now(pc, (), |block, caller| block.tensor_load(caller, rank, to, map, barrier, coordinates));
}

pub(crate) extern "C" fn tensor_store(pc: Address, rank: u32, map: Address, from: u32, at: *const i32, add: u32) {
    // SAFETY: the kernel passes `rank` coordinates.
    let coordinates = unsafe { std::slice::from_raw_parts(at, rank as usize) };
    now(pc, (), |block, caller| block.tensor_store(caller, rank, map, from, coordinates, add != 0));
}

pub(crate) extern "C" fn tensor_map_replace(pc: Address, map: Address, field: u32, value: u64) {
    now(pc, (), |block, caller| block.replace_in_map(caller, map, field, value));
}

pub(crate) extern "C" fn tensor_map_acquire(pc: Address, map: Address) {
    now(pc, (), |block, caller| block.acquire_map(caller, map));
}

pub(crate) extern "C" fn bulk_load(pc: Address, to: u32, from: Address, bytes: u32, barrier: u32) {
    now(pc, (), |block, caller| block.bulk_load(caller, to, from, bytes, barrier));
}

pub(crate) extern "C" fn bulk_store(pc: Address, to: Address, from: u32, bytes: u32, add: u32) {
    now(pc, (), |block, caller| block.bulk_store(caller, to, from, bytes, add != 0));
}

pub(crate) extern "C" fn bulk_commit(pc: Address) {
    now(pc, (), |block, caller| {
        block.bulk_commit(caller);
        Ok(())
    });
}

pub(crate) extern "C" fn bulk_wait(pc: Address, pending: u32, read: u32) {
    now(pc, (), |block, caller| block.bulk_wait(caller, pending, read != 0));
}

pub(crate) extern "C" fn wgmma_fence(pc: Address) {
    now(pc, (), |block, caller| block.wgmma_fence(caller));
}

pub(crate) extern "C" fn wgmma(pc: Address, arguments: *const WgmmaArguments) {
    // SAFETY: the kernel passes its arguments.
    let arguments = unsafe { *arguments };
    step(pc, |block, caller| block.wgmma(caller, &arguments));
}

pub(crate) extern "C" fn wgmma_commit(pc: Address) {
    step(pc, |block, caller| block.wgmma_commit(caller));
}

pub(crate) extern "C" fn wgmma_wait(pc: Address, pending: u32) {
    step(pc, |block, caller| block.wgmma_wait(caller, pending));
}

pub(crate) extern "C" fn trap(pc: Address) {
    now(pc, (), |_, caller| Err(Raised::new(FaultKind::Trap, caller, "the kernel executed a trap")));
}
