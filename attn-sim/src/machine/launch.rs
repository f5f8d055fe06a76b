//! One block from its first thread to its last: the scheduler's loop.
//!
//! Invariants: blocks run one after another on an OS thread, each with fresh shared memory; a block ends with every thread
//! exited, with a fault, or where it waits for a block that had one.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::null;
use std::sync::Arc;

use super::barrier::Barriers;
use super::clock::Knowledge;
use super::fiber::{Fiber, Stacks, extent};
use super::global::{GlobalView, Watched};
use super::mbarrier::Mbarriers;
use super::memory::SharedMemory;
use super::pending::{Groups, Pending};
use super::progress::Verdict;
use super::registers::Registers;
use super::schedule::Schedule;
use super::tensor_map::MapUser;
use super::trace::Trace;
use super::warp::Collectives;
use super::wgmma::Warpgroup;
use super::word::{SharedWords, Stall, WordUser};
use super::{Actor, Block, Caller, Raised, State, Thread, WARPGROUP, Waiting, entry};
use crate::abi::ThreadContext;
use crate::fault::FaultKind;
use crate::memory::Memory;

/// What all blocks of a launch share.
pub(crate) struct GridLaunch {
    pub(crate) entry: unsafe extern "C" fn(*mut *mut c_void),
    /// The address of each argument's bytes.
    pub(crate) arguments: Vec<usize>,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_memory: u32,
    pub(crate) seed: u64,
    pub(crate) trace: bool,
    pub(crate) limit: u64,
    global: GlobalView,
}

/// How a block ended.
pub(crate) struct BlockOutcome {
    pub(crate) index: [u32; 3],
    pub(crate) fault: Option<Raised>,
    pub(crate) trace: Trace,
    pub(crate) operations: u64,
}

impl GridLaunch {
    #[allow(clippy::too_many_arguments, reason = "the parts of a launch")]
    pub(crate) fn new(
        entry: unsafe extern "C" fn(*mut *mut c_void),
        arguments: Vec<usize>,
        grid: [u32; 3],
        block: [u32; 3],
        shared_memory: u32,
        (seed, trace, limit): (u64, bool, u64),
        memory: &Memory,
    ) -> GridLaunch {
        let buffers = memory.snapshot().into_iter().map(Watched::new).collect();
        let global = GlobalView::new(buffers, grid.iter().product());
        GridLaunch { entry, arguments, grid, block, shared_memory, seed, trace, limit, global }
    }
}

/// Memory that blocks of one OS thread use one after another.
#[derive(Default)]
struct Reused {
    stacks: Stacks,
    shared: Option<SharedMemory>,
}

thread_local! {
    static REUSED: RefCell<Reused> = RefCell::default();
}

/// Runs the block with this number on the calling OS thread. `slot` is where the kernel looks for the running thread.
pub(crate) fn run_block(launch: &Arc<GridLaunch>, number: u32, slot: *mut *const ThreadContext) -> BlockOutcome {
    let [gx, gy, _] = launch.grid;
    let index = [number % gx, number / gx % gy, number / gx / gy];
    let threads = launch.block.iter().product::<u32>() as usize;
    let (mut stacks, mut shared) = REUSED.with_borrow_mut(|reused| {
        (std::mem::take(&mut reused.stacks), reused.shared.take().unwrap_or_else(SharedMemory::new))
    });
    shared.reset(launch.shared_memory);

    let seed = launch.seed.wrapping_add(u64::from(number) << 32);
    let mut block = Box::new(Block {
        number: number + 1,
        threads: (0..threads).map(|thread| self::thread(launch, index, thread, &mut stacks)).collect(),
        schedule: Schedule::new(threads, seed),
        shared,
        global: launch.global.clone(),
        barriers: Barriers::default(),
        mbarriers: Mbarriers::default(),
        collectives: Collectives::new(threads),
        pending: Pending::default(),
        warpgroups: vec![],
        registers: Registers::new(threads),
        trace: Trace::new(launch.trace),
        fault: None,
        operations: 0,
        quiet: 0,
        pollers: vec![],
        stall: Stall::default(),
        agents: threads as Actor,
    });
    for _ in 0..threads / WARPGROUP {
        let agent = block.agent();
        block.warpgroups.push(Warpgroup::new(agent));
    }
    (0..threads).for_each(|thread| block.schedule.ready(thread));

    let running = Running::start(&launch.global.words);
    entry::enter(&mut block);
    // SAFETY: `slot` is this OS thread's, and contexts live as long as the block.
    unsafe { drive(&mut block, slot, launch.limit) };
    entry::leave();
    // SAFETY: as above; no thread of the kernel runs any more.
    unsafe { *slot = null() };
    running.end(&block);

    for thread in &mut block.threads {
        if let Some(fiber) = thread.fiber.take() {
            fiber.recycle(&mut stacks);
        }
    }
    let Block { shared, fault, trace, operations, .. } = *block;
    REUSED.with_borrow_mut(|reused| *reused = Reused { stacks, shared: Some(shared) });
    BlockOutcome { index, fault, trace, operations }
}

