//! What the simulator and a kernel compiled for the host say to each other.
//!
//! The kernel's shared object exports three symbols (`host/device/` defines them):
//! * `attn_sim_bind(const Table*)`: called once after loading;
//! * `attn_sim_thread()`: the address of the calling OS thread's pointer to the running CUDA thread's [`ThreadContext`];
//! * `attn_sim_ENTRY(void** arguments)`: runs the kernel `ENTRY` as the running CUDA thread; every argument is copied.
//!
//! Everything that the simulator must see, the kernel reports through the table, with `pc`, the address in the kernel to which
//! the report returns, so that debug information gives the kernel's line.
//!
//! Invariants: [`Table`] and [`ThreadContext`] have the layout of the structures of the same name in
//! `host/device/abi.hpp` (`host/tests.rs` compares them); no function of the table unwinds; a function that waits suspends the calling CUDA thread.

/// A pointer to what the other side owns.
pub(crate) type Address = usize;

/// What a CUDA thread knows about itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ThreadContext {
    pub(crate) thread: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) block_extent: [u32; 3],
    pub(crate) grid_extent: [u32; 3],
    /// The thread's stack: what lies in it is registers and local memory.
    pub(crate) stack_begin: Address,
    pub(crate) stack_end: Address,
    /// Whether the simulator wants to see accesses to the stack: some registers belong to an unfinished operation.
    pub(crate) watch_stack: u32,
}

/// One `wgmma.mma_async` of a thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct WgmmaArguments {
    /// `n / 2` pointers to the thread's accumulator registers (f32), in the order of the instruction.
    pub(crate) accumulators: *const *mut f32,
    /// Columns of the accumulator: a multiple of 8 from 8 to 256.
    pub(crate) n: u32,
    /// 0: f16, 1: bf16.
    pub(crate) element: u32,
    /// Whether A comes from shared memory (`a_descriptor`) or registers (`a_registers`).
    pub(crate) a_is_shared: u32,
    pub(crate) a_registers: [u32; 4],
    pub(crate) a_descriptor: u64,
    pub(crate) b_descriptor: u64,
    /// Whether the product is added to the accumulators or replaces them.
    pub(crate) accumulate: u32,
    /// -1 or 1.
    pub(crate) a_sign: i32,
    pub(crate) b_sign: i32,
    /// Whether an operand in shared memory is stored with its rows (columns of B) contiguous instead of its depth.
    pub(crate) a_transposed: u32,
    pub(crate) b_transposed: u32,
}

