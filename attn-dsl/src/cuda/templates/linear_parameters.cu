// ---------------------------------------------------------------- kernel
//% if table
// The gradient of @{ table } of a batch and head, one thread an entry: what the positions add whose index it is.
//% else
// What each @{ side } adds to gradients of parameters, one thread a @{ side }.
//% endif
extern "C" __global__ void __launch_bounds__(THREADS)
@{ entry }(const __grid_constant__ Arguments arguments) {
    const int at = blockIdx.x * THREADS + threadIdx.x, head = blockIdx.y, batch = blockIdx.z;
    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    const Tile tile = load_tile_values(arguments, batch, head);
    const i64 heads = (i64)batch * gridDim.y + head;
    //% if table
    const int entries = arguments.@{ table }.extent[@{ axis }];
    if (at >= entries) return;
    float sum = 0.f;
    //% for read in reads
    {
        // the first and the last entry are read at all indices beyond as well
        const int shift = @{ read.shift }, own = at - shift;
        const int first = max(0, at == 0 ? 0 : own), last = min(@{ read.length }, at == entries - 1 ? @{ read.length } : own + 1);
        for (int position = first; position < last; ++position) {
            const @{ read.structure } place = @{ read.loader }(arguments, tile, position, (float)position);
            sum = fmaf(arguments.@{ read.sums }[heads * @{ read.length } + position], @{ read.slope }(tile, place), sum);
        }
    }
    //% endfor
    arguments.grad_@{ table }[heads * entries + at] = sum;
    //% else
    if (at >= @{ length }) return;
    const @{ structure } place = @{ loader }(arguments, tile, at, (float)at);
    //% if sums
    const float sum = arguments.@{ sums }[heads * @{ length } + at];
    //% endif
    //% for value in gradients
    arguments.@{ value[0] }[heads * @{ length } + at] = @{ value[1] };
    //% endfor
    //% endif
}
