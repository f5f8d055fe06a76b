// Boxes of tensors, by tensor maps. The element type, extents and swizzle are the map's; RANK is defined in front of this text.

struct Box { int coordinate[5]; };

DEVICE void load_box(u32 to, const TensorMap* map, u32 barrier, const Box& box) {
    const int* const c = box.coordinate;
#if RANK == 1
    tensor_load(to, map, barrier, c[0]);
#elif RANK == 2
    tensor_load(to, map, barrier, c[0], c[1]);
#elif RANK == 3
    tensor_load(to, map, barrier, c[0], c[1], c[2]);
#elif RANK == 4
    tensor_load(to, map, barrier, c[0], c[1], c[2], c[3]);
#else
    tensor_load(to, map, barrier, c[0], c[1], c[2], c[3], c[4]);
#endif
}

// out[box]: the bytes of shared memory that loading it gives. Two buffers: a load is under way while the last one is read.
extern "C" __global__ void __launch_bounds__(128)
tensor_loads(const __grid_constant__ TensorMap map, const Box* boxes, u32* out, int count, int bytes) {
    extern __shared__ __align__(1024) unsigned char dynamic_shared[];
    const u32 barrier = shared_address(dynamic_shared), tile = barrier + 1024, stride = (bytes + 1023) / 1024 * 1024;
    auto start = [&](int box) {
        mbarrier_arrive_expect(barrier + 8 * (box % 2), bytes);
        load_box(tile + box % 2 * stride, &map, barrier + 8 * (box % 2), boxes[box]);
    };
    if (threadIdx.x == 0) {
        tensor_map_prefetch(&map);
        mbarrier_init(barrier, 1), mbarrier_init(barrier + 8, 1);
        mbarrier_init_fence();
        start(0);
    }
    __syncthreads();
    for (int box = 0; box < count; ++box) {
        if (threadIdx.x == 0 && box + 1 < count) start(box + 1);
        mbarrier_wait(barrier + 8 * (box % 2), box / 2 % 2);
        for (int word = threadIdx.x; word < bytes / 4; word += 128) out[box * (bytes / 4) + word] = load_shared_u32(tile + box % 2 * stride + word * 4);
        __syncthreads();   // the buffer is free
    }
}

#if RANK >= 2
DEVICE void store_box(const TensorMap* map, u32 from, const Box& box) {
    const int* const c = box.coordinate;
#if RANK == 2
    tensor_store(map, from, c[0], c[1]);
#elif RANK == 3
    tensor_store(map, from, c[0], c[1], c[2]);
#else
    tensor_store(map, from, c[0], c[1], c[2], c[3]);
#endif
}

// The tensor receives in[box] as the bytes of shared memory.
extern "C" __global__ void __launch_bounds__(128)
tensor_stores(const __grid_constant__ TensorMap map, const Box* boxes, const u32* in, int count, int bytes) {
    extern __shared__ __align__(1024) unsigned char dynamic_shared[];
    const u32 tile = shared_address(dynamic_shared);
    for (int box = 0; box < count; ++box) {
        for (int word = threadIdx.x; word < bytes / 4; word += 128) store_shared_u32(tile + word * 4, in[box * (bytes / 4) + word]);
        publish_shared_to_async();
        __syncthreads();
        if (threadIdx.x == 0) {
            store_box(&map, tile, boxes[box]);
            bulk_commit();
            bulk_wait_read<0>();
        }
        __syncthreads();   // the tile is free
    }
}
#endif

#if RANK == 2
// Every block adds its box; boxes overlap.
extern "C" __global__ void __launch_bounds__(128)
tensor_additions(const __grid_constant__ TensorMap map, const Box* boxes, const u32* in, int bytes) {
    extern __shared__ __align__(1024) unsigned char dynamic_shared[];
    const u32 tile = shared_address(dynamic_shared);
    for (int word = threadIdx.x; word < bytes / 4; word += 128) store_shared_u32(tile + word * 4, in[blockIdx.x * (bytes / 4) + word]);
    publish_shared_to_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        const Box box = boxes[blockIdx.x];
        tensor_reduce_add(&map, tile, box.coordinate[0], box.coordinate[1]);
        bulk_commit();
        bulk_wait<0>();
    }
}
#endif
