constexpr int SLOT_FLOATS = @{ slot_floats };
// ---------------------------------------------------------------- kernel
// The states of segments become those before each segment@{ ", from the last one on" if reverse else "" }; the last slot is the state behind all of them. One
// thread an element.
extern "C" __global__ void __launch_bounds__(THREADS)
attn_linear_prefix(const __grid_constant__ Arguments arguments) {
    const int element_at = blockIdx.x * THREADS + threadIdx.x, head = blockIdx.y, batch = blockIdx.z;
    const int segments = arguments.segments, slots = segments + 1;
    const i64 head_slots = ((i64)batch * gridDim.y + head) * slots;
    if (element_at >= SLOT_FLOATS) return;
    float* states = arguments.states + head_slots * SLOT_FLOATS + element_at;
    //% if exponents
    const float* exponents = arguments.state_exponents + 2 * head_slots;
    float* before = arguments.state_exponents + 2 * head_slots + slots;
    float reference = -INFINITY;
    //% endif
    float sum = 0.f;
    //% if initial
    @{ initial }
    //% endif
    for (int number = 0; number < segments; ++number) {
        const int segment = @{ "segments - 1 - number" if reverse else "number" };
        const float own = states[(i64)segment * SLOT_FLOATS];
        states[(i64)segment * SLOT_FLOATS] = sum;
        //% if exponents
        if (element_at == 0) before[segment] = reference;
        const float next = fmaxf(reference, exponents[segment]);
        sum = next == -INFINITY ? 0.f : sum * exp2_approx(reference - next) + own * exp2_approx(exponents[segment] - next);
        reference = next;
        //% else
        sum += own;
        //% endif
    }
    states[(i64)segments * SLOT_FLOATS] = sum;
    //% if exponents
    if (element_at == 0) before[segments] = reference;
    //% endif
}
