// The other side of `abi.rs`: the same structures, in the same order, and the three symbols that the simulator looks up.
// Nothing of the standard library is included here or in any other header: that keeps a compilation at a fraction of a second.
namespace attn_sim {
typedef unsigned long long u64;
typedef unsigned int u32;

struct ThreadContext {
    u32 thread[3], block[3], block_extent[3], grid_extent[3];
    u64 stack_begin, stack_end;
    u32 watch_stack;
};

struct WgmmaArguments {
    float* const* accumulators;
    u32 n, element, a_is_shared, a_registers[4];
    u64 a_descriptor, b_descriptor;
    u32 accumulate;
    int a_sign, b_sign;
    u32 a_transposed, b_transposed;
};

struct Table {
    u64 size;
    void (*access)(u64 pc, u64 address, u32 bytes, u32 write);
    u32 (*shared_address)(u64 pc, u64 address);
    u64 (*dynamic_shared)(u64 pc);
    u64 (*static_shared)(u64 pc, u32 id, u32 bytes, u32 alignment);
    void (*load_shared)(u64 pc, u32 address, void* to, u32 bytes);
    void (*store_shared)(u64 pc, u32 address, const void* from, u32 bytes);
    float (*atomic_add)(u64 pc, u64 address, const float* values, u32 count);
    void (*load_strong)(u64 pc, u64 address, void* to, u32 bytes, u32 order);
    void (*store_strong)(u64 pc, u64 address, const void* from, u32 bytes, u32 order);
    u32 (*atomic_word)(u64 pc, u64 address, u32 change, u32 operand, u32 compared, u32 order);

    u32 (*shuffle)(u64 pc, u32 mask, u32 value, u32 lane, u32 kind, u32 width);
    u32 (*vote)(u64 pc, u32 mask, u32 predicate, u32 kind);
    void (*sync_warp)(u64 pc, u32 mask);
    u32 (*elect)(u64 pc, u32 mask);
    void (*load_matrix)(u64 pc, u32* to, u32 count, u32 transposed, u32 address);
    void (*store_matrix)(u64 pc, const u32* from, u32 count, u32 transposed, u32 address);
    void (*multiply)(u64 pc, u32 kind, const u32* a, const u32* b, float* c);

    void (*barrier_sync)(u64 pc, u32 id, u32 threads);
    void (*barrier_arrive)(u64 pc, u32 id, u32 threads);
    void (*fence)(u64 pc, u32 kind);
    void (*set_registers)(u64 pc, u32 count, u32 increase);

    void (*copy_async)(u64 pc, u32 to, u64 from, u32 bytes, u32 source_bytes);
    void (*copy_async_commit)(u64 pc);
    void (*copy_async_wait)(u64 pc, u32 pending);
    void (*copy_async_wait_all)(u64 pc);
    void (*copy_async_arrive)(u64 pc, u32 barrier, u32 no_increment);

    void (*mbarrier_init)(u64 pc, u32 barrier, u32 count);
    void (*mbarrier_invalidate)(u64 pc, u32 barrier);
    void (*mbarrier_expect)(u64 pc, u32 barrier, u32 bytes);
    void (*mbarrier_arrive)(u64 pc, u32 barrier, u32 count, u32 bytes);
    u32 (*mbarrier_wait)(u64 pc, u32 barrier, u32 parity, u32 test);

    void (*tensor_load)(u64 pc, u32 rank, u32 to, u64 map, u32 barrier, const int* coordinates);
    void (*tensor_store)(u64 pc, u32 rank, u64 map, u32 from, const int* coordinates, u32 add);
    void (*tensor_map_replace)(u64 pc, u64 map, u32 field, u64 value);
    void (*tensor_map_acquire)(u64 pc, u64 map);
    void (*bulk_load)(u64 pc, u32 to, u64 from, u32 bytes, u32 barrier);
    void (*bulk_store)(u64 pc, u64 to, u32 from, u32 bytes, u32 add);
    void (*bulk_commit)(u64 pc);
    void (*bulk_wait)(u64 pc, u32 pending, u32 read);

    void (*wgmma_fence)(u64 pc);
    void (*wgmma)(u64 pc, const WgmmaArguments* arguments);
    void (*wgmma_commit)(u64 pc);
    void (*wgmma_wait)(u64 pc, u32 pending);

    void (*trap)(u64 pc);
};

static const Table* table;
static thread_local const ThreadContext* context;

// A function that the simulator hears of: never inlined, so that its return address lies in the kernel, and never checked.
#define ATTN_SIM_SHIM __attribute__((noinline, unused, no_sanitize("thread"))) static
// Arithmetic: part of the kernel's own code.
#define ATTN_SIM_INLINE inline __attribute__((always_inline, unused))
#define ATTN_SIM_PC ((attn_sim::u64)__builtin_return_address(0))
#define ATTN_SIM_EXPORT extern "C" __attribute__((visibility("default"), used, noinline, no_sanitize("thread")))
}  // namespace attn_sim

// Answers with the size of this side's table.
ATTN_SIM_EXPORT attn_sim::u64 attn_sim_bind(const attn_sim::Table* table) {
    attn_sim::table = table;
    return sizeof(attn_sim::Table);
}
ATTN_SIM_EXPORT const attn_sim::ThreadContext** attn_sim_thread() { return &attn_sim::context; }
extern "C" __attribute__((visibility("hidden"))) char __ehdr_start, _end;
// The address at which the object lies, from which debug information counts.
ATTN_SIM_EXPORT attn_sim::u64 attn_sim_base() { return (attn_sim::u64)&__ehdr_start; }
