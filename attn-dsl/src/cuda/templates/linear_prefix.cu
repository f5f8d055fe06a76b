constexpr int HEAD_DIM = @{ head_dim }, VALUE_DIM = @{ value_dim }, STATE_COLUMNS = @{ state_columns };
constexpr int AB_TILES = @{ ab_tiles }, STATE_FLOATS = @{ state_floats }, SLOT_FLOATS = @{ slot_floats };
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
    //% if states
    // where it is in a state of the caller's, [HEAD_DIM, STATE_COLUMNS]: a column of the normalizer's behind those of v
    const bool of_vector = element_at >= STATE_FLOATS;
    const int lane = element_at / 4 % 32, four = element_at % 4;
    const int ab = of_vector ? element_at - STATE_FLOATS : element_at / 128 % AB_TILES * 8 + lane % 4 * 2 + four % 2;
    const int c = of_vector ? element_at - STATE_FLOATS : element_at / 128 / AB_TILES * 16 + lane / 4 + four / 2 * 8;
    const int row = @{ "ab" if head_is_ab else "c" }, column = of_vector ? VALUE_DIM : @{ "c" if head_is_ab else "ab" };
    const bool is_own = row < HEAD_DIM && (of_vector || column < VALUE_DIM);
    const i64 at = (((i64)batch * gridDim.y + head) * HEAD_DIM + row) * STATE_COLUMNS + column;
    //% if tile
    const Tile tile = load_tile_values(arguments, batch, head);
    //% endif
    //% endif
    //% if exponents
    const float* exponents = arguments.state_exponents + 2 * head_slots;
    float* before = arguments.state_exponents + 2 * head_slots + slots;
    float reference = -INFINITY;
    //% endif
    float sum = 0.f;
    //% if states
    if (arguments.state_in) {
        if (is_own) sum = arguments.state_in[at]@{ " / shared(tile)" if shared else "" };
        //% if exponents
        reference = @{ "-end_exponent(tile)" if reverse else "0.f" };
        //% endif
    }
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
    //% if states
    if (arguments.state_out && is_own) arguments.state_out[at] = sum@{ " * exp2_approx(reference" ~ ("" if reverse else " - end_exponent(tile)") ~ ")" if exponents else "" }@{ " * shared(tile)" if shared else "" };
    //% endif
}