macro_rules! table {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $ty:ty),*) $(-> $result:ty)?;)*) => {
        /// The simulator's side of every primitive.
        #[repr(C)]
        pub(crate) struct Table {
            /// Bytes of this structure, which both sides compare.
            pub(crate) size: u64,
            $($(#[$doc])* pub(crate) $name: extern "C" fn(pc: Address $(, $argument: $ty)*) $(-> $result)?,)*
        }

        #[cfg(test)]
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// The table of this process.
        pub(crate) static TABLE: Table = Table {
            size: size_of::<Table>() as u64,
            $($name: crate::machine::entry::$name,)*
        };
    };
}

table! {
    /// A load or store of C++ that is not known to be harmless, before it happens.
    fn access(address: Address, bytes: u32, write: u32);
    /// `__cvta_generic_to_shared`.
    fn shared_address(address: Address) -> u32;
    /// The block's dynamic shared memory.
    fn dynamic_shared() -> Address;
    /// The static shared variable with this number, counted over the source from 0.
    fn static_shared(id: u32, bytes: u32, alignment: u32) -> Address;
    /// `ld.shared`: copies to registers. The address must be a multiple of `bytes`.
    fn load_shared(address: u32, to: *mut u8, bytes: u32);
    /// `st.shared`.
    fn store_shared(address: u32, from: *const u8, bytes: u32);
    /// Adds `count` floats to global memory; returns what the first was.
    fn atomic_add(address: Address, values: *const f32, count: u32) -> f32;
    /// A load of global memory that other threads may wait with: at most 16 bytes, a multiple of which the address is. `order` is
    /// the sum of 1 for an acquire, 2 for a release, and 4 for a scope of more than the block.
    fn load_strong(address: Address, to: *mut u8, bytes: u32, order: u32);
    /// Such a store.
    fn store_strong(address: Address, from: *const u8, bytes: u32, order: u32);
    /// An atomic operation on 32 bits of global memory: `change` 0 add, 1 inc, 2 exch, 3 cas. Returns what they were.
    fn atomic_word(address: Address, change: u32, operand: u32, compared: u32, order: u32) -> u32;

    /// `shfl.sync`: `kind` 0 up, 1 down, 2 xor, 3 indexed.
    fn shuffle(mask: u32, value: u32, lane: u32, kind: u32, width: u32) -> u32;
    /// `vote.sync`: `kind` 0 any, 1 all, 2 ballot.
    fn vote(mask: u32, predicate: u32, kind: u32) -> u32;
    /// `__syncwarp`.
    fn sync_warp(mask: u32);
    /// `elect.sync`: whether this lane is the one.
    fn elect(mask: u32) -> u32;
    /// `ldmatrix` of `count` 8 x 8 matrices.
    fn load_matrix(to: *mut u32, count: u32, transposed: u32, address: u32);
    /// `stmatrix`.
    fn store_matrix(from: *const u32, count: u32, transposed: u32, address: u32);
    /// `mma.sync`: `kind` 0 m16n8k16 f16, 1 m16n8k16 bf16, 2 m16n8k8 tf32. `c` holds four floats and receives the result.
    fn multiply(kind: u32, a: *const u32, b: *const u32, c: *mut f32);

    /// `bar.sync`; `threads` is 0 for all threads of the block.
    fn barrier_sync(id: u32, threads: u32);
    /// `bar.arrive`.
    fn barrier_arrive(id: u32, threads: u32);
    /// A fence: `kind` 0 proxy.async of shared memory, 1 proxy.async of global memory, 2 proxy.async of both, 3 mbarrier_init,
    /// 4 `__threadfence_block` (of a cluster, too), 5 `__threadfence` and wider, 6 the release of tensor maps.
    fn fence(kind: u32);
    /// `setmaxnreg`.
    fn set_registers(count: u32, increase: u32);

    /// `cp.async`: copies `source_bytes` and clears the rest of `bytes`.
    fn copy_async(to: u32, from: Address, bytes: u32, source_bytes: u32);
    /// `cp.async.commit_group`.
    fn copy_async_commit();
    /// `cp.async.wait_group`.
    fn copy_async_wait(pending: u32);
    /// `cp.async.wait_all`.
    fn copy_async_wait_all();
    /// `cp.async.mbarrier.arrive`: an arrival once this thread's copies have landed.
    fn copy_async_arrive(barrier: u32, no_increment: u32);

    /// `mbarrier.init`.
    fn mbarrier_init(barrier: u32, count: u32);
    /// `mbarrier.inval`.
    fn mbarrier_invalidate(barrier: u32);
    /// `mbarrier.expect_tx`.
    fn mbarrier_expect(barrier: u32, bytes: u32);
    /// `mbarrier.arrive`, after `mbarrier.expect_tx` of `bytes` if there are any.
    fn mbarrier_arrive(barrier: u32, count: u32, bytes: u32);
    /// `mbarrier.try_wait.parity` (which waits), or `mbarrier.test_wait.parity` where `test`.
    fn mbarrier_wait(barrier: u32, parity: u32, test: u32) -> u32;

    /// `cp.async.bulk.tensor` to shared memory.
    fn tensor_load(rank: u32, to: u32, map: Address, barrier: u32, coordinates: *const i32);
    /// `cp.async.bulk.tensor` from shared memory, or `cp.reduce.async.bulk.tensor` with `.add`.
    fn tensor_store(rank: u32, map: Address, from: u32, coordinates: *const i32, add: u32);
    /// `tensormap.replace` in global memory: `field` 0 the address, 1 and more the extents from the innermost axis on.
    fn tensor_map_replace(map: Address, field: u32, value: u64);
    /// `fence.proxy.tensormap::generic.acquire`.
    fn tensor_map_acquire(map: Address);
    /// `cp.async.bulk` from global to shared memory.
    fn bulk_load(to: u32, from: Address, bytes: u32, barrier: u32);
    /// `cp.async.bulk` from shared to global memory, or `cp.reduce.async.bulk` with `.add.f32`.
    fn bulk_store(to: Address, from: u32, bytes: u32, add: u32);
    /// `cp.async.bulk.commit_group`.
    fn bulk_commit();
    /// `cp.async.bulk.wait_group`, or `.read`.
    fn bulk_wait(pending: u32, read: u32);

    /// `wgmma.fence`.
    fn wgmma_fence();
    /// `wgmma.mma_async`.
    fn wgmma(arguments: *const WgmmaArguments);
    /// `wgmma.commit_group`.
    fn wgmma_commit();
    /// `wgmma.wait_group`.
    fn wgmma_wait(pending: u32);

    /// `__trap`.
    fn trap();
}
