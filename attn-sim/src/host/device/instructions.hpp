// PTX instructions that the simulator carries out. Registers go in and out by value, so that they stay out of memory; only the
// accumulators of `wgmma` are passed by reference, since they are written later.
namespace attn_sim {
struct Words { u32 word[4]; };
struct Reals { float real[4]; };

// Memory. Global and generic addresses are those of the host.
template <u32 BYTES> ATTN_SIM_SHIM Words load_shared(u32 address) {
    Words to = {};
    table->load_shared(ATTN_SIM_PC, address, to.word, BYTES);
    return to;
}
template <u32 BYTES> ATTN_SIM_SHIM void store_shared(u32 address, Words from) { table->store_shared(ATTN_SIM_PC, address, from.word, BYTES); }
template <u32 BYTES> ATTN_SIM_SHIM Words load_global(u64 address) {
    Words to = {};
    report(ATTN_SIM_PC, address, BYTES, 0);
    __builtin_memcpy(to.word, (const void*)address, BYTES);
    return to;
}
template <u32 BYTES> ATTN_SIM_SHIM void store_global(u64 address, Words from) {
    report(ATTN_SIM_PC, address, BYTES, 1);
    __builtin_memcpy((void*)address, from.word, BYTES);
}
template <u32 COUNT> ATTN_SIM_SHIM float atomic_add(u64 address, float a, float b, float c, float d) {
    const float values[4] = {a, b, c, d};
    return table->atomic_add(ATTN_SIM_PC, address, values, COUNT);
}
template <u32 BYTES> ATTN_SIM_SHIM Words load_strong(u64 address, u32 order) {
    Words to = {};
    table->load_strong(ATTN_SIM_PC, address, to.word, BYTES, order);
    return to;
}
template <u32 BYTES> ATTN_SIM_SHIM void store_strong(u64 address, Words from, u32 order) {
    table->store_strong(ATTN_SIM_PC, address, from.word, BYTES, order);
}
ATTN_SIM_SHIM u32 atomic_word(u64 address, u32 change, u32 operand, u32 compared, u32 order) {
    return table->atomic_word(ATTN_SIM_PC, address, change, operand, compared, order);
}
ATTN_SIM_SHIM u32 generic_to_shared(u64 address) { return table->shared_address(ATTN_SIM_PC, address); }

// Warps.
ATTN_SIM_SHIM u32 shuffle_word(u32 mask, u32 value, u32 lane, u32 kind, u32 clamp) {
    return table->shuffle(ATTN_SIM_PC, mask, value, lane, kind, 32 - (clamp >> 8 & 31));
}
ATTN_SIM_SHIM u32 vote(u32 mask, u32 predicate, u32 kind) { return table->vote(ATTN_SIM_PC, mask, predicate, kind); }
ATTN_SIM_SHIM void sync_warp(u32 mask) { table->sync_warp(ATTN_SIM_PC, mask); }
ATTN_SIM_SHIM u32 elect(u32 mask) { return table->elect(ATTN_SIM_PC, mask); }
template <u32 COUNT, u32 TRANSPOSED> ATTN_SIM_SHIM Words load_matrix(u32 address) {
    Words to = {};
    table->load_matrix(ATTN_SIM_PC, to.word, COUNT, TRANSPOSED, address);
    return to;
}
template <u32 COUNT, u32 TRANSPOSED> ATTN_SIM_SHIM void store_matrix(u32 address, Words from) {
    table->store_matrix(ATTN_SIM_PC, from.word, COUNT, TRANSPOSED, address);
}
template <u32 KIND> ATTN_SIM_SHIM Reals multiply(Words a, u32 b0, u32 b1, Reals c) {
    const u32 b[2] = {b0, b1};
    table->multiply(ATTN_SIM_PC, KIND, a.word, b, c.real);
    return c;
}

// Barriers and fences.
ATTN_SIM_SHIM void barrier_sync(u32 id, u32 threads) { table->barrier_sync(ATTN_SIM_PC, id, threads); }
ATTN_SIM_SHIM void barrier_arrive(u32 id, u32 threads) { table->barrier_arrive(ATTN_SIM_PC, id, threads); }
ATTN_SIM_SHIM void fence(u32 kind) { table->fence(ATTN_SIM_PC, kind); }
ATTN_SIM_SHIM void set_registers(u32 count, u32 increase) { table->set_registers(ATTN_SIM_PC, count, increase); }
ATTN_SIM_SHIM void trap() { table->trap(ATTN_SIM_PC); }

// Asynchronous copies.
ATTN_SIM_SHIM void copy_async(u32 to, u64 from, u32 bytes, u32 source_bytes) { table->copy_async(ATTN_SIM_PC, to, from, bytes, source_bytes); }
ATTN_SIM_SHIM void copy_async_commit() { table->copy_async_commit(ATTN_SIM_PC); }
ATTN_SIM_SHIM void copy_async_wait(u32 pending) { table->copy_async_wait(ATTN_SIM_PC, pending); }
ATTN_SIM_SHIM void copy_async_wait_all() { table->copy_async_wait_all(ATTN_SIM_PC); }
ATTN_SIM_SHIM void copy_async_arrive(u32 barrier, u32 no_increment) { table->copy_async_arrive(ATTN_SIM_PC, barrier, no_increment); }

ATTN_SIM_SHIM void mbarrier_init(u32 barrier, u32 count) { table->mbarrier_init(ATTN_SIM_PC, barrier, count); }
ATTN_SIM_SHIM void mbarrier_invalidate(u32 barrier) { table->mbarrier_invalidate(ATTN_SIM_PC, barrier); }
ATTN_SIM_SHIM void mbarrier_expect(u32 barrier, u32 bytes) { table->mbarrier_expect(ATTN_SIM_PC, barrier, bytes); }
ATTN_SIM_SHIM void mbarrier_arrive(u32 barrier, u32 count, u32 bytes) { table->mbarrier_arrive(ATTN_SIM_PC, barrier, count, bytes); }
ATTN_SIM_SHIM u32 mbarrier_wait(u32 barrier, u32 parity, u32 test) { return table->mbarrier_wait(ATTN_SIM_PC, barrier, parity, test); }

template <class... C> ATTN_SIM_SHIM void tensor_load(u32 to, u64 map, u32 barrier, C... coordinates) {
    const int list[] = {(int)coordinates...};
    table->tensor_load(ATTN_SIM_PC, sizeof...(C), to, map, barrier, list);
}
template <class... C> ATTN_SIM_SHIM void tensor_store(u64 map, u32 from, u32 add, C... coordinates) {
    const int list[] = {(int)coordinates...};
    table->tensor_store(ATTN_SIM_PC, sizeof...(C), map, from, list, add);
}
ATTN_SIM_SHIM void tensor_map_replace(u64 map, u32 field, u64 value) { table->tensor_map_replace(ATTN_SIM_PC, map, field, value); }
ATTN_SIM_SHIM void tensor_map_acquire(u64 map) { table->tensor_map_acquire(ATTN_SIM_PC, map); }
ATTN_SIM_SHIM void bulk_load(u32 to, u64 from, u32 bytes, u32 barrier) { table->bulk_load(ATTN_SIM_PC, to, from, bytes, barrier); }
ATTN_SIM_SHIM void bulk_store(u64 to, u32 from, u32 bytes, u32 add) { table->bulk_store(ATTN_SIM_PC, to, from, bytes, add); }
ATTN_SIM_SHIM void bulk_commit() { table->bulk_commit(ATTN_SIM_PC); }
ATTN_SIM_SHIM void bulk_wait(u32 pending, u32 read) { table->bulk_wait(ATTN_SIM_PC, pending, read); }

// Warpgroup products.
ATTN_SIM_SHIM void wgmma_fence() { table->wgmma_fence(ATTN_SIM_PC); }
ATTN_SIM_SHIM void wgmma_commit() { table->wgmma_commit(ATTN_SIM_PC); }
ATTN_SIM_SHIM void wgmma_wait(u32 pending) { table->wgmma_wait(ATTN_SIM_PC, pending); }
template <class... R> ATTN_SIM_SHIM void wgmma_shared(
    u32 element, u64 a, u64 b, u32 accumulate, int a_sign, int b_sign, u32 a_transposed, u32 b_transposed, R&... accumulators) {
    float* const list[] = {&accumulators...};
    const WgmmaArguments arguments = {list, 2 * sizeof...(R), element, 1, {}, a, b, accumulate, a_sign, b_sign, a_transposed, b_transposed};
    table->wgmma(ATTN_SIM_PC, &arguments);
}
template <class... R> ATTN_SIM_SHIM void wgmma_registers(
    u32 element, Words a, u64 b, u32 accumulate, int a_sign, int b_sign, u32 b_transposed, R&... accumulators) {
    float* const list[] = {&accumulators...};
    const WgmmaArguments arguments = {
        list, 2 * sizeof...(R), element, 0, {a.word[0], a.word[1], a.word[2], a.word[3]}, 0, b, accumulate, a_sign, b_sign, 0, b_transposed};
    table->wgmma(ATTN_SIM_PC, &arguments);
}
}  // namespace attn_sim
