// What `-fsanitize=thread` calls before every load and store that may be seen from outside of the function. The library of the
// thread sanitizer isn't linked: these are its entry points.
//
// Left out are the running thread's stack (registers and local memory), unless some registers belong to an unfinished operation,
// and reads of the object's own constants.
namespace attn_sim {
inline __attribute__((always_inline, no_sanitize("thread"))) void report(u64 pc, u64 address, u64 bytes, u32 write) {
    const ThreadContext* thread = context;
    if (address - thread->stack_begin < thread->stack_end - thread->stack_begin) {
        if (!thread->watch_stack) return;
    } else if (!write && address - (u64)&__ehdr_start < (u64)(&_end - &__ehdr_start)) {
        return;
    }
    table->access(pc, address, (u32)bytes, write);
}
}  // namespace attn_sim

#define ATTN_SIM_HOOK extern "C" __attribute__((noinline, used, visibility("hidden"), no_sanitize("thread"))) void
#define ATTN_SIM_ACCESS_HOOK(BYTES) \
    ATTN_SIM_HOOK __tsan_read##BYTES(void* p) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 0); } \
    ATTN_SIM_HOOK __tsan_write##BYTES(void* p) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 1); } \
    ATTN_SIM_HOOK __tsan_read_write##BYTES(void* p) { \
        attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 0); \
        attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 1); \
    } \
    ATTN_SIM_HOOK __tsan_unaligned_read##BYTES(void* p) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 0); } \
    ATTN_SIM_HOOK __tsan_unaligned_write##BYTES(void* p) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 1); } \
    ATTN_SIM_HOOK __tsan_unaligned_read_write##BYTES(void* p) { \
        attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 0); \
        attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 1); \
    } \
    ATTN_SIM_HOOK __tsan_volatile_read##BYTES(void* p) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 0); } \
    ATTN_SIM_HOOK __tsan_volatile_write##BYTES(void* p) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, BYTES, 1); }
ATTN_SIM_ACCESS_HOOK(1)
ATTN_SIM_ACCESS_HOOK(2)
ATTN_SIM_ACCESS_HOOK(4)
ATTN_SIM_ACCESS_HOOK(8)
ATTN_SIM_ACCESS_HOOK(16)
ATTN_SIM_HOOK __tsan_read_range(void* p, unsigned long bytes) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, bytes, 0); }
ATTN_SIM_HOOK __tsan_write_range(void* p, unsigned long bytes) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, bytes, 1); }
ATTN_SIM_HOOK __tsan_vptr_read(void** p) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, sizeof *p, 0); }
ATTN_SIM_HOOK __tsan_vptr_update(void** p, void*) { attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)p, sizeof *p, 1); }
ATTN_SIM_HOOK __tsan_func_entry(void*) {}
ATTN_SIM_HOOK __tsan_func_exit() {}
ATTN_SIM_HOOK __tsan_init() {}

// Copies of memory that some compilers emit instead of loads and stores, and that a kernel may ask for by name.
extern "C" __attribute__((noinline, used, visibility("hidden"), no_sanitize("thread"))) void* __tsan_memcpy(void* to, const void* from, unsigned long bytes) {
    attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)from, bytes, 0);
    attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)to, bytes, 1);
    return __builtin_memcpy(to, from, bytes);
}
extern "C" __attribute__((noinline, used, visibility("hidden"), no_sanitize("thread"))) void* __tsan_memmove(void* to, const void* from, unsigned long bytes) {
    attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)from, bytes, 0);
    attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)to, bytes, 1);
    return __builtin_memmove(to, from, bytes);
}
extern "C" __attribute__((noinline, used, visibility("hidden"), no_sanitize("thread"))) void* __tsan_memset(void* to, int value, unsigned long bytes) {
    attn_sim::report(ATTN_SIM_PC, (attn_sim::u64)to, bytes, 1);
    return __builtin_memset(to, value, bytes);
}
#define memcpy __tsan_memcpy
#define memmove __tsan_memmove
#define memset __tsan_memset
