// ---------------------------------------------------------------- kernel
// A tensor map of each sequence alone: what is copied beyond its last row reads zeros, and stores end there. A thread writes those of a
// sequence.
extern "C" __global__ void __launch_bounds__(THREADS)
attn_sequence_maps(const __grid_constant__ Arguments arguments) {
    const int sequence = blockIdx.x * THREADS + threadIdx.x;
    if (sequence >= arguments.sequences) return;
    //% for side in sides
    const int @{ side }_start = arguments.cu_seqlens_@{ side }[sequence], @{ side }_len = arguments.cu_seqlens_@{ side }[sequence + 1] - @{ side }_start;
    //% endfor
    TensorMap* maps = arguments.sequence_maps + sequence * MAPS;
    //% for tensor in tensors
    write_map(maps + @{ loop.index0 }, arguments.@{ tensor.name }_map, rows_of(arguments.@{ tensor.name }, @{ tensor.side }_start, 0), @{ tensor.side }_len);
    //% endfor
    publish_maps();
}
