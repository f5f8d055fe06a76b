// PTX registers and arithmetic. A register of 16, 32 or 64 bits is an unsigned integer of that size, a predicate is a bool; what an
// instruction takes the bits for is its own business.
namespace attn_sim {
typedef unsigned short u16;

// Operands of an asm statement on their way in: "r", "l", "h", "f", "d".
template <class T> ATTN_SIM_INLINE u32 in_r(T value) { return (u32)value; }
template <class T> ATTN_SIM_INLINE u64 in_l(T value) { return (u64)value; }
template <class T> ATTN_SIM_INLINE u16 in_h(T value) { return (u16)value; }
ATTN_SIM_INLINE u32 in_f(float value) { return __builtin_bit_cast(u32, value); }
ATTN_SIM_INLINE u64 in_d(double value) { return __builtin_bit_cast(u64, value); }
// A float in an integer register is a mistake of the kernel: CUDA's compiler refuses it.
u32 in_r(float) = delete;
u32 in_r(double) = delete;
u64 in_l(float) = delete;
u64 in_l(double) = delete;

// And on their way out.
template <class T> ATTN_SIM_INLINE void out_r(T& to, u32 value) { to = (T)value; }
template <class T> ATTN_SIM_INLINE void out_l(T& to, u64 value) { to = (T)value; }
template <class T> ATTN_SIM_INLINE void out_h(T& to, u16 value) { to = (T)value; }
ATTN_SIM_INLINE void out_f(float& to, u32 value) { to = __builtin_bit_cast(float, value); }
ATTN_SIM_INLINE void out_d(double& to, u64 value) { to = __builtin_bit_cast(double, value); }
void out_r(float&, u32) = delete;
void out_r(double&, u32) = delete;
void out_l(float&, u64) = delete;
void out_l(double&, u64) = delete;

ATTN_SIM_INLINE float real(u32 bits) { return __builtin_bit_cast(float, bits); }
ATTN_SIM_INLINE double real64(u64 bits) { return __builtin_bit_cast(double, bits); }
ATTN_SIM_INLINE u32 bits(float value) { return __builtin_bit_cast(u32, value); }
ATTN_SIM_INLINE u64 bits64(double value) { return __builtin_bit_cast(u64, value); }

constexpr u32 CANONICAL_NAN = 0x7fffffffu;

// Subnormal numbers become zero of the same sign.
ATTN_SIM_INLINE float flush(float x) { return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0.f, x) : x; }
// NaNs have no payload on a GPU.
ATTN_SIM_INLINE float canonical(float x) { return x != x ? real(CANONICAL_NAN) : x; }

ATTN_SIM_INLINE float exp2(float x) { return canonical(__builtin_exp2f(x)); }
ATTN_SIM_INLINE float log2(float x) { return canonical(__builtin_log2f(x)); }
ATTN_SIM_INLINE float reciprocal(float x) { return canonical(1.f / x); }
ATTN_SIM_INLINE float reciprocal_root(float x) { return canonical((float)(1.0 / __builtin_sqrt((double)x))); }
ATTN_SIM_INLINE float root(float x) { return canonical(__builtin_sqrtf(x)); }
ATTN_SIM_INLINE float tanh(float x) { return canonical(__builtin_tanhf(x)); }
ATTN_SIM_INLINE float sine(float x) { return canonical(__builtin_sinf(x)); }
ATTN_SIM_INLINE float cosine(float x) { return canonical(__builtin_cosf(x)); }

// Rounds to the nearest bf16, ties to even.
ATTN_SIM_INLINE u16 bf16_of(float value) {
    const u32 x = bits(value);
    if (value != value) return 0x7fff;
    return (u16)((x + 0x7fffu + (x >> 16 & 1)) >> 16);
}
ATTN_SIM_INLINE float of_bf16(u16 value) { return real((u32)value << 16); }

// Rounds to the nearest f16, ties to even; from 65520 on that is infinity.
ATTN_SIM_INLINE u16 f16_of(float value) {
    const u32 x = bits(value), sign = x >> 16 & 0x8000u, magnitude = x & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7fff;
    if (magnitude >= 0x477ff000u) return (u16)(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) return (u16)(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13);
    // Subnormal: adding 1/2 leaves the value in units of 2^-24 in the low bits of the sum, rounded by the addition itself.
    return (u16)(sign | (bits(real(magnitude) + 0.5f) - 0x3f000000u));
}
ATTN_SIM_INLINE float of_f16(u16 value) {
    const u32 sign = (u32)(value & 0x8000u) << 16, magnitude = value & 0x7fffu;
    if (magnitude > 0x7c00u) return real(CANONICAL_NAN);
    if (magnitude == 0x7c00u) return real(sign | 0x7f800000u);
    if (magnitude >= 0x400u) return real(sign | ((magnitude << 13) + 0x38000000u));
    return real(sign | bits((float)magnitude * 0x1p-24f));
}
ATTN_SIM_INLINE u32 pair(u16 high, u16 low) { return (u32)high << 16 | low; }

// Rounds to the nearest tf32, ties away from zero; to even with `tf32_even`.
ATTN_SIM_INLINE u32 tf32_away(float value) { return (bits(value) + (value != value ? 0u : 0x1000u)) & ~0x1fffu; }
ATTN_SIM_INLINE u32 tf32_even(float value) {
    const u32 x = bits(value);
    return value != value ? CANONICAL_NAN : (x + 0xfffu + (x >> 13 & 1)) & ~0x1fffu;
}

// Floats to integers: out of range is the nearest integer there is, NaN is 0.
ATTN_SIM_INLINE u32 to_s32(float x) { return x != x ? 0 : x >= 0x1p31f ? 0x7fffffffu : x < -0x1p31f ? 0x80000000u : (u32)(int)x; }
ATTN_SIM_INLINE u32 to_u32(float x) { return x != x ? 0 : x >= 0x1p32f ? 0xffffffffu : x <= 0.f ? 0 : (u32)x; }

// Shifts by more than the width give zeros, or the sign.
ATTN_SIM_INLINE u32 shift_left(u32 x, u32 by) { return by > 31 ? 0 : x << by; }
ATTN_SIM_INLINE u64 shift_left(u64 x, u32 by) { return by > 63 ? 0 : x << by; }
ATTN_SIM_INLINE u32 shift_right(u32 x, u32 by) { return by > 31 ? 0 : x >> by; }
ATTN_SIM_INLINE u64 shift_right(u64 x, u32 by) { return by > 63 ? 0 : x >> by; }
ATTN_SIM_INLINE int shift_right(int x, u32 by) { return x >> (by > 31 ? 31 : by); }
ATTN_SIM_INLINE long long shift_right(long long x, u32 by) { return x >> (by > 63 ? 63 : by); }

ATTN_SIM_INLINE u32 lop3(u32 a, u32 b, u32 c, u32 truth) {
    u32 result = 0;
    for (u32 row = 0; row < 8; ++row)
        if (truth >> row & 1) result |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
    return result;
}
}  // namespace attn_sim