/// Tells the other blocks that a block runs, also if the simulator panics.
struct Running<'a> {
    words: &'a SharedWords,
    ended: bool,
}

impl<'a> Running<'a> {
    fn start(words: &'a SharedWords) -> Running<'a> {
        words.lock().progress.start();
        Running { words, ended: false }
    }

    fn end(mut self, block: &Block) {
        self.ended = true;
        self.words.lock().progress.end(block.stall.claim, block.fault.is_some());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.words.lock().progress.end(None, true);
        }
    }
}

fn thread(launch: &Arc<GridLaunch>, index: [u32; 3], number: usize, stacks: &mut Stacks) -> Thread {
    let [x, y, _] = launch.block;
    let linear = number as u32;
    let stack = stacks.take();
    let (stack_begin, stack_end) = extent(&stack);
    let context = Box::new(ThreadContext {
        thread: [linear % x, linear / x % y, linear / x / y],
        block: index,
        block_extent: launch.block,
        grid_extent: launch.grid,
        stack_begin,
        stack_end,
        watch_stack: 0,
    });
    let launch = launch.clone();
    let fiber = Fiber::new(stack, move |suspender| {
        entry::begin(suspender);
        let mut arguments: [*mut c_void; MOST_ARGUMENTS] = [std::ptr::null_mut(); MOST_ARGUMENTS];
        for (slot, &argument) in arguments.iter_mut().zip(&launch.arguments) {
            *slot = argument as *mut c_void;
        }
        // SAFETY: the argument count and sizes were checked against nothing but the caller's promise, as on a GPU; the kernel
        // copies them.
        unsafe { (launch.entry)(arguments.as_mut_ptr()) };
    });
    let mut knowledge = Knowledge::default();
    knowledge.past.set(number as Actor, 1);
    Thread {
        state: State::Runnable,
        context,
        fiber: Some(fiber),
        knowledge,
        granted: 0,
        copies: Groups::default(),
        bulk: Groups::default(),
        bulk_writes: Groups::default(),
        words: WordUser::default(),
        maps: MapUser::default(),
    }
}

/// The most parameters of a kernel.
pub(crate) const MOST_ARGUMENTS: usize = 64;

/// A thread that only polls is given so many turns, times the number of threads, before its block counts as stuck.
const POLLS: u64 = 200;
/// Every so many steps it is looked whether words that threads poll have changed.
const LOOK: u64 = 16;

/// Runs threads until all have exited or one has raised a fault.
///
/// # Safety
/// `slot` must be the calling OS thread's, of the library that the kernel came from.
unsafe fn drive(block: &mut Block, slot: *mut *const ThreadContext, limit: u64) {
    let mut idle = 0;
    while block.fault.is_none() {
        if let Err(raised) = block.land_due() {
            block.fault = Some(raised);
            break;
        }
        if !block.pollers.is_empty() && block.schedule.step.is_multiple_of(LOOK) {
            block.wake_pollers();
        }
        let polling = idle > POLLS * block.threads.len() as u64;
        let next = if polling { None } else { block.schedule.pick() };
        let Some(thread) = next else {
            idle = 0;
            match stuck(block, polling) {
                Ok(true) => continue,
                Ok(false) => break,
                Err(raised) => {
                    block.fault = Some(raised);
                    break;
                }
            }
        };
        let operations = block.operations;
        // SAFETY: as promised by the caller; the context outlives the fiber.
        unsafe { *slot = std::ptr::from_ref(&*block.threads[thread].context) };
        let mut fiber = block.threads[thread].fiber.take().expect("a runnable thread has a fiber");
        entry::switch_to(thread);
        let ended = fiber.resume();
        block.threads[thread].fiber = Some(fiber);
        if ended {
            exited(block, thread);
        } else if block.threads[thread].state == State::Runnable && block.fault.is_none() {
            block.schedule.ready(thread);
            idle += 1;
            continue;
        } else if let State::Polling(..) = block.threads[thread].state {
            block.pollers.push(thread);
        }
        if block.operations > operations {
            idle = 0;
        }
        if block.operations > limit && block.fault.is_none() {
            let who = Caller { thread, pc: entry::last_pc() };
            block.fault = Some(Raised::new(FaultKind::TooLong, who, format!("the limit is {limit}")));
        }
    }
}

