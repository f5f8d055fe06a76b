
// ---------------------------------------------------------------- tensor maps
// How a tensor lies in memory; the driver writes it.
struct alignas(64) TensorMap { char bytes[128]; };
// A map of other rows of the same tensor: where the first one lies, and how many there are. Nothing reads a map of no rows.
__device__ __forceinline__ void write_map(TensorMap* to, const TensorMap& from, const void* first_row, int rows) {
    *to = from;
    if (rows == 0) return;
    asm volatile("tensormap.replace.tile.global_address.global.b1024.b64 [%0], %1;" ::"l"(to), "l"(first_row) : "memory");
    asm volatile("tensormap.replace.tile.global_dim.global.b1024.b32 [%0], 1, %1;" ::"l"(to), "r"(rows) : "memory");
}
// What this thread wrote of maps is seen by threads that acquire them.
__device__ __forceinline__ void publish_maps() { asm volatile("fence.proxy.tensormap::generic.release.gpu;" ::: "memory"); }
