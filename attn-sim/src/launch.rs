//! Kernels and their launches: the crate's interface.
//!
//! Invariants: blocks start in the order of their numbers; a run is a function of kernel, arguments, memory and seed, whatever the
//! number of OS threads, but for the order of atomic operations of different blocks and what follows from it (on one OS thread there is
//! one order); of several faulty blocks, the first in the grid is reported.

use std::cell::Cell;
use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use crate::fault::{Fault, Line, Place};
use crate::host::{BuildError, Program};
use crate::machine::{BlockOutcome, GridLaunch, MOST_BLOCKS, Raised, run_block};
use crate::memory::Memory;

/// A kernel compiled for the simulator. Cheap to clone.
#[derive(Clone)]
pub struct Kernel {
    program: Arc<Program>,
    entry: unsafe extern "C" fn(*mut *mut c_void),
    name: Arc<str>,
    source: Arc<str>,
}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared_memory: u32,
    /// Decides the order of threads and when asynchronous work completes.
    pub seed: u64,
    /// Whether a timeline is wanted.
    pub trace: bool,
}

/// A launch without a fault.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// The timelines of all blocks, where they were wanted.
    pub trace: Option<String>,
    /// Primitives and checked memory accesses of all threads.
    pub operations: u64,
}

/// A launch that found a fault.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The kernel's name.
    pub kernel: String,
    /// What is wrong and where.
    pub fault: Fault,
    /// With this seed it happens again.
    pub seed: u64,
    /// The timeline of the faulty block, where it was wanted.
    pub trace: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {} with seed {}: {}", self.kernel, self.seed, self.fault)
    }
}

impl std::error::Error for Failure {}

/// Primitives and accesses after which a block is taken to never end.
const LIMIT: u64 = 1 << 34;
/// The most threads of a block.
const MOST_THREADS: u32 = 1024;
const MOST_SHARED: u32 = 227 * 1024;