fn exited(block: &mut Block, thread: usize) {
    block.threads[thread].state = State::Exited;
    if block.fault.is_none() {
        block.barriers_after_exit();
        if let Err(raised) = block.collectives_after_exit(thread) {
            block.fault = Some(raised);
        }
    }
}

/// Nothing can run: lets a thread look again, lands a load that is on its way, or ends the block; whether it goes on.
fn stuck(block: &mut Block, polling: bool) -> Result<bool, Raised> {
    if block.wake_pollers() || block.land_any_load()? {
        return Ok(true);
    }
    if block.threads.iter().all(|thread| thread.state == State::Exited) {
        return at_exit(block).map(|()| false);
    }
    if !block.pollers.is_empty() {
        match block.stall() {
            Verdict::Again | Verdict::Unless(_) => {
                block.poll_again();
                return Ok(true);
            }
            Verdict::Abandon => return Ok(false),
            Verdict::Deadlock => {}
        }
    }
    Err(deadlock(block, polling))
}

/// Who waits for what.
fn deadlock(block: &Block, polling: bool) -> Raised {
    let mut waits: Vec<(Waiting, super::Address, Vec<usize>)> = vec![];
    for (number, thread) in block.threads.iter().enumerate() {
        if let State::Waiting(waiting, pc) | State::Polling(waiting, pc) = thread.state {
            match waits.iter_mut().find(|(known, at, _)| (*known, *at) == (waiting, pc)) {
                Some((_, _, threads)) => threads.push(number),
                None => waits.push((waiting, pc, vec![number])),
            }
        }
    }
    // what no other block does comes first: it is why the others wait
    waits.sort_by_key(|(waiting, ..)| !matches!(waiting, Waiting::Word { .. }));
    let text = |waiting: &Waiting| match waiting {
        Waiting::Word { address, bytes, value } => {
            let place = block.global.place(*address);
            format!("the {bytes} bytes at {place}, which are {value}, to change; no block can go on")
        }
        _ => waiting.to_string(),
    };
    let exited = block.threads.iter().filter(|thread| thread.state == State::Exited).count();
    let pollers = block.threads.len() - exited - waits.iter().map(|(_, _, threads)| threads.len()).sum::<usize>();
    let mut message = format!("{} of {} threads have not exited", block.threads.len() - exited, block.threads.len());
    if polling {
        message.push_str(&format!(", {pollers} only poll"));
    }
    for (waiting, _, threads) in &waits {
        message.push_str(&format!("\n    {} threads ({}) wait for {}", threads.len(), ranges(threads), text(waiting)));
    }
    let (thread, pc) = waits.first().map_or((0, entry::last_pc()), |(_, pc, threads)| (threads[0], *pc));
    let mut raised = Raised::new(FaultKind::Deadlock, Caller { thread, pc }, message);
    for (waiting, pc, threads) in waits.iter().skip(1) {
        raised = raised.with(format!("{} is waited for by", text(waiting)), Some(threads[0]), *pc);
    }
    let mut addresses: Vec<u32> = waits
        .iter()
        .filter_map(|(waiting, ..)| if let Waiting::Mbarrier(address, _) = waiting { Some(*address) } else { None })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    for address in addresses {
        if let Some((text, thread, pc)) = block.mbarrier_report(address) {
            raised = raised.with(text, Some(thread), pc);
        }
    }
    raised
}

/// Thread numbers as ranges: `0-31, 64`.
fn ranges(threads: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = vec![];
    for &thread in threads {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == thread => *last = thread,
            _ => parts.push((thread, thread)),
        }
    }
    let text = parts.iter().map(|&(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    text.collect::<Vec<_>>().join(", ")
}

/// Every thread has exited: nothing may still need the block's memory.
fn at_exit(block: &mut Block) -> Result<(), Raised> {
    block.barriers_at_exit()?;
    block.land_stores_that_were_read()?;
    block.maps_at_exit()?;
    if let Some((name, by)) = block.pending.unfinished().next() {
        let message = format!("{name} that no thread waited for; shared memory is gone when the block ends");
        return Err(Raised::new(FaultKind::UnfinishedAtExit, by, message));
    }
    debug_assert!(block.warpgroups.iter().all(|warpgroup| !warpgroup.unfinished()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn threads_are_listed_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(ranges(&[]), "");
    }
}
