// What threads of a warp or block do together, and other functions of CUDA that the simulator carries out.
ATTN_SIM_SHIM unsigned long __cvta_generic_to_shared(const void* pointer) { return attn_sim::table->shared_address(ATTN_SIM_PC, (attn_sim::u64)pointer); }

namespace attn_sim {
ATTN_SIM_SHIM u64 dynamic_shared() { return table->dynamic_shared(ATTN_SIM_PC); }
ATTN_SIM_SHIM u64 static_shared(u32 id, u64 bytes, u64 alignment) { return table->static_shared(ATTN_SIM_PC, id, (u32)bytes, (u32)alignment); }

// A value of 4 or 8 bytes goes through the warp as one or two words.
template <class T> inline __attribute__((always_inline, no_sanitize("thread"))) T shuffle(u64 pc, u32 mask, T value, u32 lane, u32 kind, u32 width) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "");
    u32 words[sizeof(T) / 4];
    __builtin_memcpy(words, &value, sizeof(T));
    for (u32& word : words) word = table->shuffle(pc, mask, word, lane, kind, width);
    __builtin_memcpy(&value, words, sizeof(T));
    return value;
}
}  // namespace attn_sim

#define ATTN_SIM_SHUFFLE(T) \
    ATTN_SIM_SHIM T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) { return attn_sim::shuffle(ATTN_SIM_PC, mask, value, delta, 0, width); } \
    ATTN_SIM_SHIM T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) { return attn_sim::shuffle(ATTN_SIM_PC, mask, value, delta, 1, width); } \
    ATTN_SIM_SHIM T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) { return attn_sim::shuffle(ATTN_SIM_PC, mask, value, lane_mask, 2, width); } \
    ATTN_SIM_SHIM T __shfl_sync(unsigned mask, T value, int lane, int width = 32) { return attn_sim::shuffle(ATTN_SIM_PC, mask, value, lane, 3, width); }
ATTN_SIM_SHUFFLE(int)
ATTN_SIM_SHUFFLE(unsigned)
ATTN_SIM_SHUFFLE(long)
ATTN_SIM_SHUFFLE(unsigned long)
ATTN_SIM_SHUFFLE(long long)
ATTN_SIM_SHUFFLE(unsigned long long)
ATTN_SIM_SHUFFLE(float)
ATTN_SIM_SHUFFLE(double)

ATTN_SIM_SHIM int __any_sync(unsigned mask, int predicate) { return attn_sim::table->vote(ATTN_SIM_PC, mask, predicate != 0, 0) != 0; }
ATTN_SIM_SHIM int __all_sync(unsigned mask, int predicate) { return attn_sim::table->vote(ATTN_SIM_PC, mask, predicate != 0, 1) != 0; }
ATTN_SIM_SHIM unsigned __ballot_sync(unsigned mask, int predicate) { return attn_sim::table->vote(ATTN_SIM_PC, mask, predicate != 0, 2); }
// Which threads run together is up to the hardware; here it is always the whole warp.
ATTN_SIM_INLINE unsigned __activemask() { return 0xffffffffu; }
ATTN_SIM_SHIM void __syncwarp(unsigned mask = 0xffffffffu) { attn_sim::table->sync_warp(ATTN_SIM_PC, mask); }
ATTN_SIM_SHIM void __syncthreads() { attn_sim::table->barrier_sync(ATTN_SIM_PC, 0, 0); }
ATTN_SIM_SHIM void __threadfence_block() { attn_sim::table->fence(ATTN_SIM_PC, 4); }
ATTN_SIM_SHIM void __threadfence() { attn_sim::table->fence(ATTN_SIM_PC, 5); }
ATTN_SIM_SHIM void __threadfence_system() { attn_sim::table->fence(ATTN_SIM_PC, 5); }
ATTN_SIM_SHIM void __trap() { attn_sim::table->trap(ATTN_SIM_PC); }
ATTN_SIM_INLINE void __nanosleep(unsigned) {}

ATTN_SIM_SHIM float atomicAdd(float* address, float value) { return attn_sim::table->atomic_add(ATTN_SIM_PC, (attn_sim::u64)address, &value, 1); }
template <class T> ATTN_SIM_INLINE T __ldg(const T* address) { return *address; }
template <class T> ATTN_SIM_INLINE T __ldcg(const T* address) { return *address; }
template <class T> ATTN_SIM_INLINE T __ldca(const T* address) { return *address; }
template <class T> ATTN_SIM_INLINE T __ldcs(const T* address) { return *address; }
template <class T> ATTN_SIM_INLINE void __stcg(T* address, T value) { *address = value; }
template <class T> ATTN_SIM_INLINE void __stcs(T* address, T value) { *address = value; }