impl Kernel {
    /// Compiles CUDA text. `entry` is the name of an `extern "C" __global__` function in it.
    ///
    /// # Errors
    /// When there is no C++ compiler, when the text has inline PTX that the simulator does not know, or when it does not compile.
    ///
    /// ```
    /// use attn_sim::{Kernel, Launch, Memory};
    /// let kernel = Kernel::new(
    ///     "extern \"C\" __global__ void __launch_bounds__(32) twice(float* values, int count) {
    ///          if ((int)threadIdx.x < count) values[threadIdx.x] *= 2.f;
    ///      }",
    ///     "twice",
    /// )?;
    /// let memory = Memory::new();
    /// let values = memory.allocate("values", 12);
    /// values.write(0, &[1f32, 2.0, 3.0].map(f32::to_le_bytes).concat());
    /// let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], shared_memory: 0, seed: 0, trace: false };
    /// let arguments = [&values.address().to_le_bytes()[..], &3i32.to_le_bytes()];
    /// kernel.launch(&memory, &launch, &arguments)?;
    /// assert_eq!(values.read(), [2f32, 4.0, 6.0].map(f32::to_le_bytes).concat());
    ///
    /// let beyond = [&values.address().to_le_bytes()[..], &4i32.to_le_bytes()];
    /// let failure = kernel.launch(&memory, &launch, &beyond).unwrap_err();
    /// assert_eq!(failure.fault.kind, attn_sim::FaultKind::OutOfBounds);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(source: &str, entry: &str) -> Result<Kernel, BuildError> {
        let program = Program::build(source)?;
        let function = program.entry(entry)?;
        Ok(Kernel { program: Arc::new(program), entry: function, name: entry.into(), source: source.into() })
    }

    /// Runs the kernel to its end. `arguments` has the bytes of each parameter.
    ///
    /// Blocks are spread over the OS threads of rayon's current pool. One starts when an earlier one has ended, so that a kernel may
    /// wait for blocks that have started, and not for others. A block that waits keeps its OS thread.
    ///
    /// # Errors
    /// When the kernel does something wrong.
    ///
    /// # Panics
    /// When the launch itself is impossible: too many threads, too much shared memory, too many arguments.
    pub fn launch(&self, memory: &Memory, launch: &Launch, arguments: &[&[u8]]) -> Result<Run, Box<Failure>> {
        let threads: u32 = launch.block.iter().product();
        assert!((1..=MOST_THREADS).contains(&threads), "a block has 1 to {MOST_THREADS} threads, not {threads}");
        let blocks = launch.grid.iter().try_fold(1u32, |all, &blocks| all.checked_mul(blocks)).unwrap_or(u32::MAX);
        assert!(blocks <= MOST_BLOCKS, "a launch has {MOST_BLOCKS} blocks at most");
        assert!(launch.shared_memory <= MOST_SHARED, "a block has {MOST_SHARED} bytes of shared memory at most");
        assert!(arguments.len() <= crate::machine::MOST_ARGUMENTS, "too many arguments");
        let parameters = self.program.parameters(&self.name).expect("the kernel was found when it was built");
        let given: Vec<usize> = arguments.iter().map(|bytes| bytes.len()).collect();
        assert!(given == parameters, "{} takes parameters of {parameters:?} bytes, not {given:?}", self.name);
        let copies: Vec<Argument> = arguments.iter().map(|bytes| Argument::new(bytes)).collect();
        let addresses = copies.iter().map(Argument::address).collect();
        let grid = Arc::new(GridLaunch::new(
            self.entry,
            addresses,
            launch.grid,
            launch.block,
            launch.shared_memory,
            (launch.seed, launch.trace, LIMIT),
            memory,
        ));
        let first_fault = AtomicU32::new(u32::MAX);
        // whoever asks gets the next: a part of the grid of its own for each OS thread would start blocks before earlier ones
        let next = AtomicU32::new(0);
        let run = |_| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number > first_fault.load(Ordering::Relaxed) {
                return None;
            }
            let _unnested = Unnested::enter();
            let outcome = run_block(&grid, number, self.program.thread_slot());
            if outcome.fault.is_some() {
                first_fault.fetch_min(number, Ordering::Relaxed);
            }
            Some((number, outcome))
        };
        let mut outcomes: Vec<(u32, BlockOutcome)> = match blocks {
            0 | 1 => (0..blocks).filter_map(run).collect(),
            _ => (0..blocks).into_par_iter().with_max_len(1).filter_map(run).collect(),
        };
        outcomes.sort_unstable_by_key(|&(number, _)| number);
        let line = |pc| self.program.locate(pc).last().map(|line| line.number);
        let mut traces = vec![];
        let mut operations = 0;
        for (_, outcome) in outcomes {
            operations += outcome.operations;
            let trace = outcome.trace.render(outcome.index, line);
            if let Some(raised) = outcome.fault {
                let fault = self.fault(outcome.index, raised);
                let kernel = self.name.to_string();
                return Err(Box::new(Failure { kernel, fault, seed: launch.seed, trace }));
            }
            traces.extend(trace);
        }
        Ok(Run { trace: launch.trace.then(|| traces.join("\n")), operations })
    }

    fn fault(&self, block: [u32; 3], raised: Raised) -> Fault {
        let Raised { kind, message, thread, pc, history } = raised;
        let place =
            |thread: Option<usize>, pc| Place { thread: thread.map(|thread| thread as u32), lines: self.lines(pc) };
        Fault {
            kind,
            message,
            block,
            place: place(Some(thread), pc),
            history: history.into_iter().map(|(what, thread, pc)| (what, place(thread, pc))).collect(),
        }
    }

    /// The lines of the kernel behind an address, innermost first.
    fn lines(&self, pc: usize) -> Vec<Line> {
        let text =
            |number: u32| self.source.lines().nth(number.saturating_sub(1) as usize).unwrap_or("").trim().to_owned();
        let lines = self.program.locate(pc).into_iter();
        lines.map(|line| Line { number: line.number, text: text(line.number) }).collect()
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.name)
    }
}

/// The bytes of an argument, aligned for any parameter.
struct Argument(Vec<Chunk>);

#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Chunk([u8; 128]);

impl Argument {
    fn new(bytes: &[u8]) -> Argument {
        let chunks = bytes.chunks(128).map(|piece| {
            let mut chunk = [0; 128];
            chunk[..piece.len()].copy_from_slice(piece);
            Chunk(chunk)
        });
        Argument(chunks.collect())
    }

    fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

/// Holds while this OS thread runs a block: blocks do not nest.
struct Unnested;

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

impl Unnested {
    fn enter() -> Unnested {
        assert!(!RUNNING.replace(true), "a block runs on this OS thread already");
        Unnested
    }
}

impl Drop for Unnested {
    fn drop(&mut self) {
        RUNNING.set(false);
    }
}
